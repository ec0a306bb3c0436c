//! Window attention with relative positions: one head of one window at a time, scores of 64 queries at once.

use burn_flex::FlexTensor;
use pulp::Arch;

use super::super::math;
use super::product::product;
use super::{for_chunks, primitive};

#[cfg(feature = "train")]
mod gradients;
#[cfg(feature = "train")]
pub use gradients::window_attention_gradients;

/// Sizes of a [`super::super::WindowAttention`] and of its input.
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
}

/// See [`super::super::WindowAttention::forward`]: `qkv` `[b, h, w, 3 c]`, `bias` `[3 c]`.
pub fn window_attention(
    shape: AttentionShape,
    qkv: &FlexTensor,
    bias: &FlexTensor,
    [rel_h, rel_w]: [&FlexTensor; 2],
) -> FlexTensor {
    let task = Task::new(shape, qkv, bias, [rel_h, rel_w]);
    let ([b, h, w, c], heads) = (shape.image, shape.heads);
    let tokens = task.rows * task.columns;
    let mut attended = vec![0.0f32; b * task.down * task.across * heads * tokens * task.dim];
    for_chunks(&mut attended, tokens * task.dim, |i, out| task.one_head(i / heads, i % heads, out));
    let mut joined = vec![0.0f32; b * h * w * c];
    for_chunks(&mut joined, w * c, |i, line| task.join(&attended, i / h, i % h, line));
    primitive(joined, &shape.image)
}

/// Queries whose scores exist at once.
const QUERIES: usize = 64;

struct Task<'a> {
    /// `[b, h, w, 3 c]`.
    qkv: &'a [f32],
    /// `[3 c]`.
    bias: &'a [f32],
    /// `[rows, rows, dim]`.
    rel_h: &'a [f32],
    /// `[columns, columns, dim]`.
    rel_w: &'a [f32],
    /// Height, width, channels.
    image: [usize; 3],
    rows: usize,
    columns: usize,
    heads: usize,
    dim: usize,
    /// Windows in a column of the image.
    down: usize,
    /// Windows in a row of the image.
    across: usize,
}

