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
use samlora::mask::ClassStats;
use samlora::source::{ModelInput, Raster, Window, is_url};
use samlora::vector::{self, Areas, Clip, Clipped};
use serde_json::json;

use super::input::Input;
use super::vectors::RightAngles;
use super::{Origin, Outputs, SegmentArgs, Source, named, print_results, provenance, source_name, stem};
use crate::commands::{peak_memory, print_json, say, size};
use crate::progress::bar;

/// How an area is segmented.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Areas")]
pub struct AreaArgs {
    /// Segment block by block, on windows that are fixed to the ground: the whole input, a box in degrees of longitude and
    /// latitude, or the polygons of a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file, outside of which there is no data.
    /// Stopped at any moment, the same command goes on
    #[arg(long, value_name = "whole|W,S,E,N|FILE", allow_hyphen_values = true)]
    area: Option<String>,
    /// Layer of the --area file
    #[arg(long, requires = "area", value_name = "NAME")]
    layer: Option<String>,
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
#[derive(Debug)]
pub enum Area {
    /// All of it.
    Whole,
    /// West, south, east, north, in degrees.
    Box([f64; 4]),
    /// What lies within polygons.
    Polygons(Areas),
}

impl Area {
    fn read(text: &str, layer: Option<&str>) -> Result<Self> {
        let sides: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        let is_file = text != "whole" && sides.is_none();
        if layer.is_some() && !is_file {
            return Err(Error::new(ErrorKind::Invalid, "only a file has layers").at("--layer"));
        }
        match sides.as_deref() {
            _ if text == "whole" => Ok(Self::Whole),
            Some(&[west, south, east, north]) => Ok(Self::Box([west, south, east, north])),
            Some(_) => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no area"))
                .remedy("give whole, west,south,east,north in degrees, or a file of polygons")),
            None => vector::read(text, layer).map(Self::Polygons),
        }
    }

    /// What of a raster lies within, if it is cut to polygons.
    fn clip(&self, raster: &impl Raster) -> Result<Option<Clip>> {
        match self {
            Self::Polygons(areas) => Clip::new(areas, raster.georef(), raster.size()).map(Some),
            _ => Ok(None),
        }
    }

    /// The window of a raster that it is.
    fn window(&self, raster: &impl Raster) -> Result<Window> {
        match self {
            Self::Whole => Ok(Window::whole(raster.size())),
            Self::Box(bounds) => window_of(raster.size(), raster.georef(), *bounds),
            Self::Polygons(_) => self.clip(raster)?.and_then(|clip| clip.bounds()).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "no pixel of the image lies within the areas")
                    .remedy("check that areas and image are of one place")
            }),
        }
    }
}

impl AreaArgs {
    /// What to segment, if it was asked for.
    pub fn area(&self) -> Result<Option<Area>> {
        let Some(text) = &self.area else { return Ok(None) };
        let area = Area::read(text, self.layer.as_deref()).map_err(|e| e.at("--area"))?;
        if let Area::Polygons(areas) = &area {
            areas.notes.iter().for_each(|note| eprintln!("warning: --area: {note}"));
        }
        Ok(Some(area))
    }

