//! The table: SAM's parameters, top-down and in the reference's order, with the other names that they go by.
//!
//! Sources: `segment_anything/modeling/*.py`; `modeling_sam.py` and `convert_sam_to_hf.py` of `transformers`;
//! `sam_lora.py` of SAMed.

use super::node::Naming::{HuggingFace, Wrapped};
use super::node::Number::{
    CrossAttention, DecoderDepth, DecoderMlp, Depth, EmbedDim, Grid, HeadDim, InChans, IouDepth, IouHidden,
    MaskInChans, MaskTokens, MlpDim, OutChans, PatchSize,
};
use super::node::Size::{Is, Of, Over, RelativePositions, Times};
use super::node::{ModelPart, Size, TableNode, TensorRole, convolution, each, linear, mlp, norm, scope, tensor};

pub(super) const ENCODER: &str = "image_encoder";
pub(super) const BLOCKS: &str = "blocks";

/// SAM with a ViT as its image encoder.
pub const SAM: &[TableNode] =
    &[scope(ENCODER, VIT).alias(&[(HuggingFace, "vision_encoder")]), FREQUENCIES, PROMPTS, DECODER];

/// The prompt encoder's; `SamModel` saves it twice and reads the first.
pub(super) const FREQUENCIES: TableNode = tensor(
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    TensorRole::Frequencies,
    &[Is(2), Over(OutChans, 2)],
)
.alias(&[
    (HuggingFace, "shared_image_embedding.positional_embedding"),
    (HuggingFace, "prompt_encoder.shared_embedding.positional_embedding"),
])
.fields(&["prompt_encoder.gaussian_matrix"])
.part(ModelPart::Prompts);

pub(super) const PROMPTS: TableNode = scope("prompt_encoder", PROMPT_ENCODER).part(ModelPart::Prompts);
pub(super) const DECODER: TableNode = scope("mask_decoder", MASK_DECODER).part(ModelPart::Masks);

/// `image_encoder.py`, `ImageEncoderViT`.
const VIT: &[TableNode] = &[
    tensor("pos_embed", TensorRole::Positions, &[Is(1), Of(Grid), Of(Grid), Of(EmbedDim)]).part(ModelPart::Patches),
    convolution("patch_embed.proj", [Of(EmbedDim), Of(InChans), Of(PatchSize), Of(PatchSize)], Some(Of(EmbedDim)))
        .alias(&[(HuggingFace, "patch_embed.projection")])
        .fields(&["patch_embed_weight", "patch_embed_bias"])
        .part(ModelPart::Patches),
    each(BLOCKS, Of(Depth), BLOCK).alias(&[(HuggingFace, "layers")]).part(ModelPart::Blocks),
    scope("neck", NECK).part(ModelPart::Neck),
];

/// A block's matrices, which adapters are put beside.
pub(super) const QKV: &str = "attn.qkv";
pub(super) const PROJ: &str = "attn.proj";
pub(super) const LIN1: &str = "mlp.lin1";
pub(super) const LIN2: &str = "mlp.lin2";
pub(super) const REL_POS: [&str; 2] = ["attn.rel_pos_h", "attn.rel_pos_w"];

/// `image_encoder.py`, `Block`.
const BLOCK: &[TableNode] = &[
    norm("norm1", Of(EmbedDim)).alias(&[(HuggingFace, "layer_norm1")]),
    tensor(REL_POS[0], TensorRole::RelativePositions, &[RelativePositions, Of(HeadDim)]),
    tensor(REL_POS[1], TensorRole::RelativePositions, &[RelativePositions, Of(HeadDim)]),
    linear(QKV, Of(EmbedDim), Times(3, EmbedDim)).alias(&[(Wrapped, "attn.qkv.qkv")]),
    linear(PROJ, Of(EmbedDim), Of(EmbedDim)),
    norm("norm2", Of(EmbedDim)).alias(&[(HuggingFace, "layer_norm2")]),
    linear(LIN1, Of(EmbedDim), Of(MlpDim)),
    linear(LIN2, Of(MlpDim), Of(EmbedDim)),
];

/// What follows every image encoder; the embedding has [`SamConfig::out_chans`](crate::config::SamConfig::out_chans) channels.
pub(super) const NECK: &[TableNode] = &[
    convolution("0", [Of(OutChans), Of(EmbedDim), Is(1), Is(1)], None)
        .alias(&[(HuggingFace, "conv1")])
        .fields(&["conv1"]),
    norm("1", Of(OutChans)).alias(&[(HuggingFace, "layer_norm1")]).fields(&["norm1.weight", "norm1.bias"]),
    convolution("2", [Of(OutChans), Of(OutChans), Is(3), Is(3)], None)
        .alias(&[(HuggingFace, "conv2")])
        .fields(&["conv2"]),
    norm("3", Of(OutChans)).alias(&[(HuggingFace, "layer_norm2")]).fields(&["norm2.weight", "norm2.bias"]),
];

/// `prompt_encoder.py`.
const PROMPT_ENCODER: &[TableNode] = &[
    each("point_embeddings", Is(4), &[tensor("weight", TensorRole::Embedding, &[Is(1), Of(OutChans)]).fields(&[""])])
        .alias(&[(HuggingFace, "point_embed")]),
    tensor("not_a_point_embed.weight", TensorRole::Embedding, &[Is(1), Of(OutChans)]).fields(&["not_a_point_embed"]),
    scope("mask_downscaling", MASK_DOWNSCALING).alias(&[(HuggingFace, "mask_embed")]),
    tensor("no_mask_embed.weight", TensorRole::Embedding, &[Is(1), Of(OutChans)]).fields(&["no_mask_embed"]),
];

