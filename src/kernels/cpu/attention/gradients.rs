//! Gradients of window attention. Probabilities are computed again, some queries at a time, so nothing of size
//! tokens x tokens is kept from the forward pass.

use burn_flex::FlexTensor;

use super::super::gemm::product;
use super::super::parallel::for_chunks;
use super::super::tensor::primitive;
use super::super::vector::widest;
use super::{AttentionShape, QUERIES, Task, softmax};

/// Gradients of `qkv` `[b, h, w, 3 c]` and `bias` `[3 c]`, and if `positions` of `rel_h` and `rel_w`, from that of the result,
/// `[b, h, w, c]`.
///
/// Of one head in one window, with P = softmax(S) and O = P V: `dV = P^T dO`, `dP = dO V^T`,
/// `dS = P * (dP - rowsum(P * dP))`; `S = scale q k^T + rel_h[..] q + rel_w[..] q` gives the rest.
pub fn window_attention_gradients(
    shape: AttentionShape,
    qkv: &FlexTensor,
    bias: &FlexTensor,
    rel: [&FlexTensor; 2],
    gradient: &FlexTensor,
    positions: bool,
) -> (FlexTensor, FlexTensor, Option<[FlexTensor; 2]>) {
    let task = Gradients::new(shape, qkv, bias, rel);
    let gradient: &[f32] = gradient.storage();
    let ([b, h, w, c], heads, dim) = (shape.image, shape.heads, task.dim);
    let sizes = Sizes::new(&task, positions);
    let mut parts = vec![0.0f32; b * task.down * task.across * heads * sizes.total()];
    for_chunks(&mut parts, sizes.total(), |i, part| task.head_gradients(i / heads, i % heads, gradient, sizes, part));

    let mut joined = vec![0.0f32; b * h * w * 3 * c];
    for_chunks(&mut joined, w * 3 * c, |i, line| task.join_gradients(&parts, sizes, i / h, i % h, line));
    let mut dbias = vec![0.0f32; 3 * c];
    let mut dpositions = vec![0.0f32; sizes.rel_h + sizes.rel_w];
    for (i, part) in parts.chunks_exact(sizes.total()).enumerate() {
        let (sums, rel) = part[sizes.tokens..].split_at(sizes.bias);
        for (third, sums) in sums.chunks_exact(dim).enumerate() {
            add(&mut dbias[third * c + i % heads * dim..][..dim], sums);
        }
        add(&mut dpositions, rel);
    }
    let dpositions = positions.then(|| {
        let (rel_h, rel_w) = dpositions.split_at(sizes.rel_h);
        [
            primitive(rel_h.to_vec(), &[task.rows, task.rows, dim]),
            primitive(rel_w.to_vec(), &[task.columns, task.columns, dim]),
        ]
    });
    (primitive(joined, &[b, h, w, 3 * c]), primitive(dbias, &[3 * c]), dpositions)
}

/// Lengths of what one head in one window gives, in their order.
#[derive(Clone, Copy)]
struct Sizes {
    /// dq, dk and dv of the window's tokens, `[3, tokens, dim]`.
    tokens: usize,
    /// Their sums over tokens, `[3, dim]`.
    bias: usize,
    /// `[rows, rows, dim]`, or nothing.
    rel_h: usize,
    /// `[columns, columns, dim]`, or nothing.
    rel_w: usize,
}

impl Sizes {
    fn new(task: &Task, positions: bool) -> Self {
        let (rows, columns, dim) = (task.rows, task.columns, task.dim);
        let rel = |side: usize| if positions { side * side * dim } else { 0 };
        Self { tokens: 3 * rows * columns * dim, bias: 3 * dim, rel_h: rel(rows), rel_w: rel(columns) }
    }

    fn total(self) -> usize {
        self.tokens + self.bias + self.rel_h + self.rel_w
    }
}

fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The task with its relative positions by query and key.
struct Gradients<'a> {
    task: Task<'a>,
    /// `[rows, rows, dim]`.
    rel_h: &'a [f32],
    /// `[columns, columns, dim]`.
    rel_w: &'a [f32],
    heads: usize,
}

impl<'a> std::ops::Deref for Gradients<'a> {
    type Target = Task<'a>;

    fn deref(&self) -> &Task<'a> {
        &self.task
    }
}

