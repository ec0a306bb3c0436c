//! How far a figure can be trusted: its spread over images, and what other images of the kind might have given.

use crate::random::SplitMix;

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 1000;
/// Part of them that an interval holds.
pub const LEVEL: f64 = 0.95;
/// Decides which images are drawn, so that the same images give the same interval.
const SEED: u64 = 0;

/// The value below which the share `part` of `values` lies, between neighbours linearly (numpy's `quantile`). `None` for no values.
pub(super) fn quantile(values: &mut [f64], part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = part * values.len().checked_sub(1)? as f64;
    let (low, high) = (values[at as usize], values[(at.ceil() as usize).min(values.len() - 1)]);
    Some(low + (high - low) * at.fract())
}

/// For each figure the interval that holds [`LEVEL`] of what it is on [`RESAMPLES`] draws of `images` images with replacement
/// (percentile bootstrap, Efron 1979). `figures` gives those of the images with these indices. `None` for fewer than two images and
/// for figures that are defined on no draw.
pub(super) fn intervals<const N: usize>(
    images: usize,
    figures: impl Fn(&[usize]) -> [Option<f64>; N],
) -> [Option<[f64; 2]>; N] {
    let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    if images > 1 {
        let mut random = SplitMix(SEED);
        for _ in 0..RESAMPLES {
            let indices: Vec<usize> = (0..images).map(|_| (random.next_u64() % images as u64) as usize).collect();
            drawn.iter_mut().zip(figures(&indices)).for_each(|(drawn, figure)| drawn.extend(figure));
        }
    }
    let tail = (1.0 - LEVEL) / 2.0;
    drawn.map(|mut values| Some([quantile(&mut values, tail)?, quantile(&mut values, 1.0 - tail)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|part| quantile(&mut values, part)), [1.0, 1.75, 2.5, 4.0].map(Some));
        assert_eq!((quantile(&mut [], 0.5), quantile(&mut [7.0], 0.9)), (None, Some(7.0)));
    }

    #[test]
    fn intervals_hold_the_mean_and_shrink_with_more_images() {
        let width = |images: usize| {
            let mean = |indices: &[usize]| {
                [Some(indices.iter().map(|i| (i % 2) as f64).sum::<f64>() / indices.len() as f64), None]
            };
            let [found, none] = intervals(images, mean);
            assert_eq!((found, none), (intervals(images, mean)[0], None), "the same twice");
            let [low, high] = found.expect("defined");
            assert!(low < 0.5 && 0.5 < high, "{low} {high}");
            high - low
        };
        assert!(width(400) < width(20) / 3.0);
        assert_eq!(intervals(1, |_| [Some(1.0)]), [None]);
    }
}
