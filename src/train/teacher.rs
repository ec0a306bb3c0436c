//! A package that teaches: what its model says of the crops that the student sees.
//!
//! The crop comes normalised as the student's and changed in colour as the student sees it: then the same pixels get the
//! same answer, so that the student learns a function, not to guess what was changed. It is normalised anew for the teacher,
//! brought to its ground resolution where that is another, and seen through windows of its own input size.

use std::path::{Path, PathBuf};

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::dataset::review::MIXED_RESOLUTION;
use super::loss::{TeacherWeights, upsample};
use crate::config::{Class, Normalization};
use crate::engine::Segmenter;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Sam;
use crate::weights::folder::Folder;
use crate::weights::manifest::{Kind, MANIFEST_FILE, Manifest};

mod windows;

use windows::{Window, windows};

/// What a run has beside labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSettings {
    /// A package's folder or `.samlora` file, or a folder of soft masks.
    pub path: PathBuf,
    /// Weight of the teacher's probabilities in the loss, 0 to 1.
    pub weight: f64,
    /// Weight of the teacher's embedding; packages only.
    pub features: f64,
    /// The temperature of the soft cross-entropy.
    pub temperature: f64,
    /// Folders of images without labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlabelled: Vec<PathBuf>,
    /// Their share in each batch, 0 to 1.
    pub unlabelled_share: f64,
}

impl TeacherSettings {
    /// How the teacher counts.
    pub fn weights(&self) -> TeacherWeights {
        TeacherWeights { masks: self.weight, features: self.features, temperature: self.temperature }
    }
}

/// Whether a path is a package, rather than a folder of soft masks.
pub fn is_package(path: &Path) -> bool {
    let archive = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("samlora"));
    archive || path.join(MANIFEST_FILE).is_file()
}

/// What a model said, in the size of the crops it saw.
pub struct Said {
    /// Probabilities `[b, k, s, s]` in the order of the student's classes, if they are taught.
    pub probabilities: Option<Tensor<4>>,
    /// Its embedding `[b, c, s / 16, s / 16]`, if it is taught.
    pub embedding: Option<Tensor<4>>,
}

/// A model that teaches, without gradients.
#[derive(Debug, Clone)]
pub struct Teacher {
    path: PathBuf,
    sam: Sam,
    manifest: Manifest,
    weights: TeacherWeights,
    /// The teacher's class of each of the student's; empty if probabilities are not taught.
    classes: Vec<usize>,
    /// For each band, factor and offset from the student's normalisation to the teacher's; none where they are the same.
    normal: Option<Vec<[f32; 2]>>,
    /// The teacher's pixels for each of the student's.
    zoom: f64,
}

/// The student, as a teacher must know it.
#[derive(Debug, Clone, Copy)]
pub struct Student<'a> {
    /// Its classes, background first.
    pub classes: &'a [Class],
    /// Of its images.
    pub normalization: &'a Normalization,
    /// Metres on the ground that a pixel of its data covers, if known.
    pub metres_per_pixel: Option<f64>,
}

impl Teacher {
    /// Opens a package on a device, for a student.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if its classes, by name, or its bands are not the student's, and for packages that cannot teach this:
    /// adapters, and bases that shall teach probabilities. Those of [`Segmenter::load`].
    pub fn open(path: &Path, weights: TeacherWeights, student: Student<'_>, device: &Device) -> Result<Self> {
        let segmenter = pollster::block_on(Segmenter::load(&Folder::open(path)?, device, |_| ()))?;
        let manifest = segmenter.manifest().clone();
        let place = |e: Error| e.at(path.display());
        let taught = weights.masks > 0.0;
        if taught && manifest.kind == Kind::Base {
            let message = "is a base package: it has no classes to teach";
            return Err(place(Error::new(ErrorKind::Invalid, message).remedy(
                "teach its features alone (--teacher-weight 0 --teacher-features 1), or give a trained package",
            )));
        }
        let classes = if taught { class_order(student.classes, &manifest.classes).map_err(place)? } else { Vec::new() };
        let (ours, theirs) = (student.normalization, &manifest.normalization);
        if ours.mean.len() != theirs.mean.len() {
            let message = format!("sees {} bands, the data has {}", theirs.mean.len(), ours.mean.len());
            return Err(place(Error::new(ErrorKind::Invalid, message).remedy(
                "choose the bands that the teacher was trained on with --bands, or write its soft masks yourself",
            )));
        }
        let bands = ours.mean.iter().zip(&ours.std).zip(theirs.mean.iter().zip(&theirs.std));
        let normal: Vec<[f32; 2]> = bands.map(|((m, s), (tm, ts))| [s / ts, (m - tm) / ts]).collect();
        let zoom = match (student.metres_per_pixel, manifest.ground_resolution) {
            (Some(data), Some(model)) if (data / model).max(model / data) >= MIXED_RESOLUTION => data / model,
            _ => 1.0,
        };
        Ok(Self {
            path: path.to_owned(),
            sam: segmenter.model().clone(),
            manifest,
            weights,
            classes,
            normal: normal.iter().any(|n| *n != [1.0, 0.0]).then_some(normal),
            zoom,
        })
    }

