//! What will go wrong with a data set: told before hours of training.

use std::collections::{BTreeMap, HashMap};

use super::split::Split;
use super::{Dataset, Depth, FileHash, Sample, Scan, each_or_all};

/// Classes below this share of all labelled pixels are hard to learn.
const RARE: f64 = 0.01;
/// More chips than this share without anything but background slow training down.
const MANY_EMPTY: f64 = 0.5;
/// Pixel sizes that differ by about a factor of 2: the zoom levels of a pyramid, or different sensors.
pub const MIXED_RESOLUTION: f64 = 1.9;
/// Names that say that nobody has looked.
const UNLABELLED: [&str; 9] =
    ["unlabeled", "unlabelled", "nodata", "no data", "unknown", "void", "unclassified", "ignore", "other/unlabelled"];

/// What people should know about the samples, their classes and their split, sentences; `size` is the side of the
/// model's input in pixels. Warnings of opening and splitting come first.
pub fn warnings(dataset: &Dataset, scan: &Scan, split: &Split, size: usize) -> Vec<String> {
    let mut out: Vec<String> = dataset.warnings.iter().chain(&split.warnings).cloned().collect();
    let samples = dataset.samples.len();
    let totals = scan.totals(0..samples);
    let labelled: u64 = totals.iter().sum();
    let ignored: u64 = scan.ignored.iter().sum();

    let percent = |part: u64, all: u64| format!("{:.2} %", 100.0 * part as f64 / all.max(1) as f64);
    let (mut absent, mut rare) = (Vec::new(), Vec::new());
    for (class, &pixels) in dataset.classes.iter().zip(&totals) {
        if pixels == 0 && class.index > 0 {
            absent.push(class.name.as_str());
        } else if pixels > 0 && class.index == 0 && (pixels as f64) < RARE * labelled as f64 {
            out.push(format!(
                "{:?} has {} of the labelled pixels and is learnt like any other class; if its value means that nobody \
                 has looked, ignore it with --ignore {}.",
                class.name,
                percent(pixels, labelled),
                dataset.values.first().copied().unwrap_or_default()
            ));
        } else if pixels > 0 && (pixels as f64) < RARE * labelled as f64 {
            rare.push((class.name.as_str(), percent(pixels, labelled)));
        }
    }
    out.extend(each_or_all(
        &absent,
        |name| format!("Class {name:?} does not occur."),
        |names| format!("{names} do not occur."),
    ));
    // Of values that are hardly classes this has been said.
    if !dataset.unnamed.are_doubtful() {
        let shares: BTreeMap<&str, &str> = rare.iter().map(|(name, share)| (*name, share.as_str())).collect();
        let names: Vec<&str> = rare.iter().map(|(name, _)| *name).collect();
        const HELP: &str = "more samples of it, or class weights, will help";
        out.extend(each_or_all(
            &names,
            |name| format!("Class {name:?} has {} of the labelled pixels: {HELP}.", shares[name]),
            |names| format!("{names} have less than {} of the labelled pixels each: {HELP}.", percent(1, 100)),
        ));
    }
    if let Some((class, value)) = dataset.classes.first().zip(dataset.values.first())
        && UNLABELLED.contains(&class.name.trim().to_lowercase().as_str())
        && totals.first().is_some_and(|n| *n as f64 >= RARE * labelled as f64 && *n > 0)
    {
        out.push(format!(
            "Class 0 is called {:?} and is learnt like any other; if it means that nobody has looked, ignore it with \
             --ignore {value}.",
            class.name
        ));
    }
    if ignored > 0 {
        out.push(format!("{} of all pixels are ignored for their label value.", percent(ignored, labelled + ignored)));
    }
    out.extend(no_background(dataset, scan));
    let all_ignored = scan.pixels.iter().filter(|p| p.iter().all(|n| *n == 0)).count();
    if all_ignored > 0 {
        out.push(format!("{all_ignored} samples have no labelled pixel at all and teach nothing."));
    }
    let empty = scan.pixels.iter().filter(|p| p.iter().skip(1).all(|n| *n == 0)).count() - all_ignored;
    if empty as f64 > MANY_EMPTY * samples as f64 {
        out.push(format!("{empty} of {samples} samples hold nothing but {:?}.", dataset.classes[0].name));
    }
    let small = dataset.samples.iter().filter(|s| s.width < size || s.height < size).count();
    if small > 0 {
        out.push(format!(
            "{small} of {samples} samples are smaller than the input of {size} px: the rest of it is their mirror image \
             and is not learnt from; choose a smaller --size."
        ));
    }
    if dataset.depth != Depth::U8 || dataset.bands != 3 {
        out.push(
            "Images are not 8-bit RGB: they are normalised by their own mean and standard deviation, so images to be \
             segmented later need the same bands in the same units."
                .to_owned(),
        );
    }
    out
}

