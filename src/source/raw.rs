//! Samples as a file holds them, all bands of 8 or 16 bits or floating point, and the label values of masks.
//!
//! [`super::PixelSource`] makes 8-bit colours of every image; training needs what was measured.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::DynamicImage;
use image::metadata::Orientation;
use png::{BitDepth, ColorType};
use serde::{Deserialize, Serialize};

use super::{Format, detect, geotiff, picture, sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{Pixels, check_size};

/// The most bytes that the samples of one image may take.
const MAX_BYTES: u64 = 2 << 30;

/// Type of an image's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Whole numbers 0 to 255.
    U8,
    /// Whole numbers 0 to 65 535.
    U16,
    /// Everything else: floating point, numbers with a sign, numbers of 32 bits.
    F32,
}

/// Samples of an image, `[height, width, bands]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// 0 to 255.
    U8(Vec<u8>),
    /// 0 to 65 535.
    U16(Vec<u16>),
    /// Any number; NaN where there is no data.
    F32(Vec<f32>),
}

/// What an image's header says.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Bands without alpha; 3 for 8-bit grey and for palettes, which become colours.
    pub bands: usize,
    /// Type of the samples.
    pub depth: Depth,
    /// Where the image lies, if the file or a world file says so.
    pub georef: Option<Georef>,
}

/// A decoded image.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Bands without alpha.
    pub bands: usize,
    /// `[height, width, bands]`.
    pub samples: Samples,
    /// `[height, width]`: which pixels are transparent or hold no data; empty if all hold some.
    pub nodata: Vec<bool>,
}

/// A part of decoded samples, as the pipeline reads it.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// `[rows, stride, bands]`.
    pub samples: &'a Samples,
    /// Columns of the whole.
    pub stride: usize,
    /// Bands.
    pub bands: usize,
    /// Column and row of the part's corner.
    pub corner: [usize; 2],
    /// Width and height of the part; it lies within the whole.
    pub size: [usize; 2],
}

impl Pixels for Part<'_> {
    fn width(&self) -> usize {
        self.size[0]
    }

    fn height(&self) -> usize {
        self.size[1]
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn sample(&self, x: usize, y: usize, band: usize) -> f32 {
        let at = ((self.corner[1] + y) * self.stride + self.corner[0] + x) * self.bands + band;
        match self.samples {
            Samples::U8(v) => f32::from(v[at]),
            Samples::U16(v) => f32::from(v[at]),
            Samples::F32(v) => v[at],
        }
    }
}

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

/// Reads an image's header. `world_files` says whether to look for one beside the image.
///
/// # Errors
/// As [`super::open`].
pub fn header(path: &Path, world_files: bool) -> Result<Header> {
    let (width, height, bands, depth) = match detect(path)? {
        Format::Tiff => return geotiff::raw::header(path, world_files).map_err(|e| e.at(path.display())),
        Format::Jpeg => {
            let (width, height, orientation) = jpeg_header(path).map_err(|e| Error::from(e).at(path.display()))?;
            let (width, height) = upright(path, world_files, width, height, orientation);
            (width, height, 3, Depth::U8)
        }
        Format::Png => {
            let reader = png_reader(path)?;
            let info = reader.info();
            let orientation = info.exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
            let (width, height) = upright(path, world_files, info.width as usize, info.height as usize, orientation);
            match (info.bit_depth, info.color_type) {
                (BitDepth::Sixteen, ColorType::Grayscale | ColorType::GrayscaleAlpha) => (width, height, 1, Depth::U16),
                (BitDepth::Sixteen, _) => (width, height, 3, Depth::U16),
                _ => (width, height, 3, Depth::U8),
            }
        }
        Format::WebP => {
            let (width, height) = picture::dimensions(path)?;
            (width, height, 3, Depth::U8)
        }
    };
    check_size(width, height).map_err(|e| e.at(path.display()))?;
    let georef = if world_files { sidecar::georef(path)? } else { None };
    Ok(Header { width, height, bands, depth, georef })
}

/// The size once the camera's orientation is applied; a world file places the pixels as they are stored.
fn upright(
    path: &Path,
    world_files: bool,
    width: usize,
    height: usize,
    orientation: Option<Orientation>,
) -> (usize, usize) {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let turned = matches!(orientation, Some(Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH));
    if turned && !(world_files && sidecar::has_world_file(path)) { (height, width) } else { (width, height) }
}

