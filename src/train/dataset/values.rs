//! Label values that nobody has named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Sample;
use super::classes::MAX_CLASSES;
use super::labels::{self, Histogram};
use super::scan::Failure;
use crate::error::{Error, ErrorKind, Result};

/// More values than this are rarely classes.
const MANY: usize = 32;
/// Values on less than this share of the pixels are scarce; where most are, and at least so many, something made them up.
const SCARCE: f64 = 0.001;
const SCARCE_VALUES: usize = 8;

/// The values of masks without a class list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Unnamed {
    /// Where the first of the masks' folders is.
    pub folder: PathBuf,
    /// Pixels of each value.
    pub pixels: BTreeMap<u32, u64>,
}

impl Unnamed {
    /// Whether they look like the values of a grey picture, or of classes that were resampled smoothly.
    pub fn are_doubtful(&self) -> bool {
        let scarce = self.scarce();
        self.are_many() || scarce >= SCARCE_VALUES && 2 * scarce > self.pixels.len()
    }

    /// Whether they are too many to be learnt without being asked for.
    pub fn are_many(&self) -> bool {
        self.pixels.len() > MANY
    }

    fn scarce(&self) -> usize {
        let all: u64 = self.pixels.values().sum();
        self.pixels.values().filter(|n| (**n as f64) < SCARCE * all as f64).count()
    }

    /// What they look like.
    pub fn finding(&self) -> String {
        let (count, scarce) = (self.pixels.len(), self.scarce());
        let share = match scarce * 2 > count {
            true => format!(", {scarce} of them on less than {} % of the pixels each", 100.0 * SCARCE),
            false => String::new(),
        };
        format!(
            "the masks hold {count} values without names{share}: they look like a grey picture, or like classes that were \
             resampled smoothly"
        )
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let zero = self.pixels.keys().next().copied().unwrap_or(0);
        let most = self.pixels.iter().filter(|(v, _)| **v != zero).max_by_key(|(_, n)| **n).map_or(1, |(v, _)| *v);
        format!(
            "make the masks again with nearest neighbour, for example gdalwarp -r near; or name the values that are classes, as \
             --class {most}=NAME, with --unlisted background or ignore; or take each value for a class with --every-value"
        )
    }
}

/// Counts all label values in the masks of a folder. Samples whose masks cannot be read get a failure.
pub(super) fn count(
    folder: (usize, &Path),
    samples: &[Sample],
    histograms: &mut [Option<Histogram>],
    failures: &mut [Option<Failure>],
    unnamed: &mut Unnamed,
) -> Result<Vec<u32>> {
    let none = labels::ColourValues::new();
    let each: Vec<Option<Result<Histogram>>> = samples
        .par_iter()
        .map(|s| {
            let counted = || labels::histogram(&s.mask, s.width, s.height, &none);
            (s.folder == folder.0).then(counted)
        })
        .collect();
    let mut values: BTreeMap<u32, u64> = BTreeMap::new();
    for (i, (counted, sample)) in each.into_iter().zip(samples).enumerate() {
        match counted {
            None => {}
            Some(Err(error)) => failures[i] = Some(Failure::new(&sample.mask, error)),
            Some(Ok(counted)) => {
                counted.values.iter().for_each(|(value, n)| *values.entry(*value).or_default() += n);
                if values.len() > MAX_CLASSES {
                    let message = format!("the masks hold more than {MAX_CLASSES} values");
                    return Err(Error::new(ErrorKind::Invalid, message).at(sample.mask.display()).remedy(format!(
                        "masks hold one small whole number a class, these look like grey pictures or like classes that \
                         were resampled smoothly: {}",
                        Unnamed { pixels: values, ..Unnamed::default() }.remedy()
                    )));
                }
                histograms[i] = Some(counted);
            }
        }
    }
    if unnamed.pixels.is_empty() {
        unnamed.folder = folder.1.to_owned();
    }
    values.iter().for_each(|(value, n)| *unnamed.pixels.entry(*value).or_default() += n);
    Ok(values.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_look_made_up() {
        let of =
            |pixels: &[u64]| Unnamed { folder: PathBuf::new(), pixels: (0..).zip(pixels.iter().copied()).collect() };
        assert!(!of(&[1000, 10, 1]).are_doubtful());
        assert!(!of(&[100; 32]).are_doubtful() && of(&[100; 33]).are_many());
        // Ringing of a compression around two classes.
        let ringing = of(&[50_000, 9, 8, 7, 6, 5, 5, 4, 3, 50_000]);
        assert!(ringing.are_doubtful() && !ringing.are_many() && ringing.remedy().contains("--class 9=NAME"));
        assert!(ringing.finding().contains("10 values without names, 8 of them on less than 0.1 %"));
    }
}
