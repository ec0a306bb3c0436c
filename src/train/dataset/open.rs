//! Opening folders: names, headers, classes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::classes::{self, ClassList};
use super::folder;
use super::labels::{self, LabelMap, wrong_size};
use super::listing::{Found, Pair};
use super::{Dataset, DatasetOptions, Extent, FolderInfo, Histogram, Sample, chip};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Georef, ToLonLat};
use crate::source::raw::{self, Header};
use crate::tile::TileId;

/// The least zoom level at which a name such as `12-5-7` is taken for a tile of a web map: below it a pixel covers
/// hundreds of metres, and the numbers are more likely rows and columns.
const MIN_ZOOM: u8 = 8;

/// As [`Dataset::open`].
pub(super) fn open(folders: &[PathBuf], options: &DatasetOptions) -> Result<Dataset> {
    if folders.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "no data folder is given").remedy("name one with --data"));
    }
    let mut found = Vec::with_capacity(folders.len());
    for (i, path) in folders.iter().enumerate() {
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_owned());
        if folders[..i].iter().any(|other| real(other) == real(path)) {
            return Err(Error::new(ErrorKind::Invalid, "the folder is given twice").at(path.display()));
        }
        found.push(folder::find(path)?);
    }

    let labels = folder_labels(folders);
    let mut warnings = Vec::new();
    let mut samples = Vec::with_capacity(found.iter().map(|f| f.pairs.len()).sum());
    let mut first: Option<(Header, PathBuf)> = None;
    for (index, found) in found.iter_mut().enumerate() {
        let tiles = found.pairs.iter().all(|p| tile(&p.stem).is_some());
        let pairs = std::mem::take(&mut found.pairs);
        let read: Vec<Result<(Sample, Header)>> =
            pairs.into_par_iter().map(|pair| sample(pair, index, &labels[index], found, tiles)).collect();
        for sample in read {
            let (sample, header) = sample?;
            match &first {
                Some((of, path)) if (of.bands, of.depth) != (header.bands, header.depth) => {
                    return Err(bands_differ(&sample.image, &header, path, of));
                }
                Some(_) => {}
                None => first = Some((header, sample.image.clone())),
            }
            samples.push(sample);
        }
    }
    let Some((header, path)) = first else {
        return Err(Error::new(ErrorKind::NotFound, "there are no samples").at(folders[0].display()));
    };
    if let Some(bands) = &options.bands {
        if let Some(&band) = bands.iter().find(|&&b| b >= header.bands) {
            return Err(chip::no_band(band, header.bands).at(path.display()));
        }
        if bands.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no band is chosen").at("--bands"));
        }
    }

    let (lists, histograms) = class_lists(folders, &found, &samples, options)?;
    let classes = classes::unite(&lists, options)?;
    let maps = classes
        .maps
        .iter()
        .zip(&found)
        .map(|(map, found)| LabelMap::new(map, options, labels::colours(found.classes.as_ref())));
    for (path, found) in folders.iter().zip(&found).filter(|(_, f)| f.unused_masks > 0) {
        warnings.push(format!("{}: {} masks have no image and are not used.", path.display(), found.unused_masks));
    }
    let count = |index| samples.iter().filter(|s| s.folder == index).count();
    let infos = folders.iter().zip(&found).enumerate().map(|(index, (path, found))| FolderInfo {
        path: path.clone(),
        kind: found.kind,
        samples: count(index),
        unused_masks: found.unused_masks,
    });
    Ok(Dataset {
        folders: infos.collect(),
        labels: maps.collect(),
        bands: options.bands.as_ref().map_or(header.bands, Vec::len),
        file_bands: header.bands,
        depth: header.depth,
        classes: classes.classes,
        values: classes.values,
        options: options.clone(),
        samples,
        histograms,
        warnings,
    })
}

/// A name for each folder: as much of the end of its path as makes it unique.
fn folder_labels(folders: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = folders
        .iter()
        .map(|folder| {
            let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            real.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
        })
        .collect();
    let end = |i: usize, n: usize| parts[i][parts[i].len().saturating_sub(n)..].join("/");
    let longest = parts.iter().map(Vec::len).max().unwrap_or(1);
    (0..folders.len())
        .map(|i| {
            let unique = |n: &usize| (0..folders.len()).all(|j| j == i || end(j, *n) != end(i, *n));
            end(i, (1..=longest).find(unique).unwrap_or(longest))
        })
        .collect()
}

/// The tile of a web map that a stem names.
fn tile(stem: &str) -> Option<TileId> {
    TileId::from_path(stem).filter(|t| t.z >= MIN_ZOOM)
}

