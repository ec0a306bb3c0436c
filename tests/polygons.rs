//! Polygons of drawn and of random masks: area in equals area out, valid rings, neighbours that stay joined.

use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use samlora::mask::{ClassMask, NO_DATA};
use samlora::polygon::{Options, Polygon, StreamOptions, Traced, Tracer, trace, trace_mask};

type Point = (i64, i64);

/// A drawn mask: one character per pixel, `.` for background.
fn drawn(rows: &[&str]) -> (Vec<u8>, usize, usize) {
    let classes = rows.iter().flat_map(|r| r.bytes().map(|b| if b == b'.' { 0 } else { b - b'0' })).collect();
    (classes, rows[0].len(), rows.len())
}

fn turned((classes, width, height): &(Vec<u8>, usize, usize)) -> (Vec<u8>, usize, usize) {
    let mut out = Vec::new();
    for x in 0..*width {
        for y in (0..*height).rev() {
            out.push(classes[y * width + x]);
        }
    }
    (out, *height, *width)
}

fn smooth(tolerance: f64) -> Options {
    Options { min_pixels: 0, tolerance }
}

fn rings(polygon: &Polygon) -> impl Iterator<Item = &Vec<[f64; 2]>> {
    std::iter::once(&polygon.exterior).chain(&polygon.holes)
}

fn shoelace(ring: &[[f64; 2]]) -> f64 {
    ring.windows(2).map(|w| w[0][0] * w[1][1] - w[1][0] * w[0][1]).sum::<f64>() / 2.0
}

fn segments(ring: &[[f64; 2]]) -> impl Iterator<Item = (Point, Point)> + '_ {
    let whole = |p: [f64; 2]| (p[0] as i64, p[1] as i64);
    ring.windows(2).map(move |w| (whole(w[0]), whole(w[1])))
}

/// Closed, right orientation, no repeated vertex, no spike.
fn check_rings(polygon: &Polygon) {
    for (i, ring) in rings(polygon).enumerate() {
        assert!(ring.len() >= 4 && ring.first() == ring.last(), "ring of {} points", ring.len());
        let distinct: HashSet<_> = ring[1..].iter().map(|p| (p[0].to_bits(), p[1].to_bits())).collect();
        assert_eq!(distinct.len(), ring.len() - 1, "a vertex repeats");
        assert!((shoelace(ring) > 0.0) == (i == 0) && shoelace(ring) != 0.0, "orientation of ring {i}");
    }
}

/// No two different segments of all polygons cross or overlap; they meet only in end points of both.
fn check_planar(polygons: &[Polygon]) {
    let mut all: Vec<(Point, Point)> = Vec::new();
    let mut uses: HashMap<(Point, Point), usize> = HashMap::new();
    for (a, b) in polygons.iter().flat_map(rings).flat_map(|r| segments(r)) {
        let key = (a.min(b), a.max(b));
        *uses.entry(key).or_default() += 1;
        all.push(key);
    }
    assert!(uses.values().all(|&n| n <= 2), "a border belongs to more than two polygons");
    all.sort_unstable();
    all.dedup();
    let side = |a: Point, b: Point, c: Point| ((b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)).signum();
    let within = |a: Point, b: Point, c: Point| {
        side(a, b, c) == 0
            && c != a
            && c != b
            && (a.0.min(b.0)..=a.0.max(b.0)).contains(&c.0)
            && (a.1.min(b.1)..=a.1.max(b.1)).contains(&c.1)
    };
    for (i, &(a, b)) in all.iter().enumerate() {
        for &(c, d) in &all[i + 1..] {
            let crosses = side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0;
            let touches = within(a, b, c) || within(a, b, d) || within(c, d, a) || within(c, d, b);
            assert!(!crosses && !touches, "{a:?}-{b:?} and {c:?}-{d:?}");
        }
    }
}

/// Even-odd fill of the polygons at pixel centres.
fn filled(polygons: &[Polygon], width: usize, height: usize) -> Vec<u8> {
    let mut out = vec![0; width * height];
    for polygon in polygons {
        for y in 0..height {
            for x in 0..width {
                let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
                let crossings = rings(polygon)
                    .flat_map(|r| r.windows(2))
                    .filter(|w| (w[0][1] > py) != (w[1][1] > py))
                    .filter(|w| w[0][0] + (py - w[0][1]) / (w[1][1] - w[0][1]) * (w[1][0] - w[0][0]) > px)
                    .count();
                if crossings % 2 == 1 {
                    assert_eq!(out[y * width + x], 0, "polygons overlap at {x}, {y}");
                    out[y * width + x] = polygon.class;
                }
            }
        }
    }
    out
}

