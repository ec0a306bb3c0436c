//! Windows over an extent of any size, and the blending of their logits, row by row. No tensors.
//!
//! Neighbouring windows overlap by at least twice the halo. There each window's logits fade linearly towards its edge, so
//! that the result has no seams and pixels that lack context count least. Windows run in rows; a row of pixels is
//! finished as soon as no later window reaches it, so memory holds one row of windows, whatever the height.

use crate::logits::{Logits, classify, probabilities, to_byte};
use crate::mask::NO_DATA;

/// The windows over an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// Columns of the windows' left edges, ascending; the first is negative where the image is narrower than a window.
    pub xs: Vec<i64>,
    /// Rows of the windows' upper edges, ascending.
    pub ys: Vec<i64>,
    /// Side of a window in pixels.
    pub size: usize,
    /// Pixels over which a window fades at its edges.
    pub fade: usize,
}

impl Windows {
    /// Windows of side `size` over `width` x `height` pixels whose middles of side `tile` cover it.
    ///
    /// A side that fits into a window gets one window with the image in its middle.
    pub fn new(width: usize, height: usize, size: usize, tile: usize) -> Self {
        let fade = size - tile;
        Self { xs: positions(width, size, tile), ys: positions(height, size, tile), size, fade }
    }

    /// How many windows there are.
    pub fn count(&self) -> usize {
        self.xs.len() * self.ys.len()
    }

    /// The weight of the pixel at offset `i` within a window's side, more than 0 and at most 1.
    fn weight(&self, i: usize) -> f32 {
        weight(i, self.size, self.fade)
    }
}

/// The weight of the pixel at offset `i` within a window's side of `size` pixels that fades over `fade` pixels at its edges: more than
/// 0 and at most 1. Where neighbours overlap by exactly `fade` pixels, their weights sum to one.
pub(crate) fn weight(i: usize, size: usize, fade: usize) -> f32 {
    let from_edge = i.min(size - 1 - i) as f32 + 0.5;
    if fade == 0 { 1.0 } else { (from_edge / fade as f32).min(1.0) }
}

fn positions(length: usize, size: usize, tile: usize) -> Vec<i64> {
    if length <= size {
        return vec![-(((size - length) / 2) as i64)];
    }
    let beyond = length - size;
    let steps = beyond.div_ceil(tile);
    (0..=steps).map(|i| (i * beyond / steps) as i64).collect()
}

/// Finished rows of pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The first row's index in the image.
    pub top: usize,
    /// Class of each pixel, row by row; [`NO_DATA`] where there is no data.
    pub classes: Vec<u8>,
    /// Probability of that class, 0 to 255.
    pub confidence: Vec<u8>,
    /// Probability of every class, 0 to 255, pixel by pixel (`[rows, width, classes]`); empty unless asked for.
    pub probabilities: Vec<u8>,
}

/// Sums the windows' logits, and remembers which pixels hold data.
pub struct Blend {
    windows: Windows,
    width: usize,
    height: usize,
    classes: usize,
    with_probabilities: bool,
    /// First row of the image that is not finished.
    top: usize,
    /// Weighted sums of the rows from `top` on: `[rows, width, classes]`, then the weights `[rows, width]`.
    sums: Vec<f32>,
    weights: Vec<f32>,
    /// `[rows, width]`: whether a pixel holds data.
    valid: Vec<bool>,
    /// Class and confidence of the whole image, if something else has found them already.
    classified: Option<(Vec<u8>, Vec<u8>)>,
}

impl Blend {
    /// For an image of `width` x `height` pixels and `classes` channels.
    pub fn new(windows: Windows, width: usize, height: usize, classes: usize, with_probabilities: bool) -> Self {
        let (sums, weights, valid) = (Vec::new(), Vec::new(), Vec::new());
        Self { windows, width, height, classes, with_probabilities, top: 0, sums, weights, valid, classified: None }
    }

