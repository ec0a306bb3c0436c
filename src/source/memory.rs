//! Samples that are in memory already, as a raster.

use super::{Depth, Patch, Raster, Samples, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::RgbImage;

/// Borrowed samples, `[height, width, bands]`.
#[derive(Debug, Clone, Copy)]
pub enum SampleSlice<'a> {
    /// 0 to 255.
    U8(&'a [u8]),
    /// 0 to 65 535.
    U16(&'a [u16]),
    /// Any number.
    F32(&'a [f32]),
}

impl<'a> From<&'a Samples> for SampleSlice<'a> {
    fn from(samples: &'a Samples) -> Self {
        match samples {
            Samples::U8(v) => Self::U8(v),
            Samples::U16(v) => Self::U16(v),
            Samples::F32(v) => Self::F32(v),
        }
    }
}

/// An image in memory, without a place.
#[derive(Debug, Clone)]
pub struct Memory<'a> {
    size: (usize, usize),
    bands: usize,
    samples: SampleSlice<'a>,
    valid: &'a [bool],
}

impl<'a> Memory<'a> {
    /// Wraps samples `[height, width, bands]` and which pixels hold data, `[height, width]`, or none if all do.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a length does not fit.
    pub fn new(size: (usize, usize), bands: usize, samples: SampleSlice<'a>, valid: &'a [bool]) -> Result<Self> {
        let length = match samples {
            SampleSlice::U8(v) => v.len(),
            SampleSlice::U16(v) => v.len(),
            SampleSlice::F32(v) => v.len(),
        };
        let (width, height) = size;
        let pixels = width.checked_mul(height);
        let fits = pixels.and_then(|n| n.checked_mul(bands)) == Some(length);
        if !fits || (!valid.is_empty() && pixels != Some(valid.len())) {
            let message = format!("{length} samples of {bands} bands for {width} x {height} pixels");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(Self { size, bands, samples, valid })
    }

    /// An RGB image of which all pixels hold data.
    pub fn rgb(image: &'a RgbImage) -> Self {
        let size = (image.width(), image.height());
        Self { size, bands: 3, samples: SampleSlice::U8(image.pixels()), valid: &[] }
    }
}

impl Raster for Memory<'_> {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn depth(&self) -> Depth {
        match self.samples {
            SampleSlice::U8(_) => Depth::U8,
            SampleSlice::U16(_) => Depth::U16,
            SampleSlice::F32(_) => Depth::F32,
        }
    }

    fn georef(&self) -> Option<&Georef> {
        None
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        window.check(self.size)?;
        if let Some(band) = bands.iter().find(|b| **b >= self.bands) {
            let message = format!("band {} of an image of {} bands", band + 1, self.bands);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let samples = match self.samples {
            SampleSlice::U8(v) => Samples::U8(self.cut(v, window, bands)),
            SampleSlice::U16(v) => Samples::U16(self.cut(v, window, bands)),
            SampleSlice::F32(v) => Samples::F32(self.cut(v, window, bands)),
        };
        let rows = self.valid.chunks_exact(self.size.0).skip(window.y).take(window.height);
        let mut valid: Vec<bool> = rows.flat_map(|row| &row[window.x..window.x + window.width]).copied().collect();
        if !valid.contains(&false) {
            valid.clear();
        }
        Ok(Patch { width: window.width, height: window.height, bands: bands.len(), samples, valid })
    }

    fn describe(&self) -> String {
        format!("image of {} x {} pixels, {} bands", self.size.0, self.size.1, self.bands)
    }
}

impl Memory<'_> {
    fn cut<T: Copy>(&self, samples: &[T], window: Window, bands: &[usize]) -> Vec<T> {
        let mut out = Vec::with_capacity(window.width * window.height * bands.len());
        let rows = samples.chunks_exact(self.size.0 * self.bands).skip(window.y).take(window.height);
        for row in rows {
            let row = &row[window.x * self.bands..(window.x + window.width) * self.bands];
            if bands.iter().copied().eq(0..self.bands) {
                out.extend_from_slice(row);
            } else {
                out.extend(row.chunks_exact(self.bands).flat_map(|pixel| bands.iter().map(|b| pixel[*b])));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_the_bands_and_the_validity_asked_for() {
        let samples: Vec<u16> = (0..24).collect();
        let valid = [true, true, true, true, false, true, true, true, true, true, true, true];
        let mut memory = Memory::new((4, 3), 2, SampleSlice::U16(&samples), &valid).expect("fits");
        let patch = memory.read(Window { x: 0, y: 1, width: 2, height: 2 }, &[1]).expect("within");
        assert_eq!((patch.bands, patch.samples), (1, Samples::U16(vec![9, 11, 17, 19])));
        assert_eq!(patch.valid, [false, true, true, true]);
        assert!(memory.read(Window { x: 1, y: 0, width: 3, height: 1 }, &[0, 1]).expect("within").valid.is_empty());
        for (window, bands) in [((3, 0, 2, 1), 0), ((0, 0, 0, 1), 0), ((0, 0, 1, 1), 2), ((usize::MAX, 0, 1, 1), 0)] {
            let (x, y, width, height) = window;
            let error = memory.read(Window { x, y, width, height }, &[bands]).expect_err("outside");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        assert!(Memory::new((4, 3), 2, SampleSlice::U16(&samples[1..]), &[]).is_err());
        assert!(Memory::new((4, 3), 2, SampleSlice::U16(&samples), &[true]).is_err());
    }
}
