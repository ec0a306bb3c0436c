//! Batch norms folded into the convolutions before them: `norm(conv(x)) = (w / deviation) conv(x) + (b - mean w / deviation)`, with the
//! statistics of their training, as they compute in evaluation.

use super::keys::{FoldedNorm, Keys};
use super::tensor::TensorSource;
use crate::error::{Error, ErrorKind, Result};

/// Checks that all tensors of the norms in `keys` have one number for each output of their convolution.
///
/// # Errors
/// [`ErrorKind::Format`] naming the tensor.
pub fn check(source: &dyn TensorSource, keys: &Keys) -> Result<()> {
    let shape = |stored: &str| source.info(stored).map(|t| t.shape.clone()).unwrap_or_default();
    for (scope, FoldedNorm { weight, bias, mean, variance }) in &keys.norms {
        let kernel = keys.tensors.get(&format!("{scope}.c.weight")).map(|stored| shape(stored)).unwrap_or_default();
        for name in [weight, bias, mean, variance] {
            let found = shape(name);
            if found.len() != 1 || found.first() != kernel.first() {
                let message = format!("has shape {found:?}, the convolution before this norm has {kernel:?}");
                return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
            }
        }
    }
    Ok(())
}

/// What each output of the convolution is multiplied by.
fn factors(source: &dyn TensorSource, norm: &FoldedNorm, epsilon: f64) -> Result<Vec<f32>> {
    let (weight, variance) = (source.read_f32(&norm.weight)?, source.read_f32(&norm.variance)?);
    if let Some(value) = variance.iter().find(|value| **value < 0.0) {
        let message = format!("holds the variance {value}, which cannot be");
        return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {}", norm.variance)));
    }
    let deviation = |variance: f32| (f64::from(variance) + epsilon).sqrt();
    Ok(weight.iter().zip(variance).map(|(w, v)| (f64::from(*w) / deviation(v)) as f32).collect())
}

/// The kernel, `[outputs, ..]` row-major, with the factors of the norm, whose epsilon is `epsilon`.
///
/// # Errors
/// Those of reading; [`ErrorKind::Format`] for a negative variance.
pub fn kernel(source: &dyn TensorSource, norm: &FoldedNorm, epsilon: f64, mut kernel: Vec<f32>) -> Result<Vec<f32>> {
    let factors = factors(source, norm, epsilon)?;
    let terms = (kernel.len() / factors.len().max(1)).max(1);
    for (line, factor) in kernel.chunks_exact_mut(terms).zip(factors) {
        line.iter_mut().for_each(|weight| *weight *= factor);
    }
    Ok(kernel)
}

/// The bias that the convolution gets.
///
/// # Errors
/// As [`kernel`].
pub fn bias(source: &dyn TensorSource, norm: &FoldedNorm, epsilon: f64) -> Result<Vec<f32>> {
    let (bias, mean) = (source.read_f32(&norm.bias)?, source.read_f32(&norm.mean)?);
    let factors = factors(source, norm, epsilon)?;
    Ok(bias.iter().zip(mean).zip(factors).map(|((bias, mean), factor)| bias - mean * factor).collect())
}
