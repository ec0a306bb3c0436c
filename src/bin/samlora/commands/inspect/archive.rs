//! What an archive of tiles holds.

use std::path::Path;

use samlora::error::Result;
use samlora::source::mosaic::Mosaic;
use samlora::source::open_tiles;
use samlora::source::tiles::{TileInfo, TileOptions};
use samlora::tile::{Bounds, ground_resolution};
use serde_json::json;

use super::{print_json, say};

/// Prints format, zoom levels, type of the tiles, bounds and attribution.
pub(super) fn run(path: &Path, as_json: bool) -> Result<()> {
    let source = open_tiles(path, &TileOptions::default())?;
    let TileInfo { kind, tile_format, title, attribution, bounds } = source.info();
    let finest = source.extents().last().copied();
    // A mosaic too large to be one has tiles of some size all the same.
    let side = finest.and_then(|extent| Mosaic::new(source.clone(), extent).ok()).map(|mosaic| mosaic.tile_size());
    let place = match (bounds, finest) {
        (Some(bounds), _) => Some(*bounds),
        (None, Some(extent)) => Some(extent.bounds_lon_lat()?),
        (None, None) => None,
    };
    let edges = place.map(|Bounds { west, south, east, north }| [west, south, east, north]);
    let latitude = place.map_or(0.0, |b| (b.south + b.north) / 2.0);
    let tile_type = tile_format.map_or("not said".to_owned(), |format| format!("{format:?}").to_lowercase());
    if as_json {
        let levels = source.extents().iter().map(|e| {
            json!({ "zoom": e.zoom, "tiles": e.count, "first": [e.first.0, e.first.1], "last": [e.last.0, e.last.1] })
        });
        return print_json(&json!({
            "kind": "tiles", "format": kind, "title": title, "tile_type": tile_type, "tile_size": side, "bounds": edges,
            "attribution": attribution, "zooms": levels.collect::<Vec<_>>(),
        }));
    }
    say(format_args!(
        "{kind} {title:?}: tiles of type {tile_type}{}",
        side.map_or(String::new(), |s| format!(", {s} px"))
    ))?;
    for extent in source.extents() {
        let count = extent.count.map_or("tiles".to_owned(), |n| format!("{n} tiles"));
        let metres = ground_resolution(latitude, extent.zoom, side.unwrap_or(256) as u32);
        let (first, last) = (extent.first, extent.last);
        say(format_args!(
            "  zoom {}: {count}, columns {} to {}, rows {} to {}, {metres:.3} m a pixel",
            extent.zoom, first.0, last.0, first.1, last.1
        ))?;
    }
    if let Some([west, south, east, north]) = edges {
        say(format_args!("bounds: {west:.6},{south:.6},{east:.6},{north:.6}"))?;
    }
    if !attribution.is_empty() {
        say(format_args!("attribution: {attribution}"))?;
    }
    Ok(())
}
