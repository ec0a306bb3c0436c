//! `samlora segment --area`, and its outputs for a GIS, on real files: polygons, tables and cloud optimised rasters that agree.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::command::{fails, fixture, json, succeeds};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A package of the tiny model, as segment_files.rs has it.
fn package(folder: &TempDir) -> String {
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (base, adapter, out) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"), path("package"));
    let args = ["export", "--base", &base, "--adapter", &adapter, "--out", &out];
    let size = ["--input-size", "96", "--tile-size", "72", "--classes", "a,b=#ff0000,c,d,e"];
    succeeds(&[&args[..], &size].concat());
    out
}

fn features(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["features"].as_array().unwrap().clone()
}

/// Lines of a table without quoted texts.
fn table(path: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn outputs_of_an_area_agree_with_each_other() {
    let Some(data) = common::data("areas of a file", "vector-pairs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (package(&folder), folder.path().join("out").display().to_string());
    for (raster, area, areas) in [
        ("lasvegas", "lasvegas_buildings.gpkg", 3),
        ("atlanta_rgbn", "atlanta_buildings.geojson", 64),
        ("nungwi_8cm", "nungwi_buildings_crs84.geojson", 0),
    ] {
        let (input, area) = (data.join(format!("{raster}.tif")), data.join(area));
        let (input, area) = (input.display().to_string(), area.display().to_string());
        let formats = "raw,geojson,geojsons,geojsonl,fgb,gpkg,shp,csv,cog,confidence";
        let args =
            ["segment", "--json", "--model", &model, &input, "--area", &area, "--out", &out, "--format", formats];
        let report = json(&args);
        let (width, height) = (report["width"].as_u64().unwrap(), report["height"].as_u64().unwrap());
        let file = |ending: &str| format!("{out}/{raster}.{ending}");
        let classes = fs::read(file("classes.u8")).unwrap();
        assert_eq!(classes.len() as u64, width * height);
        let inside = classes.iter().filter(|c| **c != 255).count() as u64;
        assert_eq!(report["pixels_without_data"].as_u64().unwrap(), width * height - inside);
        assert!(inside > 0 && inside < width * height);
        let found = features(&file("geojson"));
        let pixels: u64 = found.iter().map(|f| f["properties"]["pixels"].as_u64().unwrap()).sum();
        assert_eq!(pixels, classes.iter().filter(|c| !matches!(c, 0 | 255)).count() as u64);
        // One line a class and one for no data, for every area.
        let lines = table(&file("csv"));
        assert!(lines.len() == 7 * areas || areas == 0 && lines.len().is_multiple_of(7), "{}", lines.len());
        let counted: u64 = lines.iter().filter(|l| l[1] != "255").map(|l| l[3].parse::<u64>().unwrap()).sum();
        // Areas may overlap.
        assert!(counted >= inside && counted < inside + inside / 10, "{counted} {inside}");
        let ground: f64 = found.iter().map(|f| f["properties"]["area_m2"].as_f64().unwrap()).sum();
        let hectares: f64 =
            lines.iter().filter(|l| !["0", "255"].contains(&l[1].as_str())).map(|l| l[4].parse::<f64>().unwrap()).sum();
        println!("{raster}: {inside} pixels inside, {} polygons, {ground:.1} m2, {hectares:.5} ha", found.len());
        assert!((hectares * 1e4 / ground - 1.0).abs() < 0.02, "{hectares} ha, {ground} m2");
        rasters(&json!({
            "input": input, "area": report["area"], "classes": file("classes.tif"), "confidence": file("confidence.tif"),
            "raw": file("classes.u8"), "raw_confidence": file("confidence.u8"), "gpkg": file("gpkg"), "csv": file("csv"),
            "features": found.len(),
        }));
    }
}

fn rasters(job: &Value) {
    let Some(python) = std::env::var_os("SAMLORA_PYTHON") else {
        println!("left out: SAMLORA_PYTHON is not set, so that GDAL does not read the rasters");
        return;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), job.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/segment_areas_check.py");
    assert!(Command::new(python).arg(script).arg(file.path()).status().unwrap().success());
}

#[test]
fn a_rectangle_and_what_is_no_area() {
    let Some(data) = common::data("a rectangle", "vector-pairs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (package(&folder), folder.path().join("out").display().to_string());
    let input = data.join("sentinel2_lux_float32.tif").display().to_string();
    let file = folder.path().join("line.geojson");
    fs::write(&file, r#"{"type":"LineString","coordinates":[[0,0],[1,1]]}"#).unwrap();
    let line = file.display().to_string();
    let geojson = data.join("sentinel2_lux_aoi.geojson").display().to_string();
    let begin = ["segment", "--model", &model, &input, "--out", &out];
    let with = |more: &[&'static str]| [&begin[..], more].concat();
    fails(&[&begin[..], &["--area", &line]].concat(), &["--area", "lines"]);
    fails(&with(&["--area", "1,2,3"]), &["--area"]);
    fails(&with(&["--area", "3,2,1,1"]), &["--area"]);
    fails(&with(&["--area", "100,-10,101,-9"]), &["--area", "beside"]);
    fails(&[&begin[..], &["--area", &geojson, "--layer", "x"]].concat(), &["--layer"]);
    fails(&with(&["--area", "0,0,1,1", "--layer", "x"]), &["--layer"]);
    fails(&with(&["--format", "gpkg", "--min-hole-m2=-1"]), &["--min-hole-m2"]);
    fails(&with(&["--format", "gpkg", "--crs", "EPSG:4267"]), &["--crs", "grids"]);
}
