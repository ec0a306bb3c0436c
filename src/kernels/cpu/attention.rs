//! Window attention with relative positions: some queries of one head of one window at a time.

use burn_flex::FlexTensor;

use positions::Positions;

use super::math;
use super::parallel::{Shared, for_tasks, threads};
use super::product::Panels;
use super::tensor::primitive;
use super::vector::widest;

#[cfg(feature = "train")]
pub mod gradients;
pub mod positions;

/// Sizes of a [`crate::kernels::WindowAttention`] and of its input.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape {
    /// Batch, height, width and channels of the result, `[b, h, w, c]`; the products given have 3 c.
    pub image: [usize; 4],
    /// Rows of a window.
    pub rows: usize,
    /// Columns of a window.
    pub columns: usize,
    /// Attention heads.
    pub heads: usize,
    /// What products of queries with keys are multiplied by.
    pub scale: f32,
}

/// See [`crate::kernels::WindowAttention::forward`]: `qkv` `[b, h, w, 3 c]`, `bias` `[3 c]`.
pub fn window_attention(
    shape: AttentionShape,
    qkv: &FlexTensor,
    bias: &FlexTensor,
    positions: &Positions,
) -> FlexTensor {
    let task = Task::new(shape, qkv, bias);
    let ([b, h, w, c], heads) = (shape.image, shape.heads);
    let all = b * task.down * task.across * heads;
    let positions = positions.panels();
    let mut out = Vec::with_capacity(b * h * w * c);
    let to = Shared::new(&mut out);
    let runs = runs(all, threads(), task.rows * task.columns);
    for_tasks(all * runs, |i| {
        let (i, run) = (i / runs, i % runs);
        task.one_head([i / heads, i % heads], [run, runs], &positions, &to);
    });
    // SAFETY: each token lies in one window, whose heads' runs have written all of its channels.
    unsafe { out.set_len(b * h * w * c) };
    primitive(out, &shape.image)
}

/// In how many runs the queries of a head in a window of `tokens` are computed, so that every core has as much work: few, because
/// each run arranges keys and values anew.
fn runs(heads: usize, threads: usize, tokens: usize) -> usize {
    let is_even = |runs: &usize| {
        let tasks = heads * runs;
        10 * tasks >= 9 * tasks.next_multiple_of(threads)
    };
    let most = (tokens / QUERIES).max(1);
    (1..=most).find(is_even).unwrap_or(most)
}

/// Queries whose scores exist at once: a multiple of the rows of every tile.
const QUERIES: usize = 72;

struct Task<'a> {
    /// `[b, h, w, 3 c]`.
    qkv: &'a [f32],
    /// `[3 c]`.
    bias: &'a [f32],
    /// Height, width, channels.
    image: [usize; 3],
    rows: usize,
    columns: usize,
    dim: usize,
    scale: f32,
    /// Windows in a column of the image.
    down: usize,
    /// Windows in a row of the image.
    across: usize,
}

impl<'a> Task<'a> {
    fn new(shape: AttentionShape, qkv: &'a FlexTensor, bias: &'a FlexTensor) -> Self {
        let ([_, h, w, c], rows, columns) = (shape.image, shape.rows, shape.columns);
        let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
        let (qkv, bias) = (qkv.storage(), bias.storage());
        Self { qkv, bias, image: [h, w, c], rows, columns, dim: c / shape.heads, scale: shape.scale, down, across }
    }

    /// The part of window `window` that lies in the image: batch index, first row and column, rows and columns there.
    fn place(&self, window: usize) -> (usize, [usize; 2], [usize; 2]) {
        let [h, w, _] = self.image;
        let within = window % (self.down * self.across);
        let (top, left) = (within / self.across * self.rows, within % self.across * self.columns);
        (window / (self.down * self.across), [top, left], [self.rows.min(h - top), self.columns.min(w - left)])
    }

