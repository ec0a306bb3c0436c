//! A whole product on all cores.

use std::cell::RefCell;

use super::super::parallel::{Shared, for_tasks, threads};
use super::block::{CpuProduct, ProductBlock, RowSource};
use super::level::Level;
use super::tile;

/// Inputs that are packed at once: with 48 columns 192 KiB, a fraction of a core's second cache.
const DEPTH: usize = 1024;

/// Rows below which a panel is not worth packing twice for two threads.
const ROWS_A_PANEL: usize = 64;

impl<L: RowSource> CpuProduct<'_, L> {
    /// The result, row-major `[m, n]`.
    ///
    /// # Panics
    /// If a slice is too short for the sides.
    pub fn compute(&self) -> Vec<f32> {
        let [m, n, k] = self.sides;
        assert!(self.rhs.holds(k, n));
        assert!(
            self.bias.is_none_or(|bias| bias.len() == n)
                && self.residual.is_none_or(|x| x.is_empty() == (m * n == 0) && x.len().is_multiple_of(n.max(1)))
        );
        let mut out = Vec::with_capacity(m * n);
        let level = Level::here();
        let (width, is_narrow) = level.width_for(n);
        let panels = n.div_ceil(width);
        let parts = (2 * threads()).div_ceil(panels.max(1)).min(m / ROWS_A_PANEL).max(1);
        let rows = m.div_ceil(parts).next_multiple_of(24);
        let to = Shared::new(&mut out);
        // Rounded up to the same size each, so that the last is not a sliver.
        let depth = k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1);
        for_tasks(panels * m.div_ceil(rows.max(1)), |task| {
            let first = task % panels * width;
            let rows = task / panels * rows..(task / panels * rows + rows).min(m);
            with_scratch(depth * width, |scratch| {
                // Sums of no inputs are written, too.
                for from in (0..k.max(1)).step_by(depth) {
                    let inputs = from..(from + depth).min(k);
                    let columns = first..(first + width).min(n);
                    let panel = match self.rhs.panel(inputs.clone(), first) {
                        Some(panel) => panel,
                        None => {
                            let panel = &mut scratch[..inputs.len() * width];
                            self.rhs.pack(inputs.clone(), columns.clone(), width, panel);
                            panel
                        }
                    };
                    let next = if inputs.end < k { [inputs.end, first] } else { [0, first + width] };
                    let block = ProductBlock {
                        of: self,
                        lhs: &self.lhs,
                        rows: rows.clone(),
                        columns,
                        inputs,
                        panel,
                        next,
                        to: &to,
                    };
                    // SAFETY: no other task has these rows and columns; the level is this machine's.
                    unsafe { tile::run(level, &block, is_narrow) };
                }
            });
        });
        // SAFETY: the tasks' rows and columns are all there are, and each has been written.
        unsafe { out.set_len(m * n) };
        out
    }
}

/// Calls `work` with `length` values, uninitialised as far as it is concerned, that are aligned to a cache line.
fn with_scratch(length: usize, work: impl FnOnce(&mut [f32])) {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    const LINE: usize = 16;
    let mut values = SCRATCH.take();
    if values.len() < length + LINE {
        values = vec![0.0; length + LINE];
    }
    let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    work(&mut values[start..start + length]);
    SCRATCH.set(values);
}
