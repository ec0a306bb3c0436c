//! What a teacher says of a chip: on which pixels, and what where it is known beforehand.

use super::chip::{Chip, IGNORE};
use crate::source::raw::Samples;

/// What lies upon a chip for a teacher, and is cropped with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Lesson {
    /// A model speaks of the crop itself. `[height, width]`: 0 where the image holds data, [`IGNORE`] where it does not and the
    /// teacher is silent.
    Model(Vec<u8>),
    /// A soft mask: a probability in each band, as [`Lesson::probabilities`] reads them, and labels as those of
    /// [`Lesson::Model`].
    Mask(Chip),
}

/// The least probability that a soft mask's bands may miss, or exceed, one by: they were rounded to 8 bits one by one.
pub(super) const ROUNDING: f32 = 0.05;

impl Lesson {
    /// `[height, width]`: 0 where the teacher speaks, [`IGNORE`] where not.
    pub fn silence(&self) -> &[u8] {
        match self {
            Self::Model(plane) => plane,
            Self::Mask(chip) => &chip.labels,
        }
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Model(plane) => plane.len() as u64,
            Self::Mask(chip) => chip.bytes(),
        }
    }

    /// Writes the probabilities of `classes` classes, background first, into `out`, `[classes, height, width]`; 0 where the
    /// teacher is silent. Nothing for [`Lesson::Model`].
    pub fn probabilities(&self, classes: usize, out: &mut [f32]) {
        let Self::Mask(chip) = self else { return };
        let pixels = chip.labels.len();
        let mut found = vec![0.0; classes];
        for (pixel, _) in chip.labels.iter().enumerate().filter(|(_, l)| **l != IGNORE) {
            probabilities_of(chip, pixel, &mut found);
            let sum = found.iter().sum::<f32>().max(f32::MIN_POSITIVE);
            for (class, p) in found.iter().enumerate() {
                out[class * pixels + pixel] = p / sum;
            }
        }
    }
}

/// The probabilities that a soft mask holds at a pixel, background first: what its bands leave over where they are one less
/// than classes.
pub(super) fn probabilities_of(chip: &Chip, pixel: usize, out: &mut [f32]) {
    let skipped = out.len().saturating_sub(chip.bands);
    let (background, bands) = out.split_at_mut(skipped);
    for (band, p) in bands.iter_mut().enumerate() {
        let at = pixel * chip.bands + band;
        *p = match &chip.samples {
            Samples::U8(v) => f32::from(v[at]) / 255.0,
            Samples::U16(v) => f32::from(v[at]) / 65535.0,
            Samples::F32(v) => v[at],
        };
    }
    if let [background] = background {
        *background = (1.0 - bands.iter().sum::<f32>()).max(0.0);
    }
}
