//! Archives of tiles: the right pixels at the right place, checked with a reader in Python that shares nothing with this one,
//! and archives that are broken, truncated or made to harm.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::Connection;
use samlora::error::{ErrorKind, Result};
use samlora::source::tiles::TileOptions;
use samlora::source::{self, Depth, Raster, Samples, SourceOptions, Window, open_levels, open_tiles};
use samlora::tile::{Bounds, TileId};
use serde_json::{Value, json};

/// A part of the real data; without it says that a test is left out.
fn data(test: &str, file: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SAMLORA_DATA").map(|folder| Path::new(&folder).join(file));
    if found.is_none() {
        println!("left out: {test}, SAMLORA_DATA does not name the folder of real data");
    }
    found
}

fn options(tiles: TileOptions) -> SourceOptions {
    SourceOptions { tiles, ..SourceOptions::default() }
}

/// All levels of an archive, two windows of each.
fn dump(path: &Path, index: usize, out: &Path) -> Value {
    let levels = open_levels(path, &SourceOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let tiles = levels.tiles.clone().expect("tiles");
    let mut extents = open_tiles(path, &TileOptions::default()).expect("opened").extents().to_vec();
    extents.reverse();
    let mut found = Vec::new();
    for (at, mut level) in levels.levels.into_iter().enumerate() {
        let (width, height) = level.raster.size();
        assert_eq!((level.raster.bands(), level.raster.depth()), (3, Depth::U8));
        let (w, h) = (width.min(700), height.min(500));
        let mut windows = Vec::new();
        // A tile that is there, and the end, where none may be.
        let (first, sample) = (extents[at].first, extents[at].sample.expect("listed"));
        let side = width / (extents[at].last.0 - first.0 + 1) as usize;
        let place =
            |sample: u32, first: u32, most: usize| ((sample - first) as usize * side).saturating_sub(20).min(most);
        let there = (place(sample.0, first.0, width - w), place(sample.1, first.1, height - h));
        for (x, y) in [there, (width - w, height - h)] {
            let patch = level.raster.read(Window::new(x, y, w, h), &[0, 1, 2]).unwrap_or_else(|e| panic!("{e}"));
            let Samples::U8(samples) = &patch.samples else { panic!("8 bits") };
            let stem = format!("{index}-{at}-{}", windows.len());
            fs::write(out.join(format!("{stem}.samples")), samples).expect("written");
            let valid: Vec<u8> = (0..w * h).map(|i| u8::from(patch.is_valid(i))).collect();
            fs::write(out.join(format!("{stem}.valid")), valid).expect("written");
            windows.push(json!({ "stem": stem, "x": x, "y": y, "width": w, "height": h }));
        }
        let transform = level.raster.georef().expect("placed").transform;
        found.push(json!({
            "size": [width, height], "transform": transform, "metres": level.metres, "windows": windows,
            "axes": level.axes.map(|a| [a.scale, a.offset]), "describe": level.raster.describe(),
        }));
    }
    json!({ "path": path, "attribution": tiles.attribution, "levels": found })
}

#[test]
fn pixels_of_every_archive_lie_where_another_reader_puts_them() {
    let Some(folder) = data("archives", "tiles") else { return };
    let Some(python) = std::env::var_os("SAMLORA_PYTHON") else {
        println!("left out: SAMLORA_PYTHON is not set, so that there is no other reader to compare with");
        return;
    };
    let out = tempfile::tempdir().expect("a folder");
    let mut archives: Vec<PathBuf> = Vec::new();
    for folder in [folder.clone(), folder.join("other")] {
        let entries = folder.read_dir().expect("a folder").map(|e| e.expect("an entry").path());
        archives.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "pmtiles" || e == "mbtiles")));
    }
    archives.sort();
    assert!(archives.len() >= 8, "{archives:?}");
    let jobs: Vec<Value> = archives.iter().enumerate().map(|(i, path)| dump(path, i, out.path())).collect();
    let manifest = out.path().join("jobs.json");
    fs::write(&manifest, json!({ "out": out.path(), "jobs": jobs }).to_string()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives_check.py");
    let status = Command::new(python).arg(script).arg(&manifest).status().expect("Python runs");
    assert!(status.success(), "what was read is not what another reader reads");
}