fn check_exact(mask: &(Vec<u8>, usize, usize)) -> Vec<Polygon> {
    let (classes, width, height) = mask;
    let polygons = trace(classes, *width, *height, Options::default()).expect("traced");
    for polygon in &polygons {
        check_rings(polygon);
        assert_eq!(polygon.area(), polygon.pixels as f64);
    }
    assert_eq!(filled(&polygons, *width, *height), *classes);
    polygons
}

/// Noise, or blobs (noise of coarse cells with ragged borders).
fn random_mask(seed: u64) -> (Vec<u8>, usize, usize) {
    let mut random = Rng::with_seed(seed);
    let (width, height) = (random.usize(1..=40), random.usize(1..=40));
    let classes = random.u8(2..6);
    let cell = random.usize(1..=9);
    let coarse: Vec<u8> = (0..41 * 41).map(|_| random.u8(..classes)).collect();
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let jitter = |r: &mut Rng, v: usize| (v + r.usize(..3)) / cell;
            let (cx, cy) = if cell < 3 { (x, y) } else { (jitter(&mut random, x), jitter(&mut random, y)) };
            out.push(coarse[cy.min(40) * 41 + cx.min(40)]);
        }
    }
    (out, width, height)
}

#[test]
fn a_square_with_a_hole_in_four_rotations() {
    let mut mask = drawn(&["......", ".1111.", ".1..1.", ".1..1.", ".1111.", ".....2"]);
    for _ in 0..4 {
        let mut polygons = check_exact(&mask);
        polygons.sort_by_key(|p| p.class);
        assert_eq!(
            polygons.iter().map(|p| (p.class, p.pixels, p.holes.len())).collect::<Vec<_>>(),
            [(1, 12, 1), (2, 1, 0)]
        );
        assert_eq!(polygons[0].exterior.len(), 5);
        mask = turned(&mask);
    }
}

#[test]
fn diagonal_touches_stay_apart_and_gaps_become_holes() {
    let mut mask = drawn(&["1.1", ".1.", "1.1"]);
    for _ in 0..4 {
        assert_eq!(check_exact(&mask).len(), 5);
        mask = turned(&mask);
    }
    let mut mask = drawn(&["111", "1.1", "11."]);
    for _ in 0..4 {
        let polygons = check_exact(&mask);
        assert_eq!((polygons.len(), polygons[0].holes.len(), polygons[0].pixels), (1, 1, 7));
        mask = turned(&mask);
    }
    let polygons = check_exact(&drawn(&["11111", "1.111", "11.11", "111.1", "11111"]));
    assert_eq!((polygons.len(), polygons[0].holes.len()), (1, 3));
}

