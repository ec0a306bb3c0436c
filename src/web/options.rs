//! The plain objects that cross the border: options in, descriptions out, in camelCase.

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::mask::ClassStats;
use crate::weights::manifest::{Kind, Manifest};

/// Options of every call, each of which reads some of them: one type, because each would cost kilobytes of code. TypeScript
/// checks what pages give.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Options {
    pub probabilities: bool,
    /// Class index and least confidence, instead of the package's.
    pub thresholds: Vec<(u8, f32)>,
    pub min_pixels: u64,
    /// Column, row, width and height of the part to keep.
    pub part: Option<[usize; 4]>,
    /// Indices of the classes to draw or trace; all but background unless given.
    pub classes: Option<Vec<u8>>,
    pub opacity: f32,
    pub outline: bool,
    pub tolerance: f64,
    pub tile: Option<TileOption>,
}

impl Default for Options {
    /// The classes' own colours; pages set the opacity of the element that shows them.
    fn default() -> Self {
        Self {
            probabilities: false,
            thresholds: Vec::new(),
            min_pixels: 0,
            part: None,
            classes: None,
            opacity: 1.0,
            outline: false,
            tolerance: 0.0,
            tile: None,
        }
    }
}

impl Options {
    /// Those of `classes` that are wanted.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an index that no class has.
    pub(super) fn wanted(&self, classes: &[Class]) -> Result<Vec<Class>> {
        let Some(wanted) = &self.classes else { return Ok(classes.to_vec()) };
        if let Some(unknown) = wanted.iter().find(|&&index| classes.iter().all(|class| class.index != index)) {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no class {unknown}"))
                .remedy(format!("this model has classes 0 to {}", classes.len().saturating_sub(1))));
        }
        Ok(classes.iter().filter(|class| wanted.contains(&class.index)).cloned().collect())
    }
}

/// A tile of the XYZ scheme.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TileOption {
    pub z: u8,
    pub x: u32,
    pub y: u32,
}

/// What a page wants to know of a loaded package.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Info<'a> {
    kind: Kind,
    name: &'a str,
    classes: &'a [Class],
    backbone: &'a str,
    scheme: crate::weights::quantize::Scheme,
    parameters: u64,
    input_size: usize,
    tile_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ground_resolution: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    licence: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    attribution: &'a str,
}

impl<'a> From<&'a Manifest> for Info<'a> {
    fn from(manifest: &'a Manifest) -> Self {
        Self {
            kind: manifest.kind,
            name: &manifest.name,
            classes: &manifest.classes,
            backbone: &manifest.backbone,
            scheme: manifest.scheme,
            parameters: manifest.parameters(),
            input_size: manifest.input_size,
            tile_size: manifest.tile_size,
            ground_resolution: manifest.ground_resolution,
            licence: &manifest.licence,
            attribution: &manifest.attribution,
        }
    }
}

/// Area and confidence of one class.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    index: u8,
    name: String,
    color: [u8; 3],
    pixels: u64,
    share: f64,
    mean_confidence: f64,
}

impl Stats {
    pub(super) fn new(stats: ClassStats, class: &Class) -> Self {
        let ClassStats { index, name, pixels, share, mean_confidence } = stats;
        Self { index, name, color: class.color, pixels, share, mean_confidence }
    }
}

/// The options in `value`; `undefined` and `null` stand for the defaults.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming the option.
pub(super) fn parse(value: JsValue) -> Result<Options> {
    if value.is_undefined() || value.is_null() {
        return Ok(Options::default());
    }
    serde_wasm_bindgen::from_value(value).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()).at("options"))
}

/// `value` as a plain JavaScript object.
///
/// # Errors
/// [`ErrorKind::Format`] if it has no such form.
pub(super) fn to_object<T: Serialize + ?Sized>(value: &T) -> Result<JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
}
