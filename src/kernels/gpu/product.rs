//! `activation((x + add) matrix + bias + residual)`: every layer of the network but attention and norms.

use burn_wgpu::CubeTensor;

use super::launch::{Launch, wgsl};
use super::profile::is_hardware;
use super::tensor::{dims, empty};
use crate::kernels::activation::Activation;

/// How the rows of the left-hand side are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// One after the other, `[rows, k]`.
    Rows,
    /// Patches of this side of `[b, bands, h, w]`; terms are ordered as a convolution's weight, `[bands, side, side]`.
    Patches(usize),
    /// Nine neighbours of pixels of `[b, h, w, c]`, zero beyond its borders; terms are ordered `[3, 3, c]`. c may be any number.
    Neighbours {
        /// Pixels from one group of neighbours to the next.
        stride: usize,
        /// How far above and left of the first pixel the first group begins.
        before: usize,
    },
}

/// How the rows of the result are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scatter {
    /// As they are, `[rows, n]`.
    Rows,
    /// Rows are pixels of `[b, h, w]`, columns `[2, 2, n]`: to `[b, 2 h, 2 w, n]`.
    Double,
}

/// The right-hand side.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one at a time, handed over once
pub enum GpuMatrix {
    /// `[k, n]`, in the device's precision.
    Dense(CubeTensor),
    /// Integers of `bits` (8 or 4) and f16 scales of each 32 terms: [`crate::kernels::quantized`] says in which order.
    Quantized {
        /// Words of four columns.
        values: CubeTensor,
        /// Words of two columns.
        scales: CubeTensor,
        /// 8 or 4.
        bits: u32,
        /// n.
        columns: usize,
    },
}

/// A product and its epilogue.
pub struct GpuProduct {
    /// The left-hand side.
    pub x: CubeTensor,
    /// Added to the left-hand side, row by row and again from its first row on.
    pub add: Option<CubeTensor>,
    /// The right-hand side.
    pub matrix: GpuMatrix,
    /// `[n]`.
    pub bias: Option<CubeTensor>,
    /// Added like `add`, to the sums.
    pub residual: Option<CubeTensor>,
    /// Last of all.
    pub activation: Activation,
    /// Reading.
    pub gather: Gather,
    /// Writing.
    pub scatter: Scatter,
}

/// Rows of a thread; columns (in fours) and threads along rows of a workgroup; terms (in fours) of a tile, 0 for no tiles.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    wx: usize,
    wy: usize,
    depth: usize,
}

impl Cut {
    /// For terms that are read one by one (`is_odd`), SwiftShader's compiler takes minutes over four rows of a thread.
    fn of(rows: usize, is_odd: bool) -> Self {
        match (is_hardware(), rows) {
            (true, 17..) => Self { rows: 8, wx: 16, wy: 8, depth: 4 },
            (true, _) => Self { rows: 1, wx: 32, wy: 1, depth: 0 },
            (false, 8..) if !is_odd => Self { rows: 8, wx: 8, wy: 1, depth: 0 },
            (false, _) => Self { rows: 1, wx: 8, wy: 1, depth: 0 },
        }
    }
}

impl GpuProduct {
    /// `x matrix`.
    pub fn new(x: CubeTensor, matrix: GpuMatrix) -> Self {
        let activation = Activation::None;
        let (gather, scatter) = (Gather::Rows, Scatter::Rows);
        Self { x, add: None, matrix, bias: None, residual: None, activation, gather, scatter }
    }

    /// Terms and columns.
    fn inner(&self) -> [usize; 2] {
        match &self.matrix {
            GpuMatrix::Dense(matrix) => dims(matrix),
            GpuMatrix::Quantized { values, bits, columns, .. } => {
                let [lines, _] = dims(values);
                [lines * (8 / *bits as usize), *columns]
            }
        }
    }

    /// The result: the shape of x with n in place of its last axis, or as gather and scatter have it.
    pub fn run(self) -> CubeTensor {
        let [_, n] = self.inner();
        let mut shape: Vec<usize> = self.x.meta.shape().iter().copied().collect();
        match self.gather {
            Gather::Rows => {}
            Gather::Patches(side) => {
                let [b, _, h, w] = dims(&self.x);
                shape = vec![b, h / side, w / side, n];
            }
            Gather::Neighbours { stride, .. } => {
                (shape[1], shape[2]) = (shape[1].div_ceil(stride), shape[2].div_ceil(stride));
            }
        }
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        if self.scatter == Scatter::Double {
            let [b, h, w, _] = [shape[0], shape[1], shape[2], n];
            shape = vec![b, 2 * h, 2 * w, n / 4];
        }
        let y = empty(&self.x, &shape);
        let rows = shape.iter().product::<usize>() / n;
        self.launch(&y, rows);
        y
    }

    fn launch(self, y: &CubeTensor, rows: usize) {
        let [k, n] = self.inner();
        let is_gathered = matches!(self.gather, Gather::Neighbours { .. });
        debug_assert!((k % 4 == 0 || is_gathered) && n % 4 == 0, "{k} x {n}");
        let rows_of = |tensor: &Option<CubeTensor>, width: usize| {
            tensor.as_ref().map_or(1, |t| t.meta.shape().iter().product::<usize>() / width)
        };
        let mut sizes = vec![rows, n / 4, k.div_ceil(4), rows_of(&self.add, k), rows_of(&self.residual, n)];
        let mut is_odd = false;
        match (self.gather, self.scatter) {
            (Gather::Patches(_), _) => {
                let [_, bands, h, w] = dims(&self.x);
                sizes.extend([h, w, bands]);
            }
            (Gather::Neighbours { stride, before }, _) => {
                let ([_, h, w, c], [_, down, across, _]) = (dims(&self.x), dims(y));
                is_odd = c % 4 != 0;
                sizes.extend([h, w, if is_odd { c } else { c / 4 }, down, across, stride, before]);
            }
            (_, Scatter::Double) => {
                let [_, h, w, _] = dims(&self.x);
                sizes.extend([h, w, n / 16]);
            }
            _ => {}
        }
        let cut = Cut::of(rows, is_odd);

        let launch =
            Launch::new("product", wgsl!("product"), &self.x).bind(&self.x).bind_some("add", self.add.as_ref());
        let launch = match &self.matrix {
            GpuMatrix::Dense(matrix) => launch.bind(matrix),
            GpuMatrix::Quantized { values, scales, bits, .. } => {
                launch.bind(values).bind(scales).set("quantized", 1).set("q8", usize::from(*bits == 8))
            }
        };
        let launch = match self.gather {
            Gather::Rows => launch,
            Gather::Patches(side) => launch.set("patches", side),
            Gather::Neighbours { .. } => launch.set("neighbours", 1).set("odd", usize::from(is_odd)),
        };
        launch
            .bind_some("bias", self.bias.as_ref())
            .bind_some("residual", self.residual.as_ref())
            .bind(y)
            .activation(self.activation)
            .set("double", usize::from(self.scatter == Scatter::Double))
            .set("rows", cut.rows)
            .set("wx", cut.wx)
            .set("wy", cut.wy)
            .set("depth", cut.depth)
            .sizes(&sizes)
            .run([(n / 4).div_ceil(cut.wx), rows.div_ceil(cut.rows * cut.wy), 1]);
    }
}
