//! Preparing a run: opening its data, dividing it, and building the model that learns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;

use super::augment::AugmentOptions;
use super::batch::{BatchOptions, CACHE_BYTES, Lessons, Loader};
use super::dataset::split::{SplitRule, split};
use super::dataset::{Dataset, Scan, review};
use super::init::{self, BaseModel};
use super::learner::{DecoderTraining, Learner};
use super::loss::LossOptions;
use super::run_folder::{BaseOrigin, Budget, Data, RunInfo, Settings, SplitNames, TeacherOrigin, indices, json_stable};
use super::teaching::{self, Teaching};
use crate::config::{Backbone, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::lora;

/// A run's parts.
pub struct Prepared {
    /// What becomes `run.json`.
    pub info: RunInfo,
    /// All samples.
    pub dataset: Arc<Dataset>,
    /// Indices of those that are trained on.
    pub train: Vec<usize>,
    /// Indices of those that are measured on.
    pub valid: Vec<usize>,
    /// The loss, with class weights if they come from the data.
    pub loss: LossOptions,
    /// The model.
    pub learner: Learner,
    /// What batches take beside labelled samples, once [`teach`] has opened the teacher.
    pub lessons: Option<Arc<Lessons>>,
}

/// Opens data and base of new settings. `message` gets what people should know.
///
/// # Errors
/// [`ErrorKind::Invalid`] for settings that cannot be; those of [`Dataset::open`], [`split()`] and [`init::model`].
pub fn prepare(
    settings: Settings,
    device: &Device,
    device_name: &str,
    message: &mut dyn FnMut(String),
) -> Result<Prepared> {
    check(&settings)?;
    let settings = json_stable(settings)?;
    let dataset = open(&settings)?;
    dataset.check_classes()?;
    // Mixed resolutions are nothing to warn of where all crops are brought to one range.
    let mixed = settings.augment.resolution.and_then(|_| review::resolutions(&dataset.samples));
    dataset.warnings.iter().filter(|w| Some(*w) != mixed.as_ref()).for_each(|w| message(w.clone()));
    // Every file is decoded once, so that none ends the run later.
    let scan = dataset.scan(|_, _| ())?;
    let split = split(&dataset, &scan, &settings.split, settings.valid_share, settings.split_seed)?;
    split.warnings.iter().cloned().chain(review::no_background(&dataset, &scan)).for_each(&mut *message);
    message(format!(
        "{} chips: {} to train, {} to validate, {} left out; {} classes",
        dataset.samples.len(),
        split.train.len(),
        split.valid.len(),
        split.dropped.len(),
        dataset.classes.len()
    ));
    let base = base(&settings)?;
    let origin = base.origin()?.map(|(path, sha256)| BaseOrigin { path, sha256 });
    // Three bands of bytes are colours, which the encoder was trained on.
    let normalization = match dataset.is_rgb8() {
        true => base.config().rgb_normalization(),
        false => dataset.statistics(&split.train)?,
    };
    let data = Data {
        folders: folders(&settings),
        sha256: dataset.content_hash()?,
        samples: dataset.samples.len(),
        bands: dataset.bands,
        metres_per_pixel: dataset.ground_resolution(&split.train),
        resolution_range: resolution_range(&settings, &dataset, &split.train),
    };
    let names = SplitNames::of(&dataset, &split);
    let given = Given { origin, normalization, data, names, teacher: None, device_name };
    let mut prepared = assemble(settings, device, dataset, Some(&scan), base, given)?;
    teach(&mut prepared, device, message)?;
    Ok(prepared)
}

/// Opens data and base of a run again, and checks that they are what they were. To go on training, [`teach`] follows.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming what has changed; those of [`prepare`].
pub fn reopen(info: RunInfo, device: &Device, message: &mut dyn FnMut(String)) -> Result<Prepared> {
    let settings = info.settings.clone();
    check(&settings)?;
    let dataset = open(&settings)?;
    if dataset.classes != info.classes || dataset.values != info.values {
        return changed("the class list has");
    }
    for names in [&info.split.train, &info.split.valid, &info.split.dropped] {
        indices(&dataset, names)?;
    }
    if dataset.content_hash()? != info.data.sha256 {
        return changed("the data have");
    }
    // The files are those that were decoded when the run began.
    let scan = if settings.balance { Some(dataset.scan(|_, _| ())?) } else { None };
    // A run from random weights has all of its numbers, whatever its backbone is called now.
    let base = match &settings.base {
        Some(path) => BaseModel::open(path)?,
        None => BaseModel::Fresh(Box::new(info.architecture.clone())),
    };
    let origin = base.origin()?.map(|(path, sha256)| BaseOrigin { path, sha256 });
    if origin.as_ref().map(|o| &o.sha256) != info.base.as_ref().map(|o| &o.sha256) {
        return changed("the base has");
    }
    message(format!("{} chips, as before", dataset.samples.len()));
    let given = Given {
        origin,
        normalization: info.normalization.clone(),
        data: info.data.clone(),
        names: info.split.clone(),
        teacher: info.teacher.clone(),
        device_name: &info.device,
    };
    let mut prepared = assemble(settings, device, dataset, scan.as_ref(), base, given)?;
    prepared.info.calibration = info.calibration;
    Ok(prepared)
}

/// The ground resolutions that crops of some samples may have: those asked for or, without, those of the chips over their scales.
fn resolution_range(settings: &Settings, dataset: &Dataset, train: &[usize]) -> Option<[f64; 2]> {
    let known = train.iter().filter_map(|&i| dataset.samples.get(i)?.metres_per_pixel);
    let range = known.fold(None, |range: Option<[f64; 2]>, metres| {
        let AugmentOptions { scale, scale_chance, .. } = settings.augment.on_ground(Some(metres));
        let [low, high] = if scale_chance > 0.0 { scale.map(f64::from) } else { [1.0, 1.0] };
        let [finest, coarsest] = range.unwrap_or([f64::INFINITY, 0.0]);
        Some([finest.min(metres / high), coarsest.max(metres / low)])
    });
    // To a micrometre: what was asked for in decimals stays so.
    range.map(|range| range.map(|metres| (metres * 1e6).round() / 1e6))
}

fn changed<T>(what: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Invalid, format!("{what} changed since the run began"))
        .at("--resume")
        .remedy("restore the data, or start a new run"))
}

