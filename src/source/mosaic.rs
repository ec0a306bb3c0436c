//! The tiles of one zoom level as one image.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::block::PixelBlock;
use super::cache::{BUDGET, Cache};
use super::raster::{Depth, Patch, Raster, Window};
use super::tiles::{Encoded, TileExtent, TileSource};
use super::{header, picture};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, Georef, WEB_MERCATOR};
use crate::tile::{Bounds, TileId};

/// The longest side of a mosaic, in pixels. Tiles that lie further apart are two places, not one.
pub const MAX_SIDE: usize = 1 << 20;
/// How many tiles are looked for before it is said that an area has none.
const PROBES: u32 = 8;

/// The tiles of one zoom level as one image in EPSG:3857, read as they are asked for. Gaps are black and hold no data.
pub struct Mosaic {
    source: Arc<dyn TileSource>,
    extent: TileExtent,
    /// Side of a tile in pixels.
    side: usize,
    size: (usize, usize),
    /// Bands and type of the tiles' samples.
    bands: usize,
    depth: Depth,
    georef: Georef,
    cache: Cache<(u32, u32)>,
    /// Tiles that were asked for and are not there.
    gaps: HashSet<(u32, u32)>,
}

impl Mosaic {
    /// The tiles of an extent of a source; one of them is looked at for their size and samples.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no tile is found, [`ErrorKind::Limit`] beyond [`MAX_SIDE`], [`ErrorKind::Format`] for tiles
    /// that are not square; those of reading a tile.
    pub fn new(source: Arc<dyn TileSource>, extent: TileExtent) -> Result<Self> {
        let TileExtent { zoom, first, last, .. } = extent;
        let corner = TileId::new(zoom, first.0, first.1)?.bounds_mercator();
        let (columns, rows) = ((last.0 - first.0) as usize + 1, (last.1 - first.1) as usize + 1);
        let too_far = |side: usize| {
            let size = (columns.saturating_mul(side), rows.saturating_mul(side));
            let message = format!(
                "the tiles of zoom level {zoom} span {} x {} pixels, more than {MAX_SIDE} a side",
                size.0, size.1
            );
            Error::new(ErrorKind::Limit, message)
                .at(source.name())
                .remedy("take a part of it (--bbox), or cut it into parts that lie closer together")
        };
        // Nobody's tiles are smaller than 64 pixels: a world of them is refused before one is looked for.
        if columns.max(rows).saturating_mul(64) > MAX_SIDE {
            return Err(too_far(256));
        }
        let (at, encoded) = first_tile(source.as_ref(), &extent)?;
        let place = |e: Error| e.at(format!("tile {zoom}/{}/{}", at.0, at.1)).at(source.name());
        let (side, other, bands, depth) = match &encoded {
            Encoded::File(path) => {
                let found = header::picture(path, false)?;
                (found.width, found.height, found.bands, found.depth)
            }
            Encoded::Bytes(bytes) => {
                let found = picture::decode_bytes(bytes).map_err(place)?;
                (found.width, found.height, found.bands, found.samples.depth())
            }
        };
        if side != other || side == 0 || side > 8192 {
            let error = Error::new(ErrorKind::Format, format!("a tile of {side} x {other} pixels"))
                .remedy("tiles are square, at most 8192 pixels a side");
            return Err(match &encoded {
                Encoded::File(path) => error.at(path.display()),
                Encoded::Bytes(_) => place(error),
            });
        }
        let size = (columns.saturating_mul(side), rows.saturating_mul(side));
        if size.0.max(size.1) > MAX_SIDE {
            return Err(too_far(side));
        }
        let resolution = (corner.east - corner.west) / side as f64;
        let transform = [resolution, 0.0, corner.west, 0.0, -resolution, corner.north];
        let georef = Georef { transform, crs: Crs::from_epsg(WEB_MERCATOR) };
        let (cache, gaps) = (Cache::new(BUDGET), HashSet::new());
        Ok(Self { source, extent, side, size, bands, depth, georef, cache, gaps })
    }

