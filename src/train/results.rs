//! What a run leaves: adapter or model, report, figures; and packages made of it.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;

use super::checkpoint::{self, RunProgress};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate};
use super::learner::Learner;
use super::metrics::confidence::Point;
use super::metrics::counts::Means;
use super::report::{EpochRecord, Report};
use super::run_folder::{Budget, RunFolder, RunInfo, indices};
use super::setup;
use super::thresholds::{ThresholdFor, choose};
use crate::config::SamConfig;
use crate::engine::Segmenter;
use crate::error::{Error, ErrorKind, Result};
use crate::lora::{self, Target};
use crate::model::Sam;
use crate::names;
use crate::source::write::atomic;
use crate::weights::checkpoint::HostTensor;
use crate::weights::export;
use crate::weights::folder::Folder;
use crate::weights::keys::{Side, lora_name, samed_name};
use crate::weights::layout;
use crate::weights::manifest::{Kind, Manifest, TaughtBy};
use crate::weights::quantize::Scheme;
use crate::weights::safetensors::Writer;
use crate::weights::source::{Dtype, TensorInfo};

/// The model as it stands, adapters merged, in the pipeline that segments.
///
/// # Errors
/// None today; the signature leaves room for devices that fail.
pub fn segmenter(info: &RunInfo, learner: &Learner) -> Result<Segmenter> {
    let mut sam = learner.sam.clone();
    lora::merge(&mut sam);
    Ok(Segmenter::new(manifest(info), sam, learner.device()))
}

/// The manifest of a run's model, f32, without weights.
pub fn manifest(info: &RunInfo) -> Manifest {
    let size = info.settings.size;
    let mut manifest = Manifest::new(&info.architecture, info.classes.clone());
    if manifest.input_size != size {
        // Two thirds are tile, as 256 of 384: neighbours' context all around.
        manifest.tile_size = (size * 2 / 3).next_multiple_of(16).min(size);
    }
    manifest.input_size = size;
    manifest.normalization = info.normalization.clone();
    // Where crops were brought to a range of resolutions, its middle is what the model knows best.
    let middle = |[finest, coarsest]: [f32; 2]| f64::from(finest * coarsest).sqrt();
    manifest.ground_resolution =
        info.data.metres_per_pixel.map(|metres| info.settings.augment.resolution.map_or(metres, middle));
    manifest.resolution_range = info.data.resolution_range;
    manifest.calibration = info.calibration.as_ref().map(|found| found.calibration.clone());
    manifest.origin.base_sha256 = info.base.as_ref().map(|o| o.sha256.clone());
    manifest.origin.teacher =
        info.teacher.as_ref().map(|t| TaughtBy { name: t.name.clone(), sha256: t.sha256.clone() });
    manifest.lora = info.settings.lora.clone();
    manifest
}

/// Figures as a manifest and `run.json` hold them: `accuracy`, `mean_iou`, `mean_iou_foreground`, `iou_{class}`,
/// `mean_boundary_iou_foreground`, `mean_object_f1_foreground` and `calibration_error`.
pub fn figures(info: &RunInfo, found: &Evaluation) -> BTreeMap<String, f64> {
    let summary = found.quality.summary();
    let Means { boundary_iou, object_f1, .. } = summary.all.means;
    let metrics = &found.metrics;
    let mut figures = BTreeMap::from([("accuracy".to_owned(), metrics.accuracy)]);
    figures.extend(metrics.mean_iou.map(|v| ("mean_iou".to_owned(), v)));
    figures.extend(metrics.mean_iou_foreground.map(|v| ("mean_iou_foreground".to_owned(), v)));
    for (class, found) in info.classes.iter().zip(&metrics.classes) {
        figures.extend(found.iou.map(|v| (format!("iou_{}", class.name), v)));
    }
    figures.extend(boundary_iou.map(|v| ("mean_boundary_iou_foreground".to_owned(), v)));
    figures.extend(object_f1.map(|v| ("mean_object_f1_foreground".to_owned(), v)));
    figures.extend(summary.calibration_error.map(|v| ("calibration_error".to_owned(), v)));
    figures
}

