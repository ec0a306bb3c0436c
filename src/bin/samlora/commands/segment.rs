//! `samlora segment`: files to class masks, overlays, polygons and rasters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use samlora::engine::{DeviceChoice, SegmentOptions, Segmenter, Summary};
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson::Placement;
use samlora::mask::ClassStats;
use samlora::source::http::shown;
use samlora::source::{Raster, Resolution, is_url};
use samlora::vector::Provenance;
use samlora::vector::provenance::today;
use samlora::weights::folder::Folder;
use samlora::weights::manifest::Kind;
use samlora::weights::package::LoadProgress;
use serde_json::json;

use super::{print_json, say, set_threads, size};
use crate::progress::bar;

mod formats;
mod vectors;
// Below what it writes with.
mod outputs;
mod input;
mod area;

use super::source_args::SourceArgs;
use area::AreaArgs;
pub use formats::{Format, OutputArgs};
use input::Input;
pub use outputs::{Outputs, Source};
pub use vectors::Origin;

/// Reads PNG, JPEG, WebP, TIFF and GeoTIFF files, folders and archives of tiles (PMTiles, MBTiles), and servers; writes into --out,
/// named after the input
#[derive(Debug, Clone, Args)]
pub struct SegmentArgs {
    /// Package folder or .samlora file
    #[arg(long, value_name = "PACKAGE")]
    model: PathBuf,
    /// Adapter package to put onto --model, which is then its base package
    #[arg(long, value_name = "PACKAGE")]
    adapter: Option<PathBuf>,
    /// Images, GeoTIFFs, folders of tiles (z/x/y.ext or z-x-y.ext), .pmtiles or .mbtiles archives; the address of a GeoTIFF or
    /// a .pmtiles archive; the address of tiles with {z}, {x} and {y} in it, or of a WMS
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// cpu or gpu
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// The bands that are red, green and blue, counted from 1 [default: as the file says, else 1,2,3]
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    bands: Vec<usize>,
    /// Metres a pixel at which the model sees the input, or native, or model. The zoom level or overview is chosen by it, and
    /// pixels are averaged or interpolated [default: the model's own where the input's differs by more than a quarter; beyond
    /// a factor of 4 refused]
    #[arg(long, value_name = "METRES|native|model")]
    resolution: Option<Resolution>,
    /// On whose pixels masks lie: the input's, of its finest zoom level or overview that is read, or those that the model sees
    #[arg(long, value_name = "GRID", default_value = "input")]
    grid: Grid,
    /// Where inputs are tiles.
    #[command(flatten)]
    source: SourceArgs,
    /// What to write of a mask.
    #[command(flatten)]
    outputs: OutputArgs,
    /// How areas are segmented.
    #[command(flatten)]
    job: AreaArgs,
    /// Print one line of JSON for every input
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Grid {
    Input,
    Model,
}

/// Runs the command: all inputs, also after one that fails.
pub fn run(args: &SegmentArgs) -> Result<()> {
    let mut args = args.clone();
    args.outputs.or(&[Format::Png, Format::Overlay]);
    let args = &args;
    check(args)?;
    set_threads(args.threads)?;
    let area = args.job.area()?;
    let segmenter = load(args)?;
    std::fs::create_dir_all(&args.out).map_err(|e| {
        Error::new(ErrorKind::Io, "the output folder cannot be made")
            .source(e)
            .at(args.out.display())
            .remedy("choose another --out")
    })?;
    let mut failed = Vec::new();
    for input in &args.inputs {
        let done = match &area {
            Some(area) => area::one(args, area, &segmenter, input),
            None => one(args, &segmenter, input).map(|()| None),
        };
        let (error, is_reported) = match done {
            Ok(None) => continue,
            // There are results, and a report that names what is missing.
            Ok(Some(incomplete)) => (incomplete.at(named(input)), true),
            Err(error) => (error.at(named(input)), false),
        };
        if args.json && !is_reported {
            print_json(&json!({ "input": input, "error": error.to_string(), "code": error.kind().code() }))?;
        }
        if args.inputs.len() == 1 {
            return Err(error);
        }
        eprintln!("error: {error}");
        failed.push((input, error.kind()));
    }
    let Some(&(_, kind)) = failed.first() else { return Ok(()) };
    let names: Vec<String> = failed.iter().map(|(input, _)| named(input)).collect();
    let count = format!("{} of {} inputs failed", failed.len(), args.inputs.len());
    Err(Error::new(kind, format!("{count}: {}", names.join(", "))).remedy("see the messages above"))
}

fn load(args: &SegmentArgs) -> Result<Segmenter> {
    let device = super::open_device(args.device)?;
    let loading = bar(0, "loading", "bytes");
    let show = |p: LoadProgress| {
        loading.set_length(p.total_bytes);
        loading.set_position(p.loaded_bytes);
    };
    let mut segmenter = pollster::block_on(Segmenter::load(&Folder::open(&args.model)?, &device, show))?;
    if let Some(adapter) = &args.adapter {
        segmenter = pollster::block_on(segmenter.load_adapter(&Folder::open(adapter)?, show))?;
    }
    loading.finish_and_clear();
    if segmenter.manifest().kind == Kind::Base {
        return Err(Error::new(ErrorKind::Invalid, "is a base package, which has no classes")
            .at(args.model.display())
            .remedy("name an --adapter for it, or export it again with --classes"));
    }
    Ok(segmenter)
}

/// What can be known to fail for all inputs is said before anything runs.
fn check(args: &SegmentArgs) -> Result<()> {
    args.outputs.check()?;
    args.job.check(args)?;
    if !(args.bands.is_empty() || args.bands.len() == 3 && !args.bands.contains(&0)) {
        return Err(Error::new(ErrorKind::Invalid, "takes the numbers of three bands, counted from 1")
            .at("--bands")
            .remedy("for example --bands 3,2,1"));
    }
    let mut stems = BTreeMap::new();
    // A GeoTIFF beside its mask of the same name, and an area that polygons would be written over.
    let area = args.job.file();
    let read: Vec<&PathBuf> = args.inputs.iter().chain(&area).collect();
    for input in &args.inputs {
        // An input that is not there fails when its turn comes.
        if !is_url(input) && !input.exists() {
            continue;
        }
        let mut outputs = args.outputs.format.iter().flat_map(|format| format.endings());
        if let Some(taken) = outputs.find_map(|ending| {
            let output = args.out.join(format!("{}.{ending}", stem(input).ok()?)).canonicalize().ok()?;
            read.iter().find(|path| path.canonicalize().is_ok_and(|path| path == output))
        }) {
            return Err(Error::new(ErrorKind::Invalid, "would be overwritten by its own mask")
                .at(taken.display())
                .remedy("choose another --out"));
        }
        if let Some(other) = stems.insert(stem(input)?, input) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("would write to the same files as {}", other.display()),
            )
            .at(input.display())
            .remedy("run them one by one with different --out folders"));
        }
    }
    Ok(())
}

