//! The image encoder, of whichever kind, and the walk over its layers.

use burn::module::Module;
use burn::tensor::Tensor;

use super::image_encoder::ImageEncoder;
use super::lite::EfficientNetLite;
use super::neck::Neck;
use super::tiny_vit::TinyVit;
use crate::config::{EncoderKind, SamConfig};
use crate::error::Result;
use crate::kernels::{on_cores, permute};
use crate::layers::{Adapted, AdaptedLayers, Linear, Scope};

/// An image encoder: `[b, bands, h, w]`, sides multiples of 16, to `[b, out_chans, h / 16, w / 16]`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one a model
pub enum Encoder {
    /// SAM's.
    Vit(ImageEncoder),
    /// MobileSAM's.
    TinyVit(TinyVit),
    /// EfficientNet-Lite0.
    Lite(EfficientNetLite),
}

impl Encoder {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(from: Scope<'_>, config: &SamConfig) -> Result<Self> {
        Ok(match &config.encoder {
            EncoderKind::Vit => Self::Vit(ImageEncoder::load(from, config)?),
            EncoderKind::TinyVit(stages) => Self::TinyVit(TinyVit::load(from, stages)?),
            EncoderKind::Lite => Self::Lite(EfficientNetLite::load(from)?),
        })
    }

    /// Normalised image `[b, bands, h, w]`, sides multiples of 16, to embedding `[b, out_chans, h / 16, w / 16]`.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let mut pass = self.start(image);
        while !pass.is_done() {
            pass = pass.advance();
        }
        pass.x
    }

    /// [`Encoder::forward`] layer by layer, for callers that pause between layers or look at what is between them.
    pub fn start(&self, image: Tensor<4>) -> Pass<'_> {
        self.resume(0, self.embed(image))
    }

    /// A [`Pass`] from layer `done` on, whose input is `x`.
    pub fn resume(&self, done: usize, x: Tensor<4>) -> Pass<'_> {
        Pass { encoder: self, done, x }
    }

    /// What goes into the first layer, channels last.
    pub fn embed(&self, image: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Vit(vit) => vit.embed(image),
            Self::TinyVit(vit) => vit.embed(image),
            Self::Lite(net) => net.embed(image),
        }
    }

    /// Layers between [`Encoder::embed`] and the neck.
    pub fn depth(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.blocks.len(),
            Self::TinyVit(vit) => vit.depth(),
            Self::Lite(net) => net.depth(),
        }
    }

    /// Layer `index`, below [`Encoder::depth`], of `[b, h, w, c]`.
    fn layer(&self, index: usize, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Vit(vit) => vit.blocks[index].forward(x),
            Self::TinyVit(vit) => vit.layer(index, x),
            Self::Lite(net) => net.layer(index, x),
        }
    }

    fn neck(&self) -> &Neck {
        match self {
            Self::Vit(vit) => &vit.neck,
            Self::TinyVit(vit) => &vit.neck,
            Self::Lite(net) => &net.neck,
        }
    }

    /// The linear layers that adapters are put beside, of each block that has some, first to last.
    pub fn blocks(&self) -> Vec<AdaptedLayers<&Adapted>> {
        match self {
            Self::Vit(vit) => vit.blocks.iter().map(|block| block.layers()).collect(),
            Self::TinyVit(vit) => vit.blocks().map(|block| block.layers()).collect(),
            Self::Lite(net) => net.layers(),
        }
    }

    /// [`Encoder::blocks`], to change them.
    pub fn blocks_mut(&mut self) -> Vec<AdaptedLayers<&mut Adapted>> {
        match self {
            Self::Vit(vit) => vit.blocks.iter_mut().map(|block| block.layers_mut()).collect(),
            Self::TinyVit(vit) => vit.blocks_mut().map(|block| block.layers_mut()).collect(),
            Self::Lite(net) => net.layers_mut(),
        }
    }

    /// Every linear layer, to change it: those of [`Encoder::blocks`] and all other 1x1 convolutions.
    pub fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Vit(vit) => {
                let layers = vit.blocks.iter_mut().flat_map(|block| block.layers_mut().all());
                layers.map(|layer| &mut layer.linear).collect()
            }
            Self::TinyVit(vit) => vit.linears_mut(),
            Self::Lite(net) => net.linears_mut(),
        }
    }
}

/// The one walk over the encoder's layers: its blocks, and then the neck.
///
/// ```text
/// let mut pass = encoder.start(image);
/// while !pass.is_done() {
///     pass = pass.advance(); // and whatever is to be done after each layer
/// }
/// let embedding = pass.x;
/// ```
pub struct Pass<'a> {
    encoder: &'a Encoder,
    /// Layers done.
    pub done: usize,
    /// What came out of the last layer done, channels last: `[b, h / 16, w / 16, embed_dim]` in a ViT; and of the neck
    /// `[b, out_chans, h / 16, w / 16]`.
    pub x: Tensor<4>,
}

impl Pass<'_> {
    /// Layers in all.
    pub fn layers(&self) -> usize {
        self.encoder.depth() + 1
    }

    /// Whether `x` is the embedding.
    pub fn is_done(&self) -> bool {
        self.done >= self.layers()
    }

    /// Computes the next layer.
    #[must_use]
    pub fn advance(self) -> Self {
        let Self { encoder, done, x } = self;
        let x = if done < encoder.depth() {
            on_cores(x, |x| encoder.layer(done, x))
        } else {
            on_cores(x, |x| permute(encoder.neck().forward(x), [0, 3, 1, 2]))
        };
        Self { encoder, done: done + 1, x }
    }
}
