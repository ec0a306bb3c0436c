//! Which samples show the same ground.

use std::collections::{BTreeSet, HashMap};

use crate::train::dataset::{Extent, Sample};

/// The part of a pixel by which neighbours may overlap: rounding of georeferences.
const TOLERANCE: f64 = 0.25;
/// A box reaches into at most about the square of this many cells of the search grid.
const MAX_CELLS: f64 = 64.0;

/// The samples' boxes, comparable within a system.
pub(super) struct Ground {
    /// Shrunk by a part of a pixel; `None` where the place is unknown.
    boxes: Vec<Option<Extent>>,
    /// What people should know.
    pub warnings: Vec<String>,
}

impl Ground {
    pub(super) fn new(samples: &[Sample]) -> Self {
        let systems: BTreeSet<Option<u32>> = samples.iter().filter_map(|s| s.extent.map(|e| e.epsg)).collect();
        let mut warnings = Vec::new();
        let mut alone = BTreeSet::new();
        let boxes = samples
            .iter()
            .map(|sample| {
                let extent = sample.extent?;
                let (w, h) = extent.size();
                let shrunk = extent.shrunk(TOLERANCE * w / sample.width as f64, TOLERANCE * h / sample.height as f64);
                if systems.len() == 1 {
                    return Some(shrunk);
                }
                let converted = shrunk.to_web_mercator();
                if converted.is_none() {
                    alone.insert(extent.epsg);
                }
                Some(converted.unwrap_or(shrunk))
            })
            .collect();
        if systems.len() > 1 && !alone.is_empty() {
            let names: Vec<String> =
                alone.iter().map(|e| e.map_or("an unknown system".to_owned(), |e| format!("EPSG:{e}"))).collect();
            warnings.push(format!(
                "Places in {} cannot be compared with the others: make sure that they do not show the same ground.",
                names.join(", ")
            ));
        }
        Self { boxes, warnings }
    }

    pub(super) fn len(&self) -> usize {
        self.boxes.len()
    }

    pub(super) fn place(&self, sample: usize) -> Option<&Extent> {
        self.boxes.get(sample).and_then(Option::as_ref)
    }

    /// Calls `found(a, b)` for pairs of samples whose boxes overlap: each pair at least once, but of samples with equal
    /// boxes only neighbours in a chain.
    pub(super) fn each_overlap(&self, mut found: impl FnMut(usize, usize)) {
        // Equal boxes (the same ground at many times) are looked at once.
        let mut same: HashMap<[u64; 5], (usize, usize)> = HashMap::new();
        let mut different: Vec<(usize, &Extent)> = Vec::new();
        for (i, place) in self.boxes.iter().enumerate() {
            let Some(place) = place else { continue };
            let system = place.epsg.map_or(u64::MAX, u64::from);
            let key = [place.min_x, place.min_y, place.max_x, place.max_y].map(f64::to_bits);
            let key = [key[0], key[1], key[2], key[3], system];
            match same.get_mut(&key) {
                Some((_, last)) => {
                    found(*last, i);
                    *last = i;
                }
                None => {
                    same.insert(key, (i, i));
                    different.push((i, place));
                }
            }
        }
        drop(same);
        let systems: BTreeSet<Option<u32>> = different.iter().map(|(_, e)| e.epsg).collect();
        for system in systems {
            let own: Vec<_> = different.iter().copied().filter(|(_, e)| e.epsg == system).collect();
            each_overlap_in(&own, &mut found);
        }
    }

    /// The connected groups of samples that overlap: of each sample the group's number, in the order of first samples;
    /// samples without a place are alone.
    pub(super) fn components(&self) -> (Vec<u32>, usize) {
        let mut sets = DisjointSets::new(self.len());
        self.each_overlap(|a, b| sets.join(a, b));
        let mut numbers: HashMap<usize, u32> = HashMap::new();
        let of = (0..self.len())
            .map(|i| {
                let next = numbers.len() as u32;
                *numbers.entry(sets.root(i)).or_insert(next)
            })
            .collect();
        (of, numbers.len())
    }
}

fn each_overlap_in(boxes: &[(usize, &Extent)], found: &mut impl FnMut(usize, usize)) {
    let mut sides: Vec<f64> = boxes.iter().map(|(_, e)| e.size().0.max(e.size().1)).collect();
    sides.sort_by(f64::total_cmp);
    let (Some(&median), Some(&largest)) = (sides.get(sides.len() / 2), sides.last()) else { return };
    let cell = median.max(largest / MAX_CELLS).max(f64::MIN_POSITIVE);
    let index = |v: f64| (v / cell).floor() as i64;
    let mut grid: HashMap<(i64, i64), Vec<u32>> = HashMap::new();
    for (number, (_, place)) in boxes.iter().enumerate() {
        for x in index(place.min_x)..=index(place.max_x) {
            for y in index(place.min_y)..=index(place.max_y) {
                grid.entry((x, y)).or_default().push(number as u32);
            }
        }
    }
    // In the order of the first sample, so that every run does the same.
    let mut cells: Vec<Vec<u32>> = grid.into_values().filter(|c| c.len() > 1).collect();
    cells.sort();
    for cell in cells {
        for (k, &a) in cell.iter().enumerate() {
            for &b in &cell[k + 1..] {
                let ((a, ours), (b, theirs)) = (boxes[a as usize], boxes[b as usize]);
                if ours.overlaps(theirs) {
                    found(a, b);
                }
            }
        }
    }
}

/// Sets that are joined (Tarjan 1975), with paths halved.
struct DisjointSets(Vec<u32>);

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self((0..count as u32).collect())
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] as usize != of {
            self.0[of] = self.0[self.0[of] as usize];
            of = self.0[of] as usize;
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The smaller number stays, so that the result does not depend on the order of pairs.
        self.0[a.max(b)] = a.min(b) as u32;
    }
}