/// Writes adapter or model, report and figures.
///
/// # Errors
/// [`ErrorKind::Io`] naming the file.
pub fn write(
    folder: &RunFolder,
    info: &mut RunInfo,
    learner: &Learner,
    progress: &RunProgress,
    log: &[EpochRecord],
    found: &Evaluation,
) -> Result<()> {
    info.budget = Budget { steps: progress.step, images: progress.images, seconds: progress.seconds };
    info.metrics = Some(figures(info, found));
    let mut merged = learner.sam.clone();
    lora::merge(&mut merged);
    let values = host(&merged, &info.architecture, learner.device())?;
    let whole = info.settings.trained.encoder || info.settings.trained.patch_embed;
    if whole {
        write_tensors(&folder.file("model.safetensors"), &values, &info.classes)?;
    } else {
        let mut tensors = adapter(learner, &info.architecture)?;
        tensors.extend(values.into_iter().filter(|(name, _)| is_head(name)));
        write_tensors(&folder.file("adapter.safetensors"), &tensors, &info.classes)?;
    }
    folder.write_info(info)?;
    let settings = serde_json::to_value(&*info)
        .map_err(|e| Error::new(ErrorKind::Format, "run.json cannot be written").source(e))?;
    let title = info.settings.data.first().and_then(|d| d.file_name()).map(|n| n.to_string_lossy().into_owned());
    let backbone = info.architecture.backbone_name().unwrap_or("custom");
    let title = format!("{} with {backbone}", title.unwrap_or_else(|| "Training".into()));
    let report = Report {
        title: &title,
        settings: &settings,
        epochs: log,
        metrics: &found.metrics,
        confusion: &found.confusion,
        classes: &info.classes,
        quality: Some(&found.quality),
        pictures: &found.pictures,
    };
    folder.write("report.html", report.html()?.as_bytes())
}

/// All parameters on the host by name.
fn host(sam: &Sam, config: &SamConfig, device: &Device) -> Result<BTreeMap<String, HostTensor>> {
    let reader = Learner::new(sam.clone(), config, &super::learner::Trained::default(), device, false);
    let read = |(i, p): (usize, &crate::weights::modules::Named)| {
        Ok((p.name.clone(), HostTensor { shape: p.shape.clone(), values: reader.values(i)? }))
    };
    reader.parameters().iter().enumerate().map(read).collect()
}

/// The encoder's factors, block by block, their scale folded into B so that what they are written to needs no alpha.
fn factors(learner: &Learner, config: &SamConfig) -> Result<Vec<(usize, Target, Side, HostTensor)>> {
    let mut found = Vec::new();
    let mut attached = host(&learner.sam, config, learner.device())?;
    for ((block, target), scale) in lora::scales(&learner.sam, config) {
        for side in [Side::A, Side::B] {
            let Some(mut tensor) = attached.remove(&lora_name(block, target, side)) else { continue };
            if side == Side::B {
                tensor.values.iter_mut().for_each(|v| *v *= scale as f32);
            }
            found.push((block, target, side, tensor));
        }
    }
    Ok(found)
}

/// [`factors`] by SAMed's names where q and v of all blocks are adapted, else by this crate's.
fn adapter(learner: &Learner, config: &SamConfig) -> Result<BTreeMap<String, HostTensor>> {
    let adapted = lora::scales(&learner.sam, config);
    let samed = (0..config.depth)
        .flat_map(|b| Target::ALL.map(|t| (b, t)))
        .all(|(b, t)| adapted.contains_key(&(b, t)) == matches!(t, Target::Query | Target::Value));
    let named = factors(learner, config)?.into_iter().map(|(block, target, side, tensor)| {
        let stored = if samed { samed_name(block, target, side) } else { None };
        (stored.unwrap_or_else(|| lora_name(block, target, side)), tensor)
    });
    Ok(named.collect())
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, HostTensor>, classes: &[crate::config::Class]) -> Result<()> {
    let infos: Vec<TensorInfo> = tensors
        .iter()
        .map(|(name, t)| TensorInfo { name: name.clone(), shape: t.shape.clone(), dtype: Dtype::F32 })
        .collect();
    let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    let names = serde_json::json!(names).to_string();
    let metadata = BTreeMap::from([("classes".to_owned(), names), ("tool".to_owned(), crate::TOOL.to_owned())]);
    atomic(path, |file| {
        let mut writer = Writer::new(file, &infos, &metadata)?;
        for (name, tensor) in tensors {
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.tensor(name, &bytes)?;
        }
        writer.finish().map(|_| ())
    })
}

/// What a package of a run shall be.
pub struct PackageOptions {
    /// How its matrices are stored.
    pub scheme: Scheme,
    /// A name for people.
    pub name: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whom to name for weights and data.
    pub attribution: String,
    /// Write the adapter alone, for the base package with this hash.
    pub base_package: Option<String>,
    /// Thresholds by what they shall give on the validation samples.
    pub thresholds: Vec<ThresholdFor>,
}

/// What [`package`] wrote.
pub struct Packaged {
    /// The package's manifest.
    pub manifest: Manifest,
    /// What it was measured to be on the run's validation samples.
    pub evaluation: Evaluation,
    /// The thresholds that were wished for, by class, with what they give there.
    pub thresholds: Vec<(u8, Point)>,
}

