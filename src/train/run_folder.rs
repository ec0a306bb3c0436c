//! The folder of a run: its settings, log, checkpoints, adapter and report.
//!
//! ```text
//! RUN/run.json                  settings, data, split, classes, base, versions; what the run came to
//! RUN/log.jsonl                 a line an epoch
//! RUN/checkpoint/last.safetensors, best.safetensors
//! RUN/adapter.safetensors       LoRA in SAMed's naming where it fits, with prompt encoder and decoder
//! RUN/model.safetensors         the whole model under SAM's names, where the encoder itself was trained
//! RUN/report.html
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::augment::AugmentOptions;
use super::calibrate::Calibrated;
use super::dataset::split::{Split, SplitRule};
use super::dataset::{Dataset, DatasetOptions};
use super::learner::{OptimizerOptions, Trained};
use super::loss::LossOptions;
use super::report::EpochRecord;
use super::schedule::Schedule;
use super::teacher::TeacherSettings;
use crate::config::{Class, Normalization, SamConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::lora::LoraConfig;
use crate::source::write::{atomic, is_unfinished};
use crate::weights::source::hex;

/// Everything that decides what a run does. The same settings on the same data give the same weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Folders of training data.
    pub data: Vec<PathBuf>,
    /// What label values mean.
    pub dataset: DatasetOptions,
    /// How samples are divided.
    pub split: SplitRule,
    /// Share of validation, 0 to 1.
    pub valid_share: f64,
    /// Decides the split.
    pub split_seed: u64,
    /// Backbone by name, where training starts from random weights.
    pub backbone: Option<String>,
    /// Checkpoint, package or run that training starts from.
    pub base: Option<PathBuf>,
    /// Low-rank adapters on the encoder.
    pub lora: Option<LoraConfig>,
    /// What else learns.
    pub trained: Trained,
    /// Side of the crops in pixels, a multiple of the patch.
    pub size: usize,
    /// Epochs.
    pub epochs: usize,
    /// Crops in a batch.
    pub batch_size: usize,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Crops of each chip in an epoch; 0 for as many as its area holds.
    pub crops: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Its way over the run.
    pub schedule: Schedule,
    /// AdamW.
    pub optimizer: OptimizerOptions,
    /// Losses.
    pub loss: LossOptions,
    /// Class weights of the cross-entropy from the data: the mean class's pixels over the class's, rooted.
    pub balance: bool,
    /// What happens to crops.
    pub augment: AugmentOptions,
    /// Stops when the monitored figure has not risen for this many validations.
    pub patience: Option<usize>,
    /// Epochs between validations.
    pub validate_every: usize,
    /// Decides weights, crops and dropout.
    pub seed: u64,
    /// Computes blocks again in the backward pass.
    pub recompute: bool,
    /// Keeps the frozen encoder's matrices in 8 bits (QLoRA); implies `recompute`.
    #[serde(default)]
    pub qlora: bool,
    /// What teaches beside the labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSettings>,
    /// Decay of a moving average of what learns, 0 to 1; the average is then what is measured and saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

/// What taught a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherOrigin {
    /// Where it was.
    pub path: PathBuf,
    /// The package's name, or the folder's.
    pub name: String,
    /// The package's content hash, or SHA-256 over all soft masks.
    pub sha256: String,
    /// Unlabelled images, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<UnlabelledOrigin>,
}

/// The unlabelled images of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnlabelledOrigin {
    /// Images.
    pub images: usize,
    /// Images that were left out since they show ground of the validation chips.
    pub left_out: usize,
    /// SHA-256 over all of them.
    pub sha256: String,
}

