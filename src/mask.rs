//! The result of a segmentation: one class and its probability per pixel. No tensors, no files.

use serde::Serialize;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::image::within;

pub(crate) mod regions;

use regions::Regions;

/// Stands for a class where an image holds no data: neither a class nor background. Its confidence is 0.
pub const NO_DATA: u8 = 255;

/// A class and its probability for every pixel of an image. Both planes are row-major `[height, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMask {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// `[height, width]`: the class index of each pixel; 0 is background, [`NO_DATA`] none at all.
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
    /// Their share of the pixels that hold data, 0 to 1.
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

    /// The part at column `x`, row `y` of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is empty or reaches outside.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        if !within(x, width, self.width) || !within(y, height, self.height) {
            let message = format!("{width} x {height} at {x}, {y} is not within {} x {}", self.width, self.height);
            return Err(Error::new(ErrorKind::Invalid, message).remedy("give a part that lies within the mask"));
        }
        let cut = |plane: &[u8]| {
            let rows = plane.chunks_exact(self.width).skip(y).take(height);
            rows.flat_map(|row| &row[x..x + width]).copied().collect()
        };
        Self::new(width, height, cut(&self.classes), cut(&self.confidence))
    }

    /// Pixels, share and mean confidence of each class, in the order given.
    pub fn stats(&self, classes: &[Class]) -> Vec<ClassStats> {
        let mut counts = ClassCounts::default();
        counts.add(&self.classes, &self.confidence);
        counts.stats(classes)
    }

    /// [`apply_thresholds`] to the whole mask.
    pub fn apply_thresholds(&mut self, classes: &[Class]) {
        apply_thresholds(&mut self.classes, &mut self.confidence, classes);
    }

    /// Gives every connected region (4-connectivity, background included) of fewer than `min_pixels` pixels the class
    /// with which it shares the longest border, as GDAL's sieve filter does: specks vanish, pinholes are filled.
    ///
    /// One pass: only neighbours that are large enough themselves count; a region without such a neighbour becomes
    /// background. Ties go to the lower class index. The confidence of a changed pixel becomes `255 - confidence`, the
    /// most that is left for its new class. Pixels without data stay as they are and are nobody's neighbours.
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
        let replacements = regions.sieve(&self.classes, min_pixels, NO_DATA);
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

/// Makes background of every pixel whose confidence is below its class's threshold.
///
/// The confidence of such a pixel becomes `255 - confidence`: the probability that it is *not* the rejected class.
/// A threshold on background itself has no effect, nor does any on pixels without data.
pub fn apply_thresholds(classes: &mut [u8], confidence: &mut [u8], table: &[Class]) {
    // A confidence c stands for c / 255, so it is below threshold t if c < t * 255.
    let mut least = [0.0f32; 256];
    for class in table.iter().filter(|c| c.index != 0 && c.index != NO_DATA) {
        least[usize::from(class.index)] = class.threshold.unwrap_or(0.0) * 255.0;
    }
    for (class, confidence) in classes.iter_mut().zip(confidence) {
        if f32::from(*confidence) < least[usize::from(*class)] {
            *class = 0;
            *confidence = 255 - *confidence;
        }
    }
}

/// Pixels and confidence by class, added up part by part.
#[derive(Debug, Clone)]
pub struct ClassCounts {
    pixels: [u64; 256],
    confidence: [u64; 256],
}

impl Default for ClassCounts {
    fn default() -> Self {
        Self { pixels: [0; 256], confidence: [0; 256] }
    }
}

impl ClassCounts {
    /// Adds the pixels of a part: class and confidence of each.
    pub fn add(&mut self, classes: &[u8], confidence: &[u8]) {
        for (&class, &confidence) in classes.iter().zip(confidence) {
            self.pixels[usize::from(class)] += 1;
            self.confidence[usize::from(class)] += u64::from(confidence);
        }
    }

    /// Pixels that hold no data.
    pub fn without_data(&self) -> u64 {
        self.pixels[usize::from(NO_DATA)]
    }

    /// Pixels, share and mean confidence of each class, in the order given.
    pub fn stats(&self, classes: &[Class]) -> Vec<ClassStats> {
        let with_data: u64 = self.pixels.iter().sum::<u64>() - self.without_data();
        let of = |class: &Class| {
            let (pixels, sum) = (self.pixels[usize::from(class.index)], self.confidence[usize::from(class.index)]);
            ClassStats {
                index: class.index,
                name: class.name.clone(),
                pixels,
                share: pixels as f64 / with_data.max(1) as f64,
                mean_confidence: sum as f64 / (255.0 * pixels.max(1) as f64),
            }
        };
        classes.iter().map(of).collect()
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
    fn a_part_keeps_its_rows() {
        let mask = ClassMask::new(3, 2, vec![1, 2, 3, 4, 5, 6], vec![9, 8, 7, 6, 5, 4]).expect("valid");
        let part = mask.crop(1, 0, 2, 2).expect("within");
        assert_eq!((part.classes, part.confidence), (vec![2, 3, 5, 6], vec![8, 7, 5, 4]));
        for (x, y, width, height) in [(2, 0, 2, 1), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
            assert_eq!(mask.crop(x, y, width, height).expect_err("outside").kind(), ErrorKind::Invalid);
        }
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

    #[test]
    fn pixels_without_data_are_neither_class_nor_background() {
        let n = NO_DATA;
        #[rustfmt::skip]
        let classes = vec![
            1, 1, 1, n,
            1, n, 1, 2,
            1, 1, 1, n];
        let confidence: Vec<u8> = classes.iter().map(|c| if *c == n { 0 } else { 102 }).collect();
        let mut mask = ClassMask::new(4, 3, classes.clone(), confidence).expect("valid");
        let table = [class(0, None), class(1, None), class(2, None)];
        let stats = mask.stats(&table);
        assert_eq!((stats[1].pixels, stats[1].share), (8, 8.0 / 9.0));
        assert!((stats[1].mean_confidence - 0.4).abs() < 1e-9);
        // A hole without data is not filled, a speck beside it takes the class around and not what is nothing.
        mask.remove_small(3).expect("valid");
        assert_eq!(mask.classes[5], n);
        assert_eq!((mask.classes[7], mask.confidence[7]), (1, 153));
        assert_eq!((mask.classes[3], mask.classes[11], mask.confidence[3]), (n, n, 0));
        mask.apply_thresholds(&[class(1, Some(0.9))]);
        assert_eq!(mask.classes.iter().filter(|c| **c == n).count(), 3);
        assert_eq!(mask.classes.iter().filter(|c| **c == 0).count(), 9);
    }
}
