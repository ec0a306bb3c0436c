//! A checkpoint's file, read in pieces.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::tensor::hex;
use crate::error::{Error, ErrorKind, Result};

/// A file that is read in pieces from any thread.
///
/// Reads rather than a memory map: mapped pages count as the process's memory, and a file that is cut short while
/// it is mapped kills the process.
#[derive(Debug)]
pub struct FileReader {
    path: PathBuf,
    file: Mutex<File>,
    len: u64,
}

impl FileReader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Io`] naming the file; [`ErrorKind::Invalid`] for a folder.
    pub fn open(path: &Path) -> Result<Self> {
        let place = |e: std::io::Error| Error::from(e).at(path.display());
        let file = File::open(path).map_err(place)?;
        let meta = file.metadata().map_err(place)?;
        if meta.is_dir() {
            return Err(Error::new(ErrorKind::Invalid, "this is a folder, not a file").at(path.display()));
        }
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), len: meta.len() })
    }

    /// The file's path as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file had no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `start` on.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the file ends before, [`ErrorKind::Io`] if it cannot be read; the caller adds the file.
    pub fn read(&self, start: u64, len: usize) -> Result<Vec<u8>> {
        // Checked before the allocation, so that a hostile length costs nothing.
        if start.checked_add(len as u64).is_none_or(|end| end > self.len) {
            let message = format!("{len} bytes at {start} lie beyond the file's {}", self.len);
            return Err(Error::new(ErrorKind::Format, message).remedy("the file is truncated; fetch it again"));
        }
        let mut bytes = vec![0; len];
        let mut file = self.lock();
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes))?;
        Ok(bytes)
    }

    /// Feeds the whole file to `hasher`, a block at a time.
    pub(crate) fn hash_into(&self, hasher: &mut Sha256) -> Result<()> {
        let place = |e: std::io::Error| Error::from(e).at(self.path.display());
        let mut file = self.lock();
        file.seek(SeekFrom::Start(0)).map_err(place)?;
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block).map_err(place)? {
                0 => return Ok(()),
                n => hasher.update(&block[..n]),
            }
        }
    }

    /// SHA-256 of the whole file in hexadecimal.
    pub(crate) fn hash(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        self.hash_into(&mut hasher)?;
        Ok(hex(&hasher.finalize()))
    }

    /// An independent handle of the same file, for readers that keep a position of their own.
    pub(crate) fn reopen(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| Error::from(e).at(self.path.display()))
    }

    /// An error at this file.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).at(self.path.display())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        // Every read seeks first, so a reader that panicked half-way leaves nothing behind.
        self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
