//! The segmenter: a package on a device, and the way from pixels to a class mask.

/// burn's handle of a device, cheap to clone.
pub use burn::tensor::Device;
use burn::tensor::Tensor;

use crate::config::Normalization;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Pixels;
use crate::kernels;
use crate::logits::Logits;
use crate::lora;
use crate::mask::{ClassMask, ClassStats};
use crate::model::{Parameters, Sam};
use crate::mosaic::Windows;
use crate::preprocess;
use crate::weights::manifest::{Kind, Manifest};
use crate::weights::package::{self, LoadProgress, PackageSource};
use crate::weights::upload;

mod clock;
mod device;
mod finish;
mod segment;
mod self_test;

#[cfg(feature = "cuda")]
pub use device::cuda;
#[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
pub use device::numbered_gpu;
#[cfg(all(feature = "gpu", target_arch = "wasm32"))]
pub use device::tell_software;
pub use device::{DeviceChoice, open_device};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use finish::Finish;
pub use self_test::{random_model, self_test};

/// What [`Segmenter::segment`] shall give.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SegmentOptions {
    /// Also the probability of every class.
    pub probabilities: bool,
    /// Class index and least confidence, 0 to 1, instead of the package's own: less sure pixels become background.
    pub thresholds: Vec<(u8, f32)>,
    /// Regions of fewer pixels are given to their neighbours; see [`ClassMask::remove_small`]. The mask is then finished as a
    /// whole: no row is, before the last window.
    pub min_pixels: u64,
}

/// What was found in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// Class and confidence of each pixel, [`NO_DATA`](crate::mask::NO_DATA) where there is none.
    pub mask: ClassMask,
    /// Probability of every class before thresholds, 0 to 255, `[height, width, classes]`, if asked for; 0 where there is no data.
    pub probabilities: Option<Vec<u8>>,
    /// Pixels, shares and how long it took.
    pub summary: Summary,
}

/// What is known of a whole image once all its rows are finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Pixels, share and mean confidence of each of the model's classes.
    pub classes: Vec<ClassStats>,
    /// Pixels that hold no data.
    pub without_data: u64,
    /// How long it took.
    pub timings: Timings,
}

/// Milliseconds by stage, summed over windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Timings {
    /// Cutting out, normalising and uploading.
    pub preprocess: f64,
    /// Image encoder.
    pub encode: f64,
    /// Mask decoder and reading its logits back.
    pub decode: f64,
    /// Resampling, blending, softmax and argmax.
    pub classify: f64,
    /// All together.
    pub total: f64,
    /// Windows done, those without data included.
    pub windows: usize,
}

/// A model on a device, ready to segment.
///
/// ```no_run
/// # async fn example() -> samlora::error::Result<()> {
/// use samlora::engine::{DeviceChoice, Segmenter, SegmentOptions, open_device};
/// use samlora::image::RgbImage;
/// use samlora::weights::folder::Folder;
///
/// let device = open_device(DeviceChoice::Cpu).await?;
/// let segmenter = Segmenter::load(&Folder::open("models/buildings")?, &device, |_| ()).await?;
/// let tile = RgbImage::new(256, 256, vec![128; 256 * 256 * 3])?;
/// let found = segmenter.segment(&tile, &SegmentOptions::default()).await?;
/// assert_eq!(found.mask.classes.len(), 256 * 256);
/// # Ok(())
/// # }
/// ```
pub struct Segmenter {
    manifest: Manifest,
    sam: Sam,
    device: Device,
}

impl Segmenter {
    /// Loads a merged package, shard by shard: beyond the weights on the device, one shard is in memory at a time.
    ///
    /// # Errors
    /// Those of [`package::read_manifest`], [`package::read_tensors`] and [`Sam::load`]; [`ErrorKind::Invalid`] for an
    /// adapter package, which needs [`Segmenter::load_adapter`].
    pub async fn load(
        source: &impl PackageSource,
        device: &Device,
        progress: impl FnMut(LoadProgress),
    ) -> Result<Self> {
        let manifest = package::read_manifest(source).await?;
        if manifest.kind == Kind::Adapter {
            return Err(Error::new(ErrorKind::Invalid, "is an adapter, not a whole model")
                .at(source.name())
                .remedy("load its base package first, then the adapter onto it"));
        }
        let mut parameters = Parameters::for_inference(&manifest.architecture, device);
        let insert = |name: &str, shape: &[usize], stored| upload::insert(&mut parameters, name, shape, stored);
        package::read_stored(source, &manifest, insert, progress).await?;
        let sam = Sam::load(&manifest.architecture, parameters).map_err(|e| e.at(source.name()))?;
        Ok(Self { manifest, sam: sam.arranged(), device: device.clone() })
    }

