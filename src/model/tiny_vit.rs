//! MobileSAM's image encoder: a stem of convolutions, then stages of window attention with a convolution in each block
//! (`tiny_vit_sam.py`). Batch norms are folded into the convolutions before them.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::{LayerNorm, NormedConv};
use super::neck::Neck;
use crate::config::{self, TINY_VIT_NORM_EPS, TinyVitStage};
use crate::error::Result;
use crate::kernels::convolution::{Placement, depthwise, strided3x3};
use crate::kernels::{Activation, BiasedAttention, on_cores, permute, reshape};
use crate::layers::{Adapted, AdaptedLayers, Linear, Scope};

/// The image encoder.
#[derive(Module, Debug)]
pub struct TinyVit {
    /// Two convolutions of stride 2.
    pub patch_embed: PatchEmbed,
    /// The stem and three stages with attention.
    pub layers: Vec<Layer>,
    /// To `out_chans` channels.
    pub neck: Neck,
}

impl TinyVit {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, sizes: &config::TinyVit) -> Result<Self> {
        let mut layers = Vec::new();
        layers.push(Layer {
            blocks: (0..sizes.stem_blocks)
                .map(|i| Ok(Block::Convolution(MbConv::load(from.scope(format_args!("layers.0.blocks.{i}")))?)))
                .collect::<Result<_>>()?,
            downsample: Some(PatchMerging::load(from.scope("layers.0.downsample"), 2)?),
        });
        for (i, stage) in sizes.stages.iter().enumerate() {
            let mut from = from.scope(format_args!("layers.{}", i + 1));
            let blocks = (0..stage.blocks)
                .map(|i| Ok(Block::Attention(AttentionBlock::load(from.scope(format_args!("blocks.{i}")), *stage)?)));
            let blocks = blocks.collect::<Result<_>>()?;
            // Only the first of the two keeps halving the image: SAM's embedding has a sixteenth of its side.
            let merging = |stride| PatchMerging::load(from.scope("downsample"), stride);
            let downsample = [Some(2), Some(1), None][i].map(merging).transpose()?;
            layers.push(Layer { blocks, downsample });
        }
        Ok(Self {
            patch_embed: PatchEmbed::load(from.scope("patch_embed"))?,
            layers,
            neck: Neck::load(from.scope("neck"))?,
        })
    }

    /// Normalised image `[b, bands, h, w]` to `[b, h / 4, w / 4, stem_dim]`.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        on_cores(image, |image| self.patch_embed.forward(permute(image, [0, 2, 3, 1])))
    }

    /// Blocks and mergings.
    pub fn depth(&self) -> usize {
        self.layers.iter().map(Layer::depth).sum()
    }

    /// Block or merging `index` of all, `[b, h, w, c]` to `[b, h', w', c']`.
    pub fn layer(&self, mut index: usize, x: Tensor<4>) -> Tensor<4> {
        for layer in &self.layers {
            if index < layer.depth() {
                return layer.forward(index, x);
            }
            index -= layer.depth();
        }
        x
    }

    /// The blocks with attention, first to last.
    pub fn blocks(&self) -> impl Iterator<Item = &AttentionBlock> {
        self.layers.iter().flat_map(|layer| &layer.blocks).filter_map(|block| match block {
            Block::Convolution(_) => None,
            Block::Attention(block) => Some(block),
        })
    }

    /// [`TinyVit::blocks`], to change them.
    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut AttentionBlock> {
        self.layers.iter_mut().flat_map(|layer| &mut layer.blocks).filter_map(|block| match block {
            Block::Convolution(_) => None,
            Block::Attention(block) => Some(block),
        })
    }

    /// Every linear layer, 1x1 convolutions among them.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut found = Vec::new();
        for layer in &mut self.layers {
            for block in &mut layer.blocks {
                match block {
                    Block::Convolution(block) => found.extend([&mut block.conv1, &mut block.conv3]),
                    Block::Attention(block) => {
                        found.extend(block.layers_mut().all().map(|layer| &mut layer.linear));
                    }
                }
            }
            if let Some(merging) = &mut layer.downsample {
                found.extend([&mut merging.conv1, &mut merging.conv3]);
            }
        }
        found
    }
}

impl NormedConv {
    fn placement(&self, stride: usize, activation: Activation) -> Placement {
        Placement { stride, before: 1, bias: Some(self.bias.val()), activation }
    }

    fn depthwise(&self, x: Tensor<4>, stride: usize, activation: Activation) -> Tensor<4> {
        depthwise(x, self.weight.val(), self.placement(stride, activation))
    }

    fn halve(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        strided3x3(x, self.weight.val(), self.placement(2, activation))
    }
}

/// `[b, h, w, bands]` to `[b, h / 4, w / 4, stem_dim]` (`PatchEmbed`).
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// `seq.0`.
    pub conv1: NormedConv,
    /// `seq.2`.
    pub conv2: NormedConv,
}

impl PatchEmbed {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self { conv1: NormedConv::load(from.scope("conv1"))?, conv2: NormedConv::load(from.scope("conv2"))? })
    }

    fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        self.conv2.halve(self.conv1.halve(image, Activation::Gelu), Activation::None)
    }
}

/// Blocks of one width, and the step to the next (`ConvLayer`, `BasicLayer`).
#[derive(Module, Debug)]
pub struct Layer {
    /// First to last.
    pub blocks: Vec<Block>,
    /// All layers but the last have one.
    pub downsample: Option<PatchMerging>,
}

impl Layer {
    fn depth(&self) -> usize {
        self.blocks.len() + usize::from(self.downsample.is_some())
    }

