//! How the samples of a page lie in the file, and how a block is read.

use tiff::tags::Tag;

use super::codec::Codec;
use super::directory::{MAX_CHUNK_BYTES, Tags, Tiff};
use super::values::{Encoding, Values};
use crate::error::{Error, ErrorKind, Result};
use crate::image::check_size;
use crate::source::raster::Window;

/// TIFF's FillOrder.
const FILL_ORDER: Tag = Tag::Unknown(266);

/// How the samples of one page lie in the file.
pub(super) struct Layout {
    pub(super) size: (usize, usize),
    /// Size of a strip or tile.
    chunk: (usize, usize),
    /// Strips or tiles from left to right.
    across: usize,
    /// Strips or tiles of one plane.
    chunks: usize,
    /// Whether each sample of a pixel has strips or tiles of its own.
    pub(super) planar: bool,
    /// Samples of a pixel in a strip or tile.
    per_pixel: usize,
    pub(super) encoding: Encoding,
    pub(super) codec: Codec,
    /// Whether the bits of each byte come in reverse.
    reversed: bool,
    offsets: Vec<u64>,
    byte_counts: Vec<u64>,
}

impl Layout {
    /// Reads the tags of a page.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], [`ErrorKind::Limit`] and [`ErrorKind::Format`], as the tags are.
    pub(super) fn new(tags: &mut Tags<'_>, big_endian: bool) -> Result<Self> {
        let size = (tags.first(Tag::ImageWidth, 0)? as usize, tags.first(Tag::ImageLength, 0)? as usize);
        let samples = tags.first(Tag::SamplesPerPixel, 1)? as usize;
        let damaged = |what: &str| {
            Error::new(ErrorKind::Format, format!("the TIFF has {what}")).remedy("fetch or export it again")
        };
        if size.0 == 0 || size.1 == 0 || !(1..=65_535).contains(&samples) {
            return Err(damaged("no pixels"));
        }
        let codec = Codec::new(tags.first(Tag::Compression, 1)?, tags.bytes(Tag::JPEGTables)?)?;
        let bits = tags.shared(Tag::BitsPerSample, 1, "their number of bits")?;
        let format = tags.shared(Tag::SampleFormat, 1, "their sample format")?;
        // Pictures undo what they did themselves.
        let predictor = if codec.is_picture() { 1 } else { tags.first(Tag::Predictor, 1)? };
        let encoding = Encoding::new(bits, format, predictor, big_endian)?;
        if codec.is_picture() && (bits != 8 || format != 1) {
            return Err(Error::new(ErrorKind::Unsupported, format!("JPEG or WebP of {bits} bits is not read"))
                .remedy("write it as deflate, for example gdal_translate -co COMPRESS=DEFLATE"));
        }
        // Of one sample there is only one plane.
        let planar = samples > 1 && tags.first(Tag::PlanarConfiguration, 1)? == 2;
        let tile = (tags.first(Tag::TileWidth, 0)? as usize, tags.first(Tag::TileLength, 0)? as usize);
        let tiled = !tags.numbers(Tag::TileOffsets)?.is_empty();
        let (chunk, offsets, counts) = if tiled {
            (tile, Tag::TileOffsets, Tag::TileByteCounts)
        } else {
            // A file of one strip may claim any number of rows for it.
            let rows = tags.first(Tag::RowsPerStrip, u64::MAX)?.min(size.1 as u64) as usize;
            ((size.0, rows), Tag::StripOffsets, Tag::StripByteCounts)
        };
        if chunk.0 == 0 || chunk.1 == 0 {
            return Err(damaged("strips or tiles without pixels"));
        }
        let per_pixel = if planar { 1 } else { samples };
        let row = (chunk.0 as u64).checked_mul((per_pixel * encoding.bits.div_ceil(8)) as u64);
        let bytes = row.and_then(|row| row.checked_mul(chunk.1 as u64));
        if bytes.is_none_or(|n| n > MAX_CHUNK_BYTES) || check_size(chunk.0, chunk.1).is_err() {
            let kind = if tiled { "tile" } else { "strip" };
            let message = format!("a {kind} of {} x {} pixels does not fit into memory", chunk.0, chunk.1);
            return Err(Error::new(ErrorKind::Limit, message)
                .remedy("write the file with smaller tiles, for example gdal_translate -co TILED=YES"));
        }
        let (offsets, byte_counts) = (tags.numbers(offsets)?, tags.numbers(counts)?);
        let across = size.0.div_ceil(chunk.0);
        let chunks = across.saturating_mul(size.1.div_ceil(chunk.1));
        let planes = if planar { samples } else { 1 };
        if offsets.len() < chunks.saturating_mul(planes) || offsets.len() != byte_counts.len() {
            return Err(damaged("fewer strips or tiles than its size needs"));
        }
        let reversed = tags.first(FILL_ORDER, 1)? == 2 && !codec.is_picture();
        Ok(Self { size, chunk, across, chunks, planar, per_pixel, encoding, codec, reversed, offsets, byte_counts })
    }