#[test]
fn one_place_in_three_archives() {
    let Some(folder) = data("one place in three archives", "tiles") else { return };
    let read = |name: &str| {
        let levels = open_levels(folder.join(name), &SourceOptions::default()).unwrap_or_else(|e| panic!("{e}"));
        let all = levels.levels.into_iter().map(|mut level| {
            let (width, height) = level.raster.size();
            let part = Window::new(width / 2, 0, width - width / 2, height.min(600));
            (level.raster.size(), level.metres, level.raster.read(part, &[0, 1, 2]).expect("read"))
        });
        all.collect::<Vec<_>>()
    };
    let archive = read("philippines.pmtiles");
    assert_eq!(archive.len(), 3);
    assert!(archive == read("philippines.mbtiles"));
    assert!(archive == read("xyz-philippines"));
    // 14 degrees north, zoom level 21: 7.2 cm, and twice as much at each level above.
    let metres: Vec<f64> = archive.iter().map(|level| level.1.expect("known")).collect();
    assert!((metres[0] - 0.0724).abs() < 5e-4 && (metres[1] / metres[0] - 2.0).abs() < 1e-2, "{metres:?}");
    assert!(
        source::open(folder.join("philippines.pmtiles"))
            .map(|_| ())
            .expect_err("three levels")
            .to_string()
            .contains("19, 20, 21")
    );
}

#[test]
fn a_part_of_an_archive() {
    let Some(folder) = data("a part of an archive", "tiles") else { return };
    let tile = TileId::new(20, 886_233, 483_190).expect("a tile");
    let b = tile.bounds_lon_lat();
    for name in ["philippines.pmtiles", "philippines.mbtiles", "xyz-philippines"] {
        let tiles = TileOptions { zoom: Some(20), bounds: Some(b), ..TileOptions::default() };
        let mut levels = open_levels(folder.join(name), &options(tiles)).unwrap_or_else(|e| panic!("{e}")).levels;
        assert_eq!((levels.len(), levels[0].raster.size()), (1, (256, 256)));
        let part = levels[0].raster.read(Window::whole((256, 256)), &[0, 1, 2]).expect("read");
        let mut picture = source::open(folder.join("xyz-philippines/20/886233/483190.jpg")).expect("the tile");
        assert!(part == picture.read(Window::whole((256, 256)), &[0, 1, 2]).expect("read"));
        let elsewhere = Some(Bounds { west: 0.0, south: 0.0, east: 1.0, north: 1.0 });
        for tiles in [
            TileOptions { zoom: Some(18), ..TileOptions::default() },
            TileOptions { bounds: elsewhere, ..TileOptions::default() },
        ] {
            let error = open_levels(folder.join(name), &options(tiles)).map(|_| ()).expect_err("nothing there");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(name) && error.remedy_text().is_some(), "{error}");
        }
    }
}

/// The error of opening a file as tiles and reading all of it; it must name the file and a remedy.
#[track_caller]
fn refused(path: &Path) -> (ErrorKind, String) {
    let read = || -> Result<()> {
        for mut level in open_levels(path, &SourceOptions::default())?.levels {
            let (width, height) = level.raster.size();
            level.raster.read(Window::new(0, 0, width.min(2048), height.min(2048)), &[0])?;
        }
        Ok(())
    };
    let error = read().expect_err("bad");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.to_string().contains(&name) && error.remedy_text().is_some(), "{error}");
    println!("{error}");
    (error.kind(), error.to_string())
}

