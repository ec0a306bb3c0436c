//! Published checkpoints and adapters, in canonical names, strictly checked, read tensor by tensor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::fold;
use super::foreign;
use super::keys::{FoldedNorm, Keys, LoraKeys, Side, canonical, samed_name};
use super::layout;
use super::source::open;
use super::tensor::{PassedOver, TensorSource};
use crate::config::{SamConfig, TINY_VIT_NORM_EPS};
use crate::error::{Error, ErrorKind, Result};
use crate::lora::{Factor, Target};
use crate::model::{Parameters, Sam};
use crate::names;
use crate::names::TensorRole;

/// A whole SAM checkpoint on disk; only its table of contents is in memory.
pub struct Checkpoint {
    path: PathBuf,
    source: Box<dyn TensorSource>,
    names: BTreeMap<String, String>,
    norms: BTreeMap<String, FoldedNorm>,
    config: SamConfig,
    passed_over: Vec<PassedOver>,
}

impl Checkpoint {
    /// Opens a `.pth` or safetensors file, or a Hugging Face folder, and recognises its architecture.
    ///
    /// # Errors
    /// Those of [`open`], [`canonical`], [`layout::recognize`] and [`layout::check`], naming the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let source = open(path)?;
        Self::new(path, source).map_err(|e| e.at(path.display()))
    }

    fn new(path: &Path, source: Box<dyn TensorSource>) -> Result<Self> {
        let keys = canonical(source.tensors().iter().map(|t| t.name.as_str()))?;
        if let Some(name) = keys.lora.first() {
            return Err(Error::new(ErrorKind::Unsupported, format!("holds an adapter ({name}) beside the model"))
                .remedy("give it as the adapter, and SAM's own checkpoint as the base"));
        }
        let shape = |name: &str, stored: &str| {
            let mut shape = source.info(stored).map(|t| t.shape.clone()).unwrap_or_default();
            // A 1x1 convolution is a linear layer.
            if let [_, _, 1, 1] = shape[..]
                && names::named(name).is_some_and(|found| found.role == TensorRole::Kernel)
            {
                shape.truncate(2);
            }
            shape
        };
        let shapes = keys.tensors.iter().map(|(name, stored)| (name.clone(), shape(name, stored))).collect();
        let config = layout::recognize(&shapes)?;
        layout::check(&config, &shapes)?;
        let passed_over = passed_over(source.as_ref(), &keys);
        fold::check(source.as_ref(), &keys)?;
        Ok(Self { path: path.to_owned(), source, names: keys.tensors, norms: keys.norms, config, passed_over })
    }

    /// Sets the decoder's heads, which a checkpoint's shapes do not tell and [`layout::recognize`] can only guess for a
    /// model that is none of the known backbones.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the decoder's channels cannot be split so.
    pub fn with_decoder_heads(mut self, heads: usize) -> Result<Self> {
        self.config.decoder_heads = heads;
        self.config.check().map_err(|e| e.at(self.path.display()))?;
        Ok(self)
    }

    /// Every number of the architecture.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// What the file holds beside the model.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// The values of the tensor with the canonical name `name`, row-major.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or those of [`TensorSource::read_f32`], naming the file.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let stored = self.names.get(name).map_or(name, String::as_str);
        let values = self.source.read_f32(stored);
        let norm = name.rsplit_once(".c.").and_then(|(scope, part)| Some((part, self.norms.get(scope)?)));
        let values = match norm {
            Some(("bias", norm)) => fold::bias(self.source.as_ref(), norm, TINY_VIT_NORM_EPS),
            Some((_, norm)) => {
                values.and_then(|kernel| fold::kernel(self.source.as_ref(), norm, TINY_VIT_NORM_EPS, kernel))
            }
            None => values,
        };
        values.map_err(|e| e.at(self.path.display()))
    }

    /// SHA-256 of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read.
    pub fn hash(&self) -> Result<String> {
        self.source.hash()
    }
}

/// What a file holds beside the tensors of `keys`.
pub fn passed_over(source: &dyn TensorSource, keys: &Keys) -> Vec<PassedOver> {
    let beside = keys.beside.iter().map(|name| PassedOver { name: name.clone(), what: "a tensor".into() });
    source.passed_over().iter().cloned().chain(beside).collect()
}

/// A tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Its shape, outermost axis first.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// A LoRA checkpoint: factors, and the prompt encoder and mask decoder that were trained with them, if any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adapter {
    /// Low-rank factors.
    pub factors: Vec<Factor>,
    /// Tensors that replace the base's, by canonical name.
    pub tensors: BTreeMap<String, HostTensor>,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Whether the file numbers its factors (SAMed's `w_a_000`), which leaves no way to tell that some are missing but
    /// their count: q and v of every block.
    pub numbered: bool,
}

