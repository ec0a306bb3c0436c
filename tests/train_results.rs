//! What training leaves: packages that compute what the run measured, frozen weights as they were, any number of bands; and
//! that every way of training trains.
#![cfg(all(feature = "train", feature = "cli"))]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::command::{fails, json, succeeds};
use common::lab::{Lab, log, rectangles, tensors};
use common::tiff_files::{one_strip, write_tiff};
use samlora::random::SplitMix;
use samlora::weights::folder::Folder;
use samlora::weights::package::{read_manifest, read_tensors};
use serde_json::Value;

fn run_json(run: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("{run}/run.json")).unwrap()).unwrap()
}

/// Every figure that `export` or a run keeps is the one that `evaluate` finds.
#[track_caller]
fn same_figures(kept: &Value, evaluated: &Value, classes: &[&str]) {
    let metrics = &evaluated["metrics"];
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    for name in ["accuracy", "mean_iou", "mean_iou_foreground"] {
        found.extend(metrics[name].as_f64().map(|v| (name.to_owned(), v)));
    }
    for (class, of_class) in classes.iter().zip(metrics["classes"].as_array().unwrap()) {
        found.extend(of_class["iou"].as_f64().map(|v| (format!("iou_{class}"), v)));
    }
    let quality = &evaluated["quality"];
    for (name, figure) in [
        ("mean_boundary_iou_foreground", &quality["all"]["means"]["boundary_iou"]),
        ("mean_object_f1_foreground", &quality["all"]["means"]["object_f1"]),
        ("calibration_error", &quality["calibration_error"]),
    ] {
        found.extend(figure.as_f64().map(|v| (name.to_owned(), v)));
    }
    let kept: BTreeMap<String, f64> =
        kept.as_object().unwrap().iter().map(|(name, v)| (name.clone(), v.as_f64().unwrap())).collect();
    assert!(kept.keys().eq(found.keys()), "{kept:?} {found:?}");
    assert!(kept.iter().all(|(name, v)| (v - found[name]).abs() < 1e-9), "{kept:?} {found:?}");
}

fn manifest(package: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("{package}/samlora.json")).unwrap()).unwrap()
}

/// The tensors of a merged package.
fn package_tensors(package: &str) -> BTreeMap<String, Vec<f32>> {
    let folder = Folder::open(Path::new(package)).unwrap();
    let manifest = pollster::block_on(read_manifest(&folder)).unwrap();
    let mut found = BTreeMap::new();
    let keep = |name: &str, _: &[usize], values: Vec<f32>| {
        found.insert(name.to_owned(), values);
        Ok(())
    };
    pollster::block_on(read_tensors(&folder, &manifest, keep, |_| ())).unwrap();
    found
}

const CLASSES: [&str; 3] = ["ground", "roof", "road"];

