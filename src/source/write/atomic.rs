//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, ErrorKind, Result};

/// A file that appears under its name only once it is complete; dropped before, it leaves nothing.
pub struct AtomicFile {
    pub(super) path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Begins a file at `path`; an existing one stays until [`AtomicFile::commit`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Io`], naming the file, if its folder is missing or not writable.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if path.is_dir() {
            return Err(Error::new(ErrorKind::Io, "a folder has this name")
                .at(path.display())
                .remedy("choose another name"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(UNFINISHED[0]).suffix(UNFINISHED[1]);
        #[cfg(unix)]
        {
            // The usual rights of a new file (less the umask) instead of the private ones of temporary files.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(|e| cannot_write(e, &path))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 16, file) })
    }

    /// A second handle to the file, unbuffered, for a writer that keeps what it is given. Use one or the other.
    pub(crate) fn handle(&self) -> Result<File> {
        self.file.get_ref().as_file().try_clone().map_err(|e| cannot_write(e, &self.path))
    }

    /// The name that the file has until it is complete, for a writer that opens it itself.
    pub(crate) fn unfinished(&self) -> &Path {
        self.file.get_ref().path()
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], naming the file, for instance if the disk is full.
    pub fn commit(self) -> Result<()> {
        let path = self.path;
        let file = self.file.into_inner().map_err(|e| cannot_write(e.into_error(), &path))?;
        file.as_file().sync_all().map_err(|e| cannot_write(e, &path))?;
        file.persist(&path).map_err(|e| cannot_write(e.error, &path))?;
        // The rename itself lasts once the folder is on the disk; not every system can do this, and none needs to.
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            let _ = File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl std::io::Seek for AtomicFile {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// How the names of unfinished files begin and end.
const UNFINISHED: [&str; 2] = [".samlora-", ".part"];

/// Whether a file's name is that of an [`AtomicFile`] before it is complete: left behind, its program was killed.
pub fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(UNFINISHED[0]) && name.ends_with(UNFINISHED[1]))
}

/// Writes a file atomically: `fill` gives its content.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::commit`], and what `fill` gives, with the file's name.
pub fn atomic(path: impl AsRef<Path>, fill: impl FnOnce(&mut AtomicFile) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    let mut file = AtomicFile::create(path)?;
    fill(&mut file).map_err(|e| e.at(path.display()))?;
    file.commit()
}

pub(super) fn cannot_write(error: std::io::Error, path: &Path) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
    Error::new(kind, "the file cannot be written")
        .at(path.display())
        .remedy("check that its folder exists, may be written, and has room")
        .source(error)
}
