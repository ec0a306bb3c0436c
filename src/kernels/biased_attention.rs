//! Softmax attention in windows with a learnt bias for each distance of query and key (`tiny_vit_sam.py`, `Attention`).

use burn::tensor::{Int, Tensor, TensorData, activation::softmax};

#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;
use super::layout::reshape;

/// Attention in square windows over an image: `softmax(q k^T / sqrt(d) + bias) v`, head by head.
pub struct BiasedAttention {
    /// Rows and columns of a window, in tokens.
    pub side: usize,
    /// Attention heads.
    pub heads: usize,
    /// Added to the scores, by the rows and columns that lie between query and key: `[heads, side, side]`.
    pub biases: Tensor<3>,
}

impl BiasedAttention {
    /// Attended values `[b, h, w, c]` of `qkv` `[b, h, w, 3 c]`, whose channels are `[heads, 3, c / heads]`: of each head its query, its
    /// key and its value. `beyond` `[3 c]` is what a token beyond the image's border has there: keys and values of whole windows take
    /// part in the softmax.
    pub fn forward(&self, qkv: Tensor<4>, beyond: Tensor<1>) -> Tensor<4> {
        #[cfg(feature = "cpu")]
        let shape = {
            let ([b, h, w, c], side) = (qkv.dims(), self.side);
            let scale = ((c / 3 / self.heads) as f32).powf(-0.5);
            cpu::AttentionShape { image: [b, h, w, c / 3], rows: side, columns: side, heads: self.heads, scale }
        };
        dispatch!(qkv, beyond, self.biases;
            gpu if qkv.dims()[3].is_multiple_of(12 * self.heads) => {
                gpu::biased_attention(qkv, gpu::values(beyond), gpu::values(self.biases.clone()))
            },
            autodiff => autodiff::biased_attention(shape, qkv, beyond, self.biases.clone()),
            cpu => {
                let products = cpu::Products { qkv: &qkv, beyond: &cpu::values(&beyond), order: cpu::Order::Heads };
                cpu::window_attention(shape, products, &cpu::Biases::new(&cpu::values(&self.biases)))
            },
            reference => self.reference(qkv, beyond))
    }

    /// [`BiasedAttention::forward`] in burn's own operations.
    pub fn reference(&self, qkv: Tensor<4>, beyond: Tensor<1>) -> Tensor<4> {
        let [b, h, w, c] = qkv.dims();
        let (side, heads, c) = (self.side, self.heads, c / 3);
        let (down, across) = (h.div_ceil(side), w.div_ceil(side));
        let (windows, tokens, dim) = (b * down * across, side * side, c / heads);
        let filled = |x: Tensor<4>, axis: usize, length: usize| {
            let mut shape = x.dims();
            shape[axis] = length - shape[axis];
            if shape[axis] == 0 { x } else { Tensor::cat(vec![x, beyond.clone().unsqueeze::<4>().expand(shape)], axis) }
        };
        let whole = filled(filled(qkv, 1, down * side), 2, across * side);
        // [3, windows, heads, tokens, dim]
        let parts = whole
            .reshape([b, down, side, across, side, 3 * c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([windows, tokens, heads, 3, dim])
            .permute([3, 0, 2, 1, 4]);
        let part = |i: usize| parts.clone().narrow(0, i, 1).reshape([windows, heads, tokens, dim]);
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) * (dim as f64).powf(-0.5) + self.by_query_and_key();
        softmax(scores, 3)
            .matmul(part(2))
            .permute([0, 2, 1, 3])
            .reshape([b, down, across, side, side, c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([b, down * side, across * side, c])
            .slice([0..b, 0..h, 0..w, 0..c])
    }

    /// The biases by query and key, `[1, heads, side^2, side^2]`.
    fn by_query_and_key(&self) -> Tensor<4> {
        let (side, heads) = (self.side, self.heads);
        let tokens = || (0..side).flat_map(|row| (0..side).map(move |column| (row, column)));
        let places: Vec<i32> = tokens()
            .flat_map(|(row, column)| tokens().map(move |(r, c)| (row.abs_diff(r) * side + column.abs_diff(c)) as i32))
            .collect();
        let count = places.len();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &self.biases.device());
        let pairs = reshape::<3, 2>(self.biases.clone(), [heads, side * side]).select(1, places);
        pairs.reshape([1, heads, side * side, side * side])
    }
}
