//! Opening folders: names, headers, classes.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::classes::{self, ClassList};
use super::folder;
use super::labels::{self, Histogram, LabelMap};
use super::listing::{Found, Pair};
use super::scan::Failure;
use super::values::{self, Unnamed};
use super::{Dataset, DatasetOptions, Extent, FolderInfo, Sample, agreement, chip, no_sample, review};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Georef, ToLonLat};
use crate::source::orientation::orientation;
use crate::source::raw::{self, Header};
use crate::source::{Format, detect};
use crate::tile::TileId;

/// The least zoom level at which a name such as `12-5-7` is taken for a tile of a web map: below it a pixel covers
/// hundreds of metres, and the numbers are more likely rows and columns.
const MIN_ZOOM: u8 = 8;

/// As [`Dataset::open_readable`].
pub(super) fn open(folders: &[PathBuf], options: &DatasetOptions) -> Result<(Dataset, Vec<Failure>)> {
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

    let names = folder_labels(folders);
    let mut samples = Vec::with_capacity(found.iter().map(|f| f.pairs.len()).sum());
    let mut differences = Vec::new();
    let mut failures = Vec::new();
    let mut first: Option<(Header, PathBuf)> = None;
    for (index, found) in found.iter_mut().enumerate() {
        let tiles = found.pairs.iter().all(|p| tile(&p.stem).is_some());
        let pairs = std::mem::take(&mut found.pairs);
        let read: Vec<std::result::Result<HeaderPair, Failure>> =
            pairs.into_par_iter().map(|pair| sample(pair, index, &names[index], found, tiles)).collect();
        for joined in read {
            let HeaderPair { sample, header, differences: found } = match joined {
                Ok(joined) => joined,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            match &first {
                Some((of, path)) if (of.bands, of.depth) != (header.bands, header.depth) => {
                    failures.push(Failure::new(&sample.image, bands_differ(&sample.image, &header, path, of)));
                    continue;
                }
                Some(_) => {}
                None => first = Some((header, sample.image.clone())),
            }
            differences.extend(found.into_iter().map(|d| (sample.name.clone(), d)));
            samples.push(sample);
        }
    }
    let Some((header, path)) = first else {
        let none = || Error::new(ErrorKind::NotFound, "there are no samples").at(folders[0].display());
        return Err(Failure::all(failures).unwrap_or_else(none));
    };
    if let Some(bands) = &options.bands {
        if let Some(&band) = bands.iter().find(|&&b| b >= header.bands) {
            return Err(chip::no_band(band, header.bands).at(path.display()));
        }
        if bands.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no band is chosen").at("--bands"));
        }
    }

    let Listed { lists, histograms, unnamed } = class_lists(folders, &found, &mut samples, &mut failures, options)?;
    if samples.is_empty() {
        return Err(Failure::all(failures).unwrap_or_else(|| no_sample(0)));
    }
    let classes = classes::unite(&lists, options)?;
    let maps = classes
        .maps
        .iter()
        .zip(&found)
        .map(|(map, found)| LabelMap::new(map, options, labels::colours(found.classes.as_ref())));
    let mut warnings = Vec::new();
    for (path, found) in folders.iter().zip(&found).filter(|(_, f)| f.unused_masks > 0) {
        warnings.push(format!("{}: {} masks have no image and are not used.", path.display(), found.unused_masks));
    }
    let differences: Vec<_> = differences.iter().map(|(name, d)| (name.as_str(), d.clone())).collect();
    warnings.extend(agreement::warnings(&differences, samples.len()));
    warnings.extend(review::resolutions(&samples));
    if unnamed.are_doubtful() && !options.every_value && options.keep.is_none() {
        let (first, rest) = ("The masks hold", unnamed.finding());
        let rest = rest.strip_prefix("the masks hold").unwrap_or_default();
        warnings.push(format!("{first}{rest}. What to do: {}.", unnamed.remedy()));
    }
    let count = |index| samples.iter().filter(|s| s.folder == index).count();
    let infos = folders.iter().zip(&found).enumerate().map(|(index, (path, found))| FolderInfo {
        path: path.clone(),
        kind: found.kind,
        samples: count(index),
        unused_masks: found.unused_masks,
    });
    let dataset = Dataset {
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
        unnamed,
        warnings,
    };
    Ok((dataset, failures))
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
pub(super) fn tile(stem: &str) -> Option<TileId> {
    TileId::from_path(stem).filter(|t| t.z >= MIN_ZOOM)
}

/// An image with its mask, and what their headers say.
struct HeaderPair {
    sample: Sample,
    header: Header,
    differences: Vec<agreement::Difference>,
}

/// Reads the headers of an image and its mask.
fn sample(
    pair: Pair,
    folder: usize,
    label: &str,
    found: &Found,
    tiles: bool,
) -> std::result::Result<HeaderPair, Failure> {
    let of_image = |error| Failure::new(&pair.image, error);
    let of_mask = |error| Failure::new(&pair.mask, error);
    let mut header = raw::header(&pair.image, found.world_files).map_err(of_image)?;
    let mask = labels::header(&pair.mask).map_err(of_mask)?;
    let turned = orientation(&pair.image).map_err(of_image)?;
    let (width, height) = (header.width, header.height);
    if (mask.width, mask.height) != (width, height) {
        let error = agreement::of_sizes((mask.width, mask.height), (width, height), turned);
        return Err(of_mask(error.at(pair.mask.display())));
    }
    if mask.colours && found.classes.as_ref().is_none_or(|l| l.entries.iter().all(|e| e.color.is_none())) {
        let error = Error::new(ErrorKind::Invalid, "the mask holds colours and not one label value a pixel")
            .at(pair.mask.display())
            .remedy(
                "save it with one band or a palette, or give each class its colour in classes.json: \
                 {\"classes\": [{\"value\": 1, \"name\": \"road\", \"color\": \"#FF8000\"}]}",
            );
        return Err(of_mask(error));
    }
    let named = if tiles && width == height { tile(&pair.stem) } else { None };
    let with_system = |mut georef: Georef| {
        if let Some(crs) = &found.crs
            && georef.crs.epsg.is_none()
            && georef.crs.keys.is_none()
        {
            georef.crs = crs.clone();
        }
        georef
    };
    let may_be_placed = found.mask_world_files || detect(&pair.mask).map_err(of_mask)? == Format::Tiff;
    let mask_place = match may_be_placed {
        true => raw::header(&pair.mask, found.mask_world_files).map_err(of_mask)?.georef.map(with_system),
        false => None,
    };
    let georef = header.georef.take().map(with_system);
    let georef = georef.or_else(|| named.map(|t| Georef::from_tile(t, width, height)));
    let mut differences: Vec<_> =
        agreement::of_orientations(turned, mask.orientation, width == height).into_iter().collect();
    differences.extend(match (&georef, &mask_place) {
        (Some(image), Some(mask)) => agreement::of_places(image, mask, width, height),
        (None, Some(mask)) => Some(agreement::mask_only(mask)),
        _ => None,
    });
    let georef = georef.or(mask_place);
    let extent = georef.as_ref().map(|g| Extent::new(g, width, height));
    // A system that is not known may be degrees as well as metres.
    let known = georef.as_ref().filter(|g| ToLonLat::new(&g.crs).is_some());
    let metres_per_pixel = known.and_then(|g| g.ground_resolution(width, height)).filter(|m| m.is_finite() && *m > 0.0);
    let name = format!("{label}/{}", pair.stem);
    let Pair { image, mask, .. } = pair;
    let sample = Sample { name, image, mask, width, height, folder, extent, metres_per_pixel };
    Ok(HeaderPair { sample, header, differences })
}

fn bands_differ(path: &Path, header: &Header, first: &Path, of: &Header) -> Error {
    let depth = |h: &Header| format!("{} band{} of {:?}", h.bands, if h.bands == 1 { "" } else { "s" }, h.depth);
    let message = format!("the image has {}, {} has {}", depth(header), first.display(), depth(of));
    Error::new(ErrorKind::Invalid, message)
        .at(path.display())
        .remedy("images of one data set have the same bands and depth; convert them, for example with gdal_translate")
}

/// What the folders and masks say about classes.
struct Listed {
    lists: Vec<ClassList>,
    histograms: Vec<Option<Histogram>>,
    unnamed: Unnamed,
}

/// The class list of each folder: what was asked for, its own, the other folders', or the values of its masks. Samples whose
/// masks cannot be read for their values leave.
fn class_lists(
    folders: &[PathBuf],
    found: &[Found],
    samples: &mut Vec<Sample>,
    failures: &mut Vec<Failure>,
    options: &DatasetOptions,
) -> Result<Listed> {
    let mut histograms = vec![None; samples.len()];
    let mut unreadable: Vec<Option<Failure>> = samples.iter().map(|_| None).collect();
    let mut unnamed = Unnamed::default();
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
                let values = values::count((index, path), samples, &mut histograms, &mut unreadable, &mut unnamed)?;
                ClassList::of_values(path, values, options.background.unwrap_or(0))
            }
        };
        lists.push(list);
    }
    let mut bad = unreadable.iter().map(Option::is_some).collect::<Vec<_>>().into_iter();
    histograms.retain(|_| !bad.next().unwrap_or(false));
    let mut bad = unreadable.iter().map(Option::is_some).collect::<Vec<_>>().into_iter();
    samples.retain(|_| !bad.next().unwrap_or(false));
    failures.extend(unreadable.into_iter().flatten());
    Ok(Listed { lists, histograms, unnamed })
}
