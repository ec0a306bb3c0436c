//! EfficientNet-Lite0 as an image encoder: what its blocks see at a sixteenth of the image's side, and beside it what the last of them
//! see at a thirty-second, enlarged twice. Batch norms are folded into the convolutions before them.
//!
//! Source: `efficientnet_lite_builder.py` and `efficientnet_model.py` of `tensorflow/tpu`; where it is tapped is this crate's choice.

use burn::module::Module;
use burn::tensor::Tensor;

use super::common::NormedConv;
use super::neck::Neck;
use crate::config::{LITE_BLOCKS, LITE_TAPPED, LiteBlock};
use crate::error::Result;
use crate::kernels::convolution::{Placement, depthwise, strided3x3};
use crate::kernels::{Activation, concat_channels, enlarge, on_cores, permute};
use crate::layers::{Adapted, AdaptedLayers, Linear, Scope};

/// The image encoder.
#[derive(Module, Debug)]
pub struct EfficientNetLite {
    /// 3x3 convolution of stride 2.
    pub stem: NormedConv,
    /// The block that expands nothing.
    pub first: FirstBlock,
    /// The other blocks.
    pub blocks: Vec<InvertedResidual>,
    /// To `out_chans` channels.
    pub neck: Neck,
}

impl EfficientNetLite {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        let blocks = LITE_BLOCKS.iter().enumerate();
        let blocks = blocks.map(|(i, size)| InvertedResidual::load(from.scope(format_args!("blocks.{i}")), *size));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            stem: NormedConv::load(from.scope("stem"))?,
            first: FirstBlock::load(from.scope("first"))?,
            neck: Neck::load(from.scope("neck"))?,
        })
    }

    /// Normalised image `[b, bands, h, w]` to `[b, h / 2, w / 2, 16]`.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        on_cores(image, |image| {
            let placement = same(3, 2, &self.stem);
            self.first.forward(strided3x3(permute(image, [0, 2, 3, 1]), self.stem.weight.val(), placement))
        })
    }

    /// Steps of [`EfficientNetLite::layer`]: the blocks up to the tapped one, and all others together.
    pub fn depth(&self) -> usize {
        LITE_TAPPED + 1
    }

    /// Step `index`, `[b, h, w, c]` to `[b, h', w', c']`.
    pub fn layer(&self, index: usize, x: Tensor<4>) -> Tensor<4> {
        if index < LITE_TAPPED {
            return self.blocks[index].forward(x);
        }
        let coarse = self.blocks[LITE_TAPPED..].iter().fold(x.clone(), |x, block| block.forward(x));
        concat_channels(x, enlarge(coarse))
    }

    /// The 1x1 convolutions of each block but the first.
    pub fn layers(&self) -> Vec<AdaptedLayers<&Adapted>> {
        self.blocks.iter().map(|block| AdaptedLayers::mlp(&block.expand, &block.project)).collect()
    }

    /// [`EfficientNetLite::layers`], to change them.
    pub fn layers_mut(&mut self) -> Vec<AdaptedLayers<&mut Adapted>> {
        self.blocks.iter_mut().map(|block| AdaptedLayers::mlp(&mut block.expand, &mut block.project)).collect()
    }

    /// Every 1x1 convolution.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let blocks = self.blocks.iter_mut().flat_map(|block| [&mut block.expand.linear, &mut block.project.linear]);
        [&mut self.first.project].into_iter().chain(blocks).collect()
    }
}

/// TensorFlow's `SAME` padding for sides that are multiples of 32, of a convolution that ReLU6 follows.
fn same(kernel: usize, stride: usize, convolution: &NormedConv) -> Placement {
    let (before, bias) = ((kernel - stride) / 2, Some(convolution.bias.val()));
    Placement { stride, before, bias, activation: Activation::Relu6 }
}

/// Depthwise convolution and a 1x1 one.
#[derive(Module, Debug)]
pub struct FirstBlock {
    /// 3x3.
    pub depthwise: NormedConv,
    /// To fewer channels.
    pub project: Linear,
}

impl FirstBlock {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            depthwise: NormedConv::load(from.scope("depthwise"))?,
            project: Linear::load(from.scope("project"))?,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.project.forward(depthwise(x, self.depthwise.weight.val(), same(3, 1, &self.depthwise)))
    }
}

/// Depthwise convolution between two 1x1 ones (`MBConvBlock`).
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// To six times the channels.
    pub expand: Adapted,
    /// Of kernels of 3 or 5, stride 1 or 2.
    pub depthwise: NormedConv,
    /// To the block's channels.
    pub project: Adapted,
    stride: usize,
}

impl InvertedResidual {
    fn load(mut from: Scope<'_>, size: LiteBlock) -> Result<Self> {
        Ok(Self {
            expand: Adapted::load(from.scope("expand"))?,
            depthwise: NormedConv::load(from.scope("depthwise"))?,
            project: Adapted::load(from.scope("project"))?,
            stride: size.stride,
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [outputs, _] = self.project.linear.weight.dims();
        let residual = (self.stride == 1 && x.dims()[3] == outputs).then(|| x.clone());
        let hidden = self.expand.fused(x, None, None, Activation::Relu6);
        let [_, _, kernel, _] = self.depthwise.weight.dims();
        let hidden = depthwise(hidden, self.depthwise.weight.val(), same(kernel, self.stride, &self.depthwise));
        self.project.fused(hidden, None, residual, Activation::None)
    }
}
