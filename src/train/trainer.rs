//! The training loop: epochs of steps, validation, checkpoints, and what is left at the end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::augment::AugmentOptions;
use super::batch::{Batch, BatchOptions, Lessons, Loader, seed};
use super::calibrate::Samples;
use super::checkpoint::{self, RunProgress};
use super::dataset::Dataset;
use super::evaluate::{EvaluateOptions, Evaluation, evaluate};
use super::learner::Learner;
use super::loss::{LossOptions, loss, upsample};
use super::metrics::Metrics;
use super::replicas::Replicas;
use super::report::EpochRecord;
use super::results;
use super::run_folder::{RunFolder, RunInfo, Settings, json_stable};
use super::setup::{self, Prepared};
use super::upload::upload;
use crate::engine::Segmenter;
use crate::error::{Error, ErrorKind, Result};

/// What happens during a run.
pub enum Event<'a> {
    /// Preparations; a sentence.
    Message(String),
    /// A step was done.
    Step {
        /// Epoch from 1, and epochs.
        epoch: [usize; 2],
        /// Batch of the epoch from 1, and batches.
        batch: [usize; 2],
        /// Mean loss of the epoch so far.
        loss: f64,
        /// Crops a second in this epoch.
        images_per_second: f64,
        /// Time that the rest of the run takes at this rate.
        left: Duration,
    },
    /// Chips that validation has done, and all.
    Validating([usize; 2]),
    /// An epoch has ended; whether its figure is the best so far.
    Epoch(&'a EpochRecord, bool),
}

/// How a run ended.
pub struct Outcome {
    /// Figures of the best weights.
    pub evaluation: Evaluation,
    /// The epoch, from 1, that they come from.
    pub best_epoch: usize,
    /// Whether it stopped because the figure no longer rose.
    pub stopped_early: bool,
}

/// A run, ready to go on.
pub struct Trainer {
    folder: RunFolder,
    info: RunInfo,
    dataset: Arc<Dataset>,
    train: Vec<usize>,
    valid: Vec<usize>,
    loss: LossOptions,
    learner: Learner,
    lessons: Option<Arc<Lessons>>,
    replicas: Replicas,
    progress: RunProgress,
    log: Vec<EpochRecord>,
}

/// Time between checkpoints within an epoch.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Validation crops that the validation loss is measured on, at most.
const LOSS_CROPS: usize = 64;
/// Pictures in a report.
const PICTURES: usize = 24;

impl Trainer {
    /// A new run in `out`, which must not hold one.
    ///
    /// # Errors
    /// Those of [`setup::prepare`] and [`RunFolder::create`].
    pub fn start(
        settings: Settings,
        out: &Path,
        device: &Device,
        device_name: &str,
        events: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        RunFolder::vacant(out)?; // before the data is read
        let prepared = setup::prepare(settings, device, device_name, &mut |m| events(Event::Message(m)))?;
        let folder = RunFolder::create(out)?;
        folder.write_info(&prepared.info)?;
        Ok(Self::new(folder, prepared))
    }

    /// The run in `out`, from its last checkpoint.
    ///
    /// # Errors
    /// Those of [`setup::reopen`] and [`checkpoint::load`].
    pub fn resume(out: &Path, device: &Device, events: &mut dyn FnMut(Event)) -> Result<Self> {
        let folder = RunFolder::open(out)?;
        folder.sweep();
        let mut prepared = setup::reopen(folder.info()?, device, &mut |m| events(Event::Message(m)))?;
        setup::teach(&mut prepared, device, &mut |m| events(Event::Message(m)))?;
        let mut trainer = Self::new(folder, prepared);
        let last = trainer.folder.last();
        if last.exists() {
            checkpoint::load(&last, &mut trainer.learner, &trainer.info.key()?)?;
            trainer.progress = checkpoint::state(&last)?;
            trainer.log = trainer.folder.log()?;
            trainer.log.retain(|record| record.epoch <= trainer.progress.epoch);
            let RunProgress { epoch, batch, .. } = trainer.progress;
            events(Event::Message(format!("going on after epoch {epoch}, batch {batch}")));
        }
        Ok(trainer)
    }

    fn new(folder: RunFolder, prepared: Prepared) -> Self {
        let Prepared { info, dataset, train, valid, loss, mut learner, lessons } = prepared;
        if info.settings.ema.is_some() {
            learner.average(1.0);
        }
        let (progress, replicas) = (RunProgress::default(), Replicas::new(&learner, &[]));
        Self { folder, info, dataset, train, valid, loss, learner, lessons, replicas, progress, log: Vec::new() }
    }

    /// Shares each step's batches ([`Settings::accumulate`]) among the trainer's device and `others`.
    ///
    /// # Errors
    /// Those of [`Replicas::teach`].
    pub fn share_with(&mut self, others: &[Device]) -> Result<()> {
        self.replicas = Replicas::new(&self.learner, others);
        self.replicas.teach(&self.learner)
    }

