//! `samlora segment`: files to class masks, overlays, polygons and rasters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use samlora::config::Normalization;
use samlora::engine::{DeviceChoice, SegmentOptions, Segmenter, Summary};
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson::Placement;
use samlora::mask::ClassStats;
use samlora::source::{self, Colours, ModelInput, Raster, xyz};
use samlora::weights::folder::Folder;
use samlora::weights::manifest::Kind;
use samlora::weights::package::LoadProgress;
use serde_json::json;

use super::{print_json, say, set_threads, size};
use crate::progress::bar;

mod area;
mod outputs;

pub use outputs::{Outputs, Wanted};

/// A picture whose pixels are larger or smaller than those the model was trained on by more than this factor is warned of.
const RESOLUTION_FACTOR: f64 = 2.0;

/// Reads PNG, JPEG, WebP, TIFF and GeoTIFF files and folders of XYZ or TMS tiles; writes into --out, named after the input
#[derive(Debug, Args)]
pub struct SegmentArgs {
    /// Package folder or .samlora file
    #[arg(long, value_name = "PACKAGE")]
    model: PathBuf,
    /// Adapter package to put onto --model, which is then its base package
    #[arg(long, value_name = "PACKAGE")]
    adapter: Option<PathBuf>,
    /// Images, GeoTIFFs, or folders of tiles (z/x/y.ext or z-x-y.ext)
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to write
    #[arg(long, value_delimiter = ',', default_value = "png,overlay")]
    format: Vec<Format>,
    /// cpu or gpu
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// The bands that are red, green and blue, counted from 1 [default: as the file says, else 1,2,3]
    #[arg(long, value_delimiter = ',', value_name = "R,G,B")]
    bands: Vec<usize>,
    /// Zoom level of a folder of tiles [default: its largest]
    #[arg(long)]
    zoom: Option<u8>,
    /// Rows of tiles are counted from the south (known without it where the folder has a tilemapresource.xml)
    #[arg(long)]
    tms: bool,
    /// Regions of fewer pixels are removed
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    min_area: u64,
    /// Straightens polygons by up to so many pixels
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    simplify: f64,
    /// Opacity of classes in the overlay, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    opacity: f32,
    #[command(flatten)]
    job: area::AreaArgs,
    /// Print one line of JSON for every input
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// NAME.mask.png: 8-bit with colour table, sample = class, 255 (transparent) without data
    Png,
    /// NAME.overlay.png: classes drawn over the image
    Overlay,
    /// NAME.geojson: polygons with holes, in longitude and latitude where the place is known
    Geojson,
    /// NAME.tif: GeoTIFF with colour table, at the input's place; 255 is no data
    Geotiff,
    /// NAME.classes.u8, NAME.confidence.u8 and, where the image fits into the input, NAME.logits.f32: plain numbers
    Raw,
}

