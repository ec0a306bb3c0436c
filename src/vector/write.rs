//! Features as files of a GIS, each written atomically and one feature after another.

mod styles;
mod flatgeobuf;
mod geopackage;
mod shapefile;

pub use flatgeobuf::FlatGeobuf;
pub use geopackage::{GeoPackage, Table, Value};
pub use shapefile::Shapefile;

use super::record::Record;
use crate::error::Result;

/// What takes features.
pub trait Features {
    /// Writes one feature.
    ///
    /// # Errors
    /// Those of writing, and of what the format cannot hold.
    fn record(&mut self, record: &Record) -> Result<()>;
}
