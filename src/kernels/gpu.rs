//! The same on a GPU: kernels of our own in WGSL, launched through burn's runtime. No operation of burn's is needed for an image,
//! so that a browser's build holds none of them.
//!
//! Tensors are row-major in the device's precision, sums are f32. Every buffer is bound as writable, because the runtime cuts
//! several tensors out of one buffer and WebGPU allows it one kind of use in a dispatch; the last binding of each kernel, `p`,
//! holds its sizes, so that one pipeline serves every shape.

use std::sync::atomic::{AtomicU8, Ordering};

use burn::tensor::{DType, Device, FloatDType, Int, Shape, Tensor, TensorData};
use burn_wgpu::{CubeBackend, CubeDim, CubeTensor, KernelSource, SourceKernel, SourceTemplate};
use cubecl::CubeCount;
use cubecl::prelude::KernelId;
use cubecl::server::{KernelArguments, MetadataBindingInfo};

use super::Activation;
use super::around::unread;
use crate::error::Result;

mod attention;
mod check;
mod classify;
mod host;
mod norm;
mod product;
mod small;

pub use attention::{cross_attention, window_attention};
pub use check::{BOUNDS, Check, are_right, check};
pub use classify::{classify, masks_of_words};
pub use norm::layer_norm;
pub use product::{Gather, Matrix, Product, Scatter};
pub use small::{add, concat, dense_pe, expanded, masks, permute, permuted, resample, rows, stack};

/// How kernels are cut: what suits hardware, with memory shared by a workgroup, is slow on a GPU that is computed by a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Tiles in shared memory, loaded by whole workgroups.
    Hardware,
    /// Registers alone: barriers are dear there.
    Software,
}

/// Off, or a profile: the kernels of this process's GPU, which is opened once.
static MODE: AtomicU8 = AtomicU8::new(OFF);
const OFF: u8 = 0;
const HARDWARE: u8 = 1;
const SOFTWARE: u8 = 2;

/// Uses these kernels with `profile` from now on, or, with none, burn's own operations.
pub fn set_profile(profile: Option<Profile>) {
    let mode = match profile {
        None => OFF,
        Some(Profile::Hardware) => HARDWARE,
        Some(Profile::Software) => SOFTWARE,
    };
    MODE.store(mode, Ordering::Relaxed);
}

/// The profile in use; none stands for burn's own operations.
pub fn profile() -> Option<Profile> {
    match MODE.load(Ordering::Relaxed) {
        HARDWARE => Some(Profile::Hardware),
        SOFTWARE => Some(Profile::Software),
        _ => None,
    }
}

/// Whether kernels are cut for hardware.
fn is_hardware() -> bool {
    profile() != Some(Profile::Software)
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
        profile().is_some() && take_as_it_lies(Tensor::<1>::from_data(TensorData::from([0.0f32]), device)).is_ok()
    }
}

/// The tensor's primitive, row-major, if these kernels are on and it is an untracked one of a GPU; else the tensor back. In a browser
/// nothing else exists, and the compiler leaves out what would follow.
#[allow(clippy::result_large_err)] // the error is the tensor itself, handed back
#[inline(always)]
pub fn take<const D: usize>(x: Tensor<D>) -> Result<CubeTensor, Tensor<D>> {
    take_as_it_lies(x).map(small::in_order)
}

