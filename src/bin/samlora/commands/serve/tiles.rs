//! Folders and archives of tiles that the page's map can show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use samlora::error::{Error, ErrorKind, Result};
use samlora::source::mosaic::Mosaic;
use samlora::source::tiles::{TileOptions, TileSource};
use samlora::source::{detect_bytes, is_archive, open_tiles, xyz};
use samlora::tile::TileId;
use serde_json::{Value, json};

/// A folder or an archive of tiles.
pub(super) struct TileLayer {
    /// In its URL and for people.
    pub(super) name: String,
    /// Where the tiles lie.
    pub(super) origin: Origin,
    template: String,
    tile_size: usize,
    zooms: [u8; 2],
    bounds: [f64; 4],
    /// What to show first.
    view: [f64; 4],
}

/// Where a layer's tiles lie.
#[derive(Clone)]
pub(super) enum Origin {
    /// In files of their own.
    Folder(PathBuf),
    Archive(Arc<dyn TileSource>),
}

/// A tile of an archive, rows counted from the north; 404 where there is none.
pub(super) async fn archived(
    State(source): State<Arc<dyn TileSource>>,
    UrlPath((z, x, y)): UrlPath<(u8, u32, u32)>,
) -> Response {
    let Ok(tile) = TileId::new(z, x, y) else { return StatusCode::NOT_FOUND.into_response() };
    let name = source.name().to_owned();
    let read = tokio::task::spawn_blocking(move || source.tile(tile)?.map(|tile| tile.into_bytes()).transpose()).await;
    let bytes = match read {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return StatusCode::NOT_FOUND.into_response(),
        Ok(Err(e)) => {
            eprintln!("error: {e}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Err(e) => {
            eprintln!("error: {name}: {e}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    use samlora::source::Format;
    let kind = match detect_bytes(bytes.get(..16).unwrap_or(&bytes)) {
        Ok(Format::Png) => "image/png",
        Ok(Format::Jpeg) => "image/jpeg",
        Ok(Format::WebP) => "image/webp",
        // A stranger's archive must not bring pages and scripts that run with the rights of this server's own.
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

/// The layers of `folders`, each checked.
///
/// # Errors
/// Those of [`xyz::mosaics`]; [`ErrorKind::Unsupported`] for tiles of several kinds and TMS, [`ErrorKind::Invalid`] for two folders of one name.
pub(super) fn layers(folders: &[PathBuf]) -> Result<Vec<TileLayer>> {
    let mut layers: Vec<TileLayer> = Vec::new();
    for folder in folders {
        let layer = layer(folder)?;
        super::check_name(&layer.name, layers.iter().any(|other| other.name == layer.name), folder, "layers")?;
        layers.push(layer);
    }
    Ok(layers)
}

fn layer(folder: &Path) -> Result<TileLayer> {
    let root = folder.canonicalize().map_err(|e| Error::from(e).at(folder.display()))?;
    if is_archive(&root)? {
        let source = open_tiles(&root, &TileOptions::default())?;
        let levels = source.extents().iter().map(|extent| Mosaic::new(Arc::clone(&source), *extent));
        let levels = levels.collect::<Result<Vec<_>>>()?;
        let name = super::url_name(&root.with_extension(""));
        return described(name, Origin::Archive(source), "{z}/{x}/{y}".to_owned(), &levels);
    }
    let levels = xyz::mosaics(&root, None)?;
    if levels.iter().any(xyz::Mosaic::is_tms) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the tiles' rows are counted from the south (TMS), those of the map from the north",
        )
        .at(folder.display())
        .remedy("tile it anew, for example with gdal2tiles.py --xyz"));
    }
    let template = levels.first().and_then(Mosaic::template).ok_or_else(|| mixed().at(folder.display()))?;
    if levels.iter().any(|l| l.template().as_ref() != Some(&template)) {
        return Err(mixed().at(folder.display()));
    }
    described(super::url_name(&root), Origin::Folder(root), template, &levels).map_err(|e| e.at(folder.display()))
}

fn mixed() -> Error {
    Error::new(ErrorKind::Unsupported, "the tiles differ in their names' form, in format or in size")
        .remedy("keep tiles of one kind in a folder, named z/x/y.png")
}

/// A layer of these zoom levels.
fn described(name: String, origin: Origin, template: String, levels: &[Mosaic]) -> Result<TileLayer> {
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return Err(mixed()) };
    if levels.iter().any(|l| l.tile_size() != first.tile_size()) {
        return Err(mixed());
    }
    let mut bounds = [180.0f64, 90.0, -180.0, -90.0];
    for level in levels {
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
    Ok(TileLayer { name, origin, template, tile_size, zooms, bounds, view })
}

/// What `/tiles/index.json` says.
pub(super) fn index(layers: &[TileLayer]) -> Value {
    let entry = |layer: &TileLayer| {
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
