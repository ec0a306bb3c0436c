//! Every raster of the shared data that broke a reader somewhere, read here and by rasterio (GDAL): the samples and which
//! pixels hold data must be equal, or the file must be refused with the error that is listed here.
//!
//! Takes the data from `SAMLORA_DATA` (its sibling folder `cases` too) and a Python with rasterio from `SAMLORA_PYTHON`.

use std::path::{Path, PathBuf};
use std::process::Command;

use samlora::error::{Error, ErrorKind, Result};
use samlora::source::raw::{self, MaskValues};
use samlora::source::{self, Colours, Raster, Samples, Window, xyz};
use serde_json::{Value, json};

/// Files that are refused, and why: a wrong picture would be worse.
const REFUSED: &[(&str, ErrorKind, &str)] = &[
    ("odd/cmyk-8bit.tif", ErrorKind::Unsupported, "inks are no colours without their profile"),
    ("odd/complex-int16-gcps.tif", ErrorKind::Unsupported, "complex numbers are no picture"),
    ("odd/corrupt-jpeg-tile.tif", ErrorKind::Format, "its tiles are damaged; GDAL fails too"),
    ("odd/lerc-float32-nodata.tif", ErrorKind::Unsupported, "LERC is not read"),
    ("odd/lerc-uint8.tif", ErrorKind::Unsupported, "LERC is not read"),
    ("cases/batch-stops-at-first-bad-file/b.tif", ErrorKind::Format, "the file is empty"),
    ("cases/inspect-misses-truncated-images/data/images/t1_0.png", ErrorKind::Format, "the file is cut off"),
];
/// Larger images are compared in windows.
const WHOLE: usize = 4 << 20;

/// The folder of the data and the Python, or a line that says what is missing.
fn tools() -> Option<(PathBuf, PathBuf)> {
    let find = |name: &str, what: &str| {
        let found = std::env::var_os(name).map(PathBuf::from);
        if found.is_none() {
            println!("left out: {name} is not set, so that there is no {what}");
        }
        found
    };
    Some((find("SAMLORA_DATA", "real file to read")?, find("SAMLORA_PYTHON", "Python with rasterio to compare with")?))
}

/// The folder of small inputs that once went wrong; it lies beside the data.
fn cases() -> Option<PathBuf> {
    let data = std::env::var_os("SAMLORA_DATA").map(PathBuf::from);
    let cases = data.and_then(|d| d.parent().map(|p| p.join("cases"))).filter(|c| c.is_dir());
    if cases.is_none() {
        println!("left out: SAMLORA_DATA is not set or has no folder cases beside it");
    }
    cases
}

