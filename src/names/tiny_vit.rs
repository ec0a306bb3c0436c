//! The table of MobileSAM: SAM with a TinyViT as its image encoder. Prompt encoder and mask decoder are SAM's.
//!
//! Source: `mobile_sam/modeling/tiny_vit_sam.py`. There a batch norm follows each convolution (`c`, then `bn`); here it is folded
//! into the convolution, which so has a bias of its own.

use super::node::Number::{InChans, StageBlocks, StageDim, StageHeads, StageOffsets, Stem, StemBlocks};
use super::node::Size::{self, Is, Of, Over, Times};
use super::node::{ModelPart, Number, TableNode, TensorRole, each, linear, norm, normed, pointwise, scope, tensor};
use super::table::{BLOCKS, DECODER, ENCODER, FREQUENCIES, NECK, PROJ, PROMPTS, QKV};

/// SAM with a TinyViT.
pub const MOBILE_SAM: &[TableNode] = &[scope(ENCODER, TINY_VIT), FREQUENCIES, PROMPTS, DECODER];

/// Where the stages are.
pub(super) const STAGES: &str = "layers";

/// `TinyViT`.
const TINY_VIT: &[TableNode] = &[
    normed("patch_embed.seq.0.c", [Over(Stem, 2), Of(InChans), Is(3), Is(3)])
        .fields(&["patch_embed.conv1.weight", "patch_embed.conv1.bias"])
        .part(ModelPart::Patches),
    normed("patch_embed.seq.2.c", [Of(Stem), Over(Stem, 2), Is(3), Is(3)])
        .fields(&["patch_embed.conv2.weight", "patch_embed.conv2.bias"])
        .part(ModelPart::Blocks),
    scope("layers.0", STEM).part(ModelPart::Blocks),
    scope("layers.1", Stage::<0>::WITH_MERGING).part(ModelPart::Blocks),
    scope("layers.2", Stage::<1>::WITH_MERGING).part(ModelPart::Blocks),
    scope("layers.3", Stage::<2>::BLOCKS).part(ModelPart::Blocks),
    scope("neck", NECK).part(ModelPart::Neck),
];

/// `ConvLayer`, of `MBConv` blocks.
const STEM: &[TableNode] = &[
    each(
        BLOCKS,
        Of(StemBlocks),
        &[
            pointwise("conv1.c", Of(Stem), Times(4, Stem)).fields(CONV1),
            normed("conv2.c", [Times(4, Stem), Is(1), Is(3), Is(3)]).fields(CONV2),
            pointwise("conv3.c", Times(4, Stem), Of(Stem)).fields(CONV3),
        ],
    ),
    scope("downsample", &merging(Of(Stem), StageDim(0))),
];

const CONV1: &[&str] = &["conv1.weight", "conv1.bias"];
const CONV2: &[&str] = &["conv2.weight", "conv2.bias"];
const CONV3: &[&str] = &["conv3.weight", "conv3.bias"];

/// `PatchMerging`.
const fn merging(inputs: Size, outputs: Number) -> [TableNode; 3] {
    [
        pointwise("conv1.c", inputs, Of(outputs)).fields(CONV1),
        normed("conv2.c", [Of(outputs), Is(1), Is(3), Is(3)]).fields(CONV2),
        pointwise("conv3.c", Of(outputs), Of(outputs)).fields(CONV3),
    ]
}

/// `BasicLayer` number `S + 1`, of `TinyViTBlock`s.
struct Stage<const S: usize>;

impl<const S: usize> Stage<S> {
    const BLOCK: &'static [TableNode] = &[
        norm("attn.norm", Of(StageDim(S))),
        tensor("attn.attention_biases", TensorRole::RelativePositions, &[Of(StageHeads(S)), Of(StageOffsets(S))]),
        linear(QKV, Of(StageDim(S)), Times(3, StageDim(S))),
        linear(PROJ, Of(StageDim(S)), Of(StageDim(S))),
        normed("local_conv.c", [Of(StageDim(S)), Is(1), Is(3), Is(3)])
            .fields(&["local_conv.weight", "local_conv.bias"]),
        norm("mlp.norm", Of(StageDim(S))),
        linear(FC1, Of(StageDim(S)), Times(4, StageDim(S))),
        linear(FC2, Times(4, StageDim(S)), Of(StageDim(S))),
    ];
    const BLOCKS: &'static [TableNode] = &[each(BLOCKS, Of(StageBlocks(S)), Self::BLOCK)];
    const WITH_MERGING: &'static [TableNode] =
        &[each(BLOCKS, Of(StageBlocks(S)), Self::BLOCK), scope("downsample", Self::MERGING)];
    const MERGING: &'static [TableNode] = &merging(Of(StageDim(S)), StageDim(S + 1));
}

pub(super) const FC1: &str = "mlp.fc1";
pub(super) const FC2: &str = "mlp.fc2";
