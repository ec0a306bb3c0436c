//! From a package's bytes to tensors on a device.

use super::package::Stored;
use super::quantize::Scheme;
use crate::error::{Error, Result};
use crate::kernels::quantized::Quantized;
use crate::kernels::{Weight, multiplies_quantized};
use crate::model::Parameters;
use crate::names::head_axis;

/// Gives a stored tensor of `shape` to `parameters`: a block-quantised matrix of a linear layer as it is where the
/// device multiplies by such, all else as floats.
///
/// Where heads are filled up, rows of zeros are the same in integers. The projection's columns are not: its blocks of 32 inputs would
/// begin at others, so it becomes floats.
///
/// # Errors
/// Those of [`Stored::decode`] and [`Parameters::insert`].
pub fn insert(parameters: &mut Parameters, name: &str, shape: &[usize], stored: Stored) -> Result<()> {
    let bits = match stored.scheme {
        Scheme::Q8 => Some(8),
        Scheme::Q4 => Some(4),
        Scheme::F32 | Scheme::F16 => None,
    };
    // Only linear layers have quantised tensors of two axes; convolutions and positions have four.
    if let (Some(bits), &[outputs, inputs]) = (bits, shape)
        && multiplies_quantized(parameters.device())
        && Quantized::fits(inputs, outputs)
        && (parameters.padding().is_none() || head_axis(name) != Some(1))
    {
        let (mut outputs, mut values, mut scales) = (outputs, stored.values, stored.scales);
        if let Some(padding) = parameters.padding() {
            let (row_values, row_scales) = stored.scheme.row_bytes(inputs);
            values = padding.fill(name, values, row_values);
            scales = padding.fill(name, scales, row_scales);
            outputs = padding.shape(name, &[outputs])[0];
        }
        let device = parameters.device();
        let weight = Weight::quantized(bits, &values, &scales, [outputs, inputs], device);
        return parameters.insert_weight(name, weight);
    }
    let values = stored.decode().map_err(|e: Error| e.at(format!("tensor {name}")))?;
    parameters.insert(name, shape, values)
}
