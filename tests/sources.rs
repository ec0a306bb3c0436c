//! Image files of every kind and of none: variants of TIFF and PNG, damaged files, limits, and outputs that cannot be
//! written.

use std::fs;
use std::path::{Path, PathBuf};

use samlora::config::Class;
use samlora::error::{Error, ErrorKind};
use samlora::image::RgbImage;
use samlora::mask::ClassMask;
use samlora::source::{self, Colours, Raster, Window, write, xyz};

#[path = "common/tiff_files.rs"]
mod tiff_files;

use tiff_files::{one_strip, write_tiff};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(&path, bytes).expect("written");
    path
}

/// The error of opening and reading a file; it must name the file.
fn failure(path: &Path) -> Error {
    let error = match source::open(path) {
        Err(error) => error,
        Ok(mut source) => {
            let (width, height) = source.size();
            source.read(Window::new(0, 0, width.min(64), height.min(64)), &[0]).expect_err("the file is bad")
        }
    };
    let file = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.to_string().contains(&file), "{error}");
    assert!(error.remedy_text().is_some() || error.kind() == ErrorKind::NotFound, "{error}");
    error
}

fn gradient(width: usize, height: usize) -> RgbImage {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, (x * y) as u8])).collect();
    RgbImage::new(width, height, pixels).expect("an image")
}

fn png(folder: &Path, name: &str, width: usize, height: usize) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    write::rgb_png(&path, &gradient(width, height)).expect("written");
    path
}

fn pixels(path: &Path) -> Vec<u8> {
    let mut source = picture(path);
    source.image(Window::whole(source.size())).unwrap_or_else(|e| panic!("{e}")).pixels().to_vec()
}

fn picture(path: &Path) -> Colours {
    source::open(path).and_then(|raster| Colours::new(raster, None)).unwrap_or_else(|e| panic!("{e}"))
}

/// Which pixels of an image hold data; empty if all do.
fn valid(path: &Path) -> Vec<bool> {
    let mut source = source::open(path).unwrap_or_else(|e| panic!("{e}"));
    let bands: Vec<usize> = (0..source.bands()).collect();
    source.read(Window::whole(source.size()), &bands).unwrap_or_else(|e| panic!("{e}")).valid
}

#[test]
fn files_that_are_no_images() {
    let dir = folder();
    for (name, bytes, kind) in [
        ("empty.png", &b""[..], ErrorKind::Format),
        ("text.png", b"this is no picture, although its name says so", ErrorKind::Format),
        ("short.png", b"\x89PN", ErrorKind::Format),
        ("head.png", b"\x89PNG\r\n\x1a\n", ErrorKind::Format),
        ("head.jpg", b"\xff\xd8\xff\xe0", ErrorKind::Format),
        ("head.webp", b"RIFF\x10\0\0\0WEBPVP8 ", ErrorKind::Format),
        ("head.tif", b"II\x2a\0", ErrorKind::Format),
        ("away.tif", b"II\x2a\0\xf0\xff\xff\xff", ErrorKind::Format),
        ("big.tif", b"II\x2b\0\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f", ErrorKind::Format),
        ("film.gif", b"GIF89a..........", ErrorKind::Unsupported),
        ("tiles.pmtiles", b"PMTiles\x03.........", ErrorKind::Format),
    ] {
        assert_eq!(failure(&put(dir.path(), name, bytes)).kind(), kind, "{name}");
    }
    assert_eq!(failure(&dir.path().join("nothing.png")).kind(), ErrorKind::NotFound);
}

#[test]
fn truncated_files() {
    let dir = folder();
    let whole = fs::read(png(dir.path(), "whole.png", 64, 64)).expect("read");
    for part in [20, 40, whole.len() / 2, whole.len() * 3 / 4] {
        assert_eq!(failure(&put(dir.path(), "part.png", &whole[..part])).kind(), ErrorKind::Format, "{part} bytes");
    }
    let pixels: Vec<u8> = (0..64 * 64 * 3u32).map(|i| (i * i) as u8).collect();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode(&pixels, 64, 64, image::ExtendedColorType::Rgb8)
        .expect("JPEG");
    for part in [4, 100, 400, jpeg.len() / 2] {
        assert_eq!(failure(&put(dir.path(), "part.jpg", &jpeg[..part])).kind(), ErrorKind::Format, "{part} bytes");
    }
    let mut tags = one_strip(64, 64, 3, 8, 2);
    let data = [1; 64 * 64 * 3];
    let path = write_tiff(dir.path(), "whole.tif", &data, &tags);
    let whole = fs::read(&path).expect("read");
    for part in [100, whole.len() - 40, whole.len() - 5] {
        assert_eq!(failure(&put(dir.path(), "part.tif", &whole[..part])).kind(), ErrorKind::Format, "{part} bytes");
    }
    tags[5].2 = vec![4_000_000_000];
    assert_eq!(failure(&write_tiff(dir.path(), "offset.tif", &data, &tags)).kind(), ErrorKind::Format);
}

