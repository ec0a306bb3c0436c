//! Whether confidences mean something: reliability, expected calibration error, and what each threshold would give.
//!
//! Everything comes from counts by predicted class and confidence (0 to 255) *before* thresholds, so that a threshold's precision
//! and recall are exactly those of the mask that it makes ([`apply_thresholds`](crate::mask::apply_thresholds)).

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::train::dataset::IGNORE;

/// Bins of equal width, over 0 to 1, of the reliability curve and the expected calibration error (Guo et al. 2017).
pub const BINS: usize = 15;
/// Values of a confidence.
const LEVELS: usize = 256;

/// Pixels by predicted class and confidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confidences {
    classes: Vec<Counts>,
}

/// The pixels of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    /// Labelled pixels predicted as this class, by confidence.
    predicted: Vec<u64>,
    /// Of these, those that are labelled so.
    right: Vec<u64>,
    /// Pixels labelled as this class.
    labelled: u64,
}

/// Predictions of like confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its ends, 0 to 1; the upper one belongs to the next bin, but for the last.
    pub range: [f64; 2],
    /// Labelled pixels.
    pub pixels: u64,
    /// Their mean confidence, 0 to 1; `None` without pixels.
    pub confidence: Option<f64>,
    /// The part of them whose class is right; `None` without pixels.
    pub accuracy: Option<f64>,
}

/// What a threshold would make of a class. Fractions 0 to 1; a quotient 0/0 is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Least confidence of the pixels that stay this class, 0 to 1: half a step of 1/255 below the least that is kept.
    pub threshold: f32,
    /// How much of what stays is of the class.
    pub precision: Option<f64>,
    /// How much of the class is found.
    pub recall: Option<f64>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
    /// Intersection over union.
    pub iou: Option<f64>,
}

impl Confidences {
    /// None of `classes` classes yet.
    pub fn new(classes: usize) -> Self {
        let none = || Counts { predicted: vec![0; LEVELS], right: vec![0; LEVELS], labelled: 0 };
        Self { classes: (0..classes).map(|_| none()).collect() }
    }

    /// Counts the pixels of one mask before thresholds: labelled and predicted class, and confidence, of the same pixels in the
    /// same order; those with [`IGNORE`] in `truth` are skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the lengths differ or a value is no class; nothing is counted then.
    pub fn add(&mut self, truth: &[u8], prediction: &[u8], confidence: &[u8]) -> Result<()> {
        let classes = self.classes.len();
        let labelled = || truth.iter().zip(prediction).zip(confidence).filter(|((t, _), _)| **t != IGNORE);
        let fits = truth.len() == prediction.len() && truth.len() == confidence.len();
        if !fits || labelled().any(|((t, p), _)| usize::from(*t.max(p)) >= classes) {
            let message = format!("planes of different length, or a value that is none of {classes} classes");
            return Err(Error::new(ErrorKind::Invalid, message).at("confidences"));
        }
        for ((&t, &p), &c) in labelled() {
            self.classes[usize::from(t)].labelled += 1;
            let counts = &mut self.classes[usize::from(p)];
            counts.predicted[usize::from(c)] += 1;
            counts.right[usize::from(c)] += u64::from(t == p);
        }
        Ok(())
    }

    /// The reliability curve: all labelled pixels in [`BINS`] bins of equal width by the confidence of their class.
    pub fn reliability(&self) -> Vec<Bin> {
        let mut sums = [[0u64; 3]; BINS];
        for counts in &self.classes {
            for (level, (&predicted, &right)) in counts.predicted.iter().zip(&counts.right).enumerate() {
                // Level l stands for l / 255.
                let [pixels, confidence, correct] = &mut sums[(level * BINS / (LEVELS - 1)).min(BINS - 1)];
                *pixels += predicted;
                *confidence += predicted * level as u64;
                *correct += right;
            }
        }
        let bin = |(i, [pixels, confidence, right]): (usize, [u64; 3])| {
            let part = |sum: f64| (pixels > 0).then(|| sum / pixels as f64);
            Bin {
                range: [i as f64 / BINS as f64, (i + 1) as f64 / BINS as f64],
                pixels,
                confidence: part(confidence as f64 / (LEVELS - 1) as f64),
                accuracy: part(right as f64),
            }
        };
        sums.into_iter().enumerate().map(bin).collect()
    }

