//! Layer norm, and an activation after it.

use burn::tensor::{DType, FloatDType, Tensor, module};

use super::activation::Activation;
#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;
use super::linear::apply_epilogue;

/// Layer norm over the last axis: x `[.., n]`, weight and bias `[n]`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    norm(x, weight, bias, epsilon, Activation::None)
}

/// GELU of [`layer_norm`].
pub fn norm_gelu<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    norm(x, weight, bias, epsilon, Activation::Gelu)
}

fn norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64, then: Activation) -> Tensor<D> {
    dispatch!(x, weight, bias;
        gpu => gpu::layer_norm(x, [weight, bias].map(gpu::values), epsilon, then),
        autodiff => apply_epilogue(autodiff::layer_norm(x, weight, bias, epsilon), None, None, then),
        cpu => cpu::layer_norm(&x, [&cpu::values(&weight), &cpu::values(&bias)], epsilon, then),
        reference => apply_epilogue(reference(x, weight, bias, epsilon), None, None, then))
}

fn reference<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    if x.dtype() == DType::F16 {
        // Squares of activations beyond 256 are beyond what 16 bits hold.
        let wide = |v: Tensor<1>| v.cast(FloatDType::F32);
        let norm = module::layer_norm(x.cast(FloatDType::F32), wide(weight), Some(wide(bias)), epsilon);
        return norm.cast(FloatDType::F16);
    }
    module::layer_norm(x, weight, Some(bias), epsilon)
}
