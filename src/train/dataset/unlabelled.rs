//! Images without labels, of which only a teacher speaks.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::chip::{Chip, IGNORE};
use super::listing::Listing;
use super::open::tile;
use super::{Dataset, Extent, fingerprint};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::source::raw;

/// An image without a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct UnlabelledImage {
    /// Its file.
    pub image: PathBuf,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// The ground it shows, if known.
    pub extent: Option<Extent>,
}

/// Images without masks, in the order of folders and names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unlabelled {
    /// The images.
    pub images: Vec<UnlabelledImage>,
    /// How many were left out since they show ground of validation samples, or are copies of them.
    pub left_out: usize,
}

impl Unlabelled {
    /// Lists folders of images, or with a folder `images`, of the bands and depth of `dataset`, and decodes each image once. Images
    /// that show ground of its samples `valid`, or are copies of one of their files, are left out.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for folders without images, and if none is left; [`ErrorKind::Invalid`] for other bands or depths;
    /// what reading gives. All name the file.
    pub fn open(folders: &[PathBuf], dataset: &Dataset, valid: &[usize]) -> Result<Self> {
        let measured: Vec<_> = valid.iter().filter_map(|&i| dataset.samples.get(i)).collect();
        let copies: Vec<Result<fingerprint::FileHash>> =
            measured.par_iter().map(|s| fingerprint::of_file(&s.image)).collect();
        let copies = copies.into_iter().collect::<Result<std::collections::BTreeSet<_>>>()?;
        let mut found = Self::default();
        for folder in folders {
            let inner = folder.join("images");
            let folder = if inner.is_dir() { &inner } else { folder };
            let listing = Listing::new(folder)?;
            let files: Vec<&Path> = listing.files.values().map(PathBuf::as_path).collect();
            let opened: Vec<Result<(UnlabelledImage, bool)>> = files
                .par_iter()
                .map(|file| {
                    let image = header(file, listing.world_files, dataset)?;
                    dataset.read_file(file, image.width, image.height)?;
                    let copied = copies.contains(&fingerprint::of_file(file)?);
                    let extents = || measured.iter().filter_map(|s| s.extent.as_ref());
                    let shown = image.extent.as_ref().is_some_and(|e| extents().any(|of| same_ground(e, of)));
                    Ok((image, copied || shown))
                })
                .collect();
            for image in opened {
                let (image, measured) = image?;
                match measured {
                    true => found.left_out += 1,
                    false => found.images.push(image),
                }
            }
        }
        if found.images.is_empty() {
            let place = folders.first().map(|f| f.display().to_string()).unwrap_or_default();
            let message = format!("no image is left: {} show ground of the validation chips", found.left_out);
            return Err(Error::new(ErrorKind::NotFound, message).at(place).remedy("give images of other places"));
        }
        Ok(found)
    }

    /// SHA-256 over names, sizes and contents.
    ///
    /// # Errors
    /// What reading the files gives.
    pub fn hash(&self) -> Result<String> {
        let each: Vec<Result<fingerprint::FileHash>> =
            self.images.par_iter().map(|i| fingerprint::of_file(&i.image)).collect();
        let mut hasher = Sha256::new();
        for (image, hash) in self.images.iter().zip(each) {
            let name = image.image.file_name().unwrap_or_default().to_string_lossy();
            hasher.update(format!("{name}\0{}\0{}\0", image.width, image.height));
            hasher.update(hash?);
        }
        Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Decodes an image as `dataset` decodes its own, no pixel labelled; and `[height, width]`: 0 where it holds data, [`IGNORE`]
    /// where not.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such image; what reading gives.
    pub fn read(&self, index: usize, dataset: &Dataset) -> Result<(Chip, Vec<u8>)> {
        let Some(UnlabelledImage { image, width, height, .. }) = self.images.get(index) else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no unlabelled image {index}")));
        };
        let raw = dataset.read_file(image, *width, *height)?;
        let silence = silence(&raw);
        Ok((Chip::new(raw, vec![IGNORE; width * height])?, silence))
    }
}

/// `[height, width]`: 0 where an image holds data, [`IGNORE`] where not.
pub(super) fn silence(image: &raw::Raw) -> Vec<u8> {
    let mut plane = vec![0; image.width * image.height];
    plane.iter_mut().zip(&image.nodata).filter(|(_, none)| **none).for_each(|(silent, _)| *silent = IGNORE);
    plane
}

fn header(file: &Path, world_files: bool, dataset: &Dataset) -> Result<UnlabelledImage> {
    let header = raw::header(file, world_files)?;
    if (header.bands, header.depth) != (dataset.file_bands, dataset.depth) {
        let message = format!(
            "the image has {} bands of {:?}, the labelled ones {} of {:?}",
            header.bands, header.depth, dataset.file_bands, dataset.depth
        );
        return Err(Error::new(ErrorKind::Invalid, message)
            .at(file.display())
            .remedy("unlabelled images have the bands and depth of the labelled ones"));
    }
    let (width, height) = (header.width, header.height);
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let named = tile(&stem).filter(|_| width == height).map(|t| Georef::from_tile(t, width, height));
    // Neighbours may overlap by a part of a pixel, through rounding.
    let extent = header.georef.or(named).map(|g| {
        let extent = Extent::new(&g, width, height);
        let (w, h) = extent.size();
        extent.shrunk(0.25 * w / width as f64, 0.25 * h / height as f64)
    });
    Ok(UnlabelledImage { image: file.to_owned(), width, height, extent })
}

/// Whether two boxes overlap, where their systems can be compared.
fn same_ground(a: &Extent, b: &Extent) -> bool {
    if a.epsg == b.epsg {
        return a.overlaps(b);
    }
    match (a.to_web_mercator(), b.to_web_mercator()) {
        (Some(a), Some(b)) => a.overlaps(&b),
        _ => false,
    }
}