    /// The zoom level.
    pub fn zoom(&self) -> u8 {
        self.extent.zoom
    }

    /// Whether the source counts rows from the south.
    pub fn is_tms(&self) -> bool {
        self.source.is_tms()
    }

    /// Where its tiles lie, as a URL template below the folder: `{z}/{x}/{y}.png`. None if they are of several kinds.
    pub fn template(&self) -> Option<String> {
        self.source.template(self.zoom())
    }

    /// West, south, east and north edge in degrees.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] never, as far as the tiles were checked when they were found.
    pub fn bounds_lon_lat(&self) -> Result<Bounds> {
        self.extent.bounds_lon_lat()
    }

    /// West, south, east and north edge in degrees of the largest group of tiles that touch, where there is most to see; of all
    /// where the source does not list its tiles.
    ///
    /// # Errors
    /// As [`Mosaic::bounds_lon_lat`], and those of listing the tiles.
    pub fn largest_group_lon_lat(&self) -> Result<Bounds> {
        let Some(all) = self.source.listed(self.zoom())? else { return self.bounds_lon_lat() };
        let mut left: BTreeSet<(u32, u32)> = all.into_iter().filter(|tile| self.extent.holds(*tile)).collect();
        let mut largest: Vec<(u32, u32)> = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut group = vec![first];
            let mut next = 0;
            while let Some(&(x, y)) = group.get(next) {
                next += 1;
                for near in (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))) {
                    let near = (x.wrapping_add_signed(near.0), y.wrapping_add_signed(near.1));
                    if left.remove(&near) {
                        group.push(near);
                    }
                }
            }
            if group.len() > largest.len() {
                largest = group;
            }
        }
        let mut extent = None;
        largest.into_iter().for_each(|tile| TileExtent::add(&mut extent, self.zoom(), tile, 1));
        extent.unwrap_or(self.extent).bounds_lon_lat()
    }

    /// Side of a tile in pixels.
    pub fn tile_size(&self) -> usize {
        self.side
    }

    /// How many tiles there are, if they were counted.
    pub fn tile_count(&self) -> Option<u64> {
        self.extent.count
    }

    /// Where its tiles come from.
    pub fn source(&self) -> &Arc<dyn TileSource> {
        &self.source
    }

    /// The tiles of a row of them that are to be fetched, all at once.
    fn fetch(&self, row: u32, columns: impl Iterator<Item = u32>) -> Result<HashMap<(u32, u32), Option<Encoded>>> {
        let missing: Vec<(u32, u32)> =
            columns.map(|x| (x, row)).filter(|key| !self.gaps.contains(key) && !self.cache.holds(key)).collect();
        let ids = missing.iter().map(|(x, y)| TileId::new(self.zoom(), *x, *y)).collect::<Result<Vec<_>>>()?;
        missing.into_iter().zip(self.source.tiles(&ids)).map(|(key, found)| Ok((key, found?))).collect()
    }

    /// Decodes a tile that was fetched.
    fn decode(&self, (x, y): (u32, u32), encoded: Encoded) -> Result<PixelBlock> {
        let (side, bands, depth) = (self.side, self.bands, self.depth);
        let name = match &encoded {
            Encoded::File(path) => path.display().to_string(),
            Encoded::Bytes(_) => format!("{}: tile {}/{x}/{y}", self.source.name(), self.zoom()),
        };
        let block = match encoded {
            Encoded::File(path) => picture::decode(&path)?,
            Encoded::Bytes(bytes) => picture::decode_bytes(&bytes).map_err(|e| e.at(&name))?,
        };
        if (block.width, block.height) != (side, side) {
            let message = format!("a tile of {} x {} pixels among tiles of {side}", block.width, block.height);
            return Err(Error::new(ErrorKind::Format, message).at(name).remedy("keep tiles of one size together"));
        }
        if (block.bands, block.samples.depth()) != (bands, depth) {
            let found = (block.bands, block.samples.depth());
            let message = format!("a tile of {} bands of {:?} among tiles of {bands} of {depth:?}", found.0, found.1);
            return Err(Error::new(ErrorKind::Format, message).at(name).remedy("keep tiles of one kind together"));
        }
        Ok(block)
    }
}

