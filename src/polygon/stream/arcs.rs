//! Complete borders, each held once for the regions on its two sides, and the rings that they make.

use std::collections::HashMap;

use super::super::simplify::Corner;
use super::chains::Finished;

/// One border between two regions.
#[derive(Debug)]
pub(super) struct Arc {
    /// Corners from one end to the other, where it turns; simplified once its band is.
    pub path: Vec<Corner>,
    /// Directions in which it begins and ends: 0 east, 1 south, 2 west, 3 north.
    headings: [u8; 2],
    /// Whether its ends are nodes.
    nodes: [bool; 2],
    /// Its part of twice the area of a ring that it belongs to, before simplification.
    twice_area: i128,
    /// Sides that still need it.
    users: u8,
    /// The background on its left and on its right, once it is complete: its number of pixels, and what tells it from others.
    pub background: [Option<(u64, u64)>; 2],
}

/// Borders by number; numbers of those that nobody needs are used again.
#[derive(Debug, Default)]
pub(super) struct Arcs {
    arcs: Vec<Option<Arc>>,
    free: Vec<u32>,
}

/// A ring: arcs one after another, each with whether it runs backwards.
type Loop = Vec<(u32, bool)>;

/// A ring of a region.
pub(super) struct RegionRing {
    pub points: Vec<[f64; 2]>,
    pub exterior: bool,
    /// Whether it is a hole that holds one background and nothing else.
    pub fillable: bool,
}

fn heading(a: Corner, b: Corner) -> u8 {
    if b.0 > a.0 {
        0
    } else if b.1 > a.1 {
        1
    } else if b.0 < a.0 {
        2
    } else {
        3
    }
}

impl Arcs {
    pub fn add(&mut self, finished: Finished, users: u8) -> u32 {
        let path = finished.path;
        let last = path.len() - 1;
        let cross = |w: &[Corner]| i128::from(w[0].0) * i128::from(w[1].1) - i128::from(w[1].0) * i128::from(w[0].1);
        let arc = Arc {
            headings: [heading(path[0], path[1]), heading(path[last - 1], path[last])],
            twice_area: path.windows(2).map(cross).sum(),
            path,
            nodes: finished.nodes,
            users,
            background: [None; 2],
        };
        match self.free.pop() {
            Some(number) => {
                self.arcs[number as usize] = Some(arc);
                number
            }
            None => {
                self.arcs.push(Some(arc));
                self.arcs.len() as u32 - 1
            }
        }
    }

    pub fn get(&mut self, number: u32) -> Option<&mut Arc> {
        self.arcs[number as usize].as_mut()
    }

    /// One side needs an arc no longer.
    pub fn release(&mut self, number: u32) {
        if let Some(arc) = &mut self.arcs[number as usize] {
            arc.users -= 1;
            if arc.users == 0 {
                self.arcs[number as usize] = None;
                self.free.push(number);
            }
        }
    }

