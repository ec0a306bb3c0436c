//! What training starts from: a published checkpoint, a package, an earlier run, or random weights; and the adapters beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::config::{Backbone, Class, SamConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::lora::{self, LoraConfig};
use crate::model::{Parameters, Sam};
use crate::names::{self, ModelPart, Parameter, TensorRole};
use crate::random::SplitMix;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::folder::Folder;
use crate::weights::imagenet::ImageNetEncoder;
use crate::weights::manifest::Kind;
use crate::weights::package;
use crate::weights::shards::SafetensorsFile;
use crate::weights::source::FileReader;

/// Weights to start from.
pub enum BaseModel {
    /// Random ones, as PyTorch and SAM initialise their layers.
    Fresh(Box<SamConfig>),
    /// SAM's checkpoint, or the `model.safetensors` of a run: then with the names of its classes.
    Checkpoint(Box<Checkpoint>, PathBuf, Vec<String>),
    /// An image encoder that was trained on something else: the rest starts from random weights.
    Encoder(Box<ImageNetEncoder>),
    /// A package; its classes' heads are kept if they are the data's.
    Package {
        /// Where it is.
        path: PathBuf,
        /// Its architecture.
        config: Box<SamConfig>,
        /// Its classes, background first; none for a base package.
        classes: Vec<Class>,
        /// [`crate::weights::manifest::Manifest::content_hash`].
        hash: String,
        /// Its tensors by SAM's name.
        tensors: BTreeMap<String, Vec<f32>>,
    },
}

impl BaseModel {
    /// Random weights of a backbone.
    pub fn fresh(backbone: &Backbone) -> Self {
        Self::Fresh(Box::new(backbone.config(4)))
    }

    /// Whether all of it was trained as a SAM: what is random otherwise has to learn.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Checkpoint(..) | Self::Package { .. })
    }

    /// Opens a checkpoint's file, that of an image encoder alone, a package's folder or `.samlora` file, or the folder of a run that trained everything.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`package::read_tensors`]; [`ErrorKind::Unsupported`] for an adapter package.
    pub fn open(path: &Path) -> Result<Self> {
        let model = path.join("model.safetensors");
        if model.is_file() {
            return Self::checkpoint(&model);
        }
        let archive = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("samlora"));
        if !archive && !path.join(crate::weights::manifest::MANIFEST_FILE).is_file() {
            return Self::checkpoint(path);
        }
        let folder = Folder::open(path)?;
        let manifest = pollster::block_on(package::read_manifest(&folder))?;
        if manifest.kind == Kind::Adapter {
            return Err(Error::new(ErrorKind::Unsupported, "is an adapter, without the model that it belongs to")
                .at(path.display())
                .remedy("give its base package, or a merged one"));
        }
        let mut tensors = BTreeMap::new();
        let keep = |name: &str, _: &[usize], values: Vec<f32>| {
            tensors.insert(name.to_owned(), values);
            Ok(())
        };
        pollster::block_on(package::read_tensors(&folder, &manifest, keep, |_| ()))?;
        let classes = if manifest.kind == Kind::Base { Vec::new() } else { manifest.classes.clone() };
        let hash = manifest.content_hash();
        Ok(Self::Package { path: path.to_owned(), config: Box::new(manifest.architecture), classes, hash, tensors })
    }

    fn checkpoint(path: &Path) -> Result<Self> {
        if let Some(encoder) = ImageNetEncoder::open(path)? {
            return Ok(Self::Encoder(Box::new(encoder)));
        }
        let checkpoint = Box::new(Checkpoint::open(path)?);
        let safetensors = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        let names = match safetensors.then(|| SafetensorsFile::new(FileReader::open(path)?)).transpose()? {
            Some(file) => file.metadata().get("classes").and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Self::Checkpoint(checkpoint, path.to_owned(), names))
    }

    /// Its architecture, with its own mask tokens and bands.
    pub fn config(&self) -> &SamConfig {
        match self {
            Self::Fresh(config) | Self::Package { config, .. } => config,
            Self::Checkpoint(checkpoint, ..) => checkpoint.config(),
            Self::Encoder(encoder) => encoder.config(),
        }
    }

    /// Where it is, and its hash; none for random weights.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn origin(&self) -> Result<Option<(PathBuf, String)>> {
        Ok(match self {
            Self::Fresh(_) => None,
            Self::Checkpoint(checkpoint, path, _) => Some((path.clone(), checkpoint.hash()?)),
            Self::Encoder(encoder) => Some((encoder.path().to_owned(), encoder.hash()?)),
            Self::Package { path, hash, .. } => Some((path.clone(), hash.clone())),
        })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<f32>>> {
        match self {
            Self::Fresh(_) => Ok(None),
            Self::Checkpoint(checkpoint, ..) => checkpoint.read(name).map(Some),
            Self::Encoder(encoder) => encoder.read(name),
            Self::Package { tensors, .. } => Ok(tensors.get(name).cloned()),
        }
    }

    /// Whether the decoder's heads are those of `classes`.
    fn has_heads_of(&self, classes: &[Class]) -> bool {
        let names = |classes: &[Class]| classes.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let own = match self {
            Self::Fresh(_) | Self::Encoder(_) => return false,
            Self::Checkpoint(_, _, names) => names.clone(),
            Self::Package { classes, .. } => names(classes),
        };
        !own.is_empty() && own == names(classes)
    }
}

