//! What learns, and how the optimiser goes about it.

use serde::{Deserialize, Serialize};

use crate::config::SamConfig;
use crate::names::{self, ModelPart, TensorRole};

/// How the mask decoder learns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecoderTraining {
    /// All of it, as SamLoRA does.
    #[default]
    Full,
    /// Its transformer through LoRA on the attentions' q and v (SAMed_s), the rest in full.
    Lora,
    /// Mask tokens and their hyper-networks only, which are what tells classes apart.
    Heads,
    /// Not at all.
    Frozen,
}

/// What learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trained {
    /// The mask decoder.
    pub decoder: DecoderTraining,
    /// The default prompt embedding (`no_mask_embed`), the one prompt parameter that takes part without prompts.
    pub prompts: bool,
    /// The patch embedding, for new bands.
    pub patch_embed: bool,
    /// The whole image encoder.
    pub encoder: bool,
    /// With `encoder`: each block learns this many times as fast as the block after it.
    pub layer_decay: f64,
    /// With `encoder`: its blocks and what is before them learn this many times as fast as the rest.
    #[serde(skip_serializing_if = "is_one")]
    pub encoder_rate: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_one(rate: &f64) -> bool {
    *rate == 1.0
}

impl Default for Trained {
    fn default() -> Self {
        Self {
            decoder: DecoderTraining::Full,
            prompts: true,
            patch_embed: false,
            encoder: false,
            layer_decay: 1.0,
            encoder_rate: 1.0,
        }
    }
}

impl Trained {
    /// The factor of the learning rate of a parameter, none if it does not learn. Adapters always learn.
    pub(super) fn rate(&self, name: &str, config: &SamConfig) -> Option<f64> {
        if name.ends_with(".lora_a") || name.ends_with(".lora_b") {
            return Some(1.0);
        }
        let found = names::named(name)?;
        let depth = config.depth;
        let encoder = |layers_below: usize, patch_embed: bool| {
            let rate = if layers_below == 0 { 1.0 } else { self.encoder_rate };
            let decay = if self.encoder { rate * self.layer_decay.powi(layers_below as i32) } else { 1.0 };
            (self.encoder || patch_embed).then_some(decay)
        };
        let decoder = |learns: bool| learns.then_some(1.0);
        match found.part {
            ModelPart::Patches => encoder(depth + 1, self.patch_embed && found.role != TensorRole::Positions),
            ModelPart::Blocks => encoder(depth - names::blocks_before(config, name).unwrap_or(0).min(depth), false),
            ModelPart::Neck => encoder(0, false),
            ModelPart::Prompts => decoder(self.prompts && found.role != TensorRole::Frequencies),
            ModelPart::Transformer => decoder(self.decoder == DecoderTraining::Full),
            ModelPart::Classes => decoder(self.decoder != DecoderTraining::Frozen),
            ModelPart::Masks | ModelPart::IouHead => {
                decoder(matches!(self.decoder, DecoderTraining::Full | DecoderTraining::Lora))
            }
        }
    }
}

/// AdamW's settings (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerOptions {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether norms and biases (one axis) decay too, as in PyTorch's default.
    pub decay_vectors: bool,
    /// Gradients are scaled down to this norm, taken over all of them; none leaves them alone.
    pub clip_norm: Option<f64>,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decay_vectors: false,
            clip_norm: Some(1.0),
        }
    }
}
