//! A decoded sample.

use crate::error::{Error, ErrorKind, Result};
use crate::source::raw::Raw;

pub use crate::source::raw::Samples;

/// The label of pixels that count nowhere: neither in the loss nor in any metric.
pub const IGNORE: u8 = 255;

/// An image with the class of each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Chip {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Bands of a pixel, at least 1.
    pub bands: usize,
    /// `[height, width, bands]`; NaN where floating-point data has none.
    pub samples: Samples,
    /// `[height, width]`: class indices, or [`IGNORE`].
    pub labels: Vec<u8>,
}

impl Chip {
    /// Joins an image and its labels `[height, width]`; pixels without data become [`IGNORE`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if they differ in size.
    pub fn new(image: Raw, mut labels: Vec<u8>) -> Result<Self> {
        let Raw { width, height, bands, samples, nodata } = image;
        let held = match &samples {
            Samples::U8(v) => v.len(),
            Samples::U16(v) => v.len(),
            Samples::F32(v) => v.len(),
        };
        if width == 0 || height == 0 || bands == 0 || labels.len() != width * height || held != labels.len() * bands {
            let message = format!("{} labels for an image of {width} x {height} pixels, {bands} bands", labels.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        for (label, _) in labels.iter_mut().zip(nodata).filter(|(_, none)| *none) {
            *label = IGNORE;
        }
        Ok(Self { width, height, bands, samples, labels })
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> u64 {
        let sample = match self.samples {
            Samples::U8(_) => 1,
            Samples::U16(_) => 2,
            Samples::F32(_) => 4,
        };
        (self.labels.len() * (self.bands * sample + 1)) as u64
    }
}

/// The same image with only some of its bands, in the order given.
pub(super) fn with_bands(image: Raw, bands: &[usize]) -> Result<Raw> {
    fn pick<T: Copy>(all: &[T], of: usize, bands: &[usize]) -> Vec<T> {
        all.chunks_exact(of).flat_map(|pixel| bands.iter().map(|&b| pixel[b])).collect()
    }
    if let Some(&band) = bands.iter().find(|&&b| b >= image.bands) {
        return Err(no_band(band, image.bands));
    }
    let samples = match &image.samples {
        Samples::U8(v) => Samples::U8(pick(v, image.bands, bands)),
        Samples::U16(v) => Samples::U16(pick(v, image.bands, bands)),
        Samples::F32(v) => Samples::F32(pick(v, image.bands, bands)),
    };
    Ok(Raw { bands: bands.len(), samples, ..image })
}

pub(super) fn no_band(band: usize, bands: usize) -> Error {
    Error::new(ErrorKind::Invalid, format!("there is no band {} of {bands}", band + 1))
        .at("--bands")
        .remedy("bands are counted from 1, without alpha")
}
