//! What a device can do, and numbers on their way to it and back.

use burn::tensor::{Device, Tensor, TensorData};

#[cfg(feature = "cpu")]
use super::cpu;
#[cfg(feature = "gpu")]
use super::gpu;
#[cfg(not(browser_gpu))]
use super::unread::unread;
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};

/// Whether the kernels for GPUs run on `device`.
pub fn has_gpu_kernels(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    return gpu::runs_on(device);
    #[cfg(not(feature = "gpu"))]
    {
        let _ = device;
        false
    }
}

/// Whether `device` multiplies by a quantised matrix as it is: GPUs that have kernels of our own, and the CPU.
pub fn multiplies_quantized(device: &Device) -> bool {
    #[cfg(feature = "cpu")]
    if cpu::runs_on(device) {
        return true;
    }
    has_gpu_kernels(device)
}

/// Refuses an architecture that the device's kernels cannot compute: those for GPUs read four numbers at a time.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if a width is no multiple of 4.
pub fn check_architecture(config: &SamConfig, device: &Device) -> Result<()> {
    if has_gpu_kernels(device) && !config.is_in_fours() {
        let message = "this architecture has widths that are no multiples of 4, which the kernels for GPUs need";
        return Err(Error::new(ErrorKind::Unsupported, message).remedy("use the CPU device"));
    }
    Ok(())
}

/// Numbers, row-major, as a tensor on `device` in its precision.
///
/// # Panics
/// If the shape has another number of them.
pub fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    #[cfg(feature = "gpu")]
    if gpu::runs_on(device) {
        return gpu::wrap(gpu::upload(values, &shape, device));
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The tensor's numbers, row-major.
///
/// # Errors
/// [`ErrorKind::Device`] if the device fails.
pub async fn read<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    // Both ways would be part of the future, and burn's brings its kernels along.
    #[cfg(browser_gpu)]
    return gpu::read_floats(gpu::values(x)).await;
    #[cfg(not(browser_gpu))]
    {
        #[cfg(feature = "gpu")]
        let x = match gpu::Take::take(x) {
            Ok(x) => return gpu::read_floats(x).await,
            Err(x) => x,
        };
        let data = x.into_data_async().await.map_err(unread)?;
        data.convert::<f32>().try_into_vec::<f32>().map_err(unread)
    }
}

/// Calls `work` with `x`: on the CPU from within the thread pool, which would have to be entered for each of its kernels otherwise, a
/// few per cent of a small network's time.
pub fn on_cores<const D: usize, R: Send>(x: Tensor<D>, work: impl FnOnce(Tensor<D>) -> R + Send) -> R {
    #[cfg(all(feature = "cpu", not(target_arch = "wasm32")))]
    if cpu::view(&x).is_some() {
        return rayon::scope(|_| work(x));
    }
    work(x)
}

/// Submits to the GPU what has been recorded so far to compute `x`; else several layers are submitted together, and an abort comes
/// too late for them.
pub fn flush<const D: usize>(x: &Tensor<D>) {
    #[cfg(feature = "gpu")]
    if let Ok(x) = gpu::take_strided(x.clone()) {
        // What fails here fails again, and is reported, when the result is read.
        let _ = x.client.flush();
    }
    #[cfg(not(feature = "gpu"))]
    let _ = x;
}
