//! Levels, resampling, and masks at another resolution than their input's: against rasterio (GDAL) and numpy, and through the
//! command.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::command::{fails, fixture, json, succeeds};
use samlora::source::{self, Raster, Resampled, Samples, SourceOptions, Window, open_levels};
use serde_json::{Value, json};

fn python(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SAMLORA_PYTHON").map(PathBuf::from);
    if found.is_none() {
        println!(
            "left out: {test}, SAMLORA_PYTHON is not set, so that there is no Python with rasterio to compare with"
        );
    }
    found
}

/// A window's samples and validity in files, and what they are.
fn dump(raster: &mut dyn Raster, window: Window, stem: &str, out: &Path) -> Value {
    let bands: Vec<usize> = (0..raster.bands()).collect();
    let patch = raster.read(window, &bands).unwrap_or_else(|e| panic!("{e}"));
    let Samples::U8(samples) = &patch.samples else { panic!("8 bits") };
    fs::write(out.join(format!("{stem}.samples")), samples).unwrap();
    let valid: Vec<u8> = (0..window.pixels()).map(|i| u8::from(patch.is_valid(i))).collect();
    fs::write(out.join(format!("{stem}.valid")), valid).unwrap();
    json!({ "stem": stem, "x": window.x, "y": window.y, "width": window.width, "height": window.height, "bands": bands.len() })
}

