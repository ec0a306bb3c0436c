//! Simplification that keeps the map whole: rings are cut at their nodes into arcs, each arc is simplified once, and
//! both of its neighbours use the result.
//!
//! Douglas-Peucker says which vertices an arc could lose. They are then dropped one by one, and only if the triangle
//! they span with their neighbours holds no other vertex of any arc. Borders do not cross at the start, and a border can
//! enter such a triangle neither through its two sides that are borders nor, without a vertex inside, through the third;
//! so they never cross. (The same condition as in Visvalingam-Whyatt with topology checks.)

use std::collections::{HashMap, HashSet};

use super::{Bits, Ring, Vertex};

/// A pixel corner: column, row.
pub(super) type Corner = (u32, u32);

/// Simplifies arcs (from node to node, or closed: then the first vertex is also the last) that are all there is of a
/// map of `width` x `height` pixels, but for `fixed` corners, which nothing may be dropped over, and `straight` borders
/// between two corners, which no arc may fall upon.
pub(super) fn simplify_arcs(
    paths: Vec<Vec<Corner>>,
    fixed: &[Corner],
    straight: &[(Corner, Corner)],
    (width, height): (usize, usize),
    tolerance: f64,
) -> Vec<Vec<Corner>> {
    let mut arcs: Vec<Arc> = paths.into_iter().map(|path| Arc::new(path, tolerance)).collect();
    let mut dropper = Dropper::new(&arcs, width, height);
    for &corner in fixed {
        dropper.vertices.set(dropper.at(corner), true);
    }
    dropper.straight.extend(straight.iter().map(|&(a, b)| (a.min(b), a.max(b))));
    dropper.run(&mut arcs);
    arcs.into_iter().map(|arc| arc.path).collect()
}

/// Part of a border: between two nodes, or a whole ring that has none (then its first vertex is also its last).
struct Arc {
    /// Vertices that are still there.
    path: Vec<Corner>,
    /// For each of them, whether Douglas-Peucker wants to drop it.
    drop: Vec<bool>,
    /// Vertices that must stay between the first and the last, so that the arc encloses something.
    least_inner: usize,
}

/// Simplifies rings, in order; the result is closed.
pub(super) fn simplify<'a>(
    rings: impl Iterator<Item = &'a Ring>,
    width: usize,
    height: usize,
    tolerance: f64,
) -> Vec<Vec<[f64; 2]>> {
    let mut arcs: Vec<Arc> = Vec::new();
    let mut known: HashMap<(Corner, Corner), usize> = HashMap::new();
    let mut plan: Vec<Vec<(usize, bool)>> = Vec::new();
    for ring in rings {
        let mut parts = Vec::new();
        for path in cut(ring) {
            let (path, reversed) = canonical(path);
            let arc = *known.entry((path[0], path[1])).or_insert_with(|| {
                arcs.push(Arc::new(path, tolerance));
                arcs.len() - 1
            });
            parts.push((arc, reversed));
        }
        plan.push(parts);
    }
    Dropper::new(&arcs, width, height).run(&mut arcs);
    plan.iter()
        .map(|parts| {
            let mut ring: Vec<[f64; 2]> = Vec::new();
            for &(arc, reversed) in parts {
                let point = |&(x, y): &Corner| [f64::from(x), f64::from(y)];
                let path = &arcs[arc].path;
                // An arc begins where the one before it ended.
                ring.pop();
                if reversed {
                    ring.extend(path.iter().rev().map(point));
                } else {
                    ring.extend(path.iter().map(point));
                }
            }
            ring
        })
        .collect()
}

/// Cuts a ring at its nodes; one closed path from its least corner if it has none.
fn cut(ring: &[Vertex]) -> Vec<Vec<Corner>> {
    let corner = |v: &Vertex| (v.x, v.y);
    let cyclic = |from: usize, to: usize| (from..=to).map(|i| corner(&ring[i % ring.len()])).collect::<Vec<_>>();
    let nodes: Vec<usize> = (0..ring.len()).filter(|&i| ring[i].node).collect();
    let Some(&first) = nodes.first() else {
        let least = (0..ring.len()).min_by_key(|&i| corner(&ring[i])).unwrap_or(0);
        return vec![cyclic(least, least + ring.len())];
    };
    let ends = nodes.iter().copied().skip(1).chain([first + ring.len()]);
    nodes.iter().zip(ends).map(|(&from, to)| cyclic(from, to)).collect()
}

/// Turns a path so that both neighbours of a border get the same; says whether it was reversed.
fn canonical(mut path: Vec<Corner>) -> (Vec<Corner>, bool) {
    let last = path.len() - 1;
    let reversed = (path[last], path[last - 1]) < (path[0], path[1]);
    if reversed {
        path.reverse();
    }
    (path, reversed)
}

impl Arc {
    fn new(path: Vec<Corner>, tolerance: f64) -> Self {
        let last = path.len() - 1;
        let mut drop = vec![true; path.len()];
        let closed = path[0] == path[last];
        drop[0] = false;
        drop[last] = false;
        if closed {
            let far = (1..last).max_by_key(|&i| distance_squared(path[0], path[i])).unwrap_or(0);
            drop[far] = false;
            douglas_peucker(&path, 0, far, tolerance, &mut drop);
            douglas_peucker(&path, far, last, tolerance, &mut drop);
        } else {
            douglas_peucker(&path, 0, last, tolerance, &mut drop);
        }
        Self { path, drop, least_inner: if closed { 2 } else { 0 } }
    }
}

fn distance_squared(a: Corner, b: Corner) -> u64 {
    u64::from(a.0.abs_diff(b.0)).pow(2) + u64::from(a.1.abs_diff(b.1)).pow(2)
}