/// [`take`] with the primitive's axes in whatever order.
#[allow(clippy::result_large_err)] // as above
#[inline(always)]
pub fn take_as_it_lies<const D: usize>(x: Tensor<D>) -> Result<CubeTensor, Tensor<D>> {
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

/// [`take`] of all, or all back.
#[allow(clippy::result_large_err)] // as above
#[inline(always)]
pub fn take_all<const D: usize>(all: Vec<Tensor<D>>) -> std::result::Result<Vec<CubeTensor>, Vec<Tensor<D>>> {
    #[cfg(browser_gpu)]
    return Ok(all.into_iter().map(values).collect());
    #[cfg(not(browser_gpu))]
    match all.iter().map(|x| take(x.clone())).collect() {
        Ok(primitives) => Ok(primitives),
        Err::<_, Tensor<D>>(_) => Err(all),
    }
}

/// WGSL is for wgpu only; CUDA's tensors are of the same type.
#[cfg(not(browser_gpu))]
fn is_ours(primitive: &CubeTensor) -> bool {
    matches!(primitive.dtype, DType::F32 | DType::F16) && primitive.client.name().contains("wgpu")
}

/// Numbers, row-major, as a tensor on `device` in its precision: as words of bits, since burn's own way to upload floats brings its
/// kernels for quantised ones along.
pub fn upload(values: Vec<f32>, shape: &[usize], device: &Device) -> CubeTensor {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "numbers for {shape:?}");
    let is_half = device.settings().float_dtype == FloatDType::F16;
    let words: Vec<i32> = if is_half {
        let bits = |v: &f32| u32::from(half::f16::from_f32(*v).to_bits());
        values.chunks(2).map(|pair| bits(&pair[0]) | pair.get(1).map_or(0, bits) << 16).map(u32::cast_signed).collect()
    } else {
        values.into_iter().map(|v| v.to_bits().cast_signed()).collect()
    };
    let count = words.len();
    let words = Tensor::<1, Int>::from_data(TensorData::new(words, [count]), device);
    let words = of_gpu(words.try_into_primitive::<CubeBackend>());
    let dtype = if is_half { DType::F16 } else { DType::F32 };
    CubeTensor::new_contiguous(words.client, words.device, Shape::from(shape.to_vec()), words.handle, dtype)
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

/// What a kernel reads beside its first argument, which is on the same device.
///
/// # Panics
/// If it is not.
pub fn values<const D: usize>(x: Tensor<D>) -> CubeTensor {
    small::in_order(primitive(x))
}

/// The words of an integer tensor.
///
/// # Panics
/// If it is not on a GPU.
pub fn words(x: Tensor<2, Int>) -> CubeTensor {
    of_gpu(x.try_into_primitive::<CubeBackend>())
}

fn primitive<const D: usize>(x: Tensor<D>) -> CubeTensor {
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

/// The same numbers in another shape.
pub fn reshape(x: CubeTensor, shape: &[usize]) -> CubeTensor {
    CubeTensor::new_contiguous(x.client, x.device, Shape::from(shape.to_vec()), x.handle, x.dtype)
}

/// The lengths of the axes of `x`.
fn dims<const D: usize>(x: &CubeTensor) -> [usize; D] {
    let shape = x.meta.shape();
    std::array::from_fn(|i| shape[i])
}

/// A kernel's text, with everything that is written into it.
struct Text {
    name: &'static str,
    /// Precision and bindings; no placeholders.
    head: String,
    template: &'static str,
    /// Placeholders and what stands in their place.
    slots: Vec<(&'static str, String)>,
}

impl KernelSource for Text {
    fn source(&self) -> SourceTemplate {
        let gelu = include_str!("gpu/gelu.wgsl");
        let template = SourceTemplate::new(format!("{}\n{gelu}\n{}", self.head, self.template));
        self.slots.iter().fold(template, |template, (name, value)| template.register(*name, value.as_str()))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info((self.name, self.head.clone(), self.slots.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// A launch: a text, its buffers in the order of their bindings, and its sizes. The text finds them by name, the sizes as `p`, and
/// the numbers of its tensors as `T`.
struct Launch {
    text: Text,
    buffers: Vec<CubeTensor>,
    sizes: Vec<u32>,
}

impl Launch {
    /// Of a kernel in the precision of `like`.
    fn new(name: &'static str, template: &'static str, like: &CubeTensor) -> Self {
        let head = if like.dtype == DType::F16 { "enable f16;\nalias T = f16;\n" } else { "alias T = f32;\n" };
        let text = Text { name, head: head.into(), template, slots: Vec::new() };
        Self { text, buffers: Vec::new(), sizes: Vec::new() }
    }

    fn slot(mut self, name: &'static str, value: impl ToString) -> Self {
        self.text.slots.push((name, value.to_string()));
        self
    }

    /// Binds `tensor` as the array `name` of numbers of the type `of`.
    fn bind(mut self, name: &str, of: &str, tensor: &CubeTensor) -> Self {
        self.declare("read_write", name, of);
        self.buffers.push(tensor.clone());
        self
    }

    fn declare(&mut self, access: &str, name: &str, of: &str) {
        let number = self.buffers.len();
        self.text.head += &format!("@group(0) @binding({number}) var<storage, {access}> {name}: array<{of}>;\n");
    }

    fn sizes(mut self, sizes: &[usize]) -> Self {
        self.sizes.extend(sizes.iter().map(|&size| size as u32));
        self
    }

    /// Runs `count` workgroups. Nothing is launched where there is nothing to do.
    fn run(mut self, count: [usize; 3]) {
        if count.contains(&0) {
            return;
        }
        let Some(client) = self.buffers.first().map(|buffer| buffer.client.clone()) else { return };
        self.declare("read", "p", "u32");
        self.sizes.resize(self.sizes.len().next_multiple_of(2), 0);
        let words = self.sizes.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
        let bindings = self.buffers.into_iter().map(|buffer| buffer.handle.binding()).collect();
        let arguments = KernelArguments::new().with_buffers(bindings).with_info(MetadataBindingInfo::custom(words));
        let [x, y, z] = count.map(|n| n as u32);
        let kernel = SourceKernel::new(self.text, CubeDim::new_single());
        client.launch(Box::new(kernel), CubeCount::Static(x, y, z), arguments);
    }
}

impl Activation {
    /// As a statement on a `vec4<f32>` called `v`.
    fn text(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Relu => "v = max(v, vec4<f32>(0.0));",
            Self::Gelu => "v = gelu(v);",
        }
    }
}

/// Workgroups along one axis are at most 65,535: `count` of them as a plane, whose index is `x + y * 65535`.
fn plane(count: usize) -> [usize; 3] {
    const MOST: usize = 65_535;
    [count.min(MOST), count.div_ceil(MOST), 1]
}
