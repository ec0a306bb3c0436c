//! Losses on logits at full resolution: cross-entropy or focal loss, and Dice.
//!
//! Only operations that have gradients on every device are used: bilinear upsampling is a matrix product, classes are
//! one-hot.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::dataset::IGNORE;
use crate::kernels::resample_matrix;

mod soft;

pub use soft::{SoftTarget, TeacherWeights, feature_loss, soft_loss};

/// What the Dice score is summed over before it is divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiceOver {
    /// Each class over the whole batch, then the mean of the classes that occur in it: rare classes count as much as
    /// common ones, and images without any class still count, by their false alarms.
    #[default]
    Class,
    /// All classes but background over the whole batch.
    Batch,
    /// All classes but background over each image, then the mean of images, as SamLoRA does. An image without any class
    /// scores zero and teaches nothing.
    Image,
}

/// The mix of losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossOptions {
    /// Weight of cross-entropy.
    pub cross_entropy: f64,
    /// Weight of Dice.
    pub dice: f64,
    /// What Dice is summed over.
    pub dice_over: DiceOver,
    /// Cross-entropy is multiplied by `(1 - p)^gamma` (focal loss, Lin et al. 2017); 0 leaves it alone.
    pub focal_gamma: f64,
    /// A factor for each class's cross-entropy; the mean is taken over weights, not pixels.
    pub class_weights: Option<Vec<f32>>,
}

impl Default for LossOptions {
    /// SamLoRA's mix, 0.2 and 0.8.
    fn default() -> Self {
        Self { cross_entropy: 0.2, dice: 0.8, dice_over: DiceOver::Class, focal_gamma: 0.0, class_weights: None }
    }
}

/// What a loss compares with, on a device.
pub struct LossTarget {
    /// Each pixel's class, one-hot, all zero where ignored: `[b, k, h, w]`.
    one_hot: Tensor<4>,
    /// 1 where a pixel counts, 0 where it is ignored: `[b, 1, h, w]`.
    counts: Tensor<4>,
    /// Whether each class but background occurs.
    present: Vec<bool>,
    /// Pixels that count.
    pixels: usize,
    /// What a teacher says, if there is one; [`loss`] itself compares with labels alone.
    pub soft: Option<SoftTarget>,
}

impl LossTarget {
    /// Of labels `[b, h, w]`, class indices below `classes` or [`IGNORE`].
    pub fn new(labels: &[u8], [b, h, w]: [usize; 3], classes: usize, device: &Device) -> Self {
        let plane = h * w;
        let mut one_hot = vec![0.0f32; b * classes * plane];
        let mut counts = vec![0.0f32; b * plane];
        let mut present = vec![false; classes];
        for (i, &label) in labels.iter().enumerate().take(b * plane) {
            let class = usize::from(label);
            if label != IGNORE && class < classes {
                one_hot[(i / plane * classes + class) * plane + i % plane] = 1.0;
                counts[i] = 1.0;
                present[class] = true;
            }
        }
        let pixels = counts.iter().filter(|c| **c > 0.0).count();
        let upload = |values, channels| Tensor::from_data(TensorData::new(values, [b, channels, h, w]), device);
        present.remove(0);
        Self { one_hot: upload(one_hot, classes), counts: upload(counts, 1), present, pixels, soft: None }
    }

    /// Pixels that count; a loss over none is zero.
    pub fn pixels(&self) -> usize {
        self.pixels
    }
}

/// A loss and its parts, `[1]` each.
pub struct Loss {
    /// Cross-entropy (or focal loss), unweighted.
    pub cross_entropy: Tensor<1>,
    /// 1 - Dice score, unweighted.
    pub dice: Tensor<1>,
    /// The mix.
    pub total: Tensor<1>,
}

/// Resamples `[b, k, h, w]` bilinearly, without aligning corners, to `size` (rows, columns). A matrix product on each axis,
/// so that its gradient exists on every device.
pub fn upsample(logits: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [b, k, h, w] = logits.dims();
    if [h, w] == [rows, columns] {
        return logits;
    }
    let device = logits.device().inner();
    let down = resample_matrix(h, rows, &device).unsqueeze::<3>().expand([b * k, rows, h]);
    let across = resample_matrix(w, columns, &device).transpose();
    let wide = logits.reshape([b * k * h, w]).matmul(across);
    down.matmul(wide.reshape([b * k, h, columns])).reshape([b, k, rows, columns])
}

/// The loss of logits `[b, k, h, w]`, k at least 2.
pub fn loss(logits: Tensor<4>, target: &LossTarget, options: &LossOptions) -> Loss {
    let cross_entropy = cross_entropy(logits.clone(), target, options);
    let dice = dice(logits, target, options.dice_over);
    let total = cross_entropy.clone() * options.cross_entropy + dice.clone() * options.dice;
    Loss { cross_entropy, dice, total }
}

fn cross_entropy(logits: Tensor<4>, target: &LossTarget, options: &LossOptions) -> Tensor<1> {
    let [_, k, _, _] = logits.dims();
    let log_p = log_softmax(logits, 1);
    let mut weights = target.one_hot.clone();
    if let Some(class_weights) = &options.class_weights {
        let factors = Tensor::<1>::from_data(TensorData::new(class_weights.clone(), [k]), &weights.device());
        weights = weights * factors.reshape([1, k, 1, 1]);
    }
    let total = weights.clone().sum().clamp_min(1e-8);
    let mut sum = log_p.clone() * weights;
    if options.focal_gamma > 0.0 {
        // 1 - p is kept off 0, where the power's gradient is infinite for gamma below 1
        sum = sum * (log_p.exp().neg() + 1.0).clamp_min(1e-6).powf_scalar(options.focal_gamma);
    }
    sum.sum().neg() / total
}

fn dice(logits: Tensor<4>, target: &LossTarget, over: DiceOver) -> Tensor<1> {
    let [b, k, h, w] = logits.dims();
    // [b, k - 1, h w]
    let foreground = |x: Tensor<4>| x.slice_dim(1, 1..k).reshape([b, k - 1, h * w]);
    let p = foreground(softmax(logits, 1) * target.counts.clone());
    let t = foreground(target.one_hot.clone());
    // sums of p * t and of p + t: [b, k - 1]
    let both = (p.clone() * t.clone()).sum_dim(2).reshape([b, k - 1]);
    let either = (p + t).sum_dim(2).reshape([b, k - 1]);
    const EPSILON: f64 = 1e-8;
    match over {
        DiceOver::Image => {
            let score = both.sum_dim(1) * 2.0 / (either.sum_dim(1) + EPSILON);
            score.mean().neg() + 1.0
        }
        DiceOver::Batch => (both.sum() * 2.0 / (either.sum() + EPSILON)).neg() + 1.0,
        DiceOver::Class => {
            let score = both.sum_dim(0) * 2.0 / (either.sum_dim(0) + EPSILON);
            let count = target.present.iter().filter(|p| **p).count();
            let share = |present: &bool| if *present { 1.0 / count as f32 } else { 0.0 };
            let shares: Vec<f32> = target.present.iter().map(share).collect();
            let shares = Tensor::<2>::from_data(TensorData::new(shares, [1, k - 1]), &score.device());
            let whole = if count == 0 { 0.0 } else { 1.0 };
            (score * shares).sum().neg() + whole
        }
    }
}
