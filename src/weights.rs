//! Weights: published checkpoints and this project's package.

pub mod adapter;
#[cfg(not(target_arch = "wasm32"))]
pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod export;
#[cfg(not(target_arch = "wasm32"))]
pub mod file;
#[cfg(not(target_arch = "wasm32"))]
pub mod folder;
#[cfg(not(target_arch = "wasm32"))]
mod fold;
mod foreign;
#[cfg(not(target_arch = "wasm32"))]
pub mod imagenet;
pub mod keys;
pub mod layout;
pub mod manifest;
#[cfg(feature = "train")]
pub mod modules;
pub mod package;
#[cfg(not(target_arch = "wasm32"))]
pub mod pytorch;
pub mod quantize;
pub mod safetensors;
#[cfg(not(target_arch = "wasm32"))]
pub mod shards;
#[cfg(not(target_arch = "wasm32"))]
pub mod source;
pub mod tensor;
pub mod upload;