/// A PMTiles archive of its parts: type of tiles, compression of directories (1 none, 2 gzip), root, leaves and tiles.
fn pmtiles(tile_type: u8, compression: u8, root: &[u8], leaves: &[u8], tiles: &[u8]) -> Vec<u8> {
    let mut bytes = b"PMTiles\x03".to_vec();
    let (root_at, leaves_at) = (127, 127 + root.len());
    let tiles_at = leaves_at + leaves.len();
    for (at, length) in [(root_at, root.len()), (leaves_at, 0), (leaves_at, leaves.len()), (tiles_at, tiles.len())] {
        bytes.extend((at as u64).to_le_bytes());
        bytes.extend((length as u64).to_le_bytes());
    }
    bytes.extend([0; 24]);
    bytes.extend([1, compression, 1, tile_type, 0, 3]);
    for degrees in [-180.0, -85.0, 180.0, 85.0] {
        bytes.extend(((degrees * 1e7) as i32).to_le_bytes());
    }
    bytes.extend([0; 9]);
    assert_eq!(bytes.len(), 127);
    [&bytes[..], root, leaves, tiles].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn varints(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &number in numbers {
        let mut left = number;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
    bytes
}

fn tile() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..64 * 64).flat_map(|i| [(i % 64) as u8 * 4, (i / 64) as u8 * 4, 7]).collect();
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).expect("encoded");
    bytes
}

#[test]
fn runs_leaves_and_gzip() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = tile();
    let length = picture.len() as u64;
    // All four tiles of zoom level 1 are one picture: a run of 4, in a leaf in a leaf.
    let leaf = gzip(&varints(&[1, 1, 4, length, 1]));
    let middle = gzip(&varints(&[1, 1, 0, leaf.len() as u64, 1]));
    let root = gzip(&varints(&[1, 0, 0, middle.len() as u64, leaf.len() as u64 + 1]));
    let path = folder.path().join("runs.pmtiles");
    fs::write(&path, pmtiles(2, 2, &root, &[leaf, middle].concat(), &picture)).expect("written");
    let mut raster = source::open(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(raster.size(), (128, 128));
    let patch = raster.read(Window::whole((128, 128)), &[0, 1]).expect("read");
    let Samples::U8(samples) = &patch.samples else { panic!("8 bits") };
    let right = |i: usize| samples[2 * i..2 * i + 2] == [(i % 64) as u8 * 4, (i / 128 % 64) as u8 * 4];
    assert!(patch.valid.is_empty() && (0..128 * 128).all(right));
    // The rest of the pyramid holds nothing, also where it is asked for.
    let source = open_tiles(&path, &TileOptions::default()).expect("opened");
    assert!(source.tile(TileId::new(2, 0, 0).expect("a tile")).expect("asked").is_none());
    assert_eq!(source.extents()[0].count, Some(4));
}