    /// Attention of one head in one window, for run `run` of `runs` of its queries, into the result, `[b, h, w, c]`.
    fn one_head(&self, [window, head]: [usize; 2], [run, runs]: [usize; 2], positions: &Panels, to: &Shared) {
        let (rows, columns, dim, tokens) = (self.rows, self.columns, self.dim, self.rows * self.columns);
        let (batch, [top, left], [inside_rows, inside_columns]) = self.place(window);
        let inside = inside_rows * inside_columns;
        let (from, end) = (run * inside / runs, (run + 1) * inside / runs);
        let [mut q, k, v] = self.gather(window, head);
        let relative = positions.times(&q[from * dim..end * dim]);
        q[from * dim..end * dim].iter_mut().for_each(|x| *x *= self.scale);
        let k = Panels::new(&k, [1, dim], [dim, tokens]);
        let v = Panels::new(&v, [dim, 1], [tokens, dim]);
        let width = 2 * (rows + columns) - 2;
        let mut scores = Vec::new();
        let mut values = Vec::new();
        for first in (from..end).step_by(QUERIES) {
            let count = QUERIES.min(end - first);
            k.times_into(&q[first * dim..(first + count) * dim], &mut scores);
            let relative = &relative[(first - from) * width..];
            let sums = widest(
                #[inline(always)]
                || {
                    let mut sums = [0.0f32; QUERIES];
                    let lines = scores.chunks_exact_mut(tokens).zip(relative.chunks_exact(width));
                    for (i, ((line, relative), sum)) in lines.zip(&mut sums).enumerate() {
                        let (row, column) = ((first + i) / inside_columns, (first + i) % inside_columns);
                        let (by_row, by_column) = relative.split_at(2 * rows - 1);
                        *sum = softmax(
                            line,
                            &by_row[rows - 1 - row..][..rows],
                            &by_column[columns - 1 - column..][..columns],
                        );
                    }
                    sums
                },
            );
            v.times_into(&scores, &mut values);
            for (i, (value, sum)) in values.chunks_exact_mut(dim).zip(sums).enumerate() {
                let (row, column) = ((first + i) / inside_columns, (first + i) % inside_columns);
                let scale = 1.0 / sum;
                value.iter_mut().for_each(|v| *v *= scale);
                let [h, w, c] = self.image;
                let token = (batch * h + top + row) * w + left + column;
                // SAFETY: the token is in the image, and only this task writes this head's channels of it.
                unsafe { to.write(token * c + head * dim, value) };
            }
        }
    }

    /// q of the tokens inside the image `[inside, dim]`, and k and v of all tokens of the window `[tokens, dim]`, of one
    /// head, with their bias.
    fn gather(&self, window: usize, head: usize) -> [Vec<f32>; 3] {
        let [h, w, c] = self.image;
        let (dim, tokens) = (self.dim, self.rows * self.columns);
        let (batch, [top, left], [inside_rows, inside_columns]) = self.place(window);
        let bias = |part: usize| &self.bias[part * c + head * dim..][..dim];
        let mut q = Vec::with_capacity(inside_rows * inside_columns * dim);
        let (mut k, mut v) = (Vec::with_capacity(tokens * dim), Vec::with_capacity(tokens * dim));
        for (row, column) in (0..self.rows).flat_map(|r| (0..self.columns).map(move |c| (r, c))) {
            if row >= inside_rows || column >= inside_columns {
                k.extend_from_slice(bias(1));
                v.extend_from_slice(bias(2));
                continue;
            }
            let token = &self.qkv[((batch * h + top + row) * w + left + column) * 3 * c..][..3 * c];
            let part = |part: usize| token[part * c + head * dim..][..dim].iter().zip(bias(part)).map(|(x, b)| x + b);
            q.extend(part(0));
            k.extend(part(1));
            v.extend(part(2));
        }
        [q, k, v]
    }
}

/// Adds `by_row` to each row of keys and `by_column` to each column.
#[inline(always)]
fn add_positions(scores: &mut [f32], by_row: &[f32], by_column: &[f32]) {
    for (line, row) in scores.chunks_exact_mut(by_column.len()).zip(by_row) {
        for (score, column) in line.iter_mut().zip(by_column) {
            *score += row + column;
        }
    }
}

/// Turns one query's scores into unnormalised probabilities, after adding `by_row` to each row of keys and `by_column` to
/// each column; returns their sum.
#[inline(always)]
fn softmax(scores: &mut [f32], by_row: &[f32], by_column: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut peaks = [f32::NEG_INFINITY; LANES];
    // Lines of a length that compilers know are a few vectors.
    match by_column.len() {
        8 => add_positions(scores, by_row, &by_column[..8]),
        14 => add_positions(scores, by_row, &by_column[..14]),
        16 => add_positions(scores, by_row, &by_column[..16]),
        28 => add_positions(scores, by_row, &by_column[..28]),
        32 => add_positions(scores, by_row, &by_column[..32]),
        64 => add_positions(scores, by_row, &by_column[..64]),
        _ => add_positions(scores, by_row, by_column),
    }
    let lanes = scores.chunks_exact(LANES);
    let rest = lanes.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in lanes {
        for (peak, score) in peaks.iter_mut().zip(chunk) {
            *peak = if *score > *peak { *score } else { *peak };
        }
    }
    let peak = peaks.into_iter().fold(rest, f32::max);
    let mut sums = [0.0f32; LANES];
    let mut lanes = scores.chunks_exact_mut(LANES);
    for chunk in &mut lanes {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = math::exp(*score - peak);
            *sum += *score;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in lanes.into_remainder() {
        *score = math::exp(*score - peak);
        sum += *score;
    }
    sum
}
