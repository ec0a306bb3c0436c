//! `samlora merge`: the shares of a job to its outputs.

use std::path::PathBuf;

use clap::Args;
use samlora::area::{Holes, Store, compose};
use samlora::engine::SegmentOptions;
use samlora::error::{Error, ErrorKind, Result};
use samlora::georef::Georef;
use samlora::source::{Colours, Depth, ModelInput, Patch, Raster, Window};
use samlora::vector::provenance::today;
use samlora::vector::{Clipped, Provenance};
use serde_json::json;

use super::segment::{Format, Origin, OutputArgs, Outputs, print_results};
use super::{print_json, say};

/// Joins the folders of a job's shares: `segment --shard` fills them. Neither model nor imagery is needed
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Folders of all shares; one, if the shares wrote into the same
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What files are named after [default: the first folder]
    #[arg(long)]
    name: Option<String>,
    /// What to write of the mask; all but overlay.
    #[command(flatten)]
    outputs: OutputArgs,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &MergeArgs) -> Result<()> {
    let mut wanted = args.outputs.clone();
    wanted.or(&[Format::Png]);
    wanted.check()?;
    if wanted.format.contains(&Format::Overlay) {
        return Err(Error::new(ErrorKind::Unsupported, "an overlay needs the imagery, which a job does not hold")
            .at("--format")
            .remedy("run segment with the same --area and --job and without --shard"));
    }
    let mut stores: Vec<Store> = Vec::new();
    let mut plan = None;
    for folder in &args.jobs {
        let (store, its) = Store::existing(folder)?;
        match stores.first() {
            Some(first) => first.same_plan(&store)?,
            None => plan = Some(its),
        }
        stores.push(store);
    }
    let (Some(plan), Some(first)) = (plan, args.jobs.first()) else { return Ok(()) };
    let name = args.name.clone().or_else(|| Some(first.file_stem()?.to_string_lossy().into_owned()));
    let name =
        name.ok_or_else(|| Error::new(ErrorKind::Invalid, "the first folder has no name").remedy("give --name"))?;
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Error::from(e).at(args.out.display()).remedy("choose another --out"))?;
    let (width, height) = (plan.area.width, plan.area.height);
    let georef = plan.georef()?;
    let place = Placed { size: (width, height), georef: georef.clone() };
    let mut raster = Clipped::new(ModelInput::Colours(Colours::new(Box::new(place), None)?), None);
    wanted.check_size((width, height))?;
    let provenance = Provenance {
        tool: samlora::TOOL.to_owned(),
        model_sha256: plan.model.weights.clone(),
        source: plan.raster.name.clone(),
        resolution_m: georef.as_ref().and_then(|g| g.ground_resolution(width, height)),
        date: today(),
    };
    let classes = &plan.model.classes;
    let origin = Origin { classes, georef: georef.as_ref(), size: (width, height), provenance: &provenance };
    let mut outputs = Outputs::begin(&wanted, None, &args.out, &name, &origin, None)?;
    let options = SegmentOptions { min_pixels: wanted.min_area, ..Default::default() };
    let composed = compose(&plan, &stores, &options, Holes::Refused, |rows| outputs.rows(rows, &mut raster))?;
    let (files, _) = outputs.finish(&mut raster)?;
    if args.json {
        return print_json(&json!({
            "jobs": args.jobs, "width": width, "height": height, "classes": composed.classes,
            "pixels_without_data": composed.without_data, "files": files,
        }));
    }
    say(format_args!("{name}: {width} x {height} px from {} folders", args.jobs.len()))?;
    print_results((width, height), &composed.classes, composed.without_data, &files)
}

/// The size and place of imagery that is not there.
struct Placed {
    size: (usize, usize),
    georef: Option<Georef>,
}

impl Raster for Placed {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        3
    }

    fn depth(&self) -> Depth {
        Depth::U8
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn read(&mut self, _: Window, _: &[usize]) -> Result<Patch> {
        Err(Error::new(ErrorKind::Unsupported, "a job's folder holds no imagery"))
    }

    fn describe(&self) -> String {
        "a job's area".into()
    }
}