    /// The expected calibration error, 0 to 1: over the bins of [`Confidences::reliability`] the mean of |accuracy - confidence|,
    /// weighted by pixels. `None` if no pixel is labelled.
    pub fn calibration_error(&self) -> Option<f64> {
        let bins = self.reliability();
        let all: u64 = bins.iter().map(|bin| bin.pixels).sum();
        let gap = |bin: &Bin| Some(bin.pixels as f64 * (bin.accuracy? - bin.confidence?).abs());
        (all > 0).then(|| bins.iter().filter_map(gap).sum::<f64>() / all as f64)
    }

    /// What each threshold would make of class `class`, thresholds ascending, the first one 0 (none). Empty if there is no such class.
    pub fn curve(&self, class: usize) -> Vec<Point> {
        let Some(Counts { predicted, right, labelled }) = self.classes.get(class) else { return Vec::new() };
        let quotient = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let mut points = Vec::new();
        let (mut kept, mut found) = (0, 0);
        for level in (0..LEVELS).rev() {
            (kept, found) = (kept + predicted[level], found + right[level]);
            if predicted[level] == 0 && level > 0 {
                continue; // the same mask as the level above gives
            }
            points.push(Point {
                threshold: (level as f32 - 0.5).max(0.0) / (LEVELS - 1) as f32,
                precision: quotient(found, kept),
                recall: quotient(found, *labelled),
                f1: quotient(2 * found, labelled + kept),
                iou: quotient(found, labelled + kept - found),
            });
        }
        points.reverse();
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Class;
    use crate::mask::apply_thresholds;

    #[test]
    fn a_curve_says_what_a_threshold_will_make() {
        let truth = [1, 1, 0, 1, 0, 0, IGNORE, 1];
        let prediction = [1, 1, 1, 1, 1, 0, 1, 0];
        let confidence = [250, 200, 200, 150, 130, 255, 255, 180];
        let mut counts = Confidences::new(2);
        counts.add(&truth, &prediction, &confidence).expect("classes");
        let curve = counts.curve(1);
        assert_eq!(curve.len(), 5, "0, and four levels");
        for point in curve {
            let class = Class { index: 1, name: "a".into(), color: [0; 3], threshold: Some(point.threshold) };
            let (mut mask, mut sure) = (prediction.to_vec(), confidence.to_vec());
            apply_thresholds(&mut mask, &mut sure, &[class]);
            let pairs = || truth.iter().zip(&mask).filter(|(t, _)| **t != IGNORE);
            let kept = pairs().filter(|(_, p)| **p == 1).count() as f64;
            let found = pairs().filter(|(t, p)| **t == 1 && **p == 1).count() as f64;
            assert_eq!((point.precision, point.recall), (Some(found / kept), Some(found / 4.0)), "{point:?}");
        }
        assert!(counts.curve(2).is_empty());
        assert!(counts.add(&[0], &[0, 0], &[1]).is_err() && counts.add(&[0], &[2], &[1]).is_err());
    }

    #[test]
    fn the_error_is_the_gap_between_confidence_and_accuracy() {
        let mut counts = Confidences::new(2);
        assert_eq!(counts.calibration_error(), None);
        // Four pixels of confidence 1, of which three are right; two of 0.6 (153), of which one is.
        counts.add(&[1, 1, 1, 0, 0, 1], &[1, 1, 1, 1, 0, 0], &[255, 255, 255, 255, 153, 153]).expect("classes");
        let bins = counts.reliability();
        assert_eq!((bins[14].pixels, bins[14].accuracy, bins[14].confidence), (4, Some(0.75), Some(1.0)));
        assert_eq!((bins[9].pixels, bins[9].accuracy, bins[9].confidence), (2, Some(0.5), Some(0.6)));
        let error = counts.calibration_error().expect("pixels");
        assert!((error - (4.0 * 0.25 + 2.0 * 0.1) / 6.0).abs() < 1e-12, "{error}");
    }
}
