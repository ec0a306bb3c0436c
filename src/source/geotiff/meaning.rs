//! What the samples of a TIFF's pixels mean: bands, alpha, colours.

use tiff::tags::Tag;

use super::bands::{self, Role};
use super::directory::Tags;
use super::nodata::NoData;
use super::values::{Encoding, Values};
use crate::error::{Error, ErrorKind, Result};
use crate::source::block::PixelBlock;
use crate::source::raster::{Depth, Interpretation, Samples};

/// What samples mean, and how they become a raster's bands.
pub(super) struct Meaning {
    kind: BandKind,
    /// Samples of a pixel in the file.
    samples: usize,
    alpha: Option<usize>,
    nodata: Option<NoData>,
    depth: Depth,
    /// The sample of the file, or with [`BandKind::Palette`] and [`BandKind::YCbCr`] the colour, that each band is.
    bands: Vec<usize>,
    interpretation: Interpretation,
}

enum BandKind {
    /// Samples as they are stored.
    Samples,
    /// Shades of grey in 8 bits or fewer, which become red, green and blue.
    Grey {
        most: u8,
        white_is_zero: bool,
    },
    Palette(Vec<[u8; 3]>),
    YCbCr,
}

/// TIFF's ExtraSamples: premultiplied and plain alpha.
const ALPHA: [u64; 2] = [1, 2];

impl Meaning {
    /// Reads the tags of a picture.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for colours that are not understood, [`ErrorKind::Format`] for a damaged colour map.
    pub(super) fn picture(tags: &mut Tags<'_>, encoding: &Encoding, jpeg: bool) -> Result<Self> {
        let samples = tags.first(Tag::SamplesPerPixel, 1)? as usize;
        let extra = tags.numbers(Tag::ExtraSamples)?;
        let declared = bands::declared(tags, samples)?;
        let named = declared.iter().position(|role| *role == Some(Role::Alpha));
        let extra_alpha =
            extra.iter().position(|e| ALPHA.contains(e)).and_then(|i| (samples + i).checked_sub(extra.len()));
        let alpha = named.or(extra_alpha.filter(|a| declared.get(*a).is_some_and(Option::is_none)));
        let colours: Vec<usize> = (0..samples).filter(|s| Some(*s) != alpha).collect();
        let photometric = tags.first(Tag::PhotometricInterpretation, u64::MAX)?;
        let kind = match photometric {
            0 | 1 if colours.len() == 1 && encoding.depth() == Depth::U8 => {
                BandKind::Grey { most: ((1u32 << encoding.bits) - 1) as u8, white_is_zero: photometric == 0 }
            }
            2 if colours.len() == 1 && encoding.depth() == Depth::U8 => {
                BandKind::Grey { most: 255, white_is_zero: false }
            }
            // Several bands that claim to be shades of grey are what programs write that know no better.
            0..=2 => BandKind::Samples,
            3 if encoding.depth() == Depth::U8 => {
                BandKind::Palette(palette(&tags.numbers(Tag::ColorMap)?, encoding.bits)?)
            }
            6 => {
                let subsampling = tags.numbers(Tag::ChromaSubsampling)?;
                let subsampled = !jpeg && (subsampling.is_empty() || subsampling.iter().any(|s| *s != 1));
                if subsampled
                    || encoding.bits != 8
                    || colours.len() < 3
                    || tags.first(Tag::PlanarConfiguration, 1)? == 2
                {
                    return Err(unsupported("YCbCr in this form, without JPEG compression"));
                }
                BandKind::YCbCr
            }
            u64::MAX => return Err(unsupported("no photometric interpretation")),
            5 => return Err(unsupported("CMYK colours")),
            other => return Err(unsupported(&format!("photometric interpretation {other}"))),
        };
        let white_is_zero = photometric == 0 && colours.len() < 3 && matches!(kind, BandKind::Samples);
        let whole = encoding.format != super::values::Format::Float;
        let bands = match kind {
            BandKind::Samples => colours,
            BandKind::Grey { .. } => vec![*colours.first().unwrap_or(&0); 3],
            BandKind::Palette(_) | BandKind::YCbCr => vec![0, 1, 2],
        };
        let mut interpretation = Interpretation { white_is_zero, ..Interpretation::of_bands(bands.len(), whole) };
        if matches!(kind, BandKind::Samples)
            && let Some(order) = bands::order(tags, &declared, photometric)?
        {
            let place = |sample: usize| bands.iter().position(|b| *b == sample);
            if let [Some(red), Some(green), Some(blue)] = order.map(place) {
                interpretation.colours = [red, green, blue];
            }
        }
        let nodata = tags.text(Tag::GdalNodata)?.and_then(|text| NoData::parse(&text));
        let depth = encoding.depth();
        Ok(Self { kind, samples, alpha, nodata, depth, bands, interpretation })
    }

