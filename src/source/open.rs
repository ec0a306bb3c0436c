//! Opens a file or folder by what it holds.

use std::path::Path;

use super::format::{Format, container, detect};
use super::geotiff::GeoTiff;
use super::levels::open_tiles;
use super::mosaic::Mosaic;
use super::picture::Picture;
use super::raster::Raster;
use super::tiles::TileOptions;
use crate::error::{Error, ErrorKind, Result};

/// Opens an image file, whatever its name; a folder or an archive of tiles (PMTiles, MBTiles) too if it has a single zoom level.
/// [`super::open_levels`] opens all levels of a source, and servers.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`]; [`ErrorKind::Format`] if the file is empty, truncated or no image;
/// [`ErrorKind::Unsupported`] for formats and variants that are not read; [`ErrorKind::Limit`] for pictures that do not
/// fit into memory; [`ErrorKind::Invalid`] for tiles of several zoom levels. All name the file.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn Raster>> {
    let path = path.as_ref();
    if path.is_dir() || container(path)?.is_some() {
        let source = open_tiles(path, &TileOptions::default())?;
        let zooms: Vec<String> = source.extents().iter().map(|e| e.zoom.to_string()).collect();
        return match source.extents() {
            &[only] => Ok(Box::new(Mosaic::new(source, only)?)),
            _ => Err(Error::new(ErrorKind::Invalid, format!("there are tiles of zoom levels {}", zooms.join(", ")))
                .at(path.display())
                .remedy("choose one zoom level")),
        };
    }
    match detect(path)? {
        Format::Tiff => Ok(Box::new(GeoTiff::open(path)?)),
        Format::Png | Format::Jpeg | Format::WebP => Ok(Box::new(Picture::open(path)?)),
    }
}