    /// The strips or tiles that a window touches, with their top left pixels.
    pub(super) fn touched(&self, window: &Window) -> impl Iterator<Item = (usize, (usize, usize))> + use<> {
        let ((width, height), across) = (self.chunk, self.across);
        let columns = window.x / width..=(window.x + window.width - 1) / width;
        let rows = window.y / height..=(window.y + window.height - 1) / height;
        rows.flat_map(move |row| {
            columns.clone().map(move |column| (row * across + column, (column * width, row * height)))
        })
    }

    /// Size of a strip or tile within the image: those at the right and lower edge are cut.
    pub(super) fn chunk_size(&self, chunk: usize) -> (usize, usize) {
        let (column, row) = (chunk % self.across, chunk / self.across);
        let cut = |at: usize, length: usize, all: usize| length.min(all - (at * length).min(all));
        (cut(column, self.chunk.0, self.size.0), cut(row, self.chunk.1, self.size.1))
    }

    /// Offset and bytes of one plane of a strip or tile; none if the file leaves it out.
    pub(super) fn stored(&self, plane: usize, chunk: usize) -> Option<(u64, u64)> {
        let index = plane * self.chunks + chunk;
        let (offset, count) = (*self.offsets.get(index)?, *self.byte_counts.get(index)?);
        (offset != 0 && count != 0).then_some((offset, count))
    }

    /// Decodes one plane of a strip or tile, cut to the image; none if the file leaves it out.
    pub(super) fn decode(&self, file: &mut Tiff, plane: usize, chunk: usize) -> Result<Option<Values>> {
        let Some((offset, count)) = self.stored(plane, chunk) else { return Ok(None) };
        let (width, height) = self.chunk_size(chunk);
        let per_pixel = self.per_pixel;
        let want = self.encoding.row_bytes(self.chunk.0 * per_pixel) * self.chunk.1;
        // The last strip or tile of a file without compression may claim bytes of rows that are not there.
        let plain = self.codec == Codec::Plain;
        let count = if plain { count.min(want as u64).min(file.bytes_from(offset).max(1)) } else { count };
        let mut bytes = file.bytes(offset, count)?;
        if self.reversed {
            bytes.iter_mut().for_each(|b| *b = b.reverse_bits());
        }
        if !self.codec.is_picture() {
            let bytes = self.codec.plain(bytes, want, self.chunk.0)?;
            let (row, stride) = (width * per_pixel, self.chunk.0 * per_pixel);
            return self.encoding.values(bytes, (row, height), stride, per_pixel).map(Some);
        }
        let picture = self.codec.picture(bytes, per_pixel)?;
        if picture.width < width || picture.height < height || picture.samples != per_pixel {
            let message = format!(
                "a strip or tile of {width} x {height} pixels and {per_pixel} bands holds a picture of {} x {} and {}",
                picture.width, picture.height, picture.samples
            );
            return Err(Error::new(ErrorKind::Format, message).remedy("fetch or export the file again"));
        }
        if picture.width == width {
            let mut bytes = picture.bytes;
            bytes.truncate(width * height * per_pixel);
            return Ok(Some(Values::U8(bytes)));
        }
        let rows = picture.bytes.chunks_exact(picture.width * per_pixel).take(height);
        Ok(Some(Values::U8(rows.flat_map(|row| &row[..width * per_pixel]).copied().collect())))
    }
}
