//! `samlora segment --area`: a job over an area, block by block.

use std::path::{Path, PathBuf};

use clap::Args;
use samlora::area::{
    Augment, Batched, Estimate, Holes, Job, ModelPlan, Options, Plan, Progress, Report, Shard, compose, fingerprint,
    window_of,
};
use samlora::engine::{SegmentOptions, Segmenter};
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson::Placement;
use samlora::source::{ModelInput, Raster, Window};
use serde_json::json;

use super::{Format, Outputs, SegmentArgs, print_results, resolution_warning, stem};
use crate::commands::{peak_memory, print_json, say, size};
use crate::progress::bar;

/// How an area is segmented.
#[derive(Debug, Args)]
#[command(next_help_heading = "Areas")]
pub struct AreaArgs {
    /// Segment block by block, on windows that are fixed to the ground: the whole input, or a box in degrees of longitude and
    /// latitude. Stopped at any moment, the same command goes on
    #[arg(long, value_name = "whole|W,S,E,N", allow_hyphen_values = true)]
    pub area: Option<Area>,
    /// Folder for finished blocks, which is kept [default: NAME.job in --out, removed once the outputs are written]
    #[arg(long, value_name = "DIR", requires = "area")]
    job: Option<PathBuf>,
    /// Compute only share I (from 1 on) of N, and write no outputs: see `samlora merge`
    #[arg(long, value_name = "I/N", requires = "area")]
    shard: Option<Shard>,
    /// How often blocks that cannot be read are tried again at the end
    #[arg(long, value_name = "N", default_value_t = 2, requires = "area")]
    retries: u32,
    /// Mean of several views of each window: none, flips (4 views) or dihedral (8)
    #[arg(long, default_value = "none", requires = "area")]
    augment: Augment,
    /// Side of a block in pixels, rounded to the model's tiles
    #[arg(long, value_name = "PIXELS", default_value_t = 2048, requires = "area")]
    block: usize,
    /// Windows that are computed at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "area", value_parser = clap::value_parser!(u16).range(1..=256))]
    batch: u16,
    /// Say what is to be done, and do nothing
    #[arg(long, requires = "area")]
    estimate: bool,
}

/// What to segment of an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Area {
    /// All of it.
    Whole,
    /// West, south, east, north, in degrees.
    Box([f64; 4]),
}

impl std::str::FromStr for Area {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "whole" {
            return Ok(Self::Whole);
        }
        let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[west, south, east, north]) => Ok(Self::Box([west, south, east, north])),
            _ => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no area"))
                .remedy("give whole, or west,south,east,north in degrees")),
        }
    }
}

impl Area {
    /// The window of a raster that it is.
    fn window(self, raster: &dyn Raster) -> Result<Window> {
        match self {
            Self::Whole => Ok(Window::whole(raster.size())),
            Self::Box(bounds) => window_of(raster.size(), raster.georef(), bounds).map_err(|e| e.at("--area")),
        }
    }
}

impl AreaArgs {
    /// Refuses what cannot go together.
    pub fn check(&self, args: &SegmentArgs) -> Result<()> {
        if self.job.is_some() && args.inputs.len() > 1 {
            return Err(Error::new(ErrorKind::Invalid, "is the folder of one input's job")
                .at("--job")
                .remedy("segment inputs one by one, or leave --job away"));
        }
        Ok(())
    }
}

