//! A raster seen at another ground resolution.

use super::raster::{Depth, Interpretation, Patch, Raster, Samples, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::Pixels;

/// Side of the part of the source that is read at once, in pixels: what a window reads at a time stays bounded.
const PART: f64 = 2048.0;
/// How many source pixels may become one, and one pixel how many, to a side.
const MAX_FACTOR: f64 = 1024.0;
/// A pixel holds data if at least this share of its area does.
const LEAST_VALID: f32 = 0.5;
/// How far shares may be off by rounding.
const ROUNDING: f64 = 1e-6;

/// A raster whose pixels are `factor` times as large as its source's.
///
/// Larger pixels are the mean of the source's by covered area, smaller ones bilinear between the centres of the source's. Pixels
/// without data are left out of both; a pixel holds data if at least half of its area within the image, or of its weights, does.
///
/// Its grid is fixed on the ground, not at the source's edge: columns and rows are counted from the origin of the coordinates.
/// So two parts of one raster, or two mosaics of one pyramid's level, give the same pixels where both are, and every window
/// the same as every other. Sources that are rotated or without a place have their grid begin at their first pixel.
pub struct Resampled<R> {
    raster: R,
    /// Source pixels per pixel, to a side.
    factor: f64,
    /// Where the first pixel begins in the source: column and row, at most 0.
    offset: [f64; 2],
    size: (usize, usize),
    georef: Option<Georef>,
}

/// The source pixels that make a column (or row), from `first` on, with their weights, of which all together are at most 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl<R: Raster> Resampled<R> {
    /// A raster whose pixels are `factor` times as large as those of `raster`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a factor that is no positive number, [`ErrorKind::Limit`] beyond 1024 to either side and for
    /// images of more than 2^31 pixels a side.
    pub fn new(raster: R, factor: f64) -> Result<Self> {
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::new(ErrorKind::Invalid, format!("pixels of {factor} times the size")));
        }
        let (width, height) = raster.size();
        let too_much = |what: String| {
            Err(Error::new(ErrorKind::Limit, what).remedy("choose a resolution nearer to the image's own"))
        };
        if !(1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&factor) {
            return too_much(format!("pixels of {factor} times the size, more than {MAX_FACTOR} to either side"));
        }
        let place = raster.georef().filter(|g| g.transform[1] == 0.0 && g.transform[3] == 0.0);
        let offset = place.map_or([0.0, 0.0], |g| {
            let [a, _, c, _, e, f] = g.transform;
            [begin(c / (a * factor)) * factor, begin(f / (e * factor)) * factor]
        });
        let count = |length: usize, offset: f64| ((length as f64 - offset) / factor - ROUNDING).ceil().max(1.0);
        let (columns, rows) = (count(width, offset[0]), count(height, offset[1]));
        if columns.max(rows) > f64::from(i32::MAX) {
            return too_much(format!("an image of {columns} x {rows} pixels"));
        }
        let georef = raster.georef().map(|g| {
            let [x, y] = g.map(offset);
            let [a, b, _, d, e, _] = g.transform.map(|n| n * factor);
            Georef { transform: [a, b, x, d, e, y], crs: g.crs.clone() }
        });
        Ok(Self { raster, factor, offset, size: (columns as usize, rows as usize), georef })
    }

    /// Source pixels per pixel, to a side.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Column and row of the source at which the first pixel begins: 0 or less.
    pub fn offset(&self) -> [f64; 2] {
        self.offset
    }

    /// The source.
    pub fn inner(&self) -> &R {
        &self.raster
    }

    fn taps(&self, from: usize, count: usize, axis: usize) -> Vec<Taps> {
        let (width, height) = self.raster.size();
        let length = if axis == 0 { width } else { height };
        let (factor, offset) = (self.factor, self.offset[axis]);
        (from..from + count)
            .map(
                |i| if factor > 1.0 { average(i, factor, offset, length) } else { bilinear(i, factor, offset, length) },
            )
            .collect()
    }

    /// A window small enough for its part of the source to be read at once, put at (x, y) of a patch.
    fn part(&mut self, window: Window, bands: &[usize], (x, y): (usize, usize), patch: &mut Patch) -> Result<()> {
        let columns = self.taps(window.x, window.width, 0);
        let rows = self.taps(window.y, window.height, 1);
        let (Some((left, right)), Some((top, bottom))) = (span(&columns), span(&rows)) else {
            // Nothing of the source is there.
            for row in y..y + window.height {
                let at = row * patch.width + x;
                patch.valid_mut()[at..at + window.width].fill(false);
            }
            return Ok(());
        };
        let source = self.raster.read(Window::new(left, top, right - left, bottom - top), bands)?;
        let count = bands.len();
        // Every source row, brought to the columns: sums of each band, and the weight of what holds data.
        let mut sums = vec![0.0f32; source.height * window.width * count];
        let mut shares = vec![0.0f32; source.height * window.width];
        for row in 0..source.height {
            let mut values = [0.0f32; 16];
            for (column, taps) in columns.iter().enumerate() {
                let at = row * window.width + column;
                let sums = &mut sums[at * count..(at + 1) * count];
                for (i, weight) in taps.weights.iter().enumerate() {
                    let pixel = taps.first - left + i;
                    if *weight == 0.0 || !source.is_valid(row * source.width + pixel) {
                        continue;
                    }
                    shares[at] += weight;
                    if let Some(values) = values.get_mut(..count) {
                        pixel_values(&source, pixel, row, values);
                        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += *weight * *value);
                    } else {
                        for (band, sum) in sums.iter_mut().enumerate() {
                            *sum += weight * source.sample(pixel, row, band);
                        }
                    }
                }
            }
        }
        let sum = |taps: &Taps| taps.weights.iter().sum::<f32>();
        let across: Vec<f32> = columns.iter().map(sum).collect();
        for (row, taps) in rows.iter().enumerate() {
            let down = sum(taps);
            for (column, across) in across.iter().enumerate() {
                let mut share = 0.0f32;
                for (i, weight) in taps.weights.iter().enumerate() {
                    share += weight * shares[(taps.first - top + i) * window.width + column];
                }
                let pixel = (y + row) * patch.width + x + column;
                // What lies beyond the image's edge is not asked for.
                if share <= 0.0 || share / (across * down) + (ROUNDING as f32) < LEAST_VALID {
                    patch.valid_mut()[pixel] = false;
                    if let Samples::F32(values) = &mut patch.samples {
                        values[pixel * count..(pixel + 1) * count].fill(f32::NAN);
                    }
                    continue;
                }
                for band in 0..count {
                    let mut sum = 0.0f32;
                    for (i, weight) in taps.weights.iter().enumerate() {
                        let at = (taps.first - top + i) * window.width + column;
                        sum += weight * sums[at * count + band];
                    }
                    let value = sum / share;
                    match &mut patch.samples {
                        // `as` cuts, and saturates.
                        Samples::U8(values) => values[pixel * count + band] = (value + 0.5) as u8,
                        Samples::U16(values) => values[pixel * count + band] = (value + 0.5) as u16,
                        Samples::F32(values) => values[pixel * count + band] = value,
                    }
                }
            }
        }
        Ok(())
    }
}

