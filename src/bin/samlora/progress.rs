//! Progress on stderr: a bar on a terminal, nothing otherwise.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts to `total`, with `unit` after the numbers.
pub fn bar(total: u64, what: &str, unit: &str) -> ProgressBar {
    let template = format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit} {{eta}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what.to_owned())
}
