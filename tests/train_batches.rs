//! Augmentation keeps images and labels together, and the loader gives the same bits however it is run.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::sync::Arc;

use common::chips::Folder;
use common::failure;
use samlora::config::Normalization;
use samlora::random::SplitMix;
use samlora::train::augment::{AugmentOptions, augment, centre};
use samlora::train::batch::{Batch, BatchOptions, Loader};
use samlora::train::dataset::{Chip, IGNORE, Samples};

/// An L in the class 1, drawn in band 0 as 200 on 20; band 1 is the column, band 2 the row, times 2.
fn chip(width: usize, height: usize) -> Chip {
    let in_shape = |x: usize, y: usize| {
        (width / 4..width / 2).contains(&x) && (height / 4..3 * height / 4).contains(&y)
            || (width / 4..3 * width / 4).contains(&x) && (5 * height / 8..3 * height / 4).contains(&y)
    };
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let labels = places().map(|(x, y)| u8::from(in_shape(x, y))).collect();
    let value = |(x, y)| [if in_shape(x, y) { 200 } else { 20 }, (2 * x).min(255) as u8, (2 * y).min(255) as u8];
    Chip { width, height, bands: 3, samples: Samples::U8(places().flat_map(value).collect()), labels }
}

fn bytes(chip: &Chip) -> &[u8] {
    match &chip.samples {
        Samples::U8(v) => v,
        _ => panic!("8 bits"),
    }
}

/// The share of labelled pixels whose band 0 says the same as the label.
fn agreement(crop: &Chip) -> f64 {
    let pixels = bytes(crop).chunks_exact(3).zip(&crop.labels).filter(|(_, l)| **l != IGNORE);
    let (mut all, mut same) = (0, 0);
    for (pixel, label) in pixels {
        all += 1;
        same += i32::from((pixel[0] > 110) == (*label == 1));
    }
    f64::from(same) / f64::from(all.max(1))
}

#[test]
fn quarters_and_mirrors_move_pixels_whole() {
    let chip = chip(96, 64);
    let options = AugmentOptions { dihedral: true, ..AugmentOptions::none() };
    let mut random = SplitMix(1);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let crop = augment(&chip, 32, &options, &mut random);
        assert_eq!((crop.width, crop.height, crop.labels.len()), (32, 32, 1024));
        assert_eq!(agreement(&crop), 1.0);
        // Bands 1 and 2 say where each pixel comes from: its label must come from there, too.
        for (pixel, label) in bytes(&crop).chunks_exact(3).zip(&crop.labels) {
            let (x, y) = (usize::from(pixel[1]) / 2, usize::from(pixel[2]) / 2);
            assert_eq!(chip.labels[y * 96 + x], *label);
        }
        let at = |i: usize| (i32::from(bytes(&crop)[3 * i + 1]), i32::from(bytes(&crop)[3 * i + 2]));
        let (here, right, below) = (at(0), at(1), at(32));
        seen.insert([right.0 - here.0, right.1 - here.1, below.0 - here.0, below.1 - here.1]);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    // Without options a crop is a part as it is.
    let plain = augment(&chip, 32, &AugmentOptions::none(), &mut random);
    let x = usize::from(bytes(&plain)[1]) / 2;
    let y = usize::from(bytes(&plain)[2]) / 2;
    assert_eq!(bytes(&plain)[..96], bytes(&chip)[(y * 96 + x) * 3..(y * 96 + x + 32) * 3]);
}

