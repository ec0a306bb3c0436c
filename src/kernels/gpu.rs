//! The forms for GPUs: kernels of our own in WGSL, launched through burn's runtime. No operation of burn's is needed for an image,
//! so that a browser's build holds none of them.
//!
//! Tensors are row-major in the device's precision, sums are f32. Each kernel is one `.wgsl` file, read as `template` says.

mod attention;
mod classify;
mod depthwise;
mod elementwise;
mod launch;
mod norm;
mod product;
mod profile;
mod take;
mod template;
mod tensor;

pub use attention::{biased_attention, cross_attention, window_attention};
pub use classify::{classify, masks_of_words};
pub use depthwise::depthwise;
pub use elementwise::{add, concat, dense_pe, masks, permute, resample, rows, stack};
pub use norm::layer_norm;
pub use product::{Gather, GpuMatrix, GpuProduct, Scatter};
pub use profile::{Profile, profile, set_profile};
pub use take::{Take, runs_on, take_strided, values};
pub use tensor::{expanded, permuted, read, read_floats, reshape, upload, upload_integers, words, wrap};
