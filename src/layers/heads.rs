//! Attention heads of a width that the kernels for GPUs do not read, filled up with zeros while a model is loaded.
//!
//! SlimSAM-77 has heads of 14 channels, and those kernels read four numbers at a time. So each head gets 16: rows of zeros behind its
//! own in the weight and in the bias of q, k and v, columns of zeros in the relative positions and in the projection's weight.
//! Products, attention and projection stay the same numbers; the softmax's scale stays that of the head's own width
//! ([`WindowAttention::scale`](crate::kernels::WindowAttention::scale)).

use burn::tensor::Device;

use crate::config::SamConfig;
use crate::kernels::has_gpu_kernels;
use crate::names::head_axis;

/// From a head's own width to the one that it has on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadPadding {
    dim: usize,
    wide: usize,
}

impl HeadPadding {
    /// What a model of `config` needs for inference on `device`; none where its kernels read heads of that width.
    pub fn of(config: &SamConfig, device: &Device) -> Option<Self> {
        let dim = config.head_dim();
        let fits = dim.is_multiple_of(4) || !has_gpu_kernels(device);
        (!fits).then(|| Self { dim, wide: dim.next_multiple_of(4) })
    }

    /// Channels of a head of a model of `config` that is loaded for inference on `device`.
    pub fn head_dim(config: &SamConfig, device: &Device) -> usize {
        Self::of(config, device).map_or(config.head_dim(), |padding| padding.wide)
    }

    /// The shape of SAM's tensor `name` with its heads filled up.
    pub fn shape(self, name: &str, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if let Some(side) = head_axis(name).and_then(|axis| shape.get_mut(axis)) {
            *side = *side / self.dim * self.wide;
        }
        shape
    }

    /// SAM's tensor `name` of `shape`, of which each row of its matrix has `row` elements, with its heads filled up.
    pub fn fill<T: Copy + Default>(self, name: &str, values: Vec<T>, row: usize) -> Vec<T> {
        match head_axis(name) {
            Some(0) => widened(&values, self.dim * row, self.wide * row),
            Some(_) => widened(&values, self.dim, self.wide),
            None => values,
        }
    }
}

/// Runs of `length` elements, each filled up with zeros to `wide`.
pub fn widened<T: Copy + Default>(values: &[T], length: usize, wide: usize) -> Vec<T> {
    let mut filled = vec![T::default(); values.len() / length * wide];
    for (to, from) in filled.chunks_exact_mut(wide).zip(values.chunks_exact(length)) {
        to[..length].copy_from_slice(from);
    }
    filled
}
