//! A loaded model.

use js_sys::{Float32Array, Function, Object, Reflect};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{Clamped, JsCast, JsValue};

use super::error::to_js;
use super::options::{Info, OverlayOptions, PolygonOptions, SegmentOptions, TileOption, parse, to_object};
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
use crate::tile::TileId;
use crate::weights::package::LoadProgress;

/// A package, loaded onto a device.
#[wasm_bindgen]
pub struct Segmenter {
    engine: engine::Segmenter,
}

#[wasm_bindgen]
impl Segmenter {
    /// Loads the package whose files `read` gives onto `device`, `gpu` or `cpu`. `name` stands for it in errors.
    ///
    /// # Errors
    /// Those of the reader, of the package's checks, and `device` if there is no such device.
    pub async fn load(
        #[wasm_bindgen(unchecked_param_type = "(file: string, limit: number) => Promise<Uint8Array>")] read: Function,
        name: String,
        device: String,
        #[wasm_bindgen(js_name = onProgress, unchecked_param_type = "(loadedBytes: number, totalBytes: number) => void")]
        on_progress: Function,
    ) -> Result<Segmenter, JsValue> {
        let source = CallbackSource { name, read };
        let progress = |LoadProgress { loaded_bytes, total_bytes }: LoadProgress| {
            let (loaded, total) = (loaded_bytes as f64, total_bytes as f64);
            // What a page's own callback throws is no failure of the load.
            let _ = on_progress.call2(&JsValue::NULL, &loaded.into(), &total.into());
        };
        let load = async {
            let device = engine::open_device(device.parse()?).await?;
            engine::Segmenter::load(&source, &device, progress).await
        };
        load.await.map(|engine| Self { engine }).map_err(to_js)
    }

    /// What the package says of itself.
    ///
    /// # Errors
    /// `format`, if it cannot be made an object.
    #[wasm_bindgen(unchecked_return_type = "any")]
    pub fn info(&self) -> Result<JsValue, JsValue> {
        to_object(&Info::from(self.engine.manifest())).map_err(to_js)
    }

    /// Segments `width * height` RGBA8 pixels.
    ///
    /// # Errors
    /// `invalid` for a wrong size or option, `limit` for a picture that is too large, `device` if the device fails.
    pub async fn segment(
        &self,
        rgba: Clamped<Vec<u8>>,
        width: usize,
        height: usize,
        #[wasm_bindgen(unchecked_param_type = "{ probabilities?: boolean }")] options: JsValue,
    ) -> Result<Segmentation, JsValue> {
        let segment = async {
            let SegmentOptions { probabilities } = parse(options)?;
            let image = RgbImage::from_rgba(width, height, &rgba)?;
            drop(rgba);
            self.engine.segment(&image, &engine::SegmentOptions { probabilities }).await
        };
        let result = segment.await.map_err(to_js)?;
        Ok(Segmentation::new(result, &self.engine.manifest().classes))
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

    /// A class mask in its classes' colours, RGBA8 `[height, width, 4]`, background transparent.
    ///
    /// # Errors
    /// `invalid` for a wrong size or option.
    pub fn overlay(
        &self,
        #[wasm_bindgen(js_name = classMask)] class_mask: Vec<u8>,
        width: usize,
        height: usize,
        #[wasm_bindgen(unchecked_param_type = "{ opacity?: number; outline?: boolean }")] options: JsValue,
    ) -> Result<Clamped<Vec<u8>>, JsValue> {
        let paint = || {
            let OverlayOptions { opacity, outline } = parse(options)?;
            let confidence = vec![0; class_mask.len()];
            let mask = ClassMask::new(width, height, class_mask, confidence)?;
            overlay::rgba(&mask, &self.engine.manifest().classes, Style { opacity, outline })
        };
        paint().map(Clamped).map_err(to_js)
    }

    /// Polygons of every class but background as the text of a GeoJSON FeatureCollection: longitude and latitude if a
    /// `tile` is given, else pixels.
    ///
    /// # Errors
    /// `invalid` for a wrong size or option.
    pub fn polygons(
        &self,
        #[wasm_bindgen(js_name = classMask)] class_mask: Vec<u8>,
        #[wasm_bindgen(js_name = confidenceMask)] confidence_mask: Vec<u8>,
        width: usize,
        height: usize,
        #[wasm_bindgen(
            unchecked_param_type = "{ minPixels?: number; tolerance?: number; tile?: { z: number; x: number; y: number } }"
        )]
        options: JsValue,
    ) -> Result<String, JsValue> {
        let trace = || {
            let PolygonOptions { min_pixels, tolerance, tile } = parse(options)?;
            let tile = tile.map(|TileOption { z, x, y }| TileId::new(z, x, y)).transpose()?;
            let georef = tile.map(|tile| Georef::from_tile(tile, width, height));
            let mask = ClassMask::new(width, height, class_mask, confidence_mask)?;
            let classes = &self.engine.manifest().classes;
            let mut writer = geojson::Writer::new(Vec::new(), classes, georef.as_ref())?;
            for polygon in polygon::trace_mask(&mask, polygon::Options { min_pixels, tolerance })? {
                writer.polygon(&polygon)?;
            }
            String::from_utf8(writer.finish()?).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
        };
        trace().map_err(to_js)
    }
}
