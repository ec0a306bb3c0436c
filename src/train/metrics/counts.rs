//! What is counted of an image beside the confusion matrix, class by class: pixels, borders, objects.

use std::ops::AddAssign;

use serde::Serialize;

use super::{boundary, objects, quotient};
use crate::train::dataset::IGNORE;

/// What was counted of one class in one or several images: sums of it give the figures of all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Pixels that labels and prediction give to the class, that labels do, that the prediction does.
    pub pixels: [u64; 3],
    /// Pixels in the bands along both borders, and in either.
    pub boundary: [u64; 2],
    /// Objects that match, labelled ones, predicted ones.
    pub objects: [u64; 3],
}

impl AddAssign<&Self> for ClassCounts {
    fn add_assign(&mut self, other: &Self) {
        let mine = self.pixels.iter_mut().chain(&mut self.boundary).chain(&mut self.objects);
        let more = other.pixels.iter().chain(&other.boundary).chain(&other.objects);
        mine.zip(more).for_each(|(mine, more)| *mine += more);
    }
}

impl ClassCounts {
    /// Intersection over union of pixels.
    pub fn iou(&self) -> Option<f64> {
        let [both, labelled, predicted] = self.pixels.map(|n| n as f64);
        quotient(both, labelled + predicted - both)
    }

    /// [`boundary`] IoU.
    pub fn boundary_iou(&self) -> Option<f64> {
        quotient(self.boundary[0] as f64, self.boundary[1] as f64)
    }

    /// `2 TP / (2 TP + FP + FN)` of objects that match from an IoU of [`objects::LEAST_IOU`] on.
    pub fn object_f1(&self) -> Option<f64> {
        let [matched, labelled, predicted] = self.objects.map(|n| n as f64);
        quotient(2.0 * matched, labelled + predicted)
    }
}

/// Counts one image: class indices `[height, width]`, [`IGNORE`] in `truth` where there is no label; `d` is the width of the band
/// along borders in pixels. Pixels without a label are of no class on either side, so borders and objects end there.
pub fn count(
    truth: &[u8],
    prediction: &[u8],
    (width, height): (usize, usize),
    d: usize,
    classes: usize,
) -> Vec<ClassCounts> {
    let unlabelled = |(t, p): (&u8, &u8)| if *t == IGNORE { IGNORE } else { *p };
    let prediction: Vec<u8> = truth.iter().zip(prediction).map(unlabelled).collect();
    let mut counts = vec![ClassCounts::default(); classes];
    for (&t, &p) in truth.iter().zip(&prediction) {
        let mut add = |class: u8, side: usize| {
            if let Some(counts) = counts.get_mut(usize::from(class)).filter(|_| class != IGNORE) {
                counts.pixels[side] += 1;
            }
        };
        add(t, 1);
        add(p, 2);
        if t == p {
            add(t, 0);
        }
    }
    let boundaries = boundary::overlaps(truth, &prediction, width, d, classes);
    let objects = objects::count(truth, &prediction, width, height, classes);
    for (counts, (boundary, objects)) in counts.iter_mut().zip(boundaries.into_iter().zip(objects)) {
        (counts.boundary, counts.objects) = (boundary, objects);
    }
    counts
}

/// One image of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageCounts {
    /// The sample's name.
    pub name: String,
    /// The place that it shows, if samples are told apart by places.
    pub place: Option<String>,
    /// Metres on the ground that a pixel covers, if known.
    pub metres_per_pixel: Option<f64>,
    /// Counts of each class.
    pub classes: Vec<ClassCounts>,
}

/// Means over the classes that occur, without background; fractions 0 to 1, `None` where none does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Means {
    /// Of the IoU.
    pub iou: Option<f64>,
    /// Of the boundary IoU.
    pub boundary_iou: Option<f64>,
    /// Of the objects' F1.
    pub object_f1: Option<f64>,
}

impl Means {
    /// Of counts by class, background first.
    pub fn of(classes: &[ClassCounts]) -> Self {
        let mean = |figure: &dyn Fn(&ClassCounts) -> Option<f64>| {
            let defined: Vec<f64> = classes.iter().skip(1).filter_map(figure).collect();
            quotient(defined.iter().sum(), defined.len() as f64)
        };
        Self {
            iou: mean(&ClassCounts::iou),
            boundary_iou: mean(&ClassCounts::boundary_iou),
            object_f1: mean(&ClassCounts::object_f1),
        }
    }
}

/// One image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageFigures {
    /// The sample's name.
    pub name: String,
    /// Its own means.
    #[serde(flatten)]
    pub means: Means,
    /// The part of its labelled pixels whose class is wrong.
    pub wrong: f64,
}

impl ImageCounts {
    /// Its figures.
    pub fn figures(&self) -> ImageFigures {
        let sum = |side: usize| self.classes.iter().map(|c| c.pixels[side]).sum::<u64>() as f64;
        let wrong = quotient(sum(1) - sum(0), sum(1)).unwrap_or(0.0);
        ImageFigures { name: self.name.clone(), means: Means::of(&self.classes), wrong }
    }
}

/// Orders images from the worst on: by mean IoU without background, then by wrong pixels; where nothing but background is labelled and
/// predicted, nothing is wrong.
pub fn badness(image: &ImageFigures) -> (f64, f64) {
    (image.means.iou.unwrap_or(1.0), -image.wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_without_a_label_count_nowhere() {
        let truth = [IGNORE, IGNORE, 1, 0];
        let [_, one] = count(&truth, &[1, 1, 1, 0], (4, 1), 1, 2)[..] else { panic!("two classes") };
        assert_eq!((one.pixels, one.boundary, one.objects), ([1; 3], [1, 1], [1; 3]));
    }
}
