//! From the logits of windows to classes and confidences of a part of the raster.

use rayon::prelude::*;

use crate::logits::{Logits, classify, taps, to_byte};
use crate::mask::NO_DATA;
use crate::mosaic::weight;
use crate::source::Window;

/// A window's low-resolution logits at its place.
pub struct Placed<'a> {
    /// Column of the raster at which the window begins; it may lie outside.
    pub x: i64,
    /// Row of the raster at which it begins.
    pub y: i64,
    /// `[classes, n, n]`, n the same for all.
    pub logits: &'a Logits,
}

/// Class and confidence of the pixels of `part`, row by row: the logits of all windows that have a pixel, resampled bilinearly, in the
/// mean by weights that fade over `fade` pixels towards a window's edge. [`NO_DATA`] where `valid` (`[height, width]` of `part`) says
/// so, or where no window is.
///
/// Windows of `size` pixels are added in the order given. If that is the same for every part, so is the result, bit for bit.
pub fn blend(part: Window, windows: &[Placed<'_>], valid: &[bool], size: usize, fade: usize) -> (Vec<u8>, Vec<u8>) {
    let mut classes = vec![NO_DATA; part.pixels()];
    let mut confidence = vec![0; part.pixels()];
    let Some(first) = windows.first() else { return (classes, confidence) };
    let side = first.logits.width;
    let line = Line {
        part,
        windows,
        weights: (0..size).map(|i| weight(i, size, fade)).collect(),
        taps: taps(side, size),
        side,
        classes: first.logits.classes,
    };
    let rows = classes.par_chunks_mut(part.width).zip(confidence.par_chunks_mut(part.width));
    let rows = rows.zip(valid.par_chunks(part.width)).enumerate();
    rows.for_each(|(row, ((classes, confidence), valid))| line.row(row, valid, classes, confidence));
    (classes, confidence)
}

/// What all rows share.
struct Line<'a> {
    part: Window,
    windows: &'a [Placed<'a>],
    /// Weight and neighbours (with the second one's share) of each pixel of a window's side.
    weights: Vec<f32>,
    taps: Vec<(usize, usize, f32)>,
    side: usize,
    classes: usize,
}

