//! The product with a matrix, and all that follows it while its sums are near: bias, activation, residual.
//!
//! The right matrix is cut into panels of as many columns as a tile of sums has. A thread packs one panel, then passes rows
//! over it, some at a time; the left matrix is read where it lies. Every sum is taken in the order of the inputs, [`DEPTH`] of
//! them at once, so that the number of threads changes nothing.

use std::cell::RefCell;
use std::ops::Range;

use super::super::Activation;
use super::for_tasks;

mod panels;
mod right;
mod tile;

pub use panels::Panels;
pub use right::{Blocks, Right, panels, width_for};
use tile::Level;

/// `activation(left right + bias + residual)`.
pub struct Product<'a, L> {
    /// The left matrix, `[m, k]`.
    pub left: L,
    /// The right matrix, `[k, n]`.
    pub right: Right<'a>,
    /// `m`, `n` and `k`.
    pub sides: [usize; 3],
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// `[m, n]`, or the first rows of it, which are then taken again and again.
    pub residual: Option<&'a [f32]>,
    /// Last of all.
    pub activation: Activation,
}

/// A left matrix whose rows need not lie one after another.
pub trait Rows: Sync {
    /// Inputs of a row that lie side by side.
    fn run(&self) -> usize;
    /// `length` inputs of `row`, from input `from`; they cross no multiple of [`Rows::run`].
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32];
}

/// A row-major left matrix.
pub struct Plane<'a> {
    /// `[m, k]`.
    pub values: &'a [f32],
    /// `k`.
    pub inputs: usize,
}

impl Rows for Plane<'_> {
    fn run(&self) -> usize {
        self.inputs
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        &self.values[row * self.inputs + from..][..length]
    }
}

/// Inputs that are packed at once: with 48 columns 192 KiB, a fraction of a core's second cache.
const DEPTH: usize = 1024;

/// Rows below which a panel is not worth packing twice for two threads.
const ROWS_A_PANEL: usize = 64;

impl<L: Rows> Product<'_, L> {
    /// The result, row-major `[m, n]`.
    ///
    /// # Panics
    /// If a slice is too short for the sides.
    pub fn compute(&self) -> Vec<f32> {
        let [m, n, k] = self.sides;
        assert!(self.right.holds(k, n));
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
                    let panel = match self.right.panel(inputs.clone(), first) {
                        Some(panel) => panel,
                        None => {
                            let panel = &mut scratch[..inputs.len() * width];
                            self.right.pack(inputs.clone(), columns.clone(), width, panel);
                            panel
                        }
                    };
                    let next = if inputs.end < k { [inputs.end, first] } else { [0, first + width] };
                    let block =
                        Block { of: self, left: &self.left, rows: rows.clone(), columns, inputs, panel, next, to: &to };
                    // SAFETY: no other task has these rows and columns; the level is this machine's.
                    unsafe { level.run(&block, is_narrow) };
                }
            });
        });
        // SAFETY: the tasks' rows and columns are all there are, and each has been written.
        unsafe { out.set_len(m * n) };
        out
    }
}

/// The work of one thread on one packed panel.
pub struct Block<'a, L> {
    of: &'a Product<'a, L>,
    left: &'a L,
    rows: Range<usize>,
    columns: Range<usize>,
    inputs: Range<usize>,
    panel: &'a [f32],
    /// Input and column where the panel that is likely to be packed next starts.
    next: [usize; 2],
    to: &'a Shared,
}

