//! Rasters made here, byte by byte: pages, masks, bands and windows.

use std::fs;
use std::path::{Path, PathBuf};

use samlora::error::ErrorKind;
use samlora::source::raw::{self, MaskValues};
use samlora::source::{self, Colours, Patch, Raster, Samples, Window};

#[path = "common/tiff_files.rs"]
mod tiff_files;

use tiff_files::{BYTE_COUNT, one_strip, write_pages, write_tiff};

type Tags = Vec<(u16, u16, Vec<u32>)>;

const NEW_SUBFILE_TYPE: u16 = 254;
const SUBFILE_TYPE: u16 = 255;
const OFFSETS: u16 = 273;
const PLANAR: u16 = 284;
const PREDICTOR: u16 = 317;
const EXTRA_SAMPLES: u16 = 338;
const GDAL_METADATA: u16 = 42112;
const GDAL_NODATA: u16 = 42113;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn whole(path: &Path) -> Patch {
    let mut raster = source::open(path).unwrap_or_else(|e| panic!("{e}"));
    let bands: Vec<usize> = (0..raster.bands()).collect();
    raster.read(Window::whole(raster.size()), &bands).unwrap_or_else(|e| panic!("{e}"))
}

fn bytes(patch: &Patch) -> &[u8] {
    match &patch.samples {
        Samples::U8(v) => v,
        other => panic!("{other:?}"),
    }
}

fn text(tag: u16, text: &str) -> (u16, u16, Vec<u32>) {
    (tag, 2, text.bytes().chain([0]).map(u32::from).collect())
}

fn set(tags: &mut Tags, tag: u16, values: Vec<u32>) {
    tags.retain(|t| t.0 != tag);
    tags.push((tag, if tag == OFFSETS || tag == BYTE_COUNT { 4 } else { 3 }, values));
}

/// A page of one strip of 8-bit grey, of a kind by NewSubfileType.
fn page(width: u32, height: u32, kind: u32, photometric: u32) -> Tags {
    let mut tags = one_strip(width, height, 1, 8, photometric);
    set(&mut tags, OFFSETS, vec![0]);
    tags.push((NEW_SUBFILE_TYPE, 4, vec![kind]));
    tags
}

