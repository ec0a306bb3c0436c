//! TIFF and GeoTIFF, read strip by strip or tile by tile, so that files larger than memory work.
//!
//! The first image of the file is read; overviews and mask images are passed over. Compressions: none, LZW, deflate,
//! JPEG, WebP, PackBits, zstd. Chunky and planar. One band becomes grey, of four and more the first three are taken as
//! red, green and blue; colour maps, YCbCr and alpha are understood. 8-bit samples are taken as they are; see
//! [`super::geotiff::GeoTiff`] for the others. A file may have 131 072 strips or tiles (262 144 if its offsets are 32
//! bits), the TIFF decoder's limit of 1 MiB a tag.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder};
use tiff::TiffError;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::cache::Cache;
use super::open::{Block, Window, check_window};
use super::patched::PlainSamples;
use super::{PixelSource, sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, GeoKeys, Georef};
use crate::image::{RgbImage, check_size};

mod colour;
pub(super) mod raw;

use colour::{Colour, Samples, Stretch};

/// The most bytes that one strip or tile may decode to.
const MAX_CHUNK_BYTES: u64 = 1 << 30;
/// How many strips or tiles, spread evenly, the contrast of samples beyond 8 bits is taken from.
const STRETCH_CHUNKS: usize = 64;

/// An open TIFF.
///
/// Samples of more than 8 bits, and floating point, are stretched linearly, band by band, from their 2nd to 98th
/// percentile over up to 64 strips or tiles spread evenly over the file, so that one file always looks the same
/// whatever window is read. Whole numbers that never leave 0 to 255 there are taken as they are.
pub struct GeoTiff {
    path: PathBuf,
    decoder: Decoder<PlainSamples<BufReader<File>>>,
    layout: Layout,
    stretch: Option<Stretch>,
    georef: Option<Georef>,
    cache: Cache<usize>,
}

/// How the samples lie in the file.
struct Layout {
    size: (usize, usize),
    /// Size of a strip or tile.
    chunk: (usize, usize),
    /// Strips or tiles from left to right.
    across: usize,
    /// Strips or tiles of one plane.
    chunks: usize,
    /// Samples of a pixel in the file.
    samples: usize,
    planar: bool,
    /// Compressed bytes of each strip or tile: 0 where the file leaves one out.
    byte_counts: Vec<u64>,
    /// Where each strip or tile begins, if they are JPEG or WebP pictures.
    offsets: Vec<u64>,
    webp: bool,
    jpeg: bool,
    file_bytes: u64,
    /// TIFF's SampleFormat: 1 whole numbers, 2 with sign, 3 floating point.
    format: u64,
    colour: Colour,
}

impl GeoTiff {
    /// Opens a file and reads its first directory.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_inner(path).map_err(|e| e.at(path.display()))
    }

    fn open_inner(path: &Path) -> Result<Self> {
        let (mut decoder, layout) = Layout::open(path)?;
        let georef = match georef(&mut decoder)? {
            Some(georef) => Some(georef),
            None => sidecar::georef(path)?,
        };
        let path = path.to_owned();
        let mut new = Self { path, decoder, layout, stretch: None, georef, cache: Cache::new() };
        if !new.layout.colour.is_eight_bit() {
            new.stretch = Some(new.measure_stretch()?);
        }
        Ok(new)
    }

    fn measure_stretch(&mut self) -> Result<Stretch> {
        let chunks = self.layout.chunks;
        let step = chunks.div_ceil(STRETCH_CHUNKS).max(1);
        let mut stretch = colour::Measure::new(&self.layout.colour);
        for chunk in (0..chunks).step_by(step) {
            if let Some(planes) = self.layout.decode(&mut self.decoder, chunk)? {
                stretch.add(&self.layout.colour, &planes);
            }
        }
        Ok(stretch.finish())
    }

    /// Calls `use_block(block, top left pixel)` for every strip or tile that a window touches.
    fn each_block(&mut self, window: &Window, mut use_block: impl FnMut(&Block, (usize, usize))) -> Result<()> {
        let (width, height) = self.layout.chunk;
        for row in window.y / height..=(window.y + window.height - 1) / height {
            for column in window.x / width..=(window.x + window.width - 1) / width {
                let chunk = row * self.layout.across + column;
                let (layout, decoder, stretch) = (&self.layout, &mut self.decoder, self.stretch.as_ref());
                let block = self.cache.get(chunk, || {
                    let (width, height) = layout.chunk_size(chunk);
                    match layout.decode(decoder, chunk)? {
                        Some(planes) => layout.colour.block(&planes, width, height, stretch),
                        None => Ok(Block::blank(width, height)),
                    }
                })?;
                use_block(block, (column * width, row * height));
            }
        }
        Ok(())
    }
}