#[test]
fn packages_carry_the_figures_that_evaluation_finds() {
    let lab = Lab::new();
    let (base, run) = (lab.base(), lab.path("run"));
    let settings =
        ["--base", &base, "--epochs", "3", "--alpha", "6", "--dropout", "0.1", "--decoder", "lora", "--lr", "1e-2"];
    succeeds(&lab.train(&run, &settings).as_args());
    let evaluate = |model: &str, more: &[&str]| {
        json(&[&["evaluate", "--run", &run, "--model", model, "--json", "--threads", "1"], more].concat())
    };
    for scheme in ["f32", "q8"] {
        let package = lab.path(scheme);
        let out = json(&["export", "--run", &run, "--scheme", scheme, "--out", &package, "--json"]);
        let found = evaluate(&package, &[]);
        assert_eq!(found["chips"], run_json(&run)["split"]["valid"].as_array().unwrap().len());
        same_figures(&manifest(&package)["metrics"], &found, &CLASSES);
        same_figures(&out["metrics"], &found, &CLASSES);
        if scheme == "f32" {
            same_figures(&run_json(&run)["metrics"], &found, &CLASSES);
        }
    }
    // What was frozen is as it was: all of the encoder but q and v.
    let (before, after) = (tensors(&format!("{base}/model.safetensors")), package_tensors(&lab.path("f32")));
    assert!(before.keys().eq(after.keys()));
    for (name, values) in before.iter().filter(|(name, _)| name.starts_with("image_encoder.")) {
        let now = &after[name];
        if !name.ends_with("attn.qkv.weight") {
            assert!(values == now, "{name} was frozen");
            continue;
        }
        let third = values.len() / 3;
        let [q, k, v] = [0, 1, 2].map(|i| values[i * third..(i + 1) * third] == now[i * third..(i + 1) * third]);
        assert!(!q && k && !v, "{name}: equal {q} {k} {v}");
    }
    assert!(before["mask_decoder.mask_tokens.weight"] != after["mask_decoder.mask_tokens.weight"]);

    // The adapter alone, on a package of the base.
    let (shared, adapter) = (lab.path("shared"), lab.path("adapter"));
    let model = format!("{base}/model.safetensors");
    assert_eq!(json(&["export", "--base", &model, "--scheme", "f32", "--out", &shared, "--json"])["kind"], "base");
    let out = ["export", "--run", &run, "--base-package", &shared, "--scheme", "f32", "--out", &adapter, "--json"];
    assert_eq!(json(&out)["kind"], "adapter");
    let found = evaluate(&adapter, &["--base", &shared]);
    same_figures(&manifest(&adapter)["metrics"], &found, &CLASSES);
    same_figures(&run_json(&run)["metrics"], &found, &CLASSES);
    fails(&["evaluate", "--run", &run, "--model", &adapter], &["adapter", "base"]);
    fails(&["evaluate", "--run", &run, "--model", &shared], &["no class", "roof"]);

    // Not for a base of other weights, and not of a run that trained the encoder.
    let (file, other) = (lab.path("other.safetensors"), lab.path("other"));
    fs::write(&file, lab.another_base()).unwrap();
    succeeds(&["export", "--base", &file, "--scheme", "f32", "--out", &other]);
    let wrong = ["export", "--run", &run, "--base-package", &other, "--out", &lab.path("wrong")];
    fails(&wrong, &["other", "other weights"]);
    fails(&["export", "--run", &base, "--base-package", &shared, "--out", &lab.path("wrong")], &["base"]);
    fails(
        &["export", "--run", &run, "--base-package", &lab.path("f32"), "--out", &lab.path("wrong")],
        &["base package"],
    );
    assert!(!Path::new(&lab.path("wrong")).exists());
    fails(&["export", "--run", &lab.path("data"), "--out", &lab.path("wrong")], &["data", "run.json"]);

    // A class that the model does not have.
    let package = lab.path("f32");
    let classes = lab.path("data/classes.json");
    fs::write(&classes, r#"{"classes": ["ground", "roof", "river"]}"#).unwrap();
    fails(&["evaluate", "--model", &package, "--data", &lab.path("data")], &["river", "roof", "road"]);
    let kept = ["evaluate", "--model", &package, "--data", &lab.path("data"), "--keep", "roof", "--json"];
    assert_eq!(json(&kept)["chips"], 8);
    fails(&["evaluate", "--model", &package, "--data", &lab.path("nowhere")], &["nowhere"]);
}

#[test]
fn runs_are_calibrated_and_thresholds_give_what_was_wished() {
    let lab = Lab::of(16, 64);
    let (run, plain) = (lab.path("run"), lab.path("plain"));
    let out = json(&lab.train(&run, &["--backbone", "tiny", "--epochs", "12", "--lr", "2e-3", "--json"]).as_args());
    let found = &run_json(&run)["calibration"];
    assert_eq!(out["calibration"]["log_loss"], found["log_loss"]);
    let before_and_after = |name: &str| [0, 1].map(|i| found[name][i].as_f64().unwrap());
    let [before, after] = before_and_after("log_loss");
    assert!(after <= before && found["calibration"]["temperature"].as_f64().unwrap() > 0.0, "{found}");
    let report = fs::read_to_string(format!("{run}/report.html")).unwrap();
    assert!(report.contains("Reliability") && report.contains("Thresholds of roof") && report.contains("Quartiles"));

    // The package carries it, and what is measured is calibrated.
    let exported = json(&["export", "--run", &run, "--scheme", "f32", "--out", &plain, "--json"]);
    assert_eq!(manifest(&plain)["calibration"], found["calibration"]);
    let temperature = |of: &Value| of["calibration"]["temperature"].as_f64().unwrap();
    assert!((temperature(&exported) - temperature(found)).abs() < 1e-6, "{exported}");
    let evaluate = |model: &str| {
        json(&["evaluate", "--run", &run, "--model", model, "--split", "valid", "--json", "--threads", "1"])
    };
    let measured = evaluate(&plain);
    let error = measured["quality"]["calibration_error"].as_f64().unwrap();
    let [_, fitted] = before_and_after("calibration_error");
    assert!((error - fitted).abs() < 1e-3, "{error} was {fitted} when it was fitted");
    let images = measured["quality"]["images"].as_array().unwrap();
    assert_eq!(images.len(), measured["chips"].as_u64().unwrap() as usize);
    let iou = |image: &Value| image["iou"].as_f64().unwrap_or(1.0);
    assert!(images.is_sorted_by(|a, b| iou(a) <= iou(b)), "the worst first: {images:?}");

    // What no threshold gives is said before anything is written; what one gives is what the package then has.
    let figure = |found: &Value, class: usize, name: &str| found["metrics"]["classes"][class][name].as_f64();
    let recall = |class: usize| figure(&measured, class, "recall").unwrap_or(0.0);
    let class = if recall(1) > recall(2) { 1 } else { 2 };
    let roof = |found: &Value, name: &str| figure(found, class, name).unwrap();
    let (name, most) = (CLASSES[class], recall(class));
    println!("{name}: recall {most}, precision {}", roof(&measured, "precision"));
    assert!(most > 0.2 && most < 1.0, "{name} is found, and not all of it: {most}");
    let (wished, strict) = (lab.path("wished"), lab.path("strict"));
    let export = |out: &str, wish: &str| {
        ["export", "--run", &run, "--scheme", "f32", "--out", out, "--json", "--threshold-for", wish].map(str::to_owned)
    };
    let args = export(&wished, &format!("{name}=recall:{}", (most + 1.0) / 2.0));
    fails(&args.each_ref().map(String::as_str), &[name, "recall of", "at most"]);
    fails(&["export", "--run", &run, "--out", &wished, "--threshold-for", "river=best-f1"], &["river", "roof, road"]);
    assert!(!Path::new(&wished).exists());
    json(&export(&wished, &format!("{name}=best-f1")).each_ref().map(String::as_str));
    let best = evaluate(&wished);
    assert!(roof(&best, "f1") >= roof(&measured, "f1"), "{} {}", roof(&best, "f1"), roof(&measured, "f1"));
    let threshold = manifest(&wished)["classes"][class]["threshold"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&threshold), "{threshold}");
    same_figures(&manifest(&wished)["metrics"], &best, &CLASSES);
    assert_eq!(best["quality"]["calibration_error"], measured["quality"]["calibration_error"], "before thresholds");
    // Half the recall, for more precision if there is any to be had.
    json(&export(&strict, &format!("{name}=recall:{}", most / 2.0)).each_ref().map(String::as_str));
    let strict = evaluate(&strict);
    assert!(roof(&strict, "recall") >= most / 2.0 - 1e-9, "{} of {most}", roof(&strict, "recall"));
    assert!(roof(&strict, "precision") >= roof(&measured, "precision"));
}

