//! What a data set holds, how it would be split, and what will go wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use samlora::error::{Error, ErrorKind, Result};
use samlora::train::dataset::split::{Split, SplitRule, split};
use samlora::train::dataset::{Dataset, Depth, Failure, FolderKind, Scan, review};
use serde_json::json;

use super::sheet;
use crate::commands::data_args::{LabelArgs, SplitArgs};
use crate::commands::{peak_memory, print_json, say, size};
use crate::progress::bar;

/// Options for data sets.
#[derive(Debug, Args)]
pub struct InspectDataArgs {
    /// What label values mean.
    #[command(flatten)]
    labels: LabelArgs,
    /// How samples are divided.
    #[command(flatten)]
    split: SplitArgs,
    /// Side of the model's input in pixels
    #[arg(long, default_value_t = 384, value_name = "PIXELS")]
    size: usize,
    /// PNG file to write samples into: images, and beside them their masks in colours, ignored pixels in magenta
    #[arg(long, value_name = "FILE.png")]
    sheet: Option<PathBuf>,
    /// Do not read images: neither to find those that are damaged, nor copies
    #[arg(long)]
    quick: bool,
}

/// Up to so many classes are listed, of more only those with the most pixels.
const MAX_ROWS: usize = 40;
const SHOWN: usize = 20;

/// Runs the command on the folders of a data set.
pub fn run(folders: &[PathBuf], args: &InspectDataArgs, as_json: bool) -> Result<()> {
    let rule = args.split.rule()?;
    let start = std::time::Instant::now();
    let (mut dataset, mut failures) = Dataset::open_readable(&args.split.folders(folders), &args.labels.options()?)?;
    let opened = start.elapsed();
    let progress = bar(dataset.samples.len() as u64, "reading samples", "samples");
    let (scan, unreadable) = dataset.scan_readable(!args.quick, |done, _| progress.set_position(done as u64));
    progress.finish_and_clear();
    failures.extend(unreadable);
    if dataset.samples.is_empty() {
        return failed(failures);
    }
    let scanned = start.elapsed();
    let split = split(&dataset, &scan, &rule, args.split.valid_share, args.split.split_seed)
        .inspect_err(|_| failures.iter().for_each(|failure| eprintln!("{}", failure.error)))?;
    let mut warnings = review::warnings(&dataset, &scan, &split, args.size);
    let mut hash = None;
    if !args.quick {
        let files = dataset.file_hashes()?;
        warnings.extend(review::duplicate_warnings(&dataset, &split, &files));
        hash = Some(dataset.hash_of(&files));
    }
    let all: Vec<usize> = (0..dataset.samples.len()).collect();
    let normalization = dataset.statistics(if args.quick && !dataset.is_rgb8() { &all[..1] } else { &all })?;
    if let Some(file) = &args.sheet {
        sheet::write(&dataset, &scan, file)?;
    }
    if as_json {
        let shares = class_rows(&dataset, &scan, &split);
        print_json(&json!({
            "kind": "data", "samples": dataset.samples.len(), "folders": dataset.folders, "sizes": sizes(&dataset),
            "bands": dataset.bands, "depth": dataset.depth, "metres_per_pixel": resolution(&dataset),
            "located": dataset.samples.iter().filter(|s| s.extent.is_some()).count(),
            "classes": shares.iter().map(|row| json!({
                "index": row.index, "value": row.value, "name": row.name, "color": row.color, "pixels": row.pixels,
                "share": row.share, "samples": row.samples, "valid_share": row.valid_share,
            })).collect::<Vec<_>>(),
            "ignored_pixels": scan.ignored.iter().sum::<u64>(),
            "no_data_pixels": scan.no_data.iter().sum::<u64>(),
            "split": { "rule": rule, "train": split.train.len(), "valid": split.valid.len(),
                "dropped": split.dropped.len(), "groups": split.groups },
            "normalization": normalization, "content_hash": hash, "warnings": warnings,
            "failures": failures.iter().map(|f| json!({ "file": f.file, "error": f.error.to_string() })).collect::<Vec<_>>(),
            "seconds": { "open": opened.as_secs_f64(), "masks": (scanned - opened).as_secs_f64(),
                "all": start.elapsed().as_secs_f64() },
            "peak_memory": peak_memory(),
        }))?;
        return failed(failures);
    }
    print(&dataset, &scan, &split, &rule)?;
    if !dataset.is_rgb8() {
        for (band, (mean, std)) in normalization.mean.iter().zip(&normalization.std).enumerate() {
            say(format_args!("band {}: mean {mean}, standard deviation {std}", band + 1))?;
        }
    }
    if let Some(memory) = peak_memory() {
        let (open, all) = (opened.as_secs_f64(), start.elapsed().as_secs_f64());
        say(format_args!("opened in {open:.1} s, all read in {all:.1} s, peak memory {}", size(memory)))?;
    }
    for warning in warnings {
        say(format_args!("warning: {warning}"))?;
    }
    failed(failures)
}

