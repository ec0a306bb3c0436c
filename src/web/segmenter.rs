//! A loaded model.

use js_sys::{Float32Array, Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{Clamped, JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::error::{from_js, to_js};
use super::options::{Info, thresholds, to_object, wanted};
use super::result::Segmentation;
use super::source::CallbackSource;
use crate::engine;
use crate::error::{Error, ErrorKind, Result};
use crate::geojson;
use crate::georef::Georef;
use crate::image::RgbImage;
use crate::mask::ClassMask;
use crate::overlay::{self, Style};
use crate::polygon;
use crate::source::{Memory, SampleSlice};
use crate::tile::TileId;

/// A package, loaded onto a device.
#[wasm_bindgen]
pub struct Segmenter {
    engine: engine::Segmenter,
}

#[wasm_bindgen]
impl Segmenter {
    /// Loads the package whose files `read` gives onto `device`, `gpu`, `gpu-f16` or `cpu`. `name` stands for it in errors.
    ///
    /// # Errors
    /// Those of the reader, of the package's checks, and `device` if there is no such device.
    pub async fn load(
        #[wasm_bindgen(unchecked_param_type = "(file: string, limit: number) => Promise<Uint8Array>")] read: Function,
        name: String,
        device: String,
    ) -> Result<Segmenter, JsValue> {
        let source = CallbackSource { name, read };
        let load = async {
            let device = engine::open_device(device.parse()?).await?;
            engine::Segmenter::load(&source, &device, |_| ()).await
        };
        load.await.map(|engine| Self { engine }).map_err(to_js)
    }

    /// Puts the adapter package whose files `read` gives onto this base, whose weights both share.
    ///
    /// # Errors
    /// As `load`; `invalid` if the adapter is for another base.
    #[wasm_bindgen(js_name = loadAdapter)]
    pub async fn load_adapter(
        &self,
        #[wasm_bindgen(unchecked_param_type = "(file: string, limit: number) => Promise<Uint8Array>")] read: Function,
        name: String,
    ) -> Result<Segmenter, JsValue> {
        let source = CallbackSource { name, read };
        self.engine.load_adapter(&source, |_| ()).await.map(|engine| Self { engine }).map_err(to_js)
    }

    /// What the package says of itself.
    ///
    /// # Errors
    /// `format`, if it cannot be made an object.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub fn info(&self) -> Result<JsValue, JsValue> {
        to_object(&Info::from(self.engine.manifest())).map_err(to_js)
    }

    /// Segments `width * height` RGBA8 pixels; `limits` are class indices and least confidences, in turn. `pause` is called after
    /// every layer: it may return a promise to be waited for, and ends the work by throwing.
    ///
    /// # Errors
    /// What `pause` throws; `invalid` for a wrong size or threshold, `limit` for a picture that is too large, `device` if the
    /// device fails.
    #[allow(clippy::too_many_arguments)] // One object would be read by kilobytes of code.
    pub async fn segment(
        &self,
        rgba: Clamped<Vec<u8>>,
        width: usize,
        height: usize,
        probabilities: bool,
        limits: Vec<f32>,
        #[wasm_bindgen(js_name = minPixels)] min_pixels: u32,
        #[wasm_bindgen(unchecked_param_type = "() => Promise<void> | void")] pause: Function,
    ) -> Result<Segmentation, JsValue> {
        let segment = async {
            let image = RgbImage::from_rgba(width, height, &rgba)?;
            // Transparent pixels hold no data, as in the files that the command reads.
            let valid: Vec<bool> = rgba.chunks_exact(4).map(|pixel| pixel[3] != 0).collect();
            drop(rgba);
            let thresholds = thresholds(&limits);
            let options = engine::SegmentOptions { probabilities, thresholds, min_pixels: min_pixels.into() };
            let mut raster = Memory::new((width, height), 3, SampleSlice::U8(image.pixels()), &valid)?;
            let found = self.engine.segment_raster(&mut raster, &options, async |_| wait(&pause).await).await?;
            Ok(Segmentation::new(found, &self.engine.manifest().classes))
        };
        segment.await.map_err(to_js)
    }

    /// Low-resolution logits of one input window: `{ classes, height, width, values }`, values `[classes, height, width]`.
    ///
    /// # Errors
    /// As `segment`.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub async fn logits(&self, rgba: Clamped<Vec<u8>>, width: usize, height: usize) -> Result<JsValue, JsValue> {
        let image = RgbImage::from_rgba(width, height, &rgba).map_err(to_js)?;
        let logits = self.engine.logits(&image).await.map_err(to_js)?;
        let object = Object::new();
        let sides = [("classes", logits.classes), ("height", logits.height), ("width", logits.width)];
        for (name, side) in sides {
            Reflect::set(&object, &name.into(), &(side as f64).into())?;
        }
        Reflect::set(&object, &"values".into(), &Float32Array::from(logits.values.as_slice()))?;
        Ok(object.unchecked_into())
    }

    /// Finishes a mask as `segment` does, without the network: thresholds (class indices and least confidences, in turn), then
    /// small regions, then the part to keep (column, row, width, height; the whole unless given).
    ///
    /// # Errors
    /// `invalid` for a wrong size, threshold or part.
    #[allow(clippy::too_many_arguments)] // As for `segment`.
    pub fn refine(
        &self,
        #[wasm_bindgen(js_name = classMask)] class_mask: Vec<u8>,
        #[wasm_bindgen(js_name = confidenceMask)] confidence_mask: Vec<u8>,
        width: usize,
        height: usize,
        limits: Vec<f32>,
        #[wasm_bindgen(js_name = minPixels)] min_pixels: u32,
        part: Option<Vec<u32>>,
    ) -> Result<Segmentation, JsValue> {
        let refine = || {
            let mask = ClassMask::new(width, height, class_mask, confidence_mask)?;
            let thresholds = thresholds(&limits);
            let options = engine::SegmentOptions { thresholds, min_pixels: min_pixels.into(), ..Default::default() };
            let mut mask = self.engine.refine(mask, &options)?;
            if let Some(&[x, y, width, height]) = part.as_deref() {
                mask = mask.crop(x as usize, y as usize, width as usize, height as usize)?;
            }
            Ok(Segmentation::of_mask(mask, &self.engine.manifest().classes))
        };
        refine().map_err(to_js)
    }

    /// A class mask in its classes' colours, RGBA8 `[height, width, 4]`, background transparent; of the classes with the given
    /// indices, or all.
    ///
    /// # Errors
    /// `invalid` for a wrong size or class.
    pub fn overlay(
        &self,
        #[wasm_bindgen(js_name = classMask)] class_mask: Vec<u8>,
        width: usize,
        height: usize,
        opacity: f32,
        outline: bool,
        classes: Option<Vec<u8>>,
    ) -> Result<Clamped<Vec<u8>>, JsValue> {
        let paint = || {
            let confidence = vec![0; class_mask.len()];
            let mask = ClassMask::new(width, height, class_mask, confidence)?;
            let classes = wanted(&self.engine.manifest().classes, classes.as_deref())?;
            overlay::rgba(&mask, &classes, Style { opacity, outline })
        };
        paint().map(Clamped).map_err(to_js)
    }

    /// Polygons of every class but background, or of those with the given indices, as the text of a GeoJSON FeatureCollection:
    /// longitude and latitude if a `tile` (z, x, y) is given, else pixels.
    ///
    /// # Errors
    /// `invalid` for a wrong size, class, tolerance or tile.
    #[allow(clippy::too_many_arguments)] // As for `segment`.
    pub fn polygons(
        &self,
        #[wasm_bindgen(js_name = classMask)] class_mask: Vec<u8>,
        #[wasm_bindgen(js_name = confidenceMask)] confidence_mask: Vec<u8>,
        width: usize,
        height: usize,
        #[wasm_bindgen(js_name = minPixels)] min_pixels: u32,
        tolerance: f64,
        tile: Option<Vec<u32>>,
        classes: Option<Vec<u8>>,
    ) -> Result<String, JsValue> {
        let trace = || {
            let tile = match tile.as_deref() {
                // A zoom beyond what a byte holds is none, which the tile says.
                Some(&[z, x, y]) => Some(TileId::new(u8::try_from(z).unwrap_or(u8::MAX), x, y)?),
                _ => None,
            };
            let georef = tile.map(|tile| Georef::from_tile(tile, width, height));
            let mask = ClassMask::new(width, height, class_mask, confidence_mask)?;
            let classes = wanted(&self.engine.manifest().classes, classes.as_deref())?;
            let mut writer = geojson::Writer::new(Vec::new(), &classes, georef.as_ref())?;
            let how = polygon::Options { min_pixels: min_pixels.into(), tolerance };
            for polygon in polygon::trace_mask(&mask, how)? {
                if classes.iter().any(|class| class.index == polygon.class) {
                    writer.polygon(&polygon)?;
                }
            }
            String::from_utf8(writer.finish()?).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
        };
        trace().map_err(to_js)
    }
}

