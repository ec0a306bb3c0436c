//! Image and label agree in place, pixels and orientation, or it is said; what cannot be used is named before training.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::Path;

use common::chips::{Folder, png};
use common::command::{fails, json, samlora, succeeds, text};
use common::lab::Lab;
use image::ExtendedColorType;
use samlora::error::ErrorKind;
use samlora::georef::GeoKeys;
use samlora::train::dataset::{Dataset, DatasetOptions};
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::{ColorType, Gray8, RGB8};
use tiff::tags::Tag;

/// A GeoTIFF whose corner, pixel size (negative heights are south-up) and system are given.
fn geotiff<C: ColorType<Inner = u8>>(path: &Path, side: u32, data: &[u8], place: ([f64; 2], [f64; 2], u32)) {
    let ([x, y], [width, height], epsg) = place;
    let mut encoder = TiffEncoder::new(fs::File::create(path).unwrap()).unwrap();
    let mut image = encoder.new_image::<C>(side, side).unwrap();
    let matrix = [width, 0.0, 0.0, x, 0.0, -height, 0.0, y, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let tags = image.encoder();
    tags.write_tag(Tag::ModelTransformationTag, &matrix[..]).unwrap();
    tags.write_tag(Tag::GeoKeyDirectoryTag, &GeoKeys::from_epsg(epsg).unwrap().directory[..]).unwrap();
    image.write_data(data).unwrap();
}

const SIDE: u32 = 20;
const CORNER: [f64; 2] = [350_000.0, 3_060_000.0];

/// Three placed chips, 200 m apart, whose masks lie as `mask` says of the first.
fn placed(mask: ([f64; 2], [f64; 2], u32)) -> Folder {
    let folder = Folder::new();
    let pixels = (SIDE * SIDE) as usize;
    let labels: Vec<u8> = (0..pixels).map(|i| u8::from(i < pixels / 2)).collect();
    for i in 0..3u8 {
        let east = |[x, y]: [f64; 2]| [x + 200.0 * f64::from(i), y];
        let rgb = vec![50 + i; 3 * pixels];
        geotiff::<RGB8>(&folder.at(&format!("images/c{i}.tif")), SIDE, &rgb, (east(CORNER), [0.3, 0.3], 32_645));
        let (corner, size, epsg) = mask;
        geotiff::<Gray8>(&folder.at(&format!("masks/c{i}.tif")), SIDE, &labels, (east(corner), size, epsg));
    }
    folder
}

#[test]
fn masks_elsewhere_are_told_with_the_shift() {
    let here = ([0.3, 0.3], 32_645);
    let said =
        |corner: [f64; 2], (size, epsg): ([f64; 2], u32)| placed((corner, size, epsg)).opened().warnings.join("\n");
    assert_eq!(said(CORNER, here), "");
    let [x, y] = CORNER;
    for (corner, grid, words) in [
        ([x + 100.0, y], here, &["3 of 3", "/c0: it lies 100.0 m (333.3 pixels) east", "gdalwarp"][..]),
        ([x + 0.15, y], here, &["0.15 m (0.5 pixels) east"]),
        ([x, y - 0.3], here, &["0.30 m (1.0 pixels) south"]),
        (CORNER, ([0.3, 0.3], 32_644), &["km (", "west", "EPSG:32644 instead of EPSG:32645"]),
        (CORNER, ([0.6, 0.6], 32_645), &["0.60 m instead of 0.30 m"]),
        ([x, y - 6.0], ([0.3, -0.3], 32_645), &["south-up beside north-up", "(20.0 pixels)"]),
    ] {
        let warning = said(corner, grid);
        assert!(words.iter().all(|w| warning.contains(w)) && warning.lines().count() == 1, "{words:?}: {warning}");
    }
}

#[test]
fn commands_say_it_and_do_not_speak_of_overlaps() {
    let folder = placed(([CORNER[0] + 100.0, CORNER[1]], [0.3, 0.3], 32_645));
    let path = folder.path().display().to_string();
    let found = json(&["inspect", &path, "--json", "--size", "16"]);
    let warnings = found["warnings"].to_string();
    assert!(warnings.contains("333.3 pixels") && !warnings.contains("cut into cells"), "{warnings}");
    let run = folder.at("run").display().to_string();
    let train = ["train", "--data", &path, "--out", &run, "--backbone", "tiny", "--epochs", "1", "--size", "32"];
    let output = samlora(&train);
    assert!(output.status.success() && text(&output.stderr).contains("333.3 pixels"), "{}", text(&output.stderr));
}

#[test]
fn a_mask_places_an_image_that_is_not_placed() {
    let folder = placed((CORNER, [0.3, 0.3], 32_645));
    for i in 0..3 {
        fs::remove_file(folder.at(&format!("images/c{i}.tif"))).unwrap();
        png(&folder.at(&format!("images/c{i}.png")), 20, 20, &[vec![i; 400], vec![9; 400], vec![9; 400]]);
    }
    let data = folder.opened();
    assert!(data.warnings[0].contains("3 of 3") && data.warnings[0].contains("350000"), "{:?}", data.warnings);
    assert_eq!(data.samples[2].extent.unwrap().min_x, 350_400.0);
}

/// The same picture with a camera's orientation in its EXIF data.
fn with_orientation(path: &Path, orientation: u8) {
    let bytes = fs::read(path).unwrap();
    let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0], &[0; 4]].concat();
    let (at, chunk) = if bytes.starts_with(&[0xff, 0xd8]) {
        let segment = [b"Exif\0\0", exif.as_slice()].concat();
        (2, [&[0xff, 0xe1], (segment.len() as u16 + 2).to_be_bytes().as_slice(), &segment].concat())
    } else {
        let body = [b"eXIf", exif.as_slice()].concat();
        let crc = crc32fast::hash(&body).to_be_bytes();
        (33, [(exif.len() as u32).to_be_bytes().as_slice(), &body, &crc].concat())
    };
    fs::write(path, [&bytes[..at], &chunk, &bytes[at..]].concat()).unwrap();
}

