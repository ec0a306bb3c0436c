//! Layers with parameters that the network is built of: a linear layer, whose weight is stored in one of several forms, and low-rank
//! adapters beside it. The network itself knows neither; norms and the rest are in [`crate::model`], in SAM's own files.

mod adapted;
mod linear;
mod parameters;

pub use adapted::{Adapted, Joined, LowRank, Rows};
pub use linear::Linear;
pub use parameters::{Parameters, Scope};
