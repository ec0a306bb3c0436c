//! SAM's convolutions: none but one has kernels that overlap, so they are products and reorderings.

use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, module};

#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "gpu")]
use super::gpu;
use super::{Activation, Ends, Matrix, finish, linear, permute, reshape};

/// Cuts `[b, h, w, c]` into `size` x `size` patches: `[b, h / size, w / size, c * size * size]`, the last axis in the
/// order of a convolution's weight, `[c, size, size]`. A convolution whose stride is its kernel is then a linear layer.
pub fn patches(x: Tensor<4>, size: usize) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let (rows, columns) = (h / size, w / size);
    x.reshape([b, rows, size, columns, size, c]).permute([0, 1, 3, 5, 2, 4]).reshape([
        b,
        rows,
        columns,
        c * size * size,
    ])
}

/// The patch convolution of an image `[b, bands, h, w]` with `weight` `[n, bands, side, side]`, and the sum with `positions`
/// `[1, h / side, w / side, n]` if there are some: `[b, h / side, w / side, n]`.
pub fn patch_embed(image: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, positions: Option<Tensor<4>>) -> Tensor<4> {
    let [n, bands, side, _] = weight.dims();
    let matrix = permute(reshape(weight, [n, bands * side * side]), [1, 0]);
    #[cfg(feature = "gpu")]
    let image = match gpu::take(image) {
        Ok(image) => {
            let mut product = gpu::Product::new(image, gpu::Matrix::Dense(gpu::values(matrix)));
            product.gather = gpu::Gather::Patches(side);
            product.bias = Some(gpu::values(bias));
            product.residual = positions.map(gpu::values);
            return gpu::wrap(product.run());
        }
        Err(image) => image,
    };
    #[cfg(feature = "cpu")]
    {
        let ends = Ends { bias: Some(bias.clone()), residual: positions.clone(), ..Ends::default() };
        if let Some(x) = cpu::fused(&image, cpu::dense(&matrix), &ends, |x, m, e| cpu::patch_embed(x, side, m, e)) {
            return x;
        }
    }
    let x = module::linear(patches(image.permute([0, 2, 3, 1]), side), matrix, Some(bias));
    match positions {
        Some(positions) => x + positions,
        None => x,
    }
}

/// 3x3 convolution with zero padding 1 and no bias: `[b, h, w, c]` and `[n, c, 3, 3]` to `[b, h, w, n]`.
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let [n, _, _, _] = weight.dims();
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => {
            let matrix = gpu::permute(gpu::values(weight), &[2, 3, 1, 0]);
            let mut product = gpu::Product::new(x, gpu::Matrix::Dense(gpu::reshape(matrix, &[9 * c, n])));
            product.gather = gpu::Gather::Neighbours;
            return gpu::wrap(product.run());
        }
        Err(x) => x,
    };
    let weight = weight.permute([2, 3, 1, 0]).reshape([9 * c, n]);
    #[cfg(feature = "cpu")]
    if let Some(y) = cpu::fused(&x, cpu::dense(&weight), &Ends::default(), cpu::conv3x3) {
        return y;
    }
    let padded = x.pad([(1, 1), (1, 1), (0, 0)], PadMode::Constant(0.0));
    let shifts = (0..9).map(|i| padded.clone().slice([0..b, i / 3..i / 3 + h, i % 3..i % 3 + w, 0..c])).collect();
    module::linear(Tensor::cat(shifts, 3), weight, None)
}

/// Transposed convolution with kernel 2 and stride 2, which do not overlap: `[b, h, w, c]` and `[c, n, 2, 2]` to
/// `[b, 2 h, 2 w, n]`, with a bias `[n]` and an activation.
pub fn double(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, activation: Activation) -> Tensor<4> {
    let [b, h, w, _] = x.dims();
    let [c, n, _, _] = weight.dims();
    #[cfg(feature = "gpu")]
    let x = match gpu::take(x) {
        Ok(x) => {
            let matrix = gpu::reshape(gpu::permute(gpu::values(weight), &[0, 2, 3, 1]), &[c, 4 * n]);
            let mut product = gpu::Product::new(x, gpu::Matrix::Dense(matrix));
            product.scatter = gpu::Scatter::Double;
            product.bias = Some(gpu::values(bias));
            product.activation = activation;
            return gpu::wrap(product.run());
        }
        Err(x) => x,
    };
    let weight = weight.permute([0, 2, 3, 1]).reshape([c, 4 * n]);
    let y = linear(x, Matrix::Dense(weight), Ends::default()).reshape([b, h, w, 2, 2, n]);
    finish(y.permute([0, 1, 3, 2, 4, 5]).reshape([b, 2 * h, 2 * w, n]), Some(bias), None, activation)
}

/// The weight of [`conv3x3`] as it is read fastest: the same numbers, in the order of the product's matrix.
pub fn turned_kernel(weight: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    let weight = match gpu::take_as_it_lies(weight) {
        // Turned at each call, as a matrix of its own.
        Ok(weight) => return gpu::wrap(weight),
        Err(weight) => weight,
    };
    let [n, c, rows, columns] = weight.dims();
    let turned = weight.permute([2, 3, 1, 0]).reshape([rows * columns * c * n]);
    turned.reshape([rows, columns, c, n]).permute([3, 2, 0, 1])
}
