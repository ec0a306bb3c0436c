//! Activations of many values at once.

use super::math;
use crate::kernels::activation::Activation;

/// Of each value, in loops that become vectors of the instructions that the caller has.
#[inline(always)]
pub fn apply(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::None => (),
        Activation::Relu => values.iter_mut().for_each(|x| *x = x.max(0.0)),
        Activation::Relu6 => values.iter_mut().for_each(|x| *x = x.clamp(0.0, 6.0)),
        Activation::Gelu => values.iter_mut().for_each(|x| *x = math::gelu(*x)),
    }
}
