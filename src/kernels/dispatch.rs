//! The one place where an operation's form is chosen.
//!
//! An operation lists its forms in [`dispatch!`]; this module says when each of them runs:
//!
//! | form | runs where |
//! |---|---|
//! | `gpu` | all operands are tensors without a graph on a GPU that [`super::gpu::set_profile`] turned our kernels on for |
//! | `gpu_strided` | the same of a single operand, which keeps its strides; `gpu` gets contiguous ones |
//! | `autodiff` | an operand carries an autodiff graph on the CPU |
//! | `cpu` | all operands are f32 tensors without a graph on burn's `flex` device |
//! | `reference` | everywhere else; also what the tests compare with |
//!
//! burn's backend extension (`#[backend_extension]`) would choose by the backend's type alone. Here the choice also depends on the
//! profile, on the precision and on shapes, the reference must stay reachable from all backends, and a browser's build for GPUs must hold
//! none of burn's kernels: there [`super::gpu::Take`] always succeeds, and the compiler drops what follows.

use burn::tensor::Tensor;

#[cfg(all(feature = "cpu", feature = "train"))]
use super::autodiff;
#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "gpu")]
use super::gpu;

/// Whether the kernels for GPUs take `x`.
#[inline(always)]
pub fn is_on_gpu<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(feature = "gpu")]
    return gpu::take_strided(x.clone()).is_ok();
    #[cfg(not(feature = "gpu"))]
    {
        let _ = x;
        false
    }
}

/// What [`dispatch!`] asks of an operand.
pub trait Operand {
    /// Whether the kernels for GPUs read it; that is so in a browser, where nothing else exists.
    #[cfg(feature = "gpu")]
    fn is_on_gpu(&self) -> bool;

    /// Whether it carries an autodiff graph on the CPU.
    #[cfg(all(feature = "cpu", feature = "train"))]
    fn is_autodiff(&self) -> bool;

    /// Whether the CPU's kernels read it.
    #[cfg(feature = "cpu")]
    fn is_on_cpu(&self) -> bool;
}

impl<const D: usize> Operand for Tensor<D> {
    #[cfg(feature = "gpu")]
    #[inline(always)]
    fn is_on_gpu(&self) -> bool {
        is_on_gpu(self)
    }

    #[cfg(all(feature = "cpu", feature = "train"))]
    fn is_autodiff(&self) -> bool {
        autodiff::is_autodiff(self)
    }

    #[cfg(feature = "cpu")]
    fn is_on_cpu(&self) -> bool {
        cpu::view(self).is_some()
    }
}

impl<T: Operand> Operand for Option<T> {
    #[cfg(feature = "gpu")]
    #[inline(always)]
    fn is_on_gpu(&self) -> bool {
        self.as_ref().is_none_or(T::is_on_gpu)
    }

    #[cfg(all(feature = "cpu", feature = "train"))]
    fn is_autodiff(&self) -> bool {
        self.as_ref().is_some_and(T::is_autodiff)
    }

    #[cfg(feature = "cpu")]
    fn is_on_cpu(&self) -> bool {
        self.as_ref().is_none_or(T::is_on_cpu)
    }
}

/// Returns the result of an operation in the form that its operands call for: see the module's table. The first operand is a variable;
/// in `gpu` and `cpu` it is the device's own tensor, and so is the form's value; in `autodiff` and `reference` both are tensors.
///
/// ```text
/// dispatch!(x, weight, bias;
///     gpu if weight.dims()[0] % 4 == 0 => gpu::norm(x, gpu::values(weight), gpu::values(bias)),
///     cpu => cpu::norm(&x, &cpu::values(&weight), &cpu::values(&bias)),
///     reference => norm(x, weight, bias))
/// ```
macro_rules! dispatch {
    (@all $is:ident [$($operand:expr),*]) => {
        true $(&& $crate::kernels::dispatch::Operand::$is(&$operand))*
    };
    (@any $is:ident [$($operand:expr),*]) => {
        false $(|| $crate::kernels::dispatch::Operand::$is(&$operand))*
    };
    (@forms $x:ident $others:tt
        $(gpu $(if $fits:expr)? => $gpu:expr,)?
        $(gpu_strided => $strided:expr,)?
        $(autodiff => $autodiff:expr,)?
        $(cpu => $cpu:expr,)?
        reference => $reference:expr $(,)?
    ) => {{
        $(
            #[cfg(feature = "gpu")]
            let $x = if cfg!(browser_gpu) || dispatch!(@all is_on_gpu $others) $(&& $fits)? {
                match $crate::kernels::gpu::Take::take($x) {
                    Ok($x) => return $crate::kernels::gpu::wrap($gpu),
                    Err($x) => $x,
                }
            } else {
                $x
            };
        )?
        $(
            #[cfg(feature = "gpu")]
            let $x = match $crate::kernels::gpu::take_strided($x) {
                Ok($x) => return $crate::kernels::gpu::wrap($strided),
                Err($x) => $x,
            };
        )?
        $(
            #[cfg(all(feature = "cpu", feature = "train"))]
            if dispatch!(@any is_autodiff [$x]) || dispatch!(@any is_autodiff $others) {
                return $autodiff;
            }
        )?
        $(
            #[cfg(feature = "cpu")]
            let $x = if dispatch!(@all is_on_cpu $others) {
                match $crate::kernels::cpu::take($x) {
                    Ok($x) => return $crate::kernels::cpu::wrap($cpu),
                    Err($x) => $x,
                }
            } else {
                $x
            };
        )?
        $reference
    }};
    ($x:ident $(, $other:expr)*; $($forms:tt)*) => {
        dispatch!(@forms $x [$($other),*] $($forms)*)
    };
}

pub(super) use dispatch;
