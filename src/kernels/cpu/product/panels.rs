//! A small matrix that is multiplied with several others, on one thread.

use super::super::parallel::Shared;
use super::block::{CpuProduct, Plane, ProductBlock};
use super::level::Level;
use super::rhs::Rhs;
use super::tile;
use crate::kernels::activation::Activation;

/// A right-hand side, cut into panels as tiles read them.
pub struct Panels {
    /// Panels, one after the other, from the first cache line's start.
    values: Vec<f32>,
    start: usize,
    /// `k` and `n`.
    sides: [usize; 2],
    level: Level,
}

impl Panels {
    /// Of `rhs` `[k, n]` with the given strides of rows and columns.
    pub fn new(rhs: &[f32], strides: [usize; 2], sides: [usize; 2]) -> Self {
        const LINE: usize = 16;
        let rhs = Rhs::Floats { values: rhs, strides };
        let level = Level::here();
        let ([k, n], (width, _)) = (sides, level.width_for(sides[1]));
        let mut values = vec![0.0f32; n.div_ceil(width) * width * k + LINE];
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        for (panel, first) in values[start..].chunks_exact_mut((width * k).max(1)).zip((0..n).step_by(width)) {
            rhs.pack(0..k, first..(first + width).min(n), width, panel);
        }
        Self { values, start, sides, level }
    }

    /// `lhs` `[m, k]` times this: `[m, n]`.
    pub fn times(&self, lhs: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.times_into(lhs, &mut out);
        out
    }

    /// [`Panels::times`] into memory that is used again.
    pub fn times_into(&self, lhs: &[f32], out: &mut Vec<f32>) {
        let [k, n] = self.sides;
        let m = lhs.len() / k.max(1);
        out.clear();
        out.reserve(m * n);
        let to = Shared::new(out);
        let of = CpuProduct {
            lhs: Plane { values: lhs, inputs: k },
            rhs: Rhs::Floats { values: &[], strides: [0, 0] },
            sides: [m, n, k],
            bias: None,
            residual: None,
            activation: Activation::None,
        };
        let (width, is_narrow) = self.level.width_for(n);
        for (panel, first) in self.values[self.start..].chunks_exact((width * k).max(1)).zip((0..n).step_by(width)) {
            let columns = first..(first + width).min(n);
            let block =
                ProductBlock { of: &of, lhs: &of.lhs, rows: 0..m, columns, inputs: 0..k, panel, next: [0, n], to: &to };
            // SAFETY: `out` is borrowed alone and has room; the level is this machine's.
            unsafe { tile::run(self.level, &block, is_narrow) };
        }
        // SAFETY: the panels' columns are all there are, and each has been written.
        unsafe { out.set_len(m * n) };
    }
}