    /// The package's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How it counts.
    pub fn weights(&self) -> TeacherWeights {
        self.weights
    }

    /// The teacher's pixels for each of the student's: 1 but where ground resolutions are known and far apart.
    pub fn zoom(&self) -> f64 {
        self.zoom
    }

    /// The same on another device: read again, since each kind of device lays weights out in its own way.
    ///
    /// # Errors
    /// Those of [`Segmenter::load`].
    pub fn on(&self, device: &Device) -> Result<Self> {
        let segmenter = pollster::block_on(Segmenter::load(&Folder::open(&self.path)?, device, |_| ()))?;
        Ok(Self { sam: segmenter.model().clone(), ..self.clone() })
    }

    /// What it says of crops `[b, bands, s, s]`, normalised as the student's, s a multiple of 16.
    pub fn speak(&self, images: Tensor<4>) -> Said {
        let [_, bands, size, _] = images.dims();
        let seen = (((size as f64 * self.zoom / 16.0).round() as usize) * 16).max(32);
        let device = images.device();
        let mut x = images;
        if let Some(normal) = &self.normal {
            let of = |i: usize| {
                let values: Vec<f32> = normal.iter().map(|n| n[i]).collect();
                Tensor::<4>::from_data(TensorData::new(values, [1, bands, 1, 1]), &device)
            };
            x = x * of(0) + of(1);
        }
        x = upsample(x, [seen, seen]);
        let windows = windows(seen, self.manifest.input_size);
        let mut probabilities = Canvas::new(seen);
        let mut embedding = Canvas::new(seen / 16);
        for down in &windows {
            for across in &windows {
                let embedded = self.sam.encode(cut(x.clone(), down, across));
                if self.weights.features > 0.0 {
                    embedding.add(embedded.clone(), down.scaled(16), across.scaled(16));
                }
                if !self.classes.is_empty() {
                    let input = self.manifest.input_size;
                    let logits = upsample(self.sam.decode(embedded), [input, input]);
                    probabilities.add(softmax(logits, 1), *down, *across);
                }
            }
        }
        let order = TensorData::new(self.classes.iter().map(|c| *c as i32).collect(), [self.classes.len()]);
        let probabilities = probabilities
            .mean()
            .map(|p| upsample(p, [size, size]).select(1, Tensor::<1, Int>::from_data(order, &device)));
        let embedding = embedding.mean().map(|e| upsample(e, [size / 16, size / 16]));
        Said { probabilities, embedding }
    }
}

/// The teacher's index of each of the student's classes, by name; background is background, whatever it is called.
fn class_order(student: &[Class], teacher: &[Class]) -> Result<Vec<usize>> {
    let names = |classes: &[Class]| classes.iter().skip(1).map(|c| c.name.clone()).collect::<Vec<_>>();
    let (ours, theirs) = (names(student), names(teacher));
    let order: Option<Vec<usize>> = ours.iter().map(|name| theirs.iter().position(|t| t == name)).collect();
    match order {
        Some(order) if ours.len() == theirs.len() => Ok([0].into_iter().chain(order.iter().map(|i| i + 1)).collect()),
        _ => Err(Error::new(
            ErrorKind::Invalid,
            format!("teaches the classes {}, the data has {}", theirs.join(", "), ours.join(", ")),
        )
        .remedy("name the data's classes as the teacher's with --class VALUE=NAME, leave others out with --keep, or choose a teacher of these classes")),
    }
}

