//! From logits to what is read back: class and confidence of each pixel.

use burn::tensor::{DType, Shape};
use burn_wgpu::CubeTensor;

use super::launch::{Launch, plane, wgsl};
use super::tensor::dims;
use crate::logits::Calibration;

/// Logits `[1, classes, h, w]`, resampled to `side` x `side` pixels and calibrated, of which the part at `[top, left]` of `[rows, columns]` is
/// wanted: words of four classes, then words of four confidences (0 to 255), the first in the low bits, each row's filled up:
/// `[2, rows * columns.div_ceil(4)]`. A pixel with a logit that is not finite has class 255.
pub fn classify(
    logits: CubeTensor,
    side: usize,
    [top, left]: [usize; 2],
    [rows, columns]: [usize; 2],
    calibration: Option<&Calibration>,
) -> CubeTensor {
    let [_, classes, h, w] = dims(&logits);
    let words = rows * columns.div_ceil(4);
    let handle = logits.client.empty(8 * words);
    let shape = Shape::from(vec![2, words]);
    let y = CubeTensor::new_contiguous(logits.client.clone(), logits.device.clone(), shape, handle, DType::I32);
    // Factor and bias of each class, by their bits.
    let terms = (0..classes).flat_map(|class| {
        let (factor, bias) = calibration.map_or((1.0, 0.0), |calibration| calibration.terms(class));
        [factor.to_bits() as usize, bias.to_bits() as usize]
    });
    Launch::new("classify", wgsl!("classify"), &logits)
        .bind(&logits)
        .bind(&y)
        .sizes(&[classes, h, w, side, top, left, rows, columns])
        .sizes(&terms.collect::<Vec<_>>())
        .run(plane(words.div_ceil(64)));
    y
}

/// Classes and confidences, `[rows, columns]` each, from the bytes that [`classify`] gave.
pub fn masks_of_words(bytes: &[u8], rows: usize, columns: usize) -> (Vec<u8>, Vec<u8>) {
    let line = columns.next_multiple_of(4);
    let (classes, confidence) = bytes.split_at((rows * line).min(bytes.len()));
    let cut = |bytes: &[u8]| bytes.chunks(line).flat_map(|row| &row[..columns.min(row.len())]).copied().collect();
    (cut(classes), cut(confidence))
}