impl Layout {
    /// Opens a file and reads the first directory.
    fn open(path: &Path) -> Result<(Decoder<PlainSamples<BufReader<File>>>, Self)> {
        let file = BufReader::new(File::open(path)?);
        let (reader, photometric) = PlainSamples::new(file).map_err(|e| explained(TiffError::IoError(e)))?;
        let mut limits = Limits::default();
        limits.decoding_buffer_size = MAX_CHUNK_BYTES as usize;
        limits.intermediate_buffer_size = MAX_CHUNK_BYTES as usize;
        let mut decoder = Decoder::new(reader).map_err(explained)?.with_limits(limits);
        let layout = Self::read(&mut decoder, photometric)?;
        Ok((decoder, layout))
    }

    fn read(decoder: &mut Decoder<PlainSamples<BufReader<File>>>, photometric: Option<u16>) -> Result<Self> {
        let (width, height) = decoder.dimensions().map_err(explained)?;
        let size = (width as usize, height as usize);
        let tiles = decoder.get_chunk_type() == ChunkType::Tile;
        let (chunk_width, chunk_height) = decoder.chunk_dimensions();
        // A file of one strip may claim any number of rows for it.
        let chunk =
            (chunk_width as usize, if tiles { chunk_height as usize } else { (chunk_height as usize).min(size.1) });
        let mut tag = |tag: Tag| decoder.find_tag_unsigned_vec::<u64>(tag).map_err(explained);
        let mut first =
            |t: Tag, default: u64| Ok::<_, Error>(tag(t)?.and_then(|v| v.first().copied()).unwrap_or(default));
        let samples = first(Tag::SamplesPerPixel, 1)? as usize;
        let bits = first(Tag::BitsPerSample, 1)?;
        let format = first(Tag::SampleFormat, 1)?;
        let compression = first(Tag::Compression, 1)?;
        let planar = first(Tag::PlanarConfiguration, 1)? == 2;
        check_compression(compression)?;
        let per_chunk = if planar { 1 } else { samples as u64 };
        let chunk_bytes =
            (chunk.0 as u64).checked_mul(chunk.1 as u64).and_then(|n| n.checked_mul(per_chunk * bits.div_ceil(8)));
        if chunk_bytes.is_none_or(|n| n > MAX_CHUNK_BYTES) || check_size(chunk.0, chunk.1).is_err() {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "a {} of {} x {} pixels does not fit into memory",
                    if tiles { "tile" } else { "strip" },
                    chunk.0,
                    chunk.1
                ),
            )
            .remedy("write the file with smaller tiles, for example gdal_translate -co TILED=YES"));
        }
        let extra = tag(Tag::ExtraSamples)?.unwrap_or_default();
        // 1 and 2 are alpha, premultiplied or not.
        let alpha = extra.iter().position(|&e| e == 1 || e == 2).and_then(|i| (samples + i).checked_sub(extra.len()));
        let jpeg = compression == 7;
        let map = tag(Tag::ColorMap)?.unwrap_or_default();
        let subsampled = !jpeg && tag(Tag::ChromaSubsampling)?.unwrap_or_else(|| vec![2, 2]).iter().any(|&s| s != 1);
        let byte_counts = tag(if tiles { Tag::TileByteCounts } else { Tag::StripByteCounts })?.unwrap_or_default();
        let webp = compression == WEBP;
        let offsets = if jpeg || webp { tag(if tiles { Tag::TileOffsets } else { Tag::StripOffsets })? } else { None };
        let offsets = offsets.unwrap_or_default();
        let nodata = decoder.find_tag(Tag::GdalNodata).map_err(explained)?.and_then(|v| v.into_string().ok());
        let nodata = nodata.and_then(|text| text.trim_matches(['\0', ' ']).parse::<f64>().ok());
        let colour = Colour::new(photometric, samples, bits, format, alpha, &map, subsampled, nodata)?;
        let across = size.0.div_ceil(chunk.0);
        let chunks = across * size.1.div_ceil(chunk.1);
        let file_bytes = decoder.inner().seek(SeekFrom::End(0))?;
        Ok(Self {
            size,
            chunk,
            across,
            chunks,
            samples,
            planar,
            byte_counts,
            offsets,
            webp,
            jpeg,
            file_bytes,
            format,
            colour,
        })
    }

    /// Size of a strip or tile within the image: those at the right and lower edge are cut.
    fn chunk_size(&self, chunk: usize) -> (usize, usize) {
        let (column, row) = (chunk % self.across, chunk / self.across);
        let cut = |at: usize, len: usize, all: usize| len.min(all - (at * len).min(all));
        (cut(column, self.chunk.0, self.size.0), cut(row, self.chunk.1, self.size.1))
    }

    /// Decodes a strip or tile: one plane of all samples, or one of each band that is needed; `None` if left out.
    fn decode(
        &self,
        decoder: &mut Decoder<PlainSamples<BufReader<File>>>,
        chunk: usize,
    ) -> Result<Option<Vec<Option<Samples>>>> {
        let (width, height) = self.chunk_size(chunk);
        let planes = if self.planar { self.samples } else { 1 };
        let mut out = Vec::with_capacity(planes);
        for plane in 0..planes {
            if self.planar && !self.colour.uses(plane) {
                out.push(None);
                continue;
            }
            let Some(result) = self.decode_plane(decoder, chunk, plane)? else { return Ok(None) };
            let per_pixel = if self.planar { 1 } else { self.samples };
            out.push(Some(Samples::new(result, width, height, per_pixel, self.colour.bits())?));
        }
        Ok(Some(out))
    }

    /// Decodes one plane of a strip or tile as it is stored; `None` if the file leaves it out.
    fn decode_plane(
        &self,
        decoder: &mut Decoder<PlainSamples<BufReader<File>>>,
        chunk: usize,
        plane: usize,
    ) -> Result<Option<DecodingResult>> {
        let index = plane * self.chunks + chunk;
        if self.byte_counts.get(index).is_none_or(|&n| n == 0) {
            return Ok(None);
        }
        let index = u32::try_from(index).map_err(|_| Error::new(ErrorKind::Limit, "too many strips or tiles"))?;
        self.check_complete(index as usize)?;
        let result = if self.webp {
            self.decode_webp(decoder.inner(), index as usize, self.chunk_size(chunk))?
        } else {
            decoder.read_chunk(index).map_err(explained)?
        };
        Ok(Some(result))
    }
}