#[test]
fn the_picture_is_the_first_page_that_is_whole() {
    let dir = folder();
    let (thumbnail, mask_of_it, overview) = (page(2, 1, 1, 1), page(2, 1, 5, 4), page(2, 1, 1, 1));
    let pages = [
        (&[9, 9][..], thumbnail.clone()),
        (&[0, 0], mask_of_it),
        (&[10, 20, 30, 40], page(4, 1, 0, 1)),
        (&[15, 35], overview),
        // Of another size: no mask of the picture.
        (&[0, 0, 0], page(3, 1, 4, 4)),
        (&[1, 0, 255, 0], page(4, 1, 4, 4)),
        (&[1, 1, 1, 1], page(4, 1, 0, 1)),
    ];
    let path = write_pages(dir.path(), "pages.tif", &pages);
    let patch = whole(&path);
    assert_eq!(bytes(&patch), [10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
    assert_eq!(patch.valid, [true, false, true, false]);
    let raster = source::open(&path).expect("opened");
    assert_eq!(raster.overviews(), [(2, 1), (2, 1)]);
    assert!(raster.describe().contains("with a mask, the first of 2 pictures"), "{}", raster.describe());

    // The older tag for reduced images; and a file of nothing else shows the largest.
    let mut old = page(2, 1, 0, 1);
    old.retain(|t| t.0 != NEW_SUBFILE_TYPE);
    old.push((SUBFILE_TYPE, 3, vec![2]));
    let path = write_pages(dir.path(), "old.tif", &[(&[9, 9], old.clone()), (&[1, 2, 3], page(3, 1, 0, 1))]);
    assert_eq!(source::open(path).expect("opened").size(), (3, 1));
    let path = write_pages(dir.path(), "reduced.tif", &[(&[9, 9], old), (&[1, 2, 3], page(3, 1, 1, 1))]);
    assert_eq!(source::open(path).expect("opened").size(), (3, 1));
    let masks = [(&[9, 9][..], page(2, 1, 4, 4)), (&[9, 9], page(2, 1, 4, 4))];
    let error = source::open(write_pages(dir.path(), "masks.tif", &masks)).map(|_| ()).expect_err("only masks");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn masks_of_one_bit_and_beside_the_file() {
    let dir = folder();
    let mut bits = one_strip(9, 2, 1, 1, 4);
    set(&mut bits, OFFSETS, vec![0]);
    bits.push((NEW_SUBFILE_TYPE, 4, vec![4]));
    let mask = [0b1000_0000, 0b1000_0000, 0b0111_1111, 0];
    let want = [
        [true, false, false, false, false, false, false, false, true],
        [false, true, true, true, true, true, true, true, false],
    ];
    let pages = [(&[7; 18][..], page(9, 2, 0, 1)), (&mask, bits.clone())];
    assert_eq!(whole(&write_pages(dir.path(), "bits.tif", &pages)).valid, want.concat());

    bits.retain(|t| t.0 != NEW_SUBFILE_TYPE);
    for name in ["side.tif", "side.png"] {
        let path = dir.path().join(name);
        if name.ends_with("png") {
            image::GrayImage::from_pixel(9, 2, image::Luma([7])).save(&path).expect("written");
        } else {
            write_tiff(dir.path(), name, &[7; 18], &one_strip(9, 2, 1, 8, 1));
        }
        assert!(whole(&path).valid.is_empty());
        write_pages(dir.path(), &format!("{name}.msk"), &[(&mask, bits.clone())]);
        assert_eq!(whole(&path).valid, want.concat(), "{name}");
        let labels = raw::mask(&path).expect("labels");
        assert_eq!(labels.values, MaskValues::U8(vec![7; 18]));
        assert!(labels.nodata.iter().zip(want.concat()).all(|(none, valid)| *none != valid));
        // A mask of another image is an error that names it.
        write_pages(dir.path(), &format!("{name}.msk"), &[(&mask, one_strip(3, 2, 1, 8, 1))]);
        let error = source::open(&path).map(|_| ()).expect_err("another size");
        assert!(error.to_string().contains(&format!("{name}.msk")), "{error}");
    }
}

#[test]
fn alpha_and_no_data_among_any_bands() {
    let dir = folder();
    // Red, green, blue, infrared and alpha; alpha is the fifth, or the first by the metadata.
    let data = [1, 2, 3, 4, 0, 5, 6, 7, 8, 9, 0, 1, 1, 1, 1];
    let mut tags = one_strip(3, 1, 5, 8, 2);
    set(&mut tags, EXTRA_SAMPLES, vec![0, 2]);
    let patch = whole(&write_tiff(dir.path(), "last.tif", &data, &tags));
    assert_eq!((patch.bands, &patch.valid[..]), (4, &[false, true, true][..]));
    assert_eq!(bytes(&patch), [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 1, 1]);
    let item = |sample: usize, name: &str| {
        format!(r#"<Item name="COLORINTERP" sample="{sample}" role="colorinterp">{name}</Item>"#)
    };
    let roles = ["Alpha", "Blue", "Green", "Red", "Undefined"];
    let items: String = roles.iter().enumerate().map(|(i, name)| item(i, name)).collect();
    tags.push(text(GDAL_METADATA, &format!("<GDALMetadata>{items}</GDALMetadata>")));
    let path = write_tiff(dir.path(), "first.tif", &data, &tags);
    let patch = whole(&path);
    assert_eq!((patch.bands, &patch.valid[..]), (4, &[true, true, false][..]));
    let mut picture = Colours::new(source::open(&path).expect("opened"), None).expect("a picture");
    assert_eq!(picture.colours(), [2, 1, 0]);
    assert_eq!(picture.image(Window::whole((3, 1))).expect("read").pixels(), [4, 3, 2, 8, 7, 6, 1, 1, 1]);

    // A pixel holds no data if all of its samples are the value, whatever lies in which plane.
    let chunky = [7, 7, 7, 7, 7, 8, 1, 7, 7, 7, 2, 3];
    let planar: Vec<u8> = (0..3).flat_map(|band| chunky[band..].iter().copied().step_by(3)).collect();
    let mut tags = one_strip(4, 1, 3, 8, 2);
    tags.push(text(GDAL_NODATA, "7"));
    let one = whole(&write_tiff(dir.path(), "chunky.tif", &chunky, &tags));
    assert_eq!(one.valid, [false, true, true, true]);
    tags.push((PLANAR, 3, vec![2]));
    set(&mut tags, OFFSETS, vec![8, 12, 16]);
    set(&mut tags, BYTE_COUNT, vec![4; 3]);
    let path = write_tiff(dir.path(), "planar.tif", &planar, &tags);
    assert_eq!(whole(&path), one);
    for bands in [&[0][..], &[2, 0], &[]] {
        let found = source::open(&path).and_then(|mut r| r.read(Window::whole((4, 1)), bands)).expect("read");
        assert_eq!(found.valid, one.valid, "{bands:?}");
    }
    // A value that the samples cannot hold marks nothing.
    let mut tags = one_strip(2, 1, 1, 8, 1);
    tags.push(text(GDAL_NODATA, "-9999"));
    assert!(whole(&write_tiff(dir.path(), "none.tif", &[0, 241], &tags)).valid.is_empty());
}

#[test]
fn transparent_colours_of_png() {
    let dir = folder();
    let write = |name: &str, colour: png::ColorType, trns: &[u8], data: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        let mut encoder = png::Encoder::new(fs::File::create(&path).expect("created"), 3, 1);
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Eight);
        if colour == png::ColorType::Indexed {
            encoder.set_palette(vec![0, 0, 0, 10, 20, 30, 40, 50, 60]);
        }
        if !trns.is_empty() {
            encoder.set_trns(trns.to_vec());
        }
        encoder.write_header().expect("begun").write_image_data(data).expect("written");
        path
    };
    let path = write("palette.png", png::ColorType::Indexed, &[255, 0], &[0, 1, 2]);
    assert_eq!(whole(&path).valid, [true, false, true]);
    let labels = raw::mask(&path).expect("labels");
    assert_eq!((labels.values, labels.nodata), (MaskValues::U8(vec![0, 1, 2]), vec![false, true, false]));
    let path = write("grey.png", png::ColorType::Grayscale, &[0, 5], &[5, 6, 7]);
    assert_eq!(whole(&path).valid, [false, true, true]);
    assert_eq!(raw::mask(&path).expect("labels").nodata, [true, false, false]);
    let path = write("rgb.png", png::ColorType::Rgb, &[0, 1, 0, 2, 0, 3], &[1, 2, 3, 1, 2, 4, 3, 2, 1]);
    assert_eq!(whole(&path).valid, [false, true, true]);
    assert_eq!(raw::mask(&path).expect("labels").nodata, [true, false, false]);
    let path = write("alpha.png", png::ColorType::GrayscaleAlpha, &[], &[1, 0, 2, 1, 3, 255]);
    assert_eq!(whole(&path).valid, [false, true, true]);
    assert_eq!(raw::mask(&path).expect("labels").nodata, [true, false, false]);
    let path = write("opaque.png", png::ColorType::Grayscale, &[], &[1, 0, 2]);
    assert!(whole(&path).valid.is_empty() && raw::mask(&path).expect("labels").nodata.is_empty());
}

/// Numbers that look random.
fn noise(count: usize) -> Vec<u8> {
    let mut seed = 7u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn lzw_without_its_end_code() {
    let dir = folder();
    let tile = noise(16 * 16);
    let mut encoder = weezl::encode::Encoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let compressed = encoder.encode(&tile).expect("encoded");
    let tags = |bytes: usize| -> Tags {
        vec![
            (256, 4, vec![15]),
            (257, 4, vec![16]),
            (258, 3, vec![8]),
            (259, 3, vec![5]),
            (262, 3, vec![1]),
            (277, 3, vec![1]),
            (322, 4, vec![16]),
            (323, 4, vec![16]),
            (324, 4, vec![8]),
            (325, 4, vec![bytes as u32]),
        ]
    };
    let want: Vec<u8> = tile.chunks(16).flat_map(|row| &row[..15]).flat_map(|v| [*v; 3]).collect();
    // The end code, and a part of the padding's last column with it, may be missing.
    for missing in 0..=3 {
        let part = &compressed[..compressed.len() - missing];
        let path = write_tiff(dir.path(), "tile.tif", part, &tags(part.len()));
        let found = source::open(&path).and_then(|mut r| r.read(Window::whole((15, 16)), &[0, 1, 2]));
        match found {
            Ok(patch) => assert_eq!(bytes(&patch), want, "{missing}"),
            Err(error) => assert!(missing > 2, "{missing}: {error}"),
        }
    }
    for kept in [0, 1, 20, compressed.len() / 2, compressed.len() * 9 / 10] {
        let path = write_tiff(dir.path(), "cut.tif", &compressed[..kept.max(1)], &tags(kept.max(1)));
        let found = source::open(&path).and_then(|mut r| r.read(Window::whole((15, 16)), &[0]));
        assert_eq!(found.expect_err("cut off").kind(), ErrorKind::Format, "{kept}");
    }
}

#[test]
fn any_window_is_a_part_of_the_whole() {
    let dir = folder();
    let (width, height, bands) = (37usize, 29usize, 4usize);
    let samples = noise(width * height * bands);
    // In strips of 5 rows; in tiles of 16 with a predictor; each band for itself.
    let strips: Vec<&[u8]> = samples.chunks(width * bands * 5).collect();
    let mut in_strips = one_strip(37, 29, 4, 8, 2);
    set(&mut in_strips, 278, vec![5]);
    let place = |parts: &[usize]| -> Vec<u32> {
        parts.iter().scan(8, |at, n| Some(std::mem::replace(at, *at + *n as u32))).collect()
    };
    let sizes: Vec<usize> = strips.iter().map(|s| s.len()).collect();
    set(&mut in_strips, OFFSETS, place(&sizes));
    set(&mut in_strips, BYTE_COUNT, sizes.iter().map(|n| *n as u32).collect());
    let mut tiles: Vec<u8> = Vec::new();
    for (row, column) in (0..2).flat_map(|row| (0..3).map(move |column| (row, column))) {
        for y in row * 16..row * 16 + 16 {
            let pixel = |x: usize| {
                let at = (y.min(height - 1) * width + x.min(width - 1)) * bands;
                [samples[at], samples[at + 1], samples[at + 2], samples[at + 3]]
            };
            let mut before = [0u8; 4];
            for x in column * 16..column * 16 + 16 {
                let values = pixel(x);
                tiles.extend((0..4).map(|b| values[b].wrapping_sub(before[b])));
                before = values;
            }
        }
    }
    let mut in_tiles = one_strip(37, 29, 4, 8, 2);
    in_tiles.retain(|t| ![OFFSETS, 278, BYTE_COUNT].contains(&t.0));
    in_tiles.extend([
        (322, 3, vec![16]),
        (323, 3, vec![16]),
        (324, 4, place(&[1024; 6])),
        (325, 4, vec![1024; 6]),
        (PREDICTOR, 3, vec![2]),
    ]);
    let planes: Vec<u8> = (0..bands).flat_map(|band| samples[band..].iter().copied().step_by(bands)).collect();
    let mut in_planes = one_strip(37, 29, 4, 8, 2);
    in_planes.push((PLANAR, 3, vec![2]));
    set(&mut in_planes, OFFSETS, place(&[width * height; 4]));
    set(&mut in_planes, BYTE_COUNT, vec![(width * height) as u32; 4]);

    for (name, data, tags, blocks) in
        [("strips", &samples, in_strips, 6), ("tiles", &tiles, in_tiles, 6), ("planes", &planes, in_planes, 4)]
    {
        let path = write_tiff(dir.path(), name, data, &tags);
        let mut raster = source::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bytes(&whole(&path)), samples, "{name}");
        let random = noise(4 * 200);
        for (i, numbers) in random.chunks(4).enumerate() {
            let [x, y, w, h] = [numbers[0], numbers[1], numbers[2], numbers[3]].map(usize::from);
            let (x, y) = (x % width, y % height);
            let window = Window::new(x, y, 1 + w % (width - x), 1 + h % (height - y));
            let wanted = [&[0, 1, 2, 3][..], &[3, 0], &[1, 1, 2], &[2]][i % 4];
            let patch = raster.read(window, wanted).expect("read");
            let pixels =
                (0..window.pixels()).map(|i| (window.y + i / window.width) * width + window.x + i % window.width);
            let want: Vec<u8> =
                pixels.flat_map(|p| wanted.iter().map(move |b| p * bands + b)).map(|i| samples[i]).collect();
            assert_eq!(bytes(&patch), want, "{name}: {window:?} {wanted:?}");
        }
        assert_eq!(raster.decoded_blocks(), blocks, "{name}");
    }
}