    /// Samples as they are stored: label values, palette indices, masks.
    pub(super) fn stored(tags: &mut Tags<'_>, encoding: &Encoding) -> Result<Self> {
        let samples = tags.first(Tag::SamplesPerPixel, 1)? as usize;
        let nodata = tags.text(Tag::GdalNodata)?.and_then(|text| NoData::parse(&text));
        let extra = tags.numbers(Tag::ExtraSamples)?;
        let alpha = extra.iter().position(|e| ALPHA.contains(e)).and_then(|i| (samples + i).checked_sub(extra.len()));
        let bands: Vec<usize> = (0..samples).filter(|s| Some(*s) != alpha).collect();
        let interpretation = Interpretation::of_bands(bands.len(), encoding.depth() != Depth::F32);
        Ok(Self { kind: BandKind::Samples, samples, alpha, nodata, depth: encoding.depth(), bands, interpretation })
    }

    /// How many bands there are.
    pub(super) fn bands(&self) -> usize {
        self.bands.len()
    }

    /// Type of the bands.
    pub(super) fn depth(&self) -> Depth {
        self.depth
    }

    /// How people look at them.
    pub(super) fn interpretation(&self) -> Interpretation {
        self.interpretation
    }

    /// Samples of a pixel in the file.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// The sample that is alpha.
    pub(super) fn alpha(&self) -> Option<usize> {
        self.alpha
    }

    /// Whether a value marks samples without data.
    pub(super) fn has_nodata(&self) -> bool {
        self.nodata.is_some()
    }

    /// The sample of the file that a band is, for files that have each sample in a plane of its own.
    pub(super) fn plane(&self, band: usize) -> usize {
        self.bands.get(band).copied().unwrap_or_default()
    }

    /// Where a band is in a block of all samples.
    pub(super) fn place(&self, band: usize) -> usize {
        match self.kind {
            BandKind::Samples => band,
            BandKind::Grey { .. } => 0,
            BandKind::Palette(_) | BandKind::YCbCr => band,
        }
    }

    /// A block of all samples.
    pub(super) fn block(&self, values: Values, (width, height): (usize, usize)) -> PixelBlock {
        let per_pixel = self.samples;
        let mut empty = match &self.nodata {
            Some(none) => values.without_data(none, per_pixel),
            None => Vec::new(),
        };
        if let Some(alpha) = self.alpha {
            let transparent = values.transparent(alpha, per_pixel);
            if empty.is_empty() {
                empty = transparent;
            } else {
                empty.iter_mut().zip(transparent).for_each(|(e, t)| *e |= t);
            }
        }
        let samples = match values.into_samples() {
            Samples::U8(v) => Samples::U8(self.colours(v)),
            Samples::U16(v) => Samples::U16(without(v, per_pixel, self.alpha)),
            Samples::F32(v) => Samples::F32(without(v, per_pixel, self.alpha)),
        };
        let bands = samples.len() / (width * height).max(1);
        PixelBlock { width, height, bands, samples, valid: valid(empty) }
    }

    /// A block of one sample of each pixel. It tells which samples are not the no-data value.
    pub(super) fn plane_block(&self, values: Values, (width, height): (usize, usize)) -> PixelBlock {
        let empty = self.nodata.as_ref().map(|none| values.without_data(none, 1)).unwrap_or_default();
        let samples = match values.into_samples() {
            Samples::U8(v) => Samples::U8(self.shades(v)),
            other => other,
        };
        PixelBlock { width, height, bands: 1, samples, valid: valid(empty) }
    }

