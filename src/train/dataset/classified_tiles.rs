//! ArcGIS's "Export Training Data For Deep Learning" with metadata format Classified Tiles, as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::FolderKind;
use super::classes::{ClassEntry, ClassList};
use super::listing::{Found, Listing, Pair, no_mask, pair};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Crs;

const MODEL_FILE: &str = "esri_model_definition.emd";
const STATISTICS_FILE: &str = "esri_accumulated_stats.json";
const MAP_FILE: &str = "map.txt";
/// What the metadata format must be.
const MODE: &str = "Classified_Tiles";

/// Whether a folder is an ArcGIS export, of whatever metadata format.
pub(super) fn is_one(folder: &Path) -> bool {
    [MODEL_FILE, STATISTICS_FILE, MAP_FILE].iter().any(|name| folder.join(name).is_file())
}

/// Reads classes and pairs of an export.
pub(super) fn find(folder: &Path) -> Result<Found> {
    let model = read_json(&folder.join(MODEL_FILE))?;
    let statistics = read_json(&folder.join(STATISTICS_FILE))?;
    for (file, value) in [(MODEL_FILE, &model), (STATISTICS_FILE, &statistics)] {
        let mode = value.as_ref().and_then(|v| v["MetaDataMode"].as_str());
        if let Some(mode) = mode.filter(|m| !m.eq_ignore_ascii_case(MODE)) {
            let message = format!("the export's metadata format is {mode:?}, which is not read");
            return Err(Error::new(ErrorKind::Unsupported, message)
                .at(folder.join(file).display())
                .remedy("export again with the metadata format Classified Tiles"));
        }
    }
    let classes = match (&model, &statistics) {
        (Some(model), _) if model["Classes"].is_array() => {
            Some(class_list(&folder.join(MODEL_FILE), &model["Classes"], "Value", "Name")?)
        }
        (_, Some(statistics)) if statistics["Classes"].is_array() => {
            Some(class_list(&folder.join(STATISTICS_FILE), &statistics["Classes"], "ClassValue", "ClassName")?)
        }
        _ => None,
    };
    let labels = Listing::new(&folder.join("labels")).map_err(|e| explain_labels(folder, e))?;
    let images = Listing::new(&folder.join("images"))?;
    let (world_files, mask_world_files) = (images.world_files, labels.world_files);
    let map = folder.join(MAP_FILE);
    let (pairs, unused_masks) =
        if map.is_file() { read_map(folder, &map, images, labels)? } else { pair(images, labels)? };
    let crs = model.as_ref().and_then(spatial_reference);
    Ok(Found { kind: FolderKind::ClassifiedTiles, pairs, classes, world_files, mask_world_files, crs, unused_masks })
}

/// `labels/<class>/<stem>` is how RCNN_Masks and other formats for objects lie.
fn explain_labels(folder: &Path, error: Error) -> Error {
    let labels = folder.join("labels");
    let nested = fs::read_dir(&labels).into_iter().flatten().flatten().any(|e| e.path().is_dir());
    if !nested {
        return error;
    }
    Error::new(ErrorKind::Unsupported, "the labels lie in a folder for each class, as in RCNN Masks, which is not read")
        .at(labels.display())
        .remedy("export again with the metadata format Classified Tiles")
}

fn read_json(file: &Path) -> Result<Option<Value>> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(file).map_err(|e| Error::from(e).at(file.display()))?;
    // Exports of some versions begin with a byte order mark.
    let value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| {
        Error::new(ErrorKind::Format, "this is no JSON").at(file.display()).remedy("export again").source(e)
    })?;
    Ok(Some(value))
}

fn class_list(file: &Path, classes: &Value, value: &str, name: &str) -> Result<ClassList> {
    let mut entries = Vec::new();
    for class in classes.as_array().into_iter().flatten() {
        let number = class[value].as_u64().and_then(|v| u32::try_from(v).ok());
        let (Some(number), Some(name)) = (number, class[name].as_str()) else {
            return Err(Error::new(ErrorKind::Format, format!("a class without {value} or {name}: {class}"))
                .at(file.display())
                .remedy("classes have whole numbers from 0 on and names; export again"));
        };
        // [-1, -1, -1] stands for no colour.
        let part = |i: usize| class["Color"][i].as_u64().and_then(|v| u8::try_from(v).ok());
        let color = part(0).zip(part(1)).zip(part(2)).map(|((r, g), b)| [r, g, b]);
        entries.push(ClassEntry { value: number, name: name.trim().to_owned(), color });
    }
    ClassList::new(file.to_owned(), entries)
}