/// Files that cannot be used are named one by one up to so many.
const NAMED: usize = 50;

/// The error that the command ends with where files cannot be used; of several, each is told before.
fn failed(mut failures: Vec<Failure>) -> Result<()> {
    let count = failures.len();
    if count < 2 {
        return failures.pop().map_or(Ok(()), |failure| Err(failure.error));
    }
    for failure in failures.iter().take(NAMED) {
        eprintln!("{}", failure.error);
    }
    let more = if count > NAMED { format!(", the first {NAMED} as told above") } else { ", as told above".to_owned() };
    Err(Error::new(ErrorKind::Format, format!("{count} files cannot be used{more}"))
        .remedy("mend or remove them; train does not begin before"))
}

/// A class in numbers.
struct ClassRow<'a> {
    index: u8,
    value: u32,
    name: &'a str,
    color: String,
    pixels: u64,
    /// Of all labelled pixels.
    share: f64,
    /// Samples it occurs in.
    samples: usize,
    /// The part of its pixels that validate.
    valid_share: Option<f64>,
}

fn class_rows<'a>(dataset: &'a Dataset, scan: &Scan, split: &Split) -> Vec<ClassRow<'a>> {
    let totals = scan.totals(0..dataset.samples.len());
    let valid = scan.totals(split.valid.iter().copied());
    let train = scan.totals(split.train.iter().copied());
    let labelled = totals.iter().sum::<u64>().max(1) as f64;
    let row = |(i, class): (usize, &'a samlora::config::Class)| {
        let [r, g, b] = class.color;
        let used = train[i] + valid[i];
        ClassRow {
            index: class.index,
            value: dataset.values[i],
            name: &class.name,
            color: format!("#{r:02x}{g:02x}{b:02x}"),
            pixels: totals[i],
            share: totals[i] as f64 / labelled,
            samples: scan.pixels.iter().filter(|p| p[i] > 0).count(),
            valid_share: (used > 0).then(|| valid[i] as f64 / used as f64),
        }
    };
    dataset.classes.iter().enumerate().map(row).collect()
}

/// Widths and heights and how many samples have them, the most frequent first.
fn sizes(dataset: &Dataset) -> Vec<(usize, usize, usize)> {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for sample in &dataset.samples {
        *counts.entry((sample.width, sample.height)).or_default() += 1;
    }
    let mut sizes: Vec<_> = counts.into_iter().map(|((w, h), n)| (w, h, n)).collect();
    sizes.sort_by_key(|(w, h, n)| (std::cmp::Reverse(*n), *w, *h));
    sizes
}

/// Least and greatest metres a pixel, where known.
fn resolution(dataset: &Dataset) -> Option<(f64, f64)> {
    let known = dataset.samples.iter().filter_map(|s| s.metres_per_pixel);
    known.fold(None, |range, m| Some(range.map_or((m, m), |(l, h): (f64, f64)| (l.min(m), h.max(m)))))
}

