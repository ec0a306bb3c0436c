//! Layers of the network as one [`Product`] each, and layer norm in one pass.

use super::vector::widest;
use burn_flex::FlexTensor;

use super::super::Activation;
use super::linear::{Blocks, Plane, Product, Right, Rows, panels, width_for};
use super::{ROWS, for_chunks, primitive};

/// What follows a product: `activation(product + bias + residual)`.
#[derive(Default)]
pub struct Ends<'a> {
    /// One number for each column.
    pub bias: Option<&'a FlexTensor>,
    /// Of the result's shape, or one batch of it, which is then added to every batch.
    pub residual: Option<&'a FlexTensor>,
    /// Last of all.
    pub activation: Activation,
}

impl<'a> Ends<'a> {
    fn product<L: Rows>(&self, left: L, matrix: &'a Matrix, rows: usize) -> Product<'a, L> {
        let [inputs, outputs] = matrix.sides();
        Product {
            left,
            right: matrix.right(),
            sides: [rows, outputs, inputs],
            bias: self.bias.map(FlexTensor::storage),
            residual: self.residual.map(FlexTensor::storage),
            activation: self.activation,
        }
    }
}

/// The right factor of a product.
pub enum Matrix {
    /// `[inputs, outputs]` floats that [`Matrix::dense`] took.
    Dense(FlexTensor),
    /// The words of a [`crate::kernels::packed::Packed`].
    Packed {
        /// Its integers, or the bits of its floats.
        values: FlexTensor,
        /// The integers' scales.
        scales: FlexTensor,
        /// 8 or 4, or 32 for floats in [`panels`].
        bits: usize,
        /// `inputs` and `outputs`.
        sides: [usize; 2],
    },
}

impl Matrix {
    /// A matrix that can be read as it lies, row by row or column by column; none where it cannot.
    pub fn dense(matrix: FlexTensor) -> Option<Self> {
        let layout = matrix.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        let ordered = |inner: usize, outer: usize| {
            strides[inner] == 1 && usize::try_from(strides[outer]).is_ok_and(|stride| stride >= shape[inner])
        };
        let is_plane = shape.len() == 2 && shape[0] > 0 && shape[1] > 0 && (ordered(1, 0) || ordered(0, 1));
        is_plane.then_some(Self::Dense(matrix))
    }

    /// [`Matrix::dense`] of it or of a copy.
    #[cfg(feature = "train")]
    pub fn of(matrix: &FlexTensor) -> Self {
        Self::dense(matrix.clone()).unwrap_or_else(|| Self::Dense(matrix.to_contiguous()))
    }

    /// Inputs and outputs.
    pub fn sides(&self) -> [usize; 2] {
        match self {
            Self::Dense(matrix) => [matrix.layout().shape()[0], matrix.layout().shape()[1]],
            Self::Packed { sides, .. } => *sides,
        }
    }

    /// A dense matrix in [`panels`].
    pub fn in_panels(&self) -> Vec<f32> {
        panels(&self.right(), self.sides())
    }

    fn right(&self) -> Right<'_> {
        match self {
            Self::Dense(matrix) => {
                let strides = matrix.layout().strides();
                let values = &matrix.storage::<f32>()[matrix.layout().start_offset()..];
                Right::Floats { values, strides: [strides[0] as usize, strides[1] as usize] }
            }
            Self::Packed { values, bits: 32, sides, .. } => {
                let bits = values.storage::<i32>();
                // SAFETY: floats are as large and as aligned as these integers, and have as many patterns.
                let values = unsafe { std::slice::from_raw_parts(bits.as_ptr().cast::<f32>(), bits.len()) };
                Right::Panels { values, inputs: sides[0], width: width_for(sides[1]) }
            }
            Self::Packed { values, scales, bits, sides } => {
                Right::Blocks(Blocks { bits: *bits, values: values.bytes(), scales: scales.bytes(), outputs: sides[1] })
            }
        }
    }
}

/// `activation(x matrix + bias + residual)`: x `[.., inputs]`, row-major; matrix `[inputs, outputs]`.
pub fn linear(x: &FlexTensor, matrix: &Matrix, ends: &Ends) -> FlexTensor {
    let mut shape = x.layout().shape().to_vec();
    let [inputs, outputs] = matrix.sides();
    let rows = x.layout().num_elements() / inputs;
    let left = Plane { values: x.storage(), inputs };
    let out = ends.product(left, matrix, rows).compute();
    shape.pop();
    shape.push(outputs);
    primitive(out, &shape)
}

/// The same numbers as a matrix of swapped sides.
#[cfg(feature = "train")]
pub fn transposed(matrix: &FlexTensor) -> FlexTensor {
    FlexTensor::from_arc(matrix.data_arc(), matrix.layout().transpose(0, 1), matrix.dtype())
}

