//! TIFF and GeoTIFF, read strip by strip or tile by tile, so that files larger than memory work.
//!
//! ```text
//! pages and their tags        directory: which page is the picture, which are overviews and masks
//!   -> where blocks lie       layout
//!   -> plain bytes            codec: none, LZW, deflate, JPEG, WebP, PackBits, zstd, CCITT group 4
//!   -> numbers                values: bits, byte order, predictor; nodata
//!   -> bands                  meaning, bands: palette, YCbCr, grey, alpha, colour interpretation
//!   -> windows                page, and this file: masks of the file's own and beside it
//! ```
//!
//! Chunky and planar. 8-bit grey and palettes become three bands, alpha becomes validity. A file may have 131 072 strips or
//! tiles (262 144 if its offsets are 32 bits), the TIFF decoder's limit of 1 MiB a tag when it opens a file.
//!
//! A file's overviews are rasters of their own ([`GeoTiff::levels`]); files behind HTTP are read by ranges.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::{ByteSource, LocalFile};
use super::cache::BUDGET;
use super::raster::{Depth, Interpretation, Patch, Raster, Samples, Window};
use super::sidecar;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;

mod directory;
mod codec;
mod nodata;
mod place;
mod values;
mod layout;
mod bands;
mod meaning;
mod page;
mod levels;

pub(super) use values::unpacked_rows;

use directory::{Page, Tiff};
use page::PageReader;

/// Bytes of a mask's decoded blocks that are kept, a byte a pixel.
const MASK_BUDGET: usize = BUDGET / 4;

/// An open TIFF: the first of its pages that is neither a reduced image nor a mask.
pub struct GeoTiff {
    path: PathBuf,
    image: PageReader,
    mask: Option<Mask>,
    georef: Option<Georef>,
    overviews: Vec<(usize, usize)>,
    /// Pages that are whole pictures.
    pictures: usize,
    interpretation: Interpretation,
    /// Of an overview, the size of the image that it is a reduced copy of.
    reduced: Option<(usize, usize)>,
}

/// Says for each pixel of an image whether it holds data.
struct Mask {
    path: PathBuf,
    page: PageReader,
}

/// What is asked of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    /// Whether samples are no picture but label values, handed out as they are stored.
    pub(super) labels: bool,
    /// Whether a world file may say where the image lies.
    pub(super) world_files: bool,
}

impl GeoTiff {
    /// Opens a file and reads its directories.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_for(path.as_ref(), Purpose { labels: false, world_files: true })
    }

    /// As [`GeoTiff::open`], for a purpose.
    pub(super) fn open_for(path: &Path, purpose: Purpose) -> Result<Self> {
        Self::open_inner(path, purpose).map_err(|e| e.at(path.display()))
    }

    fn open_inner(path: &Path, purpose: Purpose) -> Result<Self> {
        let file = LocalFile::open(path)?;
        let pages = Tiff::open(&file)?.pages()?;
        let chosen = directory::picture(&pages)?;
        Self::page(path, &file, &pages, chosen, purpose)
    }

    /// One page of a file, and the mask of it.
    fn page(path: &Path, file: &Arc<dyn ByteSource>, pages: &[Page], chosen: usize, purpose: Purpose) -> Result<Self> {
        let mut opened = Tiff::open(file)?;
        let Some(page) = pages.get(chosen) else {
            return Err(Error::new(ErrorKind::Format, "the TIFF has no page").remedy("fetch or export it again"));
        };
        let georef = place::of_page(&mut opened.tags(&page.directory), path, purpose.world_files)?;
        let image = PageReader::new(opened, page, purpose.labels, BUDGET - MASK_BUDGET)?;
        let mask = match directory::mask_of(pages, chosen) {
            Some(page) => {
                let page = PageReader::new(Tiff::open(file)?, page, true, MASK_BUDGET)?;
                Some(Mask { path: path.to_owned(), page })
            }
            None => Mask::beside(path, page.size)?,
        };
        let pictures = pages.iter().filter(|p| !p.reduced && !p.mask).count();
        let overviews = directory::overviews(pages, chosen).into_iter().map(|i| pages[i].size).collect();
        let interpretation = image.meaning.interpretation();
        Ok(Self { path: path.to_owned(), image, mask, georef, overviews, pictures, interpretation, reduced: None })
    }

    /// Whether its compression changes samples.
    pub(super) fn is_lossy(&self) -> bool {
        self.image.layout.codec.is_lossy()
    }
}

