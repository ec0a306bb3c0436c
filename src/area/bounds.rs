//! The window of a raster under a box of longitudes and latitudes.

use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Georef, ToLonLat};
use crate::source::Window;

/// Points along each side of a box that are looked up: sides are curves in most systems.
const POINTS: usize = 32;
/// Steps of Newton's method, of which projections need a few.
const STEPS: usize = 50;
/// How near, in pixels, a place must be found.
const EXACT: f64 = 1e-3;

/// The smallest window of a raster of `size` (width, height) that holds all its pixels within `[west, south, east, north]`, degrees of
/// longitude and latitude. `west` above `east` crosses 180 degrees.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a box that is none, one that lies beside the raster, and a raster whose place is not known in longitude and
/// latitude.
pub fn window_of(size: (usize, usize), georef: Option<&Georef>, bounds: [f64; 4]) -> Result<Window> {
    let [west, south, east, north] = bounds;
    let is_box = (-180.0..=180.0).contains(&west) && (-180.0..=180.0).contains(&east) && west != east;
    if east < west && east + 360.0 - west > 180.0 {
        let message = format!("{west},{south},{east},{north} is more than half of the earth wide");
        return Err(Error::new(ErrorKind::Invalid, message)
            .remedy("give west,south,east,north; west may be above east across 180 degrees alone"));
    }
    let is_band = south < north && south >= -90.0 && north <= 90.0;
    if !is_box || !is_band {
        return Err(Error::new(ErrorKind::Invalid, format!("{west},{south},{east},{north} is no box of the earth"))
            .remedy("give west,south,east,north in degrees of longitude and latitude"));
    }
    let georef = georef.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "the image has no place, so that no box of longitudes and latitudes lies on it")
            .remedy("georeference the image, or take the whole of it")
    })?;
    let place = Placer { georef, to_lon_lat: georef.to_lon_lat(size.0, size.1)?, size };
    let east = if east < west { east + 360.0 } else { east };
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for i in 0..=POINTS {
        let share = i as f64 / POINTS as f64;
        let (lon, lat) = (west + (east - west) * share, south + (north - south) * share);
        for place in [[lon, south], [lon, north], [west, lat], [east, lat]].map(|point| place.find(point)) {
            // What cannot be found lies far outside, where the projection has no numbers: the raster's own edge then bounds it.
            let Some(place) = place else { continue };
            for axis in [0, 1] {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis]);
            }
        }
    }
    let span = |axis: usize, length: usize| {
        // A box that ends within a thousandth of a pixel of a border between two does not have the next one.
        let from = (low[axis] + EXACT).floor().max(0.0);
        let to = (high[axis] - EXACT).ceil().min(length as f64);
        (from < to).then_some((from as usize, (to - from) as usize))
    };
    match (span(0, size.0), span(1, size.1)) {
        (Some((x, width)), Some((y, height))) => Ok(Window { x, y, width, height }),
        _ => Err(Error::new(ErrorKind::Invalid, format!("{west},{south},{},{north} lies beside the image", bounds[2]))
            .remedy("give west,south,east,north in degrees; `samlora inspect` tells where the image lies")),
    }
}

/// Looks up which pixel lies at a longitude and latitude.
struct Placer<'a> {
    georef: &'a Georef,
    to_lon_lat: ToLonLat,
    size: (usize, usize),
}