#[test]
fn damaged_bytes_never_panic() {
    let dir = folder();
    let originals = [
        fs::read(png(dir.path(), "a.png", 40, 30)).expect("read"),
        fs::read(write_tiff(dir.path(), "a.tif", &[7; 40 * 30 * 4], &one_strip(40, 30, 4, 8, 2))).expect("read"),
    ];
    let mut random = fastrand::Rng::with_seed(1);
    for original in originals {
        for _ in 0..2000 {
            let mut bytes = original.clone();
            for _ in 0..3 {
                // Mostly the TIFF's directory, which lies at the end.
                let first = if random.bool() { bytes.len().saturating_sub(130) } else { 0 };
                let at = random.usize(first..bytes.len());
                bytes[at] = random.u8(..);
            }
            let path = put(dir.path(), "damaged", &bytes);
            if let Ok(mut source) = source::open(&path) {
                let (width, height) = source.size();
                let _ = source.read(Window::new(width / 2, height / 2, width.min(8).min(width - width / 2), 1), &[0]);
                let _ = source.read(Window::new(0, 0, width.min(8), height.min(8)), &[]);
            }
        }
    }
}

#[test]
fn sizes_from_one_pixel_to_absurd() {
    let dir = folder();
    assert_eq!(pixels(&png(dir.path(), "one.png", 1, 1)), [0, 0, 0]);
    let mut wide = picture(&png(dir.path(), "wide.png", 50_000, 2));
    assert_eq!(wide.size(), (50_000, 2));
    assert_eq!(
        wide.image(Window::new(49_999, 1, 1, 1)).expect("read").pixel(0, 0),
        [49_999usize as u8, 1, 49_999usize as u8]
    );
    for window in [(49_999, 0, 2, 1), (0, 2, 1, 1), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
        let error = wide.read(Window::new(window.0, window.1, window.2, window.3), &[0]).expect_err("outside");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    // A header of 50 000 x 50 000 pixels and nothing behind it must not allocate 7.5 GB.
    let mut huge = fs::read(dir.path().join("one.png")).expect("read");
    huge[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    let crc = {
        let mut crc = !0u32;
        for byte in &huge[12..29] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { 0xedb8_8320 ^ crc >> 1 } else { crc >> 1 };
            }
        }
        !crc
    };
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(failure(&put(dir.path(), "huge.png", &huge)).kind(), ErrorKind::Limit);

    for (name, width, height, tile) in
        [("tiles.tif", 100_000, 100_000, (60_000, 60_000)), ("tile.tif", 10, 10, (u32::MAX, 16))]
    {
        let tags = [
            (256, 4, vec![width]),
            (257, 4, vec![height]),
            (258, 3, vec![8, 8, 8]),
            (259, 3, vec![1]),
            (262, 3, vec![2]),
            (277, 3, vec![3]),
            (322, 4, vec![tile.0]),
            (323, 4, vec![tile.1]),
            (324, 4, vec![8; if width > 10 { 4 } else { 1 }]),
            (325, 4, vec![100; if width > 10 { 4 } else { 1 }]),
        ];
        assert_eq!(failure(&write_tiff(dir.path(), name, &[0; 100], &tags)).kind(), ErrorKind::Limit, "{name}");
    }
}

