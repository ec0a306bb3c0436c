//! Outputs: class masks as PNG and GeoTIFF with a colour table, overlays as PNG, and any file written atomically.
//!
//! Everything is written to a temporary file in the same folder, flushed to the disk, and renamed: a full disk or a
//! crash leaves the old file or none, never half of one.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tiff::encoder::TiffEncoder;
use tiff::encoder::compression::{CompressionAlgorithm, Deflate};
use tiff::tags::Tag;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::RgbImage;
use crate::mask::ClassMask;

/// Bytes of a mask that go into one strip of a TIFF.
const STRIP_BYTES: usize = 1 << 18;
/// Bytes of compressed data in one chunk of a PNG.
const PNG_CHUNK: usize = 1 << 16;
/// Offsets in a TIFF are 32 bits.
const MAX_TIFF_BYTES: usize = u32::MAX as usize - (1 << 20);

/// A file that appears under its name only once it is complete; dropped before, it leaves nothing.
pub struct AtomicFile {
    path: PathBuf,
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
    fn handle(&self) -> Result<File> {
        self.file.get_ref().as_file().try_clone().map_err(|e| cannot_write(e, &self.path))
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

fn cannot_write(error: std::io::Error, path: &Path) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
    Error::new(kind, "the file cannot be written")
        .at(path.display())
        .remedy("check that its folder exists, may be written, and has room")
        .source(error)
}

/// The colour of each class index; black for indices without a class.
fn palette(classes: &[Class]) -> [[u8; 3]; 256] {
    let mut palette = [[0; 3]; 256];
    for class in classes {
        palette[usize::from(class.index)] = class.color;
    }
    palette
}

/// A class mask as an 8-bit PNG with a colour table, written row by row: sample = class index.
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
        let png = Png::create(path, (width, height), png::ColorType::Indexed, Some(palette(classes).concat()))?;
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

/// An 8-bit PNG that is being written.
struct Png {
    // Dropped first: it writes to the file.
    writer: png::StreamWriter<'static, File>,
    file: AtomicFile,
}

impl Png {
    fn create(path: &Path, size: (usize, usize), color: png::ColorType, palette: Option<Vec<u8>>) -> Result<Self> {
        let (width, height) = (side(size.0, path)?, side(size.1, path)?);
        let file = AtomicFile::create(path)?;
        let mut encoder = png::Encoder::new(file.handle()?, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        if let Some(palette) = palette {
            encoder.set_palette(palette);
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

/// A class mask as an 8-bit GeoTIFF with a colour table, deflate-compressed in strips: sample = class index.
///
/// Strips are compressed as they come and kept until [`MaskTiff::finish`]; a mask takes a hundredth of its size or less.
pub struct MaskTiff {
    path: PathBuf,
    size: (usize, usize),
    palette: [[u8; 3]; 256],
    georef: Option<Georef>,
    nodata: Option<u8>,
    rows_per_strip: usize,
    pending: Vec<u8>,
    strips: Vec<Vec<u8>>,
    received: usize,
    compressed: usize,
    file: AtomicFile,
}

impl MaskTiff {
    /// Begins a mask of `width` x `height` pixels at the place of `georef`, whose GeoTIFF keys are copied.
    /// `nodata` is the class index that stands for no data, if one does.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Limit`] if a side does not fit into the format.
    pub fn create(
        path: impl AsRef<Path>,
        width: usize,
        height: usize,
        classes: &[Class],
        georef: Option<&Georef>,
        nodata: Option<u8>,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        side(width, &path)?;
        side(height, &path)?;
        let file = AtomicFile::create(&path)?;
        Ok(Self {
            path,
            size: (width, height),
            palette: palette(classes),
            georef: georef.cloned(),
            nodata,
            rows_per_strip: (STRIP_BYTES / width).clamp(1, height),
            pending: Vec::new(),
            strips: Vec::new(),
            received: 0,
            compressed: 0,
            file,
        })
    }

    /// Takes the next class indices, row by row; rows may come in any portions.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] beyond the mask's end, [`ErrorKind::Limit`] above 4 GiB compressed.
    pub fn write(&mut self, classes: &[u8]) -> Result<()> {
        self.received += classes.len();
        if self.received > self.size.0 * self.size.1 {
            return Err(wrong_length(&self.path));
        }
        let strip = self.rows_per_strip * self.size.0;
        let mut rest = classes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(strip - self.pending.len()));
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == strip {
                self.compress()?;
            }
        }
        Ok(())
    }

    fn compress(&mut self) -> Result<()> {
        let mut strip = Vec::new();
        Deflate::default().write_to(&mut strip, &self.pending).map_err(|e| cannot_write(e, &self.path))?;
        self.pending.clear();
        self.compressed += strip.len();
        if self.compressed > MAX_TIFF_BYTES {
            return Err(Error::new(ErrorKind::Limit, "the mask exceeds the 4 GiB of a TIFF")
                .at(self.path.display())
                .remedy("cut the image into parts"));
        }
        self.strips.push(strip);
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; [`ErrorKind::Invalid`] if rows are missing.
    pub fn finish(mut self) -> Result<()> {
        if self.received != self.size.0 * self.size.1 {
            return Err(wrong_length(&self.path));
        }
        if !self.pending.is_empty() {
            self.compress()?;
        }
        self.encode().map_err(|e| match e {
            tiff::TiffError::IoError(e) => cannot_write(e, &self.path),
            other => Error::new(ErrorKind::Io, "the TIFF cannot be written").at(self.path.display()).source(other),
        })?;
        self.file.commit()
    }

    fn encode(&mut self) -> Result<(), tiff::TiffError> {
        let mut encoder = TiffEncoder::new(&mut self.file)?;
        let mut directory = encoder.image_directory()?;
        let mut offsets = Vec::with_capacity(self.strips.len());
        for strip in &self.strips {
            offsets.push(u32::try_from(directory.write_data(strip.as_slice())?)?);
        }
        let counts: Vec<u32> = self.strips.iter().map(|s| s.len() as u32).collect();
        // 16 bits a sample, all reds first; 257 = 65535 / 255.
        let map: Vec<u16> =
            (0..3).flat_map(|band| self.palette.iter().map(move |c| u16::from(c[band]) * 257)).collect();
        directory.write_tag(Tag::ImageWidth, self.size.0 as u32)?;
        directory.write_tag(Tag::ImageLength, self.size.1 as u32)?;
        directory.write_tag(Tag::BitsPerSample, 8u16)?;
        directory.write_tag(Tag::Compression, 8u16)?; // deflate
        directory.write_tag(Tag::PhotometricInterpretation, 3u16)?; // colour map
        directory.write_tag(Tag::SamplesPerPixel, 1u16)?;
        directory.write_tag(Tag::RowsPerStrip, self.rows_per_strip as u32)?;
        directory.write_tag(Tag::PlanarConfiguration, 1u16)?;
        directory.write_tag(Tag::SampleFormat, 1u16)?;
        directory.write_tag(Tag::StripOffsets, offsets.as_slice())?;
        directory.write_tag(Tag::StripByteCounts, counts.as_slice())?;
        directory.write_tag(Tag::ColorMap, map.as_slice())?;
        if let Some(Georef { transform: [a, b, c, d, e, f], crs }) = &self.georef {
            if *b == 0.0 && *d == 0.0 && *a > 0.0 && *e < 0.0 {
                directory.write_tag(Tag::ModelPixelScaleTag, [*a, -e, 0.0].as_slice())?;
                directory.write_tag(Tag::ModelTiepointTag, [0.0, 0.0, 0.0, *c, *f, 0.0].as_slice())?;
            } else {
                #[rustfmt::skip]
                let matrix = [
                    *a, *b, 0.0, *c,
                    *d, *e, 0.0, *f,
                    0.0, 0.0, 0.0, 0.0,
                    0.0, 0.0, 0.0, 1.0,
                ];
                directory.write_tag(Tag::ModelTransformationTag, matrix.as_slice())?;
            }
            if let Some(keys) = crs.keys_to_write() {
                directory.write_tag(Tag::GeoKeyDirectoryTag, keys.directory.as_slice())?;
                if !keys.doubles.is_empty() {
                    directory.write_tag(Tag::GeoDoubleParamsTag, keys.doubles.as_slice())?;
                }
                if !keys.ascii.is_empty() {
                    directory.write_tag(Tag::GeoAsciiParamsTag, keys.ascii.as_str())?;
                }
            }
        }
        if let Some(nodata) = self.nodata {
            directory.write_tag(Tag::GdalNodata, nodata.to_string().as_str())?;
        }
        directory.finish()
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

/// Writes a class mask as GeoTIFF with a colour table; see [`MaskTiff`].
///
/// # Errors
/// As [`MaskTiff`]'s.
pub fn mask_geotiff(
    path: impl AsRef<Path>,
    mask: &ClassMask,
    classes: &[Class],
    georef: Option<&Georef>,
) -> Result<()> {
    let mut tiff = MaskTiff::create(path, mask.width, mask.height, classes, georef, None)?;
    tiff.write(&mask.classes)?;
    tiff.finish()
}

/// Writes RGBA8 pixels `[height, width, 4]`, as [`crate::overlay::rgba`] gives them, as PNG.
///
/// # Errors
/// As [`AtomicFile`]'s; [`ErrorKind::Invalid`] if there are not `width * height * 4` bytes.
pub fn rgba_png(path: impl AsRef<Path>, width: usize, height: usize, rgba: &[u8]) -> Result<()> {
    write_png(path.as_ref(), (width, height), 4, png::ColorType::Rgba, rgba)
}

/// Writes an image as PNG.
///
/// # Errors
/// As [`AtomicFile`]'s.
pub fn rgb_png(path: impl AsRef<Path>, image: &RgbImage) -> Result<()> {
    write_png(path.as_ref(), (image.width(), image.height()), 3, png::ColorType::Rgb, image.pixels())
}

fn write_png(path: &Path, size: (usize, usize), samples: usize, color: png::ColorType, pixels: &[u8]) -> Result<()> {
    if size.0.checked_mul(size.1).and_then(|n| n.checked_mul(samples)) != Some(pixels.len()) {
        return Err(wrong_length(path));
    }
    let mut png = Png::create(path, size, color, None)?;
    png.write(pixels)?;
    png.finish()
}

/// A side of an image as the formats hold it.
fn side(pixels: usize, path: &Path) -> Result<u32> {
    match u32::try_from(pixels) {
        Ok(side) if (1..=i32::MAX as u32).contains(&side) => Ok(side),
        _ => {
            Err(Error::new(ErrorKind::Limit, format!("an image cannot be {pixels} pixels wide or high"))
                .at(path.display()))
        }
    }
}

fn wrong_length(path: &Path) -> Error {
    Error::new(ErrorKind::Invalid, "the pixels given do not fill the image exactly").at(path.display())
}
