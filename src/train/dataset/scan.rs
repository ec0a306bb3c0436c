//! Reading all samples once: whether they can be read, and how many pixels each class has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::chip::IGNORE;
use super::labels::NO_DATA;
use super::{Dataset, no_sample};
use crate::error::{Error, Result};

/// Files that an error names at most.
const NAMED: usize = 5;

/// Pixels of each class in each sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// `[sample][class]`: pixels. Those without data in image or mask are not counted.
    pub pixels: Vec<Vec<u64>>,
    /// `[sample]`: pixels that are ignored for their label value.
    pub ignored: Vec<u64>,
    /// `[sample]`: pixels without data.
    pub no_data: Vec<u64>,
}

/// What one sample counts.
struct Counts {
    pixels: Vec<u64>,
    ignored: u64,
    no_data: u64,
}

/// A file that cannot be used.
#[derive(Debug)]
pub struct Failure {
    /// The file.
    pub file: PathBuf,
    /// Why; it names the file.
    pub error: Error,
}

impl Failure {
    pub(super) fn new(file: &Path, error: Error) -> Self {
        Self { file: file.to_owned(), error }
    }

    /// One error that names several files, at least one.
    pub(super) fn all(failures: Vec<Self>) -> Option<Error> {
        let count = failures.len();
        let named: Vec<String> = failures
            .iter()
            .skip(1)
            .take(NAMED)
            .map(|f| f.file.file_name().unwrap_or_default().to_string_lossy().into_owned())
            .collect();
        let more = if count > NAMED + 1 { ", .." } else { "" };
        let first = failures.into_iter().next()?.error;
        Some(if count == 1 {
            first
        } else {
            first.at(format!("{count} files cannot be used (also {}{more})", named.join(", ")))
        })
    }
}

impl Scan {
    /// Pixels of each class in some samples.
    pub fn totals(&self, samples: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut totals = vec![0; self.pixels.first().map_or(0, Vec::len)];
        for pixels in samples.into_iter().filter_map(|i| self.pixels.get(i)) {
            totals.iter_mut().zip(pixels).for_each(|(t, p)| *t += p);
        }
        totals
    }
}

impl Dataset {
    /// Decodes every sample, in parallel, and counts the pixels of each class. `progress(samples done, of all)` is called
    /// from several threads.
    ///
    /// # Errors
    /// As [`Dataset::read`]: the first of several, with the names of others.
    pub fn scan(&self, progress: impl Fn(usize, usize) + Sync) -> Result<Scan> {
        let (scan, failures) = self.scan_each(true, progress);
        match Failure::all(failures.into_iter().map(|(_, failure)| failure).collect()) {
            Some(error) => Err(error),
            None => Ok(scan),
        }
    }

    /// As [`Dataset::scan`], but samples that cannot be read leave the data set, and come back with the reason. Without
    /// `images` only masks are decoded, and pixels of images without data are counted as if they had some.
    pub fn scan_readable(&mut self, images: bool, progress: impl Fn(usize, usize) + Sync) -> (Scan, Vec<Failure>) {
        let (scan, failures) = self.scan_each(images, progress);
        let mut unreadable = vec![false; self.samples.len()];
        failures.iter().for_each(|(i, _)| unreadable[*i] = true);
        let mut i = 0;
        self.histograms.resize(self.samples.len(), None);
        self.histograms.retain(|_| {
            i += 1;
            !unreadable[i - 1]
        });
        let mut i = 0;
        self.samples.retain(|_| {
            i += 1;
            !unreadable[i - 1]
        });
        for (index, folder) in self.folders.iter_mut().enumerate() {
            folder.samples = self.samples.iter().filter(|s| s.folder == index).count();
        }
        (scan, failures.into_iter().map(|(_, failure)| failure).collect())
    }

    /// The counts of the samples that can be read, and why others, by their index, cannot.
    fn scan_each(&self, images: bool, progress: impl Fn(usize, usize) + Sync) -> (Scan, Vec<(usize, Failure)>) {
        let done = AtomicUsize::new(0);
        let all = self.samples.len();
        let each: Vec<std::result::Result<Counts, Failure>> = (0..all)
            .into_par_iter()
            .map(|i| {
                let counted = self.count(i, images);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
                counted
            })
            .collect();
        let mut scan = Scan::default();
        let mut failures = Vec::new();
        for (i, counted) in each.into_iter().enumerate() {
            match counted {
                Ok(Counts { pixels, ignored, no_data }) => {
                    scan.pixels.push(pixels);
                    scan.ignored.push(ignored);
                    scan.no_data.push(no_data);
                }
                Err(failure) => failures.push((i, failure)),
            }
        }
        (scan, failures)
    }

    fn count(&self, index: usize, images: bool) -> std::result::Result<Counts, Failure> {
        let sample = self.sample(index).map_err(|e| Failure::new(Path::new(""), e))?;
        let of_mask = |error| Failure::new(&sample.mask, error);
        let mut invalid = Vec::new();
        if images {
            invalid = self.read_image(index).map_err(|e| Failure::new(&sample.image, e))?.nodata;
        }
        let map = self.labels.get(sample.folder).ok_or_else(|| of_mask(no_sample(index)))?;
        let classes = self.classes.len();
        if invalid.is_empty() {
            let known = match self.histograms.get(index) {
                Some(Some(known)) => known.clone(),
                _ => map.histogram(&sample.mask, sample.width, sample.height).map_err(of_mask)?,
            };
            let (pixels, ignored) = map.count(&known.values, classes, &sample.mask).map_err(of_mask)?;
            return Ok(Counts { pixels, ignored, no_data: known.no_data });
        }
        let labels = map.marked(&sample.mask, sample.width, sample.height).map_err(of_mask)?;
        let mut counts = Counts { pixels: vec![0; classes], ignored: 0, no_data: 0 };
        for (label, invalid) in labels.into_iter().zip(invalid) {
            match (invalid, label) {
                (true, _) | (_, NO_DATA) => counts.no_data += 1,
                (_, IGNORE) => counts.ignored += 1,
                (_, class) => counts.pixels.get_mut(usize::from(class)).into_iter().for_each(|n| *n += 1),
            }
        }
        Ok(counts)
    }
}
