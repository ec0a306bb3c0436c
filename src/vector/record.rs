//! A traced polygon as a feature: its geometry in the coordinates that are written, and its properties.

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::geojson::{Parts, Placed, Placement, name_and_color, oriented};
use crate::georef::{Crs, FromLonLat, Georef, WGS84};
use crate::polygon::{Polygon, Traced};

/// In which coordinates features are written.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Those of the raster: its map coordinates, or pixels where it has no place.
    Raster,
    /// Those of a system, by its EPSG code.
    Epsg(u32),
}

/// One feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The class index.
    pub class: u8,
    /// The class's name.
    pub name: String,
    /// The class's colour, sRGB.
    pub color: [u8; 3],
    /// Mean confidence of its pixels, 0 to 1.
    pub confidence: Option<f64>,
    /// True area on the ellipsoid, square metres, where the place is known.
    pub area_m2: Option<f64>,
    /// Pixels of the region, before simplification and filling of holes.
    pub pixels: u64,
    /// Polygons of rings of `[x, y]`, the exterior first and counter-clockwise (y up), holes clockwise, all closed.
    pub parts: Vec<Vec<Vec<[f64; 2]>>>,
}

impl Record {
    /// `#rrggbb`.
    pub fn hex_color(&self) -> String {
        let [r, g, b] = self.color;
        format!("#{r:02x}{g:02x}{b:02x}")
    }

    /// Least and greatest x, least and greatest y.
    pub fn bounds(&self) -> [f64; 4] {
        let points = self.parts.iter().flatten().flatten();
        points.fold([f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY], |[a, b, c, d], p| {
            [a.min(p[0]), b.max(p[0]), c.min(p[1]), d.max(p[1])]
        })
    }
}

/// What is left out of polygons, by true area.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Least {
    /// Polygons of less are left out, square metres (square pixels where the place is not known).
    pub area: f64,
    /// Holes of less are filled where they hold background alone.
    pub hole: f64,
}

/// Drops what is too small of a traced polygon; `None` if it is too small itself.
///
/// # Errors
/// As those of placing polygons: [`ErrorKind::Invalid`] if a corner lies outside the map projection.
pub fn sieve(traced: Traced, placement: &Placement<'_>, least: Least) -> Result<Option<Polygon>> {
    let Traced { mut polygon, fillable } = traced;
    let area = |exterior: &Vec<[f64; 2]>| -> Result<f64> {
        let pixels = Polygon { exterior: exterior.clone(), holes: Vec::new(), ..Polygon::clone(&EMPTY) };
        Ok(Placed::new(placement, &pixels)?.area.unwrap_or_else(|| pixels.area().abs()))
    };
    if least.hole > 0.0 {
        let mut kept = Vec::with_capacity(polygon.holes.len());
        for (hole, fillable) in std::mem::take(&mut polygon.holes).into_iter().zip(fillable) {
            if !fillable || area(&hole)? >= least.hole {
                kept.push(hole);
            }
        }
        polygon.holes = kept;
    }
    if least.area > 0.0 {
        let placed = Placed::new(placement, &polygon)?;
        if placed.area.unwrap_or_else(|| polygon.area()) < least.area {
            return Ok(None);
        }
    }
    Ok(Some(polygon))
}

static EMPTY: Polygon = Polygon { class: 0, exterior: Vec::new(), holes: Vec::new(), pixels: 0, confidence: None };

/// Makes records of traced polygons.
pub struct Records<'a> {
    /// From pixels to longitude and latitude, where the place is known.
    placement: Placement<'a>,
    georef: Option<&'a Georef>,
    classes: &'a [Class],
    crs: Option<Crs>,
    way: Way,
}

enum Way {
    LonLat,
    Raster,
    Other(Box<FromLonLat>),
}

impl<'a> Records<'a> {
    /// Records of an image of `width` x `height` pixels.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the raster's coordinates cannot be converted to the target's.
    pub fn new(
        georef: Option<&'a Georef>,
        (width, height): (usize, usize),
        classes: &'a [Class],
        target: &Target,
    ) -> Result<Self> {
        let placement = Placement::new(georef, width, height);
        // One that places nothing is none.
        let georef = placement.georef();
        let (crs, way) = match target {
            Target::Raster => (georef.map(|g| g.crs.clone()), Way::Raster),
            Target::Epsg(code) if georef.is_some_and(|g| g.crs.epsg == Some(*code)) && *code != WGS84 => {
                (georef.map(|g| g.crs.clone()), Way::Raster)
            }
            Target::Epsg(code) => {
                let crs = Crs::from_epsg(*code);
                if placement.to_lon_lat().is_none() {
                    let why = placement.warning().unwrap_or_default();
                    let message = format!("polygons cannot be converted to {}: {why}", crs.name());
                    return Err(Error::new(ErrorKind::Unsupported, message).at("--crs"));
                }
                let way = match crs.epsg {
                    Some(WGS84) => Way::LonLat,
                    _ => Way::Other(Box::new(FromLonLat::of(&crs).map_err(|e| e.at("--crs"))?)),
                };
                (Some(crs), way)
            }
        };
        Ok(Self { placement, georef, classes, crs, way })
    }

    /// The coordinate reference system of the records; `None` for pixels.
    pub fn crs(&self) -> Option<&Crs> {
        self.crs.as_ref()
    }

    /// The record of a polygon.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a corner lies outside the map projection.
    pub fn record(&self, polygon: &Polygon) -> Result<Record> {
        let placed = Placed::new(&self.placement, polygon)?;
        let area_m2 = placed.area;
        let parts: Parts = match (&self.way, self.georef) {
            (Way::LonLat, _) | (Way::Raster, None) => placed.parts(),
            (Way::Raster, Some(georef)) => {
                let rings = std::iter::once(&polygon.exterior).chain(&polygon.holes);
                let map = |ring: &Vec<[f64; 2]>| ring.iter().map(|&corner| georef.map(corner)).collect();
                vec![oriented(rings.map(map).collect())]
            }
            (Way::Other(from), _) => {
                // Plane systems have no antimeridian, and those of longitudes do not end there, but no file would have it so.
                let parts = if from.is_cylindrical() { placed.parts() } else { vec![placed.rings()] };
                let convert = |ring: Vec<[f64; 2]>| ring.into_iter().map(|place| from.convert(place)).collect();
                let convert = |part: Vec<Vec<[f64; 2]>>| part.into_iter().map(convert).collect::<Result<Vec<_>>>();
                let parts = parts.into_iter().map(convert).collect::<Result<Vec<_>>>()?;
                parts.into_iter().map(oriented).collect()
            }
        };
        let (name, color) = name_and_color(self.classes, polygon.class);
        let (class, pixels, confidence) = (polygon.class, polygon.pixels, polygon.confidence.map(f64::from));
        Ok(Record { class, name, color, confidence, area_m2, pixels, parts })
    }
}
