//! A temperature and biases that make confidences true on the validation samples.
//!
//! The mean negative log-likelihood of the labels is lowered over `softmax(logit / temperature + bias)`. With the temperature's
//! inverse as the number sought it is convex. Biases move the border between classes, so they are kept only where they help the
//! masks as well as the confidences: rare classes are predicted too often after Dice losses, and seldom with plain cross-entropy.

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, IGNORE};
use super::metrics::confidence::Confidences;
use super::metrics::{Confusion, Metrics};
use crate::engine::Segmenter;
use crate::error::Result;
use crate::logits::{Calibration, classify, to_byte};
use crate::random::SplitMix;
use crate::source::Memory;

/// Numbers (pixels times classes) that are fitted to: neighbouring pixels say much the same, so more tell little.
const MAX_NUMBERS: usize = 1 << 21;
/// Temperatures that are found: beyond, all pixels are right or none can be told.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// The most a bias may be: a class that hardly occurs would be never or always predicted.
const MAX_BIAS: f64 = 10.0;
/// Rounds of the fit, and the fall of the loss in one below which it ends.
const ROUNDS: usize = 200;
const STILL_FALLING: f64 = 1e-9;
/// Biases are kept if they lower the loss by this part at least.
const WORTH_A_BIAS: f64 = 1e-3;

/// Logits of labelled pixels, uncalibrated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Classes, background included.
    pub classes: usize,
    /// `[pixels, classes]`.
    pub logits: Vec<f32>,
    /// `[pixels]`: class indices.
    pub truth: Vec<u8>,
}

/// A calibration, and what it changed on the very pixels that it was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibrated {
    /// What was found.
    pub calibration: Calibration,
    /// Pixels that it was fitted to.
    pub pixels: usize,
    /// Mean negative log-likelihood of the labels before and after, natural logarithm.
    pub log_loss: [f64; 2],
    /// Expected calibration error before and after, 0 to 1.
    pub calibration_error: [f64; 2],
}

impl Samples {
    /// Labelled pixels of the chips `indices`, drawn evenly by a fixed seed, with the logits that the pipeline finds classes by. The
    /// data's classes must be the model's, and the model not be calibrated. `progress` gets chips done.
    ///
    /// # Errors
    /// Those of reading and segmenting.
    pub fn draw(
        segmenter: &Segmenter,
        dataset: &Dataset,
        indices: &[usize],
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let classes = segmenter.manifest().classes.len();
        let mut samples = Self { classes, ..Self::default() };
        let wanted = (MAX_NUMBERS / classes.max(1) / indices.len().max(1)).max(1);
        let mut random = SplitMix(0);
        for (done, &index) in indices.iter().enumerate() {
            let chip = dataset.read(index)?;
            let labelled = chip.labels.iter().filter(|label| **label != IGNORE).count().max(1);
            let mut image = Memory::new((chip.width, chip.height), chip.bands, (&chip.samples).into(), &[])?;
            let mut labels = chip.labels.iter();
            let keep = |logits: &[f32], valid: &[bool]| {
                for ((pixel, valid), label) in logits.chunks_exact(classes).zip(valid).zip(&mut labels) {
                    let drawn = (random.next_u64() % labelled as u64) < wanted as u64;
                    if drawn && *valid && *label != IGNORE {
                        samples.logits.extend_from_slice(pixel);
                        samples.truth.push(*label);
                    }
                }
            };
            pollster::block_on(segmenter.blended_logits(&mut image, keep))?;
            progress(done + 1);
        }
        Ok(samples)
    }

    /// The calibration that fits best; `None` if there is nothing to fit to.
    pub fn fit(&self) -> Option<Calibrated> {
        if self.truth.is_empty() || self.classes < 2 {
            return None;
        }
        let none = Calibration { temperature: 1.0, bias: Vec::new() };
        let alone = self.descend(false);
        let mut best = alone.clone();
        let biased = self.descend(true);
        let iou = |calibration: &Calibration| self.measure(calibration).1;
        if self.log_loss(&biased) < self.log_loss(&alone) * (1.0 - WORTH_A_BIAS) && iou(&biased) >= iou(&alone) {
            best = biased;
        }
        Some(Calibrated {
            pixels: self.truth.len(),
            log_loss: [&none, &best].map(|c| self.log_loss(c)),
            calibration_error: [&none, &best].map(|c| self.measure(c).0),
            calibration: best,
        })
    }

