//! A linear layer: a product and its epilogue.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::product::{Blocks, CpuProduct, Plane, Rhs, RowSource, panel_width, panels};
use super::tensor::{primitive, view};
use crate::kernels::activation::Activation;

/// What follows a product: `activation(product + bias + residual)`.
#[derive(Default)]
pub struct CpuEpilogue<'a> {
    /// One number for each column.
    pub bias: Option<&'a FlexTensor>,
    /// Of the result's shape, or one batch of it, which is then added to every batch.
    pub residual: Option<&'a FlexTensor>,
    /// Last of all.
    pub activation: Activation,
}

impl<'a> CpuEpilogue<'a> {
    /// The product of `lhs`, which has `rows` rows, with `matrix`, followed by this epilogue.
    pub fn product<L: RowSource>(&self, lhs: L, matrix: &'a CpuMatrix, rows: usize) -> CpuProduct<'a, L> {
        let [inputs, outputs] = matrix.sides();
        CpuProduct {
            lhs,
            rhs: matrix.rhs(),
            sides: [rows, outputs, inputs],
            bias: self.bias.map(FlexTensor::storage),
            residual: self.residual.map(FlexTensor::storage),
            activation: self.activation,
        }
    }
}

/// The right-hand side of a product, `[inputs, outputs]`.
pub enum CpuMatrix {
    /// Floats, row-major or column-major.
    Dense(FlexTensor),
    /// Floats as products read them: [`panels`].
    Panels {
        /// One panel after the other.
        values: FlexTensor,
        /// `inputs` and `outputs`.
        sides: [usize; 2],
    },
    /// A [`crate::kernels::quantized::Quantized`].
    Quantized {
        /// Its integers.
        values: FlexTensor,
        /// Their scales.
        scales: FlexTensor,
        /// 8 or 4.
        bits: usize,
        /// `inputs` and `outputs`.
        sides: [usize; 2],
    },
}

impl CpuMatrix {
    /// A matrix of floats, copied if it is neither row-major nor column-major.
    pub fn dense(matrix: FlexTensor) -> Self {
        let layout = matrix.layout();
        let (shape, strides) = (layout.shape(), layout.strides());
        let ordered = |inner: usize, outer: usize| {
            strides[inner] == 1 && usize::try_from(strides[outer]).is_ok_and(|stride| stride >= shape[inner])
        };
        let is_plane = shape.len() == 2 && shape[0] > 0 && shape[1] > 0 && (ordered(1, 0) || ordered(0, 1));
        if is_plane { Self::Dense(matrix) } else { Self::Dense(matrix.to_contiguous()) }
    }

    /// Inputs and outputs.
    pub fn sides(&self) -> [usize; 2] {
        match self {
            Self::Dense(matrix) => [matrix.layout().shape()[0], matrix.layout().shape()[1]],
            Self::Panels { sides, .. } | Self::Quantized { sides, .. } => *sides,
        }
    }

    fn rhs(&self) -> Rhs<'_> {
        match self {
            Self::Dense(matrix) => {
                let strides = matrix.layout().strides();
                let values = &matrix.storage::<f32>()[matrix.layout().start_offset()..];
                Rhs::Floats { values, strides: [strides[0] as usize, strides[1] as usize] }
            }
            Self::Panels { values, sides } => {
                Rhs::Panels { values: values.storage(), inputs: sides[0], width: panel_width(sides[1]) }
            }
            Self::Quantized { values, scales, bits, sides } => {
                Rhs::Blocks(Blocks { bits: *bits, values: values.bytes(), scales: scales.bytes(), outputs: sides[1] })
            }
        }
    }
}

/// A matrix of floats, `[inputs, outputs]`, as products read it fastest on this machine: panel after panel, the last one's columns
/// filled up with zeros. None if it is another device's.
pub fn to_panels(matrix: &Tensor<2>) -> Option<Vec<f32>> {
    let matrix = CpuMatrix::dense(view(matrix)?);
    Some(panels(&matrix.rhs(), matrix.sides()))
}

/// The inverse of [`to_panels`]: `[inputs, outputs]`, row-major.
pub fn from_panels(panels: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let width = panel_width(outputs);
    let at = |input: usize, output: usize| (output / width * inputs + input) * width + output % width;
    (0..inputs).flat_map(|i| (0..outputs).map(move |o| panels[at(i, o)])).collect()
}

/// `activation(x matrix + bias + residual)`: x `[.., inputs]`, row-major; matrix `[inputs, outputs]`.
pub fn linear(x: &FlexTensor, matrix: &CpuMatrix, epilogue: &CpuEpilogue) -> FlexTensor {
    let mut shape = x.layout().shape().to_vec();
    let [inputs, outputs] = matrix.sides();
    assert_eq!(shape.pop(), Some(inputs), "the inputs of a product");
    let rows = shape.iter().product();
    let lhs = Plane { values: x.storage(), inputs };
    let out = epilogue.product(lhs, matrix, rows).compute();
    shape.push(outputs);
    primitive(out, &shape)
}

/// The same numbers as a matrix of swapped sides.
#[cfg(feature = "train")]
pub fn transposed(matrix: &FlexTensor) -> FlexTensor {
    FlexTensor::from_arc(matrix.data_arc(), matrix.layout().transpose(0, 1), matrix.dtype())
}

/// `lhs^T rhs` of row-major `[.., m]` and `[.., n]` with as many rows: `[m, n]`.
#[cfg(feature = "train")]
pub fn product_of_transposed(lhs: &FlexTensor, rhs: &FlexTensor) -> FlexTensor {
    let flat = |x: &FlexTensor| {
        let columns = x.layout().shape().last().copied().unwrap_or(1);
        x.reshape([x.layout().num_elements() / columns.max(1), columns].into())
    };
    linear(&transposed(&flat(lhs)).to_contiguous(), &CpuMatrix::dense(flat(rhs)), &CpuEpilogue::default())
}
