//! `samlora bench`: medians of encoder, decoder and whole tile, and peak memory.

mod area;
mod kernels;
#[cfg(feature = "train")]
mod train;

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use clap::Args;
use samlora::config::{Backbone, Normalization, SamConfig};
use samlora::engine::{DeviceChoice, SegmentOptions, Segmenter, random_model, read_back};
use samlora::error::{Error, ErrorKind, Result};
use samlora::image::RgbImage;
#[cfg(feature = "gpu")]
use samlora::kernels::gpu::{self, Profile};
use samlora::model::Sam;
use samlora::preprocess;
use samlora::weights::checkpoint::{Checkpoint, load};
use samlora::weights::quantize::Scheme;
use serde_json::json;

use super::export::plain_manifest;
use super::{peak_memory, print_json, say, set_threads, size};

/// Measures a backbone; prints milliseconds of the first run, the median and the fastest of the others
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// vit_b, vit_l, vit_h, slimsam_77, slimsam_50, mobile_sam, lite0 or tiny
    #[arg(long, default_value = "vit_b")]
    backbone: String,
    /// Side of the input in pixels, a multiple of 16
    #[arg(long, default_value_t = 448)]
    size: usize,
    /// cpu or gpu
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Runs after the first; with 0 only the first is timed, and the tile is left out
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Weights to use instead of random ones
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<std::path::PathBuf>,
    /// How random weights are stored: f32, f16, q8 or q4; the last two stay packed
    #[arg(long, default_value = "f32", conflicts_with = "checkpoint")]
    scheme: Scheme,
    /// What a GPU computes with: this program's kernels, cut for hardware or for software GPUs, or burn's
    #[cfg(feature = "gpu")]
    #[arg(long, value_name = "own|hardware|software|burn", default_value = "own")]
    kernels: Kernels,
    /// Measure each kind of layer by itself: GFLOP/s, GB/s and share of the device's peak
    #[arg(long, conflicts_with = "checkpoint")]
    table: bool,
    /// Segment this raster as an area instead, and print the shares of the time and the ground an hour
    #[arg(long, value_name = "FILE", conflicts_with = "table")]
    area: Option<std::path::PathBuf>,
    /// With --area: windows that are computed at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "area")]
    batch: usize,
    /// Measure a training step of LoRA and decoder instead
    #[cfg(feature = "train")]
    #[arg(long, conflicts_with = "checkpoint")]
    train: bool,
    /// With --train: crops in a batch
    #[cfg(feature = "train")]
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch_size: usize,
    /// With --train: compute blocks again in the backward pass
    #[cfg(feature = "train")]
    #[arg(long)]
    recompute: bool,
    /// With --train: keep the frozen encoder in 8 bits too (QLoRA)
    #[cfg(feature = "train")]
    #[arg(long, requires = "recompute")]
    qlora: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What a GPU computes with.
#[cfg(feature = "gpu")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernels {
    Own,
    Cut(Profile),
    Burn,
}

#[cfg(feature = "gpu")]
impl std::str::FromStr for Kernels {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "own" => Ok(Self::Own),
            "hardware" => Ok(Self::Cut(Profile::Hardware)),
            "software" => Ok(Self::Cut(Profile::Software)),
            "burn" => Ok(Self::Burn),
            _ => Err(Error::new(ErrorKind::Invalid, format!("there are no kernels {name:?}"))
                .remedy("use own, hardware, software or burn")),
        }
    }
}

/// Refuses a side that the encoder cannot take, beyond what holds for all.
fn check_side(side: usize, config: &SamConfig) -> Result<()> {
    let step = config.input_step();
    if side.is_multiple_of(step) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("{side} is not a multiple of {step}, as this encoder needs"))
        .at("--size"))
}

struct Times {
    cold: f64,
    median: f64,
    min: f64,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.size == 0
        || !args.size.is_multiple_of(16)
        || args.size > 4096
        || (args.runs == 0 && has_table_or_steps(args))
    {
        return Err(Error::new(
            ErrorKind::Invalid,
            "needs a --size that is a multiple of 16 up to 4096, and with --table or --train --runs of 1 or more",
        ));
    }
    set_threads(args.threads)?;
    let device = super::open_device(args.device)?;
    #[cfg(feature = "gpu")]
    match args.kernels {
        Kernels::Own => {}
        Kernels::Cut(profile) => gpu::set_profile(Some(profile)),
        Kernels::Burn => gpu::set_profile(None),
    }
    #[cfg(feature = "train")]
    if args.train {
        return train::run(args, &device);
    }
    if let Some(file) = &args.area {
        return area::run(args, file, &device);
    }
    if args.table {
        return kernels::run(args, &device);
    }
    let watch = Instant::now();
    let (config, sam) = model(args, &device)?;
    check_side(args.size, &config)?;
    sync(&device)?;
    let load_ms = milliseconds(watch);