#[test]
fn blocks_computed_again_learn_the_same() {
    let lab = Lab::new();
    let base = lab.base();
    let lora = ["--base", &base, "--dropout", "0.3", "--targets", "q,k,v,proj,lin1,lin2"];
    let whole = ["--base", &base, "--unfreeze", "--layer-decay", "0.8"];
    for (name, settings) in [("lora", &lora[..]), ("whole", &whole)] {
        let [plain, again] = ["plain", "again"].map(|kind| lab.path(&format!("{name}-{kind}")));
        let settings = [settings, &["--epochs", "3", "--crops", "2"]].concat();
        succeeds(&lab.train(&plain, &settings).as_args());
        succeeds(&lab.train(&again, &[&settings[..], &["--recompute"]].concat()).as_args());
        let curves = [&plain, &again].map(|run| log(run));
        for (a, b) in curves[0].iter().zip(&curves[1]) {
            for loss in ["train_loss", "valid_loss"] {
                let (a, b) = (a[loss].as_f64().unwrap(), b[loss].as_f64().unwrap());
                assert!((a - b).abs() <= 1e-4 * a.abs(), "{name} {loss}: {a} {b}");
            }
        }
        assert_eq!(curves.map(|c| c.len()), [3, 3]);
    }
    // Dropout takes part from the first block on, whose input learns nothing.
    let [with, without] = ["with", "without"].map(|name| lab.path(name));
    let settings = ["--base", &base, "--epochs", "1", "--lr", "1e-2"];
    succeeds(&lab.train(&with, &[&settings[..], &["--dropout", "0.9"]].concat()).as_args());
    succeeds(&lab.train(&without, &settings).as_args());
    assert_ne!(log(&with)[0]["valid_loss"], log(&without)[0]["valid_loss"]);
}

