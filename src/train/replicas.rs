//! One model on several devices: each computes the gradients of its share of a step's batches, the first sums them and takes the
//! step.
//!
//! Plain copies between devices, no collective operations: this works on every device that burn knows, also on unlike ones, and a
//! step's result does not depend on the number of devices but for the order of sums.

use burn::module::Module;
use burn::tensor::Device;

use super::batch::Batch;
use super::learner::{Accumulated, Learner, LossValues};
use super::loss::LossOptions;
use super::upload::upload_for;
use crate::error::{Error, ErrorKind, Result};

/// Learners on several devices, the leading one apart.
pub struct Replicas {
    others: Vec<Learner>,
}

impl Replicas {
    /// Copies of `lead` on `devices`, beside its own.
    pub fn new(lead: &Learner, devices: &[Device]) -> Self {
        let copy = |device: &Device| lead.on(lead.sam.clone().to_device(device), device);
        Self { others: devices.iter().map(copy).collect() }
    }

    /// Gives the teacher of `lead` to the others.
    ///
    /// # Errors
    /// Those of [`Learner::teach_as`].
    pub fn teach(&mut self, lead: &Learner) -> Result<()> {
        self.others.iter_mut().try_for_each(|other| other.teach_as(lead))
    }

    /// Gradients of the batches of one step, summed on the device of `lead`, and each batch's loss. `seed` is drawn from for dropout,
    /// by the number of a batch.
    ///
    /// # Errors
    /// Those of [`Learner::accumulate`].
    pub fn accumulate(
        &self,
        lead: &Learner,
        batches: &[Batch],
        loss: &LossOptions,
        seed: impl Fn(usize) -> u64 + Sync,
    ) -> Result<(Vec<LossValues>, Accumulated)> {
        let count = self.others.len() + 1;
        let share = |learner: &Learner, first: usize| -> Result<(Vec<(usize, LossValues)>, Accumulated)> {
            let mut accumulated = learner.accumulator();
            let mut losses = Vec::new();
            for (number, batch) in batches.iter().enumerate().skip(first).step_by(count) {
                learner.seed(seed(number));
                let (images, target) = upload_for(learner, batch);
                losses.push((number, learner.accumulate(images, &target, loss, &mut accumulated)?));
            }
            Ok((losses, accumulated))
        };
        let (mut losses, sum) = if self.others.is_empty() {
            share(lead, 0)?
        } else {
            std::thread::scope(|scope| {
                let share = &share;
                let others: Vec<_> = self
                    .others
                    .iter()
                    .zip(1..)
                    .map(|(learner, first)| scope.spawn(move || share(learner, first)))
                    .collect();
                let (mut losses, mut sum) = share(lead, 0)?;
                for other in others {
                    let failed = |_| Error::new(ErrorKind::Device, "a device's thread ended");
                    let (more, accumulated) = other.join().map_err(failed)??;
                    losses.extend(more);
                    sum.add(accumulated, lead.device());
                }
                Ok::<_, Error>((losses, sum))
            })?
        };
        losses.sort_by_key(|(number, _)| *number);
        Ok((losses.into_iter().map(|(_, loss)| loss).collect(), sum))
    }

    /// Brings what `lead` has learned to the other devices.
    pub fn broadcast(&mut self, lead: &Learner) {
        for other in &mut self.others {
            other.copy_learned(lead);
        }
    }
}