#[test]
fn scaled_and_turned_labels_stay_on_their_pixels() {
    let chip = chip(128, 128);
    let options = AugmentOptions {
        dihedral: true,
        scale: [0.75, 1.5],
        scale_chance: 1.0,
        rotate: 45.0,
        rotate_chance: 1.0,
        ..AugmentOptions::none()
    };
    let mut random = SplitMix(2);
    let (mut foreground, mut outside) = (0, 0);
    for _ in 0..100 {
        let crop = augment(&chip, 64, &options, &mut random);
        assert!(agreement(&crop) > 0.97, "{}", agreement(&crop));
        foreground += crop.labels.iter().filter(|l| **l == 1).count();
        outside += crop.labels.iter().filter(|l| **l == IGNORE).count();
        // Within half a pixel, the place in the bands is the place of the label.
        for (pixel, label) in bytes(&crop).chunks_exact(3).zip(&crop.labels).filter(|(_, l)| **l != IGNORE) {
            let (x, y) = (f64::from(pixel[1]) / 2.0, f64::from(pixel[2]) / 2.0);
            let near = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)].map(|(dx, dy)| {
                let at = |v: f64, d: f64| (v + d).round().clamp(0.0, 127.0) as usize;
                chip.labels[at(y, dy) * 128 + at(x, dx)]
            });
            assert!(near.contains(label), "{x} {y} {label} {near:?}");
        }
    }
    assert!(foreground > 30_000 && outside < 100, "{foreground} {outside}");

    // Everything at once: colours change, shapes stay.
    let all = AugmentOptions { blur: 0.5, jpeg: 0.5, ..AugmentOptions::default() };
    for _ in 0..100 {
        let crop = augment(&chip, 64, &all, &mut random);
        assert!(agreement(&crop) > 0.93, "{}", agreement(&crop));
        assert!(crop.labels.iter().all(|l| [0, 1, IGNORE].contains(l)));
    }
    let twice = |seed| augment(&chip, 64, &all, &mut SplitMix(seed));
    assert!(twice(7) == twice(7) && twice(7) != twice(8));
}

#[test]
fn smaller_crops_are_means_over_areas() {
    // Stripes one pixel wide: a crop that passed pixels over would be black, white or striped.
    let (width, height) = (256, 256);
    let samples = (0..width * height).flat_map(|i| [if i % 2 == 0 { 0 } else { 200u8 }; 3]).collect();
    let chip = Chip { width, height, bands: 3, samples: Samples::U8(samples), labels: vec![0; width * height] };
    for scale in [0.25, 0.4, 0.5] {
        let options = AugmentOptions { scale: [scale; 2], scale_chance: 1.0, ..AugmentOptions::none() };
        let crop = augment(&chip, 48, &options, &mut SplitMix(5));
        assert!(bytes(&crop).iter().all(|v| (60..=140).contains(v)), "{scale}: {:?}", &bytes(&crop)[..12]);
        let mean = bytes(&crop).iter().map(|v| f64::from(*v)).sum::<f64>() / bytes(&crop).len() as f64;
        assert!((mean - 100.0).abs() < 4.0, "{scale}: {mean}");
    }
}

#[test]
fn a_range_of_resolutions_becomes_each_chips_scale() {
    let options = AugmentOptions { resolution: Some([0.1, 0.2]), scale: [1.0, 1.0], ..AugmentOptions::none() };
    let placed = options.on_ground(Some(0.05));
    assert_eq!((placed.scale, placed.scale_chance, placed.resolution), ([0.25, 0.5], 1.0, None));
    // A chip of unknown place keeps the scale that was asked for.
    let lost = options.on_ground(None);
    assert_eq!((lost.scale, lost.scale_chance), ([1.0, 1.0], 0.0));
    // Bands 1 and 2 say where a pixel comes from: half the pixels of the crop's side apart at double the size.
    let chip = chip(128, 128);
    let crop = augment(&chip, 32, &options.on_ground(Some(0.4)), &mut SplitMix(3));
    let across = |y: usize| f64::from(bytes(&crop)[(y * 32 + 31) * 3 + 1]) - f64::from(bytes(&crop)[y * 32 * 3 + 1]);
    let pixels = across(16) / 2.0 / 31.0;
    assert!((0.25..=0.5).contains(&pixels), "a step of {pixels} of the chip's pixels");
}

