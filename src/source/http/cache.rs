//! Answers of servers in a folder on the disk, up to so many bytes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::source::write::atomic;

/// How an entry begins: name and version. The CRC-32 of the content follows, then the content.
const MAGIC: &[u8; 8] = b"SLtile01";
/// Which share of the most bytes is left once old entries are removed.
const LEFT: f64 = 0.9;

/// A folder of answers, named by the SHA-256 of what was asked.
pub(super) struct Cache {
    folder: PathBuf,
    most: u64,
    /// Bytes in the folder, as far as this program knows.
    bytes: Mutex<u64>,
}

impl Cache {
    /// Opens a folder, made if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if that fails.
    pub(super) fn open(folder: &Path, most: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| {
            Error::new(ErrorKind::Io, "the cache's folder cannot be made").at(folder.display()).source(e)
        })?;
        let bytes = entries(folder).iter().map(|e| e.2).sum();
        Ok(Self { folder: folder.to_owned(), most, bytes: Mutex::new(bytes) })
    }

    fn path(&self, key: &str) -> PathBuf {
        let hash: String = Sha256::digest(key.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        self.folder.join(&hash[..2]).join(format!("{}.tile", &hash[2..]))
    }

    /// What was kept for a key; none if nothing was or it is damaged.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(key)).ok()?;
        let (sum, content) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        (crc32fast::hash(content) == u32::from_le_bytes(*sum)).then(|| content.to_vec())
    }

    /// Keeps the answer to a key, and removes those used longest ago if they become too many.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written.
    pub(super) fn put(&self, key: &str, content: &[u8]) -> Result<()> {
        let path = self.path(key);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if content.len() as u64 > self.most {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::from(e).at(folder.display()))?;
        }
        atomic(&path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&crc32fast::hash(content).to_le_bytes())?;
            Ok(file.write_all(content)?)
        })?;
        *bytes += content.len() as u64 + 12;
        if *bytes > self.most {
            *bytes = self.shrink(&path);
        }
        Ok(())
    }

    /// Removes the oldest entries but one; gives the bytes that are left.
    fn shrink(&self, but: &Path) -> u64 {
        let mut all = entries(&self.folder);
        all.sort();
        let mut bytes: u64 = all.iter().map(|e| e.2).sum();
        for (_, path, size) in all {
            if bytes as f64 <= self.most as f64 * LEFT {
                break;
            }
            // Another program may have removed it; what cannot be removed still counts.
            if path != but && fs::remove_file(&path).is_ok() {
                bytes -= size;
            }
        }
        bytes
    }
}

/// Time, path and bytes of all entries.
fn entries(folder: &Path) -> Vec<(SystemTime, PathBuf, u64)> {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.filter_map(|f| fs::read_dir(f.path()).ok()).flatten().flatten();
    let entry = |file: fs::DirEntry| {
        let meta = file.metadata().ok().filter(|m| m.is_file())?;
        let path = file.path();
        let time = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        (path.extension()? == "tile").then_some((time, path, meta.len()))
    };
    files.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_whole_and_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), 1000).expect("a cache");
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"one").expect("kept");
        assert_eq!(cache.get("a").as_deref(), Some(&b"one"[..]));
        let path = cache.path("a");
        let mut bytes = fs::read(&path).expect("there");
        *bytes.last_mut().expect("some") ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_eq!(cache.get("a"), None);
        for i in 0..20 {
            cache.put(&i.to_string(), &[i; 100]).expect("kept");
        }
        let kept: u64 = entries(folder.path()).iter().map(|e| e.2).sum();
        assert!(kept <= 1000, "{kept}");
        assert_eq!(cache.get("19"), Some(vec![19; 100]));
        cache.put("huge", &[0; 2000]).expect("passed over");
        assert_eq!(cache.get("huge"), None);
    }
}
