//! Samples on disk: folders of images and masks, their classes, and how they are split.
//!
//! ```text
//! folders -> pairs of files            classified_tiles, folder: listing
//!   -> headers: size, bands, place     open (no pixel is decoded), agreement
//!   -> one class list                  classes, values
//!   -> chips with class indices        chip, labels; scan
//!   -> training and validation         split, by place; review
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Class, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::source::raw::{self, Raw};

mod agreement;
mod chip;
mod classes;
mod classified_tiles;
mod extent;
mod fingerprint;
mod folder;
mod labels;
mod lesson;
mod listing;
mod open;
pub mod review;
mod scan;
mod soft_masks;
pub mod split;
mod statistics;
mod unlabelled;
mod values;

pub use crate::source::raw::Depth;
pub use chip::{Chip, IGNORE, Samples};
pub use classes::MAX_CLASSES;
pub use extent::Extent;
pub use fingerprint::FileHash;
pub use folder::is_dataset;
pub use lesson::Lesson;
pub use scan::{Failure, Scan};
pub use soft_masks::{SoftMasks, Wanted};
pub use unlabelled::{Unlabelled, UnlabelledImage};

/// What is read of the data, and how label values become classes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatasetOptions {
    /// What happens to label values that no class has.
    pub unlisted: Unlisted,
    /// Label values that become [`IGNORE`], before anything else is asked of them.
    pub ignore: Vec<u32>,
    /// The label value of class 0; 0 without. If that value is ignored, class 0 is called background and never occurs.
    pub background: Option<u32>,
    /// The classes of all folders; without, what the data says: the export's list, `classes.json`, else each value of
    /// the masks is a class.
    pub classes: Option<Vec<NamedValue>>,
    /// The bands that are read, from 0, in this order; all without.
    pub bands: Option<Vec<usize>>,
    /// Names of the classes that are kept; all others become class 0.
    pub keep: Option<Vec<String>>,
    /// Each value of masks without a class list is a class, however many there are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub every_value: bool,
}

/// What happens to label values that no class has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unlisted {
    /// Reading fails, naming file and value.
    #[default]
    Error,
    /// They become class 0.
    Background,
    /// They become [`IGNORE`].
    Ignore,
}

impl std::str::FromStr for Unlisted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "error" => Ok(Self::Error),
            "background" => Ok(Self::Background),
            "ignore" => Ok(Self::Ignore),
            _ => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no rule for unlisted values"))
                .remedy("error, background or ignore")),
        }
    }
}

/// A label value and its class's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    /// Value in the masks.
    pub value: u32,
    /// Name of the class; values of one name are one class.
    pub name: String,
}

/// Images with masks, of one or several folders.
#[derive(Debug)]
pub struct Dataset {
    /// All samples, folder by folder, in the order of their names.
    pub samples: Vec<Sample>,
    /// The classes; index 0 is background. At most [`MAX_CLASSES`].
    pub classes: Vec<Class>,
    /// The label value of each class, in the first folder that has it.
    pub values: Vec<u32>,
    /// Bands that are read of every image, without alpha; 8-bit grey counts as three.
    pub bands: usize,
    /// Type of every image's samples.
    pub depth: Depth,
    /// The folders it was opened from, in the order given.
    pub folders: Vec<FolderInfo>,
    /// What people should know about the data, sentences.
    pub warnings: Vec<String>,
    options: DatasetOptions,
    /// Bands of the files.
    file_bands: usize,
    labels: Vec<labels::LabelMap>,
    /// Pixels of each label value, of samples whose masks were decoded to find them.
    histograms: Vec<Option<labels::Histogram>>,
    /// Label values that became classes without a name.
    unnamed: values::Unnamed,
}

/// What a folder of a data set is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FolderInfo {
    /// Where it is, as given.
    pub path: PathBuf,
    /// Its layout.
    pub kind: FolderKind,
    /// How many samples it has.
    pub samples: usize,
    /// Masks without an image, which are not used.
    pub unused_masks: usize,
}

/// Layouts of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderKind {
    /// An ArcGIS export of Classified Tiles.
    ClassifiedTiles,
    /// `images/` and `masks/` or `labels/`.
    Folder,
}

/// An image with its mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Unique: `folder/stem`.
    pub name: String,
    /// The image's file.
    pub image: PathBuf,
    /// The mask's file.
    pub mask: PathBuf,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Index in [`Dataset::folders`].
    pub folder: usize,
    /// The ground it shows, if known.
    pub extent: Option<Extent>,
    /// Metres on the ground that a pixel covers, if known.
    pub metres_per_pixel: Option<f64>,
}

impl Dataset {
    /// Lists folders, joins images and masks, and reads their headers; pixels are decoded only to find the classes of
    /// folders that name none.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for missing folders and masks, [`ErrorKind::Unsupported`] for formats and layouts that
    /// are not read, [`ErrorKind::Invalid`] where sizes, bands or class lists do not agree, [`ErrorKind::Format`] for
    /// damaged files. All name the file.
    pub fn open(folders: &[PathBuf], options: &DatasetOptions) -> Result<Self> {
        let (dataset, failures) = Self::open_readable(folders, options)?;
        match Failure::all(failures) {
            Some(error) => Err(error),
            None => Ok(dataset),
        }
    }

    /// As [`Dataset::open`], but samples whose files cannot be used are left out, and come with the reason.
    ///
    /// # Errors
    /// As [`Dataset::open`] for what is wrong with the whole, and if no sample is left.
    pub fn open_readable(folders: &[PathBuf], options: &DatasetOptions) -> Result<(Self, Vec<Failure>)> {
        open::open(folders, options)
    }

