//! Line charts as SVG. Colours are CSS variables, so that one chart suits light and dark.

use super::markup::{number, scientific, text};

/// Space around the plot for tick labels, legend and axis label, in SVG units.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 38.0;
/// A rough width of a character of 12 units' height.
const CHARACTER: f64 = 6.4;

/// Lines over a shared horizontal axis.
pub(super) struct Chart<'a> {
    /// What it shows, for readers who cannot see it.
    pub title: &'a str,
    /// Width and height in SVG units; text is 12 units high.
    pub size: (f64, f64),
    /// The horizontal axis.
    pub x: Axis<'a>,
    /// Lower and upper end of the vertical axis, if not those of the lines.
    pub y_range: Option<(f64, f64)>,
    pub lines: Vec<Line<'a>>,
    pub mark: Option<Mark>,
    /// Text shown when the pointer is near a place of the horizontal axis; in ascending order.
    pub tips: Vec<(f64, String)>,
}

/// The horizontal axis.
pub(super) struct Axis<'a> {
    pub label: &'a str,
    /// Logarithmic (all values must be above 0), or linear with whole numbers.
    pub log: bool,
}

/// One line; points that are not finite interrupt it.
pub(super) struct Line<'a> {
    pub name: &'a str,
    /// How it looks: a class of `chart.css`, or none for the main line.
    pub style: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// A place worth looking at.
pub(super) enum Mark {
    /// A dot with a label at the top of the plot.
    Point((f64, f64), String),
    /// A vertical line with a label at its top.
    Rule(f64, String),
}

