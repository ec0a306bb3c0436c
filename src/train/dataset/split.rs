//! Training and validation samples, so that no ground is in both.
//!
//! Samples are put into groups (by place, by scene, by a file), groups are never cut, and those that validate are chosen
//! so that each class has about the wanted share of its pixels there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Dataset, Scan, each_or_all};
use crate::error::{Error, ErrorKind, Result};

mod ground;
mod names;
mod place;
mod stratify;

use ground::Ground;
pub use place::places;

/// How samples are divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SplitRule {
    /// By place: samples that show the same ground stay together. Where all of them hang together, and always if a cell
    /// is given, the ground is cut into square cells, and samples that reach over a border between training and
    /// validation are dropped. Samples without a place are grouped by the scene in their names (`t1_003`), or else as
    /// runs of consecutive names.
    Place {
        /// Side of a cell in metres on the ground; several samples wide without.
        cell_metres: Option<f64>,
    },
    /// A CSV file of all samples: `name,group`.
    Groups(PathBuf),
    /// A text file that names the validation samples, one a line.
    List(PathBuf),
    /// The folder of the data set whose samples validate.
    Folder(PathBuf),
    /// By chance; samples that show the same ground stay together nonetheless.
    Random,
}

/// Which samples train and which validate: indices into [`Dataset::samples`], ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Samples to train on.
    pub train: Vec<usize>,
    /// Samples to validate on; the same as `train` where there is a single group, with a warning.
    pub valid: Vec<usize>,
    /// Samples that belong to neither, since they show ground of both.
    pub dropped: Vec<usize>,
    /// Groups of samples that were not cut.
    pub groups: usize,
    /// What people should know about it, sentences.
    pub warnings: Vec<String>,
}

/// The groups of samples.
#[derive(Debug, Default)]
struct Grouping {
    /// Of each sample: its group first, and others that it reaches into.
    of: Vec<Vec<u32>>,
    count: usize,
    warnings: Vec<String>,
}

impl Grouping {
    /// A group for each different key, in the order in which keys first come.
    fn by_key<K: Ord>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut numbers = std::collections::BTreeMap::new();
        let of = keys
            .into_iter()
            .map(|key| {
                let next = numbers.len() as u32;
                vec![*numbers.entry(key).or_insert(next)]
            })
            .collect();
        Self { of, count: numbers.len(), warnings: Vec::new() }
    }
}

/// Divides the samples of a data set; `share` (between 0 and 1) of the pixels of each class shall validate. The same
/// data, rule and seed give the same split.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a share out of range, for names in files that no sample has, and if nothing is left to
/// train or validate on; what reading the files gives.
pub fn split(dataset: &Dataset, scan: &Scan, rule: &SplitRule, share: f64, seed: u64) -> Result<Split> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::new(ErrorKind::Invalid, format!("a share of {share} for validation"))
            .at("--valid-share")
            .remedy("give a number between 0 and 1, such as 0.2"));
    }
    let count = dataset.samples.len();
    if scan.pixels.len() != count || count == 0 {
        return Err(Error::new(ErrorKind::Invalid, "the scan is not of these samples"));
    }
    let ground = Ground::new(&dataset.samples);
    let mut split = match rule {
        SplitRule::List(file) => {
            let valid = names::listed(dataset, file)?;
            given(valid, "the list", &ground)
        }
        SplitRule::Folder(path) => {
            let folder = dataset.folder(path).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "the validation folder is not one of the data folders")
                    .at(path.display())
            })?;
            given(dataset.samples.iter().map(|s| s.folder == folder).collect(), "the validation folder", &ground)
        }
        SplitRule::Place { cell_metres } => chosen(place::groups(dataset, &ground, *cell_metres)?, scan, share, seed),
        SplitRule::Random => chosen(place::random(dataset, &ground), scan, share, seed),
        SplitRule::Groups(file) => {
            let mut split = chosen(names::groups(dataset, file)?, scan, share, seed);
            drop_overlaps(&mut split, &ground);
            split
        }
    };
    split.warnings.extend(ground.warnings.iter().cloned());
    if split.groups == 1 {
        split.train = (0..count).collect();
        split.valid.clone_from(&split.train);
        split.dropped.clear();
        let what = if count == 1 { "There is one sample only" } else { "All samples are one group" };
        split.warnings.push(format!(
            "{what}: they train and validate alike, so that metrics tell how well the model remembers, not how well it \
             does elsewhere."
        ));
    }
    if split.train.is_empty() || split.valid.is_empty() {
        let what = if split.train.is_empty() { "train" } else { "validate" };
        return Err(Error::new(ErrorKind::Invalid, format!("no sample is left to {what} on")).at("--split").remedy(
            "choose another --cell-metres or --valid-share, or give validation data of its own with --valid-data",
        ));
    }
    let asked = !matches!(rule, SplitRule::List(_) | SplitRule::Folder(_)) && split.groups > 1;
    let reached = split.valid.len() as f64 / (split.train.len() + split.valid.len()) as f64;
    if asked && !(share / 2.0..=share * 2.0).contains(&reached) {
        split.warnings.push(format!(
            "{:.0} % of the samples validate and not {:.0} %: the groups leave no better choice.",
            100.0 * reached,
            100.0 * share
        ));
    }
    warn_of_classes(dataset, scan, &mut split);
    Ok(split)
}

