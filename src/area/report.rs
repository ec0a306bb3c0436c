//! What is said of a job before, while and after it runs.

use std::time::Instant;

use serde::Serialize;

use crate::source::Window;

/// Milliseconds by stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// Reading and decoding the imagery.
    pub read: f64,
    /// The network: normalising, encoder, decoder, all views.
    pub model: f64,
    /// Resampling and blending logits, classes.
    pub blend: f64,
    /// Compressing and keeping blocks.
    pub store: f64,
    /// All together.
    pub total: f64,
}

impl Times {
    /// The share of the time that is not the network's, 0 to 1.
    pub fn outside_model(&self) -> f64 {
        if self.total > 0.0 { ((self.total - self.model) / self.total).max(0.0) } else { 0.0 }
    }
}

/// Runs something and adds its milliseconds.
pub(super) fn timed<T>(total: &mut f64, run: impl FnOnce() -> T) -> T {
    let watch = Instant::now();
    let done = run();
    *total += watch.elapsed().as_secs_f64() * 1e3;
    done
}

/// A block that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Row of the grid of blocks.
    pub row: i64,
    /// Column of the grid of blocks.
    pub column: i64,
    /// Column of the raster at which it begins.
    pub x: usize,
    /// Row of the raster at which it begins.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Why.
    pub reason: String,
}

impl Missing {
    pub(super) fn new(block: super::grid::Block, part: Window, reason: String) -> Self {
        let Window { x, y, width, height } = part;
        Self { row: block.row, column: block.column, x, y, width, height, reason }
    }
}

/// What a job takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Blocks that are not finished.
    pub blocks: usize,
    /// Windows of them, at most: those without data are not run.
    pub windows: u64,
    /// Pixels of the area in them.
    pub pixels: u64,
    /// Bytes of imagery that the windows hold, decoded.
    pub bytes: u64,
    /// Milliseconds by the windows that were run so far; none before the first.
    pub milliseconds: Option<f64>,
}

impl Estimate {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            windows: self.windows + other.windows,
            pixels: self.pixels + other.pixels,
            bytes: self.bytes + other.bytes,
            milliseconds: None,
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks - other.blocks,
            windows: self.windows - other.windows,
            pixels: self.pixels - other.pixels,
            bytes: self.bytes - other.bytes,
            milliseconds: None,
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Blocks of this share.
    pub blocks: usize,
    /// Blocks of this share that are finished, those found included.
    pub blocks_done: usize,
    /// What is left.
    pub left: Estimate,
    /// Windows run so far.
    pub windows: u64,
}

impl Progress {
    /// The same after `windows` windows in all, which took `times`, of which `new` are of the block that is in work.
    pub(super) fn after(&self, times: &Times, windows: u64, new: u64) -> Self {
        let mut next = Self { windows, ..*self };
        next.left.windows = next.left.windows.saturating_sub(new);
        let each = (times.read + times.model + times.blend + times.store) / windows as f64;
        next.left.milliseconds = (windows > 0).then_some(each * next.left.windows as f64);
        next
    }
}

/// What a job has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Blocks of this share.
    pub blocks: usize,
    /// Those that were finished before.
    pub found: usize,
    /// Those of which a file was there that could not be used.
    pub damaged: Vec<String>,
    /// Those finished now.
    pub computed: usize,
    /// Of these, those without data.
    pub blank: usize,
    /// Windows run.
    pub windows: u64,
    /// Blocks that could not be read, and are no data until the job is run again.
    pub missing: Vec<Missing>,
    /// How long it took.
    pub times: Times,
}