/// The samples of a pixel.
fn pixel_values(patch: &Patch, x: usize, y: usize, values: &mut [f32]) {
    let at = (y * patch.width + x) * patch.bands;
    let to = at + patch.bands;
    match &patch.samples {
        Samples::U8(v) => values.iter_mut().zip(&v[at..to]).for_each(|(to, from)| *to = f32::from(*from)),
        Samples::U16(v) => values.iter_mut().zip(&v[at..to]).for_each(|(to, from)| *to = f32::from(*from)),
        Samples::F32(v) => values.copy_from_slice(&v[at..to]),
    }
}

/// How far before a place, counted in pixels, the pixel begins that holds it: 0 or less, more than -1.
fn begin(place: f64) -> f64 {
    let nearest = place.round();
    // Places of some 10^8 pixels are known to some 10^-8.
    if (place - nearest).abs() < ROUNDING { 0.0 } else { place.floor() - place }
}

/// The first source pixel of some taps and the one after the last; none if there is none.
fn span(taps: &[Taps]) -> Option<(usize, usize)> {
    let used = taps.iter().filter(|t| !t.weights.is_empty());
    let first = used.clone().map(|t| t.first).min()?;
    Some((first, used.map(|t| t.first + t.weights.len()).max()?))
}

/// The share of pixel `i` that each source pixel covers.
fn average(i: usize, factor: f64, offset: f64, length: usize) -> Taps {
    let (from, to) = (offset + i as f64 * factor, offset + (i + 1) as f64 * factor);
    let (from, to) = (from.max(0.0), to.min(length as f64));
    if to - from <= ROUNDING {
        return Taps { first: 0, weights: Vec::new() };
    }
    let first = from.floor() as usize;
    let last = (to.ceil() as usize).min(length);
    let weights = (first..last).map(|p| (to.min(p as f64 + 1.0) - from.max(p as f64)).max(0.0) / factor);
    Taps { first, weights: weights.map(|w| w as f32).collect() }
}