/// The model to train: `base` with heads for `classes` and a patch embedding for `bands`, and `lora`'s adapters beside it.
/// Gives it with its architecture.
///
/// # Errors
/// Those of reading `base` and of [`LoraConfig::init`].
pub fn model(
    base: &BaseModel,
    classes: &[Class],
    bands: usize,
    lora: Option<&LoraConfig>,
    seed: u64,
    device: &Device,
) -> Result<(SamConfig, Sam)> {
    let mut config = base.config().clone();
    let old_bands = config.in_chans;
    config.mask_tokens = classes.len();
    config.in_chans = bands;
    let keep_heads = base.has_heads_of(classes);
    let mut parameters = Parameters::new(device);
    for parameter in names::parameters(&config) {
        // What tells classes apart is fresh where the classes are new, as in SamLoRA.
        let fresh = !keep_heads && matches!(parameter.part, ModelPart::Classes | ModelPart::IouHead);
        let stored = if fresh { None } else { base.read(&parameter.name)? };
        let values = match stored {
            Some(values)
                if parameter.part == ModelPart::Patches
                    && parameter.shape.len() == 4
                    && bands != old_bands
                    && parameter.role != TensorRole::Positions =>
            {
                let plane = parameter.shape[2] * parameter.shape[3];
                bands_of(&values, [parameter.shape[0], old_bands, plane], bands)
            }
            Some(values) => values,
            None => initial(&parameter, seed),
        };
        parameters.insert(&parameter.name, &parameter.shape, values)?;
    }
    let mut sam = Sam::load(&config, parameters)?;
    if let Some(lora) = lora {
        let factors = lora.init(&config, seed)?;
        lora::attach(&mut sam, &config, &factors, lora.dropout, device)?;
    }
    Ok((config, sam))
}

/// A patch embedding `[dim, old, patch^2]` for other bands: one band gets the sum of the old ones; more get them in turn, scaled so
/// that the sum over bands keeps its size.
fn bands_of(values: &[f32], [dim, old, plane]: [usize; 3], bands: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(dim * bands * plane);
    for kernel in values.chunks_exact(old * plane) {
        for band in 0..bands {
            for i in 0..plane {
                out.push(match bands {
                    1 => (0..old).map(|o| kernel[o * plane + i]).sum(),
                    _ => kernel[band % old * plane + i] * old as f32 / bands as f32,
                });
            }
        }
    }
    out
}

/// Initial weights of a layer, the same for the same name and seed: linear layers and convolutions as PyTorch's defaults (uniform in
/// `+-1/sqrt(inputs)`), embeddings normal, the encoder's linear layers normal with deviation 0.02 as vision transformers have
/// them, norms one and zero, positions small.
fn initial(parameter: &Parameter, seed: u64) -> Vec<f32> {
    let Parameter { name, shape, role, part, .. } = parameter;
    let count: usize = shape.iter().product();
    let key = name.bytes().fold(seed ^ 0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mut random = SplitMix(key);
    let mut normal = |deviation: f32| (0..count).map(|_| gauss(&mut random) * deviation).collect();
    match (role, part) {
        (TensorRole::NormScale, _) => return vec![1.0; count],
        (TensorRole::NormBias | TensorRole::RelativePositions, _) | (TensorRole::Bias, ModelPart::Blocks) => {
            return vec![0.0; count];
        }
        (TensorRole::Frequencies | TensorRole::Embedding | TensorRole::MaskTokens, _) => return normal(1.0),
        (TensorRole::Positions, _) | (TensorRole::Matrix, ModelPart::Blocks) => return normal(0.02),
        // As activations behind them need it to keep their size, there being no norm (He et al. 2015).
        (TensorRole::Kernel, _) => return normal((2.0 / (count / shape[0]).max(1) as f32).sqrt()),
        (TensorRole::Matrix | TensorRole::Bias, _) => {}
    }
    // A bias has its layer's bound; 256 inputs are what nearly all of the decoder's layers have.
    let inputs = match shape.as_slice() {
        [_] => 256,
        // The mask decoder's upscaling, whose convolutions are transposed.
        [inputs, outputs, 2, 2] if *part == ModelPart::Masks => inputs.min(outputs) * 4,
        [outputs, ..] => count / outputs.max(&1),
        [] => 1,
    };
    let bound = 1.0 / (inputs.max(1) as f32).sqrt();
    (0..count).map(|_| random.uniform() * bound).collect()
}

/// A normal number (Box and Muller 1958), cut at three deviations.
fn gauss(random: &mut SplitMix) -> f32 {
    loop {
        let u = f64::from(random.uniform()).abs().max(1e-12);
        let angle = std::f64::consts::PI * f64::from(random.uniform());
        let value = ((-2.0 * u.ln()).sqrt() * angle.cos()) as f32;
        if value.abs() <= 3.0 {
            return value;
        }
    }
}