    fn forward(&self, index: usize, x: Tensor<4>) -> Tensor<4> {
        match (self.blocks.get(index), &self.downsample) {
            (Some(Block::Convolution(block)), _) => block.forward(x),
            (Some(Block::Attention(block)), _) => block.forward(x),
            (None, Some(merging)) => merging.forward(x),
            (None, None) => x,
        }
    }
}

/// A block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a dozen a model
pub enum Block {
    /// Of the stem.
    Convolution(MbConv),
    /// Of the other layers.
    Attention(AttentionBlock),
}

/// A depthwise convolution between two 1x1 ones (`MBConv`).
#[derive(Module, Debug)]
pub struct MbConv {
    /// To four times the channels.
    pub conv1: Linear,
    /// Depthwise.
    pub conv2: NormedConv,
    /// Back.
    pub conv3: Linear,
}

impl MbConv {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv1: Linear::load(from.scope("conv1"))?,
            conv2: NormedConv::load(from.scope("conv2"))?,
            conv3: Linear::load(from.scope("conv3"))?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv1.fused(x.clone(), None, None, Activation::Gelu);
        self.conv3.fused(self.conv2.depthwise(hidden, 1, Activation::Gelu), None, Some(x), Activation::Gelu)
    }
}

/// To the next layer's channels, at half the side or the same (`PatchMerging`).
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// To the new channels.
    pub conv1: Linear,
    /// Depthwise.
    pub conv2: NormedConv,
    /// Among the new channels.
    pub conv3: Linear,
    stride: usize,
}

impl PatchMerging {
    fn load(mut from: Scope<'_>, stride: usize) -> Result<Self> {
        Ok(Self {
            conv1: Linear::load(from.scope("conv1"))?,
            conv2: NormedConv::load(from.scope("conv2"))?,
            conv3: Linear::load(from.scope("conv3"))?,
            stride,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv1.fused(x, None, None, Activation::Gelu);
        self.conv3.forward(self.conv2.depthwise(x, self.stride, Activation::Gelu))
    }
}

/// Window attention, a depthwise convolution, an MLP (`TinyViTBlock`).
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// In windows.
    pub attn: Attention,
    /// Depthwise, so that neighbours in different windows meet.
    pub local_conv: NormedConv,
    /// GELU between two linear layers.
    pub mlp: Mlp,
}

impl AttentionBlock {
    fn load(mut from: Scope<'_>, stage: TinyVitStage) -> Result<Self> {
        Ok(Self {
            attn: Attention::load(from.scope("attn"), stage)?,
            local_conv: NormedConv::load(from.scope("local_conv"))?,
            mlp: Mlp::load(from.scope("mlp"))?,
        })
    }

    /// Its linear layers.
    pub fn layers(&self) -> AdaptedLayers<&Adapted> {
        AdaptedLayers::block(&self.attn.qkv, &self.attn.proj, &self.mlp.fc1, &self.mlp.fc2)
    }

    /// Its linear layers, to change them.
    pub fn layers_mut(&mut self) -> AdaptedLayers<&mut Adapted> {
        let (attn, mlp) = (&mut self.attn, &mut self.mlp);
        AdaptedLayers::block(&mut attn.qkv, &mut attn.proj, &mut mlp.fc1, &mut mlp.fc2)
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.attn.forward(x);
        self.mlp.forward(self.local_conv.depthwise(x, 1, Activation::None))
    }
}

/// Multi-head self-attention in windows, with a learnt bias for each distance (`Attention`).
#[derive(Module, Debug)]
pub struct Attention {
    /// Before the product.
    pub norm: LayerNorm,
    /// `[3 dim, dim]`: of each head its queries, its keys and its values.
    pub qkv: Adapted,
    /// Output projection.
    pub proj: Adapted,
    /// By head, and by the rows and columns between query and key: `[heads, window^2]`.
    pub attention_biases: Param<Tensor<2>>,
    heads: usize,
    window: usize,
}

impl Attention {
    fn load(mut from: Scope<'_>, stage: TinyVitStage) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::load(from.scope("norm"), TINY_VIT_NORM_EPS)?,
            qkv: Adapted::load(from.scope("qkv"))?,
            proj: Adapted::load(from.scope("proj"))?,
            attention_biases: from.take("attention_biases")?,
            heads: stage.heads,
            window: stage.window,
        })
    }

    /// `[b, h, w, c]` to the same, with the sum of both.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, h, w, c] = x.dims();
        let qkv = self.qkv.forward(self.norm.forward(x.clone()));
        // The reference pads with zeros before the norm, whose result there is its bias.
        let beyond = if h.is_multiple_of(self.window) && w.is_multiple_of(self.window) {
            self.qkv.bias()
        } else {
            reshape(self.qkv.forward(reshape::<1, 2>(self.norm.bias.val(), [1, c])), [3 * c])
        };
        let biases = reshape(self.attention_biases.val(), [self.heads, self.window, self.window]);
        let attention = BiasedAttention { side: self.window, heads: self.heads, biases };
        self.proj.fused(attention.forward(qkv, beyond), None, Some(x), Activation::None)
    }
}

/// Norm, linear layer, GELU, linear layer (`Mlp`).
#[derive(Module, Debug)]
pub struct Mlp {
    /// Before the first layer.
    pub norm: LayerNorm,
    /// To four times the channels.
    pub fc1: Adapted,
    /// Back.
    pub fc2: Adapted,
}

impl Mlp {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::load(from.scope("norm"), TINY_VIT_NORM_EPS)?,
            fc1: Adapted::load(from.scope("fc1"))?,
            fc2: Adapted::load(from.scope("fc2"))?,
        })
    }

    /// `[b, h, w, c]` to the same, with the sum of both.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.fc1.fused(self.norm.forward(x.clone()), None, None, Activation::Gelu);
        self.fc2.fused(hidden, None, Some(x), Activation::None)
    }
}
