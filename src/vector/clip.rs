//! Areas as rows of a raster's pixels, and a raster that holds data within them only.

use super::areas::{Area, Areas, Ring};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, FromLonLat, Georef, ToLonLat};
use crate::image::within;
use crate::source::{Depth, Interpretation, Patch, Raster, Samples, Window};

/// By how much of a pixel an edge may be off where the conversion bends it.
const MAX_BEND: f64 = 0.1;
/// How often an edge is halved at most.
const MAX_HALVINGS: usize = 12;
/// Rows of a band by which edges are found.
const BAND: usize = 64;

/// Pixels of a row that lie within an area: columns `start .. end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First column.
    pub start: usize,
    /// Column after the last.
    pub end: usize,
    /// Which area, in their order.
    pub area: usize,
}

/// An edge in pixels, from its upper to its lower end.
#[derive(Debug, Clone, Copy)]
struct Edge {
    from: [f64; 2],
    to: [f64; 2],
    polygon: u32,
}

/// Areas on a raster's grid. A pixel belongs to an area if its centre does (GDAL's rule): within an odd number of the rings of one of
/// its polygons.
#[derive(Debug, Clone)]
pub struct Clip {
    size: (usize, usize),
    edges: Vec<Edge>,
    /// Edges that reach into each band of rows.
    bands: Vec<Vec<u32>>,
    /// The area of each polygon.
    owners: Vec<u32>,
    names: Vec<String>,
}

impl Clip {
    /// The areas on the grid of an image of `width` x `height` pixels. Edges that are bent by the conversion between their system
    /// and the image's get as many points as they need.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if one of the two systems cannot be converted, [`ErrorKind::Invalid`] if the areas do not meet
    /// the image, or one that does cannot be placed in its system.
    pub fn new(areas: &Areas, georef: Option<&Georef>, (width, height): (usize, usize)) -> Result<Self> {
        let georef = georef.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the image has no place, so that no area can be found in it")
                .remedy("georeference the image")
        })?;
        let grid = Grid::new(&areas.crs, georef, (width, height))?;
        let bands = vec![Vec::new(); height.div_ceil(BAND)];
        let names = areas.areas.iter().map(|a| a.name.clone()).collect();
        let mut new = Self { size: (width, height), edges: Vec::new(), bands, owners: Vec::new(), names };
        for (i, area) in areas.areas.iter().enumerate() {
            new.add(i, area, &grid).map_err(|e| e.at(format!("area {:?}", area.name)))?;
        }
        let meets =
            (0..height).any(|row| new.bands.get(row / BAND).is_some_and(|b| !b.is_empty()) && !new.row(row).is_empty());
        if !meets {
            return Err(Error::new(ErrorKind::Invalid, "no pixel of the image lies within the area")
                .remedy("check the area's place and its coordinate reference system"));
        }
        Ok(new)
    }

    fn add(&mut self, owner: usize, area: &Area, grid: &Grid) -> Result<()> {
        for polygon in &area.polygons {
            let Some(rings) = grid.rings(polygon)? else { continue };
            for shift in grid.shifts(&rings) {
                let number = self.owners.len() as u32;
                self.owners.push(owner as u32);
                for ring in &rings {
                    for edge in ring.windows(2) {
                        self.edge(edge[0], edge[1], shift, number);
                    }
                }
            }
        }
        Ok(())
    }

    fn edge(&mut self, a: [f64; 2], b: [f64; 2], [dx, dy]: [f64; 2], polygon: u32) {
        let moved = |p: [f64; 2]| [p[0] + dx, p[1] + dy];
        let (from, to) = if a[1] < b[1] { (moved(a), moved(b)) } else { (moved(b), moved(a)) };
        let height = self.size.1 as f64;
        // Edges along a row, and above or below the image, cross no row's middle.
        if from[1] == to[1] || to[1] <= 0.0 || from[1] >= height {
            return;
        }
        let number = self.edges.len() as u32;
        self.edges.push(Edge { from, to, polygon });
        let (first, last) = (from[1].max(0.0) as usize / BAND, (to[1].min(height - 0.5) as usize) / BAND);
        for band in &mut self.bands[first..=last] {
            band.push(number);
        }
    }

    /// The areas' names, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The pixels of a row that lie within areas, by area and column. An area's own spans do not overlap; two areas' may.
    pub fn row(&self, row: usize) -> Vec<Span> {
        let Some(band) = self.bands.get(row / BAND) else { return Vec::new() };
        let y = row as f64 + 0.5;
        let mut crossings: Vec<(u32, f64)> = Vec::new();
        for &number in band {
            let Edge { from, to, polygon } = self.edges[number as usize];
            if from[1] <= y && y < to[1] {
                crossings.push((polygon, (y - from[1]) * (to[0] - from[0]) / (to[1] - from[1]) + from[0]));
            }
        }
        crossings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        // From a crossing (not itself) to the next (itself).
        let column = |x: f64| (x + 0.5).floor().clamp(0.0, self.size.0 as f64) as usize;
        let mut spans: Vec<Span> = Vec::new();
        for pair in crossings.chunk_by(|a, b| a.0 == b.0).flat_map(|polygon| polygon.chunks_exact(2)) {
            let span = Span {
                start: column(pair[0].1),
                end: column(pair[1].1),
                area: self.owners[pair[0].0 as usize] as usize,
            };
            if span.start < span.end {
                spans.push(span);
            }
        }
        spans.sort_by_key(|s| (s.area, s.start));
        // Polygons of one area may overlap.
        spans.dedup_by(|next, kept| {
            let joined = next.area == kept.area && next.start <= kept.end;
            if joined {
                kept.end = kept.end.max(next.end);
            }
            joined
        });
        spans
    }

    /// The smallest window that holds all pixels within areas; `None` if there is none.
    pub fn bounds(&self) -> Option<Window> {
        let mut found: Option<[usize; 4]> = None;
        for row in 0..self.size.1 {
            for Span { start, end, .. } in self.row(row) {
                let [left, top, right, _] = found.unwrap_or([start, row, end, row]);
                found = Some([left.min(start), top, right.max(end), row]);
            }
        }
        found.map(|[left, top, right, last]| Window::new(left, top, right - left, last + 1 - top))
    }

    /// Which pixels of a window lie within an area: `[height, width]`.
    pub fn window(&self, window: Window) -> Vec<bool> {
        let mut out = vec![false; window.pixels()];
        for (line, row) in out.chunks_exact_mut(window.width).zip(window.y..) {
            for span in self.row(row) {
                let (start, end) = (span.start.max(window.x), span.end.min(window.x + window.width));
                if start < end {
                    line[start - window.x..end - window.x].fill(true);
                }
            }
        }
        out
    }
}

