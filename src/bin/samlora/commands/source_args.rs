//! Which tiles to read, and how to ask servers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use samlora::error::{Error, ErrorKind, Result};
use samlora::source::SourceOptions;
use samlora::source::http::HttpOptions;
use samlora::source::tiles::{TileOptions, check_bounds};
use samlora::tile::Bounds;

/// Options of sources of tiles and of servers.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Zoom level of tiles [default: the one that the resolution wants]
    #[arg(long)]
    zoom: Option<u8>,
    /// Rows of tiles are counted from the south (known without it where a folder has a tilemapresource.xml, and of MBTiles)
    #[arg(long)]
    tms: bool,
    /// Only the tiles that hold a part of this area, in degrees; servers need it
    #[arg(long, value_name = "WEST,SOUTH,EAST,NORTH", value_delimiter = ',', allow_hyphen_values = true)]
    bbox: Vec<f64>,
    /// A header for servers, such as "Authorization: Bearer KEY"; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Folder that keeps tiles of servers for later runs (up to 1 GB)
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Requests that a server is sent at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    requests: usize,
    /// Seconds that a server may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

impl SourceArgs {
    /// Which tiles are read, in words that know no keys: how they are asked for (headers, cache, times) changes no pixel.
    pub fn tiles(&self) -> String {
        format!("zoom {:?}, tms {}, bbox {:?}", self.zoom, self.tms, self.bbox)
    }

    /// The options, for pixels of so many metres where a server has several zoom levels.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an area or a header that is none.
    pub fn options(&self, resolution: Option<f64>) -> Result<SourceOptions> {
        let bounds = match self.bbox.as_slice() {
            [] => None,
            &[west, south, east, north] => Some(Bounds { west, south, east, north }),
            _ => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "takes four numbers: west, south, east and north in degrees",
                )
                .at("--bbox")
                .remedy("for example --bbox 124.26,13.96,124.27,13.97"));
            }
        };
        bounds.map_or(Ok(()), check_bounds).map_err(|e| e.at("--bbox"))?;
        let header = |text: &String| match text.split_once(':') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no header"))
                .at("--header")
                .remedy("write it as \"Name: value\"")),
        };
        let tiles = TileOptions { zoom: self.zoom, bounds, tms: self.tms.then_some(true), resolution };
        let http = HttpOptions {
            headers: self.header.iter().map(header).collect::<Result<_>>()?,
            timeout: Duration::from_secs(self.timeout.max(1)),
            parallel: self.requests.max(1),
            cache: self.cache.clone(),
            ..HttpOptions::default()
        };
        Ok(SourceOptions { tiles, http })
    }
}