#[test]
fn archives_that_are_damaged_or_made_to_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let picture = tile();
    let length = picture.len() as u64;
    let root = varints(&[1, 0, 1, length, 1]);
    let good = pmtiles(2, 1, &root, &[], &picture);
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    assert!(source::open(put("good.pmtiles", &good)).is_ok());
    let self_leaf = varints(&[1, 0, 0, 5, 1]);
    let bomb = gzip(&vec![0; 80 << 20]);
    let many = varints(&[1, 0, 4_000_001, length, 1]);
    let beyond = varints(&[1, 0, 1, length, 1000]);
    let mut metadata = good.clone();
    // The length of the metadata.
    metadata[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    let version = [&good[..7], &[2], &good[8..]].concat();
    let cut = &good[..good.len() - 100];
    for (name, bytes, kind, words) in [
        ("header.pmtiles", good[..100].to_vec(), ErrorKind::Format, "truncated"),
        ("cut.pmtiles", cut.to_vec(), ErrorKind::Format, "truncated"),
        ("version.pmtiles", version, ErrorKind::Unsupported, "version 3"),
        ("metadata.pmtiles", metadata, ErrorKind::Format, "metadata"),
        ("vector.pmtiles", pmtiles(1, 1, &root, &[], &picture), ErrorKind::Unsupported, "vector tiles"),
        ("avif.pmtiles", pmtiles(5, 1, &root, &[], &picture), ErrorKind::Unsupported, "AVIF"),
        ("brotli.pmtiles", pmtiles(2, 3, &root, &[], &picture), ErrorKind::Unsupported, "Brotli"),
        ("circle.pmtiles", pmtiles(2, 1, &self_leaf, &self_leaf, &picture), ErrorKind::Format, "circle"),
        ("bomb.pmtiles", pmtiles(2, 2, &bomb, &[], &picture), ErrorKind::Limit, "unpacks"),
        ("gzip.pmtiles", pmtiles(2, 2, &root, &[], &picture), ErrorKind::Format, "decompressed"),
        ("many.pmtiles", pmtiles(2, 1, &many, &[], &picture), ErrorKind::Limit, "--bbox"),
        ("beyond.pmtiles", pmtiles(2, 1, &beyond, &[], &picture), ErrorKind::Format, "section"),
        ("none.pmtiles", pmtiles(2, 1, &varints(&[0]), &[], &picture), ErrorKind::NotFound, "no tiles"),
        ("picture.pmtiles", pmtiles(2, 1, &root, &[], &vec![7; picture.len()]), ErrorKind::Format, "tile 0/0/0"),
        (
            "tile.pmtiles",
            pmtiles(2, 1, &root, &[], &{
                let mut b = picture.clone();
                b.truncate(b.len() / 2);
                b.resize(picture.len(), 0);
                b
            }),
            ErrorKind::Format,
            "tile 0/0/0",
        ),
        (
            "inner.pmtiles",
            pmtiles(0, 1, &root, &[], &{
                let mut b = gzip(b"a vector tile");
                b.resize(picture.len(), 0);
                b
            }),
            ErrorKind::Unsupported,
            "gzip",
        ),
    ] {
        let (found, text) = refused(&put(name, &bytes));
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(words), "{words:?} in {text}");
    }
}

/// An MBTiles archive made by SQL.
fn mbtiles(folder: &Path, name: &str, sql: &str) -> PathBuf {
    let path = folder.join(name);
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(sql).expect("made");
    let tile = tile();
    if sql.contains("INTO tiles") || sql.contains("INTO images") {
        let table = if sql.contains("images") { "images" } else { "tiles" };
        connection
            .execute(&format!("UPDATE {table} SET tile_data = ?1 WHERE tile_data = 'T'"), [tile])
            .expect("filled");
    }
    path
}

const TABLES: &str = "CREATE TABLE metadata (name text, value text);
    CREATE TABLE tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob);";

#[test]
fn mbtiles_of_every_layout() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = |path: &Path| {
        let mut raster = source::open(path).unwrap_or_else(|e| panic!("{e}"));
        let (width, height) = raster.size();
        let valid = raster.read(Window::whole((width, height)), &[0]).expect("read").valid;
        let georef = raster.georef().expect("placed").transform;
        (width, height, georef[5], valid)
    };
    // Row 5 of 8 from the south is 2 from the north; the one below it is a gap.
    let tiles = "INSERT INTO tiles VALUES (3, 4, 5, 'T'), (3, 5, 4, 'T');";
    let tms = rows(&mbtiles(folder.path(), "a b%?#.mbtiles", &format!("{TABLES}{tiles}")));
    assert_eq!((tms.0, tms.1), (128, 128));
    let north = TileId::new(3, 4, 2).expect("a tile").bounds_mercator().north;
    assert!((tms.2 - north).abs() < 1e-6);
    assert!(tms.3[0] && !tms.3[64] && !tms.3[128 * 64] && tms.3[128 * 64 + 64]);
    let scheme = "INSERT INTO metadata VALUES ('scheme', 'xyz');";
    let xyz = rows(&mbtiles(folder.path(), "xyz.mbtiles", &format!("{TABLES}{scheme}{tiles}")));
    assert!((xyz.2 - TileId::new(3, 4, 4).expect("a tile").bounds_mercator().north).abs() < 1e-6);
    // Tiles without repetition: a view over two tables, as many programs write it.
    let view = "CREATE TABLE map (zoom_level integer, tile_column integer, tile_row integer, tile_id text);
        CREATE TABLE images (tile_data blob, tile_id text);
        CREATE VIEW tiles AS SELECT map.zoom_level AS zoom_level, map.tile_column AS tile_column, map.tile_row AS tile_row,
            images.tile_data AS tile_data FROM map JOIN images ON images.tile_id = map.tile_id;
        INSERT INTO images VALUES ('T', 'a'); INSERT INTO map VALUES (3, 4, 5, 'a'), (3, 5, 4, 'a');";
    assert_eq!(rows(&mbtiles(folder.path(), "view.mbtiles", view)), tms);
}