/// The program's version with its revision.
#[wasm_bindgen]
pub fn version() -> String {
    crate::TOOL_VERSION.to_owned()
}

/// Opens `device`, `gpu`, `gpu-f16` or `cpu`, before anything is loaded onto it; a GPU is opened once.
///
/// # Errors
/// `device` if there is none.
#[wasm_bindgen(js_name = openDevice)]
pub async fn open_device(device: String) -> Result<(), JsValue> {
    let open = async { engine::open_device(device.parse()?).await };
    open.await.map(drop).map_err(to_js)
}

/// Tells, before the GPU is opened, that a CPU computes it: then kernels are cut accordingly.
#[cfg(feature = "gpu")]
#[wasm_bindgen(js_name = tellSoftware)]
pub fn tell_software(#[wasm_bindgen(js_name = isSoftware)] is_software: bool) {
    engine::tell_software(is_software);
}

/// Runs every kernel of the GPU on `rounds` of random shapes besides its worst cases, cut for hardware and for software, and compares
/// with plain loops: `{ kernel, shape, error, bound }` of each.
///
/// # Errors
/// `device` if there is no such device or it fails.
#[cfg(feature = "gpu")]
#[wasm_bindgen(js_name = checkKernels, unchecked_return_type = "any")]
pub async fn check_kernels(device: String, seed: u32, rounds: usize) -> Result<JsValue, JsValue> {
    use crate::kernels::check::{BOUNDS, check};
    use crate::kernels::gpu::{self, Profile};
    let run = async {
        let choice: engine::DeviceChoice = device.parse()?;
        let bound = BOUNDS[usize::from(choice == engine::DeviceChoice::HalfGpu)];
        let device = engine::open_device(choice).await?;
        let before = gpu::profile();
        let mut found = Vec::new();
        for profile in [Profile::Hardware, Profile::Software] {
            gpu::set_profile(Some(profile));
            let checks = check(&device, u64::from(seed), rounds).await;
            gpu::set_profile(before);
            found.extend(checks?.into_iter().map(|check| KernelCheck { check, bound }));
        }
        to_object(&found)
    };
    run.await.map_err(to_js)
}

