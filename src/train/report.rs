//! What a run leaves to read: its log's lines, `report.html` and the plot of a learning rate range test.

mod chart;
mod curves;
mod lr_plot;
mod markup;
mod pictures;
mod quality;
mod settings;
mod tables;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::lr_plot::lr_plot;
use self::markup::{counted, duration, fraction, text};
use super::metrics::quality::Quality;
use super::metrics::{Confusion, Metrics};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};

const PALETTE: &str = include_str!("report/palette.css");
const CHART_STYLE: &str = include_str!("report/chart.css");
const PAGE_STYLE: &str = include_str!("report/page.css");

/// One epoch of a run: a line of `log.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch's number.
    pub epoch: usize,
    /// Optimiser steps done when it ended.
    pub step: usize,
    /// Mean loss over its training batches. JSON's `null` is NaN: a loss that was not finite is written so.
    #[serde(deserialize_with = "null_is_nan")]
    pub train_loss: f64,
    /// Mean loss over the validation samples, if it was measured.
    pub valid_loss: Option<f64>,
    /// Figures on the validation samples, if they were measured.
    pub metrics: Option<Metrics>,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Wall time, validation included.
    pub seconds: f64,
    /// Training images (crops) per second, without validation.
    pub images_per_second: f64,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// One sample with its labels and what the model made of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SamplePicture {
    /// The sample's name.
    pub name: String,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// The image, RGB8 `[height, width, 3]`.
    pub rgb: Vec<u8>,
    /// Labelled class of each pixel `[height, width]`; [`IGNORE`](super::dataset::IGNORE) where there is no label.
    pub truth: Vec<u8>,
    /// Predicted class of each pixel `[height, width]`.
    pub prediction: Vec<u8>,
    /// Confidence of each pixel `[height, width]`: 0 to 255 for 0 to 1.
    pub confidence: Vec<u8>,
}

/// What a report shows. The same content gives the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Heading.
    pub title: &'a str,
    /// The run's settings (`run.json`). Long lists are counted; keys that only say when are left out.
    pub settings: &'a serde_json::Value,
    /// The run's epochs in order; none for an evaluation alone.
    pub epochs: &'a [EpochRecord],
    /// Figures of the model that the report is about.
    pub metrics: &'a Metrics,
    /// The confusion matrix that they come from.
    pub confusion: &'a Confusion,
    /// Classes by index.
    pub classes: &'a [Class],
    /// Borders, objects, confidences and the spread over samples, if they were measured.
    pub quality: Option<&'a Quality>,
    /// Samples to show; they are reduced where a report would grow beyond 3 MB.
    pub pictures: &'a [SamplePicture],
}

