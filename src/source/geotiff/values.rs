//! From a block's plain bytes to numbers of the type that the file has.

use half::f16;

use super::nodata::NoData;
use crate::error::{Error, ErrorKind, Result};
use crate::source::raster::{Depth, Samples};

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Bits of a sample.
    pub(super) bits: usize,
    /// Whole numbers, with or without sign, or floating point.
    pub(super) format: Format,
    /// What the samples of a row were made of before they were compressed.
    pub(super) predictor: Predictor,
    pub(super) big_endian: bool,
}

/// TIFF's SampleFormat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Unsigned,
    Signed,
    Float,
}

/// TIFF's Predictor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Each sample is the difference from the one before of its band.
    Horizontal,
    /// The bytes of a row by significance, each the difference from the one before.
    FloatingPoint,
}

impl Encoding {
    /// From the numbers of the tags.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what is not read.
    pub(super) fn new(bits: u64, format: u64, predictor: u64, big_endian: bool) -> Result<Self> {
        let unsupported = |what: String| {
            Err(Error::new(ErrorKind::Unsupported, format!("a TIFF of {what} is not read"))
                .remedy("convert it, for example with gdal_translate -ot Byte or -ot Float32"))
        };
        let format = match format {
            // Undefined counts as without sign, as other readers take it.
            1 | 4 => Format::Unsigned,
            2 => Format::Signed,
            3 => Format::Float,
            5 | 6 => return unsupported("complex numbers".to_owned()),
            other => return unsupported(format!("sample format {other}")),
        };
        let readable = match format {
            Format::Unsigned => matches!(bits, 1..=16 | 32 | 64),
            Format::Signed => matches!(bits, 8 | 16 | 32 | 64),
            Format::Float => matches!(bits, 16 | 32 | 64),
        };
        if !readable {
            return unsupported(format!("{bits}-bit samples of this format"));
        }
        let predictor = match predictor {
            1 => Predictor::None,
            2 if matches!(bits, 8 | 16 | 32 | 64) => Predictor::Horizontal,
            3 if format == Format::Float => Predictor::FloatingPoint,
            other => return unsupported(format!("predictor {other} with {bits}-bit samples")),
        };
        Ok(Self { bits: bits as usize, format, predictor, big_endian })
    }

    /// The type in which samples are handed out.
    pub(super) fn depth(&self) -> Depth {
        match (self.format, self.bits) {
            (Format::Unsigned, 1..=8) => Depth::U8,
            (Format::Unsigned, 9..=16) => Depth::U16,
            _ => Depth::F32,
        }
    }

    /// Bytes of a row of `samples` samples.
    pub(super) fn row_bytes(&self, samples: usize) -> usize {
        (samples * self.bits).div_ceil(8)
    }

    /// The numbers of `rows` rows of `count` samples each. In `bytes` a row has `stride` samples, those of a pixel being
    /// `per_pixel`.
    pub(super) fn values(
        &self,
        mut bytes: Vec<u8>,
        (count, rows): (usize, usize),
        stride: usize,
        per_pixel: usize,
    ) -> Result<Values> {
        let (row_bytes, size) = (self.row_bytes(stride), self.bits.div_ceil(8));
        // The floating-point predictor needs whole rows.
        let last = if self.predictor == Predictor::FloatingPoint { row_bytes } else { self.row_bytes(count) };
        if bytes.len() < row_bytes * (rows - 1) + last {
            return Err(Error::new(ErrorKind::Format, "a strip or tile of the TIFF is too short")
                .remedy("fetch or export the file again"));
        }
        if !matches!(self.bits, 8 | 16 | 32 | 64) {
            let all = bytes.chunks(row_bytes).take(rows).flat_map(|row| unpacked(row, count, self.bits));
            return Ok(if self.bits < 8 {
                Values::U8(all.map(|v| v as u8).collect())
            } else {
                Values::U16(all.collect())
            });
        }
        let mut out = Vec::with_capacity(rows * count * size);
        for row in bytes.chunks_mut(row_bytes).take(rows) {
            if self.predictor == Predictor::FloatingPoint {
                let joined = undo_floating_point(row, size, per_pixel);
                out.extend_from_slice(&joined[..count * size]);
                continue;
            }
            let row = &mut row[..count * size];
            if self.big_endian {
                row.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            if self.predictor == Predictor::Horizontal {
                undo_horizontal(row, size, per_pixel);
            }
            out.extend_from_slice(row);
        }
        Ok(self.numbers(out))
    }

    /// Little-endian bytes as numbers.
    fn numbers(&self, bytes: Vec<u8>) -> Values {
        fn each<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|b| number(*b)).collect()
        }
        match (self.format, self.bits) {
            (Format::Unsigned, 8) => Values::U8(bytes),
            (Format::Unsigned, 16) => Values::U16(each(&bytes, u16::from_le_bytes)),
            (Format::Unsigned, 32) => Values::U32(each(&bytes, u32::from_le_bytes)),
            (Format::Unsigned, _) => Values::U64(each(&bytes, u64::from_le_bytes)),
            (Format::Signed, 8) => Values::I8(each(&bytes, i8::from_le_bytes)),
            (Format::Signed, 16) => Values::I16(each(&bytes, i16::from_le_bytes)),
            (Format::Signed, 32) => Values::I32(each(&bytes, i32::from_le_bytes)),
            (Format::Signed, _) => Values::I64(each(&bytes, i64::from_le_bytes)),
            (Format::Float, 16) => Values::F32(each(&bytes, |b| f16::from_le_bytes(b).to_f32())),
            (Format::Float, 32) => Values::F32(each(&bytes, f32::from_le_bytes)),
            (Format::Float, _) => Values::F64(each(&bytes, f64::from_le_bytes)),
        }
    }
}

