//! PMTiles archives, version 3: one file of tiles, here or behind HTTP.
//!
//! The crate `pmtiles` reads the header and knows the order of tiles (Hilbert's curve). Directories are read here: which tiles
//! there are decides where a mosaic lies, and what a hostile archive may make of a few bytes is bounded.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use ::pmtiles::{Compression, Header, TileCoord, TileId as ArchiveTile, TileType};
use lru::LruCache;

use super::bytes::{ByteSource, read_exact};
use super::format::Format;
use super::tiles::{Encoded, MAX_TILE_BYTES, MAX_TILES, TileExtent, TileInfo, TileSource, check_bounds, clipped};
use crate::error::{Error, ErrorKind, Result};
use crate::tile::{Bounds, MAX_ZOOM, TileId};

mod directory;

use directory::{Directory, Entry, unpack};

/// Bytes of the header.
const HEADER: u64 = 127;
/// The most bytes of metadata, unpacked.
const MAX_METADATA: u64 = 16 << 20;
/// The most bytes of leaf directories that are fetched to list the tiles of an archive behind HTTP.
const MAX_LISTED: u64 = 8 << 20;
/// The deepest that directories lie in each other; writers need one.
const MAX_DEPTH: usize = 4;
/// Leaf directories that are kept, each of some ten thousand entries.
const LEAVES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// An open archive.
pub struct PmTiles {
    file: Arc<dyn ByteSource>,
    sections: Sections,
    compression: Compression,
    tile_compression: Compression,
    root: Directory,
    /// By offset.
    leaves: Mutex<LruCache<u64, Arc<Directory>>>,
    extents: Vec<TileExtent>,
    /// Whether the extents are those of all tiles, counted.
    listed: bool,
    info: TileInfo,
}

/// Where the parts of the file lie: offset and length.
struct Sections {
    root: (u64, u64),
    metadata: (u64, u64),
    leaves: (u64, u64),
    tiles: (u64, u64),
}

impl PmTiles {
    /// Opens an archive; with `bounds`, an area in degrees, only its tiles there. All tiles are listed, unless that would take too
    /// long over HTTP or they are too many: then `bounds` alone say where tiles are.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for what is no such archive, or a truncated or damaged one; [`ErrorKind::Unsupported`] for vector
    /// tiles and other versions; [`ErrorKind::Limit`] for too many tiles without `bounds`; [`ErrorKind::NotFound`] if there is
    /// none in `bounds`; those of reading. All name the file.
    pub(super) fn open(file: Arc<dyn ByteSource>, bounds: Option<Bounds>) -> Result<Self> {
        let name = file.name().to_owned();
        Self::open_inner(file, bounds).map_err(|e| e.at(name))
    }