#[test]
fn mbtiles_that_are_damaged_or_made_to_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let tiles = "INSERT INTO tiles VALUES (3, 4, 5, 'T');";
    for (name, sql, kind, words) in [
        (
            "vector.mbtiles",
            format!("{TABLES}{tiles}INSERT INTO metadata VALUES ('format', 'pbf');"),
            ErrorKind::Unsupported,
            "vector tiles",
        ),
        ("empty.mbtiles", TABLES.to_owned(), ErrorKind::NotFound, "no tiles"),
        ("other.mbtiles", "CREATE TABLE gpkg_contents (a);".to_owned(), ErrorKind::Format, "no table of tiles"),
        ("columns.mbtiles", "CREATE TABLE tiles (z, x, y);".to_owned(), ErrorKind::Format, "laid out"),
        ("row.mbtiles", format!("{TABLES}INSERT INTO tiles VALUES (3, 4, 8, 'T');"), ErrorKind::Format, "zoom level 3"),
        (
            "zoom.mbtiles",
            format!("{TABLES}INSERT INTO tiles VALUES (99, 4, 8, 'T');"),
            ErrorKind::Format,
            "zoom level 99",
        ),
        ("text.mbtiles", format!("{TABLES}INSERT INTO tiles VALUES (3, 4, 5, 'words');"), ErrorKind::Format, "Text"),
        (
            "far.mbtiles",
            format!("{TABLES}INSERT INTO tiles VALUES (20, 0, 0, 'T'), (20, 900000, 0, 'T');"),
            ErrorKind::Limit,
            "--bbox",
        ),
        (
            "endless.mbtiles",
            "CREATE VIEW tiles AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c)
                SELECT x AS zoom_level, x AS tile_column, x AS tile_row, x AS tile_data FROM c;"
                .to_owned(),
            ErrorKind::Unsupported,
            "view",
        ),
        (
            "virtual.mbtiles",
            format!("{TABLES}CREATE VIRTUAL TABLE t USING fts5(a);"),
            ErrorKind::Unsupported,
            "no tiles need",
        ),
    ] {
        let (found, text) = refused(&mbtiles(folder.path(), name, &sql));
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(words), "{words:?} in {text}");
    }
    let good = mbtiles(folder.path(), "good.mbtiles", &format!("{TABLES}{tiles}"));
    let bytes = fs::read(&good).expect("there");
    let cut = folder.path().join("cut.mbtiles");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("written");
    assert_eq!(refused(&cut).0, ErrorKind::Format);
    fs::write(folder.path().join("good.mbtiles-wal"), b"changes").expect("written");
    assert_eq!(refused(&good).0, ErrorKind::Io);
    fs::remove_file(folder.path().join("good.mbtiles-wal")).expect("removed");
    // It is read where nothing may be written, and nothing is left beside it.
    let before: Vec<_> = folder.path().read_dir().expect("a folder").collect();
    assert!(source::open(&good).is_ok());
    assert_eq!(folder.path().read_dir().expect("a folder").count(), before.len());
}

#[test]
fn a_cut_archive_of_real_imagery_is_never_read_wrong() {
    let Some(folder) = data("cut archives", "tiles") else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    for name in ["philippines.pmtiles", "philippines.mbtiles"] {
        let bytes = fs::read(folder.join(name)).expect("there");
        for share in [0.001, 0.01, 0.3, 0.7, 0.99] {
            let path = scratch.path().join(name);
            fs::write(&path, &bytes[..(bytes.len() as f64 * share) as usize]).expect("written");
            refused(&path);
        }
    }
}
