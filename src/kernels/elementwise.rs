//! Operations on each number by itself.

use burn::tensor::{Tensor, activation};

#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;

/// `a + b`, b of a's shape or with 1 in place of leading axes.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    dispatch!(a, b;
        gpu => gpu::add(&a, &gpu::values(b)),
        reference => a + b)
}

/// `gelu(x + bias)` with the exact (error function) GELU: x `[.., n]`, bias `[n]`.
pub fn bias_gelu<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    dispatch!(x, bias;
    autodiff => autodiff::bias_gelu(x, bias),
    cpu => cpu::bias_gelu(x, &cpu::values(&bias)),
    reference => {
        let x = x + bias.unsqueeze();
        if x.is_autodiff() {
            // The same function, but with its own gradient: burn's is that of the tanh approximation.
            return x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
        }
        activation::gelu(x)
    })
}