impl Mask {
    /// The mask that GDAL keeps beside an image of a size, `a.tif.msk` for `a.tif`, if there is one.
    fn beside(path: &Path, size: (usize, usize)) -> Result<Option<Self>> {
        let Some(path) = sidecar::mask(path) else { return Ok(None) };
        Self::open(&path, size).map(Some).map_err(|e| e.at(path.display()))
    }

    fn open(path: &Path, size: (usize, usize)) -> Result<Self> {
        let mut file = Tiff::open(&LocalFile::open(path)?)?;
        let pages = file.pages()?;
        let Some(page) = pages.iter().find(|p| !p.reduced) else {
            return Err(Error::new(ErrorKind::Format, "the mask has no page").remedy("remove it or export it again"));
        };
        if page.size != size {
            let message = format!("the mask has {:?} pixels, its image {size:?}", page.size);
            return Err(Error::new(ErrorKind::Invalid, message).remedy("remove it, or make it anew for this image"));
        }
        Ok(Self { path: path.to_owned(), page: PageReader::new(file, page, true, MASK_BUDGET)? })
    }

    /// Marks the pixels of a window where the mask is 0 in all of its bands.
    fn apply(&mut self, window: &Window, patch: &mut Patch) -> Result<()> {
        let bands: Vec<usize> = (0..self.page.meaning.bands()).collect();
        let found = self.page.read(window, &bands)?.samples;
        fn each<T: Copy + PartialEq + Default>(values: &[T], bands: usize, valid: &mut [bool]) {
            for (valid, pixel) in valid.iter_mut().zip(values.chunks_exact(bands)) {
                *valid &= pixel.iter().any(|v| *v != T::default());
            }
        }
        let valid = patch.valid_mut();
        match found {
            Samples::U8(v) => each(&v, bands.len(), valid),
            Samples::U16(v) => each(&v, bands.len(), valid),
            Samples::F32(v) => each(&v, bands.len(), valid),
        }
        Ok(())
    }
}

/// Which pixels of an image of a size hold data, `[height, width]`, by the mask beside it; none if there is no such mask.
///
/// # Errors
/// Those of reading the mask, naming it.
pub(super) fn mask_beside(path: &Path, size: (usize, usize)) -> Result<Option<Vec<bool>>> {
    let Some(mut mask) = Mask::beside(path, size)? else { return Ok(None) };
    let window = Window::whole(size);
    let mut patch = Patch::begin(&window, &[], size, 0, Depth::U8)?;
    mask.apply(&window, &mut patch).map_err(|e| e.at(mask.path.display()))?;
    Ok(Some(patch.valid))
}

impl Raster for GeoTiff {
    fn size(&self) -> (usize, usize) {
        self.image.layout.size
    }

    fn bands(&self) -> usize {
        self.image.meaning.bands()
    }

    fn depth(&self) -> Depth {
        self.image.meaning.depth()
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        &self.overviews
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let mut patch = self.image.read(&window, bands).map_err(|e| e.at(self.path.display()))?;
        if let Some(mask) = &mut self.mask {
            mask.apply(&window, &mut patch).map_err(|e| e.at(mask.path.display()))?;
        }
        Ok(patch.finish())
    }

    fn describe(&self) -> String {
        let (width, height) = self.size();
        let samples = self.image.meaning.samples();
        let plural = if samples == 1 { "" } else { "s" };
        let bits = self.image.layout.encoding.bits;
        let mask = if self.mask.is_some() { ", with a mask" } else { "" };
        let page = if self.pictures > 1 { format!(", the first of {} pictures", self.pictures) } else { String::new() };
        let place = sidecar::describe(self.georef.as_ref());
        let kind = match self.reduced {
            Some((w, h)) => format!("overview of a TIFF of {w} x {h} pixels, itself"),
            None => "TIFF of".to_owned(),
        };
        format!("{kind} {width} x {height} pixels, {samples} band{plural} of {bits} bits{mask}{page}{place}")
    }

    fn interpretation(&self) -> Interpretation {
        self.interpretation
    }

    fn is_known_blank(&self, window: Window) -> bool {
        self.image.is_known_blank(&window)
    }

    fn decoded_blocks(&self) -> u64 {
        self.image.decoded()
    }
}
