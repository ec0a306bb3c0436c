//! `samlora train`: from labelled chips to an adapter, a report and a folder that packages are made of.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use samlora::config::Backbone;
use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::error::{Error, ErrorKind, Result};
use samlora::logits::Calibration;
use samlora::lora::{LoraConfig, Target};
use samlora::train::augment::AugmentOptions;
use samlora::train::dataset::split::SplitRule;
use samlora::train::init::BaseModel;
use samlora::train::learner::{DecoderTraining, OptimizerOptions, Trained};
use samlora::train::loss::{DiceOver, LossOptions};
use samlora::train::report::EpochRecord;
use samlora::train::run_folder::Settings;
use samlora::train::schedule::Schedule;
use samlora::train::trainer::{Event, Trainer};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::data_args::{LabelArgs, SplitArgs};
use super::teacher_args::TeacherArgs;
use super::{absolute, peak_memory, print_json, say, set_threads};
use crate::progress::bar;

/// What is trained, and how. Shared with `lr-find`.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// Folder of samples: an ArcGIS export of Classified Tiles, or images/ with masks/ or labels/; may be repeated
    #[arg(long = "data", value_name = "DIR", required_unless_present = "resume")]
    pub data: Vec<PathBuf>,
    /// What label values mean.
    #[command(flatten)]
    pub labels: LabelArgs,
    /// How samples are divided.
    #[command(flatten)]
    pub split: SplitArgs,
    /// Checkpoint of SAM, package, or run to start from
    #[arg(long, value_name = "FILE|PACKAGE|RUN")]
    pub base: Option<PathBuf>,
    /// Without --base: start this backbone from random weights, and train all of it
    #[arg(long, value_name = "NAME", conflicts_with = "base")]
    pub backbone: Option<String>,
    /// LoRA's rank; 0 for none
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub rank: usize,
    /// LoRA's alpha; the scale is alpha / rank, 1 without
    #[arg(long)]
    pub alpha: Option<f64>,
    /// Chance that an input of LoRA is dropped
    #[arg(long, default_value_t = 0.0, value_name = "CHANCE")]
    pub dropout: f64,
    /// Matrices that get LoRA: q, k, v, proj, lin1, lin2 [default: q,v; of an encoder without attention lin1,lin2]
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    pub targets: Vec<String>,
    /// How the mask decoder learns: full, lora, heads or frozen
    #[arg(long, default_value = "full", value_parser = ["full", "lora", "heads", "frozen"])]
    pub decoder: String,
    /// Train the whole encoder itself, without LoRA
    #[arg(long)]
    pub unfreeze: bool,
    /// With --unfreeze: each block learns this many times as fast as the one after it
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub layer_decay: f64,
    /// With --unfreeze: the encoder learns this many times as fast as neck and decoder
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub encoder_rate: f64,
    /// Side of the crops in pixels, a multiple of 16 [default: the backbone's]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Passes over the data
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub epochs: usize,
    /// Crops in a batch
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub batch_size: usize,
    /// Batches whose gradients make one step
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub accumulate: usize,
    /// Crops of each chip in an epoch [default: as many as its area holds]
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true)]
    pub crops: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// one-cycle, polynomial, cosine or constant
    #[arg(long, default_value = "one-cycle")]
    pub schedule: Schedule,
    /// AdamW's weight decay
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Scale gradients down to this norm; 0 leaves them alone
    #[arg(long, default_value_t = 1.0, value_name = "NORM")]
    pub clip: f64,
    /// Weight of cross-entropy in the loss
    #[arg(long, default_value_t = 0.2, value_name = "WEIGHT")]
    pub cross_entropy: f64,
    /// Weight of Dice in the loss
    #[arg(long, default_value_t = 0.8, value_name = "WEIGHT")]
    pub dice: f64,
    /// What Dice is summed over: class, batch, or image (SamLoRA's)
    #[arg(long, default_value = "class", value_parser = ["class", "batch", "image"])]
    pub dice_over: String,
    /// Focal loss's gamma in place of plain cross-entropy
    #[arg(long, default_value_t = 0.0, value_name = "GAMMA")]
    pub focal: f64,
    /// Weigh classes by the root of their rarity
    #[arg(long)]
    pub balance: bool,
    /// What teaches beside labels.
    #[command(flatten)]
    pub teacher: TeacherArgs,
    /// Range of the augmentation's scale as LOW,HIGH; 1,1 for none
    #[arg(long, value_delimiter = ',', value_name = "LOW,HIGH")]
    pub scale: Vec<f32>,
    /// Range of ground resolutions in metres a pixel as FINEST,COARSEST to which chips of known resolution are brought, in place
    /// of --scale; the package keeps it
    #[arg(long, value_delimiter = ',', value_name = "FINEST,COARSEST")]
    pub resolution: Vec<f32>,
    /// Also hues, gamma, light, any turn, and more of all else: for a model that is to work where nobody has trained
    #[arg(long)]
    pub strong_augment: bool,
    /// Crops as they are, without any augmentation
    #[arg(long, conflicts_with = "strong_augment")]
    pub no_augment: bool,
    /// Compute blocks again in the backward pass: slower, with the memory of one block
    #[arg(long)]
    pub recompute: bool,
    /// Keep the frozen encoder in 8 bits (QLoRA): a quarter of its memory; implies --recompute
    #[arg(long, conflicts_with = "unfreeze")]
    pub qlora: bool,
    /// Decides weights, crops and dropout
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub seed: u64,
    /// cpu, gpu or cuda; several GPUs as gpu:0,gpu:1 or cuda:0,cuda:1, which share the batches of --accumulate
    #[arg(long, default_value = "cpu", value_delimiter = ',', value_name = "DEVICE,..")]
    pub device: Vec<String>,
    /// Threads on the CPU [default: all]
    #[arg(long)]
    pub threads: Option<usize>,
}

