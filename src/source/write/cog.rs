//! Cloud optimised GeoTIFFs, written row by row: tiles of 512 pixels, overviews, and GDAL's layout, with all directories before the
//! data and the smallest overview first.

mod directory;
mod level;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::atomic::{AtomicFile, cannot_write};
use super::format::{palette, side, wrong_length};
use crate::config::Class;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::georef::Georef;
use crate::mask::NO_DATA;
use directory::{Entry, HEADER, Layout};
use level::Level;

/// Side of a tile in pixels.
const TILE: usize = 512;
/// Above so many bytes, with room for rounding, offsets need 64 bits (BigTIFF).
const MAX_CLASSIC: u64 = u32::MAX as u64 - (1 << 20);

/// What the samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Class indices: overviews have the class that most pixels have.
    Classes,
    /// Confidence: overviews have the mean.
    Confidence,
}

impl Kind {
    /// The value that stands for no data.
    fn no_data(self) -> u8 {
        match self {
            Self::Classes => NO_DATA,
            Self::Confidence => 0,
        }
    }
}

/// A raster of one 8-bit band, written row by row. Compressed tiles lie in temporary files until the last row is there; memory holds
/// 512 rows. Tiles without data are left out.
pub struct Cog {
    path: PathBuf,
    size: (usize, usize),
    kind: Kind,
    palette: Option<[[u8; 3]; 256]>,
    georef: Option<Georef>,
    levels: Vec<Level>,
    partial: Vec<u8>,
    received: usize,
    file: AtomicFile,
    always_big: bool,
}

impl Cog {
    /// Begins a raster of class indices with their colours, [`NO_DATA`] where there is none.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Io`] if there is no room for temporary files; [`ErrorKind::Limit`] if a side does not
    /// fit into the format.
    pub fn classes(
        path: impl AsRef<Path>,
        size: (usize, usize),
        classes: &[Class],
        georef: Option<&Georef>,
    ) -> Result<Self> {
        Self::create(path.as_ref(), size, Kind::Classes, Some(palette(classes)), georef)
    }

    /// Begins a raster of confidence, 1 to 255 for 0 to 1, and 0 where there is no data.
    ///
    /// # Errors
    /// As [`Cog::classes`].
    pub fn confidence(path: impl AsRef<Path>, size: (usize, usize), georef: Option<&Georef>) -> Result<Self> {
        Self::create(path.as_ref(), size, Kind::Confidence, None, georef)
    }

    fn create(
        path: &Path,
        size: (usize, usize),
        kind: Kind,
        palette: Option<[[u8; 3]; 256]>,
        georef: Option<&Georef>,
    ) -> Result<Self> {
        let path = path.to_owned();
        side(size.0, &path)?;
        side(size.1, &path)?;
        let file = AtomicFile::create(&path)?;
        let mut levels = Vec::new();
        let (mut width, mut height) = size;
        loop {
            levels.push(Level::new(width, height, kind).map_err(|e| cannot_write(e, &path))?);
            if width.max(height) <= TILE {
                break;
            }
            (width, height) = (width.div_ceil(2), height.div_ceil(2));
        }
        let (partial, georef) = (Vec::new(), georef.cloned());
        Ok(Self { path, size, kind, palette, georef, levels, partial, received: 0, file, always_big: false })
    }

    /// Takes the next samples, row by row; rows may come in any portions.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Invalid`] beyond the raster's end.
    pub fn write(&mut self, samples: &[u8]) -> Result<()> {
        self.received += samples.len();
        if self.received > self.size.0 * self.size.1 {
            return Err(wrong_length(&self.path));
        }
        self.partial.extend_from_slice(samples);
        let partial = std::mem::take(&mut self.partial);
        let rows = partial.chunks_exact(self.size.0);
        self.partial = rows.remainder().to_vec();
        for row in rows {
            level::push(&mut self.levels, row).map_err(|e| cannot_write(e, &self.path))?;
        }
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
        let path = self.path.clone();
        self.assemble().map_err(|e| cannot_write(e, &path))?;
        self.file.commit()
    }

    fn assemble(&mut self) -> std::io::Result<()> {
        level::end(&mut self.levels)?;
        let data: u64 = self.levels.iter().map(Level::bytes).sum();
        let big = self.always_big || data > MAX_CLASSIC;
        // Directories are as long with offsets as without.
        let layout = Layout { big };
        let blank: Vec<Vec<u64>> = self.levels.iter().map(|l| vec![0; l.sizes.len()]).collect();
        let first = (layout.header_bytes() + HEADER.len() as u64).next_multiple_of(8);
        let mut starts = Vec::new();
        let mut at = first;
        for (i, offsets) in blank.iter().enumerate() {
            starts.push(at);
            at += layout.directory(&self.entries(i, offsets, layout), at, 0).len() as u64;
        }
        // Where each tile will lie, from the smallest overview to the image itself.
        let mut offsets = blank;
        for (level, offsets) in self.levels.iter().zip(&mut offsets).rev() {
            for (offset, &size) in offsets.iter_mut().zip(&level.sizes) {
                if size > 0 {
                    *offset = at + 4;
                    at += u64::from(size) + 8;
                }
            }
        }
        let file = &mut self.file;
        file.write_all(&layout.header(first))?;
        file.write_all(HEADER.as_bytes())?;
        let gap = first - layout.header_bytes() - HEADER.len() as u64;
        file.write_all(&vec![0; gap as usize])?;
        for i in 0..self.levels.len() {
            let next = starts.get(i + 1).copied().unwrap_or(0);
            let bytes = layout.directory(&self.entries(i, &offsets[i], layout), starts[i], next);
            self.file.write_all(&bytes)?;
        }
        for level in self.levels.iter_mut().rev() {
            level.copy_to(&mut self.file)?;
        }
        Ok(())
    }