/// The two source pixels between whose centres that of pixel `i` lies.
fn bilinear(i: usize, factor: f64, offset: f64, length: usize) -> Taps {
    let centre = offset + (i as f64 + 0.5) * factor;
    // Beyond the outermost centres it is the outermost pixel.
    let place = (centre - 0.5).clamp(0.0, (length - 1) as f64);
    let first = place.floor() as usize;
    let beyond = (place - place.floor()) as f32;
    if first + 1 >= length || beyond == 0.0 {
        return Taps { first, weights: vec![1.0] };
    }
    Taps { first, weights: vec![1.0 - beyond, beyond] }
}

impl<R: Raster> Raster for Resampled<R> {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        self.raster.bands()
    }

    fn depth(&self) -> Depth {
        self.raster.depth()
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let mut patch = Patch::begin(&window, bands, self.size, self.raster.bands(), self.raster.depth())?;
        let side = (PART / self.factor).floor().max(1.0) as usize;
        for y in (0..window.height).step_by(side) {
            for x in (0..window.width).step_by(side) {
                let (width, height) = (side.min(window.width - x), side.min(window.height - y));
                let part = Window::new(window.x + x, window.y + y, width, height);
                self.part(part, bands, (x, y), &mut patch)?;
            }
        }
        Ok(patch.finish())
    }

    fn interpretation(&self) -> Interpretation {
        self.raster.interpretation()
    }

    fn decoded_blocks(&self) -> u64 {
        self.raster.decoded_blocks()
    }

    fn describe(&self) -> String {
        let (width, height) = self.size;
        let how = if self.factor > 1.0 { "averaged" } else { "interpolated" };
        format!("{}, {how} to {width} x {height} pixels of {:.3} times the size", self.raster.describe(), self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Crs;
    use crate::source::memory::{Memory, SampleSlice};

    fn read(raster: &mut impl Raster) -> (Vec<u8>, Vec<bool>) {
        let patch = raster.read(Window::whole(raster.size()), &[0]).expect("within");
        match patch.samples {
            Samples::U8(values) => (values, patch.valid),
            _ => panic!("other samples"),
        }
    }

    #[test]
    fn means_by_area_without_what_holds_no_data() {
        let samples = [0u8, 10, 20, 30, 40, 50, 60, 70, 80];
        let memory = |valid| Memory::new((3, 3), 1, SampleSlice::U8(&samples), valid).expect("fits");
        let mut half = Resampled::new(memory(&[]), 1.5).expect("a factor");
        // The first pixel: 1 x 0, 0.5 x 10, 0.5 x 30 and 0.25 x 40 of 2.25.
        assert_eq!(read(&mut half), (vec![13, 27, 53, 67], vec![]));
        let valid = [false, true, true, true, true, true, true, true, false];
        let mut half = Resampled::new(memory(&valid), 1.5).expect("a factor");
        // Of the first, 1.25 of 2.25 hold data: 30 / 1.25. Of the last 50, 70 and 40.
        assert_eq!(read(&mut half), (vec![24, 27, 53, 56], vec![]));
        let valid = [false, false, true, true, true, true, true, true, true];
        let mut half = Resampled::new(memory(&valid), 1.5).expect("a factor");
        assert_eq!(read(&mut half).1, [false, true, true, true]);
        // The second column reaches beyond the image.
        let mut third = Resampled::new(memory(&[]), 2.0).expect("a factor");
        assert_eq!(read(&mut third), (vec![20, 35, 65, 80], vec![]));
    }

    #[test]
    fn smaller_pixels_lie_between() {
        let samples = [0u8, 100];
        let memory = Memory::new((2, 1), 1, SampleSlice::U8(&samples), &[]).expect("fits");
        let mut double = Resampled::new(memory, 0.5).expect("a factor");
        assert_eq!(double.size(), (4, 2));
        assert_eq!(read(&mut double).0, [0, 25, 75, 100, 0, 25, 75, 100]);
        let memory = Memory::new((2, 1), 1, SampleSlice::U8(&samples), &[false, true]).expect("fits");
        let mut double = Resampled::new(memory, 0.5).expect("a factor");
        assert_eq!(read(&mut double).1, [false, false, true, true, false, false, true, true]);
    }

    #[test]
    fn the_grid_is_fixed_on_the_ground() {
        struct Placed(Georef);
        impl Raster for Placed {
            fn size(&self) -> (usize, usize) {
                (40, 30)
            }
            fn bands(&self) -> usize {
                1
            }
            fn depth(&self) -> Depth {
                Depth::F32
            }
            fn georef(&self) -> Option<&Georef> {
                Some(&self.0)
            }
            /// The sum of the coordinates of each pixel's centre.
            fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
                let mut patch = Patch::begin(&window, bands, self.size(), 1, Depth::F32)?;
                let place =
                    |i: usize| [(window.x + i % window.width) as f64 + 0.5, (window.y + i / window.width) as f64 + 0.5];
                let value = |i: usize| self.0.map(place(i)).iter().sum::<f64>() as f32;
                patch.samples = Samples::F32((0..window.pixels()).map(value).collect());
                Ok(patch)
            }
            fn describe(&self) -> String {
                String::new()
            }
        }
        let placed = |x: f64, y: f64, factor| {
            let georef = Georef { transform: [2.0, 0.0, x, 0.0, -2.0, y], crs: Crs::default() };
            Resampled::new(Placed(georef), factor).expect("a factor")
        };
        for factor in [1.7, 2.5, 0.6] {
            // One raster, and one that begins 7 columns and 3 rows further.
            let (mut one, mut other) = (placed(1000.0, 500.0, factor), placed(1014.0, 494.0, factor));
            let (from, to) = (one.georef().expect("placed").clone(), other.georef().expect("placed").clone());
            let step = |a: f64, b: f64, size: f64| (a - b) / size;
            let columns = step(to.transform[2], from.transform[2], from.transform[0]);
            let rows = step(to.transform[5], from.transform[5], from.transform[4]);
            assert!((columns - columns.round()).abs() < 1e-6 && (rows - rows.round()).abs() < 1e-6, "{columns} {rows}");
            let (x, y) = (columns.round() as usize, rows.round() as usize);
            let first = one.read(Window::new(x + 1, y + 1, 5, 6), &[0]).expect("within");
            let second = other.read(Window::new(1, 1, 5, 6), &[0]).expect("within");
            for i in 0..30 {
                let (a, b) = (first.sample(i % 5, i / 5, 0), second.sample(i % 5, i / 5, 0));
                assert!((a - b).abs() < 1e-2, "{factor}: {a} {b}");
                // And both are about what lies at the pixel's centre: the mean of pixels is not that of the ground.
                let [u, v] = to.map([(1 + i % 5) as f64 + 0.5, (1 + i / 5) as f64 + 0.5]);
                assert!((f64::from(b) - u - v).abs() < 0.5, "{factor}: {b} {}", u + v);
            }
        }
    }

    #[test]
    fn every_window_gives_the_same_pixels() {
        let samples: Vec<u8> = (0..120 * 90).map(|i| (i * 7919 % 251) as u8).collect();
        let valid: Vec<bool> = (0..120 * 90).map(|i| i % 13 != 0 && i % 400 > 60).collect();
        for factor in [0.37, 0.9, 1.3, 3.3, 50.0] {
            let memory = Memory::new((120, 90), 1, SampleSlice::U8(&samples), &valid).expect("fits");
            let mut raster = Resampled::new(memory, factor).expect("a factor");
            let (width, height) = raster.size();
            let (whole, mask) = read(&mut raster);
            for (x, y) in [(0, 0), (width / 3, height / 2), (width - 1, height - 1)] {
                let (w, h) = ((width - x).min(37), (height - y).min(11));
                let part = raster.read(Window::new(x, y, w, h), &[0]).expect("within");
                for i in 0..w * h {
                    let at = (y + i / w) * width + x + i % w;
                    assert_eq!(part.is_valid(i), mask.get(at).is_none_or(|v| *v));
                    assert_eq!(part.sample(i % w, i / w, 0), f32::from(whole[at]));
                }
            }
        }
        let memory = Memory::new((120, 90), 1, SampleSlice::U8(&samples), &valid).expect("fits");
        for factor in [0.0, -1.0, f64::NAN, 1e-9, 1e9] {
            assert!(Resampled::new(memory.clone(), factor).is_err(), "{factor}");
        }
    }
}
