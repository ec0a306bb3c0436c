//! From pixels to the network's input: a window with mirrored borders, normalised.

use burn::tensor::{Device, Tensor};

use crate::config::Normalization;
use crate::image::Pixels;
use crate::kernels::upload;

/// The window of `size` x `size` pixels whose upper left corner lies at column `x`, row `y` of `image` (either may be
/// outside: pixels beyond a border are mirrored at it), normalised to `(value - mean) / std`: `[1, bands, size, size]`.
///
/// # Panics
/// If `normalization` is for fewer bands than the image has.
pub fn window(
    image: &impl Pixels,
    x: i64,
    y: i64,
    size: usize,
    normalization: &Normalization,
    device: &Device,
) -> Tensor<4> {
    let columns: Vec<usize> = (0..size as i64).map(|i| mirror(x + i, image.width())).collect();
    let bands = image.bands();
    let mut values = vec![0.0f32; bands * size * size];
    for (band, plane) in values.chunks_exact_mut(size * size).enumerate() {
        let (mean, scale) = (normalization.mean[band], 1.0 / normalization.std[band]);
        for (row, line) in plane.chunks_exact_mut(size).enumerate() {
            let source = mirror(y + row as i64, image.height());
            for (value, column) in line.iter_mut().zip(&columns) {
                let sample = image.sample(*column, source, band);
                // Samples without data (NaN) are taken as the mean, as in training.
                *value = if sample.is_finite() { (sample - mean) * scale } else { 0.0 };
            }
        }
    }
    upload(values, [1, bands, size, size], device)
}

/// The index in `0 .. length` that `at` is mirrored to, the border pixel itself not repeated (`abcd` continues `cba`).
pub(crate) fn mirror(at: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    if last == 0 {
        return 0;
    }
    let phase = at.rem_euclid(2 * last);
    phase.min(2 * last - phase) as usize
}

#[cfg(test)]
mod tests {
    use super::mirror;

    #[test]
    fn mirroring_does_not_repeat_the_border() {
        let at: Vec<usize> = (-4..8).map(|i| mirror(i, 4)).collect();
        assert_eq!(at, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert!((-3..3).all(|i| mirror(i, 1) == 0));
    }
}