/// A kernel's check as JavaScript sees it.
#[cfg(feature = "gpu")]
#[derive(serde::Serialize)]
struct KernelCheck {
    #[serde(flatten)]
    check: crate::kernels::check::Check,
    bound: f32,
}

/// What each stage of a small known model gives on `device`, by name: for comparison with another device.
///
/// # Errors
/// `device` if there is no such device or it fails.
#[wasm_bindgen(js_name = selfTest, unchecked_return_type = "Record<string, Float32Array>")]
pub async fn self_test(device: String) -> Result<JsValue, JsValue> {
    let run = async {
        let device = engine::open_device(device.parse()?).await?;
        engine::self_test(&device).await
    };
    let object = Object::new();
    for (stage, values) in run.await.map_err(to_js)? {
        Reflect::set(&object, &stage.into(), &Float32Array::from(values.as_slice()))?;
    }
    Ok(object.into())
}

/// Calls `pause` and waits for its promise, if it returns one.
async fn wait(pause: &Function) -> Result<()> {
    let answer = pause.call0(&JsValue::NULL).map_err(|e| from_js(&e))?;
    if let Ok(promise) = answer.dyn_into::<Promise>() {
        JsFuture::from(promise).await.map_err(|e| from_js(&e))?;
    }
    Ok(())
}