    /// Says which pixels of the window at column `x`, row `y` hold data: `[rows, columns]` of its part within the image, none
    /// if all do. Pixels that no window speaks of hold none.
    pub fn mark(&mut self, x: i64, y: i64, valid: &[bool]) {
        let size = self.windows.size;
        let rows = visible(y, size, self.height);
        let columns = visible(x, size, self.width);
        self.reserve(((y + rows.end as i64) as usize).saturating_sub(self.top) * self.width);
        for (i, row) in rows.enumerate() {
            let at = ((y + row as i64) as usize - self.top) * self.width + (x + columns.start as i64) as usize;
            let pixels = &mut self.valid[at..at + columns.len()];
            match valid.get(i * columns.len()..(i + 1) * columns.len()) {
                Some(valid) => pixels.copy_from_slice(valid),
                None => pixels.fill(true),
            }
        }
    }

    /// Whether one window covers the image and nobody asks for probabilities: then [`Blend::add_classified`] may stand for
    /// [`Blend::add`].
    pub fn takes_classified(&self) -> bool {
        self.windows.count() == 1 && !self.with_probabilities
    }

    /// Takes class and confidence of every pixel of an image that one window covers, instead of its logits.
    pub fn add_classified(&mut self, classes: Vec<u8>, confidence: Vec<u8>) {
        self.classified = Some((classes, confidence));
    }

    fn reserve(&mut self, pixels: usize) {
        if self.valid.len() < pixels {
            self.valid.resize(pixels, false);
        }
    }

    /// Adds the logits of the window at column `x`, row `y`, resampled to its pixels. Windows come row by row.
    pub fn add(&mut self, x: i64, y: i64, logits: &Logits) {
        let size = self.windows.size;
        let rows = visible(y, size, self.height);
        let columns = visible(x, size, self.width);
        let needed = ((y + rows.end as i64) as usize).saturating_sub(self.top) * self.width;
        if self.weights.len() < needed {
            self.weights.resize(needed, 0.0);
            self.sums.resize(needed * self.classes, 0.0);
        }
        let plane = size * size;
        for row in rows {
            let line = ((y + row as i64) as usize - self.top) * self.width;
            for column in columns.clone() {
                let weight = self.windows.weight(row) * self.windows.weight(column);
                let pixel = line + (x + column as i64) as usize;
                self.weights[pixel] += weight;
                let sums = &mut self.sums[pixel * self.classes..][..self.classes];
                for (class, sum) in sums.iter_mut().enumerate() {
                    *sum += weight * logits.values[class * plane + row * size + column];
                }
            }
        }
    }

    /// The row after the last that is finished once the windows at row index `done` have been added.
    fn end(&self, done: usize) -> usize {
        match self.windows.ys.get(done + 1) {
            Some(next) => (*next).max(0) as usize,
            None => self.height,
        }
    }

    /// In place of [`Blend::finish`], the blended logits of its rows, `[rows, width, classes]`, and which of their pixels hold data.
    #[cfg(feature = "train")]
    pub fn finish_logits(&mut self, done: usize) -> (Vec<f32>, Vec<bool>) {
        let end = self.end(done);
        let pixels = end.saturating_sub(self.top) * self.width;
        self.reserve(pixels);
        self.weights.resize(self.weights.len().max(pixels), 0.0);
        self.sums.resize(self.weights.len() * self.classes, 0.0);
        self.top = end;
        let weights: Vec<f32> = self.weights.drain(..pixels).collect();
        let mut logits: Vec<f32> = self.sums.drain(..pixels * self.classes).collect();
        for (logits, weight) in logits.chunks_exact_mut(self.classes).zip(weights) {
            // A pixel that no window has reached holds no data either.
            logits.iter_mut().for_each(|v| *v /= weight.max(f32::MIN_POSITIVE));
        }
        (logits, self.valid.drain(..pixels).collect())
    }

    /// The rows that are finished once the windows at row index `done` of [`Windows::ys`] have all been added.
    pub fn finish(&mut self, done: usize) -> Rows {
        let end = self.end(done);
        let pixels = end.saturating_sub(self.top) * self.width;
        self.reserve(pixels);
        let mut rows = match self.classified.take() {
            Some((classes, confidence)) => Rows { top: self.top, classes, confidence, probabilities: Vec::new() },
            None => self.classify(pixels),
        };
        for (i, valid) in self.valid.drain(..pixels).enumerate() {
            if !valid {
                rows.classes[i] = NO_DATA;
                rows.confidence[i] = 0;
                let at = i * self.classes;
                rows.probabilities.iter_mut().skip(at).take(self.classes).for_each(|p| *p = 0);
            }
        }
        self.top = end;
        rows
    }

