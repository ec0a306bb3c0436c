//! The camera's orientation of pictures.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};

use super::{Format, detect, sidecar};
use crate::error::{Error, Result};

/// How an image is turned when it is read, so that it stands upright: as its EXIF data say, unless a world file places its
/// pixels as they are stored. TIFF is read as it is stored.
///
/// # Errors
/// As [`super::open`], if the file cannot be opened or is of no known format.
pub fn orientation(path: &Path) -> Result<Orientation> {
    if detect(path)? == Format::Tiff || sidecar::has_world_file(path) {
        return Ok(Orientation::NoTransforms);
    }
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|e| Error::from(e).at(path.display()))?;
    // A header that cannot be read is reported by whoever decodes the picture.
    let orientation = reader.into_decoder().and_then(|mut decoder| decoder.orientation());
    Ok(orientation.unwrap_or(Orientation::NoTransforms))
}
