//! Gradients of 3x3 convolutions, products as well.

use burn_flex::FlexTensor;

use super::super::linear::{CpuEpilogue, CpuMatrix};
use super::super::parallel::for_chunks;
use super::super::product::RowSource;
use super::super::tensor::primitive;
use super::Grid;

/// The gradient of the images, `shape` `[b, h, w, c]`, from that of the result before bias and activation, `[b, rows, columns, n]`;
/// matrix `[9 c, n]`, row-major.
///
/// Pixels whose row and column leave the same remainders by the stride are under the same numbers of the kernels, those of a smaller
/// kernel that moves pixel by pixel over the result.
pub fn conv3x3_input_gradient(
    gradient: &FlexTensor,
    matrix: &FlexTensor,
    [stride, before]: [usize; 2],
    shape: [usize; 4],
) -> FlexTensor {
    let [b, h, w, c] = shape;
    let matrix: &[f32] = matrix.storage();
    let n = matrix.len() / (9 * c).max(1);
    // The kernel's rows or columns over such pixels, last first, and where the first of them lies on the result.
    let phase = |remainder: usize| {
        let taps: Vec<usize> =
            (0..3).rev().filter(|tap| (remainder + before + 3 * stride - tap).is_multiple_of(stride)).collect();
        let first = taps.first().map_or(0, |tap| (remainder + before) as isize - *tap as isize) / stride as isize;
        (taps, first)
    };
    let mut out = vec![0.0f32; b * h * w * c];
    for (y, x) in (0..stride.min(h)).flat_map(|y| (0..stride.min(w)).map(move |x| (y, x))) {
        let ((lines, top), (taps, left)) = (phase(y), phase(x));
        if lines.is_empty() || taps.is_empty() {
            continue;
        }
        let mut turned = Vec::with_capacity(lines.len() * taps.len() * n * c);
        for (line, tap) in lines.iter().flat_map(|line| taps.iter().map(move |tap| (line, tap))) {
            let block = &matrix[(3 * line + tap) * c * n..][..c * n];
            turned.extend((0..n).flat_map(|output| block[output..].iter().step_by(n)));
        }
        let turned = primitive(turned, &[lines.len() * taps.len() * n, c]);
        let (rows, columns) = ((h - y).div_ceil(stride), (w - x).div_ceil(stride));
        let grid = Grid { rows, columns, stride: 1, first: [top, left], kernel: [lines.len(), taps.len()] };
        let pixels = grid.product(gradient, &CpuMatrix::dense(turned), &CpuEpilogue::default());
        if stride == 1 {
            return primitive(pixels, &shape);
        }
        for_chunks(&mut out, (w * c).max(1), |line, out| {
            let (batch, row) = (line / h, line % h);
            if row % stride == y {
                let pixels = pixels[(batch * rows + row / stride) * columns * c..].chunks_exact(c);
                for (to, pixel) in out.chunks_exact_mut(c).skip(x).step_by(stride).zip(pixels) {
                    to.copy_from_slice(pixel);
                }
            }
        });
    }
    primitive(out, &shape)
}

/// The gradient of the matrix, `[9 c, n]`, from images `[b, h, w, c]` and the gradient of the result before bias and activation,
/// `[b, rows, columns, n]`.
pub fn conv3x3_matrix_gradient(x: &FlexTensor, gradient: &FlexTensor, placed: [usize; 2]) -> FlexTensor {
    let (c, of) = (x.layout().shape()[3], gradient.layout().shape());
    let (b, rows, columns, n) = (of[0], of[1], of[2], of[3]);
    let flat = CpuMatrix::dense(gradient.reshape([b * rows * columns, n].into()));
    let planes = Planes::new(x, placed, [rows, columns]);
    let out = CpuEpilogue::default().product(planes, &flat, 9 * c).compute();
    primitive(out, &[9 * c, n])
}

/// For each number of a channel's kernel, what lies under it at all places: rows of a product. Images are kept channel by channel,
/// with the zeros beyond their border, and of each line the columns of one remainder by the stride next to each other: a run is then
/// a line of the result.
struct Planes {
    /// `[c, b, lines, stride, across]`.
    values: Vec<f32>,
    b: usize,
    lines: usize,
    stride: usize,
    across: usize,
    channels: usize,
    /// Of the result.
    rows: usize,
    /// Of the result.
    columns: usize,
}

impl Planes {
    fn new(x: &FlexTensor, [stride, before]: [usize; 2], [rows, columns]: [usize; 2]) -> Self {
        /// Channels that one core copies at once: a cache line.
        const CHANNELS: usize = 16;
        let shape = x.layout().shape();
        let [b, h, w, c] = [shape[0], shape[1], shape[2], shape[3]];
        let (lines, across) = ((rows - 1) * stride + 3, columns + 2 / stride);
        let plane = b * lines * stride * across;
        let values: &[f32] = x.storage();
        let mut planes = vec![0.0f32; c * plane];
        for_chunks(&mut planes, CHANNELS * plane, |group, planes| {
            let first = group * CHANNELS;
            let count = planes.len() / plane;
            for (pixel, values) in values.chunks_exact(c).enumerate() {
                let (batch, y, x) = (pixel / (h * w), pixel / w % h + before, pixel % w + before);
                // A stride may leave out the last pixels.
                if y >= lines || x / stride >= across {
                    continue;
                }
                let at = ((batch * lines + y) * stride + x % stride) * across + x / stride;
                for (i, value) in values[first..first + count].iter().enumerate() {
                    planes[i * plane + at] = *value;
                }
            }
        });
        Self { values: planes, b, lines, stride, across, channels: c, rows, columns }
    }
}

impl RowSource for Planes {
    fn run(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    fn part(&self, row: usize, from: usize, length: usize) -> &[f32] {
        let (tap, channel) = (row / self.channels, row % self.channels);
        let (line, x) = (from / self.columns, from % self.columns);
        let (batch, y) = (line / self.rows, line % self.rows * self.stride + tap / 3);
        let above = (channel * self.b + batch) * self.lines + y;
        let at = (above * self.stride + tap % 3 % self.stride) * self.across + tap % 3 / self.stride + x;
        &self.values[at..][..length]
    }
}