impl<L: Rows> Block<'_, L> {
    /// Names cache lines of the next panel: their share before tile `i` of `tiles`. Packing would wait for each of them.
    #[inline(always)]
    fn ahead(&self, i: usize, tiles: usize, fetch: impl Fn(*const f32)) {
        let [input, first] = self.next;
        if first >= self.of.sides[1] {
            return;
        }
        let depth = self.inputs.len();
        for line in i * depth / tiles..(i + 1) * depth / tiles {
            self.of.right.lines(input + line, first..first + self.columns.len(), &fetch);
        }
    }

    /// Whether the result is these sums alone.
    fn is_bare(&self) -> bool {
        let of = self.of;
        let is_whole = self.inputs == (0..of.sides[2]);
        is_whole && of.bias.is_none() && of.residual.is_none() && of.activation == Activation::None
    }

    /// Where the result of `row` starts.
    fn place(&self, row: usize) -> *mut f32 {
        self.to.0.wrapping_add(row * self.of.sides[1] + self.columns.start)
    }

    /// Writes a row's sums: adds those of earlier inputs, and after the last ones does what follows.
    ///
    /// # Safety
    /// `row` is one of the block's, whose part of the result nobody else reads or writes.
    #[inline(always)]
    unsafe fn finish(&self, row: usize, sums: &mut [f32]) {
        let of = self.of;
        let [_, n, k] = of.sides;
        let at = row * n + self.columns.start;
        let sums = &mut sums[..self.columns.len()];
        let is_last = self.inputs.end == k;
        let bias = of.bias.filter(|_| is_last).map(|bias| &bias[self.columns.clone()]);
        let residual = of.residual.filter(|_| is_last).map(|residual| &residual[at % residual.len()..][..sums.len()]);
        // Whole vectors by themselves: a loop over all would become a call for each of the few.
        let (chunks, rest) = sums.as_chunks_mut::<16>();
        let whole = 16 * chunks.len();
        for (i, sums) in chunks.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { self.finish_some(at + 16 * i, sums, bias.map(|b| &b[16 * i..]), residual.map(|r| &r[16 * i..])) };
        }
        if !rest.is_empty() {
            // SAFETY: as the caller promises.
            unsafe { self.finish_some(at + whole, rest, bias.map(|b| &b[whole..]), residual.map(|r| &r[whole..])) };
        }
    }

    /// [`Block::finish`] of some columns, which lie at `at`.
    ///
    /// # Safety
    /// As [`Block::finish`].
    #[inline(always)]
    unsafe fn finish_some(&self, at: usize, sums: &mut [f32], bias: Option<&[f32]>, residual: Option<&[f32]>) {
        if self.inputs.start > 0 {
            // SAFETY: these columns are in the result, written for the inputs before, and the caller's alone.
            let earlier = unsafe { std::slice::from_raw_parts(self.to.0.wrapping_add(at), sums.len()) };
            sums.iter_mut().zip(earlier).for_each(|(sum, x)| *sum += x);
        }
        if let Some(bias) = bias {
            sums.iter_mut().zip(bias).for_each(|(sum, x)| *sum += x);
        }
        if let Some(residual) = residual {
            sums.iter_mut().zip(residual).for_each(|(sum, x)| *sum += x);
        }
        if self.inputs.end == self.of.sides[2] {
            self.of.activation.apply(sums);
        }
        // SAFETY: these columns are in the result's memory, and the caller's alone.
        unsafe { self.to.write(at, sums) };
    }
}

/// A result that threads write to, each its own part.
pub struct Shared(*mut f32);

impl Shared {
    /// Of a vector's memory; it must not grow or go while this is used.
    pub fn new(values: &mut Vec<f32>) -> Self {
        Self(values.as_mut_ptr())
    }

    /// Writes `values` from place `at`.
    ///
    /// # Safety
    /// There is memory for them, and nobody else reads or writes it.
    #[inline(always)]
    pub unsafe fn write(&self, at: usize, values: &[f32]) {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.wrapping_add(at), values.len()) };
    }
}

// SAFETY: it only hands out the address; who writes there promises to be alone.
unsafe impl Sync for Shared {}

/// Calls `work` with `length` values that start at a cache line; what they hold is of no account.
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

/// Cores to share work among.
pub fn threads() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::current_num_threads();
    #[cfg(target_arch = "wasm32")]
    1
}
