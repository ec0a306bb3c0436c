//! MBTiles archives: an SQLite file of tiles, rows counted from the south unless it says otherwise.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::format::Format;
use super::tiles::{Encoded, MAX_TILE_BYTES, TileExtent, TileInfo, TileSource, check_bounds, clipped};
use super::xyz::turned;
use crate::error::{Error, ErrorKind, Result};
use crate::tile::{Bounds, MAX_ZOOM, TileId};

/// An open archive. The file is only read, never locked or changed.
pub struct MbTiles {
    name: String,
    connection: Mutex<Connection>,
    extents: Vec<TileExtent>,
    /// Whether rows are counted from the south, as the format demands.
    tms: bool,
    info: TileInfo,
}

impl MbTiles {
    /// Opens an archive; with `bounds`, an area in degrees, only its tiles there. `tms` says whether rows are counted from the
    /// south; without, they are unless the archive's metadata says `scheme` `xyz`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for what is no such archive or a damaged one, [`ErrorKind::Unsupported`] for vector tiles and
    /// schemas that nobody needs for tiles, [`ErrorKind::NotFound`] if it holds no tiles (in `bounds`), [`ErrorKind::Io`] if
    /// another program is writing it. All name the file.
    pub fn open(path: impl AsRef<Path>, bounds: Option<Bounds>, tms: Option<bool>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_inner(path, bounds, tms).map_err(|e| e.at(path.display()))
    }

    fn open_inner(path: &Path, bounds: Option<Bounds>, tms: Option<bool>) -> Result<Self> {
        std::fs::metadata(path)?;
        for ending in ["-wal", "-journal"] {
            // The file is read as it lies on the disk: what stands beside it would be left out.
            let mut beside = path.as_os_str().to_owned();
            beside.push(ending);
            if std::fs::metadata(&beside).is_ok_and(|m| m.len() > 0) {
                let message = format!("changes to it stand in {} and not in it yet", Path::new(&beside).display());
                return Err(Error::new(ErrorKind::Io, message)
                    .remedy("end the program that writes it, or open it once with sqlite3"));
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(path)?, flags).map_err(explained)?;
        // The schema is a stranger's: it may call nothing but what is harmless.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(explained)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(explained)?;
        check_schema(&connection)?;
        let (info, scheme) = metadata(&connection)?;
        let tms = tms.unwrap_or(!scheme.eq_ignore_ascii_case("xyz"));
        let mut extents = extents(&connection, tms)?;
        if let Some(bounds) = bounds {
            extents = clipped(&extents, bounds)?;
        }
        if extents.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the archive holds no tiles there")
                .remedy("choose another --bbox, or export the archive again"));
        }
        Ok(Self { name: path.display().to_string(), connection: Mutex::new(connection), extents, tms, info })
    }

    fn tile_inner(&self, tile: TileId) -> Result<Option<Vec<u8>>> {
        let row = if self.tms { turned(tile.z, tile.y) } else { tile.y };
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let found = connection.query_row(
            "SELECT length(tile_data), tile_data FROM tiles WHERE zoom_level = ?1 AND tile_column = ?2 AND tile_row = ?3",
            (tile.z, tile.x, row),
            |found| {
                // A long tile is not fetched before its length is known.
                if found.get::<_, Option<i64>>(0)?.unwrap_or(0) > MAX_TILE_BYTES as i64 {
                    return Ok(Err(Error::new(ErrorKind::Limit, format!("a tile of more than {MAX_TILE_BYTES} bytes"))
                        .remedy("export the archive again")));
                }
                Ok(match found.get_ref(1)? {
                    ValueRef::Null => Ok(None),
                    ValueRef::Blob(bytes) => Ok(Some(bytes.to_vec()).filter(|b| !b.is_empty())),
                    other => Err(Error::new(ErrorKind::Format, format!("a tile of type {}", other.data_type()))
                        .remedy("export the archive again")),
                })
            },
        );
        let place = |e: Error| e.at(format!("tile {tile}"));
        found.optional().map_err(|e| place(explained(e)))?.transpose().map(Option::flatten).map_err(place)
    }
}

/// A file's name as SQLite takes it with options: never written, never locked.
fn uri(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    let Some(text) = path.to_str() else {
        return Err(Error::new(ErrorKind::Unsupported, "the file's name is no text").remedy("rename it"));
    };
    let mut uri = String::from("file:");
    if !text.starts_with('/') {
        uri.push('/');
    }
    for byte in text.bytes() {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b':' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    Ok(uri)
}

/// Checks that there are tiles, and that nothing but plain tables and views stands behind them.
fn check_schema(connection: &Connection) -> Result<()> {
    let mut statement =
        connection.prepare("SELECT type, lower(name), lower(sql) FROM sqlite_master").map_err(explained)?;
    let rows = statement.query_map((), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?.unwrap_or_default()))
    });
    let mut has_tiles = false;
    for row in rows.map_err(explained)? {
        let (kind, name, sql) = row.map_err(explained)?;
        has_tiles |= name == "tiles" && (kind == "table" || kind == "view");
        let unheard = kind == "trigger" && name == "tiles"
            || sql.trim_start().starts_with("create virtual")
            || kind == "view" && sql.contains("recursive");
        if unheard {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the archive has a {kind} {name:?} that no tiles need"),
            )
            .remedy("export it again, or fetch it from somebody you trust"));
        }
    }
    if !has_tiles {
        return Err(Error::new(ErrorKind::Format, "this SQLite file is no MBTiles archive: it has no table of tiles")
            .remedy("MBTiles archives are read; of a GeoPackage export the tiles as one"));
    }
    Ok(())
}

