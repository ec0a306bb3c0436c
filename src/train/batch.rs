//! Batches of crops, normalised, read ahead on threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::augment::{AugmentOptions, augment_with};
use super::dataset::{Chip, Dataset, IGNORE, Lesson, Samples, SoftMasks, Unlabelled};
use crate::config::Normalization;
use crate::error::{Error, ErrorKind, Result};
use crate::random::SplitMix;

mod prefetch;

pub use prefetch::Batches;

/// Crops that are trained on together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Crops.
    pub count: usize,
    /// Bands of a crop.
    pub bands: usize,
    /// Side of a crop in pixels.
    pub size: usize,
    /// `[count, bands, size, size]`, normalised; 0, the mean, where there is no data.
    pub images: Vec<f32>,
    /// `[count, size, size]`: class indices, [`super::dataset::IGNORE`] where there is none.
    pub labels: Vec<u8>,
    /// The sample that each crop comes from; from the number of samples on, unlabelled images.
    pub samples: Vec<usize>,
    /// What a teacher says of it, if there is one.
    pub taught: Option<BatchLesson>,
}

/// What a teacher says of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BatchLesson {
    /// `[count, size, size]`: 1 where the teacher speaks, 0 where it is silent.
    pub speaks: Vec<f32>,
    /// `[count, classes, size, size]` of soft masks, 0 where silent; empty where a model is the teacher.
    pub probabilities: Vec<f32>,
}

/// What batches take beside labelled samples when there is a teacher.
#[derive(Debug, Default)]
pub struct Lessons {
    /// Soft masks, if they are the teacher; their images' indices are those of [`Batch::samples`].
    pub masks: Option<SoftMasks>,
    /// Images that only the teacher speaks of.
    pub unlabelled: Unlabelled,
    /// The share of unlabelled crops, 0 to 1. At 1 an epoch is one pass over the unlabelled images, below it one over the labelled
    /// ones.
    pub share: f64,
}

/// How batches are made.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// Side of a crop in pixels, at least 1.
    pub size: usize,
    /// Crops in a batch, at least 1.
    pub batch_size: usize,
    /// Random crops of each chip in an epoch; 0 for as many as its area holds, at least 1.
    pub crops: usize,
    /// What happens to each crop.
    pub augment: AugmentOptions,
    /// Mean and standard deviation of each band, in the images' own units.
    pub normalization: Normalization,
    /// Decides the order of crops, their places and their changes.
    pub seed: u64,
    /// Threads that read ahead; 0 to make each batch when it is asked for. The batches are the same.
    pub workers: usize,
    /// Bytes of decoded chips that are kept; [`CACHE_BYTES`] is a good value.
    pub cache_bytes: u64,
}

/// Bytes of decoded chips to keep: 1 GiB, 270 chips of 1024 x 1024 pixels.
pub const CACHE_BYTES: u64 = 1 << 30;

/// Makes the batches of every epoch.
pub struct Loader {
    work: Arc<BatchMaker>,
}

/// What threads share for all epochs.
struct BatchMaker {
    dataset: Arc<Dataset>,
    indices: Vec<usize>,
    lessons: Option<Arc<Lessons>>,
    options: BatchOptions,
    cache: Mutex<ChipCache>,
    /// For each band, the normalised value of each 8-bit one.
    tables: Vec<[f32; 256]>,
}

/// Decoded chips: those that came first, since in an epoch each is as likely to be asked for next as any other.
#[derive(Default)]
struct ChipCache {
    chips: HashMap<usize, Arc<Decoded>>,
    bytes: u64,
}

/// A chip with what a teacher says of it.
struct Decoded {
    chip: Chip,
    lesson: Option<Lesson>,
}

impl Decoded {
    fn bytes(&self) -> u64 {
        self.chip.bytes() + self.lesson.as_ref().map_or(0, Lesson::bytes)
    }
}

/// A random number's seed from parts: equal parts give equal seeds, and neighbours differ widely.
pub(super) fn seed(parts: [u64; 3]) -> u64 {
    parts.iter().fold(0, |state, part| SplitMix(state ^ part).next_u64())
}

impl Loader {
    /// A loader of the samples `indices` of a data set.
    pub fn new(dataset: Arc<Dataset>, indices: Vec<usize>, options: BatchOptions) -> Self {
        Self::taught(dataset, indices, None, options)
    }

