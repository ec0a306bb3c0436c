//! The directories (pages) of a TIFF file and their tags.

use std::collections::HashSet;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use tiff::decoder::{Decoder, IfdDecoder, Limits};
use tiff::tags::{Tag, Type, ValueBuffer};
use tiff::{Directory, TiffError};

use crate::error::{Error, ErrorKind, Result};
use crate::source::bytes::{ByteCursor, ByteSource};

/// The most bytes that one strip or tile, or one tag, may take.
pub(super) const MAX_CHUNK_BYTES: u64 = 1 << 30;
/// The most pages that a file may have; the rest is passed over.
const MAX_PAGES: usize = 4096;
/// TIFF's SubfileType, the older form of NewSubfileType.
const OLD_SUBFILE_TYPE: Tag = Tag::Unknown(255);
/// PhotometricInterpretation of a transparency mask.
const TRANSPARENCY_MASK: u64 = 4;

/// An open TIFF file.
pub(super) struct Tiff {
    decoder: Decoder<BufReader<ByteCursor>>,
    bytes: u64,
}

/// One directory of the file.
pub(super) struct Page {
    pub(super) directory: Directory,
    pub(super) size: (usize, usize),
    /// Samples of a pixel.
    samples: u64,
    /// A reduced copy of another page: an overview or a thumbnail.
    pub(super) reduced: bool,
    /// A mask of another page: which of its pixels hold data.
    pub(super) mask: bool,
}

impl Tiff {
    pub(super) fn open(file: &Arc<dyn ByteSource>) -> Result<Self> {
        let bytes = file.length();
        let mut limits = Limits::default();
        limits.ifd_value_size = MAX_CHUNK_BYTES.min(bytes) as usize;
        let reader = BufReader::new(ByteCursor::new(Arc::clone(file)));
        let decoder = Decoder::new(reader).map_err(explained)?.with_limits(limits);
        Ok(Self { decoder, bytes })
    }

    /// All pages, in the file's order.
    pub(super) fn pages(&mut self) -> Result<Vec<Page>> {
        let mut pages = Vec::new();
        let mut seen = HashSet::new();
        let mut next = self.decoder.ifd_pointer();
        while let Some(pointer) = next.filter(|p| seen.insert(p.0) && seen.len() <= MAX_PAGES) {
            let directory = self.decoder.read_directory(pointer).map_err(explained)?;
            next = directory.next();
            pages.push(self.page(directory)?);
        }
        Ok(pages)
    }

    fn page(&mut self, directory: Directory) -> Result<Page> {
        let mut tags = self.tags(&directory);
        let size = (tags.first(Tag::ImageWidth, 0)? as usize, tags.first(Tag::ImageLength, 0)? as usize);
        let kind = tags.first(Tag::NewSubfileType, 0)?;
        let reduced = kind & 1 != 0 || tags.first(OLD_SUBFILE_TYPE, 0)? == 2;
        let mask = kind & 4 != 0 || tags.first(Tag::PhotometricInterpretation, 0)? == TRANSPARENCY_MASK;
        let samples = tags.first(Tag::SamplesPerPixel, 1)?;
        Ok(Page { directory, size, samples, reduced, mask })
    }

    /// The tags of a directory.
    pub(super) fn tags<'a>(&'a mut self, directory: &'a Directory) -> Tags<'a> {
        Tags(self.decoder.read_directory_tags(directory))
    }

    pub(super) fn big_endian(&self) -> bool {
        self.decoder.byte_order() == tiff::tags::ByteOrder::BigEndian
    }

    /// `count` bytes at an offset.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the file ends before.
    pub(super) fn bytes(&mut self, offset: u64, count: u64) -> Result<Vec<u8>> {
        if offset.checked_add(count).is_none_or(|end| end > self.bytes) {
            return Err(Error::new(ErrorKind::Format, "the TIFF is truncated").remedy("fetch or export it again"));
        }
        if count > MAX_CHUNK_BYTES {
            return Err(explained(TiffError::LimitsExceeded));
        }
        let mut bytes = vec![0; count as usize];
        let reader = self.decoder.inner();
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// How many bytes the file has from an offset on.
    pub(super) fn bytes_from(&self, offset: u64) -> u64 {
        self.bytes.saturating_sub(offset)
    }
}

/// The index of the page that is the picture: the first that is neither reduced nor a mask; if all are reduced, the largest.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there are only masks.
pub(super) fn picture(pages: &[Page]) -> Result<usize> {
    let area = |page: &Page| page.size.0.saturating_mul(page.size.1);
    let whole = pages.iter().position(|p| !p.reduced && !p.mask);
    let largest = || (0..pages.len()).rev().filter(|i| !pages[*i].mask).max_by_key(|i| area(&pages[*i]));
    // A file whose only page calls itself a mask is read as a picture.
    whole.or_else(largest).or((pages.len() == 1).then_some(0)).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the TIFF holds only masks of other images").remedy("give the image itself")
    })
}

