//! A batch on a device.

use burn::tensor::{Device, Tensor, TensorData};

use super::batch::Batch;
use super::learner::Learner;
use super::loss::{LossTarget, SoftTarget};

/// Images `[count, bands, size, size]` and what their loss compares with, for `classes` classes.
pub fn upload(batch: &Batch, classes: usize, device: &Device) -> (Tensor<4>, LossTarget) {
    let Batch { count, bands, size, .. } = *batch;
    let images = Tensor::from_data(TensorData::new(batch.images.clone(), [count, bands, size, size]), device);
    (images, LossTarget::new(&batch.labels, [count, size, size], classes, device))
}

/// As [`upload`], for a learner on its device, with what its teacher says of the batch.
pub fn upload_for(learner: &Learner, batch: &Batch) -> (Tensor<4>, LossTarget) {
    let classes = learner.config().mask_tokens;
    let (images, mut target) = upload(batch, classes, learner.device());
    if let (Some((weights, teacher)), Some(lesson)) = (learner.taught(), &batch.taught) {
        let on_device = |values: &[f32], channels: usize| {
            let shape = [batch.count, channels, batch.size, batch.size];
            Tensor::from_data(TensorData::new(values.to_vec(), shape), learner.device())
        };
        let (probabilities, embedding) = match teacher {
            Some(teacher) => {
                let said = teacher.speak(images.clone());
                (said.probabilities, said.embedding)
            }
            None => {
                let masks = Some(&lesson.probabilities).filter(|masks| !masks.is_empty());
                (masks.map(|masks| on_device(masks, classes)), None)
            }
        };
        target.soft = Some(SoftTarget { probabilities, speaks: on_device(&lesson.speaks, 1), embedding, weights });
    }
    (images, target)
}
