//! The safetensors format: header and streaming writer.
//!
//! Format: 8 bytes little-endian header length, a JSON header (padded with spaces to a multiple of 8), then the
//! tensors' bytes without gaps, little-endian, row-major.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::Range;

use ::safetensors::tensor::{Dtype as FileDtype, Metadata};

use super::tensor::{Dtype, TensorInfo};
use crate::error::{Error, ErrorKind, Result};

/// The longest header that is read, in bytes; ViT-H's is about 80 kB.
pub const MAX_HEADER: usize = 1 << 24;
/// Bytes before the JSON: its length.
pub const PREFIX: usize = 8;

/// What a safetensors header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetensorsHeader {
    /// The tensors in the order of their bytes.
    pub tensors: Vec<HeaderEntry>,
    /// The header's `__metadata__`: free text by key.
    pub metadata: BTreeMap<String, String>,
    /// Bytes from the start of the file to the first tensor.
    pub data_start: usize,
    /// Length in bytes that the whole file must have.
    pub file_len: usize,
}

/// One tensor of a [`SafetensorsHeader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderEntry {
    /// Name, shape and type.
    pub info: TensorInfo,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// The length in bytes of prefix and JSON together, from the first 8 bytes of a file (or more).
///
/// # Errors
/// [`ErrorKind::Format`] if there are fewer than 8 bytes, [`ErrorKind::Limit`] above [`MAX_HEADER`].
pub fn header_len(bytes: &[u8]) -> Result<usize> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(format_error("shorter than the header's length"));
    };
    match usize::try_from(u64::from_le_bytes(*prefix)) {
        Ok(n) if n <= MAX_HEADER => Ok(n + PREFIX),
        _ => Err(Error::new(ErrorKind::Limit, format!("the header claims to be longer than {MAX_HEADER} bytes"))
            .remedy("the file is damaged or not safetensors")),
    }
}

/// Reads the header at the start of `bytes` (the whole file, or at least [`header_len`] bytes of it). Names are unique
/// and not empty, byte ranges follow each other without gaps, and each fits its shape and type.
///
/// # Errors
/// [`ErrorKind::Format`] for a damaged header, [`ErrorKind::Unsupported`] for an element type that models do not use
/// (naming the tensor), [`ErrorKind::Limit`] above [`MAX_HEADER`].
pub fn parse_header(bytes: &[u8]) -> Result<SafetensorsHeader> {
    let data_start = header_len(bytes)?;
    let json = bytes.get(PREFIX..data_start).ok_or_else(|| format_error("the file ends within its header"))?;
    let json = std::str::from_utf8(json).map_err(|e| format_error("the header is not UTF-8").source(e))?;
    let header: Metadata = serde_json::from_str(json).map_err(|e| format_error("the header is damaged").source(e))?;
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(found) = header.info(&name) else { continue };
        let at = |e: Error| e.at(format!("tensor {name}"));
        let dtype = dtype_of(found.dtype).map_err(at)?;
        let (start, end) = found.data_offsets;
        let range = data_start
            .checked_add(start)
            .zip(data_start.checked_add(end))
            .ok_or_else(|| at(format_error("its bytes lie beyond what memory can address")))?;
        let info = TensorInfo { name, shape: found.shape.clone(), dtype };
        tensors.push(HeaderEntry { info, range: range.0..range.1 });
    }
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let file_len = tensors.last().map_or(data_start, |t| t.range.end);
    Ok(SafetensorsHeader { tensors, metadata, data_start, file_len })
}

/// Writes a safetensors file tensor by tensor, in the order announced, so that one tensor at a time is in memory.
///
/// ```
/// use samlora::weights::safetensors::{Writer, parse_header};
/// use samlora::weights::source::{Dtype, TensorInfo};
///
/// let bias = TensorInfo { name: "bias".into(), shape: vec![2], dtype: Dtype::F32 };
/// let mut writer = Writer::new(Vec::new(), std::slice::from_ref(&bias), &Default::default())?;
/// writer.tensor("bias", &[0; 8])?;
/// let file = writer.finish()?;
/// assert_eq!(parse_header(&file)?.tensors[0].info, bias);
/// # Ok::<(), samlora::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    /// Name and byte length of the tensors still to come, last first.
    pending: Vec<(String, usize)>,
}

