//! PNG, JPEG and WebP pictures, decoded whole.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::block::PixelBlock;
use super::format::{Format, detect};
use super::raster::{Depth, Patch, Raster, Samples, Window};
use super::tiles::check_picture;
use super::{geotiff, jpeg, sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{MAX_PIXELS, check_size};
use crate::tile::TileId;

/// Bytes that decoding may take: [`MAX_PIXELS`] as 8-bit RGBA twice over, for a decoder's own buffers.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 8;

/// A picture in memory.
///
/// Its place comes from a world file beside it (with `.prj`), else from a tile name (`z-x-y.ext` or `z/x/y.ext`) if it
/// is square. Grey of 16 bits is one band, everything else red, green and blue. Fully transparent pixels hold no data, nor
/// do those that a mask leaves out which GDAL keeps beside it (`.msk`) or behind a JPEG. The camera's orientation in EXIF is applied, as browsers do, unless a
/// world file places the pixels as they are stored.
pub struct Picture {
    path: PathBuf,
    block: PixelBlock,
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

    /// Decodes a picture without looking where it lies.
    pub(super) fn unplaced(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), block: decode(path)?, georef: None })
    }
}

fn decoder<'a, R: BufRead + Seek + 'a>(reader: R) -> Result<impl ImageDecoder + 'a> {
    // The content decides, not the name.
    let mut reader = ImageReader::new(reader).with_guessed_format()?;
    // The size is checked below, with a message that says what to do.
    reader.no_limits();
    reader.into_decoder().map_err(explained)
}

/// Decodes a picture once its header's size is known to fit, and turns it upright.
pub(super) fn decode(path: &Path) -> Result<PixelBlock> {
    let place = |e: Error| e.at(path.display());
    let mut bytes = Vec::new();
    if detect(path)? == Format::Jpeg {
        bytes = std::fs::read(path).map_err(|e| Error::from(e).at(path.display()))?;
        check_complete(&bytes).map_err(place)?;
    }
    let file = File::open(path).map_err(|e| Error::from(e).at(path.display()))?;
    let stored = sidecar::has_world_file(path);
    let mask = |size: (usize, usize)| {
        Ok(match jpeg::appended_mask(&bytes, size.0 * size.1) {
            Some(mask) => Some(mask),
            None => geotiff::mask_beside(path, size)?,
        })
    };
    decoded(decoder(BufReader::new(file)).map_err(place)?, stored, mask).map_err(place)
}

/// As [`decode`], of bytes that stand for themselves.
pub(super) fn decode_bytes(bytes: &[u8]) -> Result<PixelBlock> {
    if check_picture(bytes)? == Format::Jpeg {
        check_complete(bytes)?;
    }
    let mask = |size: (usize, usize)| Ok(jpeg::appended_mask(bytes, size.0 * size.1));
    decoded(decoder(Cursor::new(bytes))?, false, mask)
}

/// The decoder would fill what is missing of a JPEG with grey and say nothing.
fn check_complete(bytes: &[u8]) -> Result<()> {
    if jpeg::is_complete(bytes) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Format, "the picture is truncated").remedy("fetch or export it again"))
}

/// The pixels of a picture; `stored` says whether they stay as they are stored, whatever the camera's orientation.
fn decoded(
    mut decoder: impl ImageDecoder,
    stored: bool,
    mask: impl FnOnce((usize, usize)) -> Result<Option<Vec<bool>>>,
) -> Result<PixelBlock> {
    let (width, height) = decoder.dimensions();
    let size = (width as usize, height as usize);
    check_size(size.0, size.1)?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    decoder.set_limits(limits).map_err(explained)?;
    let orientation =
        if stored { Orientation::NoTransforms } else { decoder.orientation().unwrap_or(Orientation::NoTransforms) };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(explained)?;
    let mask = mask(size)?;
    picture.apply_orientation(orientation);
    let mut block = to_block(picture);
    if let Some(mask) = mask {
        // The mask lies as the pixels are stored.
        let shades = mask.iter().map(|valid| u8::from(*valid)).collect();
        if let Some(mask) = GrayImage::from_raw(width, height, shades) {
            let mut mask = DynamicImage::ImageLuma8(mask);
            mask.apply_orientation(orientation);
            block.valid.resize(size.0 * size.1, true);
            block.valid.iter_mut().zip(mask.into_luma8().into_raw()).for_each(|(v, m)| *v &= m != 0);
        }
    }
    Ok(block)
}

/// The samples of a picture without alpha, and which pixels are not fully transparent.
fn to_block(picture: DynamicImage) -> PixelBlock {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let block = |bands, samples, valid: Vec<bool>| {
        let valid = if valid.contains(&false) { valid } else { Vec::new() };
        PixelBlock { width, height, bands, samples, valid }
    };
    let shorts = |all: Vec<u16>, step: usize, bands: usize| {
        let samples = all.chunks_exact(step).flat_map(|p| &p[..bands]).copied().collect();
        let valid = if step > bands { all.chunks_exact(step).map(|p| p[bands] != 0).collect() } else { Vec::new() };
        block(bands, Samples::U16(samples), valid)
    };
    match picture {
        DynamicImage::ImageLuma16(i) => shorts(i.into_raw(), 1, 1),
        DynamicImage::ImageLumaA16(i) => shorts(i.into_raw(), 2, 1),
        DynamicImage::ImageRgb16(i) => shorts(i.into_raw(), 3, 3),
        DynamicImage::ImageRgba16(i) => shorts(i.into_raw(), 4, 3),
        picture => {
            let mut valid = Vec::new();
            if picture.color().has_alpha() {
                valid = picture.to_luma_alpha8().pixels().map(|p| p.0[1] != 0).collect();
            }
            block(3, Samples::U8(picture.into_rgb8().into_raw()), valid)
        }
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

impl Raster for Picture {
    fn size(&self) -> (usize, usize) {
        (self.block.width, self.block.height)
    }

    fn bands(&self) -> usize {
        self.block.bands
    }

    fn depth(&self) -> Depth {
        self.block.samples.depth()
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let block = &self.block;
        let begin = || {
            let mut patch =
                Patch::begin(&window, bands, (block.width, block.height), block.bands, block.samples.depth())?;
            let places: Vec<(usize, usize)> = bands.iter().enumerate().map(|(to, band)| (*band, to)).collect();
            block.copy_to(&mut patch, &window, (0, 0), &places)?;
            if !block.valid.is_empty() {
                let valid = patch.valid_mut();
                block.each_valid(&window, (0, 0), |i, holds| valid[i] = holds);
            }
            Ok(patch.finish())
        };
        begin().map_err(|e: Error| e.at(self.path.display()))
    }

    fn describe(&self) -> String {
        let PixelBlock { width, height, bands, samples, .. } = &self.block;
        let kind = match samples.depth() {
            Depth::U8 => String::new(),
            _ => format!(", {bands} band{} of 16 bits", if *bands == 1 { "" } else { "s" }),
        };
        format!("picture of {width} x {height} pixels{kind}{}", sidecar::describe(self.georef.as_ref()))
    }

    fn decoded_blocks(&self) -> u64 {
        1
    }
}
