//! Where pixels come from: pictures, GeoTIFFs and folders of XYZ tiles, read window by window.
//!
//! [`open()`] gives a [`Raster`]: samples as the file holds them, and which pixels hold data. [`Colours`] is the 8-bit picture of
//! it that people see.

mod raster;

mod colours;
mod input;
mod memory;
mod stretch;

pub use colours::Colours;
pub use input::ModelInput;
pub use memory::{Memory, SampleSlice};
pub use raster::{Depth, Interpretation, Patch, Raster, Samples, Window};

#[cfg(not(target_arch = "wasm32"))]
mod block;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
#[cfg(not(target_arch = "wasm32"))]
mod format;
#[cfg(not(target_arch = "wasm32"))]
pub mod geotiff;
#[cfg(not(target_arch = "wasm32"))]
mod header;
#[cfg(not(target_arch = "wasm32"))]
mod jpeg;
#[cfg(not(target_arch = "wasm32"))]
mod labels;
#[cfg(not(target_arch = "wasm32"))]
mod open;
#[cfg(not(target_arch = "wasm32"))]
pub mod picture;
#[cfg(not(target_arch = "wasm32"))]
pub mod raw;
#[cfg(not(target_arch = "wasm32"))]
mod sidecar;
#[cfg(not(target_arch = "wasm32"))]
pub mod write;
#[cfg(not(target_arch = "wasm32"))]
pub mod xyz;

#[cfg(not(target_arch = "wasm32"))]
pub use format::{Format, detect, detect_bytes};
#[cfg(not(target_arch = "wasm32"))]
pub use open::open;
