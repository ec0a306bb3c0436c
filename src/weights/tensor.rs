//! Named tensors of a checkpoint, read one after another: what all formats have in common.
//!
//! A reader holds only the checkpoint's table of contents; [`TensorSource::read_f32`] fetches one tensor's bytes from
//! the file, so that a ViT-H checkpoint (2.6 GB) streams through the memory of its largest tensor.

use std::fmt;

use half::{bf16, f16};

use crate::error::{Error, ErrorKind, Result};

/// The type of a stored element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary64.
    F64,
    /// Signed byte.
    I8,
    /// Unsigned byte.
    U8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// One byte: 0 is false, anything else is true.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
        })
    }
}

/// A tensor's entry in the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its shape, outermost axis first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type its elements are stored as.
    pub dtype: Dtype,
}

impl TensorInfo {
    /// Number of elements; `None` where the product does not fit `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side))
    }

    /// Bytes of all elements; `None` where that does not fit `usize`.
    pub fn byte_len(&self) -> Option<usize> {
        self.elements()?.checked_mul(self.dtype.size())
    }
}

/// What a file holds beside the tensors that are read: a number, text, another state dict, an optimiser's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its place in the file, keys joined by dots.
    pub name: String,
    /// What it is, in words.
    pub what: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.what)
    }
}

/// A checkpoint whose tensors are read one at a time.
pub trait TensorSource {
    /// Every tensor, sorted by name; names are unique.
    fn tensors(&self) -> &[TensorInfo];

    /// What the file holds beside them.
    fn passed_over(&self) -> &[PassedOver] {
        &[]
    }

    /// The elements of the tensor `name`, row-major, converted to `f32` (booleans to 0 and 1).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such tensor, [`ErrorKind::Format`] naming tensor and index of an element
    /// that is not finite (or not as an `f32`), [`ErrorKind::Io`] if the file cannot be read. They name the tensor; the
    /// caller adds the file.
    fn read_f32(&self, name: &str) -> Result<Vec<f32>>;

    /// SHA-256 of the file, 64 lower-case hexadecimal digits; of several shards, of their bytes one after another in
    /// the order of their file names. Reads the whole checkpoint, a block at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read.
    fn hash(&self) -> Result<String>;

    /// The entry of the tensor `name`, if there is one.
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        let tensors = self.tensors();
        tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().and_then(|i| tensors.get(i))
    }
}

/// Converts stored elements of the tensor `name` to `f32`.
///
/// # Errors
/// [`ErrorKind::Format`] naming the tensor and the index (row-major, from 0) of the first element that is not finite.
pub fn to_f32(name: &str, dtype: Dtype, bytes: &[u8], big_endian: bool) -> Result<Vec<f32>> {
    /// `bytes` in steps of `N`, each in little-endian order given to `read`.
    fn each<const N: usize>(bytes: &[u8], big_endian: bool, read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (steps, _) = bytes.as_chunks::<N>();
        let convert = |&(mut step): &[u8; N]| {
            if big_endian {
                step.reverse();
            }
            read(step)
        };
        steps.iter().map(convert).collect()
    }
    let values = match dtype {
        Dtype::F32 => each(bytes, big_endian, f32::from_le_bytes),
        Dtype::F16 => each(bytes, big_endian, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, big_endian, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => each(bytes, big_endian, |b| f64::from_le_bytes(b) as f32),
        Dtype::I8 => each(bytes, big_endian, |b| f32::from(i8::from_le_bytes(b))),
        Dtype::U8 => each(bytes, big_endian, |[b]| f32::from(b)),
        Dtype::I32 => each(bytes, big_endian, |b| i32::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, big_endian, |b| i64::from_le_bytes(b) as f32),
        Dtype::Bool => each(bytes, big_endian, |[b]| f32::from(u8::from(b != 0))),
    };
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            Err(Error::new(ErrorKind::Format, format!("element {i} is {}, which is not a finite f32", values[i]))
                .at(format!("tensor {name}"))
                .remedy("the checkpoint is damaged or its training diverged; use another one"))
        }
    }
}

/// The error of a tensor that a checkpoint does not have.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn no_tensor(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such tensor").at(format!("tensor {name}"))
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
