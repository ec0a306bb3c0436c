//! Vector files out and in: what is written opens elsewhere and holds the polygons, what is read lies where GDAL puts it, and what is
//! broken is an error.
//!
//! Takes real files from `SAMLORA_DATA`, and a Python with rasterio and shapely from `SAMLORA_PYTHON` (the files are read there by
//! sqlite3 and shapely, and by pyogrio, which is GDAL, if it is installed).
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastrand::Rng;
use samlora::config::Class;
use samlora::error::ErrorKind;
use samlora::geojson::{Layout, Placement, Writer};
use samlora::georef::{Crs, Georef};
use samlora::polygon::{StreamOptions, Traced, Tracer};
use samlora::source::write::AtomicFile;
use samlora::source::{self, Raster};
use samlora::vector::record::{Least, sieve};
use samlora::vector::write::{Features, FlatGeobuf, GeoPackage, Shapefile, Table, Value};
use samlora::vector::{self, Areas, Clip, Provenance, Records, Target};
use serde_json::json;

fn python() -> Option<PathBuf> {
    let found = std::env::var_os("SAMLORA_PYTHON").map(PathBuf::from);
    if found.is_none() {
        println!("left out: SAMLORA_PYTHON is not set, so that there is no Python to compare with");
    }
    found
}

fn check(what: &str, job: &serde_json::Value) {
    let Some(python) = python() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), job.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors_check.py");
    let status = Command::new(python).arg(script).arg(what).arg(file.path()).status().unwrap();
    assert!(status.success(), "{what}");
}

fn classes() -> Vec<Class> {
    let class = |index, name: &str| Class { index, name: name.into(), color: [index, 128, 255], threshold: None };
    vec![class(0, "background"), class(1, "Dächer, \"rot\""), class(2, "road"), class(3, "water")]
}

fn traced(width: usize, height: usize, seed: u64, tolerance: f64) -> Vec<Traced> {
    let random = &mut Rng::with_seed(seed);
    let coarse: Vec<u8> = (0..width * height).map(|_| random.u8(..4)).collect();
    let mask: Vec<u8> = (0..width * height).map(|i| coarse[(i / width / 3) * width + i % width / 3]).collect();
    let mut tracer = Tracer::new(width, StreamOptions { tolerance, ..Default::default() }).unwrap();
    tracer.rows(&mask, &vec![204; width * height]).unwrap();
    let mut out: Vec<Traced> = tracer.closed().collect();
    out.extend(tracer.finish().unwrap());
    out
}

fn provenance() -> Provenance {
    let date = "2026-11-25".to_owned();
    Provenance {
        tool: "test".into(),
        model_sha256: "ab".into(),
        source: "a & b.tif".into(),
        resolution_m: Some(0.5),
        date,
    }
}

/// Writes every format into a folder; gives the number of polygons and their true area.
fn write_all(folder: &Path, georef: Option<&Georef>, target: &Target, polygons: &[Traced]) -> (usize, f64) {
    let (classes, size) = (classes(), (60, 48));
    let records = Records::new(georef, size, &classes, target).unwrap();
    let crs = records.crs();
    let mut fgb = FlatGeobuf::create(folder.join("a.fgb"), "a", crs, &provenance()).unwrap();
    let mut gpkg = GeoPackage::create(folder.join("a.gpkg"), "a \"b\"", &classes, crs, &provenance()).unwrap();
    let mut shp = Shapefile::create(folder.join("a.shp"), crs).unwrap();
    let text = |name: &str, layout| {
        let file = AtomicFile::create(folder.join(name)).unwrap();
        Writer::begin(file, &classes, Placement::new(georef, size.0, size.1), layout, Some(&provenance().json()))
    };
    let mut collection = text("a.geojson", Layout::Collection).unwrap();
    let mut sequences: Vec<_> = [("a.geojsons", Layout::Sequence), ("a.geojsonl", Layout::Lines)]
        .into_iter()
        .filter_map(|(name, layout)| text(name, layout).ok())
        .collect();
    assert_eq!(sequences.len(), if georef.is_some() { 2 } else { 0 }, "sequences have no words for pixels");
    let (mut count, mut area) = (0, 0.0);
    let placement = Placement::new(georef, size.0, size.1);
    for traced in polygons {
        let polygon = sieve(traced.clone(), &placement, Least::default()).unwrap().unwrap();
        let record = records.record(&polygon).unwrap();
        for file in [&mut fgb as &mut dyn Features, &mut gpkg, &mut shp] {
            file.record(&record).unwrap();
        }
        collection.polygon(&polygon).unwrap();
        sequences.iter_mut().for_each(|file| file.polygon(&polygon).unwrap());
        count += 1;
        area += record.area_m2.unwrap_or(0.0);
    }
    let rows = vec![vec![Value::Text("x".into()), Value::Real(0.5)]];
    let columns = [("area", "TEXT"), ("share", "REAL")];
    gpkg.table(&Table { name: "statistics", description: "a table", columns: &columns, rows }).unwrap();
    fgb.finish().unwrap();
    gpkg.finish().unwrap();
    shp.finish().unwrap();
    collection.finish().unwrap().commit().unwrap();
    for file in sequences {
        file.finish().unwrap().commit().unwrap();
    }
    (count, area)
}

