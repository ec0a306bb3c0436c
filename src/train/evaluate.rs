//! Figures of a model on labelled chips, through the very pipeline that segments tiles.

mod shown;

use shown::Shown;

use super::dataset::review::MIXED_RESOLUTION;
use super::dataset::split::places;
use super::dataset::{Chip, Dataset, IGNORE, Samples};
use super::metrics::confidence::Confidences;
use super::metrics::counts::{ImageCounts, badness, count};
use super::metrics::quality::Quality;
use super::metrics::{BoundaryWidth, Confusion, Metrics};
use super::report::SamplePicture;
use crate::config::Class;
use crate::engine::{SegmentOptions, Segmenter};
use crate::error::{Error, ErrorKind, Result};
use crate::mask::ClassMask;
use crate::source::{Axis, Memory, Regrid, Resampled, Resolution, choose};
use crate::weights::manifest::Manifest;

/// What was found.
pub struct Evaluation {
    /// Pixels by labelled and predicted class.
    pub confusion: Confusion,
    /// Figures of it.
    pub metrics: Metrics,
    /// Borders, objects, confidences, and every chip's own counts.
    pub quality: Quality,
    /// Some of the chips, the worst first: two thirds are the worst of all, the others spread evenly.
    pub pictures: Vec<SamplePicture>,
}

/// How to evaluate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluateOptions {
    /// Pictures to keep.
    pub pictures: usize,
    /// Width of the band along borders that the boundary IoU looks at.
    pub boundary: BoundaryWidth,
    /// At which ground resolution the model sees the chips, as [`choose`] takes it: none for its own, within limits. Masks are
    /// compared on the chips' grid all the same.
    pub resolution: Option<Resolution>,
}

/// Chips as they are, as training measures.
impl Default for EvaluateOptions {
    fn default() -> Self {
        Self { pictures: 0, boundary: BoundaryWidth::default(), resolution: Some(Resolution::Native) }
    }
}

/// Segments the chips `indices` at their full size and compares with their labels. `progress` gets chips done.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the data has a class that the model does not know, or the boundary's width is in metres and a chip's
/// ground resolution is not known; those of [`choose`], reading and segmenting.
pub fn evaluate(
    segmenter: &Segmenter,
    dataset: &Dataset,
    indices: &[usize],
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let manifest = segmenter.manifest();
    let to_model = class_map(&dataset.classes, &manifest.classes)?;
    let classes = manifest.classes.len();
    let (mut confusion, mut confidences) = (Confusion::new(classes), Confidences::new(classes));
    let (places, mut images) = (places(dataset, indices), Vec::new());
    let mut shown = Shown::new(options.pictures, indices.len());
    // Confidences are counted before thresholds, so that these can be chosen by them.
    let without = (0..classes).map(|class| (class as u8, 0.0)).collect();
    let raw = SegmentOptions { thresholds: without, ..SegmentOptions::default() };
    for (done, (&index, place)) in indices.iter().zip(places).enumerate() {
        let chip = dataset.read(index)?;
        let size = (chip.width, chip.height);
        let mut image = Memory::new(size, chip.bands, (&chip.samples).into(), &[])?;
        let (name, metres_per_pixel) =
            dataset.samples.get(index).map(|s| (s.name.clone(), s.metres_per_pixel)).unwrap_or_default();
        let choice =
            choose(&[metres_per_pixel], manifest.ground_resolution, options.resolution).map_err(|e| e.at(&name))?;
        let found = if choice.factor == 1.0 {
            pollster::block_on(segmenter.segment_raster(&mut image, &raw, async |_| Ok(())))?.mask
        } else {
            let mut seen = Resampled::new(image, choice.factor)?;
            let mask = pollster::block_on(segmenter.segment_raster(&mut seen, &raw, async |_| Ok(())))?.mask;
            let axis = Axis { scale: 1.0 / choice.factor, offset: 0.0 };
            let rows = Regrid::new((mask.width, mask.height), size, [axis; 2]).push(0, &mask.classes, &mask.confidence);
            ClassMask::new(size.0, size.1, rows.classes, rows.confidence)?
        };
        let truth: Vec<u8> =
            chip.labels.iter().map(|l| to_model.get(usize::from(*l)).copied().unwrap_or(IGNORE)).collect();
        confidences.add(&truth, &found.classes, &found.confidence)?;
        let mask = segmenter.refine(found, &SegmentOptions::default())?;
        confusion.add(&truth, &mask.classes)?;
        let width = options.boundary.pixels(size.0, size.1, metres_per_pixel).map_err(|e| e.at(&name))?;
        let counts = count(&truth, &mask.classes, size, width, classes);
        let counts = ImageCounts { name: name.clone(), place, metres_per_pixel, classes: counts };
        shown.offer(done, badness(&counts.figures()), || SamplePicture {
            name,
            width: chip.width,
            height: chip.height,
            rgb: rgb(&chip),
            truth,
            prediction: mask.classes,
            confidence: mask.confidence,
        });
        images.push(counts);
        progress(done + 1);
    }
    let metrics = Metrics::from(&confusion);
    let quality = Quality { boundary_width: options.boundary, images, confidences };
    Ok(Evaluation { confusion, metrics, quality, pictures: shown.finish() })
}

