//! All architecture numbers on one page.
//!
//! Sources: `build_sam.py` and the constructors of `segment-anything` 1.0 for `vit_b`, `vit_l` and `vit_h`; `build_sam.py` of SlimSAM
//! (Chen et al. 2024) and its checkpoints' `config.json` for `slimsam_77` and `slimsam_50`; `build_sam.py` of MobileSAM for `mobile_sam`;
//! `lite0` is EfficientNet-Lite0 under SAM's neck and decoder, this project's combination; `tiny` is the parity fixture's. Nothing
//! else in the crate asks for a backbone's name: a package's manifest carries these numbers.

mod lite;
mod tiny_vit;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

pub use lite::{LITE_BLOCKS, LITE_DIM, LITE_FIRST, LITE_NORM_EPS, LITE_STEM, LITE_TAPPED, LiteBlock};
pub use tiny_vit::{TinyVit, TinyVitStage};

/// Numbers of a SAM model: image encoder, prompt encoder and mask decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamConfig {
    /// Channels of an encoder token.
    pub embed_dim: usize,
    /// Encoder blocks.
    pub depth: usize,
    /// Attention heads of an encoder block.
    pub num_heads: usize,
    /// Hidden channels of an encoder block's MLP: in SAM itself `mlp_ratio * embed_dim`.
    pub mlp_dim: usize,
    /// Blocks (from 0) that attend over the whole image; all others attend in windows.
    pub global_attn_indexes: Vec<usize>,
    /// Side of an attention window, in patches.
    pub window_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Bands of the input image.
    pub in_chans: usize,
    /// Channels of the embedding, of the prompts and of the decoder.
    pub out_chans: usize,
    /// Side in pixels of the image that the position embeddings of the checkpoint are for.
    pub pretrained_size: usize,
    /// Layers of the decoder's two-way transformer.
    pub decoder_depth: usize,
    /// Attention heads of the decoder.
    pub decoder_heads: usize,
    /// Hidden channels of the decoder's MLP.
    pub decoder_mlp: usize,
    /// The decoder's cross-attention runs on `out_chans / attention_downsample` channels.
    pub attention_downsample: usize,
    /// Layers of the IoU head.
    pub iou_depth: usize,
    /// Hidden channels of the IoU head.
    pub iou_hidden: usize,
    /// Channels of the mask prompt's first convolution, times 4.
    pub mask_in_chans: usize,
    /// Mask tokens: one per class including background (index 0); 4 in SAM's own checkpoints.
    pub mask_tokens: usize,
    /// What kind of network the image encoder is. Of one with stages the numbers above are those of the last; its `depth` counts the
    /// blocks with attention of all of them, and no block attends over the whole image.
    #[serde(default, skip_serializing_if = "EncoderKind::is_vit")]
    pub encoder: EncoderKind,
}

/// Kinds of image encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderKind {
    /// SAM's vision transformer.
    #[default]
    Vit,
    /// A TinyViT, as MobileSAM has it.
    TinyVit(TinyVit),
    /// EfficientNet-Lite0, whose numbers are no choice.
    Lite,
}

impl EncoderKind {
    fn is_vit(&self) -> bool {
        *self == Self::Vit
    }
}

/// Sizes of an encoder block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize {
    /// Channels of a token.
    pub dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp: usize,
    /// Channels of the MLP's result: those of a token, but in EfficientNet-Lite0.
    pub outputs: usize,
}

/// A backbone with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backbone {
    /// One of the names in [`BACKBONES`], or `light_vit`.
    pub name: &'static str,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_dim: usize,
    global_attn_indexes: &'static [usize],
    window_size: usize,
    out_chans: usize,
    decoder_heads: usize,
    decoder_mlp: usize,
    iou_hidden: usize,
    pretrained_size: usize,
    encoder: EncoderKind,
    /// Input side in pixels that packages of this backbone use unless told otherwise: a multiple of the window's
    /// extent (window 14 x 16 px = 224, window 8 x 16 px = 128), so that no window is padded.
    pub input_size: usize,
    /// Side of the tile inside that input; the rest is halo.
    pub tile_size: usize,
}

/// One class of a mask. Index 0 is background.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The value of this class in a class mask, and its channel in the logits.
    pub index: u8,
    /// Its name, unique within a model.
    pub name: String,
    /// Its colour in pictures and legends, sRGB.
    pub color: [u8; 3],
    /// Confidence (0 to 1) below which a pixel of this class becomes background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
}