/// What the archive says of itself, and in which order it counts rows.
fn metadata(connection: &Connection) -> Result<(TileInfo, String)> {
    let known = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE lower(name) = 'metadata'", (), |row| row.get::<_, i64>(0))
        .map_err(explained)?;
    let value = |name: &str| -> Result<String> {
        if known == 0 {
            return Ok(String::new());
        }
        let found = connection.query_row(
            "SELECT CAST(value AS TEXT) FROM metadata WHERE name = ?1 AND length(value) < 1000000 LIMIT 1",
            [name],
            |row| row.get::<_, Option<String>>(0),
        );
        Ok(found.optional().map_err(explained)?.flatten().unwrap_or_default().trim().to_owned())
    };
    let format = value("format")?.to_ascii_lowercase();
    let tile_format = match format.as_str() {
        "png" | "png8" | "image/png" => Some(Format::Png),
        "jpg" | "jpeg" | "image/jpeg" => Some(Format::Jpeg),
        "webp" | "image/webp" => Some(Format::WebP),
        // Only the tiles tell.
        "" => None,
        other => {
            let what = if other == "pbf" || other == "mvt" { "vector tiles" } else { "tiles" };
            let message = format!("the archive holds {what} of format {other:?}, not pictures");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .remedy("take an archive of imagery: PNG, JPEG or WebP tiles"));
        }
    };
    let numbers: Vec<f64> = value("bounds")?.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let bounds = match numbers.as_slice() {
        &[west, south, east, north] => Some(Bounds { west, south, east, north }).filter(|b| check_bounds(*b).is_ok()),
        _ => None,
    };
    let (title, attribution) = (value("name")?, value("attribution")?);
    Ok((TileInfo { kind: "MBTiles", tile_format, title, attribution, bounds }, value("scheme")?))
}

/// Which zoom levels there are, and where.
fn extents(connection: &Connection, tms: bool) -> Result<Vec<TileExtent>> {
    const LEVELS: &str = "SELECT zoom_level, min(tile_column), max(tile_column), min(tile_row), max(tile_row), count(*) \
                          FROM tiles GROUP BY zoom_level ORDER BY zoom_level";
    const FIRST: &str =
        "SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ?1 ORDER BY tile_column, tile_row LIMIT 1";
    let mut statement = connection.prepare(LEVELS).map_err(explained)?;
    let rows = statement.query_map((), |row| {
        let number = |i| row.get::<_, i64>(i);
        Ok([number(0)?, number(1)?, number(2)?, number(3)?, number(4)?, number(5)?])
    });
    let mut all = Vec::new();
    for row in rows.map_err(explained)? {
        let [zoom, left, right, low, high, count] = row.map_err(explained)?;
        let side = 1i64.checked_shl(u32::try_from(zoom).unwrap_or(64)).unwrap_or(0);
        if !(0..=i64::from(MAX_ZOOM)).contains(&zoom) || left < 0 || low < 0 || right >= side || high >= side {
            let message = format!("tiles of zoom level {zoom}, columns {left} to {right}, rows {low} to {high}");
            return Err(Error::new(ErrorKind::Format, message).remedy("there are none such; export the archive again"));
        }
        let (zoom, row) = (zoom as u8, |row: i64| if tms { turned(zoom as u8, row as u32) } else { row as u32 });
        let (top, bottom) = if tms { (row(high), row(low)) } else { (row(low), row(high)) };
        let sample = connection.query_row(FIRST, [zoom], |r| Ok((r.get::<_, u32>(0)?, r.get::<_, i64>(1)?)));
        let sample = sample.optional().map_err(explained)?.map(|(x, y)| (x, row(y)));
        let (first, last) = ((left as u32, top), (right as u32, bottom));
        all.push(TileExtent { zoom, first, last, count: Some(count as u64), sample });
    }
    Ok(all)
}

/// An error of SQLite in this crate's words.
fn explained(error: rusqlite::Error) -> Error {
    let (kind, message, remedy) = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure) => {
            (ErrorKind::Io, "the archive cannot be read", "check the disk and the file's permissions")
        }
        _ => (ErrorKind::Format, "the archive is damaged, or not laid out as MBTiles", "fetch or export it again"),
    };
    Error::new(kind, message).remedy(remedy).source(error)
}

impl TileSource for MbTiles {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &TileInfo {
        &self.info
    }

    fn extents(&self) -> &[TileExtent] {
        &self.extents
    }

    fn tile(&self, tile: TileId) -> Result<Option<Encoded>> {
        Ok(self.tile_inner(tile).map_err(|e| e.at(&self.name))?.map(Encoded::Bytes))
    }

    fn listed(&self, zoom: u8) -> Result<Option<Vec<(u32, u32)>>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || -> rusqlite::Result<Vec<(u32, u32)>> {
            let mut statement = connection.prepare("SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ?1")?;
            let rows = statement.query_map([zoom], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let all = read().map_err(|e| explained(e).at(&self.name))?;
        Ok(Some(all.into_iter().map(|(x, y)| (x, if self.tms { turned(zoom, y) } else { y })).collect()))
    }
}
