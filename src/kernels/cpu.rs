//! The same on the CPU: one pass over memory, SIMD, all cores (natively; a browser's worker has one).

use burn::tensor::{Device, Int, Shape, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use vector::widest;

use super::{Activation, math};

mod attention;
mod layers;
mod linear;
#[cfg(feature = "train")]
mod norm;
#[cfg(feature = "train")]
mod product;
mod sums;
mod vector;

#[cfg(feature = "train")]
pub use attention::window_attention_gradients;
pub use attention::{AttentionShape, Positions, window_attention};
pub use layers::{Ends, Matrix, conv3x3, layer_norm, linear, patch_embed};
#[cfg(feature = "train")]
pub use layers::{product_of_transposed, transposed};
pub use linear::width_for;
#[cfg(feature = "train")]
pub use norm::{layer_norm as layer_norm_with_moments, layer_norm_gradients};

/// The tensor's `flex` primitive, f32 and in row-major order, or the tensor back if it is another device's or is tracked.
#[allow(clippy::result_large_err)] // the error is the tensor itself, handed back
pub fn take<const D: usize>(x: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
    match x.clone().try_into_primitive::<Flex>() {
        Ok(flex) if flex.dtype() == burn::tensor::DType::F32 => {
            drop(x); // the only handle may be written to
            Ok(flex.to_contiguous())
        }
        _ => Err(x),
    }
}

/// The tensor's `flex` primitive as it lies in memory; none if it is another device's or is tracked, or is not f32.
pub fn view<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok().filter(|flex| flex.dtype() == burn::tensor::DType::F32)
}

/// `activation(x matrix + bias + residual)` by `layer`, which gets all of them as primitives; nothing is to be added to x. None where
/// one of them is another device's, or is tracked, or does not fit to the others.
pub fn fused<const D: usize>(
    x: &Tensor<D>,
    matrix: Option<Matrix>,
    ends: &super::Ends<D>,
    layer: impl FnOnce(&FlexTensor, &Matrix, &Ends) -> FlexTensor,
) -> Option<Tensor<D>> {
    debug_assert!(ends.add.is_none());
    let matrix = matrix?;
    let flat = |x: FlexTensor| x.to_contiguous();
    let bias = match &ends.bias {
        Some(bias) => Some(view(bias).map(flat)?),
        None => None,
    };
    let residual = match &ends.residual {
        Some(residual) => Some(view(residual).map(flat)?),
        None => None,
    };
    let ends = Ends { bias: bias.as_ref(), residual: residual.as_ref(), activation: ends.activation };
    Some(wrap(layer(&view(x).map(flat)?, &matrix, &ends)))
}

/// A matrix of floats for [`fused`], as it lies in memory.
pub fn dense(matrix: &Tensor<2>) -> Option<Matrix> {
    Matrix::dense(view(matrix)?)
}

/// The words of a matrix in `bits`, for [`fused`].
pub fn packed(values: Tensor<2, Int>, scales: Tensor<2, Int>, bits: usize, sides: [usize; 2]) -> Option<Matrix> {
    let [values, scales] = [values, scales].map(|words| words.try_into_primitive::<Flex>().ok());
    Some(Matrix::Packed { values: values?, scales: scales?, bits, sides })
}

/// Whether `device` is this one, and keeps words in the order that a matrix of few bits is read in.
pub fn runs_on(device: &Device) -> bool {
    cfg!(target_endian = "little") && Tensor::<1>::empty([1], device).try_into_primitive::<Flex>().is_ok()
}

/// What a kernel reads beside its first argument, which is on the same device.
pub fn values<const D: usize>(x: &Tensor<D>) -> FlexTensor {
    match take(x.clone()) {
        Ok(flex) => flex,
        Err(x) => FlexTensor::from_data(x.into_data()),
    }
}

/// A primitive of `values`, row-major.
pub fn primitive(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape.to_vec())))
}

/// A plain tensor of a primitive.
pub fn wrap<const D: usize>(primitive: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(primitive)
}

/// Calls `work` with the index and content of each chunk of `length` values, on all cores.
fn for_chunks(values: &mut [f32], length: usize, work: impl Fn(usize, &mut [f32]) + Sync + Send) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        values.par_chunks_mut(length).enumerate().for_each(|(i, chunk)| work(i, chunk));
    }
    #[cfg(target_arch = "wasm32")]
    values.chunks_mut(length).enumerate().for_each(|(i, chunk)| work(i, chunk));
}

/// Calls `work` with every number below `count`, on all cores.
fn for_tasks(count: usize, work: impl Fn(usize) + Sync + Send) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
    #[cfg(target_arch = "wasm32")]
    (0..count).for_each(work);
}

/// Rows that one core works on at a time.
const ROWS: usize = 16;

impl Activation {
    /// Of each value, in loops that become vectors of the instructions that the caller has.
    #[inline(always)]
    fn apply(self, values: &mut [f32]) {
        match self {
            Self::None => (),
            Self::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Gelu => values.iter_mut().for_each(|x| *x = math::gelu(*x)),
        }
    }
}

/// See [`super::bias_gelu`].
pub fn bias_gelu(mut x: FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let bias: &[f32] = bias.storage();
    for_chunks(x.storage_mut(), ROWS * bias.len(), |_, rows| {
        widest(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(bias.len()) {
                    for (x, b) in row.iter_mut().zip(bias) {
                        *x = math::gelu(*x + b);
                    }
                }
            },
        );
    });
    x
}

/// The gradient of [`bias_gelu`]'s sum `x + bias`, of `x`'s shape.
#[cfg(feature = "train")]
pub fn bias_gelu_gradient(x: &FlexTensor, bias: &FlexTensor, mut gradient: FlexTensor) -> FlexTensor {
    let (x, bias): (&[f32], &[f32]) = (x.storage(), bias.storage());
    let length = ROWS * bias.len();
    for_chunks(gradient.storage_mut(), length, |i, rows| {
        let x = &x[i * length..][..rows.len()];
        widest(
            #[inline(always)]
            || {
                for (row, x) in rows.chunks_exact_mut(bias.len()).zip(x.chunks_exact(bias.len())) {
                    for ((g, x), b) in row.iter_mut().zip(x).zip(bias) {
                        *g *= math::gelu_slope(*x + b);
                    }
                }
            },
        );
    });
    gradient
}

/// Sums of the columns of `[.., width]`, in an order that does not depend on the number of cores.
#[cfg(feature = "train")]
pub fn column_sums(x: &FlexTensor, width: usize) -> FlexTensor {
    const ROWS_A_SUM: usize = 256;
    let x: &[f32] = x.storage();
    let mut parts = vec![0.0f32; x.len().div_ceil(ROWS_A_SUM * width).max(1) * width];
    for_chunks(&mut parts, width, |i, sums| {
        let start = (i * ROWS_A_SUM * width).min(x.len());
        let rows = &x[start..(start + ROWS_A_SUM * width).min(x.len())];
        widest(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(width) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            },
        );
    });
    primitive(add_up(&parts, width), &[width])
}

/// The sum of the runs of `width` values that follow each other in `parts`.
#[cfg(feature = "train")]
fn add_up(parts: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0f32; width];
    for part in parts.chunks_exact(width) {
        for (sum, x) in total.iter_mut().zip(part) {
            *sum += x;
        }
    }
    total
}