/// An input as messages name it: an address without its keys.
fn named(input: &Path) -> String {
    let name = input.display().to_string();
    if is_url(input) { shown(&name) } else { name }
}

/// The beginning of the outputs' names: the input's, of a server of tiles its host's.
fn stem(input: &Path) -> Result<String> {
    if is_url(input) {
        return Ok(url_stem(input.to_str().unwrap_or_default()));
    }
    match input.canonicalize().as_deref().unwrap_or(input).file_stem() {
        Some(stem) => Ok(stem.to_string_lossy().into_owned()),
        None => Err(Error::new(ErrorKind::Invalid, "has no file name").at(input.display())),
    }
}

fn url_stem(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (host, file) = path.split_once('/').unwrap_or((path, ""));
    let file = file.rsplit('/').next().unwrap_or_default();
    let is_file = !url.contains('{') && !url.contains('?') && !file.is_empty();
    let name = if is_file {
        file.rsplit_once('.').map_or(file, |(stem, _)| stem)
    } else {
        host.rsplit('@').next().unwrap_or(host)
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "source".to_owned(),
        name => name.to_owned(),
    }
}

fn one(args: &SegmentArgs, segmenter: &Segmenter, input: &Path) -> Result<()> {
    let Input { model: mut raster, mut output, mut warnings, attribution, seen } = Input::open(args, segmenter, input)?;
    let target = output.as_ref().map_or(&raster, |output| &output.raster);
    let (width, height) = target.size();
    if !args.json {
        eprintln!("{}", raster.describe());
    }
    let georef = target.georef().cloned();
    let placement = Placement::new(georef.as_ref(), width, height);
    let coordinates = args.outputs.has_polygons().then(|| placement.coordinates());
    warnings.extend(coordinates.and_then(|_| placement.warning()));
    for warning in &warnings {
        eprintln!("warning: {}: {warning}", named(input));
    }
    let progress = bar(100, &stem(input)?, "%");
    let provenance = provenance(segmenter, input, target);
    let classes = &segmenter.manifest().classes;
    let origin = Origin { classes, georef: georef.as_ref(), size: (width, height), provenance: &provenance };
    let mut outputs = Outputs::begin(&args.outputs, Some(segmenter), &args.out, &stem(input)?, &origin, None)?;
    outputs.at_model = output.is_none();
    // Small regions are those of the grid that is written.
    let min_pixels = if output.is_some() { 0 } else { args.outputs.min_area };
    let options = SegmentOptions { min_pixels, ..Default::default() };
    let show = async |done: f64| {
        progress.set_position((done * 100.0) as u64);
        Ok(())
    };
    let sink = |rows: &_, raster: &mut _| match &mut output {
        Some(output) => output.rows(rows, |rows, raster| outputs.rows(rows, raster)),
        None => outputs.rows(rows, raster),
    };
    let summary = pollster::block_on(segmenter.segment_windows(&mut raster, &options, sink, show))?;
    if let Some(output) = &mut output {
        output.finish(|rows, raster| outputs.rows(rows, raster))?;
    }
    progress.finish_and_clear();
    let Summary { mut classes, mut without_data, timings } = summary;
    if let Some(output) = &output {
        (classes, without_data) = output.counted(&segmenter.manifest().classes);
    }
    let (files, right_angles) = outputs.finish(output.as_mut().map_or(&mut raster, |output| &mut output.raster))?;
    if args.json {
        return print_json(&json!({
            "input": input, "width": width, "height": height, "timings_ms": timings, "classes": classes,
            "pixels_without_data": without_data, "decoded_blocks": raster.decoded_blocks(), "coordinates": coordinates,
            "warnings": warnings, "files": files, "attribution": attribution, "resolution": seen,
            "right_angles": right_angles,
        }));
    }
    let (windows, total) = (timings.windows, timings.total);
    say(format_args!("{}: {width} x {height} px, {windows} windows, {total:.0} ms", named(input)))?;
    for text in right_angles.map(|report| report.text()).iter().chain(&attribution) {
        say(format_args!("  {text}"))?;
    }
    print_results((width, height), &classes, without_data, &files)
}

