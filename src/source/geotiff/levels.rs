//! A TIFF's image and its overviews, each a raster at its place.

use std::path::Path;
use std::sync::Arc;

use super::directory::{self, Tiff};
use super::page::PageReader;
use super::{GeoTiff, MASK_BUDGET, Mask, Purpose};
use crate::error::Result;
use crate::georef::Georef;
use crate::source::bytes::{ByteSource, LocalFile};
use crate::source::cache::BUDGET;
use crate::source::raster::Raster;
use crate::source::sidecar;

impl GeoTiff {
    /// The image of a file and the overviews in it, largest first. An overview lies where the image does, its pixels larger by
    /// the true ratio of the sizes. Overviews that do not say which of their pixels hold data where the image does, or have other
    /// bands than it, are left out.
    ///
    /// # Errors
    /// As [`GeoTiff::open`].
    pub fn levels(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        Self::levels_of(path, &LocalFile::open(path)?, Purpose { labels: false, world_files: true })
    }

    /// As [`GeoTiff::levels`], of a file anywhere.
    #[cfg(feature = "http")]
    pub(in crate::source) fn levels_at(file: &Arc<dyn ByteSource>) -> Result<Vec<Self>> {
        Self::levels_of(Path::new(file.name()), file, Purpose { labels: false, world_files: false })
    }

    fn levels_of(path: &Path, file: &Arc<dyn ByteSource>, purpose: Purpose) -> Result<Vec<Self>> {
        let read = || {
            let pages = Tiff::open(file)?.pages()?;
            let chosen = directory::picture(&pages)?;
            let full = Self::page(path, file, &pages, chosen, purpose)?;
            let mut levels = Vec::new();
            for index in directory::overviews(&pages, chosen) {
                let reader = Tiff::open(file)?;
                let image = PageReader::overview(reader, &pages[index], &pages[chosen], BUDGET - MASK_BUDGET)?;
                let size = image.layout.size;
                let mask = match directory::mask_of(&pages, index) {
                    Some(page) => {
                        let page = PageReader::new(Tiff::open(file)?, page, true, MASK_BUDGET)?;
                        Some(Mask { path: path.to_owned(), page })
                    }
                    None => Mask::reduced_beside(path, size)?,
                };
                let (ours, theirs) = (&image.meaning, &full.image.meaning);
                let knows_no_data = (mask.is_some() || full.mask.is_none())
                    && (ours.has_nodata() || !theirs.has_nodata())
                    && ours.alpha().is_some() == theirs.alpha().is_some();
                if !knows_no_data || (ours.bands(), ours.depth()) != (theirs.bands(), theirs.depth()) {
                    continue;
                }
                let georef = full.georef.as_ref().map(|g| reduced(g, full.size(), size));
                levels.push(Self {
                    path: path.to_owned(),
                    image,
                    mask,
                    georef,
                    overviews: Vec::new(),
                    pictures: full.pictures,
                    interpretation: full.interpretation,
                    reduced: Some(full.size()),
                });
            }
            levels.insert(0, full);
            Ok(levels)
        };
        read().map_err(|e: crate::error::Error| e.at(path.display()))
    }
}

impl Mask {
    /// The overview of the mask beside an image that has the size of an overview of the image; none if there is none.
    fn reduced_beside(path: &Path, size: (usize, usize)) -> Result<Option<Self>> {
        let Some(path) = sidecar::mask(path) else { return Ok(None) };
        let open = || -> Result<Option<Self>> {
            let mut file = Tiff::open(&LocalFile::open(&path)?)?;
            let pages = file.pages()?;
            let Some(page) = pages.iter().find(|p| p.reduced && p.size == size) else { return Ok(None) };
            Ok(Some(Self { path: path.clone(), page: PageReader::new(file, page, true, MASK_BUDGET)? }))
        };
        open().map_err(|e| e.at(path.display()))
    }
}

/// The place of a copy of `to` pixels of an image of `from` pixels.
fn reduced(georef: &Georef, from: (usize, usize), to: (usize, usize)) -> Georef {
    let (x, y) = (from.0 as f64 / to.0 as f64, from.1 as f64 / to.1 as f64);
    let [a, b, c, d, e, f] = georef.transform;
    Georef { transform: [a * x, b * y, c, d * x, e * y, f], crs: georef.crs.clone() }
}