/// Convolution, norm, activation, convolution, norm, activation, convolution; a package has the norms last.
const MASK_DOWNSCALING: &[TableNode] = &[
    convolution("0", [QUARTER_MASK, Is(1), Is(2), Is(2)], Some(QUARTER_MASK))
        .alias(&[(HuggingFace, "conv1")])
        .fields(&["convolutions.0", "biases.0"]),
    convolution("3", [Of(MaskInChans), QUARTER_MASK, Is(2), Is(2)], Some(Of(MaskInChans)))
        .alias(&[(HuggingFace, "conv2")])
        .fields(&["convolutions.1", "biases.1"]),
    convolution("6", [Of(OutChans), Of(MaskInChans), Is(1), Is(1)], Some(Of(OutChans)))
        .alias(&[(HuggingFace, "conv3")])
        .fields(&["convolutions.2", "biases.2"]),
    norm("1", QUARTER_MASK).alias(&[(HuggingFace, "layer_norm1")]).fields(&["norms.0.weight", "norms.0.bias"]),
    norm("4", Of(MaskInChans)).alias(&[(HuggingFace, "layer_norm2")]).fields(&["norms.1.weight", "norms.1.bias"]),
];

const QUARTER_MASK: Size = Over(MaskInChans, 4);

/// `mask_decoder.py`.
const MASK_DECODER: &[TableNode] = &[
    scope("transformer", TRANSFORMER).part(ModelPart::Transformer),
    tensor("iou_token.weight", TensorRole::Embedding, &[Is(1), Of(OutChans)]).fields(&["iou_token"]),
    tensor("mask_tokens.weight", TensorRole::MaskTokens, &[Of(MaskTokens), Of(OutChans)])
        .fields(&["mask_tokens"])
        .part(ModelPart::Classes),
    convolution("output_upscaling.0", [Of(OutChans), Over(OutChans, 4), Is(2), Is(2)], Some(Over(OutChans, 4)))
        .alias(&[(HuggingFace, "upscale_conv1")])
        .fields(&["output_upscaling.conv1", "output_upscaling.bias1"]),
    norm("output_upscaling.1", Over(OutChans, 4))
        .alias(&[(HuggingFace, "upscale_layer_norm")])
        .fields(&["output_upscaling.norm.weight", "output_upscaling.norm.bias"]),
    convolution("output_upscaling.3", [Over(OutChans, 4), Over(OutChans, 8), Is(2), Is(2)], Some(Over(OutChans, 8)))
        .alias(&[(HuggingFace, "upscale_conv2")])
        .fields(&["output_upscaling.conv2", "output_upscaling.bias2"]),
    each(
        "output_hypernetworks_mlps",
        Of(MaskTokens),
        &[mlp("", [Of(OutChans), Of(OutChans), Over(OutChans, 8)], Is(3))],
    )
    .part(ModelPart::Classes),
    mlp("iou_prediction_head", [Of(OutChans), Of(IouHidden), Of(MaskTokens)], Of(IouDepth)).part(ModelPart::IouHead),
];

/// `transformer.py`, `TwoWayTransformer`.
const TRANSFORMER: &[TableNode] = &[
    each("layers", Of(DecoderDepth), TWO_WAY_ATTENTION_BLOCK),
    scope("final_attn_token_to_image", CROSS_ATTENTION),
    norm("norm_final_attn", Of(OutChans)).alias(&[(HuggingFace, "layer_norm_final_attn")]),
];

/// `transformer.py`, `TwoWayAttentionBlock`; a package has the norms last.
const TWO_WAY_ATTENTION_BLOCK: &[TableNode] = &[
    scope("self_attn", SELF_ATTENTION),
    scope("cross_attn_token_to_image", CROSS_ATTENTION),
    scope("cross_attn_image_to_token", CROSS_ATTENTION),
    linear(LIN1, Of(OutChans), Of(DecoderMlp)),
    linear(LIN2, Of(DecoderMlp), Of(OutChans)),
    norm("norm1", Of(OutChans)).alias(&[(HuggingFace, "layer_norm1")]),
    norm("norm2", Of(OutChans)).alias(&[(HuggingFace, "layer_norm2")]),
    norm("norm3", Of(OutChans)).alias(&[(HuggingFace, "layer_norm3")]),
    norm("norm4", Of(OutChans)).alias(&[(HuggingFace, "layer_norm4")]),
];

/// `transformer.py`, `Attention` at full width.
const SELF_ATTENTION: &[TableNode] = &attention(Of(OutChans));

/// `transformer.py`, `Attention` at a fraction of the width.
const CROSS_ATTENTION: &[TableNode] = &attention(Of(CrossAttention));

const fn attention(inner: Size) -> [TableNode; 4] {
    [
        linear("q_proj", Of(OutChans), inner),
        linear("k_proj", Of(OutChans), inner),
        linear("v_proj", Of(OutChans), inner),
        linear("out_proj", inner, Of(OutChans)),
    ]
}
