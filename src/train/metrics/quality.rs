//! Figures beside the confusion matrix's, of all images and of groups of them: borders, objects, confidence, and how far they spread.

use std::collections::BTreeMap;

use serde::Serialize;

use super::boundary::BoundaryWidth;
use super::confidence::{Bin, Confidences};
use super::counts::{ClassCounts, ImageCounts, ImageFigures, Means, badness};
use super::spread;

/// Figures of some images together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// How many there are.
    pub images: usize,
    /// All their pixels, borders and objects counted together.
    pub means: Means,
    /// 95 % bootstrap intervals over images of the same three; `None` of fewer than two images.
    pub intervals: Intervals,
    /// Quartiles of the images' own mean IoU without background, over those where it is defined.
    pub quartiles: Option<[f64; 3]>,
}

/// Lower and upper end of each mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervals {
    /// Of the IoU.
    pub iou: Option<[f64; 2]>,
    /// Of the boundary IoU.
    pub boundary_iou: Option<[f64; 2]>,
    /// Of the objects' F1.
    pub object_f1: Option<[f64; 2]>,
}

impl Group {
    fn of(name: &str, images: &[&ImageCounts]) -> Self {
        let total = |indices: &mut dyn Iterator<Item = usize>| {
            let mut sum = vec![ClassCounts::default(); images.first().map_or(0, |image| image.classes.len())];
            indices.filter_map(|i| images.get(i)).for_each(|image| {
                sum.iter_mut().zip(&image.classes).for_each(|(sum, counts)| *sum += counts);
            });
            Means::of(&sum)
        };
        let [iou, boundary_iou, object_f1] = spread::intervals(images.len(), |drawn| {
            let means = total(&mut drawn.iter().copied());
            [means.iou, means.boundary_iou, means.object_f1]
        });
        let mut each: Vec<f64> = images.iter().filter_map(|image| Means::of(&image.classes).iou).collect();
        let quartiles = [0.25, 0.5, 0.75].map(|part| spread::quantile(&mut each, part));
        let quartiles = if let [Some(a), Some(b), Some(c)] = quartiles { Some([a, b, c]) } else { None };
        let (means, intervals) = (total(&mut (0..images.len())), Intervals { iou, boundary_iou, object_f1 });
        Self { name: name.to_owned(), images: images.len(), means, intervals, quartiles }
    }
}

/// What an evaluation counts beside the confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Quality {
    /// Width of the band along borders.
    pub boundary_width: BoundaryWidth,
    /// Each image, in the order measured.
    pub images: Vec<ImageCounts>,
    /// Confidences before thresholds.
    pub confidences: Confidences,
}

/// A [`Quality`]'s figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Width of the band along borders.
    pub boundary_width: BoundaryWidth,
    /// Counts of each class over all images.
    pub classes: Vec<ClassFigures>,
    /// All images.
    pub all: Group,
    /// By place, if more than one is known.
    pub places: Vec<Group>,
    /// By ground resolution, from factor to factor of the root of 2, if more than one is known.
    pub resolutions: Vec<Group>,
    /// Expected calibration error before thresholds, 0 to 1, over the bins of `reliability`.
    pub calibration_error: Option<f64>,
    /// The reliability curve.
    pub reliability: Vec<Bin>,
    /// Each image, the worst first.
    pub images: Vec<ImageFigures>,
}

/// A class's borders and objects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassFigures {
    /// IoU of the bands along borders.
    pub boundary_iou: Option<f64>,
    /// Harmonic mean of the objects' precision and recall.
    pub object_f1: Option<f64>,
    /// Objects that match, labelled ones, predicted ones.
    pub objects: [u64; 3],
}

