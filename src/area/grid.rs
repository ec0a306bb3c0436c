//! The grid of windows and blocks, fixed to the ground.

use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Georef, WEB_MERCATOR};
use crate::source::Window;
use crate::tile::HALF_WORLD;

/// The fraction of a pixel from which on a raster's corner counts as the next pixel of the grid. The halves, thirds, quarters and
/// tenths that rasters really lie off the grid by are far from it: parts of one raster, whose corners differ by rounding, agree.
const NEXT_PIXEL: f64 = 0.58;
/// Pixels beyond which the grid's numbers would not be exact.
const FARTHEST: f64 = 1e15;

/// A block by its column and row in the grid of blocks: those before the system's origin are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// Row; the first in the order, as blocks are computed row by row.
    pub row: i64,
    /// Column.
    pub column: i64,
}

/// Cells of `tile` x `tile` pixels, counted from the origin of the raster's coordinate reference system in its pixels. Around each
/// lies a window of `input` x `input` pixels; a window that has no pixel of the raster in its cell is none.
///
/// Where a raster has no place, or is rotated, its own corner is the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The raster's width and height.
    size: (usize, usize),
    /// Column and row in the grid's pixels of the raster's top left pixel.
    origin: [i64; 2],
    input: usize,
    tile: usize,
}

impl Grid {
    /// The grid under a raster of `size` (width, height) for a network with an input of `input` pixels a side whose middle `tile`
    /// pixels are its own.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an empty raster and for a tile that is empty or larger than the input.
    pub fn new(size: (usize, usize), georef: Option<&Georef>, input: usize, tile: usize) -> Result<Self> {
        if size.0 == 0 || size.1 == 0 {
            return Err(Error::new(ErrorKind::Invalid, format!("the image is empty: {} x {} pixels", size.0, size.1)));
        }
        if tile == 0 || tile > input {
            return Err(Error::new(ErrorKind::Invalid, format!("a tile of {tile} pixels in an input of {input}")));
        }
        Ok(Self { size, origin: georef.map_or([0; 2], origin), input, tile })
    }

    /// Column and row in the grid's pixels of the raster's top left pixel.
    pub fn origin(&self) -> [i64; 2] {
        self.origin
    }

    /// Side of a window in pixels.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Side of a cell in pixels.
    pub fn tile(&self) -> usize {
        self.tile
    }

    fn length(&self, axis: usize) -> usize {
        if axis == 0 { self.size.0 } else { self.size.1 }
    }

    fn cell_of(&self, axis: usize, at: i64) -> i64 {
        (at + self.origin[axis]).div_euclid(self.tile as i64)
    }

    /// Pixels of a window before its cell.
    fn halo(&self) -> i64 {
        ((self.input - self.tile) / 2) as i64
    }

    /// Column (axis 0) or row (axis 1) of the raster at which the window around a cell begins; it may lie outside.
    pub fn window_start(&self, axis: usize, cell: i64) -> i64 {
        cell * self.tile as i64 - self.origin[axis] - self.halo()
    }

    /// The raster's pixels (from, to) of the window around a cell.
    pub fn window_part(&self, axis: usize, cell: i64) -> (usize, usize) {
        self.part(axis, self.window_start(axis, cell), self.input)
    }

    /// The raster's pixels (from, to) of a cell.
    pub fn cell_part(&self, axis: usize, cell: i64) -> (usize, usize) {
        self.part(axis, cell * self.tile as i64 - self.origin[axis], self.tile)
    }

    fn part(&self, axis: usize, start: i64, length: usize) -> (usize, usize) {
        let end = self.length(axis) as i64;
        (start.clamp(0, end) as usize, (start + length as i64).clamp(0, end) as usize)
    }

    /// The cells with a pixel of the raster whose windows have any of the pixels `from` to `to` (exclusive, at least one).
    pub fn cells_touching(&self, axis: usize, from: usize, to: usize) -> RangeInclusive<i64> {
        let tile = self.tile as i64;
        let shift = self.origin[axis] + self.halo();
        let first = (from as i64 + shift - self.input as i64).div_euclid(tile) + 1;
        let last = (to as i64 - 1 + shift).div_euclid(tile);
        let (edge, end) = (self.cell_of(axis, 0), self.cell_of(axis, self.length(axis) as i64 - 1));
        first.max(edge)..=last.min(end)
    }

    /// Side of a block of about `pixels`, a whole number of cells.
    pub fn block_side(&self, pixels: usize) -> usize {
        ((pixels + self.tile / 2) / self.tile).max(1) * self.tile
    }

    /// The part of a block of `side` pixels that lies within `area` (a window of the raster), if any does.
    pub fn block_part(&self, block: Block, side: usize, area: Window) -> Option<Window> {
        let cut = |axis: usize, index: i64, from: usize, length: usize| {
            let start = index * side as i64 - self.origin[axis];
            let (low, high) = (start.max(from as i64), (start + side as i64).min((from + length) as i64));
            (low < high).then(|| (low as usize, (high - low) as usize))
        };
        let (x, width) = cut(0, block.column, area.x, area.width)?;
        let (y, height) = cut(1, block.row, area.y, area.height)?;
        Some(Window { x, y, width, height })
    }

