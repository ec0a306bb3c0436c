//! The plain light ViT, which was offered as `vit_t`: its name is refused with what to use, and what was made with it goes on working.
#![cfg(all(feature = "train", feature = "cli"))]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::Path;

use common::command::{fails, json, succeeds};
use common::lab::{Lab, bits};
use common::{load, manifest, picture};
use samlora::config::SamConfig;
use samlora::engine::SegmentOptions;
use samlora::weights::export::write;
use samlora::weights::layout;
use samlora::weights::manifest::{Kind, MANIFEST_FILE};
use samlora::weights::quantize::Scheme;
use serde_json::{Value, json as value};

/// `architecture` of a package that an earlier version wrote.
fn architecture() -> SamConfig {
    serde_json::from_value(value!({
        "embed_dim": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768, "global_attn_indexes": [2, 5, 8, 11], "window_size": 8,
        "patch_size": 16, "in_chans": 3, "out_chans": 256, "pretrained_size": 384, "decoder_depth": 2, "decoder_heads": 8,
        "decoder_mlp": 512, "attention_downsample": 2, "iou_depth": 3, "iou_hidden": 256, "mask_in_chans": 16, "mask_tokens": 3
    }))
    .unwrap()
}

/// A package as an earlier version wrote it, with the old name of the backbone.
fn old_package(out: &Path) {
    let config = architecture();
    let shapes: std::collections::BTreeMap<_, _> = layout::tensors(&config).into_iter().collect();
    let read = |name: &str| Ok(layout::random(name, &shapes[name], 7));
    write(manifest(&config, Kind::Merged, Scheme::Q8, 128), layout::tensors(&config), read, out, |_, _| ()).unwrap();
    edit(&out.join(MANIFEST_FILE), |manifest| manifest["backbone"] = "vit_t".into());
}

fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    change(&mut json);
    fs::write(file, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

#[test]
fn the_old_name_is_refused_with_those_to_use() {
    let lab = Lab::new();
    for name in ["vit_t", "light_vit"] {
        fails(&["bench", "--backbone", name, "--size", "64"], &[name, "lite0", "mobile_sam", "still load"]);
        fails(&lab.train(&lab.path("run"), &["--backbone", name]).as_args(), &[name, "lite0", "mobile_sam"]);
    }
    assert!(!Path::new(&lab.path("run")).exists());
    assert!(!fails(&["bench", "--backbone", "vit_x"], &["vit_b", "lite0"]).contains("light_vit"), "it is not offered");
}

#[test]
fn old_packages_segment_and_train_on() {
    let lab = Lab::new();
    let (package, run, whole) = (lab.path("package"), lab.path("run"), lab.path("whole"));
    old_package(Path::new(&package));
    let segmenter = load(Path::new(&package)).unwrap();
    let found = pollster::block_on(segmenter.segment(&picture(), &SegmentOptions::default())).unwrap();
    assert_eq!(found.mask.classes.len(), 1024 * 1024);
    assert_eq!(json(&["inspect", "--json", &package])["backbone"], "vit_t", "as it was named");

    // Beside it an adapter, and the whole model trained on: then the file is recognized by its shapes.
    for (out, options) in [(&run, &[][..]), (&whole, &["--unfreeze"])] {
        let options = [&["--base", &package, "--epochs", "1", "--crops", "2"][..], options].concat();
        succeeds(&lab.train(out, &options).as_args());
    }
    let checkpoint = json(&["inspect", "--json", &format!("{whole}/model.safetensors")]);
    assert_eq!(checkpoint["backbone"], "light_vit");
    assert_eq!(checkpoint["architecture"], serde_json::to_value(architecture()).unwrap());
    for (run, name) in [(&run, "adapted"), (&whole, "again")] {
        let out = lab.path(name);
        succeeds(&["export", "--run", run, "--scheme", "q8", "--out", &out]);
        assert_eq!(json(&["inspect", "--json", &out])["manifest"]["architecture"], checkpoint["architecture"]);
    }
}

/// The name that a run from random weights was started with is not asked for again.
#[test]
fn old_runs_go_on() {
    let lab = Lab::new();
    let (run, old) = (lab.path("run"), lab.path("old"));
    for out in [&run, &old] {
        succeeds(&lab.train(out, &["--backbone", "tiny", "--epochs", "2"]).as_args());
    }
    edit(&Path::new(&old).join("run.json"), |info| {
        assert_eq!(info["settings"]["backbone"], "tiny");
        info["settings"]["backbone"] = "vit_t".into();
    });
    // The checkpoint knows its run: from its beginning, therefore.
    for file in Path::new(&old).join("checkpoint").read_dir().unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    fs::remove_file(Path::new(&old).join("model.safetensors")).unwrap();
    succeeds(&["train", "--out", &old, "--resume", "--threads", "1"]);
    let [a, b] = [run, old].map(|run| bits(&format!("{run}/model.safetensors")));
    assert!(!a.is_empty() && a == b);
}
