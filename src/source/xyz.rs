//! Folders of XYZ tiles: `z/x/y.ext`, or flat `z-x-y.ext`, each zoom level one mosaic. In folders with a
//! `tilemapresource.xml` rows are counted from the south (Tile Map Service), else from the north.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::block::PixelBlock;
use super::cache::{BUDGET, Cache};
use super::raster::{Depth, Patch, Raster, Window};
use super::{header, picture};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, Georef, WEB_MERCATOR};
use crate::tile::{Bounds, TileId};

mod tms;

/// The most tiles that a folder may hold.
pub const MAX_TILES: usize = 4_000_000;
/// The longest side of a mosaic, in pixels. Tiles that lie further apart are two places, not one.
pub const MAX_SIDE: usize = 1 << 20;
/// File extensions of tiles; other files in the folder are passed over.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// How deep the folder is searched: its own `z/x/y.ext`.
const DEPTH: usize = 3;

/// The tiles of one zoom level as one image in EPSG:3857, read as they are asked for. Gaps are black and hold no data.
pub struct Mosaic {
    folder: PathBuf,
    zoom: u8,
    /// Column and row of the top left tile.
    first: (u32, u32),
    /// Side of a tile in pixels.
    side: usize,
    size: (usize, usize),
    /// By column and row, counted from the north.
    tiles: HashMap<(u32, u32), PathBuf>,
    /// Whether the files' names count rows from the south.
    tms: bool,
    /// Bands and type of the tiles' samples.
    bands: usize,
    depth: Depth,
    georef: Georef,
    cache: Cache<(u32, u32)>,
}

/// One mosaic for each zoom level that a folder has, from the smallest zoom level on. `tms` says whether rows are counted
/// from the south; without, they are if the folder holds a `tilemapresource.xml`.
///
/// # Errors
/// [`ErrorKind::NotFound`] if the folder holds no tiles, [`ErrorKind::Limit`] beyond [`MAX_TILES`] or [`MAX_SIDE`],
/// [`ErrorKind::Format`] for tiles that are not square or given twice, [`ErrorKind::Unsupported`] if that file says that
/// the tiles are not Web Mercator's.
pub fn mosaics(folder: impl AsRef<Path>, tms: Option<bool>) -> Result<Vec<Mosaic>> {
    let folder = folder.as_ref();
    let tms = tms.unwrap_or(tms::is_beside(folder)?);
    let mut levels: BTreeMap<u8, HashMap<(u32, u32), PathBuf>> = BTreeMap::new();
    let mut count = 0;
    find(folder, folder, DEPTH, &mut |tile, path| {
        count += 1;
        if count > MAX_TILES {
            return Err(Error::new(ErrorKind::Limit, format!("more than {MAX_TILES} tiles"))
                .at(folder.display())
                .remedy("cut the folder into parts"));
        }
        let row = if tms { turned(tile.z, tile.y) } else { tile.y };
        match levels.entry(tile.z).or_default().insert((tile.x, row), path.clone()) {
            Some(other) => {
                Err(Error::new(ErrorKind::Format, format!("tile {tile} is there twice, also as {}", other.display()))
                    .at(path.display())
                    .remedy("remove one of them"))
            }
            None => Ok(()),
        }
    })?;
    if levels.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the folder holds no tiles")
            .at(folder.display())
            .remedy("tiles are named z/x/y.ext or z-x-y.ext, with ext one of png, jpg, jpeg, webp"));
    }
    levels.into_iter().map(|(zoom, tiles)| Mosaic::new(folder, zoom, tiles, tms)).collect()
}

/// The row counted from the other end.
fn turned(zoom: u8, row: u32) -> u32 {
    ((1u64 << zoom.min(32)) - 1).saturating_sub(u64::from(row)) as u32
}