/// Marks (`drop = false`) the vertices between `first` and `last` that lie further than `tolerance` from the result.
fn douglas_peucker(path: &[Corner], first: usize, last: usize, tolerance: f64, drop: &mut [bool]) {
    let mut open = vec![(first, last)];
    while let Some((first, last)) = open.pop() {
        let farthest = (first + 1..last)
            .map(|i| (i, distance_to_segment(path[i], path[first], path[last])))
            .fold((0, 0.0), |best: (usize, f64), next| if next.1 > best.1 { next } else { best });
        if farthest.1 > tolerance {
            drop[farthest.0] = false;
            open.extend([(first, farthest.0), (farthest.0, last)]);
        }
    }
}

fn distance_to_segment(p: Corner, a: Corner, b: Corner) -> f64 {
    let f = |c: Corner| (f64::from(c.0), f64::from(c.1));
    let ((px, py), (ax, ay), (bx, by)) = (f(p), f(a), f(b));
    let (dx, dy) = (bx - ax, by - ay);
    let length = dx * dx + dy * dy;
    let t = if length == 0.0 { 0.0 } else { (((px - ax) * dx + (py - ay) * dy) / length).clamp(0.0, 1.0) };
    (px - ax - t * dx).hypot(py - ay - t * dy)
}

/// Drops vertices while watching all others.
struct Dropper {
    /// Which corners are a vertex of some arc.
    vertices: Bits,
    columns: usize,
    /// End points of arcs that are a straight line: a second one between the same nodes would coincide with it.
    straight: HashSet<(Corner, Corner)>,
}

impl Dropper {
    fn new(arcs: &[Arc], width: usize, height: usize) -> Self {
        let mut new =
            Self { vertices: Bits::new((width + 1) * (height + 1)), columns: width + 1, straight: HashSet::new() };
        for arc in arcs {
            for &corner in &arc.path {
                new.vertices.set(new.at(corner), true);
            }
            if let [a, b] = arc.path[..] {
                new.straight.insert((a.min(b), a.max(b)));
            }
        }
        new
    }

    fn at(&self, (x, y): Corner) -> usize {
        y as usize * self.columns + x as usize
    }

    /// Passes over the arcs until nothing more can go. A pass drops at most every second vertex, which keeps the
    /// triangles thin and the number of passes logarithmic.
    fn run(&mut self, arcs: &mut [Arc]) {
        let mut busy: Vec<usize> = (0..arcs.len()).filter(|&i| arcs[i].drop.contains(&true)).collect();
        while !busy.is_empty() {
            busy.retain(|&i| self.pass(&mut arcs[i]));
        }
    }

    /// One pass over an arc; whether it dropped something.
    fn pass(&mut self, arc: &mut Arc) -> bool {
        let before = arc.path.len();
        let mut left = before;
        let mut kept: Vec<usize> = vec![0];
        let mut i = 1;
        while i + 1 < before {
            let (a, b, c) = (arc.path[kept[kept.len() - 1]], arc.path[i], arc.path[i + 1]);
            if arc.drop[i] && left - 2 > arc.least_inner && self.may_drop(a, b, c, left == 3) {
                self.vertices.set(self.at(b), false);
                left -= 1;
                if left == 2 {
                    self.straight.insert((a.min(c), a.max(c)));
                }
                kept.push(i + 1);
                i += 2;
            } else {
                kept.push(i);
                i += 1;
            }
        }
        if kept[kept.len() - 1] != before - 1 {
            kept.push(before - 1);
        }
        arc.path = kept.iter().map(|&i| arc.path[i]).collect();
        arc.drop = kept.iter().map(|&i| arc.drop[i]).collect();
        left < before
    }

    /// Whether no vertex but `a`, `b` and `c` lies in their triangle, and the new edge is not there already.
    fn may_drop(&self, a: Corner, b: Corner, c: Corner, becomes_straight: bool) -> bool {
        if a == c || (becomes_straight && self.straight.contains(&(a.min(c), a.max(c)))) {
            return false;
        }
        let (top, bottom) = (a.1.min(b.1).min(c.1), a.1.max(b.1).max(c.1));
        (top..=bottom).all(|y| {
            let (low, high) = columns_within([a, b, c], y);
            (low..=high).all(|x| {
                let corner = (x as u32, y);
                corner == a || corner == b || corner == c || !self.vertices.get(self.at(corner))
            })
        })
    }
}

/// The least and greatest whole x of a triangle at height `y`, edges included; `low > high` if there is none.
fn columns_within(triangle: [Corner; 3], y: u32) -> (i64, i64) {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    let y = i64::from(y);
    for i in 0..3 {
        let whole = |c: Corner| (i64::from(c.0), i64::from(c.1));
        let ((x1, y1), (x2, y2)) = (whole(triangle[i]), whole(triangle[(i + 1) % 3]));
        if y < y1.min(y2) || y > y1.max(y2) {
            continue;
        }
        if y1 == y2 {
            low = low.min(x1.min(x2));
            high = high.max(x1.max(x2));
        } else {
            // x1 + (y - y1) (x2 - x1) / (y2 - y1), rounded up and down.
            let (mut numerator, mut denominator) = ((y - y1) * (x2 - x1), y2 - y1);
            if denominator < 0 {
                (numerator, denominator) = (-numerator, -denominator);
            }
            let floor = numerator.div_euclid(denominator);
            let ceil = floor + i64::from(numerator.rem_euclid(denominator) != 0);
            low = low.min(x1 + ceil);
            high = high.max(x1 + floor);
        }
    }
    (low, high)
}
