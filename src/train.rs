//! Training: from labelled chips to an adapter, a report and a package. Native only.
//!
//! ```text
//! image and mask files -> chips                  dataset: classes, label values, agreement, splits by place
//!   -> augmented crops, normalised               augment, batch
//!   -> logits at full resolution -> loss         init (the model), upload, loss; teacher, teaching (soft targets)
//!   -> gradients -> new weights                  learner, replicas (several devices), schedule
//!   -> checkpoints, log, metrics, report         trainer: metrics, evaluate, checkpoint, report, run_folder, results
//!   -> confidences and thresholds                calibrate, thresholds
//! ```
//!
//! [`setup`] joins these parts to a run, [`lr_find`] looks for its learning rate.
//!
//! A module imports only what stands above it in this file.

pub mod dataset;
pub mod augment;
pub mod batch;
pub mod loss;
pub mod teacher;
pub mod learner;
pub mod upload;
pub mod replicas;
pub mod metrics;
pub mod schedule;
pub mod report;
pub mod init;
pub mod evaluate;
pub mod calibrate;
pub mod thresholds;
pub mod checkpoint;
pub mod run_folder;
pub mod teaching;
pub mod setup;
pub mod results;
pub mod trainer;
pub mod lr_find;