/// The mask of a page: the first after it that says for each of its pixels whether it holds data. Masks of overviews are
/// reduced, as those are.
pub(super) fn mask_of(pages: &[Page], page: usize) -> Option<&Page> {
    let of = pages.get(page)?;
    let later =
        pages.iter().enumerate().filter(|(i, p)| *i != page && p.mask && p.reduced == of.reduced && p.size == of.size);
    later.min_by_key(|(i, _)| (*i < page, *i)).map(|(_, p)| p)
}

/// The reduced copies of a page that have all of its samples, by index, largest first. Thumbnails have fewer.
pub(super) fn overviews(pages: &[Page], page: usize) -> Vec<usize> {
    let Some(of) = pages.get(page) else { return Vec::new() };
    let smaller = |i: &usize| {
        let p = &pages[*i];
        let within = p.size.0 <= of.size.0 && p.size.1 <= of.size.1 && p.size != of.size;
        p.reduced && !p.mask && p.samples == of.samples && within
    };
    let mut found: Vec<usize> = (0..pages.len()).filter(smaller).collect();
    found.sort_by_key(|i| std::cmp::Reverse(pages[*i].size));
    found
}

/// The tags of one directory.
pub(super) struct Tags<'a>(IfdDecoder<'a>);

impl Tags<'_> {
    /// All whole numbers of a tag; none if it is not there.
    pub(super) fn numbers(&mut self, tag: Tag) -> Result<Vec<u64>> {
        Ok(self.0.find_tag_unsigned_vec::<u64>(tag).map_err(explained)?.unwrap_or_default())
    }

    /// The first number of a tag, or `default`.
    pub(super) fn first(&mut self, tag: Tag, default: u64) -> Result<u64> {
        Ok(self.numbers(tag)?.first().copied().unwrap_or(default))
    }

    /// The one number that all samples share.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if they differ.
    pub(super) fn shared(&mut self, tag: Tag, default: u64, name: &str) -> Result<u64> {
        let all = self.numbers(tag)?;
        let first = all.first().copied().unwrap_or(default);
        if all.iter().any(|n| *n != first) {
            return Err(Error::new(ErrorKind::Unsupported, format!("a TIFF whose bands differ in {name} is not read"))
                .remedy("convert it, for example with gdal_translate -ot Byte"));
        }
        Ok(first)
    }

    /// All numbers of a tag, floating point or whole.
    pub(super) fn floats(&mut self, tag: Tag) -> Result<Vec<f64>> {
        match self.0.find_tag(tag).map_err(explained)? {
            Some(value) => value.into_f64_vec().map_err(explained),
            None => Ok(Vec::new()),
        }
    }

    /// All whole numbers of 16 bits of a tag; none if it is not there.
    pub(super) fn shorts(&mut self, tag: Tag) -> Result<Option<Vec<u16>>> {
        self.0.find_tag_unsigned_vec::<u16>(tag).map_err(explained)
    }

    /// A tag's text up to its first zero; empty if it is not there. Names of places hold umlauts and accents of any encoding:
    /// each such byte becomes one `?`, so that positions in the text still hold.
    pub(super) fn ascii(&mut self, tag: Tag) -> Result<String> {
        let mut buffer = ValueBuffer::empty(Type::ASCII);
        match self.0.find_tag_buf(tag, &mut buffer) {
            Ok(Some(_)) => {}
            Err(e @ TiffError::IoError(_)) => return Err(explained(e)),
            // Not worth a refusal: what counts stands in other tags.
            Ok(None) | Err(_) => return Ok(String::new()),
        }
        let text = buffer.as_bytes().split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(text.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect())
    }

    /// A tag's text; none if it is not there or no text.
    pub(super) fn text(&mut self, tag: Tag) -> Result<Option<String>> {
        Ok(self.0.find_tag(tag).map_err(explained)?.and_then(|v| v.into_string().ok()))
    }

    /// A tag's bytes.
    pub(super) fn bytes(&mut self, tag: Tag) -> Result<Vec<u8>> {
        match self.0.find_tag(tag).map_err(explained)? {
            Some(value) => value.into_u8_vec().map_err(explained),
            None => Ok(Vec::new()),
        }
    }
}

/// An error of the TIFF library in this crate's words.
pub(super) fn explained(error: TiffError) -> Error {
    let error = match error {
        // What the file's own reader said, a server's refusal for instance.
        TiffError::IoError(e) if e.get_ref().is_some_and(|inner| inner.is::<Error>()) => return e.into(),
        other => other,
    };
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