impl Quality {
    /// All figures.
    pub fn summary(&self) -> Summary {
        let images: Vec<&ImageCounts> = self.images.iter().collect();
        let mut total = vec![ClassCounts::default(); images.first().map_or(0, |image| image.classes.len())];
        images.iter().for_each(|i| total.iter_mut().zip(&i.classes).for_each(|(sum, counts)| *sum += counts));
        let of_class = |counts: &ClassCounts| ClassFigures {
            boundary_iou: counts.boundary_iou(),
            object_f1: counts.object_f1(),
            objects: counts.objects,
        };
        let mut each: Vec<ImageFigures> = images.iter().map(|image| image.figures()).collect();
        each.sort_by(|a, b| badness(a).partial_cmp(&badness(b)).unwrap_or(std::cmp::Ordering::Equal));
        Summary {
            boundary_width: self.boundary_width,
            classes: total.iter().map(of_class).collect(),
            all: Group::of("all", &images),
            places: groups(&images, |image| Some((0, image.place.clone()?))),
            resolutions: resolutions(&images),
            calibration_error: self.confidences.calibration_error(),
            reliability: self.confidences.reliability(),
            images: each,
        }
    }
}

/// Groups by metres that a pixel covers, from factor to factor of the root of 2, each named by its median.
fn resolutions(images: &[&ImageCounts]) -> Vec<Group> {
    let step = |metres: f64| (2.0 * metres.log2()).round() as i64;
    let mut known: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    images.iter().filter_map(|image| image.metres_per_pixel).for_each(|m| known.entry(step(m)).or_default().push(m));
    let median = |(step, mut metres): (i64, Vec<f64>)| Some((step, spread::quantile(&mut metres, 0.5)?));
    let medians: BTreeMap<i64, f64> = known.into_iter().filter_map(median).collect();
    groups(images, |image| {
        let step = step(image.metres_per_pixel?);
        Some((step, format!("{:.2} m", medians.get(&step)?)))
    })
}

/// The groups that `key` tells apart, in the order of the keys; none unless there are several.
fn groups(images: &[&ImageCounts], key: impl Fn(&ImageCounts) -> Option<(i64, String)>) -> Vec<Group> {
    let mut by_key: BTreeMap<(i64, String), Vec<&ImageCounts>> = BTreeMap::new();
    for &image in images {
        by_key.entry(key(image).unwrap_or((i64::MAX, "unknown".to_owned()))).or_default().push(image);
    }
    if by_key.len() < 2 {
        return Vec::new();
    }
    by_key.iter().map(|((_, name), images)| Group::of(name, images)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, place: &str, metres: f64, found: u64) -> ImageCounts {
        let counts = |pixels| ClassCounts { pixels, boundary: [found, 10], objects: [found / 5, 2, 2] };
        let classes = vec![counts([90, 90, 90]), counts([found, 10, 10])];
        ImageCounts { name: name.into(), place: Some(place.into()), metres_per_pixel: Some(metres), classes }
    }

    #[test]
    fn images_are_summed_grouped_and_ordered() {
        let images = vec![image("a", "north", 0.3, 10), image("b", "south", 0.304, 0), image("c", "south", 0.6, 5)];
        let quality = Quality { boundary_width: BoundaryWidth::default(), images, confidences: Confidences::new(2) };
        let found = quality.summary();
        assert_eq!(found.all.means.iou, Some(15.0 / 45.0), "of all pixels together");
        assert_eq!((found.classes[1].boundary_iou, found.classes[1].object_f1), (Some(0.5), Some(0.5)));
        let quartiles = found.all.quartiles.expect("three images");
        let near = |(a, b): (f64, f64)| (a - b).abs() < 1e-12;
        assert!(
            quartiles.into_iter().zip([1.0 / 6.0, 1.0 / 3.0, 2.0 / 3.0]).all(near),
            "of 0, 1/3 and 1: {quartiles:?}"
        );
        let [low, high] = found.all.intervals.iou.expect("three images");
        assert!(low == 0.0 && high == 1.0, "{low} {high}");
        let named = |groups: &[Group]| groups.iter().map(|g| (g.name.clone(), g.images)).collect::<Vec<_>>();
        assert_eq!(named(&found.places), [("north".to_owned(), 1), ("south".to_owned(), 2)]);
        assert_eq!(named(&found.resolutions), [("0.30 m".to_owned(), 2), ("0.60 m".to_owned(), 1)]);
        assert_eq!(found.images.iter().map(|i| i.name.as_str()).collect::<String>(), "bca");
    }
}
