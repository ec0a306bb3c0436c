//! One page of a TIFF, read window by window.

use tiff::tags::Tag;

use super::directory::{Page, Tiff};
use super::layout::Layout;
use super::meaning::Meaning;
use crate::error::Result;
use crate::image::Pixels;
use crate::source::block::PixelBlock;
use crate::source::cache::Cache;
use crate::source::raster::{Patch, Window};

/// A page of a file with the blocks of it that were read last.
pub(super) struct PageReader {
    file: Tiff,
    pub(super) layout: Layout,
    pub(super) meaning: Meaning,
    /// Whether samples are handed out as they are stored.
    stored: bool,
    /// By plane and strip or tile.
    cache: Cache<(usize, usize)>,
}

impl PageReader {
    /// Opens a page of a file; with `stored` its samples are no picture but numbers that mean something themselves.
    pub(super) fn new(mut file: Tiff, page: &Page, stored: bool, budget: usize) -> Result<Self> {
        let big_endian = file.big_endian();
        let mut tags = file.tags(&page.directory);
        let layout = Layout::new(&mut tags, big_endian)?;
        let meaning = if stored {
            Meaning::stored(&mut tags, &layout.encoding)?
        } else {
            Meaning::picture(&mut tags, &layout.encoding, layout.codec.is_lossy())?
        };
        Ok(Self { file, layout, meaning, stored, cache: Cache::new(budget) })
    }

    /// Opens an overview of the page `full`. Programs say on the full page alone what the bands are and which value is no data,
    /// so its words count, unless the overview keeps its colours in another form.
    pub(super) fn overview(mut file: Tiff, page: &Page, full: &Page, budget: usize) -> Result<Self> {
        const FORM: [Tag; 3] = [Tag::PhotometricInterpretation, Tag::BitsPerSample, Tag::SampleFormat];
        let big_endian = file.big_endian();
        let mut form = |page: &Page| {
            let mut tags = file.tags(&page.directory);
            FORM.iter().map(|tag| tags.numbers(*tag)).collect::<Result<Vec<_>>>()
        };
        let alike = form(page)? == form(full)?;
        let layout = Layout::new(&mut file.tags(&page.directory), big_endian)?;
        let described = if alike { full } else { page };
        let lossy = layout.codec.is_lossy();
        let meaning = Meaning::picture(&mut file.tags(&described.directory), &layout.encoding, lossy)?;
        Ok(Self { file, layout, meaning, stored: false, cache: Cache::new(budget) })
    }

    /// How many blocks were decoded.
    pub(super) fn decoded(&self) -> u64 {
        self.cache.decoded()
    }

    /// Whether the file leaves out all that a window has.
    pub(super) fn is_known_blank(&self, window: &Window) -> bool {
        let planes = if self.layout.planar { self.meaning.samples() } else { 1 };
        let is_absent = |chunk: usize| (0..planes).all(|plane| self.layout.stored(plane, chunk).is_none());
        !self.stored && self.layout.touched(window).all(|(chunk, _)| is_absent(chunk))
    }

    /// The samples of some bands in a window, and which pixels hold data by the no-data value and alpha.
    pub(super) fn read(&mut self, window: &Window, wanted: &[usize]) -> Result<Patch> {
        let (bands, depth) = (self.meaning.bands(), self.meaning.depth());
        let mut patch = Patch::begin(window, wanted, self.layout.size, bands, depth)?;
        if self.layout.planar {
            self.read_planes(window, wanted, &mut patch)?;
            return Ok(patch);
        }
        let places: Vec<(usize, usize)> =
            wanted.iter().enumerate().map(|(to, b)| (self.meaning.place(*b), to)).collect();
        for (chunk, at) in self.layout.touched(window) {
            let block = self.block(0, chunk)?;
            block.copy_to(&mut patch, window, at, &places)?;
            if !block.valid.is_empty() {
                let valid = patch.valid_mut();
                block.each_valid(window, at, |i, holds| valid[i] &= holds);
            }
        }
        Ok(patch)
    }

    /// As [`PageReader::read`], of a file that has each sample of a pixel in a plane of its own.
    fn read_planes(&mut self, window: &Window, wanted: &[usize], patch: &mut Patch) -> Result<()> {
        let planes: Vec<usize> = wanted.iter().map(|b| self.meaning.plane(*b)).collect();
        let has_nodata = self.meaning.has_nodata();
        // A pixel holds data if any of its samples does: those that are wanted are asked first.
        let others = (0..self.meaning.samples()).filter(|p| !planes.contains(p));
        let all: Vec<usize> = planes.iter().copied().chain(others).collect();
        let mut transparency = match self.meaning.alpha() {
            Some(alpha) => {
                let empty = Patch::begin(window, &[0], self.layout.size, 1, self.meaning.depth())?;
                Some((alpha, empty))
            }
            None => None,
        };
        for (chunk, at) in self.layout.touched(window) {
            let mut unknown: Vec<usize> = Vec::new();
            for (to, plane) in all.iter().enumerate() {
                let is_wanted = to < planes.len();
                if !is_wanted && (!has_nodata || (to > 0 && unknown.is_empty())) {
                    break;
                }
                let block = self.block(*plane, chunk)?;
                if is_wanted {
                    block.copy_to(patch, window, at, &[(0, to)])?;
                }
                let mut empty = Vec::new();
                block.each_valid(window, at, |i, holds| {
                    if !holds {
                        empty.push(i);
                    }
                });
                // Both are in rising order.
                unknown = if to == 0 { empty } else { common(&unknown, &empty) };
            }
            if !unknown.is_empty() {
                let valid = patch.valid_mut();
                unknown.into_iter().for_each(|i| valid[i] = false);
            }
            if let Some((plane, alpha)) = &mut transparency {
                self.block(*plane, chunk)?.copy_to(alpha, window, at, &[(0, 0)])?;
            }
        }
        if let Some((_, alpha)) = transparency {
            let valid = patch.valid_mut();
            for (i, valid) in valid.iter_mut().enumerate() {
                *valid &= alpha.sample(i % window.width, i / window.width, 0) != 0.0;
            }
        }
        Ok(())
    }

    /// A strip or tile, decoded now if it is not at hand.
    fn block(&mut self, plane: usize, chunk: usize) -> Result<&PixelBlock> {
        let (file, layout, meaning, stored) = (&mut self.file, &self.layout, &self.meaning, self.stored);
        self.cache.get((plane, chunk), || {
            let size = layout.chunk_size(chunk);
            Ok(match layout.decode(file, plane, chunk)? {
                Some(values) if layout.planar => meaning.plane_block(values, size),
                Some(values) => meaning.block(values, size),
                None => {
                    let bands = if layout.planar { 1 } else { meaning.block_bands() };
                    // A label or a mask that is left out is 0; of an image nothing is known there.
                    meaning.missing(size, bands, stored)
                }
            })
        })
    }
}

/// The numbers that two rising sequences share.
fn common(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().copied().filter(|n| b.binary_search(n).is_ok()).collect()
}
