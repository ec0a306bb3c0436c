//! Where a crop's pixels come from: one affine map, and a shorter way where it only turns by quarters.

use super::unit;
use crate::random::SplitMix;
use crate::train::dataset::{Chip, IGNORE, Samples};

/// How a crop looks at its chip.
pub(super) struct CropView {
    /// Bit 0: columns and rows change places; bit 1: mirrored from left to right; bit 2: from top to bottom.
    pub quarter: u8,
    /// Magnification.
    pub zoom: f32,
    /// Turn in radians.
    pub angle: f32,
}

/// Fixed point: this many bits behind the point.
const BITS: u32 = 16;

/// A pixel `(x, y)` of a class drawn evenly among those that occur.
pub(super) fn rare_pixel(chip: &Chip, random: &mut SplitMix) -> Option<(usize, usize)> {
    let mut counts = [0u64; 256];
    for &label in &chip.labels {
        counts[usize::from(label)] += 1;
    }
    counts[usize::from(IGNORE)] = 0;
    let present = counts.iter().filter(|n| **n > 0).count() as u64;
    let wanted = (random.next_u64() % present.max(1)) as usize;
    let (class, count) = counts.iter().enumerate().filter(|(_, n)| **n > 0).nth(wanted)?;
    let wanted = (random.next_u64() % count) as usize;
    let at = chip.labels.iter().enumerate().filter(|(_, l)| usize::from(**l) == class).nth(wanted)?.0;
    Some((at % chip.width, at / chip.width))
}

/// Where the pixels of a crop come from: whatever belongs to a chip is cropped alike.
pub(super) enum Placement {
    /// Pixels as they are, turned by quarters.
    Whole(Lines),
    /// Sampled in between.
    Sampled(Path),
}

/// A placement about `focus`, or anywhere. The crop stays within the chip where it can; where it is larger, the chip lies
/// anywhere in it.
pub(super) fn place(
    chip: &Chip,
    size: usize,
    view: &CropView,
    focus: Option<(usize, usize)>,
    random: &mut SplitMix,
) -> Placement {
    let half = size as f32 / 2.0;
    if view.zoom == 1.0 && view.angle == 0.0 {
        let mut place = |length: usize, focus: Option<usize>| {
            let (low, high) = (0.min(length as i64 - size as i64), 0.max(length as i64 - size as i64));
            match focus {
                Some(at) => (at as i64 - size as i64 / 2).clamp(low, high),
                None => low + (random.next_u64() % (high - low + 1) as u64) as i64,
            }
        };
        let x = place(chip.width, focus.map(|f| f.0));
        let y = place(chip.height, focus.map(|f| f.1));
        return Placement::Whole(Lines::new(chip, size, (x, y), view.quarter));
    }

    // Offsets from the middle, from the crop's to the chip's: turned, then transposed, then mirrored.
    let (sin, cos) = view.angle.sin_cos();
    let (mut x, mut y) = ([cos / view.zoom, -sin / view.zoom], [sin / view.zoom, cos / view.zoom]);
    if view.quarter & 1 != 0 {
        std::mem::swap(&mut x, &mut y);
    }
    if view.quarter & 2 != 0 {
        x = x.map(|v| -v);
    }
    if view.quarter & 4 != 0 {
        y = y.map(|v| -v);
    }
    let mut place = |length: usize, axis: [f32; 2], focus: Option<usize>| {
        let (reach, length) = (half * (axis[0].abs() + axis[1].abs()), length as f32);
        let (low, high) = (reach.min(length - reach), reach.max(length - reach));
        match focus {
            Some(at) => (at as f32 + 0.5).clamp(low, high),
            None => low + (high - low) * unit(random),
        }
    };
    let middle = [place(chip.width, x, focus.map(|f| f.0)), place(chip.height, y, focus.map(|f| f.1))];
    Placement::Sampled(Path::new(size, [x, y], middle))
}

