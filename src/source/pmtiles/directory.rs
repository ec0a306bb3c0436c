//! Directories of a PMTiles archive: which tiles lie where.

use std::io::Read;

use ::pmtiles::{Compression, MAX_TILE_ID};
use flate2::read::MultiGzDecoder;

use crate::error::{Error, ErrorKind, Result};

/// The most bytes of one directory as it is stored, and unpacked: writers make leaves of some ten thousand entries.
pub(super) const MAX_PACKED: u64 = 16 << 20;
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Tiles of one content that follow each other, or, with a run of 0, a directory of the tiles from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) run: u32,
}

/// Entries in the order of their tiles.
pub(super) struct Directory(Vec<Entry>);

pub(super) fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("the archive is damaged: {what}")).remedy("fetch or export it again")
}

/// The plain bytes of a part, of at most `limit`.
///
/// # Errors
/// [`ErrorKind::Limit`] beyond, [`ErrorKind::Format`] for damaged ones.
pub(super) fn unpack(bytes: Vec<u8>, compression: Compression, limit: u64) -> Result<Vec<u8>> {
    if compression == Compression::None {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(bytes.as_slice()).take(limit + 1).read_to_end(&mut plain);
    read.map_err(|e| damaged("a part cannot be decompressed").source(e))?;
    if plain.len() as u64 > limit {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a part of {} bytes unpacks to more than {limit}", bytes.len()),
        )
        .remedy("no writer makes such an archive; fetch it again from somebody you trust"));
    }
    Ok(plain)
}

impl Directory {
    /// Reads a directory: the number of entries, then all firsts, all runs, all lengths and all offsets, as varints.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is cut off, out of order, or names tiles beyond the pyramid.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut left = bytes;
        let count = varint(&mut left)?;
        // Each entry takes at least a byte of each of its four fields.
        if count > (left.len() / 4) as u64 {
            return Err(damaged("a directory of more entries than it has bytes for"));
        }
        let mut entries = vec![Entry { first: 0, offset: 0, length: 0, run: 0 }; count as usize];
        let mut last = 0u64;
        for (i, entry) in entries.iter_mut().enumerate() {
            let step = varint(&mut left)?;
            if i > 0 && step == 0 {
                return Err(damaged("a tile that is listed twice"));
            }
            last = last
                .checked_add(step)
                .filter(|id| *id <= MAX_TILE_ID)
                .ok_or_else(|| damaged("a tile beyond the pyramid"))?;
            entry.first = last;
        }
        let narrow = |value: u64| u32::try_from(value).map_err(|_| damaged("an entry that is too long"));
        for entry in &mut entries {
            entry.run = narrow(varint(&mut left)?)?;
            if entry.first + u64::from(entry.run.saturating_sub(1)) > MAX_TILE_ID {
                return Err(damaged("a tile beyond the pyramid"));
            }
        }
        for entry in &mut entries {
            entry.length = narrow(varint(&mut left)?)?;
            if entry.length == 0 {
                return Err(damaged("an entry without bytes"));
            }
        }
        let mut end = None;
        for entry in &mut entries {
            // 0 is the end of the entry before.
            entry.offset = match (varint(&mut left)?, end) {
                (0, Some(end)) => end,
                (0, None) => return Err(damaged("an entry without an offset")),
                (value, _) => value - 1,
            };
            end = entry.offset.checked_add(u64::from(entry.length));
        }
        let overlap = entries.windows(2).any(|pair| pair[0].first + u64::from(pair[0].run) > pair[1].first);
        if overlap { Err(damaged("a tile that is listed twice")) } else { Ok(Self(entries)) }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entry that holds a tile, or the directory that would; none where there is a gap.
    pub(super) fn find(&self, id: u64) -> Option<Entry> {
        let after = self.0.partition_point(|entry| entry.first <= id);
        let entry = *self.0.get(after.checked_sub(1)?)?;
        (entry.run == 0 || id - entry.first < u64::from(entry.run)).then_some(entry)
    }
}

/// A number of up to 64 bits, seven a byte, the lowest first.
fn varint(left: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = left.split_first() else { return Err(damaged("a directory is cut off")) };
        *left = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            break;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number that is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_directories_say() {
        // Two tiles of one content from 5 on, one at 9 behind it, a directory from 20 on.
        let bytes = [3, 5, 4, 11, 2, 1, 0, 7, 8, 9, 1, 0, 101];
        let directory = Directory::parse(&bytes).expect("a directory");
        let entry = |first, offset, length, run| Some(Entry { first, offset, length, run });
        assert_eq!(directory.find(4), None);
        assert_eq!(directory.find(5), entry(5, 0, 7, 2));
        assert_eq!(directory.find(6), entry(5, 0, 7, 2));
        assert_eq!(directory.find(7), None);
        assert_eq!(directory.find(9), entry(9, 7, 8, 1));
        assert_eq!(directory.find(19), None);
        assert_eq!(directory.find(1000), entry(20, 100, 9, 0));
        let huge = [0xff; 9].into_iter().chain([1]).collect::<Vec<u8>>();
        for (what, bytes) in [
            ("nothing", vec![]),
            ("cut off", bytes[..12].to_vec()),
            ("more entries than bytes", vec![200, 1, 0, 0]),
            ("twice", vec![2, 5, 0, 1, 1, 1, 1, 1, 1]),
            ("a run over the next", vec![2, 5, 1, 2, 1, 1, 1, 1, 1]),
            ("no length", vec![1, 0, 1, 0, 1]),
            ("no offset", vec![1, 0, 1, 1, 0]),
            ("beyond the pyramid", [&[1][..], &huge, &[1, 1, 1]].concat()),
            ("a number of 70 bits", vec![0xff; 12]),
        ] {
            assert!(Directory::parse(&bytes).is_err(), "{what}");
        }
    }
}
