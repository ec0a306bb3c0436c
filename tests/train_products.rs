//! Gradients of the CPU's products, convolutions and attention with biases against burn's own.
#![cfg(feature = "train")]

use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Tensor, TensorData, module};
use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::kernels::convolution::{Placement, conv3x3, depthwise, strided3x3};
use samlora::kernels::{Activation, BiasedAttention, Epilogue, Matrix, linear};
use samlora::random::SplitMix;

/// f32 sums in another order, over at most some hundred terms.
const TOLERANCE: f32 = 2e-5;

fn random<const D: usize>(shape: [usize; D], random: &mut SplitMix, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * random.uniform()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn close<const D: usize>(what: &str, ours: Option<Tensor<D>>, theirs: Option<Tensor<D>>) {
    let values = |x: Option<Tensor<D>>| x.expect("a gradient").into_data().try_into_vec::<f32>().expect("f32");
    let (ours, theirs) = (values(ours), values(theirs));
    let peak = theirs.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    assert!(ours.len() == theirs.len() && worst <= TOLERANCE, "{what}: {worst:.1e}");
}

fn activated<const D: usize>(sum: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::None => sum,
        Activation::Relu => burn::tensor::activation::relu(sum),
        Activation::Relu6 => sum.clamp(0.0, 6.0),
        Activation::Gelu => sum.clone() * ((sum / 2f64.sqrt()).erf() + 1.0) * 0.5,
    }
}

const ACTIVATIONS: [Activation; 4] = [Activation::None, Activation::Relu, Activation::Relu6, Activation::Gelu];

#[test]
fn gradients_of_linear_equal_burns() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    let mut seed = SplitMix(9);
    for [b, m, k, n] in [[1, 1, 1, 1], [2, 5, 7, 3], [2, 33, 65, 50], [1, 70, 192, 256]] {
        for activation in ACTIVATIONS {
            for images in [b, 1] {
                let x = random([b, m, k], &mut seed, &device).autodiff().require_grad();
                let matrix = random([n, k], &mut seed, &device).autodiff().require_grad();
                let bias = random([n], &mut seed, &device).autodiff().require_grad();
                let residual = random([images, m, n], &mut seed, &device).autodiff().require_grad();
                let gradient = random([b, m, n], &mut seed, &device).autodiff();
                let epilogue =
                    Epilogue { add: None, bias: Some(bias.clone()), residual: Some(residual.clone()), activation };
                let ours = linear(x.clone(), Matrix::Dense(matrix.clone().transpose()), epilogue);
                let ours = (ours * gradient.clone()).sum().backward();
                let sum = x.clone().matmul(matrix.clone().transpose().unsqueeze());
                let sum = sum + bias.clone().unsqueeze() + residual.clone();
                let theirs = (activated(sum, activation) * gradient).sum().backward();
                let what = format!("{b} x {m} x {k} x {n}, {activation:?}, residual of {images}");
                close(&format!("x, {what}"), x.grad(&ours), x.grad(&theirs));
                close(&format!("matrix, {what}"), matrix.grad(&ours), matrix.grad(&theirs));
                close(&format!("bias, {what}"), bias.grad(&ours), bias.grad(&theirs));
                close(&format!("residual, {what}"), residual.grad(&ours), residual.grad(&theirs));
            }
        }
    }
}

/// A convolution in burn's own operations: x `[b, h, w, c]`, weight `[n, c / groups, k, k]`.
fn convolved(x: Tensor<4>, weight: Tensor<4>, placement: &Placement, groups: usize) -> Tensor<4> {
    let ([_, h, w, _], [_, _, k, _]) = (x.dims(), weight.dims());
    let (stride, before) = (placement.stride, placement.before);
    let after = |side: usize| (before, ((side.div_ceil(stride) - 1) * stride + k).saturating_sub(before + side));
    let x = x.permute([0, 3, 1, 2]).pad([after(h), after(w)], PadMode::Constant(0.0));
    let y = module::conv2d(x, weight, None, ConvOptions::new([stride; 2], [0; 2], [1; 2], groups));
    let y = y.permute([0, 2, 3, 1]);
    let sum = match &placement.bias {
        Some(bias) => y + bias.clone().unsqueeze(),
        None => y,
    };
    activated(sum, placement.activation)
}

