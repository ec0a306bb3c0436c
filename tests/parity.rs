//! The network against what `segment-anything` under PyTorch computes with the same tiny checkpoint
//! (`tests/fixtures/parity`; `generate.py` there made it, `SAMLORA_FIXTURES` names another folder of that layout).
//!
//! Runs on the CPU, and on the GPU (a software one will do) where there is one; `SAMLORA_REQUIRE_GPU=1` makes a missing
//! GPU a failure.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use samlora::config::SamConfig;
use samlora::kernels::convolution::patch_embed;
use samlora::logits::{Logits, classify};
use samlora::lora::{self, Target};
use samlora::model::Sam;
use samlora::model::encoder::Encoder;
use samlora::model::prompt_encoder::{Point, Prompt};
use samlora::random::SplitMix;
use samlora::weights::checkpoint::{Adapter, Checkpoint, load};
use samlora::weights::source::{TensorSource, open};

/// Rounding of f32 through four blocks and a decoder; about 1e-6 is measured.
const CPU_TOLERANCE: f32 = 1e-4;
/// A GPU may reorder sums and approximate exp and erf.
const GPU_TOLERANCE: f32 = 1e-3;

fn fixtures() -> PathBuf {
    match std::env::var_os("SAMLORA_FIXTURES") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity"),
    }
}

fn devices() -> Vec<(&'static str, Device, f32)> {
    common::devices("the GPU half of this test", [CPU_TOLERANCE, GPU_TOLERANCE])
}

struct Reference(Box<dyn TensorSource>);

impl Reference {
    fn open(name: &str) -> Self {
        Self(open(fixtures().join(name)).expect("fixture opens"))
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.0.info(name).unwrap_or_else(|| panic!("fixture has no {name}")).shape.clone()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0.read_f32(name).expect("fixture tensor")
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.values(name), self.shape(name)), device)
    }
}

/// Compares a tensor with the reference: the largest difference beside the largest reference value, and the norm of the
/// difference beside the reference's norm. Both must be within `tolerance`.
fn compare<const D: usize>(what: &str, ours: Tensor<D>, reference: &Reference, name: &str, tolerance: f32) -> f32 {
    assert_eq!(ours.dims().to_vec(), reference.shape(name), "{what}: shape of {name}");
    let ours: Vec<f32> = ours.into_data().try_into_vec::<f32>().expect("f32");
    let theirs = reference.values(name);
    let peak = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let overall = norm(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied());
    println!("{what}: {name}: largest difference {worst:.1e}, norm {overall:.1e}");
    assert!(worst <= tolerance && overall <= f64::from(tolerance), "{what}: {name}: {worst} {overall} > {tolerance}");
    worst
}

#[derive(serde::Deserialize)]
struct Case {
    size: usize,
    tokens: usize,
    rank: usize,
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixtures().join("cases.json")).expect("cases.json");
    serde_json::from_str(&text).expect("cases")
}

#[derive(serde::Deserialize)]
struct Tiny {
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    global_attn_indexes: Vec<usize>,
    window_size: usize,
    patch_size: usize,
    out_chans: usize,
    decoder_heads: usize,
    decoder_mlp: usize,
    iou_hidden: usize,
    pretrained_size: usize,
}

fn tiny() -> Tiny {
    let text = std::fs::read_to_string(fixtures().join("tiny_config.json")).expect("tiny_config.json");
    serde_json::from_str(&text).expect("config")
}

/// The tiny checkpoint; its decoder's heads are the one number that its tensors do not tell.
fn base(extension: &str) -> Checkpoint {
    let checkpoint = Checkpoint::open(fixtures().join(format!("tiny_sam.{extension}"))).expect("base");
    checkpoint.with_decoder_heads(tiny().decoder_heads).expect("heads")
}

fn check_taps(what: &str, sam: &Sam, reference: &Reference, case: &Case, device: &Device, tolerance: f32) {
    let x: Tensor<4> = reference.tensor("input_normalised", device);
    let encoder = &sam.image_encoder;
    if let Encoder::Vit(vit) = encoder {
        let patches = patch_embed(x.clone(), vit.patch_embed_weight.val(), vit.patch_embed_bias.val(), None);
        compare(what, patches, reference, "tap.patch_embed", tolerance);
    }
    let mut pass = encoder.start(x);
    for block in 0..encoder.depth() {
        pass = pass.advance();
        compare(what, pass.x.clone(), reference, &format!("tap.block{block}"), tolerance);
    }
    let pass = pass.advance();
    assert!(pass.is_done());
    let embedding = pass.x;
    compare(what, embedding.clone(), reference, "tap.embedding", tolerance);
    let grid = case.size / 16;
    compare(what, sam.prompt_encoder.dense_pe(grid, grid), reference, "tap.dense_pe", tolerance);
    let low = sam.decode(embedding);
    compare(what, low.clone(), reference, "tap.low_res_logits", tolerance);
    check_masks(what, low, reference, case, tolerance);
}

