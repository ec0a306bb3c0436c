//! Label rasters: the values of masks as they are stored, and which pixels of them say nothing.

use std::path::Path;

use png::{BitDepth, ColorType};

use super::format::{Format, detect};
use super::geotiff::{self, GeoTiff, Purpose};
use super::header;
use super::raster::{Depth, Raster, Samples, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::image::check_size;

/// What a mask's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaskHeader {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Whether pixels are colours rather than label values. A palette's pixels are values.
    pub colours: bool,
}

/// A decoded mask, `[height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMask {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// The label values.
    pub values: MaskValues,
    /// `[height, width]`: which pixels the mask itself says nothing about, by its nodata value, alpha or a mask of its own;
    /// empty if there are none. Their values mean nothing.
    pub nodata: Vec<bool>,
}

/// Label values as they are stored; those of a palette are its indices.
#[derive(Debug, Clone, PartialEq)]
pub enum MaskValues {
    /// 8 bits or fewer.
    U8(Vec<u8>),
    /// 16 bits.
    U16(Vec<u16>),
    /// Everything else.
    F32(Vec<f32>),
    /// Colours, `[height, width, 3]`.
    Rgb(Vec<u8>),
}

/// Reads a mask's header.
///
/// # Errors
/// As [`super::open`]; [`ErrorKind::Unsupported`] for formats that lose label values.
pub fn mask_header(path: &Path) -> Result<MaskHeader> {
    let header = match detect(path)? {
        Format::Tiff => {
            let file = open(path)?;
            let (width, height) = file.size();
            MaskHeader { width, height, colours: has_colours(&file).map_err(|e| e.at(path.display()))? }
        }
        Format::Png => {
            let reader = header::png(path)?;
            let info = reader.info();
            let colours = matches!(info.color_type, ColorType::Rgb | ColorType::Rgba);
            MaskHeader { width: info.width as usize, height: info.height as usize, colours }
        }
        Format::Jpeg | Format::WebP => return Err(lossy().at(path.display())),
    };
    check_size(header.width, header.height).map_err(|e| e.at(path.display()))?;
    Ok(header)
}

/// Decodes a mask.
///
/// # Errors
/// As [`mask_header`].
pub fn mask(path: &Path) -> Result<RawMask> {
    match detect(path)? {
        Format::Tiff => tiff_mask(path),
        Format::Png => png_mask(path),
        Format::Jpeg | Format::WebP => Err(lossy().at(path.display())),
    }
}

fn open(path: &Path) -> Result<GeoTiff> {
    GeoTiff::open_for(path, Purpose { labels: true, world_files: false })
}

fn lossy() -> Error {
    Error::new(ErrorKind::Unsupported, "JPEG and WebP compression change label values, so that masks cannot have it")
        .remedy("save masks as PNG, or as TIFF without compression or with LZW or deflate")
}

/// Whether a TIFF's pixels are colours rather than label values.
fn has_colours(file: &GeoTiff) -> Result<bool> {
    if file.is_lossy() {
        return Err(lossy());
    }
    let colours = file.bands() >= 3;
    if colours && file.depth() != Depth::U8 {
        return Err(Error::new(ErrorKind::Unsupported, format!("a mask of {} bands", file.bands()))
            .remedy("save the mask with one band of 8 bits"));
    }
    Ok(colours)
}

fn tiff_mask(path: &Path) -> Result<RawMask> {
    let mut file = open(path)?;
    let colours = has_colours(&file).map_err(|e| e.at(path.display()))?;
    let (width, height) = file.size();
    let patch = file.read(Window::whole((width, height)), if colours { &[0, 1, 2] } else { &[0] })?;
    let values = match patch.samples {
        Samples::U8(v) if colours => MaskValues::Rgb(v),
        Samples::U8(v) => MaskValues::U8(v),
        Samples::U16(v) => MaskValues::U16(v),
        Samples::F32(v) => MaskValues::F32(v),
    };
    let nodata = patch.valid.into_iter().map(|valid| !valid).collect();
    Ok(RawMask { width, height, values, nodata })
}

fn png_mask(path: &Path) -> Result<RawMask> {
    let mut reader = header::png(path)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height).map_err(|e| e.at(path.display()))?;
    let (colour, bits) = reader.output_color_type();
    let too_large = || Error::new(ErrorKind::Limit, "the mask is too large").at(path.display());
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    reader.next_frame(&mut bytes).map_err(|e| header::explained_png(e).at(path.display()))?;
    let channels = colour.samples();
    let mut empty = transparent(&bytes, reader.info(), width);
    if let Some(mask) = geotiff::mask_beside(path, (width, height))? {
        empty.resize(width * height, false);
        empty.iter_mut().zip(mask).for_each(|(empty, valid)| *empty |= !valid);
    }
    let nodata = if empty.contains(&true) { empty } else { Vec::new() };
    let values = match (bits, channels) {
        (BitDepth::Sixteen, 1 | 2) => {
            let value = |p: &[u8]| u16::from_be_bytes([p[0], p[1]]);
            MaskValues::U16(bytes.chunks_exact(2 * channels).map(value).collect())
        }
        (BitDepth::Sixteen, _) => {
            return Err(Error::new(ErrorKind::Unsupported, "colours of 16 bits are no label values")
                .at(path.display())
                .remedy("save the mask with one band of 8 bits"));
        }
        (BitDepth::Eight, 1) => MaskValues::U8(bytes),
        (BitDepth::Eight, 2) => MaskValues::U8(bytes.chunks_exact(2).map(|p| p[0]).collect()),
        (BitDepth::Eight, _) => MaskValues::Rgb(bytes.chunks_exact(channels).flat_map(|p| &p[..3]).copied().collect()),
        _ => MaskValues::U8(geotiff::unpacked_rows(&bytes, width, bits as usize)),
    };
    Ok(RawMask { width, height, values, nodata })
}

/// Which pixels of a PNG, its samples as they are stored, are fully transparent: by an alpha channel, a palette's entry, or
/// the colour that is said to be so. Empty if the file knows no transparency.
fn transparent(bytes: &[u8], info: &png::Info<'_>, width: usize) -> Vec<bool> {
    let channels = info.color_type.samples();
    let size = if info.bit_depth == BitDepth::Sixteen { 2 } else { 1 };
    let pixels =
        |bytes: &[u8], is_empty: &dyn Fn(&[u8]) -> bool| bytes.chunks_exact(channels * size).map(is_empty).collect();
    let unpacked = |bytes: &[u8]| match info.bit_depth {
        BitDepth::Eight | BitDepth::Sixteen => bytes.to_vec(),
        bits => geotiff::unpacked_rows(bytes, width, bits as usize),
    };
    match (info.color_type, &info.trns) {
        (ColorType::GrayscaleAlpha | ColorType::Rgba, _) => {
            pixels(bytes, &|pixel| pixel[(channels - 1) * size..].iter().all(|b| *b == 0))
        }
        (ColorType::Indexed, Some(alpha)) => {
            pixels(&unpacked(bytes), &|pixel| alpha.get(usize::from(pixel[0])) == Some(&0))
        }
        // The file has two bytes for each channel; the decoder keeps one of each where samples have 8 bits or fewer.
        (ColorType::Grayscale | ColorType::Rgb, Some(colour)) if colour.len() == channels * size => {
            pixels(&unpacked(bytes), &|pixel| pixel == &colour[..])
        }
        _ => Vec::new(),
    }
}