    /// Mean negative log-likelihood of the labels under a calibration.
    pub fn log_loss(&self, calibration: &Calibration) -> f64 {
        let terms: Vec<(f32, f32)> = (0..self.classes).map(|class| calibration.terms(class)).collect();
        let mut sum = 0.0;
        self.each(|logits, truth, p| {
            p.iter_mut().zip(logits).zip(&terms).for_each(|((p, z), (f, b))| *p = f64::from(z * f + b));
            sum += softmax(p, truth);
        });
        sum / self.truth.len().max(1) as f64
    }

    /// Calibration error and mean IoU without background (0 if undefined) under a calibration.
    fn measure(&self, calibration: &Calibration) -> (f64, f64) {
        let (mut classes, mut sure) = (Vec::new(), Vec::new());
        let mut calibrated = vec![0.0; self.classes];
        for logits in self.logits.chunks_exact(self.classes) {
            for (class, (out, z)) in calibrated.iter_mut().zip(logits).enumerate() {
                let (factor, bias) = calibration.terms(class);
                *out = z * factor + bias;
            }
            let (class, probability) = classify(&calibrated);
            classes.push(class);
            sure.push(to_byte(probability));
        }
        let (mut confidences, mut confusion) = (Confidences::new(self.classes), Confusion::new(self.classes));
        // Lengths and classes are those of the samples.
        let counted = confidences.add(&self.truth, &classes, &sure).and(confusion.add(&self.truth, &classes));
        let iou = Metrics::from(&confusion).mean_iou_foreground;
        (confidences.calibration_error().filter(|_| counted.is_ok()).unwrap_or(0.0), iou.unwrap_or(0.0))
    }

    /// Lowers the loss in turn along the inverse temperature (Newton's step) and along the biases: to each the logarithm of how many
    /// times too seldom its class is expected is added (iterative scaling, which never raises the loss).
    fn descend(&self, with_bias: bool) -> Calibration {
        let mut inverse = 1.0f64;
        let mut bias = vec![0.0f64; self.classes];
        let mut labelled = vec![0.0f64; self.classes];
        self.truth.iter().for_each(|t| labelled[usize::from(*t)] += 1.0);
        let (mut last, mut still) = (f64::INFINITY, 0);
        for round in 0..ROUNDS {
            // Of the loss along the inverse temperature: slope and curvature. Of each class: pixels expected.
            let (mut loss, mut slope, mut curve) = (0.0, 0.0, 0.0);
            let mut expected = vec![0.0f64; self.classes];
            self.each(|logits, truth, p| {
                p.iter_mut().zip(logits).zip(&bias).for_each(|((p, z), b)| *p = f64::from(*z) * inverse + b);
                loss += softmax(p, truth);
                let mean: f64 = p.iter().zip(logits).map(|(p, z)| p * f64::from(*z)).sum();
                slope += mean - f64::from(logits[truth]);
                curve += p.iter().zip(logits).map(|(p, z)| p * (f64::from(*z) - mean).powi(2)).sum::<f64>();
                expected.iter_mut().zip(&*p).for_each(|(sum, p)| *sum += p);
            });
            loss /= self.truth.len() as f64;
            // Once neither of both lowers it.
            still = if (last - loss).abs() < STILL_FALLING { still + 1 } else { 0 };
            if still == 2 {
                break;
            }
            last = loss;
            if with_bias && round % 2 == 1 {
                for ((bias, labelled), expected) in bias.iter_mut().zip(&labelled).zip(&expected) {
                    // What never occurs says nothing of how rare it is.
                    if *labelled > 0.0 && *expected > 0.0 {
                        *bias += (labelled / expected).ln();
                    }
                }
                let background = bias[0];
                bias.iter_mut().for_each(|b| *b = (*b - background).clamp(-MAX_BIAS, MAX_BIAS));
                continue;
            }
            // At most twice or half as sure in a round: far from the lowest place, Newton's step is too long.
            let step = inverse - slope / curve.max(f64::MIN_POSITIVE);
            inverse = step.clamp(inverse / 2.0, inverse * 2.0).clamp(1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]);
        }
        let bias = if with_bias { bias.into_iter().map(|b| b as f32).collect() } else { Vec::new() };
        Calibration { temperature: (1.0 / inverse) as f32, bias }
    }

    /// Gives each pixel's logits, its class, and room for a number a class.
    fn each(&self, mut pixel: impl FnMut(&[f32], usize, &mut [f64])) {
        let mut room = vec![0.0; self.classes];
        for (logits, truth) in self.logits.chunks_exact(self.classes).zip(&self.truth) {
            pixel(logits, usize::from(*truth), &mut room);
        }
    }
}

