//! Softmax attention: in windows with SAM's relative positions, and between tokens and image.

use burn::tensor::ops::{AttentionModuleOptions, PadMode};
use burn::tensor::{Device, Int, Tensor, TensorData, module};

#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::{dispatch, is_on_gpu};
#[cfg(feature = "gpu")]
use super::gpu;

/// Softmax attention of queries `[b, n, c]` to keys and values `[b, m, c]` in `heads` of equal width: `[b, n, c]`.
pub fn cross_attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize) -> Tensor<3> {
    dispatch!(q, k, v;
    gpu => gpu::cross_attention(q, gpu::values(k), gpu::values(v), heads),
    reference => {
        let [b, n, c] = q.dims();
        let split = |x: Tensor<3>| {
            let [b, n, c] = x.dims();
            x.reshape([b, n, heads, c / heads]).swap_dims(1, 2)
        };
        let y = module::attention(split(q), split(k), split(v), None, None, AttentionModuleOptions::default());
        y.swap_dims(1, 2).reshape([b, n, c])
    })
}

/// Attention in windows over an image, with SAM's decomposed relative positions.
pub struct WindowAttention {
    /// Rows of a window, in tokens.
    pub rows: usize,
    /// Columns of a window, in tokens.
    pub columns: usize,
    /// Attention heads.
    pub heads: usize,
    /// What products of queries with keys are multiplied by: `head_dim^-0.5`, with the channels that a head has in its checkpoint. It may
    /// have more here, all of them zero.
    pub scale: f64,
    /// Relative positions along the height, of keys `rows - 1` below the query to as many above it: `[2 * rows - 1, head_dim]`.
    pub rel_pos_h: Tensor<2>,
    /// The same along the width: `[2 * columns - 1, head_dim]`.
    pub rel_pos_w: Tensor<2>,
}

impl WindowAttention {
    /// Tokens `[b, h, w, c]` to attended values `[b, h, w, c]`. `project` gives their products with the qkv weight, `[b, h, w, 3 c]`
    /// (thirds q, k, v, heads within), plus the bias that it is handed: the weight's own bias `[3 c]` where that is free within the
    /// product, none where attention adds it while it reads.
    ///
    /// The reference pads the image with zero tokens to whole windows before the product. A padded token's q, k and v are
    /// the bias alone, so here padding comes after the product and the bias after padding. Padded keys take part in the
    /// softmax as they do in the reference; padded queries' results are left out.
    pub fn forward(
        &self,
        x: Tensor<4>,
        bias: Tensor<1>,
        project: impl FnOnce(Tensor<4>, Option<Tensor<1>>) -> Tensor<4>,
    ) -> Tensor<4> {
        if is_on_gpu(&x) {
            return self.of_biased(project(x, Some(bias.clone())), bias);
        }
        self.of_products(project(x, None), bias)
    }

    /// Attention of products that have their bias already, which padded tokens still need.
    fn of_biased(&self, qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        dispatch!(qkv, bias, self.rel_pos_h, self.rel_pos_w;
            // Heads of other widths were not filled up where the model is for training.
            gpu if self.rel_pos_h.dims()[1].is_multiple_of(4) => {
                let positions = [self.rel_pos_h.clone(), self.rel_pos_w.clone()].map(gpu::values);
                gpu::window_attention(qkv, gpu::values(bias), [self.rows, self.columns], (self.heads, self.scale), positions)
            },
            // What learns on a GPU carries a graph only after the first adapter.
            reference => self.of_products(qkv - bias.clone().unsqueeze(), bias))
    }

    /// Attention of products without their bias.
    fn of_products(&self, qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        #[cfg(feature = "cpu")]
        let shape = {
            let [b, h, w, c] = qkv.dims();
            let (rows, columns, heads) = (self.rows, self.columns, self.heads);
            cpu::AttentionShape { image: [b, h, w, c / 3], rows, columns, heads, scale: self.scale as f32 }
        };
        dispatch!(qkv, bias, self.rel_pos_h, self.rel_pos_w;
            autodiff => {
                autodiff::window_attention(shape, qkv, bias, [self.rel_pos_h.clone(), self.rel_pos_w.clone()])
            },
            cpu => {
                let tables = [cpu::values(&self.rel_pos_h), cpu::values(&self.rel_pos_w)];
                let positions = cpu::Positions::of_tables(tables.each_ref());
                let products = cpu::Products { qkv: &qkv, beyond: &cpu::values(&bias), order: cpu::Order::Thirds };
                cpu::window_attention(shape, products, &positions)
            },
            reference => self.reference(qkv, bias))
    }