/// Where polygons come from, as their files say it.
fn provenance(segmenter: &Segmenter, input: &Path, target: &impl Raster) -> Provenance {
    let (width, height) = target.size();
    Provenance {
        tool: samlora::TOOL.to_owned(),
        model_sha256: segmenter.manifest().content_hash(),
        source: source_name(input),
        resolution_m: target.georef().and_then(|g| g.ground_resolution(width, height)),
        date: today(),
    }
}

/// What outputs call an input: an address without its keys, a file without its folders.
fn source_name(input: &Path) -> String {
    match input.file_name() {
        Some(name) if !is_url(input) => name.to_string_lossy().into(),
        _ => named(input),
    }
}

/// Says what a mask holds and which files were written.
pub fn print_results(
    (width, height): (usize, usize),
    classes: &[ClassStats],
    without_data: u64,
    files: &[PathBuf],
) -> Result<()> {
    if without_data > 0 {
        let share = 100.0 * without_data as f64 / (width as f64 * height as f64);
        say(format_args!("  {share:>6.2} % of the image hold no data; of the others:"))?;
    }
    for class in classes.iter().filter(|class| class.pixels > 0) {
        let (share, confidence) = (100.0 * class.share, class.mean_confidence);
        say(format_args!("  {share:>6.2} % {} (confidence {confidence:.2})", class.name))?;
    }
    for file in files {
        let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
        say(format_args!("  {} ({})", file.display(), size(bytes)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::url_stem;

    #[test]
    fn names_of_addresses() {
        for (url, name) in [
            ("https://h.org/a/ortho.v2.tif", "ortho.v2"),
            ("http://127.0.0.1:80/x.pmtiles", "x"),
            ("https://{s}.tiles.org/{z}/{x}/{y}.png", "s-.tiles.org"),
            ("https://me:pw@h.org/wms?request=GetMap&layers=a", "h.org"),
            ("https://h.org", "h.org"),
            ("https://h.org/..", "source"),
        ] {
            assert_eq!(url_stem(url), name);
        }
    }
}
