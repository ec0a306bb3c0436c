//! `samlora segment` on files that other programs wrote: no data, bands, depths and resolution, from the file to every output.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::command::{fails, fixture, json, succeeds};
use serde_json::Value;
use tempfile::TempDir;

/// Small files that went wrong once, beside the folder of real data (its README says what each is).
fn case(test: &str, name: &str) -> Option<PathBuf> {
    common::data(test, &format!("../cases/{name}")).filter(|path| {
        if !path.exists() {
            println!("left out: {test}, {} is not there", path.display());
        }
        path.exists()
    })
}

struct Bench(TempDir);

impl Bench {
    /// A package of the tiny model that was trained, as it says, at 13 cm a pixel.
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let (base, adapter, out) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), bench.path("package"));
        let args = ["export", "--base", &base, "--adapter", &adapter, "--out", &out, "--ground-resolution", "0.13"];
        let size = ["--input-size", "96", "--tile-size", "72", "--classes", "a,b=#ff0000,c,d,e"];
        succeeds(&[&args[..], &size].concat());
        bench
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Segments a file with further arguments; gives the report and the classes of its pixels.
    fn segment(&self, input: &Path, out: &str, more: &[&str]) -> (Value, Vec<u8>) {
        let (model, out) = (self.path("package"), self.path(out));
        let input = input.display().to_string();
        let args = ["segment", "--json", "--model", &model, &input, "--out", &out];
        let report = json(&[&args[..], more].concat());
        let mask = report["files"][0].as_str().unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(mask).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut classes = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut classes).unwrap();
        (report, classes)
    }
}

#[test]
fn no_data_is_one_thing_from_the_file_to_every_output() {
    let Some(folder) = case("masks of no data", "internal-mask-ignored") else { return };
    let bench = Bench::new();
    let formats = ["--format", "png,geojson,geotiff", "--min-area", "30"];
    let mut found = Vec::new();
    for name in ["alpha.tif", "imask.tif", "msk_side.tif"] {
        let (report, classes) = bench.segment(&folder.join(name), name, &formats);
        assert_eq!(report["pixels_without_data"], 156 * 256);
        assert!(classes.chunks(256).all(|row| row.iter().enumerate().all(|(x, c)| (*c == 255) == (x >= 100))));
        let shares: f64 = report["classes"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{shares}");
        let polygons = fs::read_to_string(report["files"][1].as_str().unwrap()).unwrap();
        let polygons: Value = serde_json::from_str(&polygons).unwrap();
        let pixels = polygons["features"].as_array().unwrap().iter();
        let pixels: u64 = pixels.map(|f| f["properties"]["pixels"].as_u64().unwrap()).sum();
        assert_eq!(pixels as usize, classes.iter().filter(|c| !matches!(c, 0 | 255)).count());
        found.push((classes, polygons));
    }
    // The samples of the first were compressed otherwise.
    let made = |i: usize| (&found[i].0, &found[i].1["features"]);
    assert!(made(1) == made(2));
}

#[test]
fn a_nodata_tag_leaves_the_shares() {
    let Some(folder) = case("shares beside a nodata tag", "no-data-counted-as-background") else { return };
    let bench = Bench::new();
    let file =
        folder.read_dir().unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "tif"));
    let (report, classes) = bench.segment(&file.unwrap(), "out", &["--format", "png"]);
    let empty = classes.iter().filter(|c| **c == 255).count();
    assert!((0.55..0.65).contains(&(empty as f64 / classes.len() as f64)), "{empty} of {}", classes.len());
    assert_eq!(report["pixels_without_data"], empty);
    let counted: u64 = report["classes"].as_array().unwrap().iter().map(|c| c["pixels"].as_u64().unwrap()).sum();
    assert_eq!(counted as usize, classes.len() - empty);
}

#[test]
fn equal_samples_give_equal_masks() {
    let Some(depths) = case("16 bits in two containers", "png16-not-stretched") else { return };
    let bench = Bench::new();
    let mask = |file: PathBuf, out: &str, more: &[&str]| {
        // Only one of them has a place, and so a resolution of its own.
        bench.segment(&file, out, &[&["--format", "png", "--resolution", "native"][..], more].concat()).1
    };
    assert!(mask(depths.join("p16.png"), "a", &[]) == mask(depths.join("p16.tif"), "b", &[]));
    let Some(order) = case("the order of bands", "bgr-order-ignored") else { return };
    let rgb = mask(order.join("rgb.tif"), "c", &[]);
    assert!(rgb == mask(order.join("bgrn.tif"), "d", &[]));
    assert!(rgb == mask(order.join("bgrn.tif"), "e", &["--bands", "3,2,1"]));
    assert!(rgb != mask(order.join("bgrn.tif"), "f", &["--bands", "1,2,3"]), "the order matters to this model");
    let (model, file) = (bench.path("package"), order.join("rgb.tif").display().to_string());
    fails(&["segment", "--model", &model, &file, "--out", &bench.path("g"), "--bands", "1,2,9"], &["--bands", "9"]);
}

#[test]
fn a_resolution_that_the_model_does_not_know_is_said() {
    let Some(coarse) = case("resolution", "ground-resolution-not-compared/g30m.tif") else { return };
    let Some(near) = common::data("resolution", "oam-buildings/zanzibar/images") else { return };
    let bench = Bench::new();
    let warnings = |file: &Path, out: &str, more: &[&str]| {
        let (report, _) = bench.segment(file, out, &[&["--format", "png"], more].concat());
        report["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let told = warnings(&coarse, "a", &["--resolution", "native"]);
    assert!(told.len() == 1 && told[0].contains("coarser") && told[0].contains("0.130 m"), "{told:?}");
    let mut tiles: Vec<_> = near.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    tiles.sort();
    // Names begin with the zoom level: 20 is 15 cm there.
    let tile = tiles.iter().find(|p| p.file_name().unwrap().to_string_lossy().starts_with("20-")).unwrap();
    assert_eq!(warnings(tile, "b", &[]), [""; 0]);
    // It is not run so unasked.
    let (model, file) = (bench.path("package"), coarse.display().to_string());
    let args = ["segment", "--model", &model, &file, "--out", &bench.path("c")];
    fails(&args, &["coarser", "0.130 m", "--resolution native"]);
}

#[test]
fn every_block_is_decoded_once_for_all_outputs() {
    let Some(folder) = common::data("blocks", "georef/naip-3857") else { return };
    let bench = Bench::new();
    for (file, blocks) in [("usda_naip_256_lzw_z3.tif", 4 * 8), ("usda_naip_512_deflate_z2.tif", 2 * 4)] {
        let formats = ["--format", "png,overlay,geojson,geotiff", "--resolution", "native"];
        let (report, _) = bench.segment(&folder.join(file), file, &formats);
        assert_eq!(report["decoded_blocks"], blocks, "{file}");
    }
}
