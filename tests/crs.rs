//! Systems of the EPSG register beside PROJ: each converts to within 5 m of it, or is refused with a reason.
//!
//! Takes a Python with rasterio from `SAMLORA_PYTHON`. `cargo test --test crs -- --ignored --nocapture` compares the
//! whole register and names what `src/georef/refused.rs` would have to hold besides.

use std::path::Path;
use std::process::Command;

use samlora::georef::{Crs, ToLonLat};

/// Metres by which a conversion may differ from PROJ's.
const TOLERANCE: f64 = 5.0;
/// What the whole register is held to, so that places between those compared stay within the above.
const MARGIN: f64 = 4.0;

#[derive(serde::Deserialize)]
struct System {
    code: u32,
    /// x, y, longitude, latitude.
    points: Vec<[f64; 4]>,
}

/// Systems and places that PROJ computed; `None` without Python.
fn proj(arguments: &[&str]) -> Option<Vec<System>> {
    let Some(python) = std::env::var_os("SAMLORA_PYTHON") else {
        println!("left out: SAMLORA_PYTHON is not set (a Python with rasterio), so nothing can be compared");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("points.json");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crs_points.py");
    let status = Command::new(python).arg(script).arg(&out).args(arguments).status().expect("Python runs");
    assert!(status.success());
    Some(serde_json::from_slice(&std::fs::read(out).expect("points")).expect("JSON"))
}

/// Metres between two places of longitude and latitude.
fn metres([a0, a1]: [f64; 2], [b0, b1]: [f64; 2]) -> f64 {
    let lon = (b0 - a0 + 540.0).rem_euclid(360.0) - 180.0;
    (lon * a1.to_radians().cos()).hypot(b1 - a1) * 111_320.0
}

/// The furthest that a system's places are off, metres; `None` if it is refused.
fn furthest(system: &System) -> Option<f64> {
    let to_lon_lat = match ToLonLat::of(&Crs::from_epsg(system.code)) {
        Ok(to_lon_lat) => to_lon_lat,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&system.code.to_string()) && text.contains("gdalwarp"), "{text}");
            return None;
        }
    };
    let off = |&[x, y, lon, lat]: &[f64; 4]| to_lon_lat.convert([x, y]).map_or(0.0, |found| metres(found, [lon, lat]));
    Some(system.points.iter().map(off).fold(0.0, f64::max))
}

fn compare(systems: &[System], tolerance: f64) -> (usize, Vec<u32>, Vec<(u32, f64)>) {
    let (mut within, mut refused, mut off) = (0, Vec::new(), Vec::new());
    for system in systems {
        match furthest(system) {
            None => refused.push(system.code),
            Some(metres) if metres <= tolerance => within += 1,
            Some(metres) => off.push((system.code, metres)),
        }
    }
    println!(
        "{} systems: {within} within {tolerance} m of PROJ, {} refused, off: {off:?}",
        systems.len(),
        refused.len()
    );
    (within, refused, off)
}

#[test]
fn drawn_systems_are_where_proj_has_them_or_refused() {
    let Some(systems) = proj(&["300", "300"]) else { return };
    let (within, _, off) = compare(&systems, TOLERANCE);
    assert!(off.is_empty(), "{off:?}");
    // Refusing all would be no conversion.
    assert!(within * 10 > systems.len() * 6, "only {within} of {} systems convert", systems.len());
}

#[test]
fn systems_that_people_use_convert() {
    const CODES: &str = "2056,2154,2180,2193,2229,2263,2278,3006,3067,3031,3035,3112,3395,3413,3575,3577,3857,4258,4269,4326,\
        5070,6933,7844,25832,26911,26918,27700,28355,28992,31287,31370,32601,32733,31467,31984,6677,3405";
    let Some(systems) = proj(&[&CODES.replace(' ', "")]) else { return };
    assert_eq!(systems.len(), CODES.split(',').count());
    for system in systems {
        let metres = furthest(&system).unwrap_or_else(|| panic!("EPSG:{} is refused", system.code));
        assert!(metres <= TOLERANCE, "EPSG:{} is {metres} m off", system.code);
    }
}

#[test]
#[ignore = "minutes; to renew src/georef/refused.rs"]
fn the_whole_register() {
    let Some(systems) = proj(&["1", "0"]) else { return };
    let (_, refused, off) = compare(&systems, MARGIN);
    println!("refused: {refused:?}");
    assert!(off.is_empty(), "{off:?}");
}
