//! burn's tensors as the kernels read them.

#[cfg(not(browser_gpu))]
use burn::tensor::{DType, TensorData};
use burn::tensor::{Device, Tensor};
#[cfg(not(browser_gpu))]
use burn_wgpu::CubeBackend;
use burn_wgpu::CubeTensor;

use super::elementwise::contiguous;
#[cfg(not(browser_gpu))]
use super::profile::profile;
use super::tensor::primitive;

/// Tensors that the kernels may read.
pub trait Take: Sized {
    /// The GPU's own tensors.
    type Taken;

    /// The primitive, contiguous, if the kernels are on and it is one of a GPU and carries no graph; else the tensor back. In a browser
    /// nothing else exists, and the compiler leaves out what would follow.
    ///
    /// # Errors
    /// The tensor itself.
    fn take(self) -> Result<Self::Taken, Self>;
}

impl<const D: usize> Take for Tensor<D> {
    type Taken = CubeTensor;

    #[inline(always)]
    fn take(self) -> Result<CubeTensor, Self> {
        take_strided(self).map(contiguous)
    }
}

impl<const D: usize> Take for Vec<Tensor<D>> {
    type Taken = Vec<CubeTensor>;

    /// All, or all back.
    #[inline(always)]
    fn take(self) -> Result<Vec<CubeTensor>, Self> {
        #[cfg(browser_gpu)]
        return Ok(self.into_iter().map(values).collect());
        #[cfg(not(browser_gpu))]
        match self.iter().map(|x| Take::take(x.clone()).ok()).collect() {
            Some(primitives) => Ok(primitives),
            None => Err(self),
        }
    }
}

/// [`Take::take`] of a tensor that keeps its strides.
#[allow(clippy::result_large_err)] // the error is the tensor itself, handed back
#[inline(always)]
pub fn take_strided<const D: usize>(x: Tensor<D>) -> Result<CubeTensor, Tensor<D>> {
    #[cfg(browser_gpu)]
    return Ok(primitive(x));
    #[cfg(not(browser_gpu))]
    {
        if profile().is_none() {
            return Err(x);
        }
        match x.clone().try_into_primitive::<CubeBackend>() {
            Ok(primitive) if is_ours(&primitive) => Ok(primitive),
            _ => Err(x),
        }
    }
}

/// WGSL is for wgpu only; CUDA's tensors are of the same type.
#[cfg(not(browser_gpu))]
fn is_ours(primitive: &CubeTensor) -> bool {
    matches!(primitive.dtype, DType::F32 | DType::F16) && primitive.client.name().contains("wgpu")
}

/// Whether these kernels are on and `device` is a GPU that they run on.
pub fn runs_on(device: &Device) -> bool {
    #[cfg(browser_gpu)]
    {
        let _ = device;
        true
    }
    #[cfg(not(browser_gpu))]
    {
        // A device tells by its tensors only; programs that never open a GPU are spared that.
        profile().is_some() && take_strided(Tensor::<1>::from_data(TensorData::from([0.0f32]), device)).is_ok()
    }
}

/// What a kernel reads beside its first argument, which is on the same device; contiguous.
///
/// # Panics
/// If it is not on a GPU.
pub fn values<const D: usize>(x: Tensor<D>) -> CubeTensor {
    contiguous(primitive(x))
}
