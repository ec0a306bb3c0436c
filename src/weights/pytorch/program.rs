//! The bytes of a pickle, read front to back.

use super::classes::damaged;
use crate::error::Result;

/// A pickle, and how far it is read.
#[derive(Default)]
pub struct Program<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Program<'a> {
    /// At the pickle's start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let bytes: &'a [u8] = self.bytes;
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| bytes.get(self.at..end)).ok_or_else(|| damaged("the pickle ends too early"))?;
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| damaged("the pickle ends too early"))
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// An unsigned number of `N` bytes, 8 at most.
    pub fn length<const N: usize>(&mut self) -> Result<usize> {
        let value = self.array::<N>()?.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        usize::try_from(value).map_err(|_| damaged("a length beyond memory"))
    }

    /// The text up to the next line feed.
    pub fn line(&mut self) -> Result<&'a str> {
        let rest: &'a [u8] = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("a line that does not end"))?;
        let line = self.take(len + 1)?;
        std::str::from_utf8(line.get(..len).unwrap_or_default()).map_err(|_| damaged("text that is not UTF-8"))
    }
}