/// Trains, and writes the folder of a run
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Data and settings.
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Folder of the run to write
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Go on with the run in --out from its last checkpoint; all other settings are its own
    #[arg(long)]
    resume: bool,
    /// Stop when the figure has not risen for this many validations
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
    /// Epochs between validations
    #[arg(long, default_value_t = 1, value_name = "N")]
    validate_every: usize,
    /// Print one line of JSON at the end
    #[arg(long)]
    json: bool,
}

impl SettingsArgs {
    /// The run's settings.
    pub fn settings(&self, patience: Option<usize>, validate_every: usize) -> Result<Settings> {
        let fresh = self.base.is_none();
        let backbone = match (&self.base, &self.backbone) {
            (None, Some(name)) => Some(Backbone::named(name)?),
            (None, None) => {
                return Err(Error::new(ErrorKind::Invalid, "neither --base nor --backbone is given").remedy(
                    "give --base with SAM's checkpoint (`samlora download vit_b`), a package or a run; or --backbone lite0 to \
                     start from random weights",
                ));
            }
            (Some(_), _) => None,
        };
        let everything = fresh || self.unfreeze;
        // Everything learns: adapters beside it would only be asked for by name.
        let lora = (self.rank > 0 && !everything).then(|| -> Result<LoraConfig> {
            let targets = match (&self.base, self.targets.as_slice()) {
                (Some(base), []) => Target::usual(BaseModel::open(base)?.config()),
                (_, names) => names.iter().map(|t| Target::named(t)).collect::<Result<_>>()?,
            };
            Ok(LoraConfig { rank: self.rank, alpha: self.alpha, dropout: self.dropout, targets, blocks: None })
        });
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::new(ErrorKind::Invalid, "is not within 0 and 1").at("--dropout"));
        }
        let base_size = || -> Result<usize> {
            let Some(base) = &self.base else { return Ok(384) };
            let config = BaseModel::open(base)?.config().clone();
            Ok(config.backbone().map_or(448, |b| b.input_size))
        };
        let size = match (self.size, &backbone) {
            (Some(size), _) => size,
            (None, Some(backbone)) => backbone.input_size,
            (None, None) => base_size()?,
        };
        let decoder = match self.decoder.as_str() {
            "lora" => DecoderTraining::Lora,
            "heads" => DecoderTraining::Heads,
            "frozen" => DecoderTraining::Frozen,
            _ => DecoderTraining::Full,
        };
        let dice_over = match self.dice_over.as_str() {
            "image" => DiceOver::Image,
            "batch" => DiceOver::Batch,
            _ => DiceOver::Class,
        };
        let mut augment = match (self.no_augment, self.strong_augment) {
            (true, _) => AugmentOptions::none(),
            (_, true) => AugmentOptions::strong(),
            _ => AugmentOptions::default(),
        };
        if let Some(scale) = range(&self.scale, "--scale", "0.5,1.5")? {
            augment.scale = scale;
        }
        augment.resolution = range(&self.resolution, "--resolution", "0.06,0.2")?;
        Ok(Settings {
            data: self.data.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
            dataset: self.labels.options()?,
            split: match self.split.rule()? {
                SplitRule::Folder(path) => SplitRule::Folder(absolute(&path)?),
                rule => rule,
            },
            valid_share: self.split.valid_share,
            split_seed: self.split.split_seed,
            backbone: backbone.map(|b| b.name.to_owned()),
            base: self.base.as_deref().map(absolute).transpose()?,
            lora: lora.transpose()?,
            trained: Trained {
                decoder,
                prompts: true,
                patch_embed: false,
                encoder: everything,
                layer_decay: self.layer_decay,
                encoder_rate: self.encoder_rate,
            },
            size,
            epochs: self.epochs,
            batch_size: self.batch_size,
            accumulate: self.accumulate,
            crops: self.crops,
            learning_rate: self.lr,
            schedule: self.schedule,
            optimizer: OptimizerOptions {
                weight_decay: self.weight_decay,
                clip_norm: (self.clip != 0.0).then_some(self.clip),
                ..OptimizerOptions::default()
            },
            loss: LossOptions {
                cross_entropy: self.cross_entropy,
                dice: self.dice,
                dice_over,
                focal_gamma: self.focal,
                class_weights: None,
            },
            balance: self.balance,
            augment,
            patience,
            validate_every,
            seed: self.seed,
            recompute: self.recompute,
            qlora: self.qlora,
            teacher: self.teacher.settings()?,
            ema: self.teacher.ema,
        })
    }

    /// The devices that were asked for, at least one.
    pub fn devices(&self) -> Result<Vec<Device>> {
        set_threads(self.threads)?;
        let devices: Vec<Device> = self.device.iter().map(|name| device(name)).collect::<Result<_>>()?;
        if devices.len() > self.accumulate && !self.data.is_empty() {
            let message = format!("{} devices for {} batches a step", devices.len(), self.accumulate);
            return Err(Error::new(ErrorKind::Invalid, message)
                .at("--device")
                .remedy(format!("give --accumulate {} or a multiple of it", devices.len())));
        }
        Ok(devices)
    }
}