/// Reads the headers of an image and its mask.
fn sample(pair: Pair, folder: usize, label: &str, found: &Found, tiles: bool) -> Result<(Sample, Header)> {
    let mut header = raw::header(&pair.image, found.world_files)?;
    let mask = raw::mask_header(&pair.mask)?;
    let (width, height) = (header.width, header.height);
    if (mask.width, mask.height) != (width, height) {
        return Err(wrong_size((mask.width, mask.height), (width, height)).at(pair.mask.display()));
    }
    if mask.colours && found.classes.as_ref().is_none_or(|l| l.entries.iter().all(|e| e.color.is_none())) {
        return Err(Error::new(ErrorKind::Invalid, "the mask holds colours and not one label value a pixel")
            .at(pair.mask.display())
            .remedy(
                "save it with one band or a palette, or give each class its colour in classes.json: \
                 {\"classes\": [{\"value\": 1, \"name\": \"road\", \"color\": \"#FF8000\"}]}",
            ));
    }
    let named = if tiles && width == height { tile(&pair.stem) } else { None };
    let mut georef = header.georef.take().or_else(|| named.map(|t| Georef::from_tile(t, width, height)));
    if let (Some(georef), Some(crs)) = (&mut georef, &found.crs)
        && georef.crs.epsg.is_none()
        && georef.crs.keys.is_none()
    {
        georef.crs = crs.clone();
    }
    let extent = georef.as_ref().map(|g| Extent::new(g, width, height));
    // A system that is not known may be degrees as well as metres.
    let known = georef.as_ref().filter(|g| ToLonLat::new(&g.crs).is_some());
    let metres_per_pixel = known.and_then(|g| g.ground_resolution(width, height)).filter(|m| m.is_finite() && *m > 0.0);
    let name = format!("{label}/{}", pair.stem);
    let sample = Sample { name, image: pair.image, mask: pair.mask, width, height, folder, extent, metres_per_pixel };
    Ok((sample, header))
}

fn bands_differ(path: &Path, header: &Header, first: &Path, of: &Header) -> Error {
    let depth = |h: &Header| format!("{} band{} of {:?}", h.bands, if h.bands == 1 { "" } else { "s" }, h.depth);
    let message = format!("the image has {}, {} has {}", depth(header), first.display(), depth(of));
    Error::new(ErrorKind::Invalid, message)
        .at(path.display())
        .remedy("images of one data set have the same bands and depth; convert them, for example with gdal_translate")
}

/// The class list of each folder: what was asked for, its own, the other folders', or the values of its masks.
#[allow(clippy::type_complexity)] // two results of one pass
fn class_lists(
    folders: &[PathBuf],
    found: &[Found],
    samples: &[Sample],
    options: &DatasetOptions,
) -> Result<(Vec<ClassList>, Vec<Option<Histogram>>)> {
    let mut histograms = Vec::new();
    let own: Vec<&ClassList> = found.iter().filter_map(|f| f.classes.as_ref()).collect();
    let merged = if options.classes.is_none() && own.len() < found.len() {
        ClassList::merged(&own)
            .map_err(|e| e.remedy("a folder without a class list cannot follow both; give it a classes.json"))?
    } else {
        None
    };
    let mut lists = Vec::with_capacity(found.len());
    for (index, (path, found)) in folders.iter().zip(found).enumerate() {
        let list = match (&options.classes, &found.classes, &merged) {
            (Some(asked), own, _) => ClassList::asked(path, asked, own.as_ref())?,
            (None, Some(own), _) => own.clone(),
            (None, None, Some(merged)) => merged.clone(),
            (None, None, None) => {
                histograms.resize(samples.len(), None);
                let values = values_of(index, samples, &mut histograms)?;
                let background = options.background.unwrap_or(0);
                ClassList::of_values(path, values, background)
            }
        };
        lists.push(list);
    }
    Ok((lists, histograms))
}

/// All label values in the masks of a folder.
fn values_of(folder: usize, samples: &[Sample], histograms: &mut [Option<Histogram>]) -> Result<BTreeSet<u32>> {
    let none = labels::Colours::new();
    let each: Vec<Option<Result<Histogram>>> = samples
        .par_iter()
        .map(|s| {
            let counted = || labels::histogram(&s.mask, s.width, s.height, &none).map(Vec::into_boxed_slice);
            (s.folder == folder).then(counted)
        })
        .collect();
    let mut values = BTreeSet::new();
    for ((slot, counted), sample) in histograms.iter_mut().zip(each).zip(samples) {
        let Some(counted) = counted.transpose()? else { continue };
        values.extend(counted.iter().map(|(v, _)| *v));
        if values.len() > classes::MAX_CLASSES {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the masks hold more than {} values", classes::MAX_CLASSES),
            )
            .at(sample.mask.display())
            .remedy("masks hold one small whole number a class; are these pictures?"));
        }
        *slot = Some(counted);
    }
    Ok(values)
}