impl Layout {
    /// Checks that a JPEG or WebP picture lies within the file: the JPEG decoder would fill what is missing with grey.
    fn check_complete(&self, index: usize) -> Result<()> {
        match (self.offsets.get(index), self.byte_counts.get(index)) {
            (Some(offset), Some(count)) if offset.saturating_add(*count) > self.file_bytes => {
                Err(Error::new(ErrorKind::Format, "the TIFF is truncated").remedy("fetch or export it again"))
            }
            _ => Ok(()),
        }
    }

    /// Decodes a strip or tile that is a WebP picture. The TIFF decoder fails on pictures without alpha in a file of
    /// four bands, which is what GDAL writes where a tile is opaque.
    fn decode_webp(
        &self,
        reader: &mut PlainSamples<BufReader<File>>,
        index: usize,
        (width, height): (usize, usize),
    ) -> Result<DecodingResult> {
        let damaged = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Format, "a WebP tile of the TIFF is damaged or truncated")
                .remedy("fetch or export the file again")
                .source(e)
        };
        let (Some(&offset), Some(&count)) = (self.offsets.get(index), self.byte_counts.get(index)) else {
            return Err(damaged("it has no offset".into()));
        };
        let mut bytes = Vec::new();
        reader.seek(SeekFrom::Start(offset)).map_err(|e| damaged(e.into()))?;
        reader.take(count.min(MAX_CHUNK_BYTES)).read_to_end(&mut bytes)?;
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| damaged(e.into()))?;
        let (w, h) = decoder.dimensions();
        let (full_width, full_height) = (w as usize, h as usize);
        if full_width < width || full_height < height || full_width > self.chunk.0 || full_height > self.chunk.1 {
            return Err(damaged(format!("a picture of {w} x {h} pixels").into()));
        }
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(MAX_CHUNK_BYTES);
        decoder.set_limits(limits).map_err(|e| damaged(e.into()))?;
        let picture = DynamicImage::from_decoder(decoder).map_err(|e| damaged(e.into()))?;
        let samples = match self.samples {
            3 => picture.into_rgb8().into_raw(),
            4 => picture.into_rgba8().into_raw(),
            n => return Err(damaged(format!("WebP holds 3 or 4 bands, the file says {n}").into())),
        };
        // Tiles at the right and lower edge are whole in the file.
        let rows = samples.chunks_exact(full_width * self.samples).take(height);
        Ok(DecodingResult::U8(rows.flat_map(|row| &row[..width * self.samples]).copied().collect()))
    }
}

