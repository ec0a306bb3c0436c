//! Pixels: RGB8 images, row-major, interleaved `[height, width, 3]`.

use crate::error::{Error, ErrorKind, Result};

/// The most pixels an image may hold in memory: 2^28 (268 megapixels, 805 MB as RGB8).
pub const MAX_PIXELS: u64 = 1 << 28;

/// Pixels of any number of bands.
pub trait Pixels {
    /// Columns, at least 1.
    fn width(&self) -> usize;
    /// Rows, at least 1.
    fn height(&self) -> usize;
    /// Bands.
    fn bands(&self) -> usize;
    /// The sample of a band at column `x`, row `y`, all within bounds.
    fn sample(&self, x: usize, y: usize, band: usize) -> f32;
}

impl Pixels for RgbImage {
    fn width(&self) -> usize {
        self.width
    }

    fn height(&self) -> usize {
        self.height
    }

    fn bands(&self) -> usize {
        3
    }

    fn sample(&self, x: usize, y: usize, band: usize) -> f32 {
        f32::from(self.pixels[(y * self.width + x) * 3 + band])
    }
}

/// An owned RGB8 image, `[height, width, 3]`, values 0 to 255.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// Wraps `pixels` of length `width * height * 3`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the length differs or a side is zero, [`ErrorKind::Limit`] above [`MAX_PIXELS`].
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_size(width, height)?;
        if pixels.len() != width * height * 3 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} bytes given for {width} x {height} RGB pixels, expected {}",
                    pixels.len(),
                    width * height * 3
                ),
            ));
        }
        Ok(Self { width, height, pixels })
    }

    /// Takes the colours of `width * height` RGBA8 pixels (a canvas's `ImageData`) and drops alpha.
    ///
    /// # Errors
    /// As [`RgbImage::new`].
    pub fn from_rgba(width: usize, height: usize, rgba: &[u8]) -> Result<Self> {
        check_size(width, height)?;
        if rgba.len() != width * height * 4 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} bytes given for {width} x {height} RGBA pixels, expected {}",
                    rgba.len(),
                    width * height * 4
                ),
            ));
        }
        let pixels = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        Ok(Self { width, height, pixels })
    }

    /// The part at column `x`, row `y` of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or reaches outside.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        if !within(x, width, self.width) || !within(y, height, self.height) {
            let message = format!("{width} x {height} at {x}, {y} is not within {} x {}", self.width, self.height);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let rows = self.pixels.chunks_exact(self.width * 3).skip(y).take(height);
        Self::new(width, height, rows.flat_map(|row| &row[x * 3..(x + width) * 3]).copied().collect())
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All samples, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The colour at column `x`, row `y`.
    ///
    /// # Panics
    /// If the position lies outside.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbImage({} x {})", self.width, self.height)
    }
}

/// Whether `length` pixels from `at` on lie within a side of `whole` pixels.
pub(crate) fn within(at: usize, length: usize, whole: usize) -> bool {
    at.checked_add(length).is_some_and(|end| end <= whole)
}

/// Checks that an image of this size can be held.
///
/// # Errors
/// [`ErrorKind::Invalid`] if a side is zero, [`ErrorKind::Limit`] above [`MAX_PIXELS`].
pub fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(ErrorKind::Invalid, format!("the image is empty: {width} x {height} pixels")));
    }
    if width as u64 * height as u64 > MAX_PIXELS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{width} x {height} pixels exceed the limit of {MAX_PIXELS} pixels in memory"),
        )
        .remedy("cut the image into parts, or give it as a tiled GeoTIFF, which is read window by window"));
    }
    Ok(())
}