fn utm() -> Georef {
    Georef { transform: [0.5, 0.0, 500_000.0, 0.0, -0.5, 9_360_000.0], crs: Crs::from_epsg(32_737) }
}

#[test]
fn every_format_holds_the_polygons_and_opens_elsewhere() {
    let georef = utm();
    for (georef, target, epsg) in [
        (Some(&georef), Target::Raster, 32_737),
        (Some(&georef), Target::Epsg(4326), 4326),
        (Some(&georef), Target::Epsg(3857), 3857),
        (None, Target::Raster, 0),
    ] {
        for tolerance in [0.0, 1.0] {
            let folder = tempfile::tempdir().unwrap();
            let polygons = traced(60, 48, 5, tolerance);
            let (count, area) = write_all(folder.path(), georef, &target, &polygons);
            println!("{target:?}: {count} polygons, {area:.1} m2");
            assert!(count > 50);
            check("written", &json!({ "folder": folder.path(), "count": count, "area": area, "epsg": epsg }));
            if georef.is_none() {
                continue;
            }
            // And back.
            let records = Records::new(georef, (60, 48), &[], &target).unwrap();
            let wanted: f64 = polygons.iter().map(|t| sum(&[records.record(&t.polygon).unwrap().parts])).sum();
            for name in ["a.fgb", "a.gpkg", "a.shp"] {
                let found = vector::read(folder.path().join(name), None).unwrap();
                let areas: Vec<_> = found.areas.iter().map(|a| a.polygons.clone()).collect();
                assert_eq!((found.areas.len(), found.crs.epsg), (count, Some(epsg)), "{name}");
                assert!((sum(&areas) / wanted - 1.0).abs() < 1e-9, "{name}");
                assert!(found.areas.iter().any(|a| a.name == "Dächer, \"rot\""), "{name}: {:?}", found.areas[0]);
            }
            assert_eq!(vector::read(folder.path().join("a.geojson"), None).unwrap().areas.len(), count);
        }
    }
}

/// Area of polygons whose holes run the other way or, in Shapefiles, lie in the even-odd rule's order.
fn sum(areas: &[Vec<Vec<Vec<[f64; 2]>>>]) -> f64 {
    let ring = |r: &Vec<[f64; 2]>| {
        let [x, y] = r[0];
        r.windows(2).map(|w| (w[0][0] - x) * (w[1][1] - y) - (w[1][0] - x) * (w[0][1] - y)).sum::<f64>() / 2.0
    };
    let polygon = |p: &Vec<Vec<[f64; 2]>>| p.iter().map(ring).sum::<f64>().abs();
    areas.iter().flatten().map(polygon).sum()
}

#[test]
fn files_without_polygons_are_whole_too() {
    let (folder, georef) = (tempfile::tempdir().unwrap(), utm());
    assert_eq!(write_all(folder.path(), Some(&georef), &Target::Raster, &[]).0, 0);
    check("written", &json!({ "folder": folder.path(), "count": 0, "area": 0.0, "epsg": 32_737 }));
    for name in ["a.fgb", "a.gpkg", "a.shp", "a.geojson"] {
        let error = vector::read(folder.path().join(name), None).unwrap_err();
        assert!(error.to_string().contains("no polygon"), "{name}: {error}");
    }
}

