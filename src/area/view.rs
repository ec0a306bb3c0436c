//! What the network sees of a window: a square of its input's size, mirrored where the raster ends, and turned.

use crate::error::{Error, ErrorKind, Result};
use crate::image::Pixels;
use crate::preprocess::mirror;
use crate::source::Patch;

/// Over which views of a window logits are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Augment {
    /// The window as it is.
    #[default]
    None,
    /// It and its mirror images, left to right, top to bottom, and both: 4 views.
    Flips,
    /// These, and the same with rows and columns exchanged: 8 views.
    Dihedral,
}

impl Augment {
    /// `none`, `flips` or `dihedral`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flips => "flips",
            Self::Dihedral => "dihedral",
        }
    }

    /// How many views there are.
    pub fn views(self) -> u8 {
        match self {
            Self::None => 1,
            Self::Flips => 4,
            Self::Dihedral => 8,
        }
    }
}

impl std::str::FromStr for Augment {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::None, Self::Flips, Self::Dihedral].into_iter().find(|a| a.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("there is no way {name:?} to augment"))
                .remedy("use none, flips or dihedral")
        })
    }
}

/// The place in a square of `side` from which a view takes what it has at column `x`, row `y`: bit 0 of `turn` mirrors columns, bit 1
/// rows, bit 2 exchanges both.
pub(super) fn turned(turn: u8, side: usize, x: usize, y: usize) -> (usize, usize) {
    let (x, y) = if turn & 4 == 0 { (x, y) } else { (y, x) };
    let flip = |bit: u8, at: usize| if turn & bit == 0 { at } else { side - 1 - at };
    (flip(1, x), flip(2, y))
}

/// A window as a square of pixels.
///
/// The part of the window that lies within the raster is mirrored at its borders, as often as it takes. That depends on where the
/// raster ends and on nothing else.
pub struct View<'a> {
    patch: &'a Patch,
    /// For each column and row of the square, that of the patch.
    columns: Vec<usize>,
    rows: Vec<usize>,
    turn: u8,
}

impl<'a> View<'a> {
    /// A window of `side` pixels, of which `patch` holds the columns and rows (from, to) of the raster that `columns` and `rows` say, and
    /// perhaps more around; `at` is the raster's column and row at which the patch begins, `start` those of the window.
    pub(super) fn new(
        patch: &'a Patch,
        at: (usize, usize),
        start: (i64, i64),
        columns: (usize, usize),
        rows: (usize, usize),
        side: usize,
    ) -> Self {
        let line = |start: i64, (from, to): (usize, usize), at: usize| {
            let place = |i: i64| from - at + mirror(start + i - from as i64, to - from);
            (0..side as i64).map(place).collect()
        };
        Self { patch, columns: line(start.0, columns, at.0), rows: line(start.1, rows, at.1), turn: 0 }
    }

    /// This view once more.
    pub(super) fn same(&self) -> Self {
        self.turn(self.turn)
    }

    /// Another view of the same window.
    pub(super) fn turn(&self, turn: u8) -> Self {
        Self { patch: self.patch, columns: self.columns.clone(), rows: self.rows.clone(), turn }
    }
}

impl Pixels for View<'_> {
    fn width(&self) -> usize {
        self.columns.len()
    }

    fn height(&self) -> usize {
        self.rows.len()
    }

    fn bands(&self) -> usize {
        self.patch.bands
    }

    fn sample(&self, x: usize, y: usize, band: usize) -> f32 {
        let (x, y) = turned(self.turn, self.columns.len(), x, y);
        self.patch.sample(self.columns[x], self.rows[y], band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Samples;

    #[test]
    fn a_window_is_mirrored_where_the_raster_ends() {
        // Columns 3 to 7 and rows 0 to 2 of a raster that ends there; the window begins at column 4, row -1.
        let samples = Samples::U8((0..15).collect());
        let patch = Patch { width: 5, height: 3, bands: 1, samples, valid: Vec::new() };
        let view = View::new(&patch, (3, 0), (4, -1), (4, 8), (0, 3), 6);
        let row = |y: usize| (0..6).map(|x| view.sample(x, y, 0) as u8).collect::<Vec<_>>();
        assert_eq!(row(1), [1, 2, 3, 4, 3, 2]);
        assert_eq!(row(0), [6, 7, 8, 9, 8, 7]);
        assert_eq!(row(4), row(2));
        assert_eq!(view.turn(1).sample(0, 1, 0), view.sample(5, 1, 0));
        assert_eq!(view.turn(6).sample(1, 0, 0), view.sample(0, 4, 0));
    }

    #[test]
    fn views_are_eight_different_ones() {
        let all: std::collections::BTreeSet<Vec<(usize, usize)>> =
            (0..8).map(|turn| (0..9).map(|i| turned(turn, 3, i % 3, i / 3)).collect()).collect();
        assert_eq!(all.len(), 8);
        for name in ["none", "flips", "dihedral"] {
            assert_eq!(name.parse::<Augment>().expect("known").name(), name);
        }
        assert!("both".parse::<Augment>().is_err());
    }
}