/// A tile of an extent: the one that is known to be there, else one near its middle.
fn first_tile(source: &dyn TileSource, extent: &TileExtent) -> Result<((u32, u32), Encoded)> {
    let TileExtent { zoom, first, last, sample, .. } = *extent;
    // A grid of some places, from the middle on; of small extents every tile.
    let steps = |from: u32, to: u32| -> Vec<u32> {
        let (n, middle) = (to - from + 1, from + (to - from) / 2);
        let count = n.min(PROBES);
        let mut all: Vec<u32> =
            (0..count).map(|i| from + (u64::from(i) * u64::from(n) / u64::from(count)) as u32).collect();
        all.push(middle);
        all.sort_by_key(|at| at.abs_diff(middle));
        all.dedup();
        all
    };
    let (columns, rows) = (steps(first.0, last.0), steps(first.1, last.1));
    let grid = rows.iter().flat_map(|y| columns.iter().map(move |x| (*x, *y)));
    for (x, y) in sample.into_iter().chain(grid) {
        if let Some(found) = source.tile(TileId::new(zoom, x, y)?)? {
            return Ok(((x, y), found));
        }
    }
    Err(Error::new(ErrorKind::NotFound, format!("no tile of zoom level {zoom} was found in the area"))
        .at(source.name())
        .remedy("choose another area (--bbox) or zoom level (--zoom)"))
}

impl Raster for Mosaic {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn depth(&self) -> Depth {
        self.depth
    }

    fn georef(&self) -> Option<&Georef> {
        Some(&self.georef)
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let mut patch =
            Patch::begin(&window, bands, self.size, self.bands, self.depth).map_err(|e| e.at(self.source.name()))?;
        let places: Vec<(usize, usize)> = bands.iter().enumerate().map(|(to, band)| (*band, to)).collect();
        let mut valid = vec![false; window.pixels()];
        let side = self.side;
        let (left, top) = self.extent.first;
        let columns = window.x / side..=(window.x + window.width - 1) / side;
        for row in window.y / side..=(window.y + window.height - 1) / side {
            let y = top + row as u32;
            let mut fetched = self.fetch(y, columns.clone().map(|column| left + column as u32))?;
            for column in columns.clone() {
                let key = (left + column as u32, y);
                let block = if self.cache.holds(&key) {
                    self.cache.find(&key)
                } else {
                    let encoded = match fetched.remove(&key) {
                        Some(found) => found,
                        None if self.gaps.contains(&key) => None,
                        // Pushed out of the cache by its neighbours since this row began.
                        None => self.source.tile(TileId::new(self.extent.zoom, key.0, key.1)?)?,
                    };
                    match encoded {
                        Some(encoded) => {
                            let block = self.decode(key, encoded)?;
                            Some(self.cache.get(key, || Ok(block))?)
                        }
                        None => {
                            self.gaps.insert(key);
                            None
                        }
                    }
                };
                let Some(block) = block else { continue };
                let at = (column * side, row * side);
                block.copy_to(&mut patch, &window, at, &places)?;
                block.each_valid(&window, at, |i, holds| valid[i] = holds);
            }
        }
        patch.valid = valid;
        Ok(patch.finish())
    }

    fn describe(&self) -> String {
        let count = self.extent.count.map_or("tiles".to_owned(), |n| format!("{n} tiles"));
        let kind = match self.source.info().kind {
            "folder of tiles" => String::new(),
            kind => format!("{kind}, "),
        };
        format!(
            "{kind}{count} of {} pixels, zoom level {}{}, a mosaic of {} x {} pixels, EPSG:3857",
            self.side,
            self.extent.zoom,
            if self.is_tms() { ", rows counted from the south (TMS)" } else { "" },
            self.size.0,
            self.size.1
        )
    }

    fn decoded_blocks(&self) -> u64 {
        self.cache.decoded()
    }
}
