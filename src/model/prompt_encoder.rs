//! SAM's prompt encoder: points, boxes and masks to embeddings, and the dense positional encoding
//! (`prompt_encoder.py`).

use burn::module::{Module, Param};
use burn::tensor::activation::gelu;
use burn::tensor::{Tensor, module};

use super::common::LayerNorm;
use crate::config::NORM_EPS;
use crate::error::Result;
use crate::kernels::convolution::patches;
use crate::kernels::{dense_pe, positional_encoding, reshape};
use crate::layers::Scope;

/// A point in pixels of the input image, x to the right and y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
    /// On the object (label 1) or off it (label 0).
    pub foreground: bool,
}

/// What the user points at; SamLoRA's class masks use none of it.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// Any number of points.
    pub points: Vec<Point>,
    /// `[x_min, y_min, x_max, y_max]` in pixels of the input image.
    pub bounding_box: Option<[f32; 4]>,
}

/// The prompt encoder.
#[derive(Module, Debug)]
pub struct PromptEncoder {
    /// Frequencies of the positional encoding, `[2, out_chans / 2]`.
    pub gaussian_matrix: Param<Tensor<2>>,
    /// Background point, foreground point, box's first corner, box's second corner: `[1, out_chans]` each.
    pub point_embeddings: Vec<Param<Tensor<2>>>,
    /// `[1, out_chans]`.
    pub not_a_point_embed: Param<Tensor<2>>,
    /// `[1, out_chans]`; the dense prompt where there is no mask.
    pub no_mask_embed: Param<Tensor<2>>,
    /// For a mask prompt.
    pub mask_downscaling: MaskDownscaling,
}

impl PromptEncoder {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            gaussian_matrix: from.take("gaussian_matrix")?,
            point_embeddings: (0..4).map(|i| from.take(&format!("point_embeddings.{i}"))).collect::<Result<_>>()?,
            not_a_point_embed: from.take("not_a_point_embed")?,
            no_mask_embed: from.take("no_mask_embed")?,
            mask_downscaling: MaskDownscaling::load(from.scope("mask_downscaling"))?,
        })
    }

    /// Positional encoding of every cell of an `h` x `w` grid: `[1, out_chans, h, w]`.
    pub fn dense_pe(&self, h: usize, w: usize) -> Tensor<4> {
        let pe = self.grid_pe(h, w);
        let [_, _, c] = pe.dims();
        pe.reshape([1, h, w, c]).permute([0, 3, 1, 2])
    }

    /// [`PromptEncoder::dense_pe`] with channels last, `[1, h w, out_chans]`.
    pub fn grid_pe(&self, h: usize, w: usize) -> Tensor<3> {
        let pe = dense_pe(self.gaussian_matrix.val(), h, w);
        let [n, c] = pe.dims();
        reshape(pe, [1, n, c])
    }

    /// Embeddings of points and box: `[1, n, out_chans]`, n = points + 1 padding point without a box, + 2 with one;
    /// n = 0 without prompts is not representable, so that case is none.
    ///
    /// `height` and `width` are the input image's, in pixels.
    pub fn sparse(&self, prompt: &Prompt, height: usize, width: usize) -> Option<Tensor<3>> {
        // One entry each: coordinates and which learned embedding is added; none stands for "not a point".
        let mut places: Vec<([f32; 2], Option<usize>)> =
            prompt.points.iter().map(|p| ([p.x, p.y], Some(usize::from(p.foreground)))).collect();
        match prompt.bounding_box {
            Some([x0, y0, x1, y1]) => places.extend([([x0, y0], Some(2)), ([x1, y1], Some(3))]),
            None if places.is_empty() => return None,
            None => places.push(([0.0, 0.0], None)),
        }
        let coordinates =
            places.iter().flat_map(|([x, y], _)| [(x + 0.5) / width as f32, (y + 0.5) / height as f32]).collect();
        let pe = positional_encoding(self.gaussian_matrix.val(), coordinates);
        let rows = places.iter().enumerate().map(|(i, (_, kind))| match kind {
            Some(kind) => pe.clone().slice_dim(0, i..i + 1) + self.point_embeddings[*kind].val(),
            None => self.not_a_point_embed.val(),
        });
        Some(Tensor::cat(rows.collect(), 0).unsqueeze())
    }

    /// The dense prompt of an `h` x `w` grid, `[1, out_chans, h, w]`: of `mask` `[1, 1, 4 h, 4 w]` if there is one.
    pub fn dense(&self, mask: Option<Tensor<4>>, h: usize, w: usize) -> Tensor<4> {
        match mask {
            Some(mask) => self.mask_downscaling.forward(mask),
            None => {
                let embed = self.no_mask_embed.val();
                let [_, c] = embed.dims();
                embed.reshape([1, c, 1, 1]).expand([1, c, h, w])
            }
        }
    }
}

/// Three convolutions that bring a mask prompt to the embedding's grid (`mask_downscaling`).
#[derive(Module, Debug)]
pub struct MaskDownscaling {
    convolutions: Vec<Param<Tensor<4>>>,
    biases: Vec<Param<Tensor<1>>>,
    norms: Vec<LayerNorm>,
}

impl MaskDownscaling {
    fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            convolutions: (0..3).map(|i| from.take(&format!("convolutions.{i}"))).collect::<Result<_>>()?,
            biases: (0..3).map(|i| from.take(&format!("biases.{i}"))).collect::<Result<_>>()?,
            norms: (0..2)
                .map(|i| LayerNorm::load(from.scope(format_args!("norms.{i}")), NORM_EPS))
                .collect::<Result<_>>()?,
        })
    }

    /// `[b, 1, 4 h, 4 w]` to `[b, out_chans, h, w]`.
    fn forward(&self, mask: Tensor<4>) -> Tensor<4> {
        let mut x = mask.permute([0, 2, 3, 1]);
        for (i, (weight, bias)) in self.convolutions.iter().zip(&self.biases).enumerate() {
            let [out, channels, kernel, _] = weight.dims();
            let weight = weight.val().reshape([out, channels * kernel * kernel]).transpose();
            x = module::linear(patches(x, kernel), weight, Some(bias.val()));
            if let Some(norm) = self.norms.get(i) {
                x = gelu(norm.forward(x));
            }
        }
        x.permute([0, 3, 1, 2])
    }
}
