//! Learning from a teacher: packages and soft masks, with labels and without, and what is refused.
#![cfg(all(feature = "train", feature = "cli"))]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};
use common::chips::png;
use common::command::{fails, json, succeeds};
use common::lab::{Lab, log, rectangles};
use common::tiff_files::{one_strip, write_tiff};
use image::{GrayImage, ImageBuffer, Luma, Rgb};
use samlora::config::Normalization;
use samlora::engine::SegmentOptions;
use samlora::image::RgbImage;
use samlora::random::SplitMix;
use samlora::train::augment::{AugmentOptions, augment_with};
use samlora::train::batch::{BatchOptions, Lessons, Loader};
use samlora::train::dataset::{Dataset, DatasetOptions, IGNORE, Lesson, SoftMasks, Unlabelled, Wanted};
use samlora::train::loss::{TeacherWeights, upsample};
use samlora::train::teacher::{Student, Teacher};
use samlora::weights::quantize::Scheme;
use serde_json::Value;

/// A package of a model that has learnt the lab's data well.
fn teacher(lab: &Lab) -> String {
    let (run, package) = (lab.path("teacher-run"), lab.path("teacher"));
    let settings = ["--backbone", "tiny", "--epochs", "12", "--crops", "8", "--lr", "2e-3", "--seed", "5"];
    succeeds(&lab.train(&run, &settings).as_args());
    succeeds(&["export", "--run", &run, "--scheme", "f32", "--out", &package]);
    package
}

/// Images of the lab's make that it has not seen.
fn unlabelled(lab: &Lab, count: u64) -> String {
    let folder = lab.path("more");
    fs::create_dir_all(&folder).unwrap();
    for i in 100..100 + count {
        let mut random = SplitMix(i ^ 0xABCD);
        let labels = rectangles(i, 64);
        let image = image::RgbImage::from_fn(64, 64, |x, y| {
            let (label, noise) = (labels[(y * 64 + x) as usize], (random.next_u64() % 50) as u8);
            Rgb([60, 150, 100].map(|v: u8| v + noise).map(|v| if label == 0 { v / 2 } else { v + 20 * label }))
        });
        image.save(format!("{folder}/u{i}.png")).unwrap();
    }
    folder
}

/// The share of pixels that two packages give the same class.
fn agreement(a: &str, b: &str, images: &str) -> f64 {
    let [a, b] = [a, b].map(|package| common::load(Path::new(package)).unwrap());
    let (mut same, mut all) = (0, 0);
    for name in common::listing(Path::new(images)) {
        let picture = image::open(Path::new(images).join(name)).unwrap().to_rgb8();
        let picture = RgbImage::new(64, 64, picture.into_raw()).unwrap();
        let masks = [&a, &b].map(|s| pollster::block_on(s.segment(&picture, &SegmentOptions::default())).unwrap().mask);
        same += masks[0].classes.iter().zip(&masks[1].classes).filter(|(a, b)| a == b).count();
        all += masks[0].classes.len();
    }
    same as f64 / all as f64
}

