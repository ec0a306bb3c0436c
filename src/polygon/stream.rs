//! Polygons of a mask of any height, from rows that come in any portions: each goes out as soon as its region is closed.
//!
//! Memory holds the regions that are open, with the borders that they have so far, and not the image. Borders are kept
//! once, as arcs between the corners where more than two meet, so neighbours share them exactly. They are simplified in
//! bands of [`BAND_ROWS`] rows, by the rules of [`Options::tolerance`](super::Options::tolerance): where a border crosses
//! from one band into the next, that corner stays. Bands are counted from the image's top, so what comes out does not
//! depend on how the rows came in.

mod regions;
mod chains;
mod arcs;

use std::collections::VecDeque;

use super::Polygon;
use super::simplify::{Corner, simplify_arcs};
use crate::error::{Error, ErrorKind, Result};
use crate::mask::NO_DATA;
use arcs::Arcs;
use chains::{CARRIED, Chains, Finished};
use regions::{NONE, Region, Regions};

/// Rows of a band in which borders are simplified together. A taller band keeps fewer corners (one for each border that
/// crosses into the next band) and polygons wait longer.
pub const BAND_ROWS: usize = 512;

/// What [`Tracer`] leaves out and smooths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamOptions {
    /// Regions of fewer pixels give no polygon (their place stays a hole of what surrounds them).
    pub min_pixels: u64,
    /// Simplification in pixels, as [`Options::tolerance`](super::Options::tolerance); 0 keeps every pixel edge.
    pub tolerance: f64,
    /// Holes of at most so many pixels are told of ([`Traced::fillable`]) where they hold background and nothing else.
    pub fill_pixels: u64,
    /// Rows of a band, at least 1.
    pub band_rows: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { min_pixels: 0, tolerance: 0.0, fill_pixels: 0, band_rows: BAND_ROWS }
    }
}

/// A polygon, and what is known of its holes.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// The polygon.
    pub polygon: Polygon,
    /// For each of its holes, whether it may be filled: it holds background alone, of at most
    /// [`StreamOptions::fill_pixels`] pixels, so that no other polygon and no pixel without data is covered.
    pub fillable: Vec<bool>,
}

/// Traces the polygons of a mask row by row.
///
/// ```
/// use samlora::polygon::{StreamOptions, Tracer};
///
/// let mut tracer = Tracer::new(3, StreamOptions::default())?;
/// tracer.rows(&[1, 1, 0], &[255, 255, 255])?;
/// tracer.rows(&[0, 0, 0, 2, 2, 2], &[255; 6])?;
/// assert_eq!(tracer.closed().count(), 1); // the first is complete
/// let rest = tracer.finish()?;
/// assert_eq!((rest.len(), rest[0].polygon.pixels), (1, 3));
/// # Ok::<(), samlora::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Tracer {
    width: usize,
    options: StreamOptions,
    regions: Regions,
    chains: Chains,
    arcs: Arcs,
    /// Rows done.
    row: u32,
    /// The part of a row that has come in.
    partial: (Vec<u8>, Vec<u8>),
    /// Classes and regions of the row above: [`OUTSIDE`] and [`NONE`] beyond the frame.
    above: (Vec<u16>, Vec<u32>),
    /// Arcs that were completed in this band.
    fresh: Vec<u32>,
    /// Corners and straight borders on the line between the last band and this one.
    line: (Vec<Corner>, Vec<(Corner, Corner)>),
    /// Regions that wait for their band to be simplified.
    waiting: Vec<Region>,
    /// Backgrounds closed so far.
    backgrounds: u64,
    out: VecDeque<Traced>,
}

/// A class that no pixel has: what lies beyond the frame.
const OUTSIDE: u16 = 256;

fn has_polygon(class: u16) -> bool {
    class != 0 && class < u16::from(NO_DATA)
}

impl Tracer {
    /// A tracer of a mask of `width` columns.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the width is 0 or beyond 2^31, the tolerance negative or not finite, or a band has no rows.
    pub fn new(width: usize, options: StreamOptions) -> Result<Self> {
        if width == 0 || width > i32::MAX as usize {
            return Err(Error::new(ErrorKind::Invalid, format!("a mask of {width} columns")));
        }
        if !(options.tolerance.is_finite() && options.tolerance >= 0.0) || options.band_rows == 0 {
            let message = format!("a simplification of {} pixels in bands of {}", options.tolerance, options.band_rows);
            return Err(Error::new(ErrorKind::Invalid, message)
                .remedy("give 0 for none, or a positive number of pixels; a band has at least one row"));
        }
        Ok(Self {
            width,
            options,
            regions: Regions::default(),
            chains: Chains::new(width),
            arcs: Arcs::default(),
            row: 0,
            partial: (Vec::new(), Vec::new()),
            above: (vec![OUTSIDE; width], vec![NONE; width]),
            fresh: Vec::new(),
            line: (Vec::new(), Vec::new()),
            waiting: Vec::new(),
            backgrounds: 0,
            out: VecDeque::new(),
        })
    }