/// Opens the teacher and the unlabelled images of a run that has them, and checks that they are what they were.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming what has changed; those of [`teaching::open`].
pub fn teach(prepared: &mut Prepared, device: &Device, message: &mut dyn FnMut(String)) -> Result<()> {
    let Prepared { info, dataset, train, valid, learner, lessons, .. } = prepared;
    let Some(settings) = info.settings.teacher.clone() else { return Ok(()) };
    let Teaching { teacher, lessons: opened, origin } =
        teaching::open(&settings, dataset, [train, valid], &info.normalization, device, message)?;
    match &info.teacher {
        Some(known) if known.sha256 != origin.sha256 => return changed("the teacher has"),
        Some(known) if known.unlabelled != origin.unlabelled => return changed("the unlabelled images have"),
        Some(_) => {}
        None => info.teacher = Some(origin),
    }
    match teacher {
        Some(teacher) => learner.teach(teacher, info.settings.seed),
        None => learner.teach_masks(settings.weights()),
    }
    *lessons = Some(opened);
    Ok(())
}

/// The batches that a run trains on.
pub fn loader(info: &RunInfo, dataset: &Arc<Dataset>, train: &[usize], lessons: Option<Arc<Lessons>>) -> Loader {
    let settings = &info.settings;
    let options = BatchOptions {
        size: settings.size,
        batch_size: settings.batch_size,
        crops: settings.crops,
        augment: settings.augment.clone(),
        normalization: info.normalization.clone(),
        seed: settings.seed,
        workers: 1,
        cache_bytes: CACHE_BYTES,
    };
    Loader::taught(dataset.clone(), train.to_vec(), lessons, options)
}

struct Given<'a> {
    origin: Option<BaseOrigin>,
    normalization: Normalization,
    data: Data,
    names: SplitNames,
    teacher: Option<TeacherOrigin>,
    device_name: &'a str,
}

fn assemble(
    settings: Settings,
    device: &Device,
    dataset: Dataset,
    scan: Option<&Scan>,
    base: BaseModel,
    given: Given,
) -> Result<Prepared> {
    let (train, valid) = (indices(&dataset, &given.names.train)?, indices(&dataset, &given.names.valid)?);
    let mut settings = settings;
    let step = base.config().input_step();
    if !settings.size.is_multiple_of(step) {
        let message = format!("{} is not a multiple of {step}, as this encoder needs", settings.size);
        return Err(Error::new(ErrorKind::Invalid, message).at("--size"));
    }
    if !base.is_whole() && !settings.trained.encoder {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the base is an image encoder alone: what follows it is random and has to learn",
        )
        .at("--base")
        .remedy("add --unfreeze, which trains all of it; adapters can then be trained on the run or its package"));
    }
    settings.trained.patch_embed |= dataset.bands != base.config().in_chans;
    let (config, mut sam) =
        init::model(&base, &dataset.classes, dataset.bands, settings.lora.as_ref(), settings.seed, device)?;
    if settings.qlora {
        if settings.trained.encoder {
            return Err(Error::new(ErrorKind::Invalid, "8-bit weights cannot be trained")
                .at("--qlora")
                .remedy("leave out --unfreeze, and start from --base"));
        }
        lora::quantize_base(&mut sam);
    }
    if settings.trained.decoder == DecoderTraining::Lora {
        let lora = settings.lora.clone().unwrap_or_default();
        lora::attach_to_decoder(&mut sam, &lora, settings.seed, device);
    }
    let mut loss = settings.loss.clone();
    if let Some(scan) = scan.filter(|_| settings.balance) {
        loss.class_weights = Some(class_weights(&scan.totals(train.iter().copied())));
    }
    let learner = Learner::new(sam, &config, &settings.trained, device, settings.recompute || settings.qlora);
    let info = RunInfo {
        tool: crate::TOOL.to_owned(),
        data: given.data,
        split: given.names,
        classes: dataset.classes.clone(),
        values: dataset.values.clone(),
        normalization: given.normalization,
        architecture: config,
        base: given.origin,
        teacher: given.teacher,
        learning_parameters: learner.counts().0,
        device: given.device_name.to_owned(),
        budget: Budget::default(),
        metrics: None,
        calibration: None,
        settings,
    };
    let info = json_stable(info)?;
    Ok(Prepared { info, dataset: Arc::new(dataset), train, valid, loss, learner, lessons: None })
}

