//! Files of a folder by stem, and images joined with their masks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::FolderKind;
use super::classes::ClassList;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;

/// Extensions of files that are read.
const READ: [&str; 6] = ["tif", "tiff", "png", "jpg", "jpeg", "webp"];
/// Extensions of rasters that are not. Everything else beside images (world files, statistics, notes) is passed over.
const NOT_READ: [&str; 21] = [
    "mrf", "jp2", "j2k", "img", "ecw", "sid", "bil", "bip", "bsq", "gif", "bmp", "nc", "hdf", "h5", "vrt", "npy",
    "npz", "crf", "nitf", "ntf", "heic",
];

/// An image and its mask, whose names have the same stem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub stem: String,
    pub image: PathBuf,
    pub mask: PathBuf,
}

/// What was found in a folder of the data.
pub(super) struct Found {
    pub kind: FolderKind,
    pub pairs: Vec<Pair>,
    pub classes: Option<ClassList>,
    /// Whether there may be world files beside the images.
    pub world_files: bool,
    /// Whether there may be world files beside the masks.
    pub mask_world_files: bool,
    /// The system of world files that come without one.
    pub crs: Option<Crs>,
    /// Masks without an image.
    pub unused_masks: usize,
}

/// The rasters of a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub folder: PathBuf,
    /// By stem, in the order of names.
    pub files: BTreeMap<String, PathBuf>,
    /// Whether there are files that may be world files.
    pub world_files: bool,
    /// Names of folders in it.
    pub folders: Vec<String>,
}

impl Listing {
    /// Lists a folder; does not look into folders in it.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut listing = Self { folder: folder.to_owned(), ..Self::default() };
        for entry in fs::read_dir(folder).map_err(|e| Error::from(e).at(folder.display()))? {
            let entry = entry.map_err(|e| Error::from(e).at(folder.display()))?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
            let kind = entry.file_type().map_err(|e| Error::from(e).at(path.display()))?;
            // Links are followed; of plain files the type is known without asking for it.
            if kind.is_dir() || kind.is_symlink() && path.is_dir() {
                listing.folders.push(name);
            } else if name.starts_with('.') {
            } else if READ.contains(&extension.as_str()) {
                let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                if let Some(other) = listing.files.insert(stem.clone(), path.clone()) {
                    return Err(Error::new(ErrorKind::Invalid, format!("{stem:?} is there twice, also as {other:?}"))
                        .at(path.display())
                        .remedy("keep one of them"));
                }
            } else if NOT_READ.contains(&extension.as_str()) {
                return Err(Error::new(ErrorKind::Unsupported, format!("files of type .{extension} are not read"))
                    .at(path.display())
                    .remedy("export as TIFF, PNG or JPEG, or convert with gdal_translate -of GTiff"));
            } else if extension.ends_with('w') || extension == "wld" {
                listing.world_files = true;
            }
        }
        listing.folders.sort();
        if listing.files.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "there are no images in this folder")
                .at(folder.display())
                .remedy("TIFF, PNG, JPEG and WebP files directly in it are read"));
        }
        Ok(listing)
    }
}

/// Joins images and masks by stem; gives them with the number of masks that have no image.
pub(super) fn pair(images: Listing, mut masks: Listing) -> Result<(Vec<Pair>, usize)> {
    let mut pairs = Vec::with_capacity(images.files.len());
    let mut missing = Vec::new();
    for (stem, image) in images.files {
        match masks.files.remove(&stem) {
            Some(mask) => pairs.push(Pair { stem, image, mask }),
            None => missing.push(image.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or(stem)),
        }
    }
    no_mask(&images.folder, &missing, &masks.folder)?;
    Ok((pairs, masks.files.len()))
}

/// An error if there are images without a mask; names the first five.
pub(super) fn no_mask(images: &Path, missing: &[String], masks: &Path) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
    let count = if missing.len() == 1 { "1 image has".to_owned() } else { format!("{} images have", missing.len()) };
    Err(Error::new(ErrorKind::NotFound, format!("{count} no mask in {}: {named}{more}", masks.display()))
        .at(images.display())
        .remedy("add the masks, named as the images, or remove these images; an empty mask says that there is nothing"))
}
