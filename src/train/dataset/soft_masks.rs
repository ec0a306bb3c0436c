//! A folder of soft masks: for each image that is trained on a raster of class probabilities with the image's file stem.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::chip::{Chip, IGNORE};
use super::fingerprint;
use super::lesson::{ROUNDING, probabilities_of};
use super::listing::Listing;
use super::scan::Failure;
use crate::error::{Error, ErrorKind, Result};
use crate::source::raw::{self, MaskValues, Samples};

/// An image that wants a soft mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What the batches know it by.
    pub index: usize,
    /// The image's file.
    pub image: PathBuf,
    /// Its width in pixels.
    pub width: usize,
    /// Its height in pixels.
    pub height: usize,
}

/// Soft masks by image. One band of 8 or 16 bits (0 to 255 or 65535 for 0 to 1) or of floating point (0 to 1) for one class
/// beside background; for several, a band for each of them in the order of classes, or for each and background before them.
/// Where a mask holds no data (nodata values, transparency, NaN), the teacher is silent.
#[derive(Debug)]
pub struct SoftMasks {
    files: BTreeMap<usize, (Wanted, PathBuf)>,
    classes: usize,
}

impl SoftMasks {
    /// Finds the soft masks of images, for `classes` classes with background, and decodes each of them once.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] naming images without one, [`ErrorKind::Invalid`] for two images of one stem, another size,
    /// bands that are not the classes', and values that are no probabilities. All name a file.
    pub fn open(folder: &Path, wanted: &[Wanted], classes: usize) -> Result<Self> {
        let listing = Listing::new(folder)?;
        let mut files = BTreeMap::new();
        let mut missing = Vec::new();
        let mut stems: BTreeMap<String, &Path> = BTreeMap::new();
        for image in wanted {
            let stem = image.image.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(other) = stems.insert(stem.clone(), &image.image) {
                let message = format!("has the name of {}: which soft mask is whose?", other.display());
                return Err(Error::new(ErrorKind::Invalid, message)
                    .at(image.image.display())
                    .remedy("give images of all folders names of their own, and their soft masks the same"));
            }
            match listing.files.get(&stem) {
                Some(file) => drop(files.insert(image.index, (image.clone(), file.clone()))),
                None => missing.push(image.image.display().to_string()),
            }
        }
        if let Some(first) = missing.first() {
            let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            let message = format!("there is no soft mask of {first}{more}");
            return Err(Error::new(ErrorKind::NotFound, message)
                .at(folder.display())
                .remedy("every image that is trained on needs one, a PNG or TIFF with the image's file stem"));
        }
        let masks = Self { files, classes };
        let all: Vec<usize> = masks.files.keys().copied().collect();
        let failed = all.into_par_iter().filter_map(|index| {
            let error = masks.read(index, &[]).err()?;
            Some(Failure::new(&masks.files.get(&index)?.1, error))
        });
        match Failure::all(failed.collect()) {
            Some(error) => Err(error),
            None => Ok(masks),
        }
    }

    /// SHA-256 over all files, in the order of images.
    ///
    /// # Errors
    /// What reading the files gives.
    pub fn hash(&self) -> Result<String> {
        let files: Vec<&Path> = self.files.values().map(|(_, file)| file.as_path()).collect();
        let each: Vec<Result<fingerprint::FileHash>> =
            files.par_iter().map(|file| fingerprint::of_file(file)).collect();
        let mut hasher = Sha256::new();
        for hash in each {
            hasher.update(hash?);
        }
        Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The soft mask of the image `index`, as a chip whose bands are probabilities and whose labels are 0, or [`IGNORE`] where the
    /// mask holds no data or `silence` (`[height, width]`, or empty) says [`IGNORE`].
    ///
    /// # Errors
    /// As [`SoftMasks::open`].
    pub fn read(&self, index: usize, silence: &[u8]) -> Result<Chip> {
        let Some((image, file)) = self.files.get(&index) else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no soft mask of image {index}")));
        };
        self.decoded(image, file, silence).map_err(|e| e.at(file.display()))
    }

    fn decoded(&self, image: &Wanted, file: &Path, silence: &[u8]) -> Result<Chip> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        let (width, height, bands, samples, nodata) = if self.classes == 2 {
            // As masks are read, so that grey stays one band.
            let mask = raw::mask(file)?;
            let samples = match mask.values {
                MaskValues::U8(v) => Samples::U8(v),
                MaskValues::U16(v) => Samples::U16(v),
                MaskValues::F32(v) => Samples::F32(v),
                MaskValues::Rgb(_) => {
                    return Err(invalid(
                        "the soft mask holds colours, expected one band: the class's probability".into(),
                    )
                    .remedy("save it with one band of 8 or 16 bits, or floating point"));
                }
            };
            (mask.width, mask.height, 1, samples, mask.nodata)
        } else {
            let raw = raw::read(file)?;
            (raw.width, raw.height, raw.bands, raw.samples, raw.nodata)
        };
        if (width, height) != (image.width, image.height) {
            let message =
                format!("the soft mask has {width} x {height} pixels, its image {} x {}", image.width, image.height);
            return Err(invalid(message).remedy("write soft masks in the size of their images"));
        }
        if bands != self.classes && bands + 1 != self.classes {
            let message = format!("the soft mask has {bands} bands for {} classes with background", self.classes);
            return Err(invalid(message).remedy("one band for each class but background, in the order of classes"));
        }
        let mut chip = Chip { width, height, bands, samples, labels: vec![0; width * height] };
        for (pixel, _) in nodata.iter().enumerate().filter(|(_, none)| **none) {
            chip.labels[pixel] = IGNORE;
            // What means nothing must not enter its neighbours when it is resampled.
            let at = pixel * bands..(pixel + 1) * bands;
            match &mut chip.samples {
                Samples::U8(v) => v[at].fill(0),
                Samples::U16(v) => v[at].fill(0),
                Samples::F32(v) => v[at].fill(0.0),
            }
        }
        self.check(&chip)?;
        chip.labels.iter_mut().zip(silence).filter(|(_, s)| **s == IGNORE).for_each(|(label, _)| *label = IGNORE);
        Ok(chip)
    }

    /// Checks that every pixel with data holds probabilities.
    fn check(&self, chip: &Chip) -> Result<()> {
        if chip.labels.iter().all(|label| *label == IGNORE) {
            return Err(Error::new(ErrorKind::Invalid, "no pixel of the soft mask holds data")
                .remedy("look at how it was written: NaN, transparent and nodata pixels hold none"));
        }
        let mut found = vec![0.0; self.classes];
        for (pixel, _) in chip.labels.iter().enumerate().filter(|(_, label)| **label != IGNORE) {
            probabilities_of(chip, pixel, &mut found);
            let sum: f32 = found.iter().sum();
            if !found.iter().all(|p| (0.0..=1.0).contains(p)) || (sum - 1.0).abs() > ROUNDING {
                let (x, y) = (pixel % chip.width, pixel / chip.width);
                let message = format!("{found:?} at column {x}, row {y} are no probabilities of the classes");
                return Err(Error::new(ErrorKind::Invalid, message).remedy(
                    "values are 0 to 1, and sum to 1 at most; what is not known is NaN, transparent or a nodata value",
                ));
            }
        }
        Ok(())
    }
}
