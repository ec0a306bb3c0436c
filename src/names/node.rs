//! What the rows of a table of parameters are made of.

use crate::config::{EncoderKind, LITE_BLOCKS, LiteBlock, SamConfig, TinyVit};

/// A number of the architecture. Shapes are written in these, so that they tell it again when a checkpoint is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    /// [`SamConfig::embed_dim`].
    EmbedDim,
    /// [`SamConfig::depth`].
    Depth,
    /// [`SamConfig::head_dim`].
    HeadDim,
    /// [`SamConfig::mlp_dim`].
    MlpDim,
    /// [`SamConfig::patch_size`].
    PatchSize,
    /// [`SamConfig::in_chans`].
    InChans,
    /// [`SamConfig::pretrained_grid`].
    Grid,
    /// [`SamConfig::out_chans`].
    OutChans,
    /// [`SamConfig::decoder_depth`].
    DecoderDepth,
    /// [`SamConfig::decoder_mlp`].
    DecoderMlp,
    /// Channels of the decoder's cross-attention, `out_chans / attention_downsample`.
    CrossAttention,
    /// [`SamConfig::iou_depth`].
    IouDepth,
    /// [`SamConfig::iou_hidden`].
    IouHidden,
    /// [`SamConfig::mask_in_chans`].
    MaskInChans,
    /// [`SamConfig::mask_tokens`].
    MaskTokens,
    /// [`TinyVit::stem_dim`].
    Stem,
    /// [`TinyVit::stem_blocks`].
    StemBlocks,
    /// Channels of a TinyViT's stage.
    StageDim(usize),
    /// Blocks of a TinyViT's stage.
    StageBlocks(usize),
    /// Attention heads of a TinyViT's stage.
    StageHeads(usize),
    /// Distances of two tokens in a window of a TinyViT's stage: its side squared.
    StageOffsets(usize),
}

impl Number {
    /// Its value in `config`.
    pub fn of(self, config: &SamConfig) -> usize {
        match self {
            Self::EmbedDim => config.embed_dim,
            Self::Depth => config.depth,
            Self::HeadDim => config.head_dim(),
            Self::MlpDim => config.mlp_dim,
            Self::PatchSize => config.patch_size,
            Self::InChans => config.in_chans,
            Self::Grid => config.pretrained_grid(),
            Self::OutChans => config.out_chans,
            Self::DecoderDepth => config.decoder_depth,
            Self::DecoderMlp => config.decoder_mlp,
            Self::CrossAttention => config.out_chans / config.attention_downsample,
            Self::IouDepth => config.iou_depth,
            Self::IouHidden => config.iou_hidden,
            Self::MaskInChans => config.mask_in_chans,
            Self::MaskTokens => config.mask_tokens,
            Self::Stem => tiny_vit(config).stem_dim,
            Self::StemBlocks => tiny_vit(config).stem_blocks,
            Self::StageDim(stage) => tiny_vit(config).stages[stage].dim,
            Self::StageBlocks(stage) => tiny_vit(config).stages[stage].blocks,
            Self::StageHeads(stage) => tiny_vit(config).stages[stage].heads,
            Self::StageOffsets(stage) => tiny_vit(config).stages[stage].window.pow(2),
        }
    }
}

/// The stages that a TinyViT's table asks for; all zero in a ViT, whose table does not.
fn tiny_vit(config: &SamConfig) -> TinyVit {
    match config.encoder {
        EncoderKind::TinyVit(stages) => stages,
        EncoderKind::Vit | EncoderKind::Lite => TinyVit::default(),
    }
}

/// A side of a tensor, or how often a part of the model is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The same in every model.
    Is(usize),
    /// A number of the architecture: reading a checkpoint, this side tells it.
    Of(Number),
    /// A multiple of one.
    Times(usize, Number),
    /// A fraction of one.
    Over(Number, usize),
    /// A side of a block of EfficientNet-Lite0.
    Lite(LiteSide),
    /// `2 * side - 1`, with the side of the encoder block's window, or of the grid where it attends globally.
    RelativePositions,
}

