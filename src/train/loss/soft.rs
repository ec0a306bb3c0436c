//! Losses against what a teacher says: its probabilities, and its embedding.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

use super::{Loss, LossOptions};

/// Added to Dice's denominator for each pixel that is taught: a class that the teacher gives less than about a hundredth
/// of everywhere does not weigh like one that is there.
const ABSENT: f64 = 1e-4;
/// The least deviation of a channel of the teacher's embedding.
const MIN_DEVIATION: f64 = 1e-3;

/// What a teacher says of a batch, on a device.
pub struct SoftTarget {
    /// Probabilities `[b, k, h, w]` in the order of the student's classes, summing to one where the teacher speaks; none if
    /// it teaches its embedding alone.
    pub probabilities: Option<Tensor<4>>,
    /// 1 where the teacher speaks, 0 where it is silent: `[b, 1, h, w]`.
    pub speaks: Tensor<4>,
    /// The teacher's embedding `[b, c, h / 16, w / 16]`, if it is taught.
    pub embedding: Option<Tensor<4>>,
    /// How it counts.
    pub weights: TeacherWeights,
}

/// How much of the loss is the teacher's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TeacherWeights {
    /// Weight of the teacher's probabilities, 0 to 1; the labels have the rest.
    pub masks: f64,
    /// Weight of the teacher's embedding, beside them.
    pub features: f64,
    /// Both sides' logits are divided by it in the cross-entropy.
    pub temperature: f64,
}

impl SoftTarget {
    /// `(1 - masks) * loss + masks * soft loss` in place of a loss against labels; see [`soft_loss`].
    pub fn mix(&self, loss: Loss, logits: Tensor<4>, options: &LossOptions) -> Loss {
        let Some(probabilities) = &self.probabilities else { return loss };
        let TeacherWeights { masks, temperature, .. } = self.weights;
        let soft = soft_loss(logits, probabilities, &self.speaks, options, temperature);
        Loss { total: loss.total * (1.0 - masks) + soft * masks, ..loss }
    }

    /// Adds the features' part, of the student's embedding as the teacher's are (projected where widths differ).
    pub fn with_features(&self, loss: Loss, student: Tensor<4>) -> Loss {
        let Some(embedding) = &self.embedding else { return loss };
        Loss { total: loss.total + feature_loss(student, embedding.clone()) * self.weights.features, ..loss }
    }
}

/// The loss of logits `[b, k, h, w]` against a teacher's probabilities of the same shape, over the pixels where it `speaks`,
/// `[b, 1, h, w]`; `[1]`, with the weights that `options` has for labels.
///
/// Cross-entropy with the teacher's softmax at a temperature T (Hinton et al. 2015: times T^2, so that gradients keep their
/// size), and `1 - 2 sum(p t) / (sum p^2 + sum t^2)` over the batch, the mean over classes but background: of the forms of
/// Dice the one that is least at p = t for soft targets too.
pub fn soft_loss(
    logits: Tensor<4>,
    probabilities: &Tensor<4>,
    speaks: &Tensor<4>,
    options: &LossOptions,
    temperature: f64,
) -> Tensor<1> {
    let [b, k, h, w] = logits.dims();
    let pixels = speaks.clone().sum().clamp_min(1.0);
    let target = sharpened(probabilities.clone(), temperature);
    let log_p = log_softmax(logits.clone() / temperature, 1);
    let cross_entropy = (log_p * target * speaks.clone()).sum().neg() / pixels.clone() * temperature.powi(2);
    // [k - 1, b h w]
    let foreground = |x: Tensor<4>| (x * speaks.clone()).slice_dim(1, 1..k).swap_dims(0, 1).reshape([k - 1, b * h * w]);
    let (p, t) = (foreground(softmax(logits, 1)), foreground(probabilities.clone()));
    let both = (p.clone() * t.clone()).sum_dim(1).reshape([k - 1]);
    let either = (p.square() + t.square()).sum_dim(1).reshape([k - 1]);
    let floor = pixels * ABSENT;
    // 1 - (2 sum(p t) + floor) / (sum p^2 + sum t^2 + floor)
    let dice = ((both * 2.0 + floor.clone()) / (either + floor)).mean().neg() + 1.0;
    cross_entropy * options.cross_entropy + dice * options.dice
}

/// Probabilities as a softmax at another temperature has them: `p^(1/T)`, summing to one again.
fn sharpened(probabilities: Tensor<4>, temperature: f64) -> Tensor<4> {
    if temperature == 1.0 {
        return probabilities;
    }
    let powers = probabilities.clamp_min(1e-9).powf_scalar(1.0 / temperature);
    let sums = powers.clone().sum_dim(1);
    powers / sums
}