/// `left^T right` of row-major `[.., m]` and `[.., n]` with as many rows: `[m, n]`.
#[cfg(feature = "train")]
pub fn product_of_transposed(left: &FlexTensor, right: &FlexTensor) -> FlexTensor {
    let flat = |x: &FlexTensor| {
        let columns = x.layout().shape().last().copied().unwrap_or(1);
        x.reshape([x.layout().num_elements() / columns.max(1), columns].into())
    };
    linear(&transposed(&flat(left)).to_contiguous(), &Matrix::of(&flat(right)), &Ends::default())
}

/// A 3x3 convolution with zero padding: x `[b, h, w, c]`, matrix `[9 c, n]` in the order of row, column and channel of the
/// kernel; `[b, h, w, n]`.
pub fn conv3x3(x: &FlexTensor, matrix: &Matrix, ends: &Ends) -> FlexTensor {
    let shape = x.layout().shape();
    let (b, sides @ [h, w, c]) = (shape[0], [shape[1], shape[2], shape[3]]);
    let outside = vec![0.0f32; c];
    let left = Neighbours { values: x.storage(), sides, outside: &outside };
    let out = ends.product(left, matrix, b * h * w).compute();
    primitive(out, &[b, h, w, matrix.sides()[1]])
}

/// The nine neighbours of each pixel, side by side.
struct Neighbours<'a> {
    /// `[b, h, w, c]`.
    values: &'a [f32],
    /// `h`, `w` and `c`.
    sides: [usize; 3],
    /// `c` zeros.
    outside: &'a [f32],
}

impl Rows for Neighbours<'_> {
    fn run(&self) -> usize {
        self.sides[2]
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        let [h, w, c] = self.sides;
        let (y, x) = (row / w % h, row % w);
        let (shift, channel) = (from / c, from % c);
        // One further than the pixel itself, so that nothing is negative.
        let (down, right) = (y + shift / 3, x + shift % 3);
        if (1..=h).contains(&down) && (1..=w).contains(&right) {
            let pixel = row + (shift / 3) * w + shift % 3 - w - 1;
            &self.values[pixel * c + channel..][..length]
        } else {
            &self.outside[channel..][..length]
        }
    }
}

/// A convolution whose stride is its kernel: image `[b, bands, h, w]`, matrix `[bands side side, n]`;
/// `[b, h / side, w / side, n]`.
pub fn patch_embed(image: &FlexTensor, side: usize, matrix: &Matrix, ends: &Ends) -> FlexTensor {
    let shape = image.layout().shape();
    let [b, bands, h, w] = [shape[0], shape[1], shape[2], shape[3]];
    let (down, across, line) = (h / side, w / side, matrix.sides()[0]);
    // Copied first: a patch's runs of `side` pixels are too short for products to read them where they lie.
    let values: &[f32] = image.storage();
    let mut patches = vec![0.0f32; b * down * across * line];
    for_chunks(&mut patches, (ROWS * line).max(1), |first, patches| {
        for (i, patch) in patches.chunks_exact_mut(line).enumerate() {
            let place = ROWS * first + i;
            let (batch, y, x) = (place / (down * across), place / across % down, place % across);
            for (run, to) in patch.chunks_exact_mut(side).enumerate() {
                let (band, row) = (run / side, run % side);
                let at = ((batch * bands + band) * h + y * side + row) * w + x * side;
                to.copy_from_slice(&values[at..][..side]);
            }
        }
    });
    let left = Plane { values: &patches, inputs: line };
    let out = ends.product(left, matrix, b * down * across).compute();
    primitive(out, &[b, down, across, matrix.sides()[1]])
}

/// Layer norm over the last axis, without what its gradient needs; `then` of each value.
pub fn layer_norm(x: &FlexTensor, [weight, bias]: [&FlexTensor; 2], epsilon: f64, then: Activation) -> FlexTensor {
    let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let width = weight.len();
    let shape = x.layout().shape().to_vec();
    let x = &x.storage::<f32>()[..x.layout().num_elements()];
    let mut output = vec![0.0f32; x.len()];
    for_chunks(&mut output, ROWS * width, |i, out| {
        let x = &x[i * ROWS * width..][..out.len()];
        widest(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let mean = super::sums::sum(x, |x| x) / width as f32;
                    let variance = super::sums::sum(x, |x| (x - mean) * (x - mean)) / width as f32;
                    let scale = 1.0 / (variance + epsilon as f32).sqrt();
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * scale * w + b;
                    }
                    then.apply(out);
                }
            },
        );
    });
    primitive(output, &shape)
}
