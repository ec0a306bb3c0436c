//! Whole images: samples as a file holds them, all bands of 8 or 16 bits or floating point, as training reads them.

use std::path::Path;

use super::format::{Format, detect};
use super::geotiff::{GeoTiff, Purpose};
use super::picture::Picture;
use super::raster::{Raster, Window};
use super::{header, sidecar};
use crate::error::Result;
use crate::georef::Georef;
use crate::image::{Pixels, check_size};

pub use super::labels::{MaskHeader, MaskValues, RawMask, mask, mask_header};
pub use super::raster::{Depth, Samples};

/// What an image's header says.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Bands without alpha; 3 for 8-bit grey and for palettes, which become colours.
    pub bands: usize,
    /// Type of the samples.
    pub depth: Depth,
    /// Where the image lies, if the file or a world file says so.
    pub georef: Option<Georef>,
}

/// A decoded image.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Bands without alpha.
    pub bands: usize,
    /// `[height, width, bands]`.
    pub samples: Samples,
    /// `[height, width]`: which pixels are transparent or hold no data; empty if all hold some.
    pub nodata: Vec<bool>,
}

/// A part of decoded samples, as the pipeline reads it.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// `[rows, stride, bands]`.
    pub samples: &'a Samples,
    /// Columns of the whole.
    pub stride: usize,
    /// Bands.
    pub bands: usize,
    /// Column and row of the part's corner.
    pub corner: [usize; 2],
    /// Width and height of the part; it lies within the whole.
    pub size: [usize; 2],
}

impl Pixels for Part<'_> {
    fn width(&self) -> usize {
        self.size[0]
    }

    fn height(&self) -> usize {
        self.size[1]
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn sample(&self, x: usize, y: usize, band: usize) -> f32 {
        let at = ((self.corner[1] + y) * self.stride + self.corner[0] + x) * self.bands + band;
        match self.samples {
            Samples::U8(v) => f32::from(v[at]),
            Samples::U16(v) => f32::from(v[at]),
            Samples::F32(v) => v[at],
        }
    }
}

/// Reads an image's header. `world_files` says whether to look for one beside the image.
///
/// # Errors
/// As [`super::open`].
pub fn header(path: &Path, world_files: bool) -> Result<Header> {
    if detect(path)? == Format::Tiff {
        let file = GeoTiff::open_for(path, Purpose { labels: false, world_files })?;
        let (width, height) = file.size();
        check_size(width, height).map_err(|e| e.at(path.display()))?;
        return Ok(Header { width, height, bands: file.bands(), depth: file.depth(), georef: file.georef().cloned() });
    }
    let header::PictureHeader { width, height, bands, depth } = header::picture(path, world_files)?;
    check_size(width, height).map_err(|e| e.at(path.display()))?;
    let georef = if world_files { sidecar::georef(path)? } else { None };
    Ok(Header { width, height, bands, depth, georef })
}

/// Decodes an image.
///
/// # Errors
/// As [`super::open`]; [`ErrorKind::Limit`](crate::error::ErrorKind::Limit) if its samples take more than 2 GiB.
pub fn read(path: &Path) -> Result<Raw> {
    let mut raster: Box<dyn Raster> = match detect(path)? {
        Format::Tiff => Box::new(GeoTiff::open_for(path, Purpose { labels: false, world_files: false })?),
        _ => Box::new(Picture::unplaced(path)?),
    };
    let (width, height) = raster.size();
    let bands: Vec<usize> = (0..raster.bands()).collect();
    let patch = raster.read(Window::whole((width, height)), &bands)?;
    let nodata = patch.valid.into_iter().map(|valid| !valid).collect();
    Ok(Raw { width, height, bands: bands.len(), samples: patch.samples, nodata })
}