/// From the areas' coordinates to the image's pixels.
struct Grid<'a> {
    georef: &'a Georef,
    size: (usize, usize),
    way: Option<(ToLonLat, FromLonLat)>,
    /// Longitudes and latitudes of the image: west, south, east, north; `None` around a pole or where nothing is converted.
    extent: Option<[f64; 4]>,
    /// A turn around the earth, in map units to the east.
    turn: f64,
    /// From map coordinates to pixels.
    inverse: [f64; 4],
}

impl<'a> Grid<'a> {
    fn new(from: &Crs, georef: &'a Georef, size: (usize, usize)) -> Result<Self> {
        let to_lon_lat = georef.to_lon_lat(size.0, size.1);
        let same = from.epsg.is_some() && from.epsg == georef.crs.epsg;
        let way = match (same, &to_lon_lat) {
            (true, _) => None,
            (false, Ok(_)) => Some((ToLonLat::of(from)?, FromLonLat::of(&georef.crs)?)),
            (false, Err(_)) => return Err(to_lon_lat.err().unwrap_or_else(|| Error::new(ErrorKind::Unsupported, ""))),
        };
        let turn = match FromLonLat::of(&georef.crs) {
            Ok(way) if way.is_geographic() => 360.0,
            Ok(way) if way.is_cylindrical() => way.convert([180.0, 0.0])?[0] - way.convert([-180.0, 0.0])?[0],
            _ => 0.0,
        };
        let extent = way.as_ref().and(to_lon_lat.ok()).and_then(|to| extent(georef, &to, size));
        let [a, b, _, d, e, _] = georef.transform;
        let det = a * e - b * d;
        Ok(Self { georef, size, way, extent, turn, inverse: [e / det, -b / det, -d / det, a / det] })
    }

