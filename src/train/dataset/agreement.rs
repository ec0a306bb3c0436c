//! Whether masks lie where their images lie.
//!
//! Image and mask are joined pixel by pixel. Where both files say where they lie and how they stand, a difference means that
//! the labels may be of other ground than the image shows.

use std::collections::BTreeSet;

use image::metadata::Orientation;

use super::labels::{is_quarter, wrong_size};
use crate::error::{Error, ErrorKind};
use crate::georef::{Crs, Georef, ToLonLat};
use crate::tile::EARTH_RADIUS;

/// The part of a pixel by which a mask's corners may lie elsewhere than its image's: rounding of georeferences.
const TOLERANCE: f64 = 0.1;
/// Sizes of pixels and directions of rows that differ by less than this part are the same.
const SAME: f64 = 1e-3;
/// A direction is named by one word if the other component is below this part: east and not north-east.
const STRAIGHT: f64 = 0.4;

/// How a mask and its image differ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub kind: DifferenceKind,
    /// What differs.
    pub text: String,
}

/// Kinds of differences, each of which is told once, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DifferenceKind {
    /// EXIF turns one of them.
    Orientation,
    /// They have the same grid at another place.
    Place,
    /// They have grids of other pixels.
    Grid,
    /// Their systems cannot be converted.
    System,
    /// Only the mask is placed on the map.
    MaskOnly,
}

/// The difference of their places.
pub(super) fn of_places(image: &Georef, mask: &Georef, width: usize, height: usize) -> Option<Difference> {
    // A system that is not named at all, as beside a world file, is taken for the other's.
    let unnamed = |crs: &Crs| crs.epsg.is_none() && crs.keys.is_none();
    let image_crs = if unnamed(&image.crs) { &mask.crs } else { &image.crs };
    let mask_crs = if unnamed(&mask.crs) { image_crs } else { &mask.crs };
    let same_system = same_system(image_crs, mask_crs);
    if same_system && image.transform == mask.transform {
        return None;
    }
    let systems = (!same_system).then(|| format!("in {} instead of {}", name(mask_crs), name(image_crs)));
    let size = [width as f64, height as f64];
    let (ours, theirs, unit) = match (ToLonLat::new(image_crs).zip(ToLonLat::new(mask_crs)), &systems) {
        (Some((ours, theirs)), _) => {
            let centre = ours.convert(image.map(size.map(|v| v / 2.0))).ok()?;
            let local = |georef: &Georef, to_lon_lat: &ToLonLat| {
                PixelGrid::new(size, |corner| Some(local_metres(to_lon_lat.convert(georef.map(corner)).ok()?, centre)))
            };
            let Some(theirs) = local(mask, &theirs) else {
                let [x, y] = mask.map([0.0, 0.0]);
                let text = format!("lies at ({x}, {y}) in {}, which is no place there", name(mask_crs));
                return Some(Difference { kind: DifferenceKind::Place, text });
            };
            (local(image, &ours)?, theirs, "m")
        }
        (None, Some(systems)) => return Some(Difference { kind: DifferenceKind::System, text: systems.clone() }),
        (None, None) => {
            let plain = |georef: &Georef| PixelGrid::new(size, |corner| Some(georef.map(corner)));
            (plain(image)?, plain(mask)?, "map units")
        }
    };
    let offsets = ours.offsets(&theirs)?;
    let length = |[x, y]: [f64; 2]| x.hypot(y);
    let furthest = |each: [f64; 4]| each.into_iter().fold(0.0, f64::max);
    let largest = furthest(offsets.each_ref().map(|o| length(o.pixels)));
    if largest <= TOLERANCE {
        return None;
    }
    let [x, y] = offsets[0].pixels;
    let spread = furthest(offsets.each_ref().map(|o| length([o.pixels[0] - x, o.pixels[1] - y])));
    let grid = ours.differences(&theirs, unit);
    // What lies far away is seen from another side of the earth's curve.
    if spread <= TOLERANCE.max(SAME * largest) && grid.is_empty() {
        let ground = offsets[0].ground;
        let far = distance(length(ground), unit);
        let mut text = format!("lies {far} ({:.1} pixels) {} of its image", length([x, y]), direction(ground));
        text.extend(systems.map(|systems| format!(", {systems}")));
        return Some(Difference { kind: DifferenceKind::Place, text });
    }
    let ground = distance(furthest(offsets.each_ref().map(|o| length(o.ground))), unit);
    let mut parts: Vec<String> = systems.into_iter().chain(grid).collect();
    parts.push(format!("corners up to {ground} ({largest:.1} pixels) away from the image's"));
    Some(Difference { kind: DifferenceKind::Grid, text: parts.join(", ") })
}

