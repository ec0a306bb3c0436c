//! What follows every image encoder (`image_encoder.py`, `self.neck`).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::common::LayerNorm;
use crate::config::NORM_EPS;
use crate::error::Result;
use crate::kernels::convolution::{column_major_kernel, conv3x3};
use crate::kernels::{Epilogue, Matrix, linear, permute, reshape};
use crate::layers::Scope;

/// 1x1 convolution, layer norm, 3x3 convolution, layer norm.
#[derive(Module, Debug)]
pub struct Neck {
    /// `neck.0`, `[out_chans, embed_dim, 1, 1]`.
    pub conv1: Param<Tensor<4>>,
    /// `neck.1`.
    pub norm1: LayerNorm,
    /// `neck.2`, `[out_chans, out_chans, 3, 3]`.
    pub conv2: Param<Tensor<4>>,
    /// `neck.3`.
    pub norm2: LayerNorm,
}

impl Neck {
    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv1: from.take("conv1")?,
            norm1: LayerNorm::load(from.scope("norm1"), NORM_EPS)?,
            conv2: Param::from_tensor(column_major_kernel(from.take("conv2")?.val())),
            norm2: LayerNorm::load(from.scope("norm2"), NORM_EPS)?,
        })
    }

    /// `[b, h, w, embed_dim]` to `[b, h, w, out_chans]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [out, dim, _, _] = self.conv1.dims();
        let x = linear(x, Matrix::Dense(permute(reshape(self.conv1.val(), [out, dim]), [1, 0])), Epilogue::default());
        self.norm2.forward(conv3x3(self.norm1.forward(x), self.conv2.val()))
    }
}
