//! SAM's image encoder: a vision transformer with window and global attention and decomposed relative positions
//! (`image_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, module};

use super::Parameters;
use super::common::{Activation, LayerNorm, Linear, MlpBlock, patches, resample_matrix};
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::{WindowAttention, by_query_and_key};

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
    /// Takes `image_encoder.*`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, config: &SamConfig) -> Result<Self> {
        let (dim, patch, grid) = (config.embed_dim, config.patch_size, config.pretrained_grid());
        let patch_embed_weight =
            from.take("image_encoder.patch_embed.proj.weight", [dim, config.in_chans, patch, patch])?;
        let patch_embed_bias = from.take("image_encoder.patch_embed.proj.bias", [dim])?;
        let pos_embed = from.take("image_encoder.pos_embed", [1, grid, grid, dim])?;
        let blocks = (0..config.depth).map(|i| Block::load(from, config, i)).collect::<Result<_>>()?;
        let neck = Neck::load(from, config)?;
        Ok(Self { patch_embed_weight, patch_embed_bias, pos_embed, blocks, neck })
    }

    /// Normalised image `[b, bands, h, w]`, sides multiples of the patch, to embedding `[b, out_chans, h / 16, w / 16]`.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        self.forward_with(image, &mut |_, _| ())
    }

    /// [`ImageEncoder::forward`] that shows `tap` the intermediate `[b, h, w, c]` tensors as `patch_embed` and `block0`
    /// onwards.
    pub fn forward_with(&self, image: Tensor<4>, tap: &mut dyn FnMut(&str, &Tensor<4>)) -> Tensor<4> {
        let mut x = self.patch_embed(image);
        tap("patch_embed", &x);
        let [_, h, w, _] = x.dims();
        x = x + self.position_embedding(h, w);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            tap(&format!("block{i}"), &x);
        }
        self.embedding(x)
    }

    /// What goes into the first block: patches and their positions, `[b, h / 16, w / 16, embed_dim]`.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        let x = self.patch_embed(image);
        let [_, h, w, _] = x.dims();
        x + self.position_embedding(h, w)
    }

    /// The embedding `[b, out_chans, h, w]` of what comes out of the last block, `[b, h, w, embed_dim]`.
    pub fn embedding(&self, x: Tensor<4>) -> Tensor<4> {
        self.neck.forward(x).permute([0, 3, 1, 2])
    }

    fn patch_embed(&self, image: Tensor<4>) -> Tensor<4> {
        let [dim, bands, patch, _] = self.patch_embed_weight.dims();
        let weight = self.patch_embed_weight.val().reshape([dim, bands * patch * patch]).transpose();
        let image = patches(image.permute([0, 2, 3, 1]), patch);
        module::linear(image, weight, Some(self.patch_embed_bias.val()))
    }

    /// Absolute positions for a token grid of `h` x `w`, `[1, h, w, embed_dim]`.
    fn position_embedding(&self, h: usize, w: usize) -> Tensor<4> {
        let positions = self.pos_embed.val();
        let [_, rows, columns, dim] = positions.dims();
        if (rows, columns) == (h, w) {
            return positions;
        }
        let device = positions.device();
        let by_row = resample_matrix(rows, h, &device).matmul(positions.reshape([rows, columns * dim]));
        let across = resample_matrix(columns, w, &device).unsqueeze::<3>().expand([h, w, columns]);
        across.matmul(by_row.reshape([h, columns, dim])).unsqueeze()
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
    fn load(from: &mut Parameters, config: &SamConfig, index: usize) -> Result<Self> {
        let name = format!("image_encoder.blocks.{index}");
        let dim = config.embed_dim;
        let window = if config.global_attn_indexes.contains(&index) { None } else { Some(config.window_size) };
        Ok(Self {
            norm1: LayerNorm::load(from, &format!("{name}.norm1"), dim, NORM_EPS)?,
            attn: Attention::load(from, config, &format!("{name}.attn"), window)?,
            norm2: LayerNorm::load(from, &format!("{name}.norm2"), dim, NORM_EPS)?,
            mlp: MlpBlock::load(from, &format!("{name}.mlp"), dim, config.mlp_dim, Activation::Gelu)?,
        })
    }

    /// `[b, h, w, c]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
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
    fn load(from: &mut Parameters, config: &SamConfig, name: &str, window: Option<usize>) -> Result<Self> {
        let dim = config.embed_dim;
        let positions = [2 * window.unwrap_or(config.pretrained_grid()) - 1, config.head_dim()];
        Ok(Self {
            qkv: Linear::load(from, &format!("{name}.qkv"), dim, 3 * dim)?,
            proj: Linear::load(from, &format!("{name}.proj"), dim, dim)?,
            rel_pos_h: from.take(&format!("{name}.rel_pos_h"), positions)?,
            rel_pos_w: from.take(&format!("{name}.rel_pos_w"), positions)?,
            num_heads: config.num_heads,
            window,
        })
    }

    /// `[b, h, w, c]` to the same; padded tokens never reach the products ([`WindowAttention::forward`]).
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, h, w, _] = x.dims();
        let (rows, columns) = match self.window {
            Some(side) => (side, side),
            None => (h, w),
        };
        let attention = WindowAttention {
            rows,
            columns,
            heads: self.num_heads,
            rel_h: relative_positions(self.rel_pos_h.val(), rows),
            rel_w: relative_positions(self.rel_pos_w.val(), columns),
        };
        self.proj.forward(attention.forward(self.qkv.product(x), self.qkv.bias.val()))
    }
}

/// Relative positions by coordinate of query and key `[side, side, d]`, resampled if they are for another side
/// (`get_rel_pos`; query and key grids are the same here).
fn relative_positions(positions: Tensor<2>, side: usize) -> Tensor<3> {
    let [length, _] = positions.dims();
    if length == 2 * side - 1 {
        return by_query_and_key(positions, side);
    }
    by_query_and_key(resample_matrix(length, 2 * side - 1, &positions.device()).matmul(positions), side)
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
    fn load(from: &mut Parameters, config: &SamConfig) -> Result<Self> {
        let (dim, out) = (config.embed_dim, config.out_chans);
        Ok(Self {
            conv1: from.take("image_encoder.neck.0.weight", [out, dim, 1, 1])?,
            norm1: LayerNorm::load(from, "image_encoder.neck.1", out, NORM_EPS)?,
            conv2: from.take("image_encoder.neck.2.weight", [out, out, 3, 3])?,
            norm2: LayerNorm::load(from, "image_encoder.neck.3", out, NORM_EPS)?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [out, dim, _, _] = self.conv1.dims();
        let x = module::linear(x, self.conv1.val().reshape([out, dim]).transpose(), None);
        self.norm2.forward(conv3x3(self.norm1.forward(x), self.conv2.val()))
    }
}

/// 3x3 convolution with zero padding 1 and no bias: `[b, h, w, in]` and `[out, in, 3, 3]` to `[b, h, w, out]`.
fn conv3x3(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let [out, _, _, _] = weight.dims();
    let padded = x.pad([(1, 1), (1, 1), (0, 0)], PadMode::Constant(0.0));
    let shifts = (0..9).map(|i| padded.clone().slice([0..b, i / 3..i / 3 + h, i % 3..i % 3 + w, 0..c])).collect();
    let weight = weight.permute([2, 3, 1, 0]).reshape([9 * c, out]);
    module::linear(Tensor::cat(shifts, 3), weight, None)
}
