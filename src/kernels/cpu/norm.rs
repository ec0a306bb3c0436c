//! Layer norm over the last axis in one pass, with its gradients.

use burn_flex::FlexTensor;

use super::activation::apply;
use super::parallel::{ROWS, for_chunks};
use super::reduce::sum;
#[cfg(feature = "train")]
use super::reduce::{add_up, sum_product};
use super::tensor::primitive;
use super::vector::widest;
use crate::kernels::activation::Activation;

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
                    let mean = sum(x, |x| x) / width as f32;
                    let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
                    let scale = 1.0 / (variance + epsilon as f32).sqrt();
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * scale * w + b;
                    }
                    apply(then, out);
                }
            },
        );
    });
    primitive(output, &shape)
}

/// A layer norm's result and what its gradient needs again.
#[cfg(feature = "train")]
pub struct Normalized {
    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`, of x's shape.
    pub output: FlexTensor,
    /// Mean and `1 / sqrt(variance + epsilon)` of each row, `[rows, 2]`.
    pub moments: Vec<f32>,
}

/// [`layer_norm`] without an activation, and with what its gradient needs.
#[cfg(feature = "train")]
pub fn layer_norm_with_moments(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor, epsilon: f64) -> Normalized {
    let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let width = weight.len();
    let shape = x.layout().shape().to_vec();
    let x: &[f32] = x.storage();
    let mut moments = vec![0.0f32; x.len() / width * 2];
    for_chunks(&mut moments, ROWS * 2, |i, moments| {
        let x = &x[i * ROWS * width..][..moments.len() / 2 * width];
        widest(
            #[inline(always)]
            || {
                for (row, moments) in x.chunks_exact(width).zip(moments.chunks_exact_mut(2)) {
                    let mean = sum(row, |x| x) / width as f32;
                    let variance = sum(row, |x| (x - mean) * (x - mean)) / width as f32;
                    moments[0] = mean;
                    moments[1] = 1.0 / (variance + epsilon as f32).sqrt();
                }
            },
        );
    });
    let mut output = vec![0.0f32; x.len()];
    for_chunks(&mut output, ROWS * width, |i, out| {
        let x = &x[i * ROWS * width..][..out.len()];
        let moments = &moments[i * ROWS * 2..];
        widest(
            #[inline(always)]
            || {
                for ((out, x), moments) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(moments.chunks(2))
                {
                    let (mean, scale) = (moments[0], moments[1]);
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * scale * w + b;
                    }
                }
            },
        );
    });
    Normalized { output: primitive(output, &shape), moments }
}

/// Gradients of x, and of weight and bias if `parameters`.
///
/// With `n = (x - mean) * scale` and `h = gradient * weight`: `dx = scale * (h - mean(h) - n * mean(h n))`,
/// `dweight = sum(gradient * n)`, `dbias = sum(gradient)`.
#[cfg(feature = "train")]
pub fn layer_norm_gradients(
    x: &FlexTensor,
    weight: &FlexTensor,
    moments: &[f32],
    gradient: &FlexTensor,
    parameters: bool,
) -> (FlexTensor, Option<[FlexTensor; 2]>) {
    let weight: &[f32] = weight.storage();
    let width = weight.len();
    let shape = x.layout().shape().to_vec();
    let (x, gradient): (&[f32], &[f32]) = (x.storage(), gradient.storage());
    let mut dx = vec![0.0f32; x.len()];
    for_chunks(&mut dx, ROWS * width, |i, dx| {
        let (x, gradient) = (&x[i * ROWS * width..][..dx.len()], &gradient[i * ROWS * width..][..dx.len()]);
        let moments = &moments[i * ROWS * 2..];
        widest(
            #[inline(always)]
            || {
                let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gradient.chunks_exact(width));
                for (((dx, x), g), moments) in rows.zip(moments.chunks(2)) {
                    let (mean, scale) = (moments[0], moments[1]);
                    for ((dx, g), w) in dx.iter_mut().zip(g).zip(weight) {
                        *dx = g * w;
                    }
                    let mean_h = sum(dx, |h| h) / width as f32;
                    let mean_hn = sum_product(dx, x, mean) * scale / width as f32;
                    for (dx, x) in dx.iter_mut().zip(x) {
                        *dx = scale * (*dx - mean_h - (x - mean) * scale * mean_hn);
                    }
                }
            },
        );
    });
    let parameters = parameters.then(|| {
        const ROWS_A_SUM: usize = 256;
        let mut parts = vec![0.0f32; x.len().div_ceil(ROWS_A_SUM * width).max(1) * 2 * width];
        for_chunks(&mut parts, 2 * width, |i, sums| {
            let rows = (i * ROWS_A_SUM * width).min(x.len())..((i + 1) * ROWS_A_SUM * width).min(x.len());
            let (x, gradient) = (&x[rows.clone()], &gradient[rows]);
            let moments = &moments[(i * ROWS_A_SUM * 2).min(moments.len())..];
            let (dw, db) = sums.split_at_mut(width);
            widest(
                #[inline(always)]
                || {
                    for ((x, g), moments) in
                        x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(moments.chunks(2))
                    {
                        let (mean, scale) = (moments[0], moments[1]);
                        for (((dw, db), x), g) in dw.iter_mut().zip(db.iter_mut()).zip(x).zip(g) {
                            *dw += g * ((x - mean) * scale);
                            *db += g;
                        }
                    }
                },
            );
        });
        let total = add_up(&parts, 2 * width);
        [primitive(total[..width].to_vec(), &[width]), primitive(total[width..].to_vec(), &[width])]
    });
    (primitive(dx, &shape), parameters)
}
