//! A matrix product for 128-bit registers, which is what a browser has: gemm's tile of 12 x 4 leaves wasm's compilers too few of
//! them, one of 4 x 8 runs a fifth faster there. Plain loops over small arrays; the compiler makes vectors of them.

/// Columns of the right matrix that are packed side by side: two registers.
const WIDTH: usize = 8;
/// Rows of the left matrix that share a packed panel's values while they are in registers.
const HEIGHT: usize = 4;
/// Rows of a packed panel: 24 KiB, so that it stays in a core's first cache while all rows of the left matrix pass.
const DEPTH: usize = 768;

/// `left right` for row-major left `[m, k]` and right `[k, n]`: row-major `[m, n]`.
///
/// # Panics
/// If a slice has another length than its sides say.
pub fn product(left: &[f32], right: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    assert!(left.len() == m * k && right.len() == k * n);
    let mut out = vec![0.0f32; m * n];
    if n == 0 {
        return out;
    }
    let mut panel = Vec::with_capacity(DEPTH.min(k));
    for depth in (0..k).step_by(DEPTH) {
        let deep = DEPTH.min(k - depth);
        for column in (0..n).step_by(WIDTH) {
            let wide = WIDTH.min(n - column);
            panel.clear();
            panel.extend(right[depth * n..(depth + deep) * n].chunks_exact(n).map(|row| {
                let mut packed = [0.0f32; WIDTH];
                packed[..wide].copy_from_slice(&row[column..column + wide]);
                packed
            }));
            let part = |row: usize| &left[row * k + depth..][..deep];
            let mut row = 0;
            while row + HEIGHT <= m {
                let sums = tile([part(row), part(row + 1), part(row + 2), part(row + 3)], &panel);
                add(&mut out[row * n + column..], n, wide, &sums);
                row += HEIGHT;
            }
            while row < m {
                add(&mut out[row * n + column..], n, wide, &tile([part(row)], &panel));
                row += 1;
            }
        }
    }
    out
}

/// The products of `R` rows with a panel.
#[inline]
fn tile<const R: usize>(rows: [&[f32]; R], panel: &[[f32; WIDTH]]) -> [[f32; WIDTH]; R] {
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut sums = [[0.0f32; WIDTH]; R];
    for (i, right) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let left = row[i];
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
    sums
}

fn add<const R: usize>(out: &mut [f32], stride: usize, wide: usize, sums: &[[f32; WIDTH]; R]) {
    for (row, sums) in sums.iter().enumerate() {
        for (out, sum) in out[row * stride..][..wide].iter_mut().zip(sums) {
            *out += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;

    #[test]
    fn equals_the_sums_in_double_precision() {
        let mut random = SplitMix(5);
        for [m, n, k] in
            [[1, 1, 1], [4, 8, 3], [5, 9, 1], [7, 23, 769], [0, 4, 4], [3, 0, 2], [2, 5, 0], [64, 40, 1600]]
        {
            let mut values = |count: usize| (0..count).map(|_| random.uniform()).collect::<Vec<f32>>();
            let (left, right) = (values(m * k), values(k * n));
            let found = product(&left, &right, [m, n, k]);
            assert_eq!(found.len(), m * n);
            for (place, found) in found.iter().enumerate() {
                let (row, column) = (place / n, place % n);
                let sum: f64 = (0..k).map(|i| f64::from(left[row * k + i]) * f64::from(right[i * n + column])).sum();
                assert!((f64::from(*found) - sum).abs() < 1e-4, "{m} x {n} x {k}, {row}, {column}: {found} {sum}");
            }
        }
    }
}
