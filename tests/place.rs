//! Where images and their polygons lie, beside GDAL and PROJ (rasterio) and shapely.
//!
//! Takes the data from `SAMLORA_DATA` and a Python with rasterio and shapely from `SAMLORA_PYTHON`.

use std::path::{Path, PathBuf};
use std::process::Command;

use samlora::config::Class;
use samlora::geojson::{self, Placement};
use samlora::georef::{Crs, Georef};
use samlora::mask::ClassMask;
use samlora::polygon::{Options, trace_mask};
use samlora::source::{self, write};
use samlora::tile::TileId;

/// Metres that a corner may be off.
const CENTIMETRE: f64 = 0.01;

fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("SAMLORA_PYTHON");
    if python.is_none() {
        println!(
            "left out: SAMLORA_PYTHON is not set (a Python with rasterio and shapely), so nothing can be compared"
        );
    }
    python
}

fn run(python: &std::ffi::OsStr, script: &str, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let status = Command::new(python).arg(&script).args(arguments).status().expect("Python runs");
    assert!(status.success(), "{} fails", script.display());
}

fn class(index: u8) -> Class {
    Class { index, name: format!("c{index}"), color: [9, 8, index], threshold: None }
}

#[derive(serde::Deserialize)]
struct File {
    path: PathBuf,
    /// GDAL's affine transform.
    transform: [f64; 6],
    crs: Option<String>,
    /// Longitude and latitude by PROJ: upper left, lower left, upper right, lower right; none if it has none.
    corners: Option<[[f64; 2]; 4]>,
}

/// Metres between two places.
fn metres([a0, a1]: [f64; 2], [b0, b1]: [f64; 2]) -> f64 {
    let lon = (b0 - a0 + 540.0).rem_euclid(360.0) - 180.0;
    (lon * a1.to_radians().cos()).hypot(b1 - a1) * 111_320.0
}

#[test]
fn corners_are_where_proj_has_them_or_refused() {
    let (Some(python), Some(data)) = (python(), std::env::var_os("SAMLORA_DATA")) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    run(&python, "place_files.py", &[folder.path(), Path::new(&data)]);
    let files: Vec<File> =
        serde_json::from_slice(&std::fs::read(folder.path().join("files.json")).expect("a list")).expect("JSON");
    let (mut placed, mut refused, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    let mut outputs = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let name = file.path.file_stem().expect("a name").to_string_lossy().into_owned();
        let source = match source::open(&file.path) {
            Ok(source) => source,
            Err(error) => {
                unread.push(format!("{name}: {error}"));
                continue;
            }
        };
        let (width, height) = source.size();
        let Some(georef) = source.georef() else {
            assert!(file.transform == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "{name} has a place: {:?}", file.transform);
            refused.push(name);
            continue;
        };
        // A world file beside a TIFF places it for GDAL as well; a lost transform is the identity for both.
        let scale = georef.transform.iter().fold(1e-9f64, |m, v| m.max(v.abs()));
        for (here, there) in georef.transform.iter().zip(file.transform) {
            assert!((here - there).abs() <= 1e-12 * scale, "{name}: {:?}, GDAL {:?}", georef.transform, file.transform);
        }
        if width * height <= 1 << 22 {
            let mask =
                ClassMask::new(width, height, vec![1; width * height], vec![255; width * height]).expect("a mask");
            let out = folder.path().join(format!("{i}-mask.tif"));
            write::mask_geotiff(&out, &mask, &[class(1)], Some(georef)).expect("written");
            outputs.push(serde_json::json!({ "input": file.path, "output": out }));
        }
        let to_lon_lat = match georef.to_lon_lat(width, height) {
            Ok(to_lon_lat) => to_lon_lat,
            Err(error) => {
                println!("{name} ({}): {error}", file.crs.as_deref().unwrap_or("no system"));
                assert!(error.remedy_text().is_some());
                let warning = Placement::new(Some(georef), width, height).warning().expect("a word");
                assert!(warning.contains("polygons are in"), "{warning}");
                refused.push(name);
                continue;
            }
        };
        let corners = file.corners.unwrap_or_else(|| panic!("{name} is placed here, and not by PROJ"));
        let (w, h) = (width as f64, height as f64);
        for (corner, proj) in [[0.0, 0.0], [0.0, h], [w, 0.0], [w, h]].into_iter().zip(corners) {
            let found = georef.lon_lat(&to_lon_lat, corner).unwrap_or_else(|e| panic!("{name}: {e}"));
            let off = metres(found, proj);
            assert!(off <= CENTIMETRE, "{name}: {found:?} is {off} m from PROJ's {proj:?}");
        }
        placed.push(name);
    }
    println!("{} placed as by PROJ, refused: {refused:?}, not read: {unread:#?}", placed.len());
    // What a file defines in full is converted.
    for name in [
        "tmerc",
        "tmerc-feet",
        "tmerc-paris",
        "tmerc-shifted",
        "utm-km",
        "lcc-1",
        "lcc-2",
        "albers",
        "laea",
        "polar-north",
        "polar-south",
        "omerc",
        "sinu-modis",
        "geographic-shifted",
        "esri-102003",
        "esri-102008-pe",
        "esri-102039",
        "esri-54009",
        "esri-102645",
        "esri-102718-pe",
        "esri-102100",
        "negative-y",
        "rotated",
        "south-up",
        "point",
        "umlaut",
        "world",
        "prj",
    ] {
        assert!(placed.iter().any(|p| p == name), "{name} is not placed");
    }
    for name in
        ["lost", "lost-north-up", "beyond", "clarke-without-shift", "geographic-nad27", "geographic-grads", "goode"]
    {
        assert!(refused.iter().any(|p| p == name), "{name} is placed");
    }
    let list = folder.path().join("outputs.json");
    std::fs::write(&list, serde_json::json!({ "outputs": outputs }).to_string()).expect("written");
    run(&python, "place_check.py", &[&list]);
}

