//! SlimSAM-77 and -50 against what `SamModel` of Hugging Face's `transformers` computes with their numbers (`tests/fixtures/slimsam`,
//! which `generate.py` there made); and what only SlimSAM-77 needs: attention heads of 14 channels on the kernels for GPUs, and
//! widths that are no multiple of 32 (168, 696) in 8 and 4 bits.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use samlora::config::{Backbone, Normalization, SamConfig};
use samlora::engine::{DeviceChoice, Segmenter, random_model};
use samlora::image::RgbImage;
use samlora::kernels::convolution::patch_embed;
use samlora::kernels::{Weight, read};
use samlora::lora::{self, LoraConfig, Target};
use samlora::model::Sam;
use samlora::model::encoder::Encoder;
use samlora::model::prompt_encoder::{Point, Prompt};
use samlora::preprocess;
use samlora::random::SplitMix;
use samlora::weights::checkpoint::{Adapter, Checkpoint, load};
use samlora::weights::export::export;
use samlora::weights::folder::Folder;
use samlora::weights::layout;
use samlora::weights::manifest::Kind;
use samlora::weights::quantize::Scheme;
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo, TensorSource, open};

/// Rounding of f32 through twelve blocks and a decoder.
const CPU_TOLERANCE: f32 = 1e-4;
/// A GPU may reorder sums and approximate exp and erf.
const GPU_TOLERANCE: f32 = 1e-3;
/// The weights' seed in `generate.py`.
const SEED: u64 = 77;
/// The side of its image.
const SIDE: usize = 256;

fn devices(test: &str) -> Vec<(&'static str, Device, f32)> {
    common::devices(test, [CPU_TOLERANCE, GPU_TOLERANCE])
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/slimsam")
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    pollster::block_on(read(x)).unwrap()
}

/// Compares a result with the reference: the numbers that are stored of it, beside the largest of the whole, and the whole's norm.
fn compare(what: &str, ours: &[f32], reference: &dyn TensorSource, name: &str, tolerance: f32) {
    let (theirs, whole) = (reference.read_f32(name).unwrap(), reference.read_f32(&format!("{name}.whole")).unwrap());
    let step = if ours.len() >= 20_000 { 13 } else { 5 };
    assert_eq!(ours.len().div_ceil(step), theirs.len(), "{what}: {name}");
    let worst = ours.iter().step_by(step).zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / whole[1];
    let norm = ours.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let overall = (norm / f64::from(whole[0]) - 1.0).abs();
    println!("{what}: {name}: largest difference {worst:.1e}, norm {overall:.1e}");
    assert!(worst <= tolerance && overall <= f64::from(tolerance), "{what}: {name}: {worst} {overall} > {tolerance}");
}

/// The image of `generate.py`.
fn image() -> RgbImage {
    RgbImage::new(SIDE, SIDE, (0..SIDE * SIDE * 3).map(|i| ((i * 7919) ^ (i >> 5)) as u8).collect()).unwrap()
}

#[test]
fn every_stage_equals_transformers() {
    for name in ["slimsam_77", "slimsam_50"] {
        let reference = open(fixtures().join(format!("{name}.safetensors"))).unwrap();
        for (device_name, device, tolerance) in devices("stages of SlimSAM on a GPU") {
            let what = format!("{name} on {device_name}");
            let check = |ours: Vec<f32>, stage: &str| compare(&what, &ours, reference.as_ref(), stage, tolerance);
            let config = Backbone::named(name).unwrap().config(4);
            let sam = random_model(&config, SEED, Scheme::F32, &device).unwrap();
            let input: Tensor<4> = preprocess::window(&image(), 0, 0, SIDE, &Normalization::rgb(), &device);
            let encoder = &sam.image_encoder;
            let Encoder::Vit(vit) = encoder else { panic!("{name} is a ViT") };
            let (weight, bias) = (vit.patch_embed_weight.val(), vit.patch_embed_bias.val());
            check(numbers(patch_embed(input.clone(), weight, bias, None)), "patch_embed");
            let mut pass = encoder.start(input);
            for block in 0..config.depth {
                pass = pass.advance();
                check(numbers(pass.x.clone()), &format!("block{block}"));
            }
            let embedding = pass.advance().x;
            check(numbers(embedding.clone()), "embedding");
            check(numbers(sam.decode(embedding.clone())), "none.masks");
            let points =
                [Point { x: 25.0, y: 50.0, foreground: true }, Point { x: 160.0, y: 128.5, foreground: false }];
            let bounding_box = Some([16.0, 24.0, 125.0, 175.0]);
            for (prompt_name, points, bounding_box) in
                [("point", &points[..], None), ("box", &[], bounding_box), ("point_and_box", &points, bounding_box)]
            {
                let prompt = Prompt { points: points.to_vec(), bounding_box };
                let (masks, iou) = sam.decode_prompt(embedding.clone(), &prompt, None, [SIDE, SIDE]);
                check(numbers(masks), &format!("{prompt_name}.masks"));
                let expected = reference.read_f32(&format!("{prompt_name}.iou")).unwrap();
                assert!(common::relative(&numbers(iou), &expected) <= tolerance, "{what}: {prompt_name}");
            }
        }
    }
}