    fn open_inner(file: Arc<dyn ByteSource>, bounds: Option<Bounds>) -> Result<Self> {
        let bytes = read_exact(file.as_ref(), 0, HEADER, HEADER)?;
        let sections = Sections::read(&bytes, file.length())?;
        let header = Header::try_from_bytes(bytes.into()).map_err(|e| {
            let kind = match e {
                ::pmtiles::PmtError::UnsupportedPmTilesVersion => ErrorKind::Unsupported,
                _ => ErrorKind::Format,
            };
            Error::new(kind, "the header of the PMTiles archive cannot be read")
                .remedy(
                    "fetch it again; archives of version 3 are read, older ones are brought there by `pmtiles convert`",
                )
                .source(e)
        })?;
        // Some writers put the digit in place of the number.
        if !matches!(header.spec_version(), 3 | b'3') {
            let message = format!("a PMTiles archive of version {}", header.spec_version());
            return Err(Error::new(ErrorKind::Unsupported, message)
                .remedy("archives of version 3 are read; `pmtiles convert` brings older ones there"));
        }
        let tile_format = tile_format(header.tile_type)?;
        let compression = header.internal_compression();
        if !matches!(compression, Compression::None | Compression::Gzip) {
            return Err(Error::new(ErrorKind::Unsupported, format!("directories compressed as {compression:?}"))
                .remedy("write the archive with gzip, as `pmtiles convert` does"));
        }
        if !matches!(header.tile_compression, Compression::None | Compression::Gzip | Compression::Unknown) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("tiles compressed as {:?}", header.tile_compression),
            )
            .remedy("write the archive anew with its pictures as they are"));
        }
        let root = read_exact(file.as_ref(), sections.root.0, sections.root.1, directory::MAX_PACKED)?;
        let root = Directory::parse(&unpack(root, compression, directory::MAX_BYTES)?)?;
        let mut archive = Self {
            file,
            sections,
            compression,
            tile_compression: header.tile_compression,
            root,
            leaves: Mutex::new(LruCache::new(LEAVES)),
            extents: Vec::new(),
            listed: false,
            info: TileInfo { kind: "PMTiles", tile_format, ..TileInfo::default() },
        };
        archive.read_metadata()?;
        let own = Bounds {
            west: header.min_longitude,
            south: header.min_latitude,
            east: header.max_longitude,
            north: header.max_latitude,
        };
        archive.info.bounds = check_bounds(own).is_ok().then_some(own);
        archive.find_extents(&header, bounds)?;
        Ok(archive)
    }

    /// Title and attribution.
    fn read_metadata(&mut self) -> Result<()> {
        let (offset, length) = self.sections.metadata;
        if length == 0 {
            return Ok(());
        }
        let bytes = read_exact(self.file.as_ref(), offset, length, MAX_METADATA)?;
        let bytes = unpack(bytes, self.compression, MAX_METADATA)?;
        // What is no JSON says nothing; the tiles are there all the same.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Ok(()) };
        let text = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        self.info.title = text("name");
        self.info.attribution = text("attribution");
        Ok(())
    }

    /// Which zoom levels there are, and where.
    fn find_extents(&mut self, header: &Header, bounds: Option<Bounds>) -> Result<()> {
        let many = header.n_addressed_tiles().is_some_and(|n| n.get() > MAX_TILES as u64);
        let remote = self.file.name().starts_with("http") && self.sections.leaves.1 > MAX_LISTED;
        if many || remote {
            let Some(bounds) = bounds else {
                return Err(Error::new(ErrorKind::Limit, "the archive holds too many tiles to list")
                    .remedy("say which area to take: --bbox WEST,SOUTH,EAST,NORTH in degrees"));
            };
            let zooms = header.min_zoom..=header.max_zoom.min(MAX_ZOOM);
            self.extents = zooms.map(|zoom| TileExtent::within(bounds, zoom)).collect::<Result<_>>()?;
        } else {
            self.list()?;
            if let Some(bounds) = bounds {
                self.extents = clipped(&self.extents, bounds)?;
            }
        }
        if self.extents.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the archive holds no tiles there")
                .remedy("choose another --bbox, or export the archive again"));
        }
        Ok(())
    }

    /// Reads all directories.
    fn list(&mut self) -> Result<()> {
        let mut levels: Vec<Option<TileExtent>> = vec![None; usize::from(MAX_ZOOM) + 1];
        self.each_tile(&mut |tile| {
            if let Some(level) = levels.get_mut(usize::from(tile.z())) {
                TileExtent::add(level, tile.z(), (tile.x(), tile.y()), 1);
            }
        })?;
        self.extents = levels.into_iter().flatten().collect();
        self.listed = true;
        Ok(())
    }

    /// Calls `found` with every tile.
    fn each_tile(&self, found: &mut impl FnMut(TileCoord)) -> Result<()> {
        let mut count = 0;
        let mut seen = std::collections::HashSet::new();
        let mut left: Vec<(Arc<Directory>, usize)> = Vec::new();
        let mut visit = |directory: &Directory, depth: usize, left: &mut Vec<(Arc<Directory>, usize)>| -> Result<()> {
            for entry in directory.entries() {
                if entry.run == 0 {
                    // An archive lists each leaf once: a second time is a circle.
                    if depth >= MAX_DEPTH || !seen.insert(entry.offset) {
                        return Err(directory::damaged("its directories lead in a circle"));
                    }
                    left.push((self.leaf(entry)?, depth + 1));
                    continue;
                }
                count += u64::from(entry.run);
                if count > MAX_TILES as u64 {
                    return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_TILES} tiles"))
                        .remedy("say which area to take: --bbox WEST,SOUTH,EAST,NORTH in degrees"));
                }
                for id in entry.first..entry.first + u64::from(entry.run) {
                    found(ArchiveTile::new(id).map_err(|_| directory::damaged("a tile beyond the pyramid"))?.into());
                }
            }
            Ok(())
        };
        visit(&self.root, 0, &mut left)?;
        while let Some((directory, depth)) = left.pop() {
            visit(&directory, depth, &mut left)?;
        }
        Ok(())
    }

    /// A directory below the root.
    fn leaf(&self, entry: &Entry) -> Result<Arc<Directory>> {
        let lock = || self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&entry.offset) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.part(self.sections.leaves, entry, directory::MAX_PACKED)?;
        let leaf = Arc::new(Directory::parse(&unpack(bytes, self.compression, directory::MAX_BYTES)?)?);
        lock().put(entry.offset, Arc::clone(&leaf));
        Ok(leaf)
    }

    /// The bytes of an entry of a section.
    fn part(&self, (start, length): (u64, u64), entry: &Entry, limit: u64) -> Result<Vec<u8>> {
        let end = entry.offset.checked_add(u64::from(entry.length));
        let at = start.checked_add(entry.offset).filter(|_| end.is_some_and(|end| end <= length));
        let at = at.ok_or_else(|| directory::damaged("an entry that leaves its section"))?;
        read_exact(self.file.as_ref(), at, u64::from(entry.length), limit)
    }

    /// The entry of a tile; none where there is a gap.
    fn find(&self, id: u64) -> Result<Option<Entry>> {
        let mut entry = self.root.find(id);
        for _ in 0..MAX_DEPTH {
            match entry {
                Some(leaf) if leaf.run == 0 => entry = self.leaf(&leaf)?.find(id),
                found => return Ok(found),
            }
        }
        Err(directory::damaged("its directories lead in a circle"))
    }

    fn tile_inner(&self, tile: TileId) -> Result<Option<Encoded>> {
        let Ok(coord) = TileCoord::new(tile.z, tile.x, tile.y) else { return Ok(None) };
        let Some(entry) = self.find(ArchiveTile::from(coord).value())? else { return Ok(None) };
        let mut bytes = self.part(self.sections.tiles, &entry, MAX_TILE_BYTES)?;
        // Some writers call pictures gzip data that are none.
        if self.tile_compression == Compression::Gzip && bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = unpack(bytes, Compression::Gzip, MAX_TILE_BYTES)?;
        }
        Ok(Some(Encoded::Bytes(bytes)))
    }
}

