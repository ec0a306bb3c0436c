//! Convolutions. SAM's are products and reorderings: none but one has kernels that overlap. Light encoders have depthwise ones too.

use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, module};

use super::activation::Activation;
#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::dispatch;
#[cfg(feature = "gpu")]
use super::gpu;
use super::layout::{permute, reshape};
use super::linear::{Epilogue, apply_epilogue, linear};
use super::matrix::Matrix;

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
    dispatch!(image, matrix, bias, positions;
    gpu => {
        let mut product = gpu::GpuProduct::new(image, gpu::GpuMatrix::Dense(gpu::values(matrix)));
        product.gather = gpu::Gather::Patches(side);
        product.bias = Some(gpu::values(bias));
        product.residual = positions.map(gpu::values);
        product.run()
    },
    cpu => {
        let (bias, residual) = (cpu::values(&bias), positions.as_ref().map(cpu::values));
        let epilogue =
            cpu::CpuEpilogue { bias: Some(&bias), residual: residual.as_ref(), activation: Activation::None };
        cpu::patch_embed(&image, side, &Matrix::Dense(matrix).on_cpu(), &epilogue)
    },
    reference => {
        let x = module::linear(patches(image.permute([0, 2, 3, 1]), side), matrix, Some(bias));
        apply_epilogue(x, None, positions, Activation::None)
    })
}

/// 3x3 convolution with zero padding 1 and no bias: `[b, h, w, c]` and `[n, c, 3, 3]` to `[b, h, w, n]`.
pub fn conv3x3(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let [n, _, _, _] = weight.dims();
    // [9 c, n], in the order of row, column and channel of the kernel
    let matrix = |weight| reshape(permute(weight, [2, 3, 1, 0]), [9 * c, n]);
    dispatch!(x, weight;
    gpu => {
        let mut product = gpu::GpuProduct::new(x, gpu::GpuMatrix::Dense(gpu::values(matrix(weight))));
        product.gather = gpu::Gather::Neighbours { stride: 1, before: 1 };
        product.run()
    },
    autodiff => autodiff::conv3x3(x, matrix(weight), None, [1, 1], Activation::None),
    cpu => {
        let placement = cpu::CpuPlacement { stride: 1, before: 1, bias: None, activation: Activation::None };
        cpu::conv3x3(&x, &Matrix::Dense(matrix(weight)).on_cpu(), &placement)
    },
    reference => {
        let padded = x.pad([(1, 1), (1, 1), (0, 0)], PadMode::Constant(0.0));
        let shift = |i: usize| padded.clone().slice([0..b, i / 3..i / 3 + h, i % 3..i % 3 + w, 0..c]);
        module::linear(Tensor::cat((0..9).map(shift).collect(), 3), matrix(weight), None)
    })
}

/// Where the kernels of a convolution lie on its input, and what follows it.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Pixels from one kernel to the next; the result has `ceil(h / stride)` rows and `ceil(w / stride)` columns.
    pub stride: usize,
    /// Zero pixels above and left of the image that the first kernel covers. Below and right there are as many as the last one needs.
    pub before: usize,
    /// `[n]`.
    pub bias: Option<Tensor<1>>,
    /// Last of all.
    pub activation: Activation,
}

impl Placement {
    /// The result's side along one of the image's.
    pub fn side(&self, image: usize) -> usize {
        image.div_ceil(self.stride)
    }

    /// Calls `work` with what the CPU's kernels take.
    #[cfg(feature = "cpu")]
    fn with_cpu<R>(&self, work: impl FnOnce(&cpu::CpuPlacement) -> R) -> R {
        let bias = self.bias.as_ref().map(cpu::values);
        let (stride, before, activation) = (self.stride, self.before, self.activation);
        work(&cpu::CpuPlacement { stride, before, bias: bias.as_ref(), activation })
    }

    /// Calls `convolve` with what it can do within the convolution: a bias, stride and zeros before, and an activation.
    #[cfg(all(feature = "cpu", feature = "train"))]
    fn with_gradient(self, convolve: impl FnOnce(Option<Tensor<1>>, [usize; 2], Activation) -> Tensor<4>) -> Tensor<4> {
        let Self { stride, before, bias, activation } = self;
        match activation {
            // Its gradient needs the sums.
            Activation::Gelu => {
                apply_epilogue(convolve(None, [stride, before], Activation::None), bias, None, activation)
            }
            _ => convolve(bias, [stride, before], activation),
        }
    }

