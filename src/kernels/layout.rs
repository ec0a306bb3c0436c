//! Shapes, strides and copies: nothing here computes a number.

use burn::tensor::Tensor;

use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;

/// The matrix `[outputs, inputs]` in column-major order, so that products read its transpose `[inputs, outputs]` row by row.
pub fn column_major(matrix: Tensor<2>) -> Tensor<2> {
    let [outputs, inputs] = matrix.dims();
    dispatch!(matrix;
        gpu => gpu::permuted(gpu::permute(matrix, &[1, 0]), &[1, 0]),
        reference => matrix.transpose().reshape([inputs * outputs]).reshape([inputs, outputs]).transpose())
}

/// Rows `[m, c]` and then `[n, c]`: `[m + n, c]`.
pub fn concat(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    dispatch!(a, b;
        gpu => gpu::concat(&a, &gpu::values(b)),
        reference => Tensor::cat(vec![a, b], 0))
}

/// Row `i` of each of `[b, n, c]`: `[b, 1, c]`.
pub fn rows(x: &Tensor<3>, i: usize) -> Tensor<3> {
    let x = x.clone();
    dispatch!(x;
        gpu => gpu::rows(&x, i),
        reference => x.slice_dim(1, i..i + 1))
}

/// `[b, 1, c]` each, at least one, next to each other: `[b, n, c]`.
pub fn stack(rows: Vec<Tensor<3>>) -> Tensor<3> {
    dispatch!(rows;
        gpu => gpu::stack(rows),
        reference => Tensor::cat(rows, 1))
}

/// The axes in another order, without moving a number.
pub fn permute<const D: usize>(x: Tensor<D>, axes: [usize; D]) -> Tensor<D> {
    dispatch!(x;
        gpu_strided => gpu::permuted(x, &axes),
        reference => x.permute(axes.map(|axis| axis as isize)))
}

/// `[1, n, c]` as often as there are images, `[b, n, c]`, without copying a number.
pub fn repeat(x: Tensor<3>, b: usize) -> Tensor<3> {
    let [_, n, c] = x.dims();
    expand(x, [b, n, c])
}

/// Axes of length 1 as often as `shape` says, without copying a number.
fn expand(x: Tensor<3>, shape: [usize; 3]) -> Tensor<3> {
    dispatch!(x;
        gpu_strided => gpu::expanded(x, &shape),
        reference => x.expand(shape))
}

/// Each pixel of `[b, h, w, c]` as two by two: `[b, 2 h, 2 w, c]`.
pub fn enlarge(x: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let wide = expand(reshape(x, [b * h * w, 1, c]), [b * h * w, 2, c]);
    let high = expand(reshape(wide, [b * h, 1, 2 * w * c]), [b * h, 2, 2 * w * c]);
    reshape(high, [b, 2 * h, 2 * w, c])
}

/// Channels of `[b, h, w, m]` and then those of `[b, h, w, n]`: `[b, h, w, m + n]`.
pub fn concat_channels(x: Tensor<4>, y: Tensor<4>) -> Tensor<4> {
    let ([b, h, w, m], [_, _, _, n]) = (x.dims(), y.dims());
    let lines = |x: Tensor<4>, c: usize| permute(reshape::<4, 2>(x, [b * h * w, c]), [1, 0]);
    reshape(permute(concat(lines(x, m), lines(y, n)), [1, 0]), [b, h, w, m + n])
}

/// The tensor's numbers in another shape.
///
/// # Panics
/// If that has another number of them.
pub fn reshape<const D: usize, const E: usize>(x: Tensor<D>, shape: [usize; E]) -> Tensor<E> {
    dispatch!(x;
        gpu => gpu::reshape(x, &shape),
        reference => x.reshape(shape))
}
