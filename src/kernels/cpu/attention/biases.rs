//! Learnt biases by the distance of query and key, as attention adds them.

use std::borrow::Cow;

use burn_flex::FlexTensor;

#[cfg(feature = "train")]
use super::added::Learnt;
use super::added::{Added, for_rows};

/// A [`crate::kernels::BiasedAttention`]'s biases by the signed distance: what a query adds to a row of keys is a run of them.
pub struct Biases {
    /// `[heads, 2 side - 1, 2 side - 1]`, the keys furthest above and left first.
    values: Vec<f32>,
    side: usize,
}

impl Biases {
    /// Of `[heads, side, side]`, by rows and columns between query and key.
    pub fn new(biases: &FlexTensor) -> Self {
        let side = biases.layout().shape()[1];
        let signed = || (1..2 * side).map(|i| i.abs_diff(side));
        let heads = biases.storage::<f32>().chunks_exact((side * side).max(1));
        let values =
            heads.flat_map(|head| signed().flat_map(move |row| signed().map(move |column| head[row * side + column])));
        Self { values: values.collect(), side }
    }
}

impl Added for Biases {
    fn numbers(&self, head: usize, _: &[f32]) -> Cow<'_, [f32]> {
        let width = 2 * self.side - 1;
        Cow::Borrowed(&self.values[head * width * width..][..width * width])
    }

    #[inline(always)]
    fn add(&self, numbers: &[f32], _: usize, [row, column]: [usize; 2], scores: &mut [f32]) {
        let (side, width) = (self.side, 2 * self.side - 1);
        let first = &numbers[(side - 1 - row) * width + side - 1 - column..];
        for_rows(scores, side, |row, line| {
            let biases = &first[row * width..][..line.len()];
            for (score, bias) in line.iter_mut().zip(biases) {
                *score += bias;
            }
        });
    }
}

#[cfg(feature = "train")]
impl Learnt for Biases {
    /// A head's biases.
    fn length(&self) -> usize {
        self.side * self.side
    }

    /// The gradients by signed distance.
    fn sums(&self, _: usize) -> Vec<f32> {
        vec![0.0; (2 * self.side - 1).pow(2)]
    }

    #[inline(always)]
    fn collect(&self, sums: &mut [f32], _: usize, [row, column]: [usize; 2], gradient: &[f32]) {
        let (side, width) = (self.side, 2 * self.side - 1);
        let first = &mut sums[(side - 1 - row) * width + side - 1 - column..];
        for (row, line) in gradient.chunks_exact(side).enumerate() {
            for (sum, x) in first[row * width..].iter_mut().zip(line) {
                *sum += x;
            }
        }
    }

    fn finish(&self, sums: &[f32], _: &[f32], _: &mut [f32], out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let (side, width) = (self.side, 2 * self.side - 1);
        for (i, sum) in sums.iter().enumerate() {
            let [row, column] = [i / width, i % width].map(|at| at.abs_diff(side - 1));
            out[row * side + column] += sum;
        }
    }

    /// The biases of all heads.
    fn join(&self, heads: &[f32]) -> Vec<Vec<f32>> {
        vec![heads.to_vec()]
    }
}
