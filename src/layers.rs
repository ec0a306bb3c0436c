//! Layers with parameters that the network is built of: a linear layer, whose weight is stored in one of several forms, and low-rank
//! adapters beside it, and the widths that attention heads have on a device. The network itself knows neither; norms and the rest are in [`crate::model`], in SAM's own files.

mod adapted;
mod heads;
mod linear;
mod parameters;

pub use adapted::{Adapted, AdaptedLayers, Joined, LowRank, Rows};
pub use heads::{HeadPadding, widened};
pub use linear::Linear;
pub use parameters::{Parameters, Scope};
