//! GeoPackages (OGC 12-128).

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Area, Areas, wkb};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, WGS84};

pub(super) fn read(path: &Path, layer: Option<&str>) -> Result<Areas> {
    // SQLite would say less.
    if std::fs::metadata(path)?.len() < 100 {
        return Err(Error::new(ErrorKind::Format, "is no GeoPackage: it is too short"));
    }
    let db = open(path).map_err(broken)?;
    let (table, column, srs) = choose(layers(&db).map_err(broken)?, layer)?;
    let crs = system(&db, srs).map_err(broken)?;
    let crs = crs.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("the system of layer {table:?} (srs_id {srs}) is not known"))
            .remedy("assign one: ogr2ogr -a_srs EPSG:CODE OUT IN")
    })?;
    Ok(Areas { areas: features(&db, &table, &column)?, crs, notes: Vec::new() })
}

fn broken(error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Format, "the GeoPackage cannot be read")
        .source(error)
        .remedy("check that the file is complete")
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    // A folder may be read-only; where changes lie beside the file, SQLite must see them.
    let mut journal = path.as_os_str().to_owned();
    journal.push("-wal");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = if Path::new(&journal).exists() {
        Connection::open_with_flags(path, flags)?
    } else {
        let mut uri = String::from("file:");
        for byte in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'\\' | b':' => {
                    uri.push(char::from(byte))
                }
                other => uri += &format!("%{other:02X}"),
            }
        }
        Connection::open_with_flags(uri + "?immutable=1", flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    // The file may be anybody's.
    db.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(db)
}

/// Table, geometry column and system of each layer.
fn layers(db: &Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
    let mut query =
        db.prepare("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns ORDER BY table_name")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn choose(mut layers: Vec<(String, String, i64)>, layer: Option<&str>) -> Result<(String, String, i64)> {
    let names: Vec<&str> = layers.iter().map(|l| l.0.as_str()).collect();
    let names = names.join(", ");
    match layer {
        Some(layer) => layers.into_iter().find(|l| l.0 == layer).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("has no layer {layer:?}")).remedy(format!("its layers: {names}"))
        }),
        None if layers.len() == 1 => Ok(layers.remove(0)),
        None if layers.is_empty() => Err(Error::new(ErrorKind::Invalid, "has no layer of geometries")),
        None => {
            Err(Error::new(ErrorKind::Invalid, "has several layers").remedy(format!("choose with --layer: {names}")))
        }
    }
}

fn system(db: &Connection, srs: i64) -> rusqlite::Result<Option<Crs>> {
    if srs == i64::from(WGS84) {
        return Ok(Some(Crs::from_epsg(WGS84)));
    }
    let mut query = db.prepare(
        "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?1",
    )?;
    let mut rows = query.query([srs])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (organization, code, wkt): (String, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    if organization.eq_ignore_ascii_case("EPSG") {
        return Ok(u32::try_from(code).ok().map(Crs::from_epsg));
    }
    let crs = Crs::from_wkt(&wkt);
    Ok((crs != Crs::default()).then_some(crs))
}

fn features(db: &Connection, table: &str, column: &str) -> Result<Vec<Area>> {
    // As values: names of a statement's columns that are no UTF-8 would end the program.
    let mut query = db.prepare("SELECT name FROM pragma_table_info(?1)").map_err(broken)?;
    let names = query.query_map([table], |row| row.get(0)).map_err(broken)?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>().map_err(broken)?;
    let shape = names.iter().position(|name| name == column);
    let shape =
        shape.ok_or_else(|| Error::new(ErrorKind::Format, format!("layer {table:?} has no column {column:?}")))?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    let mut query = db.prepare(&format!("SELECT {} FROM {}", columns.join(", "), quoted(table))).map_err(broken)?;
    let mut areas = Vec::new();
    let mut rows = query.query([]).map_err(broken)?;
    while let Some(row) = rows.next().map_err(broken)? {
        let mut properties = Vec::new();
        for (i, name) in names.iter().enumerate().filter(|(i, _)| *i != shape) {
            let text = match row.get_ref(i).map_err(broken)? {
                ValueRef::Integer(v) => v.to_string(),
                ValueRef::Real(v) => v.to_string(),
                ValueRef::Text(v) => String::from_utf8_lossy(v).into_owned(),
                ValueRef::Null | ValueRef::Blob(_) => continue,
            };
            properties.push((name.clone(), text));
        }
        let polygons = match row.get_ref(shape).map_err(broken)? {
            ValueRef::Null => Vec::new(),
            ValueRef::Blob(blob) => geometry(blob).map_err(|e| e.at(format!("feature {}", areas.len() + 1)))?,
            _ => return Err(Error::new(ErrorKind::Format, format!("column {column:?} holds no geometries"))),
        };
        areas.push(Area { name: String::new(), properties, polygons });
    }
    Ok(areas)
}

/// The polygons of a geometry with the header that GeoPackages put before it.
fn geometry(blob: &[u8]) -> Result<Vec<Vec<super::Ring>>> {
    let bad = || Error::new(ErrorKind::Format, "a geometry has no GeoPackage header");
    let &[b'G', b'P', _, flags, ..] = blob else { return Err(bad()) };
    if flags & 0x10 != 0 {
        return Ok(Vec::new()); // empty
    }
    let envelope = match flags >> 1 & 7 {
        0 => 0,
        1 => 32,
        2 | 3 => 48,
        4 => 64,
        _ => return Err(bad()),
    };
    wkb::polygons(blob.get(8 + envelope..).ok_or_else(bad)?)
}
