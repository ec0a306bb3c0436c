//! From a strip's or tile's compressed bytes to plain ones.

use std::io::{Cursor, Read};

use flate2::read::ZlibDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder};
use weezl::{BitOrder, LzwStatus};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::directory::MAX_CHUNK_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::source::jpeg;

/// How a file's blocks are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Codec {
    Plain,
    Lzw,
    Deflate,
    PackBits,
    Zstd,
    /// CCITT group 4.
    Fax4,
    /// With the tables that all blocks share.
    Jpeg(Vec<u8>),
    WebP,
}

impl Codec {
    /// The codec of TIFF's Compression tag.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for the others, by name.
    pub(super) fn new(compression: u64, jpeg_tables: Vec<u8>) -> Result<Self> {
        let name = match compression {
            1 => return Ok(Self::Plain),
            4 => return Ok(Self::Fax4),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg(jpeg_tables)),
            8 | 32_946 => return Ok(Self::Deflate),
            32_773 => return Ok(Self::PackBits),
            50_000 => return Ok(Self::Zstd),
            50_001 => return Ok(Self::WebP),
            2 | 3 => "CCITT fax group 3",
            6 => "old-style JPEG",
            34_712 => "JPEG 2000",
            34_887 => "LERC",
            34_925 => "LZMA",
            50_002 | 52_546 => "JPEG XL",
            _ => "unknown",
        };
        Err(Error::new(ErrorKind::Unsupported, format!("TIFF compression {compression} ({name}) is not read"))
            .remedy("write it as deflate, LZW, zstd, JPEG or WebP, for example gdal_translate -co COMPRESS=DEFLATE"))
    }

    /// Whether blocks are pictures that lose a little of what was in them.
    pub(super) fn is_lossy(&self) -> bool {
        matches!(self, Self::Jpeg(_) | Self::WebP)
    }

    /// Whether blocks are pictures of a size of their own, of 8 bits a sample.
    pub(super) fn is_picture(&self) -> bool {
        self.is_lossy()
    }

    /// Up to `want` plain bytes of a block of `width` columns that is no picture. Blocks may be shorter: the caller checks
    /// that what is needed is there.
    pub(super) fn plain(&self, compressed: Vec<u8>, want: usize, width: usize) -> Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(compressed),
            Self::Lzw => lzw(&compressed, want),
            Self::Deflate => stream(ZlibDecoder::new(Cursor::new(compressed)), want),
            Self::Zstd => stream(zstd::Decoder::new(Cursor::new(compressed)).map_err(damaged)?, want),
            Self::PackBits => Ok(pack_bits(&compressed, want)),
            Self::Fax4 => fax4(&compressed, want, width),
            Self::Jpeg(_) | Self::WebP => Err(damaged("a picture where samples are expected")),
        }
    }

    /// The picture of a block that is one; `samples` is how many the file has for a pixel.
    pub(super) fn picture(&self, compressed: Vec<u8>, samples: usize) -> Result<DecodedPicture> {
        match self {
            Self::Jpeg(tables) => jpeg_picture(&compressed, tables),
            Self::WebP => webp(compressed, samples),
            _ => Err(damaged("samples where a picture is expected")),
        }
    }
}

/// A decoded picture, `[height, width, samples]`.
pub(super) struct DecodedPicture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: usize,
    pub(super) bytes: Vec<u8>,
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Format, "a strip or tile of the TIFF is damaged or truncated")
        .remedy("fetch or export the file again")
        .source(cause)
}

/// What a decoding reader gives, up to `want` bytes. An error after enough bytes is none of this program's business; one
/// before is the file's.
fn stream(mut reader: impl Read, want: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; want];
    let mut length = 0;
    while length < want {
        match reader.read(&mut out[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(damaged(e)),
        }
    }
    out.truncate(length);
    Ok(out)
}

