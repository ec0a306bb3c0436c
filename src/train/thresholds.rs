//! Thresholds of classes by what people wish of their masks.

use std::str::FromStr;

use super::metrics::confidence::{Confidences, Point};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};

/// What a class's threshold shall give on the validation samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    /// The best F1.
    BestF1,
    /// The best IoU.
    BestIou,
    /// At least this precision, 0 to 1, with as much recall as is left.
    Precision(f64),
    /// At least this recall, 0 to 1, with as much precision as is left.
    Recall(f64),
}

/// A class and what is wished of it, written `building=precision:0.9`, `building=recall:0.8`, `building=best-f1` or `building=best-iou`.
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdFor {
    /// The class's name.
    pub class: String,
    /// What its threshold shall give.
    pub wish: Wish,
}

impl FromStr for ThresholdFor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(ErrorKind::Invalid, format!("{text:?} is no class with a wish"))
                .remedy("write building=best-f1, building=best-iou, building=precision:0.9 or building=recall:0.8")
        };
        let (class, wish) = text.rsplit_once('=').filter(|(class, _)| !class.is_empty()).ok_or_else(wrong)?;
        let part =
            |number: &str| number.parse().ok().filter(|part: &f64| *part > 0.0 && *part <= 1.0).ok_or_else(wrong);
        let wish = match wish.split_once(':') {
            None if wish == "best-f1" => Wish::BestF1,
            None if wish == "best-iou" => Wish::BestIou,
            Some(("precision", number)) => Wish::Precision(part(number)?),
            Some(("recall", number)) => Wish::Recall(part(number)?),
            _ => return Err(wrong()),
        };
        Ok(Self { class: class.to_owned(), wish })
    }
}

/// The threshold of each wish, by the class's index, with what it gives on the samples that `confidences` counts. A threshold only
/// takes pixels away from its class: 0 is the most that can be found.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a class that is not there, that is background, or that two wishes are made for, and for a wish that cannot
/// be met, with what can.
pub fn choose(wishes: &[ThresholdFor], classes: &[Class], confidences: &Confidences) -> Result<Vec<(u8, Point)>> {
    let mut chosen: Vec<(u8, Point)> = Vec::new();
    for ThresholdFor { class, wish } in wishes {
        let problem = |what: String| Error::new(ErrorKind::Invalid, what).at("--threshold-for");
        let Some(found) = classes.iter().find(|c| c.name == *class) else {
            let known: Vec<_> = classes.iter().skip(1).map(|c| c.name.as_str()).collect();
            return Err(problem(format!("the model has no class {class:?}, only {}", known.join(", "))));
        };
        if found.index == 0 {
            return Err(problem(format!("{class} is background, which has no threshold"))
                .remedy("name the class that pixels shall be taken from"));
        }
        if chosen.iter().any(|(index, _)| *index == found.index) {
            return Err(problem(format!("two thresholds are wished for {class}")).remedy("keep one of them"));
        }
        let curve = confidences.curve(usize::from(found.index));
        let point = wish.met(&curve).map_err(|what| {
            problem(format!("{class} {what} on the validation samples")).remedy("wish for what can be reached")
        })?;
        chosen.push((found.index, point));
    }
    Ok(chosen)
}