    /// The convolution in burn's own operations: `[b, h, w, c]` and `[n, c / groups, k, k]`.
    fn reference(self, x: Tensor<4>, weight: Tensor<4>, groups: usize) -> Tensor<4> {
        let [_, h, w, _] = x.dims();
        let [_, _, side, _] = weight.dims();
        let after = |image: usize| {
            let end = (self.side(image) - 1) * self.stride + side;
            (self.before, end.saturating_sub(self.before + image))
        };
        let x = x.permute([0, 3, 1, 2]).pad([after(h), after(w)], PadMode::Constant(0.0));
        let y = module::conv2d(x, weight, None, ConvOptions::new([self.stride; 2], [0; 2], [1; 2], groups));
        apply_epilogue(y.permute([0, 2, 3, 1]), self.bias, None, self.activation)
    }
}

/// 3x3 convolution of any stride, zero beyond the border: `[b, h, w, c]` and `[n, c, 3, 3]` to `[b, ceil(h / stride), ceil(w / stride), n]`.
pub fn strided3x3(x: Tensor<4>, weight: Tensor<4>, placement: Placement) -> Tensor<4> {
    let [n, c, _, _] = weight.dims();
    // [9 c, n], in the order of row, column and channel of the kernel
    let matrix = |weight| reshape(permute(weight, [2, 3, 1, 0]), [9 * c, n]);
    dispatch!(x, weight, placement.bias;
    gpu if n % 4 == 0 => {
        let mut product = gpu::GpuProduct::new(x, gpu::GpuMatrix::Dense(gpu::values::<2>(matrix(weight))));
        product.gather = gpu::Gather::Neighbours { stride: placement.stride, before: placement.before };
        product.bias = placement.bias.map(gpu::values);
        product.activation = placement.activation;
        product.run()
    },
    autodiff => placement.with_gradient(|bias, placed, activation| {
        autodiff::conv3x3(x, matrix(weight), bias, placed, activation)
    }),
    cpu => placement.with_cpu(|placement| cpu::conv3x3(&x, &Matrix::Dense(matrix(weight)).on_cpu(), placement)),
    reference => placement.reference(x, weight, 1))
}

/// Depthwise convolution, each channel with a kernel of its own, zero beyond the border: `[b, h, w, c]` and `[c, 1, k, k]` to
/// `[b, ceil(h / stride), ceil(w / stride), c]`.
pub fn depthwise(x: Tensor<4>, weight: Tensor<4>, placement: Placement) -> Tensor<4> {
    let [_, _, _, c] = x.dims();
    let [_, _, side, _] = weight.dims();
    // [k, k, c]
    let kernels = |weight| reshape::<4, 3>(permute(weight, [2, 3, 0, 1]), [side, side, c]);
    dispatch!(x, weight, placement.bias;
    gpu if c % 4 == 0 => {
        let weight = gpu::values(kernels(weight));
        let Placement { stride, before, bias, activation } = placement;
        gpu::depthwise(&x, &weight, bias.map(gpu::values).as_ref(), [stride, before], activation)
    },
    autodiff => placement.with_gradient(|bias, placed, activation| {
        autodiff::depthwise(x, kernels(weight), bias, placed, activation)
    }),
    cpu => placement.with_cpu(|placement| cpu::depthwise(&x, &cpu::values(&kernels(weight)), placement)),
    reference => placement.reference(x, weight, c))
}

/// Transposed convolution with kernel 2 and stride 2, which do not overlap: `[b, h, w, c]` and `[c, n, 2, 2]` to
/// `[b, 2 h, 2 w, n]`, with a bias `[n]` and an activation.
pub fn double(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, activation: Activation) -> Tensor<4> {
    let [b, h, w, _] = x.dims();
    let [c, n, _, _] = weight.dims();
    let matrix = reshape(permute(weight, [0, 2, 3, 1]), [c, 4 * n]);
    dispatch!(x, matrix, bias;
    gpu => {
        let mut product = gpu::GpuProduct::new(x, gpu::GpuMatrix::Dense(gpu::values(matrix)));
        product.scatter = gpu::Scatter::Double;
        product.bias = Some(gpu::values(bias));
        product.activation = activation;
        product.run()
    },
    reference => {
        let y = linear(x, Matrix::Dense(matrix), Epilogue::default()).reshape([b, h, w, 2, 2, n]);
        let y = y.permute([0, 1, 3, 2, 4, 5]).reshape([b, 2 * h, 2 * w, n]);
        apply_epilogue(y, Some(bias), None, activation)
    })
}

/// The weight `[n, c, 3, 3]` of [`conv3x3`] with its strides in the order of the product's matrix, which the CPU reads fastest.
pub fn column_major_kernel(weight: Tensor<4>) -> Tensor<4> {
    let [n, c, rows, columns] = weight.dims();
    dispatch!(weight;
    // Reordered at each call, as a matrix of its own.
    gpu_strided => weight,
    reference => {
        let numbers = weight.permute([2, 3, 1, 0]).reshape([rows * columns * c * n]);
        numbers.reshape([rows, columns, c, n]).permute([3, 2, 0, 1])
    })
}
