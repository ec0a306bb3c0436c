//! Objects found: connected regions of a class, matched one to one.
//!
//! Objects are what polygons are made of: 4-connected regions. A predicted and a labelled object of one class match where their IoU
//! is at least [`LEAST_IOU`], the best pairs first; what is left is a false positive or a false negative.

use std::collections::BTreeMap;

use crate::mask::NO_DATA;
use crate::mask::regions::Regions;

/// Objects match from this IoU on: the usual one, at which hardly any object can match two.
pub const LEAST_IOU: f64 = 0.5;

/// For each of `classes` classes: objects that match, labelled ones, predicted ones. Of class indices `[height, width]`, where
/// [`NO_DATA`] is none; background has no objects.
pub(super) fn count(truth: &[u8], prediction: &[u8], width: usize, height: usize, classes: usize) -> Vec<[u64; 3]> {
    let mut counts = vec![[0u64; 3]; classes];
    let [labelled, predicted] = [truth, prediction].map(|plane| Plane::new(plane, width, height));
    for (side, plane) in [(1, &labelled), (2, &predicted)] {
        let objects = plane.class_of.iter().filter(|class| is_object(**class));
        objects.for_each(|class| counts[usize::from(*class)][side] += 1);
    }
    let mut common: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for i in 0..truth.len() {
        if truth[i] == prediction[i] && is_object(truth[i]) {
            *common.entry((labelled.region_of[i], predicted.region_of[i])).or_default() += 1;
        }
    }
    let iou = |((a, b), both): ((u32, u32), u64)| {
        let either = labelled.pixels(a) + predicted.pixels(b) - both;
        (both as f64 / either.max(1) as f64, a, b)
    };
    let mut pairs: Vec<(f64, u32, u32)> = common.into_iter().map(iou).filter(|pair| pair.0 >= LEAST_IOU).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut taken = [vec![false; labelled.class_of.len()], vec![false; predicted.class_of.len()]];
    for (_, a, b) in pairs {
        let (a, b) = (a as usize, b as usize);
        if !taken[0][a] && !taken[1][b] {
            (taken[0][a], taken[1][b]) = (true, true);
            counts[usize::from(labelled.class_of[a])][0] += 1;
        }
    }
    counts
}

fn is_object(class: u8) -> bool {
    class != 0 && class != NO_DATA
}

/// The regions of a mask.
struct Plane {
    regions: Regions,
    /// Of each pixel.
    region_of: Vec<u32>,
    /// Of each region.
    class_of: Vec<u8>,
}

impl Plane {
    fn new(classes: &[u8], width: usize, height: usize) -> Self {
        let regions = Regions::find(classes, width, height);
        let (mut region_of, mut class_of) = (vec![0; classes.len()], vec![0; regions.pixels().len()]);
        for (y, run) in regions.runs() {
            let region = regions.region_of_run(run.index);
            class_of[region] = classes[y * width + run.start];
            region_of[y * width + run.start..y * width + run.end].fill(region as u32);
        }
        Self { regions, region_of, class_of }
    }

    fn pixels(&self, region: u32) -> u64 {
        u64::from(self.regions.pixels()[region as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_match_one_to_one() {
        #[rustfmt::skip]
        let truth = [
            1, 1, 0, 1, 1, 1,
            1, 1, 0, 0, 0, 0,
            0, 0, 2, 0, 1, 1,
            255, 255, 2, 0, 1, 1];
        #[rustfmt::skip]
        let prediction = [
            1, 1, 0, 1, 0, 1, // the bar in two: neither half has IoU 0.5 with it
            1, 0, 0, 0, 0, 0,
            0, 1, 1, 0, 2, 2, // touches the first by a corner: another object
            255, 255, 2, 0, 2, 2];
        assert_eq!(count(&truth, &prediction, 6, 4, 3), [[0; 3], [1, 3, 4], [1, 1, 2]]);
        assert_eq!(count(&truth, &truth, 6, 4, 3), [[0; 3], [3, 3, 3], [1, 1, 1]]);
    }
}
