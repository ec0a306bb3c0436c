//! Activations of many values at once.

use super::math;
use super::vector::Vector;
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

/// Of a vector, if it is a limit; GELU is left to [`apply`].
///
/// # Safety
/// The machine has `T`'s instructions.
#[inline(always)]
pub unsafe fn limit<T: Vector>(activation: Activation, x: T) -> T {
    // SAFETY: as the caller promises.
    unsafe {
        match activation {
            Activation::None | Activation::Gelu => x,
            Activation::Relu => x.limit(T::splat(0.0), T::splat(f32::INFINITY)),
            Activation::Relu6 => x.limit(T::splat(0.0), T::splat(6.0)),
        }
    }
}
