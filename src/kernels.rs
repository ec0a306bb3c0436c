//! Fused operations, each with a plain form on any device and faster ones for the CPU and for GPUs.
//!
//! A faster form for the CPU takes tensors of burn's `flex` device, with gradients of its own where they are asked for. One for a
//! GPU takes untracked tensors of burn's wgpu device, once [`gpu::set_profile`] has turned it on. Everything else takes the plain
//! form, which is also what the tests compare with.

use burn::tensor::activation::{self, relu};
use burn::tensor::{DType, Device, FloatDType, Tensor, module};

mod attention;
pub mod convolution;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "cpu")]
mod math;
mod around;
pub mod packed;
#[cfg(all(feature = "cpu", feature = "train"))]
mod tracked;

pub use around::*;
pub use attention::{WindowAttention, by_query_and_key, cross_attention};
use packed::Packed;

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`: the decoder.
    Relu,
    /// `x / 2 (1 + erf(x / sqrt 2))`, exact: the encoder.
    Gelu,
}

/// The right factor of a product.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one at a time, handed over once
pub enum Matrix {
    /// `[inputs, outputs]`.
    Dense(Tensor<2>),
    /// Block-quantised.
    Packed(Packed),
}

#[cfg(feature = "gpu")]
impl Matrix {
    /// Whether the GPU's kernels take it: both sides are multiples of 4.
    fn is_in_fours(&self) -> bool {
        match self {
            Self::Dense(matrix) => matrix.dims().iter().all(|side| side.is_multiple_of(4)),
            Self::Packed(_) => true,
        }
    }
}

/// Whether `device` multiplies by [`Matrix::Packed`] as it is: GPUs that have kernels of our own, and the CPU.
pub fn has_packed(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if cpu::runs_on(device) {
        return true;
    }
    has_gpu_kernels(device)
}

/// Whether the kernels for GPUs run on `device`.
pub fn has_gpu_kernels(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    return gpu::runs_on(device);
    #[cfg(not(feature = "gpu"))]
    {
        let _ = device;
        false
    }
}

/// What is done around a product: `activation((x + add) matrix + bias + residual)`.
#[derive(Clone, Debug)]
pub struct Ends<const D: usize> {
    /// Of x's shape, or with 1 in place of its first axis.
    pub add: Option<Tensor<D>>,
    /// `[outputs]`.
    pub bias: Option<Tensor<1>>,
    /// Of the result's shape, or with 1 in place of its first axis.
    pub residual: Option<Tensor<D>>,
    /// Last of all.
    pub activation: Activation,
}

impl<const D: usize> Default for Ends<D> {
    fn default() -> Self {
        Self { add: None, bias: None, residual: None, activation: Activation::None }
    }
}

/// `activation((x + add) matrix + bias + residual)`: x `[.., inputs]` to `[.., outputs]`.
pub fn linear<const D: usize>(x: Tensor<D>, matrix: Matrix, mut ends: Ends<D>) -> Tensor<D> {
    // A checkpoint's head of as many outputs as it has masks may have any number; a browser asks for none.
    #[cfg(feature = "gpu")]
    let x = match if cfg!(browser_gpu) || matrix.is_in_fours() { gpu::take(x) } else { Err(x) } {
        Ok(x) => {
            let matrix = match matrix {
                Matrix::Dense(matrix) => gpu::Matrix::Dense(gpu::values(matrix)),
                Matrix::Packed(packed) => packed.on_gpu(),
            };
            let mut product = gpu::Product::new(x, matrix);
            product.add = ends.add.map(gpu::values);
            product.bias = ends.bias.map(gpu::values);
            product.residual = ends.residual.map(gpu::values);
            product.activation = ends.activation;
            return gpu::wrap(product.run());
        }
        Err(x) => x,
    };
    let x = match ends.add.take() {
        Some(add) => x + add,
        None => x,
    };
    let matrix = match matrix {
        Matrix::Dense(matrix) => matrix,
        Matrix::Packed(packed) => {
            #[cfg(feature = "cpu")]
            if let Some(y) = cpu::fused(&x, packed.on_cpu(), &ends, cpu::linear) {
                return y;
            }
            packed.unpacked()
        }
    };
    #[cfg(feature = "cpu")]
    if x.dims()[D - 1] == matrix.dims()[0] {
        if let Some(y) = cpu::fused(&x, cpu::dense(&matrix), &ends, cpu::linear) {
            return y;
        }
        #[cfg(feature = "train")]
        if tracked::is_tracked(&x) || tracked::is_tracked(&matrix) {
            // The activation's gradient is its own, and so is that of a residual which every image of a batch gets.
            let fits = |residual: &Tensor<D>| residual.dims()[0] == x.dims()[0];
            let is_whole = ends.activation == Activation::None && ends.residual.as_ref().is_none_or(fits);
            let (bias, residual) = (ends.bias.as_ref(), ends.residual.as_ref());
            let (bias, residual) = if is_whole { (bias, residual) } else { (None, None) };
            if let Some(y) = tracked::linear(&x, &matrix, bias, residual) {
                return if is_whole { y } else { finish(y, ends.bias, ends.residual, ends.activation) };
            }
        }
    }
    finish(module::linear(x, matrix, None), ends.bias, ends.residual, ends.activation)
}

/// `activation(y + bias + residual)`.
pub fn finish<const D: usize>(
    y: Tensor<D>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    activation: Activation,
) -> Tensor<D> {
    let y = match (bias, &residual, activation) {
        (Some(bias), None, Activation::Gelu) => return bias_gelu(y, bias),
        (Some(bias), _, _) => y + bias.unsqueeze(),
        (None, _, _) => y,
    };
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
        Activation::Gelu => {
            let none = Tensor::zeros([y.dims()[D - 1]], &y.device());
            bias_gelu(y, none)
        }
    }
}

/// `gelu(x + bias)` with the exact (error function) GELU: x `[.., n]`, bias `[n]`.
pub fn bias_gelu<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    #[cfg(all(feature = "cpu", feature = "train"))]
    if tracked::is_tracked(&x) || tracked::is_tracked(&bias) {
        return tracked::bias_gelu(x, bias);
    }
    #[cfg(feature = "cpu")]
    let x = match cpu::take(x) {
        Ok(x) => return cpu::wrap(cpu::bias_gelu(x, &cpu::values(&bias))),
        Err(x) => x,
    };
    let x = x + bias.unsqueeze();
    if x.is_autodiff() {
        // The same function, but with its own gradient: burn's is that of the tanh approximation.
        return x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    }
    activation::gelu(x)
}

/// Layer norm over the last axis: x `[.., n]`, weight and bias `[n]`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    norm(x, weight, bias, epsilon, Activation::None)
}

/// GELU of [`layer_norm`].
pub fn norm_gelu<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    norm(x, weight, bias, epsilon, Activation::Gelu)
}

fn norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64, then: Activation) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::layer_norm(x, [weight, bias].map(gpu::values), epsilon, then)),
        Err(x) => x,
    };
    #[cfg(feature = "cpu")]
    if let (Some(x), Some(weight), Some(bias)) = (cpu::view(&x), cpu::view(&weight), cpu::view(&bias)) {
        let parameters = [&weight.to_contiguous(), &bias.to_contiguous()];
        return cpu::wrap(cpu::layer_norm(&x.to_contiguous(), parameters, epsilon, then));
    }
    finish(plain_norm(x, weight, bias, epsilon), None, None, then)
}

fn plain_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    #[cfg(all(feature = "cpu", feature = "train"))]
    if tracked::is_tracked(&x) || tracked::is_tracked(&weight) || tracked::is_tracked(&bias) {
        return tracked::layer_norm(x, weight, bias, epsilon);
    }
    if x.dtype() == DType::F16 {
        // Squares of activations beyond 256 are beyond what 16 bits hold.
        let wide = |v: Tensor<1>| v.cast(FloatDType::F32);
        let norm = module::layer_norm(x.cast(FloatDType::F32), wide(weight), Some(wide(bias)), epsilon);
        return norm.cast(FloatDType::F16);
    }
    module::layer_norm(x, weight, Some(bias), epsilon)
}
