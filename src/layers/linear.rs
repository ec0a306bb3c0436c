//! A linear layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::parameters::Scope;
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
    /// Takes `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self { weight: from.take_weight("weight")?, bias: from.take("bias")? })
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
