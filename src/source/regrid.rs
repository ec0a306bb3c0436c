//! Back from the grid on which a model ran to that of its input.

use super::raster::Patch;
use crate::mask::NO_DATA;

/// How columns (or rows) of one grid lie on another: `other = scale * one + offset`, at corners of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// Pixels of the other grid per pixel of the one, more than 0.
    pub scale: f64,
    /// Where the one's first pixel begins on the other.
    pub offset: f64,
}

impl Axis {
    /// The same grid.
    pub const SAME: Self = Self { scale: 1.0, offset: 0.0 };

    /// From the one to the other, and from there on.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { scale: self.scale * next.scale, offset: self.offset * next.scale + next.offset }
    }

    /// The other's pixel in which the centre of the one's lies, if it lies on it.
    fn nearest(self, one: usize, length: usize) -> Option<usize> {
        let place = (self.scale * (one as f64 + 0.5) + self.offset).floor();
        (place >= 0.0 && place < length as f64).then_some(place as usize)
    }
}

/// Brings the rows of a mask, from the top down, to another grid: each pixel there takes class and confidence of the pixel in
/// which its centre lies, and holds no data where there is none.
pub struct Regrid {
    /// Of each column of the new grid, that of the old.
    columns: Vec<Option<usize>>,
    axis: Axis,
    from: (usize, usize),
    height: usize,
    /// The next row to give.
    next: usize,
}

/// Rows of a mask on the new grid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GridRows {
    /// The first row's index.
    pub top: usize,
    /// Class of each pixel, row by row; [`NO_DATA`] where there is no data.
    pub classes: Vec<u8>,
    /// Probability of that class, 0 to 255.
    pub confidence: Vec<u8>,
}

impl Regrid {
    /// From a grid of a size (width, height) to another, whose columns and rows lie on the first as `axes` say.
    pub fn new(from: (usize, usize), to: (usize, usize), axes: [Axis; 2]) -> Self {
        let columns = (0..to.0).map(|x| axes[0].nearest(x, from.0)).collect();
        Self { columns, axis: axes[1], from, height: to.1, next: 0 }
    }

    /// Takes the next rows of the old grid, which begin at row `top`; gives what can be given of the new.
    pub fn push(&mut self, top: usize, classes: &[u8], confidence: &[u8]) -> GridRows {
        let end = top + classes.len() / self.from.0.max(1);
        let mut rows = GridRows { top: self.next, ..GridRows::default() };
        while self.next < self.height {
            let place = self.axis.scale * (self.next as f64 + 0.5) + self.axis.offset;
            if place >= end as f64 && end < self.from.1 {
                break;
            }
            let row = self.axis.nearest(self.next, self.from.1).and_then(|row| row.checked_sub(top));
            let start = row.map(|row| row * self.from.0).filter(|start| start + self.from.0 <= classes.len());
            for column in &self.columns {
                let at = start.zip(*column).map(|(start, column)| start + column);
                rows.classes.push(at.and_then(|at| classes.get(at)).copied().unwrap_or(NO_DATA));
                rows.confidence.push(at.and_then(|at| confidence.get(at)).copied().unwrap_or(0));
            }
            self.next += 1;
        }
        rows
    }
}

impl GridRows {
    /// Marks what holds no data in the input itself: `patch` are its pixels of these rows.
    pub fn without(&mut self, patch: &Patch) {
        for (i, (class, confidence)) in self.classes.iter_mut().zip(&mut self.confidence).enumerate() {
            if !patch.is_valid(i) {
                (*class, *confidence) = (NO_DATA, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pixel_takes_the_one_its_centre_lies_in() {
        // 2 x 2 pixels, 1.5 times as large as those of a grid of 4 x 3, which begins 0.4 of a pixel before them.
        let axis = Axis { scale: 1.0 / 1.5, offset: -0.4 / 1.5 };
        let mut regrid = Regrid::new((2, 2), (4, 3), [axis, axis]);
        let first = regrid.push(0, &[1, 2], &[10, 20]);
        assert_eq!(
            (first.top, first.classes, first.confidence),
            (0, vec![1, 1, 2, NO_DATA, 1, 1, 2, NO_DATA], vec![10, 10, 20, 0, 10, 10, 20, 0])
        );
        let second = regrid.push(1, &[3, 4], &[30, 40]);
        assert_eq!((second.top, second.classes), (2, vec![3, 3, 4, NO_DATA]));
    }

    #[test]
    fn all_rows_come_once_whatever_the_portions() {
        for (scale, offset) in [(0.3, 0.1), (1.0, 0.0), (2.7, -1.0), (0.9, 3.0), (1.1, -4.0)] {
            let axis = Axis { scale, offset };
            let classes: Vec<u8> = (0..20u8).flat_map(|row| [row; 3]).collect();
            let whole = Regrid::new((3, 20), (5, 31), [Axis::SAME, axis]).push(0, &classes, &classes);
            assert_eq!(whole.classes.len(), 5 * 31);
            let mut parts = Regrid::new((3, 20), (5, 31), [Axis::SAME, axis]);
            let mut found = Vec::new();
            for (i, rows) in classes.chunks(3 * 7).enumerate() {
                let part = parts.push(i * 7, rows, rows);
                assert_eq!(part.top * 5, found.len());
                found.extend(part.classes);
            }
            assert_eq!(found, whole.classes);
        }
    }
}
