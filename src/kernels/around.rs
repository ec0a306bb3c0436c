//! What is between the layers: shapes, copies, sums, resampling, positions, and reading back.

use burn::tensor::{Device, Tensor, TensorData};

#[cfg(feature = "gpu")]
use super::gpu;
use crate::error::{Error, ErrorKind, Result};

/// The matrix `[outputs, inputs]` as it is read fastest: its numbers in the order of `[inputs, outputs]`.
pub fn turned(matrix: Tensor<2>) -> Tensor<2> {
    let [outputs, inputs] = matrix.dims();
    #[cfg(feature = "gpu")]
    let matrix = match gpu::take(matrix) {
        Ok(matrix) => return gpu::wrap(gpu::permuted(gpu::permute(matrix, &[1, 0]), &[1, 0])),
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
    let [outer, length, _] = x.dims();
    if length == to {
        return x;
    }
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::resample(&x, to)),
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
    #[cfg(feature = "gpu")]
    let tokens = match gpu::take(tokens) {
        Ok(tokens) => return gpu::wrap(gpu::masks(&tokens, &gpu::values(places))),
        Err(tokens) => tokens,
    };
    tokens.matmul(places.swap_dims(1, 2))
}

/// Row `i` of each of `[b, n, c]`: `[b, 1, c]`.
pub fn rows(x: &Tensor<3>, i: usize) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x.clone()) {
        Ok(x) => return gpu::wrap(gpu::rows(&x, i)),
        Err(x) => x,
    };
    x.clone().slice_dim(1, i..i + 1)
}

/// `[b, 1, c]` each, at least one, next to each other: `[b, n, c]`.
pub fn stack(rows: Vec<Tensor<3>>) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    let rows = match gpu::take_all(rows) {
        Ok(rows) => return gpu::wrap(gpu::stack(rows)),
        Err(rows) => rows,
    };
    Tensor::cat(rows, 1)
}

/// The axes in another order, without moving a number.
pub fn permute<const D: usize>(x: Tensor<D>, axes: [usize; D]) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take_as_it_lies(x) {
        Ok(x) => return gpu::wrap(gpu::permuted(x, &axes)),
        Err(x) => x,
    };
    x.permute(axes.map(|axis| axis as isize))
}

/// `[1, n, c]` as often as there are images, `[b, n, c]`, without copying a number.
pub fn repeat(x: Tensor<3>, b: usize) -> Tensor<3> {
    let [_, n, c] = x.dims();
    #[cfg(feature = "gpu")]
    let x = match gpu::take_as_it_lies(x) {
        Ok(x) => return gpu::wrap(gpu::expanded(x, &[b, n, c])),
        Err(x) => x,
    };
    x.expand([b, n, c])
}

/// A single zero that stands for a matrix of this shape.
pub fn stand_in(shape: [usize; 2], device: &Device) -> Tensor<2> {
    let zero = upload(vec![0.0], [1, 1], device);
    #[cfg(feature = "gpu")]
    let zero = match gpu::take_as_it_lies(zero) {
        Ok(zero) => return gpu::wrap(gpu::expanded(zero, &shape)),
        Err(zero) => zero,
    };
    zero.expand(shape)
}

/// Numbers, row-major, as a tensor on `device` in its precision.
///
/// # Panics
/// If the shape has another number of them.
pub fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::runs_on(device) {
        return gpu::wrap(gpu::upload(values, &shape, device));
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The tensor's numbers in another shape.
///
/// # Panics
/// If that has another number of them.
pub fn reshape<const D: usize, const E: usize>(x: Tensor<D>, shape: [usize; E]) -> Tensor<E> {
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => return gpu::wrap(gpu::reshape(x, &shape)),
        Err(x) => x,
    };
    x.reshape(shape)
}

/// The tensor's numbers, row-major.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails.
pub async fn read<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    // Both ways would be part of the future, and burn's brings its kernels along.
    #[cfg(browser_gpu)]
    return gpu::read_floats(gpu::values(x)).await;
    #[cfg(not(browser_gpu))]
    {
        #[cfg(feature = "gpu")]
        let x = match gpu::take(x) {
            Ok(x) => return gpu::read_floats(x).await,
            Err(x) => x,
        };
        let data = x.into_data_async().await.map_err(unread)?;
        data.convert::<f32>().try_into_vec::<f32>().map_err(unread)
    }
}

/// The error of a device that does not give a result.
pub(super) fn unread(why: impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Device, "reading a result back failed").source(format!("{why:?}"))
}

/// Calls `work` with `x`: on the CPU from within the threads that compute, which would have to be called for each of its kernels
/// otherwise, a few per cent of a small network's time.
pub fn on_cores<const D: usize, R: Send>(x: Tensor<D>, work: impl FnOnce(Tensor<D>) -> R + Send) -> R {
    #[cfg(all(feature = "cpu", not(target_arch = "wasm32")))]
    if super::cpu::view(&x).is_some() {
        return rayon::scope(|_| work(x));
    }
    work(x)
}

/// Gives the GPU what it has been told to do so far to compute `x`; else several layers wait to be handed over together, and an abort
/// comes too late for them.
pub fn flush<const D: usize>(x: &Tensor<D>) {
    #[cfg(feature = "gpu")]
    if let Ok(x) = gpu::take_as_it_lies(x.clone()) {
        // What fails here fails again, and is reported, when the result is read.
        let _ = x.client.flush();
    }
    #[cfg(not(feature = "gpu"))]
    let _ = x;
}

/// Whether [`classify`] can do it for `logits`.
pub fn classifies(logits: &Tensor<4>) -> bool {
    #[cfg(feature = "gpu")]
    return logits.dims()[1] < 256 && gpu::take_as_it_lies(logits.clone()).is_ok();
    #[cfg(not(feature = "gpu"))]
    {
        let _ = logits;
        false
    }
}

/// Class and confidence (0 to 255) of each pixel of a part of the image, row by row, from logits `[1, classes, h, w]` resampled to
/// `side` x `side`: the part at `[top, left]` of `[rows, columns]`. On a GPU, so that nothing else is read back.
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
    let words = gpu::read(gpu::classify(gpu::values(logits), side, place, [rows, columns])).await?;
    let (classes, confidence) = gpu::masks_of_words(&words, rows, columns);
    if classes.contains(&u8::MAX) {
        return Err(Error::new(ErrorKind::Device, "a logit is not finite")
            .remedy("the weights or the GPU driver are at fault: try the CPU device"));
    }
    Ok((classes, confidence))
}