    /// What the run is made of.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// Trains to the end, or until `stop` says so: then a checkpoint is written and nothing is given.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the loss is not a number, with the last good checkpoint kept; those of reading, writing and of the
    /// device.
    pub fn run(&mut self, stop: &dyn Fn() -> bool, events: &mut dyn FnMut(Event)) -> Result<Option<Outcome>> {
        let settings = self.info.settings.clone();
        self.info.calibration = None; // of a run that ended before
        let loader = setup::loader(&self.info, &self.dataset, &self.train, self.lessons.clone());
        while self.progress.epoch < settings.epochs && !self.stalled() {
            if !self.epoch(&settings, &loader, stop, events)? {
                return Ok(None);
            }
        }
        let stopped_early = self.progress.epoch < settings.epochs;
        let best = self.folder.best();
        if best.exists() {
            checkpoint::load(&best, &mut self.learner, &self.info.key()?)?;
        }
        let all = self.valid.len();
        let samples = Samples::draw(&self.segmenter()?, &self.dataset, &self.valid, |done| {
            events(Event::Validating([done, all]));
        })?;
        self.info.calibration = samples.fit().map(json_stable).transpose()?;
        let options = EvaluateOptions { pictures: PICTURES, ..EvaluateOptions::default() };
        let evaluation = evaluate(&self.segmenter()?, &self.dataset, &self.valid, &options, |done| {
            events(Event::Validating([done, all]));
        })?;
        results::write(&self.folder, &mut self.info, &self.learner, &self.progress, &self.log, &evaluation)?;
        Ok(Some(Outcome { evaluation, best_epoch: self.progress.best_epoch, stopped_early }))
    }

    /// Whether the figure has not risen for as long as the settings have patience.
    fn stalled(&self) -> bool {
        let Settings { patience, validate_every, .. } = self.info.settings;
        let since = self.progress.epoch.saturating_sub(self.progress.best_epoch);
        patience.is_some_and(|patience| since >= patience * validate_every)
    }

    /// One epoch, or what is left of it; false if it was stopped.
    fn epoch(
        &mut self,
        settings: &Settings,
        loader: &Loader,
        stop: &dyn Fn() -> bool,
        events: &mut dyn FnMut(Event),
    ) -> Result<bool> {
        let batches = loader.batches();
        let steps_an_epoch = batches.div_ceil(settings.accumulate);
        let steps = steps_an_epoch * settings.epochs;
        let (mut watch, mut saved) = (Instant::now(), Instant::now());
        // Of the last step, for the log: a run that was stopped after an epoch's last step makes no other.
        let mut rate = settings.schedule.at(self.progress.step.saturating_sub(1), steps, settings.learning_rate);
        let (epoch, skip) = (self.progress.epoch, self.progress.batch);
        let mut waiting: Vec<Batch> = Vec::new();
        for (number, batch) in (skip..).zip(loader.epoch(epoch as u64, skip)) {
            waiting.push(batch?);
            if waiting.len() < settings.accumulate && number + 1 < batches {
                continue;
            }
            let first = number + 1 - waiting.len();
            // Each batch has its own seed, so that a resumed run draws the same.
            let drawn = |i: usize| seed([settings.seed, epoch as u64, (first + i) as u64]);
            let (losses, accumulated) = self.replicas.accumulate(&self.learner, &waiting, &self.loss, drawn)?;
            if let Some(i) = losses.iter().position(|loss| !loss.total.is_finite()) {
                return Err(self.diverged(format!("the loss is {}", losses[i].total), first + i));
            }
            rate = settings.schedule.at(self.progress.step, steps, settings.learning_rate);
            if let Err(e) = self.learner.step(accumulated, rate, &settings.optimizer) {
                return Err(if e.kind() == ErrorKind::Invalid { self.diverged(e.to_string(), number) } else { e });
            }
            if let Some(decay) = settings.ema {
                self.learner.average(1.0 - warmed_up(decay, self.progress.step));
            }
            self.replicas.broadcast(&self.learner);
            losses.into_iter().for_each(|loss| self.progress.add(loss));
            let crops: usize = waiting.drain(..).map(|batch| batch.count).sum();
            self.progress.images += crops;
            self.progress.epoch_images += crops;
            self.progress.batch = number + 1;
            self.progress.step += 1;
            let elapsed = watch.elapsed().as_secs_f64();
            self.progress.seconds += elapsed;
            self.progress.epoch_seconds += elapsed;
            watch = Instant::now();
            let done = self.progress.step as f64 / steps as f64;
            events(Event::Step {
                epoch: [epoch + 1, settings.epochs],
                batch: [number + 1, batches],
                loss: self.progress.losses().total / (number + 1) as f64,
                images_per_second: self.progress.epoch_images as f64 / self.progress.epoch_seconds.max(1e-9),
                left: Duration::try_from_secs_f64(self.progress.seconds / done * (1.0 - done)).unwrap_or_default(),
            });
            let stopping = stop();
            if stopping || saved.elapsed() > CHECKPOINT_INTERVAL {
                self.save_last()?;
                saved = Instant::now();
            }
            if stopping {
                return Ok(false);
            }
        }
        self.end_epoch(settings, rate, batches, events)?;
        Ok(true)
    }

