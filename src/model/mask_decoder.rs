//! SAM's mask decoder, with one mask per class (`mask_decoder.py`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::LayerNorm;
use super::transformer::TwoWayTransformer;
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::convolution::double;
use crate::kernels::{Activation, concat, masks, repeat, reshape, rows, stack};
use crate::layers::{Linear, Scope};

/// The mask decoder. Mask token i stands for class i, token 0 for background; in SAM's own checkpoints token 0 is the
/// single mask and tokens 1 to 3 the three masks of an ambiguous prompt.
#[derive(Module, Debug)]
pub struct MaskDecoder {
    /// Attends between tokens and image.
    pub transformer: TwoWayTransformer,
    /// `[1, out_chans]`.
    pub iou_token: Param<Tensor<2>>,
    /// `[mask_tokens, out_chans]`.
    pub mask_tokens: Param<Tensor<2>>,
    /// From the embedding's grid to four times its side.
    pub output_upscaling: OutputUpscaling,
    /// One per mask token.
    pub output_hypernetworks_mlps: Vec<Mlp>,
    /// Estimates each mask's IoU.
    pub iou_prediction_head: Mlp,
}

impl MaskDecoder {
    /// Every linear layer, to change it.
    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let heads = self.output_hypernetworks_mlps.iter_mut().chain([&mut self.iou_prediction_head]);
        self.transformer.linears().chain(heads.flat_map(|mlp| &mut mlp.layers))
    }

    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, config: &SamConfig) -> Result<Self> {
        Ok(Self {
            transformer: TwoWayTransformer::load(from.scope("transformer"), config)?,
            iou_token: from.take("iou_token")?,
            mask_tokens: from.take("mask_tokens")?,
            output_upscaling: OutputUpscaling::load(from.scope("output_upscaling"))?,
            output_hypernetworks_mlps: (0..config.mask_tokens)
                .map(|i| Mlp::load(from.scope(format_args!("output_hypernetworks_mlps.{i}")), 3))
                .collect::<Result<_>>()?,
            iou_prediction_head: Mlp::load(from.scope("iou_prediction_head"), config.iou_depth)?,
        })
    }

    /// The tokens without prompts: of the estimated IoU and of each mask, `[1, 1 + mask_tokens, c]`.
    pub fn tokens(&self) -> Tensor<3> {
        let tokens = concat(self.iou_token.val(), self.mask_tokens.val());
        let [n, c] = tokens.dims();
        reshape(tokens, [1, n, c])
    }

    /// The image `[b, h w, c]` with its positions `[1, h w, c]`, and tokens `[1, n, c]`, to tokens `[b, n, c]` and the image after they
    /// attended to each other.
    pub fn attend(&self, image: Tensor<3>, image_pe: Tensor<3>, tokens: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let [b, _, _] = image.dims();
        self.transformer.forward(image, image_pe, repeat(tokens, b))
    }

    /// Logits of every mask token, `[b, mask_tokens, 4 h, 4 w]`, from what [`MaskDecoder::attend`] gave.
    pub fn masks(&self, tokens: &Tensor<3>, image: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
        let [b, _, c] = image.dims();
        let [n, _] = self.mask_tokens.dims();
        // [b, 4 h, 4 w, c / 8]
        let upscaled = self.output_upscaling.forward(reshape(image, [b, h, w, c]));
        let mlps = self.output_hypernetworks_mlps.iter().enumerate();
        let tokens = stack(mlps.map(|(i, mlp)| mlp.forward(rows(tokens, i + 1))).collect()); // [b, n, c / 8]
        reshape(masks(tokens, reshape(upscaled, [b, 16 * h * w, c / 8])), [b, n, 4 * h, 4 * w])
    }

    /// Each mask's estimated IoU, `[b, mask_tokens]`.
    pub fn iou(&self, tokens: Tensor<3>) -> Tensor<2> {
        let ([b, _, _], [n, _]) = (tokens.dims(), self.mask_tokens.dims());
        self.iou_prediction_head.forward(tokens.slice_dim(1, 0..1)).reshape([b, n])
    }
}

/// Two transposed convolutions, each doubling the side (`output_upscaling`).
#[derive(Module, Debug)]
pub struct OutputUpscaling {
    /// `output_upscaling.0`, `[c, c / 4, 2, 2]`.
    pub conv1: Param<Tensor<4>>,
    /// `[c / 4]`.
    pub bias1: Param<Tensor<1>>,
    /// `output_upscaling.1`.
    pub norm: LayerNorm,
    /// `output_upscaling.3`, `[c / 4, c / 8, 2, 2]`.
    pub conv2: Param<Tensor<4>>,
    /// `[c / 8]`.
    pub bias2: Param<Tensor<1>>,
}

impl OutputUpscaling {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv1: from.take("conv1")?,
            bias1: from.take("bias1")?,
            norm: LayerNorm::load(from.scope("norm"), NORM_EPS)?,
            conv2: from.take("conv2")?,
            bias2: from.take("bias2")?,
        })
    }

    /// `[b, h, w, c]` to `[b, 4 h, 4 w, c / 8]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.norm.gelu(double(x, self.conv1.val(), self.bias1.val(), Activation::None));
        double(x, self.conv2.val(), self.bias2.val(), Activation::Gelu)
    }
}

/// Linear layers with ReLU between (`MLP`).
#[derive(Module, Debug)]
pub struct Mlp {
    /// First to last.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// Takes `depth` layers.
    fn load(mut from: Scope<'_>, depth: usize) -> Result<Self> {
        let layers = (0..depth).map(|i| Linear::load(from.scope(format_args!("layers.{i}"))));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// `[b, n, input]` to `[b, n, output]`.
    fn forward(&self, mut x: Tensor<3>) -> Tensor<3> {
        for (i, layer) in self.layers.iter().enumerate() {
            let activation = if i + 1 < self.layers.len() { Activation::Relu } else { Activation::None };
            x = layer.fused(x, None, None, activation);
        }
        x
    }
}