/// Writes a package of a run's best weights, measures it on the run's validation samples, chooses thresholds, and stores the figures in
/// it. `progress` gets what is being done, how much of it is done, and of how much.
///
/// # Errors
/// Those of [`setup::reopen`], [`export::write`], [`evaluate`] and [`choose`]; `out` is then as it was.
pub fn package(
    run: &Path,
    options: &PackageOptions,
    out: &Path,
    device: &Device,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Packaged> {
    let folder = RunFolder::open(run)?;
    let mut prepared = setup::reopen(folder.info()?, device, &mut |_| ())?;
    let best = folder.best();
    if !best.exists() {
        return Err(Error::new(ErrorKind::NotFound, "the run has no validated weights yet")
            .at(best.display())
            .remedy("let an epoch end (--resume)"));
    }
    checkpoint::load(&best, &mut prepared.learner, &prepared.info.key()?)?;
    let info = &prepared.info;
    let mut merged = prepared.learner.sam.clone();
    lora::merge(&mut merged);
    let mut manifest = manifest(info);
    manifest.scheme = options.scheme;
    manifest.name.clone_from(&options.name);
    manifest.licence.clone_from(&options.licence);
    manifest.attribution.clone_from(&options.attribution);
    let values = host(&merged, &info.architecture, device)?;
    let (tensors, values) = match &options.base_package {
        None => (layout::tensors(&info.architecture), values),
        Some(hash) => {
            if info.settings.trained.encoder || info.settings.trained.patch_embed {
                return Err(Error::new(ErrorKind::Invalid, "the run changed the encoder itself: it is no adapter")
                    .at(run.display())
                    .remedy("export it without --base-package"));
            }
            manifest.kind = Kind::Adapter;
            manifest.origin.base_sha256 = Some(hash.clone());
            // Scales are folded into B.
            manifest.lora = manifest.lora.map(|lora| lora::LoraConfig { alpha: None, ..lora });
            adapter_tensors(&prepared.learner, &info.architecture, values)?
        }
    };
    let read = |name: &str| {
        values
            .get(name)
            .map(|t| t.values.clone())
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "is missing from the run").at(format!("tensor {name}")))
    };
    // What is measured is what will be written; `out` stays untouched until all is known.
    export::vacant(out)?;
    let beside = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::tempdir_in(beside).map_err(|e| Error::from(e).at(beside.display()))?;
    let draft = draft.path().join("package");
    let valid = indices(&prepared.dataset, &info.split.valid)?;
    let mut measure = |manifest: &Manifest| {
        export::write(manifest.clone(), tensors.clone(), read, &draft, |done, all| progress("exporting", done, all))?;
        let segmenter = match manifest.kind {
            Kind::Adapter => measured_adapter(info, &prepared.learner, &draft, device)?,
            _ => pollster::block_on(Segmenter::load(&Folder::open(&draft)?, device, |_| ()))?,
        };
        let chips = |done| progress("measuring", done, valid.len());
        evaluate(&segmenter, &prepared.dataset, &valid, &EvaluateOptions::default(), chips)
    };
    let mut evaluation = measure(&manifest)?;
    let thresholds = choose(&options.thresholds, &manifest.classes, &evaluation.quality.confidences)?;
    if !thresholds.is_empty() {
        for class in &mut manifest.classes {
            let chosen = thresholds.iter().find(|(index, _)| *index == class.index);
            class.threshold = chosen.map(|(_, point)| point.threshold);
        }
        evaluation = measure(&manifest)?;
    }
    manifest.metrics = Some(figures(info, &evaluation));
    let manifest = export::write(manifest, tensors, read, out, |_, _| ())?;
    Ok(Packaged { manifest, evaluation, thresholds })
}

type Tensors = (Vec<(String, Vec<usize>)>, BTreeMap<String, HostTensor>);

/// Whether a tensor is one of those that an adapter package holds whole: prompt encoder and mask decoder.
fn is_head(name: &str) -> bool {
    names::named(name).is_some_and(|found| !found.part.in_encoder())
}

/// An adapter package's tensors: factors by this crate's names, and the heads.
fn adapter_tensors(learner: &Learner, config: &SamConfig, merged: BTreeMap<String, HostTensor>) -> Result<Tensors> {
    let mut values: BTreeMap<String, HostTensor> = merged.into_iter().filter(|(name, _)| is_head(name)).collect();
    let mut order: Vec<(String, Vec<usize>)> = layout::tensors(config);
    order.retain(|(name, _)| is_head(name));
    for (block, target, side, tensor) in factors(learner, config)? {
        let name = lora_name(block, target, side);
        order.push((name.clone(), tensor.shape.clone()));
        values.insert(name, tensor);
    }
    Ok((order, values))
}

/// The written adapter on the run's own base.
fn measured_adapter(info: &RunInfo, learner: &Learner, out: &Path, device: &Device) -> Result<Segmenter> {
    let mut base = learner.sam.clone();
    lora::detach(&mut base);
    let folder = Folder::open(out)?;
    let stored = pollster::block_on(crate::weights::package::read_manifest(&folder))?;
    let mut collected = crate::weights::adapter::Collector::new(device);
    let insert = |n: &str, s: &[usize], v| collected.insert(n, s, v);
    pollster::block_on(crate::weights::package::read_stored(&folder, &stored, insert, |_| ()))?;
    let (factors, heads) = collected.finish(None, &info.architecture)?;
    base.load_heads(&info.architecture, heads)?;
    lora::attach(&mut base, &info.architecture, &factors, 0.0, device)?;
    Ok(Segmenter::new(stored, base, device))
}
