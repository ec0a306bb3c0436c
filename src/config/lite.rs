//! Numbers of EfficientNet-Lite0 as an image encoder.
//!
//! Source: `efficientnet_lite_builder.py` of `tensorflow/tpu`: EfficientNet-B0's blocks without squeeze-and-excitation, with ReLU6.

use super::SamConfig;
use crate::error::{Error, ErrorKind, Result};

/// Channels of the first convolution, which halves the image.
pub const LITE_STEM: usize = 32;
/// Channels of the block behind it, which expands nothing.
pub const LITE_FIRST: usize = 16;
/// Epsilon of its batch norms.
pub const LITE_NORM_EPS: f64 = 1e-3;
/// Blocks of [`LITE_BLOCKS`] before the one that halves the image for the fifth time: their result and that of the last block, twice
/// enlarged, make the embedding.
pub const LITE_TAPPED: usize = 10;

/// A block: 1x1 convolution to `hidden` channels, depthwise convolution, 1x1 convolution to `outputs`; with the sum of its input where
/// that has the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiteBlock {
    /// Channels that come in.
    pub inputs: usize,
    /// Channels that go out.
    pub outputs: usize,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
}

impl LiteBlock {
    /// Channels between its 1x1 convolutions.
    pub fn hidden(&self) -> usize {
        6 * self.inputs
    }
}

const fn block(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> LiteBlock {
    LiteBlock { inputs, outputs, kernel, stride }
}

/// The blocks after the first.
pub const LITE_BLOCKS: [LiteBlock; 15] = [
    block(16, 24, 3, 2),
    block(24, 24, 3, 1),
    block(24, 40, 5, 2),
    block(40, 40, 5, 1),
    block(40, 80, 3, 2),
    block(80, 80, 3, 1),
    block(80, 80, 3, 1),
    block(80, 112, 5, 1),
    block(112, 112, 5, 1),
    block(112, 112, 5, 1),
    block(112, 192, 5, 2),
    block(192, 192, 5, 1),
    block(192, 192, 5, 1),
    block(192, 192, 5, 1),
    block(192, 320, 3, 1),
];

/// Channels of the embedding before the neck: of the tapped block and of the last.
pub const LITE_DIM: usize = 112 + 320;

/// As [`SamConfig::check`]: nothing of this encoder is a choice.
pub(super) fn check(config: &SamConfig) -> Result<()> {
    let found = (config.embed_dim, config.depth, config.num_heads, config.patch_size);
    let expected = (LITE_DIM, LITE_BLOCKS.len(), 1, 16);
    if found == expected && config.global_attn_indexes.is_empty() {
        return Ok(());
    }
    let message = format!("embed_dim, depth, num_heads and patch_size are {found:?}, and {expected:?} in this encoder");
    Err(Error::new(ErrorKind::Invalid, message).at("architecture"))
}
