//! Groups by place; by name where the place is unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::Grouping;
use super::ground::Ground;
use crate::error::{Error, ErrorKind, Result};
use crate::train::dataset::{Dataset, Extent};

/// Fewer groups than this cannot be divided well.
const MIN_GROUPS: usize = 5;
/// A training or validation side below this share is too small.
const MIN_SHARE: f64 = 0.2;
/// Sides of cells that are tried, in samples, and how many cells are enough.
const CELL_SIDES: [f64; 5] = [8.0, 6.0, 4.0, 3.0, 2.0];
const ENOUGH_CELLS: usize = 12;
/// Consecutive names without a place are cut into this many runs.
const RUNS: usize = 10;
/// Scenes in names are believed from this many on.
const MIN_SCENES: usize = 3;

/// What keeps samples together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Component(u32),
    Cell(Option<u32>, i64, i64),
    Scene(String),
    Run(usize, usize),
    Sample(usize),
}

/// Groups by place.
pub(super) fn groups(dataset: &Dataset, ground: &Ground, cell_metres: Option<f64>) -> Result<Grouping> {
    if cell_metres.is_some_and(|c| !(c.is_finite() && c > 0.0)) {
        return Err(
            Error::new(ErrorKind::Invalid, "the side of a cell is a number of metres above 0").at("--cell-metres")
        );
    }
    let mut warnings = Vec::new();
    let mut keys: Vec<Vec<Key>> = located(dataset, ground, cell_metres, &mut warnings);
    unlocated(dataset, ground, &mut keys, &mut warnings);
    let mut numbers: BTreeMap<&Key, u32> = BTreeMap::new();
    let of = keys
        .iter()
        .map(|keys| {
            let number = |key| {
                let next = numbers.len() as u32;
                *numbers.entry(key).or_insert(next)
            };
            keys.iter().map(number).collect()
        })
        .collect();
    let count = numbers.len();
    Ok(Grouping { of, count, warnings })
}

/// Groups for a split by chance: samples that show the same ground, and single ones.
pub(super) fn random(dataset: &Dataset, ground: &Ground) -> Grouping {
    let (component, _) = ground.components();
    let mut grouping = Grouping::by_key(component);
    if dataset.samples.iter().any(|s| s.extent.is_none()) {
        grouping.warnings.push(
            "Samples without a place are divided by chance: neighbours that show the same ground may be in both parts."
                .to_owned(),
        );
    }
    grouping
}

/// Keys of the samples whose place is known.
fn located(dataset: &Dataset, ground: &Ground, cell_metres: Option<f64>, warnings: &mut Vec<String>) -> Vec<Vec<Key>> {
    let (component, count) = ground.components();
    let mut boxes: Vec<Option<Extent>> = vec![None; count];
    let mut sizes = vec![0usize; count];
    for (i, &c) in component.iter().enumerate() {
        let Some(place) = ground.place(i) else { continue };
        sizes[c as usize] += 1;
        match &mut boxes[c as usize] {
            Some(whole) => whole.include(place),
            empty => *empty = Some(*place),
        }
    }
    let whole = || {
        let key = |i: usize| ground.place(i).map(|_| Key::Component(component[i])).into_iter().collect();
        (0..ground.len()).map(key).collect::<Vec<Vec<Key>>>()
    };
    let all: usize = sizes.iter().sum();
    let groups = sizes.iter().filter(|n| **n > 0).count();
    let largest = sizes.iter().max().copied().unwrap_or_default();
    let divisible = groups >= MIN_GROUPS && (all - largest) as f64 >= MIN_SHARE * all as f64;
    if all == 0 || (cell_metres.is_none() && divisible) {
        return whole();
    }

    let cut = |cell: &dyn Fn(Option<u32>) -> f64| -> Vec<Vec<Key>> {
        (0..ground.len())
            .map(|i| {
                let (Some(place), Some(whole)) = (ground.place(i), boxes[component[i] as usize]) else {
                    return Vec::new();
                };
                let side = cell(place.epsg);
                let (w, h) = whole.size();
                // What fits into a cell stays whole, and belongs to the cell of its middle.
                if w.max(h) <= side {
                    return match cell_metres {
                        Some(_) => vec![cell_at(&whole, side)],
                        None => vec![Key::Component(component[i])],
                    };
                }
                cells_of(place, side)
            })
            .collect()
    };
    if let Some(metres) = cell_metres {
        let units = units_per_metre(dataset, ground);
        return cut(&|epsg| metres * units.get(&epsg).copied().unwrap_or(1.0));
    }
    let sides = median_sides(ground);
    let mut best = whole();
    for times in CELL_SIDES {
        best = cut(&|epsg| times * sides.get(&epsg).copied().unwrap_or(1.0));
        let cells: BTreeSet<&Key> = best.iter().filter_map(|k| k.first()).collect();
        if cells.len() >= ENOUGH_CELLS {
            break;
        }
    }
    // Few samples far from each other, or groups that fit into a cell, stay as they are.
    if best.iter().flatten().any(|key| matches!(key, Key::Cell(..))) {
        warnings.push(
            "The samples overlap so much that the ground was cut into cells; samples on the border between training and \
             validation are dropped."
                .to_owned(),
        );
    }
    best
}

fn cell_at(place: &Extent, side: f64) -> Key {
    let index = |low: f64, high: f64| ((low + high) / 2.0 / side).floor() as i64;
    Key::Cell(place.epsg, index(place.min_x, place.max_x), index(place.min_y, place.max_y))
}

