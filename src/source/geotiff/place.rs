//! Where a page lies: its GeoTIFF tags, and the files beside it.

use std::path::Path;

use tiff::tags::Tag;

use super::directory::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, GeoKeys, Georef};
use crate::source::sidecar;

/// The place of a page: its own tags come first; a world file beside it, if such count, places it in the system that
/// its tags name, or a `.prj` file.
///
/// # Errors
/// [`ErrorKind::Format`] if the tags cannot be read or their transform spans no area; as [`sidecar::georef`]'s.
pub(super) fn of_page(tags: &mut Tags<'_>, path: &Path, world_files: bool) -> Result<Option<Georef>> {
    let (crs, [scale, tie, matrix]) = read(tags).map_err(|e| {
        Error::new(ErrorKind::Format, "the TIFF's tags about its place cannot be read")
            .remedy("write it again, for example with gdal_translate")
            .source(e)
    })?;
    if let Some(georef) = Georef::from_geotiff(&scale, &tie, &matrix, crs.clone())? {
        return Ok(Some(georef));
    }
    let Some(beside) = (if world_files { sidecar::georef(path)? } else { None }) else { return Ok(None) };
    let named = crs.epsg.is_some() || crs.keys.is_some();
    Ok(Some(Georef { crs: if named { crs } else { beside.crs }, ..beside }))
}

/// The coordinate reference system; pixel scale, tie points and transformation, empty where the page has none.
fn read(tags: &mut Tags<'_>) -> Result<(Crs, [Vec<f64>; 3])> {
    let placed = [Tag::ModelPixelScaleTag, Tag::ModelTiepointTag, Tag::ModelTransformationTag];
    let [scale, tie, matrix] = placed.map(|tag| tags.floats(tag));
    let doubles = tags.floats(Tag::GeoDoubleParamsTag)?;
    let crs = match tags.shorts(Tag::GeoKeyDirectoryTag)? {
        Some(directory) => Crs::from_keys(GeoKeys { directory, doubles, ascii: tags.ascii(Tag::GeoAsciiParamsTag)? }),
        None => Crs::default(),
    };
    Ok((crs, [scale?, tie?, matrix?]))
}
