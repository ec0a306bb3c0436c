//! From logits to class and confidence of each pixel, on a GPU, so that nothing else is read back. On the CPU the
//! logits are blended and resampled by [`crate::logits`].

use burn::tensor::Tensor;

use super::dispatch::is_on_gpu;
#[cfg(feature = "gpu")]
use super::gpu;
#[cfg(feature = "gpu")]
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "gpu")]
use crate::logits::Calibration;

/// Whether [`classify`] can do it for `logits`.
pub fn classifies(logits: &Tensor<4>) -> bool {
    logits.dims()[1] < 256 && is_on_gpu(logits)
}

/// Class and confidence (0 to 255) of each pixel of a part of the image, row by row, from logits `[1, classes, h, w]` resampled to
/// `side` x `side` and calibrated: the part at `[top, left]` of `[rows, columns]`.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails or a logit is not finite.
#[cfg(feature = "gpu")]
pub async fn classify(
    logits: Tensor<4>,
    side: usize,
    place: [usize; 2],
    [rows, columns]: [usize; 2],
    calibration: Option<&Calibration>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let words = gpu::read(gpu::classify(gpu::values(logits), side, place, [rows, columns], calibration)).await?;
    let (classes, confidence) = gpu::masks_of_words(&words, rows, columns);
    if classes.contains(&u8::MAX) {
        return Err(Error::new(ErrorKind::Device, "a logit is not finite")
            .remedy("the weights or the GPU driver are at fault: try the CPU device"));
    }
    Ok((classes, confidence))
}
