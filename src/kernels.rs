//! Fused operations, each with a plain form on any device and faster ones for the CPU and for GPUs.
//!
//! A faster form for the CPU takes tensors of burn's `flex` device, with gradients of its own where they are asked for. One for a
//! GPU takes untracked tensors of burn's wgpu device, once [`gpu::set_profile`] has turned it on. Everything else takes the plain
//! form, which is also what the tests compare with.

use burn::tensor::activation::{self, relu};
use burn::tensor::ops::{AttentionModuleOptions, PadMode};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData, module};

pub mod convolution;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "cpu")]
mod math;
pub mod packed;
#[cfg(all(feature = "cpu", feature = "train"))]
mod tracked;

use packed::Packed;

#[cfg(feature = "gpu")]
use crate::error::{Error, ErrorKind, Result};

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`: the decoder.
    Relu,
    /// `x / 2 (1 + erf(x / sqrt 2))`, exact: the encoder.
    Gelu,
}

/// The right factor of a product.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// `[inputs, outputs]`.
    Dense(Tensor<2>),
    /// Block-quantised, on a GPU.
    Packed(Packed),
}

/// Whether a model on `device` may have [`Matrix::Packed`].
pub fn multiplies_packed(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    return gpu::runs_on(device);
    #[cfg(not(feature = "gpu"))]
    {
        let _ = device;
        false
    }
}

/// What is done around a product: `activation((x + add) matrix + bias + residual)`.
#[derive(Clone, Debug)]
pub struct Ends<const D: usize> {
    /// Of x's shape, or with 1 in place of its first axis.
    pub add: Option<Tensor<D>>,
    /// `[outputs]`.
    pub bias: Option<Tensor<1>>,
    /// Of the result's shape, or with 1 in place of its first axis.
    pub residual: Option<Tensor<D>>,
    /// Last of all.
    pub activation: Activation,
}

impl<const D: usize> Default for Ends<D> {
    fn default() -> Self {
        Self { add: None, bias: None, residual: None, activation: Activation::None }
    }
}

/// `activation((x + add) matrix + bias + residual)`: x `[.., inputs]` to `[.., outputs]`.
pub fn linear<const D: usize>(x: Tensor<D>, matrix: Matrix, ends: Ends<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => {
            let matrix = match matrix {
                Matrix::Dense(matrix) => gpu::Matrix::Dense(gpu::values(matrix)),
                Matrix::Packed(packed) => packed.on_gpu(),
            };
            let mut product = gpu::Product::new(x, matrix);
            product.add = ends.add.map(gpu::values);
            product.bias = ends.bias.map(gpu::values);
            product.residual = ends.residual.map(gpu::values);
            product.activation = ends.activation;
            return gpu::wrap(product.run());
        }
        Err(x) => x,
    };
    let x = match ends.add {
        Some(add) => x + add,
        None => x,
    };
    let matrix = match matrix {
        Matrix::Dense(matrix) => matrix,
        Matrix::Packed(packed) => packed.unpacked(),
    };
    #[cfg(feature = "cpu")]
    if x.dims()[D - 1] == matrix.dims()[0] {
        let ends =
            cpu::TensorEnds { bias: ends.bias.clone(), residual: ends.residual.clone(), activation: ends.activation };
        if let Some(y) = cpu::fused(&x, &matrix, &ends, cpu::linear) {
            return y;
        }
        #[cfg(feature = "train")]
        if tracked::is_tracked(&x) || tracked::is_tracked(&matrix) {
            // The activation's gradient is its own, and so is that of a residual which every image of a batch gets.
            let fits = |residual: &Tensor<D>| residual.dims()[0] == x.dims()[0];
            let is_whole = ends.activation == Activation::None && ends.residual.as_ref().is_none_or(fits);
            let (bias, residual) = (ends.bias.as_ref(), ends.residual.as_ref());
            let (bias, residual) = if is_whole { (bias, residual) } else { (None, None) };
            if let Some(y) = tracked::linear(&x, &matrix, bias, residual) {
                return if is_whole { y } else { finish(y, ends.bias, ends.residual, ends.activation) };
            }
        }
    }
    finish(module::linear(x, matrix, None), ends.bias, ends.residual, ends.activation)
}

/// `activation(y + bias + residual)`.
pub fn finish<const D: usize>(
    y: Tensor<D>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    activation: Activation,
) -> Tensor<D> {
    let y = match (bias, &residual, activation) {
        (Some(bias), None, Activation::Gelu) => return bias_gelu(y, bias),
        (Some(bias), _, _) => y + bias.unsqueeze(),
        (None, _, _) => y,
    };
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
        Activation::Gelu => {
            let none = Tensor::zeros([y.dims()[D - 1]], &y.device());
            bias_gelu(y, none)
        }
    }
}

/// The matrix `[outputs, inputs]` as it is read fastest: its numbers in the order of `[inputs, outputs]`.
pub fn turned(matrix: Tensor<2>) -> Tensor<2> {
    let [outputs, inputs] = matrix.dims();
    #[cfg(feature = "gpu")]
    let matrix = match gpu::take(matrix) {
        Ok(matrix) => return gpu::wrap::<2>(gpu::permute(matrix, &[1, 0])).transpose(),
        Err(matrix) => matrix,
    };
    matrix.transpose().reshape([inputs * outputs]).reshape([inputs, outputs]).transpose()
}

/// `a + b`, b of a's shape or with 1 in place of leading axes.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let a = match gpu::take(a) {
        Ok(a) => return gpu::wrap(gpu::add(&a, &gpu::values(b))),
        Err(a) => a,
    };
    a + b
}

/// Rows `[m, c]` and then `[n, c]`: `[m + n, c]`.
pub fn concat(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    let a = match gpu::take(a) {
        Ok(a) => return gpu::wrap(gpu::concat(&a, &gpu::values(b))),
        Err(a) => a,
    };
    Tensor::cat(vec![a, b], 0)
}

/// Resamples the middle axis of `[outer, length, inner]` to `to`, bilinearly and without aligning corners:
/// `F.interpolate(mode="linear", align_corners=False)` of PyTorch.
pub fn resample(x: Tensor<3>, to: usize) -> Tensor<3> {
    let [outer, length, inner] = x.dims();
    if length == to {
        return x;
    }
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::resample(&x, [outer, length, inner], to)),
        Err(x) => x,
    };
    let matrix = resample_matrix(length, to, &x.device());
    matrix.unsqueeze::<3>().expand([outer, to, length]).matmul(x)
}

/// The matrix `[to, length]` of [`resample`].
pub fn resample_matrix(length: usize, to: usize, device: &Device) -> Tensor<2> {
    let mut matrix = vec![0.0f32; length * to];
    for (i, row) in matrix.chunks_exact_mut(length).enumerate() {
        let at = ((i as f64 + 0.5) * length as f64 / to as f64 - 0.5).max(0.0);
        let low = (at as usize).min(length - 1);
        let high = (low + 1).min(length - 1);
        let weight = at - low as f64;
        row[low] += (1.0 - weight) as f32;
        row[high] += weight as f32;
    }
    Tensor::from_data(TensorData::new(matrix, [to, length]), device)
}

/// Sines, then cosines, of 2 pi times the products of `gaussian` `[2, c / 2]` with the places of the cells of an `h` x `w` grid, x
/// and y in -1 to 1: `[h w, c]` (`PositionEmbeddingRandom`).
pub fn dense_pe(gaussian: Tensor<2>, h: usize, w: usize) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    let gaussian = match gpu::take(gaussian) {
        Ok(gaussian) => return gpu::wrap(gpu::dense_pe(&gaussian, h, w)),
        Err(gaussian) => gaussian,
    };
    let centres = (0..h * w).flat_map(|i| [((i % w) as f32 + 0.5) / w as f32, ((i / w) as f32 + 0.5) / h as f32]);
    positional_encoding(gaussian, centres.collect())
}

/// The same of any places, pairs x and y in 0 to 1: `[n, c]`.
pub fn positional_encoding(gaussian: Tensor<2>, places: Vec<f32>) -> Tensor<2> {
    let n = places.len() / 2;
    let centred: Vec<f32> = places.into_iter().map(|c| 2.0 * c - 1.0).collect();
    let places = Tensor::<2>::from_data(TensorData::new(centred, [n, 2]), &gaussian.device());
    let angles = places.matmul(gaussian).mul_scalar(std::f64::consts::TAU);
    Tensor::cat(vec![angles.clone().sin(), angles.cos()], 1)
}

/// Products of mask tokens `[b, n, c]` with places `[b, m, c]`: `[b, n, m]`.
pub fn masks(tokens: Tensor<3>, places: Tensor<3>) -> Tensor<3> {
    let ([b, n, c], [_, m, _]) = (tokens.dims(), places.dims());
    #[cfg(feature = "gpu")]
    if b == 1 {
        match gpu::take(tokens) {
            Ok(tokens) => {
                let places = gpu::reshape(gpu::values(places), &[m, c]);
                let masks = gpu::masks(&gpu::reshape(tokens, &[n, c]), &places);
                return gpu::wrap(gpu::reshape(masks, &[1, n, m]));
            }
            Err(tokens) => return tokens.matmul(places.swap_dims(1, 2)),
        }
    }
    tokens.matmul(places.swap_dims(1, 2))
}

/// Row `i` of each of `[b, n, c]`: `[b, 1, c]`.
pub fn rows(x: &Tensor<3>, i: usize) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    if let ([1, _, c], Ok(x)) = (x.dims(), gpu::take(x.clone())) {
        return gpu::wrap(gpu::row(x, i, c));
    }
    x.clone().slice_dim(1, i..i + 1)
}

/// `[b, 1, c]` each, one after the other: `[b, n, c]`.
pub fn stack(rows: Vec<Tensor<3>>) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    if let Some([1, _, c]) = rows.first().map(Tensor::dims)
        && rows.iter().all(|row| gpu::take(row.clone()).is_ok())
    {
        let n = rows.len();
        let joined = rows.into_iter().map(|row| gpu::reshape(gpu::values(row), &[1, c]));
        let joined = joined.reduce(|all, row| gpu::concat(&all, &row));
        return gpu::wrap(gpu::reshape(joined.unwrap_or_else(|| unreachable!("there is a first row")), &[1, n, c]));
    }
    Tensor::cat(rows, 1)
}

/// Class and confidence (0 to 255) of each pixel of a part of the image, from logits `[1, classes, h, w]` resampled to `side` x `side`:
/// the part at `[top, left]` of `[rows, columns]`, row by row. Where a GPU can do it, nothing else is read back; at most 255 classes.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails or a logit is not finite.
#[cfg(feature = "gpu")]
pub async fn classify(
    logits: Tensor<4>,
    side: usize,
    place: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Result<(Vec<u8>, Vec<u8>)> {
    let words = gpu::classify(gpu::values(logits), side, place, [rows, columns]);
    let words = Tensor::<2, Int>::from_primitive::<burn_wgpu::CubeBackend>(words);
    let failed = |why: String| Error::new(ErrorKind::Device, "reading the result back failed").source(why);
    let data = words.into_data_async().await.map_err(|e| failed(format!("{e:?}")))?;
    let (confidence, classes) = gpu::bytes_of_words(data.as_bytes(), rows, columns);
    if classes.contains(&u8::MAX) {
        return Err(Error::new(ErrorKind::Device, "a logit is not finite")
            .remedy("the weights or the GPU driver are at fault: try the CPU device"));
    }
    Ok((classes, confidence))
}

/// `gelu(x + bias)` with the exact (error function) GELU: x `[.., n]`, bias `[n]`.
pub fn bias_gelu<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    #[cfg(all(feature = "cpu", feature = "train"))]
    if tracked::is_tracked(&x) || tracked::is_tracked(&bias) {
        return tracked::bias_gelu(x, bias);
    }
    #[cfg(feature = "cpu")]
    let x = match cpu::take(x) {
        Ok(x) => return cpu::wrap(cpu::bias_gelu(x, &cpu::values(&bias))),
        Err(x) => x,
    };
    let x = x + bias.unsqueeze();
    if x.is_autodiff() {
        // The same function, but with its own gradient: burn's is that of the tanh approximation.
        return x.clone() * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
    }
    activation::gelu(x)
}

/// Layer norm over the last axis: x `[.., n]`, weight and bias `[n]`.
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::layer_norm(x, gpu::values(weight), gpu::values(bias), epsilon, false)),
        Err(x) => x,
    };
    #[cfg(all(feature = "cpu", feature = "train"))]
    if tracked::is_tracked(&x) || tracked::is_tracked(&weight) || tracked::is_tracked(&bias) {
        return tracked::layer_norm(x, weight, bias, epsilon);
    }
    if x.dtype() == DType::F16 {
        // Squares of activations beyond 256 are beyond what 16 bits hold.
        let wide = |v: Tensor<1>| v.cast(FloatDType::F32);
        let norm = module::layer_norm(x.cast(FloatDType::F32), wide(weight), Some(wide(bias)), epsilon);
        return norm.cast(FloatDType::F16);
    }
    #[cfg(feature = "cpu")]
    if let (Some(x), Some(weight), Some(bias)) = (cpu::view(&x), cpu::view(&weight), cpu::view(&bias)) {
        let parameters = [&weight.to_contiguous(), &bias.to_contiguous()];
        return cpu::wrap(cpu::layer_norm(&x.to_contiguous(), parameters, epsilon, Activation::None));
    }
    module::layer_norm(x, weight, Some(bias), epsilon)
}

/// GELU of [`layer_norm`].
pub fn norm_gelu<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::layer_norm(x, gpu::values(weight), gpu::values(bias), epsilon, true)),
        Err(x) => x,
    };
    #[cfg(feature = "cpu")]
    if let (Some(x), Some(weight), Some(bias)) = (cpu::view(&x), cpu::view(&weight), cpu::view(&bias)) {
        let parameters = [&weight.to_contiguous(), &bias.to_contiguous()];
        return cpu::wrap(cpu::layer_norm(&x.to_contiguous(), parameters, epsilon, Activation::Gelu));
    }
    finish(layer_norm(x, weight, bias, epsilon), None, None, Activation::Gelu)
}

/// Softmax attention of queries `[b, n, c]` to keys and values `[b, m, c]` in `heads` of equal width: `[b, n, c]`.
pub fn cross_attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, heads: usize) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    let q = match gpu::take(q) {
        Ok(q) => return gpu::wrap(gpu::cross_attention(q, gpu::values(k), gpu::values(v), heads)),
        Err(q) => q,
    };
    let [b, n, c] = q.dims();
    let split = |x: Tensor<3>| {
        let [b, n, c] = x.dims();
        x.reshape([b, n, heads, c / heads]).swap_dims(1, 2)
    };
    let y = module::attention(split(q), split(k), split(v), None, None, AttentionModuleOptions::default());
    y.swap_dims(1, 2).reshape([b, n, c])
}

/// Attention in windows over an image, with SAM's decomposed relative positions.
pub struct WindowAttention {
    /// Rows of a window, in tokens.
    pub rows: usize,
    /// Columns of a window, in tokens.
    pub columns: usize,
    /// Attention heads.
    pub heads: usize,
    /// Relative positions along the height, of keys `rows - 1` below the query to as many above it: `[2 * rows - 1, head_dim]`.
    pub rel_pos_h: Tensor<2>,
    /// The same along the width: `[2 * columns - 1, head_dim]`.
    pub rel_pos_w: Tensor<2>,
}

impl WindowAttention {
    /// Products with the qkv weight, `[b, h, w, 3 c]` (thirds q, k, v, heads within), without their bias `[3 c]`, to
    /// attended values `[b, h, w, c]`.
    ///
    /// The reference pads the image with zero tokens to whole windows before the product. A padded token's q, k and v are
    /// the bias alone, so here padding comes after the product and the bias after padding. Padded keys take part in the
    /// softmax as they do in the reference; padded queries' results are left out.
    pub fn forward(&self, qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        #[cfg(feature = "cpu")]
        let shape = {
            let [b, h, w, c] = qkv.dims();
            let (rows, columns, heads) = (self.rows, self.columns, self.heads);
            cpu::AttentionShape { image: [b, h, w, c / 3], rows, columns, heads }
        };
        #[cfg(all(feature = "cpu", feature = "train"))]
        if tracked::is_tracked(&qkv) || tracked::is_tracked(&bias) || tracked::is_tracked(&self.rel_pos_h) {
            let pairs = |positions: &Tensor<2>, side| by_query_and_key(positions.clone(), side);
            let rel = [pairs(&self.rel_pos_h, self.rows), pairs(&self.rel_pos_w, self.columns)];
            return tracked::window_attention(shape, qkv, bias, rel);
        }
        #[cfg(feature = "cpu")]
        let qkv = match cpu::take(qkv) {
            Ok(qkv) => {
                let tables = [cpu::values(&self.rel_pos_h), cpu::values(&self.rel_pos_w)];
                let positions = cpu::Positions::of_tables(tables.each_ref());
                return cpu::wrap(cpu::window_attention(shape, &qkv, &cpu::values(&bias), &positions));
            }
            Err(qkv) => qkv,
        };
        self.plain(qkv, bias)
    }

    /// Whether [`WindowAttention::forward_with_bias`] is the faster one for `x`.
    pub fn takes_bias(&self, x: &Tensor<4>) -> bool {
        #[cfg(feature = "gpu")]
        return gpu::take(x.clone()).is_ok();
        #[cfg(not(feature = "gpu"))]
        {
            let _ = x;
            false
        }
    }

    /// [`WindowAttention::forward`] of products that have their bias already; padded tokens still need it.
    pub fn forward_with_bias(&self, qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        #[cfg(feature = "gpu")]
        let qkv = match gpu::take(qkv) {
            Ok(qkv) => {
                let positions = [self.rel_pos_h.clone(), self.rel_pos_w.clone()].map(gpu::values);
                let window = [self.rows, self.columns];
                return gpu::wrap(gpu::window_attention(qkv, gpu::values(bias), window, self.heads, positions));
            }
            Err(qkv) => qkv,
        };
        self.forward(qkv - bias.clone().unsqueeze(), bias)
    }

    /// [`WindowAttention::forward`] in burn's own operations.
    pub fn plain(&self, mut qkv: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
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
        let place = one_hot_grid(rows, columns, &device).unsqueeze::<4>();
        let place = place.expand([windows, heads, tokens, rows + columns]);
        let q = Tensor::cat(vec![q * (dim as f64).powf(-0.5), rel_h, rel_w], 3);
        let k = Tensor::cat(vec![k, place], 3);
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
