//! Window attention with something added to the scores: some queries of one head of one window at a time.

use burn_flex::FlexTensor;

use added::{Added, softmax};

use super::parallel::{Shared, for_tasks, threads};
use super::product::Panels;
use super::tensor::primitive;
use super::vector::widest;

pub mod added;
pub mod biases;
#[cfg(feature = "train")]
pub mod gradients;
pub mod positions;

/// Sizes of attention in windows and of its input, a [`crate::kernels::WindowAttention`]'s or a [`crate::kernels::BiasedAttention`]'s.
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

/// How the products of a token lie, and what a token beyond the image's border has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// q, k and v, each of all heads. They lack their bias: every token of a window gets it, and one beyond the border has it alone.
    Thirds,
    /// Of each head its q, k and v, complete; a token beyond the border has what is given for it.
    Heads,
}

/// Products and what goes with them.
#[derive(Clone, Copy)]
pub struct Products<'a> {
    /// `[b, h, w, 3 c]`.
    pub qkv: &'a FlexTensor,
    /// Of a token beyond the border, `[3 c]`; with [`Order::Thirds`] the bias.
    pub beyond: &'a FlexTensor,
    /// Of the 3 c channels.
    pub order: Order,
}

/// Attention in windows, `softmax(q k^T / sqrt(d) + added) v` head by head: `[b, h, w, c]`. See
/// [`crate::kernels::WindowAttention::forward`] and [`crate::kernels::BiasedAttention::forward`].
pub fn window_attention(shape: AttentionShape, products: Products, added: &impl Added) -> FlexTensor {
    let task = Task::new(shape, products);
    let ([b, h, w, c], heads) = (shape.image, shape.heads);
    let all = b * task.down * task.across * heads;
    let mut out = Vec::with_capacity(b * h * w * c);
    let to = Shared::new(&mut out);
    let runs = runs(all, threads(), task.rows * task.columns);
    for_tasks(all * runs, |i| {
        let (i, run) = (i / runs, i % runs);
        task.one_head([i / heads, i % heads], [run, runs], added, &to);
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
    beyond: &'a [f32],
    order: Order,
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
    fn new(shape: AttentionShape, Products { qkv, beyond, order }: Products<'a>) -> Self {
        let ([_, h, w, c], rows, columns) = (shape.image, shape.rows, shape.columns);
        let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
        let (qkv, beyond) = (qkv.storage(), beyond.storage());
        let (dim, scale) = (c / shape.heads, shape.scale);
        Self { qkv, beyond, order, image: [h, w, c], rows, columns, dim, scale, down, across }
    }

    /// The part of window `window` that lies in the image: batch index, first row and column, rows and columns there.
    fn place(&self, window: usize) -> (usize, [usize; 2], [usize; 2]) {
        let [h, w, _] = self.image;
        let within = window % (self.down * self.across);
        let (top, left) = (within / self.across * self.rows, within % self.across * self.columns);
        (window / (self.down * self.across), [top, left], [self.rows.min(h - top), self.columns.min(w - left)])
    }

    /// Attention of one head in one window, for run `run` of `runs` of its queries, into the result, `[b, h, w, c]`.
    fn one_head(&self, [window, head]: [usize; 2], [run, runs]: [usize; 2], added: &impl Added, to: &Shared) {
        let (dim, tokens) = (self.dim, self.rows * self.columns);
        let (batch, [top, left], [inside_rows, inside_columns]) = self.place(window);
        let inside = inside_rows * inside_columns;
        let (from, end) = (run * inside / runs, (run + 1) * inside / runs);
        let [mut q, k, v] = self.gather(window, head);
        let numbers = added.numbers(head, &q[from * dim..end * dim]);
        q[from * dim..end * dim].iter_mut().for_each(|x| *x *= self.scale);
        let k = Panels::new(&k, [1, dim], [dim, tokens]);
        let v = Panels::new(&v, [dim, 1], [tokens, dim]);
        let mut scores = Vec::new();
        let mut values = Vec::new();
        for first in (from..end).step_by(QUERIES) {
            let count = QUERIES.min(end - first);
            k.times_into(&q[first * dim..(first + count) * dim], &mut scores);
            let sums = widest(
                #[inline(always)]
                || {
                    let mut sums = [0.0f32; QUERIES];
                    for (i, (line, sum)) in scores.chunks_exact_mut(tokens).zip(&mut sums).enumerate() {
                        let place = [(first + i) / inside_columns, (first + i) % inside_columns];
                        added.add(&numbers, first + i - from, place, line);
                        *sum = softmax(line);
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

    /// Where part `part` of a head's products, q, k or v, starts among a token's 3 c numbers.
    fn start(&self, part: usize, head: usize) -> usize {
        match self.order {
            Order::Thirds => part * self.image[2] + head * self.dim,
            Order::Heads => (3 * head + part) * self.dim,
        }
    }

    /// q of the tokens inside the image `[inside, dim]`, and k and v of all tokens of the window `[tokens, dim]`, of one
    /// head, complete.
    fn gather(&self, window: usize, head: usize) -> [Vec<f32>; 3] {
        let [h, w, c] = self.image;
        let (dim, tokens) = (self.dim, self.rows * self.columns);
        let (batch, [top, left], [inside_rows, inside_columns]) = self.place(window);
        let starts = [0, 1, 2].map(|part| self.start(part, head));
        let mut parts = [inside_rows * inside_columns, tokens, tokens].map(|count| Vec::with_capacity(count * dim));
        for (row, column) in (0..self.rows).flat_map(|r| (0..self.columns).map(move |c| (r, c))) {
            let is_inside = row < inside_rows && column < inside_columns;
            let token = is_inside.then(|| &self.qkv[((batch * h + top + row) * w + left + column) * 3 * c..][..3 * c]);
            for (i, (part, start)) in parts.iter_mut().zip(starts).enumerate() {
                let beyond = &self.beyond[start..][..dim];
                match (token, self.order) {
                    (Some(token), Order::Thirds) => {
                        part.extend(token[start..][..dim].iter().zip(beyond).map(|(x, b)| x + b));
                    }
                    (Some(token), Order::Heads) => part.extend_from_slice(&token[start..][..dim]),
                    (None, _) if i == 0 => (),
                    (None, _) => part.extend_from_slice(beyond),
                }
            }
        }
        parts
    }
}