/// Width, height and orientation of a JPEG. The decoder would read the whole file for them.
fn jpeg_header(path: &Path) -> std::io::Result<(usize, usize, Option<Orientation>)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut orientation = None;
    reader.seek_relative(2)?;
    loop {
        let mut head = [0; 4];
        reader.read_exact(&mut head)?;
        let [0xff, marker, high, low] = head else {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the picture is damaged"));
        };
        if marker == 0xff {
            // Filling before a marker.
            reader.seek_relative(-3)?;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([high, low])).saturating_sub(2);
        match marker {
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let mut frame = [0; 5];
                reader.read_exact(&mut frame)?;
                let [_, h1, h0, w1, w0] = frame.map(usize::from);
                return Ok((w1 << 8 | w0, h1 << 8 | h0, orientation));
            }
            0xe1 => {
                let mut segment = vec![0; length];
                reader.read_exact(&mut segment)?;
                let exif = segment.strip_prefix(b"Exif\0\0").and_then(Orientation::from_exif_chunk);
                orientation = orientation.or(exif);
            }
            _ => reader.seek_relative(length as i64)?,
        }
    }
}

/// Decodes an image.
///
/// # Errors
/// As [`super::open`]; [`ErrorKind::Limit`] if its samples take more than 2 GiB.
pub fn read(path: &Path) -> Result<Raw> {
    if detect(path)? == Format::Tiff {
        return geotiff::raw::read(path).map_err(|e| e.at(path.display()));
    }
    let shorts = |width: u32, height: u32, all: Vec<u16>, step: usize, bands: usize| {
        let samples = all.chunks_exact(step).flat_map(|p| &p[..bands]).copied().collect();
        let transparent = |p: &[u16]| step > bands && p[bands] == 0;
        let nodata = if all.chunks_exact(step).any(transparent) {
            all.chunks_exact(step).map(transparent).collect()
        } else {
            Vec::new()
        };
        Raw { width: width as usize, height: height as usize, bands, samples: Samples::U16(samples), nodata }
    };
    Ok(match picture::decode_upright(path)? {
        DynamicImage::ImageLuma16(i) => shorts(i.width(), i.height(), i.into_raw(), 1, 1),
        DynamicImage::ImageLumaA16(i) => shorts(i.width(), i.height(), i.into_raw(), 2, 1),
        DynamicImage::ImageRgb16(i) => shorts(i.width(), i.height(), i.into_raw(), 3, 3),
        DynamicImage::ImageRgba16(i) => shorts(i.width(), i.height(), i.into_raw(), 4, 3),
        picture => {
            let block = picture::to_block(picture);
            let (width, height) = (block.width, block.height);
            Raw { width, height, bands: 3, samples: Samples::U8(block.rgb), nodata: block.nodata }
        }
    })
}

/// Reads a mask's header.
///
/// # Errors
/// As [`super::open`]; [`ErrorKind::Unsupported`] for formats that lose label values.
pub fn mask_header(path: &Path) -> Result<MaskHeader> {
    let header = match detect(path)? {
        Format::Tiff => geotiff::raw::mask_header(path).map_err(|e| e.at(path.display()))?,
        Format::Png => {
            let reader = png_reader(path)?;
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
        Format::Tiff => geotiff::raw::mask(path).map_err(|e| e.at(path.display())),
        Format::Png => png_mask(path),
        Format::Jpeg | Format::WebP => Err(lossy().at(path.display())),
    }
}

pub(super) fn lossy() -> Error {
    Error::new(ErrorKind::Unsupported, "JPEG and WebP compression change label values, so that masks cannot have it")
        .remedy("save masks as PNG, or as TIFF without compression or with LZW or deflate")
}

/// Checks that an image's samples can be held.
pub(super) fn check_bytes(width: usize, height: usize, bands: usize, bytes: usize) -> Result<()> {
    check_size(width, height)?;
    if width as u64 * height as u64 * (bands * bytes) as u64 > MAX_BYTES {
        let message = format!("{width} x {height} pixels of {bands} bands take more than {MAX_BYTES} bytes");
        return Err(Error::new(ErrorKind::Limit, message).remedy("cut the image into chips"));
    }
    Ok(())
}

fn png_reader(path: &Path) -> Result<png::Reader<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(file), png::Limits { bytes: MAX_BYTES as usize });
    // As they are stored: a palette's indices, and bits that are no shades of grey.
    decoder.set_transformations(png::Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.read_info().map_err(|e| explained_png(e).at(path.display()))
}

fn png_mask(path: &Path) -> Result<RawMask> {
    let mut reader = png_reader(path)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_bytes(width, height, 4, 1).map_err(|e| e.at(path.display()))?;
    let (colour, bits) = reader.output_color_type();
    let too_large = || Error::new(ErrorKind::Limit, "the mask is too large").at(path.display());
    let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(too_large)?];
    reader.next_frame(&mut bytes).map_err(|e| explained_png(e).at(path.display()))?;
    let channels = colour.samples();
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
        _ => MaskValues::U8(geotiff::raw::unpacked(&bytes, width, bits as u64)),
    };
    Ok(RawMask { width, height, values })
}

fn explained_png(error: png::DecodingError) -> Error {
    match error {
        png::DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => e.into(),
        png::DecodingError::LimitsExceeded => Error::new(ErrorKind::Limit, "the picture is too large"),
        e => Error::new(ErrorKind::Format, "the picture is damaged or truncated")
            .remedy("fetch or export it again")
            .source(e),
    }
}
