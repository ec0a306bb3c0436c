//! Logits in memory: bilinear resampling to pixels, softmax, and the class of each pixel.

/// Logits of every class, `[classes, height, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// Classes including background (channel 0).
    pub classes: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `classes * height * width` numbers.
    pub values: Vec<f32>,
}

impl Logits {
    /// Resamples to `height` x `width`, bilinearly without aligning corners: `F.interpolate(mode="bilinear",
    /// align_corners=False)` of PyTorch, as SAM's `postprocess_masks` does.
    #[must_use]
    pub fn resize(&self, height: usize, width: usize) -> Self {
        let columns = taps(self.width, width);
        let rows = taps(self.height, height);
        let mut values = Vec::with_capacity(self.classes * height * width);
        for plane in self.values.chunks_exact(self.height * self.width) {
            for &(top, bottom, down) in &rows {
                let top = &plane[top * self.width..][..self.width];
                let bottom = &plane[bottom * self.width..][..self.width];
                values.extend(columns.iter().map(|&(left, right, across)| {
                    let above = top[left] + (top[right] - top[left]) * across;
                    let below = bottom[left] + (bottom[right] - bottom[left]) * across;
                    above + (below - above) * down
                }));
            }
        }
        Self { classes: self.classes, height, width, values }
    }
}

/// For each of `to` samples on a line of `from`: the two neighbours and the weight (0 to 1) of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let tap = |i: usize| {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        (low, (low + 1).min(from - 1), (at - low as f64) as f32)
    };
    (0..to).map(tap).collect()
}

/// The class of the largest of one pixel's logits (the first, if several are equal) and its probability, 0 to 1.
pub fn classify(logits: &[f32]) -> (u8, f32) {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = i;
        }
    }
    let total: f32 = logits.iter().map(|v| (v - logits[best]).exp()).sum();
    (best as u8, 1.0 / total)
}

/// The probability of each class of one pixel, 0 to 255, rounded.
pub fn probabilities(logits: &[f32], out: &mut [u8]) {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|v| (v - peak).exp()).sum();
    for (out, v) in out.iter_mut().zip(logits) {
        *out = to_byte((v - peak).exp() / total);
    }
}

/// A number of 0 to 1 as 0 to 255.
pub fn to_byte(unit: f32) -> u8 {
    (unit * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_a_ramp_and_its_ends() {
        let ramp = Logits { classes: 1, height: 1, width: 4, values: vec![0.0, 4.0, 8.0, 12.0] };
        let wide = ramp.resize(2, 16);
        // the outer half cell repeats the end, inside the slope is 1 a sample
        let row: Vec<f32> = (0..16).map(|i| (i as f32 - 1.5).clamp(0.0, 12.0)).collect();
        assert_eq!(wide.values, [row.clone(), row].concat());
    }

    #[test]
    fn probabilities_sum_to_one_and_the_first_of_equals_wins() {
        assert_eq!(classify(&[1.0, 3.0, 3.0]).0, 1);
        let mut bytes = [0; 3];
        probabilities(&[0.0, 1000.0, 1000.0], &mut bytes);
        assert_eq!(bytes, [0, 128, 128]);
    }
}