/// The difference of their EXIF orientations. Where a quarter turn changes the size, sizes that agree say that they stand alike.
pub(super) fn of_orientations(image: Orientation, mask: Orientation, square: bool) -> Option<Difference> {
    let stands = |orientation| turning(orientation).unwrap_or("as it is stored");
    let text = format!("the image is {}, the mask {}", stands(image), stands(mask));
    let told_by_size = !square && is_quarter(image) != is_quarter(mask);
    (image != mask && !told_by_size).then_some(Difference { kind: DifferenceKind::Orientation, text })
}

/// The error of sizes that differ; the image's orientation may be the cause.
pub(super) fn of_sizes(mask: (usize, usize), image: (usize, usize), orientation: Orientation) -> Error {
    match turning(orientation).filter(|_| mask == (image.1, image.0)) {
        None => wrong_size(mask, image),
        Some(turned) => {
            let ((mask_width, mask_height), (width, height)) = (mask, image);
            let message =
                format!("the mask has {mask_width} x {mask_height} pixels, its image, {turned}, {width} x {height}");
            Error::new(ErrorKind::Invalid, message).remedy(format!("make them stand alike: {ORIENTATION_REMEDY}"))
        }
    }
}

const ORIENTATION_REMEDY: &str = "where the other file shows the pixels as they are stored, take the orientation out, for \
                                  example with exiftool -Orientation= ; else turn the pixels themselves, for example \
                                  with mogrify -auto-orient";

/// What EXIF does to an image.
fn turning(orientation: Orientation) -> Option<&'static str> {
    match orientation {
        Orientation::NoTransforms => None,
        Orientation::FlipHorizontal => Some("mirrored by its EXIF orientation 2"),
        Orientation::Rotate180 => Some("turned by 180 degrees by its EXIF orientation 3"),
        Orientation::FlipVertical => Some("turned upside down by its EXIF orientation 4"),
        Orientation::Rotate90FlipH => Some("turned and mirrored by its EXIF orientation 5"),
        Orientation::Rotate90 => Some("turned by 90 degrees by its EXIF orientation 6"),
        Orientation::Rotate270FlipH => Some("turned and mirrored by its EXIF orientation 7"),
        Orientation::Rotate270 => Some("turned by 270 degrees by its EXIF orientation 8"),
    }
}

/// What people should know: for each kind of difference how many samples have it, the first of them, and what to do.
pub(super) fn warnings(found: &[(&str, Difference)], samples: usize) -> Vec<String> {
    let kinds: BTreeSet<DifferenceKind> = found.iter().map(|(_, d)| d.kind).collect();
    let sentence = |kind: DifferenceKind| {
        let of_kind = || found.iter().filter(move |(_, d)| d.kind == kind);
        let (name, Difference { text, .. }) = of_kind().next()?;
        let of = format!("{} of {samples} samples", of_kind().count());
        Some(match kind {
            DifferenceKind::Orientation => format!(
                "EXIF turns image and mask of {of} differently, first of {name}: {text}. Make them stand alike: {ORIENTATION_REMEDY}."
            ),
            DifferenceKind::Place => format!(
                "The masks of {of} do not lie where their images lie, first that of {name}: it {text}. {GRID_REMEDY}"
            ),
            DifferenceKind::Grid => format!(
                "The masks of {of} have other pixels than their images, first that of {name}: {text}. {GRID_REMEDY}"
            ),
            DifferenceKind::System => format!(
                "The masks of {of} are in systems that cannot be compared with their images', first that of {name}: {text}. \
                 Save both in one system, for example with gdalwarp -t_srs, to be sure that they show the same ground."
            ),
            DifferenceKind::MaskOnly => format!(
                "The masks of {of} are placed on the map and their images are not, first that of {name}: {text}. The \
                 mask's place is taken for both; check that they show the same ground."
            ),
        })
    };
    kinds.into_iter().filter_map(sentence).collect()
}

const GRID_REMEDY: &str = "Labels are joined with images pixel by pixel: make the masks on the images' own grid, for example \
                           with gdalwarp -r near and the image's -t_srs, -te and -ts; or, if the pixels do fit, give both \
                           the same georeference.";

/// The difference of a mask that is placed beside an image that is not.
pub(super) fn mask_only(mask: &Georef) -> Difference {
    let [x, y] = mask.map([0.0, 0.0]);
    Difference { kind: DifferenceKind::MaskOnly, text: format!("its corner lies at ({x}, {y}) in {}", name(&mask.crs)) }
}

