//! EfficientNet-Lite0 as an image encoder: read under the names of two projects, computed as the reference computes it
//! (`tests/fixtures/lite0`; `generate.py` there has the formula of the weights, which this test repeats), trained with adapters.
#![cfg(feature = "train")]

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use samlora::config::{Backbone, Class, LITE_BLOCKS};
use samlora::error::ErrorKind;
use samlora::lora::{LoraConfig, Target};
use samlora::model::Sam;
use samlora::random::SplitMix;
use samlora::train::init::{BaseModel, model};
use samlora::weights::layout;
use samlora::weights::source::open;

const SIDE: usize = 96;
/// Rounding of f32 through forty layers.
const CPU_TOLERANCE: f32 = 1e-4;
/// A GPU may reorder sums.
const GPU_TOLERANCE: f32 = 1e-3;

fn devices() -> Vec<(&'static str, Device, f32)> {
    common::devices("the GPU half of this test", [CPU_TOLERANCE, GPU_TOLERANCE])
}

fn uniform(name: &str, count: usize) -> Vec<f32> {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let mut random = SplitMix(name.bytes().fold(0xCBF2_9CE4_8422_2325, hash));
    (0..count).map(|_| random.uniform()).collect()
}

/// Every convolution with its norm, by the names of `efficientnet_lite_pytorch`.
fn layers() -> Vec<(String, String, [usize; 4])> {
    let mut found = vec![("_conv_stem".to_owned(), "_bn0".to_owned(), [32, 3, 3, 3])];
    let mut block = |i: usize, layer: &str, norm: usize, shape| {
        found.push((format!("_blocks.{i}.{layer}"), format!("_blocks.{i}._bn{norm}"), shape));
    };
    block(0, "_depthwise_conv", 1, [32, 1, 3, 3]);
    block(0, "_project_conv", 2, [16, 32, 1, 1]);
    for (i, size) in LITE_BLOCKS.iter().enumerate() {
        block(i + 1, "_expand_conv", 0, [size.hidden(), size.inputs, 1, 1]);
        block(i + 1, "_depthwise_conv", 1, [size.hidden(), 1, size.kernel, size.kernel]);
        block(i + 1, "_project_conv", 2, [size.outputs, size.hidden(), 1, 1]);
    }
    found
}

/// `timm`'s name of the same tensor.
fn timm(name: &str) -> String {
    let Some(rest) = name.strip_prefix("_blocks.") else {
        return name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1");
    };
    let (block, rest) = rest.split_once('.').expect("block");
    let mut within: usize = block.parse().expect("number");
    let stage = [1, 2, 2, 3, 3, 4, 1].iter().position(|&blocks| {
        let is_here = within < blocks;
        within -= if is_here { 0 } else { blocks };
        is_here
    });
    let names: [(&str, &str); 6] = if block == "0" {
        [
            ("_depthwise_conv", "conv_dw"),
            ("_project_conv", "conv_pw"),
            ("_bn1", "bn1"),
            ("_bn2", "bn2"),
            ("", ""),
            ("", ""),
        ]
    } else {
        [
            ("_expand_conv", "conv_pw"),
            ("_depthwise_conv", "conv_dw"),
            ("_project_conv", "conv_pwl"),
            ("_bn2", "bn3"),
            ("_bn1", "bn2"),
            ("_bn0", "bn1"),
        ]
    };
    let (from, to) = names.into_iter().find(|(from, _)| !from.is_empty() && rest.starts_with(from)).expect("layer");
    format!("blocks.{}.{within}.{}", stage.expect("stage"), rest.replace(from, to))
}

/// Writes the encoder's file, with `renamed` names and without those that are left out.
fn write(path: &Path, renamed: impl Fn(&str) -> Option<String>) {
    let mut tensors = Vec::new();
    for (convolution, norm, shape) in layers() {
        let spread = (3.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
        let name = format!("{convolution}.weight");
        let kernel = uniform(&name, shape.iter().product()).iter().map(|u| (f64::from(*u) * spread) as f32).collect();
        tensors.push((name, shape.to_vec(), kernel));
        for (part, centre, spread) in
            [("weight", 1.0, 0.2), ("bias", 0.0, 0.1), ("running_mean", 0.0, 0.2), ("running_var", 1.0, 0.5)]
        {
            let name = format!("{norm}.{part}");
            let values: Vec<f32> = uniform(&name, shape[0]).iter().map(|u| centre + spread * u).collect();
            tensors.push((name, vec![shape[0]], values));
        }
    }
    let stored = tensors.iter().filter_map(|(name, shape, values)| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Some((renamed(name)?, shape.clone(), bytes))
    });
    let stored: Vec<_> = stored.collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).expect("view");
        (name.clone(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).expect("serializes")).expect("writes");
}

