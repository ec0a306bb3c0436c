//! The plot of a learning rate range test.

use super::chart::{Axis, Chart, Line, Mark};
use super::markup::scientific;
use super::{CHART_STYLE, PALETTE};
use crate::error::{Error, ErrorKind, Result};

const SIZE: (f64, f64) = (760.0, 430.0);

/// The loss over the learning rate (logarithmic) of a range test, as a self-contained SVG file that suits light and dark.
///
/// `points` are (learning rate, loss) in the order of the test, `smoothed` the smoothed loss at the same places (may be
/// shorter), `suggestion` the learning rate to mark. A loss that is not finite leaves a gap. Where the smoothed loss
/// climbs far above its start, the plot is cut off: the descent is what one looks for.
///
/// # Errors
/// [`ErrorKind::Invalid`] if there are fewer than two points with a learning rate above 0 and a finite loss.
pub fn lr_plot(points: &[(f64, f64)], smoothed: &[f64], suggestion: Option<f64>) -> Result<String> {
    let usable = |p: &&(f64, f64)| p.0 > 0.0 && p.0.is_finite();
    let raw: Vec<(f64, f64)> = points.iter().filter(usable).copied().collect();
    let smooth = points.iter().zip(smoothed).filter(|(p, _)| usable(p)).map(|(p, loss)| (p.0, *loss));
    let smooth: Vec<(f64, f64)> = smooth.collect();
    if raw.iter().filter(|p| p.1.is_finite()).count() < 2 {
        return Err(Error::new(ErrorKind::Invalid, "fewer than two losses to plot")
            .at("learning rate range test")
            .remedy("let the test run for more steps"));
    }
    let finite = |line: &[(f64, f64)]| line.iter().map(|p| p.1).filter(|v| v.is_finite()).collect::<Vec<_>>();
    let shown = if finite(&smooth).len() < 2 { finite(&raw) } else { finite(&smooth) };
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let start = shown.first().copied().unwrap_or(high);
    let high = high.min(start + (start - low).max(start.abs() * 0.1) * 0.6);
    let suggestion = suggestion.filter(|s| *s > 0.0 && s.is_finite());
    let chart = Chart {
        title: "Loss",
        size: SIZE,
        x: Axis { label: "learning rate", log: true },
        y_range: Some((low - (high - low) * 0.05, high)),
        lines: vec![
            Line { name: "loss of a batch", style: "faint", points: raw },
            Line { name: "smoothed", style: "", points: smooth },
        ],
        mark: suggestion.map(|s| Mark::Rule(s, format!("suggested {}", scientific(s, 2)))),
        tips: Vec::new(),
    };
    let (width, height) = SIZE;
    let attributes =
        format!("xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" height=\"{height}\"");
    let svg = chart.svg(&attributes);
    // The style and the ground go behind what is drawn.
    let Some((tag, body)) = svg.split_once('>') else { return Ok(svg) };
    Ok(format!(
        "{tag}><style>{PALETTE}{CHART_STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"var(--surface)\"/>{body}\n"
    ))
}
