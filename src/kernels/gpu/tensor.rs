//! The GPU's tensors: shapes and strides, and numbers on their way to them and back.

use burn::tensor::{Bytes, DType, Device, FloatDType, Int, Shape, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor};
use cubecl::zspace::metadata::Metadata;

use crate::error::Result;
use crate::kernels::unread::unread;

/// Numbers, row-major, as a tensor on `device` in its precision.
pub fn upload(values: Vec<f32>, shape: &[usize], device: &Device) -> CubeTensor {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "numbers for {shape:?}");
    let is_half = device.settings().float_dtype == FloatDType::F16;
    let words: Vec<u32> = if is_half {
        let bits = |v: &f32| u32::from(half::f16::from_f32(*v).to_bits());
        values.chunks(2).map(|pair| bits(&pair[0]) | pair.get(1).map_or(0, bits) << 16).collect()
    } else {
        values.into_iter().map(f32::to_bits).collect()
    };
    upload_words(words, shape, if is_half { DType::F16 } else { DType::F32 }, device)
}

/// Words of an integer tensor.
pub fn upload_integers<const D: usize>(words: Vec<u32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_primitive::<CubeBackend>(upload_words(words, &shape, DType::I32, device))
}

/// Words as they are. burn's own way to upload brings its conversions between all types of numbers along, and its kernels for quantised
/// ones; an empty tensor of its tells who talks to the device.
fn upload_words(words: Vec<u32>, shape: &[usize], dtype: DType, device: &Device) -> CubeTensor {
    let CubeTensor { client, device, .. } =
        of_gpu(Tensor::<1, Int>::empty([1], device).try_into_primitive::<CubeBackend>());
    let handle = client.create(Bytes::from_elems(words));
    CubeTensor::new_contiguous(client, device, Shape::from(shape.to_vec()), handle, dtype)
}

/// Reads a tensor's bytes back.
///
/// # Errors
/// [`crate::error::ErrorKind::Device`] if the device fails.
pub async fn read(x: CubeTensor) -> Result<Vec<u8>> {
    let bytes = x.client.read_async(vec![x.handle]).await.map_err(unread)?;
    Ok(bytes.into_iter().next().map(|bytes| bytes.to_vec()).unwrap_or_default())
}

/// Reads a tensor's numbers back.
///
/// # Errors
/// [`crate::error::ErrorKind::Device`] if the device fails.
pub async fn read_floats(x: CubeTensor) -> Result<Vec<f32>> {
    let is_half = x.dtype == DType::F16;
    let bytes = read(x).await?;
    Ok(if is_half {
        bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    } else {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    })
}

/// The words of an integer tensor.
///
/// # Panics
/// If it is not on a GPU.
pub fn words(x: Tensor<2, Int>) -> CubeTensor {
    of_gpu(x.try_into_primitive::<CubeBackend>())
}

/// The tensor's primitive, strided.
///
/// # Panics
/// If it is not on a GPU.
pub fn primitive<const D: usize>(x: Tensor<D>) -> CubeTensor {
    of_gpu(x.try_into_primitive::<CubeBackend>())
}

/// A caller that mixes devices is wrong, which no data can bring about.
fn of_gpu<E: std::fmt::Debug>(primitive: std::result::Result<CubeTensor, E>) -> CubeTensor {
    primitive.unwrap_or_else(|error| panic!("not a tensor of the GPU: {error:?}"))
}

/// A tensor of a primitive.
pub fn wrap<const D: usize>(primitive: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(primitive)
}

/// A new tensor on the device of `like`, in its precision; its numbers are whatever was there.
pub fn empty(like: &CubeTensor, shape: &[usize]) -> CubeTensor {
    let handle = like.client.empty(shape.iter().product::<usize>() * like.dtype.size());
    let shape = Shape::from(shape.to_vec());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, like.dtype)
}

/// The numbers of a contiguous tensor in another shape.
pub fn reshape(x: CubeTensor, shape: &[usize]) -> CubeTensor {
    CubeTensor::new_contiguous(x.client, x.device, Shape::from(shape.to_vec()), x.handle, x.dtype)
}

/// The same buffer with its axes in another order.
pub fn permuted(mut x: CubeTensor, axes: &[usize]) -> CubeTensor {
    let (shape, strides) = (x.meta.shape().clone(), x.meta.strides().clone());
    x.meta = Box::new(Metadata::new(
        axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>(),
        axes.iter().map(|&axis| strides[axis]).collect::<Vec<_>>(),
    ));
    x
}

/// The same buffer, axes of length 1 made longer.
pub fn expanded(mut x: CubeTensor, shape: &[usize]) -> CubeTensor {
    let (old, strides) = (x.meta.shape().clone(), x.meta.strides().clone());
    let strides = shape.iter().enumerate().map(|(axis, &length)| if old[axis] == length { strides[axis] } else { 0 });
    let strides: Vec<usize> = strides.collect();
    x.meta = Box::new(Metadata::new(shape.to_vec(), strides));
    x
}

/// The lengths of the axes of `x`.
pub fn dims<const D: usize>(x: &CubeTensor) -> [usize; D] {
    let shape = x.meta.shape();
    std::array::from_fn(|i| shape[i])
}