/// A window of `[b, bands, s, s]`, mirrored beyond it.
fn cut(x: Tensor<4>, down: &Window, across: &Window) -> Tensor<4> {
    let [_, _, size, _] = x.dims();
    if (down.start, down.length) == (0, size) && (across.start, across.length) == (0, size) {
        return x;
    }
    let device = x.device();
    let indices = |window: &Window| {
        let at: Vec<i32> = window.mirrored(size).into_iter().map(|i| i as i32).collect();
        let count = at.len();
        Tensor::<1, Int>::from_data(TensorData::new(at, [count]), &device)
    };
    x.select(2, indices(down)).select(3, indices(across))
}

/// The mean of windows that overlap.
struct Canvas {
    side: usize,
    sum: Option<Tensor<4>>,
    counts: Vec<f32>,
}

impl Canvas {
    fn new(side: usize) -> Self {
        Self { side, sum: None, counts: vec![0.0; side * side] }
    }

    fn add(&mut self, part: Tensor<4>, down: Window, across: Window) {
        let [b, c, _, _] = part.dims();
        let side = self.side;
        let ((rows, from_row), (columns, from_column)) = (down.within(side), across.within(side));
        let part =
            part.slice_dim(2, from_row..from_row + rows.len()).slice_dim(3, from_column..from_column + columns.len());
        if self.sum.is_none() && (rows.len(), columns.len()) == (side, side) {
            self.counts.fill(1.0);
            self.sum = Some(part);
            return;
        }
        for row in rows.clone() {
            self.counts[row * side..][columns.clone()].iter_mut().for_each(|n| *n += 1.0);
        }
        let sum = self.sum.take().unwrap_or_else(|| Tensor::zeros([b, c, side, side], &part.device()));
        let there = [0..b, 0..c, rows, columns];
        let added = sum.clone().slice(there.clone()) + part;
        self.sum = Some(sum.slice_assign(there, added));
    }

    fn mean(self) -> Option<Tensor<4>> {
        let (side, sum) = (self.side, self.sum?);
        if self.counts.iter().all(|n| *n == 1.0) {
            return Some(sum);
        }
        let counts = Tensor::<4>::from_data(TensorData::new(self.counts, [1, 1, side, side]), &sum.device());
        Some(sum / counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(names: &[&str]) -> Vec<Class> {
        let class =
            |(i, name): (usize, &&str)| Class { index: i as u8, name: (*name).into(), color: [0; 3], threshold: None };
        names.iter().enumerate().map(class).collect()
    }

    #[test]
    fn classes_agree_by_name() {
        let order = |ours: &[&str], theirs: &[&str]| class_order(&classes(ours), &classes(theirs));
        assert_eq!(order(&["none", "road", "roof"], &["ground", "roof", "road"]).ok(), Some(vec![0, 2, 1]));
        for theirs in [&["ground", "roof"][..], &["ground", "roof", "road", "tree"], &["ground", "roof", "tree"]] {
            let error = order(&["ground", "road", "roof"], theirs).expect_err("classes differ").to_string();
            assert!(error.contains("the data has road, roof") && error.contains("--class"), "{error}");
        }
    }

    #[test]
    fn windows_that_overlap_give_their_mean() {
        let device = pollster::block_on(crate::engine::open_device(crate::engine::DeviceChoice::Cpu)).expect("a CPU");
        let whole =
            Tensor::<4>::from_data(TensorData::new((0..80 * 80).map(|v| v as f32).collect(), [1, 1, 80, 80]), &device);
        for input in [32, 48, 80, 112] {
            let mut canvas = Canvas::new(80);
            let windows = windows(80, input);
            for down in &windows {
                for across in &windows {
                    canvas.add(cut(whole.clone(), down, across), *down, *across);
                }
            }
            let found = canvas.mean().expect("windows").into_data();
            assert_eq!(found, whole.clone().into_data(), "{input}");
        }
    }
}