/// The middle of a chip.
pub(super) fn centre(chip: &Chip, size: usize) -> Placement {
    let place = |length: usize| (length as i64 - size as i64).div_euclid(2);
    Placement::Whole(Lines::new(chip, size, (place(chip.width), place(chip.height)), 0))
}

impl Placement {
    /// The crop of a chip, or of what lies upon one and has its size: samples bilinearly, mirrored beyond it; of labels the
    /// nearest, [`IGNORE`] beyond it.
    pub(super) fn crop(&self, chip: &Chip) -> Chip {
        let size = match self {
            Self::Whole(lines) => lines.columns.len(),
            Self::Sampled(path) => path.size,
        };
        let samples = match (self, &chip.samples) {
            (Self::Whole(lines), Samples::U8(v)) => Samples::U8(lines.copy(v, chip)),
            (Self::Whole(lines), Samples::U16(v)) => Samples::U16(lines.copy(v, chip)),
            (Self::Whole(lines), Samples::F32(v)) => Samples::F32(lines.copy(v, chip)),
            (Self::Sampled(path), Samples::U8(v)) if chip.bands == 3 => Samples::U8(path.sample::<u8, 3>(v, chip)),
            (Self::Sampled(path), Samples::U8(v)) => Samples::U8(path.sample::<u8, 0>(v, chip)),
            (Self::Sampled(path), Samples::U16(v)) => Samples::U16(path.sample::<u16, 0>(v, chip)),
            (Self::Sampled(path), Samples::F32(v)) => Samples::F32(path.sample::<f32, 0>(v, chip)),
        };
        let labels = self.labels(&chip.labels, chip);
        Chip { width: size, height: size, bands: chip.bands, samples, labels }
    }

    /// The crop of labels, `[height, width]` of `chip`.
    pub(super) fn labels(&self, of: &[u8], chip: &Chip) -> Vec<u8> {
        match self {
            Self::Whole(lines) => lines.labels(of, chip.width),
            Self::Sampled(path) => path.labels(of, chip.width, chip.height),
        }
    }
}

/// The pixel that stands at `at` where `length` pixels are mirrored at their edges again and again, and whether it is its own.
fn mirrored(at: i64, length: usize) -> (usize, bool) {
    let period = 2 * length as i64;
    let inside = (0..length as i64).contains(&at);
    let at = at.rem_euclid(period);
    (if at < length as i64 { at } else { period - 1 - at } as usize, inside)
}

/// Which columns and rows of a chip a crop without resampling has, and whether they are the chip's own.
pub(super) struct Lines {
    columns: Vec<(usize, bool)>,
    rows: Vec<(usize, bool)>,
    transposed: bool,
}

impl Lines {
    /// The crop's top left pixel lies at (x, y) before it is turned by quarters.
    fn new(chip: &Chip, size: usize, (x, y): (i64, i64), quarter: u8) -> Self {
        let line = |from: i64, length: usize, turned: bool| -> Vec<(usize, bool)> {
            let mut line: Vec<_> = (0..size as i64).map(|i| mirrored(from + i, length)).collect();
            if turned {
                line.reverse();
            }
            line
        };
        Self {
            columns: line(x, chip.width, quarter & 2 != 0),
            rows: line(y, chip.height, quarter & 4 != 0),
            transposed: quarter & 1 != 0,
        }
    }

    fn labels(&self, of: &[u8], width: usize) -> Vec<u8> {
        let size = self.columns.len();
        let mut labels = vec![IGNORE; size * size];
        for (v, out) in labels.chunks_exact_mut(size).enumerate() {
            for (u, out) in out.iter_mut().enumerate() {
                let ((column, in_columns), (row, in_rows)) =
                    if self.transposed { (self.columns[v], self.rows[u]) } else { (self.columns[u], self.rows[v]) };
                if in_columns && in_rows {
                    *out = of[row * width + column];
                }
            }
        }
        labels
    }

    fn copy<T: Copy + Default>(&self, from: &[T], chip: &Chip) -> Vec<T> {
        match chip.bands {
            3 => self.copy_bands::<T, 3>(from, chip),
            _ => self.copy_bands::<T, 0>(from, chip),
        }
    }

