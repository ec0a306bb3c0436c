//! Layers that encoder and decoder share.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::error::Result;
use crate::kernels::{Activation, layer_norm, norm_gelu};
use crate::layers::{Adapted, Parameters};

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
    /// Takes `{name}.weight` and `{name}.bias`, both `[channels]`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, name: &str, channels: usize, epsilon: f64) -> Result<Self> {
        let weight = from.take(&format!("{name}.weight"), [channels])?;
        let bias = from.take(&format!("{name}.bias"), [channels])?;
        Ok(Self { weight, bias, epsilon })
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
    /// Takes `{name}.lin1` and `{name}.lin2`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(
        from: &mut Parameters,
        name: &str,
        channels: usize,
        hidden: usize,
        activation: Activation,
    ) -> Result<Self> {
        let lin1 = Adapted::load(from, &format!("{name}.lin1"), channels, hidden)?;
        let lin2 = Adapted::load(from, &format!("{name}.lin2"), hidden, channels)?;
        Ok(Self { lin1, lin2, activation })
    }

    /// `[.., channels]` to the same, and the sum with `residual`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        let hidden = self.lin1.fused(x, None, None, self.activation);
        self.lin2.fused(hidden, None, Some(residual), Activation::None)
    }
}