#[test]
fn kinds_of_tiff() {
    let dir = folder();
    let read =
        |name: &str, data: &[u8], tags: &[(u16, u16, Vec<u32>)]| pixels(&write_tiff(dir.path(), name, data, tags));
    assert_eq!(read("grey", &[0, 100, 255], &one_strip(3, 1, 1, 8, 1)), [0, 0, 0, 100, 100, 100, 255, 255, 255]);
    assert_eq!(read("white", &[0, 100], &one_strip(2, 1, 1, 8, 0)), [255, 255, 255, 155, 155, 155]);
    assert_eq!(read("bits", &[0b1010_0000], &one_strip(3, 1, 1, 1, 1)), [255, 255, 255, 0, 0, 0, 255, 255, 255]);
    assert_eq!(read("nibbles", &[0x0f, 0x80], &one_strip(3, 1, 1, 4, 1)), [0, 0, 0, 255, 255, 255, 136, 136, 136]);
    assert_eq!(read("five", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &one_strip(2, 1, 5, 8, 1)), [1, 2, 3, 6, 7, 8]);

    let mut tags = one_strip(2, 1, 3, 8, 2);
    tags.push((284, 3, vec![2]));
    tags[5].2 = vec![8, 10, 12];
    tags[8].2 = vec![2; 3];
    assert_eq!(read("planar", &[1, 2, 3, 4, 5, 6], &tags), [1, 3, 5, 2, 4, 6]);

    let mut tags = one_strip(2, 1, 1, 8, 3);
    let mut map = vec![0; 768];
    (map[1], map[256 + 1], map[512 + 1], map[7]) = (0xffff, 0x8000, 0, 0x4000);
    tags.push((320, 3, map));
    assert_eq!(read("palette", &[1, 7], &tags), [255, 128, 0, 64, 0, 0]);

    // 16 bits: values from 1000 to 2000 fill the range; those below 256 stay as they are.
    let ramp: Vec<u8> = (0..=1000u16).flat_map(|v| (1000 + v).to_le_bytes()).collect();
    let stretched = read("ramp", &ramp, &one_strip(1001, 1, 1, 16, 1));
    assert_eq!((stretched[0], stretched[3000], stretched[1500]), (0, 255, 128));
    assert_eq!(read("small", &[9, 0, 200, 0], &one_strip(2, 1, 1, 16, 1)), [9, 9, 9, 200, 200, 200]);

    let mut float = one_strip(3, 1, 1, 32, 1);
    float.push((339, 3, vec![3]));
    let data: Vec<u8> = [0.5f32, f32::NAN, 0.25].iter().flat_map(|v| v.to_le_bytes()).collect();
    let path = write_tiff(dir.path(), "float", &data, &float);
    assert_eq!(pixels(&path), [255, 255, 255, 0, 0, 0, 0, 0, 0]);
    assert_eq!(valid(&path), [true, false, true]);

    let mut alpha = one_strip(2, 1, 4, 8, 2);
    alpha.push((338, 3, vec![2]));
    let path = write_tiff(dir.path(), "alpha", &[1, 2, 3, 255, 4, 5, 6, 0], &alpha);
    assert_eq!(pixels(&path), [1, 2, 3, 4, 5, 6]);
    assert_eq!(valid(&path), [true, false]);

    let mut nodata = one_strip(2, 1, 3, 8, 2);
    nodata.push((42113, 2, vec![u32::from(b'7'), 0]));
    let path = write_tiff(dir.path(), "nodata", &[7, 7, 7, 7, 7, 8], &nodata);
    assert_eq!(valid(&path), [false, true]);

    let mut lerc = one_strip(2, 1, 3, 8, 2);
    lerc[3].2 = vec![34_887];
    assert_eq!(failure(&write_tiff(dir.path(), "lerc", &[0; 6], &lerc)).kind(), ErrorKind::Unsupported);
    assert_eq!(
        failure(&write_tiff(dir.path(), "cmyk", &[0; 8], &one_strip(2, 1, 4, 8, 5))).kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn world_files_and_tile_names_place_pictures() {
    let dir = folder();
    let path = png(dir.path(), "house.png", 4, 4);
    assert!(source::open(&path).expect("opened").georef().is_none());
    put(dir.path(), "house.pgw", b"0.5\n0\n0\n-0.5\n10.25\n19.75\n");
    put(dir.path(), "house.prj", br#"PROJCS["WGS_1984_UTM_Zone_43N",GEOGCS["GCS_WGS_1984"]]"#);
    let source = source::open(&path).expect("opened");
    let georef = source.georef().expect("placed");
    assert_eq!((georef.transform, georef.crs.epsg), ([0.5, 0.0, 10.0, 0.0, -0.5, 20.0], Some(32643)));
    put(dir.path(), "house.pgw", b"not a number");
    let error = source::open(&path).map(|_| ()).expect_err("a bad world file");
    assert!(error.to_string().contains("house.pgw"), "{error}");
    assert!(source::open(png(dir.path(), "3-1-2.png", 8, 8)).expect("opened").georef().is_some());
    assert!(source::open(png(dir.path(), "3-1-3.png", 8, 9)).expect("opened").georef().is_none());
}

#[test]
fn folders_of_tiles() {
    let dir = folder();
    let kind = |path: &Path| xyz::mosaics(path, None).map(|_| ()).expect_err("no good").kind();
    assert_eq!(kind(dir.path()), ErrorKind::NotFound);
    assert_eq!(kind(&dir.path().join("missing")), ErrorKind::NotFound);
    put(dir.path(), "a/readme.txt", b"no tile");
    assert_eq!(kind(&dir.path().join("a")), ErrorKind::NotFound);

    png(dir.path(), "good/5/3/7.png", 16, 16);
    png(dir.path(), "good/5/5/8.png", 16, 16);
    let good = dir.path().join("good");
    let mut mosaic = source::open(&good).expect("one zoom level opens as an image");
    assert_eq!(mosaic.size(), (48, 32));
    assert_eq!(mosaic.read(Window::whole((48, 32)), &[0]).expect("read").valid.iter().filter(|v| **v).count(), 2 * 256);
    assert!(mosaic.read(Window::whole((16, 16)), &[0]).expect("read").valid.is_empty());
    let mut mosaic = Colours::new(mosaic, None).expect("a picture");
    let window = mosaic.image(Window::new(14, 14, 4, 4)).expect("read");
    assert_eq!((window.pixel(1, 1), window.pixel(2, 2)), ([15, 15, 225], [0, 0, 0]));

    png(dir.path(), "good/5/4/7.png", 8, 8);
    let error = source::open(&good).expect("opened").read(Window::whole((48, 32)), &[0]).expect_err("sizes differ");
    assert!(error.to_string().contains("7.png"), "{error}");
    put(dir.path(), "good/5/4/7.png", b"broken");
    let error = source::open(&good).expect("opened").read(Window::whole((48, 32)), &[0]).expect_err("a broken tile");
    assert_eq!(error.kind(), ErrorKind::Format);
    png(dir.path(), "good/6/4/7.png", 16, 16);
    assert_eq!(source::open(&good).map(|_| ()).expect_err("two zoom levels").kind(), ErrorKind::Invalid);

    png(dir.path(), "twice/5-3-7.png", 16, 16);
    png(dir.path(), "twice/5/3/7.png", 16, 16);
    assert_eq!(kind(&dir.path().join("twice")), ErrorKind::Format);
    png(dir.path(), "far/20-0-0.png", 16, 16);
    png(dir.path(), "far/20-1000000-0.png", 16, 16);
    assert_eq!(kind(&dir.path().join("far")), ErrorKind::Limit);
}

fn mask() -> (ClassMask, Vec<Class>) {
    let class = |index, color| Class { index, name: format!("class {index}"), color, threshold: None };
    let mask = ClassMask::new(3, 2, vec![0, 1, 2, 2, 1, 0], vec![255; 6]).expect("a mask");
    (mask, vec![class(0, [0; 3]), class(1, [255, 0, 0]), class(2, [0, 0, 255])])
}

#[test]
fn masks_come_back() {
    let dir = folder();
    let (mask, classes) = mask();
    let (png, tiff) = (dir.path().join("mask.png"), dir.path().join("mask.tif"));
    write::mask_png(&png, &mask, &classes).expect("written");
    write::mask_geotiff(&tiff, &mask, &classes, None).expect("written");
    let colours = [0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 255, 255, 0, 0, 0, 0, 0];
    assert_eq!(pixels(&png), colours);
    assert_eq!(pixels(&tiff), colours);
    let mut names: Vec<_> = fs::read_dir(dir.path()).expect("read").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["mask.png", "mask.tif"]);
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing() {
    let dir = folder();
    let (mask, classes) = mask();
    let file = put(dir.path(), "file", b"in the way");
    for (path, kind) in [
        (file.join("mask.png"), ErrorKind::Io),
        (dir.path().join("missing/mask.png"), ErrorKind::NotFound),
        (dir.path().to_owned(), ErrorKind::Io),
    ] {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        for error in [
            write::mask_png(&path, &mask, &classes).expect_err("no such folder"),
            write::mask_geotiff(&path, &mask, &classes, None).expect_err("no such folder"),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(&name) && error.remedy_text().is_some(), "{error}");
        }
    }
    // Abandoned, failed and incomplete outputs vanish, and leave the file that was there.
    let old = put(dir.path(), "old.png", b"old");
    let mut png = write::MaskPng::create(&old, 3, 2, &classes).expect("begun");
    png.write(&[0, 1, 2]).expect("written");
    assert_eq!(png.finish().expect_err("a row is missing").kind(), ErrorKind::Invalid);
    let mut tiff = write::MaskTiff::create(&old, 3, 2, &classes, None).expect("begun");
    assert_eq!(tiff.write(&[0; 7]).expect_err("too long").kind(), ErrorKind::Invalid);
    drop(tiff);
    let full = write::atomic(&old, |_| Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into()));
    assert_eq!(full.expect_err("full").kind(), ErrorKind::Io);
    assert_eq!(fs::read(&old).expect("still there"), b"old");
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 2);
}

/// A small file system that fills up, where the machine allows one to be mounted.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let dir = folder();
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(dir.path()).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        println!("left out: this machine lets no file system be mounted");
        return;
    }
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    let mask = ClassMask::new(1024, 1024, noise.clone(), noise).expect("a mask");
    let errors = [
        write::mask_png(dir.path().join("mask.png"), &mask, &[]).expect_err("full"),
        write::mask_geotiff(dir.path().join("mask.tif"), &mask, &[], None).expect_err("full"),
    ];
    let left = fs::read_dir(dir.path()).expect("read").count();
    let _ = std::process::Command::new("umount").arg(dir.path()).status();
    assert_eq!(left, 0);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("mask."), "{error}");
    }
}
