//! Reductions in as many lanes as the widest vectors have, in an order that no machine changes.

#[cfg(feature = "train")]
use burn_flex::FlexTensor;

#[cfg(feature = "train")]
use super::parallel::for_chunks;
#[cfg(feature = "train")]
use super::tensor::primitive;
#[cfg(feature = "train")]
use super::vector::widest;

/// The sum of `f` over a row, in 16 lanes.
#[inline(always)]
pub fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f(*x);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The sum of `a * (b - shift)`, in 16 lanes.
#[cfg(feature = "train")]
#[inline(always)]
pub fn sum_product(a: &[f32], b: &[f32], shift: f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * (b - shift)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * (b - shift);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Sums of the columns of `[.., width]`, in an order that does not depend on the number of cores.
#[cfg(feature = "train")]
pub fn column_sums(x: &FlexTensor, width: usize) -> FlexTensor {
    const ROWS_A_SUM: usize = 256;
    let x: &[f32] = x.storage();
    let mut parts = vec![0.0f32; x.len().div_ceil(ROWS_A_SUM * width).max(1) * width];
    for_chunks(&mut parts, width, |i, sums| {
        let start = (i * ROWS_A_SUM * width).min(x.len());
        let rows = &x[start..(start + ROWS_A_SUM * width).min(x.len())];
        widest(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(width) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            },
        );
    });
    primitive(add_up(&parts, width), &[width])
}

/// The sum of the runs of `width` values that follow each other in `parts`.
#[cfg(feature = "train")]
pub fn add_up(parts: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0f32; width];
    for part in parts.chunks_exact(width) {
        for (sum, x) in total.iter_mut().zip(part) {
            *sum += x;
        }
    }
    total
}
