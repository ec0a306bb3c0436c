//! Polygons cut at the antimeridian, as RFC 7946 (3.1.9) wants them.
//!
//! The map of all longitudes and latitudes is a rectangle, -180 to 180 by -90 to 90. Rings that leave it at one side come
//! back at the other; what is left of them inside are chains from side to side, with the polygon's interior on their
//! left. Each chain goes on along the rectangle's frame, counter-clockwise, to where the next one begins: the upper and
//! lower edges are the poles, so that a ring around a pole closes over it.

use super::rings::Ring;
use crate::polygon::shoelace;

type Point = [f64; 2];

/// What rounding may add to 180 degrees.
const SLACK: f64 = 1e-9;

/// Whether rings leave the map: those that do not are written as they are.
pub(super) fn is_needed(rings: &[Ring]) -> bool {
    let outside = |p: &Point| p[0] < -180.0 - SLACK || p[0] > 180.0 + SLACK;
    rings.iter().any(|ring| turns(ring) != 0.0 || ring.points.iter().any(outside))
}

/// The polygons that the antimeridian makes of one: exterior and holes each, closed and turned as RFC 7946 wants.
/// Longitudes of `rings` go on across 180 degrees.
pub(super) fn at_antimeridian(rings: Vec<Ring>) -> Vec<Vec<Vec<Point>>> {
    let (mut loops, mut chains) = (Vec::new(), Vec::new());
    for (i, mut ring) in rings.into_iter().enumerate() {
        orient(&mut ring, i == 0);
        match split(&ring.points) {
            Split::Loop(points) => loops.push((i == 0, points)),
            Split::Chains(found) => chains.extend(found),
        }
    }
    let mut parts: Vec<Vec<Vec<Point>>> = join(chains).into_iter().map(|ring| vec![ring]).collect();
    let (exteriors, holes): (Vec<_>, Vec<_>) = loops.into_iter().partition(|(exterior, _)| *exterior);
    parts.extend(exteriors.into_iter().map(|(_, points)| vec![points]));
    for (_, hole) in holes {
        // A hole may touch its exterior in a point: most of its corners decide.
        let inside = |part: &Vec<Vec<Point>>| hole.iter().filter(|p| contains(&part[0], **p)).count();
        if let Some(part) = parts.iter_mut().max_by_key(|part| inside(part)) {
            part.push(hole);
        }
    }
    parts
}

/// Full turns around the earth's axis, to the east.
fn turns(ring: &Ring) -> f64 {
    match (ring.points.first(), ring.points.last()) {
        (Some(first), Some(last)) => ((last[0] - first[0]) / 360.0).round(),
        _ => 0.0,
    }
}

/// Turns a ring so that the polygon lies to its left.
fn orient(ring: &mut Ring, exterior: bool) {
    let turns = turns(ring);
    let inner_left = if turns == 0.0 {
        shoelace(&ring.points) > 0.0
    } else {
        // Eastwards around the north pole, or westwards around the south pole, the pole lies to the left.
        let north = ring.points.iter().map(|p| p[1]).sum::<f64>() > 0.0;
        (turns > 0.0) == north
    };
    if inner_left != exterior {
        ring.points.reverse();
    }
}

enum Split {
    /// The ring crosses no side of the map.
    Loop(Vec<Point>),
    /// From side to side.
    Chains(Vec<Vec<Point>>),
}

/// A closed ring on the map from -180 to 180.
fn split(ring: &[Point]) -> Split {
    // How many turns east of the map; a place at the antimeridian itself lies to the east of it.
    let sheet = |p: &Point| ((p[0] + 180.0 + SLACK) / 360.0).floor();
    let on_map = |p: &Point, sheet: f64| [(p[0] - 360.0 * sheet).max(-180.0), p[1]];
    let mut chains: Vec<Vec<Point>> = vec![Vec::new()];
    for edge in ring.windows(2) {
        let (a, b) = (edge[0], edge[1]);
        let (mut at, to) = (sheet(&a), sheet(&b));
        if let Some(chain) = chains.last_mut() {
            chain.push(on_map(&a, at));
        }
        while at != to {
            let east = to > at;
            let line = 360.0 * (if east { at + 1.0 } else { at }) - 180.0;
            let share = ((line - a[0]) / (b[0] - a[0])).clamp(0.0, 1.0);
            let lat = a[1] + share * (b[1] - a[1]);
            let side = if east { 180.0 } else { -180.0 };
            if let Some(chain) = chains.last_mut() {
                chain.push([side, lat]);
            }
            chains.push(vec![[-side, lat]]);
            at += if east { 1.0 } else { -1.0 };
        }
    }
    // The last chain ends where the first one begins.
    let Some(mut first) = chains.pop() else { return Split::Chains(chains) };
    if chains.is_empty() {
        let start = first.first().copied();
        first.extend(start);
        return Split::Loop(first);
    }
    first.append(&mut chains[0]);
    chains[0] = first;
    // What only runs along a side is the side's.
    chains.retain(|chain| chain.iter().any(|p| p[0].abs() < 180.0 - SLACK) || crosses(chain));
    for chain in &mut chains {
        chain.dedup();
    }
    Split::Chains(chains)
}

fn crosses(chain: &[Point]) -> bool {
    match (chain.first(), chain.last()) {
        (Some(first), Some(last)) => (first[0] - last[0]).abs() > 180.0,
        _ => false,
    }
}

