//! Where encoded tiles come from: folders, archives and servers, all of them pyramids in EPSG:3857.

use std::path::PathBuf;

use super::format::{Format, detect_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::tile::{Bounds, TileId};

/// The most tiles of one source that are listed.
pub const MAX_TILES: usize = 4_000_000;
/// The most bytes of one encoded tile.
pub(super) const MAX_TILE_BYTES: u64 = 64 << 20;

/// A tile as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// A file of its own, which may have others beside it.
    File(PathBuf),
    /// The bytes of a PNG, JPEG or WebP.
    Bytes(Vec<u8>),
}

impl Encoded {
    /// The encoded picture.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::Io`], naming the file.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(path) => std::fs::read(&path).map_err(|e| Error::from(e).at(path.display())),
        }
    }
}

/// What a source says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TileInfo {
    /// What it is, for people: `PMTiles`, `MBTiles`, `folder of tiles`, `tile server`, `WMS`.
    pub kind: &'static str,
    /// How its tiles are encoded; none if only the tiles tell.
    pub tile_format: Option<Format>,
    /// Its title; empty if it has none.
    pub title: String,
    /// Whom to name beside what is made of it; empty if it does not say.
    pub attribution: String,
    /// Where it lies by its own words, in degrees.
    pub bounds: Option<Bounds>,
}

/// Which tiles of a source to read, where there is a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TileOptions {
    /// Only this zoom level.
    pub zoom: Option<u8>,
    /// Only the tiles that hold a part of this area, in degrees; a server of tiles needs it.
    pub bounds: Option<Bounds>,
    /// Whether rows are counted from the south, where the source does not say it right itself.
    pub tms: Option<bool>,
    /// Metres a pixel that are wanted: which zoom level a server is asked for, if `zoom` does not say.
    pub resolution: Option<f64>,
}

/// The tiles of one zoom level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileExtent {
    /// The zoom level.
    pub zoom: u8,
    /// Column and row of the top left corner.
    pub first: (u32, u32),
    /// Column and row of the bottom right corner, inclusive.
    pub last: (u32, u32),
    /// How many tiles there are, if they were counted.
    pub count: Option<u64>,
    /// Column and row of one that is there, if that is known.
    pub sample: Option<(u32, u32)>,
}

impl TileExtent {
    /// The tiles of a zoom level that hold a part of an area, in degrees.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the area is none ([`check_bounds`]) or there is no such level.
    pub fn within(bounds: Bounds, zoom: u8) -> Result<Self> {
        check_bounds(bounds)?;
        // An area that ends at a tile's edge does not reach into the next tile, whatever rounding makes of it.
        let inset = 360.0 / 2f64.powi(i32::from(zoom)) * 1e-7;
        let Bounds { west, south, east, north } = bounds;
        let (west, east) = ((west + inset).min(east), (east - inset).max(west));
        let (south, north) = ((south + inset).min(north), (north - inset).max(south));
        let (first, last) = (TileId::containing([west, north], zoom)?, TileId::containing([east, south], zoom)?);
        Ok(Self { zoom, first: (first.x, first.y), last: (last.x, last.y), count: None, sample: None })
    }

    /// The part that two extents of a zoom level share.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let first = (self.first.0.max(other.first.0), self.first.1.max(other.first.1));
        let last = (self.last.0.min(other.last.0), self.last.1.min(other.last.1));
        if self.zoom != other.zoom || first.0 > last.0 || first.1 > last.1 {
            return None;
        }
        let part = Self { zoom: self.zoom, first, last, count: None, sample: None };
        let same = (first, last) == (self.first, self.last);
        Some(Self {
            count: self.count.filter(|_| same),
            sample: self.sample.filter(|sample| part.holds(*sample)),
            ..part
        })
    }

    /// Takes a tile in.
    pub(super) fn add(extent: &mut Option<Self>, zoom: u8, (x, y): (u32, u32), count: u64) {
        let all = extent.get_or_insert(Self { zoom, first: (x, y), last: (x, y), count: Some(0), sample: None });
        all.first = (all.first.0.min(x), all.first.1.min(y));
        all.last = (all.last.0.max(x), all.last.1.max(y));
        all.count = all.count.map(|n| n + count);
        // The first in order, so that every run takes the same.
        all.sample = Some(all.sample.map_or((x, y), |known| known.min((x, y))));
    }

    /// Whether a tile lies within.
    pub fn holds(&self, (x, y): (u32, u32)) -> bool {
        (self.first.0..=self.last.0).contains(&x) && (self.first.1..=self.last.1).contains(&y)
    }

    /// Its edges in degrees.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it lies outside the pyramid.
    pub fn bounds_lon_lat(&self) -> Result<Bounds> {
        let northwest = TileId::new(self.zoom, self.first.0, self.first.1)?.bounds_lon_lat();
        let southeast = TileId::new(self.zoom, self.last.0, self.last.1)?.bounds_lon_lat();
        Ok(Bounds { west: northwest.west, south: southeast.south, east: southeast.east, north: northwest.north })
    }
}

