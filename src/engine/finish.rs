//! What is done to classified rows, once, for every face of the library.

use super::SegmentOptions;
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::mask::{ClassCounts, ClassMask, ClassStats, apply_thresholds};
use crate::mosaic::Rows;

/// Thresholds, small regions, and the counts of what is finished.
pub(crate) struct Finish {
    classes: Vec<Class>,
    min_pixels: u64,
    size: (usize, usize),
    counts: ClassCounts,
    /// Rows that wait for the last one, as removing small regions does.
    held: Rows,
}

impl Finish {
    /// For an image of `size` (width, height).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a threshold of no class or beyond 0 to 1.
    pub(crate) fn new(classes: &[Class], options: &SegmentOptions, size: (usize, usize)) -> Result<Self> {
        let mut limits = classes.to_vec();
        for &(index, threshold) in &options.thresholds {
            let class = limits.iter_mut().find(|c| c.index == index).filter(|_| (0.0..=1.0).contains(&threshold));
            let class = class.ok_or_else(|| {
                let message = format!("threshold {threshold} of class {index}, of {} classes", classes.len());
                Error::new(ErrorKind::Invalid, message).remedy("give a number from 0 to 1 for a class of the model")
            })?;
            class.threshold = Some(threshold);
        }
        let counts = ClassCounts::default();
        Ok(Self { classes: limits, min_pixels: options.min_pixels, size, counts, held: Rows::default() })
    }

    /// The finished rows of some classified ones, if they need not wait.
    pub(crate) fn rows(&mut self, mut rows: Rows) -> Option<Rows> {
        apply_thresholds(&mut rows.classes, &mut rows.confidence, &self.classes);
        if self.min_pixels > 1 {
            self.held.classes.append(&mut rows.classes);
            self.held.confidence.append(&mut rows.confidence);
            self.held.probabilities.append(&mut rows.probabilities);
            return None;
        }
        self.counts.add(&rows.classes, &rows.confidence);
        Some(rows)
    }

    /// The rows that waited, without small regions, in portions of at most so many rows.
    pub(crate) fn held(&mut self, rows: usize) -> Result<Vec<Rows>> {
        let Rows { classes, confidence, probabilities, .. } = std::mem::take(&mut self.held);
        if classes.is_empty() {
            return Ok(Vec::new());
        }
        let (width, height) = self.size;
        let mut mask = ClassMask::new(width, height, classes, confidence)?;
        mask.remove_small(self.min_pixels)?;
        self.counts.add(&mask.classes, &mask.confidence);
        let pixels = rows * width;
        let planes = mask.classes.chunks(pixels).zip(mask.confidence.chunks(pixels));
        let all = probabilities.len() / mask.classes.len();
        let portion = |(i, (classes, confidence)): (usize, (&[u8], &[u8]))| Rows {
            top: i * rows,
            classes: classes.to_vec(),
            confidence: confidence.to_vec(),
            probabilities: probabilities.iter().skip(i * pixels * all).take(classes.len() * all).copied().collect(),
        };
        Ok(planes.enumerate().map(portion).collect())
    }

    /// Finishes a mask that is there as a whole.
    pub(crate) fn whole(&self, mask: &mut ClassMask) -> Result<()> {
        mask.apply_thresholds(&self.classes);
        mask.remove_small(self.min_pixels)
    }

    /// Statistics of the finished rows, for each of `classes`, and how many of their pixels hold no data.
    pub(crate) fn counts(&self, classes: &[Class]) -> (Vec<ClassStats>, u64) {
        (self.counts.stats(classes), self.counts.without_data())
    }
}
