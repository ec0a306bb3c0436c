//! Polygons of a class mask, exact along pixel edges, or simplified without tearing neighbours apart.
//!
//! Coordinates are pixel corners: x to the right, y down, pixel (0, 0) covers `[0, 1] x [0, 1]`. Each polygon is one
//! 4-connected region of one class; background (class 0) has none, nor have pixels without data. Rings are closed (last point = first). An exterior
//! runs clockwise as seen on the screen (its shoelace sum in these coordinates is positive), a hole the other way;
//! [`crate::geojson`] turns them to RFC 7946's right-hand rule.
//!
//! Rings never cross or touch themselves: where a region touches itself diagonally around a gap, the gap becomes a hole
//! that touches the exterior in one point, as the simple features standard wants it.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::mask::regions::Regions;
use crate::mask::{ClassMask, NO_DATA, check_plane};

mod simplify;
mod stream;
mod right_angles;

pub use right_angles::right_angles;
pub use stream::{BAND_ROWS, StreamOptions, Traced, Tracer};

/// One connected region of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    /// The class index, neither 0 nor [`NO_DATA`].
    pub class: u8,
    /// The outer ring, closed, `[x, y]`.
    pub exterior: Vec<[f64; 2]>,
    /// Rings of the holes, closed.
    pub holes: Vec<Vec<[f64; 2]>>,
    /// Pixels of the region: the exact area before simplification.
    pub pixels: u64,
    /// Mean confidence of those pixels, 0 to 1, if a confidence mask was given.
    pub confidence: Option<f32>,
}

/// What [`trace`] leaves out and smooths.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Regions of fewer pixels give no polygon (their place stays a hole of what surrounds them).
    pub min_pixels: u64,
    /// Simplification in pixels; 0 keeps every pixel edge, 1 makes straight lines of most stairs.
    ///
    /// Each border between two regions is simplified once (Douglas-Peucker) and used by both, so neighbours stay
    /// joined; borders keep their end points where three regions or the image's frame meet. A vertex stays if dropping
    /// it would make two borders touch or cross, or put one on another side of the other: no ring collapses, and all
    /// polygons stay valid. Dropped vertices lie within this distance of the simplified border, or within twice this
    /// distance next to vertices that had to stay.
    pub tolerance: f64,
}

impl Polygon {
    /// Area in square pixels: exterior less holes. Equals [`Polygon::pixels`] unless simplified.
    pub fn area(&self) -> f64 {
        shoelace(&self.exterior) + self.holes.iter().map(|hole| shoelace(hole)).sum::<f64>()
    }
}

/// Area that a closed ring encloses, positive if it runs clockwise with y pointing down.
pub(crate) fn shoelace(ring: &[[f64; 2]]) -> f64 {
    // Relative to the first point: map coordinates are large, and their products would lose the area's digits.
    let Some(&[x0, y0]) = ring.first() else { return 0.0 };
    ring.windows(2).map(|w| (w[0][0] - x0) * (w[1][1] - y0) - (w[1][0] - x0) * (w[0][1] - y0)).sum::<f64>() / 2.0
}

/// The polygons of a class mask with their mean confidence, in the order of their first pixel, row by row.
///
/// # Errors
/// As [`trace`].
pub fn trace_mask(mask: &ClassMask, options: Options) -> Result<Vec<Polygon>> {
    check_plane("confidence mask", mask.confidence.len(), mask.width, mask.height)?;
    trace_with(&mask.classes, Some(&mask.confidence), mask.width, mask.height, options)
}

/// The polygons of class indices `[height, width]`, in the order of their first pixel, row by row. Linear in time.
///
/// # Errors
/// [`ErrorKind::Invalid`] if `classes` is not `width * height` long, or the tolerance is negative or not finite.
pub fn trace(classes: &[u8], width: usize, height: usize, options: Options) -> Result<Vec<Polygon>> {
    trace_with(classes, None, width, height, options)
}

fn trace_with(
    classes: &[u8],
    confidence: Option<&[u8]>,
    width: usize,
    height: usize,
    options: Options,
) -> Result<Vec<Polygon>> {
    check_plane("class mask", classes.len(), width, height)?;
    if !(options.tolerance.is_finite() && options.tolerance >= 0.0) {
        return Err(Error::new(ErrorKind::Invalid, format!("a simplification of {} pixels", options.tolerance))
            .remedy("give 0 for none, or a positive number of pixels"));
    }
    let grid = Grid { classes, width, height };
    let regions = Regions::find(classes, width, height);
    let simplify = options.tolerance > 0.0;

    let mut outlines: Vec<Outline> = Vec::new();
    let mut outline_of_region: HashMap<usize, usize> = HashMap::new();
    let mut seen = Bits::new(width * height);
    for y in 0..height {
        for x in 0..width {
            let class = classes[y * width + x];
            if class == 0
                || class == NO_DATA
                || (y > 0 && classes[(y - 1) * width + x] == class)
                || seen.get(y * width + x)
            {
                continue;
            }
            let ring = grid.walk(x, y, class, simplify, &mut seen);
            let region = regions.region_at(x, y);
            let pixels = u64::from(regions.pixels()[region]);
            if pixels < options.min_pixels {
                continue;
            }
            let outline = *outline_of_region.entry(region).or_insert_with(|| {
                outlines.push(Outline { class, region, pixels, exterior: Ring::new(), holes: Vec::new() });
                outlines.len() - 1
            });
            for loop_ in split_at_pinches(ring) {
                if twice_area(&loop_) > 0 {
                    outlines[outline].exterior = loop_;
                } else {
                    outlines[outline].holes.push(loop_);
                }
            }
        }
    }

    let sums = confidence.map(|confidence| {
        let mut sums = vec![0u64; regions.pixels().len()];
        for (y, run) in regions.runs() {
            let row = y * width;
            sums[regions.region_of_run(run.index)] +=
                confidence[row + run.start..row + run.end].iter().map(|&c| u64::from(c)).sum::<u64>();
        }
        sums
    });
    let confidence = |o: &Outline| sums.as_ref().map(|sums| (sums[o.region] as f64 / (255.0 * o.pixels as f64)) as f32);

    let rings = outlines.iter().flat_map(|o| std::iter::once(&o.exterior).chain(&o.holes));
    let mut closed = if simplify {
        simplify::simplify(rings, width, height, options.tolerance).into_iter()
    } else {
        rings.map(|ring| close(ring.iter().map(|v| v.point()))).collect::<Vec<_>>().into_iter()
    };
    Ok(outlines
        .iter()
        .map(|o| Polygon {
            class: o.class,
            exterior: closed.next().unwrap_or_default(),
            holes: closed.by_ref().take(o.holes.len()).collect(),
            pixels: o.pixels,
            confidence: confidence(o),
        })
        .collect())
}

