//! Batches of crops, normalised, read ahead on threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::augment::{AugmentOptions, augment};
use super::dataset::{Chip, Dataset, Samples};
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
    /// The sample that each crop comes from.
    pub samples: Vec<usize>,
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
    options: BatchOptions,
    cache: Mutex<ChipCache>,
    /// For each band, the normalised value of each 8-bit one.
    tables: Vec<[f32; 256]>,
}

/// Decoded chips: those that came first, since in an epoch each is as likely to be asked for next as any other.
#[derive(Default)]
struct ChipCache {
    chips: HashMap<usize, Arc<Chip>>,
    bytes: u64,
}

/// A random number's seed from parts: equal parts give equal seeds, and neighbours differ widely.
pub(super) fn seed(parts: [u64; 3]) -> u64 {
    parts.iter().fold(0, |state, part| SplitMix(state ^ part).next_u64())
}

impl Loader {
    /// A loader of the samples `indices` of a data set.
    pub fn new(dataset: Arc<Dataset>, indices: Vec<usize>, options: BatchOptions) -> Self {
        let normal = &options.normalization;
        let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 - mean) / std);
        let tables = normal.mean.iter().zip(&normal.std).map(table).collect();
        Self { work: Arc::new(BatchMaker { dataset, indices, options, cache: Mutex::default(), tables }) }
    }

    /// Batches of an epoch; the last may hold fewer crops.
    pub fn batches(&self) -> usize {
        let crops: usize = self.work.indices.iter().map(|&i| self.work.crops_of(i)).sum();
        crops.div_ceil(self.work.options.batch_size.max(1))
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
        let area = self.dataset.samples.get(sample).map_or(0, |s| s.width * s.height);
        (area / self.options.size.max(1).pow(2)).max(1)
    }

    /// The sample of each crop of an epoch, in the order drawn for it.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let crops = |&i: &usize| std::iter::repeat_n(i, self.crops_of(i));
        let mut order: Vec<usize> = self.indices.iter().flat_map(crops).collect();
        let mut random = SplitMix(seed([self.options.seed, epoch, u64::MAX]));
        for i in (1..order.len()).rev() {
            order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
        }
        order
    }

    fn cache(&self) -> MutexGuard<'_, ChipCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chip(&self, sample: usize) -> Result<Arc<Chip>> {
        if let Some(chip) = self.cache().chips.get(&sample) {
            return Ok(chip.clone());
        }
        let chip = Arc::new(self.dataset.read(sample)?);
        let mut cache = self.cache();
        if cache.bytes + chip.bytes() <= self.options.cache_bytes && !cache.chips.contains_key(&sample) {
            cache.bytes += chip.bytes();
            cache.chips.insert(sample, chip.clone());
        }
        Ok(chip)
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
        for ((i, &sample), out) in samples.iter().enumerate().zip(images.chunks_exact_mut(bands * size * size)) {
            let chip = self.chip(sample)?;
            let mut random = SplitMix(seed([self.options.seed, epoch, (first + i) as u64]));
            let crop = augment(&chip, size, &self.options.augment, &mut random);
            self.normalise(&crop, out);
            labels.extend_from_slice(&crop.labels);
        }
        Ok(Batch { count: samples.len(), bands, size, images, labels, samples })
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
