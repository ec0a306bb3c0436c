//! Files that are read at any offset: on the disk here, behind HTTP elsewhere.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};

/// A file that is read at any offset, by several readers at once.
pub(super) trait ByteSource: Send + Sync {
    /// Path or address, for messages.
    fn name(&self) -> &str;

    /// Bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from an offset on; gives how many bytes it put, fewer than asked for only where the file ends.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and whatever the server says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// `length` bytes from an offset on.
///
/// # Errors
/// [`ErrorKind::Format`] if the file ends before, [`ErrorKind::Limit`] beyond `limit` bytes; those of reading. All name the file.
pub(super) fn read_exact(source: &dyn ByteSource, offset: u64, length: u64, limit: u64) -> Result<Vec<u8>> {
    if length > limit {
        return Err(Error::new(ErrorKind::Limit, format!("a part of {length} bytes, more than {limit}"))
            .at(source.name())
            .remedy("the file is damaged, or no such file as it says; fetch or export it again"));
    }
    let truncated =
        || Error::new(ErrorKind::Format, "the file is truncated").at(source.name()).remedy("fetch or export it again");
    if offset.checked_add(length).is_none_or(|end| end > source.length()) {
        return Err(truncated());
    }
    let mut bytes = vec![0; length as usize];
    match source.read_at(offset, &mut bytes).map_err(|e| e.at(source.name()))? {
        n if n == bytes.len() => Ok(bytes),
        _ => Err(truncated()),
    }
}

/// A file on a disk.
pub(super) struct LocalFile {
    name: String,
    length: u64,
    file: Mutex<File>,
}

impl LocalFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Io`], naming it.
    pub(super) fn open(path: &Path) -> Result<Arc<dyn ByteSource>> {
        let open = || -> io::Result<_> {
            let file = File::open(path)?;
            Ok((file.metadata()?.len(), file))
        };
        let (length, file) = open().map_err(|e| Error::from(e).at(path.display()))?;
        Ok(Arc::new(Self { name: path.display().to_string(), length, file: Mutex::new(file) }))
    }
}

impl ByteSource for LocalFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        // Places that no file has are beyond its end, and no fault of the disk.
        if offset >= self.length {
            return Ok(0);
        }
        // Its position is set before each use, so that a reader that ended early harms nobody.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        let mut read = 0;
        while read < buffer.len() {
            match file.read(&mut buffer[read..]) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(read)
    }
}

/// A reader with a position of its own.
pub(super) struct ByteCursor {
    source: Arc<dyn ByteSource>,
    position: u64,
}

impl ByteCursor {
    /// A reader at a file's first byte.
    pub(super) fn new(source: Arc<dyn ByteSource>) -> Self {
        Self { source, position: 0 }
    }
}

impl Read for ByteCursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The error in it is the crate's own, and becomes that again (`Error::from`).
        let read = self.source.read_at(self.position, buffer).map_err(io::Error::other)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for ByteCursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => {
                self.position = at;
                return Ok(at);
            }
            SeekFrom::End(by) => (self.source.length(), by),
            SeekFrom::Current(by) => (self.position, by),
        };
        let at = base.checked_add_signed(by);
        self.position = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the first byte"))?;
        Ok(self.position)
    }
}