impl<W: Write> Writer<W> {
    /// Writes the header for `tensors`, whose bytes will come in this order.
    ///
    /// # Errors
    /// As [`encode_header`]; [`ErrorKind::Io`] if writing fails.
    pub fn new(mut out: W, tensors: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Self> {
        out.write_all(&encode_header(tensors, metadata)?)?;
        let pending = tensors.iter().rev().map(|t| (t.name.clone(), t.byte_len().unwrap_or(usize::MAX))).collect();
        Ok(Self { out, pending })
    }

    /// Writes the bytes (little-endian, row-major) of the next tensor.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not this tensor's turn or the length differs, [`ErrorKind::Io`] if writing
    /// fails.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, message).at(format!("tensor {name}")));
        match self.pending.last() {
            Some((next, len)) if next == name && *len == bytes.len() => {}
            Some((next, len)) if next == name => {
                return invalid(format!("{} bytes given, expected {len}", bytes.len()));
            }
            Some((next, _)) => return invalid(format!("written out of order, expected {next}")),
            None => return invalid("all announced tensors are already written".into()),
        }
        self.out.write_all(bytes)?;
        self.pending.pop();
        Ok(())
    }

    /// Checks that every tensor has come, flushes, and gives back what was written to.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the first missing tensor, [`ErrorKind::Io`] if writing fails.
    pub fn finish(mut self) -> Result<W> {
        if let Some((name, _)) = self.pending.last() {
            return Err(Error::new(ErrorKind::Invalid, "announced but not written").at(format!("tensor {name}")));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Prefix and JSON for `tensors` in this order: the same bytes for the same input, a multiple of 8 long. (Tensors whose
/// length is not a multiple of 8 should come last if those after them are to be aligned.)
///
/// # Errors
/// [`ErrorKind::Invalid`] for a name that is empty, reserved (`__metadata__`) or used twice, [`ErrorKind::Limit`] if
/// sizes overflow or the header exceeds [`MAX_HEADER`].
pub fn encode_header(tensors: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut seen = BTreeSet::new();
    let mut fields = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        fields.push(format!("\"__metadata__\":{}", json(metadata)?));
    }
    let mut start = 0usize;
    for t in tensors {
        if t.name.is_empty() || t.name == "__metadata__" || !seen.insert(&t.name) {
            return Err(
                Error::new(ErrorKind::Invalid, "empty, reserved or repeated name").at(format!("tensor {}", t.name))
            );
        }
        let end = t.byte_len().and_then(|n| start.checked_add(n)).ok_or_else(|| {
            Error::new(ErrorKind::Limit, format!("shape {:?} is too large", t.shape)).at(format!("tensor {}", t.name))
        })?;
        let (name, dtype, shape) = (json(&t.name)?, json(&file_dtype(t.dtype))?, json(&t.shape)?);
        fields.push(format!("{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"));
        start = end;
    }
    let mut text = format!("{{{}}}", fields.join(","));
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    if text.len() > MAX_HEADER {
        return Err(Error::new(ErrorKind::Limit, format!("the header exceeds {MAX_HEADER} bytes")));
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    Ok(bytes)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Invalid, "cannot be written as JSON").source(e))
}

fn format_error(message: &str) -> Error {
    Error::new(ErrorKind::Format, message).remedy("the file is damaged or not safetensors; fetch it again")
}

fn dtype_of(dtype: FileDtype) -> Result<Dtype> {
    Ok(match dtype {
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::BF16,
        FileDtype::F64 => Dtype::F64,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U8 => Dtype::U8,
        FileDtype::I32 => Dtype::I32,
        FileDtype::I64 => Dtype::I64,
        FileDtype::BOOL => Dtype::Bool,
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("elements of type {other}"))
                .remedy("convert the checkpoint to f32, f16 or bf16"));
        }
    })
}

fn file_dtype(dtype: Dtype) -> FileDtype {
    match dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
        Dtype::BF16 => FileDtype::BF16,
        Dtype::F64 => FileDtype::F64,
        Dtype::I8 => FileDtype::I8,
        Dtype::U8 => FileDtype::U8,
        Dtype::I32 => FileDtype::I32,
        Dtype::I64 => FileDtype::I64,
        Dtype::Bool => FileDtype::BOOL,
    }
}
