//! Products: linear layers with their epilogues, and the masks' product.

use burn::tensor::activation::relu;
use burn::tensor::{Tensor, module};

use super::activation::Activation;
#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::dispatch;
use super::elementwise::bias_gelu;
#[cfg(feature = "gpu")]
use super::gpu;
use super::matrix::Matrix;

/// What is fused with a product: `activation((x + add) matrix + bias + residual)`.
#[derive(Clone, Debug)]
pub struct Epilogue<const D: usize> {
    /// Of x's shape, or with 1 in place of its first axis.
    pub add: Option<Tensor<D>>,
    /// `[outputs]`.
    pub bias: Option<Tensor<1>>,
    /// Of the result's shape, or with 1 in place of its first axis.
    pub residual: Option<Tensor<D>>,
    /// Last of all.
    pub activation: Activation,
}

impl<const D: usize> Default for Epilogue<D> {
    fn default() -> Self {
        Self { add: None, bias: None, residual: None, activation: Activation::None }
    }
}

/// `activation((x + add) matrix + bias + residual)`: x `[.., inputs]`, matrix `[inputs, outputs]`, to `[.., outputs]`.
pub fn linear<const D: usize>(x: Tensor<D>, matrix: Matrix, mut epilogue: Epilogue<D>) -> Tensor<D> {
    // A checkpoint's head of as many outputs as it has masks may have any number; a browser asks for none.
    dispatch!(x, matrix, epilogue.add, epilogue.bias, epilogue.residual;
    gpu if matrix.is_in_fours() => {
        let mut product = gpu::GpuProduct::new(x, matrix.on_gpu());
        product.add = epilogue.add.map(gpu::values);
        product.bias = epilogue.bias.map(gpu::values);
        product.residual = epilogue.residual.map(gpu::values);
        product.activation = epilogue.activation;
        product.run()
    },
    reference => match epilogue.add.take() {
        Some(add) => linear_of_sum(x + add, matrix, epilogue),
        None => linear_of_sum(x, matrix, epilogue),
    })
}

/// [`linear`] with nothing to add to `x`.
fn linear_of_sum<const D: usize>(x: Tensor<D>, matrix: Matrix, epilogue: Epilogue<D>) -> Tensor<D> {
    let Epilogue { bias, residual, activation, .. } = epilogue;
    dispatch!(x, matrix, bias, residual;
        autodiff => {
            // GELU's gradient needs the sums, and a residual that every image of a batch gets has one of its own.
            let fits = |residual: &Tensor<D>| residual.dims()[0] == x.dims()[0];
            if activation != Activation::Gelu && residual.as_ref().is_none_or(fits) {
                autodiff::linear(x, matrix.dense(), bias, residual, activation)
            } else {
                let product = autodiff::linear(x, matrix.dense(), None, None, Activation::None);
                apply_epilogue(product, bias, residual, activation)
            }
        },
        cpu => {
            let (bias, residual) = (bias.as_ref().map(cpu::values), residual.as_ref().map(cpu::values));
            cpu::linear(&x, &matrix.on_cpu(), &cpu::CpuEpilogue { bias: bias.as_ref(), residual: residual.as_ref(), activation })
        },
        reference => apply_epilogue(module::linear(x, matrix.dense(), None), bias, residual, activation))
}

/// `activation(y + bias + residual)`.
pub fn apply_epilogue<const D: usize>(
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
        Activation::Relu6 => y.clamp(0.0, 6.0),
        Activation::Gelu => {
            let none = Tensor::zeros([y.dims()[D - 1]], &y.device());
            bias_gelu(y, none)
        }
    }
}

/// Products of mask tokens `[b, n, c]` with pixels `[b, m, c]`: `[b, n, m]`.
pub fn masks(tokens: Tensor<3>, pixels: Tensor<3>) -> Tensor<3> {
    dispatch!(tokens, pixels;
        gpu => gpu::masks(&tokens, &gpu::values(pixels)),
        reference => tokens.matmul(pixels.swap_dims(1, 2)))
}
