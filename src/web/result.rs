//! The result of one image, on its way out of wasm's memory.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::to_js;
use super::options::{SegmentOptions, Stats, to_object};
use crate::config::Class;
use crate::engine;
use crate::error::{Error, ErrorKind};

/// Class, confidence and timings of one image. The getters copy; `free` it after taking what is needed.
#[wasm_bindgen]
pub struct Segmentation {
    inner: engine::Segmentation,
    stats: Vec<Stats>,
}

impl Segmentation {
    /// Applies the thresholds of `options`, else the classes' own, and takes small regions away.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a threshold of no class or beyond 0 to 1.
    pub(super) fn new(
        mut inner: engine::Segmentation,
        classes: &[Class],
        options: &SegmentOptions,
    ) -> crate::error::Result<Self> {
        let mut limits = classes.to_vec();
        for &(index, threshold) in &options.thresholds {
            let class = limits.get_mut(usize::from(index)).filter(|_| (0.0..=1.0).contains(&threshold));
            let class = class.ok_or_else(|| {
                let message = format!("threshold {threshold} of class {index}, of {} classes", classes.len());
                Error::new(ErrorKind::Invalid, message).remedy("give a number from 0 to 1 for a class of the model")
            })?;
            class.threshold = Some(threshold);
        }
        inner.mask.apply_thresholds(&limits);
        inner.mask.remove_small(options.min_pixels)?;
        let stats = inner.mask.stats(classes);
        let stats = stats.into_iter().zip(classes).map(|(stats, class)| Stats::new(stats, class)).collect();
        Ok(Self { inner, stats })
    }
}

#[wasm_bindgen]
impl Segmentation {
    /// Width in pixels.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.inner.mask.width
    }

    /// Height in pixels.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.inner.mask.height
    }

    /// Class index of every pixel, `[height, width]`.
    #[wasm_bindgen(js_name = classMask)]
    pub fn class_mask(&self) -> Vec<u8> {
        self.inner.mask.classes.clone()
    }

    /// Probability of that class, 0 to 255, `[height, width]`.
    #[wasm_bindgen(js_name = confidenceMask)]
    pub fn confidence_mask(&self) -> Vec<u8> {
        self.inner.mask.confidence.clone()
    }

    /// Probability of every class, 0 to 255, `[height, width, classes]`, if it was asked for.
    pub fn probabilities(&self) -> Option<Vec<u8>> {
        self.inner.probabilities.clone()
    }

    /// Milliseconds of each step, and the number of windows.
    ///
    /// # Errors
    /// `format`, if it cannot be made an object.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub fn timings(&self) -> Result<JsValue, JsValue> {
        to_object(&self.inner.timings).map_err(to_js)
    }

    /// Pixels, share and mean confidence of each class.
    ///
    /// # Errors
    /// `format`, if it cannot be made an object.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub fn stats(&self) -> Result<JsValue, JsValue> {
        to_object(&self.stats).map_err(to_js)
    }
}
