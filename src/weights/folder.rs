//! Packages on disk: a folder, or a zip of one (`.samlora`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::manifest::MANIFEST_FILE;
use super::package::PackageSource;
use crate::error::{Error, ErrorKind, Result};

/// A package on disk.
pub struct Folder {
    path: PathBuf,
    archive: Option<Mutex<ZipArchive<File>>>,
}

impl Folder {
    /// Opens a folder that holds `samlora.json`, or a `.samlora` file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Format`] if it is neither, naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let place = |e: Error| e.at(path.display());
        let metadata = std::fs::metadata(&path).map_err(|e| place(e.into()))?;
        if metadata.is_dir() {
            if !path.join(MANIFEST_FILE).is_file() {
                return Err(place(
                    Error::new(ErrorKind::NotFound, format!("there is no {MANIFEST_FILE} in this folder"))
                        .remedy("name a package that `samlora export` wrote"),
                ));
            }
            return Ok(Self { path, archive: None });
        }
        let file = File::open(&path).map_err(|e| place(e.into()))?;
        let archive = ZipArchive::new(file).map_err(|e| {
            place(
                Error::new(ErrorKind::Format, "is neither a package folder nor a .samlora file")
                    .source(e.to_string())
                    .remedy("name a package that `samlora export` wrote"),
            )
        })?;
        Ok(Self { path, archive: Some(Mutex::new(archive)) })
    }

    /// [`PackageSource::read`] without waiting.
    pub(super) fn read_now(&self, file: &str, limit: usize) -> Result<Vec<u8>> {
        let too_large = |bytes: u64| {
            Error::new(ErrorKind::Integrity, format!("has {bytes} bytes, at most {limit} are expected"))
                .remedy("the file is damaged or from another package: copy or download it again")
        };
        let damaged = || {
            Error::new(ErrorKind::Format, "cannot be read from the archive")
                .remedy("the archive is damaged: copy or download it again")
        };
        // One byte more than allowed shows that there is more, whatever the directory said.
        let take = |reader: &mut dyn Read, bytes: u64| {
            if bytes > limit as u64 {
                return Err(too_large(bytes));
            }
            let mut content = Vec::with_capacity(bytes as usize);
            reader.take(limit as u64 + 1).read_to_end(&mut content).map_err(|e| match e.kind() {
                std::io::ErrorKind::InvalidData => damaged().source(e), // zip's checksum
                _ => Error::from(e),
            })?;
            if content.len() > limit { Err(too_large(content.len() as u64)) } else { Ok(content) }
        };
        match &self.archive {
            None => {
                let mut opened = File::open(self.path.join(file))?;
                let bytes = opened.metadata()?.len();
                take(&mut opened, bytes)
            }
            Some(archive) => {
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                let mut entry = archive.by_name(file).map_err(|e| match e {
                    ZipError::FileNotFound => Error::new(ErrorKind::NotFound, "is not in the archive")
                        .remedy("zip the package's files themselves, not the folder around them"),
                    e => damaged().source(e),
                })?;
                if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                    return Err(Error::new(ErrorKind::Unsupported, "is compressed or encrypted in the archive")
                        .remedy("store the files without compression (zip -0)"));
                }
                let bytes = entry.size();
                take(&mut entry, bytes)
            }
        }
    }
}

impl PackageSource for Folder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    async fn read(&self, file: &str, limit: usize) -> Result<Vec<u8>> {
        self.read_now(file, limit)
    }
}