impl Report<'_> {
    /// The report as one HTML page without scripts that loads nothing, for light and dark screens, phones and print. A
    /// black class 0 is drawn clear.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if metrics, confusion matrix and classes differ in number, or if a picture's planes do not
    /// have its size or hold values that are no class; the error names the picture.
    pub fn html(&self) -> Result<String> {
        let numbers = [self.classes.len(), self.metrics.classes.len(), self.confusion.counts().len()];
        if numbers[0] == 0 || numbers.iter().any(|n| *n != numbers[0]) {
            let [classes, metrics, confusion] = numbers;
            let message = format!("{classes} classes, metrics of {metrics}, a confusion matrix of {confusion}");
            return Err(Error::new(ErrorKind::Invalid, message).at("report"));
        }
        let section = |id: &str, heading: &str, hint: &str, body: &str| {
            let hint = if hint.is_empty() { String::new() } else { format!("<p class=\"hint\">{hint}</p>") };
            format!("<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{heading}</h2>{hint}{body}</section>")
        };
        let mut body = String::new();
        if !self.epochs.is_empty() {
            body += &section("curves", "Training", "", &curves::curves(self.epochs, self.classes));
        }
        body += &section("classes", "Classes", "", &tables::classes(self.metrics, self.classes));
        body += &section(
            "confusion",
            "Confusion matrix",
            "Each row is a class as labelled, split by what it was predicted as: percent of the row, and pixels.",
            &tables::confusion(self.confusion, self.metrics, self.classes),
        );
        if let Some(found) = self.quality {
            let summary = found.summary();
            body += &section("quality", "Borders, objects and places", "", &quality::quality(&summary, self.classes));
            body += &section("confidence", "Confidence", "", &quality::confidence(found, &summary, self.classes));
        }
        if !self.pictures.is_empty() {
            body +=
                &section("samples", "Samples", "The worst first.", &pictures::pictures(self.pictures, self.classes)?);
        }
        let settings = settings::settings(self.settings);
        if !settings.is_empty() {
            body += &section("settings", "Settings", "", &settings);
        }
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src \
             'unsafe-inline'\"><title>{title}</title><style>{PALETTE}{CHART_STYLE}{PAGE_STYLE}</style></head>\n\
             <body><header><h1>{title}</h1><p>{about}</p></header>{figures}<main>{body}</main>{FOOTER}</body></html>\n",
            title = text(self.title),
            about = self.about(),
            figures = self.figures(),
        ))
    }

    /// The report in a line.
    fn about(&self) -> String {
        let mut parts = vec![counted(self.classes.len() as u64, "class", "classes")];
        if !self.epochs.is_empty() {
            parts.push(counted(self.epochs.len() as u64, "epoch", "epochs"));
        }
        parts.push(format!("measured on {}", counted(self.metrics.pixels, "labelled pixel", "labelled pixels")));
        parts.join(" · ")
    }

    /// The key figures.
    fn figures(&self) -> String {
        let (name, value) = curves::headline(self.metrics, self.classes);
        let mut figures = vec![(capital(&name), fraction(value))];
        if self.metrics.mean_iou_foreground.is_some() {
            figures.push(("Mean IoU of all classes".to_owned(), fraction(self.metrics.mean_iou)));
        }
        figures.push(("Pixel accuracy".to_owned(), fraction(Some(self.metrics.accuracy))));
        if let Some((epoch, _)) = curves::best(self.epochs, self.classes) {
            figures.push(("Best epoch".to_owned(), epoch.to_string()));
        }
        if !self.epochs.is_empty() {
            figures.push(("Training time".to_owned(), duration(self.epochs.iter().map(|e| e.seconds).sum())));
        }
        let list: String =
            figures.iter().map(|(name, value)| format!("<div><dt>{}</dt><dd>{value}</dd></div>", text(name))).collect();
        format!("<dl class=\"figures\">{list}</dl>")
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + letters.as_str()
}

/// What the figures mean. The library's documentation of `metrics` has the formulas in full.
const FOOTER: &str = "<footer><details><summary>How the figures are defined</summary><dl>\
    <dt>IoU</dt><dd>Pixels that labels and prediction both give to a class, divided by the pixels that either gives to it: \
    TP / (TP + FP + FN).</dd>\
    <dt>Precision</dt><dd>How much of what was predicted as the class is of it: TP / (TP + FP).</dd>\
    <dt>Recall</dt><dd>How much of the class was found: TP / (TP + FN).</dd>\
    <dt>F1</dt><dd>The harmonic mean of both, also called Dice: 2 TP / (2 TP + FP + FN).</dd>\
    <dt>Means</dt><dd>Every class that occurs in labels or prediction counts the same, however large it is.</dd>\
    <dt>Pixel accuracy</dt><dd>The part of all labelled pixels whose class is right.</dd>\
    <dt>Boundary IoU</dt><dd>The same for the pixels along the inside of borders alone, so that shapes count and not areas \
    (Cheng et al. 2021).</dd>\
    <dt>Objects</dt><dd>Connected regions of a class; a predicted one is found if its IoU with a labelled one is at least 0.5, \
    one to one.</dd>\
    <dt>Interval</dt><dd>Holds 95 % of the figure on samples drawn anew, with replacement, from these. Samples that lie beside each \
    other resemble each other: then it is too narrow.</dd>\
    <dt>Calibration error</dt><dd>The mean of |accuracy - confidence| over 15 bins of equal width, weighted by pixels.</dd>\
    <dt>–</dt><dd>Undefined, 0/0: the class never occurs there. It takes no part in a mean.</dd></dl>\
    <p>All samples are counted together, pixel by pixel; pixels without a label count nowhere.</p></details></footer>";
