//! `samlora inspect`: what a checkpoint, an adapter, a package, a data set or an archive of tiles holds.

use std::path::{Path, PathBuf};

use clap::Args;
use samlora::error::{Error, Result};
use samlora::weights::checkpoint::{Checkpoint, passed_over};
use samlora::weights::folder::Folder;
use samlora::weights::keys::LoraKeys;
use samlora::weights::layout;
use samlora::weights::manifest::{MANIFEST_FILE, Manifest};
use samlora::weights::package::{read_manifest, read_tensors};
use samlora::weights::source::{self, PassedOver};
use serde_json::json;

use super::{print_json, say, size};

mod archive;
#[cfg(feature = "train")]
mod data;
#[cfg(feature = "train")]
mod sheet;

/// Recognises the file by its content; a package's weights are read and checked against their hashes, a data set's masks
/// are all read
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Checkpoint, adapter, package folder, .samlora file, .pmtiles or .mbtiles archive, or folder of samples to train on
    file: PathBuf,
    /// More folders of the same data set
    #[cfg(feature = "train")]
    #[arg(value_name = "DIR")]
    more: Vec<PathBuf>,
    /// Options for data sets.
    #[cfg(feature = "train")]
    #[command(flatten, next_help_heading = "Data sets")]
    data: data::InspectDataArgs,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<()> {
    let path = &args.file;
    if path.join(MANIFEST_FILE).is_file() || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("samlora")) {
        return package(path, args.json);
    }
    if samlora::source::is_archive(path)? {
        return archive::run(path, args.json);
    }
    #[cfg(feature = "train")]
    if samlora::train::dataset::is_dataset(path) || !args.more.is_empty() {
        let folders: Vec<PathBuf> = std::iter::once(path).chain(&args.more).cloned().collect();
        return data::run(&folders, &args.data, args.json);
    }
    let place = |e: Error| e.at(path.display());
    let tensors = source::open(path)?;
    if let Some(keys) = LoraKeys::find(tensors.tensors()).map_err(place)? {
        let targets: Vec<_> = keys.targets().iter().map(|t| t.name()).collect();
        let passed_over = passed_over(tensors.as_ref(), &keys.rest);
        let numbers: usize = keys.pairs.iter().map(|p| p.rank * (p.inputs + p.outputs)).sum();
        if args.json {
            print_json(&json!({
                "kind": "adapter", "rank": keys.rank(), "blocks": keys.blocks(), "targets": targets,
                "lora_parameters": numbers, "other_tensors": keys.rest.tensors.len(),
                "passed_over": passed_over_json(&passed_over),
            }))?;
        } else {
            let rank = keys.rank().map_or("mixed".into(), |r| r.to_string());
            say(format_args!("LoRA adapter: rank {rank}, {} blocks, targets {}", keys.blocks(), targets.join(", ")))?;
            say(format_args!(
                "{numbers} LoRA parameters, {} other tensors (prompt encoder, decoder)",
                keys.rest.tensors.len()
            ))?;
            say_passed_over(&passed_over)?;
        }
        return Ok(());
    }
    let checkpoint = Checkpoint::open(path)?;
    let config = checkpoint.config();
    let parameters = layout::parameter_count(config);
    if args.json {
        print_json(&json!({
            "kind": "checkpoint", "backbone": config.backbone_name(), "architecture": config, "parameters": parameters,
            "passed_over": passed_over_json(checkpoint.passed_over()),
        }))?;
    } else {
        say(format_args!("SAM checkpoint: {}, {parameters} parameters", config.backbone_name().unwrap_or("custom")))?;
        say(format_args!(
            "embed {}, depth {}, heads {}, window {}, global blocks {:?}, {} mask tokens, pretrained at {} px",
            config.embed_dim,
            config.depth,
            config.num_heads,
            config.window_size,
            config.global_attn_indexes,
            config.mask_tokens,
            config.pretrained_size
        ))?;
        say_passed_over(checkpoint.passed_over())?;
    }
    Ok(())
}

fn passed_over_json(values: &[PassedOver]) -> serde_json::Value {
    values.iter().map(|value| json!({ "name": value.name, "what": value.what })).collect()
}

/// Says what a file holds beside its weights.
fn say_passed_over(values: &[PassedOver]) -> Result<()> {
    match super::beside_the_weights(values) {
        Some(text) => say(format_args!("{text}")),
        None => Ok(()),
    }
}

fn package(path: &Path, as_json: bool) -> Result<()> {
    let folder = Folder::open(path)?;
    let manifest: Manifest = pollster::block_on(read_manifest(&folder))?;
    let check = read_tensors(&folder, &manifest, |_, _, _| Ok(()), |_| ());
    pollster::block_on(check)?;
    if as_json {
        print_json(&json!({
            "kind": manifest.kind, "backbone": manifest.backbone, "scheme": manifest.scheme,
            "parameters": manifest.parameters(), "weight_bytes": manifest.weight_bytes(),
            "content_hash": manifest.content_hash(), "manifest": manifest,
        }))?;
        return Ok(());
    }
    say(format_args!(
        "{:?} package {:?}: {} as {}",
        manifest.kind,
        manifest.name,
        manifest.backbone,
        manifest.scheme.name()
    ))?;
    say(format_args!(
        "{} numbers, {} in {} shards, all hashes right",
        manifest.parameters(),
        size(manifest.weight_bytes()),
        manifest.shards.len()
    ))?;
    say(format_args!("input {} px, tile {} px", manifest.input_size, manifest.tile_size))?;
    for class in &manifest.classes {
        let [r, g, b] = class.color;
        say(format_args!("  {:>3} #{r:02x}{g:02x}{b:02x} {}", class.index, class.name))?;
    }
    if let Some(metrics) = &manifest.metrics {
        say(format_args!("measured on its validation samples:"))?;
        for (name, value) in metrics {
            say(format_args!("  {name} {value:.4}"))?;
        }
    }
    for (name, text) in
        [("licence", &manifest.licence), ("attribution", &manifest.attribution), ("tool", &manifest.tool)]
    {
        if !text.is_empty() {
            say(format_args!("{name}: {text}"))?;
        }
    }
    Ok(())
}