    /// Checks that classes that nobody named are likely to be classes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if each of many values would be one, and [`DatasetOptions::every_value`] does not ask for it.
    pub fn check_classes(&self) -> Result<()> {
        if self.options.every_value || !self.unnamed.are_many() || self.options.keep.is_some() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, self.unnamed.finding())
            .at(self.unnamed.folder.display())
            .remedy(self.unnamed.remedy()))
    }

    /// The median of the metres on the ground that a pixel of some samples covers, if any is known.
    pub fn ground_resolution(&self, indices: &[usize]) -> Option<f64> {
        let samples = indices.iter().filter_map(|&i| self.samples.get(i));
        let mut known: Vec<f64> = samples.filter_map(|s| s.metres_per_pixel).collect();
        known.sort_by(f64::total_cmp);
        known.get(known.len() / 2).copied()
    }

    /// How label values become classes.
    pub fn options(&self) -> &DatasetOptions {
        &self.options
    }

    /// Whether images are red, green and blue of 8 bits, so that SAM's normalisation fits.
    pub fn is_rgb8(&self) -> bool {
        let first = self.options.bands.as_deref().is_none_or(|b| b == [0, 1, 2]);
        self.depth == Depth::U8 && self.bands == 3 && first
    }

    /// Decodes a sample, its label values as class indices.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for label values that no class has (unless mapped) and for files that changed since they
    /// were listed; whatever reading the files gives. All name the file.
    pub fn read(&self, index: usize) -> Result<Chip> {
        Ok(self.read_with_silence(index)?.0)
    }

    /// As [`Dataset::read`]; and `[height, width]`: 0 where the image holds data, [`IGNORE`] where not, whatever the labels are.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_with_silence(&self, index: usize) -> Result<(Chip, Vec<u8>)> {
        let image = self.read_image(index)?;
        let labels = self.read_labels(index)?;
        let silence = unlabelled::silence(&image);
        let path = &self.sample(index)?.image;
        Ok((Chip::new(image, labels).map_err(|e| e.at(path.display()))?, silence))
    }

    /// Decodes a sample's mask to class indices or [`IGNORE`], `[height, width]`.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_labels(&self, index: usize) -> Result<Vec<u8>> {
        let sample = self.sample(index)?;
        let map = self.labels.get(sample.folder).ok_or_else(|| no_sample(index))?;
        map.read(&sample.mask, sample.width, sample.height)
    }

    /// Decodes a sample's image with the bands that were asked for.
    fn read_image(&self, index: usize) -> Result<Raw> {
        let sample = self.sample(index)?;
        self.read_file(&sample.image, sample.width, sample.height)
    }

    /// Decodes an image of this data set's bands and depth, of which its header said that it has this size.
    fn read_file(&self, path: &Path, width: usize, height: usize) -> Result<Raw> {
        let image = raw::read(path)?;
        let depth = match image.samples {
            Samples::U8(_) => Depth::U8,
            Samples::U16(_) => Depth::U16,
            Samples::F32(_) => Depth::F32,
        };
        let (found, listed) =
            ((image.width, image.height, image.bands, depth), (width, height, self.file_bands, self.depth));
        if found != listed {
            let message = format!("the image has {found:?} (width, height, bands, depth) and had {listed:?}");
            return Err(Error::new(ErrorKind::Invalid, message)
                .at(path.display())
                .remedy("the file changed since it was listed; start again"));
        }
        match &self.options.bands {
            Some(bands) => chip::with_bands(image, bands).map_err(|e| e.at(path.display())),
            None => Ok(image),
        }
    }

    fn sample(&self, index: usize) -> Result<&Sample> {
        self.samples.get(index).ok_or_else(|| no_sample(index))
    }

    /// Mean and standard deviation of each band, for [`Normalization`]: SAM's own for 8-bit RGB, else measured in at most
    /// 2,000 of the samples `indices`, spread evenly. NaN and pixels without data are left out; a band that never
    /// changes gets 1.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a band holds no data at all; whatever reading the files gives.
    pub fn statistics(&self, indices: &[usize]) -> Result<Normalization> {
        statistics::measure(self, indices)
    }

    /// SHA-256 of each sample's image and mask, read in parallel.
    ///
    /// # Errors
    /// What reading the files gives.
    pub fn file_hashes(&self) -> Result<Vec<[FileHash; 2]>> {
        fingerprint::of_files(self)
    }

    /// SHA-256 over names, sizes and the hashes of all files, in hexadecimal digits: equal only for equal data.
    ///
    /// # Errors
    /// As [`Dataset::file_hashes`].
    pub fn content_hash(&self) -> Result<String> {
        Ok(self.hash_of(&self.file_hashes()?))
    }

    /// [`Dataset::content_hash`] of hashes that [`Dataset::file_hashes`] gave.
    pub fn hash_of(&self, files: &[[FileHash; 2]]) -> String {
        fingerprint::of_dataset(self, files)
    }

    /// The folder that a path names, by its index in [`Dataset::folders`].
    pub fn folder(&self, path: &Path) -> Option<usize> {
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_owned());
        let wanted = real(path);
        self.folders.iter().position(|f| f.path == path || real(&f.path) == wanted)
    }
}

/// Classes of which the same is to be said are told one by one up to so many, else in one sentence.
const ONE_BY_ONE: usize = 3;

/// A sentence for each of a few classes, or one for all of many.
fn each_or_all(names: &[&str], one: impl Fn(&str) -> String, all: impl Fn(String) -> String) -> Vec<String> {
    if names.len() <= ONE_BY_ONE {
        return names.iter().map(|name| one(name)).collect();
    }
    let first: Vec<String> = names.iter().take(ONE_BY_ONE).map(|name| format!("{name:?}")).collect();
    vec![all(format!("{} classes ({}, ..)", names.len(), first.join(", ")))]
}

fn no_sample(index: usize) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no sample {index}"))
}