    /// Takes the next classes and their confidence, row by row; they may come in any portions, of rows or of pixels. Take
    /// what [`Tracer::closed`] has after each.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the two are not of one length; [`ErrorKind::Limit`] beyond 2^31 rows.
    pub fn rows(&mut self, classes: &[u8], confidence: &[u8]) -> Result<()> {
        if classes.len() != confidence.len() {
            let message = format!("{} classes and {} values of confidence", classes.len(), confidence.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (mut classes, mut confidence) = (classes, confidence);
        if !self.partial.0.is_empty() {
            let missing = (self.width - self.partial.0.len()).min(classes.len());
            self.partial.0.extend_from_slice(&classes[..missing]);
            self.partial.1.extend_from_slice(&confidence[..missing]);
            (classes, confidence) = (&classes[missing..], &confidence[missing..]);
            if self.partial.0.len() == self.width {
                let (row, sure) = std::mem::take(&mut self.partial);
                self.one(&row, &sure)?;
            }
        }
        let rows = classes.chunks_exact(self.width);
        self.partial.0.extend_from_slice(rows.remainder());
        self.partial.1.extend_from_slice(confidence.chunks_exact(self.width).remainder());
        for (row, sure) in rows.zip(confidence.chunks_exact(self.width)) {
            self.one(row, sure)?;
        }
        Ok(())
    }

    /// The polygons that have become complete since the last call.
    pub fn closed(&mut self) -> impl Iterator<Item = Traced> + '_ {
        self.out.drain(..)
    }

    /// Ends the mask; gives the polygons that were still open.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the last row is not complete.
    pub fn finish(mut self) -> Result<Vec<Traced>> {
        if !self.partial.0.is_empty() {
            let message = format!("the last row has {} of {} pixels", self.partial.0.len(), self.width);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.line_of(&vec![OUTSIDE; self.width], vec![NONE; self.width]);
        self.band();
        Ok(self.out.into())
    }

    fn one(&mut self, row: &[u8], confidence: &[u8]) -> Result<()> {
        if self.row >= i32::MAX as u32 {
            return Err(Error::new(ErrorKind::Limit, "a mask cannot have more than 2^31 rows"));
        }
        let labels = self.label(row, confidence);
        let classes: Vec<u16> = row.iter().map(|&c| u16::from(c)).collect();
        self.line_of(&classes, labels);
        Ok(())
    }

    /// The regions of a row's pixels, which join those above.
    fn label(&mut self, row: &[u8], confidence: &[u8]) -> Vec<u32> {
        let mut labels = vec![NONE; self.width];
        let mut unnoted = Vec::new();
        let mut x = 0;
        while x < self.width {
            let class = row[x];
            let end = x + row[x..].iter().take_while(|&&c| c == class).count();
            let asked = has_polygon(u16::from(class)) || (class == 0 && self.options.fill_pixels > 0);
            if asked {
                let mut label = NONE;
                let mut last = NONE;
                for (&above, &other) in self.above.0[x..end].iter().zip(&self.above.1[x..end]) {
                    if above == u16::from(class) && other != last {
                        label = if label == NONE { other } else { self.regions.unite(label, other, &mut unnoted) };
                        last = other;
                    }
                }
                let label = if label == NONE { self.regions.begin(class, self.row) } else { self.regions.find(label) };
                if let Some(region) = self.regions.get(label) {
                    region.pixels += (end - x) as u64;
                    region.confidence += confidence[x..end].iter().map(|&c| u64::from(c)).sum::<u64>();
                    region.last_row = self.row;
                    if class == 0 && region.pixels > self.options.fill_pixels && !region.unnoted {
                        region.unnoted = true;
                        unnoted.append(&mut region.arcs);
                    }
                }
                labels[x..end].fill(label);
            }
            x = end;
        }
        for arc in unnoted {
            self.arcs.release(arc / 2);
        }
        // Runs may have been joined after they were numbered.
        let mut known = (NONE, NONE);
        for label in labels.iter_mut().filter(|l| **l != NONE) {
            if known.0 != *label {
                known = (*label, self.regions.find(*label));
            }
            *label = known.1;
        }
        labels
    }

    /// Follows the borders along the line above a row, and closes the regions that do not reach it.
    fn line_of(&mut self, classes: &[u16], labels: Vec<u32>) {
        let (above, above_labels) = std::mem::take(&mut self.above);
        let mut west = (OUTSIDE, OUTSIDE, NONE, NONE);
        for x in 0..=self.width {
            let east = match (above.get(x), classes.get(x)) {
                (Some(&north), Some(&south)) => (north, south, above_labels[x], labels[x]),
                _ => (OUTSIDE, OUTSIDE, NONE, NONE),
            };
            if (west.0, west.1) != (east.0, east.1) || east.0 != east.1 {
                self.corner(x as u32, west, east);
            }
            west = east;
        }
        self.regions.collect();
        self.close_regions(&above_labels);
        let row = self.row as usize;
        self.row += 1;
        self.above = (classes.to_vec(), labels);
        if row > 0 && row.is_multiple_of(self.options.band_rows) {
            self.band();
        }
    }

    /// One corner on the line above the row in hand: north and south of it to the west and to the east, class and region.
    fn corner(&mut self, x: u32, west: (u16, u16, u32, u32), east: (u16, u16, u32, u32)) {
        let here = (x, self.row);
        let (nw, sw, nw_region, sw_region) = west;
        let (ne, se, ne_region, se_region) = east;
        let [n, e, s, w] = [nw != ne, ne != se, se != sw, sw != nw];
        let borders = [n, e, s, w].iter().filter(|b| **b).count();
        let frame_corner = [nw, ne, se, sw].iter().filter(|&&c| c == OUTSIDE).count() == 3;
        let node = borders != 2 || frame_corner;
        // Between two bands.
        let pinned = self.options.tolerance > 0.0
            && self.row > 0
            && (self.row as usize).is_multiple_of(self.options.band_rows)
            && (n || s);
        let north = std::mem::replace(&mut self.chains.columns[x as usize], NONE);
        let left = std::mem::replace(&mut self.chains.carried, NONE);
        let stored = |a: u16, b: u16| has_polygon(a) || has_polygon(b);
        if node || pinned {
            for end in [north, left].into_iter().filter(|end| *end != NONE) {
                let finished = self.chains.close(end, here, node);
                self.finished(finished);
            }
            if e && stored(ne, se) {
                self.hold([ne_region, se_region]);
                self.chains.begin(here, CARRIED, [ne_region, se_region], node);
            }
            if s && stored(se, sw) {
                self.hold([se_region, sw_region]);
                self.chains.begin(here, x, [se_region, sw_region], node);
            }
            return;
        }
        match (n, e, s, w) {
            (true, false, true, false) => self.chains.columns[x as usize] = north,
            (false, true, false, true) => self.chains.carried = left,
            (true, true, false, false) if north != NONE => self.chains.turn(north, here, CARRIED),
            (false, false, true, true) if left != NONE => self.chains.turn(left, here, x),
            (true, false, false, true) if north != NONE && left != NONE => {
                let (finished, sides) = self.chains.join(north, left, here);
                sides.into_iter().for_each(|side| self.regions.release(side));
                self.finished(finished);
            }
            (false, true, true, false) if stored(se, nw) => {
                self.hold([nw_region, se_region]);
                self.chains.begin_both(here, x, [nw_region, se_region]);
            }
            _ => {}
        }
    }

    fn hold(&mut self, sides: [u32; 2]) {
        sides.into_iter().for_each(|side| self.regions.hold(side));
    }

    /// Notes a complete border with the regions on its sides.
    fn finished(&mut self, finished: Option<Finished>) {
        let Some(finished) = finished else { return };
        let sides = finished.sides;
        let mut noting = [false; 2];
        for (noting, side) in noting.iter_mut().zip(sides).filter(|(_, side)| *side != NONE) {
            *noting = self.regions.get(side).is_some_and(|region| !region.unnoted);
        }
        let users = noting.iter().filter(|n| **n).count() as u8;
        let number = self.arcs.add(finished, users);
        for (i, side) in sides.into_iter().enumerate() {
            if let Some(region) = noting[i].then(|| self.regions.get(side)).flatten() {
                region.arcs.push(2 * number + u32::from(i == 0));
            }
            self.regions.release(side);
        }
        if self.options.tolerance > 0.0 {
            self.fresh.push(number);
        }
    }

    /// Closes the regions of the row above that have no pixel in the row in hand.
    fn close_regions(&mut self, above: &[u32]) {
        let mut last = NONE;
        for &label in above {
            if label == last || label == NONE {
                continue;
            }
            last = label;
            let root = self.regions.find(label);
            let open = self.regions.get(root).is_none_or(|region| region.last_row >= self.row);
            if open {
                continue;
            }
            let Some(region) = self.regions.end(root) else { continue };
            if region.class == 0 {
                self.close_background(&region);
            } else if self.options.tolerance > 0.0 {
                self.waiting.push(region);
            } else {
                self.polygon(&region);
            }
        }
    }

    fn close_background(&mut self, region: &Region) {
        self.backgrounds += 1;
        for &arc in &region.arcs {
            if let Some(found) = self.arcs.get(arc / 2) {
                // The background lies to the right of the arc, or to the left.
                found.background[usize::from(arc % 2 == 0)] = Some((region.pixels, self.backgrounds));
            }
            self.arcs.release(arc / 2);
        }
    }

    fn polygon(&mut self, region: &Region) {
        if region.pixels >= self.options.min_pixels {
            let mut rings = self.arcs.rings(&region.arcs, self.options.tolerance == 0.0).into_iter();
            let exterior = rings.next().map(|ring| ring.points).unwrap_or_default();
            let (holes, fillable) = rings.map(|ring| (ring.points, ring.fillable)).unzip();
            let confidence = region.confidence as f64 / (255.0 * region.pixels as f64);
            let (class, pixels) = (region.class, region.pixels);
            let polygon = Polygon { class, exterior, holes, pixels, confidence: Some(confidence as f32) };
            self.out.push_back(Traced { polygon, fillable });
        }
        for &arc in &region.arcs {
            self.arcs.release(arc / 2);
        }
    }

    /// Simplifies the borders that were completed in a band, and lets its polygons go.
    fn band(&mut self) {
        if self.options.tolerance == 0.0 {
            return;
        }
        let end = self.row - 1;
        let rows = self.options.band_rows as u32;
        let top = end.saturating_sub(1) / rows * rows;
        let mut fresh = std::mem::take(&mut self.fresh);
        let mut paths = Vec::with_capacity(fresh.len());
        fresh.retain(|&number| {
            let Some(arc) = self.arcs.get(number) else { return false };
            paths.push(arc.path.iter().map(|&(x, y)| (x, y - top)).collect());
            true
        });
        let (fixed, straight) = std::mem::take(&mut self.line);
        let size = (self.width, (end - top) as usize);
        let paths = simplify_arcs(paths, &fixed, &straight, size, self.options.tolerance);
        let last = end - top;
        for (number, mut path) in fresh.into_iter().zip(paths) {
            // In the next band the line is its row 0.
            self.line.0.extend(path.iter().filter(|c| c.1 == last).map(|&(x, _)| (x, 0)));
            if let [a, b] = path[..]
                && a.1 == last
                && b.1 == last
            {
                self.line.1.push(((a.0, 0), (b.0, 0)));
            }
            path.iter_mut().for_each(|corner| corner.1 += top);
            if let Some(arc) = self.arcs.get(number) {
                arc.path = path;
            }
        }
        for region in std::mem::take(&mut self.waiting) {
            self.polygon(&region);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_what_is_open() {
        let rng = &mut fastrand::Rng::with_seed(7);
        for tolerance in [0.0, 1.0] {
            let options = StreamOptions { tolerance, fill_pixels: 3, ..Default::default() };
            let mut tracer = Tracer::new(64, options).expect("valid");
            let (mut after, mut polygons) = ([0; 2], 0);
            for row in 0..20_000 {
                // A background that never ends, with specks of one to a few pixels.
                let classes: Vec<u8> =
                    (0..64).map(|x| if x > 0 && rng.u8(0..10) < 3 { rng.u8(1..4) } else { 0 }).collect();
                tracer.rows(&classes, &[9; 64]).expect("a row");
                polygons += tracer.closed().count();
                let slots = tracer.regions.slots() + tracer.chains.slots() + tracer.arcs.slots();
                after[usize::from(row >= 2000)] = slots;
            }
            println!("{polygons} polygons, {after:?} slots");
            assert!(polygons > 100_000 && after[1] < after[0] + after[0] / 2, "{after:?}");
        }
    }

    #[test]
    fn bad_arguments_and_unfinished_rows() {
        for (width, tolerance) in [(0, 0.0), (usize::MAX, 0.0), (3, -1.0), (3, f64::NAN)] {
            assert!(Tracer::new(width, StreamOptions { tolerance, ..Default::default() }).is_err());
        }
        let mut tracer = Tracer::new(3, StreamOptions::default()).expect("valid");
        assert!(tracer.rows(&[1, 2], &[1]).is_err());
        tracer.rows(&[1, 2], &[1, 2]).expect("a part");
        assert!(tracer.finish().expect_err("cut off").to_string().contains("2 of 3"));
        assert_eq!(Tracer::new(3, StreamOptions::default()).expect("valid").finish().expect("empty"), []);
    }
}
