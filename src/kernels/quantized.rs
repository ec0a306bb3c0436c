//! Block-quantised matrices as products read them: integers of 8 or 4 bits, and an f16 scale for each 32 inputs of an output.
//!
//! A package stores a row of integers for each output; here four neighbouring outputs share a word, as one thread reads them:
//!
//! | bits | words `i32` | four outputs at an input |
//! |---|---|---|
//! | 8 | `[inputs, outputs / 4]` | bytes from the lowest on, two's complement |
//! | 4 | `[inputs / 2, outputs / 4]` | nibbles plus 8; the even input in the lower half |
//!
//! Scales are `[ceil(inputs / 32), outputs / 2]` words, the even output's in the lower half.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::f16;

#[cfg(feature = "gpu")]
use super::gpu;

/// Inputs that share a scale.
pub const BLOCK: usize = 32;

/// A quantised matrix, `[inputs, outputs]`. How many bits its integers have is known to who holds it ([`super::Matrix`]).
#[derive(Module, Debug)]
pub struct Quantized {
    pub(super) values: Tensor<2, Int>,
    pub(super) scales: Tensor<2, Int>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Quantized {
    /// Whether a matrix of this shape can be stored so: outputs in fours, inputs in pairs of words.
    pub fn fits(inputs: usize, outputs: usize) -> bool {
        inputs.is_multiple_of(8) && outputs.is_multiple_of(4)
    }

    /// Uploads integers of `bits` (8 or 4) in rows of an output each, as a package stores them, little-endian f16 scales likewise.
    ///
    /// # Panics
    /// If the lengths are not the shape's, or it does not fit ([`Quantized::fits`]).
    pub(super) fn upload(
        bits: usize,
        values: &[u8],
        scales: &[u8],
        [outputs, inputs]: [usize; 2],
        device: &Device,
    ) -> Self {
        assert!(Self::fits(inputs, outputs) && values.len() == outputs * inputs * bits / 8);
        let blocks = inputs.div_ceil(BLOCK);
        assert!(scales.len() == 2 * outputs * blocks);
        let fours = outputs / 4;
        let row = inputs * bits / 8;
        let mut words = vec![0u32; inputs * bits / 8 * fours];
        // A cache line of words and of bytes at a time: the one has outputs side by side, the other inputs.
        for start in (0..row).step_by(64) {
            for (four, lines) in values.chunks_exact(4 * row).enumerate() {
                for at in start..(start + 64).min(row) {
                    let bytes = [0, 1, 2, 3].map(|output| u32::from(lines[output * row + at]));
                    // A byte holds one input, or two: the even one in its lower half, which is how a word has them.
                    words[at * fours + four] = bytes.iter().enumerate().fold(0, |word, (output, byte)| match bits {
                        8 => word | byte << (8 * output),
                        _ => word | (byte & 15) << (4 * output) | (byte >> 4) << (16 + 4 * output),
                    });
                }
            }
        }
        let mut pairs = vec![0u32; blocks * outputs / 2];
        for (output, line) in scales.chunks_exact(2 * blocks).enumerate() {
            for (block, scale) in line.chunks_exact(2).enumerate() {
                let bits = u32::from(u16::from_le_bytes([scale[0], scale[1]]));
                pairs[block * outputs / 2 + output / 2] |= bits << (16 * (output % 2));
            }
        }
        let (values, scales) = (upload(words, fours, device), upload(pairs, outputs / 2, device));
        Self { values, scales, inputs, outputs }
    }

    /// Bytes that it takes on the device with integers of `bits`.
    pub(super) fn bytes(&self, bits: usize) -> usize {
        self.inputs * self.outputs * bits / 8 + 2 * self.outputs * self.inputs.div_ceil(BLOCK)
    }

    /// `[inputs, outputs]` as floats, read back first: for devices and tests without a kernel.
    ///
    /// # Panics
    /// If the device fails; in a browser, which cannot wait for it.
    pub(super) fn dequantized(&self, bits: usize) -> Tensor<2> {
        let device = self.values.device();
        let words = |tensor: &Tensor<2, Int>| -> Vec<u32> {
            let data = tensor.clone().into_data().convert::<i32>();
            data.as_bytes().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let (values, scales) = (words(&self.values), words(&self.scales));
        let (fours, mut floats) = (self.outputs / 4, Vec::with_capacity(self.inputs * self.outputs));
        for input in 0..self.inputs {
            for output in 0..self.outputs {
                let integer = if bits == 8 {
                    (values[input * fours + output / 4] >> (8 * (output % 4))) as u8 as i8 as f32
                } else {
                    let word = values[input / 2 * fours + output / 4] >> (16 * (input % 2) + 4 * (output % 4));
                    (word & 15) as f32 - 8.0
                };
                let pair = scales[input / BLOCK * self.outputs / 2 + output / 2];
                floats.push(integer * f16::from_bits((pair >> (16 * (output % 2))) as u16).to_f32());
            }
        }
        Tensor::from_data(TensorData::new(floats, [self.inputs, self.outputs]), &device)
    }
}

/// Words in rows of `columns`, on `device`.
fn upload(words: Vec<u32>, columns: usize, device: &Device) -> Tensor<2, Int> {
    let shape = [words.len() / columns, columns];
    #[cfg(feature = "gpu")]
    if gpu::runs_on(device) {
        return gpu::upload_integers(words, shape, device);
    }
    let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
    Tensor::from_data(TensorData::new(words, shape), (device, DType::I32))
}
