//! Training: from labelled chips to an adapter, a report and a package. Native only.
//!
//! ```text
//! image and mask files -> chips                  dataset: classes, label values, splits by place
//!   -> augmented crops, normalised               augment, batch
//!   -> logits at full resolution -> loss         loss, step
//!   -> gradients -> new weights                  trainable, optimizer, schedule
//!   -> checkpoints, log, metrics, report         fit: checkpoint, evaluate, run, report
//! ```
//!
//! A module imports only what stands above it in this file.

pub mod dataset;
pub mod augment;
pub mod batch;
pub mod loss;
pub mod learner;
pub mod upload;
pub mod replicas;
pub mod metrics;
pub mod schedule;
pub mod report;
pub mod start;
pub mod evaluate;
pub mod checkpoint;
pub mod run;
pub mod setup;
pub mod results;
pub mod fit;
pub mod lr_find;