/// A region's rings while they are traced.
struct Outline {
    class: u8,
    region: usize,
    pixels: u64,
    exterior: Ring,
    holes: Vec<Ring>,
}

/// An open ring: the corner after the last is the first.
type Ring = Vec<Vertex>;

/// A pixel corner on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vertex {
    x: u32,
    y: u32,
    /// Where more than two borders meet, and the image's own corners: simplification leaves it in place.
    node: bool,
}

impl Vertex {
    fn point(&self) -> [f64; 2] {
        [f64::from(self.x), f64::from(self.y)]
    }
}

fn close(points: impl Iterator<Item = [f64; 2]>) -> Vec<[f64; 2]> {
    let mut ring: Vec<_> = points.collect();
    ring.extend(ring.first().copied());
    ring
}

fn twice_area(ring: &[Vertex]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| i64::from(a.x) * i64::from(b.y) - i64::from(b.x) * i64::from(a.y)).sum()
}

/// One flag per pixel or corner.
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn set(&mut self, at: usize, value: bool) {
        let bit = 1 << (at % 64);
        if value {
            self.0[at / 64] |= bit;
        } else {
            self.0[at / 64] &= !bit;
        }
    }
}

struct Grid<'a> {
    classes: &'a [u8],
    width: usize,
    height: usize,
}

/// A class that no pixel has: what lies beyond the frame.
const OUTSIDE: u16 = 256;

impl Grid<'_> {
    /// Classes of the four pixels around corner (x, y): north-west, north-east, south-east, south-west.
    fn around(&self, x: usize, y: usize) -> [u16; 4] {
        let at = |x: usize, y: usize| {
            // Left of column 0 wraps to a huge number, which lies outside as well.
            if x < self.width && y < self.height { u16::from(self.classes[y * self.width + x]) } else { OUTSIDE }
        };
        let (west, north) = (x.wrapping_sub(1), y.wrapping_sub(1));
        [at(west, north), at(x, north), at(x, y), at(west, y)]
    }

    /// Follows the border of `class` from the top edge of pixel (x, y), the region on the right-hand side, until it
    /// comes back; marks the top edges it passes. Keeps the corners where it turns, and nodes if `nodes`.
    fn walk(&self, x: usize, y: usize, class: u8, nodes: bool, seen: &mut Bits) -> Ring {
        let class = u16::from(class);
        let mut ring = Ring::new();
        let start = (x, y);
        let (mut x, mut y, mut heading) = (x, y, 0usize); // 0 east, 1 south, 2 west, 3 north
        loop {
            match heading {
                0 => {
                    seen.set(y * self.width + x, true);
                    x += 1;
                }
                1 => y += 1,
                2 => x -= 1,
                _ => y -= 1,
            }
            let around = self.around(x, y);
            let (left, right) = (around[(heading + 1) % 4], around[(heading + 2) % 4]);
            // The sharpest turn to the right first: diagonal neighbours are not connected.
            let turned = if right != class {
                heading = (heading + 1) % 4;
                true
            } else if left != class {
                false
            } else {
                heading = (heading + 3) % 4;
                true
            };
            let borders = (0..4).filter(|&i| around[i] != around[(i + 1) % 4]).count();
            let frame_corner = around.iter().filter(|&&c| c == OUTSIDE).count() == 3;
            let node = borders != 2 || frame_corner;
            if turned || (nodes && node) {
                ring.push(Vertex { x: x as u32, y: y as u32, node });
            }
            if (x, y) == start && heading == 0 {
                // The walk ends on the corner it began with.
                ring.rotate_right(1);
                return ring;
            }
        }
    }
}

/// Cuts a ring that passes a corner more than once into loops that do not. Of the loops of an exterior one is the
/// exterior and the others are holes: the region is 4-connected, so nothing of it lies beyond such a corner.
fn split_at_pinches(ring: Ring) -> Vec<Ring> {
    let mut loops = Vec::new();
    let mut path = Ring::with_capacity(ring.len());
    let mut place: HashMap<(u32, u32), usize> = HashMap::new();
    for vertex in ring {
        // Only where four borders meet can a ring pass twice.
        if vertex.node {
            if let Some(&first) = place.get(&(vertex.x, vertex.y)) {
                let cut = path.split_off(first);
                for v in cut.iter().filter(|v| v.node) {
                    place.remove(&(v.x, v.y));
                }
                loops.push(cut);
            }
            place.insert((vertex.x, vertex.y), path.len());
        }
        path.push(vertex);
    }
    loops.push(path);
    loops
}