    /// What stands for a block that the file leaves out: the no-data value, or 0.
    pub(super) fn missing(&self, (width, height): (usize, usize), bands: usize, holds_data: bool) -> PixelBlock {
        let count = width * height * bands;
        let value = self.nodata.map_or(0.0, |none| none.value());
        let fits = |most: f64| (0.0..=most).contains(&value) && value.fract() == 0.0;
        let samples = match self.depth {
            Depth::U8 => Samples::U8(vec![if fits(255.0) { value as u8 } else { 0 }; count]),
            Depth::U16 => Samples::U16(vec![if fits(65_535.0) { value as u16 } else { 0 }; count]),
            Depth::F32 => Samples::F32(vec![value as f32; count]),
        };
        let valid = if holds_data && self.nodata.is_none() { Vec::new() } else { vec![false; width * height] };
        PixelBlock { width, height, bands, samples, valid }
    }

    /// Samples of a pixel in a block of all samples.
    pub(super) fn block_bands(&self) -> usize {
        match self.kind {
            BandKind::Samples => self.bands.len(),
            BandKind::Grey { .. } => 1,
            BandKind::Palette(_) | BandKind::YCbCr => 3,
        }
    }

    fn colours(&self, values: Vec<u8>) -> Vec<u8> {
        let values = without(values, self.samples, self.alpha);
        let step = self.samples - usize::from(self.alpha.is_some());
        match &self.kind {
            BandKind::Samples => values,
            BandKind::Grey { .. } => self.shades(values),
            BandKind::Palette(colours) => {
                let colour = |pixel: &[u8]| colours.get(usize::from(pixel[0])).copied().unwrap_or_default();
                values.chunks_exact(step).flat_map(colour).collect()
            }
            BandKind::YCbCr => values.chunks_exact(step).flat_map(|p| from_ycbcr([p[0], p[1], p[2]])).collect(),
        }
    }

    fn shades(&self, mut values: Vec<u8>) -> Vec<u8> {
        if let BandKind::Grey { most, white_is_zero } = self.kind
            && (most < 255 || white_is_zero)
        {
            for value in &mut values {
                let grey = (u32::from(*value) * 255 / u32::from(most)).min(255) as u8;
                *value = if white_is_zero { 255 - grey } else { grey };
            }
        }
        values
    }
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("a TIFF of {what} is not read"))
        .remedy("convert it to RGB, for example with gdal_translate -expand rgb or gdalwarp")
}

/// Whether pixels hold data, empty if all do.
fn valid(mut empty: Vec<bool>) -> Vec<bool> {
    if !empty.contains(&true) {
        return Vec::new();
    }
    empty.iter_mut().for_each(|e| *e = !*e);
    empty
}

/// All samples but alpha.
fn without<T: Copy>(values: Vec<T>, per_pixel: usize, alpha: Option<usize>) -> Vec<T> {
    let Some(alpha) = alpha else { return values };
    values.chunks_exact(per_pixel).flat_map(|p| p[..alpha].iter().chain(&p[alpha + 1..])).copied().collect()
}

/// The colours of a TIFF's colour map: all reds, all greens, all blues.
fn palette(map: &[u64], bits: usize) -> Result<Vec<[u8; 3]>> {
    let colours = 1usize << bits;
    if map.len() < 3 * colours {
        return Err(Error::new(ErrorKind::Format, "the TIFF's colour map is too short")
            .remedy("fetch or export the file again"));
    }
    // The standard has 16 bits; some programs write 8.
    let shift = if map.iter().any(|v| *v > 255) { 8 } else { 0 };
    let part = |band: usize, i: usize| (map[band * colours + i] >> shift).min(255) as u8;
    Ok((0..colours).map(|i| [part(0, i), part(1, i), part(2, i)]).collect())
}

/// ITU-R BT.601, full range, as in JFIF.
fn from_ycbcr(pixel: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = pixel.map(f32::from);
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|c| (c + 0.5).clamp(0.0, 255.0) as u8)
}
