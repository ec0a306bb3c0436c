//! Gradients of window attention. Probabilities are computed again, some queries at a time, so nothing of size
//! tokens x tokens is kept from the forward pass.

use burn_flex::FlexTensor;

use super::super::gemm::product;
use super::super::parallel::for_chunks;
use super::super::reduce::sum_product;
use super::super::tensor::primitive;
use super::super::vector::widest;
use super::added::{Learnt, softmax};
use super::{AttentionShape, Order, Products, QUERIES, Task};

/// Gradients of qkv `[b, h, w, 3 c]` and of what a token beyond the border has, `[3 c]`, and if `learns` of what was added, from that
/// of the result, `[b, h, w, c]`.
///
/// Of one head in one window, with P = softmax(S) and O = P V: `dV = P^T dO`, `dP = dO V^T`,
/// `dS = P * (dP - rowsum(P * dP))`; `S = scale q k^T + added` gives the rest.
pub fn window_attention_gradients(
    shape: AttentionShape,
    products: Products,
    added: &impl Learnt,
    gradient: &FlexTensor,
    learns: bool,
) -> (FlexTensor, FlexTensor, Option<Vec<Vec<f32>>>) {
    let task = Gradients { task: Task::new(shape, products), heads: shape.heads };
    let gradient: &[f32] = gradient.storage();
    let ([b, h, w, c], heads, dim) = (shape.image, shape.heads, task.dim);
    let learnt = if learns { added.length() } else { 0 };
    let sizes = Sizes { tokens: 3 * task.rows * task.columns * dim, beyond: 3 * dim, learnt };
    let mut parts = vec![0.0f32; b * task.down * task.across * heads * sizes.total()];
    for_chunks(&mut parts, sizes.total(), |i, part| {
        task.head_gradients([i / heads, i % heads], gradient, added, sizes, part);
    });

    let mut joined = vec![0.0f32; b * h * w * 3 * c];
    for_chunks(&mut joined, w * 3 * c, |i, line| task.join_gradients(&parts, sizes, i / h, i % h, line));
    let mut dbeyond = vec![0.0f32; 3 * c];
    let mut dlearnt = vec![0.0f32; heads * sizes.learnt];
    for (i, part) in parts.chunks_exact(sizes.total()).enumerate() {
        let (sums, rest) = part[sizes.tokens..].split_at(sizes.beyond);
        for (third, sums) in sums.chunks_exact(dim).enumerate() {
            add(&mut dbeyond[task.start(third, i % heads)..][..dim], sums);
        }
        add(&mut dlearnt[i % heads * sizes.learnt..][..sizes.learnt], rest);
    }
    let dlearnt = learns.then(|| added.join(&dlearnt));
    (primitive(joined, &[b, h, w, 3 * c]), primitive(dbeyond, &[3 * c]), dlearnt)
}

/// Lengths of what one head in one window gives, in their order.
#[derive(Clone, Copy)]
struct Sizes {
    /// dq, dk and dv of the window's tokens, `[3, tokens, dim]`.
    tokens: usize,
    /// Their sums over the tokens that have something of what is beyond the border, `[3, dim]`.
    beyond: usize,
    /// Of what was added, or nothing.
    learnt: usize,
}

impl Sizes {
    fn total(self) -> usize {
        self.tokens + self.beyond + self.learnt
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The task with its number of heads.
struct Gradients<'a> {
    task: Task<'a>,
    heads: usize,
}

impl<'a> std::ops::Deref for Gradients<'a> {
    type Target = Task<'a>;

    fn deref(&self) -> &Task<'a> {
        &self.task
    }
}

