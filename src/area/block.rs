//! A finished block in a file: classes and confidences, compressed and checksummed, in stripes of rows that are read one by one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use crate::error::{Error, ErrorKind, Result};
use crate::source::Window;

const MAGIC: &[u8; 8] = b"SLBLOCK1";
/// Rows of a stripe: reading a row of blocks takes the memory of one stripe of each.
pub(super) const STRIPE: usize = 128;
/// Masks shrink to a hundredth at any level; this is the fastest.
const LEVEL: i32 = 1;
/// Bytes before the table of stripes: magic, hash of the plan, the block's part of the raster.
const FIXED: usize = 8 + 32 + 4 * 8;

/// Writes a block: `classes` and `confidence` of the pixels of `part`, row by row.
///
/// Layout, little-endian: magic, SHA-256 of the plan, x, y, width, height (64 bits each), then for each stripe of 128 rows length and
/// CRC-32 (32 bits each), CRC-32 of all that, then the stripes: Zstandard of its classes and then its confidences.
///
/// # Errors
/// [`ErrorKind::Io`] if writing or compressing fails.
pub(super) fn write(
    out: &mut impl Write,
    plan: &[u8; 32],
    part: Window,
    classes: &[u8],
    confidence: &[u8],
) -> Result<()> {
    let mut head = Vec::from(MAGIC);
    head.extend(plan);
    for number in [part.x, part.y, part.width, part.height] {
        head.extend((number as u64).to_le_bytes());
    }
    let mut stripes = Vec::new();
    let pixels = STRIPE * part.width;
    for (classes, confidence) in classes.chunks(pixels).zip(confidence.chunks(pixels)) {
        let stripe = zstd::bulk::compress(&[classes, confidence].concat(), LEVEL)?;
        head.extend((stripe.len() as u32).to_le_bytes());
        head.extend(crc32fast::hash(&stripe).to_le_bytes());
        stripes.extend(stripe);
    }
    let sum = crc32fast::hash(&head);
    out.write_all(&head)?;
    out.write_all(&sum.to_le_bytes())?;
    out.write_all(&stripes)?;
    Ok(())
}

/// An open block.
pub(super) struct BlockFile {
    file: File,
    part: Window,
    /// For each stripe: where it begins, its length, its checksum.
    stripes: Vec<(u64, usize, u32)>,
}

impl BlockFile {
    /// Opens a block of a plan that must be `part` of the raster, and reads its table.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] or [`ErrorKind::Integrity`] if it is no such block, or not all of it is there.
    pub(super) fn open(mut file: File, plan: &[u8; 32], part: Window) -> Result<Self> {
        let count = part.height.div_ceil(STRIPE);
        let mut head = vec![0; FIXED + 8 * count + 4];
        file.read_exact(&mut head).map_err(|_| damaged("is cut off"))?;
        let (head, sum) = head.split_at(FIXED + 8 * count);
        if !head.starts_with(MAGIC) {
            return Err(damaged("is no block of a job"));
        }
        if head[8..40] != plan[..] {
            return Err(Error::new(ErrorKind::Invalid, "is a block of another plan")
                .remedy("keep the blocks of one job in a folder of their own"));
        }
        let number = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        let place = [part.x, part.y, part.width, part.height].map(|n| n as u64);
        if sum != crc32fast::hash(head).to_le_bytes() || [40, 48, 56, 64].map(long) != place {
            return Err(damaged("is damaged"));
        }
        let mut at = (head.len() + 4) as u64;
        let mut stripes = Vec::with_capacity(count);
        for i in 0..count {
            let (length, sum) = (number(FIXED + 8 * i) as usize, number(FIXED + 8 * i + 4));
            stripes.push((at, length, sum));
            at += length as u64;
        }
        let length = file.metadata().map_err(Error::from)?.len();
        if length != at {
            return Err(damaged(&format!("is {length} bytes long and should be {at}")));
        }
        Ok(Self { file, part, stripes })
    }

    fn compressed(&mut self, stripe: usize) -> Result<Vec<u8>> {
        let (at, length, sum) = self.stripes.get(stripe).copied().unwrap_or((0, 0, 1));
        self.file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        // Of a file that shrinks meanwhile no more is allocated than is there.
        (&mut self.file).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() != length || crc32fast::hash(&bytes) != sum {
            return Err(damaged("is damaged"));
        }
        Ok(bytes)
    }

    /// Reads all of it and compares checksums.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if one differs.
    pub(super) fn verify(&mut self) -> Result<()> {
        (0..self.stripes.len()).try_for_each(|stripe| self.compressed(stripe).map(|_| ()))
    }

    /// Classes and then confidences of a stripe's rows.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] if it is damaged.
    pub(super) fn stripe(&mut self, stripe: usize) -> Result<Vec<u8>> {
        let rows = STRIPE.min(self.part.height.saturating_sub(stripe * STRIPE));
        let wanted = 2 * rows * self.part.width;
        let found = zstd::bulk::decompress(&self.compressed(stripe)?, wanted);
        found.ok().filter(|bytes| bytes.len() == wanted).ok_or_else(|| damaged("is damaged"))
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Integrity, what)
        .remedy("remove this file and run the job again, which computes the block anew")
}