    /// The directory of a level.
    fn entries(&self, index: usize, offsets: &[u64], layout: Layout) -> Vec<Entry> {
        let level = &self.levels[index];
        let mut out = Vec::new();
        if index > 0 {
            out.push(Entry::long(254, &[1])); // a reduced copy
        }
        out.push(Entry::long(256, &[level.width as u32]));
        out.push(Entry::long(257, &[level.height as u32]));
        out.push(Entry::short(258, &[8]));
        out.push(Entry::short(259, &[8])); // deflate
        out.push(Entry::short(262, &[if self.palette.is_some() { 3 } else { 1 }])); // colour map, or black is zero
        out.push(Entry::short(277, &[1]));
        out.push(Entry::short(284, &[1]));
        if let Some(palette) = &self.palette {
            // 16 bits a sample, all reds first; 257 = 65535 / 255.
            let map: Vec<u16> = (0..3).flat_map(|b| palette.iter().map(move |c| u16::from(c[b]) * 257)).collect();
            out.push(Entry::short(320, &map));
        }
        out.push(Entry::short(322, &[TILE as u16]));
        out.push(Entry::short(323, &[TILE as u16]));
        out.push(Entry::offsets(324, offsets, layout));
        out.push(Entry::long(325, &level.sizes));
        out.push(Entry::short(339, &[1]));
        if let (0, Some(georef)) = (index, &self.georef) {
            out.extend(place(georef));
        }
        out.push(Entry::ascii(42_113, &self.kind.no_data().to_string()));
        out
    }
}

/// The tags that place a raster.
fn place(georef: &Georef) -> Vec<Entry> {
    let [a, b, c, d, e, f] = georef.transform;
    let mut out = Vec::new();
    if b == 0.0 && d == 0.0 && a > 0.0 && e < 0.0 {
        out.push(Entry::double(33_550, &[a, -e, 0.0]));
        out.push(Entry::double(33_922, &[0.0, 0.0, 0.0, c, f, 0.0]));
    } else {
        let matrix = [a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        out.push(Entry::double(34_264, &matrix));
    }
    if let Some(keys) = georef.crs.keys_to_write() {
        out.push(Entry::short(34_735, &keys.directory));
        if !keys.doubles.is_empty() {
            out.push(Entry::double(34_736, &keys.doubles));
        }
        if !keys.ascii.is_empty() {
            out.push(Entry::ascii(34_737, &keys.ascii));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Raster, Samples, Window, open};

    /// The crate's own reader takes what was written; tests/segment_areas.rs has GDAL's word.
    #[test]
    fn written_tiles_come_back_in_both_kinds_of_tiff() {
        let folder = tempfile::tempdir().expect("a folder");
        let (width, height) = (1300, 700);
        let mask: Vec<u8> = (0..width * height)
            .map(|i| if i % width < 520 && i / width < 600 { NO_DATA } else { (i / 7 % 5) as u8 })
            .collect();
        let class = |index| Class { index, name: format!("c{index}"), color: [index, 2, 3], threshold: None };
        for big in [false, true] {
            let path = folder.path().join(format!("{big}.tif"));
            // A palette's pictures are read as colours: the red of each class is its index.
            let classes: Vec<Class> = (0..5).map(class).collect();
            let mut cog = Cog::classes(&path, (width, height), &classes, None).expect("begun");
            cog.always_big = big;
            for part in mask.chunks(4999) {
                cog.write(part).expect("written");
            }
            cog.finish().expect("complete");
            let mut raster = open(&path).expect("a TIFF");
            assert_eq!((raster.size(), raster.overviews()), ((width, height), &[(650, 350), (325, 175)][..]));
            let patch = raster.read(Window::whole((width, height)), &[0]).expect("read");
            assert!(mask.iter().enumerate().all(|(i, &class)| patch.is_valid(i) == (class != NO_DATA)));
            let Samples::U8(samples) = patch.samples else { panic!("8 bits") };
            assert!(samples.iter().zip(&mask).all(|(a, b)| a == b || *b == NO_DATA), "{big}");
        }
    }

    #[test]
    fn rows_that_are_missing_or_too_many() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = || Cog::confidence(folder.path().join("a.tif"), (3, 2), None).expect("begun");
        let mut cog = begin();
        cog.write(&[1; 5]).expect("a part");
        assert!(cog.finish().is_err());
        assert!(begin().write(&[1; 7]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left");
    }
}