    fn diverged(&self, what: String, batch: usize) -> Error {
        let last = self.folder.last();
        let kept = match last.exists() {
            true => format!("the last good checkpoint is kept in {}", last.display()),
            false => "there was no checkpoint yet".to_owned(),
        };
        let place = format!("epoch {}, batch {}", self.progress.epoch + 1, batch + 1);
        Error::new(ErrorKind::Invalid, format!("{what}; {kept}"))
            .at(place)
            .remedy("start anew with a lower --lr, and look at the data with `samlora inspect`")
    }

    /// Validates, and writes log and checkpoints.
    fn end_epoch(
        &mut self,
        settings: &Settings,
        rate: f64,
        batches: usize,
        events: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let watch = Instant::now();
        let (epoch, last) = (self.progress.epoch + 1, self.progress.epoch + 1 == settings.epochs);
        let mut record = EpochRecord {
            epoch,
            step: self.progress.step,
            train_loss: self.progress.losses().total / batches.max(1) as f64,
            valid_loss: None,
            metrics: None,
            learning_rate: rate,
            seconds: self.progress.epoch_seconds,
            images_per_second: self.progress.epoch_images as f64 / self.progress.epoch_seconds.max(1e-9),
        };
        let mut best = false;
        // What is measured, and saved as the best, is the average where there is one.
        self.learner.swap_averages();
        if epoch.is_multiple_of(settings.validate_every) || last {
            best = self.validate(&mut record, batches, events)?;
        }
        record.seconds += watch.elapsed().as_secs_f64();
        self.progress.seconds += watch.elapsed().as_secs_f64();
        let learned = RunProgress { epoch, ..self.progress.clone() };
        self.progress = RunProgress { batch: 0, loss_bits: [0; 3], epoch_seconds: 0.0, epoch_images: 0, ..learned };
        if best {
            checkpoint::save(&self.folder.best(), &self.learner, &self.info.key()?, None::<&RunProgress>)?;
        }
        self.learner.swap_averages();
        self.log.push(json_stable(record)?);
        self.folder.write_log(&self.log)?;
        self.save_last()?;
        if let Some(record) = self.log.last() {
            events(Event::Epoch(record, best));
        }
        Ok(())
    }

    /// Measures the model as it stands; whether its figure is the best so far.
    fn validate(&mut self, record: &mut EpochRecord, batches: usize, events: &mut dyn FnMut(Event)) -> Result<bool> {
        let loss = self.valid_loss()?;
        if !loss.is_finite() {
            return Err(self.diverged(format!("the validation loss is {loss}"), batches.saturating_sub(1)));
        }
        record.valid_loss = Some(loss);
        let (segmenter, all) = (self.segmenter()?, self.valid.len());
        let found = evaluate(&segmenter, &self.dataset, &self.valid, &EvaluateOptions::default(), |done| {
            events(Event::Validating([done, all]));
        })?;
        let figure = monitored(&found.metrics);
        let best = self.progress.best_bits.is_none_or(|bits| figure > f64::from_bits(bits));
        if best {
            self.progress.best_bits = Some(figure.to_bits());
            self.progress.best_epoch = record.epoch;
        }
        record.metrics = Some(found.metrics);
        Ok(best)
    }

    fn save_last(&self) -> Result<()> {
        checkpoint::save(&self.folder.last(), &self.learner, &self.info.key()?, Some(&self.progress))
    }

    /// The mean loss, against labels alone, of one crop of each validation chip, of at most [`LOSS_CROPS`].
    fn valid_loss(&self) -> Result<f64> {
        let step = self.valid.len().div_ceil(LOSS_CROPS).max(1);
        let options = BatchOptions {
            size: self.info.settings.size,
            batch_size: self.info.settings.batch_size,
            crops: 1,
            augment: AugmentOptions::none(),
            normalization: self.info.normalization.clone(),
            seed: 0,
            workers: 0,
            cache_bytes: 0,
        };
        let loader = Loader::new(self.dataset.clone(), self.valid.iter().copied().step_by(step).collect(), options);
        let (mut sum, mut count) = (0.0, 0);
        let sam = &self.learner.sam;
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            let (images, target) = upload(&batch, self.info.classes.len(), self.learner.device());
            let logits = upsample(sam.decode(sam.encode(images)), [batch.size, batch.size]);
            let total = super::learner::read(loss(logits, &target, &self.loss).total)?;
            sum += total.first().map_or(f64::NAN, |v| f64::from(*v)) * batch.count as f64;
            count += batch.count;
        }
        Ok(sum / count.max(1) as f64)
    }

    fn segmenter(&self) -> Result<Segmenter> {
        results::segmenter(&self.info, &self.learner)
    }
}

/// The decay of an average after `step` steps: at first it follows closely, so that it forgets where it began.
fn warmed_up(decay: f64, step: usize) -> f64 {
    decay.min((step + 1) as f64 / (step + 20) as f64)
}

/// The figure that decides which weights are best: mean IoU without background, or with it where nothing else occurs.
fn monitored(metrics: &Metrics) -> f64 {
    metrics.mean_iou_foreground.or(metrics.mean_iou).unwrap_or(0.0)
}