    fn pixel(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [_, _, c, _, _, f] = self.georef.transform;
        let [a, b, d, e] = self.inverse;
        let (x, y) = (x - c, y - f);
        [a * x + b * y, d * x + e * y]
    }

    /// Rings in pixels; `None` if the polygon lies elsewhere on earth.
    fn rings(&self, polygon: &[Ring]) -> Result<Option<Vec<Ring>>> {
        let Some((to, from)) = &self.way else {
            return Ok(Some(polygon.iter().map(|ring| ring.iter().map(|&p| self.pixel(p)).collect()).collect()));
        };
        if let Some(extent) = self.extent
            && polygon.first().is_some_and(|exterior| is_elsewhere(exterior, to, extent))
        {
            return Ok(None);
        }
        let place = |p: [f64; 2]| Ok::<_, Error>(self.pixel(from.convert(to.convert(p)?)?));
        let ring = |ring: &Ring| {
            let mut out = Vec::with_capacity(ring.len());
            for edge in ring.windows(2) {
                let (a, b) = (place(edge[0])?, place(edge[1])?);
                if out.is_empty() {
                    out.push(a);
                }
                bend(&place, (edge[0], a), (edge[1], b), MAX_HALVINGS, &mut out)?;
            }
            Ok(out)
        };
        polygon.iter().map(ring).collect::<Result<Vec<_>>>().map(Some)
    }

    /// By how many pixels a polygon is to be moved to meet the image, on a map that repeats itself: none, one or several ways.
    fn shifts(&self, rings: &[Ring]) -> Vec<[f64; 2]> {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let points = || rings.iter().flatten();
        let bounds =
            |i: usize| points().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), p| (a.min(p[i]), b.max(p[i])));
        let ((left, right), (top, bottom)) = (bounds(0), bounds(1));
        let turns: &[f64] = if self.turn == 0.0 { &[0.0] } else { &[-2.0, -1.0, 0.0, 1.0, 2.0] };
        let shift = |turns: &f64| [self.inverse[0] * turns * self.turn, self.inverse[2] * turns * self.turn];
        let meets = |[x, y]: &[f64; 2]| right + x > 0.0 && left + x < width && bottom + y > 0.0 && top + y < height;
        turns.iter().map(shift).filter(meets).collect()
    }
}

