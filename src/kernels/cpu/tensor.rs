//! Tensors of burn's `flex` device as slices, and back.

use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};

/// The tensor's `flex` primitive, f32 and contiguous, or the tensor back if it is another device's or carries a graph.
#[allow(clippy::result_large_err)] // the error is the tensor itself, handed back
pub fn take<const D: usize>(x: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
    match x.clone().try_into_primitive::<Flex>() {
        Ok(flex) if flex.dtype() == DType::F32 => {
            drop(x); // the only handle may be written to
            Ok(flex.to_contiguous())
        }
        _ => Err(x),
    }
}

/// The tensor's `flex` primitive, strided; none if it is another device's or carries a graph, or is not f32.
pub fn view<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok().filter(|flex| flex.dtype() == DType::F32)
}

/// Whether `device` is this one, and stores integers in the byte order that a quantised matrix is read in.
pub fn runs_on(device: &Device) -> bool {
    cfg!(target_endian = "little") && Tensor::<1>::empty([1], device).try_into_primitive::<Flex>().is_ok()
}

/// What a kernel reads beside its first argument, which is on the same device; contiguous.
pub fn values<const D: usize>(x: &Tensor<D>) -> FlexTensor {
    match take(x.clone()) {
        Ok(flex) => flex,
        Err(x) => FlexTensor::from_data(x.into_data()),
    }
}

/// Whether an integer tensor is of this device.
pub fn is_words(x: &Tensor<2, Int>) -> bool {
    x.clone().try_into_primitive::<Flex>().is_ok()
}

/// The integers of a tensor of this device.
pub fn words(x: &Tensor<2, Int>) -> FlexTensor {
    x.clone().try_into_primitive::<Flex>().unwrap_or_else(|_| FlexTensor::from_data(x.clone().into_data()))
}

/// A primitive of `values`, row-major.
pub fn primitive(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Shape::from(shape.to_vec())))
}

/// A plain tensor of a primitive.
pub fn wrap<const D: usize>(primitive: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(primitive)
}