/// Per-band normalisation of pixels 0 to 255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divided by; positive.
    pub std: Vec<f32>,
}

impl Normalization {
    /// SAM's, for 8-bit RGB.
    pub fn rgb() -> Self {
        Self { mean: PIXEL_MEAN.to_vec(), std: PIXEL_STD.to_vec() }
    }
}

/// Every backbone that a model can be made with.
pub const BACKBONES: [Backbone; 8] = [
    Backbone {
        name: "vit_b",
        embed_dim: 768,
        depth: 12,
        num_heads: 12,
        mlp_dim: 3072,
        global_attn_indexes: &[2, 5, 8, 11],
        ..SAM
    },
    Backbone {
        name: "vit_l",
        embed_dim: 1024,
        depth: 24,
        num_heads: 16,
        mlp_dim: 4096,
        global_attn_indexes: &[5, 11, 17, 23],
        ..SAM
    },
    Backbone {
        name: "vit_h",
        embed_dim: 1280,
        depth: 32,
        num_heads: 16,
        mlp_dim: 5120,
        global_attn_indexes: &[7, 15, 23, 31],
        ..SAM
    },
    // Of every head of ViT-B 14 channels are left of 64, of its MLP 696 of 3072.
    Backbone {
        name: "slimsam_77",
        embed_dim: 168,
        depth: 12,
        num_heads: 12,
        mlp_dim: 696,
        global_attn_indexes: &[2, 5, 8, 11],
        ..SAM
    },
    Backbone {
        name: "slimsam_50",
        embed_dim: 384,
        depth: 12,
        num_heads: 12,
        mlp_dim: 1536,
        global_attn_indexes: &[2, 5, 8, 11],
        ..SAM
    },
    Backbone {
        name: "mobile_sam",
        embed_dim: 320,
        depth: 10,
        num_heads: 10,
        mlp_dim: 1280,
        encoder: EncoderKind::TinyVit(TinyVit {
            stem_dim: 64,
            stem_blocks: 2,
            stages: [
                TinyVitStage { dim: 128, blocks: 2, heads: 4, window: 7 },
                TinyVitStage { dim: 160, blocks: 6, heads: 5, window: 14 },
                TinyVitStage { dim: 320, blocks: 2, heads: 10, window: 7 },
            ],
        }),
        window_size: 7,
        ..SAM
    },
    Backbone {
        name: "lite0",
        embed_dim: LITE_DIM,
        depth: LITE_BLOCKS.len(),
        num_heads: 1,
        mlp_dim: 6 * 192,
        encoder: EncoderKind::Lite,
        window_size: 1,
        pretrained_size: 224,
        input_size: 384,
        ..SAM
    },
    Backbone {
        name: "tiny",
        embed_dim: 48,
        depth: 4,
        num_heads: 3,
        mlp_dim: 192,
        global_attn_indexes: &[1, 3],
        out_chans: 32,
        decoder_heads: 4,
        decoder_mlp: 64,
        iou_hidden: 32,
        input_size: 224,
        tile_size: 192,
        ..SAM
    },
];

/// The plain light ViT that earlier versions offered as `vit_t`, which is MobileSAM's name elsewhere. `lite0` is faster and better; models
/// that were made with this one load, train on and are exported as before.
const LIGHT_VIT: Backbone = Backbone {
    name: "light_vit",
    embed_dim: 192,
    depth: 12,
    num_heads: 3,
    mlp_dim: 768,
    global_attn_indexes: &[2, 5, 8, 11],
    window_size: 8,
    decoder_mlp: 512,
    pretrained_size: 384,
    input_size: 384,
    ..SAM
};

/// What SAM's published backbones share.
const SAM: Backbone = Backbone {
    name: "",
    embed_dim: 0,
    depth: 0,
    num_heads: 0,
    mlp_dim: 0,
    global_attn_indexes: &[],
    window_size: 14,
    out_chans: 256,
    decoder_heads: 8,
    decoder_mlp: 2048,
    iou_hidden: 256,
    pretrained_size: 1024,
    encoder: EncoderKind::Vit,
    input_size: 448,
    tile_size: 256,
};