/// `count` samples of 1 to 15 bits, most significant bit first.
fn unpacked(row: &[u8], count: usize, bits: usize) -> impl Iterator<Item = u16> {
    (0..count).map(move |i| {
        (i * bits..(i + 1) * bits).fold(0, |value, bit| value << 1 | u16::from(row[bit / 8] >> (7 - bit % 8) & 1))
    })
}

/// The bits of a row of samples of fewer than 8 bits as bytes.
pub(in crate::source) fn unpacked_rows(packed: &[u8], count: usize, bits: usize) -> Vec<u8> {
    let row_bytes = (count * bits).div_ceil(8).max(1);
    packed.chunks_exact(row_bytes).flat_map(|row| unpacked(row, count, bits)).map(|v| v as u8).collect()
}

/// Adds to each little-endian number of `size` bytes the one before of its band.
fn undo_horizontal(row: &mut [u8], size: usize, per_pixel: usize) {
    fn add<const N: usize>(row: &mut [u8], per_pixel: usize, sum: impl Fn([u8; N], [u8; N]) -> [u8; N]) {
        let (numbers, _) = row.as_chunks_mut::<N>();
        for i in per_pixel..numbers.len() {
            numbers[i] = sum(numbers[i], numbers[i - per_pixel]);
        }
    }
    match size {
        1 => add::<1>(row, per_pixel, |[a], [b]| [a.wrapping_add(b)]),
        2 => add(row, per_pixel, |a, b| u16::from_le_bytes(a).wrapping_add(u16::from_le_bytes(b)).to_le_bytes()),
        4 => add(row, per_pixel, |a, b| u32::from_le_bytes(a).wrapping_add(u32::from_le_bytes(b)).to_le_bytes()),
        _ => add(row, per_pixel, |a, b| u64::from_le_bytes(a).wrapping_add(u64::from_le_bytes(b)).to_le_bytes()),
    }
}

/// Adobe's floating-point predictor (TIFF technical note 3): all most significant bytes of the row come first, and each
/// byte is the difference from the one before of its band. Gives little-endian numbers of `size` bytes.
fn undo_floating_point(row: &mut [u8], size: usize, per_pixel: usize) -> Vec<u8> {
    for i in per_pixel..row.len() {
        row[i] = row[i].wrapping_add(row[i - per_pixel]);
    }
    let count = row.len() / size;
    (0..count).flat_map(|i| (0..size).rev().map(move |byte| (byte, i))).map(|(byte, i)| row[byte * count + i]).collect()
}

/// Decoded samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Values {
    /// Which pixels hold the no-data value in all of their `per_pixel` samples.
    pub(super) fn without_data(&self, none: &NoData, per_pixel: usize) -> Vec<bool> {
        fn each<T: Copy>(values: &[T], per_pixel: usize, is_none: impl Fn(T) -> bool) -> Vec<bool> {
            values.chunks_exact(per_pixel).map(|pixel| pixel.iter().all(|v| is_none(*v))).collect()
        }
        match self {
            Self::U8(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::U16(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::U32(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::U64(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::I8(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::I16(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::I32(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::I64(v) => each(v, per_pixel, |v| none.is_whole(v.into())),
            Self::F32(v) => each(v, per_pixel, |v| none.is_single(v)),
            Self::F64(v) => each(v, per_pixel, |v| none.is_double(v)),
        }
    }

    /// Which pixels are transparent: band `alpha` is 0.
    pub(super) fn transparent(&self, alpha: usize, per_pixel: usize) -> Vec<bool> {
        fn each<T: Copy + PartialEq + Default>(values: &[T], alpha: usize, per_pixel: usize) -> Vec<bool> {
            values.chunks_exact(per_pixel).map(|pixel| pixel[alpha] == T::default()).collect()
        }
        match self {
            Self::U8(v) => each(v, alpha, per_pixel),
            Self::U16(v) => each(v, alpha, per_pixel),
            Self::U32(v) => each(v, alpha, per_pixel),
            Self::U64(v) => each(v, alpha, per_pixel),
            Self::I8(v) => each(v, alpha, per_pixel),
            Self::I16(v) => each(v, alpha, per_pixel),
            Self::I32(v) => each(v, alpha, per_pixel),
            Self::I64(v) => each(v, alpha, per_pixel),
            Self::F32(v) => each(v, alpha, per_pixel),
            Self::F64(v) => each(v, alpha, per_pixel),
        }
    }

    /// The samples in the types that a raster hands out; the wider ones lose their last digits.
    pub(super) fn into_samples(self) -> Samples {
        match self {
            Self::U8(v) => Samples::U8(v),
            Self::U16(v) => Samples::U16(v),
            Self::U32(v) => Samples::F32(v.into_iter().map(|v| v as f32).collect()),
            Self::U64(v) => Samples::F32(v.into_iter().map(|v| v as f32).collect()),
            Self::I8(v) => Samples::F32(v.into_iter().map(f32::from).collect()),
            Self::I16(v) => Samples::F32(v.into_iter().map(f32::from).collect()),
            Self::I32(v) => Samples::F32(v.into_iter().map(|v| v as f32).collect()),
            Self::I64(v) => Samples::F32(v.into_iter().map(|v| v as f32).collect()),
            Self::F32(v) => Samples::F32(v),
            Self::F64(v) => Samples::F32(v.into_iter().map(|v| v as f32).collect()),
        }
    }
}
