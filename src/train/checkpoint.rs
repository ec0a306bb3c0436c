//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! A checkpoint is one safetensors file, written beside its place and renamed: the values that learn under SAM's names, AdamW's
//! moments as `{name}.moment_1` and `{name}.moment_2`, moving averages as `{name}.average`, and [`RunProgress`] in the metadata.

use std::collections::BTreeMap;
use std::path::Path;

use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::learner::{Learner, LossValues, in_memory_order, in_shape_order, read};
use crate::error::{Error, ErrorKind, Result};
use crate::source::write::atomic;
use crate::weights::safetensors::Writer;
use crate::weights::shards::SafetensorsFile;
use crate::weights::source::{Dtype, FileReader, TensorInfo, TensorSource};

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// The epoch that it is in, from 0.
    pub epoch: usize,
    /// Batches of that epoch that are done.
    pub batch: usize,
    /// Optimiser steps done.
    pub step: usize,
    /// Sums of the epoch's losses, as bits, so that they come back exactly.
    pub loss_bits: [u64; 3],
    /// The best figure so far, as bits.
    pub best_bits: Option<u64>,
    /// The epoch that it was reached in.
    pub best_epoch: usize,
    /// Seconds spent so far.
    pub seconds: f64,
    /// Seconds spent in this epoch so far.
    pub epoch_seconds: f64,
    /// Crops trained on so far.
    pub images: usize,
    /// Crops of this epoch.
    pub epoch_images: usize,
}

impl RunProgress {
    /// The epoch's summed losses.
    pub fn losses(&self) -> LossValues {
        let [cross_entropy, dice, total] = self.loss_bits.map(f64::from_bits);
        LossValues { cross_entropy, dice, total }
    }

    /// Adds a batch's losses.
    pub fn add(&mut self, loss: LossValues) {
        let sums = self.losses();
        let sums = [sums.cross_entropy + loss.cross_entropy, sums.dice + loss.dice, sums.total + loss.total];
        self.loss_bits = sums.map(f64::to_bits);
    }
}

const RUN: &str = "samlora.run";
const STATE: &str = "samlora.state";
const TIMES: &str = "samlora.times";

/// Writes what `learner` has learned in the run `run` ([`super::run_folder::RunInfo::key`]), and with `state` all that it needs to go on.
///
/// # Errors
/// [`ErrorKind::Io`] naming the file; what was there before stays.
pub fn save(path: &Path, learner: &Learner, run: &str, state: Option<&impl Serialize>) -> Result<()> {
    let mut tensors: Vec<(TensorInfo, Vec<u8>)> = Vec::new();
    let mut times = BTreeMap::new();
    for (i, (parameter, slot)) in learner.parameters().iter().zip(&learner.slots).enumerate() {
        let Some(slot) = slot else { continue };
        let mut add = |suffix: &str, values: Vec<f32>| {
            let name = format!("{}{suffix}", parameter.name);
            let info = TensorInfo { name, shape: parameter.shape.clone(), dtype: Dtype::F32 };
            tensors.push((info, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        };
        add("", learner.values(i)?);
        if let (Some(moments), true) = (&slot.state, state.is_some()) {
            let moments = &moments.momentum;
            add(".moment_1", read(in_shape_order(moments.moment_1.clone(), &parameter.shape))?);
            add(".moment_2", read(in_shape_order(moments.moment_2.clone(), &parameter.shape))?);
            times.insert(parameter.name.clone(), moments.time);
        }
        if let (Some(average), true) = (&slot.average, state.is_some()) {
            add(".average", read(in_shape_order(average.clone(), &parameter.shape))?);
        }
    }
    let mut metadata = BTreeMap::from([(RUN.to_owned(), run.to_owned())]);
    if let Some(state) = state {
        metadata.insert(STATE.to_owned(), json(state)?);
        metadata.insert(TIMES.to_owned(), json(&times)?);
    }
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    atomic(path, |file| {
        let mut writer = Writer::new(file, &infos, &metadata)?;
        for (info, bytes) in &tensors {
            writer.tensor(&info.name, bytes)?;
        }
        writer.finish().map(|_| ())
    })
}

/// Puts the values of a checkpoint of the run `run`, and its moments if it has them, into `learner`.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the file is of another run, [`ErrorKind::Format`] naming a tensor that does not fit.
pub fn load(path: &Path, learner: &mut Learner, run: &str) -> Result<()> {
    let file = SafetensorsFile::new(FileReader::open(path)?)?;
    if file.metadata().get(RUN).is_some_and(|of| of != run) {
        return Err(Error::new(ErrorKind::Invalid, "is a checkpoint of another run, of other settings or data")
            .at(path.display())
            .remedy("put the run's own checkpoint back, or start anew with another --out"));
    }
    let times: BTreeMap<String, usize> = match file.metadata().get(TIMES) {
        Some(text) => parse(text, path)?,
        None => BTreeMap::new(),
    };
    let device = learner.device().clone();
    let tensor = |name: &str, shape: &[usize]| -> Result<Tensor<1>> {
        let place =
            |e: Error| e.at(path.display()).remedy("the checkpoint is of another run: start anew without --resume");
        let stored = file
            .info(name)
            .ok_or_else(|| place(Error::new(ErrorKind::NotFound, "is missing").at(format!("tensor {name}"))))?;
        if stored.shape != shape {
            let message = format!("has shape {:?}, expected {shape:?}", stored.shape);
            return Err(place(Error::new(ErrorKind::Format, message).at(format!("tensor {name}"))));
        }
        let values = file.read_f32(name).map_err(place)?;
        let count = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [count]), &device))
    };
    let mut values = Vec::new();
    let (mut states, mut averages) = (Vec::new(), Vec::new());
    for (parameter, slot) in learner.parameters().iter().zip(&learner.slots) {
        let (name, shape) = (&parameter.name, &parameter.shape);
        values.push(if slot.is_some() { Some(tensor(name, shape)?) } else { None });
        let average = format!("{name}.average");
        averages.push(match file.info(&average) {
            Some(_) => Some(in_memory_order(tensor(&average, shape)?, shape)),
            None => None,
        });
        states.push(match times.get(name) {
            Some(&time) => {
                let moment = |i: usize| tensor(&format!("{name}.moment_{i}"), shape).map(|x| in_memory_order(x, shape));
                Some(AdamWState::new(AdaptiveMomentumState {
                    time,
                    moment_1: moment(1)?,
                    moment_2: moment(2)?,
                    max_moment_2: None,
                }))
            }
            None => None,
        });
    }
    learner.set_values(values);
    for ((slot, state), average) in learner.slots.iter_mut().zip(states).zip(averages) {
        if let Some(slot) = slot {
            slot.state = state;
            slot.average = average;
        }
    }
    Ok(())
}

/// The state that [`save`] put into a checkpoint.
///
/// # Errors
/// [`ErrorKind::Format`] if there is none.
pub fn state<S: DeserializeOwned>(path: &Path) -> Result<S> {
    let file = SafetensorsFile::new(FileReader::open(path)?)?;
    match file.metadata().get(STATE) {
        Some(text) => parse(text, path),
        None => Err(Error::new(ErrorKind::Format, "holds no training state").at(path.display())),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Format, "cannot be written as JSON").source(e))
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::Format, "holds a damaged training state").at(path.display()).source(e))
}