/// Adds the points of an edge that the conversion bends: all but its first.
fn bend(
    place: &impl Fn([f64; 2]) -> Result<[f64; 2]>,
    (a, at_a): ([f64; 2], [f64; 2]),
    (b, at_b): ([f64; 2], [f64; 2]),
    halvings: usize,
    out: &mut Ring,
) -> Result<()> {
    let half = |a: [f64; 2], b: [f64; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let middle = half(a, b);
    let at_middle = place(middle)?;
    let straight = half(at_a, at_b);
    if halvings == 0 || (at_middle[0] - straight[0]).hypot(at_middle[1] - straight[1]) <= MAX_BEND {
        out.push(at_b);
        return Ok(());
    }
    bend(place, (a, at_a), (middle, at_middle), halvings - 1, out)?;
    bend(place, (middle, at_middle), (b, at_b), halvings - 1, out)
}

/// West, south, east and north of an image by points along its frame, with some room; `None` if it has a pole in it.
fn extent(georef: &Georef, to: &ToLonLat, (width, height): (usize, usize)) -> Option<[f64; 4]> {
    let (w, h) = (width as f64, height as f64);
    let mut out = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    let first = georef.lon_lat(to, [w / 2.0, h / 2.0]).ok()?[0];
    let mut last = None;
    for i in 0..=128 {
        let t = f64::from(i % 32) / 32.0;
        let corner = match i / 32 {
            0 => [w * t, 0.0],
            1 => [w, h * t],
            2 => [w * (1.0 - t), h],
            3 => [0.0, h * (1.0 - t)],
            _ => [0.0, 0.0],
        };
        let [lon, lat] = georef.lon_lat(to, corner).ok()?;
        let near = last.unwrap_or(first);
        let lon = lon + 360.0 * ((near - lon) / 360.0).round();
        last = Some(lon);
        out = [out[0].min(lon), out[1].min(lat), out[2].max(lon), out[3].max(lat)];
    }
    let (room_x, room_y) = ((out[2] - out[0]) * 0.1 + 0.01, (out[3] - out[1]) * 0.1 + 0.01);
    let around_pole = out[2] - out[0] >= 180.0;
    (!around_pole).then_some([out[0] - room_x, out[1] - room_y, out[2] + room_x, out[3] + room_y])
}

/// Whether a ring certainly lies apart from an extent in longitude and latitude.
fn is_elsewhere(ring: &Ring, to: &ToLonLat, [west, south, east, north]: [f64; 4]) -> bool {
    let mut bounds = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    let middle = (west + east) / 2.0;
    for &point in ring {
        let Ok([lon, lat]) = to.convert(point) else { return false };
        bounds = [bounds[0].min(lon), bounds[1].min(lat), bounds[2].max(lon), bounds[3].max(lat)];
    }
    // A ring that is half the earth wide may lie anywhere.
    if bounds[2] - bounds[0] > 180.0 {
        return false;
    }
    let shift = 360.0 * ((middle - (bounds[0] + bounds[2]) / 2.0) / 360.0).round();
    bounds[2] + shift < west || bounds[0] + shift > east || bounds[3] < south || bounds[1] > north
}

/// A raster that holds data within areas only. What lies beyond is still there to be seen beside them; windows that meet no area are not
/// read.
pub struct Clipped<R> {
    raster: R,
    clip: Option<Clip>,
    /// Whether pixels outside hold no data in windows that are partly inside.
    by_pixel: bool,
}

impl<R: Raster> Clipped<R> {
    /// A raster within areas, or the whole of it.
    pub fn new(raster: R, clip: Option<Clip>) -> Self {
        Self { raster, clip, by_pixel: true }
    }

    /// A raster of which only windows wholly outside the areas hold no data: for pixels that are cut to them later, on a finer
    /// grid.
    pub fn windows(raster: R, clip: Option<Clip>) -> Self {
        Self { raster, clip, by_pixel: false }
    }

    /// The areas.
    pub fn clip(&self) -> Option<&Clip> {
        self.clip.as_ref()
    }

    /// The raster itself, whole again.
    pub fn into_inner(self) -> R {
        self.raster
    }

    /// The raster itself.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.raster
    }
}

impl<R: Raster> Raster for Clipped<R> {
    fn size(&self) -> (usize, usize) {
        self.raster.size()
    }

    fn bands(&self) -> usize {
        self.raster.bands()
    }

    fn depth(&self) -> Depth {
        self.raster.depth()
    }

    fn georef(&self) -> Option<&Georef> {
        self.raster.georef()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        self.raster.overviews()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let Some(clip) = &self.clip else { return self.raster.read(window, bands) };
        let (width, height) = clip.size;
        if !within(window.x, window.width, width) || !within(window.y, window.height, height) {
            return self.raster.read(window, bands);
        }
        let inside = clip.window(window);
        if !inside.contains(&true) {
            window.check(clip.size)?;
            let samples = Samples::zeros(self.raster.depth(), window.pixels() * bands.len());
            return Ok(Patch {
                width: window.width,
                height: window.height,
                bands: bands.len(),
                samples,
                valid: inside,
            });
        }
        let mut patch = self.raster.read(window, bands)?;
        if !self.by_pixel {
            return Ok(patch);
        }
        if patch.valid.is_empty() {
            patch.valid = inside;
        } else {
            patch.valid.iter_mut().zip(inside).for_each(|(valid, inside)| *valid &= inside);
        }
        Ok(patch)
    }

    fn describe(&self) -> String {
        self.raster.describe()
    }

    fn interpretation(&self) -> Interpretation {
        self.raster.interpretation()
    }

    fn is_known_blank(&self, window: Window) -> bool {
        let outside = |clip: &Clip| window.check(clip.size).is_ok() && !clip.window(window).contains(&true);
        self.clip.as_ref().is_some_and(outside) || self.raster.is_known_blank(window)
    }

    fn decoded_blocks(&self) -> u64 {
        self.raster.decoded_blocks()
    }
}