impl Wish {
    /// The point of a curve that meets it, or what can be reached.
    fn met(self, curve: &[Point]) -> std::result::Result<Point, String> {
        let best = |figure: &dyn Fn(&Point) -> Option<f64>| {
            let defined = curve.iter().filter_map(|point| Some((figure(point)?, *point)));
            // The first of equals: the lower threshold.
            defined.reduce(|best, next| if next.0 > best.0 { next } else { best })
        };
        let never = || "is neither labelled nor predicted".to_owned();
        match self {
            Self::BestF1 => best(&|p| p.f1).map(|found| found.1).ok_or_else(never),
            Self::BestIou => best(&|p| p.iou).map(|found| found.1).ok_or_else(never),
            // Thresholds ascend, so recall falls: the first has the most.
            Self::Precision(least) => {
                let met = curve.iter().find(|p| p.precision.is_some_and(|precision| precision >= least));
                met.copied().ok_or_else(|| match best(&|p| p.precision) {
                    Some((most, at)) => format!(
                        "reaches a precision of {most:.3} at most, with a recall of {:.3}, not {least}",
                        at.recall.unwrap_or(0.0)
                    ),
                    None => "is never predicted".to_owned(),
                })
            }
            Self::Recall(least) => {
                let meets = |p: &&Point| p.recall.is_some_and(|recall| recall >= least);
                let met = curve.iter().filter(meets).filter_map(|p| Some((p.precision?, *p)));
                let met = met.reduce(|best, next| if next.0 > best.0 { next } else { best });
                met.map(|found| found.1).ok_or_else(|| match curve.first().and_then(|p| p.recall) {
                    Some(most) => format!("reaches a recall of {most:.3} at most, not {least}"),
                    None => "is not labelled".to_owned(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confidences() -> Confidences {
        let mut counts = Confidences::new(3);
        // By falling confidence: right, right, wrong, right, wrong; one is missed. Class 2 never occurs.
        counts.add(&[1, 1, 0, 1, 0, 1], &[1, 1, 1, 1, 1, 0], &[250, 220, 200, 180, 140, 150]).expect("classes");
        counts
    }

    fn threshold(wish: &str) -> Result<(u8, Point)> {
        let class = |index, name: &str| Class { index, name: name.into(), color: [0; 3], threshold: None };
        let classes = [class(0, "ground"), class(1, "roof"), class(2, "a=b")];
        choose(&[wish.parse()?], &classes, &confidences()).map(|chosen| chosen[0])
    }

    #[test]
    fn wishes_are_met_by_the_threshold_that_costs_least() {
        for (wish, kept, precision, recall) in [
            ("roof=precision:0.9", 220.0, 1.0, 0.5),
            ("roof=precision:0.7", 180.0, 0.75, 0.75),
            ("roof=precision:0.6", 0.0, 0.6, 0.75),
            ("roof=recall:0.5", 220.0, 1.0, 0.5),
            ("roof=recall:0.6", 180.0, 0.75, 0.75),
            ("roof=best-f1", 180.0, 0.75, 0.75),
            ("roof=best-iou", 180.0, 0.75, 0.75),
        ] {
            let (index, point) = threshold(wish).expect(wish);
            assert_eq!((index, point.precision, point.recall), (1, Some(precision), Some(recall)), "{wish}");
            let least = (255.0 * f64::from(point.threshold)).ceil();
            assert_eq!(least, kept, "{wish}");
        }
    }

    #[test]
    fn what_cannot_be_met_says_what_can() {
        for (wish, said) in [
            ("roof=recall:0.9", "recall of 0.750 at most, not 0.9"),
            ("a=b=precision:0.5", "a=b is never predicted"),
            ("a=b=best-f1", "neither labelled nor predicted"),
            ("ground=best-f1", "background"),
            ("river=best-f1", "only roof, a=b"),
        ] {
            let error = threshold(wish).expect_err(wish).to_string();
            assert!(error.contains(said), "{wish}: {error}");
        }
        for wrong in
            ["roof", "=best-f1", "roof=best", "roof=precision", "roof=precision:2", "roof=recall:x", "roof=precision:0"]
        {
            assert!(wrong.parse::<ThresholdFor>().is_err(), "{wrong}");
        }
        let twice: Vec<ThresholdFor> = vec!["roof=best-f1".parse().expect("a wish"); 2];
        let class = Class { index: 1, name: "roof".into(), color: [0; 3], threshold: None };
        assert!(choose(&twice, &[class], &confidences()).expect_err("twice").to_string().contains("two thresholds"));
    }

    #[test]
    fn a_precision_out_of_reach_is_told_with_its_recall() {
        let mut counts = Confidences::new(2);
        counts.add(&[1, 0, 0], &[1, 1, 1], &[200, 200, 100]).expect("classes");
        let error = Wish::Precision(0.9).met(&counts.curve(1)).expect_err("out of reach");
        assert!(error.contains("precision of 0.500 at most, with a recall of 1.000, not 0.9"), "{error}");
    }
}
