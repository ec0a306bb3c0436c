//! Text and numbers as the report writes them.

use crate::config::Class;

/// Text for HTML and SVG, in content and in quoted attributes.
pub(super) fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are no HTML.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// 1234567 as `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and what it counts: `1 class`, `2 classes`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A fraction with three decimals, or a dash where it is undefined.
pub(super) fn fraction(value: Option<f64>) -> String {
    match value {
        Some(value) => format!("{value:.3}"),
        None => "<abbr title=\"undefined: 0/0\">–</abbr>".to_owned(),
    }
}

/// A part of a whole in percent: one decimal where it tells something.
pub(super) fn percent(part: f64) -> String {
    match part * 100.0 {
        p if p == 0.0 || p == 100.0 => format!("{p:.0} %"),
        p if p < 0.05 => "&lt;0.1 %".to_owned(),
        p if p > 99.95 => "&gt;99.9 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// Four significant digits, as `0.1234` or `1.2e-5`.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "not finite".to_owned(),
        0.0 => "0".to_owned(),
        a if !(1e-3..1e5).contains(&a) => scientific(value, 2),
        a if a < 10.0 => format!("{value:.4}"),
        a if a < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// `1.25e-4`, as it is typed on a command line, with at most `digits` decimals.
pub(super) fn scientific(value: f64, digits: usize) -> String {
    let written = format!("{value:.digits$e}");
    match written.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => written,
    }
}

/// `42 s`, `12 min` or `3 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// The colour that a class is drawn in: none for a black class 0, which is drawn clear, so that a background lies as
/// quietly on a white page as on a dark one.
pub(super) fn color(classes: &[Class], index: usize) -> Option<[u8; 3]> {
    classes.get(index).map(|class| class.color).filter(|color| index != 0 || *color != [0; 3])
}

/// The name of a class behind a swatch of its colour.
pub(super) fn class_label(classes: &[Class], index: usize) -> String {
    let style = match color(classes, index) {
        Some([r, g, b]) => format!(" style=\"background:#{r:02x}{g:02x}{b:02x}\""),
        None => String::new(),
    };
    let name = classes.get(index).map_or("", |class| &class.name);
    format!("<span class=\"class\"><i class=\"swatch\"{style}></i><span>{}</span></span>", text(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 7, 999, 1000, 1_234_567].map(count), ["0", "7", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 1.0, 0.5, 1e-6, 0.99999].map(percent), ["0 %", "100 %", "50.0 %", "&lt;0.1 %", "&gt;99.9 %"]);
        assert_eq!([0.0, 2e-4, 0.25, 31.0, 1e7].map(number), ["0", "2e-4", "0.2500", "31.0", "1e7"]);
        assert_eq!([1.0, 61.0, 7260.0].map(duration), ["1 s", "1 min 1 s", "2 h 1 min"]);
        assert_eq!((number(f64::NAN), duration(f64::NAN)), ("not finite".into(), "0 s".into()));
        assert_eq!(text("<b>&\"'\u{7}"), "&lt;b&gt;&amp;&quot;&#39;\u{fffd}");
    }
}
