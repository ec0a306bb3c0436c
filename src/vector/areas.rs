//! Areas of interest: polygons of a vector file, in the file's own coordinates.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, WGS84};

mod wkb;
mod flatgeobuf;
mod geojson;
mod geopackage;
mod shapefile;

/// A closed ring of `[x, y]`.
pub type Ring = Vec<[f64; 2]>;

/// The most points that are read from a file: 16 bytes each.
const MAX_POINTS: usize = 1 << 27;

/// One feature of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Area {
    /// What to call it: its property `name`, else its first text, else its number in the file, from 1 on.
    pub name: String,
    /// Its properties as texts, in the file's order.
    pub properties: Vec<(String, String)>,
    /// Its polygons, each the rings of its exterior and holes: what lies within an odd number of them is inside.
    pub polygons: Vec<Vec<Ring>>,
}

/// The features of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Areas {
    /// At least one.
    pub areas: Vec<Area>,
    /// What x and y mean.
    pub crs: Crs,
    /// What was passed over or mended, for people.
    pub notes: Vec<String>,
}

/// Reads the polygons of a GeoJSON, GeoPackage, Shapefile or FlatGeobuf file, told by its ending; `layer` chooses one of a
/// GeoPackage's.
///
/// Heights and measures are left out. Rings that are not closed are closed, and those of fewer than three corners left out.
/// Outlines that cross themselves are filled by the even-odd rule, as GDAL does.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such file or layer, [`ErrorKind::Format`] if it is broken, [`ErrorKind::Unsupported`] for
/// other formats and for points and lines, [`ErrorKind::Invalid`] if it has no polygon or several layers, [`ErrorKind::Limit`] if it
/// has more than 2^27 points.
pub fn read(path: impl AsRef<Path>, layer: Option<&str>) -> Result<Areas> {
    let path = path.as_ref();
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let found = match ending.as_str() {
        "geojson" | "json" => geojson::read(path),
        "gpkg" => geopackage::read(path, layer),
        "shp" => shapefile::read(path),
        "fgb" => flatgeobuf::read(path),
        _ => Err(Error::new(ErrorKind::Unsupported, "areas are read from .geojson, .gpkg, .shp and .fgb files")
            .remedy("convert it, for example: ogr2ogr area.gpkg FILE")),
    };
    let found = found.and_then(|areas| match layer {
        Some(layer) if ending != "gpkg" => {
            Err(Error::new(ErrorKind::Invalid, format!("has one layer, and none is called {layer:?}"))
                .remedy("leave out --layer"))
        }
        _ => areas.checked(),
    });
    found.map_err(|e| e.at(path.display()))
}

/// The words for what is no area.
fn no_area(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("holds {what}, which have no inside"))
        .remedy("give polygons; for example buffer the lines first")
}

impl Areas {
    /// The rectangle of `west,south,east,north` in longitude and latitude on WGS 84; `west` may lie east of `east`, across 180
    /// degrees.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it encloses nothing on earth.
    pub fn rectangle([west, south, east, north]: [f64; 4]) -> Result<Self> {
        let east = if east < west { east + 360.0 } else { east };
        let sides = [west, south, east, north].iter().all(|v| v.is_finite());
        if !(sides
            && south < north
            && south >= -90.0
            && north <= 90.0
            && west < east
            && west >= -360.0
            && east <= 540.0)
        {
            return Err(Error::new(ErrorKind::Invalid, format!("{west},{south},{east},{north} is no rectangle"))
                .remedy("give west,south,east,north in degrees of longitude and latitude"));
        }
        let ring = vec![[west, south], [east, south], [east, north], [west, north], [west, south]];
        let area = Area { name: "rectangle".into(), properties: Vec::new(), polygons: vec![vec![ring]] };
        Ok(Self { areas: vec![area], crs: Crs::from_epsg(WGS84), notes: Vec::new() })
    }

    /// Closes rings, drops those that enclose nothing, names areas, and refuses what is none.
    fn checked(mut self) -> Result<Self> {
        let (mut dropped, mut points) = (0, 0);
        for area in &mut self.areas {
            for polygon in &mut area.polygons {
                for ring in polygon.iter_mut() {
                    points += ring.len();
                    if ring.iter().flatten().any(|v| !v.is_finite()) {
                        return Err(Error::new(ErrorKind::Format, "a coordinate is not a finite number"));
                    }
                    if ring.first() != ring.last() {
                        ring.extend(ring.first().copied());
                    }
                    ring.dedup();
                }
                let before = polygon.len();
                polygon.retain(|ring| ring.len() >= 4);
                dropped += before - polygon.len();
            }
            area.polygons.retain(|polygon| !polygon.is_empty());
        }
        if points > MAX_POINTS {
            return Err(Error::new(ErrorKind::Limit, format!("has {points} points"))
                .remedy("simplify it, or cut it into parts"));
        }
        if dropped > 0 {
            self.notes.push(format!("{dropped} rings of fewer than three corners were left out"));
        }
        for (i, area) in self.areas.iter_mut().enumerate() {
            let named =
                area.properties.iter().find(|(key, value)| key.eq_ignore_ascii_case("name") && !value.is_empty());
            let text = || area.properties.iter().find(|(_, value)| value.chars().any(char::is_alphabetic));
            area.name = named.or_else(text).map_or_else(|| (i + 1).to_string(), |(_, value)| value.clone());
        }
        let empty = self.areas.iter().filter(|a| a.polygons.is_empty()).count();
        if empty > 0 {
            self.notes.push(format!("{empty} features without a polygon were left out"));
        }
        self.areas.retain(|area| !area.polygons.is_empty());
        if self.areas.is_empty() {
            return Err(
                Error::new(ErrorKind::Invalid, "holds no polygon").remedy("draw the area of interest as a polygon")
            );
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles() {
        let found = Areas::rectangle([170.0, -10.0, -170.0, 10.0]).expect("across 180");
        assert_eq!(found.areas[0].polygons[0][0][1], [190.0, -10.0]);
        for sides in [[1.0, 2.0, 3.0, 2.0], [0.0, -91.0, 1.0, 1.0], [f64::NAN, 0.0, 1.0, 1.0], [5.0, 0.0, 5.0, 1.0]] {
            assert!(Areas::rectangle(sides).is_err(), "{sides:?}");
        }
    }

    #[test]
    fn rings_are_closed_and_what_is_none_is_left_out() {
        let area = |name: &str, polygons| Area {
            name: String::new(),
            properties: vec![("Name".into(), name.into())],
            polygons,
        };
        let open = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]];
        let line = vec![[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]];
        let areas = vec![area("a", vec![vec![open.clone(), line.clone()]]), area("b", vec![vec![line]])];
        let found = Areas { areas, crs: Crs::default(), notes: Vec::new() }.checked().expect("one area");
        assert_eq!((found.areas.len(), found.areas[0].name.as_str(), found.notes.len()), (1, "a", 2));
        assert_eq!(found.areas[0].polygons[0], [vec![open[0], open[1], open[2], open[0]]]);
        let bad = Areas {
            areas: vec![area("a", vec![vec![vec![[f64::NAN, 0.0]; 4]]])],
            crs: Crs::default(),
            notes: Vec::new(),
        };
        assert!(bad.checked().is_err());
    }
}