/// Where a point lies on the map's frame: from the lower right corner counter-clockwise, 0 to 4.
fn on_frame(p: Point) -> f64 {
    if p[0] > 0.0 { (p[1] + 90.0) / 180.0 } else { 2.0 + (90.0 - p[1]) / 180.0 }
}

/// Closed rings of chains and parts of the frame.
fn join(mut chains: Vec<Vec<Point>>) -> Vec<Vec<Point>> {
    const CORNERS: [(f64, Point); 4] =
        [(1.0, [180.0, 90.0]), (2.0, [-180.0, 90.0]), (3.0, [-180.0, -90.0]), (4.0, [180.0, -90.0])];
    let mut rings = Vec::new();
    while let Some(mut ring) = chains.pop() {
        let Some(&start) = ring.first() else { continue };
        while let Some(&end) = ring.last() {
            let from = on_frame(end);
            // Along the frame, at most once around.
            let along = |p: Point| (on_frame(p) - from + SLACK).rem_euclid(4.0);
            let next = (0..chains.len()).min_by(|&i, &j| along(chains[i][0]).total_cmp(&along(chains[j][0])));
            let next = next.filter(|&i| along(chains[i][0]) < along(start));
            let length = along(next.map_or(start, |i| chains[i][0]));
            for turn in [0.0, 4.0] {
                let between = CORNERS.iter().filter(|(s, _)| (from + SLACK..from + length).contains(&(s + turn)));
                ring.extend(between.map(|(_, corner)| *corner));
            }
            match next {
                Some(i) => ring.append(&mut chains.swap_remove(i)),
                None => break,
            }
        }
        ring.push(start);
        ring.dedup();
        if ring.len() > 3 {
            rings.push(ring);
        }
    }
    rings
}

/// Whether a place lies inside a closed ring (even-odd).
fn contains(ring: &[Point], [x, y]: Point) -> bool {
    let crossed = ring.windows(2).filter(|e| {
        let ([ax, ay], [bx, by]) = (e[0], e[1]);
        (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
    });
    crossed.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(points: &[Point]) -> Ring {
        Ring { points: points.to_vec() }
    }

    fn area(part: &[Vec<Point>]) -> f64 {
        part.iter().map(|ring| shoelace(ring)).sum()
    }

    #[test]
    fn a_box_across_180() {
        let outer = [[170.0, 0.0], [190.0, 0.0], [190.0, 10.0], [170.0, 10.0], [170.0, 0.0]];
        // A hole on each side and one across.
        let hole = |x: f64| ring(&[[x, 4.0], [x, 5.0], [x + 2.0, 5.0], [x + 2.0, 4.0], [x, 4.0]]);
        for shift in [0.0, -360.0, 720.0] {
            let moved = ring(&outer.map(|[x, y]| [x + shift, y]));
            let rings = vec![moved, hole(172.0), hole(-175.0 + shift), hole(179.0 - 360.0)];
            assert!(is_needed(&rings));
            let parts = at_antimeridian(rings);
            assert_eq!(parts.len(), 2, "{parts:?}");
            for part in &parts {
                assert_eq!(part.len(), 2, "{parts:?}");
                assert!((area(part) - (100.0 - 2.0 - 1.0)).abs() < 1e-9, "{part:?}");
                assert!(part.iter().flatten().all(|p| p[0].abs() <= 180.0));
            }
        }
    }

    #[test]
    fn rings_that_touch_180_stay_whole() {
        let west = ring(&[[170.0, 0.0], [180.0, 0.0], [180.0, 10.0], [170.0, 10.0], [170.0, 0.0]]);
        assert!(!is_needed(std::slice::from_ref(&west)));
        // Beyond the map, and with one side on its edge.
        let east = ring(&[[180.0, 0.0], [190.0, 0.0], [190.0, 10.0], [180.0, 10.0], [180.0, 0.0]]);
        let parts = at_antimeridian(vec![east]);
        assert_eq!(parts.len(), 1);
        assert_eq!(area(&parts[0]), 100.0);
        assert!(parts[0][0].iter().all(|p| (-180.0..=-170.0).contains(&p[0])), "{parts:?}");
    }

    #[test]
    fn rings_around_a_pole_close_over_it() {
        let parallel = |lat: f64, start: f64, step: f64| {
            ring(&(0..=36).map(|i| [start + step * f64::from(i), lat]).collect::<Vec<_>>())
        };
        for (lat, step) in [(80.0, 10.0), (80.0, -10.0), (-80.0, 10.0), (-80.0, -10.0)] {
            let parts = at_antimeridian(vec![parallel(lat, 3.0, step)]);
            assert_eq!(parts.len(), 1, "{parts:?}");
            assert!((area(&parts[0]) - 3600.0).abs() < 1e-6, "{lat} {step}: {parts:?}");
            // With a hole around the pole it is a belt, with another one beside it a belt with a hole.
            let beside = ring(&[
                [20.0, lat * 1.01],
                [21.0, lat * 1.01],
                [21.0, lat * 1.02],
                [20.0, lat * 1.02],
                [20.0, lat * 1.01],
            ]);
            let parts = at_antimeridian(vec![parallel(lat, 3.0, step), parallel(lat * 1.05, -50.0, step), beside]);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2], "{parts:?}");
            assert!((area(&parts[0]) - 360.0 * 4.0 + 0.8).abs() < 1e-6, "{parts:?}");
        }
    }
}
