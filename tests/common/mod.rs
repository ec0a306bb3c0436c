//! What the tests of packages, pipeline and command line share: the parity fixtures as packages.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

#[cfg(feature = "train")]
pub mod chips;
pub mod command;
mod files;
pub mod ground;
#[cfg(feature = "train")]
pub mod lab;
pub mod package;
pub mod placed_tiff;
pub mod tiff_files;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use samlora::config::{Class, SamConfig};
use samlora::engine::{DeviceChoice, Segmenter, open_device};
use samlora::error::{ErrorKind, Result};
use samlora::image::RgbImage;
use samlora::weights::checkpoint::{Adapter, Checkpoint};
use samlora::weights::export::export;
use samlora::weights::folder::Folder;
use samlora::weights::manifest::{Kind, Manifest};
use samlora::weights::quantize::Scheme;
use samlora::weights::source::open;

pub use files::fixtures;

/// The parity fixtures' cases: name and side of the input.
pub const CASES: [(&str, usize); 3] = [("s96_k6", 96), ("s224_k2", 224), ("s256_k4", 256)];

/// A file of the real data that `SAMLORA_DATA` names; without it says that `test` is left out.
pub fn data(test: &str, file: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SAMLORA_DATA").map(|folder| Path::new(&folder).join(file));
    if found.is_none() {
        println!("left out: {test}, SAMLORA_DATA does not name the folder of real data");
    }
    found
}

pub fn cpu() -> Device {
    pollster::block_on(open_device(DeviceChoice::Cpu)).unwrap()
}

/// A GPU; without one says that `test` is left out, or fails where `SAMLORA_REQUIRE_GPU` is set.
pub fn gpu(test: &str, choice: DeviceChoice) -> Option<Device> {
    match pollster::block_on(open_device(choice)) {
        Ok(device) => Some(device),
        Err(e) if std::env::var_os("SAMLORA_REQUIRE_GPU").is_some() => panic!("no GPU for {test}: {e}"),
        Err(e) => {
            println!("left out: {test}, {e}");
            None
        }
    }
}

/// The CPU, and the GPU if there is one ([`gpu`]), each with its tolerance.
pub fn devices(test: &str, tolerances: [f32; 2]) -> Vec<(&'static str, Device, f32)> {
    let gpu = gpu(test, DeviceChoice::Gpu).map(|device| ("gpu", device, tolerances[1]));
    [Some(("cpu", cpu(), tolerances[0])), gpu].into_iter().flatten().collect()
}

pub fn base() -> Checkpoint {
    Checkpoint::open(fixtures().join("tiny_sam.safetensors")).unwrap()
}

/// The LoRA checkpoint of a parity case.
pub fn adapter(case: &str) -> Adapter {
    Adapter::open(fixtures().join(format!("{case}_lora.safetensors")), 1.0).unwrap()
}

/// A manifest without weights, its tile three quarters of the input.
pub fn manifest(config: &SamConfig, kind: Kind, scheme: Scheme, input_size: usize) -> Manifest {
    let count = if kind == Kind::Base { 0 } else { config.mask_tokens };
    let class =
        |i: usize| Class { index: i as u8, name: format!("class {i}"), color: [i as u8, 0, 0], threshold: None };
    Manifest {
        kind,
        name: "test".into(),
        input_size,
        tile_size: input_size * 3 / 4,
        scheme,
        ..Manifest::new(config, (0..count).map(class).collect())
    }
}

/// Exports the tiny model with a parity case's adapter merged into it.
pub fn merged(case: &str, input_size: usize, scheme: Scheme, out: &Path) -> Manifest {
    let (base, adapter) = (base(), adapter(case));
    let config = adapter.config(base.config()).unwrap();
    let manifest = manifest(&config, Kind::Merged, scheme, input_size);
    export(manifest, &base, Some(&adapter), out, |_, _| ()).unwrap()
}

pub fn load(package: &Path) -> Result<Segmenter> {
    pollster::block_on(Segmenter::load(&Folder::open(package)?, &cpu(), |_| ()))
}

/// Pictures and low-resolution logits `[classes, height, width]` of a parity case.
pub fn reference(case: &str) -> Vec<(RgbImage, Vec<f32>)> {
    let file = open(fixtures().join(format!("{case}.safetensors"))).unwrap();
    let [count, height, width, _] = file.info("input_rgb").unwrap().shape[..] else { panic!("input_rgb of {case}") };
    let pixels: Vec<u8> = file.read_f32("input_rgb").unwrap().iter().map(|v| *v as u8).collect();
    let logits = file.read_f32("tap.low_res_logits").unwrap();
    let images = pixels.chunks_exact(height * width * 3).map(|p| RgbImage::new(width, height, p.to_vec()).unwrap());
    images.zip(logits.chunks_exact(logits.len() / count).map(<[f32]>::to_vec)).collect()
}

/// A photograph-like picture of 1024 x 1024 pixels.
pub fn picture() -> RgbImage {
    let pixels = open(fixtures().join("prompts.safetensors")).unwrap().read_f32("input_rgb").unwrap();
    RgbImage::new(1024, 1024, pixels.iter().map(|v| *v as u8).collect()).unwrap()
}

/// The largest difference beside the largest value of `theirs`.
pub fn relative(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let peak = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / peak
}

/// Kind and text of the error that `result` must be.
pub fn failure<T>(result: Result<T>) -> (ErrorKind, String) {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => (e.kind(), e.to_string()),
    }
}

/// The names in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The tiny base package, and adapter packages of it for `cases`.
pub fn base_and_adapters(folder: &Path, scheme: Scheme, cases: &[(&str, usize)]) -> (PathBuf, Vec<PathBuf>) {
    let base = base();
    let path = folder.join("base");
    let written = export(manifest(base.config(), Kind::Base, scheme, 224), &base, None, &path, |_, _| ()).unwrap();
    let adapters = cases.iter().map(|(case, size)| {
        let (adapter, out) = (adapter(case), folder.join(case));
        let mut manifest = manifest(&adapter.config(base.config()).unwrap(), Kind::Adapter, scheme, *size);
        manifest.origin.base_sha256 = Some(written.content_hash());
        export(manifest, &base, Some(&adapter), &out, |_, _| ()).unwrap();
        out
    });
    let adapters = adapters.collect();
    (path, adapters)
}
