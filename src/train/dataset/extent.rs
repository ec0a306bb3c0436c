//! The ground that a sample shows.

use crate::georef::{Crs, Georef, ToLonLat, WEB_MERCATOR};
use crate::tile::lon_lat_to_mercator;

/// A box on the map, in the units of its coordinate reference system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Least x.
    pub min_x: f64,
    /// Least y.
    pub min_y: f64,
    /// Greatest x.
    pub max_x: f64,
    /// Greatest y.
    pub max_y: f64,
    /// EPSG code of the system that x and y are in, if it is known.
    pub epsg: Option<u32>,
}

impl Extent {
    /// The least box around an image of `width` x `height` pixels.
    pub fn new(georef: &Georef, width: usize, height: usize) -> Self {
        let (w, h) = (width as f64, height as f64);
        let corners = [[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]].map(|corner| georef.map(corner));
        Self::around(&corners, georef.crs.epsg)
    }

    fn around(points: &[[f64; 2]], epsg: Option<u32>) -> Self {
        let mut out = Self {
            min_x: f64::INFINITY,
            min_y: f64::INFINITY,
            max_x: f64::NEG_INFINITY,
            max_y: f64::NEG_INFINITY,
            epsg,
        };
        for &[x, y] in points {
            out.min_x = out.min_x.min(x);
            out.min_y = out.min_y.min(y);
            out.max_x = out.max_x.max(x);
            out.max_y = out.max_y.max(y);
        }
        out
    }

    /// The least box of Web Mercator around this one; `None` if its system cannot be converted.
    pub fn to_web_mercator(&self) -> Option<Self> {
        if self.epsg == Some(WEB_MERCATOR) {
            return Some(*self);
        }
        let to_lon_lat = ToLonLat::new(&Crs { epsg: self.epsg, keys: None })?;
        // Edges bend: their middles count as well.
        let (x, y) = ((self.min_x + self.max_x) / 2.0, (self.min_y + self.max_y) / 2.0);
        let mut points = Vec::with_capacity(9);
        for px in [self.min_x, x, self.max_x] {
            for py in [self.min_y, y, self.max_y] {
                points.push(lon_lat_to_mercator(to_lon_lat.convert([px, py]).ok()?));
            }
        }
        points.iter().flatten().all(|v| v.is_finite()).then(|| Self::around(&points, Some(WEB_MERCATOR)))
    }

    /// Whether two boxes of one system share more than their edges.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min_x < other.max_x && other.min_x < self.max_x && self.min_y < other.max_y && other.min_y < self.max_y
    }

    /// Width and height.
    pub fn size(&self) -> (f64, f64) {
        (self.max_x - self.min_x, self.max_y - self.min_y)
    }

    /// The same box with a border of `width` taken away at the left and right, `height` above and below.
    #[must_use]
    pub fn shrunk(&self, width: f64, height: f64) -> Self {
        let (w, h) = self.size();
        let (dx, dy) = (width.min(w / 4.0), height.min(h / 4.0));
        Self { min_x: self.min_x + dx, min_y: self.min_y + dy, max_x: self.max_x - dx, max_y: self.max_y - dy, ..*self }
    }

    /// Grows to hold another box.
    pub fn include(&mut self, other: &Self) {
        self.min_x = self.min_x.min(other.min_x);
        self.min_y = self.min_y.min(other.min_y);
        self.max_x = self.max_x.max(other.max_x);
        self.max_y = self.max_y.max(other.max_y);
    }
}
