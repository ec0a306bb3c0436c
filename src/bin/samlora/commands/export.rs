//! `samlora export`: a checkpoint, with or without an adapter, as a package.

mod args;
mod output;
#[cfg(feature = "train")]
mod trained;

use std::time::Instant;

use samlora::config::{Class, SamConfig};
use samlora::error::{Error, ErrorKind, Result};
use samlora::lora::LoraConfig;
use samlora::weights::checkpoint::{Adapter, Checkpoint};
use samlora::weights::export;
use samlora::weights::manifest::{Kind, Manifest};

pub use args::ExportArgs;
use output::{base_package, print};

use crate::progress::bar;

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
    if let Some(text) = super::beside_the_weights(base.passed_over()) {
        eprintln!("{}: {text}", file.display());
    }
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
