//! Servers: tiles by a template of addresses, WMS, and files that are read by ranges of bytes.
//!
//! ```text
//! client     one request: headers, time limits, retries that honour Retry-After     cache: answers on the disk
//!   -> ranges     a file behind HTTP, block by block
//!   -> template   from a tile to its address; wms: the parameters of GetMap
//!   -> server     a source of tiles, some of them fetched at once
//! ```

mod cache;
mod client;
mod ranges;
mod wms;
mod template;
mod server;

pub use client::{Client, HttpOptions, shown};
pub(super) use ranges::HttpFile;
pub use server::TileServer;
pub use template::Template;
