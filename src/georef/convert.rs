//! From map coordinates to longitude and latitude on WGS 84.

use super::codes::{WEB_MERCATOR, WGS84};
use super::crs::Crs;
#[cfg(not(target_arch = "wasm32"))]
use super::definition;
#[cfg(not(target_arch = "wasm32"))]
use super::epsg;
use crate::error::{Error, ErrorKind, Result};
use crate::tile::mercator_to_lon_lat;

/// The furthest latitude that counts as a pole: rounding of sums.
const MAX_LATITUDE: f64 = 90.0 + 1e-9;
/// What to do with a system that cannot be converted.
const REMEDY: &str = "reproject the image: gdalwarp -t_srs EPSG:4326 IN OUT";

/// Converts map coordinates to longitude and latitude on WGS 84, degrees.
pub struct ToLonLat(Conversion);

enum Conversion {
    Degrees,
    WebMercator,
    #[cfg(not(target_arch = "wasm32"))]
    Projection {
        from: Box<proj4rs::Proj>,
        to: Box<proj4rs::Proj>,
        degrees: bool,
    },
}

impl ToLonLat {
    /// The conversion from `crs`; `None` where [`ToLonLat::of`] gives a reason.
    pub fn new(crs: &Crs) -> Option<Self> {
        Self::of(crs).ok()
    }

    /// The conversion from `crs`, within 5 m of PROJ's. In the browser only WGS 84 and Web Mercator have one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the system is unknown, or its definition lacks something: the unit, the direction
    /// of its axes, its datum shift, a projection that is not known here.
    pub fn of(crs: &Crs) -> Result<Self> {
        match crs.epsg {
            Some(WGS84) => Ok(Self(Conversion::Degrees)),
            Some(WEB_MERCATOR) => Ok(Self(Conversion::WebMercator)),
            _ => Self::projection(crs),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn projection(crs: &Crs) -> Result<Self> {
        let refused = |why: &str| {
            let message = format!("{} cannot be converted to longitude and latitude: {why}", crs.name());
            Error::new(ErrorKind::Unsupported, message).remedy(REMEDY)
        };
        let text = match (crs.epsg, &crs.keys) {
            (Some(code), keys) => {
                let text = epsg::definition(code).map_err(refused)?;
                if let Some(keys) = keys {
                    definition::check_code(keys, text).map_err(refused)?;
                }
                text.to_owned()
            }
            (None, Some(keys)) => definition::from_keys(keys).map_err(|why| refused(&why))?,
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the file does not name its coordinate reference system",
                )
                .remedy("name it: gdal_edit.py -a_srs EPSG:CODE FILE, or a .prj file beside the image"));
            }
        };
        let proj = |text: &str| {
            proj4rs::Proj::from_proj_string(text)
                .map_err(|e| refused("its projection is not known here").source(e.to_string()))
        };
        let (from, to) = (proj(&text)?, proj("+proj=longlat +datum=WGS84 +no_defs")?);
        if !from.has_inverse() {
            return Err(refused("its projection has no way back"));
        }
        let degrees = from.is_latlong();
        Ok(Self(Conversion::Projection { from: Box::new(from), to: Box::new(to), degrees }))
    }

    #[cfg(target_arch = "wasm32")]
    fn projection(_crs: &Crs) -> Result<Self> {
        Err(Error::new(ErrorKind::Unsupported, "the coordinate reference system is not known here").remedy(REMEDY))
    }

    /// Whether map coordinates are degrees of longitude and latitude.
    pub fn is_geographic(&self) -> bool {
        match &self.0 {
            Conversion::Degrees => true,
            Conversion::WebMercator => false,
            #[cfg(not(target_arch = "wasm32"))]
            Conversion::Projection { degrees, .. } => *degrees,
        }
    }

    /// Whether longitudes go on growing to the east, beyond 180, rather than begin again at -180; straight lines of the
    /// map are then straight in longitude and latitude too, or very nearly so.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_cylindrical(&self) -> bool {
        self.is_geographic() || matches!(self.0, Conversion::WebMercator)
    }

    /// Longitude and latitude of a place. Longitudes of geographic systems and Web Mercator may exceed 180 where x does.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the place lies outside the projection's domain, or its latitude beyond a pole.
    pub fn convert(&self, [x, y]: [f64; 2]) -> Result<[f64; 2]> {
        let lon_lat = match &self.0 {
            Conversion::Degrees => [x, y],
            Conversion::WebMercator => mercator_to_lon_lat([x, y]),
            #[cfg(not(target_arch = "wasm32"))]
            Conversion::Projection { from, to, degrees } => {
                let mut point = if *degrees { (x.to_radians(), y.to_radians(), 0.0) } else { (x, y, 0.0) };
                proj4rs::transform::transform(from, to, &mut point)
                    .map_err(|e| outside([x, y]).source(e.to_string()))?;
                let [lon, lat] = [point.0.to_degrees(), point.1.to_degrees()];
                let turns = if *degrees { ((x - lon) / 360.0).round() } else { 0.0 };
                [lon + 360.0 * turns, lat]
            }
        };
        let inside = lon_lat.iter().all(|v| v.is_finite()) && lon_lat[1].abs() <= MAX_LATITUDE;
        if inside { Ok(lon_lat) } else { Err(outside([x, y])) }
    }
}

