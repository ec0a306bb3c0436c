//! PNG, JPEG and WebP pictures, decoded whole.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::open::{Block, Window, check_window};
use super::{Format, PixelSource, sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{MAX_PIXELS, RgbImage, check_size};
use crate::tile::TileId;

/// Bytes that decoding may take: [`MAX_PIXELS`] as 8-bit RGBA twice over, for a decoder's own buffers.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 8;

/// A picture in memory.
///
/// Its place comes from a world file beside it (with `.prj`), else from a tile name (`z-x-y.ext` or `z/x/y.ext`) if it
/// is square. 16-bit samples keep their upper half. Fully transparent pixels hold no data. The camera's orientation in
/// EXIF is applied, as browsers do, unless a world file places the pixels as they are stored.
pub struct Picture {
    path: PathBuf,
    block: Block,
    georef: Option<Georef>,
}

impl Picture {
    /// Decodes a picture.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let georef = sidecar::georef(path)?;
        let block = decode(path)?;
        let tile = path.to_str().and_then(TileId::from_path).filter(|_| block.width == block.height);
        let georef = georef.or_else(|| tile.map(|t| Georef::from_tile(t, block.width, block.height)));
        Ok(Self { path: path.to_owned(), block, georef })
    }

    /// The picture's colours, given away.
    ///
    /// # Errors
    /// None in practice: the size was checked when it was opened.
    pub fn into_image(self) -> Result<RgbImage> {
        RgbImage::new(self.block.width, self.block.height, self.block.rgb)
    }
}

/// Width and height from a picture's header, without decoding it.
pub(super) fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let decoder = decoder(path)?;
    let (width, height) = decoder.dimensions();
    Ok((width as usize, height as usize))
}

fn decoder(path: &Path) -> Result<impl ImageDecoder> {
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    // The content decides, not the name.
    let mut reader =
        ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(|e| Error::from(e).at(path.display()))?;
    // The size is checked below, with a message that says what to do.
    reader.no_limits();
    reader.into_decoder().map_err(|e| explained(e).at(path.display()))
}

/// Decodes a picture once its header's size is known to fit, and turns it upright.
pub(super) fn decode_upright(path: &Path) -> Result<DynamicImage> {
    if super::detect(path)? == Format::Jpeg && !jpeg_is_complete(path).map_err(|e| Error::from(e).at(path.display()))? {
        return Err(Error::new(ErrorKind::Format, "the picture is truncated")
            .at(path.display())
            .remedy("fetch or export it again"));
    }
    let mut decoder = decoder(path)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize).map_err(|e| e.at(path.display()))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    decoder.set_limits(limits).map_err(|e| explained(e).at(path.display()))?;
    let orientation = if sidecar::has_world_file(path) {
        Orientation::NoTransforms
    } else {
        decoder.orientation().unwrap_or(Orientation::NoTransforms)
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| explained(e).at(path.display()))?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Decodes a picture to colours.
pub(super) fn decode(path: &Path) -> Result<Block> {
    Ok(to_block(decode_upright(path)?))
}

/// The colours of a picture, and which pixels are fully transparent.
pub(super) fn to_block(picture: DynamicImage) -> Block {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut nodata = Vec::new();
    if picture.color().has_alpha() {
        let alpha = picture.to_luma_alpha8();
        if alpha.pixels().any(|p| p.0[1] == 0) {
            nodata = alpha.pixels().map(|p| p.0[1] == 0).collect();
        }
    }
    Block { width, height, rgb: picture.into_rgb8().into_raw(), nodata }
}

/// Whether a JPEG reaches its end marker. The decoder would fill what is missing with grey and say nothing.
fn jpeg_is_complete(path: &Path) -> std::io::Result<bool> {
    let bytes = std::fs::read(path)?;
    let mut at = 2; // behind the start marker
    loop {
        // The next marker: 0xff and a byte that is neither stuffing nor a restart. Compressed data holds no other.
        let marker = loop {
            match bytes.get(at..at + 2) {
                Some([0xff, 0 | 0xff | 0xd0..=0xd7]) | Some([0..=0xfe, _]) => at += 1,
                Some([_, marker]) => break *marker,
                _ => return Ok(false),
            }
        };
        if marker == 0xd9 {
            return Ok(true);
        }
        let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return Ok(false) };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

fn explained(error: ImageError) -> Error {
    let (kind, message, remedy) = match &error {
        ImageError::Unsupported(_) => {
            (ErrorKind::Unsupported, "this kind of picture is not read", "save it as 8-bit PNG or JPEG")
        }
        ImageError::Limits(_) => {
            (ErrorKind::Limit, "the picture is too large", "cut it into parts, or save it as a tiled GeoTIFF")
        }
        // Truncated files come as input or output errors as well.
        ImageError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            (ErrorKind::Io, "the picture cannot be read", "check the disk and try again")
        }
        _ => (ErrorKind::Format, "the picture is damaged or truncated", "fetch or export it again"),
    };
    Error::new(kind, message).remedy(remedy).source(error)
}

impl PixelSource for Picture {
    fn size(&self) -> (usize, usize) {
        (self.block.width, self.block.height)
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn read(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<RgbImage> {
        check_window(self.size(), x, y, width, height).map_err(|e| e.at(self.path.display()))?;
        let mut out = vec![0; width * height * 3];
        Window { x, y, width, height }.copy(&mut out, 3, &self.block.rgb, (0, 0), self.size());
        RgbImage::new(width, height, out)
    }

    fn nodata(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<Option<Vec<bool>>> {
        check_window(self.size(), x, y, width, height).map_err(|e| e.at(self.path.display()))?;
        if self.block.nodata.is_empty() {
            return Ok(None);
        }
        let mut out = vec![false; width * height];
        Window { x, y, width, height }.copy(&mut out, 1, &self.block.nodata, (0, 0), self.size());
        Ok(out.contains(&true).then_some(out))
    }

    fn describe(&self) -> String {
        format!(
            "picture of {} x {} pixels{}",
            self.block.width,
            self.block.height,
            super::open::place(self.georef.as_ref())
        )
    }
}
