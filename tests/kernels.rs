//! The CPU's fused kernels against the same operations in burn's own, on odd shapes.

use burn::tensor::activation::{gelu, relu};
use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, TensorData};
use half::f16;
use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::kernels::convolution::{
    Placement, column_major_kernel, conv3x3, depthwise, patch_embed, patches, strided3x3,
};
use samlora::kernels::quantized::BLOCK;
use samlora::kernels::{Activation, BiasedAttention, Epilogue, Matrix, WindowAttention, bias_gelu, layer_norm, linear};
use samlora::random::SplitMix;

/// f32 sums in another order, over at most a few hundred terms.
const TOLERANCE: f32 = 2e-5;

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    random_tensor(shape, &mut SplitMix(seed), device)
}

fn random_tensor<const D: usize>(shape: [usize; D], random: &mut SplitMix, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * random.uniform()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec::<f32>().expect("f32")
}

fn assert_close<const D: usize>(what: &str, fused: Tensor<D>, plain: Tensor<D>) {
    assert_eq!(fused.dims(), plain.dims(), "{what}");
    let (fused, plain) = (values(fused), values(plain));
    let peak = plain.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let worst = fused.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    assert!(worst <= TOLERANCE, "{what}: {worst:.1e}");
}

#[test]
fn products_with_stored_matrices_are_those_with_their_floats() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // rows, inputs, outputs: one token, panels that end early, more inputs than a panel holds
    for (case, [m, k, n]) in [
        [1usize, 8, 4],
        [1, 32, 8],
        [7, 256, 2048],
        [9, 40, 12],
        [70, 160, 480],
        [33, 96, 100],
        [130, 2056, 52],
        [64, 768, 64],
    ]
    .into_iter()
    .enumerate()
    {
        for bits in [8, 4] {
            let mut random = SplitMix(case as u64);
            let bytes: Vec<u8> = (0..n * k * bits / 8).map(|_| random.next_u64() as u8).collect();
            let blocks = k.div_ceil(BLOCK);
            let steps: Vec<f16> = (0..n * blocks).map(|_| f16::from_f32(0.01 * (2.0 + random.uniform()))).collect();
            let scales: Vec<u8> = steps.iter().flat_map(|step| step.to_le_bytes()).collect();
            let quantized: Matrix = Matrix::quantized(bits, &bytes, &scales, [n, k], &device);

            // As the package's format says, and not as the words lie.
            let mut floats = vec![0.0f32; k * n];
            for (at, value) in floats.iter_mut().enumerate() {
                let (input, output) = (at / n, at % n);
                let place = output * k + input;
                let integer = match bits {
                    8 => f32::from(bytes[place] as i8),
                    _ => f32::from(bytes[place / 2] >> (4 * (place % 2)) & 15) - 8.0,
                };
                *value = integer * steps[output * blocks + input / BLOCK].to_f32();
            }
            let floats = Tensor::<2>::from_data(TensorData::new(floats, [k, n]), &device);
            assert_eq!(values(quantized.clone().dense()), values(floats.clone()), "{bits} bits, {k} x {n}");

            let panels = Matrix::panels(&floats).expect("a matrix of the CPU");
            assert_eq!(values(panels.clone().dense()), values(floats.clone()), "panels, {k} x {n}");
            let x: Tensor<3> = random_tensor([1, m, k], &mut random, &device);
            let epilogue =
                || Epilogue { bias: Some(floats.clone().slice([0..1, 0..n]).reshape([n])), ..Epilogue::default() };
            // Bit for bit: the same numbers, added in the same order.
            let expected = values(linear(x.clone(), Matrix::Dense(floats.clone()), epilogue()));
            for matrix in [quantized, panels] {
                let found = linear(x.clone(), matrix, epilogue());
                assert_eq!(values(found), expected, "{bits} bits, {m} x {k} x {n}");
            }
        }
    }
}

