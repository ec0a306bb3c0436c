//! SAM's image encoder: a vision transformer with window and global attention and decomposed relative positions
//! (`image_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::ops::{AttentionModuleOptions, PadMode};
use burn::tensor::{Device, Int, Tensor, TensorData, module};

use super::Parameters;
use super::common::{Activation, LayerNorm, Linear, MlpBlock, patches, resample_matrix};
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;

/// Most attention scores that exist at once. Devices without a fused kernel write them out, and WebGPU's default limit for
/// one binding is 128 MiB: 2^24 scores of 4 bytes are half of it. (ViT-B's global blocks have 12 x 2^24 at 1024 px.)
const SCORES_AT_ONCE: usize = 1 << 24;

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
        let [dim, bands, patch, _] = self.patch_embed_weight.dims();
        let weight = self.patch_embed_weight.val().reshape([dim, bands * patch * patch]).transpose();
        let image = patches(image.permute([0, 2, 3, 1]), patch);
        let mut x = module::linear(image, weight, Some(self.patch_embed_bias.val()));
        tap("patch_embed", &x);
        let [_, h, w, _] = x.dims();
        x = x + self.position_embedding(h, w);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            tap(&format!("block{i}"), &x);
        }
        self.neck.forward(x).permute([0, 3, 1, 2])
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

    /// `[b, h, w, c]` to the same.
    ///
    /// The reference pads the image to whole windows before the qkv product. A padded token is zero, so its q, k and v
    /// are the bias alone: here the product runs on real tokens only and the bias is added after padding. Padded keys
    /// take part in the softmax as they do in the reference; padded queries' results are cropped away before the
    /// projection.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, w, c] = x.dims();
        let (rows, columns) = match self.window {
            Some(side) => (side, side),
            None => (h, w),
        };
        let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
        let windows = b * down * across;

        let mut qkv = self.qkv.product(x);
        if (down * rows, across * columns) != (h, w) {
            qkv = qkv.pad([(0, down * rows - h), (0, across * columns - w), (0, 0)], PadMode::Constant(0.0));
        }
        if let Some(bias) = &self.qkv.bias {
            qkv = qkv + bias.val().unsqueeze();
        }
        // [windows, heads, tokens, head_dim] each
        let (heads, tokens) = (self.num_heads, rows * columns);
        let qkv = qkv
            .reshape([b, down, rows, across, columns, 3 * c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([windows, tokens, 3, heads, c / heads])
            .permute([2, 0, 3, 1, 4]);
        let part = |i: usize| qkv.clone().narrow(0, i, 1).reshape([windows, heads, tokens, c / heads]);
        let y = self.attend(part(0), part(1), part(2), rows, columns);
        let y = y
            .permute([0, 2, 1, 3])
            .reshape([b, down, across, rows, columns, c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([b, down * rows, across * columns, c])
            .slice([0..b, 0..h, 0..w, 0..c]);
        self.proj.forward(y)
    }

    /// Softmax attention over windows of `rows` x `columns` tokens; q, k, v and result `[windows, heads, tokens, head_dim]`.
    ///
    /// The reference adds `rel_h[q, row of k] + rel_w[q, column of k]` to the scores:
    /// `softmax(q k^T / sqrt(d) + rel_h[.., :, None] + rel_w[.., None, :]) v`. The same sum comes out of a longer
    /// product, `[q / sqrt(d) | rel_h | rel_w] [k | row of k, one-hot | column of k, one-hot]^T`, so that no bias of
    /// size tokens x tokens is ever built.
    fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, rows: usize, columns: usize) -> Tensor<4> {
        let [windows, heads, tokens, dim] = q.dims();
        let device = q.device();
        let grid = q.clone().reshape([windows * heads, rows, columns, dim]);
        // rel_h = einsum("bhwc,hkc->bhwk"), rel_w = einsum("bhwc,wkc->bhwk"), with the unscaled q
        let rel_h = grid.clone().matmul(relative_positions(self.rel_pos_h.val(), rows).swap_dims(1, 2).unsqueeze());
        let rel_w = relative_positions(self.rel_pos_w.val(), columns).swap_dims(1, 2).unsqueeze();
        let rel_w = grid.swap_dims(1, 2).matmul(rel_w).swap_dims(1, 2);
        let rel_h = rel_h.reshape([windows, heads, tokens, rows]);
        let rel_w = rel_w.reshape([windows, heads, tokens, columns]);
        let place =
            one_hot_grid(rows, columns, &device).unsqueeze::<4>().expand([windows, heads, tokens, rows + columns]);
        let q = Tensor::cat(vec![q * (dim as f64).powf(-0.5), rel_h, rel_w], 3);
        let k = Tensor::cat(vec![k, place], 3);
        let options = AttentionModuleOptions { scale: Some(1.0), ..Default::default() };
        let rows = (SCORES_AT_ONCE / (windows * heads * tokens)).clamp(1, tokens);
        if rows == tokens {
            return module::attention(q, k, v, None, None, options);
        }
        let runs = q.split(rows, 2).into_iter();
        Tensor::cat(runs.map(|q| module::attention(q, k.clone(), v.clone(), None, None, options)).collect(), 2)
    }
}

/// Relative positions `[2 * s - 1, d]` as `[side, side, d]` for query and key coordinates, resampled to
/// `2 * side - 1` if they are for another side (`get_rel_pos`; query and key grids are the same here).
fn relative_positions(positions: Tensor<2>, side: usize) -> Tensor<3> {
    let [length, dim] = positions.dims();
    let device = positions.device();
    let positions = if length == 2 * side - 1 {
        positions
    } else {
        resample_matrix(length, 2 * side - 1, &device).matmul(positions)
    };
    let indices: Vec<i32> = (0..side).flat_map(|q| (0..side).map(move |k| (q + side - 1 - k) as i32)).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [side * side]), &device);
    positions.select(0, indices).reshape([side, side, dim])
}

/// Row and column of each token of a grid, one-hot: `[rows * columns, rows + columns]`.
fn one_hot_grid(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; rows * columns * (rows + columns)];
    for (token, line) in values.chunks_exact_mut(rows + columns).enumerate() {
        line[token / columns] = 1.0;
        line[rows + token % columns] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [rows * columns, rows + columns]), device)
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
