//! Bilinear resampling along one axis.

use burn::tensor::{Device, Tensor, TensorData};

use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;

/// Resamples the middle axis of `[outer, length, inner]` to `to`, bilinearly and without aligning corners:
/// `F.interpolate(mode="linear", align_corners=False)` of PyTorch.
pub fn resample(x: Tensor<3>, to: usize) -> Tensor<3> {
    let [outer, length, _] = x.dims();
    if length == to {
        return x;
    }
    dispatch!(x;
    gpu => gpu::resample(&x, to),
    reference => {
        let matrix = resample_matrix(length, to, &x.device());
        matrix.unsqueeze::<3>().expand([outer, to, length]).matmul(x)
    })
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
