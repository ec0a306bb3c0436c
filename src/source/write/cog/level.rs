//! The image and its reduced copies: rows to tiles, and rows to the rows of the next smaller copy.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Result, Seek, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::{Kind, TILE};

/// One level. Its tiles lie compressed in a temporary file.
pub(super) struct Level {
    pub width: usize,
    pub height: usize,
    kind: Kind,
    /// Rows that are not in a tile yet.
    strip: Vec<u8>,
    /// A row that waits for its pair.
    waiting: Option<Vec<u8>>,
    spool: BufWriter<File>,
    /// Compressed bytes of each tile, row by row; 0 for tiles that are left out.
    pub sizes: Vec<u32>,
}

impl Level {
    pub fn new(width: usize, height: usize, kind: Kind) -> Result<Self> {
        let spool = BufWriter::new(tempfile::tempfile()?);
        Ok(Self { width, height, kind, strip: Vec::new(), waiting: None, spool, sizes: Vec::new() })
    }

    /// Bytes in the file, with what stands around each tile, and room for its place and length.
    pub fn bytes(&self) -> u64 {
        self.sizes.iter().map(|&size| u64::from(size) + 8 + 12).sum()
    }

    /// Compresses the rows in hand as one row of tiles.
    fn tiles(&mut self) -> Result<()> {
        let no_data = self.kind.no_data();
        for left in (0..self.width).step_by(TILE) {
            let right = (left + TILE).min(self.width);
            let mut tile = vec![no_data; TILE * TILE];
            for (line, row) in tile.chunks_exact_mut(TILE).zip(self.strip.chunks_exact(self.width)) {
                line[..right - left].copy_from_slice(&row[left..right]);
            }
            if tile.iter().all(|&v| v == no_data) {
                self.sizes.push(0);
                continue;
            }
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&tile)?;
            let bytes = encoder.finish()?;
            self.spool.write_all(&bytes)?;
            self.sizes.push(bytes.len() as u32);
        }
        self.strip.clear();
        Ok(())
    }

    /// Copies the tiles, each between its length and its last four bytes.
    pub fn copy_to(&mut self, out: &mut impl Write) -> Result<()> {
        self.spool.flush()?;
        let mut spool = BufReader::new(self.spool.get_ref());
        spool.rewind()?;
        let mut bytes = Vec::new();
        for &size in self.sizes.iter().filter(|size| **size > 0) {
            bytes.resize(size as usize, 0);
            spool.read_exact(&mut bytes)?;
            out.write_all(&size.to_le_bytes())?;
            out.write_all(&bytes)?;
            out.write_all(&bytes[bytes.len() - 4..])?;
        }
        Ok(())
    }

    /// Two rows, or the last one alone, at half their width.
    fn reduced(&self, above: &[u8], below: Option<&[u8]>) -> Vec<u8> {
        let no_data = self.kind.no_data();
        let pairs = above.chunks(2).enumerate();
        pairs
            .map(|(i, pair)| {
                let mut with = [no_data; 4];
                let beneath = below.map_or(&[][..], |row| &row[2 * i..2 * i + pair.len()]);
                let mut count = 0;
                for &value in pair.iter().chain(beneath).filter(|v| **v != no_data) {
                    with[count] = value;
                    count += 1;
                }
                let values = &with[..count];
                match self.kind {
                    _ if count == 0 => no_data,
                    // The first of those that are there most often.
                    Kind::Classes => {
                        let times = |value: u8| values.iter().filter(|v| **v == value).count();
                        values.iter().copied().rev().max_by_key(|&v| times(v)).unwrap_or(no_data)
                    }
                    Kind::Confidence => {
                        let sum: usize = values.iter().map(|&v| usize::from(v)).sum();
                        ((sum + count / 2) / count) as u8
                    }
                }
            })
            .collect()
    }
}

/// Takes a row of the first level; the others take theirs from it.
pub(super) fn push(levels: &mut [Level], row: &[u8]) -> Result<()> {
    let Some((level, smaller)) = levels.split_first_mut() else { return Ok(()) };
    level.strip.extend_from_slice(row);
    if level.strip.len() == TILE * level.width {
        level.tiles()?;
    }
    if smaller.is_empty() {
        return Ok(());
    }
    match level.waiting.take() {
        Some(above) => push(smaller, &level.reduced(&above, Some(row))),
        None => {
            level.waiting = Some(row.to_vec());
            Ok(())
        }
    }
}

/// After the last row: what is in hand goes into tiles.
pub(super) fn end(levels: &mut [Level]) -> Result<()> {
    let Some((level, smaller)) = levels.split_first_mut() else { return Ok(()) };
    if let Some(last) = level.waiting.take() {
        push(smaller, &level.reduced(&last, None))?;
    }
    if !level.strip.is_empty() {
        level.tiles()?;
    }
    end(smaller)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::NO_DATA;

    #[test]
    fn most_frequent_class_and_mean_confidence() {
        let n = NO_DATA;
        let classes = Level::new(5, 2, Kind::Classes).expect("a level");
        assert_eq!(classes.reduced(&[1, 2, 3, n, n], Some(&[2, 0, n, 4, n])), [2, 3, n]);
        assert_eq!(classes.reduced(&[0, 1, n, 7, 9], None), [0, 7, 9]);
        let confidence = Level::new(4, 2, Kind::Confidence).expect("a level");
        assert_eq!(confidence.reduced(&[10, 20, 0, 0], Some(&[31, 0, 0, 0])), [20, 0]);
    }
}
