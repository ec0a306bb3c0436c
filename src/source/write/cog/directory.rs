//! Directories of a TIFF, of either kind: 32-bit offsets, or 64-bit ones (BigTIFF). Little-endian.

/// What GDAL's reader takes from a file's layout: directories first, tiles in rows, each between its length and its last four bytes
/// again, so that one request gets a tile and its length. (GDAL's COG driver, "Header ghost area".)
pub(super) const HEADER: &str = concat!(
    "GDAL_STRUCTURAL_METADATA_SIZE=000140 bytes\n",
    "LAYOUT=IFDS_BEFORE_DATA\n",
    "BLOCK_ORDER=ROW_MAJOR\n",
    "BLOCK_LEADER=SIZE_AS_UINT4\n",
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n",
    "KNOWN_INCOMPATIBLE_EDITION=NO\n ",
);

/// A tag and its values.
pub(super) struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    bytes: Vec<u8>,
}

impl Entry {
    pub fn short(tag: u16, values: &[u16]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { tag, kind: 3, count: values.len() as u64, bytes }
    }

    pub fn long(tag: u16, values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { tag, kind: 4, count: values.len() as u64, bytes }
    }

    pub fn double(tag: u16, values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { tag, kind: 12, count: values.len() as u64, bytes }
    }

    pub fn ascii(tag: u16, text: &str) -> Self {
        let bytes = [text.as_bytes(), &[0]].concat();
        Self { tag, kind: 2, count: bytes.len() as u64, bytes }
    }

    /// Places in the file.
    pub fn offsets(tag: u16, values: &[u64], layout: Layout) -> Self {
        let bytes = values.iter().flat_map(|&v| layout.offset(v)).collect();
        Self { tag, kind: if layout.big { 16 } else { 4 }, count: values.len() as u64, bytes }
    }
}

/// The kind of TIFF.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub big: bool,
}

impl Layout {
    /// A place in the file, or a count of values, at its length.
    fn offset(self, at: u64) -> Vec<u8> {
        // What needs 64 bits is written so.
        if self.big { at.to_le_bytes().to_vec() } else { (at as u32).to_le_bytes().to_vec() }
    }

    pub fn header_bytes(self) -> u64 {
        if self.big { 16 } else { 8 }
    }

    /// The file's first bytes; its first directory lies at `first`.
    pub fn header(self, first: u64) -> Vec<u8> {
        let mut out = b"II".to_vec();
        if self.big {
            out.extend([43, 0, 8, 0, 0, 0]);
        } else {
            out.extend([42, 0]);
        }
        out.extend(self.offset(first));
        out
    }

    /// A directory that lies at `at`, with the values that do not fit into it behind it; a multiple of 8 bytes.
    pub fn directory(self, entries: &[Entry], at: u64, next: u64) -> Vec<u8> {
        let inline = if self.big { 8 } else { 4 };
        let mut out = if self.big {
            (entries.len() as u64).to_le_bytes().to_vec()
        } else {
            (entries.len() as u16).to_le_bytes().to_vec()
        };
        let length = out.len() + entries.len() * (4 + 2 * inline) + inline;
        let mut values = Vec::new();
        for entry in entries {
            out.extend(entry.tag.to_le_bytes());
            out.extend(entry.kind.to_le_bytes());
            out.extend(self.offset(entry.count));
            if entry.bytes.len() <= inline {
                let mut bytes = entry.bytes.clone();
                bytes.resize(inline, 0);
                out.extend(bytes);
            } else {
                // At even places, as the format wants.
                values.resize((at as usize + length + values.len()).next_multiple_of(8) - at as usize - length, 0);
                out.extend(self.offset(at + (length + values.len()) as u64));
                values.extend(&entry.bytes);
            }
        }
        out.extend(self.offset(next));
        out.extend(values);
        out.resize((at as usize + out.len()).next_multiple_of(8) - at as usize, 0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ghost_says_its_own_length() {
        let (line, rest) = HEADER.split_once('\n').expect("lines");
        assert!(line.contains(&format!("={:06} ", rest.len())), "{} bytes", rest.len());
    }
}