/// Full-resolution logits and class masks. A pixel may differ from the reference's only where its two largest logits
/// are closer than the tolerance.
fn check_masks(what: &str, low: Tensor<4>, reference: &Reference, case: &Case, tolerance: f32) {
    let [batch, classes, height, width] = low.dims();
    assert_eq!(classes, case.tokens);
    let low: Vec<f32> = low.into_data().try_into_vec::<f32>().expect("f32");
    let (logits, mask) = (reference.values("logits"), reference.values("class_mask"));
    let peak = logits.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let (side, plane) = (case.size, case.size * case.size);
    let mut differing = 0;
    for image in 0..batch {
        let values = low[image * classes * height * width..][..classes * height * width].to_vec();
        let full = Logits { classes, height, width, values }.resize(side, side);
        let theirs = &logits[image * classes * plane..][..classes * plane];
        let worst = full.values.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
        assert!(worst <= tolerance, "{what}: full-resolution logits differ by {worst}");
        for pixel in 0..plane {
            let at = |logits: &[f32]| -> Vec<f32> { (0..classes).map(|c| logits[c * plane + pixel]).collect() };
            if f32::from(classify(&at(&full.values)).0) != mask[image * plane + pixel] {
                differing += 1;
                let mut sorted = at(theirs);
                sorted.sort_by(f32::total_cmp);
                let margin = (sorted[classes - 1] - sorted[classes - 2]) / peak;
                assert!(margin <= 2.0 * tolerance, "{what}: pixel {pixel} differs with a margin of {margin}");
            }
        }
    }
    println!("{what}: class masks: {differing} of {} pixels differ, all of them ties", batch * plane);
}

#[test]
fn taps_logits_and_masks_equal_the_reference() {
    for (device_name, device, tolerance) in devices() {
        for (name, case) in cases() {
            let reference = Reference::open(&format!("{name}.safetensors"));
            for extension in ["pth", "safetensors"] {
                let base = base(extension);
                let adapter = Adapter::open(fixtures().join(format!("{name}_lora.{extension}")), 1.0).expect("adapter");
                assert!(adapter.factors.iter().all(|f| f.rank == case.rank), "{name}: rank");

                let what = format!("{device_name} {name} {extension} merged");
                let (config, merged) = load(&base, Some(&adapter), &device).expect("loads");
                check_taps(&what, &merged, &reference, &case, &device, tolerance);

                // The same factors beside the base instead of in it.
                let what = format!("{device_name} {name} {extension} attached");
                let decoder_only = Adapter { factors: Vec::new(), numbered: false, ..adapter.clone() };
                let (_, mut sam) = load(&base, Some(&decoder_only), &device).expect("loads");
                lora::attach(&mut sam, &config, &adapter.factors, 0.0, &device).expect("attaches");
                check_taps(&what, &sam, &reference, &case, &device, tolerance);

                // Merged on the device, and taken off again.
                lora::merge(&mut sam);
                assert_eq!(lora::parameters(&sam), 0);
                check_taps(&format!("{what}, merged on device"), &sam, &reference, &case, &device, tolerance);
            }
        }
    }
}

#[test]
fn detached_adapters_leave_the_base_as_it_was() {
    let (_, device, _) = devices().remove(0);
    let base = base("safetensors");
    let (config, mut sam) = load(&base, None, &device).expect("loads");
    let x = Tensor::<4>::ones([1, 3, 96, 96], &device);
    let values = |sam: &Sam| -> Vec<f32> { sam.encode(x.clone()).into_data().try_into_vec::<f32>().expect("f32") };
    let before = values(&sam);
    let mut factors = lora::LoraConfig::default().init(&config, 7).expect("factors");
    lora::attach(&mut sam, &config, &factors, 0.0, &device).expect("attaches");
    assert_eq!(values(&sam), before, "a new adapter changes nothing: B is zero");
    assert_eq!(lora::parameters(&sam), config.depth * 2 * 2 * 4 * config.embed_dim);
    lora::detach(&mut sam);
    factors[0].b.fill(0.5);
    lora::attach(&mut sam, &config, &factors, 0.0, &device).expect("attaches");
    assert_ne!(values(&sam), before);
    lora::detach(&mut sam);
    assert_eq!(values(&sam), before);
}

