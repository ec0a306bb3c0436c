//! Real imagery in, masks, overlays and polygons out; an independent reader (rasterio, shapely) compares them.
//!
//! Takes the data from `SAMLORA_DATA` and a Python with rasterio and shapely from `SAMLORA_PYTHON`; outputs stay in
//! `SAMLORA_OUT` if it is set, to be looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use samlora::config::Class;
use samlora::image::RgbImage;
use samlora::mask::ClassMask;
use samlora::polygon::{Options, trace_mask};
use samlora::source::{self, Colours, Raster, Window, write, xyz};
use samlora::{geojson, overlay};

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("SAMLORA_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("left out: SAMLORA_DATA is not set, so there is no real imagery to read");
    }
    data
}

fn classes() -> Vec<Class> {
    let class = |index, name: &str, color| Class { index, name: name.into(), color, threshold: None };
    vec![
        class(0, "background", [0, 0, 0]),
        class(1, "bright", [230, 60, 50]),
        class(2, "green", [40, 180, 60]),
        class(3, "dark", [50, 70, 220]),
    ]
}

/// A stand-in for a model: classes by brightness and greenness, averaged over blocks of 4 pixels for compact shapes.
fn classify(image: &RgbImage) -> ClassMask {
    let (width, height) = (image.width(), image.height());
    let mut classes = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let [r, g, b] = image.pixel(x / 4 * 4, y / 4 * 4).map(i32::from);
            let light = (r + g + b) / 3;
            let class = if 2 * g - r - b > 12 { 2 } else { [3, 0, 0, 1][(light / 64) as usize] };
            classes.push(class);
        }
    }
    let confidence = classes.iter().map(|&c| 255 - 40 * c).collect();
    ClassMask::new(width, height, classes, confidence).expect("a mask of the image's size")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            out.extend(files(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn images(folder: &Path) -> impl Iterator<Item = PathBuf> {
    files(folder)
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| ["tif", "png", "jpg"].contains(&e.to_str().unwrap_or_default())))
}

/// Writes everything that can be written about an image, and a line for the check.
fn outputs(name: &str, input: Option<&Path>, source: &mut Colours, out: &Path) -> serde_json::Value {
    let (width, height) = source.size();
    let classes = classes();
    let georef = source.georef().cloned();
    let path = |suffix: &str| out.join(format!("{name}{suffix}"));
    let small = width * height <= 4 << 20;
    let mut tiff = write::MaskTiff::create(path(".tif"), width, height, &classes, georef.as_ref()).expect("begun");
    let mut png = write::MaskPng::create(path(".png"), width, height, &classes).expect("begun");
    let rows = if small { height } else { 1024 };
    let mut whole = None;
    for y in (0..height).step_by(rows) {
        let image =
            source.image(Window::new(0, y, width, rows.min(height - y))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mask = classify(&image);
        tiff.write(&mask.classes).expect("written");
        png.write(&mask.classes).expect("written");
        whole = Some((image, mask));
    }
    tiff.finish().expect("finished");
    png.finish().expect("finished");
    let (image, mask) = whole.expect("at least one row");
    if small {
        write::rgb_png(path("-rgb.png"), &image).expect("written");
        let drawn = overlay::blend(&image, &mask, &classes, overlay::Style::default()).expect("drawn");
        write::rgb_png(path("-overlay.png"), &drawn).expect("written");
        let polygons = trace_mask(&mask, Options::default()).expect("traced");
        write::atomic(path(".geojson"), |file| geojson::write(file, &polygons, &classes, georef.as_ref()))
            .expect("written");
        let smooth = trace_mask(&mask, Options { min_pixels: 8, tolerance: 2.0 }).expect("traced");
        write::atomic(path("-smooth.geojson"), |file| geojson::write(file, &smooth, &classes, georef.as_ref()))
            .expect("written");
    }
    serde_json::json!({ "name": name, "input": input, "small": small, "georef": georef.is_some() })
}

#[test]
fn outputs_line_up_with_their_inputs() {
    let (Some(data), Some(python)) = (data(), python()) else { return };
    let temporary = tempfile::tempdir().expect("a folder");
    let out = std::env::var_os("SAMLORA_OUT").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&out).expect("a folder");
    let mut jobs = Vec::new();
    let mut inputs: Vec<PathBuf> = images(&data.join("georef")).collect();
    for set in ["buildings", "landcover"] {
        inputs.extend(images(&data.join("classified-tiles").join(set).join("images")).next());
    }
    inputs.extend(images(&data.join("dubai-landcover/images")).next());
    for (i, input) in inputs.into_iter().enumerate() {
        let name = format!("{i}-{}", input.file_stem().expect("a name").to_string_lossy());
        let mut source = source::open(&input).and_then(|r| Colours::new(r, None)).expect("opened");
        jobs.push(outputs(&name, Some(&input), &mut source, &out));
    }
    for mosaic in xyz::mosaics(data.join("tiles/xyz-philippines"), None).expect("a folder of tiles") {
        let zoom = mosaic.zoom();
        let mut mosaic = Colours::new(Box::new(mosaic), None).expect("a picture");
        let mut job = outputs(&format!("xyz-{zoom}"), None, &mut mosaic, &out);
        job["zoom"] = zoom.into();
        jobs.push(job);
    }
    check(&python, &out, &data, &jobs, &serde_json::json!(classes()));
}

fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("SAMLORA_PYTHON");
    if python.is_none() {
        println!(
            "left out: SAMLORA_PYTHON is not set (a Python with rasterio and shapely), so nothing checks the outputs"
        );
    }
    python
}

/// Has the independent reader compare what lies in `out` with the data.
fn check(python: &std::ffi::OsStr, out: &Path, data: &Path, jobs: &[serde_json::Value], classes: &serde_json::Value) {
    let manifest = out.join("jobs.json");
    let folder = data.join("tiles/xyz-philippines");
    let json = serde_json::json!({ "out": out, "tiles": folder, "jobs": jobs, "classes": classes });
    std::fs::write(&manifest, json.to_string()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/georef_check.py");
    let status = Command::new(python).arg(script).arg(&manifest).status().expect("Python runs");
    assert!(status.success(), "the outputs do not line up with their inputs");
}

/// The whole way: the demo's model on one file of every kind, by the command.
#[test]
fn the_command_lines_up_with_its_inputs() {
    let (Some(data), Some(python)) = (data(), python()) else { return };
    let temporary = tempfile::tempdir().expect("a folder");
    let (demo, out) = (temporary.path().join("demo"), temporary.path().join("out"));
    let samlora = |arguments: &mut Command| {
        let output = arguments.output().expect("the command runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let binary = env!("CARGO_BIN_EXE_samlora");
    samlora(Command::new(binary).args(["demo", "--out"]).arg(&demo));
    let mut inputs: Vec<PathBuf> = images(&data.join("georef")).collect();
    inputs.extend(images(&data.join("oam-buildings/zanzibar/images")).next());
    inputs.extend(images(&data.join("oam-buildings/banepa-512-train/images")).next());
    let mut command = Command::new(binary);
    command.arg("segment").arg("--json").arg("--model").arg(demo.join("package")).arg("--out").arg(&out);
    command.args(["--format", "png,overlay,geojson,geotiff"]).args(&inputs).arg(data.join("tiles/xyz-philippines"));
    let reports = samlora(&mut command);
    let mut jobs = Vec::new();
    for line in reports.lines() {
        let report: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let input = PathBuf::from(report["input"].as_str().expect("an input"));
        let side = |name: &str| report[name].as_u64().expect("a side");
        let folder = input.is_dir();
        jobs.push(serde_json::json!({
            "name": input.file_stem().expect("a name").to_string_lossy(),
            "input": if folder { None } else { Some(&input) },
            "zoom": 21, // the largest that the folder has
            "small": side("width") * side("height") <= 4 << 20,
            "georef": input.extension().is_some_and(|e| e == "tif"),
            // a picture that only its name, z-x-y, places
            "tile": !folder && input.extension().is_none_or(|e| e != "tif"),
            "command": true,
        }));
    }
    assert_eq!(jobs.len(), inputs.len() + 1);
    let manifest = std::fs::read_to_string(demo.join("package/samlora.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    check(&python, &out, &data, &jobs, &manifest["classes"]);
}

#[test]
fn every_real_image_opens() {
    let Some(data) = data() else { return };
    let mut count = 0;
    for folder in
        ["georef", "dubai-landcover/images", "classified-tiles/landcover/images", "classified-tiles/buildings/images"]
    {
        for path in images(&data.join(folder)) {
            let mut source = source::open(&path).unwrap_or_else(|e| panic!("{e}"));
            let (width, height) = source.size();
            source.read(Window::new(width / 2, height / 2, 1, 1), &[0]).unwrap_or_else(|e| panic!("{e}"));
            let georeferenced = !folder.starts_with("dubai");
            assert_eq!(source.georef().is_some_and(|g| g.crs.epsg.is_some()), georeferenced, "{}", source.describe());
            count += 1;
        }
    }
    for place in ["banepa", "philippines", "zanzibar", "banepa-512-train"] {
        for path in images(&data.join("oam-buildings").join(place).join("images")) {
            let source = source::open(&path).unwrap_or_else(|e| panic!("{e}"));
            let georef = source.georef().expect("a tile's name places it");
            let (width, height) = source.size();
            let metres = georef.ground_resolution(width, height).expect("Web Mercator converts");
            assert!((0.05..0.4).contains(&metres), "{}: {metres}", path.display());
            count += 1;
        }
        for mosaic in xyz::mosaics(data.join("oam-buildings").join(place).join("images"), None).expect("tiles") {
            println!("{place}: {}", mosaic.describe());
        }
    }
    println!("{count} images opened");
    assert!(count > 1300);
}

#[test]
fn gaps_in_a_mosaic_hold_no_data() {
    let Some(data) = data() else { return };
    for mut mosaic in xyz::mosaics(data.join("tiles/xyz-philippines"), None).expect("tiles") {
        let (width, height) = mosaic.size();
        let patch = mosaic.read(Window::whole((width, height)), &[0]).expect("read");
        let gaps = patch.valid.iter().filter(|valid| !**valid).count();
        let tiles = mosaic.tile_count().expect("counted") as usize * 256 * 256;
        assert_eq!(gaps, width * height - tiles, "{}", mosaic.describe());
    }
}
