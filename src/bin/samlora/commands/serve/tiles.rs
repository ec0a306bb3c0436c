//! Folders of XYZ tiles that the page's map can show.

use std::path::{Path, PathBuf};

use samlora::error::{Error, ErrorKind, Result};
use samlora::source::xyz;
use serde_json::{Value, json};

/// A folder of tiles.
pub(super) struct Layer {
    /// In its URL and for people.
    pub(super) name: String,
    /// Where the tiles lie.
    pub(super) folder: PathBuf,
    template: String,
    tile_size: usize,
    zooms: [u8; 2],
    bounds: [f64; 4],
    /// What to show first.
    view: [f64; 4],
}

/// The layers of `folders`, each checked.
///
/// # Errors
/// Those of [`xyz::mosaics`]; [`ErrorKind::Unsupported`] for tiles of several kinds and TMS, [`ErrorKind::Invalid`] for two folders of one name.
pub(super) fn layers(folders: &[PathBuf]) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    for folder in folders {
        let layer = layer(folder)?;
        super::check_name(&layer.name, layers.iter().any(|other| other.name == layer.name), folder, "layers")?;
        layers.push(layer);
    }
    Ok(layers)
}

fn layer(folder: &Path) -> Result<Layer> {
    let root = folder.canonicalize().map_err(|e| Error::from(e).at(folder.display()))?;
    let levels = xyz::mosaics(&root, None)?;
    if levels.iter().any(xyz::Mosaic::is_tms) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the tiles' rows are counted from the south (TMS), those of the map from the north",
        )
        .at(folder.display())
        .remedy("tile it anew, for example with gdal2tiles.py --xyz"));
    }
    let mixed = || {
        Error::new(ErrorKind::Unsupported, "the tiles differ in their names' form, in format or in size")
            .at(folder.display())
            .remedy("keep tiles of one kind in a folder, named z/x/y.png")
    };
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return Err(mixed()) };
    let template = first.template().ok_or_else(mixed)?;
    if levels.iter().any(|l| l.template().as_ref() != Some(&template) || l.tile_size() != first.tile_size()) {
        return Err(mixed());
    }
    let mut bounds = [180.0f64, 90.0, -180.0, -90.0];
    for level in &levels {
        let found = level.bounds_lon_lat()?;
        bounds = [
            bounds[0].min(found.west),
            bounds[1].min(found.south),
            bounds[2].max(found.east),
            bounds[3].max(found.north),
        ];
    }
    let found = last.largest_group_lon_lat()?;
    let view = [found.west, found.south, found.east, found.north];
    let (zooms, tile_size) = ([first.zoom(), last.zoom()], first.tile_size());
    Ok(Layer { name: super::url_name(&root), folder: root, template, tile_size, zooms, bounds, view })
}

/// What `/tiles/index.json` says.
pub(super) fn index(layers: &[Layer]) -> Value {
    let entry = |layer: &Layer| {
        json!({
            "name": layer.name,
            "url": format!("/tiles/{}/{}", layer.name, layer.template),
            "minzoom": layer.zooms[0],
            "maxzoom": layer.zooms[1],
            "tileSize": layer.tile_size,
            "bounds": layer.bounds,
            "view": layer.view,
        })
    };
    json!({ "tiles": layers.iter().map(entry).collect::<Vec<_>>() })
}
