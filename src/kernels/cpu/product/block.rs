//! A product's operands and epilogue, and the part of the work that one thread does on one packed panel.

use std::ops::Range;

use super::super::activation::{apply, limit};
use super::super::parallel::Shared;
use super::super::vector::Vector;
use super::rhs::Rhs;
use crate::kernels::activation::Activation;

/// `activation(lhs rhs + bias + residual)`.
pub struct CpuProduct<'a, L> {
    /// The left-hand side, `[m, k]`.
    pub lhs: L,
    /// The right-hand side, `[k, n]`.
    pub rhs: Rhs<'a>,
    /// `m`, `n` and `k`.
    pub sides: [usize; 3],
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// `[m, n]`, or the first rows of it, which are then taken again and again.
    pub residual: Option<&'a [f32]>,
    /// Last of all.
    pub activation: Activation,
}

/// A left-hand side, whose rows need not be contiguous.
pub trait RowSource: Sync {
    /// Inputs of a row that are contiguous.
    fn run(&self) -> usize;
    /// `length` inputs of `row`, from input `from`; they cross no multiple of [`RowSource::run`].
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32];
}

/// A row-major left-hand side.
pub struct Plane<'a> {
    /// `[m, k]`.
    pub values: &'a [f32],
    /// `k`.
    pub inputs: usize,
}

impl RowSource for Plane<'_> {
    fn run(&self) -> usize {
        self.inputs
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        &self.values[row * self.inputs + from..][..length]
    }
}

/// The work of one thread on one packed panel.
pub struct ProductBlock<'a, L> {
    pub(super) of: &'a CpuProduct<'a, L>,
    pub(super) lhs: &'a L,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    pub(super) inputs: Range<usize>,
    pub(super) panel: &'a [f32],
    /// Input and column where the panel that is likely to be packed next starts.
    pub(super) next: [usize; 2],
    pub(super) to: &'a Shared,
}

impl<L: RowSource> ProductBlock<'_, L> {
    /// Names cache lines of the next panel: their share before tile `i` of `tiles`. Packing would wait for each of them.
    #[inline(always)]
    pub(super) fn ahead(&self, i: usize, tiles: usize, fetch: impl Fn(*const f32)) {
        let [input, first] = self.next;
        if first >= self.of.sides[1] {
            return;
        }
        let depth = self.inputs.len();
        for line in i * depth / tiles..(i + 1) * depth / tiles {
            self.of.rhs.lines(input + line, first..first + self.columns.len(), &fetch);
        }
    }

    /// Whether the result is these sums alone.
    pub(super) fn is_bare(&self) -> bool {
        let of = self.of;
        let is_whole = self.inputs == (0..of.sides[2]);
        is_whole && of.bias.is_none() && of.residual.is_none() && of.activation == Activation::None
    }

    /// Where the result of `row` starts.
    pub(super) fn place(&self, row: usize) -> *mut f32 {
        self.to.at(row * self.of.sides[1] + self.columns.start)
    }

    /// Writes a row's sums: adds those of earlier inputs, and after the last ones applies the epilogue.
    ///
    /// # Safety
    /// `row` is one of the block's, whose part of the result nobody else reads or writes. The machine has `T`'s instructions.
    #[inline(always)]
    pub(super) unsafe fn finish<T: Vector>(&self, row: usize, sums: &[f32]) {
        let of = self.of;
        let [_, n, k] = of.sides;
        let at = row * n + self.columns.start;
        let sums = &sums[..self.columns.len()];
        let is_last = self.inputs.end == k;
        let bias = of.bias.filter(|_| is_last).map(|bias| &bias[self.columns.clone()]);
        let residual = of.residual.filter(|_| is_last).map(|residual| &residual[at % residual.len()..][..sums.len()]);
        let whole = sums.len() / T::LANES * T::LANES;
        // SAFETY: `sums` has vectors up to `whole` and single values up to its end, and so have the others; the result there is the
        // caller's alone.
        unsafe {
            for i in (0..whole).step_by(T::LANES) {
                self.finish_some::<T>(at + i, sums, i, bias, residual);
            }
            for i in whole..sums.len() {
                self.finish_some::<f32>(at + i, sums, i, bias, residual);
            }
            if is_last && of.activation == Activation::Gelu {
                let (chunks, rest) = std::slice::from_raw_parts_mut(self.to.at(at), sums.len()).as_chunks_mut::<16>();
                // Whole vectors by themselves: a loop over all would become a call for each of the few.
                chunks.iter_mut().for_each(|chunk| apply(of.activation, chunk));
                apply(of.activation, rest);
            }
        }
    }

    /// [`ProductBlock::finish`] of the sums from `i` on, which are written to `at`, but for an activation that is no limit.
    ///
    /// # Safety
    /// As [`ProductBlock::finish`]; as many values as `T` has follow `i`.
    #[inline(always)]
    unsafe fn finish_some<T: Vector>(
        &self,
        at: usize,
        sums: &[f32],
        i: usize,
        bias: Option<&[f32]>,
        residual: Option<&[f32]>,
    ) {
        let to = self.to.at(at);
        // SAFETY: as the caller promises; where there are earlier inputs, their sums are written.
        unsafe {
            let mut x = T::load(sums.as_ptr().add(i));
            if self.inputs.start > 0 {
                x = x.add(T::load(to));
            }
            if let Some(bias) = bias {
                x = x.add(T::load(bias.as_ptr().add(i)));
            }
            if let Some(residual) = residual {
                x = x.add(T::load(residual.as_ptr().add(i)));
            }
            if self.inputs.end == self.of.sides[2] {
                x = limit(self.of.activation, x);
            }
            x.store(to);
        }
    }
}
