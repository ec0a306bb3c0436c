//! Layers that encoder and decoder share.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::error::Result;
use crate::kernels::{Activation, layer_norm, norm_gelu};
use crate::layers::{Adapted, Scope};

/// Layer norm over the last axis (`LayerNorm`, and `LayerNorm2d` since images are channel-last here).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// Takes `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: from.take("weight")?, bias: from.take("bias")?, epsilon })
    }

    /// `[.., channels]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }

    /// GELU of [`LayerNorm::forward`].
    pub fn gelu<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        norm_gelu(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

/// A convolution with a bias, into which the batch norm behind it is folded (`Conv2d_BN`).
#[derive(Module, Debug)]
pub struct NormedConv {
    /// `[outputs, inputs, k, k]`; of a depthwise one `[channels, 1, k, k]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl NormedConv {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self { weight: from.take("weight")?, bias: from.take("bias")? })
    }
}

/// Two linear layers with an activation between (`common.py`, `MLPBlock`).
#[derive(Module, Debug)]
pub struct MlpBlock {
    /// `channels` to `hidden`.
    pub lin1: Adapted,
    /// `hidden` to `channels`.
    pub lin2: Adapted,
    #[module(skip)]
    activation: Activation,
}

impl MlpBlock {
    /// Takes `lin1` and `lin2`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, activation: Activation) -> Result<Self> {
        Ok(Self { lin1: Adapted::load(from.scope("lin1"))?, lin2: Adapted::load(from.scope("lin2"))?, activation })
    }

    /// `[.., channels]` to the same, and the sum with `residual`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        let hidden = self.lin1.fused(x, None, None, self.activation);
        self.lin2.fused(hidden, None, Some(residual), Activation::None)
    }
}
