//! Splits never show the same ground in training and in validation: checked here by comparing every pair of boxes.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::chips::Folder;
use common::{data, failure};
use samlora::error::ErrorKind;
use samlora::train::dataset::review;
use samlora::train::dataset::split::{Split, SplitRule, split};
use samlora::train::dataset::{Dataset, Scan};

const PLACE: SplitRule = SplitRule::Place { cell_metres: None };

fn open(folders: &[PathBuf]) -> (Dataset, Scan) {
    let dataset = Dataset::open(folders, &Default::default()).unwrap();
    let scan = dataset.scan(|_, _| ()).unwrap();
    (dataset, scan)
}

/// Every sample is on one side or dropped, and no training box reaches more than a part of a pixel into a validation one.
#[track_caller]
fn keeps_apart(dataset: &Dataset, split: &Split) {
    let all: BTreeSet<usize> = [&split.train, &split.valid, &split.dropped].into_iter().flatten().copied().collect();
    assert_eq!(all.len(), dataset.samples.len());
    assert_eq!(split.train.len() + split.valid.len() + split.dropped.len(), all.len());
    assert!(!split.train.is_empty() && !split.valid.is_empty());
    let place = |i: usize| dataset.samples[i].extent.unwrap();
    for &t in &split.train {
        for &v in &split.valid {
            let (a, b) = (place(t), place(v));
            let wide = a.max_x.min(b.max_x) - a.min_x.max(b.min_x);
            let high = a.max_y.min(b.max_y) - a.min_y.max(b.min_y);
            let pixel = (b.max_x - b.min_x) / dataset.samples[v].width as f64;
            let names = (&dataset.samples[t].name, &dataset.samples[v].name);
            assert!(wide < 0.6 * pixel || high < 0.6 * pixel, "{names:?}: {wide} x {high}");
        }
    }
}

/// Chips of a grid of half overlapping places, `side` x `side` of them, with world files in Web Mercator.
fn mosaic(side: usize, step: f64) -> Folder {
    let folder = Folder::new();
    for i in 0..side * side {
        let name = format!("m{i:04}");
        folder.half(&name, 8, 1 + (i % 3 == 0) as u8);
        let (x, y) = (step * (i % side) as f64, -step * (i / side) as f64);
        folder.text(&format!("images/{name}.pgw"), &format!("1\n0\n0\n-1\n{}\n{}\n", x + 0.5, y - 0.5));
        folder.text(&format!("images/{name}.prj"), "PROJCS[\"x\",AUTHORITY[\"EPSG\",\"3857\"]]");
    }
    folder
}

#[test]
fn all_zoom_levels_of_the_same_ground() {
    let Some(data) = data("all_zoom_levels_of_the_same_ground", "oam-buildings") else { return };
    let names = ["zanzibar", "zanzibar/mosaic1024", "philippines", "banepa", "banepa/mosaic1024", "banepa-512-train"];
    let folders: Vec<PathBuf> = names.iter().map(|n| data.join(n)).collect();
    let (dataset, scan) = open(&folders);
    assert_eq!(dataset.samples.len(), 966 + 46 + 84 + 168 + 8 + 48);
    assert_eq!(dataset.samples.iter().map(|s| &s.name).collect::<BTreeSet<_>>().len(), dataset.samples.len());
    let totals = scan.totals(0..dataset.samples.len());
    for rule in [PLACE, SplitRule::Random, SplitRule::Place { cell_metres: Some(150.0) }] {
        for seed in [0, 1, 2] {
            let split = split(&dataset, &scan, &rule, 0.2, seed).unwrap();
            println!("{rule:?} {seed}: {} groups, {} valid {:?}", split.groups, split.valid.len(), split.warnings);
            keeps_apart(&dataset, &split);
            assert!(split.dropped.is_empty(), "no tile reaches over a group's edge");
            for (all, valid) in totals.iter().zip(scan.totals(split.valid.iter().copied())) {
                let share = valid as f64 / *all as f64;
                assert!((share - 0.2).abs() < 0.05, "{rule:?} {seed}: {share}");
            }
        }
    }
    let same = |seed| split(&dataset, &scan, &PLACE, 0.2, seed).unwrap();
    assert_eq!(same(4), same(4));
    assert_ne!(same(4).valid, same(5).valid);

    // The mosaics of one place validate: tiles of the same ground must not train.
    let by_folder = split(&dataset, &scan, &SplitRule::Folder(data.join("banepa/mosaic1024")), 0.2, 0).unwrap();
    keeps_apart(&dataset, &by_folder);
    assert_eq!((by_folder.valid.len(), by_folder.dropped.len()), (8, 168));
    assert!(by_folder.warnings[0].contains("168 training samples show ground of validation samples"));
}