    /// Rows and columns of the blocks of `side` pixels that have any of `area`.
    pub fn blocks(&self, side: usize, area: Window) -> (RangeInclusive<i64>, RangeInclusive<i64>) {
        let range = |axis: usize, from: usize, length: usize| {
            let index = |at: usize| (at as i64 + self.origin[axis]).div_euclid(side as i64);
            index(from)..=index(from + length - 1)
        };
        (range(1, area.y, area.height), range(0, area.x, area.width))
    }
}

/// Column and row of the raster's corner in pixels from its system's origin. Web Mercator's is that of its tiles, so that for a tiled
/// map's zooms the grid's pixels are the tiles'.
fn origin(georef: &Georef) -> [i64; 2] {
    let [a, b, c, d, e, f] = georef.transform;
    if b != 0.0 || d != 0.0 {
        return [0; 2];
    }
    let [x, y] = if georef.crs.epsg == Some(WEB_MERCATOR) { [-HALF_WORLD, HALF_WORLD] } else { [0.0; 2] };
    let place = [(c - x) / a, (f - y) / e].map(|at| (at + (1.0 - NEXT_PIXEL)).floor());
    if place.iter().all(|at| at.abs() < FARTHEST) { place.map(|at| at as i64) } else { [0; 2] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Crs;
    use crate::tile::TileId;

    fn placed(transform: [f64; 6], epsg: u32) -> Georef {
        Georef { transform, crs: Crs::from_epsg(epsg) }
    }

    #[test]
    fn a_map_tile_lies_at_its_own_pixels() {
        let tile = TileId::new(19, 386_697, 220_263).expect("valid");
        let grid = Grid::new((256, 256), Some(&Georef::from_tile(tile, 256, 256)), 448, 256).expect("valid");
        assert_eq!(grid.origin(), [386_697 * 256, 220_263 * 256]);
        assert_eq!(grid.cell_part(0, 386_697), (0, 256));
        assert_eq!(grid.cells_touching(0, 0, 256), 386_697..=386_697, "the raster has pixels in no other cell");
    }

    #[test]
    fn parts_of_a_raster_share_its_grid() {
        // Corners on pixels, halfway between them, and where rounding is at its worst.
        for corner in [0.0, 0.5, 0.25, 1.0 / 3.0, 0.1, 0.75] {
            let pixel = 0.3;
            let whole =
                placed([pixel, 0.0, 432_100.0 + corner * pixel, 0.0, -pixel, 5_432_100.0 - corner * pixel], 32_633);
            let grid = |georef: &Georef| Grid::new((1000, 1000), Some(georef), 96, 72).expect("valid").origin();
            let first = grid(&whole);
            for (x, y) in [(1, 0), (71, 5), (72, 72), (12_345, 54_321), (1_000_000, 77)] {
                let [column, row] = grid(&whole.window(x, y));
                assert_eq!([column, row], [first[0] + x as i64, first[1] + y as i64], "{corner} {x} {y}");
            }
        }
    }

    #[test]
    fn what_has_no_north_is_counted_from_its_corner() {
        for transform in [[0.7, 0.7, 5e5, 0.7, -0.7, 5e6], [1e-300, 0.0, 5e5, 0.0, -1e-300, 5e6]] {
            let grid = Grid::new((10, 10), Some(&placed(transform, 32_633)), 96, 72).expect("valid");
            assert_eq!(grid.origin(), [0, 0]);
        }
        assert!(Grid::new((0, 10), None, 96, 72).is_err() && Grid::new((10, 10), None, 96, 97).is_err());
    }

    #[test]
    fn cells_cover_every_pixel_and_touch_what_they_say() {
        for (input, tile) in [(96, 72), (448, 256), (97, 72), (96, 96), (96, 40), (96, 7)] {
            for start in [-1000i64, -3, 0, 5, 71, 72, 999] {
                let mut grid = Grid::new((301, 203), None, input, tile).expect("valid");
                grid.origin = [start, -start];
                for axis in [0, 1] {
                    let length = grid.length(axis);
                    let all = grid.cells_touching(axis, 0, length);
                    let mut at = 0;
                    for cell in all.clone() {
                        let (from, to) = grid.cell_part(axis, cell);
                        assert!(from == at && to > from, "cells lie side by side");
                        at = to;
                    }
                    assert_eq!(at, length);
                    for (from, to) in [(0, 1), (3, 50), (length - 1, length), (100, 173)] {
                        let touching = grid.cells_touching(axis, from, to);
                        for cell in all.clone() {
                            let (low, high) = grid.window_part(axis, cell);
                            assert_eq!(touching.contains(&cell), low < to && high > from, "{input} {tile} {cell}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_cover_an_area_once() {
        let mut grid = Grid::new((1000, 700), None, 96, 72).expect("valid");
        grid.origin = [-500, 12_345];
        let area = Window::new(10, 20, 900, 600);
        for side in [grid.block_side(1), grid.block_side(100), grid.block_side(288)] {
            let (rows, columns) = grid.blocks(side, area);
            let mut pixels = 0;
            for row in rows {
                for column in columns.clone() {
                    let part = grid.block_part(Block { row, column }, side, area).expect("a part of the area");
                    assert!((part.x as i64 + grid.origin[0]).div_euclid(side as i64) == column);
                    pixels += part.pixels();
                }
            }
            assert_eq!(pixels, area.pixels());
        }
        assert_eq!([1, 35, 36, 107, 108, 2048].map(|p| grid.block_side(p)), [72, 72, 72, 72, 144, 2016]);
    }
}
