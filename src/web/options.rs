//! What crosses the border: options as plain numbers, whose names and ranges TypeScript has checked, and descriptions as plain
//! objects in camelCase. Options as objects would cost the GPU build some kilobytes of code.

use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::mask::ClassStats;
use crate::weights::manifest::{Kind, Manifest};

/// Thresholds as they cross the border: class index and least confidence, in turn.
pub(super) fn thresholds(pairs: &[f32]) -> Vec<(u8, f32)> {
    pairs.chunks_exact(2).map(|pair| (pair[0] as u8, pair[1])).collect()
}

/// Those of `classes` whose indices are `wanted`; all unless given.
///
/// # Errors
/// [`ErrorKind::Invalid`] for an index that no class has.
pub(super) fn wanted(classes: &[Class], wanted: Option<&[u8]>) -> Result<Vec<Class>> {
    let Some(wanted) = wanted else { return Ok(classes.to_vec()) };
    if let Some(unknown) = wanted.iter().find(|&&index| classes.iter().all(|class| class.index != index)) {
        return Err(Error::new(ErrorKind::Invalid, format!("there is no class {unknown}"))
            .remedy(format!("this model has classes 0 to {}", classes.len().saturating_sub(1))));
    }
    Ok(classes.iter().filter(|class| wanted.contains(&class.index)).cloned().collect())
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

/// `value` as a plain JavaScript object.
///
/// # Errors
/// [`ErrorKind::Format`] if it has no such form.
pub(super) fn to_object<T: Serialize + ?Sized>(value: &T) -> Result<JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|e| Error::new(ErrorKind::Format, e.to_string()))
}