    /// `BANDS` is the number of bands, so that the compiler knows it; 0 for any.
    fn copy_bands<T: Copy + Default, const BANDS: usize>(&self, from: &[T], chip: &Chip) -> Vec<T> {
        let bands = if BANDS == 0 { chip.bands } else { BANDS };
        let size = self.columns.len();
        let mut out = vec![T::default(); size * size * bands];
        for (v, out) in out.chunks_exact_mut(size * bands).enumerate() {
            for (u, out) in out.chunks_exact_mut(bands).enumerate() {
                let ((column, _), (row, _)) =
                    if self.transposed { (self.columns[v], self.rows[u]) } else { (self.columns[u], self.rows[v]) };
                let at = (row * chip.width + column) * bands;
                out.copy_from_slice(&from[at..at + bands]);
            }
        }
        out
    }
}

/// The places of a crop's pixels in its chip, in fixed point: whole numbers are exact, and fast without SSE4.
pub(super) struct Path {
    start: [i64; 2],
    across: [i64; 2],
    down: [i64; 2],
    size: usize,
    /// Where the crop is the smaller one, each of its pixels is the mean of this many places a side.
    places: i64,
}

impl Path {
    /// A crop whose pixel at offset `o` from its middle comes from `middle + axes o` of the chip.
    fn new(size: usize, axes: [[f32; 2]; 2], middle: [f32; 2]) -> Self {
        let fixed = |v: f64| (v * f64::from(1u32 << BITS)).round() as i64;
        let start = |axis: [f32; 2], middle: f32| {
            let offset = 0.5 - size as f64 / 2.0;
            fixed(f64::from(middle) + (f64::from(axis[0]) + f64::from(axis[1])) * offset)
        };
        Self {
            start: [start(axes[0], middle[0]), start(axes[1], middle[1])],
            across: [fixed(axes[0][0].into()), fixed(axes[1][0].into())],
            down: [fixed(axes[0][1].into()), fixed(axes[1][1].into())],
            size,
            // One place a pixel misses none; a little below its size, the bilinear sample sees them all.
            places: match axes[0][0].hypot(axes[1][0]) {
                step if step < 1.4 => 1,
                step => step.ceil().min(6.0) as i64,
            },
        }
    }

    fn labels(&self, of: &[u8], width: usize, height: usize) -> Vec<u8> {
        let mut labels = vec![IGNORE; self.size * self.size];
        let (width, height) = (width as i64, height as i64);
        self.each(|at, [x, y]| {
            let (x, y) = (x >> BITS, y >> BITS);
            if (0..width).contains(&x) && (0..height).contains(&y) {
                labels[at] = of[(y * width + x) as usize];
            }
        });
        labels
    }

    fn each(&self, mut use_place: impl FnMut(usize, [i64; 2])) {
        for v in 0..self.size {
            let n = v as i64;
            let mut place = [self.start[0] + n * self.down[0], self.start[1] + n * self.down[1]];
            for u in 0..self.size {
                use_place(v * self.size + u, place);
                place = [place[0] + self.across[0], place[1] + self.across[1]];
            }
        }
    }

