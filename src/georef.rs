//! Where pixels lie on the ground: an affine transform, a coordinate reference system, and the way to longitude and
//! latitude.
//!
//! A place is never guessed: what a file leaves out or contradicts is an error with its reason ([`ToLonLat::of`],
//! [`Georef::to_lon_lat`]), and the caller says so or stays in the file's own coordinates.

use crate::error::{Error, ErrorKind, Result};
use crate::tile::{Bounds, TileId};

mod area;
mod codes;
mod convert;
mod crs;
#[cfg(not(target_arch = "wasm32"))]
mod definition;
#[cfg(not(target_arch = "wasm32"))]
mod epsg;
mod keys;
#[cfg(not(target_arch = "wasm32"))]
mod methods;
#[cfg(not(target_arch = "wasm32"))]
mod refused;
mod wkt;

pub(crate) use area::ring_area;
pub use codes::{WEB_MERCATOR, WGS84};
#[cfg(not(target_arch = "wasm32"))]
pub use convert::FromLonLat;
pub use convert::ToLonLat;
pub use crs::Crs;
pub use keys::GeoKeys;

/// An image's place on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Georef {
    /// `[a, b, c, d, e, f]`: the corner (column, row) lies at `x = a column + b row + c`, `y = d column + e row + f`.
    /// Columns and rows count from the top left corner of the top left pixel (PixelIsArea), whatever the file says.
    pub transform: [f64; 6],
    /// What x and y mean.
    pub crs: Crs,
}

impl Georef {
    /// The place of an XYZ tile of `width` x `height` pixels.
    pub fn from_tile(tile: TileId, width: usize, height: usize) -> Self {
        Self::from_bounds(tile.bounds_mercator(), Crs::from_epsg(WEB_MERCATOR), width, height)
    }

    /// The place of a north-up image of `width` x `height` pixels that covers `bounds`.
    pub fn from_bounds(bounds: Bounds, crs: Crs, width: usize, height: usize) -> Self {
        let Bounds { west, south, east, north } = bounds;
        let (width, height) = (width.max(1) as f64, height.max(1) as f64);
        Self { transform: [(east - west) / width, 0.0, west, 0.0, (south - north) / height, north], crs }
    }

    /// Reads a world file (`.tfw`, `.jgw`, `.pgw`, `.wld`): six lines that place the centre of the top left pixel.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it does not hold six finite numbers that span an area.
    pub fn from_world_file(text: &str, crs: Crs) -> Result<Self> {
        let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[a, d, b, e, c, f] = numbers.as_slice() else {
            return Err(Error::new(ErrorKind::Format, "a world file holds six numbers, one a line")
                .remedy("correct the world file or remove it"));
        };
        Self { transform: [a, b, c, d, e, f], crs }.moved_by_pixels(-0.5).checked()
    }

    /// Reads the GeoTIFF tags ModelPixelScale, ModelTiepoint and ModelTransformation; `None` if they place nothing, or
    /// only tie single points down (ground control points).
    ///
    /// As GDAL reads them: the sign of a pixel's height does not count, rows run south; a scale wins over a matrix.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the transform is not finite or spans no area.
    pub fn from_geotiff(scale: &[f64], tie: &[f64], matrix: &[f64], crs: Crs) -> Result<Option<Self>> {
        let transform = match (scale, tie, matrix) {
            (&[sx, sy, ..], &[i, j, _, x, y, ..], _) if sx != 0.0 && sy != 0.0 => {
                [sx, 0.0, x - i * sx, 0.0, -sy.abs(), y + j * sy.abs()]
            }
            (_, _, &[a, b, _, c, d, e, _, f, ..]) => [a, b, c, d, e, f],
            _ => return Ok(None),
        };
        let point = crs.keys.as_ref().is_some_and(GeoKeys::pixel_is_point);
        Self { transform, crs }.moved_by_pixels(if point { -0.5 } else { 0.0 }).checked().map(Some)
    }

    fn moved_by_pixels(mut self, n: f64) -> Self {
        let [a, b, c, d, e, f] = self.transform;
        self.transform = [a, b, c + n * (a + b), d, e, f + n * (d + e)];
        self
    }