impl Placer<'_> {
    /// Longitude and latitude of a place in pixels, longitude as near to `near` as turns of 360 degrees bring it.
    fn lon_lat(&self, pixel: [f64; 2], near: f64) -> Option<[f64; 2]> {
        let [lon, lat] = self.georef.lon_lat(&self.to_lon_lat, pixel).ok()?;
        Some([lon + 360.0 * ((near - lon) / 360.0).round(), lat])
    }

    /// The place in pixels, by Newton's method from the raster's middle; a step that leaves where the system has numbers is halved.
    fn find(&self, [lon, lat]: [f64; 2]) -> Option<[f64; 2]> {
        let mut at = [self.size.0 as f64 / 2.0, self.size.1 as f64 / 2.0];
        let mut found = self.lon_lat(at, lon)?;
        for _ in 0..STEPS {
            let (right, below) = (self.lon_lat([at[0] + 1.0, at[1]], lon)?, self.lon_lat([at[0], at[1] + 1.0], lon)?);
            let ([a, c], [b, d]) = ([0, 1].map(|i| right[i] - found[i]), [0, 1].map(|i| below[i] - found[i]));
            let determinant = a * d - b * c;
            let (x, y) = (lon - found[0], lat - found[1]);
            let mut step = [(d * x - b * y) / determinant, (a * y - c * x) / determinant];
            if !step.iter().all(|s| s.is_finite()) {
                return None;
            }
            let length = step[0].hypot(step[1]);
            let next = (0..STEPS).find_map(|_| {
                let next = [at[0] + step[0], at[1] + step[1]];
                step = step.map(|s| s / 2.0);
                self.lon_lat(next, lon).map(|found| (next, found))
            });
            (at, found) = next?;
            if length < EXACT {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Crs;
    use crate::tile::TileId;

    #[test]
    fn a_tiles_bounds_are_its_pixels() {
        let inner = TileId::new(19, 386_697, 220_263).expect("valid");
        let outer = TileId::new(17, 386_697 / 4, 220_263 / 4).expect("valid");
        let b = inner.bounds_lon_lat();
        let found =
            window_of((1024, 1024), Some(&Georef::from_tile(outer, 1024, 1024)), [b.west, b.south, b.east, b.north]);
        assert_eq!(found.expect("within"), Window::new(256, (220_263 % 4) * 256, 256, 256));
    }

    #[test]
    fn in_a_projection_all_four_corners_are_within() {
        let georef = Georef { transform: [10.0, 0.0, 430_000.0, 0.0, -10.0, 5_440_000.0], crs: Crs::from_epsg(32_633) };
        let to_lon_lat = georef.to_lon_lat(5000, 4000).expect("known");
        let (west, south) = (14.2, 48.9);
        let window = window_of((5000, 4000), Some(&georef), [west, south, 14.4, 49.0]).expect("within");
        // Every pixel whose middle lies in the box is in the window, and the window's edge pixels touch the box.
        let mut edges = [usize::MAX, usize::MAX, 0, 0];
        for y in (0..4000).step_by(7) {
            for x in (0..5000).step_by(7) {
                let [lon, lat] = georef.lon_lat(&to_lon_lat, [x as f64 + 0.5, y as f64 + 0.5]).expect("a place");
                if (west..14.4).contains(&lon) && (south..49.0).contains(&lat) {
                    edges = [edges[0].min(x), edges[1].min(y), edges[2].max(x), edges[3].max(y)];
                }
            }
        }
        let [left, top, right, bottom] = edges;
        assert!(window.x <= left && window.y <= top && left - window.x < 9 && top - window.y < 9);
        let (end, low) = (window.x + window.width, window.y + window.height);
        assert!(end > right && low > bottom && end - right < 10 && low - bottom < 10);
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let georef = Georef::from_tile(TileId::new(10, 500, 400).expect("valid"), 256, 256);
        let fails = |georef: Option<&Georef>, bounds: [f64; 4], words: &str| {
            let error = window_of((256, 256), georef, bounds).expect_err("no window").to_string();
            assert!(error.contains(words), "{error}");
        };
        fails(Some(&georef), [0.0, 0.0, 1.0, 1.0], "beside the image");
        fails(Some(&georef), [1.0, 2.0, 3.0, 1.0], "no box");
        fails(Some(&georef), [1.0, f64::NAN, 3.0, 1.0], "no box");
        fails(Some(&georef), [2.0, 1.0, 1.0, 2.0], "half of the earth");
        fails(Some(&georef), [500.0, 0.0, 501.0, 1.0], "no box");
        fails(None, [0.0, 0.0, 1.0, 1.0], "no place");
        let nowhere = Georef { transform: [1.0, 0.0, 0.0, 0.0, -1.0, 0.0], crs: Crs::default() };
        assert!(window_of((256, 256), Some(&nowhere), [0.0, 0.0, 1.0, 1.0]).is_err());
    }

    #[test]
    fn a_box_may_cross_180_degrees() {
        let georef = Georef { transform: [0.1, 0.0, 175.0, 0.0, -0.1, 5.0], crs: Crs::from_epsg(4326) };
        let found = window_of((100, 100), Some(&georef), [179.0, -1.0, -179.0, 1.0]).expect("within");
        assert_eq!(found, Window::new(40, 40, 20, 20));
    }
}
