//! Rings of pixel corners as rings of coordinates.

use super::placement::Placement;
use crate::error::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::georef::{Georef, ToLonLat};

/// A closed ring of coordinates. Longitudes go on across 180 degrees; a ring around a pole ends a turn, 360 degrees,
/// away from where it began.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ring {
    pub points: Vec<[f64; 2]>,
}

/// The coordinates of a closed ring of pixel corners.
///
/// # Errors
/// [`crate::error::ErrorKind::Invalid`] if a corner lies outside the map projection.
pub(super) fn place(placement: &Placement<'_>, ring: &[[f64; 2]]) -> Result<Ring> {
    let points = match (placement.georef(), placement.to_lon_lat()) {
        (None, _) => ring.to_vec(),
        (Some(georef), None) => ring.iter().map(|&corner| georef.map(corner)).collect(),
        #[cfg(not(target_arch = "wasm32"))]
        (Some(georef), Some(to_lon_lat)) if !to_lon_lat.is_cylindrical() => return bent(georef, to_lon_lat, ring),
        (Some(georef), Some(to_lon_lat)) => {
            ring.iter().map(|&corner| georef.lon_lat(to_lon_lat, corner)).collect::<Result<_>>()?
        }
    };
    Ok(Ring { points })
}

/// The part of a pixel by which an edge may be off where it bends.
#[cfg(not(target_arch = "wasm32"))]
const MAX_BEND: f64 = 0.05;
/// Edges are not halved below this part of a pixel: within it lies the pole.
#[cfg(not(target_arch = "wasm32"))]
const MIN_EDGE: f64 = 1.0 / 16.0;
#[cfg(not(target_arch = "wasm32"))]
const EARTH_RADIUS: f64 = crate::tile::EARTH_RADIUS;

/// A corner: in pixels, and its longitude and latitude.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Copy)]
struct Corner {
    pixel: [f64; 2],
    place: [f64; 2],
}

/// A ring in a projection that bends straight lines.
#[cfg(not(target_arch = "wasm32"))]
fn bent(georef: &Georef, to_lon_lat: &ToLonLat, ring: &[[f64; 2]]) -> Result<Ring> {
    let corner = |pixel| Ok(Corner { pixel, place: georef.lon_lat(to_lon_lat, pixel)? });
    let mut corners = ring.iter().map(|&pixel| corner(pixel)).collect::<Result<Vec<_>>>()?;
    // A pole has no longitude to begin with.
    corners.pop();
    if let Some(first) = corners.iter().position(|c| !is_pole(c.place)) {
        corners.rotate_left(first);
    }
    let Some(&first) = corners.first() else { return Ok(Ring { points: Vec::new() }) };
    corners.push(first);

    let mut out = Path { points: vec![first.place], at_pole: false };
    let mut stack = Vec::new();
    for edge in corners.windows(2) {
        // Halves of the edge, the next one on top.
        let (mut from, to) = (edge[0], edge[1]);
        stack.push(to);
        while let Some(&next) = stack.last() {
            match middle(georef, to_lon_lat, from, next)? {
                Some(middle) => stack.push(middle),
                None => {
                    out.go(next.place);
                    from = next;
                    stack.pop();
                }
            }
        }
    }
    // Exactly where it began, or a turn away.
    let turns = out.points.last().map_or(0.0, |last| ((last[0] - first.place[0]) / 360.0).round());
    if let Some(last) = out.points.last_mut() {
        *last = [first.place[0] + 360.0 * turns, first.place[1]];
    }
    Ok(Ring { points: out.points })
}

/// Points whose longitudes go on from one to the next.
#[cfg(not(target_arch = "wasm32"))]
struct Path {
    points: Vec<[f64; 2]>,
    at_pole: bool,
}

#[cfg(not(target_arch = "wasm32"))]
impl Path {
    fn go(&mut self, place: [f64; 2]) {
        let before = self.points.last().copied().unwrap_or(place);
        if is_pole(place) {
            // To the pole along the meridian, and from there along the next one.
            self.points.push([before[0], place[1]]);
            self.at_pole = true;
            return;
        }
        let lon = before[0] + wrapped(place[0] - before[0]);
        if self.at_pole {
            self.points.push([lon, before[1]]);
            self.at_pole = false;
        }
        self.points.push([lon, place[1]]);
    }
}

/// The middle of an edge, if the edge bends too much to be given by its ends.
#[cfg(not(target_arch = "wasm32"))]
fn middle(georef: &Georef, to_lon_lat: &ToLonLat, a: Corner, b: Corner) -> Result<Option<Corner>> {
    let pixels = (b.pixel[0] - a.pixel[0]).hypot(b.pixel[1] - a.pixel[1]);
    if pixels <= MIN_EDGE {
        return Ok(None);
    }
    // A line bends by no more than length^2 / 8 r, r the earth's radius or near a pole the distance from it.
    let turn = wrapped(b.place[0] - a.place[0]).abs();
    let latitude = a.place[1].abs().max(b.place[1].abs());
    if turn < 10.0 && latitude < 80.0 {
        let bend = chord(a.place, b.place) * pixels * (1.0 + latitude.to_radians().tan()) / (8.0 * EARTH_RADIUS);
        if bend < MAX_BEND / 4.0 {
            return Ok(None);
        }
    }
    let pixel = [(a.pixel[0] + b.pixel[0]) / 2.0, (a.pixel[1] + b.pixel[1]) / 2.0];
    let middle = Corner { pixel, place: georef.lon_lat(to_lon_lat, pixel)? };
    if is_pole(middle.place) {
        return Ok(Some(middle));
    }
    // From a pole all meridians are straight.
    let lon = |c: Corner| if is_pole(c.place) { middle.place[0] } else { c.place[0] };
    let (from, to) = (lon(a), lon(b));
    let straight = [from + wrapped(to - from) / 2.0, (a.place[1] + b.place[1]) / 2.0];
    let length = chord(a.place, middle.place) + chord(middle.place, b.place);
    let bends = chord(straight, middle.place) > MAX_BEND * length / pixels || wrapped(to - from).abs() > 90.0;
    Ok(bends.then_some(middle))
}

#[cfg(not(target_arch = "wasm32"))]
fn is_pole([_, lat]: [f64; 2]) -> bool {
    lat.abs() > 90.0 - 1e-9
}

/// A difference of longitudes, -180 to 180.
#[cfg(not(target_arch = "wasm32"))]
fn wrapped(degrees: f64) -> f64 {
    degrees - 360.0 * (degrees / 360.0).round()
}

/// The straight distance of two places through the earth, metres; it needs no care at poles and antimeridian.
#[cfg(not(target_arch = "wasm32"))]
fn chord(a: [f64; 2], b: [f64; 2]) -> f64 {
    let [(a0, a1), (b0, b1)] = [a, b].map(|p| (p[0].to_radians(), p[1].to_radians()));
    // The haversine keeps the digits of short distances.
    let (dlat, dlon) = (((b1 - a1) / 2.0).sin(), ((b0 - a0) / 2.0).sin());
    2.0 * EARTH_RADIUS * (dlat * dlat + a1.cos() * b1.cos() * dlon * dlon).sqrt()
}
