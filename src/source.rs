//! Where pixels come from: pictures, GeoTIFFs and folders of XYZ tiles, read window by window.

mod raster;

pub use raster::{Depth, Patch, Raster, Samples, Window};

#[cfg(not(target_arch = "wasm32"))]
mod cache;
#[cfg(not(target_arch = "wasm32"))]
pub mod geotiff;
#[cfg(not(target_arch = "wasm32"))]
mod open;
#[cfg(not(target_arch = "wasm32"))]
pub mod orientation;
#[cfg(not(target_arch = "wasm32"))]
mod patched;
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
pub use open::{Format, PixelSource, detect, detect_bytes, open};
