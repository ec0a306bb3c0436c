//! EfficientNet-Lite0 as it is published, trained to classify ImageNet: an image encoder without SAM's neck, prompt encoder and mask
//! decoder, to start training from.
//!
//! Two projects' names are read: `efficientnet_lite_pytorch` (PyPI; `_blocks.1._expand_conv.weight`) and `timm`'s `tf_efficientnet_lite0`
//! (`blocks.1.0.conv_pw.weight`). The classifier and the 1x1 convolution before it are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fold;
use super::keys::FoldedNorm;
use super::layout;
use super::source::open;
use super::tensor::TensorSource;
use crate::config::{Backbone, LITE_NORM_EPS, SamConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::names::{self, ModelPart};

/// Blocks of each of EfficientNet's stages, which `timm` numbers by stage.
const STAGES: [usize; 7] = [1, 2, 2, 3, 3, 4, 1];

/// A file of the encoder; only its table of contents is in memory.
pub struct ImageNetEncoder {
    path: PathBuf,
    source: Box<dyn TensorSource>,
    config: SamConfig,
    /// The convolution and its norm, by the scope of this crate's names.
    layers: BTreeMap<String, (String, FoldedNorm)>,
}

impl ImageNetEncoder {
    /// Opens a `.pth` or safetensors file; none if it is something else.
    ///
    /// # Errors
    /// Those of [`open`]; [`ErrorKind::NotFound`] and [`ErrorKind::Format`] naming a tensor that is missing or misshapen.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let source = open(path)?;
        let has = |name: &str| source.info(name).is_some();
        let layers = match (has("_blocks.1._expand_conv.weight"), has("blocks.1.0.conv_pw.weight")) {
            (true, _) => layers(lukemelas),
            (_, true) => layers(timm),
            _ => return Ok(None),
        };
        let encoder = Self { path: path.to_owned(), source, config: Backbone::named("lite0")?.config(4), layers };
        encoder.check().map_err(|e| e.at(path.display()))?;
        Ok(Some(encoder))
    }

    fn check(&self) -> Result<()> {
        let shapes: BTreeMap<_, _> = layout::tensors(&self.config).into_iter().collect();
        for (scope, (convolution, norm)) in &self.layers {
            let weight = format!("{scope}.weight");
            let expected = shapes.get(&weight).cloned().unwrap_or_default();
            let outputs = vec![expected.first().copied().unwrap_or(0)];
            let norms = [&norm.weight, &norm.bias, &norm.mean, &norm.variance].map(|name| (name, &outputs));
            for (name, expected) in [(convolution, &expected)].into_iter().chain(norms) {
                let Some(info) = self.source.info(name) else {
                    let message = "is missing: this is no EfficientNet-Lite0 of ImageNet";
                    return Err(Error::new(ErrorKind::NotFound, message).at(format!("tensor {name}")));
                };
                // A 1x1 convolution is a linear layer.
                let found = info.shape.strip_suffix(&[1, 1]).filter(|_| expected.len() == 2).unwrap_or(&info.shape);
                if found != expected.as_slice() {
                    let message = format!("has shape {:?}, expected {expected:?}", info.shape);
                    return Err(Error::new(ErrorKind::Format, message)
                        .at(format!("tensor {name}"))
                        .remedy("of the EfficientNet-Lite models, only Lite0 is read"));
                }
            }
        }
        Ok(())
    }

    /// The architecture that it is an encoder of.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The values of the tensor with this crate's name `name`, its norm folded in; none if it is no part of this file.
    ///
    /// # Errors
    /// Those of [`TensorSource::read_f32`], naming the file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some((scope, part)) = name.rsplit_once('.') else { return Ok(None) };
        let Some((convolution, norm)) = self.layers.get(scope) else { return Ok(None) };
        let source = self.source.as_ref();
        let values = match part {
            "bias" => fold::bias(source, norm, LITE_NORM_EPS),
            _ => source.read_f32(convolution).and_then(|kernel| fold::kernel(source, norm, LITE_NORM_EPS, kernel)),
        };
        values.map(Some).map_err(|e| e.at(self.path.display()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read.
    pub fn hash(&self) -> Result<String> {
        self.source.hash()
    }
}

/// The layers of the encoder as `names` calls a convolution and its norm, given the number of its block (none for the first layer of
/// all) and which of the block's it is.
fn layers(named: fn(Option<usize>, &str) -> (String, String)) -> BTreeMap<String, (String, FoldedNorm)> {
    let config = Backbone::named("lite0").map(|lite| lite.config(4));
    let parameters = config.map(|config| names::parameters(&config)).unwrap_or_default();
    let encoder = parameters.into_iter().filter(|p| matches!(p.part, ModelPart::Patches | ModelPart::Blocks));
    let scopes = encoder.filter_map(|p| p.name.strip_suffix(".weight").map(str::to_owned));
    let layers = scopes.map(|scope| {
        let place = scope.trim_start_matches("image_encoder.");
        let (convolution, norm) = match place.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            // The first block, which expands nothing, is number 0 there.
            Some((block, layer)) => named(block.parse().ok().map(|block: usize| block + 1), layer),
            None => match place.strip_prefix("first.") {
                Some(layer) => named(Some(0), layer),
                None => named(None, place),
            },
        };
        let part = |part: &str| format!("{norm}.{part}");
        let norm = FoldedNorm {
            weight: part("weight"),
            bias: part("bias"),
            mean: part("running_mean"),
            variance: part("running_var"),
        };
        (scope, (format!("{convolution}.weight"), norm))
    });
    layers.collect()
}

/// `efficientnet_lite_pytorch`.
fn lukemelas(block: Option<usize>, layer: &str) -> (String, String) {
    let Some(block) = block else { return ("_conv_stem".into(), "_bn0".into()) };
    let (convolution, norm) = match layer {
        "expand" => ("_expand_conv", "_bn0"),
        "depthwise" => ("_depthwise_conv", "_bn1"),
        _ => ("_project_conv", "_bn2"),
    };
    (format!("_blocks.{block}.{convolution}"), format!("_blocks.{block}.{norm}"))
}

/// `timm`.
fn timm(block: Option<usize>, layer: &str) -> (String, String) {
    let Some(mut within) = block else { return ("conv_stem".into(), "bn1".into()) };
    let is_first = within == 0;
    let mut stage = 0;
    while stage + 1 < STAGES.len() && within >= STAGES[stage] {
        within -= STAGES[stage];
        stage += 1;
    }
    let (convolution, norm) = match (layer, is_first) {
        ("depthwise", true) => ("conv_dw", "bn1"),
        (_, true) => ("conv_pw", "bn2"),
        ("expand", _) => ("conv_pw", "bn1"),
        ("depthwise", _) => ("conv_dw", "bn2"),
        _ => ("conv_pwl", "bn3"),
    };
    (format!("blocks.{stage}.{within}.{convolution}"), format!("blocks.{stage}.{within}.{norm}"))
}
