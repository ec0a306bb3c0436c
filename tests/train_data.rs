//! Data sets as people have them: ArcGIS exports and plain folders, with everything that is wrong in them named.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;

use common::chips::{Folder, export, palette_png, png};
use common::tiff_files::{one_strip, write_tiff};
use common::{command, data, failure};
use samlora::config::Normalization;
use samlora::error::ErrorKind;
use samlora::random::SplitMix;
use samlora::source::raw;
use samlora::train::dataset::{Dataset, DatasetOptions, Depth, FolderKind, IGNORE, NamedValue, Samples, Unlisted};

fn names(data: &Dataset) -> Vec<&str> {
    data.classes.iter().map(|c| c.name.as_str()).collect()
}

#[track_caller]
fn says<T>(result: samlora::error::Result<T>, kind: ErrorKind, words: &[&str]) {
    let (found, text) = failure(result);
    println!("{text}");
    assert!(found == kind && words.iter().all(|w| text.contains(w)), "{kind:?} {words:?}: {found:?} {text}");
}

#[test]
fn an_arcgis_export_as_it_is() {
    let classes = [(30, "road", [255, 0, 0]), (10, "building", [-1, -1, -1])];
    let folder = export(&classes, &[10, 30, 0]);
    folder.text("images/000000000.tif.aux.xml", "<x/>").text("stats.txt", "images = 3");
    let data = folder.opened();
    assert_eq!(data.folders[0].kind, FolderKind::ClassifiedTiles);
    assert_eq!(names(&data), ["background", "building", "road"]);
    assert_eq!((data.values.as_slice(), data.bands, data.depth), (&[0, 10, 30][..], 3, Depth::U8));
    assert_eq!(data.classes[2].color, [255, 0, 0]);
    assert_ne!(data.classes[1].color, [0, 0, 0]);
    assert_eq!(data.classes[1].color, folder.opened().classes[1].color, "missing colours are the same every time");
    assert_eq!((0..3).map(|i| data.read(i).unwrap().labels[0]).collect::<Vec<_>>(), [1, 2, 0]);
    // World files without a system are in the export's.
    let place = data.samples[1].extent.unwrap();
    assert_eq!((place.min_x, place.max_x, place.min_y, place.max_y), (1002.0, 1004.0, 1998.0, 2000.0));
    assert_eq!(place.epsg, Some(3857));
    assert!((data.samples[1].metres_per_pixel.unwrap() - 0.5).abs() < 0.01);

    fs::remove_file(folder.at("esri_model_definition.emd")).unwrap();
    folder.text(
        "esri_accumulated_stats.json",
        "\u{feff}{\"Classes\": [{\"ClassValue\": 10, \"ClassName\": \"house\"}, {\"ClassValue\": 30, \"ClassName\": \"way\"}]}",
    );
    assert_eq!(names(&folder.opened()), ["background", "house", "way"]);
    fs::remove_file(folder.at("map.txt")).unwrap();
    assert_eq!(folder.opened().samples.len(), 3);
}

