//! Gradients of depthwise convolutions.

use std::ops::Range;

use burn_flex::FlexTensor;

use super::super::parallel::for_chunks;
use super::super::product::{Level, VectorWork};
use super::super::reduce::add_up;
use super::super::tensor::primitive;
use super::super::vector::Vector;
use super::{CpuPlacement, depthwise};
use crate::kernels::activation::Activation;

/// The gradient of the images, `shape` `[b, h, w, c]`, from that of the result before bias and activation; kernels `[k, k, c]`.
pub fn depthwise_input_gradient(
    gradient: &FlexTensor,
    kernels: &FlexTensor,
    [stride, before]: [usize; 2],
    shape: [usize; 4],
) -> FlexTensor {
    let side = kernels.layout().shape()[0];
    let [b, h, w, c] = shape;
    let taps: &[f32] = kernels.storage();
    if stride == 1 && before < side {
        // The same with the kernels turned round.
        let turned = primitive(taps.rchunks_exact(c).flatten().copied().collect(), &[side, side, c]);
        let placement = CpuPlacement { stride, before: side - 1 - before, bias: None, activation: Activation::None };
        return depthwise(gradient, &turned, &placement);
    }
    let of = gradient.layout().shape();
    let (rows, columns) = (of[1], of[2]);
    let gradient: &[f32] = gradient.storage();
    assert!(gradient.len() == b * rows * columns * c && taps.len() == side * side * c);
    let mut out = vec![0.0f32; b * h * w * c];
    let level = Level::here();
    for_chunks(&mut out, (w * c).max(1), |line, out| {
        let row = InputRow { gradient, taps, side, stride, before, rows, columns, h, line, out, channels: c };
        // SAFETY: the slices have the lengths of their shapes, as asserted above; the level is this machine's.
        unsafe { level.run(row) };
    });
    primitive(out, &shape)
}

/// Row `line` of the gradient of all images, `out`, zeros at first.
struct InputRow<'a> {
    /// `[b, rows, columns, channels]`.
    gradient: &'a [f32],
    /// `[side, side, channels]`.
    taps: &'a [f32],
    side: usize,
    stride: usize,
    before: usize,
    rows: usize,
    columns: usize,
    /// Rows of an image.
    h: usize,
    line: usize,
    out: &'a mut [f32],
    channels: usize,
}

impl InputRow<'_> {
    /// The first and last place along an axis whose kernel covers `at`, and by which of its own numbers the first does: the next ones
    /// do by one that is a stride less.
    #[inline(always)]
    fn covering(&self, at: usize, count: usize) -> (Range<usize>, usize) {
        let at = at + self.before;
        let first = (at + 1).saturating_sub(self.side).div_ceil(self.stride);
        let end = (at / self.stride + 1).min(count);
        (first..end.max(first), at - (first * self.stride).min(at))
    }

    /// # Safety
    /// As [`VectorWork::run`]'s, and there are as many channels as `T` has lanes.
    #[inline(always)]
    unsafe fn write<T: Vector>(self) {
        let (c, side, stride) = (self.channels, self.side, self.stride);
        let (batch, y) = (self.line / self.h, self.line % self.h);
        let (rows, line) = self.covering(y, self.rows);
        for x in 0..self.out.len() / c {
            let (columns, tap) = self.covering(x, self.columns);
            let first = (batch * self.rows + rows.start) * self.columns + columns.start;
            for channel in (0..c).step_by(T::LANES) {
                let channel = channel.min(c - T::LANES);
                // SAFETY: these places exist, their kernels have these numbers, and `T::LANES` channels follow `channel`.
                unsafe {
                    let mut sum = T::splat(0.0);
                    for i in 0..rows.len() {
                        let gradient = self.gradient.as_ptr().add((first + i * self.columns) * c + channel);
                        let taps = self.taps.as_ptr().add(((line - i * stride) * side + tap) * c + channel);
                        for j in 0..columns.len() {
                            sum = sum.add_product(T::load(gradient.add(j * c)), T::load(taps.sub(j * stride * c)));
                        }
                    }
                    sum.store(self.out.as_mut_ptr().add(x * c + channel));
                }
            }
        }
    }
}

impl VectorWork for InputRow<'_> {
    /// # Safety
    /// The slices have the lengths of their shapes.
    #[inline(always)]
    unsafe fn run<T: Vector>(self) {
        // SAFETY: as the caller promises.
        unsafe { if self.channels < T::LANES { self.write::<f32>() } else { self.write::<T>() } }
    }
}