/// TIFF's code for WebP compression.
const WEBP: u64 = 50_001;

fn check_compression(compression: u64) -> Result<()> {
    let name = match compression {
        1 | 4 | 5 | 7 | 8 | 32_773 | 32_946 | 50_000 | 50_001 => return Ok(()),
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

fn georef(decoder: &mut Decoder<PlainSamples<BufReader<File>>>) -> Result<Option<Georef>> {
    let mut numbers = |tag: Tag| match decoder.find_tag(tag).map_err(explained)? {
        Some(value) => value.into_f64_vec().map_err(explained),
        None => Ok(Vec::new()),
    };
    let scale = numbers(Tag::ModelPixelScaleTag)?;
    let tie = numbers(Tag::ModelTiepointTag)?;
    let matrix = numbers(Tag::ModelTransformationTag)?;
    let doubles = numbers(Tag::GeoDoubleParamsTag)?;
    let directory = decoder.find_tag_unsigned_vec::<u16>(Tag::GeoKeyDirectoryTag).map_err(explained)?;
    let ascii = decoder.find_tag(Tag::GeoAsciiParamsTag).map_err(explained)?.and_then(|v| v.into_string().ok());
    let crs = directory.map_or_else(Crs::default, |directory| {
        Crs::from_keys(GeoKeys { directory, doubles, ascii: ascii.unwrap_or_default() })
    });
    Georef::from_geotiff(&scale, &tie, &matrix, crs)
}

fn explained(error: TiffError) -> Error {
    let (kind, message, remedy) = match &error {
        TiffError::UnsupportedError(_) => (
            ErrorKind::Unsupported,
            "this kind of TIFF is not read",
            "convert it, for example with gdal_translate -ot Byte -co COMPRESS=DEFLATE",
        ),
        TiffError::LimitsExceeded => (
            ErrorKind::Limit,
            "a part of the TIFF is too large",
            "write the file with tiles of 512 pixels, for example gdal_translate -co TILED=YES -co BLOCKXSIZE=512 -co BLOCKYSIZE=512",
        ),
        TiffError::IoError(e)
            if !matches!(
                e.kind(),
                std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::Other
                    | std::io::ErrorKind::InvalidInput
            ) =>
        {
            (ErrorKind::Io, "the TIFF cannot be read", "check the disk and try again")
        }
        _ => (ErrorKind::Format, "the TIFF is damaged or truncated", "fetch or export it again"),
    };
    Error::new(kind, message).remedy(remedy).source(error)
}

impl PixelSource for GeoTiff {
    fn size(&self) -> (usize, usize) {
        self.layout.size
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn read(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<RgbImage> {
        check_window(self.layout.size, x, y, width, height).map_err(|e| e.at(self.path.display()))?;
        let window = Window { x, y, width, height };
        let mut out = vec![0; width * height * 3];
        self.each_block(&window, |block, at| window.copy(&mut out, 3, &block.rgb, at, (block.width, block.height)))
            .map_err(|e| e.at(self.path.display()))?;
        RgbImage::new(width, height, out)
    }

    fn nodata(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<Option<Vec<bool>>> {
        check_window(self.layout.size, x, y, width, height).map_err(|e| e.at(self.path.display()))?;
        let window = Window { x, y, width, height };
        let mut out = vec![false; width * height];
        self.each_block(&window, |block, at| {
            if !block.nodata.is_empty() {
                window.copy(&mut out, 1, &block.nodata, at, (block.width, block.height));
            }
        })
        .map_err(|e| e.at(self.path.display()))?;
        Ok(out.contains(&true).then_some(out))
    }

    fn describe(&self) -> String {
        let Layout { size, samples, .. } = self.layout;
        let stretched = if self.stretch.as_ref().is_some_and(Stretch::changes) { ", contrast stretched" } else { "" };
        format!(
            "TIFF of {} x {} pixels, {samples} band{} of {} bits{stretched}{}",
            size.0,
            size.1,
            if samples == 1 { "" } else { "s" },
            self.layout.colour.bits(),
            super::open::place(self.georef.as_ref())
        )
    }
}
