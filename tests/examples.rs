//! The programs in `examples/` do what they say. They are included here, so that cargo links them once more and compiles
//! nothing of the crate again.
#![cfg(all(feature = "cpu", feature = "train"))]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::path::{Path, PathBuf};

use samlora::image::Pixels;
use samlora::mask::NO_DATA;
use samlora::source::{Raster, Window};
use samlora::weights::folder::Folder;
use samlora::weights::package::read_manifest;

#[allow(dead_code)] // its main
#[path = "../examples/custom_raster.rs"]
mod custom_raster;
#[allow(dead_code)] // its main
#[path = "../examples/segment_file.rs"]
mod segment_file;
#[allow(dead_code)] // its main
#[path = "../examples/train_adapter.rs"]
mod train_adapter;

fn buildings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www/demo/models/buildings")
}

#[test]
fn segment_file_writes_the_mask_that_it_tells_of() {
    let folder = tempfile::tempdir().unwrap();
    let (picture, mask) = (folder.path().join("picture.png"), folder.path().join("mask.png"));
    let pixels = image::RgbImage::from_fn(150, 90, |x, y| image::Rgb([(x + y) as u8, 90, (x * y % 200) as u8]));
    pixels.save(&picture).unwrap();
    let classes = segment_file::segment_file(&buildings(), &picture, &mask).unwrap();
    assert_eq!(classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["background", "building"]);

    let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&mask).unwrap()));
    reader.set_transformations(png::Transformations::IDENTITY);
    let mut reader = reader.read_info().unwrap();
    let mut values = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut values).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (150, 90, png::ColorType::Indexed));
    for class in &classes {
        let counted = values.iter().filter(|&&value| value == class.index).count();
        assert_eq!(counted as u64, class.pixels, "{}", class.name);
    }
    assert_eq!(classes.iter().map(|c| c.pixels).sum::<u64>(), 150 * 90);

    let missing = segment_file::segment_file(&folder.path().join("nowhere"), &picture, &mask).unwrap_err();
    assert!(missing.to_string().contains("nowhere"), "{missing}");
}

#[test]
fn custom_raster_is_read_in_windows_and_segmented() {
    let mut town = custom_raster::Town::new(600, 400);
    let whole = town.read(Window { x: 0, y: 0, width: 600, height: 400 }, &[0, 1, 2]).unwrap();
    let part = town.read(Window { x: 400, y: 30, width: 100, height: 50 }, &[2, 0]).unwrap();
    for (x, y) in [(0, 0), (99, 49), (40, 20)] {
        for (band, of_whole) in [(0, 2), (1, 0)] {
            assert_eq!(part.sample(x, y, band), whole.sample(400 + x, 30 + y, of_whole));
        }
        assert_eq!(part.valid[y * 100 + x], whole.valid[(30 + y) * 600 + 400 + x]);
        assert_eq!(part.valid[y * 100 + x], town.is_valid(400 + x, 30 + y));
    }
    assert!(part.valid.contains(&true) && part.valid.contains(&false));
    for window in [(600, 0, 1, 1), (0, 399, 1, 2), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
        let (x, y, width, height) = window;
        assert!(town.read(Window { x, y, width, height }, &[0]).is_err(), "{window:?}");
    }
    assert!(town.read(Window { x: 0, y: 0, width: 1, height: 1 }, &[3]).is_err());

    let found = custom_raster::segment(&buildings(), &mut town).unwrap();
    let (mask, summary) = (found.mask, found.summary);
    assert_eq!((mask.width, mask.height, mask.classes.len()), (600, 400, 600 * 400));
    for (at, &class) in mask.classes.iter().enumerate() {
        assert_eq!(class == NO_DATA, !town.is_valid(at % 600, at / 600), "pixel {at}");
    }
    assert!(summary.without_data > 0 && summary.without_data == whole.valid.iter().filter(|v| !**v).count() as u64);
    assert!(summary.classes[1].pixels > 0, "a town of roofs has no building: {:?}", summary.classes);
}

#[test]
fn train_adapter_leaves_runs_and_a_measured_package() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = train_adapter::train_adapter(folder.path()).unwrap();
    assert_eq!(manifest.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["ground", "square"]);
    assert!(folder.path().join("base/model.safetensors").is_file());
    assert!(folder.path().join("adapter/adapter.safetensors").is_file());
    let package = Folder::open(folder.path().join("package")).unwrap();
    let written = pollster::block_on(read_manifest(&package)).unwrap();
    assert_eq!(written, manifest);
    let metrics = written.metrics.unwrap();
    assert!(metrics["accuracy"] > 0.0 && metrics.contains_key("iou_ground"), "{metrics:?}");

    let again = train_adapter::train_adapter(folder.path()).unwrap_err();
    assert!(again.to_string().contains("run already"), "{again}");
}