impl Size {
    /// Its value in `config`, in encoder block `block` where it depends on that.
    pub fn of(self, config: &SamConfig, block: usize) -> usize {
        match self {
            Self::Is(value) => value,
            Self::Of(number) => number.of(config),
            Self::Times(factor, number) => factor * number.of(config),
            Self::Over(number, divisor) => number.of(config) / divisor,
            Self::Lite(side) => side.of(&LITE_BLOCKS[block.min(LITE_BLOCKS.len() - 1)]),
            Self::RelativePositions => {
                let global = config.global_attn_indexes.contains(&block);
                2 * if global { config.pretrained_grid() } else { config.window_size } - 1
            }
        }
    }
}

/// A number of a block of EfficientNet-Lite0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiteSide {
    /// [`LiteBlock::inputs`].
    Inputs,
    /// [`LiteBlock::hidden`].
    Hidden,
    /// [`LiteBlock::outputs`].
    Outputs,
    /// [`LiteBlock::kernel`].
    Kernel,
}

impl LiteSide {
    fn of(self, block: &LiteBlock) -> usize {
        match self {
            Self::Inputs => block.inputs,
            Self::Hidden => block.hidden(),
            Self::Outputs => block.outputs,
            Self::Kernel => block.kernel,
        }
    }
}

/// What a tensor's values are; how they are stored and initialised follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    /// A linear layer's weight or a convolution's kernel.
    Matrix,
    /// The kernel of a convolution into which the batch norm behind it is folded.
    Kernel,
    /// Added to a linear layer's or a convolution's outputs.
    Bias,
    /// A norm's weight, near 1.
    NormScale,
    /// A norm's bias.
    NormBias,
    /// Absolute positions of tokens.
    Positions,
    /// Relative positions of queries and keys.
    RelativePositions,
    /// Learned vectors that stand for prompts, and the token of the estimated IoU.
    Embedding,
    /// One learned vector a mask.
    MaskTokens,
    /// The random frequencies of the positional encoding: a buffer, no parameter, in the reference.
    Frequencies,
}

/// Which part of the model a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPart {
    /// The image encoder before its blocks.
    Patches,
    /// The image encoder's blocks.
    Blocks,
    /// The image encoder after its blocks.
    Neck,
    /// The prompt encoder.
    Prompts,
    /// The mask decoder's two-way transformer.
    Transformer,
    /// What the mask decoder has once whatever the number of masks: upscaling, and the token of the estimated IoU.
    Masks,
    /// What the mask decoder has for each mask, which is a class here: its token and its hypernetwork.
    Classes,
    /// The mask decoder's estimate of each mask's IoU.
    IouHead,
}

impl ModelPart {
    /// Whether it belongs to the image encoder, which stays as it is when an adapter is trained.
    pub fn in_encoder(self) -> bool {
        matches!(self, Self::Patches | Self::Blocks | Self::Neck)
    }
}

/// Whose names a checkpoint uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// SAM's own, which are this crate's.
    Sam,
    /// `transformers`' `SamModel`.
    HuggingFace,
    /// SAM's, with the fused qkv inside a LoRA module (`attn.qkv.qkv.weight`): SAMed's module saved whole, ArcGIS
    /// SamLoRA.
    Wrapped,
}

/// A layer of the model, or a scope of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableNode {
    /// SAM's name within the scope around it; empty where the scope's own name is the layer's.
    pub name: &'static str,
    /// Other namings' names. Where one of them has several copies of the tensor, the first is read.
    pub aliases: &'static [(Naming, &'static str)],
    /// The paths of this crate's module fields within the scope, one a tensor, where they are not SAM's names.
    pub fields: &'static [&'static str],
    /// The part that this node and all within it belong to; none leaves the scope's.
    pub part: Option<ModelPart>,
    /// What it is.
    pub kind: NodeKind,
}

