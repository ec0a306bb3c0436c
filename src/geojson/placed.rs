//! A polygon in the coordinates that are written, with its true area.

use super::placement::Placement;
use super::rings::{self, Ring};
use crate::error::Result;
use crate::georef::ring_area;
use crate::polygon::{Polygon, shoelace};

/// Polygons of rings of `[x, y]`, each with its exterior first; all closed.
pub(crate) type Parts = Vec<Vec<Vec<[f64; 2]>>>;

/// A polygon's rings in a placement's coordinates.
pub(crate) struct Placed {
    rings: Vec<Ring>,
    /// True area on the ellipsoid in square metres, where the coordinates are longitude and latitude.
    pub area: Option<f64>,
}

impl Placed {
    /// Places a polygon of pixel corners.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Invalid`] if a corner lies outside the map projection.
    pub fn new(placement: &Placement<'_>, polygon: &Polygon) -> Result<Self> {
        let mut rings = Vec::with_capacity(1 + polygon.holes.len());
        for ring in std::iter::once(&polygon.exterior).chain(&polygon.holes) {
            rings.push(rings::place(placement, ring)?);
        }
        let area = placement.to_lon_lat().map(|_| {
            let mut areas = rings.iter().map(|ring| ring_area(&ring.points));
            areas.next().unwrap_or(0.0) - areas.sum::<f64>()
        });
        Ok(Self { rings, area })
    }

    /// The polygons that are to be written: cut at the antimeridian if these are longitudes and latitudes.
    pub fn parts(self) -> Parts {
        #[cfg(not(target_arch = "wasm32"))]
        if self.area.is_some() && super::cut::is_needed(&self.rings) {
            return super::cut::at_antimeridian(self.rings);
        }
        vec![oriented(self.rings())]
    }

    /// The rings as they are: longitudes go on across 180 degrees.
    pub fn rings(self) -> Vec<Vec<[f64; 2]>> {
        self.rings.into_iter().map(|ring| ring.points).collect()
    }
}

/// Rings with the exterior counter-clockwise (y up) and holes clockwise (RFC 7946, 3.1.6).
pub(crate) fn oriented(mut rings: Vec<Vec<[f64; 2]>>) -> Vec<Vec<[f64; 2]>> {
    for (i, ring) in rings.iter_mut().enumerate() {
        if (shoelace(ring) > 0.0) != (i == 0) {
            ring.reverse();
        }
    }
    rings
}
