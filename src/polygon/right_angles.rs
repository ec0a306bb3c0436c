//! Outlines with right angles, for buildings: every side along one of two directions.
//!
//! The direction is that of the longest sides together. Sides that run the same way become one, at their mean place. Where the
//! outline would change its area by more than a given share, or no longer be valid, it stays as it was.

use super::{Polygon, shoelace};

/// Corners beyond which an outline is left as it is: checking it takes the square of their number.
const MAX_CORNERS: usize = 2000;
/// How far, in pixels, corners may lie from a straight side: the stairs that pixels make of slanted walls.
const STAIRS: f64 = 1.5;
/// Sides shorter than this, in pixels, are what is left of stairs, and no walls.
const SHORTEST: f64 = 3.0;

type Point = [f64; 2];

/// The polygon with right angles; `None` if its area would change by more than `max_change` (a share of it), or an outline has
/// too many corners, would cross itself or another, or vanish. Angles are right in pixels: on the ground, too, where pixels are square.
///
/// Neighbours keep their own outlines, so that borders are shared no longer.
pub fn right_angles(polygon: &Polygon, max_change: f64) -> Option<Polygon> {
    let rings: Vec<Vec<Point>> =
        std::iter::once(&polygon.exterior).chain(&polygon.holes).map(|ring| straightened(ring)).collect();
    if rings.iter().map(Vec::len).sum::<usize>() > MAX_CORNERS {
        return None;
    }
    let angle = direction(&rings[0])?;
    let turned = rings.iter().map(|ring| squared(ring, angle)).collect::<Option<Vec<_>>>()?;
    let same_way = turned.iter().zip(&rings).all(|(new, old)| (shoelace(new) > 0.0) == (shoelace(old) > 0.0));
    if !same_way || !is_simple(&turned) {
        return None;
    }
    let mut turned = turned.into_iter();
    let exterior = turned.next()?;
    let new = Polygon { exterior, holes: turned.collect(), ..polygon.clone() };
    // Holes may not leave the outline: they cross nothing, so one corner tells.
    let inside = new.holes.iter().all(|hole| contains(&new.exterior, hole[0]));
    let change = (new.area() / polygon.area() - 1.0).abs();
    (inside && change <= max_change).then_some(new)
}

/// A closed ring without the stairs of pixels (Douglas-Peucker from its two points furthest apart).
fn straightened(ring: &[Point]) -> Vec<Point> {
    let open = &ring[..ring.len().saturating_sub(1)];
    if open.len() < 5 {
        return ring.to_vec();
    }
    let far = |from: Point| {
        let distance = |p: &Point| (p[0] - from[0]).hypot(p[1] - from[1]);
        (0..open.len()).max_by(|&a, &b| distance(&open[a]).total_cmp(&distance(&open[b]))).unwrap_or(0)
    };
    let first = far(open[0]);
    let mut path: Vec<Point> = open[first..].iter().chain(&open[..=first]).copied().collect();
    let second = {
        let at = far(path[0]);
        (at + open.len() - first) % open.len()
    };
    let mut keep = vec![false; path.len()];
    for i in [0, second, path.len() - 1] {
        keep[i] = true;
    }
    let last = path.len() - 1;
    let mut open_parts = vec![(0, second), (second, last)];
    while let Some((a, b)) = open_parts.pop() {
        let off = |i: usize| {
            let [dx, dy] = [path[b][0] - path[a][0], path[b][1] - path[a][1]];
            let [px, py] = [path[i][0] - path[a][0], path[i][1] - path[a][1]];
            let length = dx.hypot(dy);
            if length == 0.0 { px.hypot(py) } else { (px * dy - py * dx).abs() / length }
        };
        let farthest = (a + 1..b).map(|i| (i, off(i))).max_by(|x, y| x.1.total_cmp(&y.1));
        if let Some((i, distance)) = farthest
            && distance > STAIRS
        {
            keep[i] = true;
            open_parts.extend([(a, i), (i, b)]);
        }
    }
    let mut kept = keep.into_iter();
    path.retain(|_| kept.next().unwrap_or(false));
    path
}