fn print(dataset: &Dataset, scan: &Scan, split: &Split, rule: &SplitRule) -> Result<()> {
    let samples = dataset.samples.len();
    say(format_args!("data set of {samples} samples"))?;
    for folder in &dataset.folders {
        let kind = match folder.kind {
            FolderKind::ClassifiedTiles => "ArcGIS Classified Tiles",
            FolderKind::Folder => "images and masks",
        };
        say(format_args!("  {:>7} {}: {kind}", folder.samples, folder.path.display()))?;
    }
    let sizes = sizes(dataset);
    let shown: Vec<_> = sizes.iter().take(4).map(|(w, h, n)| format!("{w} x {h} ({n})")).collect();
    let more = if sizes.len() > 4 { format!(" and {} other sizes", sizes.len() - 4) } else { String::new() };
    say(format_args!("size in pixels: {}{more}", shown.join(", ")))?;
    let depth = match dataset.depth {
        Depth::U8 => "8 bits",
        Depth::U16 => "16 bits",
        Depth::F32 => "floating point",
    };
    say(format_args!("bands: {} of {depth}", dataset.bands))?;
    let located = dataset.samples.iter().filter(|s| s.extent.is_some()).count();
    let resolution = match resolution(dataset) {
        Some((low, high)) if high > 1.01 * low => format!(", {low:.3} to {high:.3} m a pixel"),
        Some((low, _)) => format!(", {low:.3} m a pixel"),
        None => String::new(),
    };
    say(format_args!("place: known of {located} samples{resolution}"))?;

    let rows = class_rows(dataset, scan, split);
    let width = rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(4);
    say(format_args!("class value colour  {:width$}   pixels  samples  in validation", "name"))?;
    // Of very many, those that have the most pixels.
    let mut order: Vec<&ClassRow> = rows.iter().collect();
    order.sort_by_key(|row| std::cmp::Reverse(row.pixels));
    let mut shown = order.split_off(if rows.len() > MAX_ROWS { SHOWN } else { rows.len() });
    std::mem::swap(&mut shown, &mut order);
    let hidden = order.len();
    shown.sort_by_key(|row| row.index);
    for row in shown {
        let valid = row.valid_share.map_or("-".to_owned(), |s| format!("{:.1} %", 100.0 * s));
        say(format_args!(
            "{:>5} {:>5} {} {:width$} {:>6.2} % {:>8} {valid:>14}",
            row.index,
            row.value,
            row.color,
            row.name,
            100.0 * row.share,
            row.samples
        ))?;
    }
    if hidden > 0 {
        say(format_args!("  and {hidden} classes with fewer pixels (--json lists all)"))?;
    }
    let ignored: u64 = scan.ignored.iter().sum();
    if ignored > 0 {
        let all = ignored + scan.totals(0..samples).iter().sum::<u64>();
        say(format_args!("ignored pixels: {:.2} %", 100.0 * ignored as f64 / all.max(1) as f64))?;
    }
    let no_data: u64 = scan.no_data.iter().sum();
    if no_data > 0 {
        let all = no_data + ignored + scan.totals(0..samples).iter().sum::<u64>();
        let percent = 100.0 * no_data as f64 / all.max(1) as f64;
        say(format_args!("pixels without data, which count nowhere: {no_data} ({percent:.2} %)"))?;
    }
    let how = match rule {
        SplitRule::Place { cell_metres: None } => "by place".to_owned(),
        SplitRule::Place { cell_metres: Some(metres) } => format!("by place, cells of {metres} m"),
        SplitRule::Groups(file) => format!("by the groups of {}", file.display()),
        SplitRule::List(file) => format!("by the list {}", file.display()),
        SplitRule::Folder(folder) => format!("by folder, {} validates", folder.display()),
        SplitRule::Random => "by chance".to_owned(),
    };
    say(format_args!(
        "split {how}: {} groups, {} samples train, {} validate, {} dropped",
        split.groups,
        split.train.len(),
        split.valid.len(),
        split.dropped.len()
    ))
}
