//! `samlora bench --area`: where the time goes when a raster is segmented as an area.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use samlora::area::{Augment, Batched, Holes, Job, ModelPlan, Options, Plan, compose};
use samlora::config::Backbone;
use samlora::engine::{SegmentOptions, Segmenter};
use samlora::error::{Error, ErrorKind, Result};
use samlora::source::write::MaskTiff;
use samlora::source::{self, Colours, Raster, Window};
use serde_json::json;

use super::{BenchArgs, check_side, milliseconds, model, plain_manifest};
use crate::commands::{peak_memory, print_json, say, size};

/// Segments a raster with a network of random weights, writes its mask, and prints the shares of the time.
pub fn run(args: &BenchArgs, file: &Path, device: &Device) -> Result<()> {
    let mut raster = Colours::new(source::open(file)?, None)?;
    let (config, sam) = model(args, device)?;
    check_side(args.size, &config)?;
    let mut manifest = plain_manifest(&config);
    // The backbone's own tile where the input is its own, else as much of the input.
    let named = Backbone::named(&args.backbone)?;
    manifest.input_size = args.size;
    manifest.tile_size = (args.size * named.tile_size / named.input_size).max(1);
    let segmenter = Segmenter::new(manifest, sam, device);
    let manifest = segmenter.manifest();
    let sides = (manifest.input_size, manifest.tile_size);
    let (area, (width, height)) = (Window::whole(raster.size()), raster.size());
    let about = ("bench".to_owned(), "colours".to_owned());
    let plan = Plan::new(ModelPlan::of(manifest)?, &raster, about, area, sides, 2048)?;
    let folder = tempfile::tempdir().map_err(Error::from)?;
    let mut job = Job::open(&folder.path().join("job"), plan, Augment::None, None, Options::default())?;
    let report = job.run(&mut Batched::new(&segmenter, args.batch), &mut raster, &mut |_| Ok(()))?;
    if let Some(missing) = report.missing.first() {
        return Err(Error::new(ErrorKind::Io, "the raster cannot be read, so that nothing is measured")
            .at(file.display())
            .source(missing.reason.clone()));
    }
    let watch = Instant::now();
    let (plan, store) = job.close();
    let georef = raster.georef();
    let mut mask = MaskTiff::create(folder.path().join("mask.tif"), width, height, &manifest.classes, georef)?;
    compose(&plan, &[store], &SegmentOptions::default(), Holes::Refused, |rows| mask.write(&rows.classes))?;
    mask.finish()?;
    let (times, write) = (report.times, milliseconds(watch));
    let total = times.total + write;
    let named = times.read + times.model + times.blend + times.store + write;
    let shares = [
        ("model", times.model),
        ("reading", times.read),
        ("blending", times.blend),
        ("blocks", times.store),
        ("writing", write),
        ("other", (total - named).max(0.0)),
    ];
    let pixel = georef.and_then(|georef| georef.ground_resolution(width, height));
    let pixels = width as f64 * height as f64;
    let square_km = pixel.map(|pixel| pixels * pixel * pixel / 1e6);
    let per_hour = square_km.map(|area| area * 3.6e6 / total);
    let outside = 1.0 - times.model / total;
    let (windows, memory) = (report.windows, peak_memory());
    if args.json {
        let shares: serde_json::Map<_, _> = shares.iter().map(|(n, t)| ((*n).to_owned(), json!(t / total))).collect();
        return print_json(&json!({
            "backbone": args.backbone, "size": args.size, "tile": sides.1, "device": args.device.name(),
            "batch": args.batch, "threads": rayon::current_num_threads(), "width": width, "height": height,
            "windows": windows, "total_ms": total, "shares": shares, "outside_model": outside,
            "square_km_per_hour": per_hour, "peak_memory_bytes": memory,
        }));
    }
    let (backbone, side) = (&args.backbone, args.size);
    say(format_args!("{backbone} at {side} px: {width} x {height} px, {windows} windows, {:.1} s", total / 1e3))?;
    for (name, time) in shares {
        say(format_args!("{name:<10} {:>8.0} ms {:>6.1} %", time, 100.0 * time / total))?;
    }
    say(format_args!("outside the model {:.1} %", 100.0 * outside))?;
    if let (Some(per_hour), Some(pixel)) = (per_hour, pixel) {
        say(format_args!("{per_hour:.3} km2 an hour at {pixel:.3} m a pixel"))?;
    }
    say(format_args!("peak memory {}", memory.map_or("unknown".into(), size)))
}