    /// Bilinear samples, mirrored beyond the chip. `BANDS` is the number of bands, so that the compiler knows it; 0 for any.
    fn sample<T: Bilinear, const BANDS: usize>(&self, from: &[T], chip: &Chip) -> Vec<T> {
        let bands = if BANDS == 0 { chip.bands } else { BANDS };
        let (width, height) = (chip.width as i64, chip.height as i64);
        let mut out = vec![T::default(); self.size * self.size * bands];
        if self.places > 1 {
            self.average::<T>(from, chip, &mut out);
            return out;
        }
        let half = 1i64 << (BITS - 1);
        self.each(|at, [x, y]| {
            // Samples lie in the middle of pixels.
            let (x, y) = (x - half, y - half);
            let (left, top) = (x >> BITS, y >> BITS);
            let part = |v: i64| (v >> (BITS - 8)) as u32 & 255;
            let (right, bottom) = (part(x), part(y));
            let corners = if left >= 0 && left + 1 < width && top >= 0 && top + 1 < height {
                let at = (top * width + left) as usize * bands;
                [at, at + bands, at + chip.width * bands, at + (chip.width + 1) * bands]
            } else {
                let columns = [mirrored(left, chip.width).0, mirrored(left + 1, chip.width).0];
                let rows = [mirrored(top, chip.height).0, mirrored(top + 1, chip.height).0];
                let at = |row: usize, column: usize| (row * chip.width + column) * bands;
                [at(rows[0], columns[0]), at(rows[0], columns[1]), at(rows[1], columns[0]), at(rows[1], columns[1])]
            };
            let [a, b, c, d] = corners.map(|at| &from[at..at + bands]);
            let out = &mut out[at * bands..(at + 1) * bands];
            for band in 0..bands {
                out[band] = T::blend([a[band], b[band], c[band], d[band]], right, bottom);
            }
        });
        out
    }

    /// Means over the pixels' areas, of the nearest samples at places that are spread evenly over them.
    fn average<T: Bilinear>(&self, from: &[T], chip: &Chip, out: &mut [T]) {
        let (bands, n) = (chip.bands, self.places);
        let offset = |i: i64, step: i64| step * (2 * i + 1 - n) / (2 * n);
        let mut sums = vec![0.0f32; bands];
        self.each(|at, [x, y]| {
            sums.fill(0.0);
            for j in 0..n {
                for i in 0..n {
                    let x = x + offset(i, self.across[0]) + offset(j, self.down[0]);
                    let y = y + offset(i, self.across[1]) + offset(j, self.down[1]);
                    let (column, row) = (mirrored(x >> BITS, chip.width).0, mirrored(y >> BITS, chip.height).0);
                    let at = (row * chip.width + column) * bands;
                    sums.iter_mut().zip(&from[at..at + bands]).for_each(|(sum, v)| *sum += (*v).into());
                }
            }
            let out = &mut out[at * bands..(at + 1) * bands];
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = T::nearest(sum / (n * n) as f32));
        });
    }
}

/// A sample between four others: top left, top right, bottom left, bottom right.
trait Bilinear: Copy + Default + Into<f32> {
    /// The value that is nearest to a mean of values.
    fn nearest(mean: f32) -> Self;

    /// `right` and `bottom` are the parts of the way there, 0 to 255 of 256.
    fn blend(corners: [Self; 4], right: u32, bottom: u32) -> Self;
}

impl Bilinear for u8 {
    fn nearest(mean: f32) -> Self {
        mean.round() as u8
    }

    fn blend(corners: [Self; 4], right: u32, bottom: u32) -> Self {
        let [a, b, c, d] = corners.map(u32::from);
        let (top, low) = (a * (256 - right) + b * right, c * (256 - right) + d * right);
        ((top * (256 - bottom) + low * bottom + (1 << 15)) >> 16) as u8
    }
}

impl Bilinear for u16 {
    fn nearest(mean: f32) -> Self {
        mean.round() as u16
    }

    fn blend(corners: [Self; 4], right: u32, bottom: u32) -> Self {
        let [a, b, c, d] = corners.map(u64::from);
        let (right, bottom) = (u64::from(right), u64::from(bottom));
        let (top, low) = (a * (256 - right) + b * right, c * (256 - right) + d * right);
        ((top * (256 - bottom) + low * bottom + (1 << 15)) >> 16) as u16
    }
}

impl Bilinear for f32 {
    fn nearest(mean: f32) -> Self {
        mean
    }

    fn blend([a, b, c, d]: [Self; 4], right: u32, bottom: u32) -> Self {
        let (right, bottom) = (right as f32 / 256.0, bottom as f32 / 256.0);
        let (top, low) = (a + (b - a) * right, c + (d - c) * right);
        top + (low - top) * bottom
    }
}
