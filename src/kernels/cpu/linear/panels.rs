//! A small matrix that is multiplied with several others, on one thread.

use super::{Block, Level, Plane, Product, Right, Shared};
use crate::kernels::Activation;

/// A right matrix, cut into panels as tiles read them.
pub struct Panels {
    /// Panels, one after the other, from the first cache line's start.
    values: Vec<f32>,
    start: usize,
    /// `k` and `n`.
    sides: [usize; 2],
    level: Level,
}

impl Panels {
    /// Of `right` `[k, n]` with the given strides of rows and columns.
    pub fn new(right: &[f32], strides: [usize; 2], sides: [usize; 2]) -> Self {
        const LINE: usize = 16;
        let right = Right::Floats { values: right, strides };
        let level = Level::here();
        let ([k, n], (width, _)) = (sides, level.width_for(sides[1]));
        let mut values = vec![0.0f32; n.div_ceil(width) * width * k + LINE];
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        for (panel, first) in values[start..].chunks_exact_mut((width * k).max(1)).zip((0..n).step_by(width)) {
            right.pack(0..k, first..(first + width).min(n), width, panel);
        }
        Self { values, start, sides, level }
    }

    /// `left` `[m, k]` times this: `[m, n]`.
    pub fn times(&self, left: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        self.times_into(left, &mut out);
        out
    }

    /// [`Panels::times`] into memory that is used again.
    pub fn times_into(&self, left: &[f32], out: &mut Vec<f32>) {
        let [k, n] = self.sides;
        let m = left.len() / k.max(1);
        out.clear();
        out.reserve(m * n);
        let to = Shared::new(out);
        let of = Product {
            left: Plane { values: left, inputs: k },
            right: Right::Floats { values: &[], strides: [0, 0] },
            sides: [m, n, k],
            bias: None,
            residual: None,
            activation: Activation::None,
        };
        let (width, is_narrow) = self.level.width_for(n);
        for (panel, first) in self.values[self.start..].chunks_exact((width * k).max(1)).zip((0..n).step_by(width)) {
            let columns = first..(first + width).min(n);
            let block =
                Block { of: &of, left: &of.left, rows: 0..m, columns, inputs: 0..k, panel, next: [0, n], to: &to };
            // SAFETY: `out` is borrowed alone and has room; the level is this machine's.
            unsafe { self.level.run(&block, is_narrow) };
        }
        // SAFETY: the panels' columns are all there are, and each has been written.
        unsafe { out.set_len(m * n) };
    }
}
