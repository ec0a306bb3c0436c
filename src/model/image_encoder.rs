//! SAM's image encoder: a vision transformer with window and global attention and decomposed relative positions
//! (`image_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::{Activation, LayerNorm, Linear, MlpBlock};
use super::parameters::Scope;
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::convolution::{conv3x3, patch_embed, turned_kernel};
use crate::kernels::{Ends, Matrix, WindowAttention, linear, on_cores, permute, resample, reshape};

/// The image encoder: `[b, bands, s, s]` to `[b, out_chans, s / 16, s / 16]`.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    /// The patch convolution's weight, `[embed_dim, bands, patch, patch]`.
    pub patch_embed_weight: Param<Tensor<4>>,
    /// `[embed_dim]`.
    pub patch_embed_bias: Param<Tensor<1>>,
    /// Absolute positions, `[1, grid, grid, embed_dim]` for the pretrained size; resampled to the input's grid.
    pub pos_embed: Param<Tensor<4>>,
    /// Transformer blocks, first to last.
    pub blocks: Vec<Block>,
    /// From `embed_dim` to `out_chans` channels.
    pub neck: Neck,
}

impl ImageEncoder {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, config: &SamConfig) -> Result<Self> {
        Ok(Self {
            patch_embed_weight: from.take("patch_embed_weight")?,
            patch_embed_bias: from.take("patch_embed_bias")?,
            pos_embed: from.take("pos_embed")?,
            blocks: (0..config.depth)
                .map(|i| Block::load(from.scope(format_args!("blocks.{i}")), config, i))
                .collect::<Result<_>>()?,
            neck: Neck::load(from.scope("neck"))?,
        })
    }

    /// Normalised image `[b, bands, h, w]`, sides multiples of the patch, to embedding `[b, out_chans, h / 16, w / 16]`.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let x = self.embed(image);
        self.embedding(self.blocks.iter().fold(x, |x, block| block.forward(x)))
    }

    /// [`ImageEncoder::forward`] that shows `tap` the intermediate `[b, h, w, c]` tensors as `patch_embed` and `block0`
    /// onwards.
    pub fn forward_with(&self, image: Tensor<4>, tap: &mut dyn FnMut(&str, &Tensor<4>)) -> Tensor<4> {
        let (weight, bias) = (self.patch_embed_weight.val(), self.patch_embed_bias.val());
        let x = patch_embed(image, weight, bias, None);
        tap("patch_embed", &x);
        let [_, h, w, _] = x.dims();
        let mut x = x + self.position_embedding(h, w);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            tap(&format!("block{i}"), &x);
        }
        self.embedding(x)
    }

    /// What goes into the first block: patches and their positions, `[b, h / 16, w / 16, embed_dim]`.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let [_, _, h, w] = image.dims();
        let [_, _, patch, _] = self.patch_embed_weight.dims();
        let positions = self.position_embedding(h / patch, w / patch);
        let (weight, bias) = (self.patch_embed_weight.val(), self.patch_embed_bias.val());
        on_cores(image, |image| patch_embed(image, weight, bias, Some(positions)))
    }

    /// The embedding `[b, out_chans, h, w]` of what comes out of the last block, `[b, h, w, embed_dim]`.
    pub fn embedding(&self, x: Tensor<4>) -> Tensor<4> {
        on_cores(x, |x| permute(self.neck.forward(x), [0, 3, 1, 2]))
    }

    /// Absolute positions for a token grid of `h` x `w`, `[1, h, w, embed_dim]`.
    fn position_embedding(&self, h: usize, w: usize) -> Tensor<4> {
        let positions = self.pos_embed.val();
        let [_, rows, columns, dim] = positions.dims();
        if (rows, columns) == (h, w) {
            return positions;
        }
        let by_row = resample(reshape(positions, [1, rows, columns * dim]), h);
        reshape(resample(reshape(by_row, [h, columns, dim]), w), [1, h, w, dim])
    }
}

/// One transformer block (`Block`).
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Over a window or the whole image.
    pub attn: Attention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// GELU between two linear layers.
    pub mlp: MlpBlock,
}

