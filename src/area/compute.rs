//! One block: reads its windows, runs the network over them, blends.

use super::blend::{Placed, blend};
use super::grid::Grid;
use super::kept::Kept;
use super::network::{Network, mean_logits};
use super::report::{Times, timed};
use super::view::{Augment, View};
use crate::error::{Error, Result};
use crate::mask::NO_DATA;
use crate::source::{Patch, Raster, Window};

/// Why a block is not finished.
pub(super) enum Fault {
    /// Its imagery cannot be read: perhaps later.
    Read(Error),
    /// The job must end.
    End(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::End(error)
    }
}

/// Computes blocks.
pub(super) struct Computer<'a> {
    pub(super) grid: &'a Grid,
    pub(super) network: &'a mut dyn Network,
    pub(super) raster: &'a mut dyn Raster,
    pub(super) augment: Augment,
    pub(super) kept: Kept,
    pub(super) times: Times,
    /// Windows run so far.
    pub(super) windows: u64,
}

/// Classes and confidences of a block.
pub(super) struct Found {
    pub(super) classes: Vec<u8>,
    pub(super) confidence: Vec<u8>,
}

impl Computer<'_> {
    /// Computes the block that is `part` of the raster. Of a block with an outline, `inside` says which pixels lie in it (none: all
    /// do); windows without any are not run. `pause` is called after each batch of windows.
    pub(super) fn block(
        &mut self,
        part: Window,
        inside: &[bool],
        pause: &mut dyn FnMut(&Times, u64) -> Result<()>,
    ) -> Result<Found, Fault> {
        let grid = self.grid;
        let columns = grid.cells_touching(0, part.x, part.x + part.width);
        let rows = grid.cells_touching(1, part.y, part.y + part.height);
        if self.raster.is_known_blank(part) {
            return Ok(Found { classes: vec![NO_DATA; part.pixels()], confidence: vec![0; part.pixels()] });
        }
        let mut valid = vec![false; part.pixels()];
        for row in rows.clone() {
            let is_new =
                |column: &i64| !self.kept.has((row, *column)) && has_inside(grid, part, inside, (row, *column));
            let new: Vec<i64> = columns.clone().filter(is_new).collect();
            self.row(part, row, &new, &mut valid, pause)?;
        }
        for (valid, inside) in valid.iter_mut().zip(inside) {
            *valid &= inside;
        }
        let mut placed = Vec::new();
        for row in rows {
            for column in columns.clone() {
                if let Some(logits) = self.kept.get((row, column)) {
                    placed.push(Placed { x: grid.window_start(0, column), y: grid.window_start(1, row), logits });
                }
            }
        }
        let fade = grid.input() - grid.tile();
        let blended = || blend(part, &placed, &valid, grid.input(), fade);
        let (classes, confidence) = timed(&mut self.times.blend, blended);
        Ok(Found { classes, confidence })
    }

    /// Reads a row of windows in one piece, notes which of the block's pixels hold data, and runs the `new` ones.
    fn row(
        &mut self,
        part: Window,
        row: i64,
        new: &[i64],
        valid: &mut [bool],
        pause: &mut dyn FnMut(&Times, u64) -> Result<()>,
    ) -> Result<(), Fault> {
        let grid = self.grid;
        // The block's own pixels in this row of cells, of which it must be known whether they hold data.
        let cell = grid.cell_part(1, row);
        let own = (cell.0.max(part.y), cell.1.min(part.y + part.height));
        let has_own = own.0 < own.1;
        let mut piece = has_own.then_some((part.x, own.0, part.x + part.width, own.1));
        if let (Some(first), Some(last)) = (new.first(), new.last()) {
            let ((left, _), (_, right), (top, bottom)) =
                (grid.window_part(0, *first), grid.window_part(0, *last), grid.window_part(1, row));
            let whole = piece.unwrap_or((left, top, right, bottom));
            piece = Some((whole.0.min(left), whole.1.min(top), whole.2.max(right), whole.3.max(bottom)));
        }
        let Some((left, top, right, bottom)) = piece else { return Ok(()) };
        let window = Window { x: left, y: top, width: right - left, height: bottom - top };
        let bands: Vec<usize> = (0..self.raster.bands()).collect();
        let read = || self.raster.read(window, &bands);
        let patch = timed(&mut self.times.read, read).map_err(Fault::Read)?;
        if has_own && !patch.is_blank() {
            for y in own.0..own.1 {
                let from = (y - top) * window.width + part.x - left;
                let to = &mut valid[(y - part.y) * part.width..][..part.width];
                match patch.valid.get(from..from + part.width) {
                    Some(valid) => to.copy_from_slice(valid),
                    None => to.fill(true),
                }
            }
        }
        let mut todo = Vec::new();
        for &column in new {
            // All that a window has may be a rim whose pixels its neighbours know better.
            if patch.is_blank() || !has_data(&patch, window, grid.cell_part(0, column), cell) {
                self.kept.put((row, column), None);
            } else {
                todo.push(column);
            }
        }
        for columns in todo.chunks(self.network.batch().max(1)) {
            let view = |column: &i64| {
                let start = (grid.window_start(0, *column), grid.window_start(1, row));
                let (columns, rows) = (grid.window_part(0, *column), grid.window_part(1, row));
                View::new(&patch, (left, top), start, columns, rows, grid.input())
            };
            let views: Vec<View<'_>> = columns.iter().map(view).collect();
            let (network, augment) = (&mut *self.network, self.augment);
            let found = timed(&mut self.times.model, || mean_logits(network, &views, augment))?;
            for (column, logits) in columns.iter().zip(found) {
                self.kept.put((row, *column), Some(logits));
            }
            self.windows += columns.len() as u64;
            pause(&self.times, self.windows)?;
        }
        Ok(())
    }
}

/// Whether any pixel of a cell holds data. `patch` is `window` of the raster.
fn has_data(patch: &Patch, window: Window, columns: (usize, usize), rows: (usize, usize)) -> bool {
    let line = |y: usize| {
        let at = (y - window.y) * window.width;
        let cell = at + columns.0 - window.x..at + columns.1 - window.x;
        patch.valid.get(cell).is_none_or(|valid| valid.contains(&true))
    };
    patch.valid.is_empty() || (rows.0..rows.1).any(line)
}

/// Whether a window has any pixel of a block's outline.
fn has_inside(grid: &Grid, part: Window, inside: &[bool], (row, column): (i64, i64)) -> bool {
    if inside.is_empty() {
        return true;
    }
    let ((left, right), (top, bottom)) = (grid.window_part(0, column), grid.window_part(1, row));
    let (left, right) = (left.max(part.x) - part.x, right.min(part.x + part.width).max(part.x) - part.x);
    (top.max(part.y)..bottom.min(part.y + part.height)).any(|y| {
        let line = &inside[(y - part.y) * part.width..][..part.width];
        line.get(left..right).is_some_and(|line| line.contains(&true))
    })
}

impl Found {
    /// Whether none of it holds data.
    pub(super) fn is_blank(&self) -> bool {
        self.classes.iter().all(|c| *c == NO_DATA)
    }
}
