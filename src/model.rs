//! The network, in SAM's own file and type names (`segment_anything/modeling`), so that the reference can be read
//! beside it.
//!
//! Inside, images are channel-last, `[batch, height, width, channels]`: every convolution of SAM is then a matrix
//! product, which is what the devices are fast at. Images and embeddings that cross this module's border are
//! channel-first, `[batch, channels, height, width]`, as in the reference. Parameters keep SAM's shapes and axis order
//! (a linear layer's weight is `[out, in]`); [`names`] tells what checkpoints call them.

pub mod common;
pub mod encoder;
pub mod image_encoder;
pub mod lite;
pub mod mask_decoder;
pub mod neck;
pub mod prompt_encoder;
pub mod sam;
pub mod tiny_vit;
pub mod transformer;

pub use crate::layers::Parameters;
pub use sam::Sam;
