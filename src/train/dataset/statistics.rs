//! Mean and standard deviation of each band.

use rayon::prelude::*;

use super::{Dataset, Depth};
use crate::config::Normalization;
use crate::error::{Error, ErrorKind, Result};
use crate::source::raw::{Raw, Samples};

/// The most images that are read for statistics, spread evenly.
const MAX_IMAGES: usize = 2_000;

/// Count, mean and sum of squared deviations (Welford; combined as by Chan et al. 1979).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count == 0.0 {
            return;
        }
        let delta = other.mean - self.mean;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.mean += delta * other.count / count;
        self.count = count;
    }

    /// Of one image's band; pixels without data are left out.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let values = values.filter(|v| v.is_finite());
        let (count, sum) = values.clone().fold((0.0, 0.0), |(n, s), v| (n + 1.0, s + v));
        if count == 0.0 {
            return Self::default();
        }
        let mean = sum / count;
        Self { count, mean, squares: values.map(|v| (v - mean) * (v - mean)).sum() }
    }
}

fn of_image(image: &Raw) -> Vec<Moments> {
    let Raw { bands, samples, nodata, .. } = image;
    let has_data = |i: usize| nodata.get(i).is_none_or(|none| !none);
    (0..*bands)
        .map(|band| match samples {
            Samples::U8(v) => Moments::of(
                v[band..].iter().step_by(*bands).enumerate().filter(|(i, _)| has_data(*i)).map(|(_, v)| f64::from(*v)),
            ),
            Samples::U16(v) => Moments::of(
                v[band..].iter().step_by(*bands).enumerate().filter(|(i, _)| has_data(*i)).map(|(_, v)| f64::from(*v)),
            ),
            Samples::F32(v) => Moments::of(
                v[band..].iter().step_by(*bands).enumerate().filter(|(i, _)| has_data(*i)).map(|(_, v)| f64::from(*v)),
            ),
        })
        .collect()
}

/// As [`Dataset::statistics`].
pub(super) fn measure(dataset: &Dataset, indices: &[usize]) -> Result<Normalization> {
    if dataset.is_rgb8() {
        return Ok(Normalization::rgb());
    }
    let count = indices.len().min(MAX_IMAGES);
    let chosen: Vec<usize> = (0..count).map(|i| indices[i * indices.len() / count]).collect();
    let each: Vec<Result<Vec<Moments>>> =
        chosen.par_iter().map(|&i| dataset.read_image(i).map(|image| of_image(&image))).collect();
    let mut total = vec![Moments::default(); dataset.bands];
    for image in each {
        total.iter_mut().zip(image?).for_each(|(t, m)| t.add(&m));
    }
    if let Some(band) = total.iter().position(|m| m.count == 0.0) {
        let scale = match dataset.depth {
            Depth::U8 | Depth::U16 => "is without data",
            Depth::F32 => "holds no number",
        };
        return Err(Error::new(ErrorKind::Invalid, format!("band {} {scale} in every image", band + 1))
            .remedy("leave it out with --bands"));
    }
    let std = |m: &Moments| {
        let std = (m.squares / m.count).sqrt() as f32;
        // A band that never changes says nothing; it must not become infinite.
        if std > 0.0 && std.is_finite() { std } else { 1.0 }
    };
    Ok(Normalization { mean: total.iter().map(|m| m.mean as f32).collect(), std: total.iter().map(std).collect() })
}
