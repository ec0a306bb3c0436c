//! How well predicted class masks agree with labels: confusion matrix, accuracy, precision, recall, F1 and IoU.
//!
//! All figures come from one confusion matrix over all pixels of all samples, so that a sample weighs as much as it has
//! labelled pixels, and no figure is an average of averages. With `n[t][p]` pixels of true class `t` predicted as `p`:
//!
//! | of class `c` | |
//! |---|---|
//! | true positives | `TP = n[c][c]` |
//! | false positives | `FP = Σ_t n[t][c] - TP`: predicted as `c`, truly another class |
//! | false negatives | `FN = Σ_p n[c][p] - TP`: truly `c`, predicted as another class |
//! | precision (user's accuracy) | `TP / (TP + FP)` |
//! | recall (producer's accuracy) | `TP / (TP + FN)` |
//! | F1 (Dice coefficient) | `2 TP / (2 TP + FP + FN)` |
//! | IoU (Jaccard index) | `TP / (TP + FP + FN)` |
//!
//! Pixels labelled [`IGNORE`] count nowhere, whatever was predicted there. A quotient 0/0 is undefined: `None`, never 0
//! or 1, and it takes no part in a mean. Borders and objects are counted in [`counts`], confidences in [`confidence`]; [`quality`] has the figures of both. The figures equal scikit-learn's `accuracy_score`,
//! `precision_recall_fscore_support(zero_division=nan)` and `jaccard_score` on the labelled pixels.

use serde::{Deserialize, Serialize};

mod boundary;
mod objects;
pub mod confidence;
pub mod counts;
mod spread;
pub mod quality;

pub use boundary::BoundaryWidth;
pub use objects::LEAST_IOU;
pub use spread::{LEVEL, RESAMPLES};

use super::dataset::IGNORE;
use crate::error::{Error, ErrorKind, Result};

/// Pixels by true and predicted class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<u64>>", into = "Vec<Vec<u64>>")]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// An empty matrix of `classes` classes (background included).
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts the pixels of one mask. `truth` and `prediction` are class indices of the same pixels in the same order;
    /// those with [`IGNORE`] in `truth` are skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the lengths differ or a value is no class; nothing is counted then.
    pub fn add(&mut self, truth: &[u8], prediction: &[u8]) -> Result<()> {
        if truth.len() != prediction.len() {
            let message = format!("{} predicted pixels for {} labelled ones", prediction.len(), truth.len());
            return Err(Error::new(ErrorKind::Invalid, message).at("confusion matrix"));
        }
        let classes = self.counts.len();
        let labelled = || truth.iter().zip(prediction).filter(|(t, _)| **t != IGNORE);
        if let Some((t, p)) = labelled().find(|(t, p)| usize::from(**t.max(p)) >= classes) {
            let message = format!("label {t} predicted as {p}, but there are {classes} classes, from 0");
            return Err(Error::new(ErrorKind::Invalid, message).at("confusion matrix"));
        }
        for (&t, &p) in labelled() {
            self.counts[usize::from(t)][usize::from(p)] += 1;
        }
        Ok(())
    }

    /// Adds the counts of another matrix: the result is that of both sets of masks together.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it has another number of classes.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.counts.len() != other.counts.len() {
            let message = format!("{} classes cannot be added to {}", other.counts.len(), self.counts.len());
            return Err(Error::new(ErrorKind::Invalid, message).at("confusion matrix"));
        }
        for (count, more) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *count = count.saturating_add(*more);
        }
        Ok(())
    }

    /// Pixels, `counts()[truth][prediction]`; square.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }
}

impl TryFrom<Vec<Vec<u64>>> for Confusion {
    type Error = Error;

    /// Takes counts `[truth][prediction]`.
    fn try_from(counts: Vec<Vec<u64>>) -> Result<Self> {
        if counts.iter().all(|row| row.len() == counts.len()) {
            Ok(Self { counts })
        } else {
            Err(Error::new(ErrorKind::Invalid, "the rows are not as long as there are classes").at("confusion matrix"))
        }
    }
}

impl From<Confusion> for Vec<Vec<u64>> {
    fn from(confusion: Confusion) -> Self {
        confusion.counts
    }
}

/// How well one class was found. Fractions 0 to 1; `None` where the quotient is 0/0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// `TP / (TP + FP)`: how much of what was predicted as this class is of it. `None` if it was never predicted.
    pub precision: Option<f64>,
    /// `TP / (TP + FN)`: how much of this class was found. `None` if it never occurs in the labels.
    pub recall: Option<f64>,
    /// `2 TP / (2 TP + FP + FN)`, the harmonic mean of both. `None` if it neither occurs nor was predicted.
    pub f1: Option<f64>,
    /// `TP / (TP + FP + FN)`: intersection over union. `None` if it neither occurs nor was predicted.
    pub iou: Option<f64>,
    /// Pixels labelled as this class, `TP + FN`.
    pub pixels: u64,
    /// Labelled pixels predicted as this class, `TP + FP`.
    pub predicted: u64,
}

/// All figures of a confusion matrix. Fractions 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Pixel accuracy, `Σ_c n[c][c] / Σ_t Σ_p n[t][p]`; 0 if no pixel is labelled.
    pub accuracy: f64,
    /// The unweighted mean of the IoU of all classes that occur in labels or prediction, background included. `None` if
    /// no pixel is labelled.
    pub mean_iou: Option<f64>,
    /// The same without class 0. `None` if no other class occurs in labels or prediction.
    pub mean_iou_foreground: Option<f64>,
    /// The unweighted mean of the F1 of all classes that occur in labels or prediction (macro F1), background included.
    pub mean_f1: Option<f64>,
    /// The same without class 0.
    pub mean_f1_foreground: Option<f64>,
    /// Labelled pixels.
    pub pixels: u64,
    /// Each class, by index.
    pub classes: Vec<ClassMetrics>,
}

impl From<&Confusion> for Metrics {
    fn from(confusion: &Confusion) -> Self {
        let counts = confusion.counts();
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        let classes: Vec<ClassMetrics> = counts
            .iter()
            .enumerate()
            .map(|(c, row)| {
                let found = row[c];
                let pixels = sum(&mut row.iter().copied());
                let predicted = sum(&mut counts.iter().map(|row| row[c]));
                // TP + FP + FN
                let union = pixels.saturating_add(predicted - found);
                ClassMetrics {
                    precision: quotient(found as f64, predicted as f64),
                    recall: quotient(found as f64, pixels as f64),
                    f1: quotient(2.0 * found as f64, pixels as f64 + predicted as f64),
                    iou: quotient(found as f64, union as f64),
                    pixels,
                    predicted,
                }
            })
            .collect();
        let foreground = classes.get(1..).unwrap_or_default();
        let pixels = sum(&mut classes.iter().map(|c| c.pixels));
        let right = sum(&mut counts.iter().enumerate().map(|(c, row)| row[c]));
        Self {
            accuracy: quotient(right as f64, pixels as f64).unwrap_or(0.0),
            mean_iou: mean(&classes, |c| c.iou),
            mean_iou_foreground: mean(foreground, |c| c.iou),
            mean_f1: mean(&classes, |c| c.f1),
            mean_f1_foreground: mean(foreground, |c| c.f1),
            pixels,
            classes,
        }
    }
}

fn quotient(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The mean of what is defined.
fn mean(classes: &[ClassMetrics], figure: impl Fn(&ClassMetrics) -> Option<f64>) -> Option<f64> {
    let defined: Vec<f64> = classes.iter().filter_map(figure).collect();
    quotient(defined.iter().sum(), defined.len() as f64)
}
