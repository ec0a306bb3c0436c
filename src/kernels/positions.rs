//! Random-frequency positional encodings (`PositionEmbeddingRandom`).

use burn::tensor::{Tensor, TensorData};

use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;

/// Sines, then cosines, of 2 pi times the products of `gaussian` `[2, c / 2]` with the centres of the cells of an `h` x `w` grid, x
/// and y in -1 to 1: `[h w, c]`.
pub fn dense_pe(gaussian: Tensor<2>, h: usize, w: usize) -> Tensor<2> {
    dispatch!(gaussian;
    gpu => gpu::dense_pe(&gaussian, h, w),
    reference => {
        let centre = |i: usize| [((i % w) as f32 + 0.5) / w as f32, ((i / w) as f32 + 0.5) / h as f32];
        positional_encoding(gaussian, (0..h * w).flat_map(centre).collect())
    })
}

/// The same of any points, pairs x and y in 0 to 1: `[n, c]`.
pub fn positional_encoding(gaussian: Tensor<2>, points: Vec<f32>) -> Tensor<2> {
    let n = points.len() / 2;
    let centred: Vec<f32> = points.into_iter().map(|c| 2.0 * c - 1.0).collect();
    let points = Tensor::<2>::from_data(TensorData::new(centred, [n, 2]), &gaussian.device());
    let angles = points.matmul(gaussian).mul_scalar(std::f64::consts::TAU);
    Tensor::cat(vec![angles.clone().sin(), angles.cos()], 1)
}