/// What people should know if the model was trained for pixels of another size than the chips `indices` have.
pub fn resolution_warning(manifest: &Manifest, dataset: &Dataset, indices: &[usize]) -> Option<String> {
    let (model, data) = (manifest.ground_resolution?, dataset.ground_resolution(indices)?);
    let factor = (model / data).max(data / model);
    (factor >= MIXED_RESOLUTION).then(|| {
        format!(
            "A pixel of the data covers {data:.2} m on the ground and one of the model's training {model:.2} m: things look \
             {factor:.1} times as {} as the model knows them.",
            if data < model { "large" } else { "small" }
        )
    })
}

/// The model's index of each of the data's classes.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming the class that the model does not have.
fn class_map(data: &[Class], model: &[Class]) -> Result<Vec<u8>> {
    let find = |class: &Class| {
        if class.index == 0 {
            return Ok(0);
        }
        model.iter().find(|c| c.name == class.name).map(|c| c.index).ok_or_else(|| {
            let known: Vec<_> = model.iter().map(|c| c.name.as_str()).collect();
            Error::new(
                ErrorKind::Invalid,
                format!("the model has no class {:?}, only {}", class.name, known.join(", ")),
            )
            .remedy("name the data's classes as the model's with --class VALUE=NAME, or leave others out with --keep")
        })
    };
    data.iter().map(find).collect()
}

/// A chip's first three bands (or its first, in grey) for people: 8-bit as they are, others stretched between their extremes.
fn rgb(chip: &Chip) -> Vec<u8> {
    let bands = chip.bands;
    let band = |i: usize| if bands >= 3 { i } else { 0 };
    if let Samples::U8(v) = &chip.samples {
        return v.chunks_exact(bands).flat_map(|p| [p[band(0)], p[band(1)], p[band(2)]]).collect();
    }
    let values: Vec<f32> = match &chip.samples {
        Samples::U16(v) => v.iter().map(|v| f32::from(*v)).collect(),
        Samples::F32(v) => v.clone(),
        Samples::U8(_) => Vec::new(),
    };
    let range = |i: usize| {
        let of_band = values.iter().skip(i).step_by(bands).filter(|v| v.is_finite());
        of_band.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    };
    let ranges = [range(band(0)), range(band(1)), range(band(2))];
    let byte = |v: f32, (low, high): (f32, f32)| ((v - low) / (high - low).max(1e-6) * 255.0).clamp(0.0, 255.0) as u8;
    let pixel = |p: &[f32]| [0, 1, 2].map(|i| byte(p[band(i)], ranges[i]));
    values.chunks_exact(bands).flat_map(pixel).collect()
}