/// Calls `found` for every tile below `folder`.
fn find(root: &Path, folder: &Path, depth: usize, found: &mut impl FnMut(TileId, PathBuf) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::from(e).at(folder.display()))? {
        let entry = entry.map_err(|e| Error::from(e).at(folder.display()))?;
        let path = entry.path();
        let kind = fs::metadata(&path).map_err(|e| Error::from(e).at(path.display()))?;
        // Only folders with a number for a name belong to a tree, so a link back up cannot lead astray.
        let number = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
        if kind.is_dir() {
            if depth > 1 && number(&path) {
                find(root, &path, depth - 1, found)?;
            }
            continue;
        }
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        // The name below the folder that was given: what lies above it is no part of the tile's.
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if EXTENSIONS.contains(&extension.as_str())
            && let Some(tile) = TileId::from_path(&name)
        {
            found(tile, path)?;
        }
    }
    Ok(())
}

impl Mosaic {
    fn new(folder: &Path, zoom: u8, tiles: HashMap<(u32, u32), PathBuf>, tms: bool) -> Result<Self> {
        let range = |of: fn(&(u32, u32)) -> u32| {
            let low = tiles.keys().map(of).min().unwrap_or_default();
            (low, (tiles.keys().map(of).max().unwrap_or_default() - low) as usize + 1)
        };
        let ((left, columns), (top, rows)) = (range(|t| t.0), range(|t| t.1));
        // The first in order, not in the map's, so that every run finds the same.
        let Some(sample) = tiles.iter().min_by_key(|(tile, _)| **tile).map(|(_, path)| path) else {
            return Err(Error::new(ErrorKind::NotFound, "the folder holds no tiles").at(folder.display()));
        };
        let header::PictureHeader { width: side, height: other, bands, depth } = header::picture(sample, false)?;
        if side != other || side == 0 || side > 8192 {
            return Err(Error::new(ErrorKind::Format, format!("a tile of {side} x {other} pixels"))
                .at(sample.display())
                .remedy("tiles are square, at most 8192 pixels a side"));
        }
        let size = (columns.saturating_mul(side), rows.saturating_mul(side));
        if size.0.max(size.1) > MAX_SIDE {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "the tiles of zoom level {zoom} span {} x {} pixels, more than {MAX_SIDE} a side",
                    size.0, size.1
                ),
            )
            .at(folder.display())
            .remedy("cut the folder into parts that lie closer together"));
        }
        let corner = TileId::new(zoom, left, top)?.bounds_mercator();
        let resolution = (corner.east - corner.west) / side as f64;
        let transform = [resolution, 0.0, corner.west, 0.0, -resolution, corner.north];
        let georef = Georef { transform, crs: Crs::from_epsg(WEB_MERCATOR) };
        let cache = Cache::new(BUDGET);
        Ok(Self {
            folder: folder.to_owned(),
            zoom,
            first: (left, top),
            side,
            size,
            tiles,
            tms,
            bands,
            depth,
            georef,
            cache,
        })
    }

    /// The zoom level.
    pub fn zoom(&self) -> u8 {
        self.zoom
    }

    /// Whether the files' names count rows from the south.
    pub fn is_tms(&self) -> bool {
        self.tms
    }

    /// Where its tiles lie, as a URL template below the folder: `{z}/{x}/{y}.png`. None if they are of several kinds.
    pub fn template(&self) -> Option<String> {
        let mut templates = self.tiles.iter().map(|((x, y), path)| {
            let name = path.strip_prefix(&self.folder).ok()?.to_str()?.replace('\\', "/");
            let (stem, extension) = name.rsplit_once('.')?;
            let y = if self.tms { turned(self.zoom, *y) } else { *y };
            let spelling = ["{z}/{x}/{y}", "{z}-{x}-{y}"].into_iter().find(|spelling| {
                let numbers = spelling.replace("{z}", &self.zoom.to_string()).replace("{x}", &x.to_string());
                numbers.replace("{y}", &y.to_string()) == stem
            })?;
            Some(format!("{spelling}.{extension}"))
        });
        let first = templates.next()??;
        templates.all(|other| other.as_deref() == Some(&first)).then_some(first)
    }

    /// West, south, east and north edge in degrees.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] never, as far as the tiles were checked when they were found.
    pub fn bounds_lon_lat(&self) -> Result<Bounds> {
        self.bounds_of(self.tiles.keys().copied())
    }

    /// West, south, east and north edge in degrees of the largest group of tiles that touch, where there is most to see.
    ///
    /// # Errors
    /// As [`Mosaic::bounds_lon_lat`].
    pub fn largest_group_lon_lat(&self) -> Result<Bounds> {
        let mut left: BTreeSet<(u32, u32)> = self.tiles.keys().copied().collect();
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
        self.bounds_of(largest.into_iter())
    }

    /// Where `tiles` of this zoom level lie together.
    fn bounds_of(&self, tiles: impl Iterator<Item = (u32, u32)> + Clone) -> Result<Bounds> {
        let (columns, rows) = (tiles.clone().map(|t| t.0), tiles.map(|t| t.1));
        let corner = |x: Option<u32>, y: Option<u32>| {
            TileId::new(self.zoom, x.unwrap_or_default(), y.unwrap_or_default()).map(TileId::bounds_lon_lat)
        };
        let northwest = corner(columns.clone().min(), rows.clone().min())?;
        let southeast = corner(columns.max(), rows.max())?;
        Ok(Bounds { west: northwest.west, south: southeast.south, east: southeast.east, north: northwest.north })
    }

    /// Side of a tile in pixels.
    pub fn tile_size(&self) -> usize {
        self.side
    }

    /// How many tiles there are.
    pub fn tile_count(&self) -> usize {
        self.tiles.len()
    }

    /// The block of a tile, decoded now if it is not at hand; none where there is a gap.
    fn tile(&mut self, key: (u32, u32)) -> Result<Option<&PixelBlock>> {
        let Some(path) = self.tiles.get(&key) else { return Ok(None) };
        let (side, bands, depth) = (self.side, self.bands, self.depth);
        let block = self.cache.get(key, || {
            let block = picture::decode(path)?;
            if (block.width, block.height) != (side, side) {
                let message = format!("a tile of {} x {} pixels among tiles of {side}", block.width, block.height);
                return Err(Error::new(ErrorKind::Format, message)
                    .at(path.display())
                    .remedy("keep tiles of one size in a folder"));
            }
            if (block.bands, block.samples.depth()) != (bands, depth) {
                let found = (block.bands, block.samples.depth());
                let message =
                    format!("a tile of {} bands of {:?} among tiles of {bands} of {depth:?}", found.0, found.1);
                return Err(Error::new(ErrorKind::Format, message)
                    .at(path.display())
                    .remedy("keep tiles of one kind in a folder"));
            }
            Ok(block)
        })?;
        Ok(Some(block))
    }
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
            Patch::begin(&window, bands, self.size, self.bands, self.depth).map_err(|e| e.at(self.folder.display()))?;
        let places: Vec<(usize, usize)> = bands.iter().enumerate().map(|(to, band)| (*band, to)).collect();
        let mut valid = vec![false; window.pixels()];
        let side = self.side;
        for row in window.y / side..=(window.y + window.height - 1) / side {
            for column in window.x / side..=(window.x + window.width - 1) / side {
                let key = (self.first.0 + column as u32, self.first.1 + row as u32);
                let Some(block) = self.tile(key)? else { continue };
                let at = (column * side, row * side);
                block.copy_to(&mut patch, &window, at, &places)?;
                block.each_valid(&window, at, |i, holds| valid[i] = holds);
            }
        }
        patch.valid = valid;
        Ok(patch.finish())
    }

    fn describe(&self) -> String {
        format!(
            "{} tiles of {} pixels, zoom level {}{}, a mosaic of {} x {} pixels, EPSG:3857",
            self.tiles.len(),
            self.side,
            self.zoom,
            if self.tms { ", rows counted from the south (TMS)" } else { "" },
            self.size.0,
            self.size.1
        )
    }

    fn decoded_blocks(&self) -> u64 {
        self.cache.decoded()
    }
}
