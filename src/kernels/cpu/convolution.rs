//! Convolutions as products of gathered rows.

use burn_flex::FlexTensor;

use super::linear::{CpuEpilogue, CpuMatrix};
use super::parallel::{ROWS, for_chunks};
use super::product::{Plane, RowSource};
use super::tensor::primitive;

/// A 3x3 convolution with zero padding: x `[b, h, w, c]`, matrix `[9 c, n]` in the order of row, column and channel of the
/// kernel; `[b, h, w, n]`.
pub fn conv3x3(x: &FlexTensor, matrix: &CpuMatrix, epilogue: &CpuEpilogue) -> FlexTensor {
    let shape = x.layout().shape();
    let (b, sides @ [h, w, c]) = (shape[0], [shape[1], shape[2], shape[3]]);
    let outside = vec![0.0f32; c];
    let lhs = Neighbours { values: x.storage(), sides, outside: &outside };
    let out = epilogue.product(lhs, matrix, b * h * w).compute();
    primitive(out, &[b, h, w, matrix.sides()[1]])
}

/// The nine neighbours of each pixel, side by side.
struct Neighbours<'a> {
    /// `[b, h, w, c]`.
    values: &'a [f32],
    /// `h`, `w` and `c`.
    sides: [usize; 3],
    /// `c` zeros.
    outside: &'a [f32],
}

impl RowSource for Neighbours<'_> {
    fn run(&self) -> usize {
        self.sides[2]
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        let [h, w, c] = self.sides;
        let (y, x) = (row / w % h, row % w);
        let (shift, channel) = (from / c, from % c);
        // One further than the pixel itself, so that nothing is negative.
        let (down, right) = (y + shift / 3, x + shift % 3);
        if (1..=h).contains(&down) && (1..=w).contains(&right) {
            let pixel = row + (shift / 3) * w + shift % 3 - w - 1;
            &self.values[pixel * c + channel..][..length]
        } else {
            &self.outside[channel..][..length]
        }
    }
}

/// A convolution whose stride is its kernel: image `[b, bands, h, w]`, matrix `[bands side side, n]`;
/// `[b, h / side, w / side, n]`.
pub fn patch_embed(image: &FlexTensor, side: usize, matrix: &CpuMatrix, epilogue: &CpuEpilogue) -> FlexTensor {
    let shape = image.layout().shape();
    let [b, bands, h, w] = [shape[0], shape[1], shape[2], shape[3]];
    let (down, across, line) = (h / side, w / side, matrix.sides()[0]);
    // Copied first: a patch's runs of `side` pixels are too short for products to read them in place.
    let values: &[f32] = image.storage();
    let mut patches = vec![0.0f32; b * down * across * line];
    for_chunks(&mut patches, (ROWS * line).max(1), |first, patches| {
        for (i, patch) in patches.chunks_exact_mut(line).enumerate() {
            let place = ROWS * first + i;
            let (batch, y, x) = (place / (down * across), place / across % down, place % across);
            for (run, to) in patch.chunks_exact_mut(side).enumerate() {
                let (band, row) = (run / side, run % side);
                let at = ((batch * bands + band) * h + y * side + row) * w + x * side;
                to.copy_from_slice(&values[at..][..side]);
            }
        }
    });
    let lhs = Plane { values: &patches, inputs: line };
    let out = epilogue.product(lhs, matrix, b * down * across).compute();
    primitive(out, &[b, down, across, matrix.sides()[1]])
}