/// TIFF's LZW. Encoders may leave the end code out where the last codes fill the padding of a tile, and put codes of no use
/// there; so decoding stops once there are enough bytes.
fn lzw(compressed: &[u8], want: usize) -> Result<Vec<u8>> {
    let mut decoder =
        weezl::decode::Configuration::with_tiff_size_switch(BitOrder::Msb, 8).with_yield_on_full_buffer(true).build();
    let mut out = vec![0; want];
    let (mut read, mut length) = (0, 0);
    while length < want {
        let step = decoder.decode_bytes(&compressed[read..], &mut out[length..]);
        read += step.consumed_in;
        length += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in > 0 || step.consumed_out > 0 => {}
            Ok(_) => break,
            Err(e) => return Err(damaged(e)),
        }
    }
    out.truncate(length);
    Ok(out)
}

/// Apple's PackBits: a count and bytes as they are, or a count and one byte that is repeated.
fn pack_bits(compressed: &[u8], want: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(want);
    let mut rest = compressed;
    while let [head, tail @ ..] = rest
        && out.len() < want
    {
        let count = usize::from(*head);
        rest = match (head, tail) {
            (0..=127, _) => {
                let literal = &tail[..tail.len().min(count + 1)];
                out.extend_from_slice(literal);
                &tail[literal.len()..]
            }
            (129.., [value, tail @ ..]) => {
                out.resize(out.len() + 257 - count, *value);
                tail
            }
            _ => tail,
        };
    }
    out.truncate(want);
    out
}

/// CCITT group 4: rows of 1-bit samples, padded to bytes; white is 0.
fn fax4(compressed: &[u8], want: usize, width: usize) -> Result<Vec<u8>> {
    let row = width.div_ceil(8).max(1);
    let columns = u16::try_from(width).map_err(damaged)?;
    let rows = u16::try_from(want / row).map_err(damaged)?;
    let mut out = Vec::with_capacity(want);
    fax::decoder::decode_g4(compressed.iter().copied(), columns, Some(rows), |changes| {
        let start = out.len();
        out.resize(start + row, 0u8);
        for (x, colour) in fax::decoder::pels(changes, columns).enumerate() {
            if colour == fax::Color::Black {
                out[start + x / 8] |= 0x80 >> (x % 8);
            }
        }
    })
    .ok_or_else(|| damaged("no CCITT group 4 code"))?;
    Ok(out)
}

fn jpeg_picture(compressed: &[u8], tables: &[u8]) -> Result<DecodedPicture> {
    if !jpeg::is_complete(compressed) {
        // The decoder would fill what is missing with grey.
        return Err(damaged("the JPEG has no end"));
    }
    // The tables are a JPEG of their own, whose end marker and the picture's start marker make way.
    let tables = tables.get(..tables.len().saturating_sub(2)).unwrap_or_default();
    let rest = if tables.is_empty() { compressed } else { compressed.get(2..).unwrap_or_default() };
    let whole: Vec<u8> = [tables, rest].concat();
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default().set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&whole), options);
    decoder.decode_headers().map_err(|e| damaged(format!("{e:?}")))?;
    // As stored: the file's tags, and not the JPEG's, tell what the samples mean.
    if let Some(stored) = decoder.input_colorspace() {
        decoder.set_options(options.jpeg_set_out_colorspace(stored));
    }
    let bytes = decoder.decode().map_err(|e| damaged(format!("{e:?}")))?;
    let info = decoder.info().ok_or_else(|| damaged("the JPEG has no size"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let samples = bytes.len() / (width * height).max(1);
    Ok(DecodedPicture { width, height, samples, bytes })
}

/// A block without alpha in a file of four bands is opaque: GDAL writes it so.
fn webp(compressed: Vec<u8>, samples: usize) -> Result<DecodedPicture> {
    let mut decoder = WebPDecoder::new(Cursor::new(compressed)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_CHUNK_BYTES);
    decoder.set_limits(limits).map_err(damaged)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let bytes = match samples {
        3 => picture.into_rgb8().into_raw(),
        4 => picture.into_rgba8().into_raw(),
        n => return Err(damaged(format!("WebP holds 3 or 4 bands, the file says {n}"))),
    };
    Ok(DecodedPicture { width: width as usize, height: height as usize, samples, bytes })
}