#[test]
fn a_student_learns_from_unlabelled_images_alone() {
    let lab = Lab::new();
    let (teacher, images) = (teacher(&lab), unlabelled(&lab, 8));
    let measured = |name: &str, options: &[&str]| {
        let (run, package) = (lab.path(name), lab.path(&format!("{name}-package")));
        succeeds(&lab.train(&run, &[&["--backbone", "tiny"], options].concat()).as_args());
        succeeds(&["export", "--run", &run, "--scheme", "f32", "--out", &package]);
        (run, agreement(&teacher, &package, &images))
    };
    let alone = ["--teacher", &teacher, "--teacher-weight", "1", "--unlabelled", &images, "--unlabelled-share", "1"];
    let (_, before) = measured("short", &[&alone[..], &["--epochs", "1", "--lr", "1e-6"]].concat());
    let (run, after) = measured("long", &[&alone[..], &["--epochs", "12", "--crops", "8", "--lr", "2e-3"]].concat());
    let losses: Vec<f64> = log(&run).iter().map(|e| e["train_loss"].as_f64().unwrap()).collect();
    println!("agreement {before:.3} -> {after:.3}; losses {losses:.3?}");
    assert!(after > 0.9 && after > before + 0.05, "{before} {after}");
    assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{losses:?}");

    // What taught it is told by run, report and package.
    let info: Value = serde_json::from_slice(&fs::read(format!("{run}/run.json")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&fs::read(lab.path("long-package/samlora.json")).unwrap()).unwrap();
    let hash = info["teacher"]["sha256"].as_str().unwrap();
    assert_eq!(manifest["origin"]["teacher"]["sha256"], hash);
    assert_eq!(info["teacher"]["unlabelled"]["images"], 8);
    assert!(fs::read_to_string(format!("{run}/report.html")).unwrap().contains(hash));
    assert_eq!(info["settings"]["teacher"]["unlabelled_share"], 1.0);
}

/// Whatever the student's normalisation and its order of classes.
#[test]
fn a_teacher_says_what_its_package_says() {
    let lab = Lab::of(1, 64);
    let (case, size) = common::CASES[0];
    let path = PathBuf::from(lab.path("package"));
    let mut classes = common::merged(case, size, Scheme::F32, &path).classes;
    classes.swap(1, 4);
    let (mean, std) = (vec![10.0, 0.0, 0.0], vec![255.0, 100.0, 50.0]);
    let normalization = Normalization { mean: mean.clone(), std: std.clone() };
    let student = Student { classes: &classes, normalization: &normalization, metres_per_pixel: Some(0.3) };
    let weights = TeacherWeights { masks: 1.0, features: 1.0, temperature: 1.0 };
    let teacher = Teacher::open(&path, weights, student, &common::cpu()).unwrap();
    let segmenter = common::load(&path).unwrap();
    for (picture, _) in common::reference(case) {
        let plane = |band: usize| picture.pixels().chunks_exact(3).map(move |p| (f32::from(p[band]), band));
        let pixels = (0..3).flat_map(plane).map(|(v, band)| (v - mean[band]) / std[band]).collect();
        let images = Tensor::from_data(TensorData::new(pixels, [1, 3, size, size]), &common::cpu());
        let said = teacher.speak(images);
        let logits = pollster::block_on(segmenter.logits(&picture)).unwrap();
        let shape = [1, logits.classes, logits.height, logits.width];
        let logits = Tensor::<4>::from_data(TensorData::new(logits.values, shape), &common::cpu());
        let expected = softmax(upsample(logits, [size, size]), 1);
        let values =
            |x: Tensor<4>, class: usize| x.slice_dim(1, class..class + 1).into_data().try_to_vec::<f32>().unwrap();
        let found = said.probabilities.unwrap();
        for (ours, theirs) in [(0, 0), (1, 4), (2, 2), (4, 1), (5, 5)] {
            let error = common::relative(&values(found.clone(), ours), &values(expected.clone(), theirs));
            assert!(error < 1e-3, "class {ours}: {error:e}");
        }
        assert_eq!(said.embedding.unwrap().dims()[2..], [size / 16; 2]);
    }
}

/// Writes the labels of the lab's chips as soft masks, a band for each class but background, or for background as well.
fn hard_masks(lab: &Lab, folder: &str, count: u64) {
    for i in 0..count {
        let labels = rectangles(i, 64);
        let band = |class: u8| labels.iter().map(|l| if *l == class { 255 } else { 0 }).collect::<Vec<u8>>();
        png(&PathBuf::from(lab.path(folder)).join(format!("c{i}.png")), 64, 64, &[band(0), band(1), band(2)]);
    }
}

fn wanted(dataset: &Dataset) -> Vec<Wanted> {
    let one = |(index, s): (usize, &samlora::train::dataset::Sample)| Wanted {
        index,
        image: s.image.clone(),
        width: s.width,
        height: s.height,
    };
    dataset.samples.iter().enumerate().map(one).collect()
}

#[test]
fn soft_masks_lie_where_labels_lie() {
    let lab = Lab::new();
    hard_masks(&lab, "soft", 8);
    let dataset = Arc::new(Dataset::open(&[lab.path("data").into()], &DatasetOptions::default()).unwrap());
    let masks = SoftMasks::open(Path::new(&lab.path("soft")), &wanted(&dataset), 3).unwrap();
    // Whole pixels: the same to the last one, in crops larger than the chips too.
    let options = |augment: AugmentOptions, size: usize| BatchOptions {
        size,
        batch_size: 4,
        crops: 6,
        augment,
        normalization: dataset.statistics(&[0]).unwrap(),
        seed: 3,
        workers: 0,
        cache_bytes: 1 << 20,
    };
    let lessons = Arc::new(Lessons { masks: Some(masks), ..Lessons::default() });
    let turned = AugmentOptions { dihedral: true, ..AugmentOptions::none() };
    let mut silent = 0;
    for size in [48, 80] {
        let plain = Loader::new(dataset.clone(), (0..8).collect(), options(turned.clone(), size));
        let taught =
            Loader::taught(dataset.clone(), (0..8).collect(), Some(lessons.clone()), options(turned.clone(), size));
        for (plain, batch) in plain.epoch(1, 0).zip(taught.epoch(1, 0)) {
            let (plain, batch) = (plain.unwrap(), batch.unwrap());
            assert_eq!((&plain.images, &plain.labels), (&batch.images, &batch.labels));
            let lesson = batch.taught.unwrap();
            let plane = size * size;
            for (i, label) in batch.labels.iter().enumerate() {
                let at = |class: usize| lesson.probabilities[(i / plane * 3 + class) * plane + i % plane];
                let expected = |class: usize| if usize::from(*label) == class { 1.0 } else { 0.0 };
                assert_eq!([at(0), at(1), at(2)], [expected(0), expected(1), expected(2)]);
                assert_eq!(lesson.speaks[i], if *label == IGNORE { 0.0 } else { 1.0 });
                silent += usize::from(*label == IGNORE);
            }
        }
    }
    assert!(silent > 0);
    // Scaled and turned: wherever the soft mask is sure, the labels agree.
    let sampled = AugmentOptions { scale_chance: 1.0, rotate_chance: 1.0, rotate: 45.0, ..turned };
    let (mut sure, mut all) = (0, 0);
    for i in 0..8 {
        let (chip, silence) = dataset.read_with_silence(i).unwrap();
        let lesson = Lesson::Mask(lessons.masks.as_ref().unwrap().read(i, &silence).unwrap());
        for seed in 0..20 {
            let (crop, lesson) = augment_with(&chip, Some(&lesson), 48, &sampled, &mut SplitMix(seed));
            let mut found = vec![0.0; 3 * 48 * 48];
            let lesson = lesson.unwrap();
            lesson.probabilities(3, &mut found);
            for (at, label) in crop.labels.iter().enumerate() {
                assert_eq!(lesson.silence()[at] == IGNORE, *label == IGNORE);
                let best = (0..3).find(|class| found[class * 48 * 48 + at] > 0.75);
                sure += usize::from(best.is_some());
                all += usize::from(*label != IGNORE);
                assert!(best.is_none_or(|best| best == usize::from(*label)), "{best:?} {label}");
            }
        }
    }
    println!("sure of {sure} of {all} pixels");
    assert!(sure as f64 > 0.95 * all as f64);
}

#[test]
fn unlabelled_crops_have_their_share() {
    let lab = Lab::new();
    let dataset = Arc::new(Dataset::open(&[lab.path("data").into()], &DatasetOptions::default()).unwrap());
    let folder = unlabelled(&lab, 3);
    // A copy of a validation chip is left out.
    fs::copy(lab.path("data/images/c7.png"), format!("{folder}/copy.png")).unwrap();
    let unlabelled = Unlabelled::open(&[folder.into()], &dataset, &[7]).unwrap();
    assert_eq!((unlabelled.images.len(), unlabelled.left_out), (3, 1));
    for (share, batch_size, labelled, expected) in
        [(0.5, 4, 12, 24), (0.25, 4, 12, 16), (0.75, 4, 12, 48), (0.5, 1, 12, 24), (1.0, 4, 0, 6)]
    {
        let lessons = Lessons { unlabelled: unlabelled.clone(), share, ..Lessons::default() };
        let options = BatchOptions {
            size: 32,
            batch_size,
            crops: 2,
            augment: AugmentOptions::default(),
            normalization: dataset.statistics(&[0]).unwrap(),
            seed: 3,
            workers: 1,
            cache_bytes: 0,
        };
        let loader = Loader::taught(dataset.clone(), (0..6).collect(), Some(Arc::new(lessons)), options);
        let batches: Vec<_> = loader.epoch(0, 0).map(|b| b.unwrap()).collect();
        assert_eq!(loader.batches(), batches.len());
        let samples: Vec<usize> = batches.iter().flat_map(|b| b.samples.clone()).collect();
        assert_eq!(samples.iter().filter(|s| **s < 8).count(), labelled, "{share}");
        assert!(samples.len().abs_diff(expected) <= 3, "{share}: {}", samples.len());
        for batch in &batches[..batches.len() - 1] {
            let own = batch.samples.iter().filter(|s| **s >= 8).count() as f64;
            assert!((own - share * batch_size as f64).abs() < 1.0, "{share}: {:?}", batch.samples);
            for (sample, labels) in batch.samples.iter().zip(batch.labels.chunks_exact(32 * 32)) {
                assert_eq!(labels.iter().all(|l| *l == IGNORE), *sample >= 8);
            }
            assert!(batch.taught.as_ref().unwrap().speaks.contains(&1.0));
        }
    }
}

#[test]
fn a_folder_of_soft_masks_teaches() {
    let lab = Lab::new();
    hard_masks(&lab, "soft", 8);
    let (soft, run) = (lab.path("soft"), lab.path("run"));
    // The labels say nothing: all is learnt from the soft masks.
    let masks = ["--teacher", &soft, "--teacher-weight", "1", "--epochs", "12", "--crops", "8", "--lr", "2e-3"];
    let found = json(&lab.train(&run, &[&["--backbone", "tiny", "--json"], &masks[..]].concat()).as_args());
    let iou = found["metrics"]["mean_iou_foreground"].as_f64().unwrap();
    let losses: Vec<f64> = log(&run).iter().map(|e| e["train_loss"].as_f64().unwrap()).collect();
    println!("IoU {iou:.3}; losses {losses:.3?}");
    assert!(iou > 0.15 && losses[losses.len() - 1] < 0.6 * losses[0], "{found}");
    let info: Value = serde_json::from_slice(&fs::read(format!("{run}/run.json")).unwrap()).unwrap();
    assert_eq!(info["teacher"]["name"], "soft");

    // Another soft mask is another run.
    let text = fs::read(lab.path("soft/c0.png")).unwrap();
    let last = format!("{run}/run.json");
    let edited = fs::read_to_string(&last).unwrap();
    fs::copy(lab.path("soft/c1.png"), lab.path("soft/c0.png")).unwrap();
    fs::copy(lab.path("soft/c0.png"), lab.path("soft/c2.png")).unwrap();
    fails(&["train", "--out", &run, "--resume"], &["the teacher has changed since the run began"]);
    fs::write(lab.path("soft/c0.png"), text).unwrap();
    // An export needs no teacher.
    fs::remove_dir_all(&soft).unwrap();
    succeeds(&["export", "--run", &run, "--scheme", "q8", "--out", &lab.path("package")]);
    assert_eq!(fs::read_to_string(&last).unwrap(), edited);
}

#[test]
fn one_band_of_any_depth_is_one_class() {
    let lab = Lab::of(1, 64);
    fs::write(lab.path("data/classes.json"), r#"{"classes": ["ground", "roof"]}"#).unwrap();
    let labels: Vec<u8> = rectangles(0, 64).iter().map(|l| (*l).min(1)).collect();
    GrayImage::from_raw(64, 64, labels).unwrap().save(lab.path("data/masks/c0.png")).unwrap();
    let dataset = Dataset::open(&[lab.path("data").into()], &DatasetOptions::default()).unwrap();
    let folder = lab.path("soft");
    fs::create_dir_all(&folder).unwrap();
    let share = |x: u32| x as f32 / 63.0;
    let first = |file: &str| {
        let masks = SoftMasks::open(Path::new(&folder), &wanted(&dataset), 2);
        fs::remove_file(format!("{folder}/{file}")).unwrap();
        masks.map(|_| ())
    };
    let read = |file: &str| {
        let masks = SoftMasks::open(Path::new(&folder), &wanted(&dataset), 2).unwrap();
        let mut found = vec![0.0; 2 * 64 * 64];
        Lesson::Mask(masks.read(0, &[]).unwrap()).probabilities(2, &mut found);
        fs::remove_file(format!("{folder}/{file}")).unwrap();
        for (at, p) in found[64 * 64..].iter().enumerate() {
            assert!((p - share((at % 64) as u32)).abs() < 0.003 && (p + found[at] - 1.0).abs() < 1e-6, "{file}");
        }
    };
    GrayImage::from_fn(64, 64, |x, _| Luma([(255.0 * share(x)).round() as u8]))
        .save(format!("{folder}/c0.png"))
        .unwrap();
    read("c0.png");
    let deep = ImageBuffer::<Luma<u16>, _>::from_fn(64, 64, |x, _| Luma([(65535.0 * share(x)).round() as u16]));
    deep.save(format!("{folder}/c0.png")).unwrap();
    read("c0.png");
    let float = |value: &dyn Fn(u32, u32) -> f32| {
        let bytes: Vec<u8> = (0..64 * 64).flat_map(|i| value(i % 64, i / 64).to_le_bytes()).collect();
        let mut tags = one_strip(64, 64, 1, 32, 1);
        tags.push((339, 3, vec![3])); // floating point
        write_tiff(Path::new(&folder), "c0.tif", &bytes, &tags);
    };
    float(&|x, _| share(x));
    read("c0.tif");
    // NaN is no data: the teacher is silent there, as NaN does not enter its neighbours.
    float(&|x, y| if (x, y) == (9, 4) { f32::NAN } else { share(x) });
    let masks = SoftMasks::open(Path::new(&folder), &wanted(&dataset), 2).unwrap();
    let lesson = Lesson::Mask(masks.read(0, &[]).unwrap());
    let mut found = vec![0.0; 2 * 64 * 64];
    lesson.probabilities(2, &mut found);
    let silent: Vec<usize> = (0..64 * 64).filter(|i| lesson.silence()[*i] == IGNORE).collect();
    assert_eq!(silent, [4 * 64 + 9]);
    assert!(found.iter().all(|p| p.is_finite()) && found[silent[0]] == 0.0);
    float(&|_, _| f32::NAN);
    let error = first("c0.tif").unwrap_err().to_string();
    assert!(error.contains("c0.tif") && error.contains("no pixel of the soft mask holds data"), "{error}");
    for (value, word) in [(1.5, "1.5"), (-0.1, "-0.1")] {
        float(&|x, y| if (x, y) == (9, 4) { value } else { share(x) });
        let error = first("c0.tif").unwrap_err().to_string();
        for word in ["c0.tif", word, "column 9, row 4"] {
            assert!(error.contains(word), "{error}");
        }
    }
}

#[test]
fn what_cannot_teach_is_said_before_a_run_begins() {
    let lab = Lab::new();
    let (base, run) = (lab.base(), lab.path("run"));
    let package = lab.path("package");
    succeeds(&["export", "--run", &base, "--scheme", "q8", "--out", &package]);
    hard_masks(&lab, "soft", 8);
    let (soft, images) = (lab.path("soft"), unlabelled(&lab, 2));
    let refused = |options: &[&str], words: &[&str]| {
        fails(&lab.train(&run, &[&["--backbone", "tiny", "--epochs", "1"], options].concat()).as_args(), words);
        assert!(!Path::new(&run).exists(), "{options:?} leaves a folder");
    };
    let keep = ["--teacher", &package, "--keep", "roof"];
    refused(&keep, &["package", "teaches the classes roof, road, the data has roof", "--keep"]);
    let named = ["--teacher", &package, "--class", "0=ground", "--class", "1=roof", "--class", "2=river"];
    refused(&named, &["the data has roof, river", "--class"]);
    refused(&["--unlabelled", &images], &["--unlabelled", "--teacher"]);
    refused(&["--teacher", &lab.path("nowhere")], &["nowhere", "neither a package nor a folder"]);
    refused(&["--teacher", &soft, "--teacher-features", "1"], &["--teacher-features", "soft masks have no features"]);
    refused(&["--teacher", &soft, "--unlabelled", &images], &["soft", "no soft mask of", "u100.png and 1 more"]);
    refused(&["--teacher", &package, "--unlabelled", &lab.path("masks")], &["masks"]);
    for (option, value) in [
        ("--teacher-weight", "1.5"),
        ("--teacher-weight", "nan"),
        ("--teacher-features", "-1"),
        ("--teacher-temperature", "0"),
        ("--ema", "1"),
        ("--ema", "nan"),
    ] {
        refused(&["--teacher", &package, &format!("{option}={value}")], &[option]);
    }
    refused(&["--teacher", &package, "--unlabelled", &images, "--unlabelled-share", "0"], &["--unlabelled-share"]);
    refused(&["--teacher", &package, "--teacher-weight", "0"], &["--teacher-weight", "nothing would be taught"]);
    let deep = ImageBuffer::<Rgb<u16>, _>::from_pixel(64, 64, Rgb([9, 9, 9]));
    fs::create_dir_all(lab.path("deep/images")).unwrap();
    deep.save(lab.path("deep/images/d0.png")).unwrap();
    refused(
        &["--teacher", &package, "--unlabelled", &lab.path("deep")],
        &["d0.png", "unlabelled images have the bands"],
    );

    // A base package has no classes, but features.
    let base = common::base_and_adapters(Path::new(&lab.path("packages")), Scheme::F32, &[]).0.display().to_string();
    refused(&["--teacher", &base], &["is a base package", "--teacher-features"]);
    let features = ["--teacher", &base, "--teacher-weight", "0", "--teacher-features", "1", "--epochs", "1"];
    succeeds(&lab.train(&lab.path("featured"), &[&["--backbone", "tiny"], &features[..]].concat()).as_args());

    // Soft masks of another size, of other bands, of no picture, and none.
    let file = lab.path("soft/c3.png");
    let kept = fs::read(&file).unwrap();
    png(Path::new(&file), 32, 32, &vec![vec![0; 32 * 32]; 3]);
    refused(&["--teacher", &soft], &["c3.png", "32 x 32 pixels, its image 64 x 64"]);
    fs::write(&file, &kept[..50]).unwrap();
    refused(&["--teacher", &soft], &["c3.png"]);
    png(Path::new(&file), 64, 64, &vec![vec![200; 64 * 64]; 3]);
    refused(&["--teacher", &soft], &["c3.png", "column 0, row 0", "no probabilities"]);
    fs::remove_file(&file).unwrap();
    refused(&["--teacher", &soft], &["soft", "no soft mask of", "c3.png"]);
    refused(&["--teacher", &soft, "--class", "0=ground", "--class", "1=roof", "--class", "2=roof"], &["soft"]);
}
