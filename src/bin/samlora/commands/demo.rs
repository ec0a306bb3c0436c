//! `samlora demo`: a package and pictures to try the page with, all made here.
//!
//! The pictures are drawn scenes with known classes. The model is not trained: its weights are built by hand to carry
//! colours through the network (`demo/weights.rs`), and the last layer is fitted to drawn scenes by least squares. It shows
//! the whole way at the real size of SlimSAM-77; on photographs it only tells colours apart.

mod scene;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use samlora::config::{Backbone, Class, Normalization, SamConfig};
use samlora::engine::{Device, DeviceChoice, SegmentOptions, Segmenter, open_device, read_back};
use samlora::error::{Error, ErrorKind, Result};
use samlora::logits::Logits;
use samlora::model::{Parameters, Sam};
use samlora::preprocess;
use samlora::source::write::{atomic, rgb_png};
use samlora::weights::export;
use samlora::weights::folder::Folder;
use samlora::weights::layout;
use samlora::weights::manifest::Manifest;
use samlora::weights::quantize::Scheme;

use self::scene::Scene;
use super::export::plain_manifest;
use super::say;

/// Writes DIR/package and DIR/samples
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Scenes that the last layer is fitted to, and one that it is measured on.
const FITTED: u64 = 6;
const MEASURED: u64 = 100;
/// Scenes that are written as pictures; none of them is fitted to.
const SAMPLES: [u64; 3] = [201, 202, 203];

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu))?;
    let backbone = Backbone::named("slimsam_77")?;
    let kernels = fit(&backbone, &device)?;
    let config = backbone.config(kernels.len());
    let out = args.out.join("package");
    let mut manifest = manifest(&config);
    write(&manifest, &config, &kernels, &out)?;
    manifest.metrics = Some(measure(&out, &device)?);
    let written = write(&manifest, &config, &kernels, &out)?;

    let samples = args.out.join("samples");
    std::fs::create_dir_all(&samples).map_err(|e| Error::from(e).at(samples.display()))?;
    let names: Vec<String> = SAMPLES.iter().map(|seed| format!("scene-{seed}.png")).collect();
    for (seed, name) in SAMPLES.iter().zip(&names) {
        rgb_png(samples.join(name), &Scene::draw(512, *seed)?.picture)?;
    }
    let list = serde_json::json!(names).to_string();
    atomic(samples.join("index.json"), |file| Ok(std::io::Write::write_all(file, list.as_bytes())?))?;
    say(format_args!(
        "{}: {}, mean IoU {:.3} on a drawn scene it has not seen; {} pictures in {}",
        out.display(),
        super::size(written.weight_bytes()),
        written.metrics.and_then(|m| m.get("mean_iou").copied()).unwrap_or_default(),
        names.len(),
        samples.display()
    ))?;
    Ok(())
}

fn manifest(config: &SamConfig) -> Manifest {
    let mut manifest = plain_manifest(config);
    manifest.name = "demo scenes".into();
    manifest.scheme = Scheme::Q8;
    manifest.classes = scene::CLASSES
        .iter()
        .zip(0..)
        .map(|((name, color), index)| Class { index, name: (*name).into(), color: *color, threshold: None })
        .collect();
    manifest.licence = "MIT OR Apache-2.0".into();
    manifest.attribution = "drawn scenes and hand-made weights of the samlora project; not trained".into();
    manifest
}

fn write(manifest: &Manifest, config: &SamConfig, kernels: &[Vec<f32>], out: &Path) -> Result<Manifest> {
    let shapes: BTreeMap<_, _> = layout::tensors(config).into_iter().collect();
    let read = |name: &str| Ok(weights::values(name, shapes.get(name).map_or(&[][..], |s| s), kernels));
    export::write(manifest.clone(), layout::tensors(config), read, out, |_, _| ())
}

