//! What `samlora export` reads and prints whatever it exports.

use std::path::Path;
use std::time::Instant;

use samlora::config::SamConfig;
use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::folder::Folder;
use samlora::weights::manifest::{Kind, Manifest};
use samlora::weights::package::read_manifest;
use serde_json::json;

use super::args::ExportArgs;
use crate::commands::{peak_memory, print_json, say, size};

/// Prints what was written.
pub fn print(args: &ExportArgs, written: &Manifest, watch: Instant) -> Result<()> {
    let (bytes, seconds, memory) = (written.weight_bytes(), watch.elapsed().as_secs_f64(), peak_memory());
    if args.json {
        print_json(&json!({
            "package": args.out, "kind": written.kind, "backbone": written.backbone, "scheme": written.scheme,
            "parameters": written.parameters(), "weight_bytes": bytes, "shards": written.shards.len(),
            "content_hash": written.content_hash(), "metrics": written.metrics, "classes": written.classes,
            "calibration": written.calibration, "seconds": seconds, "peak_memory_bytes": memory,
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

/// The hash of the base package at `path`, which must have the architecture `base`.
pub fn base_package(path: &Path, base: &SamConfig) -> Result<String> {
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
