//! Layers that encoder and decoder share, and the resampling of position embeddings.

use burn::module::{Module, Param};
use burn::nn::Dropout;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData, module};

use super::Parameters;
use crate::error::Result;
use crate::kernels::{bias_gelu, layer_norm, linear};

/// A linear layer, `y = x W^T + b`, with any number of low-rank adapters on ranges of its outputs.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
    /// Empty at inference, where adapters are merged into `weight`; see [`crate::lora`].
    pub adapters: Vec<LowRank>,
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
    /// Takes `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = from.take(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = from.take(&format!("{name}.bias"), [outputs])?;
        // Lies in memory as [inputs, outputs], which products read in order; its shape stays SAM's.
        let turned = weight.val().transpose().reshape([inputs * outputs]).reshape([inputs, outputs]);
        Ok(Self { weight: Param::from_tensor(turned.transpose()), bias, adapters: Vec::new() })
    }

    /// The weight as f32 `[out, in]`. In training a frozen base may be 8-bit in memory; then this lives as long as the product
    /// that it is for, and its gradient.
    pub fn matrix(&self) -> Tensor<2> {
        let weight = self.weight.val();
        #[cfg(feature = "train")]
        let weight = weight.dequantize();
        weight
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.product(x) + self.bias.val().unsqueeze()
    }

    /// [`Linear::forward`] without the bias.
    pub fn product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let y = linear(x.clone(), self.matrix().transpose());
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
}

/// Which activation an [`MlpBlock`] uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU: the encoder.
    Gelu,
    /// ReLU: the decoder's transformer.
    Relu,
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
        let lin1 = Linear::load(from, &format!("{name}.lin1"), channels, hidden)?;
        let lin2 = Linear::load(from, &format!("{name}.lin2"), hidden, channels)?;
        Ok(Self { lin1, lin2, activation })
    }

    /// `[.., channels]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let hidden = match self.activation {
            Activation::Gelu => bias_gelu(self.lin1.product(x), self.lin1.bias.val()),
            Activation::Relu => relu(self.lin1.forward(x)),
        };
        self.lin2.forward(hidden)
    }
}

/// Cuts `[b, h, w, c]` into `size` x `size` patches: `[b, h / size, w / size, c * size * size]`, the last axis in the
/// order of a convolution's weight, `[c, size, size]`. A convolution whose stride is its kernel is then a linear layer.
pub fn patches(x: Tensor<4>, size: usize) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    x.reshape([b, h / size, size, w / size, size, c]).permute([0, 1, 3, 5, 2, 4]).reshape([
        b,
        h / size,
        w / size,
        c * size * size,
    ])
}

/// The matrix `[to, from]` that resamples a line of `from` samples to `to` samples, bilinearly and without aligning
/// corners: `F.interpolate(mode="linear", align_corners=False)` of PyTorch.
pub fn resample_matrix(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut matrix = vec![0.0f32; from * to];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        let high = (low + 1).min(from - 1);
        let weight = at - low as f64;
        row[low] += (1.0 - weight) as f32;
        row[high] += weight as f32;
    }
    Tensor::from_data(TensorData::new(matrix, [to, from]), device)
}
