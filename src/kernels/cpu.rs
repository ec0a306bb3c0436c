//! The same on the CPU: one pass over memory, SIMD, all cores (natively; a browser's worker has one).

use burn::tensor::{Shape, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use pulp::Arch;

use super::math;

mod attention;
#[cfg(feature = "train")]
mod norm;
#[cfg(any(test, target_arch = "wasm32"))]
mod panels;
mod product;

#[cfg(feature = "train")]
pub use attention::window_attention_gradients;
pub use attention::{AttentionShape, window_attention};
#[cfg(feature = "train")]
pub use norm::{layer_norm, layer_norm_gradients};

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

/// Rows that one core works on at a time.
const ROWS: usize = 16;

/// See [`super::linear`]; matrix `[inputs, outputs]`.
#[cfg(target_arch = "wasm32")]
pub fn linear(x: &FlexTensor, matrix: &FlexTensor, [inputs, outputs]: [usize; 2], shape: &[usize]) -> FlexTensor {
    let (x, matrix): (&[f32], &[f32]) = (x.storage(), matrix.storage());
    primitive(panels::product(x, matrix, [x.len() / inputs, outputs, inputs]), shape)
}

/// See [`super::bias_gelu`].
pub fn bias_gelu(mut x: FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let bias: &[f32] = bias.storage();
    for_chunks(x.storage_mut(), ROWS * bias.len(), |_, rows| {
        Arch::new().dispatch(|| {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, b) in row.iter_mut().zip(bias) {
                    *x = math::gelu(*x + b);
                }
            }
        });
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
        Arch::new().dispatch(|| {
            for (row, x) in rows.chunks_exact_mut(bias.len()).zip(x.chunks_exact(bias.len())) {
                for ((g, x), b) in row.iter_mut().zip(x).zip(bias) {
                    *g *= math::gelu_slope(*x + b);
                }
            }
        });
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
        Arch::new().dispatch(|| {
            for row in rows.chunks_exact(width) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
        });
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