#[test]
fn window_attention_equals_its_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // batch, height, width, window rows and columns, heads, channels of a head
    for (case, [b, h, w, rows, columns, heads, dim]) in [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 14, 14, 3, 16],
        [2, 6, 6, 14, 14, 3, 16],
        [1, 16, 16, 14, 14, 12, 64],
        [2, 14, 28, 14, 14, 2, 80],
        [1, 13, 29, 8, 8, 3, 64],
        [1, 5, 3, 5, 3, 2, 33],
        [1, 28, 28, 28, 28, 2, 64],
        [1, 64, 64, 64, 64, 1, 8],
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 10 * case as u64;
        let c = heads * dim;
        let attention = WindowAttention {
            rows,
            columns,
            heads,
            scale: (dim as f64).powf(-0.5),
            rel_pos_h: random([2 * rows - 1, dim], seed + 1, &device),
            rel_pos_w: random([2 * columns - 1, dim], seed + 2, &device),
        };
        let (qkv, bias) = (random([b, h, w, 3 * c], seed + 3, &device), random([3 * c], seed + 4, &device));
        let tokens = random([b, h, w, c], seed + 5, &device);
        let fused = attention.forward(tokens, bias.clone(), |_, _| qkv.clone());
        assert_close(&format!("{b} x {h} x {w} in {rows} x {columns}"), fused, attention.reference(qkv, bias));
    }
}

#[test]
fn bias_gelu_equals_its_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    for (rows, columns) in [(1, 1), (3, 7), (17, 100), (256, 3072)] {
        let (x, bias) = (random([rows, columns], 5, &device), random([columns], 6, &device));
        let plain = gelu(x.clone() + bias.clone().unsqueeze());
        assert_close(&format!("{rows} x {columns}"), bias_gelu(x.clone(), bias.clone()), plain.clone());
        // A view that is not in row-major order.
        assert_close("transposed", bias_gelu(x.transpose().transpose() * 1.0, bias), plain);
    }
}

#[test]
fn linear_equals_its_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // batch, rows, inputs, outputs: one tile, none whole, several panels and depths, no rows
    for (case, [b, m, k, n]) in [
        [1, 1, 1, 1],
        [1, 5, 3, 7],
        [2, 13, 65, 50],
        [1, 256, 192, 576],
        [3, 31, 1025, 97],
        [1, 70, 2304, 256],
        [2, 0, 4, 8],
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 100 + 10 * case as u64;
        let (x, add) = (random([b, m, k], seed, &device), random([1, m, k], seed + 1, &device));
        let (matrix, bias) = (random([k, n], seed + 2, &device), random([n], seed + 3, &device));
        let relu6 = (1, Activation::Relu6);
        for (images, activation) in [(b, Activation::None), (1, Activation::Relu), relu6, (1, Activation::Gelu)] {
            let residual = random([images, m, n], seed + 4, &device);
            // Errors are measured by the largest result: sums of a few tens, of which a limit leaves 6, would be measured by that.
            let scale = if activation == Activation::Relu6 { 0.1 } else { 1.0 };
            let (x, add) = (x.clone() * scale, add.clone() * scale);
            let sum = (x.clone() + add.clone()).matmul(matrix.clone().unsqueeze()) + bias.clone().unsqueeze();
            let sum = sum + residual.clone();
            let plain = match activation {
                Activation::None => sum,
                Activation::Relu => relu(sum),
                Activation::Relu6 => sum.clamp(0.0, 6.0),
                Activation::Gelu => gelu(sum),
            };
            let transposed = matrix.clone().transpose().reshape([k * n]).reshape([n, k]).transpose();
            for (order, matrix) in [("rows", matrix.clone()), ("columns", transposed)] {
                let epilogue = Epilogue {
                    add: Some(add.clone()),
                    bias: Some(bias.clone()),
                    residual: Some(residual.clone()),
                    activation,
                };
                let fused = linear(x.clone(), Matrix::Dense(matrix), epilogue);
                if m > 0 {
                    assert_close(&format!("{b} x {m} x {k} x {n} by {order}, {activation:?}"), fused, plain.clone());
                } else {
                    assert_eq!(fused.dims(), plain.dims());
                }
            }
        }
    }
}