/// Compares the gradients of images, weight and bias; `[b, h, w, c, n, k, stride, before]`, depthwise if `n` is 0.
fn compare_convolution([b, h, w, c, n, k, stride, before]: [usize; 8], seed: &mut SplitMix, device: &Device) {
    for activation in ACTIVATIONS {
        let is_depthwise = n == 0;
        let outputs = if is_depthwise { c } else { n };
        let leaf = |x: Tensor<4>| x.autodiff().require_grad();
        let x = leaf(random([b, h, w, c], seed, device));
        let weight = leaf(random([outputs, if is_depthwise { 1 } else { c }, k, k], seed, device));
        let bias = random([outputs], seed, device).autodiff().require_grad();
        let gradient = random([b, h.div_ceil(stride), w.div_ceil(stride), outputs], seed, device).autodiff();
        let placement = Placement { stride, before, bias: Some(bias.clone()), activation };
        let theirs = convolved(x.clone(), weight.clone(), &placement, if is_depthwise { c } else { 1 });
        let theirs = (theirs * gradient.clone()).sum().backward();
        let ours = if is_depthwise { depthwise } else { strided3x3 }(x.clone(), weight.clone(), placement);
        let ours = (ours * gradient).sum().backward();
        let what = format!("{b} x {h} x {w} x {c} to {n}, {k} x {k} by {stride} from {before}, {activation:?}");
        close(&format!("x, {what}"), x.grad(&ours), x.grad(&theirs));
        close(&format!("weight, {what}"), weight.grad(&ours), weight.grad(&theirs));
        close(&format!("bias, {what}"), bias.grad(&ours), bias.grad(&theirs));
    }
}

#[test]
fn gradients_of_depthwise_convolutions_equal_burns() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    let mut seed = SplitMix(11);
    for [b, h, w, c, k, stride, before] in [
        [1, 1, 1, 1, 3, 1, 1],
        [2, 2, 1, 5, 5, 2, 2],
        [1, 7, 7, 33, 5, 1, 2],
        [2, 9, 13, 16, 3, 2, 1],
        [1, 8, 8, 40, 3, 2, 0],
        [1, 8, 6, 24, 5, 2, 1],
        [2, 3, 17, 50, 3, 1, 1],
        [1, 6, 11, 20, 4, 3, 1],
    ] {
        compare_convolution([b, h, w, c, 0, k, stride, before], &mut seed, &device);
    }
}

#[test]
fn gradients_of_3x3_convolutions_equal_burns() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    let mut seed = SplitMix(12);
    for [b, h, w, c, n, stride, before] in [
        [1, 1, 1, 1, 1, 2, 1],
        [2, 2, 1, 3, 5, 2, 0],
        [2, 9, 13, 3, 32, 2, 1],
        [1, 8, 6, 20, 7, 2, 0],
        [1, 5, 9, 17, 9, 1, 1],
        [1, 7, 4, 4, 6, 4, 1],
    ] {
        compare_convolution([b, h, w, c, n, 3, stride, before], &mut seed, &device);
    }
    // The neck's, and a first layer whose images learn nothing.
    let (x, weight) = (random([2, 5, 6, 9], &mut seed, &device), random([8, 9, 3, 3], &mut seed, &device));
    let (x, weight) = (x.autodiff(), weight.autodiff().require_grad());
    let gradient = random([2, 5, 6, 8], &mut seed, &device).autodiff();
    let ours = (conv3x3(x.clone(), weight.clone()) * gradient.clone()).sum().backward();
    let placement = Placement { stride: 1, before: 1, bias: None, activation: Activation::None };
    let theirs = (convolved(x.clone(), weight.clone(), &placement, 1) * gradient).sum().backward();
    close("neck", weight.grad(&ours), weight.grad(&theirs));
    assert!(x.grad(&ours).is_none());
}

#[test]
fn gradients_of_attention_with_biases_equal_burns() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    let mut seed = SplitMix(13);
    // whole windows, padded ones, one larger than the image, one token a window
    for [b, h, w, side, heads, dim] in
        [[2, 8, 8, 4, 2, 16], [1, 9, 16, 7, 3, 8], [2, 5, 3, 14, 1, 9], [1, 2, 3, 1, 2, 3]]
    {
        let c = heads * dim;
        let qkv = random([b, h, w, 3 * c], &mut seed, &device).autodiff().require_grad();
        let beyond = random([3 * c], &mut seed, &device).autodiff().require_grad();
        let biases = random([heads, side, side], &mut seed, &device).autodiff().require_grad();
        let gradient = random([b, h, w, c], &mut seed, &device).autodiff();
        let attention = BiasedAttention { side, heads, biases: biases.clone() };
        let ours = (attention.forward(qkv.clone(), beyond.clone()) * gradient.clone()).sum().backward();
        let theirs = (attention.reference(qkv.clone(), beyond.clone()) * gradient).sum().backward();
        let what = format!("{b} x {h} x {w} in {side}");
        close(&format!("qkv, {what}"), qkv.grad(&ours), qkv.grad(&theirs));
        // Where no window is padded the reference has no such gradient.
        match beyond.grad(&theirs) {
            Some(theirs) => close(&format!("beyond, {what}"), beyond.grad(&ours), Some(theirs)),
            None => assert!(beyond.grad(&ours).is_none_or(|ours| ours.abs().max().into_scalar::<f32>() == 0.0)),
        }
        if side > 1 {
            close(&format!("biases, {what}"), biases.grad(&ours), biases.grad(&theirs));
        }
    }
}
