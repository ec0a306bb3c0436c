//! Borders, objects, places, and whether confidences are true.

use super::chart::{Axis, Chart, Line};
use super::markup::{class_label, count, fraction, percent, text};
use crate::config::Class;
use crate::train::metrics::quality::{Group, Quality, Summary};

/// Size of a chart in SVG units.
const SIZE: (f64, f64) = (380.0, 300.0);
/// Classes whose precision and recall are drawn: more charts are not looked at.
const MAX_CURVES: usize = 6;
/// Groups that are listed.
const MAX_GROUPS: usize = 40;

/// The first section: each class's borders and objects, then places and ground resolutions.
pub(super) fn quality(found: &Summary, classes: &[Class]) -> String {
    let rows: String = found
        .classes
        .iter()
        .enumerate()
        .skip(1)
        .map(|(i, class)| {
            let [matched, labelled, predicted] = class.objects.map(count);
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{matched}</td><td>{labelled}</td><td>{predicted}</td></tr>",
                class_label(classes, i),
                fraction(class.boundary_iou),
                fraction(class.object_f1),
            )
        })
        .collect();
    let heads = ["Class", "Boundary IoU", "Object F1", "Objects found", "Labelled", "Predicted"];
    let width = text(&found.boundary_width.to_string());
    let unit = if width.ends_with('%') { " of the image's diagonal" } else { "" };
    let mut out = format!(
        "<p class=\"hint\">Borders within {width}{unit}. Means are without background, with 95 % intervals.</p>"
    );
    out += &table("Borders and objects", &heads, &rows);
    let mut groups = vec![("All samples", std::slice::from_ref(&found.all))];
    groups.extend([("Places", &found.places[..]), ("Ground resolutions", &found.resolutions[..])]);
    for (title, groups) in groups.into_iter().filter(|(_, groups)| !groups.is_empty()) {
        let heads = [title, "Samples", "Mean IoU", "Boundary IoU", "Object F1", "Quartiles of the samples' IoU"];
        let rows: String = groups.iter().take(MAX_GROUPS).map(row).collect();
        out += &format!("<h3>{title}</h3>{}", table(title, &heads, &rows));
    }
    out
}

fn row(group: &Group) -> String {
    let figure = |value: Option<f64>, interval: Option<[f64; 2]>| {
        let interval = interval.map_or(String::new(), |[low, high]| format!(" <small>{low:.3} to {high:.3}</small>"));
        format!("<td>{}{interval}</td>", fraction(value))
    };
    let (means, intervals) = (group.means, group.intervals);
    let quartiles = group.quartiles.map_or(fraction(None), |q| q.map(|v| format!("{v:.3}")).join(", "));
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td>{}{}{}<td>{quartiles}</td></tr>",
        text(&group.name),
        count(group.images as u64),
        figure(means.iou, intervals.iou),
        figure(means.boundary_iou, intervals.boundary_iou),
        figure(means.object_f1, intervals.object_f1),
    )
}

fn table(name: &str, heads: &[&str], rows: &str) -> String {
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\"><table class=\"numbers\"><thead><tr>{heads}\
         </tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// The second section: the reliability curve, and precision and recall of each class over its threshold.
pub(super) fn confidence(found: &Quality, summary: &Summary, classes: &[Class]) -> String {
    let error = summary.calibration_error.map_or(fraction(None), percent);
    let bins = || {
        summary.reliability.iter().filter_map(|bin| Some((100.0 * bin.confidence?, 100.0 * bin.accuracy?, bin.pixels)))
    };
    let reliability = Chart {
        title: "Reliability",
        size: SIZE,
        x: Axis { label: "confidence in %", log: false },
        y_range: Some((0.0, 100.0)),
        lines: vec![
            Line { name: "correct in %", style: "", points: bins().map(|(x, y, _)| (x, y)).collect() },
            Line { name: "if confidences were true", style: "faint", points: vec![(0.0, 0.0), (100.0, 100.0)] },
        ],
        mark: None,
        tips: bins()
            .map(|(x, y, n)| (x, format!("{} pixels of confidence {x:.1} %: {y:.1} % are correct", count(n))))
            .collect(),
    };
    let mut charts = format!("<figure><h3>Reliability</h3>{}</figure>", reliability.svg("class=\"chart\""));
    for class in classes.iter().skip(1).take(MAX_CURVES) {
        let curve = found.confidences.curve(usize::from(class.index));
        let points = |figure: &dyn Fn(usize) -> Option<f64>| -> Vec<(f64, f64)> {
            let point = |i: usize| Some((100.0 * f64::from(curve.get(i)?.threshold), 100.0 * figure(i)?));
            (0..curve.len()).filter_map(point).collect()
        };
        let lines = vec![
            Line { name: "precision", style: "", points: points(&|i| curve[i].precision) },
            Line { name: "recall", style: "second", points: points(&|i| curve[i].recall) },
            Line { name: "F1", style: "quiet", points: points(&|i| curve[i].f1) },
        ];
        if lines.iter().all(|line| line.points.is_empty()) {
            continue;
        }
        let title = format!("Thresholds of {}", class.name);
        let x = Axis { label: "least confidence in %", log: false };
        let chart =
            Chart { title: &title, size: SIZE, x, y_range: Some((0.0, 100.0)), lines, mark: None, tips: Vec::new() };
        charts += &format!("<figure><h3>{}</h3>{}</figure>", text(&title), chart.svg("class=\"chart\""));
    }
    format!(
        "<p class=\"hint\">Expected calibration error {error}, in 15 bins of equal width, before thresholds.</p>\
         <div class=\"charts\">{charts}</div>"
    )
}
