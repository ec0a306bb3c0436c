//! `samlora export --run`: a run's best weights as a package that carries its own figures.

use std::path::Path;
use std::time::Instant;

use samlora::engine::{DeviceChoice, open_device};
use samlora::error::{Error, ErrorKind, Result};
use samlora::train::init::BaseModel;
use samlora::train::results::{PackageOptions, package};
use samlora::train::run_folder::RunFolder;
use samlora::weights::folder::Folder;
use samlora::weights::package::read_manifest;

use super::args::ExportArgs;
use super::output::{base_package, print};
use crate::commands::say;
use crate::progress::bar;

/// Runs the command.
pub fn run(args: &ExportArgs, run: &Path, watch: Instant) -> Result<()> {
    let base_package = match &args.base_package {
        Some(path) => {
            let info = RunFolder::open(run)?.info()?;
            let config = match &info.base {
                Some(origin) => BaseModel::open(&origin.path)?.config().clone(),
                None => info.architecture.clone(),
            };
            let hash = base_package(path, &config)?;
            let package = pollster::block_on(read_manifest(&Folder::open(path)?))?;
            // The run's base is this package, or the checkpoint that it was made of.
            let base = info.base.map(|origin| origin.sha256);
            if base.is_some() && base.as_ref() != Some(&hash) && base != package.origin.base_sha256 {
                return Err(Error::new(ErrorKind::Invalid, "holds other weights than those that the run started from")
                    .at(path.display())
                    .remedy("export the run's own base, or leave out --base-package"));
            }
            Some(hash)
        }
        None => None,
    };
    let stem = args.out.file_stem().map(|s| s.to_string_lossy().into_owned());
    let options = PackageOptions {
        scheme: args.scheme,
        name: args.name.clone().or(stem).unwrap_or_else(|| "model".into()),
        licence: args.licence.clone(),
        attribution: args.attribution.clone(),
        base_package,
        thresholds: args.threshold_for.clone(),
    };
    let device = pollster::block_on(open_device(DeviceChoice::Cpu))?;
    let progress = bar(0, "exporting", "");
    let written = package(run, &options, &args.out, &device, |what, done, all| {
        progress.set_message(what.to_owned());
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    print(args, &written.manifest, watch)?;
    let classes = if args.json { Vec::new() } else { written.thresholds };
    for (index, point) in classes {
        let name = written.manifest.classes.iter().find(|c| c.index == index).map_or("", |c| &c.name);
        let percent = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{:.1} %", 100.0 * v));
        say(format_args!(
            "  threshold {:.3} of {name}: precision {}, recall {}, F1 {}, IoU {} on the validation samples",
            point.threshold,
            percent(point.precision),
            percent(point.recall),
            percent(point.f1),
            percent(point.iou)
        ))?;
    }
    Ok(())
}
