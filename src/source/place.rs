//! Where a TIFF lies: its GeoTIFF tags, and the files beside it.

use std::io::{Read, Seek};
use std::path::Path;

use tiff::decoder::Decoder;
use tiff::tags::{Tag, Type, ValueBuffer};
use tiff::{TiffError, TiffResult};

use super::sidecar;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, GeoKeys, Georef};

/// The place of a TIFF: its own tags come first; a world file beside it, if such count, places it in the system that
/// its tags name, or a `.prj` file.
///
/// # Errors
/// [`ErrorKind::Format`] if the tags cannot be read or their transform spans no area; as [`sidecar::georef`]'s.
pub(super) fn of_tiff<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    path: &Path,
    world_files: bool,
) -> Result<Option<Georef>> {
    let (crs, [scale, tie, matrix]) = tags(decoder).map_err(|e| {
        Error::new(ErrorKind::Format, "the TIFF's tags about its place cannot be read")
            .remedy("write it again, for example with gdal_translate")
            .source(e)
    })?;
    let beside = || if world_files { sidecar::georef(path) } else { Ok(None) };
    Georef::from_geotiff_or([&scale, &tie, &matrix], crs, beside)
}

/// The coordinate reference system; pixel scale, tie points and transformation, empty where the file has none.
fn tags<R: Read + Seek>(decoder: &mut Decoder<R>) -> TiffResult<(Crs, [Vec<f64>; 3])> {
    let mut numbers = |tag: Tag| match decoder.find_tag(tag)? {
        Some(value) => value.into_f64_vec(),
        None => Ok(Vec::new()),
    };
    let placed =
        [numbers(Tag::ModelPixelScaleTag)?, numbers(Tag::ModelTiepointTag)?, numbers(Tag::ModelTransformationTag)?];
    let doubles = numbers(Tag::GeoDoubleParamsTag)?;
    let directory = decoder.find_tag_unsigned_vec::<u16>(Tag::GeoKeyDirectoryTag)?;
    let crs = match directory {
        Some(directory) => Crs::from_keys(GeoKeys::new(directory, doubles, &ascii(decoder)?)),
        None => Crs::default(),
    };
    Ok((crs, placed))
}

/// GeoAsciiParams, in whatever encoding.
fn ascii<R: Read + Seek>(decoder: &mut Decoder<R>) -> TiffResult<Vec<u8>> {
    let mut buffer = ValueBuffer::empty(Type::ASCII);
    let found = decoder.image_ifd().find_tag_buf(Tag::GeoAsciiParamsTag, &mut buffer);
    match found {
        Ok(Some(_)) => {}
        Ok(None) => return Ok(Vec::new()),
        Err(e @ TiffError::IoError(_)) => return Err(e),
        // Not worth a refusal: what counts stands in other tags.
        Err(_) => return Ok(Vec::new()),
    }
    Ok(buffer.as_bytes().to_vec())
}