    fn checked(self) -> Result<Self> {
        let [a, b, _, d, e, _] = self.transform;
        if self.transform.iter().all(|v| v.is_finite()) && a * e - b * d != 0.0 {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Format, format!("the georeference {:?} spans no area", self.transform))
            .remedy("georeference the image again, or remove its georeference"))
    }

    /// The place of a window of the image whose top left pixel is (x, y).
    #[must_use]
    pub fn window(&self, x: usize, y: usize) -> Self {
        let [c, f] = self.map([x as f64, y as f64]);
        let [a, b, _, d, e, _] = self.transform;
        Self { transform: [a, b, c, d, e, f], crs: self.crs.clone() }
    }

    /// Map coordinates of a pixel corner `[column, row]`.
    pub fn map(&self, [column, row]: [f64; 2]) -> [f64; 2] {
        let [a, b, c, d, e, f] = self.transform;
        [a * column + b * row + c, d * column + e * row + f]
    }

    /// The longest side of a pixel, in map units.
    pub(crate) fn pixel_size(&self) -> f64 {
        let [a, b, _, d, e, _] = self.transform;
        a.hypot(d).max(b.hypot(e))
    }

    /// Why the transform places nothing, if it does not: programs that lose it write pixels of one unit at the origin,
    /// and geographic coordinates end at the poles. An image of `size` pixels, if that is known.
    pub fn no_place(&self, size: Option<(usize, usize)>) -> Option<String> {
        let [a, b, c, d, e, f] = self.transform;
        if (a, b, c, d, e.abs(), f) == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) {
            return Some("its transform is lost (pixels of one unit at the origin)".into());
        }
        let (width, height) = size.filter(|_| self.crs.is_geographic())?;
        let (w, h) = (width as f64, height as f64);
        // Grids whose outer pixels lie centred on the poles reach half a pixel beyond.
        let (pole, turn) = (90.0 + self.pixel_size(), 360.0 + self.pixel_size());
        let corners = [[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]].map(|corner| self.map(corner));
        let [x, y] = corners.into_iter().find(|[x, y]| y.abs() > pole || x.abs() > turn)?;
        Some(format!("its corner at longitude {x:.3}, latitude {y:.3} is no place on earth"))
    }

    /// The conversion to longitude and latitude of an image of `width` x `height` pixels.
    ///
    /// # Errors
    /// As [`ToLonLat::of`]; [`ErrorKind::Invalid`] if the transform places nothing ([`Georef::no_place`]).
    pub fn to_lon_lat(&self, width: usize, height: usize) -> Result<ToLonLat> {
        match self.no_place(Some((width, height))) {
            None => ToLonLat::of(&self.crs),
            Some(why) => Err(Error::new(ErrorKind::Invalid, format!("the georeference places nothing: {why}"))
                .remedy("georeference the image again")),
        }
    }

    /// Longitude and latitude of a pixel corner `[column, row]`, by this georeference's conversion. Latitudes that
    /// exceed a pole by no more than a pixel, as grids do that are centred on it, become the pole's.
    ///
    /// # Errors
    /// As [`ToLonLat::convert`].
    pub fn lon_lat(&self, to_lon_lat: &ToLonLat, corner: [f64; 2]) -> Result<[f64; 2]> {
        let [x, y] = self.map(corner);
        if to_lon_lat.is_geographic() && y.abs() > 90.0 && y.abs() <= 90.0 + self.pixel_size() {
            return to_lon_lat.convert([x, 90f64.copysign(y)]);
        }
        to_lon_lat.convert([x, y])
    }

    /// Metres on the ground that one pixel covers at the middle of an image of `width` x `height` pixels: the square
    /// root of its true area. `None` if the system cannot be converted.
    pub fn ground_resolution(&self, width: usize, height: usize) -> Option<f64> {
        let to_lon_lat = self.to_lon_lat(width, height).ok()?;
        let (x, y) = ((width / 2) as f64, (height / 2) as f64);
        let area = |shift: f64| {
            let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
            let mut ring: Vec<[f64; 2]> = Vec::with_capacity(corners.len());
            for [dx, dy] in corners {
                let [lon, lat] = self.lon_lat(&to_lon_lat, [x + shift + dx, y + shift + dy]).ok()?;
                // Across 180 degrees longitudes go on.
                let before = ring.last().map_or(lon, |before| before[0]);
                ring.push([lon + 360.0 * ((before - lon) / 360.0).round(), lat]);
            }
            // A corner at a pole has no longitude: the next pixel serves as well.
            (shift != 0.0 || ring.iter().all(|p| p[1].abs() < 90.0 - 1e-7)).then(|| ring_area(&ring).sqrt())
        };
        area(0.0).or_else(|| area(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn world_files_place_pixel_centres() {
        let georef = Georef::from_world_file("0.5\n0\n0\n-0.5\n100.25\n199.75\n", Crs::default()).expect("valid");
        assert_eq!(georef.transform, [0.5, 0.0, 100.0, 0.0, -0.5, 200.0]);
        assert_eq!(georef.window(2, 4).transform, [0.5, 0.0, 101.0, 0.0, -0.5, 198.0]);
        for text in ["", "1 2 3", "0 0 0 0 1 1", "nan 0 0 1 0 0", "1 0 0 1 0 0 0"] {
            assert!(Georef::from_world_file(text, Crs::default()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn geotiff_tags_point_and_area() {
        let mut keys = GeoKeys::from_epsg(26914).expect("fits");
        let place = |keys: &GeoKeys, scale: [f64; 3]| {
            let crs = Crs::from_keys(keys.clone());
            assert_eq!(crs.epsg, Some(26914));
            Georef::from_geotiff(&scale, &[0., 0., 0., 10., 20., 0.], &[], crs).expect("valid").expect("placed")
        };
        assert_eq!(place(&keys, [2.0, 2.0, 0.0]).transform, [2.0, 0.0, 10.0, 0.0, -2.0, 20.0]);
        // Rows run south, whatever the sign.
        assert_eq!(place(&keys, [2.0, -2.0, 0.0]).transform, [2.0, 0.0, 10.0, 0.0, -2.0, 20.0]);
        keys.directory[11] = 2;
        assert!(keys.pixel_is_point());
        assert_eq!(place(&keys, [2.0, 2.0, 0.0]).transform, [2.0, 0.0, 9.0, 0.0, -2.0, 21.0]);
        assert!(!place(&keys, [2.0, 2.0, 0.0]).crs.keys_to_write().expect("keys").pixel_is_point());
        assert_eq!(Georef::from_geotiff(&[], &[0.; 12], &[], Crs::default()).expect("valid"), None);
        assert_eq!(GeoKeys::from_epsg(4326).and_then(|k| k.short(1024)), Some(2));
    }

    #[test]
    fn what_places_nothing() {
        let degrees = |transform| Georef { transform, crs: Crs::from_epsg(WGS84) };
        let why =
            |georef: &Georef, side| georef.to_lon_lat(side, side).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(why(&degrees([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), 10).contains("lost"));
        assert!(why(&degrees([1.0, 0.0, 0.0, 0.0, -1.0, 0.0]), 10).contains("lost"));
        assert!(why(&degrees([10.0, 0.0, 0.0, 0.0, -6.0, 120.0]), 10).contains("latitude 120"));
        assert!(why(&degrees([1.0, 0.0, 400.0, 0.0, -1.0, 10.0]), 10).contains("longitude 400"));
        // A grid that is centred on the poles, and 0 to 360 degrees.
        let grid = degrees([1.0, 0.0, -0.5, 0.0, -1.0, 90.5]);
        let to_lon_lat = grid.to_lon_lat(361, 181).expect("a place");
        assert_eq!(grid.lon_lat(&to_lon_lat, [0.0, 0.0]).expect("the pole"), [-0.5, 90.0]);
        assert!(grid.lon_lat(&to_lon_lat, [0.0, 182.0]).is_err());
        // Metres may exceed 90.
        let metres = Georef { transform: [1.0, 0.0, 5e5, 0.0, -1.0, 5e6], crs: Crs::from_epsg(32_633) };
        assert_eq!(metres.no_place(Some((100, 100))), None);
    }

    #[test]
    fn ground_resolution_is_true_metres() {
        let tile = TileId::containing([85.5, 27.6], 19).expect("valid");
        let found = Georef::from_tile(tile, 256, 256).ground_resolution(256, 256).expect("convertible");
        let sphere = crate::tile::ground_resolution(27.6, 19, 256);
        assert!((found / sphere - 1.0).abs() < 0.006, "{found} {sphere}");
        // At 180 degrees and at the pole.
        for (epsg, transform) in
            [(3832, [30.0, 0.0, 3_335_584.0, 0.0, -30.0, 1e6]), (3031, [30.0, 0.0, -1500.0, 0.0, -30.0, 1500.0])]
        {
            let georef = Georef { transform, crs: Crs::from_epsg(epsg) };
            let found = georef.ground_resolution(100, 100).expect("convertible");
            assert!((29.0..31.5).contains(&found), "{epsg}: {found}");
        }
    }
}