/// The system that the export's cell sizes are in, for world files without a `.prj`.
fn spatial_reference(model: &Value) -> Option<Crs> {
    let reference = &model["MinCellSize"]["spatialReference"];
    let code = reference["latestWkid"].as_u64().or_else(|| reference["wkid"].as_u64())?;
    u32::try_from(code).ok().map(Crs::from_epsg)
}

/// Whether a path that a file names goes down from where it begins: no root, no drive, no `..`.
fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The pairs that `map.txt` lists: `images\000000000.tif  labels\000000000.tif `.
fn read_map(folder: &Path, map: &Path, images: Listing, labels: Listing) -> Result<(Vec<Pair>, usize)> {
    let text = fs::read_to_string(map).map_err(|e| Error::from(e).at(map.display()))?;
    // A look into the listings instead of a question to the file system for each of 100,000 files.
    let paths = |listing: &Listing| listing.files.values().cloned().collect::<BTreeSet<PathBuf>>();
    let (mut unlisted, mut unused) = (paths(&images), paths(&labels));
    let mut pairs = Vec::new();
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = columns(line);
        let [image, label] = match words.as_slice() {
            [] => continue,
            [image, label] => [image, label].map(|part| part.replace('\\', "/")),
            _ => {
                return Err(Error::new(
                    ErrorKind::Format,
                    format!("line {} does not name two files: {line:?}", number + 1),
                )
                .at(map.display())
                .remedy("each line names an image and its label; export again"));
            }
        };
        // An export is read where it lies: a stranger's must not reach for other files of this machine.
        if let Some(outside) = [&image, &label].into_iter().find(|part| !stays_inside(part)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("line {} names a file outside the export: {outside:?}", number + 1),
            )
            .at(map.display())
            .remedy("each line names an image and its label by paths below the export's folder; export again"));
        }
        let [image, label] = [image, label].map(|part| folder.join(part));
        if !unlisted.remove(&image) && !image.is_file() {
            return Err(Error::new(ErrorKind::NotFound, "the image that map.txt lists does not exist")
                .at(image.display())
                .remedy("copy the export again, with all its files"));
        }
        if !unused.remove(&label) && !label.is_file() {
            missing.push(image.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default());
            continue;
        }
        let stem = image.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        pairs.push(Pair { stem, image, mask: label });
    }
    no_mask(&images.folder, &missing, &labels.folder)?;
    if !unlisted.is_empty() {
        // Copied in later, or the export was stopped: they are no part of it, but nobody should find out by chance.
        let first = unlisted.iter().next().map(|p| p.display().to_string()).unwrap_or_default();
        let message = format!("map.txt does not list {} of the images, such as {first}", unlisted.len());
        return Err(Error::new(ErrorKind::Invalid, message)
            .at(map.display())
            .remedy("add lines for them, remove them, or remove map.txt so that files are joined by their names"));
    }
    if pairs.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the file lists no images")
            .at(map.display())
            .remedy("export again"));
    }
    pairs.sort_by(|a, b| a.stem.cmp(&b.stem));
    if let Some(twice) = pairs.windows(2).find(|w| w[0].stem == w[1].stem) {
        return Err(Error::new(ErrorKind::Invalid, format!("{:?} is listed twice", twice[0].stem))
            .at(map.display())
            .remedy("keep one of the lines"));
    }
    Ok((pairs, unused.len()))
}

/// Two names with spaces between them; names may hold single spaces.
fn columns(line: &str) -> Vec<&str> {
    let line = line.trim();
    let wide: Vec<&str> = line.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
    if wide.len() == 2 { wide } else { line.split_whitespace().collect() }
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn lines_of_the_map() {
        assert_eq!(columns("images\\0.tif  labels\\0.tif "), ["images\\0.tif", "labels\\0.tif"]);
        assert_eq!(columns("images/a b.tif  labels/a b.tif"), ["images/a b.tif", "labels/a b.tif"]);
        assert_eq!(columns("images/0.tif labels/0.tif\r"), ["images/0.tif", "labels/0.tif"]);
        assert_eq!(columns("images/0.tif\tlabels/0.tif"), ["images/0.tif", "labels/0.tif"]);
        assert!(columns("  ").is_empty());
    }
}
