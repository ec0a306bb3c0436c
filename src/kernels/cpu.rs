//! The fast forms for the CPU: one pass over memory, SIMD, all cores (natively; a browser's worker has one).

mod activation;
mod attention;
mod convolution;
mod depthwise;
mod elementwise;
#[cfg(feature = "train")]
mod gemm;
mod linear;
mod math;
mod norm;
mod parallel;
mod product;
mod reduce;
mod tensor;
mod vector;

pub use attention::biases::Biases;
#[cfg(feature = "train")]
pub use attention::gradients::window_attention_gradients;
pub use attention::positions::Positions;
pub use attention::{AttentionShape, Order, Products, window_attention};
#[cfg(feature = "train")]
pub use convolution::gradients::{conv3x3_input_gradient, conv3x3_matrix_gradient};
pub use convolution::{conv3x3, patch_embed};
#[cfg(feature = "train")]
pub use depthwise::gradients::{depthwise_input_gradient, depthwise_kernel_gradient};
pub use depthwise::{CpuPlacement, depthwise};
pub use elementwise::bias_gelu;
#[cfg(feature = "train")]
pub use elementwise::{bias_gelu_gradient, limit_gradient};
pub use linear::{CpuEpilogue, CpuMatrix, from_panels, linear, to_panels};
#[cfg(feature = "train")]
pub use linear::{product_of_transposed, transposed};
pub use norm::layer_norm;
#[cfg(feature = "train")]
pub use norm::{layer_norm_gradients, layer_norm_with_moments};
#[cfg(feature = "train")]
pub use reduce::column_sums;
pub use tensor::{is_words, primitive, runs_on, take, values, view, words, wrap};
