//! The command's other halves: measuring, the demo, and adapters that are not whole.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;

use common::command::{fails, fixture, json, succeeds};
use common::fixtures;
use samlora::weights::safetensors::Writer;
use samlora::weights::source::{Dtype, TensorInfo, open};

#[test]
fn bench_prints_its_numbers() {
    let report = json(&["bench", "--backbone", "tiny", "--size", "96", "--runs", "2", "--json"]);
    assert_eq!((&report["backbone"], &report["size"]), (&"tiny".into(), &96.into()));
    for stage in ["encoder_ms", "decoder_ms", "tile_ms"] {
        for number in ["cold", "median", "min"] {
            assert!(report[stage][number].as_f64().unwrap() > 0.0, "{stage} {number}");
        }
    }
}

#[test]
fn the_demo_segments_its_own_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    succeeds(&["demo", "--out", &at("demo")]);
    let report = json(&["inspect", "--json", &at("demo/package")]);
    assert!(report["manifest"]["metrics"]["mean_iou"].as_f64().unwrap() > 0.8, "{}", report["manifest"]["metrics"]);
    assert!(report["weight_bytes"].as_u64().unwrap() <= 11_000_000, "a page takes at most 11 MB");
    let package = at("demo/package");
    let found =
        json(&["segment", "--model", &package, &at("demo/samples/scene-201.png"), "--out", &at("out"), "--json"]);
    let classes = found["classes"].as_array().unwrap();
    assert_eq!(classes.len(), 5);
    assert!(classes.iter().all(|class| class["share"].as_f64().unwrap() > 0.01), "every class is in the picture");
}

/// SAMed's files number their factors; one that is missing would otherwise go unseen.
#[test]
fn numbered_adapters_must_be_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = open(fixtures().join("s96_k6_lora.safetensors")).unwrap();
    for missing in ["_002", "_007"] {
        let path = folder.path().join(format!("without{missing}.safetensors"));
        let kept: Vec<TensorInfo> = whole.tensors().iter().filter(|t| !t.name.ends_with(missing)).cloned().collect();
        let kept: Vec<TensorInfo> = kept.into_iter().map(|t| TensorInfo { dtype: Dtype::F32, ..t }).collect();
        let mut writer = Writer::new(fs::File::create(&path).unwrap(), &kept, &Default::default()).unwrap();
        for tensor in &kept {
            let values = whole.read_f32(&tensor.name).unwrap();
            writer.tensor(&tensor.name, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        }
        writer.finish().unwrap();
        let (base, out) = (fixture("tiny_sam.pth"), folder.path().join("package").display().to_string());
        let error = fails(
            &["export", "--base", &base, "--adapter", &path.display().to_string(), "--out", &out],
            &["is missing from the adapter", &format!("w_a{missing}")],
        );
        assert!(error.contains("without"), "{error}");
    }
}
