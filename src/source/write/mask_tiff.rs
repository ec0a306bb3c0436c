//! Class masks as GeoTIFF.

use std::path::{Path, PathBuf};

use tiff::encoder::TiffEncoder;
use tiff::encoder::compression::{CompressionAlgorithm, Deflate};
use tiff::tags::Tag;

use super::atomic::{AtomicFile, cannot_write};
use super::format::{palette, side, wrong_length};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::mask::{ClassMask, NO_DATA};

/// Bytes of a mask that go into one strip of a TIFF.
const STRIP_BYTES: usize = 1 << 18;
/// Offsets in a TIFF are 32 bits.
const MAX_TIFF_BYTES: usize = u32::MAX as usize - (1 << 20);

/// A class mask as an 8-bit GeoTIFF with a colour table, deflate-compressed in strips: sample = class index,
/// [`NO_DATA`], which the file declares as such, where there is no data.
///
/// Strips are compressed as they come and kept until [`MaskTiff::finish`]; a mask takes a hundredth of its size or less.
pub struct MaskTiff {
    path: PathBuf,
    size: (usize, usize),
    palette: [[u8; 3]; 256],
    georef: Option<Georef>,
    rows_per_strip: usize,
    pending: Vec<u8>,
    strips: Vec<Vec<u8>>,
    received: usize,
    compressed: usize,
    file: AtomicFile,
}

impl MaskTiff {
    /// Begins a mask of `width` x `height` pixels at the place of `georef`, whose GeoTIFF keys are copied.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Limit`] if a side does not fit into the format.
    pub fn create(
        path: impl AsRef<Path>,
        width: usize,
        height: usize,
        classes: &[Class],
        georef: Option<&Georef>,
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
        directory.write_tag(Tag::GdalNodata, NO_DATA.to_string().as_str())?;
        directory.finish()
    }
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
    let mut tiff = MaskTiff::create(path, mask.width, mask.height, classes, georef)?;
    tiff.write(&mask.classes)?;
    tiff.finish()
}
