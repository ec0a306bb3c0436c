//! Boundary IoU: overlap of the bands along the inside of borders, so that shapes count and not areas alone.
//!
//! Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", <https://arxiv.org/abs/2103.16562>,
//! as their code has it: the band of a mask is the mask without its erosion by a square of `2 d + 1` pixels, and beyond the image
//! nothing is of any class. The paper's width `d` is 2 % of the image's diagonal.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// How wide the band along a border is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BoundaryWidth {
    /// Percent of the image's diagonal, above 0 to 100.
    Diagonal(f64),
    /// Pixels.
    Pixels(f64),
    /// Metres on the ground.
    Metres(f64),
}

impl Default for BoundaryWidth {
    /// The paper's.
    fn default() -> Self {
        Self::Diagonal(2.0)
    }
}

impl BoundaryWidth {
    /// Pixels, at least 1, in an image of `width` x `height` pixels of so many metres, where that is known.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is in metres and those of a pixel are not known.
    pub fn pixels(self, width: usize, height: usize, metres_per_pixel: Option<f64>) -> Result<usize> {
        let pixels = match (self, metres_per_pixel) {
            (Self::Diagonal(percent), _) => percent / 100.0 * (width as f64).hypot(height as f64),
            (Self::Pixels(pixels), _) => pixels,
            (Self::Metres(metres), Some(pixel)) => metres / pixel,
            (Self::Metres(_), None) => {
                return Err(Error::new(ErrorKind::Invalid, "how many metres a pixel covers is not known")
                    .remedy("give the boundary's width in pixels, as 3px, or of the diagonal, as 2%"));
            }
        };
        Ok((pixels.round_ties_even() as usize).clamp(1, width.max(height)))
    }
}

impl fmt::Display for BoundaryWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagonal(percent) => write!(f, "{percent}%"),
            Self::Pixels(pixels) => write!(f, "{pixels}px"),
            Self::Metres(metres) => write!(f, "{metres}m"),
        }
    }
}

impl FromStr for BoundaryWidth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, format!("{text:?} is no width of a boundary"))
                .remedy("write a share of the diagonal as 2%, pixels as 3px, or metres as 0.5m")
        };
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| wrong())?;
        match unit.trim() {
            "%" if number > 0.0 && number <= 100.0 => Ok(Self::Diagonal(number)),
            "px" if number >= 1.0 => Ok(Self::Pixels(number)),
            "m" if number > 0.0 => Ok(Self::Metres(number)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for BoundaryWidth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// For each of `classes` classes, the pixels that are in both bands of width `d`, and in either; of class indices
/// `[height, width]`, where values beyond the classes are none.
pub(super) fn overlaps(truth: &[u8], prediction: &[u8], width: usize, d: usize, classes: usize) -> Vec<[u64; 2]> {
    let overlap = |class: usize| {
        let [a, b] = [truth, prediction].map(|plane| band(plane, class as u8, width, d));
        let count = |test: &dyn Fn(bool, bool) -> bool| a.iter().zip(&b).filter(|(a, b)| test(**a, **b)).count() as u64;
        [count(&|a, b| a && b), count(&|a, b| a || b)]
    };
    (0..classes.min(256)).map(overlap).collect()
}

/// The pixels of a class within `d` (along rows, columns and diagonals) of what is not of it, or of the image's end.
fn band(plane: &[u8], class: u8, width: usize, d: usize) -> Vec<bool> {
    let height = plane.len() / width.max(1);
    let mut inner: Vec<bool> = plane.iter().map(|v| *v == class).collect();
    if !inner.contains(&true) {
        return inner;
    }
    // A square is eroded row by row, then column by column.
    for row in inner.chunks_exact_mut(width) {
        let line = eroded(row.iter().copied(), width, d);
        row.copy_from_slice(&line);
    }
    for x in 0..width {
        let line = eroded((0..height).map(|y| inner[y * width + x]), height, d);
        (0..height).for_each(|y| inner[y * width + x] = line[y]);
    }
    plane.iter().zip(inner).map(|(v, inner)| *v == class && !inner).collect()
}

/// Whether a value and its `d` neighbours on both sides are all set.
fn eroded(line: impl Iterator<Item = bool>, length: usize, d: usize) -> Vec<bool> {
    // Set values before each place.
    let mut before = Vec::with_capacity(length + 1);
    before.push(0usize);
    line.for_each(|set| before.push(before[before.len() - 1] + usize::from(set)));
    let kept = |i: usize| i >= d && i + d < length && before[i + d + 1] - before[i - d] == 2 * d + 1;
    (0..length).map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_written_in_three_ways() {
        for (text, width, pixels) in [
            ("2%", BoundaryWidth::Diagonal(2.0), 10),
            ("3px", BoundaryWidth::Pixels(3.0), 3),
            ("0.5 m", BoundaryWidth::Metres(0.5), 2),
        ] {
            let read: BoundaryWidth = text.parse().expect("a width");
            assert_eq!(read, width);
            assert_eq!(read.pixels(300, 400, Some(0.25)).expect("known"), pixels, "{text}");
            assert_eq!(read.to_string().parse::<BoundaryWidth>().expect("a width"), width);
        }
        for wrong in ["", "2", "px", "0px", "-1px", "0%", "2 feet", "nanm", "1..2m"] {
            assert!(wrong.parse::<BoundaryWidth>().is_err(), "{wrong}");
        }
        assert!(BoundaryWidth::Metres(1.0).pixels(9, 9, None).is_err());
    }

    #[test]
    fn a_band_lies_inside_its_mask() {
        // A square of five within seven, beside the image's end.
        let plane: Vec<u8> = (0..49).map(|i| u8::from(i % 7 < 5 && i / 7 < 5)).collect();
        let band = band(&plane, 1, 7, 1);
        let inside: Vec<usize> = (0..49).filter(|i| plane[*i] == 1 && !band[*i]).collect();
        assert_eq!(inside, [8, 9, 10, 15, 16, 17, 22, 23, 24]);
        assert_eq!(band.iter().filter(|b| **b).count(), 16);
    }
}
