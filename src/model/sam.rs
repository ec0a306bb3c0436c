//! The whole model (`sam.py`).

use burn::module::Module;
use burn::tensor::Tensor;

use super::encoder::Encoder;
use super::mask_decoder::MaskDecoder;
use super::prompt_encoder::{Prompt, PromptEncoder};
use crate::config::SamConfig;
use crate::error::Result;
use crate::kernels::{add, check_architecture, on_cores, permute, reshape};
use crate::layers::Parameters;

/// Image encoder, prompt encoder and mask decoder.
///
/// SamLoRA is [`Sam::encode`] then [`Sam::decode`]: no prompts, one mask per class. SAM with prompts is [`Sam::encode`]
/// then [`Sam::decode_prompt`].
#[derive(Module, Debug)]
pub struct Sam {
    /// Images to embeddings.
    pub image_encoder: Encoder,
    /// Prompts and positions.
    pub prompt_encoder: PromptEncoder,
    /// Masks.
    pub mask_decoder: MaskDecoder,
}

impl Sam {
    /// Builds the model of `config` from all tensors of `from`.
    ///
    /// # Errors
    /// Naming the tensor that is missing, misshapen or left over, or the number of `config` that cannot be.
    pub fn load(config: &SamConfig, from: Parameters) -> Result<Self> {
        config.check()?;
        check_architecture(config, from.device())?;
        from.load(config, |mut from| {
            Ok(Self {
                image_encoder: Encoder::load(from.scope("image_encoder"), config)?,
                prompt_encoder: PromptEncoder::load(from.scope("prompt_encoder"))?,
                mask_decoder: MaskDecoder::load(from.scope("mask_decoder"), config)?,
            })
        })
    }

    /// Replaces prompt encoder and mask decoder by those in `from`, which holds nothing else; an empty `from` keeps them.
    ///
    /// # Errors
    /// As [`Sam::load`].
    pub fn load_heads(&mut self, config: &SamConfig, from: Parameters) -> Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        from.load(config, |mut from| {
            self.prompt_encoder = PromptEncoder::load(from.scope("prompt_encoder"))?;
            self.mask_decoder = MaskDecoder::load(from.scope("mask_decoder"), config)?;
            Ok(())
        })
    }

    /// Lays matrices out for inference, as [`crate::kernels::Weight::arrange`] says.
    #[must_use]
    pub fn arranged(mut self) -> Self {
        let encoder = self.image_encoder.linears_mut().into_iter();
        encoder.chain(self.mask_decoder.linears()).for_each(|layer| layer.weight.arrange());
        self
    }

    /// Normalised images `[b, bands, h, w]` (sides multiples of 16) to embeddings `[b, out_chans, h / 16, w / 16]`.
    pub fn encode(&self, images: Tensor<4>) -> Tensor<4> {
        self.image_encoder.forward(images)
    }

    /// Embeddings `[b, out_chans, h, w]` to logits of every mask token, `[b, mask_tokens, 4 h, 4 w]`, without prompts.
    pub fn decode(&self, embeddings: Tensor<4>) -> Tensor<4> {
        on_cores(embeddings, |embeddings| {
            let [_, c, h, w] = embeddings.dims();
            let no_mask = reshape(self.prompt_encoder.no_mask_embed.val(), [1, 1, c]);
            let image = add(channels_last(embeddings), no_mask);
            let pe = self.prompt_encoder.grid_pe(h, w);
            let (tokens, image) = self.mask_decoder.attend(image, pe, self.mask_decoder.tokens());
            self.mask_decoder.masks(&tokens, image, [h, w])
        })
    }

    /// One embedding `[1, out_chans, h, w]` of an image of `height` x `width` pixels, with a prompt and optionally a mask
    /// `[1, 1, 4 h, 4 w]`, to masks `[1, mask_tokens, 4 h, 4 w]` and their estimated IoU `[1, mask_tokens]`.
    ///
    /// SAM's `multimask_output` is the choice of tokens 1 to 3 (true) or 0 (false) of these.
    pub fn decode_prompt(
        &self,
        embedding: Tensor<4>,
        prompt: &Prompt,
        mask: Option<Tensor<4>>,
        [height, width]: [usize; 2],
    ) -> (Tensor<4>, Tensor<2>) {
        let [_, _, h, w] = embedding.dims();
        let sparse = self.prompt_encoder.sparse(prompt, height, width);
        let dense = self.prompt_encoder.dense(mask, h, w);
        let image = channels_last(embedding + dense);
        let mut tokens = vec![self.mask_decoder.tokens()];
        tokens.extend(sparse);
        let pe = self.prompt_encoder.grid_pe(h, w);
        let (tokens, image) = self.mask_decoder.attend(image, pe, Tensor::cat(tokens, 1));
        (self.mask_decoder.masks(&tokens, image, [h, w]), self.mask_decoder.iou(tokens))
    }
}

/// `[b, c, h, w]` to `[b, h w, c]`.
fn channels_last(x: Tensor<4>) -> Tensor<3> {
    let [b, c, h, w] = x.dims();
    reshape(permute(x, [0, 2, 3, 1]), [b, h * w, c])
}
