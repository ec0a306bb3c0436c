//! Where pixels come from: pictures, GeoTIFFs, tiles in folders, archives and on servers, read window by window.
//!
//! [`open()`] gives a [`Raster`]: samples as the file holds them, and which pixels hold data. [`Colours`] is the 8-bit picture of
//! it that people see. [`open_levels`] gives all zoom levels or overviews of a source, [`choose`] says which of them a model is
//! to see and how large its pixels, [`Resampled`] makes them so, and [`Regrid`] brings the mask back to the source's grid.

mod raster;
mod memory;
mod stretch;
mod colours;
mod input;
mod resolution;
mod regrid;
mod shared;
#[cfg(not(target_arch = "wasm32"))]
mod bytes;
#[cfg(not(target_arch = "wasm32"))]
mod block;
#[cfg(not(target_arch = "wasm32"))]
mod cache;
#[cfg(not(target_arch = "wasm32"))]
mod format;
#[cfg(not(target_arch = "wasm32"))]
pub mod tiles;
#[cfg(not(target_arch = "wasm32"))]
mod sidecar;
#[cfg(not(target_arch = "wasm32"))]
mod jpeg;
#[cfg(not(target_arch = "wasm32"))]
mod header;
#[cfg(not(target_arch = "wasm32"))]
pub mod geotiff;
#[cfg(not(target_arch = "wasm32"))]
pub mod orientation;
#[cfg(not(target_arch = "wasm32"))]
pub mod picture;
#[cfg(not(target_arch = "wasm32"))]
mod resampled;
#[cfg(not(target_arch = "wasm32"))]
pub mod mosaic;
#[cfg(not(target_arch = "wasm32"))]
pub mod xyz;
#[cfg(not(target_arch = "wasm32"))]
pub mod pmtiles;
#[cfg(not(target_arch = "wasm32"))]
pub mod mbtiles;
#[cfg(all(not(target_arch = "wasm32"), feature = "http"))]
pub mod http;
#[cfg(not(target_arch = "wasm32"))]
mod options;
#[cfg(not(target_arch = "wasm32"))]
mod levels;
#[cfg(not(target_arch = "wasm32"))]
mod labels;
#[cfg(not(target_arch = "wasm32"))]
pub mod raw;
#[cfg(not(target_arch = "wasm32"))]
mod open;
#[cfg(not(target_arch = "wasm32"))]
pub mod write;

pub use colours::Colours;
pub use input::ModelInput;
pub use memory::{Memory, SampleSlice};
pub use raster::{Depth, Interpretation, Patch, Raster, Samples, Window};
pub use regrid::{Axis, GridRows, Regrid};
pub use resolution::{Choice, FARTHEST, Resolution, SAME, choose};
pub use shared::Shared;

#[cfg(not(target_arch = "wasm32"))]
pub use format::{Format, detect, detect_bytes};
#[cfg(not(target_arch = "wasm32"))]
pub use levels::{Level, Levels, is_archive, is_url, open_levels, open_tiles};
#[cfg(not(target_arch = "wasm32"))]
pub use open::open;
#[cfg(not(target_arch = "wasm32"))]
pub use options::SourceOptions;
#[cfg(not(target_arch = "wasm32"))]
pub use resampled::Resampled;
