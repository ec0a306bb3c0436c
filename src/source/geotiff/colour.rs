//! From a TIFF's samples to red, green and blue.

use tiff::decoder::DecodingResult;

use crate::error::{Error, ErrorKind, Result};
use crate::source::open::Block;

/// Percentiles between which samples of more than 8 bits are stretched, as GIS programs do by default.
const LOW_PERCENTILE: f64 = 0.02;
const HIGH_PERCENTILE: f64 = 0.98;
/// The most samples of a band that are kept to find percentiles.
const MEASURED_SAMPLES: usize = 1 << 20;

/// What the samples of a pixel mean.
pub(super) struct Colour {
    kind: Kind,
    bits: u64,
    whole: bool,
    samples: usize,
    alpha: Option<usize>,
    nodata: Option<f64>,
}

enum Kind {
    Grey { white_is_zero: bool },
    Rgb,
    YCbCr,
    Palette(Vec<[u8; 3]>),
}

/// Decoded samples of a strip or tile: `[height, width, per_pixel]`.
pub(super) struct Samples {
    values: Values,
    per_pixel: usize,
}

enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>),
}

impl Samples {
    /// Takes what the decoder gave for `width` x `height` pixels; spreads samples of fewer than 8 bits to bytes.
    pub(super) fn new(
        result: DecodingResult,
        width: usize,
        height: usize,
        per_pixel: usize,
        bits: u64,
    ) -> Result<Self> {
        let values = match result {
            DecodingResult::U8(v) if bits < 8 => Values::Bytes(unpacked(&v, width * per_pixel, bits)),
            DecodingResult::U8(v) => Values::Bytes(v),
            DecodingResult::U16(v) => Values::Numbers(v.into_iter().map(f32::from).collect()),
            DecodingResult::U32(v) => Values::Numbers(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::U64(v) => Values::Numbers(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::F16(v) => Values::Numbers(v.into_iter().map(|v| v.to_f32()).collect()),
            DecodingResult::F32(v) => Values::Numbers(v),
            DecodingResult::F64(v) => Values::Numbers(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::I8(v) => Values::Numbers(v.into_iter().map(f32::from).collect()),
            DecodingResult::I16(v) => Values::Numbers(v.into_iter().map(f32::from).collect()),
            DecodingResult::I32(v) => Values::Numbers(v.into_iter().map(|v| v as f32).collect()),
            DecodingResult::I64(v) => Values::Numbers(v.into_iter().map(|v| v as f32).collect()),
        };
        let samples = Self { values, per_pixel };
        if samples.len() < width * height * per_pixel {
            return Err(Error::new(ErrorKind::Format, "a strip or tile of the TIFF is too short")
                .remedy("fetch or export the file again"));
        }
        Ok(samples)
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Bytes(v) => v.len(),
            Values::Numbers(v) => v.len(),
        }
    }
}

/// Samples of 1 to 7 bits, rows padded to bytes, most significant first, as one byte each.
pub(in crate::source) fn unpacked(packed: &[u8], row: usize, bits: u64) -> Vec<u8> {
    let bits = bits as usize;
    let row_bytes = (row * bits).div_ceil(8).max(1);
    let mut out = Vec::with_capacity(packed.len() / row_bytes * row);
    for bytes in packed.chunks_exact(row_bytes) {
        for i in 0..row {
            let value = (0..bits).fold(0, |v, b| {
                let bit = i * bits + b;
                v << 1 | (bytes[bit / 8] >> (7 - bit % 8) & 1)
            });
            out.push(value);
        }
    }
    out
}

impl Colour {
    /// `photometric`, `bits` and `format` are the TIFF's PhotometricInterpretation, BitsPerSample and SampleFormat.
    #[allow(clippy::too_many_arguments)] // the tags of one TIFF directory, read in one place
    pub(super) fn new(
        photometric: Option<u16>,
        samples: usize,
        bits: u64,
        format: u64,
        alpha: Option<usize>,
        map: &[u64],
        subsampled: bool,
        nodata: Option<f64>,
    ) -> Result<Self> {
        let unsupported = |what: String| {
            Err(Error::new(ErrorKind::Unsupported, format!("a TIFF of {what} is not read"))
                .remedy("convert it to RGB, for example with gdal_translate -expand rgb or gdalwarp"))
        };
        let colours = samples - usize::from(alpha.is_some_and(|a| a < samples));
        let kind = match photometric {
            Some(0 | 1) if colours < 3 => Kind::Grey { white_is_zero: photometric == Some(0) },
            // Several bands that claim to be shades of grey are what programs write that know no better.
            Some(1) | Some(2) if colours >= 3 => Kind::Rgb,
            Some(2) => Kind::Grey { white_is_zero: false },
            Some(3) if bits <= 8 => {
                let colours = 1usize << bits;
                if map.len() < 3 * colours {
                    return Err(Error::new(ErrorKind::Format, "the TIFF's colour map is too short")
                        .remedy("fetch or export the file again"));
                }
                // The standard has 16 bits; some programs write 8.
                let shift = if map.iter().any(|&v| v > 255) { 8 } else { 0 };
                let part = |band: usize, i: usize| (map[band * colours + i] >> shift).min(255) as u8;
                Kind::Palette((0..colours).map(|i| [part(0, i), part(1, i), part(2, i)]).collect())
            }
            Some(6) if colours >= 3 && bits == 8 && !subsampled => Kind::YCbCr,
            Some(6) => return unsupported("subsampled YCbCr without JPEG compression".to_owned()),
            Some(other) => return unsupported(format!("photometric interpretation {other}")),
            None => return unsupported("no photometric interpretation".to_owned()),
        };
        let readable = matches!(bits, 8 | 16 | 32 | 64) || (bits < 8 && samples == 1);
        if !readable || !(1..=3).contains(&format) {
            return unsupported(format!("{samples} bands of {bits} bits, sample format {format}"));
        }
        Ok(Self { kind, bits, whole: format != 3, samples, alpha: alpha.filter(|&a| a < samples), nodata })
    }

    /// Whether the samples themselves are no colours: a palette's indices, YCbCr, or shades of grey in 8 bits.
    pub(super) fn needs_conversion(&self) -> bool {
        let grey = self.samples - usize::from(self.alpha.is_some()) == 1 && self.is_eight_bit();
        grey || matches!(self.kind, Kind::Palette(_) | Kind::YCbCr)
    }

    /// The band that is alpha.
    pub(super) fn alpha(&self) -> Option<usize> {
        self.alpha
    }

    /// The value that marks pixels without data.
    pub(super) fn nodata(&self) -> Option<f64> {
        self.nodata
    }

    /// Bits of a sample.
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    /// Whether samples are colours as they are.
    pub(super) fn is_eight_bit(&self) -> bool {
        matches!(self.kind, Kind::Palette(_)) || (self.bits <= 8 && self.whole)
    }

    /// Whether a band has a part in the colour or in alpha.
    pub(super) fn uses(&self, band: usize) -> bool {
        self.bands().contains(&band) || self.alpha == Some(band)
    }

    /// The bands that make the colour.
    fn bands(&self) -> &'static [usize] {
        match (&self.kind, self.alpha) {
            (Kind::Grey { .. } | Kind::Palette(_), Some(0)) if self.samples > 1 => &[1],
            (Kind::Grey { .. } | Kind::Palette(_), _) => &[0],
            (_, Some(0)) => &[1, 2, 3],
            (_, Some(1)) => &[0, 2, 3],
            (_, Some(2)) => &[0, 1, 3],
            _ => &[0, 1, 2],
        }
    }

    /// Where the values of a band are: its plane, its place in a pixel, and the pixels' distance.
    fn band<'a>(&self, planes: &'a [Option<Samples>], band: usize) -> Result<(&'a Values, usize, usize)> {
        let planar = planes.len() > 1;
        let plane = planes.get(if planar { band } else { 0 }).and_then(Option::as_ref);
        match plane {
            Some(plane) if planar || band < plane.per_pixel => {
                Ok((&plane.values, if planar { 0 } else { band }, plane.per_pixel))
            }
            _ => Err(Error::new(ErrorKind::Format, format!("the TIFF has no band {}", band + 1))),
        }
    }