    /// Puts an adapter package onto this base. The base's weights stay where they are and are shared; this segmenter
    /// can take further adapters, each giving a segmenter of its own.
    ///
    /// # Errors
    /// Those of [`package::check_pair`] and of [`Segmenter::load`].
    pub async fn load_adapter(&self, source: &impl PackageSource, progress: impl FnMut(LoadProgress)) -> Result<Self> {
        let manifest = package::read_manifest(source).await?;
        package::check_pair(&self.manifest, &manifest).map_err(|e| e.at(source.name()))?;
        let mut collected = crate::weights::adapter::Collector::new(&self.device);
        package::read_stored(source, &manifest, |n, s, v| collected.insert(n, s, v), progress).await?;
        let place = |e: Error| e.at(source.name());
        let config = &manifest.architecture;
        let alpha = manifest.lora.as_ref().and_then(|l| l.alpha);
        let (factors, parameters) = collected.finish(alpha, config).map_err(place)?;
        let mut sam = self.sam.clone();
        sam.load_heads(config, parameters).map_err(place)?;
        lora::detach(&mut sam);
        lora::attach_for_inference(&mut sam, config, &factors, &self.device).map_err(place)?;
        Ok(Self { manifest, sam: sam.arranged(), device: self.device.clone() })
    }

    /// A segmenter of a model that is already on `device`; the manifest tells its classes and sizes.
    pub fn new(manifest: Manifest, sam: Sam, device: &Device) -> Self {
        Self { manifest, sam, device: device.clone() }
    }

    /// The package's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The network, for what the pipeline does not do (prompts, benchmarks).
    pub fn model(&self) -> &Sam {
        &self.sam
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// [`Sam::encode`] that stops between layers: `pause` gets the window's share (0 to 1) that is done, the mask decoder
    /// counting as a layer.
    async fn encode(&self, input: Tensor<4>, mut pause: impl AsyncFnMut(f64) -> Result<()>) -> Result<Tensor<4>> {
        let mut pass = self.sam.image_encoder.start(input);
        let layers = (pass.layers() + 1) as f64;
        while !pass.is_done() {
            pass = pass.advance();
            kernels::flush(&pass.x);
            pause(pass.done as f64 / layers).await?;
        }
        Ok(pass.x)
    }

    /// The low-resolution logits, calibrated, `[classes, input / 4, input / 4]`, of the one window that an image runs in which fits
    /// into the model's input.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it does not fit; [`ErrorKind::Device`] if the device fails.
    pub async fn logits(&self, image: &impl Pixels) -> Result<Logits> {
        let size = self.manifest.input_size;
        if image.width() > size || image.height() > size {
            let message = format!("{} x {} pixels do not fit into {size} x {size}", image.width(), image.height());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let windows = Windows::new(image.width(), image.height(), size, self.manifest.tile_size);
        let input = self.input(image, windows.xs[0], windows.ys[0])?;
        self.read(self.sam.decode(self.sam.encode(input))).await
    }

    /// [`read_back`], and the package's calibration: here and in [`kernels::classify`] logits become what probabilities are made
    /// of.
    async fn read(&self, logits: Tensor<4>) -> Result<Logits> {
        let mut logits = read_back(logits).await?;
        self.calibrate(&mut logits);
        Ok(logits)
    }

    fn calibrate(&self, logits: &mut Logits) {
        if let Some(calibration) = &self.manifest.calibration {
            calibration.apply(logits);
        }
    }

    /// The normalised input window at column `x`, row `y` of `image`, `[1, bands, input, input]`.
    fn input(&self, image: &impl Pixels, x: i64, y: i64) -> Result<Tensor<4>> {
        let normalization: &Normalization = &self.manifest.normalization;
        if normalization.mean.len() != image.bands() {
            let message =
                format!("this model wants {} bands, the image has {}", normalization.mean.len(), image.bands());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(preprocess::window(image, x, y, self.manifest.input_size, normalization, &self.device))
    }

    /// Lets the device finish, so that the next stage's time is its own. A browser cannot wait: there the encoder's time
    /// is counted with the decoder's.
    fn wait(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        self.device.sync().map_err(|e| Error::new(ErrorKind::Device, "the device failed").source(format!("{e:?}")))?;
        Ok(())
    }
}

/// Reads logits `[1, classes, height, width]` back to the host.
///
/// # Errors
/// [`ErrorKind::Device`] if that fails or a number is not finite.
pub async fn read_back(logits: Tensor<4>) -> Result<Logits> {
    let [_, classes, height, width] = logits.dims();
    let values = kernels::read(logits).await?;
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::new(ErrorKind::Device, format!("logit {i} is {}", values[i]))
            .remedy("the weights or the GPU driver are at fault: try the CPU device"));
    }
    Ok(Logits { classes, height, width, values })
}
