//! What `samlora evaluate` prints.

use samlora::config::Class;
use samlora::error::Result;
use samlora::train::evaluate::Evaluation;
use samlora::train::metrics::quality::{Group, Summary};
use serde_json::json;

use super::EvaluateArgs;
use crate::commands::{print_json, say};

/// Chips, places and bins that are named: the others are in the JSON.
const MOST: usize = 12;
const WORST: usize = 5;

/// Prints all figures.
pub fn print(
    args: &EvaluateArgs,
    found: &Evaluation,
    classes: &[Class],
    chips: usize,
    warnings: &[String],
) -> Result<()> {
    let (metrics, summary) = (&found.metrics, found.quality.summary());
    if args.json {
        let names: Vec<_> = classes.iter().map(|c| c.name.as_str()).collect();
        return print_json(&json!({
            "model": args.model, "chips": chips, "classes": names, "metrics": metrics,
            "confusion": found.confusion.counts(), "quality": summary, "warnings": warnings,
        }));
    }
    say(format_args!(
        "{chips} chips: mean IoU {} (without background {}), accuracy {:.2} %",
        percent(metrics.mean_iou),
        percent(metrics.mean_iou_foreground),
        100.0 * metrics.accuracy
    ))?;
    let heads = ["IoU", "F1", "precision", "recall", "boundary", "objects"].map(|head| format!("{head:>9}"));
    say(format_args!("{:<20} {}", "class", heads.join(" ")))?;
    for ((class, found), quality) in classes.iter().zip(&metrics.classes).zip(&summary.classes) {
        let figures =
            [found.iou, found.f1, found.precision, found.recall, quality.boundary_iou, quality.object_f1].map(percent);
        say(format_args!("{:<20} {}", class.name, figures.map(|figure| format!("{figure:>9}")).join(" ")))?;
    }
    let unit = if summary.boundary_width.to_string().ends_with('%') { " of the diagonal" } else { "" };
    say(format_args!(
        "boundary: IoU of the bands within {}{unit} of borders; objects: F1 of regions that match at an IoU of 0.5",
        summary.boundary_width
    ))?;
    groups("without background, 95 % interval over chips", std::slice::from_ref(&summary.all))?;
    groups("place", &summary.places)?;
    groups("ground resolution", &summary.resolutions)?;
    if let Some([low, middle, high]) = summary.all.quartiles {
        let [low, middle, high] = [low, middle, high].map(|v| percent(Some(v)));
        say(format_args!("a chip's own IoU without background: quartiles {low}, {middle}, {high}"))?;
    }
    let worst: Vec<String> =
        summary.images.iter().take(WORST).map(|i| format!("{} {}", i.name, percent(i.means.iou))).collect();
    say(format_args!("the worst chips: {}", worst.join(", ")))?;
    reliability(&summary)
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{:.2} %", 100.0 * v))
}

/// A line for each group: its figures with their intervals.
fn groups(title: &str, groups: &[Group]) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    let heads = ["IoU", "boundary", "objects"].map(|head| format!("{head:>25}"));
    say(format_args!("{title:<46} {:>6} {}", "chips", heads.join(" ")))?;
    for group in groups.iter().take(MOST) {
        let (means, intervals) = (group.means, group.intervals);
        let figure = |value: Option<f64>, interval: Option<[f64; 2]>| {
            let interval =
                interval.map_or(String::new(), |[low, high]| format!(" [{:.2} {:.2}]", 100.0 * low, 100.0 * high));
            format!("{:>25}", percent(value) + &interval)
        };
        say(format_args!(
            "  {:<44} {:>6} {} {} {}",
            group.name,
            group.images,
            figure(means.iou, intervals.iou),
            figure(means.boundary_iou, intervals.boundary_iou),
            figure(means.object_f1, intervals.object_f1)
        ))?;
    }
    match groups.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => say(format_args!("  and {more} more, in --json")),
    }
}

/// Confidence beside accuracy.
fn reliability(summary: &Summary) -> Result<()> {
    say(format_args!(
        "confidence: expected calibration error {} (15 bins of equal width, before thresholds)",
        percent(summary.calibration_error)
    ))?;
    let all: u64 = summary.reliability.iter().map(|bin| bin.pixels).sum();
    for bin in summary.reliability.iter().filter(|bin| bin.pixels > 0) {
        let [low, high] = bin.range.map(|v| 100.0 * v);
        say(format_args!(
            "  {low:>5.1} to {high:>5.1} %: said {:>8}, correct {:>8}, {:>5.1} % of the pixels",
            percent(bin.confidence),
            percent(bin.accuracy),
            100.0 * bin.pixels as f64 / all as f64
        ))?;
    }
    Ok(())
}
