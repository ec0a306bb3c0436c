//! `samlora lr-find`: which learning rate to train with.

use std::path::PathBuf;

use clap::Args;
use samlora::error::Result;
use samlora::source::write::atomic;
use samlora::train::lr_find::lr_find;
use samlora::train::report::lr_plot;
use samlora::train::setup::prepare;
use serde_json::json;

use super::train::SettingsArgs;
use super::{print_json, say};
use crate::progress::bar;

/// Tries growing learning rates and suggests one
#[derive(Debug, Args)]
pub struct LrFindArgs {
    /// Data and settings, as for `train`.
    #[command(flatten)]
    settings: SettingsArgs,
    /// Steps to try at most
    #[arg(long, default_value_t = 150, value_name = "N")]
    steps: usize,
    /// Write a plot of loss over learning rate
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &LrFindArgs) -> Result<()> {
    let devices = args.settings.devices()?;
    let device = &devices[0];
    let settings = args.settings.settings(None, 1)?;
    let prepared = prepare(settings, device, &args.settings.device.join(","), &mut |message| eprintln!("{message}"))?;
    let progress = bar(args.steps as u64, "trying", "steps");
    let found = lr_find(prepared, args.steps, |done| progress.set_position(done as u64))?;
    progress.finish_and_clear();
    if let Some(path) = &args.plot {
        let svg = lr_plot(&found.points, &found.smoothed, found.suggestion)?;
        atomic(path, |file| Ok(std::io::Write::write_all(file, svg.as_bytes())?))?;
    }
    if args.json {
        return print_json(&json!({
            "suggestion": found.suggestion, "points": found.points, "smoothed": found.smoothed,
        }));
    }
    match found.suggestion {
        Some(rate) => say(format_args!("--lr {rate:.1e}, after {} steps", found.points.len())),
        None => say(format_args!("no suggestion: the loss did not fall within {} steps", found.points.len())),
    }
}