/// Groups chosen to validate; samples that reach into groups of both sides are dropped.
fn chosen(grouping: Grouping, scan: &Scan, share: f64, seed: u64) -> Split {
    let main: Vec<u32> = grouping.of.iter().map(|g| g.first().copied().unwrap_or_default()).collect();
    let valid = stratify::choose(&main, grouping.count, scan, share, seed);
    let mut split = Split {
        train: Vec::new(),
        valid: Vec::new(),
        dropped: Vec::new(),
        groups: grouping.count,
        warnings: grouping.warnings,
    };
    for (sample, groups) in grouping.of.iter().enumerate() {
        let validates = |g: &u32| valid.get(*g as usize).copied().unwrap_or(false);
        match (groups.iter().any(validates), groups.iter().all(validates)) {
            (true, true) => split.valid.push(sample),
            (false, _) => split.train.push(sample),
            _ => split.dropped.push(sample),
        }
    }
    split
}

/// A split that somebody made.
fn given(valid: Vec<bool>, what: &str, ground: &Ground) -> Split {
    let pick = |side: bool| valid.iter().enumerate().filter(|(_, v)| **v == side).map(|(i, _)| i).collect();
    let mut split =
        Split { train: pick(false), valid: pick(true), dropped: Vec::new(), groups: 2, warnings: Vec::new() };
    if split.train.is_empty() || split.valid.is_empty() {
        split.warnings.push(format!("All samples are on one side of {what}."));
    }
    drop_overlaps(&mut split, ground);
    split
}

/// Drops training samples that show ground of a validation sample.
fn drop_overlaps(split: &mut Split, ground: &Ground) {
    let mut validates = vec![false; ground.len()];
    for &sample in &split.valid {
        validates[sample] = true;
    }
    let mut shared = vec![false; ground.len()];
    ground.each_overlap(|a, b| match (validates[a], validates[b]) {
        (true, false) => shared[b] = true,
        (false, true) => shared[a] = true,
        _ => {}
    });
    let (dropped, kept): (Vec<_>, Vec<_>) = split.train.iter().partition(|i| shared[**i]);
    if !dropped.is_empty() {
        split
            .warnings
            .push(format!("{} training samples show ground of validation samples and are left out.", dropped.len()));
    }
    split.train = kept;
    split.dropped.extend(dropped);
    split.dropped.sort_unstable();
}

fn warn_of_classes(dataset: &Dataset, scan: &Scan, split: &mut Split) {
    let train = scan.totals(split.train.iter().copied());
    let valid = scan.totals(split.valid.iter().copied());
    // Of values that are hardly classes enough has been said.
    if dataset.unnamed.are_doubtful() {
        return;
    }
    for (side, ours, theirs) in [("training", &train, &valid), ("validation", &valid, &train)] {
        let counts = ours.iter().zip(theirs);
        let absent = dataset.classes.iter().zip(counts).filter(|(_, (ours, theirs))| **ours == 0 && **theirs > 0);
        let names: Vec<&str> = absent.map(|(class, _)| class.name.as_str()).collect();
        split.warnings.extend(each_or_all(
            &names,
            |name| format!("Class {name:?} does not occur in the {side} samples."),
            |names| format!("{names} do not occur in the {side} samples."),
        ));
    }
}
