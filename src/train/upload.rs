//! A batch on a device.

use burn::tensor::{Device, Tensor, TensorData};

use super::batch::Batch;
use super::loss::LossTarget;

/// Images `[count, bands, size, size]` and what their loss compares with, for `classes` classes.
pub fn upload(batch: &Batch, classes: usize, device: &Device) -> (Tensor<4>, LossTarget) {
    let Batch { count, bands, size, .. } = *batch;
    let images = Tensor::from_data(TensorData::new(batch.images.clone(), [count, bands, size, size]), device);
    (images, LossTarget::new(&batch.labels, [count, size, size], classes, device))
}