/// Chips of five bands of 16 bits; the classes are told by the last two.
fn five_bands(lab: &Lab) -> String {
    let data = lab.path("five");
    let folder = Path::new(&data);
    for i in 0..8 {
        let labels = rectangles(i, 64);
        let mut random = SplitMix(i);
        let mut value = |label: u8, band: u16| {
            let noise = (random.next_u64() % 300) as u16;
            1000 * band + noise + if band >= 3 { 4000 * u16::from(label) } else { 0 }
        };
        let samples: Vec<u16> = labels.iter().flat_map(|l| [0, 1, 2, 3, 4].map(|band| value(*l, band))).collect();
        let bytes: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
        write_tiff(folder, &format!("images/c{i}.tif"), &bytes, &one_strip(64, 64, 5, 16, 1));
        write_tiff(folder, &format!("masks/c{i}.tif"), &labels, &one_strip(64, 64, 1, 8, 1));
    }
    fs::write(folder.join("classes.json"), r#"{"classes": ["ground", "roof", "road"]}"#).unwrap();
    data
}

#[test]
fn five_bands_train_from_nothing_and_from_three() {
    let lab = Lab::new();
    let (data, base) = (five_bands(&lab), lab.base());
    let fresh = ["--backbone", "tiny", "--epochs", "2"];
    let adapted = ["--base", &base, "--epochs", "2"];
    for (name, settings) in [("fresh", fresh), ("adapted", adapted)] {
        let (run, package) = (lab.path(name), lab.path(&format!("{name}-package")));
        succeeds(&lab.train_on(&data, &run, &settings).as_args());
        let info = run_json(&run);
        assert_eq!(info["settings"]["trained"]["patch_embed"], true);
        succeeds(&["export", "--run", &run, "--scheme", "f32", "--out", &package]);
        let found = json(&["evaluate", "--run", &run, "--model", &package, "--json"]);
        same_figures(&info["metrics"], &found, &CLASSES);
        let manifest = manifest(&package);
        assert_eq!(manifest["architecture"]["in_chans"], 5);
        for part in ["mean", "std"] {
            let values = manifest["normalization"][part].as_array().unwrap();
            assert_eq!(values.len(), 5, "{part}");
            assert!(values.iter().all(|v| v.as_f64().unwrap() > 0.0), "{values:?}");
        }
        // Goes on from where it was, and refuses pictures of three bands.
        succeeds(&["train", "--out", &run, "--resume", "--threads", "1"]);
        fails(&["evaluate", "--model", &package, "--data", &lab.path("data")], &["band"]);
        fails(&["export", "--run", &run, "--base-package", &package, "--out", &lab.path("no")], &["package"]);
    }
    let [bands, three] = ["adapted-package", "base"].map(|name| lab.path(name));
    let weight = "image_encoder.patch_embed.proj.weight";
    let (five, three) = (package_tensors(&bands), tensors(&format!("{three}/model.safetensors")));
    assert_eq!(five[weight].len() * 3, three[weight].len() * 5);
}

#[test]
fn lr_find_suggests_a_rate() {
    let lab = Lab::new();
    let (data, plot) = (lab.path("data"), lab.path("plot.svg"));
    let common =
        ["lr-find", "--data", &data, "--size", "64", "--batch-size", "2", "--split", "random", "--threads", "1"];
    let with =
        |more: &[&str]| [&common[..], &["--backbone", "tiny"], more].concat().into_iter().map(str::to_owned).collect();
    let find = |more: &[&str]| -> Vec<String> { with(more) };
    let args = find(&["--steps", "60", "--json", "--plot", &plot]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let found = json(&args);
    let rate = found["suggestion"].as_f64().unwrap();
    assert!((1e-6..=1.0).contains(&rate), "{rate}");
    let [points, smoothed] = ["points", "smoothed"].map(|name| found[name].as_array().unwrap().len());
    assert!(points == smoothed && (10..=60).contains(&points), "{points} {smoothed}");
    assert_eq!(json(&args), found, "twice the same");
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for (more, words) in [
        (&["--steps", "9"][..], &["--steps", "10"][..]),
        (&["--batch-size=0"], &["--batch-size"]),
        (&["--plot", "/nowhere/plot.svg", "--steps", "10"], &["/nowhere/plot.svg"]),
    ] {
        let args: Vec<String> = find(more).into_iter().collect();
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        if more[0] == "--batch-size=0" {
            let at = args.iter().position(|a| *a == "--batch-size").unwrap();
            args.drain(at..at + 2);
        }
        fails(&args, words);
    }
}

#[test]
fn every_way_of_training_trains() {
    let lab = Lab::new();
    let base = lab.base();
    let learning = |name: &str, options: &[&str], start: &[&str]| {
        let run = lab.path(name);
        succeeds(&lab.train(&run, &[start, &["--epochs", "2"], options].concat()).as_args());
        let log = log(&run);
        assert!(log.iter().all(|e| e["train_loss"].is_f64() && e["valid_loss"].is_f64()), "{name}: {log:?}");
        for file in ["adapter", "model"] {
            let file = format!("{run}/{file}.safetensors");
            if Path::new(&file).exists() {
                assert!(tensors(&file).values().flatten().all(|v| v.is_finite()), "{name}");
            }
        }
        run_json(&run)["learning_parameters"].as_u64().unwrap()
    };
    let (lora, fresh) = (["--base", &base], ["--backbone", "tiny"]);
    let full = learning("full", &[], &lora);
    let counts = ["lora", "heads", "frozen"].map(|kind| learning(kind, &["--decoder", kind], &lora));
    assert!(full > counts[0] && counts[0] > counts[1] && counts[1] > counts[2] && counts[2] > 0, "{full} {counts:?}");
    assert!(learning("unfrozen", &["--unfreeze", "--layer-decay", "0.8"], &lora) > full);
    assert!(learning("more", &["--rank", "8", "--alpha", "16", "--targets", "q,k,v,proj,lin1,lin2"], &lora) > full);
    learning("focal", &["--focal", "2", "--balance"], &fresh);
    learning("over-image", &["--dice-over", "image", "--dice", "1", "--cross-entropy", "0"], &fresh);
    learning("over-batch", &["--dice-over", "batch", "--no-augment"], &fresh);
    learning("cosine", &["--schedule", "cosine", "--weight-decay", "0", "--clip", "0"], &fresh);
    learning("polynomial", &["--schedule", "polynomial", "--scale", "1,1", "--accumulate", "5"], &fresh);
    learning("recomputed", &["--recompute", "--decoder", "lora", "--dropout", "0.5"], &lora);
    // Two classes where the data has three, and one that the labels ignore.
    learning("kept", &["--keep", "roof"], &fresh);
    learning("ignored", &["--ignore", "2"], &fresh);
    // The class heads of a package are kept for data of the same classes.
    let package = lab.path("package");
    succeeds(&["export", "--run", &lab.path("full"), "--scheme", "f32", "--out", &package]);
    learning("package", &[], &["--base", &package, "--decoder", "heads"]);
}
