//! Whether a file is what was published.

use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::checkpoint::Checkpoint;
use samlora::weights::layout;
use samlora::weights::source::hex;
use sha2::{Digest, Sha256};

use super::DownloadProgress;
use super::published::{Expected, Proof};

/// What a verified file is.
#[derive(Debug, Clone)]
pub struct Found {
    pub bytes: u64,
    pub crc32: u32,
    /// In hexadecimal.
    pub sha256: String,
}

/// CRC-32 and SHA-256 of the bytes so far.
#[derive(Clone, Default)]
pub struct Checksums {
    pub bytes: u64,
    crc32: crc32fast::Hasher,
    sha256: Sha256,
}

impl Checksums {
    pub fn update(&mut self, block: &[u8]) {
        self.bytes += block.len() as u64;
        self.crc32.update(block);
        self.sha256.update(block);
    }

    /// Takes in what `file` holds from its start, up to `limit` bytes.
    pub fn read(&mut self, file: &mut File, limit: u64, progress: &DownloadProgress) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        let (mut block, mut file) = (vec![0; 1 << 20], file.take(limit));
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                n => self.update(&block[..n]),
            }
            progress.at(self.bytes);
        }
    }

    /// What the file at `path` is, whose bytes these are, if that is what was expected.
    pub fn check(self, path: &Path, expected: &Expected) -> Result<Found> {
        let found = Found { bytes: self.bytes, crc32: self.crc32.finalize(), sha256: hex(&self.sha256.finalize()) };
        let Found { bytes, crc32, sha256 } = &found;
        let is_size = expected.admits(*bytes);
        let size = expected.size_text();
        let message = match &expected.proof {
            Proof::Crc32(wanted) if !is_size || crc32 != wanted => {
                format!("{bytes} bytes with CRC-32 {crc32:08x}, expected {size} with {wanted:08x}")
            }
            Proof::Sha256(wanted) if !is_size || sha256 != wanted => {
                format!("{bytes} bytes with SHA-256 {sha256}, expected {size} with {wanted}")
            }
            Proof::Contents { backbone, .. } if !is_size => {
                format!("{bytes} bytes, expected {size} for {backbone}")
            }
            Proof::Contents { backbone, parameters } => {
                return check_contents(path, backbone, *parameters).map(|()| found);
            }
            _ => return Ok(found),
        };
        Err(Error::new(ErrorKind::Integrity, message))
    }
}

/// Checks that the file at `path` is a checkpoint of `backbone` with so many parameters: every tensor has its name and its shape.
fn check_contents(path: &Path, backbone: &str, parameters: u64) -> Result<()> {
    let checkpoint = Checkpoint::open(path)
        .map_err(|e| Error::new(ErrorKind::Integrity, format!("this is no checkpoint of {backbone}")).source(e))?;
    let config = checkpoint.config();
    let (name, count) = (config.backbone_name().unwrap_or("no known backbone"), layout::parameter_count(config));
    if (name, count) != (backbone, parameters) {
        let message = format!("this is {name} with {count} parameters, expected {backbone} with {parameters}");
        return Err(Error::new(ErrorKind::Integrity, message));
    }
    Ok(())
}

/// Checks a complete file, and records its SHA-256 or compares it with the recorded one.
pub fn verify(path: &Path, expected: &Expected, progress: &DownloadProgress) -> Result<Found> {
    let mut checksums = Checksums::default();
    let mut file = File::open(path).map_err(|e| io_error(e, path))?;
    checksums.read(&mut file, u64::MAX, progress).map_err(|e| io_error(e, path))?;
    let damaged = |e: Error| e.at(path.display()).remedy("delete this file and run the command again");
    let found = checksums.check(path, expected).map_err(damaged)?;
    let sha256 = &found.sha256;
    match fs::read_to_string(sidecar(path, "sha256")) {
        Ok(line) if line.split_whitespace().next() == Some(sha256) => {}
        Ok(_) => {
            let message = format!("its SHA-256 is {sha256}, not the one recorded in the .sha256 file beside it");
            return Err(damaged(Error::new(ErrorKind::Integrity, message)));
        }
        // A folder that cannot be written to is no reason to refuse its file.
        Err(_) => drop(record(path, sha256)),
    }
    Ok(found)
}

/// Writes `<file>.sha256` as `sha256sum` does.
pub fn record(path: &Path, sha256: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::write(sidecar(path, "sha256"), format!("{sha256}  {name}\n"))
}

pub fn sidecar(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// An input or output error of a file here.
pub fn io_error(e: std::io::Error, path: &Path) -> Error {
    let remedy = match e.kind() {
        IoKind::StorageFull | IoKind::QuotaExceeded => "free some space; the download goes on from where it stopped",
        IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem | IoKind::NotADirectory | IoKind::AlreadyExists => {
            "name a folder that can be written to with --dir"
        }
        _ => "check the folder and the disk",
    };
    Error::new(ErrorKind::Io, e.to_string()).at(path.display()).remedy(remedy)
}