impl<'a> Task<'a> {
    fn new(
        shape: AttentionShape,
        qkv: &'a FlexTensor,
        bias: &'a FlexTensor,
        [rel_h, rel_w]: [&'a FlexTensor; 2],
    ) -> Self {
        let ([_, h, w, c], rows, columns, heads) = (shape.image, shape.rows, shape.columns, shape.heads);
        Self {
            qkv: qkv.storage(),
            bias: bias.storage(),
            rel_h: rel_h.storage(),
            rel_w: rel_w.storage(),
            image: [h, w, c],
            rows,
            columns,
            heads,
            dim: c / heads,
            down: h.div_ceil(rows),
            across: w.div_ceil(columns),
        }
    }

    /// The part of window `window` that lies in the image: batch index, first row and column, rows and columns there.
    fn place(&self, window: usize) -> (usize, [usize; 2], [usize; 2]) {
        let [h, w, _] = self.image;
        let within = window % (self.down * self.across);
        let (top, left) = (within / self.across * self.rows, within % self.across * self.columns);
        (window / (self.down * self.across), [top, left], [self.rows.min(h - top), self.columns.min(w - left)])
    }

    /// Attention of one head in one window, into `out` `[tokens, dim]`. Rows of queries outside the image stay zero.
    fn one_head(&self, window: usize, head: usize, out: &mut [f32]) {
        let (rows, columns, dim, tokens) = (self.rows, self.columns, self.dim, self.rows * self.columns);
        let [q, k, v] = self.gather(window, head);
        let (_, _, [inside_rows, inside_columns]) = self.place(window);
        let inside = inside_rows * inside_columns;
        let scale = (dim as f32).powf(-0.5);

        let [by_row, by_column] = self.relative(&q, [inside_rows, inside_columns]);
        let mut scores = vec![0.0f32; QUERIES.min(inside) * tokens];
        let mut values = vec![0.0f32; QUERIES.min(inside) * dim];
        for first in (0..inside).step_by(QUERIES) {
            let count = QUERIES.min(inside - first);
            let scores = &mut scores[..count * tokens];
            product([count, tokens, dim], scores, tokens, (&q[first * dim..], dim, 1), (&k, 1, dim), [0.0, scale]);
            let by_row = by_row[first * rows..].chunks_exact(rows);
            let by_column = by_column[first * columns..].chunks_exact(columns);
            let sums = Arch::new().dispatch(|| {
                let mut sums = [0.0f32; QUERIES];
                for (((line, row), column), sum) in
                    scores.chunks_exact_mut(tokens).zip(by_row).zip(by_column).zip(&mut sums)
                {
                    *sum = softmax(line, row, column);
                }
                sums
            });
            product([count, dim, tokens], &mut values, dim, (scores, tokens, 1), (&v, dim, 1), [0.0, 1.0]);
            for (i, (value, sum)) in values.chunks_exact(dim).zip(sums).take(count).enumerate() {
                let query = first + i;
                let token = query / inside_columns * columns + query % inside_columns;
                for (out, v) in out[token * dim..][..dim].iter_mut().zip(value) {
                    *out = v / sum;
                }
            }
        }
    }

    /// `rel_h[q, row of k]`, `[inside, rows]`, and `rel_w[q, column of k]`, `[inside, columns]`, of the queries inside, with the
    /// unscaled q.
    fn relative(&self, q: &[f32], [inside_rows, inside_columns]: [usize; 2]) -> [Vec<f32>; 2] {
        let (rows, columns, dim) = (self.rows, self.columns, self.dim);
        let inside = inside_rows * inside_columns;
        let mut by_row = vec![0.0f32; inside * rows];
        for r in 0..inside_rows {
            let (first, positions) = (r * inside_columns, &self.rel_h[r * rows * dim..][..rows * dim]);
            let queries = &q[first * dim..][..inside_columns * dim];
            let out = &mut by_row[first * rows..][..inside_columns * rows];
            product([inside_columns, rows, dim], out, rows, (queries, dim, 1), (positions, 1, dim), [0.0, 1.0]);
        }
        let mut by_column = vec![0.0f32; inside * columns];
        for col in 0..inside_columns {
            let positions = &self.rel_w[col * columns * dim..][..columns * dim];
            let queries = &q[col * dim..];
            let out = &mut by_column[col * columns..];
            let step = inside_columns;
            product(
                [inside_rows, columns, dim],
                out,
                step * columns,
                (queries, step * dim, 1),
                (positions, 1, dim),
                [0.0, 1.0],
            );
        }
        [by_row, by_column]
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

    /// Row `y` of image `batch` of the result, `[w, c]`, from `attended` `[windows, heads, tokens, dim]`.
    fn join(&self, attended: &[f32], batch: usize, y: usize, line: &mut [f32]) {
        let (rows, columns, dim) = (self.rows, self.columns, self.dim);
        for (x, pixel) in line.chunks_exact_mut(self.heads * dim).enumerate() {
            let window = (batch * self.down + y / rows) * self.across + x / columns;
            let token = y % rows * columns + x % columns;
            for (head, out) in pixel.chunks_exact_mut(dim).enumerate() {
                let from = ((window * self.heads + head) * rows * columns + token) * dim;
                out.copy_from_slice(&attended[from..from + dim]);
            }
        }
    }
}

/// Turns one query's scores into unnormalised probabilities, after adding `by_row` to each row of keys and `by_column` to
/// each column; returns their sum.
#[inline(always)]
fn softmax(scores: &mut [f32], by_row: &[f32], by_column: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut peaks = [f32::NEG_INFINITY; LANES];
    for (line, row) in scores.chunks_exact_mut(by_column.len()).zip(by_row) {
        for (score, column) in line.iter_mut().zip(by_column) {
            *score += row + column;
        }
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
