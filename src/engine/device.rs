//! Opening the device that a model runs on.

use burn::tensor::Device;

use crate::error::{Error, ErrorKind, Result};

/// Which device to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// burn's `flex`: SIMD, natively on all cores.
    Cpu,
    /// Any GPU through wgpu: Vulkan, Metal, DirectX 12, or a browser's WebGPU. A software GPU counts.
    Gpu,
}

impl DeviceChoice {
    /// `cpu` or `gpu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err(Error::new(ErrorKind::Invalid, format!("there is no device {name:?}")).remedy("use cpu or gpu")),
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

/// Opens a device; a GPU is opened once and shared by all that ask for it.
///
/// # Errors
/// [`ErrorKind::Device`] if this machine or browser has none, [`ErrorKind::Unsupported`] if this build has no code for it.
pub async fn open_device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        #[cfg(feature = "cpu")]
        DeviceChoice::Cpu => Ok(Device::flex()),
        #[cfg(feature = "gpu")]
        DeviceChoice::Gpu => gpu::open().await,
        #[cfg(not(all(feature = "cpu", feature = "gpu")))]
        _ => Err(Error::new(ErrorKind::Unsupported, format!("this build has no {} device", choice.name()))
            .remedy("use the build with that feature")),
    }
}

#[cfg(feature = "gpu")]
mod gpu {
    use std::cell::RefCell;

    use burn::tensor::Device;

    use crate::error::{Error, ErrorKind, Result};

    thread_local! {
        static OPENED: RefCell<Option<Device>> = const { RefCell::new(None) };
    }

    /// burn can set its default GPU up only once, so the device is kept.
    pub async fn open() -> Result<Device> {
        if let Some(device) = OPENED.with_borrow(Clone::clone) {
            return Ok(device);
        }
        let device = request().await?;
        OPENED.set(Some(device.clone()));
        Ok(device)
    }

    #[cfg(target_arch = "wasm32")]
    async fn request() -> Result<Device> {
        Device::wgpu_options().init_async().await.map_err(|e| unavailable(e.to_string()))
    }

    #[cfg(not(target_arch = "wasm32"))]
    async fn request() -> Result<Device> {
        use std::sync::{Mutex, PoisonError};
        static SHARED: Mutex<Option<Device>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &*shared {
            return Ok(device.clone());
        }
        let device = Device::wgpu_options().init().map_err(|e| unavailable(e.to_string()))?;
        *shared = Some(device.clone());
        Ok(device)
    }

    fn unavailable(why: String) -> Error {
        Error::new(ErrorKind::Device, "no GPU can be used")
            .source(why)
            .remedy("use the CPU device, or install a Vulkan driver (a software one: mesa-vulkan-drivers)")
    }
}