#[test]
fn exports_that_are_not_read() {
    let classes = [(1, "tree", [0, 255, 0])];
    let other = |mode: &str| {
        let folder = export(&classes, &[1]);
        let text = fs::read_to_string(folder.at("esri_model_definition.emd")).unwrap();
        folder.text("esri_model_definition.emd", &text.replace("Classified_Tiles", mode));
        folder
    };
    let remedy = "metadata format Classified Tiles";
    says(other("RCNN_Masks").open(&Default::default()), ErrorKind::Unsupported, &["RCNN_Masks", ".emd", remedy]);
    let nested = export(&classes, &[1]);
    fs::remove_file(nested.at("labels/000000000.tif")).unwrap();
    fs::create_dir(nested.at("labels/tree")).unwrap();
    says(nested.open(&Default::default()), ErrorKind::Unsupported, &["RCNN Masks", "labels", remedy]);
    let mrf = export(&classes, &[1]);
    mrf.text("images/000000001.mrf", "x");
    says(mrf.open(&Default::default()), ErrorKind::Unsupported, &["000000001.mrf", ".mrf", "TIFF, PNG or JPEG"]);

    let lost = export(&classes, &[1, 1]);
    fs::remove_file(lost.at("labels/000000001.tif")).unwrap();
    says(lost.open(&Default::default()), ErrorKind::NotFound, &["1 image has no mask", "000000001.tif"]);
    let gone = export(&classes, &[1, 1]);
    fs::remove_file(gone.at("images/000000001.tif")).unwrap();
    says(gone.open(&Default::default()), ErrorKind::NotFound, &["000000001.tif", "map.txt"]);
    let more = export(&classes, &[1, 1]);
    more.text("map.txt", "images\\000000000.tif  labels\\000000000.tif \n");
    says(more.open(&Default::default()), ErrorKind::Invalid, &["map.txt", "000000001.tif"]);
    for outside in ["../images/000000000.tif", "images/../../x.tif", "/etc/hostname", "..\\images\\000000000.tif"] {
        more.text("map.txt", &format!("{outside}  labels\\000000000.tif\n"));
        says(more.open(&Default::default()), ErrorKind::Invalid, &["map.txt", "line 1", "outside"]);
        more.text("map.txt", &format!("images\\000000000.tif  {outside}\n"));
        says(more.open(&Default::default()), ErrorKind::Invalid, &["map.txt", "line 1", "outside"]);
    }
    more.text("map.txt", "one two three");
    says(more.open(&Default::default()), ErrorKind::Format, &["map.txt", "line 1"]);
    more.text("esri_model_definition.emd", "{");
    says(more.open(&Default::default()), ErrorKind::Format, &[".emd", "no JSON"]);
    more.text("esri_model_definition.emd", "{\"Classes\": [{\"Name\": \"x\", \"Value\": -3}]}");
    says(more.open(&Default::default()), ErrorKind::Format, &[".emd", "-3"]);
}

