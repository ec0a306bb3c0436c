//! Opens a file or folder by what it holds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{geotiff, picture, xyz};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::{RgbImage, check_size};

/// An image of any size that is read in windows.
pub trait PixelSource {
    /// Width and height in pixels.
    fn size(&self) -> (usize, usize);

    /// Where the image lies on the map, if it is known.
    fn georef(&self) -> Option<&Georef>;

    /// The colours of a window `[height, width, 3]` whose top left pixel is (x, y). Pixels without data are black
    /// unless the file says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the window is empty or leaves the image, [`ErrorKind::Limit`] if it is too large, and
    /// whatever reading the file gives.
    fn read(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<RgbImage>;

    /// Which pixels of a window, `[height, width]`, hold no data: transparent, marked as such, or outside all tiles.
    /// `None` if all of them hold data.
    ///
    /// # Errors
    /// As [`PixelSource::read`].
    fn nodata(&mut self, x: usize, y: usize, width: usize, height: usize) -> Result<Option<Vec<bool>>>;

    /// One line about the image for people: format, size, bands, place.
    fn describe(&self) -> String;
}

/// What a file is, told by its first bytes.
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

/// Opens an image file, whatever its name; a folder of XYZ tiles too if it has a single zoom level.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Io`]; [`ErrorKind::Format`] if the file is empty, truncated or no image;
/// [`ErrorKind::Unsupported`] for formats and variants that are not read; [`ErrorKind::Limit`] for pictures that do not
/// fit into memory; [`ErrorKind::Invalid`] for a folder of several zoom levels. All name the file.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn PixelSource>> {
    let path = path.as_ref();
    if path.is_dir() {
        let mut mosaics = xyz::mosaics(path)?;
        let zooms: Vec<String> = mosaics.iter().map(|m| m.zoom().to_string()).collect();
        return match mosaics.pop() {
            Some(only) if mosaics.is_empty() => Ok(Box::new(only)),
            _ => {
                Err(Error::new(ErrorKind::Invalid, format!("the folder has tiles of zoom levels {}", zooms.join(", ")))
                    .at(path.display())
                    .remedy("choose one zoom level"))
            }
        };
    }
    match detect(path)? {
        Format::Tiff => Ok(Box::new(geotiff::GeoTiff::open(path)?)),
        Format::Png | Format::Jpeg | Format::WebP => Ok(Box::new(picture::Picture::open(path)?)),
    }
}

/// Tells a file's format by its first bytes.
///
/// # Errors
/// As [`open`].
pub fn detect(path: &Path) -> Result<Format> {
    let mut head = Vec::with_capacity(16);
    File::open(path)
        .and_then(|file| file.take(16).read_to_end(&mut head))
        .map_err(|e| Error::from(e).at(path.display()))?;
    detect_bytes(&head).map_err(|e| e.at(path.display()))
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
                ("a PMTiles archive", b"PMTiles"),
                ("an SQLite file (MBTiles or GeoPackage)", b"SQLite format 3\0"),
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

/// Checks that a window lies within an image and can be held in memory.
pub(super) fn check_window(
    (image_width, image_height): (usize, usize),
    x: usize,
    y: usize,
    width: usize,
    height: usize,
) -> Result<()> {
    check_size(width, height)?;
    let inside = |at: usize, len: usize, all: usize| at.checked_add(len).is_some_and(|end| end <= all);
    if !inside(x, width, image_width) || !inside(y, height, image_height) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a window of {width} x {height} at ({x}, {y}) leaves the image of {image_width} x {image_height} pixels"
            ),
        ));
    }
    Ok(())
}

/// A decoded part of an image.
pub(super) struct Block {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `[height, width, 3]`.
    pub(super) rgb: Vec<u8>,
    /// `[height, width]`: whether a pixel holds no data; empty if all hold some.
    pub(super) nodata: Vec<bool>,
}

impl Block {
    pub(super) fn bytes(&self) -> usize {
        self.rgb.len() + self.nodata.len()
    }

    /// A block that holds no data at all.
    pub(super) fn blank(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3], nodata: vec![true; width * height] }
    }
}

/// A window that is filled from blocks.
pub(super) struct Window {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Window {
    /// Copies what a block whose top left pixel is (x, y) has of this window.
    pub(super) fn copy<T: Copy>(
        &self,
        out: &mut [T],
        samples: usize,
        block: &[T],
        at: (usize, usize),
        size: (usize, usize),
    ) {
        let (left, right) = (self.x.max(at.0), (self.x + self.width).min(at.0 + size.0));
        let (top, bottom) = (self.y.max(at.1), (self.y + self.height).min(at.1 + size.1));
        if left >= right {
            return;
        }
        for y in top..bottom {
            let from = ((y - at.1) * size.0 + left - at.0) * samples;
            let to = ((y - self.y) * self.width + left - self.x) * samples;
            let len = (right - left) * samples;
            out[to..to + len].copy_from_slice(&block[from..from + len]);
        }
    }
}

/// The end of a description: where an image lies.
pub(super) fn place(georef: Option<&Georef>) -> String {
    match georef.map(|g| g.crs.epsg) {
        None => ", not georeferenced".to_owned(),
        Some(None) => ", georeferenced in an unknown system".to_owned(),
        Some(Some(epsg)) => format!(", EPSG:{epsg}"),
    }
}
