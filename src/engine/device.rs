//! Opening the device that a model runs on.

use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::tensor::FloatDType;

use crate::error::{Error, ErrorKind, Result};

/// Which device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// burn's `flex`: SIMD, natively on all cores.
    Cpu,
    /// Any GPU through wgpu: Vulkan, Metal, DirectX 12, or a browser's WebGPU. A software GPU counts.
    Gpu,
    /// The same in 16-bit floating point: half the memory, and faster where the hardware is. Norms stay in 32 bits, and
    /// so do the sums within a product.
    HalfGpu,
}

impl DeviceChoice {
    /// `cpu`, `gpu` or `gpu-f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::HalfGpu => "gpu-f16",
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            "gpu-f16" => Ok(Self::HalfGpu),
            _ => Err(Error::new(ErrorKind::Invalid, format!("there is no device {name:?}"))
                .remedy("use cpu, gpu or gpu-f16")),
        }
    }
}

/// One of several GPUs by its number from 0, among discrete ones, through wgpu; it is set up when it is first used.
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub fn numbered_gpu(number: usize) -> Device {
    Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(number))
}

/// An NVIDIA GPU by its number from 0, through CUDA.
#[cfg(feature = "cuda")]
pub fn cuda(number: usize) -> Device {
    Device::cuda(number)
}

/// Opens a device; a GPU is opened once, in one precision, and shared by all that ask for it. Its kernels are this crate's own if they
/// compute right numbers there, else burn's; [`crate::kernels::gpu::profile`] tells.
///
/// # Errors
/// [`ErrorKind::Device`] if this machine or browser has none, or a GPU that is in use in the other precision or does not
/// have it; [`ErrorKind::Unsupported`] if this build has no code for it.
pub async fn open_device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        #[cfg(feature = "cpu")]
        DeviceChoice::Cpu => Ok(Device::flex()),
        #[cfg(feature = "gpu")]
        DeviceChoice::Gpu => gpu::open(FloatDType::F32).await,
        #[cfg(feature = "gpu")]
        DeviceChoice::HalfGpu => gpu::open(FloatDType::F16).await,
        #[cfg(not(all(feature = "cpu", feature = "gpu")))]
        _ => Err(Error::new(ErrorKind::Unsupported, format!("this build has no {} device", choice.name()))
            .remedy("use the build with that feature")),
    }
}

#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
thread_local! {
    static IS_SOFTWARE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Says that the GPU of this thread's browser is computed by a CPU, before it is opened.
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
pub fn tell_software(is_software: bool) {
    IS_SOFTWARE.set(is_software);
}

#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
fn is_software() -> bool {
    IS_SOFTWARE.get()
}

#[cfg(feature = "gpu")]
mod gpu {
    use std::cell::RefCell;

    #[cfg(not(target_arch = "wasm32"))]
    use burn::tensor::wgpu::wgpu;
    use burn::tensor::{DType, Device, DeviceConfig, FloatDType};

    use crate::error::{Error, ErrorKind, Result};
    #[cfg(not(target_arch = "wasm32"))]
    use crate::kernels::check::are_correct;
    use crate::kernels::gpu::{self, Profile};

    thread_local! {
        static OPENED: RefCell<Option<(Device, FloatDType)>> = const { RefCell::new(None) };
    }

    /// burn can set its default GPU up only once, so the device is kept.
    pub async fn open(precision: FloatDType) -> Result<Device> {
        let known = OPENED.with_borrow(Clone::clone);
        let (device, found) = match known {
            Some(known) => known,
            None => {
                let opened = request(precision).await?;
                OPENED.set(Some(opened.clone()));
                opened
            }
        };
        if found == precision {
            return Ok(device);
        }
        Err(Error::new(ErrorKind::Device, "the GPU is in use in another precision")
            .remedy("load all models of a program, or of a thread of a page, in the same one"))
    }

    /// Makes `precision` that of all numbers on `device`, which must be new.
    fn set(mut device: Device, precision: FloatDType) -> Result<(Device, FloatDType)> {
        if precision == FloatDType::F16 {
            let missing = || {
                Error::new(ErrorKind::Device, "the GPU cannot compute in 16-bit floating point")
                    .remedy("use the device gpu")
            };
            if !device.supports_dtype(DType::F16) {
                return Err(missing());
            }
            let config = DeviceConfig::default().float_dtype(precision);
            device.configure(config).map_err(|e| missing().source(format!("{e:?}")))?;
        }
        Ok((device, precision))
    }

    #[cfg(target_arch = "wasm32")]
    async fn request(precision: FloatDType) -> Result<(Device, FloatDType)> {
        let setup = Device::wgpu_options().init_with_setup_async().await;
        let (device, _) = setup.map_err(|e| unavailable(e.to_string()))?;
        let opened = set(device, precision)?;
        // A browser does not say what computes: the page tells ([`super::is_software`]).
        gpu::set_profile(Some(if super::is_software() { Profile::Software } else { Profile::Hardware }));
        Ok(opened)
    }

    #[cfg(not(target_arch = "wasm32"))]
    async fn request(precision: FloatDType) -> Result<(Device, FloatDType)> {
        use std::sync::{Mutex, PoisonError};
        static SHARED: Mutex<Option<(Device, FloatDType)>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*shared {
            return Ok(opened.clone());
        }
        let (device, setup) = Device::wgpu_options().init_with_setup().map_err(|e| unavailable(e.to_string()))?;
        let opened = set(device, precision)?;
        let is_software = setup.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        gpu::set_profile(Some(if is_software { Profile::Software } else { Profile::Hardware }));
        // burn's kernels are slower, but another chance where a driver gets these wrong.
        if !pollster::block_on(are_correct(&opened.0))? {
            gpu::set_profile(None);
        }
        *shared = Some(opened.clone());
        Ok(opened)
    }

    fn unavailable(why: String) -> Error {
        Error::new(ErrorKind::Device, "no GPU can be used")
            .source(why)
            .remedy("use the CPU device, or install a Vulkan driver (a software one: mesa-vulkan-drivers)")
    }
}