    /// As [`Loader::new`], with what a teacher says of each crop and with unlabelled images.
    pub fn taught(
        dataset: Arc<Dataset>,
        indices: Vec<usize>,
        lessons: Option<Arc<Lessons>>,
        options: BatchOptions,
    ) -> Self {
        let normal = &options.normalization;
        let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 - mean) / std);
        let tables = normal.mean.iter().zip(&normal.std).map(table).collect();
        Self { work: Arc::new(BatchMaker { dataset, indices, lessons, options, cache: Mutex::default(), tables }) }
    }

    /// Batches of an epoch; the last may hold fewer crops.
    pub fn batches(&self) -> usize {
        self.work.crops().div_ceil(self.work.options.batch_size.max(1))
    }

    /// The batches of an epoch from number `skip` on. The same seed, epoch and number give the same bits, whatever the
    /// number of workers and whatever was read before.
    pub fn epoch(&self, epoch: u64, skip: usize) -> Batches {
        Batches::new(self.work.clone(), self.work.order(epoch), epoch, skip)
    }
}

impl BatchMaker {
    /// Crops of a sample in an epoch.
    fn crops_of(&self, sample: usize) -> usize {
        if self.options.crops > 0 {
            return self.options.crops;
        }
        let area = match sample.checked_sub(self.dataset.samples.len()).zip(self.lessons.as_ref()) {
            None => self.dataset.samples.get(sample).map_or(0, |s| s.width * s.height),
            Some((i, lessons)) => lessons.unlabelled.images.get(i).map_or(0, |s| s.width * s.height),
        };
        (area / self.options.size.max(1).pow(2)).max(1)
    }

    /// The unlabelled images and their share in an epoch's crops.
    fn unlabelled(&self) -> Option<(std::ops::Range<usize>, f64)> {
        let (lessons, first) = (self.lessons.as_ref()?, self.dataset.samples.len());
        let images = first..first + lessons.unlabelled.images.len();
        (lessons.share > 0.0 && !images.is_empty()).then(|| (images, lessons.share.min(1.0)))
    }

    /// Crops of an epoch.
    fn crops(&self) -> usize {
        let count = |all: &mut dyn Iterator<Item = usize>| all.map(|i| self.crops_of(i)).sum::<usize>();
        let labelled = count(&mut self.indices.iter().copied());
        match self.unlabelled() {
            None => labelled,
            Some((images, 1.0)) => count(&mut images.clone()),
            Some((_, share)) => (0..).filter(|at| !is_unlabelled(*at, share)).nth(labelled).unwrap_or(labelled),
        }
    }

