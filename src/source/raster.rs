//! An image of any size, read window by window: samples and which pixels hold data, together.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{Pixels, check_size};

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Column of its left side.
    pub x: usize,
    /// Row of its upper side.
    pub y: usize,
    /// Columns, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
}

impl Window {
    /// Checks that the window lies within an image of a width and height, and can be held in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or leaves the image, [`ErrorKind::Limit`] if it is too large.
    pub fn check(&self, (image_width, image_height): (usize, usize)) -> Result<()> {
        let Self { x, y, width, height } = *self;
        check_size(width, height)?;
        let inside = |at: usize, len: usize, all: usize| at.checked_add(len).is_some_and(|end| end <= all);
        if !inside(x, width, image_width) || !inside(y, height, image_height) {
            let image = format!("the image of {image_width} x {image_height} pixels");
            let message = format!("a window of {width} x {height} at ({x}, {y}) leaves {image}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }
}

/// Type of an image's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Whole numbers 0 to 255.
    U8,
    /// Whole numbers 0 to 65 535.
    U16,
    /// Everything else: floating point, numbers with a sign, numbers of 32 bits.
    F32,
}

/// Samples, `[height, width, bands]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 0 to 255.
    U8(Vec<u8>),
    /// 0 to 65 535.
    U16(Vec<u16>),
    /// Any number; NaN where there is no data.
    F32(Vec<f32>),
}

/// What a window of a raster holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bands, in the order they were asked for.
    pub bands: usize,
    /// `[height, width, bands]`.
    pub samples: Samples,
    /// `[height, width]`: whether a pixel holds data; empty if all do.
    pub valid: Vec<bool>,
}

impl Patch {
    /// Whether no pixel holds data.
    pub fn is_blank(&self) -> bool {
        !self.valid.is_empty() && !self.valid.contains(&true)
    }
}

impl Pixels for Patch {
    fn width(&self) -> usize {
        self.width
    }

    fn height(&self) -> usize {
        self.height
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn sample(&self, x: usize, y: usize, band: usize) -> f32 {
        let at = (y * self.width + x) * self.bands + band;
        match &self.samples {
            Samples::U8(v) => f32::from(v[at]),
            Samples::U16(v) => f32::from(v[at]),
            Samples::F32(v) => v[at],
        }
    }
}

/// An image of any size that is read in windows.
pub trait Raster {
    /// Width and height in pixels.
    fn size(&self) -> (usize, usize);

    /// Bands of samples; alpha and masks are not among them.
    fn bands(&self) -> usize;

    /// Type of the samples.
    fn depth(&self) -> Depth;

    /// Where the image lies on the map, if it is known.
    fn georef(&self) -> Option<&Georef>;

    /// Width and height of each reduced copy that the file holds, largest first.
    fn overviews(&self) -> &[(usize, usize)] {
        &[]
    }

    /// The samples of some bands (from 0 on) in a window, and which of its pixels hold data. A pixel holds none if it is
    /// marked so by a nodata value, alpha, an internal or external mask, is not a number, or lies outside all tiles.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the window is empty or leaves the image, or a band is not
    /// there; [`ErrorKind::Limit`] if it is too large; and whatever reading the file gives.
    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch>;

    /// One line about the image for people: format, size, bands, place.
    fn describe(&self) -> String;
}

impl<R: Raster + ?Sized> Raster for Box<R> {
    fn size(&self) -> (usize, usize) {
        (**self).size()
    }

    fn bands(&self) -> usize {
        (**self).bands()
    }

    fn depth(&self) -> Depth {
        (**self).depth()
    }

    fn georef(&self) -> Option<&Georef> {
        (**self).georef()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        (**self).overviews()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        (**self).read(window, bands)
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}