/// The direction, 0 to a quarter turn, in which or across which most of an outline's length runs.
fn direction(ring: &[Point]) -> Option<f64> {
    let (mut x, mut y) = (0.0, 0.0);
    for side in ring.windows(2) {
        let [dx, dy] = [side[1][0] - side[0][0], side[1][1] - side[0][1]];
        // Four times the angle: a quarter turn makes no difference. Long sides tell more.
        let (angle, weight) = (4.0 * dy.atan2(dx), dx * dx + dy * dy);
        x += weight * angle.cos();
        y += weight * angle.sin();
    }
    (x.hypot(y) > 0.0).then(|| y.atan2(x) / 4.0)
}

/// A closed ring whose sides run along and across a direction; `None` if fewer than four are left.
fn squared(ring: &[Point], angle: f64) -> Option<Vec<Point>> {
    let (sin, cos) = angle.sin_cos();
    let turned: Vec<Point> = ring.iter().map(|p| [cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]]).collect();
    // Runs of sides along (their y) or across (their x): the length-weighted mean of the middles.
    let mut runs: Vec<(bool, f64, f64)> = Vec::new();
    for side in turned.windows(2) {
        let [dx, dy] = [side[1][0] - side[0][0], side[1][1] - side[0][1]];
        let along = dx.abs() >= dy.abs();
        let axis = usize::from(along);
        let (length, middle) = (dx.hypot(dy), (side[0][axis] + side[1][axis]) / 2.0);
        match runs.last_mut() {
            Some(run) if run.0 == along => {
                run.1 += length * middle;
                run.2 += length;
            }
            _ => runs.push((along, length * middle, length)),
        }
    }
    // The last run may go on in the first.
    if runs.len() > 1 && runs[0].0 == runs[runs.len() - 1].0 {
        let last = runs.pop()?;
        runs[0].1 += last.1;
        runs[0].2 += last.2;
    }
    if runs.len() < 4 || runs.len() % 2 == 1 {
        return None;
    }
    // Without a short side, its neighbours, which run the same way, are one.
    while runs.len() > 4 {
        let shortest = (0..runs.len()).min_by(|&a, &b| runs[a].2.total_cmp(&runs[b].2))?;
        if runs[shortest].2 >= SHORTEST {
            break;
        }
        runs.rotate_left(shortest);
        let (after, before) = (runs[1], runs.len() - 1);
        runs[before].1 += after.1;
        runs[before].2 += after.2;
        runs.drain(..2);
    }
    let place = |run: &(bool, f64, f64)| run.1 / run.2;
    let corner = |i: usize| {
        let (a, b) = (&runs[i], &runs[(i + 1) % runs.len()]);
        let [x, y] = if a.0 { [place(b), place(a)] } else { [place(a), place(b)] };
        [cos * x - sin * y, sin * x + cos * y]
    };
    let mut out: Vec<Point> = (0..runs.len()).map(corner).collect();
    out.push(out[0]);
    out.iter().flatten().all(|v| v.is_finite()).then_some(out)
}

/// Whether no two sides of closed rings touch, but neighbours in their corner.
fn is_simple(rings: &[Vec<Point>]) -> bool {
    let sides: Vec<(usize, usize, usize, Point, Point)> = rings
        .iter()
        .enumerate()
        .flat_map(|(r, ring)| ring.windows(2).enumerate().map(move |(i, w)| (r, i, ring.len() - 1, w[0], w[1])))
        .collect();
    let cross = |a: Point, b: Point, c: Point| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
    let within =
        |a: Point, b: Point, c: Point| (0..2).all(|i| a[i].min(b[i]) - 1e-9 <= c[i] && c[i] <= a[i].max(b[i]) + 1e-9);
    for (n, &(ring, i, count, a, b)) in sides.iter().enumerate() {
        if (a[0] - b[0]).hypot(a[1] - b[1]) < 1e-6 {
            return false;
        }
        for &(other, j, _, c, d) in &sides[n + 1..] {
            let neighbours = ring == other && (j == i + 1 || (i == 0 && j == count - 1));
            if neighbours {
                continue;
            }
            let [d1, d2, d3, d4] = [cross(a, b, c), cross(a, b, d), cross(c, d, a), cross(c, d, b)];
            let crosses = d1 * d2 <= 0.0 && d3 * d4 <= 0.0;
            let boxes =
                (0..2).all(|k| a[k].min(b[k]) - 1e-9 <= c[k].max(d[k]) && c[k].min(d[k]) - 1e-9 <= a[k].max(b[k]));
            let touches = [c, d].iter().any(|&p| cross(a, b, p).abs() < 1e-9 && within(a, b, p));
            if (crosses && boxes) || touches {
                return false;
            }
        }
    }
    true
}

