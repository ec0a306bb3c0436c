//! A linear layer with low-rank adapters (LoRA) beside it.

use burn::module::{Module, Param};
use burn::nn::Dropout;
use burn::tensor::{Tensor, module};

use super::linear::Linear;
use super::parameters::Scope;
use crate::error::Result;
use crate::kernels::{Activation, Epilogue, Matrix, apply_epilogue, linear};

/// A linear layer and any number of low-rank adapters on ranges of its outputs; none where they are merged into its weight. See
/// [`crate::lora`].
#[derive(Module, Debug)]
pub struct Adapted {
    /// The layer, which adapters leave as it is.
    pub linear: Linear,
    /// One by one: in training, and on devices without the kernels for GPUs.
    pub adapters: Vec<LowRank>,
    /// All adapters as two matrices, for inference on a GPU; `adapters` is empty then.
    pub joined: Option<Joined>,
}

/// The linear layers of a block, adapters' places.
#[derive(Debug, Clone, Copy)]
pub struct AdaptedLayers<T> {
    /// Queries, keys and values in one; none in a block without attention.
    pub qkv: Option<T>,
    /// Attention's projection.
    pub proj: Option<T>,
    /// The first of the MLP, or the 1x1 convolution to more channels.
    pub lin1: T,
    /// The second of the MLP, or the 1x1 convolution back.
    pub lin2: T,
}

impl<T> AdaptedLayers<T> {
    /// Of a block with attention.
    pub fn block(qkv: T, proj: T, lin1: T, lin2: T) -> Self {
        Self { qkv: Some(qkv), proj: Some(proj), lin1, lin2 }
    }

    /// Of a block of convolutions.
    pub fn mlp(lin1: T, lin2: T) -> Self {
        Self { qkv: None, proj: None, lin1, lin2 }
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = T> {
        self.qkv.into_iter().chain(self.proj).chain([self.lin1, self.lin2])
    }
}

/// All adapters of a layer, each in columns of its own: `y += (x a) b`.
#[derive(Module, Debug)]
pub struct Joined {
    /// `[in, ranks]`, the ranks filled up with zeros to a multiple of 4.
    pub a: Param<Tensor<2>>,
    /// `[ranks, out]`, scales included.
    pub b: Param<Tensor<2>>,
}

/// A low-rank addition to some outputs of a [`Linear`]: `y[rows] += scale * B (A dropout(x))`.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[rank, in]`.
    pub a: Param<Tensor<2>>,
    /// `[len, rank]`.
    pub b: Param<Tensor<2>>,
    /// `alpha / rank`; 1 in SAMed and SamLoRA.
    pub scale: f64,
    /// The outputs that it adds to.
    #[module(skip)]
    pub rows: Rows,
    /// Active in training only.
    pub dropout: Dropout,
}

/// Some rows of a weight: in each `stride` of them `run`, from `start` on. Queries of a fused qkv are a run of `dim` in all `3 dim` rows
/// where its thirds are q, k and v, and a run of `dim / heads` in each `3 dim / heads` where each head has its three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// First of each run, within its stride.
    pub start: usize,
    /// Rows of a run.
    pub run: usize,
    /// From one run to the next.
    pub stride: usize,
}

impl Rows {
    /// All `count` rows.
    pub fn all(count: usize) -> Self {
        Self { start: 0, run: count, stride: count }
    }

    /// The weight's row that is number `index` of these.
    pub fn row(&self, index: usize) -> usize {
        index / self.run * self.stride + self.start + index % self.run
    }
}

impl Adapted {
    /// [`Linear::load`], without adapters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(from: Scope<'_>) -> Result<Self> {
        Ok(Self { linear: Linear::load(from)?, adapters: Vec::new(), joined: None })
    }

    /// The layer's bias, `[out]`.
    pub fn bias(&self) -> Tensor<1> {
        self.linear.bias.val()
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
        self.product(x, Epilogue { add, bias: Some(self.bias()), residual, activation })
    }

    /// The product with the adapted weight, and `epilogue` in place of the layer's own bias.
    pub fn product<const D: usize>(&self, x: Tensor<D>, mut epilogue: Epilogue<D>) -> Tensor<D> {
        if let Some(joined) = &self.joined {
            epilogue.residual = Some(joined.product(x.clone(), epilogue.add.clone(), epilogue.residual.take()));
        }
        // A browser has no others.
        if cfg!(browser_gpu) || self.adapters.is_empty() {
            return self.linear.product(x, epilogue);
        }
        let Epilogue { add, bias, residual, activation } = epilogue;
        let x = match add {
            Some(add) => x + add,
            None => x,
        };
        let y = self.linear.product(x.clone(), Epilogue::default()) + self.low_rank_product(x);
        apply_epilogue(y, bias, residual, activation)
    }

    /// What all adapters add, at once: the A's above each other, each B in rows and columns of its own.
    fn low_rank_product<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [outputs, _] = self.linear.weight.dims();
        let a = Tensor::cat(self.adapters.iter().map(|adapter| adapter.a.val()).collect(), 0);
        let b = Tensor::cat(self.adapters.iter().map(|adapter| adapter.outputs(outputs)).collect(), 1);
        // Dropout goes by its input, which carries no graph where all that comes before is frozen.
        #[cfg(feature = "train")]
        let x = if a.is_autodiff() { x.autodiff() } else { x };
        let x = self.adapters.iter().take(1).fold(x, |x, adapter| adapter.dropout.forward(x));
        module::linear(module::linear(x, a.transpose(), None), b.transpose(), None)
    }
}

impl Joined {
    /// `(x + add) a b + residual`.
    fn product<const D: usize>(&self, x: Tensor<D>, add: Option<Tensor<D>>, residual: Option<Tensor<D>>) -> Tensor<D> {
        let z = linear(x, Matrix::Dense(self.a.val()), Epilogue { add, ..Epilogue::default() });
        linear(z, Matrix::Dense(self.b.val()), Epilogue { residual, ..Epilogue::default() })
    }
}

impl LowRank {
    /// `scale * B` with zero rows for all other outputs, `[outputs, rank]`.
    pub fn outputs(&self, outputs: usize) -> Tensor<2> {
        let [_, rank] = self.b.dims();
        let Rows { start, run, stride } = self.rows;
        let runs = outputs / stride;
        let b = (self.b.val() * self.scale).reshape([runs, run, rank]);
        let device = b.device();
        let zeros = |rows: usize| (rows > 0).then(|| Tensor::zeros([runs, rows, rank], &device));
        let rows = [zeros(start), Some(b), zeros(stride - start - run)];
        Tensor::cat(rows.into_iter().flatten().collect(), 1).reshape([outputs, rank])
    }
}
