//! A file with two bytes changed while it is read.
//!
//! The TIFF decoder drops extra bands before it undoes the horizontal predictor, which garbles them, and refuses colour
//! maps and unusual numbers of bands. Told that the samples are plain (BlackIsZero), it hands out all bands as they are
//! stored, and [`super::geotiff`] makes colours of them by the real photometric interpretation.

use std::io::{self, Read, Seek, SeekFrom};

/// TIFF's PhotometricInterpretation, and its value BlackIsZero.
const PHOTOMETRIC: u16 = 262;
const BLACK_IS_ZERO: u16 = 1;
/// TIFF's field type SHORT.
const SHORT: u16 = 3;

/// A TIFF whose first image claims to be BlackIsZero.
pub(super) struct PlainSamples<R> {
    inner: R,
    position: u64,
    /// Where the two bytes of the value are, and what they shall be.
    patch: Option<(u64, [u8; 2])>,
}

impl<R: Read + Seek> PlainSamples<R> {
    /// Looks for the first image's photometric interpretation; gives it beside the reader, if the file says it.
    pub(super) fn new(mut inner: R) -> io::Result<(Self, Option<u16>)> {
        let mut head = [0; 16];
        inner.seek(SeekFrom::Start(0))?;
        inner.read_exact(&mut head[..8])?;
        let big_endian = head[0] == b'M';
        let number = |bytes: &[u8]| {
            let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
            if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
        };
        let big_tiff = number(&head[2..4]) == 43;
        let directory = if big_tiff {
            inner.read_exact(&mut head[8..])?;
            number(&head[8..16])
        } else {
            number(&head[4..8])
        };
        let (count_size, entry_size, value_at) = if big_tiff { (8, 20, 12) } else { (2, 12, 8) };
        inner.seek(SeekFrom::Start(directory))?;
        let mut bytes = [0; 20];
        inner.read_exact(&mut bytes[..count_size])?;
        let entries = number(&bytes[..count_size]).min(u64::from(u16::MAX));
        let mut found = None;
        for entry in 0..entries {
            inner.read_exact(&mut bytes[..entry_size])?;
            if number(&bytes[..2]) == u64::from(PHOTOMETRIC) && number(&bytes[2..4]) == u64::from(SHORT) {
                let at = directory + count_size as u64 + entry * entry_size as u64 + value_at as u64;
                found = Some((at, number(&bytes[value_at..value_at + 2]) as u16));
                break;
            }
        }
        inner.seek(SeekFrom::Start(0))?;
        let value = if big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
        Ok((Self { inner, position: 0, patch: found.map(|(at, _)| (at, value)) }, found.map(|(_, value)| value)))
    }
}

impl<R: Read> Read for PlainSamples<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some((at, value)) = self.patch {
            for (i, byte) in value.into_iter().enumerate() {
                let place = (at + i as u64).checked_sub(self.position).and_then(|p| usize::try_from(p).ok());
                if let Some(slot) = place.filter(|&p| p < count).and_then(|p| buffer.get_mut(p)) {
                    *slot = byte;
                }
            }
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for PlainSamples<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.inner.seek(to)?;
        Ok(self.position)
    }
}