impl Chart<'_> {
    /// The chart as an `svg` element; `attributes` are put into its tag.
    pub fn svg(&self, attributes: &str) -> String {
        let scale = |v: f64| if self.x.log { v.log10() } else { v };
        // Also without those that a logarithmic axis has no place for.
        let finite = || self.lines.iter().flat_map(|l| &l.points).filter(|p| scale(p.0).is_finite() && p.1.is_finite());
        let (x_low, x_high) = widened(range(finite().map(|p| scale(p.0))), 0.5);
        let (y_low, y_high) = self.y_range.unwrap_or_else(|| range(finite().map(|p| p.1)));
        let (y_low, y_high) = widened((y_low, y_high), y_low.abs().max(1e-9) * 0.1);
        // A marked point's label stands above all lines.
        let headroom = if matches!(self.mark, Some(Mark::Point(..))) { (y_high - y_low) * 0.18 } else { 0.0 };
        let y_high = y_high + headroom;
        let y_step = step(y_high - y_low, 5.0);
        let (y_low, y_high) = ((y_low / y_step).floor() * y_step, (y_high / y_step).ceil() * y_step);

        let (width, height) = self.size;
        let (plot_width, plot_height) = (width - LEFT - RIGHT, height - TOP - BOTTOM);
        let x = |v: f64| (scale(v) - x_low) / (x_high - x_low) * plot_width;
        let y = |v: f64| (y_high - v) / (y_high - y_low) * plot_height;

        let mut body = self.legend();
        for value in multiples(y_low, y_high, y_step) {
            let at = TOP + y(value);
            let end = width - RIGHT;
            body += &format!(
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{end}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                tick(value, y_step)
            );
        }
        let base = TOP + plot_height;
        for (value, label) in self.x_ticks(x_low, x_high) {
            let at = LEFT + (value - x_low) / (x_high - x_low) * plot_width;
            let below = base + 17.0;
            body += &format!("<path class=\"base\" d=\"M{at:.1} {base}v4\"/>");
            body += &format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>");
        }
        body += &format!("<path class=\"base\" d=\"M{LEFT} {base}h{plot_width}\"/>");
        body += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT + plot_width / 2.0,
            height - 4.0,
            text(self.x.label)
        );
        // An inner svg clips what leaves the range.
        body += &format!("<svg x=\"{LEFT}\" y=\"{TOP}\" width=\"{plot_width}\" height=\"{plot_height}\">");
        for line in &self.lines {
            let (path, alone) = paths(&line.points, x, y);
            body += &format!("<path class=\"line {}\" d=\"{path}\"/>", line.style);
            if !alone.is_empty() {
                body += &format!("<path class=\"line {} alone\" d=\"{alone}\"/>", line.style);
            }
        }
        body += "</svg>";
        body += &self.mark_svg(|v| LEFT + x(v), |v| TOP + y(v), base);
        body += &self.tips_svg(|v| LEFT + x(v), base);

        let about = text(&self.about());
        format!("<svg {attributes} viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{about}\">{body}</svg>")
    }

    /// The chart in a sentence.
    fn about(&self) -> String {
        let lines = self.lines.iter().filter_map(|line| {
            let mut finite = line.points.iter().filter(|p| p.1.is_finite());
            let first = finite.next()?.1;
            let last = finite.next_back().map_or(first, |p| p.1);
            Some(format!("{} from {} to {}", line.name, number(first), number(last)))
        });
        format!("{} over {}: {}", self.title, self.x.label, lines.collect::<Vec<_>>().join("; "))
    }

    fn legend(&self) -> String {
        let mut at = LEFT;
        let mut out = String::new();
        for line in &self.lines {
            out += &format!("<path class=\"line {}\" d=\"M{at:.0} 12h16\"/>", line.style);
            out += &format!("<text x=\"{:.0}\" y=\"16\">{}</text>", at + 22.0, text(line.name));
            at += 22.0 + CHARACTER * line.name.chars().count() as f64 + 16.0;
        }
        out
    }

    /// Places on the (scaled) horizontal axis with their labels.
    fn x_ticks(&self, low: f64, high: f64) -> Vec<(f64, String)> {
        if !self.x.log {
            let step = step(high - low, 6.0).max(1.0);
            return multiples(low, high, step).map(|v| (v, tick(v, step))).collect();
        }
        // Within fewer than two decades also 2 and 5 times each power of ten.
        let within: &[f64] = if high - low < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        // No double lies outside these decades; of very many, some.
        let (first, last) = ((low.floor() as i32).max(-308), (high.ceil() as i32).min(308));
        let every = ((last - first) / 10).max(1) as usize;
        let decades = (first..=last).step_by(every).map(|e| 10f64.powi(e));
        decades
            .flat_map(|decade| within.iter().map(move |m| m * decade))
            .map(|v| (v.log10(), scientific(v, 0)))
            .filter(|(at, _)| (low..=high).contains(at))
            .collect()
    }

    fn mark_svg(&self, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64, base: f64) -> String {
        // A label that would leave the chart on one side is written towards the other.
        let label = |at: f64, y: f64, gap: f64, label: &str| {
            let half = CHARACTER * label.chars().count() as f64 / 2.0;
            let (anchor, at) = match at {
                _ if gap == 0.0 && at - half > LEFT && at + half < self.size.0 - 2.0 => ("middle", at),
                _ if at > self.size.0 / 2.0 => ("end", at - gap),
                _ => ("start", at + gap),
            };
            format!("<text class=\"mark\" x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", text(label))
        };
        match &self.mark {
            Some(Mark::Point(point, name)) => {
                let (x, y) = (x(point.0), y(point.1));
                if !(x.is_finite() && y.is_finite()) {
                    return String::new();
                }
                let leader = format!("<path class=\"base\" d=\"M{x:.1} {:.1}V{y:.1}\"/>", TOP + 16.0);
                let dot = format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>");
                format!("{leader}{dot}{}", label(x, TOP + 12.0, 0.0, name))
            }
            Some(Mark::Rule(at, name)) => {
                let x = x(*at);
                format!("<path class=\"rule\" d=\"M{x:.1} {TOP}V{base}\"/>{}", label(x, TOP + 12.0, 8.0, name))
            }
            None => String::new(),
        }
    }

    /// One invisible strip for each tip, halfway to its neighbours.
    fn tips_svg(&self, x: impl Fn(f64) -> f64, base: f64) -> String {
        let places: Vec<f64> = self.tips.iter().map(|tip| x(tip.0)).collect();
        let mut out = String::new();
        for (i, (_, tip)) in self.tips.iter().enumerate() {
            let left = if i == 0 { LEFT } else { (places[i - 1] + places[i]) / 2.0 };
            let right = places.get(i + 1).map_or(self.size.0 - RIGHT, |next| (places[i] + next) / 2.0);
            out += &format!(
                "<rect class=\"tip\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                (right - left).max(0.0),
                base - TOP,
                text(tip)
            );
        }
        out
    }
}