impl Adapter {
    /// Reads SAMed's (`w_a_000`) or this crate's LoRA file, `.pth` or safetensors; `alpha / rank` is `scale`, 1 for
    /// SAMed.
    ///
    /// # Errors
    /// Those of [`open`] and [`LoraKeys::find`]; [`ErrorKind::Format`] if the file holds no adapter or holds tensors of
    /// the image encoder.
    pub fn open(path: impl AsRef<Path>, scale: f64) -> Result<Self> {
        let path = path.as_ref();
        let source = open(path)?;
        Self::read(source.as_ref(), scale).map_err(|e| e.at(path.display()))
    }

    fn read(source: &dyn TensorSource, scale: f64) -> Result<Self> {
        let keys = LoraKeys::find(source.tensors())?.ok_or_else(|| {
            let names: Vec<&str> = source.tensors().iter().map(|t| t.name.as_str()).collect();
            foreign::identify(&names).unwrap_or_else(|| {
                Error::new(ErrorKind::Format, "holds no LoRA tensors")
                    .remedy("give a checkpoint with w_a_000 and the like")
            })
        })?;
        let numbered = keys.pairs.iter().any(|pair| pair.a.contains("w_a_"));
        let mut adapter = Self { sha256: source.hash()?, numbered, ..Self::default() };
        for pair in &keys.pairs {
            let (a, b) = (source.read_f32(&pair.a)?, source.read_f32(&pair.b)?);
            adapter.factors.push(Factor { block: pair.block, target: pair.target, rank: pair.rank, scale, a, b });
        }
        for (name, stored) in &keys.rest.tensors {
            if names::named(name).is_some_and(|found| found.part.in_encoder()) {
                let message = "is part of the frozen base, not of an adapter";
                return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
            }
            let shape = source.info(stored).map(|t| t.shape.clone()).unwrap_or_default();
            adapter.tensors.insert(name.clone(), HostTensor { shape, values: source.read_f32(stored)? });
        }
        Ok(adapter)
    }

    /// The architecture of `base` with this adapter's mask tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the factors or tensors do not fit `base`, naming them.
    pub fn config(&self, base: &SamConfig) -> Result<SamConfig> {
        let mut config = base.clone();
        let is_tokens = |name: &str| names::named(name).is_some_and(|found| found.role == TensorRole::MaskTokens);
        if let Some((_, tokens)) = self.tensors.iter().find(|(name, _)| is_tokens(name)) {
            config.mask_tokens = tokens.shape.first().copied().unwrap_or(0);
        }
        config.check()?;
        for factor in &self.factors {
            factor.check(&config)?;
        }
        if self.numbered {
            for (block, target) in (0..config.depth).flat_map(|b| [(b, Target::Query), (b, Target::Value)]) {
                if !self.factors.iter().any(|f| (f.block, f.target) == (block, target)) {
                    let name = samed_name(block, target, Side::A).unwrap_or_default();
                    let message = format!("is missing from the adapter: {target} of block {block}");
                    return Err(Error::new(ErrorKind::NotFound, message)
                        .at(format!("tensor {name}"))
                        .remedy("use the whole file, and the base it was trained on"));
                }
            }
        }
        let expected: BTreeMap<_, _> = layout::tensors(&config).into_iter().collect();
        for (name, tensor) in &self.tensors {
            match expected.get(name) {
                Some(shape) if *shape == tensor.shape => {}
                Some(shape) => {
                    let message = format!("has shape {:?}, expected {shape:?}", tensor.shape);
                    return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
                }
                None => {
                    let message = "does not belong to this model";
                    return Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
                }
            }
        }
        Ok(config)
    }
}

/// One tensor of `base` with `adapter` merged: replaced, or with `B A` added.
///
/// # Errors
/// Those of [`Checkpoint::read`]. The adapter must fit ([`Adapter::config`]).
pub fn merged_tensor(name: &str, base: &Checkpoint, adapter: Option<&Adapter>, config: &SamConfig) -> Result<Vec<f32>> {
    let Some(adapter) = adapter else { return base.read(name) };
    if let Some(tensor) = adapter.tensors.get(name) {
        return Ok(tensor.values.clone());
    }
    let mut values = base.read(name)?;
    for factor in adapter.factors.iter().filter(|f| f.target.weight_name(config, f.block) == name) {
        factor.add_to(&mut values, config);
    }
    Ok(values)
}

/// Loads a checkpoint onto a device for inference, with an adapter merged into it if there is one.
///
/// # Errors
/// Naming file and tensor.
pub fn load(base: &Checkpoint, adapter: Option<&Adapter>, device: &Device) -> Result<(SamConfig, Sam)> {
    let config = match adapter {
        Some(adapter) => adapter.config(base.config())?,
        None => base.config().clone(),
    };
    let mut parameters = Parameters::for_inference(&config, device);
    for (name, shape) in layout::tensors(&config) {
        parameters.insert(&name, &shape, merged_tensor(&name, base, adapter, &config)?)?;
    }
    let sam = Sam::load(&config, parameters)?;
    Ok((config, sam))
}
