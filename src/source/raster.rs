//! An image of any size, read window by window: samples and which pixels hold data, together.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{Pixels, check_size, within};

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
    /// A window at column `x`, row `y`.
    pub fn new(x: usize, y: usize, width: usize, height: usize) -> Self {
        Self { x, y, width, height }
    }

    /// The whole of an image of a width and height.
    pub fn whole((width, height): (usize, usize)) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// Pixels.
    pub fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Checks that the window lies within an image of a width and height and can be held in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or leaves the image, [`ErrorKind::Limit`] if it is too large.
    pub fn check(&self, size: (usize, usize)) -> Result<()> {
        check_size(self.width, self.height)?;
        self.within(size)
    }

    /// Checks that the window lies within an image of a width and height, whether or not it can be held in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or leaves the image.
    pub fn within(&self, (image_width, image_height): (usize, usize)) -> Result<()> {
        let Self { x, y, width, height } = *self;
        let is_empty = width == 0 || height == 0;
        if is_empty || !within(x, width, image_width) || !within(y, height, image_height) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a window of {width} x {height} at ({x}, {y}) leaves the image of {image_width} x {image_height} pixels"
                ),
            ));
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

impl Depth {
    /// Bytes of a sample in memory.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
        }
    }
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

impl Samples {
    /// `count` zeros.
    pub fn zeros(depth: Depth, count: usize) -> Self {
        match depth {
            Depth::U8 => Self::U8(vec![0; count]),
            Depth::U16 => Self::U16(vec![0; count]),
            Depth::F32 => Self::F32(vec![0.0; count]),
        }
    }

    /// Their type.
    pub fn depth(&self) -> Depth {
        match self {
            Self::U8(_) => Depth::U8,
            Self::U16(_) => Depth::U16,
            Self::F32(_) => Depth::F32,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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
    /// Whether pixel `index` (row by row) holds data.
    pub fn is_valid(&self, index: usize) -> bool {
        self.valid.get(index).is_none_or(|v| *v)
    }

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

/// How the samples of an image are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interpretation {
    /// The bands, from 0 on, that are red, green and blue; three times the same for shades of grey.
    pub colours: [usize; 3],
    /// Whether samples are whole numbers.
    pub whole: bool,
    /// Whether the lowest value is white.
    pub white_is_zero: bool,
}

impl Interpretation {
    /// The first three of some bands as red, green and blue; the first as grey if there are fewer.
    pub fn of_bands(bands: usize, whole: bool) -> Self {
        Self { colours: if bands < 3 { [0; 3] } else { [0, 1, 2] }, whole, white_is_zero: false }
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
    /// marked so by a nodata value (in every band), alpha, an internal or external mask, if one of the samples read is not
    /// a finite number, or if it lies outside all tiles or in a block that the file leaves out.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid) if the window is empty or leaves the image, or a band is not
    /// there; [`ErrorKind::Limit`](crate::error::ErrorKind::Limit) if it is too large; and whatever reading the file gives.
    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch>;

    /// One line about the image for people: format, size, bands, place.
    fn describe(&self) -> String;

    /// Which bands make the picture that people see.
    fn interpretation(&self) -> Interpretation {
        Interpretation::of_bands(self.bands(), self.depth() != Depth::F32)
    }

    /// Whether it is known, without decoding anything, that no pixel of a window within the image holds data; `false` where that is
    /// not known.
    fn is_known_blank(&self, _window: Window) -> bool {
        false
    }

    /// How many of the file's blocks (strips, tiles, pictures) were decoded so far, each as often as it was.
    fn decoded_blocks(&self) -> u64 {
        0
    }
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

    fn interpretation(&self) -> Interpretation {
        (**self).interpretation()
    }

    fn is_known_blank(&self, window: Window) -> bool {
        (**self).is_known_blank(window)
    }

    fn decoded_blocks(&self) -> u64 {
        (**self).decoded_blocks()
    }
}