    /// Class, confidence and probabilities of the next pixels, by the blended logits.
    fn classify(&mut self, pixels: usize) -> Rows {
        if self.weights.len() < pixels {
            self.weights.resize(pixels, 0.0);
            self.sums.resize(pixels * self.classes, 0.0);
        }
        let mut rows = Rows { top: self.top, ..Rows::default() };
        let mut logits = vec![0.0; self.classes];
        let mut bytes = vec![0; self.classes];
        for (sums, weight) in self.sums.chunks_exact(self.classes).zip(&self.weights).take(pixels) {
            if *weight == 0.0 {
                // No window has been here, so none has marked the pixel as valid either.
                rows.classes.push(NO_DATA);
                rows.confidence.push(0);
                bytes.fill(0);
            } else {
                for (logit, sum) in logits.iter_mut().zip(sums) {
                    *logit = sum / weight;
                }
                let (class, probability) = classify(&logits);
                rows.classes.push(class);
                rows.confidence.push(to_byte(probability));
                if self.with_probabilities {
                    probabilities(&logits, &mut bytes);
                }
            }
            if self.with_probabilities {
                rows.probabilities.extend_from_slice(&bytes);
            }
        }
        self.sums.drain(..pixels * self.classes);
        self.weights.drain(..pixels);
        rows
    }
}

/// The part of a window's side (offsets from its edge) that lies within `0 .. length`.
fn visible(at: i64, size: usize, length: usize) -> std::ops::Range<usize> {
    let start = (-at).max(0) as usize;
    let end = (length as i64 - at).min(size as i64) as usize;
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_size_and_overlap_by_the_halo() {
        for length in [1, 2, 447, 448, 449, 700, 1000, 50_000] {
            let windows = Windows::new(length, 1, 448, 256);
            let (first, last) = (windows.xs[0], windows.xs[windows.xs.len() - 1]);
            assert!(first <= 0 && last + 448 >= length as i64, "{length}: {first} {last}");
            assert!(windows.xs.windows(2).all(|w| w[1] - w[0] <= 256 && w[1] > w[0]), "{length}");
        }
    }

    #[test]
    fn blending_equal_logits_gives_them_back_everywhere() {
        let (width, height, size) = (75, 61, 32);
        let windows = Windows::new(width, height, size, 16);
        let mut blend = Blend::new(windows.clone(), width, height, 2, true);
        let plane = size * size;
        let logits =
            Logits { classes: 2, height: size, width: size, values: [vec![0.0; plane], vec![1.0; plane]].concat() };
        let mut all = Rows::default();
        for (i, &y) in windows.ys.iter().enumerate() {
            for &x in &windows.xs {
                blend.mark(x, y, &[]);
                blend.add(x, y, &logits);
            }
            let rows = blend.finish(i);
            assert_eq!(rows.top, all.classes.len() / width);
            all.classes.extend(rows.classes);
            all.confidence.extend(rows.confidence);
            all.probabilities.extend(rows.probabilities);
        }
        let sure = to_byte(1.0 / (1.0 + (-1.0f32).exp()));
        assert_eq!(all.classes, vec![1; width * height]);
        assert_eq!(all.confidence, vec![sure; width * height]);
        assert_eq!(all.probabilities, [255 - sure, sure].repeat(width * height));
    }

    #[test]
    fn pixels_that_no_window_marks_hold_no_data() {
        let windows = Windows::new(40, 20, 32, 16);
        let plane = 32 * 32;
        let logits =
            Logits { classes: 2, height: 32, width: 32, values: [vec![0.0; plane], vec![1.0; plane]].concat() };
        let mut blend = Blend::new(windows.clone(), 40, 20, 2, true);
        let (x, y) = (windows.xs[0], windows.ys[0]);
        let mut valid = vec![true; 32 * 20];
        valid[33] = false;
        blend.mark(x, y, &valid);
        blend.add(x, y, &logits);
        let rows = blend.finish(0);
        let empty = |i: usize| i % 40 >= 32 || i == 41;
        for i in 0..800 {
            assert_eq!(rows.classes[i], if empty(i) { NO_DATA } else { 1 }, "pixel {i}");
            assert_eq!(rows.confidence[i] == 0, empty(i));
            assert_eq!(rows.probabilities[2 * i + 1] == 0, empty(i));
        }
    }
}