/// A JPEG of `width` x `height` pixels with an orientation beside a mask of the same stored size.
fn photo(width: u32, height: u32, orientation: u8) -> Folder {
    let folder = Folder::new();
    let pixels = (width * height) as usize;
    let path = folder.at("images/a.jpg");
    image::save_buffer(&path, &vec![90; 3 * pixels], width, height, ExtendedColorType::Rgb8).unwrap();
    with_orientation(&path, orientation);
    let labels: Vec<u8> = (0..pixels).map(|i| u8::from(i < pixels / 4)).collect();
    png(&folder.at("masks/a.png"), width as usize, height as usize, &[labels]);
    folder
}

#[test]
fn orientations_that_differ_are_told() {
    for orientation in 2..=8 {
        let warning = photo(16, 16, orientation).opened().warnings.join("\n");
        let word = format!("by its EXIF orientation {orientation}, the mask as it is stored");
        assert!(warning.contains("1 of 1") && warning.contains(&word), "{word}: {warning}");
    }
    assert_eq!(photo(16, 16, 1).opened().warnings, [""; 0]);
    assert_eq!(photo(16, 8, 3).opened().warnings.len(), 1);
    let path = photo(16, 8, 6);
    let (kind, error) = common::failure(path.open(&DatasetOptions::default()));
    assert!(kind == ErrorKind::Invalid && error.contains("16 x 8") && error.contains("EXIF orientation 6"), "{error}");
    // A mask of the upright picture agrees in size, and a mask that is turned alike agrees altogether.
    png(&path.at("masks/a.png"), 8, 16, &[(0..128).map(|i| u8::from(i < 8)).collect()]);
    assert_eq!(path.opened().warnings, [""; 0]);
    let both = photo(16, 8, 6);
    with_orientation(&both.at("masks/a.png"), 6);
    let data = both.opened();
    assert_eq!(data.warnings, [""; 0]);
    // The stored upper quarter, rows 0 and 1, becomes the two columns at the right.
    let labels = data.read(0).unwrap().labels;
    assert_eq!(
        (labels.len(), &labels[..8], &labels[120..]),
        (128, &[0, 0, 0, 0, 0, 0, 1, 1][..], &[0, 0, 0, 0, 0, 0, 1, 1][..])
    );
}