    /// The reference: attention of products without their bias, `[b, h, w, 3 c]`, in burn's own operations.
    pub fn reference(&self, mut qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        let [b, h, w, c] = qkv.dims();
        let (rows, columns, heads, c) = (self.rows, self.columns, self.heads, c / 3);
        let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
        let (windows, tokens) = (b * down * across, rows * columns);
        if (down * rows, across * columns) != (h, w) {
            qkv = qkv.pad([(0, down * rows - h), (0, across * columns - w), (0, 0)], PadMode::Constant(0.0));
        }
        // [windows, heads, tokens, head_dim] each
        let qkv = (qkv + bias.unsqueeze())
            .reshape([b, down, rows, across, columns, 3 * c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([windows, tokens, 3, heads, c / heads])
            .permute([2, 0, 3, 1, 4]);
        let part = |i: usize| qkv.clone().narrow(0, i, 1).reshape([windows, heads, tokens, c / heads]);
        self.attend(part(0), part(1), part(2))
            .permute([0, 2, 1, 3])
            .reshape([b, down, across, rows, columns, c])
            .permute([0, 1, 3, 2, 4, 5])
            .reshape([b, down * rows, across * columns, c])
            .slice([0..b, 0..h, 0..w, 0..c])
    }

    /// Softmax attention; q, k, v and result `[windows, heads, tokens, head_dim]`.
    ///
    /// The reference adds `rel_h[q, row of k] + rel_w[q, column of k]` to the scores:
    /// `softmax(q k^T / sqrt(d) + rel_h[.., :, None] + rel_w[.., None, :]) v`. The same sum comes out of a longer
    /// product, `[q / sqrt(d) | rel_h | rel_w] [k | row of k, one-hot | column of k, one-hot]^T`, so that no bias of
    /// size tokens x tokens is ever built.
    fn attend(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
        let (rows, columns) = (self.rows, self.columns);
        let [windows, heads, tokens, dim] = q.dims();
        let device = q.device();
        let grid = q.clone().reshape([windows * heads, rows, columns, dim]);
        // rel_h = einsum("bhwc,hkc->bhwk"), rel_w = einsum("bhwc,wkc->bhwk"), with the unscaled q
        let rel_h = by_query_and_key(self.rel_pos_h.clone(), rows);
        let rel_w = by_query_and_key(self.rel_pos_w.clone(), columns);
        let rel_h = grid.clone().matmul(rel_h.swap_dims(1, 2).unsqueeze());
        let rel_w = grid.swap_dims(1, 2).matmul(rel_w.swap_dims(1, 2).unsqueeze()).swap_dims(1, 2);
        let rel_h = rel_h.reshape([windows, heads, tokens, rows]);
        let rel_w = rel_w.reshape([windows, heads, tokens, columns]);
        let one_hot = one_hot_grid(rows, columns, &device).unsqueeze::<4>();
        let one_hot = one_hot.expand([windows, heads, tokens, rows + columns]);
        let q = Tensor::cat(vec![q * self.scale, rel_h, rel_w], 3);
        let k = Tensor::cat(vec![k, one_hot], 3);
        let options = AttentionModuleOptions { scale: Some(1.0), ..Default::default() };
        let rows = (SCORES_AT_ONCE / (windows * heads * tokens)).clamp(1, tokens);
        if rows == tokens {
            return module::attention(q, k, v, None, None, options);
        }
        let runs = q.split(rows, 2).into_iter();
        Tensor::cat(runs.map(|q| module::attention(q, k.clone(), v.clone(), None, None, options)).collect(), 2)
    }
}

/// Most attention scores that exist at once. Devices without a fused kernel write them out, and WebGPU's default limit for
/// one binding is 128 MiB: 2^24 scores of 4 bytes are half of it. (ViT-B's global blocks have 12 x 2^24 at 1024 px.)
const SCORES_AT_ONCE: usize = 1 << 24;

/// Row and column of each token of a grid, one-hot: `[rows * columns, rows + columns]`.
fn one_hot_grid(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0f32; rows * columns * (rows + columns)];
    for (token, line) in values.chunks_exact_mut(rows + columns).enumerate() {
        line[token / columns] = 1.0;
        line[rows + token % columns] = 1.0;
    }
    Tensor::from_data(TensorData::new(values, [rows * columns, rows + columns]), device)
}

/// Relative positions `[2 * side - 1, d]` by coordinate of query and key, `[side, side, d]` (`get_rel_pos`).
pub fn by_query_and_key(positions: Tensor<2>, side: usize) -> Tensor<3> {
    let [_, dim] = positions.dims();
    let indices: Vec<i32> = (0..side).flat_map(|q| (0..side).map(move |k| (q + side - 1 - k) as i32)).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [side * side]), &positions.device());
    positions.select(0, indices).reshape([side, side, dim])
}