#[test]
fn layer_norm_equals_its_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    for (rows, n) in [(1, 1), (3, 7), (17, 100), (256, 768)] {
        let (weight, bias) = (random([n], 8, &device), random([n], 9, &device));
        let x = random([rows, n], 7, &device) * 3.0 + 5.0;
        let centred = x.clone() - x.clone().mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        let plain = centred / (variance + 1e-5).sqrt() * weight.clone().unsqueeze() + bias.clone().unsqueeze();
        assert_close(&format!("{rows} x {n}"), layer_norm(x, weight, bias, 1e-5), plain);
    }
}

#[test]
fn convolutions_equal_their_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    for (case, [b, h, w, c, n]) in
        [[1, 1, 1, 1, 1], [2, 3, 5, 7, 9], [1, 16, 16, 64, 32], [1, 4, 2, 130, 20]].into_iter().enumerate()
    {
        let (x, weight) = (random([b, h, w, c], case as u64, &device), random([n, c, 3, 3], 50 + case as u64, &device));
        let padded = x.clone().pad([(1, 1), (1, 1), (0, 0)], PadMode::Constant(0.0));
        let shifts = (0..9).map(|i| padded.clone().slice([0..b, i / 3..i / 3 + h, i % 3..i % 3 + w, 0..c])).collect();
        let matrix = weight.clone().permute([2, 3, 1, 0]).reshape([9 * c, n]);
        let plain = Tensor::cat(shifts, 3).matmul(matrix.unsqueeze());
        assert_close("3 x 3", conv3x3(x.clone(), weight.clone()), plain.clone());
        assert_close("3 x 3, column by column", conv3x3(x, column_major_kernel(weight)), plain);
    }
    for [b, bands, rows, columns, side, n] in [[1, 1, 1, 1, 1, 1], [2, 3, 2, 3, 4, 5], [1, 4, 3, 2, 16, 48]] {
        let image = random([b, bands, rows * side, columns * side], 60, &device);
        let (weight, bias) = (random([n, bands, side, side], 61, &device), random([n], 62, &device));
        let positions = random([1, rows, columns, n], 63, &device);
        let matrix = weight.clone().reshape([n, bands * side * side]).transpose();
        let parts = patches(image.clone().permute([0, 2, 3, 1]), side);
        let plain = parts.matmul(matrix.unsqueeze()) + bias.clone().unsqueeze() + positions.clone();
        assert_close("patches", patch_embed(image, weight, bias, Some(positions)), plain);
    }
}

/// [`Placement`]'s convolution, sum by sum: x `[b, h, w, c]` and weight `[n, c / groups, k, k]`, the kernel of a group of its own if it
/// is `[c, 1, k, k]`.
fn convolved(x: &Tensor<4>, weight: &Tensor<4>, placement: &Placement) -> Tensor<4> {
    let ([b, h, w, c], [n, depth, k, _]) = (x.dims(), weight.dims());
    let (values_of, taps) = (values(x.clone()), values(weight.clone()));
    let bias = placement.bias.clone().map_or(vec![0.0; n], values);
    let (rows, columns) = (h.div_ceil(placement.stride), w.div_ceil(placement.stride));
    let mut sums = Vec::new();
    for at in 0..b * rows * columns * n {
        let (image, row, column, out) =
            (at / (rows * columns * n), at / (columns * n) % rows, at / n % columns, at % n);
        let mut sum = f64::from(bias[out]);
        for (i, j) in (0..k * k).map(|tap| (tap / k, tap % k)) {
            let [y, x] = [row * placement.stride + i, column * placement.stride + j];
            let (Some(y), Some(x)) = (y.checked_sub(placement.before), x.checked_sub(placement.before)) else {
                continue;
            };
            if y >= h || x >= w {
                continue;
            }
            for channel in 0..depth {
                let of = if depth == c { channel } else { out };
                let value = values_of[((image * h + y) * w + x) * c + of];
                sum += f64::from(value) * f64::from(taps[((out * depth + channel) * k + i) * k + j]);
            }
        }
        sums.push(sum as f32);
    }
    let sums = Tensor::from_data(TensorData::new(sums, [b, rows, columns, n]), &x.device());
    match placement.activation {
        Activation::None => sums,
        Activation::Relu => relu(sums),
        Activation::Relu6 => sums.clamp(0.0, 6.0),
        Activation::Gelu => gelu(sums),
    }
}

