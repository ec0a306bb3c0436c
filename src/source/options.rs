//! What to read of a source.

#[cfg(feature = "http")]
use super::http::HttpOptions;
use super::tiles::TileOptions;

/// What to read of a source, and how.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceOptions {
    /// Which tiles of a pyramid.
    pub tiles: TileOptions,
    /// How to ask servers.
    #[cfg(feature = "http")]
    pub http: HttpOptions,
}
