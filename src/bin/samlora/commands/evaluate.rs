//! `samlora evaluate`: figures of a package on labelled chips.

use std::path::{Path, PathBuf};

use clap::Args;
use samlora::engine::{DeviceChoice, Segmenter};
use samlora::error::{Error, ErrorKind, Result};
use samlora::source::Resolution;
use samlora::source::write::atomic;
use samlora::train::dataset::Dataset;
use samlora::train::dataset::split::{SplitRule, split};
use samlora::train::evaluate::{EvaluateOptions, evaluate, resolution_warning};
use samlora::train::metrics::BoundaryWidth;
use samlora::train::report::Report;
use samlora::train::run_folder::{RunFolder, indices};
use samlora::weights::folder::Folder;
use serde_json::json;

mod print;

use super::data_args::{LabelArgs, VALID_SHARE};
use super::set_threads;
use crate::progress::bar;

/// Compares a package's masks with labels
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Package to measure
    #[arg(long, value_name = "PACKAGE")]
    model: PathBuf,
    /// Base package, where --model is an adapter
    #[arg(long, value_name = "PACKAGE")]
    base: Option<PathBuf>,
    /// Folder of samples; may be repeated
    #[arg(long = "data", value_name = "DIR", required_unless_present = "run", conflicts_with = "run")]
    data: Vec<PathBuf>,
    /// Take data, labels and split from this run
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// What label values mean.
    #[command(flatten)]
    labels: LabelArgs,
    /// Which samples: all, or those that a run trains on or validates on: the run's own with --run, else those that `train` divides
    /// by place without further options [default: all, with --run valid]
    #[arg(long, value_name = "PART", value_parser = ["all", "train", "valid"])]
    split: Option<String>,
    /// Width of the band along borders for the boundary IoU: a share of the image's diagonal, pixels (3px) or metres (0.5m)
    #[arg(long, default_value = "2%", value_name = "WIDTH")]
    boundary: BoundaryWidth,
    /// Metres a pixel at which the model sees the chips, or native, or model: their pixels are averaged or interpolated, the masks
    /// compared on the chips' grid [default: the model's own where a chip's differs by more than a quarter; beyond a factor of 4
    /// refused]
    #[arg(long, value_name = "METRES|native|model")]
    resolution: Option<Resolution>,
    /// Write a report with pictures, the worst chips first
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// cpu or gpu
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> Result<()> {
    set_threads(args.threads)?;
    let device = super::open_device(args.device)?;
    let load = |path: &Path| pollster::block_on(Segmenter::load(&Folder::open(path)?, &device, |_| ()));
    let segmenter = match &args.base {
        Some(base) => pollster::block_on(load(base)?.load_adapter(&Folder::open(&args.model)?, |_| ()))?,
        None => load(&args.model)?,
    };
    let (dataset, chosen) = samples(args)?;
    if chosen.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no sample is left to measure on").at("--split"));
    }
    let mut warnings = dataset.warnings.clone();
    let known = (segmenter.manifest().ground_resolution, dataset.ground_resolution(&chosen));
    match (args.resolution, known) {
        (Some(Resolution::Native), _) => {
            warnings.extend(resolution_warning(segmenter.manifest(), &dataset, &chosen));
        }
        (None, (Some(model), None)) => warnings.push(format!(
            "The data's ground resolution is not known; the model was trained on pixels of {model:.3} m."
        )),
        _ => {}
    }
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let progress = bar(chosen.len() as u64, "measuring", "chips");
    let pictures = if args.report.is_some() { 24 } else { 0 };
    let options = EvaluateOptions { pictures, boundary: args.boundary, resolution: args.resolution };
    let found = evaluate(&segmenter, &dataset, &chosen, &options, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    let manifest = segmenter.manifest();
    if let Some(path) = &args.report {
        let settings = json!({ "model": args.model, "data": args.data, "run": args.run, "chips": chosen.len() });
        let report = Report {
            title: &manifest.name,
            settings: &settings,
            epochs: &[],
            metrics: &found.metrics,
            confusion: &found.confusion,
            classes: &manifest.classes,
            quality: Some(&found.quality),
            pictures: &found.pictures,
        };
        let html = report.html()?;
        atomic(path, |file| Ok(std::io::Write::write_all(file, html.as_bytes())?))?;
    }
    print::print(args, &found, &manifest.classes, chosen.len(), &warnings)
}

fn samples(args: &EvaluateArgs) -> Result<(Dataset, Vec<usize>)> {
    if let Some(run) = &args.run {
        let info = RunFolder::open(run)?.info()?;
        let dataset = Dataset::open(&info.data.folders, &info.settings.dataset)?;
        let chosen = match args.split.as_deref() {
            Some("all") => (0..dataset.samples.len()).collect(),
            Some("train") => indices(&dataset, &info.split.train)?,
            _ => indices(&dataset, &info.split.valid)?,
        };
        return Ok((dataset, chosen));
    }
    let dataset = Dataset::open(&args.data, &args.labels.options()?)?;
    dataset.check_classes()?;
    // Every file is decoded once, so that none ends the measurement later.
    let scan = dataset.scan(|_, _| ())?;
    let chosen = match args.split.as_deref() {
        Some(part @ ("train" | "valid")) => {
            let split = split(&dataset, &scan, &SplitRule::Place { cell_metres: None }, VALID_SHARE, 0)?;
            if part == "train" { split.train } else { split.valid }
        }
        _ => (0..dataset.samples.len()).collect(),
    };
    Ok((dataset, chosen))
}