    /// The sample of each crop of an epoch, in the order drawn for it.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let labelled = self.shuffled(self.indices.iter().copied(), [self.options.seed, epoch, u64::MAX]);
        let Some((images, share)) = self.unlabelled() else { return labelled };
        let unlabelled = self.shuffled(images, [self.options.seed, epoch, u64::MAX - 1]);
        let (mut labelled, mut unlabelled) = (labelled.into_iter(), unlabelled.into_iter().cycle());
        (0..self.crops())
            .filter_map(|at| if is_unlabelled(at, share) { unlabelled.next() } else { labelled.next() })
            .collect()
    }

    fn shuffled(&self, samples: impl Iterator<Item = usize>, by: [u64; 3]) -> Vec<usize> {
        let mut order: Vec<usize> = samples.flat_map(|i| std::iter::repeat_n(i, self.crops_of(i))).collect();
        let mut random = SplitMix(seed(by));
        for i in (1..order.len()).rev() {
            order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
        }
        order
    }

    fn cache(&self) -> MutexGuard<'_, ChipCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chip(&self, sample: usize) -> Result<Arc<Decoded>> {
        if let Some(chip) = self.cache().chips.get(&sample) {
            return Ok(chip.clone());
        }
        let chip = Arc::new(self.decode(sample)?);
        let mut cache = self.cache();
        if cache.bytes + chip.bytes() <= self.options.cache_bytes && !cache.chips.contains_key(&sample) {
            cache.bytes += chip.bytes();
            cache.chips.insert(sample, chip.clone());
        }
        Ok(chip)
    }

    fn decode(&self, sample: usize) -> Result<Decoded> {
        let Some(lessons) = &self.lessons else {
            return Ok(Decoded { chip: self.dataset.read(sample)?, lesson: None });
        };
        let (chip, silence) = match sample.checked_sub(self.dataset.samples.len()) {
            None => self.dataset.read_with_silence(sample)?,
            Some(i) => lessons.unlabelled.read(i, &self.dataset)?,
        };
        let lesson = match &lessons.masks {
            None => Lesson::Model(silence),
            Some(masks) => Lesson::Mask(masks.read(sample, &silence)?),
        };
        Ok(Decoded { chip, lesson: Some(lesson) })
    }

    /// Batch `number` of an epoch.
    fn batch(&self, order: &[usize], epoch: u64, number: usize) -> Result<Batch> {
        let (size, bands) = (self.options.size.max(1), self.dataset.bands);
        if self.tables.len() != bands {
            let message = format!("a normalisation of {} bands for images of {bands}", self.tables.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let first = number * self.options.batch_size.max(1);
        let samples: Vec<usize> = order.iter().skip(first).take(self.options.batch_size.max(1)).copied().collect();
        let mut images = vec![0.0; samples.len() * bands * size * size];
        let mut labels = Vec::with_capacity(samples.len() * size * size);
        let mut taught = self.lessons.as_ref().map(|_| BatchLesson::default());
        for ((i, &sample), out) in samples.iter().enumerate().zip(images.chunks_exact_mut(bands * size * size)) {
            let decoded = self.chip(sample)?;
            let mut random = SplitMix(seed([self.options.seed, epoch, (first + i) as u64]));
            let lesson = decoded.lesson.as_ref();
            let metres = self.dataset.samples.get(sample).and_then(|s| s.metres_per_pixel);
            let options = self.options.augment.on_ground(metres);
            let (crop, lesson) = augment_with(&decoded.chip, lesson, size, &options, &mut random);
            self.normalise(&crop, out);
            labels.extend_from_slice(&crop.labels);
            if let (Some(taught), Some(lesson)) = (&mut taught, lesson) {
                taught.add(&lesson, self.dataset.classes.len());
            }
        }
        Ok(Batch { count: samples.len(), bands, size, images, labels, samples, taught })
    }

    fn normalise(&self, crop: &Chip, out: &mut [f32]) {
        let bands = crop.bands;
        let planes = out.chunks_exact_mut(crop.labels.len().max(1)).enumerate();
        match &crop.samples {
            Samples::U8(v) => planes.zip(&self.tables).for_each(|((band, plane), table)| {
                for (out, pixel) in plane.iter_mut().zip(v.chunks_exact(bands)) {
                    *out = table[usize::from(pixel[band])];
                }
            }),
            Samples::U16(v) => planes.for_each(|(band, plane)| self.scale(v, bands, band, plane)),
            Samples::F32(v) => planes.for_each(|(band, plane)| self.scale(v, bands, band, plane)),
        }
    }

    fn scale<T: Copy + Into<f32>>(&self, values: &[T], bands: usize, band: usize, plane: &mut [f32]) {
        normalise_band(values, bands, band, &self.options.normalization, plane);
    }
}

impl BatchLesson {
    fn add(&mut self, lesson: &Lesson, classes: usize) {
        self.speaks.extend(lesson.silence().iter().map(|s| if *s == IGNORE { 0.0 } else { 1.0 }));
        if matches!(lesson, Lesson::Mask(_)) {
            let (before, pixels) = (self.probabilities.len(), lesson.silence().len());
            self.probabilities.resize(before + classes * pixels, 0.0);
            lesson.probabilities(classes, &mut self.probabilities[before..]);
        }
    }
}

/// Whether crop `at` of an epoch is an unlabelled one: spread evenly, so that batches have the share too.
fn is_unlabelled(at: usize, share: f64) -> bool {
    ((at + 1) as f64 * share).floor() > (at as f64 * share).floor()
}

/// Normalises one band of `[height, width, bands]` into a plane `[height, width]`: `(value - mean) / std`, and 0, the mean,
/// for what is no finite number.
pub fn normalise_band<T: Copy + Into<f32>>(
    values: &[T],
    bands: usize,
    band: usize,
    normalization: &Normalization,
    plane: &mut [f32],
) {
    let (Some(mean), Some(std)) = (normalization.mean.get(band), normalization.std.get(band)) else { return };
    for (out, pixel) in plane.iter_mut().zip(values.chunks_exact(bands.max(1))) {
        let value = pixel.get(band).map_or(f32::NAN, |v| ((*v).into() - mean) / std);
        *out = if value.is_finite() { value } else { 0.0 };
    }
}
