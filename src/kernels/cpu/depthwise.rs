//! Depthwise convolutions: channels in vectors, the sums of some neighbouring pixels in registers.

use std::ops::Range;

use burn_flex::FlexTensor;

use super::activation::{apply, limit};
use super::linear::CpuEpilogue;
use super::parallel::{Shared, for_tasks, threads};
use super::product::{Level, VectorWork};
use super::tensor::primitive;
use super::vector::Vector;
use crate::kernels::activation::Activation;

#[cfg(feature = "train")]
pub mod gradients;

/// Where the kernels of a convolution lie on its input, and what follows it: a [`crate::kernels::convolution::Placement`].
pub struct CpuPlacement<'a> {
    /// Pixels from one kernel to the next.
    pub stride: usize,
    /// Zero pixels above and left of the image that the first kernel covers.
    pub before: usize,
    /// One number for each channel of the result.
    pub bias: Option<&'a FlexTensor>,
    /// Last of all.
    pub activation: Activation,
}

impl CpuPlacement<'_> {
    /// What follows the product that a convolution is.
    pub fn epilogue(&self) -> CpuEpilogue<'_> {
        CpuEpilogue { bias: self.bias, residual: None, activation: self.activation }
    }
}

/// See [`crate::kernels::convolution::depthwise`]: x `[b, h, w, c]`, kernels `[k, k, c]`.
pub fn depthwise(x: &FlexTensor, kernels: &FlexTensor, placement: &CpuPlacement) -> FlexTensor {
    let (shape, stride) = (x.layout().shape(), placement.stride);
    let (b, sides @ [h, w, c], side) = (shape[0], [shape[1], shape[2], shape[3]], kernels.layout().shape()[0]);
    let (rows, columns) = (h.div_ceil(stride), w.div_ceil(stride));
    let (values, taps): (&[f32], &[f32]) = (x.storage(), kernels.storage());
    let bias: Option<&[f32]> = placement.bias.map(FlexTensor::storage);
    assert!(values.len() == b * h * w * c && taps.len() == side * side * c && bias.is_none_or(|bias| bias.len() == c));
    let mut out = Vec::with_capacity(b * rows * columns * c);
    let to = Shared::new(&mut out);
    let (before, activation) = (placement.before, placement.activation);
    let image = Image { values, sides, rows, columns, taps, side, stride, before, bias, activation, to: &to };
    let level = Level::here();
    // Rows next to each other share most of their input.
    let run = (b * rows).div_ceil(4 * threads()).clamp(1, ROWS_A_TASK);
    for_tasks((b * rows).div_ceil(run), |task| {
        for row in task * run..((task + 1) * run).min(b * rows) {
            // SAFETY: only this task has this row; the lengths are asserted above; the level is this machine's.
            unsafe { level.run(Row { of: &image, row }) };
        }
    });
    // SAFETY: the tasks' rows are all there are, and each has been written.
    unsafe { out.set_len(b * rows * columns * c) };
    primitive(out, &[b, rows, columns, c])
}

/// Rows of the result that one core computes in a run, at most.
const ROWS_A_TASK: usize = 8;

/// Pixels whose sums are in registers at once.
const PIXELS: usize = 4;

/// The most columns of the input that they see: five wide kernels with a stride of 2.
const SEEN: usize = 2 * (PIXELS - 1) + 5;

/// Vectors of channels that all pixels of a row pass through before the next ones: their kernels stay in the first cache.
const VECTORS: usize = 16;

struct Image<'a> {
    /// `[b, h, w, c]`.
    values: &'a [f32],
    /// `h`, `w` and `c`.
    sides: [usize; 3],
    /// Of the result.
    rows: usize,
    /// Of the result.
    columns: usize,
    /// `[side, side, c]`.
    taps: &'a [f32],
    side: usize,
    stride: usize,
    before: usize,
    bias: Option<&'a [f32]>,
    activation: Activation,
    to: &'a Shared,
}

/// Row `row` of the result of all images, which nobody else reads or writes and which has memory.
struct Row<'a> {
    of: &'a Image<'a>,
    row: usize,
}

impl VectorWork for Row<'_> {
    /// # Safety
    /// As [`Row`] says, and the slices have the lengths of their shapes.
    #[inline(always)]
    unsafe fn run<T: Vector>(self) {
        let Self { of, row } = self;
        // SAFETY: as the caller promises; kernel and stride are those of the image, and there are as many channels as lanes.
        unsafe {
            match (of.side, of.stride) {
                _ if of.sides[2] < T::LANES => of.any::<f32>(row),
                (3, 1) => of.some::<T, 3, 1>(row),
                (3, 2) => of.some::<T, 3, 2>(row),
                (5, 1) => of.some::<T, 5, 1>(row),
                (5, 2) => of.some::<T, 5, 2>(row),
                _ => of.any::<T>(row),
            }
        }
    }
}

