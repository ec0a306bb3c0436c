//! Folders of XYZ tiles: `z/x/y.ext`, or flat `z-x-y.ext`, each zoom level one mosaic. In folders with a
//! `tilemapresource.xml` rows are counted from the south (Tile Map Service), else from the north.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::mosaic::Mosaic;
use super::tiles::{Encoded, MAX_TILES, TileExtent, TileInfo, TileSource};
use crate::error::{Error, ErrorKind, Result};
use crate::tile::TileId;

mod tms;

/// File extensions of tiles; other files in the folder are passed over.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// How deep the folder is searched: its own `z/x/y.ext`.
const DEPTH: usize = 3;

/// A folder's tiles.
pub struct Folder {
    folder: PathBuf,
    name: String,
    /// By zoom level, then by column and row, counted from the north.
    levels: BTreeMap<u8, HashMap<(u32, u32), PathBuf>>,
    extents: Vec<TileExtent>,
    /// Whether the files' names count rows from the south.
    tms: bool,
    info: TileInfo,
}

/// One mosaic for each zoom level that a folder has, from the smallest zoom level on. `tms` says whether rows are counted
/// from the south; without, they are if the folder holds a `tilemapresource.xml`.
///
/// # Errors
/// Those of [`Folder::open`] and [`Mosaic::new`].
pub fn mosaics(folder: impl AsRef<Path>, tms: Option<bool>) -> Result<Vec<Mosaic>> {
    let folder: Arc<dyn TileSource> = Arc::new(Folder::open(folder, tms)?);
    folder.extents().iter().map(|extent| Mosaic::new(Arc::clone(&folder), *extent)).collect()
}

impl Folder {
    /// Lists a folder's tiles. `tms` says whether rows are counted from the south; without, they are if the folder holds a
    /// `tilemapresource.xml`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the folder holds no tiles, [`ErrorKind::Limit`] beyond [`MAX_TILES`], [`ErrorKind::Format`]
    /// for tiles that are given twice, [`ErrorKind::Unsupported`] if that file says that the tiles are not Web Mercator's.
    pub fn open(folder: impl AsRef<Path>, tms: Option<bool>) -> Result<Self> {
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
                Some(other) => Err(Error::new(
                    ErrorKind::Format,
                    format!("tile {tile} is there twice, also as {}", other.display()),
                )
                .at(path.display())
                .remedy("remove one of them")),
                None => Ok(()),
            }
        })?;
        if levels.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the folder holds no tiles")
                .at(folder.display())
                .remedy("tiles are named z/x/y.ext or z-x-y.ext, with ext one of png, jpg, jpeg, webp"));
        }
        let extent = |(zoom, tiles): (&u8, &HashMap<(u32, u32), PathBuf>)| {
            let mut extent = None;
            tiles.keys().for_each(|tile| TileExtent::add(&mut extent, *zoom, *tile, 1));
            extent
        };
        let extents = levels.iter().filter_map(extent).collect();
        let info = TileInfo { kind: "folder of tiles", ..TileInfo::default() };
        Ok(Self { folder: folder.to_owned(), name: folder.display().to_string(), levels, extents, tms, info })
    }
}

/// The row counted from the other end.
pub(super) fn turned(zoom: u8, row: u32) -> u32 {
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

impl TileSource for Folder {
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
        let found = self.levels.get(&tile.z).and_then(|tiles| tiles.get(&(tile.x, tile.y)));
        Ok(found.map(|path| Encoded::File(path.clone())))
    }

    fn listed(&self, zoom: u8) -> Result<Option<Vec<(u32, u32)>>> {
        Ok(self.levels.get(&zoom).map(|tiles| tiles.keys().copied().collect()))
    }

    fn is_tms(&self) -> bool {
        self.tms
    }

    fn template(&self, zoom: u8) -> Option<String> {
        let mut templates = self.levels.get(&zoom)?.iter().map(|((x, y), path)| {
            let name = path.strip_prefix(&self.folder).ok()?.to_str()?.replace('\\', "/");
            let (stem, extension) = name.rsplit_once('.')?;
            let y = if self.tms { turned(zoom, *y) } else { *y };
            let spelling = ["{z}/{x}/{y}", "{z}-{x}-{y}"].into_iter().find(|spelling| {
                let numbers = spelling.replace("{z}", &zoom.to_string()).replace("{x}", &x.to_string());
                numbers.replace("{y}", &y.to_string()) == stem
            })?;
            Some(format!("{spelling}.{extension}"))
        });
        let first = templates.next()??;
        templates.all(|other| other.as_deref() == Some(&first)).then_some(first)
    }
}