/// Every kind of matrix, chosen blocks, an alpha: merged on the host, attached, and merged on the device are the same,
/// and differ from the base. Dropout is for training alone.
#[test]
fn adapters_on_all_matrices_merge_as_they_attach() {
    let base = base("safetensors");
    let lora = lora::LoraConfig {
        rank: 3,
        alpha: Some(6.0),
        dropout: 0.5,
        targets: Target::ALL.to_vec(),
        blocks: Some(vec![0, base.config().depth - 1]),
    };
    let mut factors = lora.init(base.config(), 11).expect("factors");
    assert_eq!(factors.len(), 2 * Target::ALL.len());
    let mut random = SplitMix(12);
    factors.iter_mut().flat_map(|f| &mut f.b).for_each(|b| *b = 0.1 * random.uniform());
    let adapter = Adapter { factors, ..Adapter::default() };
    for (what, device, tolerance) in devices() {
        let x = Tensor::<4>::ones([1, 3, 96, 96], &device) * 0.5;
        let encode = |sam: &Sam| sam.encode(x.clone()).into_data().try_into_vec::<f32>().expect("f32");
        let (_, merged) = load(&base, Some(&adapter), &device).expect("loads");
        let (config, mut sam) = load(&base, None, &device).expect("loads");
        let (plain, merged) = (encode(&sam), encode(&merged));
        let peak = merged.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let distance = |a: &[f32]| a.iter().zip(&merged).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
        assert!(distance(&plain) > 0.05, "{what}: the adapter does something");
        lora::attach(&mut sam, &config, &adapter.factors, lora.dropout, &device).expect("attaches");
        assert!(distance(&encode(&sam)) <= tolerance, "{what}: attached");
        lora::merge(&mut sam);
        assert!(distance(&encode(&sam)) <= tolerance, "{what}: merged on the device");
    }
}

#[test]
fn prompts_equal_the_reference() {
    let reference = Reference::open("prompts.safetensors");
    let [height, width] = [reference.shape("input_rgb")[0], reference.shape("input_rgb")[1]];
    let points: Vec<Point> = reference
        .values("points")
        .chunks_exact(2)
        .zip(reference.values("point_labels"))
        .map(|(p, label)| Point { x: p[0], y: p[1], foreground: label == 1.0 })
        .collect();
    let bounding_box = reference.values("box").try_into().ok();
    for (device_name, device, tolerance) in devices() {
        let base = base("pth");
        let (_, sam) = load(&base, None, &device).expect("loads");
        let rgb = reference.values("input_rgb").iter().map(|v| *v as u8).collect();
        let image = samlora::image::RgbImage::new(width, height, rgb).expect("image");
        let normalization = samlora::config::Normalization::rgb();
        let x = samlora::preprocess::window(&image, 0, 0, width, &normalization, &device);
        let embedding = sam.encode(x);
        compare(device_name, embedding.clone(), &reference, "embedding", tolerance);
        for (name, prompt) in [
            ("point", Prompt { points: points.clone(), bounding_box: None }),
            ("box", Prompt { points: Vec::new(), bounding_box }),
            ("point_and_box", Prompt { points: points.clone(), bounding_box }),
        ] {
            let sparse = sam.prompt_encoder.sparse(&prompt, height, width).expect("prompts");
            compare(device_name, sparse, &reference, &format!("{name}.sparse"), tolerance);
            let (masks, iou) = sam.decode_prompt(embedding.clone(), &prompt, None, [height, width]);
            let masks = masks.slice_dim(1, 1..4);
            compare(device_name, masks, &reference, &format!("{name}.low_res_masks"), tolerance);
            compare(device_name, iou.slice_dim(1, 1..4), &reference, &format!("{name}.iou"), tolerance);
        }
    }
}

#[test]
fn the_architecture_is_recognized_from_the_tensors() {
    let tiny = tiny();
    let found = base("pth");
    let expected = SamConfig {
        embed_dim: tiny.embed_dim,
        depth: tiny.depth,
        num_heads: tiny.num_heads,
        mlp_dim: 4 * tiny.embed_dim,
        global_attn_indexes: tiny.global_attn_indexes,
        window_size: tiny.window_size,
        patch_size: tiny.patch_size,
        out_chans: tiny.out_chans,
        decoder_heads: tiny.decoder_heads,
        decoder_mlp: tiny.decoder_mlp,
        iou_hidden: tiny.iou_hidden,
        pretrained_size: tiny.pretrained_size,
        ..found.config().clone()
    };
    assert_eq!(found.config(), &expected);
}
