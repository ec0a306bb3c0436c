//! Gradients of the CPU's product against burn's own.
#![cfg(feature = "train")]

use burn::tensor::{Tensor, TensorData};
use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::kernels::{Activation, Epilogue, Matrix, linear};
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

#[test]
fn gradients_of_linear_equal_burns() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    let mut seed = SplitMix(9);
    for [b, m, k, n] in [[1, 1, 1, 1], [2, 5, 7, 3], [2, 33, 65, 50], [1, 70, 192, 256]] {
        for activation in [Activation::None, Activation::Relu, Activation::Relu6, Activation::Gelu] {
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
                let plain = match activation {
                    Activation::None => sum,
                    Activation::Relu => burn::tensor::activation::relu(sum),
                    Activation::Relu6 => sum.clamp(0.0, 6.0),
                    Activation::Gelu => sum.clone() * ((sum / 2f64.sqrt()).erf() + 1.0) * 0.5,
                };
                let theirs = (plain * gradient).sum().backward();
                let what = format!("{b} x {m} x {k} x {n}, {activation:?}, residual of {images}");
                close(&format!("x, {what}"), x.grad(&ours), x.grad(&theirs));
                close(&format!("matrix, {what}"), matrix.grad(&ours), matrix.grad(&theirs));
                close(&format!("bias, {what}"), bias.grad(&ours), bias.grad(&theirs));
                close(&format!("residual, {what}"), residual.grad(&ours), residual.grad(&theirs));
            }
        }
    }
}