/// The cell of a box's middle, then all others that it reaches into.
fn cells_of(place: &Extent, side: f64) -> Vec<Key> {
    let index = |v: f64| (v / side).floor() as i64;
    let mut keys = vec![cell_at(place, side)];
    for x in index(place.min_x)..=index(place.max_x) {
        for y in index(place.min_y)..=index(place.max_y) {
            let key = Key::Cell(place.epsg, x, y);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(1.0)
}

/// The usual longer side of a sample in each system.
fn median_sides(ground: &Ground) -> BTreeMap<Option<u32>, f64> {
    let mut sides: BTreeMap<Option<u32>, Vec<f64>> = BTreeMap::new();
    for place in (0..ground.len()).filter_map(|i| ground.place(i)) {
        let (w, h) = place.size();
        sides.entry(place.epsg).or_default().push(w.max(h));
    }
    sides.into_iter().map(|(epsg, sides)| (epsg, median(sides))).collect()
}

/// How many units of each system are a metre on the ground; 1 where that is unknown.
fn units_per_metre(dataset: &Dataset, ground: &Ground) -> BTreeMap<Option<u32>, f64> {
    let mut units: BTreeMap<Option<u32>, Vec<f64>> = BTreeMap::new();
    for (i, sample) in dataset.samples.iter().enumerate() {
        if let (Some(place), Some(metres)) = (ground.place(i), sample.metres_per_pixel) {
            let (w, h) = place.size();
            let pixel = (w * h / (sample.width * sample.height) as f64).sqrt();
            units.entry(place.epsg).or_default().push(pixel / metres);
        }
    }
    units.into_iter().map(|(epsg, units)| (epsg, median(units))).collect()
}

/// Gives keys to the samples without a place.
fn unlocated(dataset: &Dataset, ground: &Ground, keys: &mut [Vec<Key>], warnings: &mut Vec<String>) {
    let without: Vec<usize> = (0..ground.len()).filter(|i| ground.place(*i).is_none()).collect();
    if without.len() < 2 {
        without.iter().for_each(|&i| keys[i] = vec![Key::Sample(i)]);
        return;
    }
    let better = "give their groups with --groups FILE.csv to be sure";
    let scenes: Option<Vec<&str>> = without.iter().map(|&i| scene(&dataset.samples[i].name)).collect();
    let scenes = scenes.filter(|s| s.iter().collect::<BTreeSet<_>>().len() >= MIN_SCENES);
    if let Some(scenes) = scenes {
        let count = scenes.iter().collect::<BTreeSet<_>>().len();
        for (&i, scene) in without.iter().zip(scenes) {
            keys[i] = vec![Key::Scene(scene.to_owned())];
        }
        warnings.push(format!(
            "The place of {} samples is unknown: they are grouped by the {count} scenes in their names; {better}.",
            without.len()
        ));
        return;
    }
    // Neighbours in an export show neighbouring ground.
    let mut folders: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &i in &without {
        folders.entry(dataset.samples[i].folder).or_default().push(i);
    }
    for (folder, samples) in folders {
        let runs = RUNS.min(samples.len());
        for (n, &i) in samples.iter().enumerate() {
            keys[i] = vec![Key::Run(folder, n * runs / samples.len())];
        }
    }
    warnings.push(format!(
        "The place of {} samples is unknown: they are grouped as runs of consecutive names, whose ends may show the same \
         ground; {better}.",
        without.len()
    ));
}

/// The place of each of the samples `indices`, to tell figures by: their folders where there are several, and the scenes in the names
/// of samples that have no place on the ground, where several share each. `None` where nothing tells places apart.
pub fn places(dataset: &Dataset, indices: &[usize]) -> Vec<Option<String>> {
    let samples = || indices.iter().filter_map(|&i| dataset.samples.get(i));
    let scenes: Option<BTreeSet<&str>> = samples().map(|s| scene(&s.name).filter(|_| s.extent.is_none())).collect();
    let by_scene = scenes.is_some_and(|scenes| scenes.len() >= MIN_SCENES && 2 * scenes.len() <= indices.len());
    let by_folder = samples().map(|s| s.folder).collect::<BTreeSet<_>>().len() > 1;
    let place = |index: &usize| {
        let name = &dataset.samples.get(*index)?.name;
        let folder = name.rsplit_once('/').map(|(folder, _)| folder).filter(|_| by_folder);
        let scene = scene(name).filter(|_| by_scene);
        let parts: Vec<&str> = folder.into_iter().chain(scene).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    };
    indices.iter().map(place).collect()
}

/// The scene in a name: `t1` of `folder/t1_003`. Scenes of one name in two folders count as one.
fn scene(name: &str) -> Option<&str> {
    let stem = name.rsplit('/').next()?;
    let scene = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let trimmed = scene.trim_end_matches(['_', '-', '.', ' ']);
    (scene.len() < stem.len() && trimmed.len() < scene.len() && !trimmed.is_empty()).then_some(trimmed)
}

#[cfg(test)]
mod tests {
    use super::scene;

    #[test]
    fn scenes_of_names() {
        assert_eq!(scene("data/t1_003"), Some("t1"));
        assert_eq!(scene("data/north west-12"), Some("north west"));
        for name in ["data/000000012", "data/t1", "data/_12", "data/house"] {
            assert_eq!(scene(name), None, "{name}");
        }
    }
}