#[test]
fn strong_changes_keep_shapes_and_move_colours() {
    let chip = chip(128, 128);
    let strong = AugmentOptions::strong();
    let mut hues = Vec::new();
    for seed in 0..60 {
        let crop = augment(&chip, 64, &strong, &mut SplitMix(seed));
        assert!(crop.labels.iter().all(|l| [0, 1, IGNORE].contains(l)));
        let [r, g, b] =
            [0, 1, 2].map(|band| bytes(&crop).iter().skip(band).step_by(3).map(|v| f64::from(*v)).sum::<f64>());
        hues.push((r - b) / (r + g + b));
    }
    let spread = hues.iter().cloned().fold(f64::MIN, f64::max) - hues.iter().cloned().fold(f64::MAX, f64::min);
    assert!(spread > 0.1, "{spread}");
    let twice = |seed| augment(&chip, 64, &strong, &mut SplitMix(seed));
    assert!(twice(7) == twice(7) && twice(7) != twice(8));
    // Each of the new changes is seen alone, and without a change of labels.
    for alone in [
        AugmentOptions { hue: 60.0, ..AugmentOptions::none() },
        AugmentOptions { gamma: 0.5, ..AugmentOptions::none() },
        AugmentOptions { light: 0.5, ..AugmentOptions::none() },
    ] {
        let (plain, changed) = (
            augment(&chip, 64, &AugmentOptions::none(), &mut SplitMix(4)),
            augment(&chip, 64, &alone, &mut SplitMix(4)),
        );
        assert!(plain.labels == changed.labels && bytes(&plain) != bytes(&changed), "{alone:?}");
    }
}

#[test]
fn small_chips_are_mirrored_and_not_learnt_from_outside() {
    let chip = chip(20, 12);
    for options in
        [AugmentOptions::none(), AugmentOptions { scale: [0.75, 1.5], scale_chance: 1.0, ..AugmentOptions::none() }]
    {
        for seed in 0..50 {
            let crop = augment(&chip, 40, &options, &mut SplitMix(seed));
            let labelled = crop.labels.iter().filter(|l| **l != IGNORE).count();
            if options == AugmentOptions::none() {
                assert_eq!(labelled, 240, "the whole chip is in the crop");
            }
            assert!(labelled > 80, "{labelled}");
            assert!(bytes(&crop).chunks_exact(3).all(|p| p[1] <= 60), "no colour from outside");
        }
    }
    let middle = centre(&chip, 40);
    assert_eq!(middle.labels.iter().filter(|l| **l != IGNORE).count(), 240);
    assert_eq!(middle.labels[14 * 40 + 10], chip.labels[0]);
    assert_eq!(&bytes(&middle)[(14 * 40 + 9) * 3..][..3], &bytes(&chip)[..3], "mirrored at the edge");
    assert_eq!(centre(&chip, 12).labels[..12], chip.labels[4..16]);
}

#[test]
fn rare_classes_are_found() {
    let mut chip = chip(256, 256);
    chip.labels = vec![0; 256 * 256];
    for y in 199..202 {
        chip.labels[y * 256 + 30..y * 256 + 33].fill(2);
    }
    let found = |chance: f32| {
        let options =
            AugmentOptions { rare_class_crops: chance, scale_chance: 0.5, rotate_chance: 0.5, ..Default::default() };
        let mut random = SplitMix(3);
        (0..200).filter(|_| augment(&chip, 32, &options, &mut random).labels.contains(&2)).count()
    };
    let (never, half, always) = (found(0.0), found(0.5), found(1.0));
    assert!(never < 20 && half > 30 && always > 70, "{never} {half} {always}");
}

#[test]
fn other_depths_keep_their_units() {
    let values: Vec<u16> = (0..64 * 64 * 4).map(|i| 20_000 + (i % 1000) as u16).collect();
    let chip = Chip { width: 64, height: 64, bands: 4, samples: Samples::U16(values), labels: vec![1; 64 * 64] };
    let options = AugmentOptions { scale_chance: 1.0, rotate_chance: 1.0, ..Default::default() };
    let Samples::U16(crop) = augment(&chip, 32, &options, &mut SplitMix(1)).samples else { panic!("16 bits") };
    assert!(crop.len() == 32 * 32 * 4 && crop.iter().all(|v| (20_000..21_000).contains(v)));
    let chip = Chip { samples: Samples::F32(vec![0.25; 64 * 64 * 4]), ..chip };
    let Samples::F32(crop) = augment(&chip, 32, &options, &mut SplitMix(1)).samples else { panic!("floats") };
    assert!(crop.iter().all(|v| *v == 0.25));
}

