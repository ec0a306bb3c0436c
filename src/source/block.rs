//! Decoded blocks of an image, and windows that are filled from them.

use super::raster::{Depth, Patch, Samples, Window};
use crate::error::{Error, ErrorKind, Result};

/// A decoded part of an image.
#[derive(Debug, Clone)]
pub(super) struct PixelBlock {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Samples of a pixel.
    pub(super) bands: usize,
    /// `[height, width, bands]`.
    pub(super) samples: Samples,
    /// `[height, width]`: whether a pixel holds data, as far as this block tells; empty if all do.
    pub(super) valid: Vec<bool>,
}

impl PixelBlock {
    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.samples.len() * self.samples.depth().bytes() + self.valid.len()
    }

    /// Copies what this block, whose top left pixel is at `at`, has of a window: into band `to` of the patch its band
    /// `from`, for each (from, to) of `places`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the samples are of another type or the block has no such band.
    pub(super) fn copy_to(
        &self,
        patch: &mut Patch,
        window: &Window,
        at: (usize, usize),
        places: &[(usize, usize)],
    ) -> Result<()> {
        let Some(rows) = self.overlap(window, at).filter(|_| !places.is_empty()) else { return Ok(()) };
        let bands = (self.bands, patch.bands);
        if places.iter().any(|(from, to)| *from >= bands.0 || *to >= bands.1) {
            return Err(Error::new(ErrorKind::Format, "a block of the image has too few bands"));
        }
        match (&self.samples, &mut patch.samples) {
            (Samples::U8(from), Samples::U8(to)) => rows.copy(from, to, bands, places),
            (Samples::U16(from), Samples::U16(to)) => rows.copy(from, to, bands, places),
            (Samples::F32(from), Samples::F32(to)) => rows.copy(from, to, bands, places),
            (found, wanted) => {
                let message = format!("a block has samples of {:?}, the image of {:?}", found.depth(), wanted.depth());
                return Err(Error::new(ErrorKind::Format, message));
            }
        }
        Ok(())
    }

    /// Calls `use_pixel(index in the window, whether it holds data)` for all pixels of a window that this block has.
    pub(super) fn each_valid(&self, window: &Window, at: (usize, usize), mut use_pixel: impl FnMut(usize, bool)) {
        let Some(rows) = self.overlap(window, at) else { return };
        for (from, to) in rows.starts() {
            for i in 0..rows.columns {
                use_pixel(to + i, self.valid.get(from + i).is_none_or(|v| *v));
            }
        }
    }

    fn overlap(&self, window: &Window, at: (usize, usize)) -> Option<Overlap> {
        let (left, right) = (window.x.max(at.0), (window.x + window.width).min(at.0 + self.width));
        let (top, bottom) = (window.y.max(at.1), (window.y + window.height).min(at.1 + self.height));
        (left < right && top < bottom).then(|| Overlap {
            columns: right - left,
            rows: bottom - top,
            from: (left - at.0, top - at.1),
            to: (left - window.x, top - window.y),
            widths: (self.width, window.width),
        })
    }
}

/// What a block and a window share.
struct Overlap {
    columns: usize,
    rows: usize,
    /// Top left pixel within the block, and within the window.
    from: (usize, usize),
    to: (usize, usize),
    /// Columns of the block, and of the window.
    widths: (usize, usize),
}

impl Overlap {
    /// The first pixel of each row, in the block and in the window.
    fn starts(&self) -> impl Iterator<Item = (usize, usize)> {
        let (from, to, widths) = (self.from, self.to, self.widths);
        (0..self.rows).map(move |y| ((from.1 + y) * widths.0 + from.0, (to.1 + y) * widths.1 + to.0))
    }

    fn copy<T: Copy>(&self, from: &[T], to: &mut [T], bands: (usize, usize), places: &[(usize, usize)]) {
        let same =
            bands.0 == bands.1 && places.len() == bands.0 && places.iter().enumerate().all(|(i, p)| *p == (i, i));
        for (source, target) in self.starts() {
            let source = &from[source * bands.0..(source + self.columns) * bands.0];
            let target = &mut to[target * bands.1..(target + self.columns) * bands.1];
            if same {
                target.copy_from_slice(source);
                continue;
            }
            for (pixel, stored) in target.chunks_exact_mut(bands.1).zip(source.chunks_exact(bands.0)) {
                for &(from, to) in places {
                    pixel[to] = stored[from];
                }
            }
        }
    }
}

impl Patch {
    /// A patch of zeros whose pixels all hold data.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the window leaves the image or a band is not there, [`ErrorKind::Limit`] if it is too large.
    pub(super) fn begin(
        window: &Window,
        wanted: &[usize],
        size: (usize, usize),
        bands: usize,
        depth: Depth,
    ) -> Result<Self> {
        window.check(size)?;
        if let Some(band) = wanted.iter().find(|b| **b >= bands) {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no band {} of {bands}", band + 1))
                .remedy("bands are counted from 1, without alpha"));
        }
        let Window { width, height, .. } = *window;
        let bytes = (window.pixels() as u64).saturating_mul((wanted.len() * depth.bytes()) as u64);
        if bytes > MAX_BYTES {
            let message =
                format!("{width} x {height} pixels of {} bands take more than {MAX_BYTES} bytes", wanted.len());
            return Err(Error::new(ErrorKind::Limit, message).remedy("cut the image into parts, or read fewer bands"));
        }
        let samples = Samples::zeros(depth, window.pixels() * wanted.len());
        Ok(Self { width, height, bands: wanted.len(), samples, valid: Vec::new() })
    }

    /// Marks pixels whose samples are not finite as without data, and drops `valid` if all hold some.
    pub(super) fn finish(mut self) -> Self {
        if let Samples::F32(values) = &self.samples
            && values.iter().any(|v| !v.is_finite())
        {
            if self.valid.is_empty() {
                self.valid = vec![true; self.width * self.height];
            }
            for (valid, pixel) in self.valid.iter_mut().zip(values.chunks_exact(self.bands.max(1))) {
                *valid &= pixel.iter().all(|v| v.is_finite());
            }
        }
        if !self.valid.contains(&false) {
            self.valid = Vec::new();
        }
        self
    }

    /// Whether each pixel holds data, to be changed.
    pub(super) fn valid_mut(&mut self) -> &mut [bool] {
        if self.valid.is_empty() {
            self.valid = vec![true; self.width * self.height];
        }
        &mut self.valid
    }
}

/// The most bytes that the samples of one window may take.
const MAX_BYTES: u64 = 2 << 30;
