//! What a file or folder of imagery is known by, so that a job is not gone on with over other imagery.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How many parts of a file are read, spread evenly from its first byte to its last, and their bytes.
const PARTS: u64 = 64;
const PART_BYTES: u64 = 1 << 16;

/// SHA-256, in hexadecimal digits, over the length of a file and 64 parts of 64 KiB spread over it (files of up to 4 MiB: all bytes); of
/// a folder, over the names and lengths of all files below it. Neither depends on the name of the file or folder itself, nor on
/// times, so that copies on several machines are the same.
///
/// # Errors
/// Those of reading, with the place.
pub fn fingerprint(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    if path.is_dir() {
        let mut names = Vec::new();
        list(path, "", &mut names)?;
        names.sort();
        for (name, length) in names {
            hash.update(format!("{name}\0{length}\n"));
        }
    } else {
        sample(path, &mut hash).map_err(|e| Error::from(e).at(path.display()))?;
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn list(folder: &Path, before: &str, names: &mut Vec<(String, u64)>) -> Result<()> {
    let place = |e: std::io::Error| Error::from(e).at(folder.display());
    for entry in fs::read_dir(folder).map_err(place)? {
        let entry = entry.map_err(place)?;
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        let data = fs::metadata(entry.path()).map_err(|e| Error::from(e).at(entry.path().display()))?;
        if data.is_dir() {
            list(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.push((name, data.len()));
        }
    }
    Ok(())
}

fn sample(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    let mut part = Vec::new();
    let last = length.saturating_sub(PART_BYTES);
    for i in 0..PARTS {
        let at =
            if length <= PARTS * PART_BYTES { i * PART_BYTES } else { (u128::from(last) * u128::from(i) / 63) as u64 };
        if at >= length {
            break;
        }
        file.seek(SeekFrom::Start(at))?;
        part.clear();
        (&mut file).take(PART_BYTES).read_to_end(&mut part)?;
        hash.update(&part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_bytes_are_another_file_whatever_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            fs::create_dir_all(folder.path().join(name).parent().expect("a parent")).expect("a folder");
            fs::write(folder.path().join(name), bytes).expect("written");
            fingerprint(&folder.path().join(name)).expect("read")
        };
        let mut bytes: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let first = put("a.tif", &bytes);
        assert_eq!(put("b.tif", &bytes), first);
        for at in [0, bytes.len() - 1, bytes.len() / 63 + 100] {
            bytes[at] ^= 1;
            assert_ne!(put("b.tif", &bytes), first, "byte {at}");
            bytes[at] ^= 1;
        }
        bytes.push(0);
        assert_ne!(put("b.tif", &bytes), first);
        let (tiles, other) = (folder.path().join("tiles"), folder.path().join("other"));
        for name in ["tiles/1/2.png", "tiles/1/3.png", "other/1/3.png", "other/1/2.png"] {
            put(name, b"x");
        }
        assert_eq!(fingerprint(&tiles).expect("read"), fingerprint(&other).expect("read"));
        put("other/1/4.png", b"x");
        assert_ne!(fingerprint(&tiles).expect("read"), fingerprint(&other).expect("read"));
        let error = fingerprint(&folder.path().join("none")).expect_err("missing").to_string();
        assert!(error.contains("none"), "{error}");
    }
}