impl Image<'_> {
    /// The rows of the kernel that lie on the image for row `row` of the result, and the row of all images' under the kernel's first
    /// row, which may lie above.
    #[inline(always)]
    fn lines(&self, row: usize) -> (Range<usize>, isize) {
        let [h, _, _] = self.sides;
        let (batch, top) = (row / self.rows, row % self.rows * self.stride);
        let inside = self.before.saturating_sub(top)..self.side.min((h + self.before).saturating_sub(top));
        (inside, (batch * h + top) as isize - self.before as isize)
    }

    /// A row of kernels of any size, pixel by pixel.
    ///
    /// # Safety
    /// As [`Row`]'s; there are as many channels as `T` has lanes.
    #[inline(always)]
    unsafe fn any<T: Vector>(&self, row: usize) {
        let ([_, w, c], side) = (self.sides, self.side);
        let (lines, first) = self.lines(row);
        for column in 0..self.columns {
            let left = column * self.stride;
            let inside = self.before.saturating_sub(left)..side.min((w + self.before).saturating_sub(left));
            let to = self.to.at((row * self.columns + column) * c);
            for channel in (0..c).step_by(T::LANES) {
                let channel = channel.min(c - T::LANES);
                // SAFETY: lines and columns are those on the image, and `T::LANES` channels follow `channel`.
                unsafe {
                    let mut sum = self.start::<T>(channel);
                    for y in lines.clone() {
                        let pixel = (first + y as isize) as usize * w + left;
                        for x in inside.clone() {
                            let value = T::load(self.values.as_ptr().add((pixel + x - self.before) * c + channel));
                            sum = sum.add_product(value, T::load(self.taps.as_ptr().add((y * side + x) * c + channel)));
                        }
                    }
                    limit(self.activation, sum).store(to.add(channel));
                }
            }
            // SAFETY: the pixel has just been written, and is the caller's alone.
            self.finish_written(unsafe { std::slice::from_raw_parts_mut(to, c) });
        }
    }

    /// The bias of a vector of channels, or zeros.
    #[inline(always)]
    unsafe fn start<T: Vector>(&self, channel: usize) -> T {
        // SAFETY: as the caller promises, `T::LANES` channels follow `channel`.
        unsafe { self.bias.map_or(T::splat(0.0), |bias| T::load(bias.as_ptr().add(channel))) }
    }

    /// The activation of what has been written, if it is no limit.
    #[inline(always)]
    fn finish_written(&self, values: &mut [f32]) {
        if self.activation == Activation::Gelu {
            apply(Activation::Gelu, values);
        }
    }

    /// A row of kernels of side `K` and stride `S`.
    ///
    /// # Safety
    /// As [`Row`]'s; there are as many channels as `T` has lanes, and `K` and `S` are the image's.
    #[inline(always)]
    unsafe fn some<T: Vector, const K: usize, const S: usize>(&self, row: usize) {
        let [_, w, c] = self.sides;
        let zeros = [0.0f32; 16];
        let seen = (PIXELS - 1) * S + K;
        for from in (0..c).step_by(VECTORS * T::LANES) {
            let channels = from.min(c - T::LANES)..(from + VECTORS * T::LANES).min(c);
            for column in (0..self.columns).step_by(PIXELS) {
                let left = (column * S) as isize - self.before as isize;
                let is_inside = left >= 0 && left as usize + seen <= w;
                let count = PIXELS.min(self.columns - column);
                let to = self.to.at((row * self.columns + column) * c);
                // SAFETY: as the caller promises; where not all columns are inside, those that are not are not read.
                unsafe {
                    if is_inside {
                        self.pixels::<T, K, S, true>(row, left, channels.clone(), to, count, &zeros);
                    } else {
                        self.pixels::<T, K, S, false>(row, left, channels.clone(), to, count, &zeros);
                    }
                    for pixel in 0..count {
                        let values = to.add(pixel * c + channels.start);
                        self.finish_written(std::slice::from_raw_parts_mut(values, channels.len()));
                    }
                }
            }
        }
    }

    /// The sums of `count` pixels at `to`, whose kernels' columns start with `left`.
    ///
    /// # Safety
    /// As [`Image::some`]; if `INSIDE`, all columns that [`PIXELS`] pixels see are.
    #[inline(always)]
    unsafe fn pixels<T: Vector, const K: usize, const S: usize, const INSIDE: bool>(
        &self,
        row: usize,
        left: isize,
        channels: Range<usize>,
        to: *mut f32,
        count: usize,
        zeros: &[f32; 16],
    ) {
        const { assert!((PIXELS - 1) * S + K <= SEEN && T::LANES <= 16) };
        let [_, w, c] = self.sides;
        let (lines, first) = self.lines(row);
        let is_on = |column: usize| (0..w as isize).contains(&(left + column as isize));
        let on: [bool; SEEN] = std::array::from_fn(is_on);
        for channel in channels.clone().step_by(T::LANES) {
            let channel = channel.min(channels.end - T::LANES);
            // SAFETY: lines are those on the image, columns as well or replaced by zeros, `T::LANES` channels follow `channel`, and
            // `count` pixels have memory.
            unsafe {
                let mut sums = [self.start::<T>(channel); PIXELS];
                for y in lines.clone() {
                    let pixel = (first + y as isize) * w as isize + left;
                    let line = self.values.as_ptr().wrapping_offset(pixel * c as isize + channel as isize);
                    let taps = self.taps.as_ptr().add(y * K * c + channel);
                    let taps: [T; K] = std::array::from_fn(|x| T::load(taps.add(x * c)));
                    for column in 0..(PIXELS - 1) * S + K {
                        let at = line.wrapping_add(column * c);
                        let value = T::load(if INSIDE || on[column] { at } else { zeros.as_ptr() });
                        for (pixel, sum) in sums.iter_mut().enumerate() {
                            if (pixel * S..pixel * S + K).contains(&column) {
                                *sum = sum.add_product(value, taps[column - pixel * S]);
                            }
                        }
                    }
                }
                for (pixel, sum) in sums.into_iter().enumerate().take(count) {
                    limit(self.activation, sum).store(to.add(pixel * c + channel));
                }
            }
        }
    }
}