/// Mean of each band of an RGB image, 0 to 255 (`build_sam.py`, `pixel_mean`).
pub const PIXEL_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// Standard deviation of each band of an RGB image, 0 to 255 (`build_sam.py`, `pixel_std`).
pub const PIXEL_STD: [f32; 3] = [58.395, 57.12, 57.375];
/// Epsilon of every layer norm of SAM except the decoder's transformer (`build_sam.py`, `norm_layer`; `common.py`).
pub const NORM_EPS: f64 = 1e-6;
/// Epsilon of the decoder transformer's layer norms (PyTorch's default, used by `transformer.py`). `SamModel` of Hugging Face's
/// `transformers` has 1e-6 there; SAM and SlimSAM were trained with this one.
pub const DECODER_NORM_EPS: f64 = 1e-5;
/// Epsilon of a TinyViT's layer norms and batch norms (PyTorch's default).
pub const TINY_VIT_NORM_EPS: f64 = 1e-5;

impl Backbone {
    /// The backbone called `name`, one of [`BACKBONES`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] with the known names.
    pub fn named(name: &str) -> Result<Self> {
        BACKBONES.into_iter().find(|b| b.name == name).ok_or_else(|| {
            let known: Vec<_> = BACKBONES.iter().map(|b| b.name).collect();
            let error = Error::new(ErrorKind::NotFound, format!("there is no backbone {name:?}"));
            match name {
                "vit_t" | "light_vit" => error.remedy(
                    "use lite0, which is faster and better than the light ViT that had this name, or mobile_sam, which is what others \
                     call vit_t; packages and runs made with the light ViT still load",
                ),
                _ => error.remedy(format!("known backbones: {}", known.join(", "))),
            }
        })
    }

    /// Every backbone whose numbers are recognized: [`BACKBONES`], and what earlier versions offered beside them.
    pub fn known() -> impl Iterator<Item = Self> {
        BACKBONES.into_iter().chain([LIGHT_VIT])
    }

    /// All its numbers, for a decoder of `mask_tokens` masks (classes including background; SAM itself has 4).
    pub fn config(&self, mask_tokens: usize) -> SamConfig {
        SamConfig {
            embed_dim: self.embed_dim,
            depth: self.depth,
            num_heads: self.num_heads,
            mlp_dim: self.mlp_dim,
            global_attn_indexes: self.global_attn_indexes.to_vec(),
            window_size: self.window_size,
            patch_size: 16,
            in_chans: 3,
            out_chans: self.out_chans,
            pretrained_size: self.pretrained_size,
            decoder_depth: 2,
            decoder_heads: self.decoder_heads,
            decoder_mlp: self.decoder_mlp,
            attention_downsample: 2,
            iou_depth: 3,
            iou_hidden: self.iou_hidden,
            mask_in_chans: 16,
            mask_tokens,
            encoder: self.encoder,
        }
    }
}

