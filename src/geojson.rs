//! Polygons as a GeoJSON FeatureCollection (RFC 7946), written feature by feature.
//!
//! With a georeference that can be converted, coordinates are longitude and latitude on WGS 84; polygons that cross the
//! antimeridian are cut there (section 3.1.9), and edges that bend are given as many points as they need. With one that
//! cannot, they stay map coordinates; without any they are pixels, x right and y down. Both are no RFC 7946: the member
//! `coordinate_space` says so, and the older specification's `crs` names the system, or a local one, so that no reader
//! takes them for longitude and latitude. [`Placement::warning`] has the words for people.

use std::io::Write;

use crate::config::Class;
use crate::error::{Error, Result};
use crate::georef::{Georef, ring_area};
use crate::polygon::{Polygon, shoelace};

#[cfg(not(target_arch = "wasm32"))]
mod cut;
mod placement;
mod rings;

pub use placement::Placement;
use rings::Ring;

/// Decimals of longitudes and latitudes: 1e-8 degrees are about a millimetre.
const DEGREE_DECIMALS: i32 = 8;
/// Decimals of map coordinates and of pixels, at least.
const MAP_DECIMALS: i32 = 4;

/// Writes one FeatureCollection; each feature goes out at once.
///
/// Properties of a feature: `class` (index), `name`, `color` (`#rrggbb`), `pixels`, `area_m2` (true area on the
/// ellipsoid, where the coordinates are longitude and latitude), `confidence` (mean, 0 to 1, where known). A feature's
/// geometry is a Polygon, or a MultiPolygon of the parts that the antimeridian makes.
pub struct Writer<'a, W: Write> {
    out: W,
    classes: &'a [Class],
    placement: Placement<'a>,
    decimals: i32,
    features: usize,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins a collection of polygons on the ground that `georef` covers. Where the image's size is known, prefer
    /// [`Writer::with_placement`]: it sees georeferences that place nothing before a polygon does.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn new(out: W, classes: &'a [Class], georef: Option<&'a Georef>) -> Result<Self> {
        Self::with_placement(out, classes, Placement::of(georef, None))
    }

    /// Begins a collection of polygons with a placement that is known already.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn with_placement(mut out: W, classes: &'a [Class], placement: Placement<'a>) -> Result<Self> {
        write!(out, r#"{{"type":"FeatureCollection",{}"features":["#, placement.members()?)?;
        let decimals = match placement.to_lon_lat() {
            Some(_) => DEGREE_DECIMALS,
            // A thousandth of a pixel, be the unit metres or degrees.
            None => {
                placement.pixel_size().map_or(MAP_DECIMALS, |p| (3.0 - p.log10()).ceil() as i32).clamp(MAP_DECIMALS, 12)
            }
        };
        Ok(Self { out, classes, placement, decimals, features: 0 })
    }

    /// Writes one polygon as a feature.
    ///
    /// # Errors
    /// What `out` fails with, and [`crate::error::ErrorKind::Invalid`] if a corner lies outside the map projection.
    pub fn polygon(&mut self, polygon: &Polygon) -> Result<()> {
        let mut rings = Vec::with_capacity(1 + polygon.holes.len());
        for ring in std::iter::once(&polygon.exterior).chain(&polygon.holes) {
            rings.push(rings::place(&self.placement, ring)?);
        }
        let area = self.placement.to_lon_lat().map(|_| {
            let mut areas = rings.iter().map(|ring| ring_area(&ring.points));
            areas.next().unwrap_or(0.0) - areas.sum::<f64>()
        });
        let parts = self.parts(rings);

        let class = self.classes.iter().find(|c| c.index == polygon.class);
        let name = class.map_or_else(|| format!("class {}", polygon.class), |c| c.name.clone());
        let [r, g, b] = class.map_or([128; 3], |c| c.color);
        let separator = if self.features == 0 { "\n" } else { ",\n" };
        write!(
            self.out,
            r##"{separator}{{"type":"Feature","properties":{{"class":{},"name":{},"color":"#{r:02x}{g:02x}{b:02x}","pixels":{}"##,
            polygon.class,
            serde_json::to_string(&name).map_err(|e| Error::from(std::io::Error::from(e)))?,
            polygon.pixels
        )?;
        if let Some(area) = area {
            write!(self.out, r#","area_m2":{}"#, rounded(area, 2))?;
        }
        if let Some(confidence) = polygon.confidence {
            write!(self.out, r#","confidence":{}"#, rounded(f64::from(confidence), 4))?;
        }
        match parts.as_slice() {
            [part] => {
                write!(self.out, r#"}},"geometry":{{"type":"Polygon","coordinates":"#)?;
                self.rings(part)?;
            }
            parts => {
                write!(self.out, r#"}},"geometry":{{"type":"MultiPolygon","coordinates":["#)?;
                for (i, part) in parts.iter().enumerate() {
                    self.out.write_all(if i == 0 { b"" } else { b"," })?;
                    self.rings(part)?;
                }
                self.out.write_all(b"]")?;
            }
        }
        self.out.write_all(b"}}")?;
        self.features += 1;
        Ok(())
    }

    /// The rings of each polygon that is to be written, exteriors counter-clockwise with y up and holes clockwise (RFC
    /// 7946, 3.1.6), closed.
    fn parts(&self, mut rings: Vec<Ring>) -> Vec<Vec<Vec<[f64; 2]>>> {
        #[cfg(not(target_arch = "wasm32"))]
        if self.placement.to_lon_lat().is_some() && cut::is_needed(&rings) {
            return cut::at_antimeridian(rings);
        }
        for (i, ring) in rings.iter_mut().enumerate() {
            if (shoelace(&ring.points) > 0.0) != (i == 0) {
                ring.points.reverse();
            }
        }
        vec![rings.into_iter().map(|ring| ring.points).collect()]
    }

    fn rings(&mut self, rings: &[Vec<[f64; 2]>]) -> Result<()> {
        self.out.write_all(b"[")?;
        for (i, ring) in rings.iter().enumerate() {
            self.out.write_all(if i == 0 { b"[" } else { b",[" })?;
            for (j, &[x, y]) in ring.iter().enumerate() {
                let comma = if j == 0 { "" } else { "," };
                write!(self.out, "{comma}[{},{}]", rounded(x, self.decimals), rounded(y, self.decimals))?;
            }
            self.out.write_all(b"]")?;
        }
        Ok(self.out.write_all(b"]")?)
    }

    /// Ends the collection and gives the output back.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(b"\n]}\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Writes all polygons as one FeatureCollection.
///
/// # Errors
/// As [`Writer::new`], [`Writer::polygon`] and [`Writer::finish`].
pub fn write(out: impl Write, polygons: &[Polygon], classes: &[Class], georef: Option<&Georef>) -> Result<()> {
    let mut writer = Writer::new(out, classes, georef)?;
    for polygon in polygons {
        writer.polygon(polygon)?;
    }
    writer.finish().map(|_| ())
}

/// All polygons as the text of one FeatureCollection.
///
/// # Errors
/// As [`write()`].
pub fn to_string(polygons: &[Polygon], classes: &[Class], georef: Option<&Georef>) -> Result<String> {
    let mut out = Vec::new();
    write(&mut out, polygons, classes, georef)?;
    String::from_utf8(out).map_err(|e| Error::new(crate::error::ErrorKind::Format, e.to_string()))
}

/// `value` with at most so many decimals; Rust prints the shortest text that reads back equal. Never `-0`.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Crs;
    use crate::polygon::{Options, trace};

    fn classes() -> Vec<Class> {
        vec![Class { index: 1, name: "a \"b\"".into(), color: [255, 0, 16], threshold: None }]
    }

    fn collection(georef: Option<&Georef>) -> serde_json::Value {
        let polygons = trace(&[1, 1, 1, 1, 0, 1, 1, 1, 1], 3, 3, Options::default()).expect("traced");
        serde_json::from_str(&to_string(&polygons, &classes(), georef).expect("written")).expect("valid JSON")
    }

    fn signed(ring: &serde_json::Value) -> f64 {
        let ring: Vec<[f64; 2]> = serde_json::from_value(ring.clone()).expect("ring");
        shoelace(&ring)
    }

    #[test]
    fn pixels_without_a_georeference() {
        let json = collection(None);
        assert!(json["coordinate_space"].as_str().expect("said").starts_with("pixels"));
        let feature = &json["features"][0];
        assert_eq!(feature["properties"]["name"], "a \"b\"");
        assert_eq!(feature["properties"]["color"], "#ff0010");
        assert_eq!(feature["properties"]["pixels"], 8);
        assert!(feature["properties"].get("area_m2").is_none());
        let rings = &feature["geometry"]["coordinates"];
        assert_eq!((signed(&rings[0]), signed(&rings[1])), (9.0, -1.0));
    }

    #[test]
    fn degrees_and_true_area_with_one() {
        let georef = Georef { transform: [10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0], crs: Crs::from_epsg(32631) };
        let json = collection(Some(&georef));
        assert!(json.get("crs").is_none() && json.get("coordinate_space").is_none());
        let feature = &json["features"][0];
        let rings = &feature["geometry"]["coordinates"];
        assert!(signed(&rings[0]) > 0.0 && signed(&rings[1]) < 0.0);
        let area = feature["properties"]["area_m2"].as_f64().expect("area");
        // UTM's scale on its central meridian is 0.9996.
        assert!((area - 800.0 / (0.9996 * 0.9996)).abs() < 0.02, "{area}");
    }

    #[test]
    fn map_coordinates_where_no_conversion_is_known() {
        let mut georef = Georef { transform: [1.0, 0.0, 7.0, 0.0, 1.0, 9.0], crs: Crs::from_epsg(65_000) };
        let json = collection(Some(&georef));
        assert_eq!(json["crs"]["properties"]["name"], "urn:ogc:def:crs:EPSG::65000");
        assert!(signed(&json["features"][0]["geometry"]["coordinates"][0]) > 0.0);
        // No reader takes a local system for longitude and latitude.
        georef.crs = Crs::default();
        let json = collection(Some(&georef));
        assert!(json["crs"]["properties"]["name"].as_str().expect("a name").starts_with("LOCAL_CS["), "{json}");
        assert!(json["coordinate_space"].as_str().expect("said").contains("unknown"));
        // Degrees that are not converted keep a thousandth of a pixel.
        let georef = Georef { transform: [3e-6, 0.0, 175.0, 0.0, -3e-6, -40.0], crs: Crs::from_epsg(4267) };
        let json = collection(Some(&georef));
        let corner = &json["features"][0]["geometry"]["coordinates"][0][2];
        assert_eq!(corner.to_string(), "[175.000009,-40.0]");
        assert!(Placement::new(Some(&georef), 3, 3).warning().expect("a word").contains("EPSG:4267"));
    }

    #[test]
    fn an_output_that_fails_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write(Full, &[], &[], None).expect_err("full").kind(), crate::error::ErrorKind::Io);
    }
}