    /// Makes colours of decoded planes.
    pub(super) fn block(
        &self,
        planes: &[Option<Samples>],
        width: usize,
        height: usize,
        stretch: Option<&Stretch>,
    ) -> Result<Block> {
        let pixels = width * height;
        let mut rgb = vec![0u8; pixels * 3];
        let mut nodata = vec![self.nodata.is_some(); pixels];
        let bands = self.bands();
        for (channel, &band) in bands.iter().enumerate() {
            let (values, first, step) = self.band(planes, band)?;
            match values {
                Values::Bytes(values) => {
                    let none = self.nodata.filter(|n| (0.0..=255.0).contains(n) && n.fract() == 0.0).map(|n| n as u8);
                    for (i, &value) in values[first..].iter().step_by(step).take(pixels).enumerate() {
                        rgb[i * 3 + channel] = value;
                        nodata[i] &= Some(value) == none;
                    }
                }
                Values::Numbers(values) => {
                    let (low, scale) = stretch.map_or((0.0, 1.0), |s| s.range(channel));
                    for (i, &value) in values[first..].iter().step_by(step).take(pixels).enumerate() {
                        rgb[i * 3 + channel] = ((value - low) * scale + 0.5).clamp(0.0, 255.0) as u8;
                        nodata[i] = if value.is_nan() { true } else { nodata[i] && self.is_nodata(value) };
                    }
                }
            }
        }
        self.finish(&mut rgb);
        if let Some(alpha) = self.alpha {
            let (values, first, step) = self.band(planes, alpha)?;
            for (i, none) in nodata.iter_mut().enumerate() {
                *none |= match values {
                    Values::Bytes(values) => values[first + i * step] == 0,
                    Values::Numbers(values) => values[first + i * step] == 0.0,
                };
            }
        }
        if !nodata.contains(&true) {
            nodata = Vec::new();
        }
        Ok(Block { width, height, rgb, nodata })
    }