fn check(python: &Path, out: &Path, jobs: &[Value]) {
    let manifest = out.join("jobs.json");
    fs::write(&manifest, json!({ "out": out, "jobs": jobs }).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resolution_check.py");
    let status = Command::new(python).arg(script).arg(&manifest).status().unwrap();
    assert!(status.success(), "what was resampled is not what others make of it");
}

#[test]
fn overviews_are_levels_at_their_place() {
    let Some(data) = common::data("overviews", ".") else { return };
    let Some(python) = python("overviews") else { return };
    let out = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (index, name) in [
        "georef/naip-3857/usda_naip_256_lzw_z3.tif",
        "georef/naip-3857/usda_naip_512_webp_z5.tif",
        "georef/naip-4band/m_4709963_se_14_1_20200831.tif",
        "odd/jpeg-ycbcr-internal-mask-cog.tif",
    ]
    .into_iter()
    .enumerate()
    {
        let path = data.join(name);
        let levels = open_levels(&path, &SourceOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(source::open(&path).unwrap().overviews().len() + 1, levels.levels.len(), "{name}");
        for (at, mut level) in levels.levels.into_iter().enumerate() {
            let (width, height) = level.raster.size();
            let window = Window::new(width / 3, height / 3, (width / 2).clamp(1, 500), (height / 2).clamp(1, 400));
            let found = dump(level.raster.as_mut(), window, &format!("{index}-{at}"), out.path());
            let transform = level.raster.georef().unwrap().transform;
            jobs.push(json!({ "kind": "level", "path": path, "level": at, "transform": transform, "window": found }));
        }
    }
    check(&python, out.path(), &jobs);
}

#[test]
fn means_by_area_are_those_of_others() {
    let Some(data) = common::data("means by area", ".") else { return };
    let Some(python) = python("means by area") else { return };
    let out = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    // All of it data, with a no-data value, and with a mask beside it.
    for (index, name) in
        ["georef/naip-4band/m_4709963_se_14_1_20200831.tif", "odd/nodata0-collar.tif", "odd/rgb-external-msk.tif"]
            .into_iter()
            .enumerate()
    {
        let path = data.join(name);
        for factor in [0.4, 0.75, 2.0, 2.5, 3.7, 12.0] {
            let mut raster = Resampled::new(source::open(&path).unwrap(), factor).unwrap();
            let (width, height) = raster.size();
            let stem = format!("{index}-{factor}");
            let window = Window::whole((width.min(900), height.min(800)));
            let found = dump(&mut raster, window, &stem, out.path());
            // A window that begins elsewhere.
            let (x, y) = (window.width / 2 + 3, window.height / 3 + 1);
            let shifted = Window::new(x, y, window.width - x, window.height - y);
            let bands: Vec<usize> = (0..raster.bands()).collect();
            let (whole, part) = (raster.read(window, &bands).unwrap(), raster.read(shifted, &bands).unwrap());
            for i in 0..shifted.pixels() {
                let at = (y + i / shifted.width) * window.width + x + i % shifted.width;
                assert_eq!(part.is_valid(i), whole.is_valid(at));
                let (Samples::U8(a), Samples::U8(b)) = (&part.samples, &whole.samples) else { panic!("8 bits") };
                assert!(a[i * bands.len()..][..bands.len()] == b[at * bands.len()..][..bands.len()]);
            }
            let transform = raster.georef().unwrap().transform;
            jobs.push(
                json!({ "kind": "resampled", "path": path, "factor": factor, "transform": transform, "window": found }),
            );
        }
    }
    check(&python, out.path(), &jobs);
}

/// A package of the tiny model, trained, as it says, at so many metres a pixel; an empty text leaves that out.
fn package(folder: &Path, metres: &str) -> String {
    let out = folder.join(format!("package{metres}")).display().to_string();
    let (base, adapter) = (fixture("tiny_sam.pth"), fixture("s96_k6_lora.pth"));
    let args = ["export", "--base", &base, "--adapter", &adapter, "--out", &out, "--classes", "a,b=#ff0000,c,d,e"];
    let size = ["--input-size", "96", "--tile-size", "72"];
    let known = if metres.is_empty() { vec![] } else { vec!["--ground-resolution", metres] };
    succeeds(&[&args[..], &size[..], &known].concat());
    out
}

fn segment(model: &str, input: &Path, out: &Path, more: &[&str]) -> Value {
    let (input, out) = (input.display().to_string(), out.display().to_string());
    json(&[&["segment", "--json", "--model", model, &input, "--out", &out, "--format", "geotiff"][..], more].concat())
}

/// The classes of a mask, and where it lies.
fn mask(report: &Value) -> (Vec<u8>, (usize, usize), [f64; 6]) {
    let path = Path::new(report["files"][0].as_str().unwrap());
    let mut raster = source::open(path).unwrap();
    let mask = source::raw::mask(path).unwrap();
    let source::raw::MaskValues::U8(values) = mask.values else { panic!("8 bits") };
    let size = raster.size();
    assert!(raster.read(Window::new(0, 0, 1, 1), &[0]).is_ok());
    (values, size, raster.georef().unwrap().transform)
}

#[test]
fn masks_lie_on_the_input_whatever_the_model_sees() {
    let Some(data) = common::data("masks on the input's grid", "tiles") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = package(folder.path(), "0.13");
    let mut found = Vec::new();
    for name in ["philippines.pmtiles", "philippines.mbtiles", "xyz-philippines"] {
        let report = segment(&model, &data.join(name), &folder.path().join(name), &[]);
        let seen = &report["resolution"];
        // 7.2 cm are averaged to 13.
        assert!((seen["factor"].as_f64().unwrap() - 0.13 / 0.0724).abs() < 0.02, "{seen}");
        assert!((seen["model_metres"].as_f64().unwrap() - 0.13).abs() < 1e-9 && seen["level"] == 0, "{seen}");
        let (classes, size, transform) = mask(&report);
        let mut finest = open_levels(data.join(name), &SourceOptions::default()).unwrap().levels.remove(0);
        assert_eq!((size, transform), (finest.raster.size(), finest.raster.georef().unwrap().transform));
        let patch = finest.raster.read(Window::whole(size), &[0]).unwrap();
        // A pixel holds no data where the input has none, and where more than half of the model's pixel has none.
        let empty = |i: usize| classes[i] == 255;
        assert!((0..classes.len()).all(|i| patch.is_valid(i) || empty(i)));
        let lost = (0..classes.len()).filter(|i| patch.is_valid(*i) && empty(*i)).count();
        assert!(lost * 200 < classes.len(), "{lost} of {}", classes.len());
        assert_eq!(report["pixels_without_data"], classes.iter().filter(|c| **c == 255).count());
        if name != "xyz-philippines" {
            assert!(report["attribution"].as_str().unwrap().contains("OpenAerialMap"));
        }
        found.push(classes);
    }
    assert!(found[0] == found[1] && found[0] == found[2]);

    let input = data.join("philippines.pmtiles");
    let report = segment(&model, &input, &folder.path().join("model"), &["--grid", "model"]);
    let (_, size, transform) = mask(&report);
    let (_, finest, fine) = mask(&segment(&model, &input, &folder.path().join("native"), &["--resolution", "native"]));
    let factor = report["resolution"]["factor"].as_f64().unwrap();
    assert!((transform[0] / fine[0] - factor).abs() < 1e-9 && (size.0 as f64 - finest.0 as f64 / factor).abs() <= 2.0);
    // A coarser level serves where it is as fine as wanted; its mask lies on the finest all the same.
    let report = segment(&model, &input, &folder.path().join("coarse"), &["--resolution", "0.3"]);
    assert_eq!((report["resolution"]["level"].as_u64(), report["resolution"]["levels"].as_u64()), (Some(2), Some(3)));
    assert_eq!(mask(&report).1, finest);
    let report = segment(&model, &input, &folder.path().join("zoom"), &["--zoom", "20"]);
    assert_eq!(
        (report["resolution"]["levels"].as_u64(), report["resolution"]["factor"].as_f64()),
        (Some(1), Some(1.0))
    );
    // A part of it.
    let report = segment(
        &model,
        &input,
        &folder.path().join("part"),
        &["--zoom", "21", "--bbox", "124.2637,13.9689,124.2640,13.9691"],
    );
    let (part, part_size, place) = mask(&report);
    assert!(part_size.0 < finest.0 && part_size.1 < finest.1 && part.iter().any(|c| *c != 255));
    assert!((place[2] - fine[2]) / fine[0] >= 0.0 && place[0] == fine[0]);
}

#[test]
fn resolutions_that_are_not_known_or_too_far() {
    let Some(data) = common::data("unknown and far resolutions", ".") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (model, other) = (package(folder.path(), "0.13"), package(folder.path(), ""));
    let out = |name: &str| folder.path().join(name);
    let warnings =
        |report: &Value| report["warnings"].as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    // A picture without a place.
    let picture = data.join("oam-buildings/banepa-512-train/images");
    let mut pictures: Vec<PathBuf> = picture.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
    pictures.sort();
    let plain = out("plain.png");
    let mut image = source::open(&pictures[0]).unwrap();
    let patch = image.read(Window::new(0, 0, 200, 150), &[0, 1, 2]).unwrap();
    let Samples::U8(samples) = patch.samples else { panic!("8 bits") };
    let image = samlora::image::RgbImage::new(200, 150, samples).unwrap();
    source::write::rgb_png(&plain, &image).unwrap();
    let told = warnings(&segment(&model, &plain, &out("a"), &[]));
    assert!(told.len() == 1 && told[0].contains("not known") && told[0].contains("0.130 m"), "{told:?}");
    assert_eq!(warnings(&segment(&model, &plain, &out("b"), &["--resolution", "native"])), [""; 0]);
    assert_eq!(warnings(&segment(&other, &plain, &out("c"), &[])), [""; 0]);
    let text = |path: &Path| path.display().to_string();
    for (package, resolution, words) in
        [(&model, "model", "image is not known"), (&other, "model", "model is not known")]
    {
        let args =
            ["segment", "--model", package, &text(&plain), "--out", &text(&out("d")), "--resolution", resolution];
        fails(&args, &[words, "--resolution"]);
    }
    // 44 cm, as it is there, for a model of 10.
    let model = package(folder.path(), "0.1");
    let naip = data.join("georef/naip-3857/usda_naip_128_none_z2.tif");
    let args = ["segment", "--model", &model, &text(&naip), "--out", &text(&out("e"))];
    fails(&args, &["coarser", "0.100 m", "--resolution model", "--resolution native"]);
    let report = segment(&model, &naip, &out("f"), &["--resolution", "model"]);
    assert!(report["resolution"]["factor"].as_f64().unwrap() < 0.3, "{report}");
    assert_eq!(mask(&report).1, (128, 256));
    assert!(warnings(&segment(&model, &naip, &out("g"), &["--resolution", "native"]))[0].contains("coarser"));
    for (option, value) in [("--bbox", "1,2,3"), ("--bbox", "3,2,1,4"), ("--zoom", "3")] {
        fails(&[&args[..], &[option, value]].concat(), &[option]);
    }
}

/// The Philippines' four places at `side` pixels a side each, averaged or interpolated, and their masks by the nearest pixel.
#[cfg(feature = "train")]
fn places(data: &Path, out: &Path, side: usize) {
    use samlora::image::RgbImage;
    use samlora::source::{Axis, Memory, Regrid};
    for folder in ["images", "masks"] {
        fs::create_dir_all(out.join(folder)).unwrap();
    }
    for entry in data.join("images").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut image = source::open(&path).unwrap();
        let size = image.size();
        let Samples::U8(pixels) = image.read(Window::whole(size), &[0, 1, 2]).unwrap().samples else {
            panic!("8 bits")
        };
        let whole = RgbImage::new(size.0, size.1, pixels).unwrap();
        let mut seen = Resampled::new(Memory::rgb(&whole), size.0 as f64 / side as f64).unwrap();
        assert_eq!(seen.size(), (side, side));
        let Samples::U8(pixels) = seen.read(Window::whole((side, side)), &[0, 1, 2]).unwrap().samples else {
            panic!("8 bits")
        };
        // Their names, z-x-y, place them.
        let named = out.join(format!("images/{stem}.png"));
        source::write::rgb_png(named, &RgbImage::new(side, side, pixels).unwrap()).unwrap();
        let mask = source::raw::mask(&data.join(format!("masks/{stem}.png"))).unwrap();
        let source::raw::MaskValues::U8(values) = mask.values else { panic!("8 bits") };
        let axis = Axis { scale: size.0 as f64 / side as f64, offset: 0.0 };
        let classes = Regrid::new(size, (side, side), [axis; 2]).push(0, &values, &values).classes;
        let file = fs::File::create(out.join(format!("masks/{stem}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, side as u32, side as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&classes).unwrap();
    }
}

/// What the model of buildings is worth on rasters of half and double its pixels: nearly as much as on its own.
#[test]
#[cfg(feature = "train")]
fn half_and_double_the_pixels_of_the_model() {
    /// Of the IoU at the model's own resolution.
    const KEPT: f64 = 0.95;
    let Some(data) = common::data("half and double the model's pixels", "oam-buildings/philippines/mosaic1024") else {
        return;
    };
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo/models/buildings").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    // 1024 pixels of 7.2 cm are 562 of the model's 13.2.
    let measure = |side: usize, more: &[&str]| {
        let made = folder.path().join(side.to_string());
        if !made.exists() {
            places(&data, &made, side);
        }
        let made = made.display().to_string();
        let args = ["evaluate", "--json", "--model", &model, "--data", &made, "--class", "1=building"];
        let found = json(&[&args[..], more].concat());
        found["metrics"]["mean_iou_foreground"].as_f64().unwrap()
    };
    let own = measure(562, &[]);
    assert!((measure(562, &["--resolution", "native"]) - own).abs() < 1e-9);
    let shares = [1124, 281].map(|side| {
        let (seen, native) = (measure(side, &[]), measure(side, &["--resolution", "native"]));
        println!("{side} px: IoU {seen:.4}, {:.3} of {own:.4} at the model's own; {native:.4} as they are", seen / own);
        seen / own
    });
    assert!(own > 0.5 && shares.iter().all(|share| *share >= KEPT), "{own} {shares:?}");
}
