//! Opens a file or folder by what it holds.

use std::path::Path;

use super::format::{Format, detect};
use super::geotiff::GeoTiff;
use super::picture::Picture;
use super::raster::Raster;
use super::xyz;
use crate::error::{Error, ErrorKind, Result};

/// Opens an image file, whatever its name; a folder of XYZ tiles too if it has a single zoom level.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`]; [`ErrorKind::Format`] if the file is empty, truncated or no image;
/// [`ErrorKind::Unsupported`] for formats and variants that are not read; [`ErrorKind::Limit`] for pictures that do not
/// fit into memory; [`ErrorKind::Invalid`] for a folder of several zoom levels. All name the file.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn Raster>> {
    let path = path.as_ref();
    if path.is_dir() {
        let mut mosaics = xyz::mosaics(path, None)?;
        let zooms: Vec<String> = mosaics.iter().map(|m| m.zoom().to_string()).collect();
        return match mosaics.pop() {
            Some(only) if mosaics.is_empty() => Ok(Box::new(only)),
            _ => {
                Err(Error::new(ErrorKind::Invalid, format!("the folder has tiles of zoom levels {}", zooms.join(", ")))
                    .at(path.display())
                    .remedy("choose one zoom level"))
            }
        };
    }
    match detect(path)? {
        Format::Tiff => Ok(Box::new(GeoTiff::open(path)?)),
        Format::Png | Format::Jpeg | Format::WebP => Ok(Box::new(Picture::open(path)?)),
    }
}