/// What a [`TableNode`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Several layers.
    Scope(&'static [TableNode]),
    /// The same layers several times, numbered from 0.
    Each(Size, &'static [TableNode]),
    /// `weight` `[outputs, inputs]` and `bias`.
    Linear {
        /// Channels that come in.
        inputs: Size,
        /// Channels that go out.
        outputs: Size,
    },
    /// `weight` and `bias` of a layer norm.
    Norm(Size),
    /// `weight` and, where its length is given, `bias`.
    Convolution {
        /// The weight's shape.
        kernel: [Size; 4],
        /// The bias's length.
        bias: Option<Size>,
    },
    /// `weight` and `bias` of a convolution into which the batch norm behind it is folded; the weight's shape.
    Normed([Size; 4]),
    /// The same of a 1x1 convolution, as a linear layer's: `weight` `[outputs, inputs]`, which its checkpoints have with two more axes.
    Pointwise {
        /// Channels that come in.
        inputs: Size,
        /// Channels that go out.
        outputs: Size,
    },
    /// `depth` linear layers `layers.0` onwards.
    Mlp {
        /// Input, hidden and output channels.
        channels: [Size; 3],
        /// Number of layers.
        depth: Size,
    },
    /// A lone tensor, whose name is the node's.
    Tensor(TensorRole, &'static [Size]),
}

impl TableNode {
    const fn new(name: &'static str, kind: NodeKind) -> Self {
        Self { name, aliases: &[], fields: &[], part: None, kind }
    }

    /// With other namings' names.
    #[must_use]
    pub const fn alias(mut self, aliases: &'static [(Naming, &'static str)]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With the paths of the module's fields.
    #[must_use]
    pub const fn fields(mut self, fields: &'static [&'static str]) -> Self {
        self.fields = fields;
        self
    }

    /// As a part of the model.
    #[must_use]
    pub const fn part(mut self, part: ModelPart) -> Self {
        self.part = Some(part);
        self
    }
}

/// Several layers under one name.
pub const fn scope(name: &'static str, nodes: &'static [TableNode]) -> TableNode {
    TableNode::new(name, NodeKind::Scope(nodes))
}

/// Layers that are repeated `count` times.
pub const fn each(name: &'static str, count: Size, nodes: &'static [TableNode]) -> TableNode {
    TableNode::new(name, NodeKind::Each(count, nodes))
}

/// A linear layer.
pub const fn linear(name: &'static str, inputs: Size, outputs: Size) -> TableNode {
    TableNode::new(name, NodeKind::Linear { inputs, outputs })
}

/// A layer norm.
pub const fn norm(name: &'static str, channels: Size) -> TableNode {
    TableNode::new(name, NodeKind::Norm(channels))
}

/// A convolution `[outputs, inputs, height, width]`, or a transposed one `[inputs, outputs, height, width]`.
pub const fn convolution(name: &'static str, kernel: [Size; 4], bias: Option<Size>) -> TableNode {
    TableNode::new(name, NodeKind::Convolution { kernel, bias })
}

/// A convolution with a folded batch norm.
pub const fn normed(name: &'static str, kernel: [Size; 4]) -> TableNode {
    TableNode::new(name, NodeKind::Normed(kernel))
}

/// A 1x1 convolution with a folded batch norm.
pub const fn pointwise(name: &'static str, inputs: Size, outputs: Size) -> TableNode {
    TableNode::new(name, NodeKind::Pointwise { inputs, outputs })
}

/// `depth` linear layers one after another: input, hidden and output channels.
pub const fn mlp(name: &'static str, channels: [Size; 3], depth: Size) -> TableNode {
    TableNode::new(name, NodeKind::Mlp { channels, depth })
}

/// A lone tensor.
pub const fn tensor(name: &'static str, role: TensorRole, shape: &'static [Size]) -> TableNode {
    TableNode::new(name, NodeKind::Tensor(role, shape))
}
