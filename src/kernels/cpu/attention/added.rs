//! What is added to attention's scores, and the softmax of their sums.

use std::borrow::Cow;

use super::super::math;

/// What is added to the scores of a window's queries.
pub trait Added: Sync {
    /// The numbers that make it up for some queries `q` `[count, dim]`, not scaled, of a head.
    fn numbers(&self, head: usize, q: &[f32]) -> Cow<'_, [f32]>;

    /// Adds to the scores `[rows, columns]` of query `i` of those, which stands at `place`, row and column of its window.
    fn add(&self, numbers: &[f32], i: usize, place: [usize; 2], scores: &mut [f32]);
}

/// What is added and learns.
#[cfg(feature = "train")]
pub trait Learnt: Added {
    /// Numbers of the gradient that one head of one window gives.
    fn length(&self) -> usize;

    /// Room for what [`Learnt::collect`] needs for `count` queries.
    fn sums(&self, count: usize) -> Vec<f32>;

    /// Takes the gradient of the scores of query `i`, which stands at `place`.
    fn collect(&self, sums: &mut [f32], i: usize, place: [usize; 2], gradient: &[f32]);

    /// Adds to the gradient of the queries `q`, both `[count, dim]`, and writes the gradient of what learns to `out`: zeros of
    /// [`Learnt::length`], or none if nobody asks for it.
    fn finish(&self, sums: &[f32], q: &[f32], dq: &mut [f32], out: &mut [f32]);

    /// The gradients of the tensors that learn, from those of each head, `[heads, length]`.
    fn join(&self, heads: &[f32]) -> Vec<Vec<f32>>;
}

/// Calls `add` with each row of keys, `width` of them, and its number.
#[inline(always)]
pub fn for_rows(scores: &mut [f32], width: usize, add: impl Fn(usize, &mut [f32])) {
    // Rows of a length that compilers know are a few vectors.
    match width {
        7 => for_rows_of::<7>(scores, add),
        8 => for_rows_of::<8>(scores, add),
        14 => for_rows_of::<14>(scores, add),
        16 => for_rows_of::<16>(scores, add),
        28 => for_rows_of::<28>(scores, add),
        32 => for_rows_of::<32>(scores, add),
        64 => for_rows_of::<64>(scores, add),
        _ => scores.chunks_exact_mut(width).enumerate().for_each(|(row, line)| add(row, line)),
    }
}

#[inline(always)]
fn for_rows_of<const N: usize>(scores: &mut [f32], add: impl Fn(usize, &mut [f32])) {
    for (row, line) in scores.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        add(row, line);
    }
}

/// Turns one query's scores into unnormalised probabilities, and returns their sum.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) -> f32 {
    const LANES: usize = 16;
    let mut peaks = [f32::NEG_INFINITY; LANES];
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