/// A checkpoint of random weights, by `stored` names.
fn checkpoint(path: &Path, config: &SamConfig, stored: impl Fn(&str) -> Vec<String>) {
    let shapes: BTreeMap<_, _> = layout::tensors(config).into_iter().collect();
    let names: Vec<(&String, String)> =
        shapes.keys().flat_map(|name| stored(name).into_iter().map(move |stored| (name, stored))).collect();
    let info = |(name, stored): &(&String, String)| TensorInfo {
        name: stored.clone(),
        shape: shapes[*name].clone(),
        dtype: Dtype::F32,
    };
    let infos: Vec<_> = names.iter().map(info).collect();
    let mut writer = Writer::new(File::create(path).unwrap(), &infos, &BTreeMap::new()).unwrap();
    for (name, stored) in &names {
        let values = layout::random(name, &shapes[*name], SEED);
        writer.tensor(stored, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn both_namings_are_recognised_and_hold_the_same_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixtures().join("names.txt")).unwrap();
    let pairs: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    for (name, parameters) in [("slimsam_77", 9_723_528), ("slimsam_50", 27_961_776)] {
        let config = Backbone::named(name).unwrap().config(4);
        let [sam, face] = ["sam", "face"].map(|naming| folder.path().join(format!("{naming}.safetensors")));
        checkpoint(&sam, &config, |name| vec![name.to_owned()]);
        checkpoint(&face, &config, |name| {
            pairs.iter().filter(|(own, _)| *own == name).map(|(_, theirs)| (*theirs).to_owned()).collect()
        });
        let [sam, face] = [sam, face].map(|path| Checkpoint::open(path).unwrap());
        for checkpoint in [&sam, &face] {
            assert_eq!((checkpoint.config(), checkpoint.config().backbone_name()), (&config, Some(name)));
            assert_eq!(layout::parameter_count(checkpoint.config()), parameters);
        }
        for (tensor, _) in layout::tensors(&config) {
            assert_eq!(sam.read(&tensor).unwrap(), face.read(&tensor).unwrap(), "{tensor}");
        }
    }
}

/// Factors on every kind of matrix, in a window block and in a global one.
fn adapter(config: &SamConfig) -> Adapter {
    let lora = LoraConfig {
        rank: 3,
        alpha: Some(6.0),
        targets: Target::ALL.to_vec(),
        blocks: Some(vec![0, 2, config.depth - 1]),
        ..LoraConfig::default()
    };
    let mut factors = lora.init(config, 11).unwrap();
    let mut random = SplitMix(12);
    factors.iter_mut().flat_map(|f| &mut f.b).for_each(|b| *b = 0.2 * random.uniform());
    Adapter { factors, ..Adapter::default() }
}

#[test]
fn adapters_attach_as_they_merge_whatever_the_heads_became() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    checkpoint(&path, &Backbone::named("slimsam_77").unwrap().config(4), |name| vec![name.to_owned()]);
    let base = Checkpoint::open(&path).unwrap();
    let adapter = adapter(base.config());
    let input = |device: &Device| preprocess::window(&image(), 0, 0, 224, &Normalization::rgb(), device);
    let encode = |sam: &Sam, device: &Device| numbers(sam.encode(input(device)));
    let cpu = common::cpu();
    let expected = encode(&load(&base, Some(&adapter), &cpu).unwrap().1, &cpu);
    for (what, device, tolerance) in devices("adapters of SlimSAM on a GPU") {
        let distance = |sam: &Sam| common::relative(&encode(sam, &device), &expected);
        let (config, mut sam) = load(&base, None, &device).unwrap();
        let [rows, _] = sam.image_encoder.blocks()[0].qkv.unwrap().linear.weight.dims();
        assert_eq!(rows, if what == "gpu" { 3 * 12 * 16 } else { 3 * 168 }, "{what}");
        assert!(distance(&sam) > 0.05, "{what}: the adapter does something");
        lora::attach_for_inference(&mut sam, &config, &adapter.factors, &device).unwrap();
        assert!(distance(&sam) <= tolerance, "{what}: for inference");
        lora::detach(&mut sam);
        lora::attach(&mut sam, &config, &adapter.factors, 0.0, &device).unwrap();
        assert!(distance(&sam) <= tolerance, "{what}: attached");
        lora::merge(&mut sam);
        assert!(distance(&sam) <= tolerance, "{what}: merged on the device");
        let (_, merged) = load(&base, Some(&adapter), &device).unwrap();
        assert!(distance(&merged) <= tolerance, "{what}: merged on the host");
    }
}