/// Path data through the points, interrupted where they are not finite, and of the points that stand alone.
fn paths(points: &[(f64, f64)], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> (String, String) {
    let (mut path, mut alone) = (String::new(), String::new());
    for run in points.split(|p| !(x(p.0).is_finite() && y(p.1).is_finite())) {
        if let [point] = run {
            alone += &format!("M{:.1} {:.1}h0", x(point.0), y(point.1));
            continue;
        }
        for (i, point) in run.iter().enumerate() {
            path += &format!("{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(point.0), y(point.1));
        }
    }
    (path, alone)
}

/// The least and greatest value; 0 to 1 if there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.map(|v| (v, v)).reduce(|(low, high), (v, _)| (low.min(v), high.max(v))).unwrap_or((0.0, 1.0))
}

/// A range that is not empty, widened by `by` on both sides if it was.
fn widened((low, high): (f64, f64), by: f64) -> (f64, f64) {
    if high > low { (low, high) } else { (low - by, low + by) }
}

/// A step of 1, 2 or 5 times a power of ten that divides a length into about `parts`.
fn step(length: f64, parts: f64) -> f64 {
    let rough = (length / parts).max(1e-12);
    let power = 10f64.powf(rough.log10().floor());
    power * [1.0, 2.0, 5.0].into_iter().find(|m| m * power >= rough * 0.999).unwrap_or(10.0)
}

/// The multiples of `step` in a range, ends included; at most 50.
fn multiples(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let first = (low / step - 1e-6).ceil();
    (0..50).map(move |i| (first + f64::from(i)) * step).take_while(move |v| *v <= high + step * 1e-6)
}

/// A tick's label, with the decimals that its step needs.
fn tick(value: f64, step: f64) -> String {
    if value.abs() < step / 2.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&step) {
        scientific(value, 1)
    } else {
        format!("{value:.*}", (-step.log10().floor()).max(0.0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |low: f64, high: f64| -> Vec<String> {
            let step = step(high - low, 5.0);
            multiples(low, high, step).map(|v| tick(v, step)).collect()
        };
        assert_eq!(ticks(0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks(0.0, 4e-4), ["0", "1e-4", "2e-4", "3e-4", "4e-4"]);
        assert_eq!(ticks(-0.2, 0.6), ["-0.2", "0", "0.2", "0.4", "0.6"]);
        assert_eq!(ticks(1e6, 9e6), ["2e6", "4e6", "6e6", "8e6"]);
    }

    #[test]
    fn any_numbers_can_be_drawn() {
        let all = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300, -1e300, 1e-300];
        for points in [vec![], vec![(1.0, f64::NAN)], all.map(|v| (v, v)).to_vec(), vec![(3.0, 0.0)]] {
            for log in [false, true] {
                let chart = Chart {
                    title: "t",
                    size: (300.0, 200.0),
                    x: Axis { label: "x", log },
                    y_range: None,
                    lines: vec![Line { name: "n", style: "", points: points.clone() }],
                    mark: Some(Mark::Point((0.0, f64::NAN), "m".into())),
                    tips: vec![(1.0, "<tip>".into())],
                };
                let svg = chart.svg("");
                assert!(svg.ends_with("</svg>") && svg.len() < 20_000, "{} bytes", svg.len());
            }
        }
    }
}