/// The gradient of the kernels, `[side, side, c]`, from images `[b, h, w, c]` and the gradient of the result before bias and activation.
pub fn depthwise_kernel_gradient(
    x: &FlexTensor,
    gradient: &FlexTensor,
    side: usize,
    [stride, before]: [usize; 2],
) -> FlexTensor {
    /// Rows of the result whose sums are added up at once: an order that does not depend on the number of cores.
    const ROWS_A_SUM: usize = 8;
    let (shape, of) = (x.layout().shape(), gradient.layout().shape());
    let (b, sides @ [h, w, c]) = (shape[0], [shape[1], shape[2], shape[3]]);
    let (rows, columns) = (of[1], of[2]);
    let (values, gradient): (&[f32], &[f32]) = (x.storage(), gradient.storage());
    assert!(values.len() == b * h * w * c && gradient.len() == b * rows * columns * c);
    let sums = Sums { values, sides, gradient, rows, columns, side, stride, before };
    let length = (side * side * c).max(1);
    let mut parts = vec![0.0f32; (b * rows).div_ceil(ROWS_A_SUM) * length];
    let level = Level::here();
    for_chunks(&mut parts, length, |i, part| {
        for row in i * ROWS_A_SUM..((i + 1) * ROWS_A_SUM).min(b * rows) {
            // SAFETY: the slices have the lengths of their shapes, as asserted above and by `length`; the level is this machine's.
            unsafe { level.run(KernelRow { of: &sums, row, out: part }) };
        }
    });
    primitive(add_up(&parts, length), &[side, side, c])
}

struct Sums<'a> {
    /// `[b, h, w, c]`.
    values: &'a [f32],
    /// `h`, `w` and `c`.
    sides: [usize; 3],
    /// `[b, rows, columns, c]`.
    gradient: &'a [f32],
    rows: usize,
    columns: usize,
    side: usize,
    stride: usize,
    before: usize,
}

/// What row `row` of the result of all images gives, to add to `out`, `[side, side, c]`.
struct KernelRow<'a> {
    of: &'a Sums<'a>,
    row: usize,
    out: &'a mut [f32],
}

impl VectorWork for KernelRow<'_> {
    /// # Safety
    /// The slices have the lengths of their shapes.
    #[inline(always)]
    unsafe fn run<T: Vector>(self) {
        let Self { of, row, out } = self;
        let ([h, w, c], side) = (of.sides, of.side);
        let (batch, top) = (row / of.rows, row % of.rows * of.stride);
        for line in 0..side {
            let Some(y) = (top + line).checked_sub(of.before).filter(|y| *y < h) else { continue };
            let from = (batch * h + y) * w * c;
            let out = &mut out[line * side * c..][..side * c];
            // SAFETY: as the caller promises; the taps are the kernel's, and there are as many channels as lanes.
            unsafe {
                match side {
                    _ if c < T::LANES => (0..side).for_each(|tap| of.taps::<f32, 1>(row, from, tap, out)),
                    3 => of.taps::<T, 3>(row, from, 0, out),
                    5 => of.taps::<T, 5>(row, from, 0, out),
                    _ => (0..side).for_each(|tap| of.taps::<T, 1>(row, from, tap, out)),
                }
            }
        }
    }
}

impl Sums<'_> {
    /// Columns of the result whose kernels' column `tap` lies on the image.
    #[inline(always)]
    fn inside(&self, tap: usize) -> Range<usize> {
        let [_, w, _] = self.sides;
        let end = (w + self.before).saturating_sub(tap).div_ceil(self.stride).min(self.columns);
        self.before.saturating_sub(tap).div_ceil(self.stride).min(end)..end
    }

    /// Adds the sums of `K` columns of one row of the kernels, from column `first` on, to `out` `[side, c]`. The images' row starts at
    /// `from`.
    ///
    /// # Safety
    /// As [`KernelRow`]'s; row and columns are there, and there are as many channels as `T` has lanes.
    #[inline(always)]
    unsafe fn taps<T: Vector, const K: usize>(&self, row: usize, from: usize, first: usize, out: &mut [f32]) {
        let [_, _, c] = self.sides;
        let inside: [Range<usize>; K] = std::array::from_fn(|tap| self.inside(first + tap));
        // Of the columns where all are inside the sums are in registers.
        let common = inside.iter().fold(0..self.columns, |a, b| a.start.max(b.start)..a.end.min(b.end));
        let gradient = self.gradient[row * self.columns * c..].as_ptr();
        let values = self.values.as_ptr();
        let pixel = |column: usize, tap: usize| from + (column * self.stride + first + tap - self.before) * c;
        for start in (0..c).step_by(T::LANES) {
            let channel = start.min(c - T::LANES);
            // SAFETY: all columns are inside, and `T::LANES` channels follow `channel`.
            unsafe {
                let mut sums = [T::splat(0.0); K];
                for column in common.clone() {
                    let g = T::load(gradient.add(column * c + channel));
                    for (tap, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add_product(g, T::load(values.add(pixel(column, tap) + channel)));
                    }
                }
                for (tap, sum) in sums.iter_mut().enumerate() {
                    for column in inside[tap].clone().filter(|column| !common.contains(column)) {
                        let g = T::load(gradient.add(column * c + channel));
                        *sum = sum.add_product(g, T::load(values.add(pixel(column, tap) + channel)));
                    }
                }
                let mut buffer = [0.0f32; 16];
                for (tap, sum) in sums.into_iter().enumerate() {
                    sum.store(buffer.as_mut_ptr());
                    // The last vector begins with channels that an earlier one has.
                    let skipped = start - channel;
                    let out = &mut out[(first + tap) * c + start..(first + tap) * c + channel + T::LANES];
                    for (out, sum) in out.iter_mut().zip(&buffer[skipped..]) {
                        *out += sum;
                    }
                }
            }
        }
    }
}