/// Segments an area of an input.
pub fn one(
    args: &SegmentArgs,
    area: &Area,
    segmenter: &Segmenter,
    input: &Path,
    mut raster: ModelInput,
) -> Result<Option<Error>> {
    let (options, name) = (&args.job, stem(input)?);
    let window = area.window(&raster)?;
    if !args.json {
        eprintln!("{}", raster.describe());
    }
    if options.shard.is_none() {
        args.wanted().check((window.width, window.height))?;
    }
    let manifest = segmenter.manifest();
    let source = (fingerprint(input)?, reading(args, &raster));
    let sides = (manifest.input_size, manifest.tile_size);
    let plan = Plan::new(ModelPlan::of(manifest)?, &raster, source, window, sides, options.block)?;
    let folder = options.job.clone().unwrap_or_else(|| args.out.join(format!("{name}.job")));
    let settings = Options { shard: options.shard.unwrap_or_default(), retries: options.retries, ..Options::default() };
    let is_new = !folder.exists();
    let mut job = Job::open(&folder, plan, options.augment, None, settings)?;
    let estimate = job.estimate(&raster);
    if options.estimate {
        if is_new {
            job.close().1.remove()?;
        }
        return say_estimate(args, input, &estimate).map(|()| None);
    }
    if !args.json {
        eprintln!("{}: {}", folder.display(), in_words(&estimate));
    }
    let mut warnings = Vec::from_iter(resolution_warning(segmenter, &raster));
    let report = run(args, &mut job, segmenter, &mut raster, &name)?;
    warnings.extend(report.damaged.iter().map(|why| format!("{why}; it was computed again")));
    let (plan, store) = job.close();
    let mut files = Vec::new();
    let mut composed = None;
    let mut part = raster.part(window)?;
    if options.shard.is_none() {
        let placement = Placement::new(part.georef(), window.width, window.height);
        warnings.extend(args.format.contains(&Format::Geojson).then(|| placement.warning()).flatten());
        let network = (manifest.classes.as_slice(), Some(segmenter));
        let mut outputs = Outputs::begin(args.wanted(), network, &args.out, &name, &part)?;
        let finish = SegmentOptions { min_pixels: args.min_area, ..Default::default() };
        let stores = [store];
        composed = Some(compose(&plan, &stores, &finish, Holes::NoData, |rows| outputs.rows(rows, &mut part))?);
        files = outputs.finish(&mut part)?;
        if options.job.is_none() && report.missing.is_empty() {
            let [store] = stores;
            store.remove()?;
        }
    }
    for warning in &warnings {
        eprintln!("warning: {}: {warning}", input.display());
    }
    let (classes, without_data) = composed.map_or((Vec::new(), 0), |c| (c.classes, c.without_data));
    if args.json {
        print_json(&json!({
            "input": input, "width": window.width, "height": window.height, "area": plan.area, "job": folder,
            "shard": options.shard.map(|s| s.to_string()), "augment": plan.augment, "block": plan.grid.block,
            "blocks": { "all": report.blocks, "found": report.found, "computed": report.computed, "blank": report.blank },
            "windows": report.windows, "missing": report.missing, "timings_ms": report.times,
            "outside_model": report.times.outside_model(), "classes": classes, "pixels_without_data": without_data,
            "decoded_blocks": part.decoded_blocks(), "peak_memory_bytes": peak_memory(), "warnings": warnings,
            "files": files,
        }))?;
    } else {
        say_report(input, window, &report)?;
        if options.shard.is_none() {
            print_results((window.width, window.height), &classes, without_data, &files)?;
        }
    }
    Ok(incomplete(&report, &folder))
}

fn run(
    args: &SegmentArgs,
    job: &mut Job<'_>,
    segmenter: &Segmenter,
    raster: &mut ModelInput,
    name: &str,
) -> Result<Report> {
    let shown = bar(job.estimate(raster).windows, name, "windows");
    let mut is_told = args.json;
    let mut show = |progress: &Progress| {
        shown.set_length(progress.windows + progress.left.windows);
        shown.set_position(progress.windows);
        if let (false, Some(_)) = (is_told, progress.left.milliseconds) {
            is_told = true;
            shown.suspend(|| eprintln!("by the first window: {}", in_words(&progress.left)));
        }
        Ok(())
    };
    let report = job.run(&mut Batched::new(segmenter, args.job.batch.into()), raster, &mut show);
    shown.finish_and_clear();
    report
}

/// How the raster is read, beyond what its file says.
fn reading(args: &SegmentArgs, raster: &ModelInput) -> String {
    format!("bands {:?}, zoom {:?}, tms {}, {} x {:?}", args.bands, args.zoom, args.tms, raster.bands(), raster.depth())
}

/// Milliseconds in the unit that people use.
fn time(milliseconds: f64) -> String {
    match milliseconds / 1e3 {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        seconds => format!("{:.1} days", seconds / 86_400.0),
    }
}

fn in_words(estimate: &Estimate) -> String {
    let Estimate { blocks, windows, bytes, milliseconds, .. } = *estimate;
    let time = milliseconds.map_or(String::new(), |ms| format!(", about {}", time(ms)));
    format!("{blocks} blocks to do, at most {windows} windows of {} in all{time}", size(bytes))
}

fn say_estimate(args: &SegmentArgs, input: &Path, estimate: &Estimate) -> Result<()> {
    if args.json {
        return print_json(&json!({ "input": input, "estimate": estimate }));
    }
    say(format_args!("{}: {}", input.display(), in_words(estimate)))
}

fn say_report(input: &Path, window: Window, report: &Report) -> Result<()> {
    let Report { blocks, found, blank, windows, times, missing, .. } = report;
    let outside = 100.0 * times.outside_model();
    say(format_args!(
        "{}: {} x {} px, {blocks} blocks ({found} found, {blank} blank), {windows} windows, {} ({outside:.1} % outside the model)",
        input.display(),
        window.width,
        window.height,
        time(times.total)
    ))?;
    for block in missing {
        let (x, y) = (block.x, block.y);
        say(format_args!("  missing: {} x {} px at column {x}, row {y}: {}", block.width, block.height, block.reason))?;
    }
    Ok(())
}

fn incomplete(report: &Report, folder: &Path) -> Option<Error> {
    let count = report.missing.len();
    let first = report.missing.first()?;
    Some(
        Error::new(ErrorKind::Io, format!("{count} of {} blocks could not be read: {}", report.blocks, first.reason))
            .remedy(format!("they hold no data; the same command tries them again, from {}", folder.display())),
    )
}