/// Converts longitude and latitude on WGS 84, degrees, to map coordinates: the way back of [`ToLonLat`].
#[cfg(not(target_arch = "wasm32"))]
pub struct FromLonLat(ToLonLat);

/// How far a place may lie from where its map coordinates lead back to, degrees: about 0.1 m.
#[cfg(not(target_arch = "wasm32"))]
const THERE_AND_BACK: f64 = 1e-6;

#[cfg(not(target_arch = "wasm32"))]
impl FromLonLat {
    /// The conversion to `crs`, within 5 m of PROJ's.
    ///
    /// # Errors
    /// As [`ToLonLat::of`].
    pub fn of(crs: &Crs) -> Result<Self> {
        let to_lon_lat = ToLonLat::of(crs)?;
        match &to_lon_lat.0 {
            Conversion::Projection { from, .. } if !from.has_forward() && !from.is_latlong() => {
                let message = format!("longitude and latitude cannot be converted to {}", crs.name());
                Err(Error::new(ErrorKind::Unsupported, message).remedy("choose another system"))
            }
            _ => Ok(Self(to_lon_lat)),
        }
    }

    /// Whether map coordinates are degrees of longitude and latitude.
    pub fn is_geographic(&self) -> bool {
        self.0.is_geographic()
    }

    /// Whether longitudes beyond 180 degrees give map coordinates that go on to the east.
    pub(crate) fn is_cylindrical(&self) -> bool {
        self.0.is_cylindrical()
    }

    /// Map coordinates of a place.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the place lies outside the projection's domain: if the way back does not lead to it.
    pub fn convert(&self, [lon, lat]: [f64; 2]) -> Result<[f64; 2]> {
        let outside = || {
            let message = format!("longitude {lon:.6}, latitude {lat:.6} lies outside the coordinate reference system");
            Error::new(ErrorKind::Invalid, message).remedy("choose a system for this part of the earth")
        };
        let map = match &self.0.0 {
            Conversion::Degrees => [lon, lat],
            Conversion::WebMercator => crate::tile::lon_lat_to_mercator([lon, lat]),
            Conversion::Projection { from, to, degrees } => {
                let mut point = (lon.to_radians(), lat.to_radians(), 0.0);
                proj4rs::transform::transform(to, from, &mut point).map_err(|e| outside().source(e.to_string()))?;
                if *degrees {
                    let x = point.0.to_degrees();
                    [x + 360.0 * ((lon - x) / 360.0).round(), point.1.to_degrees()]
                } else {
                    [point.0, point.1]
                }
            }
        };
        let back = self.0.convert(map).map_err(|_| outside())?;
        let turn = (back[0] - lon) / 360.0;
        // A degree of longitude is shorter near the poles, and none on them.
        let east = 360.0 * (turn - turn.round()) * lat.to_radians().cos();
        if east.abs() < THERE_AND_BACK && (back[1] - lat).abs() < THERE_AND_BACK { Ok(map) } else { Err(outside()) }
    }
}

