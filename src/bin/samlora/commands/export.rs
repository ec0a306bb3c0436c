//! `samlora export`: a checkpoint, with or without an adapter, as a package.

#[cfg(feature = "train")]
mod trained;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use samlora::config::{Class, SamConfig};
use samlora::error::{Error, ErrorKind, Result};
use samlora::lora::LoraConfig;
use samlora::weights::checkpoint::{Adapter, Checkpoint};
use samlora::weights::export;
use samlora::weights::folder::Folder;
use samlora::weights::manifest::{Kind, Manifest};
use samlora::weights::package::read_manifest;
use samlora::weights::quantize::Scheme;
use serde_json::json;

use super::{peak_memory, print_json, say, size};
use crate::progress::bar;

/// Writes a package folder, or a .samlora file if --out ends so
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// SAM's checkpoint: .pth, safetensors, or a Hugging Face folder
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    base: Option<PathBuf>,
    /// A run of `samlora train`: its best weights, measured on its validation samples
    #[cfg(feature = "train")]
    #[arg(long, value_name = "RUN", conflicts_with_all = ["base", "adapter", "classes", "alpha", "input_size", "tile_size", "ground_resolution"])]
    run: Option<PathBuf>,
    /// LoRA checkpoint to merge into it (SAMed's naming or this program's), with or without a decoder
    #[arg(long, value_name = "FILE")]
    adapter: Option<PathBuf>,
    /// Write the adapter alone, for this base package
    #[arg(long, value_name = "PACKAGE")]
    base_package: Option<PathBuf>,
    /// LoRA's alpha; the scale is alpha / rank, 1 without (SAMed)
    #[arg(long, requires = "adapter")]
    alpha: Option<f64>,
    /// Heads of the decoder, for a model that is none of the known backbones: its tensors do not tell them
    #[arg(long, value_name = "N")]
    decoder_heads: Option<usize>,
    /// Class names without background, in channel order; with colours as name=#rrggbb
    #[arg(long, value_delimiter = ',', value_name = "A,B,..")]
    classes: Vec<String>,
    /// f32, f16, q8 or q4
    #[arg(long, default_value = "q8")]
    scheme: Scheme,
    /// Side of the network's input in pixels [default: the backbone's]
    #[arg(long)]
    input_size: Option<usize>,
    /// Side of the tile inside the input in pixels [default: the backbone's]
    #[arg(long)]
    tile_size: Option<usize>,
    /// Metres per pixel that the model is for
    #[arg(long)]
    ground_resolution: Option<f64>,
    /// A name for people [default: the output's]
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights
    #[arg(long, default_value = "")]
    licence: String,
    /// Whom to name for weights and data
    #[arg(long, default_value = "")]
    attribution: String,
    /// Package folder or .samlora file to write
    #[arg(long, value_name = "PACKAGE")]
    out: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<()> {
    let watch = Instant::now();
    #[cfg(feature = "train")]
    if let Some(run) = &args.run {
        return trained::run(args, run, watch);
    }
    if args.base_package.is_some() && args.adapter.is_none() {
        return Err(Error::new(ErrorKind::Invalid, "there is no adapter to write")
            .at("--base-package")
            .remedy("give --adapter"));
    }
    let Some(file) = &args.base else { return Err(Error::new(ErrorKind::Invalid, "is missing").at("--base")) };
    let mut base = Checkpoint::open(file)?;
    if let Some(heads) = args.decoder_heads {
        base = base.with_decoder_heads(heads)?;
    }
    let adapter = adapter(args)?;
    let manifest = plan(args, &base, adapter.as_ref())?;
    let progress = bar(0, "exporting", "tensors");
    let written = export::export(manifest, &base, adapter.as_ref(), &args.out, |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    print(args, &written, watch)
}

fn print(args: &ExportArgs, written: &Manifest, watch: Instant) -> Result<()> {
    let (bytes, seconds, memory) = (written.weight_bytes(), watch.elapsed().as_secs_f64(), peak_memory());
    if args.json {
        print_json(&json!({
            "package": args.out, "kind": written.kind, "backbone": written.backbone, "scheme": written.scheme,
            "parameters": written.parameters(), "weight_bytes": bytes, "shards": written.shards.len(),
            "content_hash": written.content_hash(), "metrics": written.metrics, "seconds": seconds, "peak_memory_bytes": memory,
        }))?;
    } else {
        say(format_args!(
            "{}: {} {} as {}, {} in {} shards, {seconds:.1} s, peak memory {}",
            args.out.display(),
            written.backbone,
            written.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join("/"),
            written.scheme.name(),
            size(bytes),
            written.shards.len(),
            memory.map_or("unknown".into(), size)
        ))?;
        if let Some(iou) = written.metrics.as_ref().and_then(|m| m.get("mean_iou_foreground")) {
            say(format_args!("  mean IoU without background on the validation samples: {:.2} %", 100.0 * iou))?;
        }
    }
    Ok(())
}

fn adapter(args: &ExportArgs) -> Result<Option<Adapter>> {
    let Some(file) = &args.adapter else { return Ok(None) };
    if args.alpha.is_some_and(|alpha| !alpha.is_finite()) {
        return Err(Error::new(ErrorKind::Invalid, "is not a finite number").at("--alpha"));
    }
    let mut adapter = Adapter::open(file, 1.0)?;
    if let Some(alpha) = args.alpha {
        for factor in &mut adapter.factors {
            factor.scale = alpha / factor.rank as f64;
        }
    }
    Ok(Some(adapter))
}

/// The manifest to write.
fn plan(args: &ExportArgs, base: &Checkpoint, adapter: Option<&Adapter>) -> Result<Manifest> {
    let config = match adapter {
        Some(adapter) => adapter.config(base.config()).map_err(|e| match &args.adapter {
            Some(file) => e.at(file.display()),
            None => e,
        })?,
        None => base.config().clone(),
    };
    let stem = args.out.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut manifest = plain_manifest(&config);
    manifest.kind = match (&args.base_package, adapter) {
        (Some(_), _) => Kind::Adapter,
        (None, None) if args.classes.is_empty() => Kind::Base,
        _ => Kind::Merged,
    };
    manifest.name = args.name.clone().or(stem).unwrap_or_else(|| "model".into());
    if manifest.kind != Kind::Base {
        manifest.classes = classes(&args.classes, config.mask_tokens)?;
    }
    manifest.scheme = args.scheme;
    manifest.input_size = args.input_size.unwrap_or(manifest.input_size);
    manifest.tile_size = args.tile_size.unwrap_or(manifest.tile_size.min(manifest.input_size));
    manifest.ground_resolution = args.ground_resolution;
    manifest.licence.clone_from(&args.licence);
    manifest.attribution.clone_from(&args.attribution);
    manifest.origin.base_sha256 = match &args.base_package {
        Some(package) => Some(base_package(package, base.config())?),
        None => Some(base.hash()?),
    };
    if let Some(adapter) = adapter {
        manifest.origin.adapter_sha256 = Some(adapter.sha256.clone());
        let mut targets: Vec<_> = adapter.factors.iter().map(|f| f.target).collect();
        targets.sort();
        targets.dedup();
        let mut blocks: Vec<_> = adapter.factors.iter().map(|f| f.block).collect();
        blocks.dedup(); // factors come block by block
        let blocks = Some(blocks).filter(|blocks| blocks.len() != config.depth);
        let rank = adapter.factors.first().map(|f| f.rank);
        manifest.lora = rank.map(|rank| LoraConfig { rank, alpha: args.alpha, dropout: 0.0, targets, blocks });
    }
    Ok(manifest)
}

/// The hash of the base package at `path`, which must have the architecture `base`.
fn base_package(path: &Path, base: &SamConfig) -> Result<String> {
    let manifest = pollster::block_on(read_manifest(&Folder::open(path)?))?;
    let problem = if manifest.kind != Kind::Base {
        "is not a base package"
    } else if manifest.architecture != *base {
        "has another architecture"
    } else {
        return Ok(manifest.content_hash());
    };
    Err(Error::new(ErrorKind::Invalid, problem)
        .at(path.display())
        .remedy("name the package that `samlora export` wrote of --base alone, without --classes"))
}

/// A manifest of `config` with numbered classes, without weights.
pub fn plain_manifest(config: &SamConfig) -> Manifest {
    Manifest::new(config, numbered(config.mask_tokens))
}

/// Colours for classes that have none: Okabe and Ito's palette, told apart by colour-blind eyes too; background black.
const COLORS: [[u8; 3]; 8] = [
    [0, 0, 0],
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [240, 228, 66],
    [0, 114, 178],
    [213, 94, 0],
    [204, 121, 167],
];

fn color(index: usize) -> [u8; 3] {
    // Background is the first; classes go round the other seven.
    if index == 0 { COLORS[0] } else { COLORS[1 + (index - 1) % 7] }
}

fn numbered(count: usize) -> Vec<Class> {
    (0..count.min(256))
        .map(|i| Class {
            index: i as u8,
            name: if i == 0 { "background".into() } else { format!("class {i}") },
            color: color(i),
            threshold: None,
        })
        .collect()
}

fn classes(names: &[String], mask_tokens: usize) -> Result<Vec<Class>> {
    let mut classes = numbered(mask_tokens);
    if names.is_empty() {
        return Ok(classes);
    }
    if names.len() + 1 != mask_tokens {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{} names for {} classes beside background", names.len(), mask_tokens.saturating_sub(1)),
        )
        .at("--classes")
        .remedy("name every class of the decoder, in channel order"));
    }
    for (class, text) in classes.iter_mut().skip(1).zip(names) {
        let (name, hex) = text.split_once('=').map_or((text.as_str(), None), |(n, h)| (n, Some(h)));
        class.name = name.trim().to_owned();
        if let Some(hex) = hex {
            class.color = parse_color(hex.trim()).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("{hex:?} is not a colour"))
                    .at("--classes")
                    .remedy("write #rrggbb")
            })?;
        }
    }
    Ok(classes)
}

fn parse_color(hex: &str) -> Option<[u8; 3]> {
    let digits = hex.strip_prefix('#').filter(|d| d.len() == 6 && d.is_ascii())?;
    let channel = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok();
    Some([channel(0)?, channel(1)?, channel(2)?])
}
