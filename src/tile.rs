//! XYZ tiles: the Web Mercator pyramid of web maps (x to the east, y to the south, `2^z` tiles a side).

use std::f64::consts::PI;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// Radius of the sphere of EPSG:3857, metres: WGS 84's semi-major axis.
pub const EARTH_RADIUS: f64 = 6_378_137.0;
/// Half the side of the Web Mercator square, metres.
pub const HALF_WORLD: f64 = PI * EARTH_RADIUS;
/// The deepest zoom level that a [`TileId`] may have.
pub const MAX_ZOOM: u8 = 30;

/// A tile's place in the pyramid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// Zoom level, 0 to [`MAX_ZOOM`].
    pub z: u8,
    /// Column from the west, `0..2^z`.
    pub x: u32,
    /// Row from the north, `0..2^z`.
    pub y: u32,
}

/// An extent: metres of EPSG:3857, or degrees of longitude and latitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least x or longitude.
    pub west: f64,
    /// Least y or latitude.
    pub south: f64,
    /// Greatest x or longitude.
    pub east: f64,
    /// Greatest y or latitude.
    pub north: f64,
}

impl TileId {
    /// The tile at `z`, `x`, `y`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the zoom is above [`MAX_ZOOM`] or the tile outside the pyramid.
    pub fn new(z: u8, x: u32, y: u32) -> Result<Self> {
        if z > MAX_ZOOM || x >= 1 << z || y >= 1 << z {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no tile {z}/{x}/{y}"))
                .remedy("x and y run from 0 to 2^z - 1; this is the XYZ scheme, y from the north"));
        }
        Ok(Self { z, x, y })
    }

    /// Reads a tile's place from the end of a path: `…/z/x/y.ext` or `…/z-x-y.ext` (also with `_`, and with a scale
    /// such as `@2x` before the extension). `None` if the path does not end in a tile that exists.
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.rsplit(['/', '\\']);
        let file = parts.next()?;
        let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
        let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
        let mut numbers = stem.split(['-', '_']);
        let (z, x, y) = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(z), Some(x), Some(y), None) => (z, x, y),
            (Some(y), None, None, None) => {
                let x = parts.next()?;
                (parts.next()?, x, y)
            }
            _ => return None,
        };
        // Signs and spaces that `parse` would take are no tile names.
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        Self::new(u8::try_from(number(z)?).ok()?, number(x)?, number(y)?).ok()
    }

    /// The extent in metres of EPSG:3857.
    pub fn bounds_mercator(self) -> Bounds {
        let side = 2.0 * HALF_WORLD / f64::from(1u32 << self.z);
        let edge = |n: u32| f64::from(n) * side - HALF_WORLD;
        Bounds { west: edge(self.x), south: -edge(self.y + 1), east: edge(self.x + 1), north: -edge(self.y) }
    }

    /// The extent in degrees of longitude and latitude, WGS 84.
    pub fn bounds_lon_lat(self) -> Bounds {
        let b = self.bounds_mercator();
        let [west, south] = mercator_to_lon_lat([b.west, b.south]);
        let [east, north] = mercator_to_lon_lat([b.east, b.north]);
        Bounds { west, south, east, north }
    }

    /// The tile that holds a place, longitudes and latitudes beyond the pyramid moved to its edge.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `z` is above [`MAX_ZOOM`].
    pub fn containing(lon_lat: [f64; 2], z: u8) -> Result<Self> {
        let last = 1u32.checked_shl(u32::from(z)).unwrap_or(0).wrapping_sub(1);
        let [x, y] = lon_lat_to_mercator(lon_lat);
        // `as` saturates, and takes a NaN to 0.
        let cell = |metres: f64| ((metres + HALF_WORLD) / (2.0 * HALF_WORLD) * (f64::from(last) + 1.0)) as u32;
        Self::new(z, cell(x).min(last), cell(-y).min(last))
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.z, self.x, self.y)
    }
}

/// Metres of EPSG:3857 to degrees of longitude and latitude (EPSG Guidance Note 7-2, method 1024).
pub fn mercator_to_lon_lat([x, y]: [f64; 2]) -> [f64; 2] {
    [(x / EARTH_RADIUS).to_degrees(), (y / EARTH_RADIUS).sinh().atan().to_degrees()]
}

/// Degrees of longitude and latitude to metres of EPSG:3857; infinite at the poles.
pub fn lon_lat_to_mercator([lon, lat]: [f64; 2]) -> [f64; 2] {
    [EARTH_RADIUS * lon.to_radians(), EARTH_RADIUS * lat.to_radians().tan().asinh()]
}

/// Metres on the ground that one pixel covers at zoom `z` and latitude `lat` (degrees), in tiles of `tile_pixels` a side.
pub fn ground_resolution(lat: f64, z: u8, tile_pixels: u32) -> f64 {
    2.0 * HALF_WORLD * lat.to_radians().cos() / (f64::from(tile_pixels) * 2f64.powi(i32::from(z)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tiles() {
        let tile = TileId { z: 19, x: 386_697, y: 220_263 };
        for path in
            ["a/19/386697/220263.jpg", "19-386697-220263.jpg", "x/19_386697_220263@2x.webp", "19\\386697\\220263.png"]
        {
            assert_eq!(TileId::from_path(path), Some(tile), "{path}");
        }
        for path in
            ["", "house.png", "1/2/3.png", "19-1.png", "31/0/0.png", "0/0/+0.png", "1-2-3-4.png", "0/0/.png", "--.png"]
        {
            assert_eq!(TileId::from_path(path), None, "{path}");
        }
    }

    #[test]
    fn bounds_and_places_agree() {
        let world = TileId::new(0, 0, 0).expect("valid").bounds_lon_lat();
        assert!((world.north - 85.051_128_779_806_6).abs() < 1e-9 && (world.west + 180.0).abs() < 1e-12);
        let tile = TileId::new(19, 386_697, 220_263).expect("valid");
        let b = tile.bounds_lon_lat();
        let middle = [(b.west + b.east) / 2.0, (b.south + b.north) / 2.0];
        assert_eq!(TileId::containing(middle, 19).expect("valid"), tile);
        assert!(TileId::containing(middle, 40).is_err());
        let [lon, lat] = mercator_to_lon_lat(lon_lat_to_mercator([85.5, 27.6]));
        assert!((lon - 85.5).abs() < 1e-12 && (lat - 27.6).abs() < 1e-12);
    }

    #[test]
    fn resolution_at_the_equator() {
        assert!((ground_resolution(0.0, 0, 256) - 156_543.033_928_041).abs() < 1e-6);
        assert!((ground_resolution(60.0, 1, 256) - 39_135.758_482_010).abs() < 1e-6);
    }
}
