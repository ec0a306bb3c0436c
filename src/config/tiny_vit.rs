//! Numbers of a TinyViT.

use serde::{Deserialize, Serialize};

use super::SamConfig;
use crate::error::{Error, ErrorKind, Result};

/// Numbers of a TinyViT (`tiny_vit_sam.py`): a stem of convolutions at a quarter of the image's side, then three stages with attention at
/// an eighth, a sixteenth and again a sixteenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TinyVit {
    /// Channels of the stem.
    pub stem_dim: usize,
    /// Blocks of the stem.
    pub stem_blocks: usize,
    /// The stages with attention, first to last.
    pub stages: [TinyVitStage; 3],
}

/// A stage of a TinyViT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TinyVitStage {
    /// Channels of a token.
    pub dim: usize,
    /// Blocks.
    pub blocks: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Side of an attention window, in tokens.
    pub window: usize,
}

impl TinyVit {
    /// The stage of the block with attention number `block`, and its number there. Both from 0; beyond the last block, the last stage.
    pub fn place(&self, block: usize) -> (usize, usize) {
        let mut within = block;
        for (i, stage) in self.stages.iter().enumerate() {
            if within < stage.blocks || i + 1 == self.stages.len() {
                return (i, within);
            }
            within -= stage.blocks;
        }
        (0, block)
    }

    /// Blocks with attention.
    pub fn blocks(&self) -> usize {
        self.stages.iter().map(|stage| stage.blocks).sum()
    }
}

impl TinyVit {
    /// As [`SamConfig::check`], for the numbers of `config` that repeat the last stage's.
    pub(super) fn check(&self, config: &SamConfig) -> Result<()> {
        let error = |message: String| Err(Error::new(ErrorKind::Invalid, message).at("architecture"));
        let dims = [self.stem_dim].into_iter().chain(self.stages.iter().map(|stage| stage.dim));
        if let Some(dim) = dims.into_iter().find(|dim| !(2..=4096).contains(dim)) {
            return error(format!("a stage has {dim} channels, expected 2 to 4096"));
        }
        for (i, TinyVitStage { dim, blocks, heads, window }) in self.stages.into_iter().enumerate() {
            if !(1..=64).contains(&blocks) || !(1..=64).contains(&window) || heads == 0 || !dim.is_multiple_of(heads) {
                return error(format!(
                    "stage {i} has {blocks} blocks, {dim} channels in {heads} heads, windows of {window}"
                ));
            }
        }
        let last = self.stages[2];
        let repeated = (config.embed_dim, config.num_heads, config.mlp_dim, config.window_size, config.depth);
        let expected = (last.dim, last.heads, 4 * last.dim, last.window, self.blocks());
        if repeated != expected || config.patch_size != 16 || !config.global_attn_indexes.is_empty() {
            return error(format!(
                "embed_dim, num_heads, mlp_dim, window_size and depth are {repeated:?}, and {expected:?} of the last stage"
            ));
        }
        if !self.stem_dim.is_multiple_of(2) || self.stem_blocks > 64 {
            return error(format!("the stem has {} channels and {} blocks", self.stem_dim, self.stem_blocks));
        }
        Ok(())
    }
}