impl Line<'_> {
    fn row(&self, row: usize, valid: &[bool], out: &mut [u8], confidence: &mut [u8]) {
        if !valid.contains(&true) {
            return;
        }
        let (width, side) = (self.part.width, self.side);
        let mut sums = vec![0.0f32; self.classes * width];
        let mut total = vec![0.0f32; width];
        let (left, y) = (self.part.x as i64, (self.part.y + row) as i64);
        for window in self.windows {
            let Some(&(top, bottom, down)) = usize::try_from(y - window.y).ok().and_then(|i| self.taps.get(i)) else {
                continue;
            };
            let of_row = self.weights[(y - window.y) as usize];
            let from = window.x.max(left);
            let to = (window.x + self.taps.len() as i64).min(left + width as i64);
            if from >= to {
                continue;
            }
            // The same pixels, within the part and within the window.
            let pixels = (from - left) as usize..(to - left) as usize;
            let inside = (from - window.x) as usize..(to - window.x) as usize;
            let (taps, weights) = (&self.taps[inside.clone()], &self.weights[inside]);
            for (total, of_column) in total[pixels.clone()].iter_mut().zip(weights) {
                *total += of_row * of_column;
            }
            let planes = window.logits.values.chunks_exact(side * side);
            for (sums, plane) in sums.chunks_exact_mut(width).zip(planes) {
                let (top, bottom) = (&plane[top * side..][..side], &plane[bottom * side..][..side]);
                let each = sums[pixels.clone()].iter_mut().zip(taps).zip(weights);
                for ((sum, &(left, right, across)), of_column) in each {
                    // As `Logits::resize`.
                    let above = top[left] + (top[right] - top[left]) * across;
                    let below = bottom[left] + (bottom[right] - bottom[left]) * across;
                    *sum += of_row * of_column * (above + (below - above) * down);
                }
            }
        }
        let mut logits = vec![0.0; self.classes];
        for (x, total) in total.iter().enumerate() {
            if !valid[x] || *total == 0.0 {
                continue;
            }
            for (logit, sums) in logits.iter_mut().zip(sums.chunks_exact(width)) {
                *logit = sums[x] / total;
            }
            let (class, probability) = classify(&logits);
            (out[x], confidence[x]) = (class, to_byte(probability));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::Grid;
    use crate::georef::{Crs, Georef};

    /// The sum of all windows' weights at each pixel of a row.
    fn sums(grid: &Grid, input: usize, tile: usize, length: usize) -> Vec<f32> {
        let mut all = vec![0.0; length];
        for cell in grid.cells_touching(0, 0, length) {
            let (from, to) = grid.window_part(0, cell);
            for (x, sum) in all.iter_mut().enumerate().take(to).skip(from) {
                *sum += weight((x as i64 - grid.window_start(0, cell)) as usize, input, input - tile);
            }
        }
        all
    }

    #[test]
    fn weights_sum_to_one_at_every_pixel() {
        for (input, tile) in [(96, 72), (448, 256), (672, 512), (256, 128), (97, 72), (96, 96)] {
            for origin in [0.0, -17.0, 1000.0, 300_001.0] {
                let georef = Georef { transform: [1.0, 0.0, origin, 0.0, -1.0, 0.0], crs: Crs::from_epsg(32_633) };
                let grid = Grid::new((2000, 1), Some(&georef), input, tile).expect("valid");
                for (x, sum) in sums(&grid, input, tile, 2000).into_iter().enumerate() {
                    // Where the raster ends there are no windows beyond: there the sum is less, and divided by.
                    let is_inner = (input..2000 - input).contains(&x);
                    assert!(sum > 0.0 && sum < 1.0 + 1e-5, "{input} {tile} {origin} {x}: {sum}");
                    assert!(!is_inner || (sum - 1.0).abs() < 1e-5, "{input} {tile} {origin} {x}: {sum}");
                }
            }
        }
        // Where more than two windows overlap, sums exceed one: they are divided by all the same.
        let grid = Grid::new((2000, 1), None, 96, 40).expect("valid");
        assert!(sums(&grid, 96, 40, 2000).into_iter().all(|sum| sum > 0.0));
    }

    #[test]
    fn equal_logits_come_back_everywhere_and_parts_are_those_of_the_whole() {
        let (input, tile, size) = (96, 72, (301, 203));
        let georef = Georef { transform: [1.0, 0.0, 55.0, 0.0, -1.0, 31.0], crs: Crs::from_epsg(32_633) };
        let grid = Grid::new(size, Some(&georef), input, tile).expect("valid");
        let constant = |value: f32| Logits {
            classes: 2,
            height: 24,
            width: 24,
            values: [vec![0.0; 576], vec![value; 576]].concat(),
        };
        let run = |part: Window, value: &dyn Fn(i64, i64) -> f32| {
            let cells = |axis, from, length| grid.cells_touching(axis, from, from + length);
            let mut all = Vec::new();
            for row in cells(1, part.y, part.height) {
                for column in cells(0, part.x, part.width) {
                    let at = (grid.window_start(0, column), grid.window_start(1, row));
                    all.push((at, constant(value(row, column))));
                }
            }
            let placed: Vec<_> = all.iter().map(|((x, y), logits)| Placed { x: *x, y: *y, logits }).collect();
            blend(part, &placed, &vec![true; part.pixels()], input, input - tile)
        };
        let sure = to_byte(1.0 / (1.0 + (-1.0f32).exp()));
        let (classes, confidence) = run(Window::whole(size), &|_, _| 1.0);
        assert!(classes.iter().all(|c| *c == 1) && confidence.iter().all(|c| *c == sure));
        // Windows that disagree: every part is the whole's, bit for bit.
        let differs = |row: i64, column: i64| ((row * 7 + column * 3) % 5) as f32 - 2.0;
        let whole = run(Window::whole(size), &differs);
        for part in [Window::new(0, 0, 10, 10), Window::new(71, 33, 100, 90), Window::new(300, 202, 1, 1)] {
            let found = run(part, &differs);
            for (i, (class, sure)) in found.0.iter().zip(&found.1).enumerate() {
                let at = (part.y + i / part.width) * size.0 + part.x + i % part.width;
                assert_eq!((*class, *sure), (whole.0[at], whole.1[at]), "{part:?} {i}");
            }
        }
    }
}