/// The device called `name`: `cpu`, `gpu`, `cuda`, or one of several GPUs as `gpu:1` or `cuda:1`.
fn device(name: &str) -> Result<Device> {
    let unknown = || {
        Error::new(ErrorKind::Invalid, format!("{name:?} is no device"))
            .at("--device")
            .remedy("cpu, gpu or cuda; one of several GPUs as gpu:1 or cuda:1")
    };
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
        None => (name, None),
    };
    match (kind, index) {
        ("cpu", _) => pollster::block_on(open_device(DeviceChoice::Cpu)),
        ("gpu", None) => pollster::block_on(open_device(DeviceChoice::Gpu)),
        #[cfg(feature = "gpu")]
        ("gpu", Some(index)) => Ok(samlora::engine::numbered_gpu(index)),
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(samlora::engine::cuda(index.unwrap_or(0))),
        #[cfg(not(feature = "cuda"))]
        ("cuda", _) => Err(Error::new(ErrorKind::Unsupported, "this build has no CUDA")
            .at("--device")
            .remedy("build with --features cuda, or use --device gpu")),
        _ => Err(unknown()),
    }
}

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let devices = args.settings.devices()?;
    let device = devices[0].clone();
    let mut display = Display::new();
    let mut trainer = if args.resume {
        Trainer::resume(&args.out, &device, &mut |event| display.show(event))?
    } else {
        let settings = args.settings.settings(args.patience, args.validate_every)?;
        let name = args.settings.device.join(",");
        Trainer::start(settings, &args.out, &device, &name, &mut |event| display.show(event))?
    };
    display.show(Event::Message(format!(
        "{} of {} parameters learn",
        trainer.info().learning_parameters,
        trainer.info().architecture.backbone_name().unwrap_or("a custom model's")
    )));
    trainer.share_with(&devices[1..])?;
    let stopped = stop_on_interrupt()?;
    let outcome = trainer.run(&|| stopped.load(Ordering::Relaxed), &mut |event| display.show(event))?;
    display.clear();
    let Some(outcome) = outcome else {
        return Err(Error::new(ErrorKind::Io, "stopped; what was learned so far is kept")
            .at(args.out.display())
            .remedy("go on with --resume"));
    };
    let metrics = &outcome.evaluation.metrics;
    if args.json {
        return print_json(&json!({
            "run": args.out, "best_epoch": outcome.best_epoch, "stopped_early": outcome.stopped_early,
            "metrics": trainer.info().metrics, "calibration": trainer.info().calibration, "budget": trainer.info().budget, "peak_memory_bytes": peak_memory(),
        }));
    }
    let percent = |v: Option<f64>| v.map_or("undefined".to_owned(), |v| format!("{:.1} %", 100.0 * v));
    say(format_args!(
        "{}: mean IoU {} (without background {}), accuracy {:.1} %, from epoch {}; {}",
        args.out.display(),
        percent(metrics.mean_iou),
        percent(metrics.mean_iou_foreground),
        100.0 * metrics.accuracy,
        outcome.best_epoch,
        args.out.join("report.html").display()
    ))?;
    for (class, found) in trainer.info().classes.iter().zip(&metrics.classes) {
        let (name, iou) = (&class.name, percent(found.iou));
        say(format_args!(
            "  {name}: IoU {iou}, precision {}, recall {}",
            percent(found.precision),
            percent(found.recall)
        ))?;
    }
    if let Some(found) = &trainer.info().calibration {
        let [before, after] = found.calibration_error.map(|error| percent(Some(error)));
        let Calibration { temperature, bias } = &found.calibration;
        let biases = if bias.is_empty() { "" } else { " and a bias for each class" };
        say(format_args!(
            "  confidence: temperature {temperature:.2}{biases}; calibration error {before} without, {after} with them"
        ))?;
    }
    Ok(())
}