/// What people should know where the pixels without data may be those of the background.
pub fn no_background(dataset: &Dataset, scan: &Scan) -> Option<String> {
    let totals = scan.totals(0..dataset.samples.len());
    let no_data: u64 = scan.no_data.iter().sum();
    let all = totals.iter().chain(&scan.ignored).sum::<u64>() + no_data;
    let ignored = dataset.values.first().is_some_and(|value| dataset.options.ignore.contains(value));
    (totals.first() == Some(&0) && !ignored && no_data as f64 >= RARE * all as f64).then(|| {
        format!(
            "No pixel is {:?}, and {:.1} % of all pixels hold no data in image or mask, so that they count nowhere. If these are \
             the background, take the mark for no data from the masks, for example with gdal_edit.py -unsetnodata.",
            dataset.classes.first().map_or("background", |c| c.name.as_str()),
            100.0 * no_data as f64 / all.max(1) as f64
        )
    })
}

/// What people should know about samples whose pixels cover different lengths on the ground.
pub fn resolutions(samples: &[Sample]) -> Option<String> {
    let known = || samples.iter().filter_map(|s| Some((s.metres_per_pixel?, s.name.as_str())));
    let (least, fine) = known().min_by(|a, b| a.0.total_cmp(&b.0))?;
    let (most, coarse) = known().max_by(|a, b| a.0.total_cmp(&b.0))?;
    (most > MIXED_RESOLUTION * least).then(|| {
        format!(
            "A pixel covers {least:.2} m on the ground in {fine} and {most:.2} m in {coarse}: things look {:.1} times as large in \
             some samples as in others. Bring crops to one range with --resolution, or leave out what will not be asked for.",
            most / least
        )
    })
}

/// Samples whose image files are equal, byte for byte: groups of two and more, by the hashes that
/// [`Dataset::file_hashes`] gives.
pub fn duplicates(hashes: &[[FileHash; 2]]) -> Vec<Vec<usize>> {
    let mut same: HashMap<&FileHash, Vec<usize>> = HashMap::new();
    for (sample, [image, _]) in hashes.iter().enumerate() {
        same.entry(image).or_default().push(sample);
    }
    let mut groups: Vec<Vec<usize>> = same.into_values().filter(|g| g.len() > 1).collect();
    groups.sort();
    groups
}

/// What people should know about such samples.
pub fn duplicate_warnings(dataset: &Dataset, split: &Split, hashes: &[[FileHash; 2]]) -> Vec<String> {
    let groups = duplicates(hashes);
    let Some(first) = groups.first() else { return Vec::new() };
    let name = |i: &usize| dataset.samples.get(*i).map(|s| s.name.as_str()).unwrap_or_default();
    let copies: usize = groups.iter().map(|g| g.len() - 1).sum();
    let mut out = vec![format!(
        "{copies} images are copies of others, such as {}.",
        first.iter().take(3).map(name).collect::<Vec<_>>().join(" and ")
    )];
    let differ =
        |g: &&Vec<usize>| g.windows(2).any(|w| hashes.get(w[0]).map(|h| h[1]) != hashes.get(w[1]).map(|h| h[1]));
    if let Some(group) = groups.iter().find(differ) {
        let names: Vec<_> = group.iter().take(3).map(name).collect();
        out.push(format!("Equal images have different masks: {}.", names.join(" and ")));
    }
    let mut side: BTreeMap<usize, bool> = split.train.iter().map(|i| (*i, false)).collect();
    // Where all samples are on both sides, the split has said so.
    if split.train != split.valid {
        side.extend(split.valid.iter().map(|i| (*i, true)));
        let both = |g: &&Vec<usize>| {
            let sides = || g.iter().filter_map(|i| side.get(i));
            sides().any(|s| *s) && sides().any(|s| !*s)
        };
        let leaks = groups.iter().filter(both).count();
        if leaks > 0 {
            out.push(format!(
                "{leaks} images are in training and in validation, so that metrics are too good: remove the copies or \
                 group them with --groups FILE.csv."
            ));
        }
    }
    out
}
