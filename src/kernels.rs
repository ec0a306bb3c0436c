//! Fused operations: each in a reference form for any device, and in faster ones for the CPU and for GPUs.
//!
//! One file an operation: it holds the reference and lists the other forms, among which the module `dispatch` chooses. The fast forms are in
//! `cpu` and [`gpu`]; the CPU's gradients are in `autodiff`.

mod activation;
mod attention;
#[cfg(all(feature = "cpu", feature = "train"))]
mod autodiff;
#[cfg(feature = "gpu")]
pub mod check;
mod biased_attention;
mod classify;
pub mod convolution;
#[cfg(feature = "cpu")]
mod cpu;
mod device;
mod dispatch;
mod elementwise;
#[cfg(feature = "gpu")]
pub mod gpu;
mod layout;
mod linear;
mod matrix;
mod norm;
mod positions;
pub mod quantized;
mod resample;
mod unread;

pub use activation::Activation;
pub use attention::{WindowAttention, by_query_and_key, cross_attention};
pub use biased_attention::BiasedAttention;
pub use classify::classifies;
#[cfg(feature = "gpu")]
pub use classify::classify;
pub use device::{check_architecture, flush, has_gpu_kernels, multiplies_quantized, on_cores, read, upload};
pub use elementwise::{add, bias_gelu};
pub use layout::{column_major, concat, concat_channels, enlarge, permute, repeat, reshape, rows, stack};
pub use linear::{Epilogue, apply_epilogue, linear, masks};
pub use matrix::{Matrix, Weight};
pub use norm::{layer_norm, norm_gelu};
pub use positions::{dense_pe, positional_encoding};
pub use resample::{resample, resample_matrix};
