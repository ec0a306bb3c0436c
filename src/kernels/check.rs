//! Every GPU kernel against plain loops on the CPU ([`reference`]), on random shapes and its worst cases: drivers exist whose
//! shaders compile and give wrong numbers.
//!
//! Before each launch freed memory is filled with NaN, so that what a kernel reads beyond its inputs or leaves out of its result shows.

use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::attention::{WindowAttention, cross_attention};
use super::biased_attention::BiasedAttention;
use super::classify::classify;
use super::convolution;
use super::device::{read, upload};
use super::elementwise::add;
use super::gpu;
use super::layout::{column_major, concat};
use super::linear::{Epilogue, linear, masks};
use super::matrix::Matrix;
use super::norm::{layer_norm, norm_gelu};
use super::positions::dense_pe;
use super::quantized::BLOCK;
use super::resample::resample;
use crate::error::{Error, ErrorKind, Result};
use crate::logits::Calibration;
use crate::random::SplitMix;

mod reference;

/// One kernel on one shape.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Check {
    /// The kernel.
    pub kernel: &'static str,
    /// What it was given.
    pub shape: String,
    /// The largest deviation, relative to the largest number of the result; infinite where a number is missing.
    pub error: f32,
}

/// The most that [`Check::error`] may be with 32 bits, and with 16: sums in another order, and what a device calls `exp`; 16 bits
/// round inputs and results to 11 binary digits.
pub const BOUNDS: [f32; 2] = [2e-5, 4e-3];

/// Whether the kernels that a network spends its time in are right on one shape each: some milliseconds on hardware.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails.
pub async fn are_correct(device: &Device) -> Result<bool> {
    let mut checker = Checker { device, random: SplitMix(1), found: Vec::new() };
    checker.product(0, [65, 64, 68]).await?;
    checker.quantized_product(8, [65, 40, 12]).await?;
    checker.window([1, 5, 6, 4, 4, 2, 4]).await?;
    checker.norm(0, [9, 64]).await?;
    Ok(checker.found.iter().all(|check| check.error <= BOUNDS[usize::from(checker.is_half())]))
}

/// Runs every kernel on its worst cases and on `rounds` of random shapes.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails.
pub async fn check(device: &Device, seed: u64, rounds: usize) -> Result<Vec<Check>> {
    if !gpu::runs_on(device) {
        return Err(Error::new(ErrorKind::Device, "the kernels for GPUs are off, or the device is none"));
    }
    let mut checker = Checker { device, random: SplitMix(seed), found: Vec::new() };
    checker.products(rounds).await?;
    checker.quantized(rounds).await?;
    checker.convolutions(rounds).await?;
    checker.strided(rounds).await?;
    checker.windows(rounds).await?;
    checker.biased_windows(rounds).await?;
    checker.crossings(rounds).await?;
    checker.norms(rounds).await?;
    checker.rest(rounds).await?;
    checker.classes(rounds).await?;
    Ok(checker.found)
}

struct Checker<'a> {
    device: &'a Device,
    random: SplitMix,
    found: Vec<Check>,
}