/// Whether coordinates mean the same.
fn same_system(a: &Crs, b: &Crs) -> bool {
    let definition = |crs: &Crs| crs.keys.as_ref().map(|k| (k.directory.clone(), k.doubles.clone()));
    match (a.epsg, b.epsg) {
        (Some(a), Some(b)) => a == b,
        (None, None) => definition(a) == definition(b),
        _ => false,
    }
}

fn name(crs: &Crs) -> String {
    match crs.epsg {
        Some(epsg) => format!("EPSG:{epsg}"),
        None if crs.keys.is_some() => "a system of its own definition".to_owned(),
        None => "an unknown system".to_owned(),
    }
}

/// Metres to the east and north of `centre`, both of longitude and latitude, by the radii of curvature of the WGS 84
/// ellipsoid; exact enough for the few kilometres of a chip. (Snyder 1987, "Map projections: a working manual", equations
/// 4-18 to 4-21.)
fn local_metres([lon, lat]: [f64; 2], centre: [f64; 2]) -> [f64; 2] {
    const E2: f64 = 0.006_694_379_990_14;
    let east = (lon - centre[0] + 540.0).rem_euclid(360.0) - 180.0;
    let (sin, cos) = ((lat + centre[1]) / 2.0).to_radians().sin_cos();
    let curvature = 1.0 - E2 * sin * sin;
    let (across, along) = (EARTH_RADIUS / curvature.sqrt(), EARTH_RADIUS * (1.0 - E2) / curvature.powf(1.5));
    [across * cos * east.to_radians(), along * (lat - centre[1]).to_radians()]
}

/// Where an image's corners lie on a plane, and the steps from pixel to pixel there.
struct PixelGrid {
    corners: [[f64; 2]; 4],
    column: [f64; 2],
    row: [f64; 2],
}

/// How far a mask's corner lies from its image's.
struct Offset {
    ground: [f64; 2],
    /// In columns and rows of the image.
    pixels: [f64; 2],
}

impl PixelGrid {
    fn new([width, height]: [f64; 2], place: impl Fn([f64; 2]) -> Option<[f64; 2]>) -> Option<Self> {
        let corners = [[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]];
        let [a, b, c, d] = corners.map(place);
        let corners = [a?, b?, c?, d?];
        let step = |to: usize, n: f64| [0, 1].map(|i| (corners[to][i] - corners[0][i]) / n);
        Some(Self { corners, column: step(1, width), row: step(2, height) })
    }

    /// Signed area of a pixel: its sign tells whether the image is mirrored.
    fn area(&self) -> f64 {
        self.column[0] * self.row[1] - self.column[1] * self.row[0]
    }

    fn offsets(&self, mask: &Self) -> Option<[Offset; 4]> {
        let area = self.area();
        let offset = |i: usize| {
            let ground = [0, 1].map(|k| mask.corners[i][k] - self.corners[i][k]);
            let pixels = [
                (ground[0] * self.row[1] - ground[1] * self.row[0]) / area,
                (ground[1] * self.column[0] - ground[0] * self.column[1]) / area,
            ];
            Offset { ground, pixels }
        };
        (area != 0.0 && area.is_finite()).then(|| [offset(0), offset(1), offset(2), offset(3)])
    }

    /// What is different of the pixels themselves.
    fn differences(&self, mask: &Self, unit: &str) -> Vec<String> {
        let mut out = Vec::new();
        let side = |grid: &Self| grid.area().abs().sqrt();
        let (ours, theirs) = (side(self), side(mask));
        if (theirs / ours - 1.0).abs() > SAME {
            let (mut a, mut b) = (distance(theirs, unit), distance(ours, unit));
            if a == b {
                (a, b) = (format!("{theirs:.5} {unit}"), format!("{ours:.5} {unit}"));
            }
            out.push(format!("pixels of {a} instead of {b}"));
        }
        let down = |grid: &Self| grid.row[1] < 0.0;
        if self.area().signum() != mask.area().signum() {
            let stands = |grid: &Self| if down(grid) { "north-up" } else { "south-up" };
            // Of a grid that lies on its side, neither can be said.
            let upright = |grid: &Self| grid.row[1].abs() > grid.row[0].abs();
            out.push(match (stands(mask), stands(self)) {
                (a, b) if a != b && upright(mask) && upright(self) => format!("{a} beside {b}"),
                _ => "mirrored".to_owned(),
            });
        } else {
            let angle = |grid: &Self| grid.column[1].atan2(grid.column[0]).to_degrees();
            let turned = (angle(mask) - angle(self) + 540.0).rem_euclid(360.0) - 180.0;
            if turned.to_radians().abs() > SAME {
                out.push(format!("turned by {turned:.1} degrees"));
            }
        }
        out
    }
}

