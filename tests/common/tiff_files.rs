//! TIFF files of any kind, written by hand.
#![allow(dead_code)] // each test uses a part

use std::fs;
use std::path::{Path, PathBuf};

/// A little-endian TIFF of one directory: each entry is (tag, type, values), values as 32-bit numbers; `data` lies at
/// byte 8.
fn tiff(folder: &Path, name: &str, data: &[u8], entries: &[(u16, u16, &[u32])]) -> PathBuf {
    let mut out = b"II\x2a\0".to_vec();
    let directory = (8 + data.len() + 1) & !1;
    out.extend((directory as u32).to_le_bytes());
    out.extend(data);
    out.resize(directory, 0);
    out.extend((entries.len() as u16).to_le_bytes());
    let mut extra: Vec<u8> = Vec::new();
    let extra_at = directory + 2 + entries.len() * 12 + 4;
    for (tag, kind, values) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((values.len() as u32).to_le_bytes());
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|v| match kind {
                1 | 2 => v.to_le_bytes()[..1].to_vec(),
                3 => v.to_le_bytes()[..2].to_vec(),
                _ => v.to_le_bytes().to_vec(),
            })
            .collect();
        if bytes.len() <= 4 {
            out.extend(&bytes);
            out.resize(out.len() + 4 - bytes.len(), 0);
        } else {
            out.extend(((extra_at + extra.len()) as u32).to_le_bytes());
            extra.extend(&bytes);
        }
    }
    out.extend([0; 4]);
    out.extend(extra);
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(&path, out).expect("written");
    path
}

/// TIFF's tag StripByteCounts.
pub const BYTE_COUNT: u16 = 279;

/// The tags of an uncompressed TIFF of one strip.
pub fn one_strip(width: u32, height: u32, samples: u32, bits: u32, photometric: u32) -> Vec<(u16, u16, Vec<u32>)> {
    let bytes = (width * samples * bits).div_ceil(8) * height;
    vec![
        (256, 4, vec![width]),
        (257, 4, vec![height]),
        (258, 3, vec![bits; samples as usize]),
        (259, 3, vec![1]),
        (262, 3, vec![photometric]),
        (273, 4, vec![8]),
        (277, 3, vec![samples]),
        (278, 4, vec![height]),
        (BYTE_COUNT, 4, vec![bytes]),
    ]
}

/// Writes a TIFF of these tags.
pub fn write_tiff(folder: &Path, name: &str, data: &[u8], tags: &[(u16, u16, Vec<u32>)]) -> PathBuf {
    let mut tags: Vec<(u16, u16, &[u32])> = tags.iter().map(|(t, k, v)| (*t, *k, v.as_slice())).collect();
    tags.sort_by_key(|t| t.0);
    tiff(folder, name, data, &tags)
}

/// A page of a TIFF: its samples, and its tags, of which StripOffsets or TileOffsets count from the samples' start.
pub type Page<'a> = (&'a [u8], Vec<(u16, u16, Vec<u32>)>);

/// Writes a TIFF of several pages, by joining files of one.
pub fn write_pages(folder: &Path, name: &str, pages: &[Page<'_>]) -> PathBuf {
    let mut out: Vec<u8> = Vec::new();
    let mut link = 4;
    for (data, tags) in pages {
        // A file of its own begins with 8 bytes; all of its offsets move by what stands before.
        let base = out.len().next_multiple_of(2);
        let mut tags = tags.clone();
        for (_, _, offsets) in tags.iter_mut().filter(|t| t.0 == 273 || t.0 == 324) {
            offsets.iter_mut().for_each(|o| *o += base as u32 + 8);
        }
        let one = fs::read(write_tiff(folder, name, data, &tags)).expect("read");
        let number = |at: usize| u32::from_le_bytes([one[at], one[at + 1], one[at + 2], one[at + 3]]);
        let directory = number(4) as usize;
        let count = usize::from(u16::from_le_bytes([one[directory], one[directory + 1]]));
        let mut moved = one.clone();
        for entry in (0..count).map(|i| directory + 2 + 12 * i) {
            let size = match u16::from_le_bytes([one[entry + 2], one[entry + 3]]) {
                1 | 2 => 1,
                3 => 2,
                _ => 4,
            };
            if size * number(entry + 4) > 4 {
                moved[entry + 8..entry + 12].copy_from_slice(&(number(entry + 8) + base as u32).to_le_bytes());
            }
        }
        out.resize(base, 0);
        out.extend(moved);
        out[link..link + 4].copy_from_slice(&((base + directory) as u32).to_le_bytes());
        link = base + directory + 2 + 12 * count;
    }
    let path = folder.join(name);
    fs::write(&path, out).expect("written");
    path
}