impl Block {
    fn load(mut from: Scope<'_>, config: &SamConfig, index: usize) -> Result<Self> {
        let window = if config.global_attn_indexes.contains(&index) { None } else { Some(config.window_size) };
        Ok(Self {
            norm1: LayerNorm::load(from.scope("norm1"), NORM_EPS)?,
            attn: Attention::load(from.scope("attn"), config, window)?,
            norm2: LayerNorm::load(from.scope("norm2"), NORM_EPS)?,
            mlp: MlpBlock::load(from.scope("mlp"), Activation::Gelu)?,
        })
    }

    /// Every linear layer, to change it.
    pub fn linears(&mut self) -> [&mut Linear; 4] {
        [&mut self.attn.qkv, &mut self.attn.proj, &mut self.mlp.lin1, &mut self.mlp.lin2]
    }

    /// `[b, h, w, c]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        on_cores(x, |x| {
            let x = self.attn.forward(self.norm1.forward(x.clone()), x);
            self.mlp.forward(self.norm2.forward(x.clone()), x)
        })
    }
}

/// Multi-head self-attention with decomposed relative positions (`Attention`, `add_decomposed_rel_pos`).
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values in one product: `[3 * dim, dim]`.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Relative positions along the height, `[2 * side - 1, head_dim]`.
    pub rel_pos_h: Param<Tensor<2>>,
    /// Relative positions along the width, `[2 * side - 1, head_dim]`.
    pub rel_pos_w: Param<Tensor<2>>,
    num_heads: usize,
    /// Side of a window in tokens; none for attention over the whole image.
    window: Option<usize>,
}

impl Attention {
    fn load(mut from: Scope<'_>, config: &SamConfig, window: Option<usize>) -> Result<Self> {
        Ok(Self {
            qkv: Linear::load(from.scope("qkv"))?,
            proj: Linear::load(from.scope("proj"))?,
            rel_pos_h: from.take("rel_pos_h")?,
            rel_pos_w: from.take("rel_pos_w")?,
            num_heads: config.num_heads,
            window,
        })
    }

    /// `[b, h, w, c]` to the same, and the sum with `residual`; padded tokens never reach the products
    /// ([`WindowAttention::forward`]).
    pub fn forward(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
        let [_, h, w, _] = x.dims();
        let (rows, columns) = match self.window {
            Some(side) => (side, side),
            None => (h, w),
        };
        let attention = WindowAttention {
            rows,
            columns,
            heads: self.num_heads,
            rel_pos_h: relative_positions(self.rel_pos_h.val(), rows),
            rel_pos_w: relative_positions(self.rel_pos_w.val(), columns),
        };
        let bias = self.qkv.bias.val();
        let attended = if attention.takes_bias(&x) {
            attention.forward_with_bias(self.qkv.forward(x), bias)
        } else {
            attention.forward(self.qkv.product(x), bias)
        };
        self.proj.fused(attended, None, Some(residual), Activation::None)
    }
}

/// Relative positions `[2 * side - 1, d]`, resampled if they are for another side (`get_rel_pos`; query and key grids are the
/// same here).
fn relative_positions(positions: Tensor<2>, side: usize) -> Tensor<2> {
    let [length, dim] = positions.dims();
    reshape(resample(reshape(positions, [1, length, dim]), 2 * side - 1), [2 * side - 1, dim])
}

/// 1x1 convolution, layer norm, 3x3 convolution, layer norm.
#[derive(Module, Debug)]
pub struct Neck {
    /// `neck.0`, `[out_chans, embed_dim, 1, 1]`.
    pub conv1: Param<Tensor<4>>,
    /// `neck.1`.
    pub norm1: LayerNorm,
    /// `neck.2`, `[out_chans, out_chans, 3, 3]`.
    pub conv2: Param<Tensor<4>>,
    /// `neck.3`.
    pub norm2: LayerNorm,
}

impl Neck {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv1: from.take("conv1")?,
            norm1: LayerNorm::load(from.scope("norm1"), NORM_EPS)?,
            conv2: Param::from_tensor(turned_kernel(from.take("conv2")?.val())),
            norm2: LayerNorm::load(from.scope("norm2"), NORM_EPS)?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [out, dim, _, _] = self.conv1.dims();
        let x = linear(x, Matrix::Dense(permute(reshape(self.conv1.val(), [out, dim]), [1, 0])), Ends::default());
        self.norm2.forward(conv3x3(self.norm1.forward(x), self.conv2.val()))
    }
}
