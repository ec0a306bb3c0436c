//! A server's tiles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::{Client, shown};
use super::template::Template;
use crate::error::{Error, ErrorKind, Result};
use crate::source::tiles::{Encoded, MAX_TILE_BYTES, TileExtent, TileInfo, TileOptions, TileSource, check_picture};
use crate::tile::{TileId, ground_resolution};

/// The deepest zoom level that is asked for unasked.
const DEEPEST: u8 = 22;
/// How many zoom levels above the wanted one are tried, where a server has no tiles so deep.
const HIGHER: u8 = 6;

/// Tiles of one zoom level in one area.
pub struct TileServer {
    name: String,
    template: Template,
    client: Arc<Client>,
    extents: Vec<TileExtent>,
    info: TileInfo,
}

impl TileServer {
    /// Whether an address is one of tiles, and not of a file.
    pub fn is_template(url: &str) -> bool {
        Template::is_one(url)
    }

    /// Opens a server's tiles in the area of the options: of their zoom level, else of the level whose pixels are just as fine as
    /// their resolution, or the deepest above it that has tiles.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] without an area, or with neither zoom level nor resolution; those of [`Template::parse`];
    /// [`ErrorKind::NotFound`] if no tile is found. All name the address.
    pub(in crate::source) fn open(url: &str, client: Arc<Client>, options: &TileOptions) -> Result<Self> {
        let place = |e: Error| e.at(shown(url));
        let template = Template::parse(url, options.tms == Some(true)).map_err(place)?;
        let Some(bounds) = options.bounds else {
            return Err(place(
                Error::new(ErrorKind::Invalid, "a server of tiles covers the world")
                    .remedy("say which area to take: --bbox WEST,SOUTH,EAST,NORTH in degrees"),
            ));
        };
        let kind = if template.is_wms() { "WMS" } else { "tile server" };
        let info = TileInfo { kind, ..TileInfo::default() };
        let mut server = Self { name: shown(url), template, client, extents: Vec::new(), info };
        let zooms = match (options.zoom, options.resolution) {
            (Some(zoom), _) => vec![zoom],
            (None, Some(metres)) => {
                let latitude = (bounds.south + bounds.north) / 2.0;
                let wanted = (1..=DEEPEST).find(|z| ground_resolution(latitude, *z, 256) <= metres * 1.001);
                let wanted = wanted.unwrap_or(DEEPEST);
                (wanted.saturating_sub(HIGHER)..=wanted).rev().collect()
            }
            (None, None) => {
                return Err(place(
                    Error::new(ErrorKind::Invalid, "nothing says which zoom level to ask for")
                        .remedy("choose one with --zoom, or a resolution with --resolution METRES"),
                ));
            }
        };
        for zoom in zooms {
            let extent = TileExtent::within(bounds, zoom).map_err(place)?;
            if let Some(sample) = server.probe(&extent)? {
                server.extents.push(TileExtent { sample: Some(sample), ..extent });
                return Ok(server);
            }
        }
        Err(place(
            Error::new(ErrorKind::NotFound, "no tile was found in the area")
                .remedy("choose another area (--bbox) or zoom level (--zoom)"),
        ))
    }

    /// A tile of an extent that is there, of some that are asked for: its middle, then its corners.
    fn probe(&self, extent: &TileExtent) -> Result<Option<(u32, u32)>> {
        let TileExtent { zoom, first, last, .. } = *extent;
        let middle = (first.0 + (last.0 - first.0) / 2, first.1 + (last.1 - first.1) / 2);
        let mut places = vec![middle, first, last, (first.0, last.1), (last.0, first.1)];
        places.dedup();
        for (x, y) in places {
            if self.tile(TileId::new(zoom, x, y)?)?.is_some() {
                return Ok(Some((x, y)));
            }
        }
        Ok(None)
    }

    fn fetch(&self, tile: TileId) -> Result<Option<Encoded>> {
        let url = self.template.url(tile).map_err(|e| e.at(&self.name))?;
        let key = self.client.key(&url);
        if let Some(kept) = self.client.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(Some(Encoded::Bytes(kept)));
        }
        let answer = self.client.get(&url, None, MAX_TILE_BYTES)?;
        if answer.status != 200 || answer.body.is_empty() {
            return Ok(None);
        }
        // Services say what is wrong in a text, with status 200.
        check_picture(&answer.body).map_err(|e| {
            let text: String = String::from_utf8_lossy(&answer.body).chars().take(2000).collect();
            let is_text =
                answer.content_type.contains("text") || answer.content_type.contains("xml") || text.starts_with('<');
            if !is_text {
                return e.at(shown(&url));
            }
            let words = plain(&text);
            let message = format!("the server sent a text in place of a tile: {words}");
            Error::new(ErrorKind::Io, message).at(shown(&url)).remedy("check the address, its layers and keys")
        })?;
        if let Some(cache) = &self.client.cache {
            cache.put(&key, &answer.body)?;
        }
        Ok(Some(Encoded::Bytes(answer.body)))
    }
}

/// The first words of a text without its tags.
fn plain(text: &str) -> String {
    let mut words = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                words.push(' ');
            }
            c if !inside && !c.is_control() => words.push(c),
            _ if !inside => words.push(' '),
            _ => {}
        }
    }
    let words: Vec<&str> = words.split_whitespace().collect();
    words.join(" ").chars().take(160).collect()
}

impl TileSource for TileServer {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &TileInfo {
        &self.info
    }

    fn extents(&self) -> &[TileExtent] {
        &self.extents
    }

    fn tile(&self, tile: TileId) -> Result<Option<Encoded>> {
        self.fetch(tile)
    }

    fn tiles(&self, tiles: &[TileId]) -> Vec<Result<Option<Encoded>>> {
        let workers = self.client.parallel().min(tiles.len());
        if workers < 2 {
            return tiles.iter().map(|tile| self.fetch(*tile)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(tile) = tiles.get(index) else { return done };
                done.push((index, self.fetch(*tile)));
            }
        };
        let mut all: Vec<(usize, Result<Option<Encoded>>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        all.sort_by_key(|(index, _)| *index);
        let gone = || Err(Error::new(ErrorKind::Io, "a request ended without an answer").at(&self.name));
        let mut all = all.into_iter().peekable();
        (0..tiles.len()).map(|i| all.next_if(|(index, _)| *index == i).map_or_else(gone, |(_, found)| found)).collect()
    }

    fn is_tms(&self) -> bool {
        self.template.is_tms()
    }
}
