//! `samlora segment`: files to class masks, overlays, polygons and rasters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use samlora::config::Normalization;
use samlora::engine::{DeviceChoice, SegmentOptions, Segmentation, Segmenter};
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson;
use samlora::image::check_size;
use samlora::mask::ClassMask;
use samlora::overlay;
use samlora::polygon;
use samlora::source::write::{atomic, mask_geotiff, mask_png, rgb_png};
use samlora::source::{self, Colours, Raster, Window, xyz};
use samlora::weights::folder::Folder;
use samlora::weights::manifest::Kind;
use samlora::weights::package::LoadProgress;
use serde_json::{Value, json};

use super::{print_json, say, set_threads, size};
use crate::progress::bar;

/// Reads PNG, JPEG, WebP, TIFF and GeoTIFF files and folders of XYZ tiles; writes into --out, named after the input
#[derive(Debug, Args)]
pub struct SegmentArgs {
    /// Package folder or .samlora file
    #[arg(long, value_name = "PACKAGE")]
    model: PathBuf,
    /// Adapter package to put onto --model, which is then its base package
    #[arg(long, value_name = "PACKAGE")]
    adapter: Option<PathBuf>,
    /// Images, GeoTIFFs, or folders of XYZ tiles (z/x/y.ext or z-x-y.ext)
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
    /// Zoom level of an XYZ folder [default: its largest]
    #[arg(long)]
    zoom: Option<u8>,
    /// Regions of fewer pixels are removed
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    min_area: u64,
    /// Straightens polygons by up to so many pixels
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    simplify: f64,
    /// Opacity of classes in the overlay, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    opacity: f32,
    /// Print one line of JSON for every input
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// NAME.mask.png: 8-bit with colour table, sample = class
    Png,
    /// NAME.overlay.png: classes drawn over the image
    Overlay,
    /// NAME.geojson: polygons with holes, in longitude and latitude where the place is known
    Geojson,
    /// NAME.tif: GeoTIFF with colour table, at the input's place
    Geotiff,
    /// NAME.classes.u8, NAME.confidence.u8 and, where the image fits into the input, NAME.logits.f32: plain numbers
    Raw,
}

/// Runs the command.
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
    for input in &args.inputs {
        let mut source = Colours::new(open(input, args.zoom)?, None)?;
        let report = one(args, &segmenter, input, &mut source).map_err(|e| e.at(input.display()))?;
        if args.json {
            print_json(&report)?;
        }
    }
    Ok(())
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