/// Smooth L1 between embeddings `[b, c, h, w]`, each channel divided by the deviation that the teacher's has in the batch, so
/// that all count alike; least where both are equal. `[1]`.
pub fn feature_loss(student: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
    let [b, c, h, w] = teacher.dims();
    let values = teacher.clone().swap_dims(0, 1).reshape([c, b * h * w]);
    let centred = values.clone() - values.mean_dim(1);
    let deviation = centred.square().mean_dim(1).sqrt().clamp_min(MIN_DEVIATION).reshape([1, c, 1, 1]);
    let difference = ((student - teacher) / deviation).abs();
    // d^2 / 2 below 1, d - 1/2 above it: of m = min(d, 1) it is m (d - m / 2)
    let least = difference.clone().clamp_max(1.0);
    (least.clone() * (difference - least * 0.5)).mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::random::SplitMix;

    const SHAPE: [usize; 4] = [2, 3, 3, 4];

    fn device() -> Device {
        pollster::block_on(crate::engine::open_device(crate::engine::DeviceChoice::Cpu)).expect("a CPU")
    }

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut random = SplitMix(seed);
        (0..count).map(|_| 2.0 * random.uniform()).collect()
    }

    fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    fn numbers_of(x: Tensor<1>) -> Vec<f32> {
        let x = if x.is_tracked() { x.inner() } else { x };
        x.into_data().try_to_vec::<f32>().expect("numbers")
    }

    fn value(x: Tensor<1>) -> f64 {
        f64::from(numbers_of(x)[0])
    }

    fn teacher() -> (Tensor<4>, Tensor<4>) {
        let speaks = (0..24).map(|i| if i % 5 == 0 { 0.0 } else { 1.0 }).collect();
        (softmax(tensor(numbers(2, 72), SHAPE), 1), tensor(speaks, [2, 1, 3, 4]))
    }

    fn largest_error(f: &dyn Fn(Tensor<4>) -> Tensor<1>, values: &[f32], shape: [usize; 4]) -> f64 {
        let leaf = tensor(values.to_vec(), shape).autodiff().require_grad();
        let graph = f(leaf.clone()).backward();
        let gradient = numbers_of(leaf.grad(&graph).expect("a gradient").reshape([values.len()]));
        let step = 2e-2f32;
        let moved = |i: usize, by: f32| {
            let mut values = values.to_vec();
            values[i] += by;
            value(f(tensor(values, shape)))
        };
        let errors = (0..values.len()).map(|i| {
            let found = (moved(i, step) - moved(i, -step)) / f64::from(2.0 * step);
            (found - f64::from(gradient[i])).abs()
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn the_soft_losss_gradient_is_its_finite_difference() {
        let (probabilities, speaks) = teacher();
        for temperature in [1.0, 2.5] {
            let loss = |x: Tensor<4>| soft_loss(x, &probabilities, &speaks, &LossOptions::default(), temperature);
            let error = largest_error(&loss, &numbers(1, 72), SHAPE);
            assert!(error < 2e-4, "temperature {temperature}: {error:e}");
        }
    }

    #[test]
    fn the_features_gradient_is_its_finite_difference() {
        let teacher = tensor(numbers(3, 72), SHAPE);
        let error = largest_error(&|x| feature_loss(x, teacher.clone()), &numbers(4, 72), SHAPE);
        assert!(error < 2e-3, "{error:e}");
        assert!(value(feature_loss(teacher.clone(), teacher)).abs() < 1e-12);
    }

    /// At the teacher's own logits the gradient is nought, whatever the temperature: no other prediction is better.
    #[test]
    fn nothing_is_better_than_what_the_teacher_says() {
        let own = numbers(2, 72);
        let (probabilities, speaks) = teacher();
        let leaf = tensor(own, SHAPE).autodiff().require_grad();
        for temperature in [1.0, 3.0] {
            let loss = soft_loss(leaf.clone(), &probabilities, &speaks, &LossOptions::default(), temperature);
            let gradient = leaf.grad(&loss.backward()).expect("a gradient").abs().max();
            assert!(value(gradient) < 1e-6);
        }
    }

    #[test]
    fn values_are_pytorchs() {
        let ramp = |scale: f32| (0..72).map(|i| ((i * 37 % 23) as f32 - 11.0) * scale).collect::<Vec<f32>>();
        let (_, speaks) = teacher();
        let probabilities = softmax(tensor(ramp(0.25), SHAPE), 1);
        let logits: Vec<f32> = ramp(0.1).into_iter().rev().collect();
        let found = [1.0, 2.0].map(|temperature| {
            value(soft_loss(
                tensor(logits.clone(), SHAPE),
                &probabilities,
                &speaks,
                &LossOptions::default(),
                temperature,
            ))
        });
        for (found, expected) in found.into_iter().zip(PYTORCH) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        let found = value(feature_loss(tensor(logits, SHAPE), tensor(ramp(0.25), SHAPE)));
        assert!((found - PYTORCH_FEATURES).abs() < 1e-5, "{found}");
    }

    /// Of PyTorch 2: `F.cross_entropy` with soft targets, and `F.smooth_l1_loss`.
    const PYTORCH: [f64; 2] = [0.677_789_434, 1.322_589_736];
    const PYTORCH_FEATURES: f64 = 0.457_336_383;
}