#[test]
fn holes_in_holes() {
    let polygons = check_exact(&drawn(&["1111111", "1.....1", "1.222.1", "1.2.2.1", "1.222.1", "1.....1", "1111111"]));
    assert_eq!(polygons.iter().map(|p| (p.class, p.holes.len())).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    let nested = check_exact(&drawn(&["11111", "1...1", "1.1.1", "1...1", "11111"]));
    assert_eq!(nested.iter().map(|p| (p.pixels, p.holes.len())).collect::<Vec<_>>(), [(16, 1), (1, 0)]);
}

#[test]
fn frames_single_pixels_and_empty_masks() {
    assert!(check_exact(&(vec![0; 12], 4, 3)).is_empty());
    assert_eq!(check_exact(&(vec![9], 1, 1))[0].exterior, [[0., 0.], [1., 0.], [1., 1.], [0., 1.], [0., 0.]]);
    assert_eq!(check_exact(&(vec![254; 12], 4, 3)).len(), 1);
    assert!(trace(&[NO_DATA; 12], 4, 3, Options::default()).expect("traced").is_empty());
    assert_eq!(check_exact(&(vec![1; 50_000], 50_000, 1)).len(), 1);
    assert!(trace(&[1, 1], 3, 1, Options::default()).is_err());
    assert!(trace(&[], 0, 0, Options::default()).is_err());
    assert!(trace(&[1], 1, 1, smooth(f64::NAN)).is_err());
}

#[test]
fn small_regions_are_left_out_and_confidence_is_averaged() {
    let (classes, width, height) = drawn(&["11.2", "11.."]);
    let mask = ClassMask::new(width, height, classes, vec![255, 255, 0, 51, 0, 0, 0, 0]).expect("valid");
    let polygons = trace_mask(&mask, Options::default()).expect("traced");
    assert_eq!(polygons[0].confidence, Some(0.5));
    assert_eq!(polygons[1].confidence, Some(0.2));
    let big = trace_mask(&mask, Options { min_pixels: 2, tolerance: 0.0 }).expect("traced");
    assert_eq!(big.len(), 1);
}

#[test]
fn random_masks_come_back_exactly() {
    for seed in 0..300 {
        let mask = random_mask(seed);
        let polygons = check_exact(&mask);
        let pixels: u64 = polygons.iter().map(|p| p.pixels).sum();
        assert_eq!(pixels, mask.0.iter().filter(|&&c| c != 0).count() as u64, "seed {seed}");
    }
}

#[test]
fn simplified_random_masks_stay_valid() {
    for seed in 0..300 {
        let (classes, width, height) = random_mask(seed);
        let exact = trace(&classes, width, height, Options::default()).expect("traced");
        for tolerance in [0.5, 0.8, 1.5, 4.0, 100.0] {
            let polygons = trace(&classes, width, height, smooth(tolerance)).expect("traced");
            assert_eq!(polygons.len(), exact.len(), "seed {seed}");
            for (simple, exact) in polygons.iter().zip(&exact) {
                check_rings(simple);
                assert!(simple.area() > 0.0);
                assert_eq!((simple.pixels, simple.holes.len()), (exact.pixels, exact.holes.len()), "seed {seed}");
            }
            check_planar(&polygons);
            // No overlaps, whatever the tolerance.
            filled(&polygons, width, height);
        }
    }
}

#[test]
fn neighbours_share_their_simplified_border_and_cover_everything() {
    let mask = random_mask(7);
    let classes: Vec<u8> = mask.0.iter().map(|c| c + 1).collect();
    let polygons = trace(&classes, mask.1, mask.2, smooth(1.5)).expect("traced");
    let area: f64 = polygons.iter().map(Polygon::area).sum();
    assert_eq!(area, (mask.1 * mask.2) as f64, "no gaps");
    let stairs: Vec<u8> = (0..64 * 64).map(|i| u8::from(i % 64 < i / 64)).collect();
    let polygon = &trace(&stairs, 64, 64, smooth(1.0)).expect("traced")[0];
    assert!(polygon.exterior.len() <= 6, "stairs became {:?}", polygon.exterior);
}

#[test]
fn a_large_mask_takes_linear_time() {
    let side = 2048;
    let mut random = Rng::with_seed(3);
    let noise: Vec<u8> = (0..side * side).map(|_| random.u8(..3)).collect();
    let began = std::time::Instant::now();
    let polygons = trace(&noise, side, side, Options::default()).expect("traced");
    let exact = began.elapsed();
    let simple = trace(&noise, side, side, smooth(1.0)).expect("traced");
    println!("{} polygons of noise in {exact:?}, simplified in {:?}", polygons.len(), began.elapsed() - exact);
    assert_eq!(polygons.iter().map(|p| p.pixels).sum::<u64>(), noise.iter().filter(|&&c| c != 0).count() as u64);
    assert_eq!(simple.len(), polygons.len());
}

/// The polygons of a mask whose rows come in portions of a random number of pixels.
fn streamed(mask: &ClassMask, options: StreamOptions, random: &mut Rng) -> Vec<Traced> {
    let mut tracer = Tracer::new(mask.width, options).expect("valid");
    let mut out = Vec::new();
    let mut at = 0;
    while at < mask.classes.len() {
        let end = (at + random.usize(1..=3 * mask.width)).min(mask.classes.len());
        tracer.rows(&mask.classes[at..end], &mask.confidence[at..end]).expect("rows");
        out.extend(tracer.closed());
        at = end;
    }
    out.extend(tracer.finish().expect("complete"));
    out
}

/// Polygons without the start of their rings and the order of rings and polygons.
fn normal(polygons: impl IntoIterator<Item = Polygon>) -> Vec<(u8, u64, u32, Vec<Vec<Point>>)> {
    let mut out: Vec<_> = polygons
        .into_iter()
        .map(|polygon| {
            let mut all: Vec<Vec<Point>> = rings(&polygon)
                .map(|ring| {
                    let mut points: Vec<Point> = ring[1..].iter().map(|p| (p[0] as i64, p[1] as i64)).collect();
                    let least = (0..points.len()).min_by_key(|&i| points[i]).expect("a point");
                    points.rotate_left(least);
                    points
                })
                .collect();
            all[1..].sort();
            (polygon.class, polygon.pixels, polygon.confidence.map_or(0, f32::to_bits), all)
        })
        .collect();
    out.sort();
    out
}

fn with_confidence((classes, width, height): (Vec<u8>, usize, usize), random: &mut Rng) -> ClassMask {
    // Some classes become no data.
    let none = random.u8(..9);
    let classes: Vec<u8> = classes.into_iter().map(|c| if c == none && c != 0 { NO_DATA } else { c }).collect();
    let confidence = classes.iter().map(|_| random.u8(..)).collect();
    ClassMask::new(width, height, classes, confidence).expect("valid")
}

#[test]
fn streamed_polygons_are_the_whole_masks() {
    for seed in 0..10_000 {
        let random = &mut Rng::with_seed(seed);
        let mask = with_confidence(random_mask(seed), random);
        let min_pixels = random.u64(..4);
        let whole = trace_mask(&mask, Options { min_pixels, tolerance: 0.0 }).expect("traced");
        let options = StreamOptions { min_pixels, fill_pixels: random.u64(..9), ..Default::default() };
        let found = streamed(&mask, options, random);
        for traced in &found {
            check_rings(&traced.polygon);
            assert_eq!(traced.polygon.area(), traced.polygon.pixels as f64, "seed {seed}");
            for (hole, &fillable) in traced.polygon.holes.iter().zip(&traced.fillable) {
                assert_eq!(
                    fillable,
                    -shoelace(hole) <= options.fill_pixels as f64 && holds_background(hole, &mask),
                    "seed {seed}"
                );
            }
        }
        assert_eq!(normal(found.into_iter().map(|t| t.polygon)), normal(whole), "seed {seed}");
    }
}

/// Whether all pixels within a ring are background, and of one piece: pieces that touch diagonally are not filled.
fn holds_background(hole: &[[f64; 2]], mask: &ClassMask) -> bool {
    let polygon = Polygon { class: 1, exterior: hole.to_vec(), holes: Vec::new(), pixels: 0, confidence: None };
    let within = filled(&[polygon], mask.width, mask.height);
    within.iter().zip(&mask.classes).all(|(&inside, &class)| inside == 0 || class == 0)
}

#[test]
fn streamed_simplification_stays_valid_and_whole_in_bands() {
    for seed in 0..1500 {
        let random = &mut Rng::with_seed(seed);
        let (classes, width, height) = random_mask(seed);
        // Everything has a class, so that areas must add up to the whole.
        let covered = random.bool();
        let classes = if covered { classes.iter().map(|c| c + 1).collect() } else { classes };
        let mask = with_confidence((classes, width, height), random);
        let no_data = mask.classes.iter().filter(|c| **c == NO_DATA).count();
        let exact = normal(trace_mask(&mask, Options::default()).expect("traced"));
        let tolerance = [0.5, 0.8, 1.5, 4.0, 100.0][random.usize(..5)];
        let options = StreamOptions { tolerance, band_rows: random.usize(1..=16), ..Default::default() };
        let polygons: Vec<Polygon> = streamed(&mask, options, random).into_iter().map(|t| t.polygon).collect();
        let again = streamed(&mask, options, random).into_iter().map(|t| t.polygon);
        assert!(again.eq(polygons.iter().cloned()), "seed {seed}: portions change the result");
        for polygon in &polygons {
            check_rings(polygon);
        }
        check_planar(&polygons);
        filled(&polygons, width, height);
        let simple = normal(polygons.clone());
        let about = |p: &(u8, u64, u32, Vec<Vec<Point>>)| (p.0, p.1, p.2, p.3.len());
        assert!(simple.iter().map(about).eq(exact.iter().map(about)), "seed {seed}");
        if covered && no_data == 0 {
            let area: f64 = polygons.iter().map(Polygon::area).sum();
            assert_eq!(area, (width * height) as f64, "seed {seed}: a gap");
        }
    }
}

#[test]
fn bands_keep_one_corner_for_each_border_that_crosses() {
    // Stairs of 2000 steps: a straight line, but for one corner a band.
    let mut tracer = Tracer::new(2000, StreamOptions { tolerance: 1.0, ..Default::default() }).expect("valid");
    for y in 0..2000 {
        let row: Vec<u8> = (0..2000).map(|x| u8::from(x < y)).collect();
        tracer.rows(&row, &[0; 2000]).expect("a row");
    }
    let polygons = tracer.finish().expect("complete");
    let corners = polygons[0].polygon.exterior.len();
    println!("{corners} corners");
    assert!(corners <= 5 + 2 * 2000 / 512, "{corners}");
}