fn folder() -> Folder {
    let folder = Folder::new();
    for i in 0..7u8 {
        let values: Vec<u8> = (0..48 * 48).map(|p| u8::from((p / 7 + usize::from(i)) % 5 == 0)).collect();
        folder.pair(&format!("{i}"), 48, &values);
    }
    folder
}

fn options(workers: usize, cache_bytes: u64) -> BatchOptions {
    BatchOptions {
        size: 32,
        batch_size: 3,
        crops: 0,
        augment: AugmentOptions::default(),
        normalization: Normalization::rgb(),
        seed: 9,
        workers,
        cache_bytes,
    }
}

#[test]
fn the_same_bits_whatever_the_workers() {
    let folder = folder();
    let data = Arc::new(folder.opened());
    let epoch = |loader: &Loader, epoch: u64, skip: usize| -> Vec<Batch> {
        loader.epoch(epoch, skip).map(|b| b.unwrap()).collect()
    };
    let loader = |options| Loader::new(data.clone(), (0..7).collect(), options);
    let alone = loader(options(0, 0));
    // 48 x 48 pixels hold two crops of 32 x 32.
    assert_eq!(alone.batches(), 5);
    let first = epoch(&alone, 0, 0);
    assert_eq!(first.iter().map(|b| b.count).collect::<Vec<_>>(), [3, 3, 3, 3, 2]);
    let mut samples: Vec<usize> = first.iter().flat_map(|b| b.samples.clone()).collect();
    samples.sort_unstable();
    assert_eq!(samples, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    for (workers, cache) in [(1, 0), (2, 1 << 30), (5, 9_000)] {
        let other = loader(options(workers, cache));
        assert_eq!(epoch(&other, 0, 0), first, "{workers} workers");
        assert_eq!(epoch(&other, 0, 3), first[3..], "{workers} workers");
        assert_eq!(epoch(&other, 0, 0), first, "from the cache");
        assert_ne!(epoch(&other, 1, 0), first);
        assert!(epoch(&other, 0, 99).is_empty());
        // Threads end when a half-read epoch is dropped.
        assert_eq!(other.epoch(2, 0).next().unwrap().unwrap().count, 3);
    }
    let batch = &first[0];
    assert_eq!((batch.bands, batch.size, batch.images.len(), batch.labels.len()), (3, 32, 3 * 3 * 1024, 3 * 1024));
    assert_ne!(epoch(&loader(BatchOptions { seed: 10, ..options(0, 0) }), 0, 0), first);
}

#[test]
fn batches_are_normalised_plane_by_plane() {
    let folder = folder();
    let data = Arc::new(folder.opened());
    let normalization = Normalization { mean: vec![1.0, 2.0, 3.0], std: vec![2.0, 4.0, 8.0] };
    let plain = BatchOptions { augment: AugmentOptions::none(), normalization, size: 48, ..options(0, 0) };
    let batch = Loader::new(data.clone(), vec![4], plain.clone()).epoch(0, 0).next().unwrap().unwrap();
    // The image's bands are the mask's values.
    for (i, label) in batch.labels.iter().enumerate() {
        let value = f32::from(*label);
        let found = [0, 1, 2].map(|band| batch.images[band * 48 * 48 + i]);
        assert_eq!(found, [(value - 1.0) / 2.0, (value - 2.0) / 4.0, (value - 3.0) / 8.0]);
    }
    let two = BatchOptions { normalization: Normalization { mean: vec![0.0; 2], std: vec![1.0; 2] }, ..plain.clone() };
    let (_, error) = failure(Loader::new(data.clone(), vec![0], two).epoch(0, 0).next().unwrap());
    assert!(error.contains("2 bands"), "{error}");

    // A file that is gone is an error at its batch, with workers too.
    let many = BatchOptions { crops: 3, workers: 2, batch_size: 2, ..plain };
    let loader = Loader::new(data, vec![1], many);
    assert_eq!(loader.batches(), 2);
    std::fs::remove_file(folder.at("images/1.png")).unwrap();
    let results: Vec<_> = loader.epoch(0, 0).collect();
    assert_eq!(results.len(), 2);
    assert!(results.into_iter().all(|r| failure(r).1.contains("images/1.png")));
}