/// For each class the 32 numbers that its mask kernel shall be: ridge regression of one-hot classes on the network's own
/// last features. They are read through the network itself, with one mask token per feature.
fn fit(backbone: &Backbone, device: &Device) -> Result<Vec<Vec<f32>>> {
    let features = weights::FEATURES;
    let unit = |i: usize| (0..features).map(|j| f32::from(u8::from(i == j))).collect();
    let probe: Vec<Vec<f32>> = (0..features).map(unit).collect();
    let config = backbone.config(features);
    let mut parameters = Parameters::new(device);
    for (name, shape) in layout::tensors(&config) {
        parameters.insert(&name, &shape, weights::values(&name, &shape, &probe))?;
    }
    let sam = Sam::load(&config, parameters)?;
    let classes = scene::CLASSES.len();
    let mut normal = vec![vec![0.0f64; features + classes]; features];
    for (i, row) in normal.iter_mut().enumerate() {
        row[i] = 1e-3;
    }
    for seed in 0..FITTED {
        let scene = Scene::draw(backbone.input_size, seed)?;
        let input = preprocess::window(&scene.picture, 0, 0, backbone.input_size, &Normalization::rgb(), device);
        let maps: Logits = pollster::block_on(read_back(sam.decode(sam.encode(input))))?;
        let plane = maps.height * maps.width;
        for cell in 0..plane {
            let (x, y) = (cell % maps.width * 4 + 2, cell / maps.width * 4 + 2);
            let class = usize::from(scene.labels[y * backbone.input_size + x]);
            let values: Vec<f64> = (0..features).map(|f| f64::from(maps.values[f * plane + cell])).collect();
            for (row, value) in normal.iter_mut().zip(&values) {
                for (sum, other) in row.iter_mut().zip(&values) {
                    *sum += value * other / plane as f64;
                }
                row[features + class] += value / plane as f64;
            }
        }
    }
    solve(&mut normal, features)?;
    // Least squares gives shares near 0 and 1; logits want a spread of several units for a confident softmax.
    const SHARPNESS: f64 = 12.0;
    let kernel = |class: usize| normal.iter().map(|row| (row[features + class] * SHARPNESS) as f32).collect();
    Ok((0..classes).map(kernel).collect())
}

/// Gauss-Jordan elimination of a positive definite system with several right sides, in place.
fn solve(rows: &mut [Vec<f64>], size: usize) -> Result<()> {
    for pivot in 0..size {
        let divisor = rows[pivot][pivot];
        if divisor.abs() < 1e-12 {
            return Err(Error::new(ErrorKind::Invalid, "the demo's features are not independent"));
        }
        rows[pivot].iter_mut().for_each(|v| *v /= divisor);
        let source = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
            let factor = row[pivot];
            row.iter_mut().zip(&source).for_each(|(v, s)| *v -= factor * s);
        }
    }
    Ok(())
}

/// Pixel accuracy and mean IoU over all classes of the written package on a drawn scene.
fn measure(package: &Path, device: &Device) -> Result<BTreeMap<String, f64>> {
    let segmenter = pollster::block_on(Segmenter::load(&Folder::open(package)?, device, |_| ()))?;
    let scene = Scene::draw(512, MEASURED)?;
    let found = pollster::block_on(segmenter.segment(&scene.picture, &SegmentOptions::default()))?;
    let pairs = || scene.labels.iter().zip(&found.mask.classes);
    let right = pairs().filter(|(a, b)| a == b).count();
    let iou = (0..scene::CLASSES.len() as u8).filter_map(|class| {
        let both = pairs().filter(|(a, b)| **a == class && **b == class).count();
        let either = pairs().filter(|(a, b)| **a == class || **b == class).count();
        (either > 0).then(|| both as f64 / either as f64)
    });
    let iou: Vec<f64> = iou.collect();
    Ok(BTreeMap::from([
        ("pixel_accuracy".into(), right as f64 / scene.labels.len() as f64),
        ("mean_iou".into(), iou.iter().sum::<f64>() / iou.len().max(1) as f64),
    ]))
}