/// The folders of a run's samples, that of validation last.
fn folders(settings: &Settings) -> Vec<PathBuf> {
    let mut folders = settings.data.clone();
    if let SplitRule::Folder(valid) = &settings.split
        && !folders.contains(valid)
    {
        folders.push(valid.clone());
    }
    folders
}

fn open(settings: &Settings) -> Result<Dataset> {
    let dataset = Dataset::open(&folders(settings), &settings.dataset)?;
    if dataset.classes.len() < 2 {
        return Err(Error::new(ErrorKind::Invalid, "the data has no class beside background")
            .at(settings.data.first().map_or(Path::new("--data"), |p| p.as_path()).display())
            .remedy("look at it with `samlora inspect`, and name classes with --class VALUE=NAME"));
    }
    Ok(dataset)
}

fn base(settings: &Settings) -> Result<BaseModel> {
    match (&settings.base, &settings.backbone) {
        (Some(path), _) => BaseModel::open(path),
        (None, Some(name)) => Ok(BaseModel::fresh(&Backbone::named(name)?)),
        (None, None) => Err(Error::new(ErrorKind::Invalid, "neither a base nor a backbone is given")
            .remedy("give --base FILE, or --backbone lite0 to start from random weights")),
    }
}

/// Of epochs, crops and the like; what is above is a slip of the keyboard, and its product may not be a number.
const MAX_COUNT: usize = 1_000_000;

fn check(settings: &Settings) -> Result<()> {
    let problem = |message: String, at: &str| Err(Error::new(ErrorKind::Invalid, message).at(at));
    let optional = |value: Option<usize>| value.unwrap_or(1);
    let counts = [
        (settings.epochs, "--epochs"),
        (settings.batch_size, "--batch-size"),
        (settings.accumulate, "--accumulate"),
        (settings.validate_every, "--validate-every"),
        (optional(settings.patience), "--patience"),
        (settings.crops.max(1), "--crops"),
        (optional(settings.lora.as_ref().map(|lora| lora.rank)), "--rank"),
    ];
    if let Some((value, option)) = counts.iter().find(|(value, _)| !(1..=MAX_COUNT).contains(value)) {
        return problem(format!("is {value}, expected 1 to {MAX_COUNT}"), option);
    }
    let alpha = settings.lora.as_ref().and_then(|lora| lora.alpha);
    let LossOptions { cross_entropy, dice, focal_gamma, .. } = settings.loss;
    let numbers = [
        (settings.optimizer.weight_decay, "--weight-decay"),
        (settings.optimizer.clip_norm.unwrap_or(0.0), "--clip"),
        (settings.trained.layer_decay, "--layer-decay"),
        (settings.trained.encoder_rate, "--encoder-rate"),
        (alpha.unwrap_or(0.0), "--alpha"),
        (cross_entropy, "--cross-entropy"),
        (dice, "--dice"),
        (focal_gamma, "--focal"),
    ];
    if let Some((value, option)) = numbers.iter().find(|(value, _)| !(*value >= 0.0 && value.is_finite())) {
        return problem(format!("{value} is not a number from 0 on"), option);
    }
    if !settings.size.is_multiple_of(16) || !(32..=2048).contains(&settings.size) {
        return problem(format!("{} is not a multiple of 16 from 32 to 2048", settings.size), "--size");
    }
    if !(settings.learning_rate > 0.0 && settings.learning_rate.is_finite()) {
        return problem(format!("{} is not a positive number", settings.learning_rate), "--lr");
    }
    if cross_entropy + dice == 0.0 {
        return problem("this and --dice are 0: nothing would be learned".into(), "--cross-entropy");
    }
    if let Some(ema) = settings.ema.filter(|ema| !(*ema > 0.0 && *ema < 1.0)) {
        return problem(format!("{ema} is not between 0 and 1"), "--ema");
    }
    settings.teacher.as_ref().map_or(Ok(()), teaching::check)?;
    settings.schedule.check()
}

/// For each class the root of (the mean class's pixels / its pixels); 0 for a class that does not occur.
fn class_weights(pixels: &[u64]) -> Vec<f32> {
    let occurring = pixels.iter().filter(|p| **p > 0).count().max(1);
    let mean = pixels.iter().sum::<u64>() as f64 / occurring as f64;
    pixels.iter().map(|&p| if p == 0 { 0.0 } else { (mean / p as f64).sqrt() as f32 }).collect()
}