/// Whether a point lies within a closed ring.
fn contains(ring: &[Point], [x, y]: Point) -> bool {
    let crossed = ring.windows(2).filter(|w| (w[0][1] > y) != (w[1][1] > y));
    crossed.filter(|w| w[0][0] + (y - w[0][1]) / (w[1][1] - w[0][1]) * (w[1][0] - w[0][0]) > x).count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polygon::{Options, trace};

    /// The polygon of all pixels whose middle a turned rectangle holds, without those of a second one.
    fn drawn(angle: f64, size: [f64; 2], notch: [f64; 2]) -> Polygon {
        let (sin, cos) = angle.sin_cos();
        let mask: Vec<u8> = (0..100 * 100)
            .map(|i| {
                let (x, y) = (f64::from(i % 100) - 49.5, f64::from(i / 100) - 49.5);
                let [u, v] = [cos * x + sin * y, cos * y - sin * x];
                let inside = u.abs() < size[0] / 2.0 && v.abs() < size[1] / 2.0;
                u8::from(inside && !(u > size[0] / 2.0 - notch[0] && v > size[1] / 2.0 - notch[1]))
            })
            .collect();
        let mut polygons = trace(&mask, 100, 100, Options::default()).expect("traced");
        polygons.sort_by_key(|p| p.pixels);
        polygons.pop().expect("a polygon")
    }

    #[test]
    fn turned_rectangles_and_corners_become_right() {
        for step in 0..18 {
            let angle = f64::from(step) * 0.0873;
            for (notch, corners) in [([0.0, 0.0], 4), ([20.0, 12.0], 6)] {
                let plain = drawn(angle, [60.0, 34.0], notch);
                let right = right_angles(&plain, 0.1).expect("a rectangle");
                assert_eq!(right.exterior.len(), corners + 1, "{angle}: {:?}", right.exterior);
                assert!((right.area() / plain.area() - 1.0).abs() < 0.05, "{angle}: {} {}", right.area(), plain.area());
                for w in right.exterior.windows(3) {
                    let [a, b] = [[w[1][0] - w[0][0], w[1][1] - w[0][1]], [w[2][0] - w[1][0], w[2][1] - w[1][1]]];
                    assert!((a[0] * b[0] + a[1] * b[1]).abs() < 1e-6 * (a[0].hypot(a[1]) * b[0].hypot(b[1])));
                }
            }
        }
    }

    #[test]
    fn what_would_change_too_much_stays() {
        // A disc: of a square around it, a fifth is missing.
        let disc: Vec<u8> =
            (0..60 * 60).map(|i| u8::from((f64::from(i % 60) - 29.5).hypot(f64::from(i / 60) - 29.5) < 25.0)).collect();
        let disc = trace(&disc, 60, 60, Options::default()).expect("traced").remove(0);
        assert_eq!(right_angles(&disc, 0.0), None);
        if let Some(right) = right_angles(&disc, 0.1) {
            assert!((right.area() / disc.area() - 1.0).abs() <= 0.1 && is_simple(&[right.exterior]));
        }
    }

    #[test]
    fn random_outlines_stay_valid() {
        let (mut made, mut kept) = (0, 0);
        for seed in 0..400 {
            let random = &mut fastrand::Rng::with_seed(seed);
            let coarse: Vec<u8> = (0..100).map(|_| u8::from(random.u8(..10) < 6)).collect();
            let mask: Vec<u8> = (0..40 * 40).map(|i| coarse[i / 40 / 4 * 10 + i % 40 / 4]).collect();
            for polygon in trace(&mask, 40, 40, Options::default()).expect("traced") {
                let Some(right) = right_angles(&polygon, 0.1) else {
                    kept += 1;
                    continue;
                };
                made += 1;
                assert!((right.area() / polygon.area() - 1.0).abs() <= 0.1 && right.holes.len() == polygon.holes.len());
                let mut rings = vec![right.exterior.clone()];
                rings.extend(right.holes.iter().cloned());
                assert!(is_simple(&rings), "seed {seed}");
                assert!(right.holes.iter().flatten().all(|&p| contains(&right.exterior, p)));
            }
        }
        println!("{made} outlines have right angles, {kept} stay as they are");
        assert!(made > 100);
    }
}
