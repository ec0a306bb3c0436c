//! What a file is, told by its first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Formats of image files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    WebP,
    /// TIFF, BigTIFF, GeoTIFF or COG.
    Tiff,
}

/// Files of many tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    PmTiles,
    /// MBTiles, or another file of SQLite's.
    Sqlite,
}

impl Container {
    /// Tells it by the first 16 bytes of a file.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"PMTiles") {
            return Some(Self::PmTiles);
        }
        head.starts_with(b"SQLite format 3\0").then_some(Self::Sqlite)
    }
}

/// Whether a file holds many tiles.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`], naming it.
pub(super) fn container(path: &Path) -> Result<Option<Container>> {
    Ok(Container::of(&head(path)?))
}

fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(16);
    File::open(path)
        .and_then(|file| file.take(16).read_to_end(&mut head))
        .map_err(|e| Error::from(e).at(path.display()))?;
    Ok(head)
}

/// Tells a file's format by its first bytes.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`], and those of [`detect_bytes`]. All name the file.
pub fn detect(path: &Path) -> Result<Format> {
    detect_bytes(&head(path)?).map_err(|e| e.at(path.display()))
}

/// Tells a format by the first 16 bytes of a file.
///
/// # Errors
/// [`ErrorKind::Format`] if there are no bytes or they belong to no image, [`ErrorKind::Unsupported`] for formats that
/// are known but not read.
pub fn detect_bytes(head: &[u8]) -> Result<Format> {
    const READ: &str = "PNG, JPEG, WebP and TIFF or GeoTIFF files are read";
    match head {
        [] => Err(Error::new(ErrorKind::Format, "the file is empty").remedy("fetch or export it again")),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        _ => {
            let known: [(&str, &[u8]); 9] = [
                ("a GIF", b"GIF8"),
                ("a BMP", b"BM"),
                ("a PDF", b"%PDF"),
                ("a JPEG 2000", b"\0\0\0\x0cjP  "),
                ("a MrSID", b"msid"),
                ("a PMTiles archive, where a picture is expected", b"PMTiles"),
                ("an SQLite file (MBTiles or GeoPackage), where a picture is expected", b"SQLite format 3\0"),
                ("a zip archive", b"PK\x03\x04"),
                ("an HDF5 or NetCDF file", b"\x89HDF"),
            ];
            match known.iter().find(|(_, magic)| head.starts_with(magic)) {
                Some((name, _)) => {
                    Err(Error::new(ErrorKind::Unsupported, format!("this is {name}, which cannot be read"))
                        .remedy(READ))
                }
                None => Err(Error::new(ErrorKind::Format, "this is no image that can be read").remedy(READ)),
            }
        }
    }
}
