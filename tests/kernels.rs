//! The CPU's fused kernels against the same operations in burn's own, on odd shapes.

use burn::tensor::activation::gelu;
use burn::tensor::{Tensor, TensorData};
use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::kernels::{WindowAttention, bias_gelu};
use samlora::random::SplitMix;

/// f32 sums in another order, over at most a few hundred terms.
const TOLERANCE: f32 = 2e-5;

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut random = SplitMix(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * random.uniform()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn assert_close<const D: usize>(what: &str, fused: Tensor<D>, plain: Tensor<D>) {
    assert_eq!(fused.dims(), plain.dims(), "{what}");
    let fused = fused.into_data().try_into_vec::<f32>().expect("f32");
    let plain = plain.into_data().try_into_vec::<f32>().expect("f32");
    let peak = plain.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let worst = fused.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / peak;
    assert!(worst <= TOLERANCE, "{what}: {worst:.1e}");
}

#[test]
fn window_attention_equals_its_plain_form() {
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
            rel_pos_h: random([2 * rows - 1, dim], seed + 1, &device),
            rel_pos_w: random([2 * columns - 1, dim], seed + 2, &device),
        };
        let (qkv, bias) = (random([b, h, w, 3 * c], seed + 3, &device), random([3 * c], seed + 4, &device));
        let fused = attention.forward(qkv.clone(), bias.clone());
        assert_close(&format!("{b} x {h} x {w} in {rows} x {columns}"), fused, attention.plain(qkv, bias));
    }
}

#[test]
fn bias_gelu_equals_its_plain_form() {
    let device = pollster::block_on(open_device(DeviceChoice::Cpu)).expect("a CPU");
    for (rows, columns) in [(1, 1), (3, 7), (17, 100), (256, 3072)] {
        let (x, bias) = (random([rows, columns], 5, &device), random([columns], 6, &device));
        let plain = gelu(x.clone() + bias.clone().unsqueeze());
        assert_close(&format!("{rows} x {columns}"), bias_gelu(x.clone(), bias.clone()), plain.clone());
        // A view that is not in row-major order.
        assert_close("transposed", bias_gelu(x.transpose().transpose() * 1.0, bias), plain);
    }
}