#[test]
fn masks_hold_values_whatever_their_form() {
    let folder = Folder::new();
    folder.half("a", 4, 3).half("b", 4, 3).half("c", 4, 3).half("d", 4, 3).half("e", 4, 1);
    // Palettes are indices, in 8 and 2 bits; single bits are 0 and 1; 16 bits and floating point are whole numbers.
    let palette = [0, 0, 0, 9, 9, 9, 30, 1, 2, 200, 100, 50];
    let halves = [3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    palette_png(&folder.at("masks/a.png"), 4, 4, png::BitDepth::Eight, &palette, &halves);
    palette_png(&folder.at("masks/b.png"), 4, 4, png::BitDepth::Two, &palette, &[0xff, 0xff, 0, 0]);
    fs::remove_file(folder.at("masks/c.png")).unwrap();
    fs::remove_file(folder.at("masks/d.png")).unwrap();
    let shorts: Vec<u8> = halves.iter().flat_map(|v| u16::from(*v).to_le_bytes()).collect();
    write_tiff(folder.dir.path(), "masks/c.tif", &shorts, &one_strip(4, 4, 1, 16, 1));
    let floats: Vec<u8> = halves.iter().flat_map(|v| f32::from(*v).to_le_bytes()).collect();
    let mut tags = one_strip(4, 4, 1, 32, 1);
    tags.push((339, 3, vec![3]));
    write_tiff(folder.dir.path(), "masks/d.tif", &floats, &tags);
    fs::remove_file(folder.at("masks/e.png")).unwrap();
    write_tiff(folder.dir.path(), "masks/e.tif", &[0xf0, 0xf0, 0, 0], &one_strip(4, 4, 1, 1, 1));
    let data = folder.opened();
    assert_eq!((names(&data), &data.values[..]), (vec!["background", "class 1", "class 3"], &[0, 1, 3][..]));
    let scan = data.scan(|_, _| ()).unwrap();
    assert_eq!(scan.pixels, [[8, 0, 8], [8, 0, 8], [8, 0, 8], [8, 0, 8], [8, 8, 0]]);
    for sample in 0..5 {
        let class = if sample == 4 { 1 } else { 2 };
        assert_eq!(data.read(sample).unwrap().labels, [[class; 8], [0; 8]].concat(), "{sample}");
    }

    let with = |value: f32| {
        let floats: Vec<u8> = [value; 16].iter().flat_map(|v| v.to_le_bytes()).collect();
        write_tiff(folder.dir.path(), "masks/d.tif", &floats, &tags);
        folder.open(&Default::default())
    };
    for value in [0.5, -1.0] {
        says(with(value), ErrorKind::Invalid, &["d.tif", &format!("{value} is no label value")]);
    }
    // What is not a number is no data, in labels as in images.
    let data = with(f32::NAN).unwrap();
    assert_eq!(data.read(3).unwrap().labels, [IGNORE; 16]);
}

#[test]
fn colour_masks_are_mapped_or_refused() {
    let folder = Folder::new();
    folder.half("a", 2, 1);
    png(&folder.at("masks/a.png"), 2, 2, &[vec![0, 0, 60, 60], vec![0, 0, 16, 16], vec![0, 0, 152, 152]]);
    says(folder.open(&Default::default()), ErrorKind::Invalid, &["a.png", "colours", "classes.json"]);
    folder.text("classes.json", r##"{"classes": ["none", "house"], "palette": ["#000000", "#3C1098"]}"##);
    let data = folder.opened();
    assert_eq!((names(&data), data.classes[1].color), (vec!["none", "house"], [60, 16, 152]));
    assert_eq!(data.read(0).unwrap().labels, [0, 0, 1, 1]);
    let full = r##"{"classes": [{"value": 7, "name": "house", "color": "#3C1098"}, {"value": 0, "name": "none"}]}"##;
    folder.text("classes.json", full);
    let error = folder.opened().read(0);
    says(error, ErrorKind::Invalid, &["a.png", "#000000", "belongs to no class"]);

    for (text, word) in [
        ("{}", "class list"),
        (r##"{"classes": ["a", "b"], "palette": ["#000000"]}"##, "1 colours for 2 classes"),
        (r##"{"classes": ["a", "b"], "palette": ["#000000", "red"]}"##, "\"red\""),
        (r#"{"classes": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}"#, "value 1"),
        (r#"{"classes": ["a", ""]}"#, "empty name"),
    ] {
        folder.text("classes.json", text);
        let (_, error) = failure(folder.open(&Default::default()));
        assert!(error.contains("classes.json") && error.contains(word), "{error}");
    }

    let jpeg = Folder::new();
    jpeg.half("a", 8, 1);
    fs::remove_file(jpeg.at("masks/a.png")).unwrap();
    image::save_buffer(jpeg.at("masks/a.jpg"), &[1; 64], 8, 8, image::ExtendedColorType::L8).unwrap();
    says(jpeg.open(&Default::default()), ErrorKind::Unsupported, &["a.jpg", "PNG"]);
}

#[test]
fn folders_that_do_not_fit() {
    let folder = Folder::new();
    for i in 0..9 {
        folder.half(&format!("{i}"), 4, 1);
        if i > 1 {
            fs::remove_file(folder.at(&format!("masks/{i}.png"))).unwrap();
        }
    }
    let words = ["7 images have no mask", "2.png, 3.png, 4.png, 5.png, 6.png and 2 more"];
    says(folder.open(&Default::default()), ErrorKind::NotFound, &words);

    let folder = Folder::new();
    folder.half("a", 4, 1);
    fs::copy(folder.at("masks/a.png"), folder.at("masks/b.png")).unwrap();
    assert!(folder.opened().warnings[0].contains("1 masks have no image"));
    png(&folder.at("masks/a.png"), 4, 3, &[vec![1; 12]]);
    says(folder.open(&Default::default()), ErrorKind::Invalid, &["masks/a.png", "4 x 3", "4 x 4"]);
    fs::copy(folder.at("images/a.png"), folder.at("images/a.jpg")).unwrap();
    says(folder.open(&Default::default()), ErrorKind::Invalid, &["\"a\" is there twice"]);
    fs::remove_file(folder.at("images/a.jpg")).unwrap();
    fs::create_dir(folder.at("labels")).unwrap();
    says(folder.open(&Default::default()), ErrorKind::Invalid, &["masks and one labels"]);
    fs::remove_dir_all(folder.at("masks")).unwrap();
    says(folder.open(&Default::default()), ErrorKind::NotFound, &["labels", "no images"]);
    fs::remove_dir(folder.at("labels")).unwrap();
    says(folder.open(&Default::default()), ErrorKind::NotFound, &["neither a folder masks nor labels"]);

    let outer = tempfile::tempdir().unwrap();
    fs::create_dir_all(outer.path().join("inner/images")).unwrap();
    says(
        Dataset::open(&[outer.path().to_owned()], &Default::default()),
        ErrorKind::NotFound,
        &["did you mean", "inner"],
    );
    says(Dataset::open(&[], &Default::default()), ErrorKind::Invalid, &["--data"]);
    says(Dataset::open(&["/nowhere".into()], &Default::default()), ErrorKind::NotFound, &["/nowhere"]);
    let good = Folder::new();
    good.half("a", 4, 1);
    says(Dataset::open(&[good.path(), good.path()], &Default::default()), ErrorKind::Invalid, &["twice"]);
}

#[test]
fn label_values_and_their_rules() {
    let folder = Folder::new();
    folder.pair("a", 2, &[0, 1, 2, 7]).pair("b", 2, &[0, 1, 2, 2]);
    folder.text("classes.json", r#"{"classes": ["unlabeled", "building", "land"]}"#);
    let open = |options: DatasetOptions| folder.open(&options).unwrap();
    let words = ["masks/a.png", "label value 7 (1 pixels) belongs to no class", "--class 7=NAME"];
    says(folder.opened().read(0), ErrorKind::Invalid, &words);
    says(folder.opened().scan(|_, _| ()), ErrorKind::Invalid, &words);

    let data = open(DatasetOptions { unlisted: Unlisted::Background, ..Default::default() });
    assert_eq!(data.read(0).unwrap().labels, [0, 1, 2, 0]);
    let data = open(DatasetOptions { unlisted: Unlisted::Ignore, ignore: vec![0], ..Default::default() });
    assert_eq!(names(&data), ["background", "building", "land"]);
    assert_eq!(data.read(0).unwrap().labels, [IGNORE, 1, 2, IGNORE]);
    let scan = data.scan(|done, all| assert!(done <= all)).unwrap();
    assert_eq!((scan.pixels, scan.ignored), (vec![vec![0, 1, 1], vec![0, 1, 2]], vec![2, 1]));
    let data = open(DatasetOptions { ignore: vec![0, 7], background: Some(2), ..Default::default() });
    assert_eq!((names(&data), &data.values[..]), (vec!["land", "building"], &[2, 1][..]));
    assert_eq!(data.read(0).unwrap().labels, [IGNORE, 1, 0, IGNORE]);
    let data = open(DatasetOptions { ignore: vec![7], keep: Some(vec!["Land".into()]), ..Default::default() });
    assert_eq!(names(&data), ["unlabeled", "land"]);
    assert_eq!(data.read(0).unwrap().labels, [0, 0, 1, IGNORE]);
    let asked = |value, name: &str| NamedValue { value, name: name.into() };
    let classes = Some(vec![asked(1, "built"), asked(7, "built"), asked(2, "open")]);
    let data = open(DatasetOptions { classes, ..Default::default() });
    assert_eq!((names(&data), &data.values[..]), (vec!["background", "built", "open"], &[0, 1, 2][..]));
    assert_eq!(data.read(0).unwrap().labels, [0, 1, 2, 1]);
    says(
        folder.open(&DatasetOptions { keep: Some(vec!["house".into()]), ..Default::default() }),
        ErrorKind::Invalid,
        &["\"house\"", "unlabeled, building, land"],
    );

    let alone = Folder::new();
    alone.pair("a", 2, &[0; 4]);
    says(alone.open(&Default::default()), ErrorKind::Invalid, &["no class besides background"]);
    let noise = Folder::new();
    noise.pair("a", 16, &(0..=255).collect::<Vec<u8>>());
    says(noise.open(&Default::default()), ErrorKind::Invalid, &["a.png", "250 values"]);
}

#[test]
fn several_folders_and_changed_class_lists() {
    let [a, b, c] = [(); 3].map(|()| Folder::new());
    a.half("x", 2, 1).text("classes.json", r##"{"classes": [{"value": 1, "name": "building", "color": "#010203"}]}"##);
    b.half("x", 2, 2).text("classes.json", r#"{"classes": ["none", "road", "Building"]}"#);
    c.half("x", 2, 1);
    let data = Dataset::open(&[a.path(), b.path()], &Default::default()).unwrap();
    assert_eq!((names(&data), &data.values[..]), (vec!["none", "building", "road"], &[0, 1, 1][..]));
    assert_eq!([0, 1].map(|i| data.read(i).unwrap().labels[0]), [1, 1]);
    assert_eq!(data.classes[1].color, [1, 2, 3]);
    assert!(data.samples[0].name != data.samples[1].name && data.samples[0].name.ends_with("/x"));

    // Without a list of its own a folder follows the others', and values that they do not have are found.
    let data = Dataset::open(&[c.path(), a.path()], &Default::default()).unwrap();
    assert_eq!(names(&data), ["background", "building"]);
    c.half("y", 2, 9);
    let data = Dataset::open(&[c.path(), a.path()], &Default::default()).unwrap();
    says(data.scan(|_, _| ()), ErrorKind::Invalid, &["y.png", "label value 9"]);

    b.text("classes.json", r#"{"classes": ["none", "water", "road"]}"#);
    let places = [a.at("classes.json"), b.at("classes.json")].map(|p| p.display().to_string());
    let words = ["value 1", "\"building\"", "\"water\"", places[0].as_str(), places[1].as_str()];
    says(Dataset::open(&[a.path(), b.path()], &Default::default()), ErrorKind::Invalid, &words);

    let wide = Folder::new();
    wide.half("w", 2, 1);
    fs::remove_file(wide.at("images/w.png")).unwrap();
    write_tiff(wide.dir.path(), "images/w.tif", &[1; 16], &one_strip(2, 2, 4, 8, 2));
    let bands = Dataset::open(&[c.path(), wide.path()], &Default::default());
    says(bands, ErrorKind::Invalid, &["w.tif", "4 bands", "x.png", "3 bands"]);
}

#[test]
fn depths_bands_and_missing_data() {
    let folder = Folder::new();
    let image = |name: &str, data: &[u8], tags: &[(u16, u16, Vec<u32>)]| {
        for entry in fs::read_dir(folder.at("images")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        write_tiff(folder.dir.path(), name, data, tags);
        folder.opened()
    };
    folder.half("a", 2, 1);
    // Four bands of 16 bits, pixel by pixel and plane by plane.
    let shorts: Vec<u16> = (0..16).map(|i| 1000 * i).collect();
    let bytes: Vec<u8> = shorts.iter().flat_map(|v| v.to_le_bytes()).collect();
    let data = image("images/a.tif", &bytes, &one_strip(2, 2, 4, 16, 1));
    assert_eq!((data.bands, data.depth), (4, Depth::U16));
    assert_eq!(data.read(0).unwrap().samples, Samples::U16(shorts.clone()));
    let n = data.statistics(&[0]).unwrap();
    assert_eq!((n.mean.as_slice(), n.std.len()), (&[6000.0, 7000.0, 8000.0, 9000.0][..], 4));
    assert!((n.std[0] - 20_000_000f32.sqrt()).abs() < 1e-2);
    let options = DatasetOptions { bands: Some(vec![3, 0]), ..Default::default() };
    let two = folder.open(&options).unwrap();
    assert_eq!(two.bands, 2);
    assert_eq!(two.read(0).unwrap().samples, Samples::U16(vec![3000, 0, 7000, 4000, 11000, 8000, 15000, 12000]));
    let options = DatasetOptions { bands: Some(vec![4]), ..Default::default() };
    says(folder.open(&options), ErrorKind::Invalid, &["a.tif", "--bands", "band 5 of 4"]);

    let planes: Vec<u8> =
        (0..4).flat_map(|b| (0..4).flat_map(move |i| (1000u16 * (4 * i + b)).to_le_bytes())).collect();
    let mut planar = one_strip(2, 2, 4, 16, 1);
    planar.retain(|t| !matches!(t.0, 273 | 279));
    planar.extend([(273, 4, vec![8, 16, 24, 32]), (279, 4, vec![8; 4]), (284, 3, vec![2])]);
    assert_eq!(image("images/a.tif", &planes, &planar).read(0).unwrap().samples, Samples::U16(shorts));

    // Alpha is no band: transparent pixels are ignored. NaN and the no-data value likewise.
    let mut alpha = one_strip(2, 2, 4, 8, 2);
    alpha.push((338, 3, vec![2]));
    let data = image("images/a.tif", &[1, 2, 3, 255, 4, 5, 6, 0, 7, 8, 9, 255, 1, 1, 1, 1], &alpha);
    let chip = data.read(0).unwrap();
    assert_eq!(
        (chip.samples, chip.labels),
        (Samples::U8(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 1, 1]), vec![1, IGNORE, 0, 0])
    );
    assert!(data.is_rgb8() && data.statistics(&[0]).unwrap() == Normalization::rgb());
    let mut float = one_strip(2, 2, 1, 32, 1);
    float.extend([(339, 3, vec![3]), (42_113, 2, b"-9\0".map(u32::from).to_vec())]);
    let numbers: Vec<u8> = [0.5f32, f32::NAN, -9.0, 1.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let data = image("images/a.tif", &numbers, &float);
    assert_eq!((data.bands, data.depth), (1, Depth::F32));
    assert_eq!(data.read(0).unwrap().labels, [1, IGNORE, IGNORE, 0]);
    assert_eq!(data.statistics(&[0]).unwrap(), Normalization { mean: vec![1.0], std: vec![0.5] });
    let flat: Vec<u8> = [2.0f32; 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(image("images/a.tif", &flat, &float).statistics(&[0]).unwrap().std, [1.0]);
    let nothing: Vec<u8> = [f32::NAN; 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    says(image("images/a.tif", &nothing, &float).statistics(&[0]), ErrorKind::Invalid, &["band 1"]);

    // 8-bit grey is what it is everywhere in this program: three equal bands.
    let data = image("images/a.tif", &[1, 2, 3, 4], &one_strip(2, 2, 1, 8, 1));
    assert_eq!(data.read(0).unwrap().samples, Samples::U8(vec![1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]));
    fs::remove_file(folder.at("images/a.tif")).unwrap();
    png(&folder.at("images/a.png"), 2, 2, &[vec![9; 4], vec![8; 4], vec![7; 4], vec![255, 0, 255, 255]]);
    assert_eq!(folder.opened().read(0).unwrap().labels, [1, IGNORE, 0, 0]);
    let shorts: Vec<u8> = (0..16u16).flat_map(|v| (v * 4000).to_ne_bytes()).collect();
    image::save_buffer(folder.at("images/a.png"), &shorts, 2, 2, image::ExtendedColorType::Rgba16).unwrap();
    let data = folder.opened();
    assert_eq!((data.bands, data.depth), (3, Depth::U16));
    let chip = data.read(0).unwrap();
    assert_eq!(chip.samples, Samples::U16([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14].map(|v| v * 4000).to_vec()));
    folder.half("b", 2, 1);
    says(folder.open(&Default::default()), ErrorKind::Invalid, &["b.png", "U8", "a.png", "U16"]);
}

#[test]
fn files_that_are_damaged_or_change() {
    let folder = Folder::new();
    folder.half("a", 8, 1).half("b", 8, 1);
    folder.text("classes.json", r#"{"classes": ["none", "x"]}"#);
    let data = folder.opened();
    assert_eq!(data.content_hash().unwrap(), folder.opened().content_hash().unwrap());
    let before = data.content_hash().unwrap();
    folder.half("b", 8, 0);
    assert_ne!(data.content_hash().unwrap(), before);
    folder.half("b", 4, 1);
    says(data.read(1), ErrorKind::Invalid, &["images/b.png", "changed since it was listed"]);
    let whole = fs::read(folder.at("masks/a.png")).unwrap();
    fs::write(folder.at("masks/a.png"), &whole[..whole.len() - 20]).unwrap();
    says(data.read(0), ErrorKind::Format, &["masks/a.png"]);
    says(data.scan(|_, _| ()), ErrorKind::Format, &["masks/a.png"]);
    folder.text("images/a.png", "no image");
    says(folder.open(&Default::default()), ErrorKind::Format, &["images/a.png"]);
    assert_eq!(failure(data.read(7)).0, ErrorKind::NotFound);
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = Folder::new();
    folder.half("a", 8, 1);
    let dir = folder.dir.path();
    let mut planar = one_strip(8, 8, 4, 16, 1);
    planar.retain(|t| !matches!(t.0, 273 | 279));
    planar.extend([(273, 4, vec![8, 136, 264, 392]), (279, 4, vec![128; 4]), (284, 3, vec![2]), (338, 3, vec![2])]);
    let files = [
        write_tiff(dir, "planar.tif", &[7; 512], &planar),
        write_tiff(dir, "bits.tif", &[0x5a; 8], &one_strip(8, 8, 1, 1, 1)),
        write_tiff(dir, "bands.tif", &[9; 256], &one_strip(8, 8, 4, 8, 2)),
        folder.at("masks/a.png"),
        folder.at("images/a.png"),
    ];
    let mut random = SplitMix(11);
    for file in files {
        let whole = fs::read(&file).unwrap();
        let damaged = dir.join("damaged");
        for _ in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random.next_u64() % 3 {
                // The tags stand at the end, after at most 512 bytes of samples.
                let first = whole.len().saturating_sub(300) * usize::from(!random.next_u64().is_multiple_of(4));
                let at = first + random.next_u64() as usize % (whole.len() - first);
                bytes[at] = random.next_u64() as u8;
            }
            fs::write(&damaged, bytes).unwrap();
            for error in [raw::header(&damaged, true).err(), raw::read(&damaged).err(), raw::mask(&damaged).err()] {
                assert!(error.is_none_or(|e| e.to_string().contains("damaged")));
            }
        }
    }
}

#[test]
fn inspect_tells_and_draws() {
    let folder = export(&[(10, "building", [255, 80, 0]), (20, "lake", [-1, -1, -1])], &[10, 0, 10, 0, 10, 0, 0, 10]);
    let (path, sheet) = (folder.path().display().to_string(), folder.at("sheet.png"));
    let found = command::json(&["inspect", &path, "--json", "--size", "8", "--sheet", &sheet.display().to_string()]);
    assert_eq!((&found["kind"], &found["samples"], &found["bands"]), (&"data".into(), &8.into(), &3.into()));
    assert_eq!(found["classes"][1]["pixels"], 64);
    assert_eq!(found["classes"][1]["samples"], 4);
    assert_eq!(found["classes"][1]["color"], "#ff5000");
    assert_eq!(found["split"]["train"].as_u64().unwrap() + found["split"]["valid"].as_u64().unwrap(), 8);
    let warnings = found["warnings"].to_string();
    for word in ["\\\"lake\\\" does not occur", "smaller than the input of 8 px"] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    let picture = image::open(sheet).unwrap();
    assert!(picture.width() > 256 && picture.height() > 256);
    let said = command::succeeds(&["inspect", &path, "--keep", "building", "--ignore", "0", "--quick"]);
    assert!(said.contains("ignored pixels: 50.00 %") && said.contains("building") && said.contains("ArcGIS"), "{said}");
    command::fails(&["inspect", &path, "--keep", "house"], &["--keep", "house"]);
    command::fails(&["inspect", &path, "--bands", "0"], &["--bands"]);
    command::fails(&["inspect", &path, "--valid-data", &path], &["twice"]);
}

#[test]
fn real_exports_and_land_cover() {
    let Some(data) = data("real_exports_and_land_cover", "") else { return };
    let land = Dataset::open(&[data.join("classified-tiles/landcover")], &Default::default()).unwrap();
    assert_eq!(names(&land), ["background", "building", "land", "road", "vegetation", "water"]);
    assert_eq!(land.values, [0, 10, 20, 30, 40, 50]);
    assert_eq!(land.classes[2].color, [132, 41, 246]);
    // What the export itself counted.
    let totals = land.scan(|_, _| ()).unwrap().totals(0..48);
    assert_eq!(totals[1..], [588_650, 1_481_136, 418_857, 130_964, 504_571]);
    let built = Dataset::open(&[data.join("classified-tiles/buildings")], &Default::default()).unwrap();
    assert_eq!(built.scan(|_, _| ()).unwrap().totals(0..32)[1], 394_655);
    assert_eq!(built.samples[0].extent.unwrap().epsg, Some(3857));

    let options = DatasetOptions { ignore: vec![0], ..Default::default() };
    let dubai = Dataset::open(&[data.join("dubai-landcover")], &options).unwrap();
    let scan = dubai.scan(|_, _| ()).unwrap();
    assert!(scan.ignored.iter().sum::<u64>() > 0 && scan.totals(0..54)[0] == 0);
    assert_eq!(dubai.classes[1].color, [0x3c, 0x10, 0x98]);
    let chip = dubai.read(0).unwrap();
    assert_eq!((chip.width, chip.height, chip.bands), (797, 644, 3));
    let options = DatasetOptions { keep: Some(vec!["building".into()]), ..options };
    let both =
        Dataset::open(&[data.join("dubai-landcover"), data.join("classified-tiles/landcover")], &options).unwrap();
    assert_eq!(names(&both), ["background", "building"]);
    let hash = land.content_hash().unwrap();
    assert_eq!((hash.len(), hash == built.content_hash().unwrap()), (64, false));
}
