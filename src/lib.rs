//! Class masks of map tiles from a Segment Anything (SAM) encoder with a LoRA adapter, natively and in the browser.
//!
//! The way of the data is the list of modules, and [`engine::Segmenter::segment_windows`] is their composition:
//!
//! ```text
//! raster: samples [h, w, bands], valid [h, w]   source: read window by window
//!   -> windows with halo                        mosaic, preprocess
//!   -> embedding [1, c, s/16, s/16]             model: image encoder, LoRA merged
//!   -> logits [1, k, s/4, s/4]                  model: mask decoder, one mask per class, 0 = background
//!   -> rows of classes and confidence           mosaic, logits: blended; then no data, thresholds, small regions (engine)
//!   -> overlay, polygons, GeoJSON, masks        overlay, polygon, geojson, vector, source::write
//! ```
//!
//! [`area`] goes the same way over any extent, block by block, so that it can be stopped, gone on with and shared out.
//!
//! Weights come from published checkpoints ([`weights::checkpoint`]) or from this project's package
//! ([`weights::manifest`]), which browsers download in shards.
//!
//! A module imports only what stands above it in this file.
//!
//! # Features
//! `cli` (the command `samlora`), `http` (tiles and files on servers, native), `gpu` (wgpu: Vulkan, Metal, DirectX 12, WebGPU), `cpu` (burn's `flex`), `cuda`, `train`
//! (from labelled chips to an adapter and a package). For `wasm32-unknown-unknown` build with `--no-default-features` and one of `gpu` and `cpu`.

pub mod error;
pub mod config;
pub mod image;
pub mod random;
pub mod tile;
pub mod georef;
pub mod logits;
pub mod names;
pub mod kernels;
pub mod layers;
pub mod model;
pub mod lora;
pub mod weights;
pub mod mask;
pub mod source;
pub mod mosaic;
pub mod preprocess;
pub mod engine;
#[cfg(not(target_arch = "wasm32"))]
pub mod area;
pub mod overlay;
pub mod polygon;
pub mod geojson;
#[cfg(not(target_arch = "wasm32"))]
pub mod vector;
#[cfg(feature = "train")]
pub mod train;
#[cfg(target_arch = "wasm32")]
mod web;

/// This program's name, version and revision, as packages record it.
pub const TOOL: &str = concat!("samlora ", env!("CARGO_PKG_VERSION"), env!("SAMLORA_REVISION"));
/// Version, revision and package format, as `samlora --version` prints them.
pub const TOOL_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), env!("SAMLORA_REVISION"), ", package format ", env!("SAMLORA_FORMAT_VERSION"));

/// The manual's Rust, which `cargo test --doc` compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/src/api.md")]
struct Manual;
