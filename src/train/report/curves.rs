//! Loss, IoU and learning rate over the epochs of a run, and all epochs as a table.

use super::EpochRecord;
use super::chart::{Axis, Chart, Line, Mark};
use super::markup::{count, duration, fraction, number, scientific};
use crate::config::Class;
use crate::train::metrics::Metrics;

/// Size of a chart in SVG units, about CSS pixels: three stand beside each other on a wide page, one on a phone.
const SIZE: (f64, f64) = (380.0, 250.0);

/// The figure that says best how good a model is, and its name: the IoU of the only class beside background, or the mean
/// IoU without background, or of all classes if only the first was met.
pub(super) fn headline(metrics: &Metrics, classes: &[Class]) -> (String, Option<f64>) {
    match (metrics.mean_iou_foreground, classes) {
        (Some(iou), [_, only]) => (format!("IoU of {}", only.name), Some(iou)),
        (Some(iou), _) => ("mean IoU without background".to_owned(), Some(iou)),
        (None, _) => ("mean IoU".to_owned(), metrics.mean_iou),
    }
}

/// The epoch whose headline is highest (the first of equals), and that value.
pub(super) fn best(epochs: &[EpochRecord], classes: &[Class]) -> Option<(usize, f64)> {
    let measured = epochs.iter().filter_map(|e| Some((e.epoch, headline(e.metrics.as_ref()?, classes).1?)));
    measured.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The section's content.
pub(super) fn curves(epochs: &[EpochRecord], classes: &[Class]) -> String {
    let points = |figure: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((e.epoch as f64, figure(e)?))).collect()
    };
    let line = |name, style, figure: &dyn Fn(&EpochRecord) -> Option<f64>| Line { name, style, points: points(figure) };
    let chart = |title, lines: Vec<Line<'_>>, mark, tip: &dyn Fn(&EpochRecord) -> String| {
        let tips = epochs.iter().map(|e| (e.epoch as f64, format!("epoch {}: {}", e.epoch, tip(e)))).collect();
        let lines = lines.into_iter().filter(|l| !l.points.is_empty()).collect();
        let x = Axis { label: "epoch", log: false };
        let chart = Chart { title, size: SIZE, x, y_range: None, lines, mark, tips };
        format!("<figure><h3>{title}</h3>{}</figure>", chart.svg("class=\"chart\""))
    };
    let optional = |v: Option<f64>| v.map_or("not measured".to_owned(), number);

    let loss = chart(
        "Loss",
        vec![line("training", "quiet", &|e| Some(e.train_loss)), line("validation", "", &|e| e.valid_loss)],
        None,
        &|e| format!("training {}, validation {}", number(e.train_loss), optional(e.valid_loss)),
    );

    let newest = epochs.iter().rev().find_map(|e| e.metrics.as_ref());
    let name = newest.map(|m| headline(m, classes).0).unwrap_or_default();
    let main = |e: &EpochRecord| e.metrics.as_ref().and_then(|m| headline(m, classes).1);
    let all = |e: &EpochRecord| e.metrics.as_ref().and_then(|m| m.mean_iou);
    // The name in a chart of this width.
    let short = if name.chars().count() > 24 { "without background" } else { &name };
    let mut lines = vec![line(short, "", &main)];
    if newest.is_some_and(|m| m.mean_iou_foreground.is_some()) {
        lines.push(line("all classes", "second", &all));
    }
    let mark = best(epochs, classes)
        .map(|(epoch, value)| Mark::Point((epoch as f64, value), format!("best {value:.3}, epoch {epoch}")));
    let iou = chart("Validation IoU", lines, mark, &|e| {
        format!("{name} {}, mean of all classes {}", optional(main(e)), optional(all(e)))
    });

    let rate =
        chart("Learning rate", vec![line("at the end of the epoch", "", &|e| Some(e.learning_rate))], None, &|e| {
            scientific(e.learning_rate, 2)
        });

    let measured = if newest.is_some() { iou } else { String::new() };
    format!("<div class=\"charts\">{loss}{measured}{rate}</div>{}", table(epochs, best(epochs, classes)))
}

fn table(epochs: &[EpochRecord], best: Option<(usize, f64)>) -> String {
    let rows: String = epochs
        .iter()
        .map(|e| {
            let metrics = e.metrics.as_ref();
            let is_best = best.is_some_and(|(epoch, _)| epoch == e.epoch);
            let (class, note) = if is_best { (" class=\"best\"", " (best)") } else { ("", "") };
            format!(
                "<tr{class}><th scope=\"row\">{}{note}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td>{}</td><td>{:.1}</td></tr>",
                e.epoch,
                count(e.step as u64),
                number(e.train_loss),
                e.valid_loss.map_or("–".to_owned(), number),
                metrics.map_or("–".to_owned(), |m| fraction(Some(m.accuracy))),
                metrics.map_or("–".to_owned(), |m| fraction(m.mean_iou)),
                metrics.map_or("–".to_owned(), |m| fraction(m.mean_iou_foreground)),
                scientific(e.learning_rate, 2),
                duration(e.seconds),
                e.images_per_second
            )
        })
        .collect();
    format!(
        "<details><summary>All epochs as a table</summary>\
         <div class=\"scroll\" role=\"region\" aria-label=\"Epochs\" tabindex=\"0\"><table class=\"numbers\"><thead><tr>\
         <th scope=\"col\">Epoch</th><th scope=\"col\">Steps</th><th scope=\"col\">Training loss</th>\
         <th scope=\"col\">Validation loss</th><th scope=\"col\">Accuracy</th><th scope=\"col\">Mean IoU</th>\
         <th scope=\"col\">Mean IoU without background</th><th scope=\"col\">Learning rate</th><th scope=\"col\">Time</th>\
         <th scope=\"col\">Images/s</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
}
