//! Splits and groups that files give, by the names of samples.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::Grouping;
use crate::error::{Error, ErrorKind, Result};
use crate::train::dataset::Dataset;

/// Samples by every name that means one of them: `folder/stem` and `stem`, with and without extension.
struct SampleNames<'a> {
    /// `None` where several samples have the name.
    index: HashMap<&'a str, Option<usize>>,
}

impl<'a> SampleNames<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        let mut index: HashMap<&str, Option<usize>> = HashMap::new();
        for (i, sample) in dataset.samples.iter().enumerate() {
            let stem = sample.name.rsplit('/').next().unwrap_or_default();
            index.insert(&sample.name, Some(i));
            if stem != sample.name {
                index.entry(stem).and_modify(|known| *known = None).or_insert(Some(i));
            }
        }
        Self { index }
    }

    fn find(&self, name: &str) -> Result<usize> {
        let stem = || name.rsplit_once('.').map(|(stem, _)| stem).filter(|s| !s.ends_with('/'));
        match self.index.get(name).or_else(|| self.index.get(stem()?)) {
            Some(Some(sample)) => Ok(*sample),
            Some(None) => Err(Error::new(ErrorKind::Invalid, format!("several folders have a sample {name:?}"))
                .remedy("write folder/name, as `samlora inspect` shows them")),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no sample {name:?}"))
                .remedy("names are those of the image files, with or without folder and extension")),
        }
    }
}

fn read(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).map_err(|e| Error::from(e).at(file.display()))?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// Whether each sample is named by a file with one name a line; empty lines and those that begin with `#` are passed over.
pub(super) fn listed(dataset: &Dataset, file: &Path) -> Result<Vec<bool>> {
    let names = SampleNames::new(dataset);
    let mut out = vec![false; dataset.samples.len()];
    for (number, line) in read(file)?.lines().enumerate() {
        let name = line.trim();
        if name.is_empty() || name.starts_with('#') {
            continue;
        }
        let sample = names.find(name).map_err(|e| e.at(format!("{} line {}", file.display(), number + 1)))?;
        out[sample] = true;
    }
    Ok(out)
}

/// The groups of a CSV file `name,group`, with or without that line at its head. Every sample must have one.
pub(super) fn groups(dataset: &Dataset, file: &Path) -> Result<Grouping> {
    let names = SampleNames::new(dataset);
    let text = read(file)?;
    let mut group_of: BTreeMap<usize, &str> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || (number == 0 && line.replace(' ', "").eq_ignore_ascii_case("name,group")) {
            continue;
        }
        let place = || format!("{} line {}", file.display(), number + 1);
        let Some((name, group)) = line.rsplit_once(',') else {
            return Err(Error::new(ErrorKind::Format, format!("{line:?} is no name and group"))
                .at(place())
                .remedy("write name,group on each line"));
        };
        let (name, group) = (name.trim().trim_matches('"'), group.trim().trim_matches('"'));
        let sample = names.find(name).map_err(|e| e.at(place()))?;
        if let Some(other) = group_of.insert(sample, group).filter(|o| *o != group) {
            return Err(Error::new(ErrorKind::Invalid, format!("{name:?} is in the groups {other:?} and {group:?}"))
                .at(place())
                .remedy("keep one of the lines"));
        }
    }
    let missing = dataset.samples.len() - group_of.len();
    if missing > 0 {
        let first = (0..dataset.samples.len()).find(|i| !group_of.contains_key(i));
        let first = first.map(|i| dataset.samples[i].name.as_str()).unwrap_or_default();
        return Err(Error::new(ErrorKind::NotFound, format!("{missing} samples have no group, such as {first:?}"))
            .at(file.display())
            .remedy("add a line name,group for each sample"));
    }
    Ok(Grouping::by_key(group_of.into_values()))
}