#[test]
fn small_holes_are_filled_and_small_polygons_left_out_by_square_metres() {
    #[rustfmt::skip]
    let mask = [
        1, 1, 1, 1, 1, 0, 2,
        1, 0, 1, 2, 1, 0, 0,
        1, 1, 1, 1, 1, 0, 0,
    ];
    let mut tracer = Tracer::new(7, StreamOptions { fill_pixels: 100, ..Default::default() }).unwrap();
    tracer.rows(&mask, &[255; 21]).unwrap();
    let mut polygons: Vec<Traced> = tracer.closed().collect();
    polygons.extend(tracer.finish().unwrap());
    let georef = utm();
    let placement = Placement::new(Some(&georef), 7, 3);
    let kept = |area: f64, hole: f64| -> Vec<(u8, usize)> {
        let least = Least { area, hole };
        let found = polygons.iter().filter_map(|t| sieve(t.clone(), &placement, least).unwrap());
        let mut found: Vec<_> = found.map(|p| (p.class, p.holes.len())).collect();
        found.sort_unstable();
        found
    };
    // A pixel has a quarter of a square metre. The hole that class 2 lies in is not filled.
    assert_eq!(kept(0.0, 0.0), [(1, 2), (2, 0), (2, 0)]);
    assert_eq!(kept(0.0, 0.26), [(1, 1), (2, 0), (2, 0)]);
    assert_eq!(kept(0.26, 0.24), [(1, 2)]);
    assert!(kept(100.0, 0.0).is_empty());
}

#[test]
fn areas_lie_where_gdal_puts_them() {
    let Some(folder) = common::data("areas", "vector-pairs") else { return };
    let out = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (raster, vectors, count) in [
        ("lasvegas.tif", "lasvegas_buildings.gpkg", 3),
        ("atlanta_rgbn.tif", "atlanta_buildings.geojson", 64),
        ("nungwi_8cm.tif", "nungwi_buildings_crs84.geojson", 0),
        ("sentinel2_lux_float32.tif", "sentinel2_lux_aoi.geojson", 0),
        ("sentinel2_lux_float32.tif", "sentinel2_lux_labels.geojson", 0),
    ] {
        let areas = vector::read(folder.join(vectors), None).unwrap();
        assert!(count == 0 || areas.areas.len() == count, "{vectors}: {}", areas.areas.len());
        let raster = folder.join(raster);
        let mut image = source::open(&raster).unwrap();
        let (width, height) = image.size();
        let clip = Clip::new(&areas, image.georef(), (width, height)).unwrap();
        let mask = clip.window(source::Window::whole((width, height)));
        println!("{vectors}: {} areas, {} pixels", areas.areas.len(), mask.iter().filter(|m| **m).count());
        // A raster within areas holds nothing beyond them, and in them what it held.
        let bands: Vec<usize> = (0..image.bands()).collect();
        let window = source::Window::new(width / 4, height / 4, width / 2, height / 2);
        let whole = image.read(window, &bands).unwrap();
        let part = vector::Clipped::new(image, Some(clip)).read(window, &bands).unwrap();
        for i in 0..window.pixels() {
            let inside = mask[(window.y + i / window.width) * width + window.x + i % window.width];
            assert_eq!(part.is_valid(i), inside && whole.is_valid(i));
        }
        let file = out.path().join(format!("{}.mask", jobs.len()));
        fs::write(&file, mask.iter().map(|m| u8::from(*m)).collect::<Vec<_>>()).unwrap();
        jobs.push(json!({
            "raster": raster, "vectors": folder.join(vectors), "mask": file, "areas": areas.areas.len(),
            "crs": areas.crs.epsg,
        }));
    }
    check("clips", &json!({ "clips": jobs }));
}