/// What can be known to fail is said before anything runs.
fn check(args: &SegmentArgs) -> Result<()> {
    if !(0.0..=1.0).contains(&args.opacity) {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is not within 0 to 1", args.opacity)).at("--opacity"));
    }
    let mut stems = BTreeMap::new();
    for input in &args.inputs {
        let place = |e: std::io::Error| Error::from(e).at(input.display());
        let found = input.canonicalize().map_err(place)?;
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

fn open(input: &Path, zoom: Option<u8>) -> Result<Box<dyn Raster>> {
    if !input.is_dir() {
        return source::open(input);
    }
    let mut levels = xyz::mosaics(input)?;
    let known: Vec<String> = levels.iter().map(|m| m.zoom().to_string()).collect();
    let chosen = match zoom {
        Some(zoom) => levels.into_iter().find(|m| m.zoom() == zoom),
        None => levels.pop(),
    };
    match chosen {
        Some(mosaic) => Ok(Box::new(mosaic)),
        None => Err(Error::new(ErrorKind::NotFound, "has no tiles of that zoom level")
            .at(input.display())
            .remedy(format!("zoom levels: {}", known.join(", ")))),
    }
}

fn one(args: &SegmentArgs, segmenter: &Segmenter, input: &Path, source: &mut Colours) -> Result<Value> {
    let (width, height) = source.size();
    if args.format.contains(&Format::Overlay) {
        // The one output that holds the whole image: said before hours of computing, not after.
        check_size(width, height)
            .map_err(|e| e.at("--format overlay").remedy("ask for other formats: --format png"))?;
    }
    let progress = bar(100, &stem(input)?, "%");
    if !args.json {
        eprintln!("{}", source.describe());
    }
    let options = SegmentOptions::default();
    let show = async |done: f64| {
        progress.set_position((done * 100.0) as u64);
        Ok(())
    };
    let found = if segmenter.manifest().normalization == Normalization::rgb() {
        let read = |x, y, w, h| {
            let patch = source.read(Window::new(x, y, w, h), &[0, 1, 2])?;
            Ok(if patch.is_blank() { None } else { Some(patch) })
        };
        pollster::block_on(segmenter.run(width, height, &options, read, show))?
    } else {
        // Trained on samples beyond 8-bit RGB: they are read as they are, not as a picture for people.
        let bands: Vec<usize> = (0..source.inner().bands()).collect();
        let read = |x, y, w, h| source.inner_mut().read(Window::new(x, y, w, h), &bands).map(Some);
        pollster::block_on(segmenter.run(width, height, &options, read, show))?
    };
    let Segmentation { mut mask, timings, .. } = found;
    progress.finish_and_clear();
    clear_nodata(source, &mut mask)?;
    let classes = &segmenter.manifest().classes;
    mask.apply_thresholds(classes);
    mask.remove_small(args.min_area)?;
    if args.min_area > 0 {
        // Again: a small hole without data would have taken its neighbours' class.
        clear_nodata(source, &mut mask)?;
    }
    let files = write(args, segmenter, input, source, &mask)?;
    let stats = mask.stats(classes);
    if !args.json {
        say(format_args!(
            "{}: {width} x {height} px, {} windows, {:.0} ms",
            input.display(),
            timings.windows,
            timings.total
        ))?;
        for s in stats.iter().filter(|s| s.pixels > 0) {
            say(format_args!("  {:>6.2} % {} (confidence {:.2})", 100.0 * s.share, s.name, s.mean_confidence))?;
        }
        for file in &files {
            let bytes = std::fs::metadata(file).map_or(0, |m| m.len());
            say(format_args!("  {} ({})", file.display(), size(bytes)))?;
        }
    }
    Ok(json!({
        "input": input, "width": width, "height": height, "timings_ms": timings, "classes": stats, "files": files,
    }))
}

/// Pixels that hold no data are background of confidence 0.
fn clear_nodata(source: &mut Colours, mask: &mut ClassMask) -> Result<()> {
    const ROWS: usize = 256;
    for y in (0..mask.height).step_by(ROWS) {
        let rows = ROWS.min(mask.height - y);
        let valid = source.inner_mut().read(Window::new(0, y, mask.width, rows), &[0])?.valid;
        let start = y * mask.width;
        for (i, _) in valid.iter().enumerate().filter(|(_, valid)| !**valid) {
            mask.classes[start + i] = 0;
            mask.confidence[start + i] = 0;
        }
    }
    Ok(())
}

fn write(
    args: &SegmentArgs,
    segmenter: &Segmenter,
    input: &Path,
    source: &mut Colours,
    mask: &ClassMask,
) -> Result<Vec<PathBuf>> {
    let stem = stem(input)?;
    let path = |ending: &str| args.out.join(format!("{stem}.{ending}"));
    let classes = &segmenter.manifest().classes;
    let mut files = Vec::new();
    for format in &args.format {
        match format {
            Format::Png => {
                files.push(path("mask.png"));
                mask_png(path("mask.png"), mask, classes)?;
            }
            Format::Overlay => {
                let image = source.image(Window::whole((mask.width, mask.height)))?;
                let style = overlay::Style { opacity: args.opacity, ..Default::default() };
                files.push(path("overlay.png"));
                rgb_png(path("overlay.png"), &overlay::blend(&image, mask, classes, style)?)?;
            }
            Format::Geojson => {
                let options = polygon::Options { min_pixels: args.min_area, tolerance: args.simplify };
                let polygons = polygon::trace_mask(mask, options)?;
                files.push(path("geojson"));
                atomic(path("geojson"), |file| geojson::write(file, &polygons, classes, source.georef()))?;
            }
            Format::Geotiff => {
                files.push(path("tif"));
                mask_geotiff(path("tif"), mask, classes, source.georef())?;
            }
            Format::Raw => raw(segmenter, source, mask, &path, &mut files)?,
        }
    }
    Ok(files)
}

fn raw(
    segmenter: &Segmenter,
    source: &mut Colours,
    mask: &ClassMask,
    path: &dyn Fn(&str) -> PathBuf,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let mut put = |ending: &str, bytes: &[u8]| {
        files.push(path(ending));
        atomic(path(ending), |file| Ok(std::io::Write::write_all(file, bytes)?))
    };
    put("classes.u8", &mask.classes)?;
    put("confidence.u8", &mask.confidence)?;
    let input = segmenter.manifest().input_size;
    if mask.width <= input && mask.height <= input {
        let image = source.image(Window::whole((mask.width, mask.height)))?;
        let logits = pollster::block_on(segmenter.logits(&image))?;
        put("logits.f32", &logits.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
    }
    Ok(())
}