    fn is_nodata(&self, value: f32) -> bool {
        // The tag holds decimal text of a number that the samples may only hold in single precision.
        self.nodata.is_some_and(|none| none as f32 == value || (none.is_nan() && value.is_nan()))
    }

    /// Turns what the channels hold into red, green and blue.
    fn finish(&self, rgb: &mut [u8]) {
        let most = (1u32 << self.bits.min(8)) - 1;
        for pixel in rgb.chunks_exact_mut(3) {
            let [first, ..] = *pixel else { continue };
            match &self.kind {
                Kind::Rgb => {}
                Kind::Grey { white_is_zero } => {
                    let grey = (u32::from(first) * 255 / most).min(255) as u8;
                    pixel.fill(if *white_is_zero { 255 - grey } else { grey });
                }
                Kind::Palette(colours) => {
                    pixel.copy_from_slice(&colours.get(usize::from(first)).copied().unwrap_or_default());
                }
                Kind::YCbCr => {
                    let [y, cb, cr] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
                    let (cb, cr) = (cb - 128.0, cr - 128.0);
                    // ITU-R BT.601, full range, as in JFIF.
                    let colour = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
                    pixel.copy_from_slice(&colour.map(|c| (c + 0.5).clamp(0.0, 255.0) as u8));
                }
            }
        }
    }
}

/// The linear stretch of each channel.
pub(super) struct Stretch {
    /// Value that becomes 0, and 255 / (value that becomes 255 - that value).
    ranges: [(f32, f32); 3],
}

impl Stretch {
    fn range(&self, channel: usize) -> (f32, f32) {
        self.ranges[channel.min(2)]
    }

    /// Whether values change at all.
    pub(super) fn changes(&self) -> bool {
        self.ranges.iter().any(|&r| r != (0.0, 1.0))
    }
}

/// Collects samples to find the stretch.
pub(super) struct Measure {
    values: [Vec<f32>; 3],
    whole: bool,
}

impl Measure {
    pub(super) fn new(colour: &Colour) -> Self {
        Self { values: [Vec::new(), Vec::new(), Vec::new()], whole: colour.whole }
    }

    /// Adds some samples of a strip or tile.
    pub(super) fn add(&mut self, colour: &Colour, planes: &[Option<Samples>]) {
        for (into, &band) in self.values.iter_mut().zip(colour.bands()) {
            let Ok((Values::Numbers(values), first, step)) = colour.band(planes, band) else { continue };
            let pixels = values.len() / step;
            let room = (MEASURED_SAMPLES / super::STRETCH_CHUNKS).max(1);
            let stride = step * pixels.div_ceil(room).max(1);
            into.extend(values[first..].iter().step_by(stride).filter(|v| v.is_finite() && !colour.is_nodata(**v)));
        }
    }

    pub(super) fn finish(mut self) -> Stretch {
        let all = || self.values.iter().flatten();
        if self.whole && all().all(|v| (0.0..=255.0).contains(v)) {
            return Stretch { ranges: [(0.0, 1.0); 3] };
        }
        let ranges = [0, 1, 2].map(|channel| {
            let values = &mut self.values[channel];
            values.sort_unstable_by(f32::total_cmp);
            let at = |share: f64| values.get(((values.len().max(1) - 1) as f64 * share).round() as usize).copied();
            let (low, high) = (at(LOW_PERCENTILE).unwrap_or(0.0), at(HIGH_PERCENTILE).unwrap_or(0.0));
            (low, if high > low { 255.0 / (high - low) } else { 0.0 })
        });
        Stretch { ranges }
    }
}
