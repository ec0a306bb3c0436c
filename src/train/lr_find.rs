//! A learning rate range test (Smith 2017): the rate grows with every step until the loss diverges.

use super::setup::{Prepared, loader};
use super::upload::upload_for;
use crate::error::{Error, ErrorKind, Result};

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct LrFind {
    /// Learning rate and loss of each step.
    pub points: Vec<(f64, f64)>,
    /// The losses, smoothed.
    pub smoothed: Vec<f64>,
    /// The rate to train with, if the loss fell at all.
    pub suggestion: Option<f64>,
}

/// First and last learning rate.
const RATES: [f64; 2] = [1e-6, 1.0];
/// Weight of the past in the smoothed loss, as in fastai.
const SMOOTHING: f64 = 0.98;
/// The test ends when the smoothed loss is this many times the best.
const DIVERGED: f64 = 4.0;

/// Trains for at most `steps` steps of growing rates; the model is used up. `progress` gets steps done.
///
/// # Errors
/// [`ErrorKind::Invalid`] for fewer than 10 steps or if the data gives no batch; those of reading and of the device.
pub fn lr_find(prepared: Prepared, steps: usize, mut progress: impl FnMut(usize)) -> Result<LrFind> {
    if steps < 10 {
        return Err(Error::new(ErrorKind::Invalid, format!("{steps} steps are too few, at least 10")).at("--steps"));
    }
    let Prepared { info, dataset, train, loss, mut learner, lessons, .. } = prepared;
    let settings = &info.settings;
    let loader = loader(&info, &dataset, &train, lessons);
    let mut found = LrFind { points: Vec::new(), smoothed: Vec::new(), suggestion: None };
    let (mut average, mut best) = (0.0, f64::INFINITY);
    'test: for epoch in 0.. {
        let before = found.points.len();
        for batch in loader.epoch(epoch, 0) {
            let batch = batch?;
            let step = found.points.len();
            let rate = RATES[0] * (RATES[1] / RATES[0]).powf(step as f64 / (steps - 1) as f64);
            let (images, target) = upload_for(&learner, &batch);
            let mut accumulated = learner.accumulator();
            learner.seed(step as u64);
            let value = learner.accumulate(images, &target, &loss, &mut accumulated)?.total;
            if !value.is_finite() {
                break 'test;
            }
            average = SMOOTHING * average + (1.0 - SMOOTHING) * value;
            let smoothed = average / (1.0 - SMOOTHING.powi(step as i32 + 1));
            found.points.push((rate, value));
            found.smoothed.push(smoothed);
            best = f64::min(best, smoothed);
            progress(step + 1);
            if step + 1 == steps || smoothed > DIVERGED * best {
                break 'test;
            }
            match learner.step(accumulated, rate, &settings.optimizer) {
                Err(e) if e.kind() == ErrorKind::Invalid => break 'test,
                done => done?,
            };
        }
        if found.points.len() == before {
            return Err(Error::new(ErrorKind::Invalid, "the data gives no batch"));
        }
    }
    found.suggestion = suggest(&found);
    Ok(found)
}

/// The rate where the smoothed loss falls fastest over the logarithm of the rate, a tenth of the way to divergence at most: the steepest
/// slope of a window of a tenth of the steps, among those before the loss's minimum.
fn suggest(found: &LrFind) -> Option<f64> {
    let lowest = found.smoothed.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)?;
    let window = (found.smoothed.len() / 10).max(2);
    let fall = |i: usize| found.smoothed[i] - found.smoothed[i + window];
    let steepest = (0..(lowest + 1).saturating_sub(window)).max_by(|a, b| fall(*a).total_cmp(&fall(*b)))?;
    (fall(steepest) > 0.0).then(|| found.points[steepest + window / 2].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_lies_on_the_steepest_fall() {
        let rates = (0..100).map(|i| 1e-6 * 1e6f64.powf(f64::from(i) / 99.0));
        // flat, a fall around step 60, divergence from step 80
        let loss = |i: i32| 1.0 / (1.0 + (f64::from(i - 60) / 4.0).exp()) + f64::from((i - 80).max(0)).powi(2);
        let smoothed: Vec<f64> = (0..100).map(loss).collect();
        let points: Vec<_> = rates.zip(smoothed.iter().copied()).collect();
        let near = points[60].0;
        let found = suggest(&LrFind { points: points.clone(), smoothed, suggestion: None }).expect("a fall");
        assert!((0.7..1.4).contains(&(found / near)), "{found} {near}");
        let rising: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(suggest(&LrFind { points, smoothed: rising, suggestion: None }), None);
    }
}
