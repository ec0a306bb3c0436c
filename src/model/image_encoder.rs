//! SAM's image encoder: a vision transformer with window and global attention and decomposed relative positions
//! (`image_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::{LayerNorm, MlpBlock};
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::convolution::{column_major_kernel, conv3x3, patch_embed};
use crate::kernels::{Activation, Epilogue, Matrix, WindowAttention, linear, on_cores, permute, resample, reshape};
use crate::layers::{Adapted, Scope};

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
        let mut pass = self.start(image);
        while !pass.is_done() {
            pass = pass.advance();
        }
        pass.x
    }

    /// [`ImageEncoder::forward`] layer by layer, for callers that pause between layers or look at what is between them.
    pub fn start(&self, image: Tensor<4>) -> Pass<'_> {
        self.resume(0, self.embed(image))
    }

    /// A [`Pass`] from layer `done` on, whose input is `x`.
    pub fn resume(&self, done: usize, x: Tensor<4>) -> Pass<'_> {
        Pass { encoder: self, done, x }
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

/// The one walk over the encoder's layers: its blocks, and then the neck.
///
/// ```text
/// let mut pass = encoder.start(image);
/// while !pass.is_done() {
///     pass = pass.advance(); // and whatever is to be done after each layer
/// }
/// let embedding = pass.x;
/// ```
pub struct Pass<'a> {
    encoder: &'a ImageEncoder,
    /// Layers done.
    pub done: usize,
    /// What came out of the last layer done: `[b, h / 16, w / 16, embed_dim]`, and of the neck `[b, out_chans, h / 16, w / 16]`.
    pub x: Tensor<4>,
}

impl Pass<'_> {
    /// Layers in all.
    pub fn layers(&self) -> usize {
        self.encoder.blocks.len() + 1
    }

    /// Whether `x` is the embedding.
    pub fn is_done(&self) -> bool {
        self.done >= self.layers()
    }

    /// Computes the next layer.
    #[must_use]
    pub fn advance(self) -> Self {
        let Self { encoder, done, x } = self;
        let x = match encoder.blocks.get(done) {
            Some(block) => block.forward(x),
            None => on_cores(x, |x| permute(encoder.neck.forward(x), [0, 3, 1, 2])),
        };
        Self { encoder, done: done + 1, x }
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
    pub fn linears(&mut self) -> [&mut Adapted; 4] {
        [&mut self.attn.qkv, &mut self.attn.proj, &mut self.mlp.lin1, &mut self.mlp.lin2]
    }

    /// `[b, h, w, c]` to the same.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
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
            conv2: Param::from_tensor(column_major_kernel(from.take("conv2")?.val())),
            norm2: LayerNorm::load(from.scope("norm2"), NORM_EPS)?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [out, dim, _, _] = self.conv1.dims();
        let x = linear(x, Matrix::Dense(permute(reshape(self.conv1.val(), [out, dim]), [1, 0])), Epilogue::default());
        self.norm2.forward(conv3x3(self.norm1.forward(x), self.conv2.val()))
    }
}