impl<'a> Gradients<'a> {
    fn new(shape: AttentionShape, qkv: &'a FlexTensor, bias: &'a FlexTensor, rel: [&'a FlexTensor; 2]) -> Self {
        let [rel_h, rel_w] = rel.map(FlexTensor::storage);
        Self { task: Task::new(shape, qkv, bias), rel_h, rel_w, heads: shape.heads }
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

    /// Gradients of one head in one window, into `out` as [`Sizes`] lays them out.
    fn head_gradients(&self, window: usize, head: usize, gradient: &[f32], sizes: Sizes, out: &mut [f32]) {
        let (rows, columns, dim, tokens) = (self.rows, self.columns, self.dim, self.rows * self.columns);
        let [q, k, v] = self.gather(window, head);
        let (_, _, inside @ [inside_rows, inside_columns]) = self.place(window);
        let count_inside = inside_rows * inside_columns;
        let scale = self.scale;
        let [by_row, by_column] = self.relative(&q, inside);
        let douts = self.gather_gradient(window, head, gradient);

        let (dtokens, rest) = out.split_at_mut(sizes.tokens);
        let (dq_out, dkv) = dtokens.split_at_mut(tokens * dim);
        let (dk, dv) = dkv.split_at_mut(tokens * dim);
        let mut dq = vec![0.0f32; count_inside * dim];
        let mut dby_row = vec![0.0f32; count_inside * rows];
        let mut dby_column = vec![0.0f32; count_inside * columns];
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
                    let by_row = by_row[first * rows..].chunks_exact(rows);
                    let by_column = by_column[first * columns..].chunks_exact(columns);
                    for ((line, row), column) in p.chunks_exact_mut(tokens).zip(by_row).zip(by_column) {
                        let scale = 1.0 / softmax(line, row, column);
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
                    let dby_row = dby_row[first * rows..].chunks_exact_mut(rows);
                    let dby_column = dby_column[first * columns..].chunks_exact_mut(columns);
                    let lines = ds.chunks_exact_mut(tokens).zip(p.chunks_exact(tokens));
                    for (((ds, p), drow), dcolumn) in lines.zip(dby_row).zip(dby_column) {
                        softmax_gradient(ds, p, drow, dcolumn);
                    }
                },
            );
            product([count, dim, tokens], &mut dq[first * dim..], dim, (ds, tokens, 1), (&k, dim, 1), [0.0, scale]);
            product([tokens, dim, count], dk, dim, (ds, 1, tokens), (queries, dim, 1), [1.0, scale]);
        }

        let (dbias, drel) = rest.split_at_mut(sizes.bias);
        let (drel_h, drel_w) = drel.split_at_mut(sizes.rel_h);
        for r in 0..inside_rows {
            let first = r * inside_columns;
            let positions = &self.rel_h[r * rows * dim..][..rows * dim];
            let sums = (&dby_row[first * rows..][..inside_columns * rows], rows);
            let line = &mut dq[first * dim..];
            product([inside_columns, dim, rows], line, dim, (sums.0, rows, 1), (positions, dim, 1), [1.0, 1.0]);
            if sizes.rel_h > 0 {
                let queries = (&q[first * dim..], dim, 1);
                let out = &mut drel_h[r * rows * dim..][..rows * dim];
                product([rows, dim, inside_columns], out, dim, (sums.0, 1, rows), queries, [0.0, 1.0]);
            }
        }
        let step = inside_columns;
        for col in 0..inside_columns {
            let positions = &self.rel_w[col * columns * dim..][..columns * dim];
            let sums = &dby_column[col * columns..];
            let line = &mut dq[col * dim..];
            let lhs = (sums, step * columns, 1);
            product([inside_rows, dim, columns], line, step * dim, lhs, (positions, dim, 1), [1.0, 1.0]);
            if sizes.rel_w > 0 {
                let out = &mut drel_w[col * columns * dim..][..columns * dim];
                let queries = (&q[col * dim..], step * dim, 1);
                product([columns, dim, inside_rows], out, dim, (sums, 1, step * columns), queries, [0.0, 1.0]);
            }
        }
        for (i, dq) in dq.chunks_exact(dim).enumerate() {
            let token = i / inside_columns * columns + i % inside_columns;
            dq_out[token * dim..][..dim].copy_from_slice(dq);
        }
        for (sums, values) in dbias.chunks_exact_mut(dim).zip([&*dq_out, &*dk, &*dv]) {
            for value in values.chunks_exact(dim) {
                add(sums, value);
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
            for (third, out) in pixel.chunks_exact_mut(c).enumerate() {
                for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                    let from = (window * self.heads + head) * sizes.total() + (third * rows * columns + token) * dim;
                    out.copy_from_slice(&parts[from..from + dim]);
                }
            }
        }
    }
}

/// Turns one query's `dP` into `dS`, and sums it by row and by column of the keys.
#[inline(always)]
fn softmax_gradient(ds: &mut [f32], p: &[f32], drow: &mut [f32], dcolumn: &mut [f32]) {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (ds_chunks, p_chunks) = (ds.chunks_exact(LANES), p.chunks_exact(LANES));
    let rest: f32 = ds_chunks.remainder().iter().zip(p_chunks.remainder()).map(|(d, p)| d * p).sum();
    for (d, p) in ds_chunks.zip(p_chunks) {
        for ((lane, d), p) in lanes.iter_mut().zip(d).zip(p) {
            *lane += d * p;
        }
    }
    let mean = lanes.iter().sum::<f32>() + rest;
    for (d, p) in ds.iter_mut().zip(p) {
        *d = p * (*d - mean);
    }
    for (row, sum) in ds.chunks_exact(dcolumn.len()).zip(drow) {
        *sum = row.iter().sum();
        for (column, d) in dcolumn.iter_mut().zip(row) {
            *column += d;
        }
    }
}
