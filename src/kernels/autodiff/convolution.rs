//! Convolutions as nodes.

use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::super::activation::Activation;
use super::super::cpu::{self, CpuMatrix, CpuPlacement};
use super::{Gradient, Limited, node, plain, record};

/// What a convolution keeps of the forward pass.
#[derive(Clone, Debug)]
struct Convolution {
    /// Only where the kernels' gradient is asked for.
    x: Option<FlexTensor>,
    /// Of x.
    shape: [usize; 4],
    kernels: FlexTensor,
    /// Stride, and zeros before.
    placed: [usize; 2],
    limited: Limited,
}

#[derive(Clone, Debug)]
struct Conv3x3(Convolution);

impl Gradient<3> for Conv3x3 {
    fn gradients(&self, output: FlexTensor, [x, matrix, bias]: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let Convolution { x: images, shape, kernels, placed, limited } = &self.0;
        let output = limited.gradient(output);
        let dx = x.then(|| cpu::conv3x3_input_gradient(&output, kernels, *placed, *shape));
        let images = images.as_ref().filter(|_| matrix);
        let dmatrix = images.map(|images| cpu::conv3x3_matrix_gradient(images, &output, *placed));
        [dx, dmatrix, bias.then(|| cpu::column_sums(&output, kernels.layout().shape()[1]))]
    }
}

#[derive(Clone, Debug)]
struct Depthwise(Convolution);

impl Gradient<3> for Depthwise {
    fn gradients(&self, output: FlexTensor, [x, kernels, bias]: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let Convolution { x: images, shape, kernels: taps, placed, limited } = &self.0;
        let output = limited.gradient(output);
        let side = taps.layout().shape()[0];
        let dx = x.then(|| cpu::depthwise_input_gradient(&output, taps, *placed, *shape));
        let images = images.as_ref().filter(|_| kernels);
        let dkernels = images.map(|images| cpu::depthwise_kernel_gradient(images, &output, side, *placed));
        [dx, dkernels, bias.then(|| cpu::column_sums(&output, shape[3]))]
    }
}

/// Records a convolution that `compute` does; its activation is none that needs the sums.
fn convolution<G: Gradient<3>, const K: usize>(
    x: Tensor<4>,
    kernels: Tensor<K>,
    bias: Option<Tensor<1>>,
    [stride, before]: [usize; 2],
    activation: Activation,
    compute: impl FnOnce(&FlexTensor, &FlexTensor, &CpuPlacement) -> FlexTensor,
    state: impl FnOnce(Convolution) -> G,
) -> Tensor<4> {
    let shape = x.dims();
    let has_bias = bias.is_some();
    let inputs = [node(x), node(kernels), bias.map_or_else(super::absent, node)];
    let [x, kernels, bias] = inputs.each_ref().map(plain);
    let placement = CpuPlacement { stride, before, bias: has_bias.then_some(&bias), activation };
    let output = compute(&x, &kernels, &placement);
    let x = inputs[1].is_tracked().then_some(x);
    let limited = Limited::new(activation, &output);
    record(inputs, output, state(Convolution { x, shape, kernels, placed: [stride, before], limited }))
}

/// A 3x3 convolution, matrix `[9 c, n]`. See [`super::super::convolution::strided3x3`]; the activation is not [`Activation::Gelu`].
pub fn conv3x3(
    x: Tensor<4>,
    matrix: Tensor<2>,
    bias: Option<Tensor<1>>,
    placed: [usize; 2],
    activation: Activation,
) -> Tensor<4> {
    let compute = |x: &FlexTensor, matrix: &FlexTensor, placement: &CpuPlacement| {
        cpu::conv3x3(x, &CpuMatrix::dense(matrix.clone()), placement)
    };
    convolution(x, matrix, bias, placed, activation, compute, Conv3x3)
}

/// Kernels `[k, k, c]`. See [`super::super::convolution::depthwise`]; the activation is not [`Activation::Gelu`].
pub fn depthwise(
    x: Tensor<4>,
    kernels: Tensor<3>,
    bias: Option<Tensor<1>>,
    placed: [usize; 2],
    activation: Activation,
) -> Tensor<4> {
    convolution(x, kernels, bias, placed, activation, cpu::depthwise, Depthwise)
}