    /// The file of areas, if it is one: outputs must not be written over it.
    pub fn file(&self) -> Option<PathBuf> {
        self.area.as_ref().map(PathBuf::from)
    }

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

/// Segments an area of an input; gives what is wrong with results that are there.
pub fn one(args: &SegmentArgs, area: &Area, segmenter: &Segmenter, input: &Path) -> Result<Option<Error>> {
    let (options, name, manifest) = (&args.job, stem(input)?, segmenter.manifest());
    let opened = Input::open(args, segmenter, input)?;
    let at_area = |e: Error| e.at("--area");
    // Of the grid on which the mask is written, and of that which the model sees.
    let window = area.window(opened.target()).map_err(at_area)?;
    let size = (window.width, window.height);
    let Input { model, output, mut warnings, attribution, seen } = opened;
    let part = output.as_ref().map_or(window, |output| output.model_window(window, model.size()));
    if !args.json {
        eprintln!("{}", model.describe());
    }
    if options.shard.is_none() {
        args.outputs.check_size(size)?;
    }
    // What lies outside is cut off on the mask's own grid; here, only windows that are nowhere inside are left out.
    let clip = area.clip(&model).map_err(at_area)?;
    let clipped = if output.is_some() { Clipped::windows } else { Clipped::new };
    let mut raster: Source = clipped(model.into_inner(), clip);
    let file = if is_url(input) { named(input) } else { fingerprint(input)? };
    let source = (file, reading(args, area, &raster)?);
    let sides = (manifest.input_size, manifest.tile_size);
    let mut plan = Plan::new(ModelPlan::of(manifest)?, &raster, source, part, sides, options.block)?;
    plan.raster.name = source_name(input);
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
    let report = run(args, &mut job, segmenter, &mut raster, &name)?;
    warnings.extend(report.damaged.iter().map(|why| format!("{why}; it was computed again")));
    let (plan, store) = job.close();
    let mut written = Written::default();
    if options.shard.is_none() {
        let clip = |raster: &ModelInput| area.clip(raster);
        // The mask's grid is the model's, or another with the model's rows brought to it.
        let mut output = output.map(|output| output.part(window, part, clip)).transpose()?;
        let mut same = match &output {
            Some(_) => None,
            None => {
                let raster = raster.into_inner().part(part)?;
                let clip = clip(&raster)?;
                Some(Clipped::new(raster, clip))
            }
        };
        let Some(target) = output.as_ref().map(|output| &output.raster).or(same.as_ref()) else { return Ok(None) };
        let (georef, clip) = (target.georef().cloned(), target.clip().cloned());
        let placement = Placement::new(georef.as_ref(), size.0, size.1);
        warnings.extend(args.outputs.has_polygons().then(|| placement.warning()).flatten());
        let provenance = provenance(segmenter, input, target);
        let origin = Origin { classes: &manifest.classes, georef: georef.as_ref(), size, provenance: &provenance };
        let mut outputs = Outputs::begin(&args.outputs, Some(segmenter), &args.out, &name, &origin, clip.as_ref())?;
        outputs.at_model = output.is_none();
        let min_pixels = if output.is_some() { 0 } else { args.outputs.min_area };
        let finish = SegmentOptions { min_pixels, ..Default::default() };
        let stores = [store];
        let composed = compose(&plan, &stores, &finish, Holes::NoData, |rows| match (&mut output, &mut same) {
            (Some(output), _) => output.rows(rows, |rows, raster| outputs.rows(rows, raster)),
            (None, Some(raster)) => outputs.rows(rows, raster),
            (None, None) => Ok(()),
        })?;
        written.classes = composed.classes;
        written.without_data = composed.without_data;
        if let Some(output) = &mut output {
            output.finish(|rows, raster| outputs.rows(rows, raster))?;
            (written.classes, written.without_data) = output.counted(&manifest.classes);
        }
        let Some(target) = output.as_mut().map(|output| &mut output.raster).or(same.as_mut()) else { return Ok(None) };
        let (files, right_angles) = outputs.finish(target)?;
        (written.files, written.right_angles) = (files, right_angles);
        written.decoded_blocks = target.decoded_blocks();
        if options.job.is_none() && report.missing.is_empty() {
            let [store] = stores;
            store.remove()?;
        }
    }
    for warning in &warnings {
        eprintln!("warning: {}: {warning}", named(input));
    }
    if args.json {
        print_json(&json!({
            "input": input, "width": size.0, "height": size.1, "job": folder,
            "area": { "x": window.x, "y": window.y, "width": window.width, "height": window.height },
            "shard": options.shard.map(|s| s.to_string()), "augment": plan.augment, "block": plan.grid.block,
            "blocks": { "all": report.blocks, "found": report.found, "computed": report.computed, "blank": report.blank },
            "windows": report.windows, "missing": report.missing, "timings_ms": report.times,
            "outside_model": report.times.outside_model(), "classes": written.classes,
            "pixels_without_data": written.without_data, "decoded_blocks": written.decoded_blocks,
            "peak_memory_bytes": peak_memory(), "warnings": warnings, "files": written.files,
            "attribution": attribution, "resolution": seen, "right_angles": written.right_angles,
        }))?;
    } else {
        say_report(input, window, &report)?;
        for text in written.right_angles.map(|report| report.text()).iter().chain(&attribution) {
            say(format_args!("  {text}"))?;
        }
        if options.shard.is_none() {
            print_results(size, &written.classes, written.without_data, &written.files)?;
        }
    }
    Ok(incomplete(&report, &folder))
}

/// What was made of a finished job.
#[derive(Default)]
struct Written {
    classes: Vec<ClassStats>,
    without_data: u64,
    files: Vec<PathBuf>,
    right_angles: Option<RightAngles>,
    decoded_blocks: u64,
}

fn run(
    args: &SegmentArgs,
    job: &mut Job<'_>,
    segmenter: &Segmenter,
    raster: &mut Source,
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

/// How the raster is read, beyond what its file says, and to what it is cut.
fn reading(args: &SegmentArgs, area: &Area, raster: &Source) -> Result<String> {
    let cut = match (area, &args.job.area) {
        (Area::Polygons(_), Some(file)) => fingerprint(Path::new(file))?,
        _ => String::new(),
    };
    let how = (&args.bands, args.source.tiles(), args.resolution, args.grid, &args.job.layer);
    Ok(format!("{how:?}, {} x {:?}, {:?}, {cut}", raster.bands(), raster.depth(), raster.size()))
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
    say(format_args!("{}: {}", named(input), in_words(estimate)))
}

fn say_report(input: &Path, window: Window, report: &Report) -> Result<()> {
    let Report { blocks, found, blank, windows, times, missing, .. } = report;
    let outside = 100.0 * times.outside_model();
    say(format_args!(
        "{}: {} x {} px, {blocks} blocks ({found} found, {blank} blank), {windows} windows, {} ({outside:.1} % outside the model)",
        named(input),
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
