//! SAM's image encoder: a vision transformer with window and global attention and decomposed relative positions
//! (`image_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::{LayerNorm, MlpBlock};
use super::neck::Neck;
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::convolution::patch_embed;
use crate::kernels::{Activation, Epilogue, WindowAttention, on_cores, resample, reshape};
use crate::layers::{Adapted, AdaptedLayers, Scope};

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

    /// What goes into the first block: patches and their positions, `[b, h / 16, w / 16, embed_dim]`.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let [_, _, h, w] = image.dims();
        let [_, _, patch, _] = self.patch_embed_weight.dims();
        let positions = self.position_embedding(h / patch, w / patch);
        let (weight, bias) = (self.patch_embed_weight.val(), self.patch_embed_bias.val());
        on_cores(image, |image| patch_embed(image, weight, bias, Some(positions)))
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

    /// Its linear layers.
    pub fn layers(&self) -> AdaptedLayers<&Adapted> {
        AdaptedLayers::block(&self.attn.qkv, &self.attn.proj, &self.mlp.lin1, &self.mlp.lin2)
    }

    /// Its linear layers, to change them.
    pub fn layers_mut(&mut self) -> AdaptedLayers<&mut Adapted> {
        let (attn, mlp) = (&mut self.attn, &mut self.mlp);
        AdaptedLayers::block(&mut attn.qkv, &mut attn.proj, &mut mlp.lin1, &mut mlp.lin2)
    }

    /// `[b, h, w, c]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attn.forward(self.norm1.forward(x.clone()), x);
        self.mlp.forward(self.norm2.forward(x.clone()), x)
    }
}

/// Multi-head self-attention with decomposed relative positions (`Attention`, `add_decomposed_rel_pos`).
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values in one product: `[3 * dim, dim]`.
    pub qkv: Adapted,
    /// Output projection.
    pub proj: Adapted,
    /// Relative positions along the height, `[2 * side - 1, head_dim]`.
    pub rel_pos_h: Param<Tensor<2>>,
    /// Relative positions along the width, `[2 * side - 1, head_dim]`.
    pub rel_pos_w: Param<Tensor<2>>,
    num_heads: usize,
    /// What products of queries with keys are multiplied by, as [`WindowAttention::scale`] says.
    scale: f64,
    /// Side of a window in tokens; none for attention over the whole image.
    window: Option<usize>,
}

impl Attention {
    fn load(mut from: Scope<'_>, config: &SamConfig, window: Option<usize>) -> Result<Self> {
        Ok(Self {
            qkv: Adapted::load(from.scope("qkv"))?,
            proj: Adapted::load(from.scope("proj"))?,
            rel_pos_h: from.take("rel_pos_h")?,
            rel_pos_w: from.take("rel_pos_w")?,
            num_heads: config.num_heads,
            scale: (config.head_dim() as f64).powf(-0.5),
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
            scale: self.scale,
            rel_pos_h: relative_positions(self.rel_pos_h.val(), rows),
            rel_pos_w: relative_positions(self.rel_pos_w.val(), columns),
        };
        let project = |x, bias| self.qkv.product(x, Epilogue { bias, ..Epilogue::default() });
        let attended = attention.forward(x, self.qkv.bias(), project);
        self.proj.fused(attended, None, Some(residual), Activation::None)
    }
}

/// Relative positions `[2 * side - 1, d]`, resampled if they are for another side (`get_rel_pos`; query and key grids are the
/// same here).
fn relative_positions(positions: Tensor<2>, side: usize) -> Tensor<2> {
    let [length, dim] = positions.dims();
    reshape(resample(reshape(positions, [1, length, dim]), 2 * side - 1), [2 * side - 1, dim])
}