/// A mask of blobs: discs around places, with a hole, and a band across the image.
fn blobs(width: usize, height: usize) -> ClassMask {
    let mut classes = vec![0; width * height];
    let (cx, cy) = (width as f64 / 2.0, height as f64 / 2.0);
    for y in 0..height {
        for x in 0..width {
            let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
            let r = dx.hypot(dy);
            let third = width as f64 / 3.0;
            classes[y * width + x] = if (dx - third).hypot(dy - third) < width as f64 / 9.0 {
                3
            } else if r < width as f64 / 5.0 {
                if r < width as f64 / 11.0 { 2 } else { 1 }
            } else if dy.abs() < 6.0 || (x % 17 == 0 && y % 5 != 0) {
                4
            } else {
                0
            };
        }
    }
    ClassMask::new(width, height, classes, vec![200; width * height]).expect("a mask")
}

#[test]
fn polygons_hold_across_180_degrees_and_at_the_poles() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mask = blobs(120, 100);
    let mut jobs = Vec::new();
    for (name, epsg, transform) in [
        ("utm", 32_633, [3.0, 0.0, 500_000.0, 0.0, -3.0, 5e6]),
        ("mercator-180", 3832, [30.0, 0.0, 3_337_584.0, 0.0, -30.0, 1e6]),
        ("utm-180", 32_660, [20.0, 0.0, 800_000.0, 0.0, -20.0, 7_200_000.0]),
        ("south-pole", 3031, [30.0, 0.0, -1815.0, 0.0, -30.0, 1515.0]),
        ("south-pole-at-a-corner", 3031, [30.0, 0.0, -1800.0, 0.0, -30.0, 1500.0]),
        ("north-pole", 3413, [30.0, 0.0, -1100.0, 0.0, -30.0, 2000.0]),
        ("north-pole-south-up", 3413, [3000.0, 0.0, -181_000.0, 0.0, 3000.0, -151_000.0]),
        ("north-pole-turned", 3413, [2000.0, 500.0, -151_000.0, 600.0, -2000.0, 73_000.0]),
        ("beside-the-pole", 3413, [30.0, 0.0, 100.0, 0.0, -30.0, 2000.0]),
        ("coarse-polar", 3995, [40_000.0, 0.0, -2_400_000.0, 0.0, -40_000.0, 2_000_000.0]),
        ("degrees-180", 4326, [0.01, 0.0, 179.5, 0.0, -0.01, 10.0]),
        ("degrees-360", 4326, [1.0, 0.0, 130.0, 0.0, -1.0, 60.0]),
        ("world-degrees", 4326, [3.0, 0.0, -180.0, 0.0, -1.8, 90.0]),
        ("alaska", 3338, [20_000.0, 0.0, -2_400_000.0, 0.0, -20_000.0, 2_200_000.0]),
        ("albers-coarse", 5070, [20_000.0, 0.0, -1_200_000.0, 0.0, -20_000.0, 2_800_000.0]),
    ] {
        let georef = Georef { transform, crs: Crs::from_epsg(epsg) };
        let classes: Vec<Class> = (0..=4).map(class).collect();
        let tif = folder.path().join(format!("{name}.tif"));
        write::mask_geotiff(&tif, &mask, &classes, Some(&georef)).expect("written");
        for (suffix, tolerance) in [("", 0.0), ("-smooth", 1.5)] {
            let polygons = trace_mask(&mask, Options { min_pixels: 0, tolerance }).expect("traced");
            let json = folder.path().join(format!("{name}{suffix}.geojson"));
            let place = Placement::new(Some(&georef), mask.width, mask.height);
            assert_eq!(place.coordinates(), "wgs84", "{name}: {:?}", place.warning());
            write::atomic(&json, |file| geojson::write(file, &polygons, &classes, place)).expect("written");
            jobs.push(serde_json::json!({ "name": name, "mask": tif, "polygons": json, "exact": tolerance == 0.0 }));
        }
    }
    let list = folder.path().join("jobs.json");
    std::fs::write(&list, serde_json::json!({ "polygons": jobs }).to_string()).expect("written");
    run(&python, "place_check.py", &[&list]);
}

/// A tile's polygons have the areas that the mask's GeoTIFF has in another system; the browser runs this very code.
#[test]
fn areas_of_a_tile_are_true_ones() {
    let mask = blobs(256, 256);
    let classes: Vec<Class> = (0..=4).map(class).collect();
    let tile = TileId::new(19, 386_697, 220_263).expect("a tile");
    let georef = Georef::from_tile(tile, 256, 256);
    let polygons = trace_mask(&mask, Options::default()).expect("traced");
    let text = geojson::to_string(&polygons, &classes, Some(&georef)).expect("written");
    let sized = geojson::to_string(&polygons, &classes, Placement::new(Some(&georef), 256, 256)).expect("written");
    assert_eq!(text, sized);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let pixel = georef.ground_resolution(256, 256).expect("convertible").powi(2);
    for feature in json["features"].as_array().expect("features") {
        let properties = &feature["properties"];
        let (area, pixels) =
            (properties["area_m2"].as_f64().expect("an area"), properties["pixels"].as_f64().expect("pixels"));
        // Written with two decimals.
        assert!((area - pixels * pixel).abs() < 0.006 + 1e-3 * area, "{area} m2 of {pixels} pixels of {pixel} m2");
    }
}