/// A file that training started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaseOrigin {
    /// Where it was.
    pub path: PathBuf,
    /// SHA-256 of the checkpoint, or the package's content hash.
    pub sha256: String,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Its folders, training first.
    pub folders: Vec<PathBuf>,
    /// SHA-256 over all files.
    pub sha256: String,
    /// Chips.
    pub samples: usize,
    /// Bands.
    pub bands: usize,
    /// Median metres on the ground of a pixel, where known.
    pub metres_per_pixel: Option<f64>,
    /// The finest and the coarsest ground resolution of crops, metres a pixel, where known.
    #[serde(default)]
    pub resolution_range: Option<[f64; 2]>,
}

/// Samples by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SplitNames {
    /// Trained on.
    pub train: Vec<String>,
    /// Measured on.
    pub valid: Vec<String>,
    /// Left out, since they show ground of both.
    pub dropped: Vec<String>,
}

/// What a run took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Optimiser steps.
    pub steps: usize,
    /// Crops trained on.
    pub images: usize,
    /// Wall time.
    pub seconds: f64,
}

/// `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The program that wrote it.
    pub tool: String,
    /// What decides the run.
    pub settings: Settings,
    /// Its data.
    pub data: Data,
    /// Its samples.
    pub split: SplitNames,
    /// Its classes, background first.
    pub classes: Vec<Class>,
    /// Label value of each class.
    pub values: Vec<u32>,
    /// Of pixels, per band.
    pub normalization: Normalization,
    /// Every number of the architecture.
    pub architecture: SamConfig,
    /// What it started from.
    pub base: Option<BaseOrigin>,
    /// What taught it beside labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherOrigin>,
    /// Numbers that learn.
    pub learning_parameters: usize,
    /// `cpu`, `gpu` or `cuda`.
    pub device: String,
    /// What it took so far.
    pub budget: Budget,
    /// Figures of the best weights on the validation samples, once it has ended.
    pub metrics: Option<BTreeMap<String, f64>>,
    /// What makes their confidences true on the validation samples, once it has ended.
    #[serde(default)]
    pub calibration: Option<Calibrated>,
}

