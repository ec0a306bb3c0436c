//! Training under adversity, through the command: killed and resumed, with changed data, full disks, diverging losses.
#![cfg(all(feature = "train", feature = "cli"))]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::command::{fails, json, succeeds, text};
use common::lab::{Lab, bits, log, tensors};
use common::listing;
use serde_json::Value;

/// Starts a run and kills it after `patience`, or once it is seen writing a checkpoint. Whether it was killed before its end.
fn kill(args: &[String], run: &str, patience: Option<Duration>) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_samlora"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let folder = Path::new(run).join("checkpoint");
    let writing = || {
        let mut names = folder.read_dir().ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
        names.find(|name| name.ends_with(".part"))
    };
    loop {
        let now = match patience {
            Some(patience) => began.elapsed() >= patience,
            // What a former kill left is swept when the run goes on.
            None => began.elapsed() > Duration::from_millis(60) && writing().is_some(),
        };
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if now {
            child.kill().unwrap();
            return child.wait().unwrap().code().is_none();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Stops a run with SIGTERM after `epochs` more epochs: it must leave a checkpoint and say how to go on.
fn stop(args: &[String], epochs: usize) -> bool {
    let mut child: Child = Command::new(env!("CARGO_BIN_EXE_samlora"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let seen = lines.by_ref().filter(|line| line.starts_with("epoch ")).take(epochs).count();
    if seen == epochs {
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    }
    let rest: Vec<String> = lines.collect();
    match child.wait().unwrap().code() {
        Some(0) => false,
        code => {
            let last = rest.last().unwrap();
            assert_eq!(code, Some(1), "{rest:?}");
            assert!(last.contains("stopped") && last.contains("--resume"), "{last}");
            true
        }
    }
}

/// Kills a run at many moments, stops it at some, and lets it end; all of it must be what the run would have been.
fn interrupted(lab: &Lab, name: &str, settings: &[&str]) {
    let (whole, broken) = (lab.path(&format!("{name}-whole")), lab.path(&format!("{name}-broken")));
    let began = Instant::now();
    let outcome = json(&lab.train(&whole, &[settings, &["--json"]].concat()).as_args());
    let time = began.elapsed();
    let start = lab.train(&broken, settings);
    let resume = ["train", "--out", &broken, "--resume", "--threads", "1"].map(str::to_owned).to_vec();
    let (mut kills, mut stops) = (0, 0);
    for attempt in 0..14 {
        let args = if Path::new(&broken).join("run.json").exists() { &resume } else { &start.0 };
        match attempt % 4 {
            0 => kills += usize::from(kill(args, &broken, None)),
            1 => stops += usize::from(stop(args, 1)),
            part => {
                kills += usize::from(kill(args, &broken, Some(time.mul_f64(0.04 * (attempt * part) as f64 / 10.0))))
            }
        }
    }
    let again = json(&["train", "--out", &broken, "--resume", "--threads", "1", "--json"]);
    println!("{name}: {kills} kills, {stops} stops, {time:.1?}");
    assert!(kills >= 4 && stops >= 1, "{kills} kills, {stops} stops: the run is too short");
    for key in ["best_epoch", "stopped_early", "metrics"] {
        assert_eq!(outcome[key], again[key], "{key}");
    }
    assert_eq!(outcome["budget"]["images"], again["budget"]["images"]);
    let files = listing(Path::new(&whole));
    assert_eq!(files, listing(Path::new(&broken)), "nothing is left behind");
    assert_eq!(listing(&Path::new(&broken).join("checkpoint")), ["best.safetensors", "last.safetensors"]);
    let model = files.iter().find(|f| f.ends_with(".safetensors")).unwrap();
    for file in ["checkpoint/best.safetensors", "checkpoint/last.safetensors", model] {
        let [a, b] = [&whole, &broken].map(|run| bits(&format!("{run}/{file}")));
        assert!(!a.is_empty() && a.keys().eq(b.keys()), "{file}");
        let differing: Vec<_> = a.iter().filter(|(name, values)| b[*name] != **values).map(|(name, _)| name).collect();
        assert!(differing.is_empty(), "{file}: {} of {} differ: {differing:?}", differing.len(), a.len());
    }
    assert_eq!(log(&whole), log(&broken));
}

#[test]
fn a_run_that_was_killed_goes_on_as_if_it_had_not_been() {
    let lab = Lab::new();
    interrupted(&lab, "fresh", &["--backbone", "tiny", "--epochs", "14", "--lr", "1.2589254117941673e-3"]);
}

#[test]
fn dropout_and_accumulation_go_on_as_if_nothing_had_been() {
    let lab = Lab::new();
    let base = lab.base();
    let own = ["--dropout", "0.1", "--accumulate", "3", "--decoder", "lora", "--validate-every", "2", "--crops", "4"];
    interrupted(&lab, "lora", &[&["--base", &base, "--epochs", "8"][..], &own].concat());
    let patience = ["--patience", "2", "--recompute", "--dropout", "0.2", "--schedule", "constant", "--lr", "1e-2"];
    interrupted(&lab, "patient", &[&["--base", &base, "--epochs", "40", "--crops", "3"][..], &patience].concat());
}

/// With a teacher whose embedding is wider, so that a projection learns too, unlabelled images and a moving average.
#[test]
fn a_taught_run_goes_on_as_if_nothing_had_been() {
    let lab = Lab::new();
    let (base, wide, package) = (lab.base(), lab.path("wide"), lab.path("package"));
    succeeds(&lab.train(&wide, &["--backbone", "lite0", "--epochs", "1"]).as_args());
    succeeds(&["export", "--run", &wide, "--scheme", "f32", "--out", &package]);
    let images = lab.path("more");
    fs::create_dir_all(&images).unwrap();
    image::RgbImage::from_fn(96, 80, |x, y| image::Rgb([x as u8, y as u8, 90]))
        .save(format!("{images}/u.png"))
        .unwrap();
    let taught = ["--teacher", &package, "--teacher-features", "0.5", "--teacher-temperature", "2", "--ema", "0.9"];
    let more = ["--unlabelled", &images, "--unlabelled-share", "0.25", "--dropout", "0.1", "--recompute"];
    interrupted(&lab, "taught", &[&["--base", &base, "--epochs", "6", "--crops", "3"][..], &taught, &more].concat());
    let last = tensors(&lab.path("taught-whole/checkpoint/last.safetensors"));
    for part in ["teacher.projection.weight.moment_2", "mask_decoder.mask_tokens.weight.average"] {
        assert!(last.contains_key(part), "{part}");
    }
    // What is saved is the average.
    let model = tensors(&lab.path("taught-whole/adapter.safetensors"));
    assert!(!model.keys().any(|name| name.contains("teacher") || name.contains("average")));
}

#[test]
fn a_run_does_not_go_on_with_other_data_or_another_base() {
    let lab = Lab::new();
    let (base, run, other) = (lab.base(), lab.path("run"), lab.path("other"));
    let settings = ["--base", &base, "--epochs", "1"];
    succeeds(&lab.train(&run, &settings).as_args());
    let resume = ["train", "--out", &run, "--resume"];
    let export = ["export", "--run", &run, "--out", &lab.path("package")];
    let refused = |file: &str, content: Option<Vec<u8>>, words: &[&str]| {
        let kept = fs::read(file).unwrap();
        match content {
            Some(content) => fs::write(file, content).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let before = fs::read(format!("{run}/checkpoint/last.safetensors")).unwrap();
        fails(&resume, words);
        fails(&export, words);
        assert_eq!(fs::read(format!("{run}/checkpoint/last.safetensors")).unwrap(), before);
        fs::write(file, kept).unwrap();
    };
    let (mask, image) = (lab.path("data/masks/c3.png"), lab.path("data/images/c3.png"));
    let mut pixels = image::open(&mask).unwrap().to_luma8();
    pixels.put_pixel(5, 5, image::Luma([2]));
    let changed = lab.path("changed.png");
    pixels.save(&changed).unwrap();
    refused(&mask, Some(fs::read(&changed).unwrap()), &["the data have changed since the run began"]);
    refused(&mask, None, &["c3"]);
    refused(&mask, Some(b"not a picture".to_vec()), &["masks/c3.png"]);
    let classes = lab.path("data/classes.json");
    let renamed = fs::read_to_string(&classes).unwrap().replace("roof", "house");
    refused(&classes, Some(renamed.into()), &["the class list has changed since the run began"]);
    refused(&format!("{base}/model.safetensors"), Some(lab.another_base()), &["the base has changed"]);
    // A sample that is gone altogether is named.
    let kept = [&mask, &image].map(|file| (file, fs::read(file).unwrap()));
    kept.iter().for_each(|(file, _)| fs::remove_file(file).unwrap());
    fails(&resume, &["no sample", "c3"]);
    kept.iter().for_each(|(file, content)| fs::write(file, content).unwrap());

    // Another run's checkpoint, of the same tensors and of others.
    succeeds(&lab.train(&other, &[&settings[..], &["--lr", "2e-3"]].concat()).as_args());
    for name in ["last", "best"] {
        let words = ["another run", name];
        let file = format!("{run}/checkpoint/{name}.safetensors");
        let kept = fs::read(&file).unwrap();
        fs::copy(format!("{other}/checkpoint/{name}.safetensors"), &file).unwrap();
        fails(if name == "last" { &resume } else { &export }, &words);
        fs::write(&file, &kept[..kept.len() / 2]).unwrap();
        fails(if name == "last" { &resume } else { &export }, &[name]);
        fs::write(&file, kept).unwrap();
    }
    fs::copy(format!("{base}/model.safetensors"), format!("{run}/checkpoint/last.safetensors")).unwrap();
    fails(&resume, &["last.safetensors", "lora_a"]);

    // And no new run begins where one is, or was.
    fails(&lab.train(&other, &settings).as_args(), &["other", "holds a run already", "--resume"]);
    fs::remove_file(format!("{other}/run.json")).unwrap();
    fails(&lab.train(&other, &settings).as_args(), &["other", "holds a run already"]);
    fails(&["train", "--out", &other, "--resume"], &["run.json"]);
}

#[test]
fn what_cannot_be_trained_on_is_said_before_a_run_begins() {
    let lab = Lab::new();
    let run = lab.path("run");
    let refused = |options: &[&str], words: &[&str]| {
        fails(&lab.train(&run, &[&["--backbone", "tiny"], options].concat()).as_args(), words);
        assert!(!Path::new(&run).exists(), "{options:?} leaves a folder");
    };
    for (options, word) in [
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "18446744073709551615"], "--epochs"),
        (["--accumulate", "0"], "--accumulate"),
        (["--crops", "100000000000"], "--crops"),
        (["--patience", "0"], "--patience"),
        (["--validate-every", "0"], "--validate-every"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "0"], "--lr"),
        (["--clip", "nan"], "--clip"),
        (["--weight-decay", "nan"], "--weight-decay"),
        (["--weight-decay=-1", "--balance"], "--weight-decay"),
        (["--layer-decay", "inf"], "--layer-decay"),
        (["--cross-entropy", "nan"], "--cross-entropy"),
        (["--cross-entropy=0", "--dice=0"], "--dice"),
        (["--focal=-1", "--balance"], "--focal"),
        (["--valid-share", "1"], "--valid-share"),
        (["--dropout", "1"], "--dropout"),
        (["--scale", "1,inf"], "--scale"),
        (["--keep", "tree"], "--keep"),
        (["--bands", "4"], "--bands"),
    ] {
        refused(&options, &[word]);
    }
    let base = lab.base();
    fails(&lab.train(&run, &["--base", &base, "--rank", "100000000000"]).as_args(), &["--rank"]);
    fails(&lab.train(&run, &["--base", &base, "--targets", "q,w"]).as_args(), &["\"w\"", "lin1"]);
    fails(&lab.train(&run, &["--base", &lab.path("nowhere")]).as_args(), &["nowhere"]);
    fails(&lab.train(&run, &["--backbone", "vit_z"]).as_args(), &["vit_z"]);
    fails(&lab.train(&run, &["--epochs", "1"]).as_args(), &["--backbone"]);
    let mask = lab.path("data/masks/c2.png");
    image::GrayImage::from_pixel(64, 64, image::Luma([7])).save(&mask).unwrap();
    refused(&[], &["masks/c2.png", "label value 7 (4096 pixels)"]);
    fs::remove_file(&mask).unwrap();
    refused(&[], &["c2"]);
    fs::remove_file(lab.path("data/images/c2.png")).unwrap();
    fs::write(lab.path("data/masks/c4.png"), &fs::read(lab.path("data/masks/c4.png")).unwrap()[..60]).unwrap();
    refused(&[], &["c4"]);
}

/// Weight decay of more than 2 / rate turns and doubles the weights in each step, until they are infinite.
#[test]
fn a_loss_that_is_no_number_ends_a_run_and_keeps_the_last_good_checkpoint() {
    let lab = Lab::new();
    let (run, at_once) = (lab.path("run"), lab.path("at-once"));
    let wild = ["--backbone", "tiny", "--clip", "0", "--schedule", "constant", "--epochs", "60"];
    fails(
        &lab.train(&at_once, &[&wild[..], &["--lr", "1e6"]].concat()).as_args(),
        &["NaN", "no checkpoint yet", "--lr"],
    );
    let line = fails(
        &lab.train(&run, &[&wild[..], &["--weight-decay", "3500"]].concat()).as_args(),
        &["epoch ", "the last good checkpoint is kept", "last.safetensors", "--lr"],
    );
    let log = log(&run);
    println!("after {} epochs", log.len());
    assert!(!log.is_empty() && log.iter().all(|e| e["train_loss"].is_f64() && e["valid_loss"].is_f64()), "{log:?}");
    for name in ["last", "best"] {
        let stored = tensors(&format!("{run}/checkpoint/{name}.safetensors"));
        assert!(stored.values().flatten().all(|v| v.is_finite()), "{name}");
    }
    // It fails as it did, and the best weights so far are of use.
    assert_eq!(fails(&["train", "--out", &run, "--resume", "--threads", "1"], &[]), line);
    let package = lab.path("package");
    let exported = json(&["export", "--run", &run, "--scheme", "f32", "--out", &package, "--json"]);
    assert!(exported["metrics"]["accuracy"].is_f64());
}

/// A file system of this size in MB, unmounted when dropped.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(at: String, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).ok()?;
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &at]).output();
        done.is_ok_and(|o| o.status.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let done = Command::new("mount").args(["-o", "remount,size=64m", &self.0]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_keeps_the_earlier_checkpoint() {
    let lab = Lab::new();
    let settings = ["--backbone", "tiny", "--epochs", "3"];
    let whole = lab.path("whole");
    succeeds(&lab.train(&whole, &settings).as_args());
    let size = |name: &str| fs::metadata(format!("{whole}/checkpoint/{name}.safetensors")).unwrap().len();
    let (last, best) = (size("last"), size("best"));
    // No room at all for a checkpoint; for the first ones, but not for the second beside them.
    for (room, file) in [(best / 2, "best"), (2 * best + last + last / 2, "last")] {
        let Some(disk) = SmallDisk::mount(lab.path(&format!("disk-{file}")), &format!("size={room}")) else {
            println!("left out: a full disk, a small file system cannot be mounted here (needs root on Linux)");
            return;
        };
        let run = format!("{}/run", disk.0);
        fails(&lab.train(&run, &settings).as_args(), &[&format!("{file}.safetensors"), "space"]);
        let left = listing(&Path::new(&run).join("checkpoint"));
        println!("{file}: {left:?}");
        assert!(left.iter().all(|name| name == "last.safetensors" || name == "best.safetensors"), "{left:?}");
        assert_eq!(left.len(), if file == "best" { 0 } else { 2 });
        assert!(!Path::new(&run).join("model.safetensors").exists());
        fails(&["train", "--out", &run, "--resume", "--threads", "1"], &["space"]);
        disk.grow();
        succeeds(&["train", "--out", &run, "--resume", "--threads", "1"]);
        for name in ["checkpoint/last", "checkpoint/best", "model"] {
            assert!(
                bits(&format!("{run}/{name}.safetensors")) == bits(&format!("{whole}/{name}.safetensors")),
                "{name}"
            );
        }
        assert_eq!(log(&run), log(&whole));
    }
}

#[test]
fn one_chip_trains_with_a_warning() {
    let lab = Lab::of(1, 96);
    let run = lab.path("run");
    let output =
        common::command::samlora(&lab.train(&run, &["--backbone", "tiny", "--epochs", "2", "--json"]).as_args());
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("1 to train, 1 to validate"), "{said}");
    assert!(said.contains("one sample only"), "{said}");
    let info: Value = serde_json::from_slice(&fs::read(format!("{run}/run.json")).unwrap()).unwrap();
    assert_eq!(info["split"]["train"], info["split"]["valid"]);
    let report = fs::read_to_string(format!("{run}/report.html")).unwrap();
    assert!(report.contains("</html>") && report.contains("roof"));
}