fn classes() -> Vec<Class> {
    let class = |index, name: &str| Class { index, name: name.into(), color: [index; 3], threshold: None };
    vec![class(0, "background"), class(1, "building")]
}

fn compare(what: &str, ours: Tensor<4>, name: &str, tolerance: f32) {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lite0/reference.safetensors");
    let reference = open(fixture).expect("fixture");
    assert_eq!(ours.dims().to_vec(), reference.info(name).expect("reference").shape, "{what}: {name}");
    let theirs = reference.read_f32(name).expect("reference");
    let ours = ours.into_data().convert::<f32>().try_into_vec::<f32>().expect("f32");
    let peak = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    println!("{what}: {name}: largest difference {worst:.1e}");
    assert!(worst <= tolerance, "{what}: {name}: {worst} > {tolerance}");
}

fn check(what: &str, sam: &Sam, device: &Device, tolerance: f32) {
    let input = Tensor::from_data(TensorData::new(uniform("input", 3 * SIDE * SIDE), [1, 3, SIDE, SIDE]), device);
    let mut pass = sam.image_encoder.start(input);
    while pass.done + 1 < sam.image_encoder.depth() {
        pass = pass.advance();
    }
    compare(what, pass.x.clone(), "fine", tolerance);
    let joined = pass.advance().x;
    let fine = joined.clone().slice_dim(3, 0..112);
    compare(what, fine, "fine", tolerance);
    // Every second pixel of what was enlarged twice.
    let coarse = joined.slice_dim(3, 112..432);
    let every_second = |x: Tensor<4>, axis: usize| {
        Tensor::cat((0..x.dims()[axis]).step_by(2).map(|i| x.clone().slice_dim(axis, i..i + 1)).collect(), axis)
    };
    compare(what, every_second(every_second(coarse, 1), 2), "coarse", tolerance);
}

#[test]
fn both_namings_compute_what_the_reference_computes() {
    let folder = tempfile::tempdir().expect("folder");
    let (first, second) = (folder.path().join("pypi.safetensors"), folder.path().join("timm.safetensors"));
    write(&first, |name| Some(name.to_owned()));
    write(&second, |name| Some(timm(name)));
    for (what, device, tolerance) in devices() {
        for path in [&first, &second] {
            let base = BaseModel::open(path).expect("opens");
            assert!(!base.is_whole());
            let (config, sam) = model(&base, &classes(), 3, None, 5, &device).expect("loads");
            assert_eq!(config.backbone_name(), Some("lite0"));
            check(&format!("{what}, {}", path.display()), &sam, &device, tolerance);
        }
    }
}

#[test]
fn a_file_that_lacks_a_layer_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("part.safetensors");
    write(&path, |name| (name != "_blocks.7._bn1.running_mean").then(|| name.to_owned()));
    let error = BaseModel::open(&path).err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("_blocks.7._bn1.running_mean"), "{error}");
}

#[test]
fn its_adapters_are_beside_the_pointwise_convolutions() {
    let config = Backbone::named("lite0").expect("known").config(2);
    let parameters = layout::parameter_count(&config);
    // Encoder without its classifier 2,939,120, neck 701,440; SAM's prompt encoder and its decoder of two masks.
    let heads: u64 = layout::heads(&config)
        .iter()
        .filter(|(name, _)| !name.ends_with("gaussian_matrix"))
        .map(|(_, shape)| shape.iter().map(|&n| n as u64).product::<u64>())
        .sum();
    assert_eq!(parameters - heads, 2_939_120 + 701_440);
    let error = LoraConfig::default().init(&config, 0).expect_err("has no q");
    assert!(error.to_string().contains("lin1, lin2"), "{error}");
    let lora = LoraConfig { targets: vec![Target::Mlp1, Target::Mlp2], ..LoraConfig::default() };
    let factors = lora.init(&config, 0).expect("factors");
    assert_eq!(factors.len(), 2 * LITE_BLOCKS.len());
    assert_eq!((factors[0].a.len(), factors[0].b.len()), (4 * 16, 4 * 96));
    assert_eq!((factors[1].a.len(), factors[1].b.len()), (4 * 96, 4 * 24));
}