    /// Arcs in memory: bounded by what was open at once.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.arcs.len()
    }

    fn arc(&self, number: u32) -> &Arc {
        // Regions release what they name only once their rings are made.
        self.arcs[number as usize].as_ref().unwrap_or(&NOTHING)
    }

    fn ends(&self, (number, reversed): (u32, bool)) -> (Corner, Corner) {
        let path = &self.arc(number).path;
        let end = |corner: Option<&Corner>| corner.copied().unwrap_or_default();
        let (first, last) = (end(path.first()), end(path.last()));
        if reversed { (last, first) } else { (first, last) }
    }

    /// The directions in which an arc begins and ends.
    fn directions(&self, (number, reversed): (u32, bool)) -> [u8; 2] {
        let [first, last] = self.arc(number).headings;
        if reversed { [(last + 2) % 4, (first + 2) % 4] } else { [first, last] }
    }

    /// The rings of a region whose arcs these are (twice the number, plus 1 where the region lies to the left): the exterior
    /// first. With `corners_only`, points where a ring does not turn are left out, else but those between two parts of one
    /// border.
    pub fn rings(&self, arcs: &[u32], corners_only: bool) -> Vec<RegionRing> {
        let arcs: Loop = arcs.iter().map(|&a| (a / 2, a % 2 == 1)).collect();
        let mut rings: Vec<RegionRing> = Vec::new();
        for whole in self.loops(&arcs) {
            for part in self.split_at_pinches(whole) {
                let ring = self.ring(&part, corners_only);
                if ring.exterior { rings.insert(0, ring) } else { rings.push(ring) }
            }
        }
        rings
    }

    /// Joins arcs to rings: with the region on the right, the sharpest turn to the right, as diagonal neighbours are not
    /// connected.
    fn loops(&self, arcs: &[(u32, bool)]) -> Vec<Loop> {
        let mut starting: HashMap<Corner, [usize; 2]> = HashMap::with_capacity(arcs.len());
        for (i, &arc) in arcs.iter().enumerate() {
            let places = starting.entry(self.ends(arc).0).or_insert([usize::MAX; 2]);
            if places[0] == usize::MAX { places[0] = i } else { places[1] = i }
        }
        let next = |i: usize| {
            let [a, b] = *starting.get(&self.ends(arcs[i]).1)?;
            let right = (self.directions(arcs[i])[1] + 1) % 4;
            let b_is_right = b != usize::MAX && self.directions(arcs[b])[0] == right;
            Some(if b_is_right { b } else { a })
        };
        let mut used = vec![false; arcs.len()];
        let mut loops = Vec::new();
        for first in 0..arcs.len() {
            let mut whole = Loop::new();
            let mut at = Some(first);
            while let Some(i) = at.filter(|&i| !used[i]) {
                used[i] = true;
                whole.push(arcs[i]);
                at = next(i);
            }
            if !whole.is_empty() {
                loops.push(whole);
            }
        }
        loops
    }

    /// Cuts a ring that passes a corner twice into rings that do not: of an exterior, one is the exterior and the others are
    /// holes, as nothing of a connected region lies beyond such a corner.
    fn split_at_pinches(&self, whole: Loop) -> Vec<Loop> {
        let mut parts = Vec::new();
        let mut path = Loop::new();
        let mut place: HashMap<Corner, usize> = HashMap::new();
        for arc in whole {
            let start = self.ends(arc).0;
            if let Some(&first) = place.get(&start) {
                let cut = path.split_off(first);
                for &arc in &cut {
                    place.remove(&self.ends(arc).0);
                }
                parts.push(cut);
            }
            place.insert(start, path.len());
            path.push(arc);
        }
        parts.push(path);
        parts
    }

    fn ring(&self, part: &[(u32, bool)], corners_only: bool) -> RegionRing {
        let mut corners: Vec<(Corner, bool)> = Vec::new();
        let mut twice_area = 0;
        let mut backgrounds: Vec<(u64, u64)> = Vec::new();
        let mut all_background = true;
        for &(number, reversed) in part {
            let arc = self.arc(number);
            twice_area += if reversed { -arc.twice_area } else { arc.twice_area };
            // The region is on one side, what we ask for on the other.
            match arc.background[usize::from(reversed)] {
                Some(found) if !backgrounds.contains(&found) => backgrounds.push(found),
                Some(_) => {}
                None => all_background = false,
            }
            let last = arc.path.len().saturating_sub(1);
            let node = |i: usize| (i == 0 && arc.nodes[0]) || (i == last && arc.nodes[1]);
            // The last corner is the next arc's first.
            if reversed {
                corners.extend((1..=last).rev().map(|i| (arc.path[i], node(i))));
            } else {
                corners.extend((0..last).map(|i| (arc.path[i], node(i))));
            }
        }
        let exterior = twice_area > 0;
        let held: u64 = backgrounds.iter().map(|b| b.0).sum();
        let fillable = !exterior && all_background && i128::from(held) * 2 == -twice_area;
        RegionRing { points: closed(&without_straight(corners, corners_only)), exterior, fillable }
    }
}

/// A ring without the corners at which it does not turn: all of them, or those that are no nodes.
fn without_straight(corners: Vec<(Corner, bool)>, nodes_too: bool) -> Vec<Corner> {
    let n = corners.len();
    let whole = |i: usize| (i64::from(corners[i % n].0.0), i64::from(corners[i % n].0.1));
    let turns = |i: usize| {
        let ((ax, ay), (bx, by), (cx, cy)) = (whole(i + n - 1), whole(i), whole(i + 1));
        (bx - ax) * (cy - by) != (by - ay) * (cx - bx)
    };
    (0..n).filter(|&i| (corners[i].1 && !nodes_too) || turns(i)).map(|i| corners[i].0).collect()
}

fn closed(ring: &[Corner]) -> Vec<[f64; 2]> {
    let points = ring.iter().chain(ring.first());
    points.map(|&(x, y)| [f64::from(x), f64::from(y)]).collect()
}

static NOTHING: Arc =
    Arc { path: Vec::new(), headings: [0; 2], nodes: [false; 2], twice_area: 0, users: 0, background: [None; 2] };
