//! Hashes of the files of a data set.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Dataset;
use crate::error::{Error, Result};

/// SHA-256 of a file.
pub type FileHash = [u8; 32];

/// Image and mask of each sample.
pub(super) fn of_files(dataset: &Dataset) -> Result<Vec<[FileHash; 2]>> {
    let each: Vec<Result<[FileHash; 2]>> =
        dataset.samples.par_iter().map(|s| Ok([of_file(&s.image)?, of_file(&s.mask)?])).collect();
    each.into_iter().collect()
}

/// Of one file.
pub(super) fn of_file(path: &Path) -> Result<FileHash> {
    let place = |e: std::io::Error| Error::from(e).at(path.display());
    let mut file = File::open(path).map_err(place)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(place)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// One hash of names, sizes and contents, in the order of samples.
pub(super) fn of_dataset(dataset: &Dataset, files: &[[FileHash; 2]]) -> String {
    let mut hasher = Sha256::new();
    for (sample, [image, mask]) in dataset.samples.iter().zip(files) {
        hasher.update(format!("{}\0{}\0{}\0", sample.name, sample.width, sample.height));
        hasher.update(image);
        hasher.update(mask);
    }
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
