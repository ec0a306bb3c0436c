//! Files beside an image: world files and `.prj`, which say where it lies, and `.msk`, which says where it holds data.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::georef::{Crs, Georef};

/// The most that is read of a sidecar file; real ones hold a few hundred bytes.
const LIMIT: u64 = 64 << 10;

/// The georeference that a world file beside `path` gives, with the system of a `.prj` file if there is one.
///
/// # Errors
/// What the world file's reader gives; none if there is no such file.
pub(super) fn georef(path: &Path) -> Result<Option<Georef>> {
    let Some(world) = world_file(path) else { return Ok(None) };
    let crs = beside(path, "prj").map(|prj| read(&prj).map(|text| Crs::from_wkt(&text))).transpose()?;
    Georef::from_world_file(&read(&world)?, crs.unwrap_or_default()).map(Some).map_err(|e| e.at(world.display()))
}

/// `a.tif` may have `a.tfw`, `a.tifw` or `a.wld`: the extension's first and last letter and a `w`, or all and a `w`.
fn world_file(path: &Path) -> Option<PathBuf> {
    let extension = path.extension()?.to_str()?;
    let (first, last) = (extension.chars().next()?, extension.chars().last()?);
    [format!("{first}{last}w"), format!("{extension}w"), "wld".to_owned()].iter().find_map(|e| beside(path, e))
}

/// The file with another extension, in lower or upper case.
fn beside(path: &Path, extension: &str) -> Option<PathBuf> {
    [extension.to_owned(), extension.to_uppercase()].iter().map(|e| path.with_extension(e)).find(|p| p.is_file())
}

/// A small file's text.
pub(super) fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes));
    file.map_err(|e| Error::from(e).at(path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether there is a world file beside `path`.
pub(super) fn has_world_file(path: &Path) -> bool {
    world_file(path).is_some_and(|p| fs::metadata(p).is_ok())
}

/// The mask that GDAL keeps beside an image: its whole name and `.msk`.
pub(super) fn mask(path: &Path) -> Option<PathBuf> {
    ["msk", "MSK"]
        .iter()
        .map(|extension| {
            let mut name = path.as_os_str().to_owned();
            name.push(".");
            name.push(extension);
            PathBuf::from(name)
        })
        .find(|p| p.is_file())
}

/// The end of a description: where an image lies.
pub(super) fn describe(georef: Option<&Georef>) -> String {
    match georef.map(|g| g.crs.epsg) {
        None => ", not georeferenced".to_owned(),
        Some(None) => ", georeferenced in an unknown system".to_owned(),
        Some(Some(epsg)) => format!(", EPSG:{epsg}"),
    }
}
