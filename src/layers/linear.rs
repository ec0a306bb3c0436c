//! A linear layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::parameters::Parameters;
use crate::error::Result;
use crate::kernels::{Activation, Epilogue, Weight, linear};

/// A linear layer, `y = x W^T + b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`, as it is stored.
    pub weight: Weight,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// Takes `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = from.take_weight(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = from.take(&format!("{name}.bias"), [outputs])?;
        Ok(Self { weight, bias })
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.fused(x, None, None, Activation::None)
    }

    /// `activation(forward(x + add) + residual)`; `add` and `residual` may have 1 in place of their first axis.
    pub fn fused<const D: usize>(
        &self,
        x: Tensor<D>,
        add: Option<Tensor<D>>,
        residual: Option<Tensor<D>>,
        activation: Activation,
    ) -> Tensor<D> {
        self.product(x, Epilogue { add, bias: Some(self.bias.val()), residual, activation })
    }

    /// The product with the weight, and `epilogue` in place of the layer's own bias.
    pub fn product<const D: usize>(&self, x: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        linear(x, self.weight.operand(), epilogue)
    }
}