/// All rasters below a folder that stand for themselves: no masks beside them, no tiles of a folder.
fn rasters(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.join("tilemapresource.xml").is_file() {
            out.extend(rasters(&path));
        } else if path.extension().is_some_and(|e| ["tif", "png", "jpg"].contains(&e.to_string_lossy().as_ref())) {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// A window's samples and validity in files, and a line that says what they are.
fn dump(raster: &mut dyn Raster, window: Window, stem: &str, out: &Path) -> Result<Value> {
    let bands: Vec<usize> = (0..raster.bands()).collect();
    let patch = raster.read(window, &bands)?;
    let bytes: Vec<u8> = match &patch.samples {
        Samples::U8(v) => v.clone(),
        Samples::U16(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Samples::F32(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let valid: Vec<u8> = (0..window.pixels()).map(|i| u8::from(patch.is_valid(i))).collect();
    std::fs::write(out.join(format!("{stem}.samples")), bytes).expect("written");
    std::fs::write(out.join(format!("{stem}.valid")), valid).expect("written");
    Ok(json!({ "stem": stem, "x": window.x, "y": window.y, "width": window.width, "height": window.height }))
}

/// Reads a raster whole and in windows that cut its blocks.
fn read(path: &Path, index: usize, out: &Path) -> Result<Value> {
    let mut raster = source::open(path)?;
    let (width, height) = raster.size();
    let part = |x: usize, y: usize| {
        let (x, y) = (x.min(width - 1), y.min(height - 1));
        Window::new(x, y, (width / 2).clamp(1, 701).min(width - x), (height / 2).clamp(1, 401).min(height - y))
    };
    let mut windows = vec![part(width / 3, height / 3), part(width - width.min(90), height - height.min(90))];
    if width * height <= WHOLE {
        windows.push(Window::whole((width, height)));
    }
    let mut dumped = Vec::new();
    for (i, window) in windows.into_iter().enumerate() {
        dumped.push(dump(raster.as_mut(), window, &format!("{index}-{i}"), out)?);
    }
    Ok(json!({
        "bands": raster.bands(), "depth": raster.depth(), "size": [width, height], "overviews": raster.overviews(),
        "colours": raster.interpretation().colours, "windows": dumped,
    }))
}

/// Reads a label raster.
fn read_labels(path: &Path, index: usize, out: &Path) -> Result<Value> {
    let mask = raw::mask(path)?;
    let values: Vec<u8> = match mask.values {
        MaskValues::U8(v) => v.into_iter().flat_map(|v| f32::from(v).to_le_bytes()).collect(),
        MaskValues::U16(v) => v.into_iter().flat_map(|v| f32::from(v).to_le_bytes()).collect(),
        MaskValues::F32(v) => v.into_iter().flat_map(f32::to_le_bytes).collect(),
        MaskValues::Rgb(_) => panic!("{}: colours", path.display()),
    };
    let pixels = mask.width * mask.height;
    let valid: Vec<u8> = (0..pixels).map(|i| u8::from(mask.nodata.get(i).is_none_or(|n| !n))).collect();
    let stem = format!("{index}-labels");
    std::fs::write(out.join(format!("{stem}.samples")), values).expect("written");
    std::fs::write(out.join(format!("{stem}.valid")), valid).expect("written");
    Ok(json!({ "stem": stem, "width": mask.width, "height": mask.height }))
}

/// Runs the Python script beside this file.
fn run(python: &Path, arguments: &[&Path]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_files_check.py");
    let status = Command::new(python).arg(script).args(arguments).status().expect("Python runs");
    assert!(status.success(), "what was read is not what GDAL reads");
}

/// Reads all rasters of some folders and has them compared.
fn compare(python: &Path, folders: &[(&str, PathBuf)]) {
    let out = tempfile::tempdir().expect("a folder");
    let mut jobs = Vec::new();
    let mut refused = Vec::new();
    for (name, folder) in folders {
        for path in rasters(folder) {
            let short = format!("{name}/{}", path.strip_prefix(folder).expect("below").display());
            let index = jobs.len() + refused.len();
            let read = read(&path, index, out.path());
            let listed = REFUSED.iter().find(|(file, ..)| *file == short);
            match (read, listed) {
                (Ok(mut job), None) => {
                    job["path"] = json!(path);
                    // JPEG loses label values, and 16 bits of colour have none.
                    if let Ok(labels) = read_labels_of(&path, index, out.path()) {
                        job["labels"] = labels;
                    }
                    jobs.push(job);
                }
                (Err(error), Some((_, kind, _))) => {
                    assert_eq!(error.kind(), *kind, "{error}");
                    assert!(error.remedy_text().is_some(), "{error}");
                    refused.push(short);
                }
                (Ok(_), Some((_, _, why))) => panic!("{short} was read, although {why}"),
                (Err(error), None) => panic!("{short} should be read: {error}"),
            }
        }
    }
    let missing = REFUSED.iter().filter(|(file, ..)| !refused.iter().any(|r| r == file));
    let expected = missing.filter(|(file, ..)| folders.iter().any(|(name, _)| file.starts_with(name)));
    assert_eq!(expected.count(), 0, "refused: {refused:?}");
    let manifest = out.path().join("jobs.json");
    std::fs::write(&manifest, json!({ "out": out.path(), "jobs": jobs }).to_string()).expect("written");
    run(python, &[&manifest]);
    println!("{} rasters are as GDAL reads them, {} are refused", jobs.len(), refused.len());
}

#[test]
fn rasters_read_as_gdal_reads_them() {
    let Some((data, python)) = tools() else { return };
    let mut folders = vec![("odd", data.join("odd")), ("georef", data.join("georef"))];
    folders.extend(cases().map(|cases| ("cases", cases)));
    compare(&python, &folders);
}

/// Types, bands, layouts, compressions, predictors, byte orders, masks: files that GDAL writes, drawn by a seed.
#[test]
fn what_gdal_writes_is_read_as_gdal_reads_it() {
    let python = std::env::var_os("SAMLORA_PYTHON").map(PathBuf::from);
    let Some(python) = python else {
        println!("left out: SAMLORA_PYTHON is not set, so that there is no Python with rasterio to compare with");
        return;
    };
    let made = tempfile::tempdir().expect("a folder");
    run(&python, &[Path::new("make"), made.path()]);
    compare(&python, &[("made", made.path().to_owned())]);
}

/// The labels of files of one band.
fn read_labels_of(path: &Path, index: usize, out: &Path) -> Result<Value> {
    let header = raw::mask_header(path)?;
    if header.colours {
        return Err(Error::new(ErrorKind::Unsupported, "colours"));
    }
    read_labels(path, index, out)
}

fn picture(path: &Path) -> Colours {
    source::open(path).and_then(|raster| Colours::new(raster, None)).unwrap_or_else(|e| panic!("{e}"))
}

/// The colours of the pixels that hold data; black elsewhere.
fn seen(path: &Path) -> (Vec<u8>, Vec<bool>) {
    let mut picture = picture(path);
    let patch = picture.read(Window::whole(picture.size()), &[0, 1, 2]).unwrap_or_else(|e| panic!("{e}"));
    let Samples::U8(samples) = patch.samples else { panic!("a picture has 8 bits") };
    (samples, patch.valid)
}

#[test]
fn a_mask_is_a_mask_wherever_it_stands() {
    let Some(cases) = cases() else { return };
    let folder = cases.join("internal-mask-ignored");
    let valid = ["alpha.tif", "imask.tif", "msk_side.tif"].map(|name| seen(&folder.join(name)).1);
    assert_eq!(valid[0].iter().filter(|v| !**v).count(), 156 * 256);
    assert!(valid[0].chunks(256).all(|row| row[..100].iter().all(|v| *v) && row[100..].iter().all(|v| !*v)));
    assert!(valid[1] == valid[0] && valid[2] == valid[0]);
}

#[test]
fn equal_samples_are_equal_pictures() {
    let Some(cases) = cases() else { return };
    let of = |name: &str| seen(&cases.join(name)).0;
    let png = of("png16-not-stretched/p16.png");
    assert!(png == of("png16-not-stretched/p16.tif") && png.iter().any(|v| *v > 200));
    assert!(of("bgr-order-ignored/bgrn.tif") == of("bgr-order-ignored/rgb.tif"));
    let told = picture(&cases.join("bgr-order-ignored/bgrn.tif")).describe();
    assert!(told.contains("bands 3, 2, 1 as red, green, blue"), "{told}");
    assert!(!picture(&cases.join("bgr-order-ignored/rgb.tif")).describe().contains("bands 1"));
    let open = || source::open(cases.join("bgr-order-ignored/bgrn.tif")).expect("opened");
    let mut asked = Colours::new(open(), Some([3, 1, 0])).expect("a picture");
    let (whole, raw) = (Window::whole((256, 256)), open().read(Window::whole((256, 256)), &[3, 1, 0]));
    assert_eq!(asked.read(whole, &[0, 1, 2]).expect("read"), raw.expect("read"));
    assert_eq!(Colours::new(open(), Some([0, 1, 4])).map(|_| ()).expect_err("no band 5").kind(), ErrorKind::Invalid);
}

#[test]
fn tiles_counted_from_the_south() {
    let Some(cases) = cases() else { return };
    let folder = cases.join("tms-folder-read-as-xyz/tms");
    let place = |tms: Option<bool>| {
        let mosaic = xyz::mosaics(&folder, tms).expect("tiles").pop().expect("one level");
        mosaic.bounds_lon_lat().expect("bounds").north
    };
    assert!((place(None) - 13.97).abs() < 0.01 && (place(Some(true)) - place(None)).abs() < 1e-9);
    assert!((place(Some(false)) + 13.97).abs() < 0.01);
    let mosaic = xyz::mosaics(&folder, None).expect("tiles").pop().expect("one level");
    let (_, height) = mosaic.size();
    let mut mosaic = picture_of(mosaic);
    // The tile of the highest number from the south is the uppermost.
    let first = picture(&folder.join("21/1772484/1130774.jpg")).image(Window::whole((256, 256))).expect("read");
    assert_eq!(mosaic.image(Window::whole((256, 256))).expect("read"), first);
    assert_eq!(height, 3 * 256);
}

fn picture_of(mosaic: xyz::Mosaic) -> Colours {
    Colours::new(Box::new(mosaic), None).expect("a picture")
}

#[test]
fn each_block_is_decoded_once() {
    let Some((data, _)) = tools() else { return };
    for (file, blocks) in [
        ("georef/naip-3857/usda_naip_256_lzw_z3.tif", 4 * 8),
        ("odd/jpeg-ycbcr-internal-mask-cog.tif", 2 * 2),
        ("odd/uint16-scaled.tif", 256_u64.div_ceil(5)),
        ("odd/planar-rgb-u8.tif", 3 * 499_u64.div_ceil(21)),
        ("tiles/xyz-philippines", 0),
    ] {
        let path = data.join(file);
        let (raster, blocks): (Box<dyn Raster>, u64) = if path.is_dir() {
            let mosaic = xyz::mosaics(&path, None).expect("tiles").pop().expect("a level");
            let count = mosaic.tile_count().expect("counted");
            (Box::new(mosaic), count)
        } else {
            (source::open(&path).expect("opened"), blocks)
        };
        let mut picture = Colours::new(raster, None).expect("a picture");
        let (width, height) = picture.size();
        // As segmenting, drawing and statistics do: windows that overlap, then rows, then samples.
        for y in (0..height).step_by(384) {
            for x in (0..width).step_by(384) {
                let window = Window::new(x, y, 512.min(width - x), 512.min(height - y));
                picture.image(window).expect("read");
                picture.inner_mut().read(window, &[0]).expect("read");
            }
        }
        for y in (0..height).step_by(256) {
            picture.image(Window::new(0, y, width, 256.min(height - y))).expect("read");
        }
        assert_eq!(picture.decoded_blocks(), blocks, "{file}");
    }
}