/// Makes logits probabilities; gives the negative logarithm of that of `truth`.
fn softmax(logits: &mut [f64], truth: usize) -> f64 {
    let peak = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let of_truth = logits[truth] - peak;
    logits.iter_mut().for_each(|v| *v = (*v - peak).exp());
    let total: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|v| *v /= total);
    total.ln() - of_truth
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels whose labels are drawn by `softmax(logits)`, with logits that are then multiplied by `sure` and shifted by `shift`.
    fn drawn(sure: f32, shift: [f32; 3]) -> Samples {
        let mut random = SplitMix(3);
        let mut samples = Samples { classes: 3, ..Samples::default() };
        for _ in 0..20_000 {
            let logits: Vec<f32> = (0..3).map(|class| 2.0 * random.uniform() - class as f32).collect();
            let mut p: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
            softmax(&mut p, 0);
            let at = (f64::from(random.uniform()) + 1.0) / 2.0;
            let truth = if at < p[0] { 0 } else { 1 + u8::from(at >= p[0] + p[1]) };
            samples.truth.push(truth);
            samples.logits.extend(logits.iter().zip(shift).map(|(v, shift)| sure * (v + shift)));
        }
        samples
    }

    #[test]
    fn what_made_a_network_too_sure_is_found_and_undone() {
        let samples = drawn(3.0, [0.0; 3]);
        let found = samples.fit().expect("samples");
        assert!((found.calibration.temperature - 3.0).abs() < 0.15, "{found:?}");
        assert!(found.log_loss[1] < found.log_loss[0], "{found:?}");
        assert!(found.calibration_error[0] > 0.1 && found.calibration_error[1] < 0.02, "{found:?}");
        assert!(drawn(0.5, [0.0; 3]).fit().expect("samples").calibration.temperature < 0.55);
    }

    #[test]
    fn a_class_that_is_never_predicted_gets_a_bias() {
        let samples = drawn(1.0, [0.0, 0.0, -3.0]);
        let found = samples.fit().expect("samples");
        let [_, one, two] = found.calibration.bias[..] else { panic!("no bias: {found:?}") };
        assert!(one.abs() < 0.15 && (two - 3.0).abs() < 0.15, "{found:?}");
        // No bias where it would lower the IoU or tell nothing.
        assert_eq!(drawn(1.0, [0.0; 3]).fit().expect("samples").calibration.bias, [0.0f32; 0]);
    }

    #[test]
    fn nothing_to_fit_to_and_nothing_wrong_are_no_trouble() {
        assert_eq!(Samples { classes: 2, ..Samples::default() }.fit(), None);
        let perfect = Samples { classes: 2, logits: [[9.0, -9.0], [-9.0, 9.0]].concat(), truth: vec![0, 1] };
        let found = perfect.fit().expect("samples").calibration;
        assert!((f64::from(found.temperature) - TEMPERATURES[0]).abs() < 1e-3 || found.temperature < 1.0, "{found:?}");
    }
}
