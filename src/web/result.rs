//! The result of one image, on its way out of wasm's memory.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::to_js;
use super::options::{Stats, to_object};
use crate::config::Class;
use crate::engine::{self, Timings};
use crate::mask::{ClassMask, ClassStats};

/// Class, confidence and timings of one image. The getters copy; `free` it after taking what is needed.
#[wasm_bindgen]
pub struct Segmentation {
    mask: ClassMask,
    probabilities: Option<Vec<u8>>,
    timings: Timings,
    stats: Vec<Stats>,
}

impl Segmentation {
    /// Wraps what was found, with the classes' names and colours beside the figures.
    pub(super) fn new(found: engine::Segmentation, classes: &[Class]) -> Self {
        let engine::Segmentation { mask, probabilities, summary } = found;
        let stats = named(summary.classes, classes);
        Self { mask, probabilities, timings: summary.timings, stats }
    }

    /// Wraps a mask that took no network.
    pub(super) fn of_mask(mask: ClassMask, classes: &[Class]) -> Self {
        let stats = named(mask.stats(classes), classes);
        Self { mask, probabilities: None, timings: Timings::default(), stats }
    }
}

fn named(stats: Vec<ClassStats>, classes: &[Class]) -> Vec<Stats> {
    stats.into_iter().zip(classes).map(|(stats, class)| Stats::new(stats, class)).collect()
}

#[wasm_bindgen]
impl Segmentation {
    /// Width in pixels.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.mask.width
    }

    /// Height in pixels.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.mask.height
    }

    /// Class index of every pixel, `[height, width]`; 255 where there is no data.
    #[wasm_bindgen(js_name = classMask)]
    pub fn class_mask(&self) -> Vec<u8> {
        self.mask.classes.clone()
    }

    /// Probability of that class, 0 to 255, `[height, width]`.
    #[wasm_bindgen(js_name = confidenceMask)]
    pub fn confidence_mask(&self) -> Vec<u8> {
        self.mask.confidence.clone()
    }

    /// Probability of every class, 0 to 255, `[height, width, classes]`, if it was asked for.
    pub fn probabilities(&self) -> Option<Vec<u8>> {
        self.probabilities.clone()
    }

    /// Milliseconds of each step, and the number of windows.
    ///
    /// # Errors
    /// `format`, if it cannot be made an object.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub fn timings(&self) -> Result<JsValue, JsValue> {
        to_object(&self.timings).map_err(to_js)
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