/// The parts of extents that lie in an area, in degrees.
///
/// # Errors
/// As [`TileExtent::within`].
pub(super) fn clipped(extents: &[TileExtent], bounds: Bounds) -> Result<Vec<TileExtent>> {
    let all = extents.iter().map(|e| Ok(e.intersection(&TileExtent::within(bounds, e.zoom)?)));
    Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Checks that an area in degrees is one.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is empty or leaves the world.
pub fn check_bounds(bounds: Bounds) -> Result<()> {
    let Bounds { west, south, east, north } = bounds;
    let inside = (-180.0..=180.0).contains(&west) && (-180.0..=180.0).contains(&east);
    if inside && west < east && south < north && south >= -90.0 && north <= 90.0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("{west},{south},{east},{north} is no area")).remedy(
        "give west, south, east and north in degrees, west below east and south below north; cut areas at 180 degrees",
    ))
}

/// Tiles of one place, at one or more zoom levels. Rows are counted from the north.
pub trait TileSource: Send + Sync {
    /// Its path or address, for messages.
    fn name(&self) -> &str;

    /// What it says of itself.
    fn info(&self) -> &TileInfo;

    /// Its zoom levels, from the smallest on.
    fn extents(&self) -> &[TileExtent];

    /// A tile; none where there is a gap.
    ///
    /// # Errors
    /// Those of reading, naming the source.
    fn tile(&self, tile: TileId) -> Result<Option<Encoded>>;

    /// Several tiles, in their order: servers are asked for some at once.
    fn tiles(&self, tiles: &[TileId]) -> Vec<Result<Option<Encoded>>> {
        tiles.iter().map(|tile| self.tile(*tile)).collect()
    }

    /// Column and row of all tiles of a zoom level; none if they were not listed.
    ///
    /// # Errors
    /// Those of reading.
    fn listed(&self, _zoom: u8) -> Result<Option<Vec<(u32, u32)>>> {
        Ok(None)
    }

    /// Whether it counts rows from the south itself, which does not show in the others' answers.
    fn is_tms(&self) -> bool {
        false
    }

    /// Where the tiles of a zoom level lie, as a URL template below a folder: `{z}/{x}/{y}.png`. None if they are of several
    /// kinds or in no folder.
    fn template(&self, _zoom: u8) -> Option<String> {
        None
    }
}

/// Checks that bytes are those of a picture that is read as a tile.
///
/// # Errors
/// [`ErrorKind::Unsupported`] and [`ErrorKind::Format`] otherwise, saying what they are.
pub(super) fn check_picture(bytes: &[u8]) -> Result<Format> {
    match detect_bytes(bytes.get(..16).unwrap_or(bytes)) {
        Ok(Format::Tiff) => {
            Err(Error::new(ErrorKind::Unsupported, "the tile is a TIFF").remedy("tiles are read as PNG, JPEG or WebP"))
        }
        Ok(format) => Ok(format),
        Err(_) if bytes.starts_with(&[0x1f, 0x8b]) => {
            Err(Error::new(ErrorKind::Unsupported, "the tile is gzip data, as vector tiles are")
                .remedy("take tiles of imagery (PNG, JPEG or WebP)"))
        }
        Err(_) if bytes.get(4..12).is_some_and(|b| b == b"ftypavif") => {
            Err(Error::new(ErrorKind::Unsupported, "the tile is an AVIF, which is not read")
                .remedy("take tiles as PNG, JPEG or WebP"))
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_that_ends_at_a_tile_ends_there() {
        let tile = TileId::new(19, 443_116, 241_595).expect("a tile");
        let found = TileExtent::within(tile.bounds_lon_lat(), 19).expect("an area");
        assert_eq!((found.first, found.last), ((443_116, 241_595), (443_116, 241_595)));
        let finer = TileExtent::within(tile.bounds_lon_lat(), 21).expect("an area");
        assert_eq!((finer.first, finer.last), ((1_772_464, 966_380), (1_772_467, 966_383)));
        let again = finer.bounds_lon_lat().expect("within");
        assert!((again.west - tile.bounds_lon_lat().west).abs() < 1e-12);
        for [west, south, east, north] in [
            [2.0, 0.0, 1.0, 1.0],
            [0.0, 0.0, 0.0, 1.0],
            [f64::NAN, 0.0, 1.0, 1.0],
            [0.0, 0.0, 181.0, 1.0],
            [0.0, -91.0, 1.0, 1.0],
        ] {
            assert!(
                TileExtent::within(Bounds { west, south, east, north }, 10).is_err(),
                "{west} {south} {east} {north}"
            );
        }
    }
}
