//! Small matrix products on one thread.

/// `out = keep * out + scale * lhs rhs` on this thread (`keep` 0 writes without reading): lhs `[m, k]`, rhs `[k, n]`, each with its row and column stride; out
/// `[m, n]` with row stride `out_stride`.
///
/// # Panics
/// If a slice is too short for its strides.
pub fn product(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_stride: usize,
    (lhs, lhs_row, lhs_column): (&[f32], usize, usize),
    (rhs, rhs_row, rhs_column): (&[f32], usize, usize),
    [keep, scale]: [f32; 2],
) {
    let reach = |rows: usize, columns: usize, row: usize, column: usize| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
    };
    assert!(out.len() >= reach(m, n, out_stride, 1) && (out_stride >= n || m <= 1));
    assert!(lhs.len() >= reach(m, k, lhs_row, lhs_column));
    assert!(rhs.len() >= reach(k, n, rhs_row, rhs_column));
    // SAFETY: the assertions above keep every index within its slice, `out` is borrowed alone, and its rows do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            keep != 0.0,
            lhs.as_ptr(),
            lhs_column as isize,
            lhs_row as isize,
            rhs.as_ptr(),
            rhs_column as isize,
            rhs_row as isize,
            keep,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