const ACTIVATIONS: [Activation; 4] = [Activation::None, Activation::Relu, Activation::Relu6, Activation::Gelu];

#[test]
fn depthwise_convolutions_equal_their_sums() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // batch, height, width, channels, kernel, stride, before: smaller than the kernel, odd, before rounded either way, other kernels
    for (case, [b, h, w, c, k, stride, before]) in [
        [1, 1, 1, 1, 3, 1, 1],
        [2, 2, 1, 5, 5, 2, 2],
        [1, 7, 7, 33, 5, 1, 2],
        [2, 9, 13, 16, 3, 2, 1],
        [1, 8, 8, 40, 3, 2, 0],
        [1, 8, 6, 24, 5, 2, 1],
        [1, 14, 14, 150, 5, 1, 2],
        [2, 3, 17, 260, 3, 1, 1],
        [1, 6, 30, 20, 4, 3, 1],
        [1, 10, 2, 20, 7, 1, 3],
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 200 + 10 * case as u64;
        let (x, weight) = (random([b, h, w, c], seed, &device), random([c, 1, k, k], seed + 1, &device) * 2.0);
        for activation in ACTIVATIONS {
            let bias = (activation != Activation::Relu).then(|| random([c], seed + 2, &device));
            let placement = Placement { stride, before, bias, activation };
            let plain = convolved(&x, &weight, &placement);
            let what = format!("{b} x {h} x {w} x {c}, {k} x {k} by {stride} from {before}, {activation:?}");
            assert_close(&what, depthwise(x.clone(), weight.clone(), placement.clone()), plain.clone());
            let stored = column_major_kernel(weight.clone());
            assert_close(&format!("{what}, stored"), depthwise(x.clone(), stored, placement), plain);
        }
    }
}

#[test]
fn strided_convolutions_equal_their_sums() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // batch, height, width, channels, outputs, stride, before
    for (case, [b, h, w, c, n, stride, before]) in [
        [1, 1, 1, 1, 1, 2, 1],
        [2, 2, 1, 3, 5, 2, 0],
        [2, 9, 13, 3, 32, 2, 1],
        [1, 16, 12, 3, 32, 2, 0],
        [1, 1, 20, 7, 9, 1, 1],
        [2, 8, 7, 32, 64, 2, 1],
        [1, 11, 10, 130, 20, 3, 1],
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 400 + 10 * case as u64;
        let (x, weight) = (random([b, h, w, c], seed, &device), random([n, c, 3, 3], seed + 1, &device));
        for activation in ACTIVATIONS {
            let bias = (activation != Activation::Relu).then(|| random([n], seed + 2, &device));
            let placement = Placement { stride, before, bias, activation };
            let plain = convolved(&x, &weight, &placement);
            let what = format!("{b} x {h} x {w} x {c} to {n} by {stride} from {before}, {activation:?}");
            assert_close(&what, strided3x3(x.clone(), weight.clone(), placement), plain);
        }
    }
}

#[test]
fn attention_with_biases_equals_its_reference() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    // batch, height, width, side of a window, heads, channels of a head
    for (case, [b, h, w, side, heads, dim]) in
        [[1, 1, 1, 1, 1, 1], [2, 14, 28, 14, 2, 32], [1, 16, 13, 7, 3, 32], [2, 5, 3, 14, 1, 9], [1, 9, 4, 3, 2, 33]]
            .into_iter()
            .enumerate()
    {
        let seed = 600 + 10 * case as u64;
        let c = heads * dim;
        let attention = BiasedAttention { side, heads, biases: random([heads, side, side], seed, &device) };
        let (qkv, beyond) = (random([b, h, w, 3 * c], seed + 1, &device), random([3 * c], seed + 2, &device));
        let fused = attention.forward(qkv.clone(), beyond.clone());
        assert_close(&format!("{b} x {h} x {w} in {side}"), fused, attention.reference(qkv, beyond));
    }
}