fn outside([x, y]: [f64; 2]) -> Error {
    Error::new(ErrorKind::Invalid, format!("the place ({x}, {y}) lies outside its coordinate reference system"))
        .remedy("check the image's georeference")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: [f64; 2], b: [f64; 2], tolerance: f64) -> bool {
        (a[0] - b[0]).abs() <= tolerance && (a[1] - b[1]).abs() <= tolerance
    }

    #[test]
    fn conversions_match_proj() {
        // Computed with PROJ 9 (pyproj, always_xy).
        for (epsg, place, lon_lat) in [
            (3857, [9_520_461.184, 3_201_259.182], [85.523_757_934_538, 27.620_881_678_923]),
            (32611, [252_645.951, 4_107_315.949], [-119.782_605_649_065, 37.079_511_417_799]),
            (26914, [485_899.0, 5_209_246.0], [-99.185_603_797_250, 47.036_581_444_880]),
            // Another ellipsoid, shifted by three parameters; PROJ's own choice of shift differs by centimetres.
            (2056, [2_600_000.0, 1_200_000.0], [7.438_632_421, 46.951_082_772]),
            (4326, [12.5, -3.0], [12.5, -3.0]),
        ] {
            let found = ToLonLat::of(&Crs::from_epsg(epsg)).expect("convertible").convert(place).expect("inside");
            let tolerance = if epsg == 2056 { 1e-5 } else { 1e-9 };
            assert!(near(found, lon_lat, tolerance), "{epsg}: {found:?}");
        }
        let degrees = ToLonLat::of(&Crs::from_epsg(4326)).expect("plain");
        assert!(degrees.convert([f64::NAN, 0.0]).is_err());
        assert!(degrees.convert([0.0, 90.1]).is_err());
        let etrs = ToLonLat::of(&Crs::from_epsg(4258)).expect("near WGS 84");
        assert!(near(etrs.convert([190.0, 10.0]).expect("a place"), [190.0, 10.0], 1e-9));
    }

    #[test]
    fn there_and_back() {
        for (epsg, lon_lat) in [
            (3857, [85.523, 27.62]),
            (3857, [190.0, 27.62]),
            (32611, [-119.78, 37.0795]),
            (2056, [7.4386, 46.951]),
            (4258, [12.0, 50.0]),
            (4326, [12.5, -3.0]),
        ] {
            let crs = Crs::from_epsg(epsg);
            let map = FromLonLat::of(&crs).expect("convertible").convert(lon_lat).expect("inside");
            let back = ToLonLat::of(&crs).expect("convertible").convert(map).expect("inside");
            // A centimetre: shifts between ellipsoids are inverted by their first terms.
            assert!(near(back, lon_lat, 1e-7), "{epsg}: {back:?}");
        }
        let utm = FromLonLat::of(&Crs::from_epsg(32611)).expect("convertible");
        // A quarter of the earth from the zone's middle, its coordinates are beyond all bounds.
        assert!(utm.convert([-27.0, 0.0]).is_err());
        // The pole is far beyond Web Mercator's square, which areas may well reach.
        let pole = FromLonLat::of(&Crs::from_epsg(3857)).expect("plain").convert([0.0, 90.0]).expect("a place");
        assert!(pole[1].is_finite() && pole[1] > 2e7);
    }

    #[test]
    fn what_a_definition_lacks_is_said() {
        for (epsg, why) in [
            (999_999, "no such code"),
            (65_000, "not known"),
            (4267, "grids"),
            (27_200, "grids"),
            (4816, "register's"),
            (5681, "datum shift"),
            (31_281, "register's"),
            (5703, "not known"),
            (4978, "horizontal"),
            (7405, "horizontal"),
        ] {
            let error = ToLonLat::of(&Crs::from_epsg(epsg)).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(why) && error.contains("gdalwarp"), "{epsg}: {error}");
        }
        assert!(ToLonLat::new(&Crs::default()).is_none());
    }
}
