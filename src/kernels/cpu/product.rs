//! Small matrix products on one thread.

/// `out = keep * out + scale * left right` on this thread (`keep` 0 writes without reading): left `[m, k]`, right `[k, n]`, each with its row and column stride; out
/// `[m, n]` with row stride `out_stride`.
///
/// # Panics
/// If a slice is too short for its strides.
pub fn product(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    out_stride: usize,
    (left, left_row, left_column): (&[f32], usize, usize),
    (right, right_row, right_column): (&[f32], usize, usize),
    [keep, scale]: [f32; 2],
) {
    let reach = |rows: usize, columns: usize, row: usize, column: usize| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row + (columns - 1) * column + 1 }
    };
    assert!(out.len() >= reach(m, n, out_stride, 1) && (out_stride >= n || m <= 1));
    assert!(left.len() >= reach(m, k, left_row, left_column));
    assert!(right.len() >= reach(k, n, right_row, right_column));
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
            left.as_ptr(),
            left_column as isize,
            left_row as isize,
            right.as_ptr(),
            right_column as isize,
            right_row as isize,
            keep,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