fn direction([x, y]: [f64; 2]) -> String {
    let north = if y > 0.0 { "north" } else { "south" };
    let east = if x > 0.0 { "east" } else { "west" };
    match (x.abs(), y.abs()) {
        (x, y) if y <= STRAIGHT * x => east.to_owned(),
        (x, y) if x <= STRAIGHT * y => north.to_owned(),
        _ => format!("{north}-{east}"),
    }
}

fn distance(length: f64, unit: &str) -> String {
    match length {
        l if unit == "m" && l >= 10_000.0 => format!("{:.1} km", l / 1000.0),
        l if l >= 100.0 => format!("{l:.1} {unit}"),
        l if l >= 0.01 => format!("{l:.2} {unit}"),
        l => format!("{l:.2e} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn georef(transform: [f64; 6], epsg: u32) -> Georef {
        Georef { transform, crs: Crs::from_epsg(epsg) }
    }

    fn told(image: &Georef, mask: &Georef) -> Option<(DifferenceKind, String)> {
        of_places(image, mask, 200, 100).map(|d| (d.kind, d.text))
    }

    #[test]
    fn shifts_are_told_in_metres_pixels_and_direction() {
        let image = georef([0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0], 32_645);
        let moved = |x: f64, y: f64| {
            let [a, b, c, d, e, f] = image.transform;
            georef([a, b, c + x, d, e, f + y], 32_645)
        };
        assert_eq!(told(&image, &image), None);
        assert_eq!(told(&image, &moved(0.02, 0.0)), None);
        for (x, y, words) in [
            (100.0, 0.0, ["100.0", "(200.", "east"]),
            (0.0, -0.25, ["0.25 m", "(0.5 pixels)", "south"]),
            (-0.5, 0.5, ["0.71 m", "(1.4 pixels)", "north-west"]),
        ] {
            let (kind, text) = told(&image, &moved(x, y)).expect("moved");
            assert!(kind == DifferenceKind::Place && words.iter().all(|w| text.contains(w)), "{words:?}: {text}");
        }
        // The next zone: the same numbers, six degrees further west.
        let (kind, text) = told(&image, &georef(image.transform, 32_644)).expect("another zone");
        assert!(text.contains("km") && text.contains("in EPSG:32644 instead of EPSG:32645"), "{kind:?} {text}");
        // A system that is not named is taken for the image's; one that cannot be converted is not compared.
        let unnamed = Georef { transform: moved(1.0, 0.0).transform, crs: Crs::default() };
        assert!(told(&image, &unnamed).expect("moved").1.contains("1.00 m (2.0 pixels) east"));
        let local = |x: f64| georef([0.5, 0.0, x, 0.0, -0.5, 0.0], 999_999);
        assert!(told(&local(0.0), &local(-1.0)).expect("moved").1.contains("1.00 map units (2.0 pixels) west"));
        assert_eq!(told(&image, &georef(image.transform, 999_999)).expect("unknown").0, DifferenceKind::System);
    }

    #[test]
    fn other_pixels_are_told() {
        let image = georef([0.5, 0.0, 500_000.0, 0.0, -0.5, 4_000_000.0], 32_645);
        let south_up = georef([0.5, 0.0, 500_000.0, 0.0, 0.5, 3_999_950.0], 32_645);
        for (mask, words) in [
            (
                georef([1.0, 0.0, 500_000.0, 0.0, -1.0, 4_000_000.0], 32_645),
                ["pixels of 1.00 m instead of 0.50 m", "away"],
            ),
            (south_up, ["south-up beside north-up", "50.0"]),
            (georef([0.0, 0.5, 500_000.0, 0.5, 0.0, 4_000_000.0], 32_645), ["turned by 90.0 degrees", "away"]),
            (georef([0.0, 0.5, 500_000.0, -0.5, 0.0, 4_000_000.0], 32_645), ["mirrored", "away"]),
        ] {
            let (kind, text) = told(&image, &mask).expect("another grid");
            assert!(kind == DifferenceKind::Grid && words.iter().all(|w| text.contains(w)), "{words:?}: {text}");
        }
        // ETRS89 and WGS 84 are the same here.
        assert_eq!(told(&georef(image.transform, 32_632), &georef(image.transform, 25_832)), None);
    }
}