#[test]
fn rectangles_and_the_antimeridian() {
    let degrees = |west: f64| Georef { transform: [0.1, 0.0, west, 0.0, -0.1, 5.0], crs: Crs::from_epsg(4326) };
    let count = |areas: &Areas, georef: &Georef| {
        let clip = Clip::new(areas, Some(georef), (100, 100));
        clip.map(|c| c.window(source::Window::whole((100, 100))).iter().filter(|m| **m).count())
    };
    // Ten degrees around 180, as one file has them and as another.
    let across = Areas::rectangle([178.0, -1.0, -178.0, 1.0]).unwrap();
    for west in [175.0, -185.0] {
        assert_eq!(count(&across, &degrees(west)).unwrap(), 40 * 20, "{west}");
    }
    assert!(count(&across, &degrees(20.0)).unwrap_err().to_string().contains("no pixel"));
    // Web Mercator, and UTM with bent edges.
    let mercator = Georef { transform: [1000.0, 0.0, 19_990_000.0, 0.0, -1000.0, 50_000.0], crs: Crs::from_epsg(3857) };
    let found = count(&across, &mercator).unwrap();
    assert!((found as f64 / (100.0 * 100.0) - 1.0).abs() < 0.05, "{found}");
    let utm = Georef { transform: [6000.0, 0.0, 200_000.0, 0.0, -6000.0, 6_600_000.0], crs: Crs::from_epsg(32_633) };
    let wide = Areas::rectangle([12.0, 55.0, 18.0, 58.0]).unwrap();
    let found = count(&wide, &utm).unwrap() as f64 * 36.0;
    // Square kilometres of that field on the ellipsoid.
    assert!((found / 123_300.0 - 1.0).abs() < 0.02, "{found}");
    assert_eq!(Clip::new(&wide, None, (9, 9)).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn several_layers_points_and_unknown_systems_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let square = "[[[0,0],[1,0],[1,1],[0,0]]]";
    let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
    let fails = |name: &str, words: &str| {
        let error = vector::read(path(name), None).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name), "{words:?} in {error}");
    };
    write("point.geojson", r#"{"type":"Point","coordinates":[1,2]}"#);
    fails("point.geojson", "points");
    write(
        "crs.geojson",
        &format!(
            r#"{{"type":"Polygon","coordinates":{square},"crs":{{"type":"name","properties":{{"name":"LOCAL_CS[]"}}}}}}"#
        ),
    );
    fails("crs.geojson", "crs");
    write("empty.geojson", r#"{"type":"FeatureCollection","features":[]}"#);
    fails("empty.geojson", "no polygon");
    write("list.geojson", "[]");
    fails("list.geojson", "no GeoJSON");
    write("deep.geojson", &"[".repeat(100_000));
    fails("deep.geojson", "no GeoJSON");
    write("a.kml", "");
    fails("a.kml", "ogr2ogr");
    write("a.shp", "");
    fails("a.shp", ".prj");
    assert_eq!(vector::read(path("none.gpkg"), None).unwrap_err().kind(), ErrorKind::NotFound);
    write("z.geojson", r#"{"type":"Polygon","coordinates":[[[0,0,5],[1,0,5],[1,1,5]]]}"#);
    let found = vector::read(path("z.geojson"), None).unwrap();
    assert_eq!(found.areas[0].polygons[0][0], [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]);
    assert!(vector::read(path("z.geojson"), Some("x")).is_err());

    write_all(folder.path(), Some(&utm()), &Target::Raster, &traced(60, 48, 1, 0.0));
    let db = rusqlite::Connection::open(path("a.gpkg")).unwrap();
    db.execute_batch(
        "CREATE TABLE other (fid INTEGER PRIMARY KEY, geom BLOB); INSERT INTO gpkg_contents (table_name, data_type, srs_id) \
         VALUES ('other', 'features', 32737); INSERT INTO gpkg_geometry_columns VALUES ('other', 'geom', 'POLYGON', 32737, 0, 0);",
    )
    .unwrap();
    db.close().unwrap();
    fails("a.gpkg", "--layer");
    assert!(vector::read(path("a.gpkg"), Some("a \"b\"")).unwrap().areas.len() > 50);
    assert_eq!(vector::read(path("a.gpkg"), Some("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn truncated_and_flipped_files_never_end_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let count = write_all(folder.path(), Some(&utm()), &Target::Raster, &traced(60, 48, 2, 0.0)).0;
    let random = &mut Rng::with_seed(1);
    for name in ["a.geojson", "a.gpkg", "a.shp", "a.fgb"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let (mut errors, mut equal) = (0, 0);
        for i in 0..60 {
            let length = if i < 20 { i * 7 } else { random.usize(..whole.len()) };
            fs::write(&path, &whole[..length]).unwrap();
            match vector::read(&path, None) {
                Err(_) => errors += 1,
                // SQLite's last pages may be those of an index.
                Ok(found) => {
                    assert!(
                        name == "a.gpkg" && found.areas.len() == count,
                        "{name} cut to {length} of {}",
                        whole.len()
                    );
                    equal += 1;
                }
            }
        }
        println!("{name}: {errors} errors, {equal} times nothing was missing");
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..8) {
                let first = if random.bool() { 4000 } else { usize::MAX };
                let at = random.usize(..bytes.len().min(first));
                bytes[at] = random.u8(..);
            }
            fs::write(&path, &bytes).unwrap();
            // An error, or numbers that cannot be told from right ones; never a panic.
            let _ = vector::read(&path, None);
        }
        fs::write(&path, &whole).unwrap();
    }
}