impl Gradients<'_> {
    /// Gradients of one head in one window, into `out` as [`Sizes`] lays them out.
    fn head_gradients(
        &self,
        [window, head]: [usize; 2],
        gradient: &[f32],
        added: &impl Learnt,
        sizes: Sizes,
        out: &mut [f32],
    ) {
        let (columns, dim, tokens) = (self.columns, self.dim, self.rows * self.columns);
        let [q, k, v] = self.gather(window, head);
        let (_, _, [inside_rows, inside_columns]) = self.place(window);
        let count_inside = inside_rows * inside_columns;
        let place = |i: usize| [i / inside_columns, i % inside_columns];
        let scale = self.scale;
        let numbers = added.numbers(head, &q);
        let douts = self.gather_gradient(window, head, gradient);

        let (dtokens, rest) = out.split_at_mut(sizes.tokens);
        let (dq_out, dkv) = dtokens.split_at_mut(tokens * dim);
        let (dk, dv) = dkv.split_at_mut(tokens * dim);
        let mut dq = vec![0.0f32; count_inside * dim];
        let mut sums = added.sums(count_inside);
        let most = QUERIES.min(count_inside);
        let mut probabilities = vec![0.0f32; most * tokens];
        let mut dscores = vec![0.0f32; most * tokens];
        for first in (0..count_inside).step_by(QUERIES) {
            let count = QUERIES.min(count_inside - first);
            let queries = &q[first * dim..][..count * dim];
            let dout = &douts[first * dim..][..count * dim];
            let p = &mut probabilities[..count * tokens];
            product([count, tokens, dim], p, tokens, (queries, dim, 1), (&k, 1, dim), [0.0, scale]);
            widest(
                #[inline(always)]
                || {
                    for (i, line) in p.chunks_exact_mut(tokens).enumerate() {
                        added.add(&numbers, first + i, place(first + i), line);
                        let scale = 1.0 / softmax(line);
                        for p in line {
                            *p *= scale;
                        }
                    }
                },
            );
            product([tokens, dim, count], dv, dim, (p, 1, tokens), (dout, dim, 1), [1.0, 1.0]);
            let ds = &mut dscores[..count * tokens];
            product([count, tokens, dim], ds, tokens, (dout, dim, 1), (&v, 1, dim), [0.0, 1.0]);
            widest(
                #[inline(always)]
                || {
                    for (i, (ds, p)) in ds.chunks_exact_mut(tokens).zip(p.chunks_exact(tokens)).enumerate() {
                        softmax_gradient(ds, p);
                        added.collect(&mut sums, first + i, place(first + i), ds);
                    }
                },
            );
            product([count, dim, tokens], &mut dq[first * dim..], dim, (ds, tokens, 1), (&k, dim, 1), [0.0, scale]);
            product([tokens, dim, count], dk, dim, (ds, 1, tokens), (queries, dim, 1), [1.0, scale]);
        }

        let (dbeyond, dlearnt) = rest.split_at_mut(sizes.beyond);
        added.finish(&sums, &q, &mut dq, dlearnt);
        for (i, dq) in dq.chunks_exact(dim).enumerate() {
            let [row, column] = place(i);
            dq_out[(row * columns + column) * dim..][..dim].copy_from_slice(dq);
        }
        let is_inside = |token: usize| token / columns < inside_rows && token % columns < inside_columns;
        for (sums, values) in dbeyond.chunks_exact_mut(dim).zip([&*dq_out, &*dk, &*dv]) {
            for (token, value) in values.chunks_exact(dim).enumerate() {
                if self.order == Order::Thirds || !is_inside(token) {
                    add(sums, value);
                }
            }
        }
    }

    /// The result's gradient of one head at the tokens inside the image, `[inside, dim]`.
    fn gather_gradient(&self, window: usize, head: usize, gradient: &[f32]) -> Vec<f32> {
        let ([h, w, c], dim) = (self.image, self.dim);
        let (batch, [top, left], [inside_rows, inside_columns]) = self.place(window);
        let tokens = (0..inside_rows).flat_map(|r| (0..inside_columns).map(move |col| (r, col)));
        tokens
            .flat_map(|(r, col)| &gradient[((batch * h + top + r) * w + left + col) * c + head * dim..][..dim])
            .copied()
            .collect()
    }

    /// Row `y` of image `batch` of qkv's gradient, `[w, 3 c]`.
    fn join_gradients(&self, parts: &[f32], sizes: Sizes, batch: usize, y: usize, line: &mut [f32]) {
        let (rows, columns, dim, c) = (self.rows, self.columns, self.dim, self.heads * self.dim);
        for (x, pixel) in line.chunks_exact_mut(3 * c).enumerate() {
            let window = (batch * self.down + y / rows) * self.across + x / columns;
            let token = y % rows * columns + x % columns;
            for (third, head) in (0..3).flat_map(|third| (0..self.heads).map(move |head| (third, head))) {
                let from = (window * self.heads + head) * sizes.total() + (third * rows * columns + token) * dim;
                pixel[self.start(third, head)..][..dim].copy_from_slice(&parts[from..from + dim]);
            }
        }
    }
}

/// Turns one query's `dP` into `dS`.
#[inline(always)]
fn softmax_gradient(ds: &mut [f32], p: &[f32]) {
    let mean = sum_product(ds, p, 0.0);
    for (d, p) in ds.iter_mut().zip(p) {
        *d = p * (*d - mean);
    }
}
