//! Learning rates over a run. A rate is a pure function of the step, so a resumed run continues exactly.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How the learning rate moves over a run of `n` steps, relative to its peak. Parsed from a name (`one-cycle`,
/// `polynomial`, `cosine`, `constant`) it has the defaults named below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// fastai's one-cycle (Smith 2018): from `peak / start` up to `peak` over the first `a = floor(rise n)` steps, then
    /// down to `peak / end`, both along half a cosine:
    ///
    /// ```text
    /// step < a:   peak/start + (peak - peak/start) (1 - cos(π step / a)) / 2
    /// otherwise:  peak/end   + (peak - peak/end)   (1 + cos(π (step - a) / (n - a))) / 2
    /// ```
    OneCycle {
        /// Part of the steps that climb, 0 to 1; 0.3 in fastai.
        rise: f64,
        /// The peak divided by the first rate; 25 in fastai.
        start: f64,
        /// The peak divided by the rate that the end approaches; 25e4 in fastai.
        end: f64,
    },
    /// SAMed's: a linear warm-up over the first `w = floor(warmup n)` steps, then a polynomial down towards 0:
    ///
    /// ```text
    /// step < w:   peak (step + 1) / w
    /// otherwise:  peak (1 - (step - w) / (n - w)) ^ power
    /// ```
    ///
    /// SAMed divides by `n` in place of `n - w`, because its runs stop before their last step; here the rate comes down
    /// to 0 at the end of the run.
    #[serde(rename = "polynomial")]
    WarmupPolynomial {
        /// Part of the steps that warm up, 0 to 1; 0.05 by default.
        warmup: f64,
        /// The polynomial's exponent; 0.9 in SAMed.
        power: f64,
    },
    /// The same warm-up, then half a cosine down towards 0: `peak (1 + cos(π (step - w) / (n - w))) / 2`.
    Cosine {
        /// Part of the steps that warm up, 0 to 1; 0.05 by default.
        warmup: f64,
    },
    /// The peak throughout.
    Constant,
}

/// Part of a run that warms up unless told otherwise: enough for AdamW's second moments to settle.
const WARMUP: f64 = 0.05;

impl Schedule {
    /// Every schedule with its default numbers, in the order of the documentation.
    pub const DEFAULTS: [Self; 4] = [
        Self::OneCycle { rise: 0.3, start: 25.0, end: 25e4 },
        Self::WarmupPolynomial { warmup: WARMUP, power: 0.9 },
        Self::Cosine { warmup: WARMUP },
        Self::Constant,
    ];

    /// The learning rate of step `step` (from 0) of a run of `steps` steps whose highest rate is `peak`. Steps beyond the
    /// run keep the rate that its end approaches.
    pub fn at(&self, step: usize, steps: usize, peak: f64) -> f64 {
        // Where `step` stands between `from` and the end of the run, 0 to 1.
        let part = |from: usize| match steps.saturating_sub(from) {
            0 => 1.0,
            rest => (step.saturating_sub(from) as f64 / rest as f64).min(1.0),
        };
        let share = |of: f64| (of.clamp(0.0, 1.0) * steps as f64) as usize;
        match *self {
            Self::OneCycle { rise, start, end } => {
                let top = share(rise);
                if step < top {
                    half_cosine(peak / start, peak, step as f64 / top as f64)
                } else {
                    half_cosine(peak, peak / end, part(top))
                }
            }
            Self::WarmupPolynomial { warmup, power } => {
                let warm = share(warmup);
                if step < warm { linear(step, warm, peak) } else { peak * (1.0 - part(warm)).powf(power) }
            }
            Self::Cosine { warmup } => {
                let warm = share(warmup);
                if step < warm { linear(step, warm, peak) } else { half_cosine(peak, 0.0, part(warm)) }
            }
            Self::Constant => peak,
        }
    }

    /// Its name, as [`Schedule::from_str`] takes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::OneCycle { .. } => "one-cycle",
            Self::WarmupPolynomial { .. } => "polynomial",
            Self::Cosine { .. } => "cosine",
            Self::Constant => "constant",
        }
    }

    /// Checks that every number is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] naming the number.
    pub fn check(&self) -> Result<()> {
        let (share, positive) = match *self {
            Self::OneCycle { rise, start, end } => (("rise", rise), vec![("start", start), ("end", end)]),
            Self::WarmupPolynomial { warmup, power } => (("warmup", warmup), vec![("power", power)]),
            Self::Cosine { warmup } => (("warmup", warmup), Vec::new()),
            Self::Constant => return Ok(()),
        };
        let wrong = |(number, value): (&str, f64), range: &str| {
            let message = format!("{number} is {value}, expected {range}");
            Err(Error::new(ErrorKind::Invalid, message).at(format!("schedule {self}")))
        };
        if !(0.0..=1.0).contains(&share.1) {
            return wrong(share, "0 to 1");
        }
        match positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some(number) => wrong(number, "a finite number above 0"),
            None => Ok(()),
        }
    }
}

impl Default for Schedule {
    /// One-cycle, as `SamLoRA.fit`.
    fn default() -> Self {
        Self::DEFAULTS[0]
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::DEFAULTS.into_iter().find(|schedule| schedule.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no learning rate schedule {name:?}"))
                .remedy(format!("known: {}", Self::DEFAULTS.map(|s| s.name()).join(", ")))
        })
    }
}

/// From `from` at 0 to `to` at 1, flat at both ends.
fn half_cosine(from: f64, to: f64, at: f64) -> f64 {
    to + (from - to) * (1.0 + (PI * at).cos()) / 2.0
}

/// A warm-up that reaches the peak with its last step and never begins at 0, where a step would be lost.
fn linear(step: usize, steps: usize, peak: f64) -> f64 {
    peak * (step + 1) as f64 / steps as f64
}