#[test]
fn a_connected_mosaic_is_cut_into_cells() {
    let folder = mosaic(20, 4.0);
    let (dataset, scan) = open(&[folder.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.2, 3).unwrap();
    println!(
        "{} groups, {} train, {} valid, {} dropped",
        found.groups,
        found.train.len(),
        found.valid.len(),
        found.dropped.len()
    );
    keeps_apart(&dataset, &found);
    assert!(found.groups >= 9 && !found.dropped.is_empty() && found.dropped.len() < 200);
    assert!(found.valid.len() > 20 && found.warnings[0].contains("cut into cells"));
    let cells = split(&dataset, &scan, &SplitRule::Place { cell_metres: Some(30.0) }, 0.2, 3).unwrap();
    keeps_apart(&dataset, &cells);
    let wrong = split(&dataset, &scan, &SplitRule::Place { cell_metres: Some(-1.0) }, 0.2, 3);
    assert!(failure(wrong).1.contains("--cell-metres"));

    // Listed samples validate; what overlaps with them does not train.
    folder.text("valid.txt", "# corner\nm0000\nm0001.png\n\n");
    let listed = split(&dataset, &scan, &SplitRule::List(folder.at("valid.txt")), 0.2, 0).unwrap();
    keeps_apart(&dataset, &listed);
    assert_eq!((listed.valid.as_slice(), listed.dropped.as_slice()), (&[0, 1][..], &[2, 20, 21, 22][..]));
    folder.text("valid.txt", "m0000\nhouse\n");
    let unknown = failure(split(&dataset, &scan, &SplitRule::List(folder.at("valid.txt")), 0.2, 0));
    assert!(unknown.0 == ErrorKind::NotFound && unknown.1.contains("valid.txt line 2") && unknown.1.contains("house"));
    assert_eq!(failure(split(&dataset, &scan, &PLACE, 1.0, 0)).0, ErrorKind::Invalid);
    let elsewhere = SplitRule::Folder("/nowhere".into());
    assert_eq!(failure(split(&dataset, &scan, &elsewhere, 0.2, 0)).0, ErrorKind::NotFound);
}

#[test]
fn places_in_different_systems_are_compared() {
    // The same square kilometre in Web Mercator and in longitude and latitude.
    let folder = Folder::new();
    let metres = |longitude: f64| longitude.to_radians() * samlora::tile::EARTH_RADIUS;
    for i in 0..6 {
        let west = 10.0 + 0.001 * i as f64;
        folder.half(&format!("a{i}"), 8, 1).half(&format!("b{i}"), 8, 1);
        let pixel = metres(0.001) / 8.0;
        let (x, y) = (metres(west) + pixel / 2.0, metres(0.0009) - pixel / 2.0);
        folder.text(&format!("images/a{i}.pgw"), &format!("{pixel}\n0\n0\n-{pixel}\n{x}\n{y}\n"));
        folder.text(&format!("images/a{i}.prj"), "PROJCS[\"x\",AUTHORITY[\"EPSG\",\"3857\"]]");
        let (x, y) = (west + 0.001 / 16.0, 0.001 - 0.001 / 16.0);
        folder.text(&format!("images/b{i}.pgw"), &format!("0.000125\n0\n0\n-0.000125\n{x}\n{y}\n"));
        folder.text(&format!("images/b{i}.prj"), "GEOGCS[\"GCS_WGS_1984\"]");
    }
    let (dataset, scan) = open(&[folder.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.3, 1).unwrap();
    assert_eq!((found.groups, found.dropped.len()), (6, 0));
    assert!(found.valid.iter().all(|i| found.valid.contains(&((i + 6) % 12))), "{found:?}");
}

#[test]
fn names_tell_where_places_do_not() {
    let scenes = Folder::new();
    for scene in 0..5 {
        for i in 0..4 {
            scenes.half(&format!("t{scene}_{i:03}"), 4, 1);
        }
    }
    let (dataset, scan) = open(&[scenes.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.2, 0).unwrap();
    assert_eq!((found.groups, found.valid.len()), (5, 4));
    let scene = |i: &usize| dataset.samples[*i].name.rsplit_once('_').unwrap().0.to_owned();
    assert_eq!(found.valid.iter().map(scene).collect::<BTreeSet<_>>().len(), 1);
    assert!(found.warnings[0].contains("5 scenes") && found.warnings[0].contains("--groups"));
    assert_eq!(split(&dataset, &scan, &SplitRule::Random, 0.2, 0).unwrap().groups, 20);

    let group = |i: usize| format!("{},{}\n", dataset.samples[i].name, i % 4);
    scenes.text("groups.csv", &(0..20).fold("name,group\n".to_owned(), |text, i| text + &group(i)));
    let found = split(&dataset, &scan, &SplitRule::Groups(scenes.at("groups.csv")), 0.25, 0).unwrap();
    assert_eq!((found.groups, found.valid.len()), (4, 5));
    assert_eq!(found.valid.iter().map(|i| i % 4).collect::<BTreeSet<_>>().len(), 1);
    for (text, word) in [("t0_000,a\n", "19 samples have no group"), ("t0_000\n", "line 1"), ("x,y\n", "\"x\"")] {
        scenes.text("groups.csv", text);
        let error = failure(split(&dataset, &scan, &SplitRule::Groups(scenes.at("groups.csv")), 0.25, 0)).1;
        assert!(error.contains(word) && error.contains("groups.csv"), "{error}");
    }

    let runs = Folder::new();
    for i in 0..30 {
        runs.half(&format!("{i:09}"), 4, 1);
    }
    let (dataset, scan) = open(&[runs.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.2, 0).unwrap();
    assert_eq!((found.groups, found.valid.len()), (10, 6));
    assert!(found.valid.iter().all(|i| found.valid.contains(&(i / 3 * 3)) && found.valid.contains(&(i / 3 * 3 + 2))));
    assert!(found.warnings[0].contains("runs of consecutive names"));
}

#[test]
fn one_chip_and_one_group() {
    let folder = Folder::new();
    folder.half("only", 8, 1);
    let (dataset, scan) = open(&[folder.path()]);
    for rule in [PLACE, SplitRule::Random] {
        let found = split(&dataset, &scan, &rule, 0.2, 0).unwrap();
        assert_eq!((found.train, found.valid, found.groups), (vec![0], vec![0], 1));
        assert!(found.warnings.iter().any(|w| w.contains("one sample only")));
    }
    folder.half("other", 8, 1);
    for name in ["only", "other"] {
        folder.text(&format!("images/{name}.pgw"), "1\n0\n0\n-1\n0.5\n-0.5\n");
    }
    let (dataset, scan) = open(&[folder.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.2, 0).unwrap();
    assert_eq!((found.train.len(), found.valid.len()), (2, 2));
    assert!(found.warnings.iter().any(|w| w.contains("one group")));
}

#[test]
fn copies_and_rare_classes_are_named() {
    let folder = Folder::new();
    for i in 0..20u8 {
        let values: Vec<u8> =
            (0..256).map(|p| if i == 3 && p == 0 { 2 } else { u8::from(p % 23 < usize::from(i)) }).collect();
        folder.pair(&format!("{i:02}"), 16, &values);
    }
    fs::copy(folder.at("images/00.png"), folder.at("images/19.png")).unwrap();
    let (dataset, scan) = open(&[folder.path()]);
    let split = split(&dataset, &scan, &SplitRule::Random, 0.5, 1).unwrap();
    let warnings = review::warnings(&dataset, &scan, &split, 16);
    assert!(warnings.iter().any(|w| w.contains("has 0.0") && w.contains("% of the labelled pixels")), "{warnings:?}");
    let hashes = dataset.file_hashes().unwrap();
    assert_eq!(review::duplicates(&hashes), [[0, 19]]);
    let told = review::duplicate_warnings(&dataset, &split, &hashes).join(" ");
    assert!(told.contains("1 images are copies of others") && told.contains("different masks"), "{told}");
}

#[test]
fn thousands_of_tiles_are_a_group_each() {
    let folder = Folder::new();
    folder.half("19-300000-200000", 8, 1);
    for i in 1..2000 {
        let name = format!("19-{}-{}", 300_000 + i % 50, 200_000 + i / 50);
        for part in ["images", "masks"] {
            fs::hard_link(folder.at(&format!("{part}/19-300000-200000.png")), folder.at(&format!("{part}/{name}.png")))
                .unwrap();
        }
    }
    let (dataset, scan) = open(&[folder.path()]);
    let found = split(&dataset, &scan, &PLACE, 0.2, 0).unwrap();
    assert_eq!((found.groups, found.valid.len()), (2000, 400));
}
