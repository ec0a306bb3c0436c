//! GELU after a bias, with its gradient.

use burn_flex::FlexTensor;

use super::math;
use super::parallel::{ROWS, for_chunks};
use super::vector::widest;

/// See [`crate::kernels::bias_gelu`].
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

/// The gradient of what was limited to numbers from 0 to `most` and gave `output`.
#[cfg(feature = "train")]
pub fn limit_gradient(output: &FlexTensor, most: f32, mut gradient: FlexTensor) -> FlexTensor {
    const LENGTH: usize = 1 << 14;
    let output: &[f32] = output.storage();
    for_chunks(gradient.storage_mut(), LENGTH, |i, gradient| {
        widest(
            #[inline(always)]
            || {
                for (g, y) in gradient.iter_mut().zip(&output[i * LENGTH..]) {
                    *g = if *y > 0.0 && *y < most { *g } else { 0.0 };
                }
            },
        );
    });
    gradient
}
