//! True areas on the WGS 84 ellipsoid.

use crate::tile::EARTH_RADIUS;

/// Area in square metres that a closed ring of longitudes and latitudes encloses on the ellipsoid.
///
/// Longitudes go on across 180 degrees: a ring whose last longitude differs from its first by a turn runs around the
/// pole of its hemisphere, and the area is that between it and the pole.
pub(crate) fn ring_area(ring: &[[f64; 2]]) -> f64 {
    let (Some(first), Some(last)) = (ring.first(), ring.last()) else { return 0.0 };
    let pole = if (last[0] - first[0]).abs() < 180.0 {
        // Any height serves; the ring's own keeps the digits.
        equal_area(*first)[1]
    } else {
        let north: f64 = ring.iter().map(|p| p[1]).sum();
        equal_area([0.0, 90f64.copysign(north)])[1]
    };
    // The strip between each edge and that height.
    let mut area = 0.0;
    let mut from = equal_area(*first);
    for &place in &ring[1..] {
        let to = equal_area(place);
        area += (to[0] - from[0]) * (pole - (to[1] + from[1]) / 2.0);
        from = to;
    }
    area.abs()
}

/// A place in the cylindrical equal-area projection of the WGS 84 ellipsoid, metres: areas there are true areas.
/// (Snyder 1987, "Map projections: a working manual", equations 3-12, 10-14 and 10-15, standard parallel 0.)
fn equal_area([lon, lat]: [f64; 2]) -> [f64; 2] {
    const FLATTENING: f64 = 1.0 / 298.257_223_563;
    let e2 = FLATTENING * (2.0 - FLATTENING);
    let e = e2.sqrt();
    let s = lat.to_radians().sin();
    let q = (1.0 - e2) * (s / (1.0 - e2 * s * s) + (e * s).atanh() / e);
    [EARTH_RADIUS * lon.to_radians(), EARTH_RADIUS * q / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_earth_and_its_caps() {
        // 510 065 622 square kilometres.
        let world = [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]];
        let earth = 510_065_621.724e6;
        assert!((ring_area(&world) / earth - 1.0).abs() < 1e-9);
        // A parallel is a ring around its pole; the caps and the belt between them make the earth.
        let cap = |lat: f64| ring_area(&(0..=36).map(|i| [f64::from(i) * 10.0 + 17.0, lat]).collect::<Vec<_>>());
        let belt = ring_area(&[[0.0, -60.0], [360.0, -60.0], [360.0, 40.0], [0.0, 40.0], [0.0, -60.0]]);
        assert!(((cap(-60.0) + cap(40.0) + belt) / earth - 1.0).abs() < 1e-9);
    }
}
