//! Outputs: class masks as PNG, GeoTIFF and COG with a colour table, overlays as PNG, and any file written atomically.
//!
//! Everything is written to a temporary file in the same folder, flushed to the disk, and renamed: a full disk or a
//! crash leaves the old file or none, never half of one.

mod atomic;
mod format;
mod mask_tiff;
mod png;
mod cog;

pub use atomic::{AtomicFile, atomic, is_unfinished};
pub use cog::Cog;
pub use mask_tiff::{MaskTiff, mask_geotiff};
pub use png::{MaskPng, RgbPng, mask_png, rgb_png, rgba_png};
