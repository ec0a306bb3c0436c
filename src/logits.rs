//! Logits in memory: bilinear resampling to pixels, calibration, softmax, and the class of each pixel.

use serde::{Deserialize, Serialize};

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

/// What makes a network's logits probabilities that can be believed: `logit / temperature + bias` of the class.
///
/// A temperature alone (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>) changes confidences and no class; biases move the
/// border between classes (Alexandari et al. 2020, <https://arxiv.org/abs/1901.06852>). Both may be applied before or after
/// resampling and blending, whose weights sum to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Above 0; more than 1 makes the network less sure.
    pub temperature: f32,
    /// One for each class, background (0) included; empty for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bias: Vec<f32>,
}

impl Calibration {
    /// Factor of all logits and what is then added to those of `class`.
    pub fn terms(&self, class: usize) -> (f32, f32) {
        (1.0 / self.temperature, self.bias.get(class).copied().unwrap_or(0.0))
    }

    /// Calibrates logits.
    pub fn apply(&self, logits: &mut Logits) {
        let planes = logits.values.chunks_exact_mut((logits.height * logits.width).max(1));
        for (class, plane) in planes.enumerate() {
            let (factor, bias) = self.terms(class);
            plane.iter_mut().for_each(|v| *v = *v * factor + bias);
        }
    }
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
pub(crate) fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
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
    fn calibration_scales_and_shifts_whole_planes() {
        let mut logits = Logits { classes: 2, height: 1, width: 2, values: vec![2.0, 4.0, 6.0, 8.0] };
        let alone = Calibration { temperature: 2.0, bias: Vec::new() };
        alone.apply(&mut logits);
        assert_eq!(logits.values, [1.0, 2.0, 3.0, 4.0]);
        Calibration { temperature: 1.0, bias: vec![0.0, -3.0] }.apply(&mut logits);
        assert_eq!(logits.values, [1.0, 2.0, 0.0, 1.0]);
        let text = serde_json::to_string(&alone).expect("JSON");
        assert_eq!(text, r#"{"temperature":2.0}"#);
        assert_eq!(serde_json::from_str::<Calibration>(&text).expect("JSON"), alone);
    }

    #[test]
    fn probabilities_sum_to_one_and_the_first_of_equals_wins() {
        assert_eq!(classify(&[1.0, 3.0, 3.0]).0, 1);
        let mut bytes = [0; 3];
        probabilities(&[0.0, 1000.0, 1000.0], &mut bytes);
        assert_eq!(bytes, [0, 128, 128]);
    }
}
