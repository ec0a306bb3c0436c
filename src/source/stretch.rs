//! The contrast of samples beyond 8 bits: a linear stretch of each channel.

use super::raster::{Depth, Raster, Samples, Window};
use crate::error::Result;

/// Percentiles between which samples are stretched, as GIS programs do by default.
const LOW_PERCENTILE: f64 = 0.02;
const HIGH_PERCENTILE: f64 = 0.98;
/// Images of at most so many pixels are measured whole. Of larger ones [`WINDOWS`] windows, which hold as many.
const MEASURED_PIXELS: usize = 1 << 20;
/// How many windows, spread evenly.
const WINDOWS: usize = 64;
/// Their side. They lie on a grid of it, so that one is within one tile of a tiled file.
const SIDE: usize = 128;

/// The linear stretch of each channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    /// Value that becomes 0, and 255 / (value that becomes 255 - that value).
    ranges: [(f32, f32); 3],
    /// Whether the result is turned around.
    inverted: bool,
}

impl Stretch {
    /// Finds the 2nd and 98th percentile of each channel. Samples of 8 bits, and whole numbers that never leave 0 to 255, are
    /// taken as they are. What is measured depends on the image and not on how its file is divided, so that the same
    /// samples give the same picture whatever holds them.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn measure(raster: &mut dyn Raster, colours: [usize; 3]) -> Result<Self> {
        let interpretation = raster.interpretation();
        let as_they_are = Self { ranges: [(0.0, 1.0); 3], inverted: interpretation.white_is_zero };
        if raster.depth() == Depth::U8 {
            return Ok(as_they_are);
        }
        let mut bands = colours.to_vec();
        bands.dedup();
        let mut values = vec![Vec::new(); bands.len()];
        for window in windows(raster.size()) {
            let patch = raster.read(window, &bands)?;
            let mut add = |at: usize, value: f32| {
                if patch.is_valid(at / bands.len()) {
                    values[at % bands.len()].push(value);
                }
            };
            match &patch.samples {
                Samples::U8(v) => v.iter().enumerate().for_each(|(i, v)| add(i, f32::from(*v))),
                Samples::U16(v) => v.iter().enumerate().for_each(|(i, v)| add(i, f32::from(*v))),
                Samples::F32(v) => v.iter().enumerate().for_each(|(i, v)| add(i, *v)),
            }
        }
        if interpretation.whole && values.iter().flatten().all(|v| (0.0..=255.0).contains(v)) {
            return Ok(as_they_are);
        }
        let found: Vec<(f32, f32)> = values.into_iter().map(range).collect();
        let of = |channel: usize| {
            let place = bands.iter().position(|b| *b == colours[channel]);
            place.and_then(|p| found.get(p)).copied().unwrap_or((0.0, 1.0))
        };
        Ok(Self { ranges: [of(0), of(1), of(2)], ..as_they_are })
    }

    /// Whether a channel's values change.
    pub(super) fn changes(&self) -> bool {
        self.ranges.iter().any(|r| *r != (0.0, 1.0))
    }

    /// A sample of a channel as a shade from 0 to 255; 0 if it is no number.
    pub(super) fn shade(&self, channel: usize, value: f32) -> u8 {
        let (low, scale) = self.ranges[channel.min(2)];
        let shade = ((value - low) * scale + 0.5).clamp(0.0, 255.0) as u8;
        if self.inverted { 255 - shade } else { shade }
    }

    /// Whether 8-bit samples stay as they are.
    pub(super) fn is_identity(&self) -> bool {
        !self.changes() && !self.inverted
    }
}

fn range(mut values: Vec<f32>) -> (f32, f32) {
    values.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| values.get((values.len().saturating_sub(1) as f64 * share).round() as usize).copied();
    let (low, high) = (at(LOW_PERCENTILE).unwrap_or(0.0), at(HIGH_PERCENTILE).unwrap_or(0.0));
    (low, if high > low { 255.0 / (high - low) } else { 0.0 })
}

/// The parts of an image that are measured.
fn windows((width, height): (usize, usize)) -> Vec<Window> {
    if width.saturating_mul(height) <= MEASURED_PIXELS {
        return vec![Window::whole((width, height))];
    }
    let (across, down) = (width.div_ceil(SIDE), height.div_ceil(SIDE));
    let half = WINDOWS.isqrt();
    let columns = across.min(WINDOWS / down.min(half));
    let rows = down.min(WINDOWS / columns);
    let place = |i: usize, count: usize, of: usize| (2 * i + 1) * of / (2 * count) * SIDE;
    let each = |row: usize| (0..columns).map(move |column| (column, row));
    (0..rows)
        .flat_map(each)
        .map(|(column, row)| {
            let (x, y) = (place(column, columns, across), place(row, rows, down));
            Window { x, y, width: SIDE.min(width - x), height: SIDE.min(height - y) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_within_the_image_and_spread_over_it() {
        for size in [(1, 1), (1024, 1024), (1025, 1024), (8192, 16_384), (3_000_000, 5), (7, 400_000), (1300, 900)] {
            let all = windows(size);
            assert!(all.len() <= WINDOWS, "{size:?}");
            for window in &all {
                window.check(size).expect("within the image");
            }
            if size.0 * size.1 > MEASURED_PIXELS {
                assert!(all.len() > WINDOWS / 2, "{size:?}: {}", all.len());
                let (left, right) = (all.iter().map(|w| w.x).min(), all.iter().map(|w| w.x + w.width).max());
                assert!(left <= Some(size.0 / 4) && right >= Some(size.0 - size.0 / 4), "{size:?}");
            }
        }
    }

    #[test]
    fn percentiles() {
        let (low, scale) = range((0..=1000u16).rev().map(f32::from).collect());
        assert_eq!((low, (255.0 / scale).round()), (20.0, 960.0));
        assert_eq!(range(vec![5.0; 9]), (5.0, 0.0));
        assert_eq!(range(Vec::new()), (0.0, 0.0));
    }
}
