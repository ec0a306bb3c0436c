//! Class masks of map tiles from a Segment Anything (SAM) encoder with a LoRA adapter.

pub mod config;
pub mod engine;
pub mod error;
pub mod image;
pub mod logits;
pub mod lora;
pub mod mask;
pub mod model;
pub mod mosaic;
pub mod preprocess;
pub mod weights;
