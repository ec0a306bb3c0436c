//! MobileSAM against its own modules under PyTorch, with the same small checkpoint of random weights (`tests/fixtures/mobile_sam`;
//! `generate.py` there made it): batch norms with statistics of their own, padded windows, LoRA on the fused qkv.
//!
//! Runs on the CPU, and on the GPU (a software one will do) where there is one; `SAMLORA_REQUIRE_GPU=1` makes a missing GPU a failure.

mod common;

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use samlora::config::{Backbone, EncoderKind};
use samlora::error::ErrorKind;
use samlora::lora;
use samlora::model::Sam;
use samlora::weights::checkpoint::{Adapter, Checkpoint, load};
use samlora::weights::layout;
use samlora::weights::source::{TensorSource, open};

/// Rounding of f32 through a dozen layers and a decoder.
const CPU_TOLERANCE: f32 = 1e-4;
/// A GPU may reorder sums and approximate exp and erf.
const GPU_TOLERANCE: f32 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mobile_sam").join(name)
}

fn devices() -> Vec<(&'static str, Device, f32)> {
    common::devices("the GPU half of this test", [CPU_TOLERANCE, GPU_TOLERANCE])
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(fixture("mobile_sam.pt")).and_then(|c| c.with_decoder_heads(4)).expect("opens")
}

/// Compares with the reference's tensor `name`, of which early stages have every third row and column of one image.
fn compare(what: &str, ours: Tensor<4>, reference: &dyn TensorSource, name: &str, tolerance: f32) {
    let shape = reference.info(name).expect("reference").shape.clone();
    let mut ours = ours.slice_dim(0, 0..shape[0]);
    if ours.dims().to_vec() != shape {
        let every_third = |x: Tensor<4>, axis: usize| {
            let parts = (0..x.dims()[axis]).step_by(3).map(|i| x.clone().slice_dim(axis, i..i + 1)).collect();
            Tensor::cat(parts, axis)
        };
        ours = every_third(every_third(ours, 1), 2);
    }
    assert_eq!(ours.dims().to_vec(), shape, "{what}: shape of {name}");
    let theirs = reference.read_f32(name).expect("reference");
    let ours = ours.into_data().convert::<f32>().try_into_vec::<f32>().expect("f32");
    let peak = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    println!("{what}: {name}: largest difference {worst:.1e}");
    assert!(worst <= tolerance, "{what}: {name}: {worst} > {tolerance}");
}

fn input(reference: &dyn TensorSource, device: &Device) -> Tensor<4> {
    let shape = reference.info("input").expect("input").shape.clone();
    Tensor::from_data(TensorData::new(reference.read_f32("input").expect("input"), shape), device)
}

fn check_adapted(what: &str, sam: &Sam, reference: &dyn TensorSource, device: &Device, tolerance: f32) {
    let embedding = sam.encode(input(reference, device));
    compare(what, embedding.clone(), reference, "adapted.embedding", tolerance);
    compare(what, sam.decode(embedding), reference, "adapted.low_res_logits", tolerance);
}

#[test]
fn every_stage_equals_the_reference() {
    let reference = open(fixture("reference.safetensors")).expect("fixture");
    let reference = reference.as_ref();
    for (what, device, tolerance) in devices() {
        let (_, sam) = load(&checkpoint(), None, &device).expect("loads");
        let mut pass = sam.image_encoder.start(input(reference, &device));
        compare(what, pass.x.clone(), reference, "tap.patch_embed", tolerance);
        for block in 0..sam.image_encoder.depth() {
            pass = pass.advance();
            compare(what, pass.x.clone(), reference, &format!("tap.block{block}"), tolerance);
        }
        let pass = pass.advance();
        assert!(pass.is_done());
        compare(what, pass.x.clone(), reference, "tap.embedding", tolerance);
        compare(what, sam.decode(pass.x), reference, "tap.low_res_logits", tolerance);
    }
}

/// q and v of the fused qkv lie head by head: merged on the host, attached, and merged on the device.
#[test]
fn adapters_meet_the_rows_that_the_reference_splits() {
    let reference = open(fixture("reference.safetensors")).expect("fixture");
    let reference = reference.as_ref();
    let adapter = Adapter::open(fixture("lora.safetensors"), 1.0).expect("adapter");
    assert_eq!(adapter.factors.len(), 2 * 4);
    for (what, device, tolerance) in devices() {
        let (config, merged) = load(&checkpoint(), Some(&adapter), &device).expect("loads");
        check_adapted(&format!("{what}, merged"), &merged, reference, &device, tolerance);
        let (_, mut sam) = load(&checkpoint(), None, &device).expect("loads");
        lora::attach(&mut sam, &config, &adapter.factors, 0.0, &device).expect("attaches");
        check_adapted(&format!("{what}, attached"), &sam, reference, &device, tolerance);
        lora::merge(&mut sam);
        check_adapted(&format!("{what}, merged on the device"), &sam, reference, &device, tolerance);
        let (_, mut sam) = load(&checkpoint(), None, &device).expect("loads");
        lora::attach_for_inference(&mut sam, &config, &adapter.factors, &device).expect("attaches");
        check_adapted(&format!("{what}, attached for inference"), &sam, reference, &device, tolerance);
    }
}

#[test]
fn the_published_model_has_its_published_size() {
    let config = Backbone::named("mobile_sam").expect("known").config(4);
    let parameters = layout::parameter_count(&config);
    // 9,808,452 with a weight and a bias of each of 39 batch norms, 4,928 numbers twice, of which folding leaves the bias.
    assert_eq!(parameters + 4_928, 9_808_452);
    let found = checkpoint();
    let EncoderKind::TinyVit(sizes) = found.config().encoder else { panic!("{:?}", found.config()) };
    assert_eq!((sizes.stem_dim, sizes.stem_blocks, sizes.stages[1].window, sizes.stages[2].heads), (16, 1, 5, 4));
    assert_eq!(found.passed_over(), []);
}

#[test]
fn a_batch_norm_that_lacks_a_part_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let source = open(fixture("mobile_sam.pt")).expect("opens");
    for missing in ["running_var", "bias"] {
        let name = format!("image_encoder.layers.1.downsample.conv2.bn.{missing}");
        let tensors: Vec<_> =
            source.tensors().iter().filter(|t| t.name != name && t.shape.iter().product::<usize>() > 1).collect();
        let values: Vec<Vec<u8>> = tensors
            .iter()
            .map(|t| source.read_f32(&t.name).expect("reads").iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&values).map(|(t, bytes)| {
            let view =
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, t.shape.clone(), bytes).expect("view");
            (t.name.clone(), view)
        });
        let path = folder.path().join("part.safetensors");
        std::fs::write(&path, safetensors::serialize(views, None).expect("serializes")).expect("writes");
        let error = Checkpoint::open(&path).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&name), "{error}");
    }
}