impl Sections {
    /// Reads the first eight numbers of the header after its magic and version.
    fn read(header: &[u8], length: u64) -> Result<Self> {
        let number = |i: usize| {
            let bytes = header.get(8 + i * 8..16 + i * 8).and_then(|b| b.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(|| directory::damaged("its header is cut off"))
        };
        let section = |i: usize, name: &str| {
            let (offset, size) = (number(2 * i)?, number(2 * i + 1)?);
            match offset.checked_add(size) {
                Some(end) if end <= length => Ok((offset, size)),
                _ => Err(Error::new(
                    ErrorKind::Format,
                    format!("the archive is truncated or damaged: its {name} end beyond the file's {length} bytes"),
                )
                .remedy("fetch or export it again")),
            }
        };
        Ok(Self {
            root: section(0, "root directory")?,
            metadata: section(1, "metadata")?,
            leaves: section(2, "directories")?,
            tiles: section(3, "tiles")?,
        })
    }
}

/// How tiles of a type are encoded; none if only they tell.
fn tile_format(tile_type: TileType) -> Result<Option<Format>> {
    let refused = |what: &str| {
        Err(Error::new(ErrorKind::Unsupported, format!("the archive holds {what}, not pictures"))
            .remedy("take an archive of imagery: PNG, JPEG or WebP tiles"))
    };
    match tile_type {
        TileType::Png => Ok(Some(Format::Png)),
        TileType::Jpeg => Ok(Some(Format::Jpeg)),
        TileType::Webp => Ok(Some(Format::WebP)),
        TileType::Unknown => Ok(None),
        TileType::Mvt => refused("vector tiles (MVT)"),
        TileType::Avif => Err(Error::new(ErrorKind::Unsupported, "the archive holds AVIF tiles, which are not read")
            .remedy("write it anew with PNG, JPEG or WebP tiles")),
        other => refused(&format!("tiles of type {other:?}")),
    }
}

impl TileSource for PmTiles {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn info(&self) -> &TileInfo {
        &self.info
    }

    fn extents(&self) -> &[TileExtent] {
        &self.extents
    }

    fn tile(&self, tile: TileId) -> Result<Option<Encoded>> {
        self.tile_inner(tile).map_err(|e| e.at(self.file.name()))
    }

    fn listed(&self, zoom: u8) -> Result<Option<Vec<(u32, u32)>>> {
        if !self.listed {
            return Ok(None);
        }
        let mut all = Vec::new();
        self.each_tile(&mut |tile| {
            if tile.z() == zoom {
                all.push((tile.x(), tile.y()));
            }
        })
        .map_err(|e| e.at(self.file.name()))?;
        Ok(Some(all))
    }
}
