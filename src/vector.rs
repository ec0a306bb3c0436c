//! Vector files: polygons out to what a GIS opens, areas of interest in from it.
//!
//! [`Records`] turns traced polygons into features in the coordinates that are asked for; the writers of [`write`] take
//! them one by one. [`areas`] reads outlines and [`clip`] turns them into rows of pixels.

pub mod areas;
pub mod clip;
pub mod provenance;
pub mod record;
pub mod stats;
pub mod write;

pub use areas::{Area, Areas, read};
pub use clip::{Clip, Clipped};
pub use provenance::Provenance;
pub use record::{Record, Records, Target};
