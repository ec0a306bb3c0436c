//! Plain folders: `images/` and `masks/` or `labels/` with equal stems, and an optional `classes.json`.

use std::path::Path;

use super::classes::ClassList;
use super::listing::{Found, Listing, pair};
use super::{FolderKind, classified_tiles};
use crate::error::{Error, ErrorKind, Result};

/// File of a plain folder that names its classes.
const CLASSES_FILE: &str = "classes.json";

/// Whether a folder is laid out as a data set, or holds folders that are.
pub fn is_dataset(folder: &Path) -> bool {
    has_samples(folder) || !inside(folder).is_empty()
}

fn has_samples(folder: &Path) -> bool {
    folder.join("images").is_dir() || classified_tiles::is_one(folder)
}

/// Folders in a folder that are data sets, sorted.
fn inside(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<String> = entries.filter(|p| has_samples(p)).map(|p| p.display().to_string()).collect();
    found.sort();
    found
}

/// Recognises the layout of a folder and pairs its images and masks.
pub(super) fn find(folder: &Path) -> Result<Found> {
    if !folder.is_dir() {
        let message = if folder.exists() { "this is no folder" } else { "there is no such folder" };
        return Err(Error::new(ErrorKind::NotFound, message).at(folder.display()).remedy(LAYOUT));
    }
    if classified_tiles::is_one(folder) {
        return classified_tiles::find(folder);
    }
    let images = folder.join("images");
    if !images.is_dir() {
        return Err(no_images(folder));
    }
    let present: Vec<_> = ["masks", "labels"].iter().map(|n| folder.join(n)).filter(|p| p.is_dir()).collect();
    let masks = match present.as_slice() {
        [masks] => masks,
        [] => {
            return Err(Error::new(ErrorKind::NotFound, "there is neither a folder masks nor labels")
                .at(folder.display())
                .remedy(LAYOUT));
        }
        _ => {
            return Err(Error::new(ErrorKind::Invalid, "there is a folder masks and one labels")
                .at(folder.display())
                .remedy("keep one of them here"));
        }
    };
    let images = Listing::new(&images)?;
    let masks = Listing::new(masks)?;
    let (world_files, mask_world_files) = (images.world_files, masks.world_files);
    let (pairs, unused_masks) = pair(images, masks)?;
    let file = folder.join(CLASSES_FILE);
    let classes = if file.is_file() { Some(ClassList::read_json(&file)?) } else { None };
    Ok(Found { kind: FolderKind::Folder, pairs, classes, world_files, mask_world_files, crs: None, unused_masks })
}

const LAYOUT: &str = "a data folder is an ArcGIS export of Classified Tiles, or holds images/ and masks/ (or labels/) \
                      with files of equal names";

/// Says which folders in it are data sets, where the folder itself is none.
fn no_images(folder: &Path) -> Error {
    let error = Error::new(ErrorKind::NotFound, "there is no folder images").at(folder.display());
    match inside(folder) {
        none if none.is_empty() => error.remedy(LAYOUT),
        some => error.remedy(format!("did you mean {}?", some.iter().take(5).cloned().collect::<Vec<_>>().join(", "))),
    }
}