    let side = args.size;
    // A picture with structure, so that no number is special.
    let pixels = (0..side * side * 3).map(|i| ((i * 7919) ^ (i >> 5)) as u8).collect();
    let picture = RgbImage::new(side, side, pixels)?;
    let input: Tensor<4> = preprocess::window(&picture, 0, 0, side, &Normalization::rgb(), &device);
    let mut embedding = None;
    let encoder = measure(args.runs, || {
        embedding = Some(sam.encode(input.clone()));
        sync(&device)
    })?;
    let Some(embedding) = embedding else { return Err(Error::new(ErrorKind::Invalid, "nothing ran")) };
    let decoder = measure(args.runs, || pollster::block_on(read_back(sam.decode(embedding.clone()))).map(|_| ()))?;
    let backbone = config.backbone_name().unwrap_or("custom");
    let mut manifest = plain_manifest(&config);
    (manifest.input_size, manifest.tile_size) = (side, side);
    let segmenter = Segmenter::new(manifest, sam, &device);
    let whole = || {
        let found = pollster::block_on(segmenter.segment(&picture, &SegmentOptions::default()))?;
        // A measurement of nothing is no measurement.
        if found.mask.classes.len() == side * side { Ok(()) } else { Err(Error::new(ErrorKind::Device, "no mask")) }
    };
    let tile = if args.runs > 0 { Some(measure(args.runs, whole)?) } else { None };

    let memory = peak_memory();
    let gpu_memory = device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    if args.json {
        let times = |t: &Times| json!({ "cold": t.cold, "median": t.median, "min": t.min });
        print_json(&json!({
            "backbone": backbone, "size": side, "device": args.device.name(),
            "threads": rayon::current_num_threads(), "runs": args.runs, "load_ms": load_ms,
            "encoder_ms": times(&encoder), "decoder_ms": times(&decoder), "tile_ms": tile.as_ref().map(times),
            "peak_memory_bytes": memory, "gpu_memory_bytes": gpu_memory, "scheme": args.scheme.name(),
        }))?;
        return Ok(());
    }
    let threads = rayon::current_num_threads();
    say(format_args!("{} at {side} px on {} ({threads} threads), load {load_ms:.0} ms", backbone, args.device.name()))?;
    say(format_args!("{:<10} {:>10} {:>10} {:>10}", "ms", "first", "median", "fastest"))?;
    for (name, t) in [("encoder", Some(encoder)), ("decoder", Some(decoder)), ("tile", tile)] {
        let Some(t) = t else { continue };
        say(format_args!("{name:<10} {:>10.1} {:>10.1} {:>10.1}", t.cold, t.median, t.min))?;
    }
    say(format_args!("peak memory {}", memory.map_or("unknown".into(), size)))?;
    if let Some(bytes) = gpu_memory {
        say(format_args!("taken from the GPU {}", size(bytes)))?;
    }
    Ok(())
}

fn model(args: &BenchArgs, device: &Device) -> Result<(SamConfig, Sam)> {
    if let Some(file) = &args.checkpoint {
        let (config, sam) = load(&Checkpoint::open(file)?, None, device)?;
        return Ok((config, sam.arranged()));
    }
    let config = Backbone::named(&args.backbone)?.config(4);
    let sam = random_model(&config, 7, args.scheme, device)?;
    Ok((config, sam.arranged()))
}

fn measure(runs: usize, mut run: impl FnMut() -> Result<()>) -> Result<Times> {
    let mut timed = || {
        let watch = Instant::now();
        run().map(|()| milliseconds(watch))
    };
    let cold = timed()?;
    let mut warm = (0..runs).map(|_| timed()).collect::<Result<Vec<_>>>()?;
    if warm.is_empty() {
        warm.push(cold);
    }
    warm.sort_by(f64::total_cmp);
    Ok(Times { cold, median: warm[warm.len() / 2], min: warm[0] })
}

fn has_table_or_steps(args: &BenchArgs) -> bool {
    #[cfg(feature = "train")]
    let trains = args.train;
    #[cfg(not(feature = "train"))]
    let trains = false;
    args.table || trains
}

fn sync(device: &Device) -> Result<()> {
    device.sync().map_err(|e| Error::new(ErrorKind::Device, "the device failed").source(format!("{e:?}")))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
