//! Class masks and pictures as PNG.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use ::png::ColorType;

use super::atomic::{AtomicFile, cannot_write};
use super::format::{palette, side, wrong_length};
use crate::config::Class;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::image::RgbImage;
use crate::mask::{ClassMask, NO_DATA};

/// Bytes of compressed data in one chunk of a PNG.
const PNG_CHUNK: usize = 1 << 16;

/// A class mask as an 8-bit PNG with a colour table, written row by row: sample = class index,
/// [`NO_DATA`], which is transparent, where there is no data.
pub struct MaskPng {
    png: Png,
    left: usize,
}

impl MaskPng {
    /// Begins a mask of `width` x `height` pixels.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Limit`] if a side does not fit into the format.
    pub fn create(path: impl AsRef<Path>, width: usize, height: usize, classes: &[Class]) -> Result<Self> {
        let path = path.as_ref();
        let png = Png::create(path, (width, height), ColorType::Indexed, Some(palette(classes).concat()))?;
        Ok(Self { png, left: width * height })
    }

    /// Writes the next class indices, row by row; rows may come in any portions.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Invalid`] beyond the mask's end.
    pub fn write(&mut self, classes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(classes.len()).ok_or_else(|| wrong_length(&self.png.file.path))?;
        self.png.write(classes)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; [`ErrorKind::Invalid`] if rows are missing.
    pub fn finish(self) -> Result<()> {
        if self.left != 0 {
            return Err(wrong_length(&self.png.file.path));
        }
        self.png.finish()
    }
}

/// An RGB PNG, written row by row.
pub struct RgbPng {
    png: Png,
    left: usize,
}

impl RgbPng {
    /// Begins a picture of `width` x `height` pixels.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Limit`] if a side does not fit into the format.
    pub fn create(path: impl AsRef<Path>, width: usize, height: usize) -> Result<Self> {
        let png = Png::create(path.as_ref(), (width, height), ColorType::Rgb, None)?;
        Ok(Self { png, left: width * height * 3 })
    }

    /// Writes the next colours, three bytes a pixel; rows may come in any portions.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Invalid`] beyond the picture's end.
    pub fn write(&mut self, rgb: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(rgb.len()).ok_or_else(|| wrong_length(&self.png.file.path))?;
        self.png.write(rgb)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; [`ErrorKind::Invalid`] if rows are missing.
    pub fn finish(self) -> Result<()> {
        if self.left != 0 {
            return Err(wrong_length(&self.png.file.path));
        }
        self.png.finish()
    }
}

/// An 8-bit PNG that is being written.
struct Png {
    // Dropped first: it writes to the file.
    writer: ::png::StreamWriter<'static, File>,
    file: AtomicFile,
}

impl Png {
    fn create(path: &Path, size: (usize, usize), color: ColorType, palette: Option<Vec<u8>>) -> Result<Self> {
        let (width, height) = (side(size.0, path)?, side(size.1, path)?);
        let file = AtomicFile::create(path)?;
        let mut encoder = ::png::Encoder::new(file.handle()?, width, height);
        encoder.set_color(color);
        encoder.set_depth(::png::BitDepth::Eight);
        if let Some(palette) = palette {
            encoder.set_palette(palette);
            // The one transparent colour: pixels without data.
            encoder.set_trns((0..=NO_DATA).map(|index| if index == NO_DATA { 0 } else { 255 }).collect::<Vec<_>>());
        }
        let writer = encoder.write_header().and_then(|w| w.into_stream_writer_with_size(PNG_CHUNK));
        Ok(Self { writer: writer.map_err(|e| cannot_write(e.into(), path))?, file })
    }

    fn write(&mut self, samples: &[u8]) -> Result<()> {
        self.writer.write_all(samples).map_err(|e| cannot_write(e, &self.file.path))
    }

    fn finish(self) -> Result<()> {
        self.writer.finish().map_err(|e| cannot_write(e.into(), &self.file.path))?;
        self.file.commit()
    }
}

/// Writes a class mask as PNG with a colour table; see [`MaskPng`].
///
/// # Errors
/// As [`MaskPng`]'s.
pub fn mask_png(path: impl AsRef<Path>, mask: &ClassMask, classes: &[Class]) -> Result<()> {
    let mut png = MaskPng::create(path, mask.width, mask.height, classes)?;
    png.write(&mask.classes)?;
    png.finish()
}

/// Writes RGBA8 pixels `[height, width, 4]`, as [`crate::overlay::rgba`] gives them, as PNG.
///
/// # Errors
/// As [`AtomicFile`]'s; [`ErrorKind::Invalid`] if there are not `width * height * 4` bytes.
pub fn rgba_png(path: impl AsRef<Path>, width: usize, height: usize, rgba: &[u8]) -> Result<()> {
    write_png(path.as_ref(), (width, height), 4, ColorType::Rgba, rgba)
}

/// Writes an image as PNG.
///
/// # Errors
/// As [`AtomicFile`]'s.
pub fn rgb_png(path: impl AsRef<Path>, image: &RgbImage) -> Result<()> {
    write_png(path.as_ref(), (image.width(), image.height()), 3, ColorType::Rgb, image.pixels())
}

fn write_png(path: &Path, size: (usize, usize), samples: usize, color: ColorType, pixels: &[u8]) -> Result<()> {
    if size.0.checked_mul(size.1).and_then(|n| n.checked_mul(samples)) != Some(pixels.len()) {
        return Err(wrong_length(path));
    }
    let mut png = Png::create(path, size, color, None)?;
    png.write(pixels)?;
    png.finish()
}
