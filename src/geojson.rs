//! Polygons as a GeoJSON FeatureCollection (RFC 7946), written feature by feature.
//!
//! With a georeference that can be converted, coordinates are longitude and latitude on WGS 84; polygons that cross the
//! antimeridian are cut there (section 3.1.9), and edges that bend are given as many points as they need. With one that
//! cannot, they stay map coordinates; without any they are pixels, x right and y down. Both are no RFC 7946: the member
//! `coordinate_space` says so, and the older specification's `crs` names the system, or a local one, so that no reader
//! takes them for longitude and latitude. [`Placement::warning`] has the words for people.

use std::io::Write;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::polygon::Polygon;

#[cfg(not(target_arch = "wasm32"))]
mod cut;
mod placement;
mod rings;
// Below what it cuts and places with.
mod placed;

pub(crate) use placed::Placed;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use placed::{Parts, oriented};
pub use placement::Placement;

/// Decimals of longitudes and latitudes: 1e-8 degrees are about a millimetre.
const DEGREE_DECIMALS: i32 = 8;
/// Decimals of map coordinates and of pixels, at least.
const MAP_DECIMALS: i32 = 4;

/// How features follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One FeatureCollection (RFC 7946).
    Collection,
    /// A GeoJSON text sequence (RFC 8142): each feature between a record separator and a line feed. GDAL's ending is `.geojsons`.
    Sequence,
    /// One feature a line, without separators, as `.geojsonl` and `.ndjson` hold them.
    Lines,
}

/// Writes features, each of which goes out at once.
///
/// Properties of a feature: `class` (index), `name`, `color` (`#rrggbb`), `pixels`, `area_m2` (true area on the
/// ellipsoid, where the coordinates are longitude and latitude), `confidence` (mean, 0 to 1, where known). A feature's
/// geometry is a Polygon, or a MultiPolygon of the parts that the antimeridian makes.
pub struct Writer<'a, W: Write> {
    out: W,
    classes: &'a [Class],
    placement: Placement<'a>,
    layout: Layout,
    decimals: i32,
    features: usize,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Begins a collection of polygons. Their place is a [`Placement`] or, where the image's size is not known, its
    /// georeference; then one that places nothing is only seen at the polygon that lies beyond the earth.
    ///
    /// # Errors
    /// What `out` fails with.
    pub fn new(out: W, classes: &'a [Class], place: impl Into<Placement<'a>>) -> Result<Self> {
        Self::begin(out, classes, place, Layout::Collection, None)
    }

    /// Begins features in a layout. A collection says once where they come from (`provenance`); the other layouts have no
    /// place for it.
    ///
    /// # Errors
    /// What `out` fails with; [`ErrorKind::Unsupported`] for a layout that cannot say that coordinates are not longitude and latitude,
    /// where they are not.
    pub fn begin(
        mut out: W,
        classes: &'a [Class],
        place: impl Into<Placement<'a>>,
        layout: Layout,
        provenance: Option<&serde_json::Value>,
    ) -> Result<Self> {
        let placement = place.into();
        if layout == Layout::Collection {
            let members = placement.members()?;
            let provenance = provenance.map(|p| format!(r#""provenance":{p},"#)).unwrap_or_default();
            write!(out, r#"{{"type":"FeatureCollection",{members}{provenance}"features":["#)?;
        } else if placement.to_lon_lat().is_none() {
            let message = "a sequence of features has no words for coordinates other than longitude and latitude";
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{message}, and these are {}", placement.coordinates()),
            )
            .remedy("georeference the image, or write --format geojson or gpkg"));
        }
        let decimals = match placement.to_lon_lat() {
            Some(_) => DEGREE_DECIMALS,
            // A thousandth of a pixel, be the unit metres or degrees.
            None => {
                placement.pixel_size().map_or(MAP_DECIMALS, |p| (3.0 - p.log10()).ceil() as i32).clamp(MAP_DECIMALS, 12)
            }
        };
        Ok(Self { out, classes, placement, layout, decimals, features: 0 })
    }

    /// Writes one polygon as a feature.
    ///
    /// # Errors
    /// What `out` fails with, and [`crate::error::ErrorKind::Invalid`] if a corner lies outside the map projection.
    pub fn polygon(&mut self, polygon: &Polygon) -> Result<()> {
        let placed = Placed::new(&self.placement, polygon)?;
        let area = placed.area;
        let parts = placed.parts();

        let (name, [r, g, b]) = name_and_color(self.classes, polygon.class);
        let separator = match self.layout {
            Layout::Collection if self.features == 0 => "\n",
            Layout::Collection => ",\n",
            Layout::Sequence => "\u{1e}",
            Layout::Lines => "",
        };
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
        self.out.write_all(if self.layout == Layout::Collection { b"}}" } else { b"}}\n" })?;
        self.features += 1;
        Ok(())
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
        if self.layout == Layout::Collection {
            self.out.write_all(b"\n]}\n")?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Writes all polygons as one FeatureCollection.
///
/// # Errors
/// As [`Writer::new`], [`Writer::polygon`] and [`Writer::finish`].
pub fn write<'a>(
    out: impl Write,
    polygons: &[Polygon],
    classes: &'a [Class],
    place: impl Into<Placement<'a>>,
) -> Result<()> {
    let mut writer = Writer::new(out, classes, place)?;
    for polygon in polygons {
        writer.polygon(polygon)?;
    }
    writer.finish().map(|_| ())
}

/// All polygons as the text of one FeatureCollection.
///
/// # Errors
/// As [`write()`].
pub fn to_string<'a>(polygons: &[Polygon], classes: &'a [Class], place: impl Into<Placement<'a>>) -> Result<String> {
    let mut out = Vec::new();
    write(&mut out, polygons, classes, place)?;
    String::from_utf8(out).map_err(|e| Error::new(crate::error::ErrorKind::Format, e.to_string()))
}

/// What a class is called, and its colour.
pub(crate) fn name_and_color(classes: &[Class], index: u8) -> (String, [u8; 3]) {
    let class = classes.iter().find(|c| c.index == index);
    (class.map_or_else(|| format!("class {index}"), |c| c.name.clone()), class.map_or([128; 3], |c| c.color))
}

/// `value` with at most so many decimals; Rust prints the shortest text that reads back equal. Never `-0`.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::{Crs, Georef};
    use crate::polygon::{Options, shoelace, trace};

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
        let polygons = trace(&[1; 9], 3, 3, Options::default()).expect("traced");
        let text = to_string(&polygons, &classes(), Some(&georef)).expect("written");
        assert!(text.contains("[175.000009,-40]"), "{text}");
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
        assert_eq!(write(Full, &[], &[], None::<&Georef>).expect_err("full").kind(), crate::error::ErrorKind::Io);
    }
}