impl RunInfo {
    /// What tells runs apart whose checkpoints must not be mixed: SHA-256 of settings, split, data and base, wherever these lie.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the settings are nothing that JSON can hold.
    pub fn key(&self) -> Result<String> {
        let failed = |e| Error::new(ErrorKind::Format, "the settings cannot be written as JSON").source(e);
        let mut settings = serde_json::to_value(&self.settings).map_err(failed)?;
        if let Some(settings) = settings.as_object_mut() {
            ["data", "split", "base"].iter().for_each(|path| drop(settings.remove(*path)));
            if let Some(teacher) = settings.get_mut("teacher").and_then(|t| t.as_object_mut()) {
                ["path", "unlabelled"].iter().for_each(|path| drop(teacher.remove(*path)));
            }
        }
        let base = self.base.as_ref().map(|base| &base.sha256);
        let parts = (settings, &self.split, &self.data.sha256, base);
        let mut hasher = Sha256::new_with_prefix(serde_json::to_vec(&parts).map_err(failed)?);
        // Runs without a teacher keep the key that they have.
        if let Some(TeacherOrigin { sha256, unlabelled, .. }) = &self.teacher {
            let parts = (sha256, unlabelled.as_ref().map(|u| &u.sha256));
            hasher.update(serde_json::to_vec(&parts).map_err(failed)?);
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// `value` such that JSON gives it back to the last bit: the reader's numbers may be off by one, and a resumed run must be
/// the same run.
///
/// # Errors
/// [`ErrorKind::Format`] if it is nothing that JSON can hold.
pub fn json_stable<T: Serialize + DeserializeOwned>(mut value: T) -> Result<T> {
    let failed = |e| Error::new(ErrorKind::Format, "cannot be written as JSON").source(e);
    let mut text = serde_json::to_string(&value).map_err(failed)?;
    // Nearly always one or two rounds.
    for _ in 0..64 {
        value = serde_json::from_str(&text).map_err(failed)?;
        let again = serde_json::to_string(&value).map_err(failed)?;
        if again == text {
            break;
        }
        text = again;
    }
    Ok(value)
}

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// A new run's folder, made if it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a run is there already, [`ErrorKind::Io`] if it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        Self::vacant(path)?;
        fs::create_dir_all(path.join("checkpoint")).map_err(|e| Error::from(e).at(path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Checks that no run is in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is one, or what another left.
    pub fn vacant(path: &Path) -> Result<()> {
        let folder = Self(path.to_owned());
        if folder.file("run.json").exists() || folder.last().exists() || folder.best().exists() {
            return Err(Error::new(ErrorKind::Invalid, "holds a run already")
                .at(path.display())
                .remedy("go on with it (--resume), or choose another --out"));
        }
        Ok(())
    }

    /// Removes what a killed program was writing.
    pub fn sweep(&self) {
        let folders = [self.0.clone(), self.0.join("checkpoint")];
        for entry in folders.iter().filter_map(|f| f.read_dir().ok()).flatten().flatten() {
            if is_unfinished(&entry.file_name()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The folder of a run.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("run.json").is_file() {
            return Err(Error::new(ErrorKind::NotFound, "is not the folder of a run: it has no run.json")
                .at(path.display())
                .remedy("name the --out of `samlora train`"));
        }
        Ok(Self(path.to_owned()))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The checkpoint after the last steps.
    pub fn last(&self) -> PathBuf {
        self.0.join("checkpoint/last.safetensors")
    }

    /// The checkpoint of the best figure.
    pub fn best(&self) -> PathBuf {
        self.0.join("checkpoint/best.safetensors")
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is not one.
    pub fn info(&self) -> Result<RunInfo> {
        let path = self.file("run.json");
        let text = fs::read(&path).map_err(|e| Error::from(e).at(path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(ErrorKind::Format, "is not a run of this version").at(path.display()).source(e))
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn write_info(&self, info: &RunInfo) -> Result<()> {
        let text = serde_json::to_vec_pretty(info)
            .map_err(|e| Error::new(ErrorKind::Format, "run.json cannot be written").source(e))?;
        self.write("run.json", &text)
    }

    /// Writes a file atomically.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] naming it.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        atomic(self.file(name), |file| Ok(file.write_all(content)?))
    }

    /// The log's epochs.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the line.
    pub fn log(&self) -> Result<Vec<EpochRecord>> {
        let path = self.file("log.jsonl");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).map_err(|e| Error::from(e).at(path.display()))?;
        let parse = |(i, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| {
                let message = format!("line {} is damaged", i + 1);
                Error::new(ErrorKind::Format, message).at(path.display()).source(e)
            })
        };
        text.lines().filter(|l| !l.is_empty()).enumerate().map(parse).collect()
    }

    /// Writes the log.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn write_log(&self, epochs: &[EpochRecord]) -> Result<()> {
        let mut text = String::new();
        for epoch in epochs {
            let line = serde_json::to_string(epoch)
                .map_err(|e| Error::new(ErrorKind::Format, "the log cannot be written").source(e))?;
            text.push_str(&line);
            text.push('\n');
        }
        self.write("log.jsonl", text.as_bytes())
    }
}

impl SplitNames {
    /// Names of a split's samples.
    pub fn of(dataset: &Dataset, split: &Split) -> Self {
        let names = |indices: &[usize]| {
            indices.iter().filter_map(|&i| dataset.samples.get(i)).map(|s| s.name.clone()).collect()
        };
        Self { train: names(&split.train), valid: names(&split.valid), dropped: names(&split.dropped) }
    }
}

/// Indices of samples by name.
///
/// # Errors
/// [`ErrorKind::NotFound`] naming a sample that is no longer there.
pub fn indices(dataset: &Dataset, names: &[String]) -> Result<Vec<usize>> {
    let known: BTreeMap<&str, usize> = dataset.samples.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let find = |name: &String| {
        known.get(name.as_str()).copied().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the data has no sample {name} any more"))
                .remedy("give the data that the run was made with")
        })
    };
    names.iter().map(find).collect()
}