#[test]
fn inspect_names_every_file_that_cannot_be_used() {
    let folder = Folder::new();
    for i in 0..5u8 {
        folder.half(&format!("c{i}"), 32, 1);
    }
    let path = folder.path().display().to_string();
    let cut = |name: &str, keep: usize| {
        let bytes = fs::read(folder.at(name)).unwrap();
        fs::write(folder.at(name), &bytes[..keep.min(bytes.len() - 20)]).unwrap();
    };
    cut("images/c1.png", 1000);
    let output = samlora(&["inspect", &path, "--size", "16"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.code() == Some(1) && out.contains("data set of 4 samples"), "{out}{err}");
    assert!(err.lines().count() == 1 && err.matches("c1.png").count() == 1 && err.contains("truncated"), "{err}");
    cut("masks/c2.png", 1000);
    cut("images/c4.png", 0);
    let output = samlora(&["inspect", &path, "--size", "16", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let err = text(&output.stderr);
    assert!(output.status.code() == Some(1) && err.contains("3 files cannot be used"), "{err}");
    for name in ["images/c1.png", "masks/c2.png", "images/c4.png"] {
        assert!(err.matches(name).count() == 1 && found["failures"].to_string().contains(name), "{name}: {err}");
    }
    assert_eq!((&found["samples"], &found["classes"][1]["samples"]), (&2.into(), &2.into()));
    let run = folder.at("run").display().to_string();
    let train = ["train", "--data", &path, "--out", &run, "--backbone", "tiny", "--epochs", "1", "--size", "32"];
    fails(&train, &["c4.png"]);
    fs::remove_file(folder.at("images/c4.png")).unwrap();
    folder.half("c2", 32, 1).half("c4", 32, 1);
    fails(&train, &["images/c1.png", "truncated"]);
    assert!(!Path::new(&run).exists());
    succeeds(&["inspect", &path, "--quick", "--size", "16"]);
}

#[test]
fn values_that_nobody_named_are_told_once_and_not_trained() {
    let lab = Lab::of(3, 64);
    fs::remove_file(lab.path("data/classes.json")).unwrap();
    for i in 0..3u8 {
        let smooth = image::GrayImage::from_fn(64, 64, |x, y| match x {
            0..26 => image::Luma([0]),
            38.. => image::Luma([200]),
            _ => image::Luma([((x - 25) * 15 + y % 13 + u32::from(i)) as u8]),
        });
        smooth.save(lab.path(&format!("data/masks/c{i}.png"))).unwrap();
    }
    let data = lab.path("data");
    let found = json(&["inspect", &data, "--json", "--size", "64"]);
    let warnings: Vec<&str> = found["warnings"].as_array().unwrap().iter().filter_map(|w| w.as_str()).collect();
    let about: Vec<_> = warnings.iter().filter(|w| w.contains("value") || w.contains("lass")).collect();
    assert!(
        about.len() == 1 && about[0].contains("values without names") && about[0].contains("--class 200=NAME"),
        "{about:?}"
    );
    let listed = succeeds(&["inspect", &data, "--size", "64"]);
    assert!(listed.lines().count() < 50 && listed.contains("classes with fewer pixels"), "{listed}");
    let run = lab.path("run");
    let train = |options: &[&str]| lab.train(&run, &[&["--backbone", "tiny", "--epochs", "1"], options].concat());
    fails(&train(&[]).as_args(), &["values without names", "gdalwarp -r near", "--every-value"]);
    assert!(!Path::new(&run).exists());
    succeeds(&train(&["--class", "200=roof", "--unlisted", "ignore"]).as_args());
    fs::remove_dir_all(&run).unwrap();
    succeeds(&train(&["--every-value"]).as_args());
    let all = DatasetOptions { every_value: true, ..Default::default() };
    let data = Dataset::open(&[data.into()], &all).unwrap();
    assert!(data.check_classes().is_ok() && data.warnings.is_empty());
}

/// A TIFF with a mask of its own over it: 0 where it holds no data.
fn with_internal_mask<C: ColorType<Inner = u8>>(path: &Path, side: u32, data: &[u8], mask: &[u8]) {
    let mut encoder = TiffEncoder::new(fs::File::create(path).unwrap()).unwrap();
    encoder.write_image::<C>(side, side, data).unwrap();
    let mut second = encoder.new_image::<Gray8>(side, side).unwrap();
    second.encoder().write_tag(Tag::NewSubfileType, 4u32).unwrap();
    second.encoder().write_tag(Tag::PhotometricInterpretation, 4u16).unwrap();
    second.write_data(mask).unwrap();
}

/// Pixels that a mask of image or label takes away are in no label, share or mean.
#[test]
fn pixels_without_data_count_nowhere() {
    let folder = Folder::new();
    folder.text("classes.json", r#"{"classes": ["ground", "roof", "road"]}"#);
    let right: Vec<u8> = (0..64).map(|i| u8::from(i % 8 < 4) * 255).collect();
    let lower: Vec<u8> = (0..64).map(|i| u8::from(i < 32) * 255).collect();
    // Roofs at the right, roads below, ground elsewhere: the image's mask takes the roofs, the label's the roads.
    let labels: Vec<u8> = (0..64)
        .map(|i| {
            if i % 8 >= 4 {
                1
            } else if i >= 32 {
                2
            } else {
                0
            }
        })
        .collect();
    let grey: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 10 } else { 200 }).collect();
    let rgb: Vec<u8> = grey.iter().flat_map(|v| [*v; 3]).collect();
    with_internal_mask::<RGB8>(&folder.at("images/a.tif"), 8, &rgb, &right);
    with_internal_mask::<Gray8>(&folder.at("masks/a.tif"), 8, &labels, &lower);
    let data = folder.opened();
    let expected: Vec<u8> = (0..64).map(|i| if i % 8 < 4 && i < 32 { 0 } else { 255 }).collect();
    assert_eq!(data.read(0).unwrap().labels, expected);
    let scan = data.scan(|_, _| ()).unwrap();
    assert_eq!((&scan.pixels[0][..], scan.ignored[0], scan.no_data[0]), (&[16, 0, 0][..], 0, 48));
    let path = folder.path().display().to_string();
    let found = json(&["inspect", &path, "--json", "--size", "8", "--bands", "1"]);
    assert_eq!((&found["no_data_pixels"], &found["classes"][0]["share"]), (&48.into(), &1.0.into()));
    // Of one band, not 8-bit RGB, mean and deviation are measured: the 200 of the masked half is not in them.
    assert_eq!(found["normalization"]["mean"][0], 10.0);

    // A mask that marks its background as no data leaves none: said, also without a class list and by nodata's tag.
    let marked = Folder::new();
    marked.half("a", 8, 1);
    fs::remove_file(marked.at("masks/a.png")).unwrap();
    let mut tags = common::tiff_files::one_strip(8, 8, 1, 8, 1);
    tags.push((42_113, 2, b"0\0".map(u32::from).to_vec()));
    let half: Vec<u8> = (0..64).map(|i| u8::from(i < 32)).collect();
    common::tiff_files::write_tiff(&marked.path(), "masks/a.tif", &half, &tags);
    let path = marked.path().display().to_string();
    let found = json(&["inspect", &path, "--json", "--size", "8"]);
    assert_eq!((&found["no_data_pixels"], &found["classes"][0]["pixels"]), (&32.into(), &0.into()));
    assert!(found["warnings"].to_string().contains("-unsetnodata"), "{}", found["warnings"]);
}