/// Runs the command: all inputs, also after one that fails.
pub fn run(args: &SegmentArgs) -> Result<()> {
    check(args)?;
    set_threads(args.threads)?;
    let segmenter = load(args)?;
    std::fs::create_dir_all(&args.out).map_err(|e| {
        Error::new(ErrorKind::Io, "the output folder cannot be made")
            .source(e)
            .at(args.out.display())
            .remedy("choose another --out")
    })?;
    let mut failed = Vec::new();
    for input in &args.inputs {
        let (error, is_reported) = match one(args, &segmenter, input) {
            Ok(None) => continue,
            // There are results, and a report that names what is missing.
            Ok(Some(incomplete)) => (incomplete.at(input.display()), true),
            Err(error) => (error.at(input.display()), false),
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
    let names: Vec<String> = failed.iter().map(|(input, _)| input.display().to_string()).collect();
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
    if !(0.0..=1.0).contains(&args.opacity) {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is not within 0 to 1", args.opacity)).at("--opacity"));
    }
    if !(args.simplify.is_finite() && args.simplify >= 0.0) {
        let message = format!("{} is no number of pixels", args.simplify);
        return Err(Error::new(ErrorKind::Invalid, message).at("--simplify").remedy("give 0 for none"));
    }
    if !(args.bands.is_empty() || args.bands.len() == 3 && !args.bands.contains(&0)) {
        return Err(Error::new(ErrorKind::Invalid, "takes the numbers of three bands, counted from 1")
            .at("--bands")
            .remedy("for example --bands 3,2,1"));
    }
    args.job.check(args)?;
    let mut stems = BTreeMap::new();
    for input in &args.inputs {
        // An input that is not there fails when its turn comes.
        let Ok(found) = input.canonicalize() else { continue };
        // A GeoTIFF beside its mask of the same name is the one output that can hit an input.
        let tif = args.out.join(format!("{}.tif", stem(input)?));
        if args.format.contains(&Format::Geotiff) && tif.canonicalize().is_ok_and(|tif| tif == found) {
            return Err(Error::new(ErrorKind::Invalid, "would be overwritten by its own mask")
                .at(input.display())
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

fn stem(input: &Path) -> Result<String> {
    match input.canonicalize().as_deref().unwrap_or(input).file_stem() {
        Some(stem) => Ok(stem.to_string_lossy().into_owned()),
        None => Err(Error::new(ErrorKind::Invalid, "has no file name").at(input.display())),
    }
}

/// Opens an input as the model reads it: its colours, or its samples as they are.
fn open(args: &SegmentArgs, segmenter: &Segmenter, input: &Path) -> Result<ModelInput> {
    let raster = if input.is_dir() { tiles(args, input)? } else { source::open(input)? };
    let bands = <[usize; 3]>::try_from(args.bands.as_slice()).ok().map(|bands| bands.map(|b| b - 1));
    let colours = Colours::new(raster, bands)?;
    if segmenter.manifest().normalization == Normalization::rgb() {
        return Ok(ModelInput::Colours(colours));
    }
    if bands.is_some() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "is for models of RGB pictures; this one reads all bands as they are",
        )
        .at("--bands"));
    }
    Ok(ModelInput::Samples(colours))
}

fn tiles(args: &SegmentArgs, folder: &Path) -> Result<Box<dyn Raster>> {
    let mut levels = xyz::mosaics(folder, args.tms.then_some(true))?;
    let known: Vec<String> = levels.iter().map(|m| m.zoom().to_string()).collect();
    let chosen = match args.zoom {
        Some(zoom) => levels.into_iter().find(|m| m.zoom() == zoom),
        None => levels.pop(),
    };
    match chosen {
        Some(mosaic) => Ok(Box::new(mosaic)),
        None => Err(Error::new(ErrorKind::NotFound, "has no tiles of that zoom level")
            .at(folder.display())
            .remedy(format!("zoom levels: {}", known.join(", ")))),
    }
}

/// Segments an input; gives what is wrong with results that are there.
fn one(args: &SegmentArgs, segmenter: &Segmenter, input: &Path) -> Result<Option<Error>> {
    let mut raster = open(args, segmenter, input)?;
    if let Some(area) = &args.job.area {
        return area::one(args, area, segmenter, input, raster);
    }
    let (width, height) = raster.size();
    if !args.json {
        eprintln!("{}", raster.describe());
    }
    let placement = Placement::new(raster.georef(), width, height);
    let coordinates = args.format.contains(&Format::Geojson).then(|| placement.coordinates());
    let mut warnings = Vec::from_iter(resolution_warning(segmenter, &raster));
    warnings.extend(coordinates.and_then(|_| placement.warning()));
    for warning in &warnings {
        eprintln!("warning: {}: {warning}", input.display());
    }
    let progress = bar(100, &stem(input)?, "%");
    let network = (segmenter.manifest().classes.as_slice(), Some(segmenter));
    let mut outputs = Outputs::begin(args.wanted(), network, &args.out, &stem(input)?, &raster)?;
    let options = SegmentOptions { min_pixels: args.min_area, ..Default::default() };
    let show = async |done: f64| {
        progress.set_position((done * 100.0) as u64);
        Ok(())
    };
    let sink = |rows: &_, raster: &mut _| outputs.rows(rows, raster);
    let summary = pollster::block_on(segmenter.segment_windows(&mut raster, &options, sink, show))?;
    progress.finish_and_clear();
    let files = outputs.finish(&mut raster)?;
    let Summary { classes, without_data, timings } = summary;
    if args.json {
        print_json(&json!({
            "input": input, "width": width, "height": height, "timings_ms": timings, "classes": classes,
            "pixels_without_data": without_data, "decoded_blocks": raster.decoded_blocks(), "coordinates": coordinates,
            "warnings": warnings, "files": files,
        }))?;
        return Ok(None);
    }
    let (windows, total) = (timings.windows, timings.total);
    say(format_args!("{}: {width} x {height} px, {windows} windows, {total:.0} ms", input.display()))?;
    print_results((width, height), &classes, without_data, &files)?;
    Ok(None)
}

/// Prints shares of classes and the files.
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
    for class in classes.iter().filter(|c| c.pixels > 0) {
        let (share, confidence) = (100.0 * class.share, class.mean_confidence);
        say(format_args!("  {share:>6.2} % {} (confidence {confidence:.2})", class.name))?;
    }
    for file in files {
        let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
        say(format_args!("  {} ({})", file.display(), size(bytes)))?;
    }
    Ok(())
}

impl SegmentArgs {
    fn wanted(&self) -> Wanted<'_> {
        let Self { format, min_area, simplify, opacity, .. } = self;
        Wanted { formats: format, min_area: *min_area, simplify: *simplify, opacity: *opacity }
    }
}

/// Says so if the raster's pixels are much larger or smaller than those that the model was trained on.
fn resolution_warning(segmenter: &Segmenter, raster: &ModelInput) -> Option<String> {
    let (width, height) = raster.size();
    let pixel = raster.georef()?.ground_resolution(width, height)?;
    let trained = segmenter.manifest().ground_resolution?;
    let factor = (pixel / trained).max(trained / pixel);
    let than = if pixel > trained { "coarser" } else { "finer" };
    (factor > RESOLUTION_FACTOR).then(|| {
        format!(
            "its pixels are {pixel:.3} m wide, {factor:.1} times {than} than the {trained:.3} m that the model was trained \
             on: expect poor masks (resample the image, for example with gdalwarp -tr)"
        )
    })
}
