//! The result of a segmentation: one class and its probability per pixel. No tensors, no files.

use serde::Serialize;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};

pub(crate) mod regions;

use regions::Regions;

/// A class and its probability for every pixel of an image. Both planes are row-major `[height, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMask {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// `[height, width]`: the class index of each pixel; 0 is background.
    pub classes: Vec<u8>,
    /// `[height, width]`: probability of that class, 0 to 255 for 0 to 1.
    pub confidence: Vec<u8>,
}

/// What a mask holds of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassStats {
    /// The class index.
    pub index: u8,
    /// The class's name.
    pub name: String,
    /// How many pixels have it.
    pub pixels: u64,
    /// Their share of all pixels, 0 to 1.
    pub share: f64,
    /// Mean probability over those pixels, 0 to 1; 0 where there are none.
    pub mean_confidence: f64,
}

impl ClassMask {
    /// Wraps two planes of `width * height` values.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a side is zero or a plane has another length.
    pub fn new(width: usize, height: usize, classes: Vec<u8>, confidence: Vec<u8>) -> Result<Self> {
        check_plane("class mask", classes.len(), width, height)?;
        check_plane("confidence mask", confidence.len(), width, height)?;
        Ok(Self { width, height, classes, confidence })
    }

    /// Pixels, share and mean confidence of each class, in the order given.
    pub fn stats(&self, classes: &[Class]) -> Vec<ClassStats> {
        let mut pixels = [0u64; 256];
        let mut sums = [0u64; 256];
        for (&class, &confidence) in self.classes.iter().zip(&self.confidence) {
            pixels[usize::from(class)] += 1;
            sums[usize::from(class)] += u64::from(confidence);
        }
        let all = self.classes.len().max(1) as f64;
        classes
            .iter()
            .map(|class| {
                let (n, sum) = (pixels[usize::from(class.index)], sums[usize::from(class.index)]);
                ClassStats {
                    index: class.index,
                    name: class.name.clone(),
                    pixels: n,
                    share: n as f64 / all,
                    mean_confidence: if n == 0 { 0.0 } else { sum as f64 / (255.0 * n as f64) },
                }
            })
            .collect()
    }

    /// Makes background of every pixel whose confidence is below its class's threshold.
    ///
    /// The confidence of such a pixel becomes `255 - confidence`: the probability that it is *not* the rejected class.
    /// A threshold on background itself has no effect.
    pub fn apply_thresholds(&mut self, classes: &[Class]) {
        // A confidence c stands for c / 255, so it is below threshold t if c < t * 255.
        let mut least = [0.0f32; 256];
        for class in classes.iter().filter(|c| c.index != 0) {
            least[usize::from(class.index)] = class.threshold.unwrap_or(0.0) * 255.0;
        }
        for (class, confidence) in self.classes.iter_mut().zip(&mut self.confidence) {
            if f32::from(*confidence) < least[usize::from(*class)] {
                *class = 0;
                *confidence = 255 - *confidence;
            }
        }
    }

    /// Gives every connected region (4-connectivity, background included) of fewer than `min_pixels` pixels the class
    /// with which it shares the longest border, as GDAL's sieve filter does: specks vanish, pinholes are filled.
    ///
    /// One pass: only neighbours that are large enough themselves count; a region without such a neighbour becomes
    /// background. Ties go to the lower class index. The confidence of a changed pixel becomes `255 - confidence`, the
    /// most that is left for its new class.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the planes do not have the mask's size.
    pub fn remove_small(&mut self, min_pixels: u64) -> Result<()> {
        check_plane("class mask", self.classes.len(), self.width, self.height)?;
        check_plane("confidence mask", self.confidence.len(), self.width, self.height)?;
        if min_pixels <= 1 {
            return Ok(());
        }
        let regions = Regions::find(&self.classes, self.width, self.height);
        let replacements = regions.sieve(&self.classes, min_pixels);
        for (y, run) in regions.runs() {
            if let Some(Some(class)) = replacements.get(regions.region_of_run(run.index)) {
                let row = y * self.width;
                self.classes[row + run.start..row + run.end].fill(*class);
                self.confidence[row + run.start..row + run.end].iter_mut().for_each(|c| *c = 255 - *c);
            }
        }
        Ok(())
    }
}

/// Checks that a plane called `what` of `len` values is `width * height` long and not empty.
pub(crate) fn check_plane(what: &str, len: usize, width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || width.checked_mul(height) != Some(len) || len >= u32::MAX as usize {
        return Err(Error::new(ErrorKind::Invalid, format!("a {what} of {len} values for {width} x {height} pixels")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(index: u8, threshold: Option<f32>) -> Class {
        Class { index, name: format!("c{index}"), color: [index, 0, 0], threshold }
    }

    #[test]
    fn sizes_are_checked() {
        assert!(ClassMask::new(2, 2, vec![0; 4], vec![0; 3]).is_err());
        assert!(ClassMask::new(0, 2, vec![], vec![]).is_err());
        assert!(ClassMask::new(usize::MAX, 2, vec![0; 4], vec![0; 4]).is_err());
    }

    #[test]
    fn stats_count_pixels_and_average_confidence() {
        let mask = ClassMask::new(2, 2, vec![0, 1, 1, 0], vec![255, 51, 153, 0]).expect("valid");
        let stats = mask.stats(&[class(0, None), class(1, None), class(7, None)]);
        assert_eq!((stats[1].pixels, stats[1].share), (2, 0.5));
        assert!((stats[1].mean_confidence - 0.4).abs() < 1e-9);
        assert_eq!((stats[2].pixels, stats[2].mean_confidence), (0, 0.0));
    }

    #[test]
    fn thresholds_reject_to_background() {
        let mut mask = ClassMask::new(4, 1, vec![1, 1, 2, 0], vec![100, 200, 10, 5]).expect("valid");
        mask.apply_thresholds(&[class(0, Some(0.9)), class(1, Some(0.5)), class(2, None)]);
        assert_eq!(mask.classes, [0, 1, 2, 0]);
        assert_eq!(mask.confidence, [155, 200, 10, 5]);
    }

    #[test]
    fn small_regions_take_their_longest_neighbour() {
        #[rustfmt::skip]
        let classes = vec![
            1, 1, 1, 2, 2,
            1, 0, 1, 2, 2,
            1, 1, 1, 3, 2,
            1, 1, 1, 2, 2,
        ];
        let mut mask = ClassMask::new(5, 4, classes, vec![200; 20]).expect("valid");
        mask.remove_small(3).expect("valid");
        #[rustfmt::skip]
        let wanted = vec![
            1, 1, 1, 2, 2,
            1, 1, 1, 2, 2,
            1, 1, 1, 2, 2,
            1, 1, 1, 2, 2,
        ];
        assert_eq!(mask.classes, wanted);
        assert_eq!(mask.confidence[6], 55);
        let mut alone = ClassMask::new(2, 1, vec![1, 2], vec![9; 2]).expect("valid");
        alone.remove_small(5).expect("valid");
        assert_eq!(alone.classes, [0, 0]);
    }
}