/// A flag that Ctrl-C sets, so that the run stops after the step it is in. The second time the program ends at once: files
/// are written whole or not at all.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: at the first signal the flag is not set when it is looked at.
        flag::register_conditional_shutdown(signal, 130, stopped.clone())?;
        flag::register(signal, stopped.clone())?;
    }
    Ok(stopped)
}

/// Progress on stderr: a bar on a terminal, a line an epoch otherwise.
struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    fn new() -> Self {
        Self { bar: std::io::stderr().is_terminal().then(|| bar(0, "", "batches")) }
    }

    fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Message(text) => self.line(&text),
            Event::Step { epoch, batch, loss, images_per_second, left } => {
                let Some(bar) = &self.bar else { return };
                bar.set_length(batch[1] as u64);
                bar.set_position(batch[0] as u64);
                let [epoch, epochs] = epoch;
                let left = time(left);
                bar.set_message(format!(
                    "epoch {epoch}/{epochs} loss {loss:.4} {images_per_second:.1} images/s {left} left"
                ));
            }
            Event::Validating([done, all]) => {
                let Some(bar) = &self.bar else { return };
                bar.set_length(all as u64);
                bar.set_position(done as u64);
                bar.set_message("validating");
            }
            Event::Epoch(record, best) => self.line(&epoch_line(record, best)),
        }
    }
}

fn epoch_line(record: &EpochRecord, best: bool) -> String {
    let mut line = format!("epoch {:>3}  loss {:.4}", record.epoch, record.train_loss);
    if let Some(loss) = record.valid_loss {
        line += &format!("  validation {loss:.4}");
    }
    if let Some(metrics) = &record.metrics {
        let iou = metrics.mean_iou_foreground.or(metrics.mean_iou).unwrap_or(0.0);
        line += &format!("  IoU {:.1} %  accuracy {:.1} %", 100.0 * iou, 100.0 * metrics.accuracy);
    }
    let seconds = time(Duration::from_secs_f64(record.seconds.max(0.0)));
    line += &format!("  {:.1} images/s  {seconds}{}", record.images_per_second, if best { "  best" } else { "" });
    line
}

/// A duration as `1:02:03` or `2:03`.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// Two positive numbers, the lesser one first; none if nothing was given.
fn range(given: &[f32], option: &str, example: &str) -> Result<Option<[f32; 2]>> {
    match *given {
        [] => Ok(None),
        [low, high] if low > 0.0 && low <= high && high.is_finite() => Ok(Some([low, high])),
        _ => Err(Error::new(ErrorKind::Invalid, format!("{given:?} is not a range"))
            .at(option)
            .remedy(format!("write two positive numbers, the lesser one first, as {example}"))),
    }
}
