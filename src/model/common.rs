//! Layers that encoder and decoder share.

use burn::module::{Module, Param};
use burn::nn::Dropout;
use burn::tensor::{Tensor, module};

use super::parameters::{Scope, Taken};
use crate::error::Result;
use crate::kernels::packed::Packed;
use crate::kernels::{self, Ends, Matrix, finish, layer_norm, norm_gelu, permute, stand_in, turned};

pub use crate::kernels::Activation;

/// A linear layer, `y = x W^T + b`, with any number of low-rank adapters on ranges of its outputs.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`. Where the matrix is packed, a single number stands for its shape: [`Linear::matrix`] gives the real one.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    /// Empty at inference, where adapters are merged into `weight`; see [`crate::lora`].
    pub adapters: Vec<LowRank>,
    /// All adapters as two matrices, for inference on a GPU; `adapters` is empty then.
    pub joined: Option<Joined>,
    /// The matrix in 8 or 4 bits, on a device that multiplies by it as it is, or as [`Linear::arrange`] lays it out.
    pub packed: Option<Packed>,
}

/// All adapters of a layer, each in columns of its own: `y += (x a) b`.
#[derive(Module, Debug)]
pub struct Joined {
    /// `[in, ranks]`, the ranks filled up with zeros to a multiple of 4.
    pub a: Param<Tensor<2>>,
    /// `[ranks, out]`, scales included.
    pub b: Param<Tensor<2>>,
}

/// A low-rank addition to outputs `start .. start + len` of a [`Linear`]: `y += scale * B (A dropout(x))`.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[rank, in]`.
    pub a: Param<Tensor<2>>,
    /// `[len, rank]`.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`; 1 in SAMed and SamLoRA.
    pub scale: f64,
    /// First output that it adds to.
    pub start: usize,
    /// Active in training only.
    pub dropout: Dropout,
}

impl Linear {
    /// Takes `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        let (weight, packed) = match from.take_matrix("weight")? {
            // Lies in memory as [inputs, outputs], which products read in order; its shape stays SAM's.
            (Taken::Dense(weight), _) => (turned(weight), None),
            (Taken::Packed(packed), shape) => (stand_in(shape, from.device()), Some(packed)),
        };
        let bias = from.take("bias")?;
        Ok(Self { weight: Param::from_tensor(weight), bias, adapters: Vec::new(), joined: None, packed })
    }

    /// The weight as floats, `[out, in]`. In training a frozen base may be 8-bit in memory; then this lives as long as the product
    /// that it is for, and its gradient.
    pub fn matrix(&self) -> Tensor<2> {
        if let Some(packed) = &self.packed {
            return packed.unpacked().transpose();
        }
        self.dense()
    }

    /// Lays the matrix out as the CPU's products read it fastest, for inference; matrices that training changes stay as they are.
    pub fn arrange(&mut self) {
        #[cfg(feature = "cpu")]
        if self.packed.is_none()
            && let Some(packed) = Packed::arrange(permute(self.dense(), [1, 0]))
        {
            let weight = self.weight.val();
            self.weight = Param::from_tensor(stand_in(weight.dims(), &weight.device()));
            self.packed = Some(packed);
        }
    }

    fn dense(&self) -> Tensor<2> {
        let weight = self.weight.val();
        #[cfg(feature = "train")]
        let weight = weight.dequantize();
        weight
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
        if cfg!(browser_gpu) || self.adapters.is_empty() {
            return self.unadapted(x, Ends { add, bias: Some(self.bias.val()), residual, activation });
        }
        let x = match add {
            Some(add) => x + add,
            None => x,
        };
        finish(self.product(x), Some(self.bias.val()), residual, activation)
    }

    /// [`Linear::forward`] without the bias.
    pub fn product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let y = self.unadapted(x.clone(), Ends::default());
        let [outputs, _] = self.weight.dims();
        let Some(first) = self.adapters.first() else { return y };
        // All adapters at once: the A's above each other, each B in rows and columns of its own.
        let a = Tensor::cat(self.adapters.iter().map(|adapter| adapter.a.val()).collect(), 0);
        let b = Tensor::cat(self.adapters.iter().map(|adapter| adapter.outputs(outputs)).collect(), 1);
        // Dropout goes by its input, which carries no graph where all that comes before is frozen.
        #[cfg(feature = "train")]
        let x = if a.is_autodiff() { x.autodiff() } else { x };
        let z = module::linear(first.dropout.forward(x), a.transpose(), None);
        y + module::linear(z, b.transpose(), None)
    }

    /// The product without `adapters`, but with joined ones, and what is around it.
    fn unadapted<const D: usize>(&self, x: Tensor<D>, mut ends: Ends<D>) -> Tensor<D> {
        if let Some(Joined { a, b }) = &self.joined {
            let narrow = Ends { add: ends.add.clone(), ..Ends::default() };
            let z = kernels::linear(x.clone(), Matrix::Dense(a.val()), narrow);
            let wide = Ends { residual: ends.residual.take(), ..Ends::default() };
            ends.residual = Some(kernels::linear(z, Matrix::Dense(b.val()), wide));
        }
        let matrix = match &self.packed {
            Some(packed) => Matrix::Packed(packed.clone()),
            None => Matrix::Dense(permute(self.dense(), [1, 0])),
        };
        kernels::linear(x, matrix, ends)
    }
}

impl LowRank {
    /// `scale * B` with zero rows above and below, `[outputs, rank]`.
    fn outputs(&self, outputs: usize) -> Tensor<2> {
        let [len, rank] = self.b.dims();
        let b = self.b.val() * self.scale;
        let device = b.device();
        let zeros = |rows: usize| (rows > 0).then(|| Tensor::zeros([rows, rank], &device));
        let rows = [zeros(self.start), Some(b), zeros(outputs - self.start - len)];
        Tensor::cat(rows.into_iter().flatten().collect(), 0)
    }
}

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

/// Two linear layers with an activation between (`common.py`, `MLPBlock`).
#[derive(Module, Debug)]
pub struct MlpBlock {
    /// `channels` to `hidden`.
    pub lin1: Linear,
    /// `hidden` to `channels`.
    pub lin2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl MlpBlock {
    /// Takes `lin1` and `lin2`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, activation: Activation) -> Result<Self> {
        Ok(Self { lin1: Linear::load(from.scope("lin1"))?, lin2: Linear::load(from.scope("lin2"))?, activation })
    }

    /// `[.., channels]` to the same, and the sum with `residual`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        let hidden = self.lin1.fused(x, None, None, self.activation);
        self.lin2.fused(hidden, None, Some(residual), Activation::None)
    }
}
