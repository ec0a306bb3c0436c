//! SAM's mask decoder, with one mask per class (`mask_decoder.py`).

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, module};

use super::Parameters;
use super::common::{LayerNorm, Linear};
use super::transformer::TwoWayTransformer;
use crate::config::{NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::bias_gelu;

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
    /// Takes `mask_decoder.*`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, config: &SamConfig) -> Result<Self> {
        let (c, n) = (config.out_chans, config.mask_tokens);
        Ok(Self {
            transformer: TwoWayTransformer::load(from, config)?,
            iou_token: from.take("mask_decoder.iou_token.weight", [1, c])?,
            mask_tokens: from.take("mask_decoder.mask_tokens.weight", [n, c])?,
            output_upscaling: OutputUpscaling::load(from, c)?,
            output_hypernetworks_mlps: (0..n)
                .map(|i| Mlp::load(from, &format!("mask_decoder.output_hypernetworks_mlps.{i}"), [c, c, c / 8], 3))
                .collect::<Result<_>>()?,
            iou_prediction_head: Mlp::load(
                from,
                "mask_decoder.iou_prediction_head",
                [c, config.iou_hidden, n],
                config.iou_depth,
            )?,
        })
    }

    /// Logits of every mask token, `[b, mask_tokens, 4 h, 4 w]`, and their estimated IoU, `[b, mask_tokens]`.
    ///
    /// `embedding` `[b, c, h, w]`; `image_pe` and `dense` `[1, c, h, w]`; `sparse` `[1, n, c]`, none without prompts.
    pub fn forward(
        &self,
        embedding: Tensor<4>,
        image_pe: Tensor<4>,
        sparse: Option<Tensor<3>>,
        dense: Tensor<4>,
    ) -> (Tensor<4>, Tensor<2>) {
        let [b, c, h, w] = embedding.dims();
        let [n, _] = self.mask_tokens.dims();
        let mut tokens = vec![self.iou_token.val().unsqueeze(), self.mask_tokens.val().unsqueeze()];
        tokens.extend(sparse);
        let tokens: Tensor<3> = Tensor::cat(tokens, 1);
        let [_, count, _] = tokens.dims();
        let tokens = tokens.expand([b, count, c]);

        let flat = |x: Tensor<4>| -> Tensor<3> {
            let [b, _, _, _] = x.dims();
            x.permute([0, 2, 3, 1]).reshape([b, h * w, c])
        };
        let image = flat(embedding + dense);
        let image_pe = flat(image_pe).expand([b, h * w, c]);
        let (tokens, image) = self.transformer.forward(image, image_pe, tokens);

        // [b, 4 h, 4 w, c / 8]
        let upscaled = self.output_upscaling.forward(image.reshape([b, h, w, c]));
        let kernels = self.output_hypernetworks_mlps.iter().enumerate();
        let kernels = kernels.map(|(i, mlp)| mlp.forward(tokens.clone().slice_dim(1, i + 1..i + 2)));
        let kernels: Tensor<3> = Tensor::cat(kernels.collect(), 1); // [b, n, c / 8]
        let masks = kernels.matmul(upscaled.reshape([b, 16 * h * w, c / 8]).swap_dims(1, 2));
        let iou = self.iou_prediction_head.forward(tokens.slice_dim(1, 0..1)).reshape([b, n]);
        (masks.reshape([b, n, 4 * h, 4 * w]), iou)
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
    fn load(from: &mut Parameters, c: usize) -> Result<Self> {
        let name = "mask_decoder.output_upscaling";
        Ok(Self {
            conv1: from.take(&format!("{name}.0.weight"), [c, c / 4, 2, 2])?,
            bias1: from.take(&format!("{name}.0.bias"), [c / 4])?,
            norm: LayerNorm::load(from, &format!("{name}.1"), c / 4, NORM_EPS)?,
            conv2: from.take(&format!("{name}.3.weight"), [c / 4, c / 8, 2, 2])?,
            bias2: from.take(&format!("{name}.3.bias"), [c / 8])?,
        })
    }

    /// `[b, h, w, c]` to `[b, 4 h, 4 w, c / 8]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.norm.forward(double(x, self.conv1.val()) + self.bias1.val().unsqueeze());
        let [.., channels] = x.dims();
        let none = Tensor::zeros([channels], &self.conv1.val().device());
        let x = bias_gelu(x, none);
        bias_gelu(double(x, self.conv2.val()), self.bias2.val())
    }
}

/// Transposed convolution with kernel 2 and stride 2: no overlap, so a product and a reordering.
/// `[b, h, w, in]` and `[in, out, 2, 2]` to `[b, 2 h, 2 w, out]`, without a bias.
fn double(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [b, h, w, _] = x.dims();
    let [inputs, out, _, _] = weight.dims();
    let weight = weight.permute([0, 2, 3, 1]).reshape([inputs, 4 * out]);
    let y = module::linear(x, weight, None).reshape([b, h, w, 2, 2, out]);
    y.permute([0, 1, 3, 2, 4, 5]).reshape([b, 2 * h, 2 * w, out])
}

/// Linear layers with ReLU between (`MLP`).
#[derive(Module, Debug)]
pub struct Mlp {
    /// First to last.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// Takes `{name}.layers.0` onwards: `[input, hidden, output]` channels, `depth` layers.
    fn load(from: &mut Parameters, name: &str, [input, hidden, output]: [usize; 3], depth: usize) -> Result<Self> {
        let layers = (0..depth).map(|i| {
            let inputs = if i == 0 { input } else { hidden };
            let outputs = if i + 1 == depth { output } else { hidden };
            Linear::load(from, &format!("{name}.layers.{i}"), inputs, outputs)
        });
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// `[b, n, input]` to `[b, n, output]`.
    fn forward(&self, mut x: Tensor<3>) -> Tensor<3> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if i + 1 < self.layers.len() {
                x = relu(x);
            }
        }
        x
    }
}
