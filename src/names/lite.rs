//! The table of SAM with EfficientNet-Lite0 as its image encoder, this crate's own combination. Prompt encoder and mask decoder are SAM's.
//!
//! A batch norm is folded into each convolution. Files of the encoder alone, trained on ImageNet, have other names
//! ([`weights::imagenet`](crate::weights::imagenet)).

use super::node::Number::InChans;
use super::node::Size::{self, Is, Lite, Of};
use super::node::{LiteSide, ModelPart, TableNode, each, normed, pointwise, scope};
use super::table::{BLOCKS, DECODER, ENCODER, FREQUENCIES, NECK, PROMPTS};
use crate::config::{LITE_BLOCKS, LITE_FIRST, LITE_STEM};

/// SAM with an EfficientNet-Lite0.
pub const LITE_SAM: &[TableNode] = &[scope(ENCODER, EFFICIENTNET), FREQUENCIES, PROMPTS, DECODER];

const EFFICIENTNET: &[TableNode] = &[
    normed("stem", [Is(LITE_STEM), Of(InChans), Is(3), Is(3)]).part(ModelPart::Patches),
    normed("first.depthwise", [Is(LITE_STEM), Is(1), Is(3), Is(3)]).part(ModelPart::Blocks),
    pointwise("first.project", Is(LITE_STEM), Is(LITE_FIRST)).part(ModelPart::Blocks),
    each(BLOCKS, Is(LITE_BLOCKS.len()), BLOCK).part(ModelPart::Blocks),
    scope("neck", NECK).part(ModelPart::Neck),
];

const BLOCK: &[TableNode] = &[
    pointwise(EXPAND, Lite(LiteSide::Inputs), HIDDEN),
    normed("depthwise", [HIDDEN, Is(1), Lite(LiteSide::Kernel), Lite(LiteSide::Kernel)]),
    pointwise(PROJECT, HIDDEN, Lite(LiteSide::Outputs)),
];

const HIDDEN: Size = Lite(LiteSide::Hidden);

/// A block's matrices, which adapters are put beside.
pub(super) const EXPAND: &str = "expand";
pub(super) const PROJECT: &str = "project";
