//! The classes' figures and the confusion matrix, as tables.

use super::markup::{class_label, count, counted, fraction, percent, text};
use crate::config::Class;
use crate::train::metrics::{Confusion, Metrics};

/// The most classes whose confusion matrix can still be read.
const MAX_MATRIX: usize = 40;

/// Precision, recall, F1, IoU and pixels of each class.
pub(super) fn classes(metrics: &Metrics, classes: &[Class]) -> String {
    let bar = |value: Option<f64>| {
        format!("<td class=\"bar\" style=\"--part:{:.3}\">{}</td>", value.unwrap_or(0.0), fraction(value))
    };
    let rows: String = metrics
        .classes
        .iter()
        .enumerate()
        .map(|(i, class)| {
            let share = class.pixels as f64 / metrics.pixels.max(1) as f64;
            format!(
                "<tr><th scope=\"row\">{}</th>{}<td>{}</td><td>{}</td><td>{}</td><td>{} <small>{}</small></td></tr>",
                class_label(classes, i),
                bar(class.iou),
                fraction(class.f1),
                fraction(class.precision),
                fraction(class.recall),
                count(class.pixels),
                percent(share),
            )
        })
        .collect();
    let mean = |name: &str, iou: Option<f64>, f1: Option<f64>| {
        format!(
            "<tr><th scope=\"row\">{name}</th>{}<td>{}</td><td></td><td></td><td></td></tr>",
            bar(iou),
            fraction(f1)
        )
    };
    let mut means = mean("Mean of all classes", metrics.mean_iou, metrics.mean_f1);
    // Of one class beside background it would repeat that class.
    if classes.len() > 2 {
        means += &mean("Mean without background", metrics.mean_iou_foreground, metrics.mean_f1_foreground);
    }
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Figures of each class\" tabindex=\"0\">\
         <table class=\"numbers classes\"><thead><tr><th scope=\"col\">Class</th><th scope=\"col\">IoU</th>\
         <th scope=\"col\">F1</th><th scope=\"col\">Precision</th><th scope=\"col\">Recall</th>\
         <th scope=\"col\">Labelled pixels</th></tr></thead><tbody>{rows}</tbody><tfoot>{means}</tfoot></table></div>"
    )
}

/// The confusion matrix: percent of each row, with counts. Of very many classes, the largest.
pub(super) fn confusion(confusion: &Confusion, metrics: &Metrics, classes: &[Class]) -> String {
    let mut shown: Vec<usize> = (0..metrics.classes.len()).collect();
    let total = |i: usize| metrics.classes.get(i).map_or(0, |c| c.pixels.saturating_add(c.predicted));
    shown.sort_by_key(|i| std::cmp::Reverse(total(*i)));
    shown.truncate(MAX_MATRIX);
    shown.sort_unstable();

    let heads: String = shown.iter().map(|i| format!("<th scope=\"col\">{}</th>", class_label(classes, *i))).collect();
    let rows: String = shown
        .iter()
        .filter_map(|&truth| Some((truth, confusion.counts().get(truth)?, metrics.classes.get(truth)?.pixels)))
        .map(|(truth, row, pixels)| {
            let cells = shown.iter().filter_map(|&p| Some((p, *row.get(p)?)));
            let cells: String = cells.map(|(p, n)| cell(n, pixels, p == truth)).collect();
            format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", class_label(classes, truth))
        })
        .collect();
    let left_out = match metrics.classes.len() - shown.len() {
        0 => String::new(),
        n => format!("<p class=\"hint\">{} of few pixels left out.</p>", counted(n as u64, "class", "classes")),
    };
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"Confusion matrix\" tabindex=\"0\"><table class=\"matrix\">\
         <thead><tr><td></td><th scope=\"colgroup\" colspan=\"{}\">Predicted as</th></tr>\
         <tr><th scope=\"col\">Labelled as</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{left_out}",
        shown.len().max(1)
    )
}

/// One cell, tinted by its part of the row.
fn cell(n: u64, row: u64, right: bool) -> String {
    if row == 0 {
        return "<td class=\"none\"><abbr title=\"no pixel is labelled as this class\">–</abbr></td>".to_owned();
    }
    if n == 0 && !right {
        return "<td class=\"none\">0</td>".to_owned();
    }
    let part = n as f64 / row as f64;
    // Half the full colour at most, so that text stays readable. Errors are mostly small parts: the root shows them.
    let tint = 50.0 * if right { part } else { part.sqrt() };
    let class = if right { "right" } else { "wrong" };
    format!("<td class=\"{class}\" style=\"--v:{tint:.0}%\">{}<small>{}</small></td>", percent(part), text(&count(n)))
}