impl Checker<'_> {
    /// 1 to `end`.
    fn upto(&mut self, end: usize) -> usize {
        1 + (self.random.next_u64() % end as u64) as usize
    }

    fn is_half(&self) -> bool {
        self.device.settings().float_dtype == burn::tensor::FloatDType::F16
    }

    /// Numbers of -1 to 1 that 16 bits hold too.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| half::f16::from_f32(self.random.uniform()).to_f32()).collect()
    }

    fn tensor<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        upload(values.to_vec(), shape, self.device)
    }

    /// Leaves NaN in freed memory that a result of this many numbers is likely to get.
    fn poison(&self, numbers: usize) {
        for count in [numbers, numbers, 2 * numbers] {
            drop(upload(vec![f32::NAN; count], [count], self.device));
        }
    }

    async fn compare<const D: usize>(
        &mut self,
        kernel: &'static str,
        shape: String,
        found: Tensor<D>,
        expected: &[f32],
    ) -> Result<()> {
        let values = read(found).await?;
        let peak = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        let mut error = if values.len() == expected.len() { 0.0f32 } else { f32::INFINITY };
        for (a, b) in values.iter().zip(expected) {
            let difference = (a - b).abs() / peak;
            error = if difference.is_finite() { error.max(difference) } else { f32::INFINITY };
        }
        self.found.push(Check { kernel, shape, error });
        Ok(())
    }

    async fn products(&mut self, rounds: usize) -> Result<()> {
        let mut shapes = vec![[1, 4, 4], [1, 256, 32], [7, 8, 4], [65, 768, 192], [17, 36, 68], [130, 64, 132]];
        shapes.extend((0..rounds).map(|_| [self.upto(150), 4 * self.upto(60), 4 * self.upto(60)]));
        for (case, shape) in shapes.into_iter().enumerate() {
            self.product(case, shape).await?;
        }
        Ok(())
    }

    /// Which parts of the epilogue there are depends on `case`.
    async fn product(&mut self, case: usize, [m, k, n]: [usize; 3]) -> Result<()> {
        let (x, w) = (self.numbers(m * k), self.numbers(k * n));
        let (add, bias, residual) = (self.numbers(m * k), self.numbers(n), self.numbers(m * n));
        let activation = [Activation::None, Activation::Relu, Activation::Gelu, Activation::Relu6][case % 4];
        let (adds, biased, resumes) = (case.is_multiple_of(2), case % 3 < 2, case % 5 > 1);
        let sum: Vec<f32> = if adds { x.iter().zip(&add).map(|(a, b)| a + b).collect() } else { x.clone() };
        let mut expected = reference::product(&sum, &w, [m, k, n]);
        reference::finish(&mut expected, biased.then_some(&bias), resumes.then_some(&residual), activation);
        self.poison(m * n);
        let epilogue = Epilogue {
            add: adds.then(|| self.tensor(&add, [1, m, k])),
            bias: biased.then(|| self.tensor(&bias, [n])),
            residual: resumes.then(|| self.tensor(&residual, [1, m, n])),
            activation,
        };
        let matrix = Matrix::Dense(self.tensor(&w, [k, n]));
        let found = linear(self.tensor(&x, [1, m, k]), matrix, epilogue);
        self.compare("product", format!("{m} x {k} x {n}, {activation:?}"), found, &expected).await
    }

    async fn quantized(&mut self, rounds: usize) -> Result<()> {
        let mut shapes = vec![[1, 32, 8], [9, 40, 12], [64, 768, 64]];
        shapes.extend((0..rounds).map(|_| [self.upto(100), 8 * self.upto(40), 4 * self.upto(40)]));
        for (case, shape) in shapes.into_iter().enumerate() {
            self.quantized_product(if case % 2 == 0 { 8 } else { 4 }, shape).await?;
        }
        Ok(())
    }

    async fn quantized_product(&mut self, bits: usize, [m, k, n]: [usize; 3]) -> Result<()> {
        let blocks = k.div_ceil(BLOCK);
        let bytes: Vec<u8> = (0..n * k * bits / 8).map(|_| self.random.next_u64() as u8).collect();
        let scales: Vec<u8> = (0..n * blocks)
            .flat_map(|_| half::f16::from_f32(0.01 * (2.0 + self.random.uniform())).to_le_bytes())
            .collect();
        let matrix = Matrix::quantized(bits, &bytes, &scales, [n, k], self.device);
        let (x, w) = (self.numbers(m * k), reference::dequantize(bits, &bytes, &scales, [n, k]));
        self.poison(m * n);
        let found = linear(self.tensor(&x, [m, k]), matrix, Epilogue::default());
        let name = if bits == 8 { "product q8" } else { "product q4" };
        self.compare(name, format!("{m} x {k} x {n}"), found, &reference::product(&x, &w, [m, k, n])).await
    }

    async fn convolutions(&mut self, rounds: usize) -> Result<()> {
        for case in 0..2 + rounds {
            let [b, h, w, n] = [1 + case % 2, self.upto(5), self.upto(5), 4 * self.upto(5)];
            let (bands, side) = if case % 2 == 0 { (3, 16) } else { (1 + self.upto(4), 4) };
            let image = self.numbers(b * bands * h * side * w * side);
            let (weight, bias) = (self.numbers(n * bands * side * side), self.numbers(n));
            let expected = reference::patch_embed(&image, &weight, &bias, [b, bands, h, w, side, n]);
            self.poison(b * h * w * n);
            let x = self.tensor(&image, [b, bands, h * side, w * side]);
            let kernel = self.tensor(&weight, [n, bands, side, side]);
            let found = convolution::patch_embed(x, kernel, self.tensor(&bias, [n]), None);
            self.compare("patch embedding", format!("{b} x {bands} x {h} x {w}, {side} to {n}"), found, &expected)
                .await?;

            let c = 4 * self.upto(6);
            let (x, weight) = (self.numbers(b * h * w * c), self.numbers(n * c * 9));
            self.poison(b * h * w * n);
            let found = convolution::conv3x3(self.tensor(&x, [b, h, w, c]), self.tensor(&weight, [n, c, 3, 3]));
            let expected = reference::convolution(&x, &weight, [b, h, w, c], [n, c, 3], [1, 1]);
            self.compare("3x3 convolution", format!("{b} x {h} x {w} x {c} to {n}"), found, &expected).await?;

            let (weight, bias) = (self.numbers(c * n * 4), self.numbers(n));
            self.poison(4 * b * h * w * n);
            let (map, kernel) = (self.tensor(&x, [b, h, w, c]), self.tensor(&weight, [c, n, 2, 2]));
            let found = convolution::double(map, kernel, self.tensor(&bias, [n]), Activation::Gelu);
            let expected = reference::double(&x, &weight, &bias, [b, h, w, c, n]);
            self.compare("upscaling", format!("{b} x {h} x {w} x {c} to {n}"), found, &expected).await?;
        }
        Ok(())
    }

    async fn strided(&mut self, rounds: usize) -> Result<()> {
        for case in 0..4 + rounds {
            let [b, h, w, n] = [self.upto(2), self.upto(11), self.upto(11), 4 * self.upto(5)];
            let [c, stride] = [if case % 2 == 0 { 3 } else { self.upto(9) }, 1 + case / 2 % 2];
            self.convolution([b, h, w, c], [n, c, 3], stride, case).await?;
            let (c, side) = (4 * self.upto(9), [3, 5, self.upto(7)][case % 3]);
            self.convolution([b, h, w, c], [c, 1, side], stride, case).await?;
        }
        Ok(())
    }

    /// Of `part` channels for each of n results. Where the kernels begin, and what follows them, depends on `case`.
    async fn convolution(
        &mut self,
        [b, h, w, c]: [usize; 4],
        [n, part, side]: [usize; 3],
        stride: usize,
        case: usize,
    ) -> Result<()> {
        let (x, weight) = (self.numbers(b * h * w * c), self.numbers(n * part * side * side));
        let bias = (case % 3 < 2).then(|| self.numbers(n));
        let before = self.upto(side) - 1;
        let activation = [Activation::Gelu, Activation::Relu6, Activation::None][case / 2 % 3];
        let mut expected = reference::convolution(&x, &weight, [b, h, w, c], [n, part, side], [stride, before]);
        reference::finish(&mut expected, bias.as_ref(), None, activation);
        self.poison(expected.len());
        let bias = bias.map(|bias| self.tensor(&bias, [n]));
        let placement = convolution::Placement { stride, before, bias, activation };
        let (map, kernel) = (self.tensor(&x, [b, h, w, c]), self.tensor(&weight, [n, part, side, side]));
        let (name, found) = if part == c {
            ("strided convolution", convolution::strided3x3(map, kernel, placement))
        } else {
            ("depthwise convolution", convolution::depthwise(map, kernel, placement))
        };
        let shape = format!("{b} x {h} x {w} x {c} to {n}, {side} / {stride} from {before}, {activation:?}");
        self.compare(name, shape, found, &expected).await
    }

    async fn windows(&mut self, rounds: usize) -> Result<()> {
        // batch, height, width, window rows and columns, heads, fours of a head
        let mut shapes = vec![
            [1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 14, 14, 2, 4],
            [1, 16, 16, 14, 14, 1, 16],
            [1, 14, 28, 14, 14, 1, 20],
            [2, 5, 3, 5, 3, 2, 2],
            [1, 13, 11, 8, 8, 1, 16],
        ];
        for _ in 0..rounds {
            let [h, w] = [self.upto(12), self.upto(12)];
            let window = if self.upto(2) == 1 { [h, w] } else { [self.upto(8), self.upto(8)] };
            shapes.push([self.upto(2), h, w, window[0], window[1], self.upto(3), self.upto(20)]);
        }
        for shape in shapes {
            self.window(shape).await?;
        }
        Ok(())
    }

    async fn window(&mut self, [b, h, w, rows, columns, heads, d4]: [usize; 7]) -> Result<()> {
        let dim = 4 * d4;
        let c = heads * dim;
        let (qkv, bias) = (self.numbers(b * h * w * 3 * c), self.numbers(3 * c));
        let (by_row, by_column) = (self.numbers((2 * rows - 1) * dim), self.numbers((2 * columns - 1) * dim));
        let added = reference::Added::Relative([&by_row, &by_column]);
        let expected = reference::window_attention(&qkv, &bias, &added, [b, h, w, c], [rows, columns, heads]);
        let tokens = self.tensor(&qkv[..b * h * w * c], [b, h, w, c]);
        self.poison(b * h * w * c);
        let attention = WindowAttention {
            rows,
            columns,
            heads,
            scale: (dim as f64).powf(-0.5),
            rel_pos_h: self.tensor(&by_row, [2 * rows - 1, dim]),
            rel_pos_w: self.tensor(&by_column, [2 * columns - 1, dim]),
        };
        // The projection gives what the reference gets; the tokens only say which device it is.
        let qkv = self.tensor(&qkv, [b, h, w, 3 * c]);
        let found = attention.forward(tokens, self.tensor(&bias, [3 * c]), |_, _| qkv);
        let shape = format!("{b} x {h} x {w} in {rows} x {columns}, {heads} x {dim}");
        self.compare("window attention", shape, found, &expected).await
    }

    async fn biased_windows(&mut self, rounds: usize) -> Result<()> {
        // batch, height, width, window, heads, fours of a head
        let mut shapes = vec![[1, 1, 1, 1, 1, 1], [1, 16, 9, 14, 2, 8], [2, 8, 15, 7, 2, 8], [1, 14, 14, 7, 3, 4]];
        shapes.extend((0..rounds).map(|_| {
            let [h, w, side] = [self.upto(12), self.upto(12), self.upto(9)];
            [self.upto(2), h, w, side, self.upto(3), self.upto(12)]
        }));
        for [b, h, w, side, heads, d4] in shapes {
            let c = heads * 4 * d4;
            let (qkv, beyond) = (self.numbers(b * h * w * 3 * c), self.numbers(3 * c));
            let biases = self.numbers(heads * side * side);
            let added = reference::Added::Biases(&biases);
            let expected = reference::window_attention(&qkv, &beyond, &added, [b, h, w, c], [side, side, heads]);
            self.poison(b * h * w * c);
            let attention = BiasedAttention { side, heads, biases: self.tensor(&biases, [heads, side, side]) };
            let found = attention.forward(self.tensor(&qkv, [b, h, w, 3 * c]), self.tensor(&beyond, [3 * c]));
            let shape = format!("{b} x {h} x {w} in {side}, {heads} x {}", 4 * d4);
            self.compare("biased attention", shape, found, &expected).await?;
        }
        Ok(())
    }

    async fn crossings(&mut self, rounds: usize) -> Result<()> {
        let mut shapes = vec![[1, 1, 1, 1, 1], [1, 3, 100, 8, 4], [1, 100, 3, 8, 8], [2, 33, 17, 2, 8]];
        shapes.extend((0..rounds).map(|_| [self.upto(2), self.upto(70), self.upto(70), self.upto(8), self.upto(8)]));
        for [b, n, m, heads, d4] in shapes {
            let c = heads * 4 * d4;
            let (q, k, v) = (self.numbers(b * n * c), self.numbers(b * m * c), self.numbers(b * m * c));
            self.poison(b * n * c);
            let (q3, k3, v3) = (self.tensor(&q, [b, n, c]), self.tensor(&k, [b, m, c]), self.tensor(&v, [b, m, c]));
            let found = cross_attention(q3, k3, v3, heads);
            let expected = reference::cross_attention(&q, &k, &v, [b, n, m, c, heads]);
            self.compare("attention", format!("{b} x {n} to {m}, {heads} x {}", 4 * d4), found, &expected).await?;
        }
        Ok(())
    }

    async fn norms(&mut self, rounds: usize) -> Result<()> {
        for case in 0..3 + rounds {
            let shape = [self.upto(70), 4 * self.upto(if case == 0 { 320 } else { 70 })];
            self.norm(case, shape).await?;
        }
        Ok(())
    }

    async fn norm(&mut self, case: usize, [m, n]: [usize; 2]) -> Result<()> {
        // Far from zero, where a careless variance loses its digits; numbers that 16 bits hold.
        let x: Vec<f32> = self.numbers(m * n).iter().map(|v| half::f16::from_f32(8.0 + v).to_f32()).collect();
        let (weight, bias) = (self.numbers(n), self.numbers(n));
        let (x2, w1, b1) = (self.tensor(&x, [m, n]), self.tensor(&weight, [n]), self.tensor(&bias, [n]));
        self.poison(m * n);
        let (found, gelu) = match case % 2 {
            0 => (layer_norm(x2, w1, b1, 1e-6), Activation::None),
            _ => (norm_gelu(x2, w1, b1, 1e-6), Activation::Gelu),
        };
        let expected = reference::layer_norm(&x, &weight, &bias, 1e-6, gelu);
        self.compare("layer norm", format!("{m} x {n}"), found, &expected).await
    }

    async fn rest(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..1 + rounds {
            let [outer, length, inner, to] = [self.upto(4), self.upto(30), self.upto(20), self.upto(40)];
            let x = self.numbers(outer * length * inner);
            self.poison(outer * to * inner);
            let found = resample(self.tensor(&x, [outer, length, inner]), to);
            let expected = reference::resample(&x, [outer, length, inner], to);
            self.compare("resampling", format!("{outer} x {length} x {inner} to {to}"), found, &expected).await?;

            let [m, n, c] = [self.upto(9), self.upto(70), 4 * self.upto(9)];
            let (a, b) = (self.numbers(m * c), self.numbers(n * c));
            let joined = concat(self.tensor(&a, [m, c]), self.tensor(&b, [n, c]));
            self.compare("joining", format!("{m} and {n} x {c}"), joined, &[a.clone(), b.clone()].concat()).await?;

            self.poison(m * n);
            let found = masks(self.tensor(&a, [1, m, c]), self.tensor(&b, [1, n, c]));
            let transposed: Vec<f32> = (0..c * n).map(|i| b[i % n * c + i / n]).collect();
            self.compare("masks", format!("{m} x {c} x {n}"), found, &reference::product(&a, &transposed, [m, c, n]))
                .await?;

            let sums: Vec<f32> = b.iter().enumerate().map(|(i, v)| v + a[i % c]).collect();
            let found = add(self.tensor(&b, [n, c]), self.tensor(&a[..c], [1, c]));
            self.compare("sum", format!("{n} x {c}"), found, &sums).await?;

            let found = column_major(self.tensor(&b, [n, c]));
            self.compare("transposition", format!("{n} x {c}"), found, &b).await?;

            let gaussian = self.numbers(2 * c);
            let (h, w) = (self.upto(9), self.upto(9));
            let found = dense_pe(self.tensor(&gaussian, [2, c]), h, w);
            self.compare("positions", format!("{h} x {w} x {}", 2 * c), found, &reference::dense_pe(&gaussian, h, w))
                .await?;
        }
        Ok(())
    }

    async fn classes(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..2 + rounds {
            let [classes, h, w] = [1 + self.upto(8), self.upto(12), self.upto(12)];
            let side = 4 * h.max(w);
            let [top, left] = [self.upto(side) - 1, self.upto(side) - 1];
            let [rows, columns] = [self.upto(side - top), self.upto(side - left)];
            let values: Vec<f32> = self.numbers(classes * h * w).iter().map(|v| 4.0 * v).collect();
            self.poison(rows * columns);
            let logits = self.tensor(&values, [1, classes, h, w]);
            let part = ([top, left], [rows, columns]);
            let calibration = Calibration { temperature: 0.5, bias: self.numbers(classes) };
            let (found, confidence) = classify(logits, side, part.0, part.1, Some(&calibration)).await?;
            let plane = |(i, v): (usize, &f32)| 2.0 * v + calibration.bias[i / (h * w)];
            let calibrated: Vec<f32> = values.iter().enumerate().map(plane).collect();
            let expected = reference::classify(&calibrated, [classes, h, w], side, part.0, part.1);
            // Two classes may be as likely but for the last digit; a confidence is rounded.
            let wrong =
                found.iter().zip(&confidence).zip(&expected).filter(|((class, sure), (likely, probability))| {
                    !likely.contains(*class) || (f32::from(**sure) - 255.0 * probability).abs() > 0.6
                });
            let missing = found.len() != expected.len() || confidence.len() != expected.len();
            let error = if missing { f32::INFINITY } else { wrong.count() as f32 };
            let shape = format!("{classes} x {h} x {w} to {rows} x {columns} of {side}");
            self.found.push(Check { kernel: "classes", shape, error });
        }
        Ok(())
    }
}
