//! What the headers of PNG, JPEG and WebP files say, without decoding pixels.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{ImageDecoder, ImageReader};
use png::{BitDepth, ColorType};

use super::format::{Format, detect};
use super::raster::Depth;
use super::sidecar;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes that a PNG's samples may take.
const MAX_BYTES: usize = 2 << 30;

/// What a picture's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PictureHeader {
    /// Width and height in pixels, the camera's orientation applied.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bands without alpha; 3 for 8-bit grey and for palettes, which become colours.
    pub(super) bands: usize,
    pub(super) depth: Depth,
}

/// Reads a picture's header. `world_files` says whether one beside it places the pixels as they are stored.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if it is a TIFF; [`ErrorKind::Format`] and [`ErrorKind::Io`]. All name the file.
pub(super) fn picture(path: &Path, world_files: bool) -> Result<PictureHeader> {
    let (width, height, orientation, bands, depth) = match detect(path)? {
        Format::Tiff => {
            return Err(Error::new(ErrorKind::Unsupported, "a TIFF where a picture is expected").at(path.display()));
        }
        Format::Jpeg => {
            let (width, height, orientation) = jpeg(path).map_err(|e| Error::from(e).at(path.display()))?;
            (width, height, orientation, 3, Depth::U8)
        }
        Format::Png => {
            let reader = png(path)?;
            let info = reader.info();
            let orientation = info.exif_metadata.as_deref().and_then(Orientation::from_exif_chunk);
            let (bands, depth) = match (info.bit_depth, info.color_type) {
                (BitDepth::Sixteen, ColorType::Grayscale | ColorType::GrayscaleAlpha) => (1, Depth::U16),
                (BitDepth::Sixteen, _) => (3, Depth::U16),
                _ => (3, Depth::U8),
            };
            (info.width as usize, info.height as usize, orientation, bands, depth)
        }
        Format::WebP => {
            let (width, height) = webp(path)?;
            (width, height, None, 3, Depth::U8)
        }
    };
    let (width, height) = upright(path, world_files, width, height, orientation);
    Ok(PictureHeader { width, height, bands, depth })
}

fn webp(path: &Path) -> Result<(usize, usize)> {
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    let reader = ImageReader::with_format(BufReader::new(file), image::ImageFormat::WebP);
    let decoder = reader.into_decoder().map_err(|e| {
        Error::new(ErrorKind::Format, "the picture is damaged or truncated")
            .at(path.display())
            .remedy("fetch or export it again")
            .source(e)
    })?;
    let (width, height) = decoder.dimensions();
    Ok((width as usize, height as usize))
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
fn jpeg(path: &Path) -> std::io::Result<(usize, usize, Option<Orientation>)> {
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

/// A PNG, to be read as it is stored: a palette's indices, and bits that are no shades of grey.
pub(super) fn png(path: &Path) -> Result<png::Reader<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(file), png::Limits { bytes: MAX_BYTES });
    decoder.set_transformations(png::Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.read_info().map_err(|e| explained_png(e).at(path.display()))
}

/// An error of the PNG library in this crate's words.
pub(super) fn explained_png(error: png::DecodingError) -> Error {
    match error {
        png::DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => e.into(),
        png::DecodingError::LimitsExceeded => Error::new(ErrorKind::Limit, "the picture is too large"),
        e => Error::new(ErrorKind::Format, "the picture is damaged or truncated")
            .remedy("fetch or export it again")
            .source(e),
    }
}