#[test]
fn packages_of_every_scheme_give_a_gpu_the_same_numbers() {
    let Some(gpu) = common::gpu("packages of SlimSAM on a GPU", DeviceChoice::Gpu) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    checkpoint(&path, &Backbone::named("slimsam_77").unwrap().config(4), |name| vec![name.to_owned()]);
    let base = Checkpoint::open(&path).unwrap();
    let adapter = adapter(base.config());
    for scheme in Scheme::ALL {
        let at = |name: &str| folder.path().join(format!("{name}-{}", scheme.name()));
        let manifest = |kind| common::manifest(base.config(), kind, scheme, 224);
        export(manifest(Kind::Merged), &base, Some(&adapter), &at("merged"), |_, _| ()).unwrap();
        let written = export(manifest(Kind::Base), &base, None, &at("base"), |_, _| ()).unwrap();
        println!("{}: {} bytes", scheme.name(), written.weight_bytes());
        assert!(scheme != Scheme::Q8 || written.weight_bytes() <= 11_000_000, "what a browser is to load at most");
        let mut beside = manifest(Kind::Adapter);
        beside.origin.base_sha256 = Some(written.content_hash());
        export(beside, &base, Some(&adapter), &at("adapter"), |_, _| ()).unwrap();
        let [on_gpu, on_cpu] = [&gpu, &common::cpu()].map(|device| {
            let open = |name: &str| Folder::open(at(name)).unwrap();
            let merged = pollster::block_on(Segmenter::load(&open("merged"), device, |_| ())).unwrap();
            let bare = pollster::block_on(Segmenter::load(&open("base"), device, |_| ())).unwrap();
            [merged, pollster::block_on(bare.load_adapter(&open("adapter"), |_| ())).unwrap()]
        });
        let block = on_gpu[0].model().image_encoder.blocks()[0];
        let is_packed = |weight: &Weight| matches!(weight, Weight::Q8(_) | Weight::Q4(_));
        let packs = matches!(scheme, Scheme::Q8 | Scheme::Q4);
        for layer in [block.qkv.unwrap(), block.lin1, block.lin2] {
            assert_eq!(is_packed(&layer.linear.weight), packs, "{}", scheme.name());
        }
        // Its blocks of 32 inputs begin elsewhere once its heads are wider: floats of the same integers.
        assert!(!is_packed(&block.proj.unwrap().linear.weight));
        for (kind, [gpu, cpu]) in
            ["merged", "base and adapter"].into_iter().zip([0, 1].map(|i| [&on_gpu[i], &on_cpu[i]]))
        {
            let picture = image().crop(0, 0, 224, 224).unwrap();
            let [found, expected] = [gpu, cpu].map(|s| pollster::block_on(s.logits(&picture)).unwrap().values);
            let error = common::relative(&found, &expected);
            println!("{kind}, {}: {error:.1e}", scheme.name());
            assert!(error <= GPU_TOLERANCE, "{kind}, {}: {error:.1e}", scheme.name());
        }
    }
}

/// A step changes the loss, or the command fails: from f32, with blocks computed again, and with a base in 8 bits.
#[cfg(feature = "train")]
#[test]
fn it_trains() {
    let step = ["bench", "--backbone", "slimsam_77", "--train", "--size", "96", "--runs", "2", "--json"];
    let run = |more: &[&str]| common::command::json(&[&step, more].concat());
    let [plain, again, packed] = [run(&[]), run(&["--recompute"]), run(&["--recompute", "--qlora"])];
    assert_eq!(plain["losses"], again["losses"]);
    let first = |report: &serde_json::Value| report["losses"][0].as_f64().unwrap();
    let shift = (first(&packed) / first(&plain) - 1.0).abs();
    assert!(shift > 0.0 && shift < 0.02, "8 bits in memory change the loss a little: {shift}");
}

/// On a GPU the heads of a model that learns keep their width, and burn's kernels compute their attention.
#[cfg(feature = "train")]
#[test]
fn it_trains_on_a_gpu() {
    if common::gpu("training SlimSAM on a GPU", DeviceChoice::Gpu).is_none() {
        return;
    }
    let step = ["bench", "--backbone", "slimsam_77", "--train", "--size", "32", "--runs", "1", "--json", "--device"];
    let losses = |device: &str| common::command::json(&[&step[..], &[device]].concat())["losses"].clone();
    let [gpu, cpu] = ["gpu", "cpu"].map(losses);
    for (gpu, cpu) in gpu.as_array().unwrap().iter().zip(cpu.as_array().unwrap()) {
        let [gpu, cpu] = [gpu, cpu].map(|loss| loss.as_f64().unwrap());
        assert!((gpu / cpu - 1.0).abs() < 1e-3, "{gpu} {cpu}");
    }
}