impl SamConfig {
    /// Channels of one encoder head.
    pub fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }

    /// Sizes of encoder block `block`.
    pub fn block(&self, block: usize) -> BlockSize {
        match self.encoder {
            EncoderKind::Vit => {
                let dim = self.embed_dim;
                BlockSize { dim, heads: self.num_heads, mlp: self.mlp_dim, outputs: dim }
            }
            EncoderKind::TinyVit(stages) => {
                let stage = stages.stages[stages.place(block).0];
                BlockSize { dim: stage.dim, heads: stage.heads, mlp: 4 * stage.dim, outputs: stage.dim }
            }
            EncoderKind::Lite => {
                let size = LITE_BLOCKS[block.min(LITE_BLOCKS.len() - 1)];
                BlockSize { dim: size.inputs, heads: 1, mlp: size.hidden(), outputs: size.outputs }
            }
        }
    }

    /// What the sides of an input are multiples of.
    pub fn input_step(&self) -> usize {
        match self.encoder {
            EncoderKind::Vit | EncoderKind::TinyVit(_) => self.patch_size,
            // Its last blocks see a thirty-second of the sides.
            EncoderKind::Lite => 32,
        }
    }

    /// How 8-bit RGB is normalised for an encoder that was trained on it.
    pub fn rgb_normalization(&self) -> Normalization {
        match self.encoder {
            EncoderKind::Vit | EncoderKind::TinyVit(_) => Normalization::rgb(),
            EncoderKind::Lite => Normalization { mean: vec![127.0; 3], std: vec![128.0; 3] },
        }
    }

    /// Side of the token grid that the checkpoint's position embeddings are for.
    pub fn pretrained_grid(&self) -> usize {
        self.pretrained_size / self.patch_size
    }

    /// The backbone these numbers belong to, if it is one of [`Backbone::known`].
    pub fn backbone(&self) -> Option<Backbone> {
        Backbone::known().find(|b| {
            let mut known = b.config(self.mask_tokens);
            known.in_chans = self.in_chans;
            known.pretrained_size = self.pretrained_size;
            known == *self
        })
    }

    /// The name of the backbone these numbers belong to, if it has one.
    pub fn backbone_name(&self) -> Option<&'static str> {
        self.backbone().map(|b| b.name)
    }

    /// Whether every width is a multiple of 4, as the kernels for GPUs have it. All published models are, but for the encoder's heads
    /// of SlimSAM-77, which do not count: they are filled up when the model is loaded ([`HeadPadding`](crate::layers::HeadPadding)).
    pub fn is_in_fours(&self) -> bool {
        let (out, inner) = (self.out_chans, self.out_chans / self.attention_downsample.max(1));
        let heads = [inner / self.decoder_heads.max(1), out / self.decoder_heads.max(1)];
        let widths = [self.embed_dim, self.mlp_dim, self.patch_size, out / 8, inner, self.decoder_mlp];
        let stages = match self.encoder {
            EncoderKind::Vit | EncoderKind::Lite => Vec::new(),
            EncoderKind::TinyVit(t) => {
                [t.stem_dim / 2].into_iter().chain(t.stages.iter().map(|s| s.dim / s.heads.max(1))).collect()
            }
        };
        heads.iter().chain(&widths).chain(&stages).all(|width| width.is_multiple_of(4))
    }

    /// Checks that the numbers fit together and stay within what any real model needs, so that a hostile manifest
    /// cannot ask for absurd amounts of memory.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the number.
    pub fn check(&self) -> Result<()> {
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Invalid, format!("{name} is {value}, expected {low} to {high}"))
                    .at("architecture"))
            }
        };
        range("embed_dim", self.embed_dim, 1, 4096)?;
        range("depth", self.depth, 1, 128)?;
        range("num_heads", self.num_heads, 1, 128)?;
        range("mlp_dim", self.mlp_dim, 1, 65_536)?;
        range("window_size", self.window_size, 1, 256)?;
        range("patch_size", self.patch_size, 1, 64)?;
        range("in_chans", self.in_chans, 1, 64)?;
        range("out_chans", self.out_chans, 8, 4096)?;
        range("pretrained_size", self.pretrained_size, self.patch_size, 8192)?;
        range("decoder_depth", self.decoder_depth, 1, 16)?;
        range("decoder_heads", self.decoder_heads, 1, 64)?;
        range("decoder_mlp", self.decoder_mlp, 1, 65_536)?;
        range("attention_downsample", self.attention_downsample, 1, 16)?;
        range("iou_depth", self.iou_depth, 1, 16)?;
        range("iou_hidden", self.iou_hidden, 1, 65_536)?;
        range("mask_in_chans", self.mask_in_chans, 4, 1024)?;
        // 255 stands for pixels without data in masks.
        range("mask_tokens", self.mask_tokens, 1, 255)?;
        let divides = |name: &str, whole: usize, part: usize| {
            if whole.is_multiple_of(part) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Invalid, format!("{name}: {whole} is not a multiple of {part}"))
                    .at("architecture"))
            }
        };
        divides("embed_dim / num_heads", self.embed_dim, self.num_heads)?;
        divides("pretrained_size / patch_size", self.pretrained_size, self.patch_size)?;
        divides("out_chans / 8", self.out_chans, 8)?;
        divides("mask_in_chans / 4", self.mask_in_chans, 4)?;
        divides("decoder channels / heads", self.out_chans, self.attention_downsample * self.decoder_heads)?;
        match self.encoder {
            EncoderKind::Vit => {}
            EncoderKind::TinyVit(stages) => stages.check(self)?,
            EncoderKind::Lite => lite::check(self)?,
        }
        match self.global_attn_indexes.iter().find(|&&i| i >= self.depth) {
            Some(i) => {
                Err(Error::new(ErrorKind::Invalid, format!("global block {i} of {} blocks", self.depth))
                    .at("architecture"))
            }
            None => Ok(()),
        }
    }
}
