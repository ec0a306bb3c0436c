//! `samlora.json`: everything a program must know to run a package.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout;
use super::quantize::{Scheme, matrix};
use super::tensor::hex;
use crate::config::{Class, Normalization, SamConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::logits::Calibration;
use crate::lora::LoraConfig;

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "samlora.json";
/// The version of the package format that this program reads and writes.
pub const FORMAT_VERSION: u32 = match u32::from_str_radix(env!("SAMLORA_FORMAT_VERSION"), 10) {
    Ok(version) => version,
    Err(_) => panic!("build.rs gives a number"),
};
/// The largest shard that is written: any static host can carry it.
pub const SHARD_BYTES: usize = 16 << 20;
/// Patches along a side of the largest input: scores of a global block grow with its fourth power, and no map window
/// needs more.
const MAX_GRID: usize = 256;
/// The largest manifest that is read.
pub const MANIFEST_BYTES: usize = 4 << 20;

/// What the name of every low-rank factor in an adapter package contains.
pub const LORA_MARK: &str = ".lora_";

/// What a package holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole model, any adapter folded into its weights.
    Merged,
    /// A whole SAM model to put adapters on.
    Base,
    /// Low-rank factors and what was trained with them; needs its base.
    Adapter,
}

/// The manifest of a package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `samlora`.
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// The program that wrote it, with version and revision.
    pub tool: String,
    /// What the package holds.
    pub kind: Kind,
    /// A name for people.
    pub name: String,
    /// The backbone's name, for people; every number is in `architecture`.
    pub backbone: String,
    /// Every number of the architecture.
    pub architecture: SamConfig,
    /// Side of the network's input in pixels, a multiple of the patch.
    pub input_size: usize,
    /// Side of the tile in the middle of the input, in pixels; the rest is halo.
    pub tile_size: usize,
    /// Classes in channel order, background first.
    pub classes: Vec<Class>,
    /// Normalisation of pixels 0 to 255, per band: `(value - mean) / std`.
    pub normalization: Normalization,
    /// Ground resolution in metres per pixel that the model was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground_resolution: Option<f64>,
    /// The finest and the coarsest ground resolution that it has seen in training, metres per pixel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_range: Option<[f64; 2]>,
    /// What makes the network's logits probabilities; without, they are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The scheme of the large matrices.
    pub scheme: Scheme,
    /// Weight files, in loading order.
    pub shards: Vec<Shard>,
    /// Where each tensor is, by SAM's name.
    pub tensors: BTreeMap<String, TensorEntry>,
    /// Where the weights come from.
    pub origin: Origin,
    /// The adapter's make, for a package of kind `adapter` or one that an adapter was merged into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Metrics on the validation split, measured with these very weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<BTreeMap<String, f64>>,
    /// Licence of the weights.
    #[serde(default)]
    pub licence: String,
    /// Whom to name for weights and data.
    #[serde(default)]
    pub attribution: String,
}

/// One weight file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its name within the package: letters, digits, `.`, `_` and `-`.
    pub file: String,
    /// Its length.
    pub bytes: usize,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// SAM's shape.
    pub shape: Vec<usize>,
    /// How its numbers are stored.
    pub scheme: Scheme,
    /// Runs of rows, in order; more than one where a tensor is larger than a shard.
    pub parts: Vec<Part>,
}

/// A run of rows of a tensor within a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Index into the manifest's shards.
    pub shard: usize,
    /// Rows of the tensor's matrix that lie there.
    pub rows: usize,
}

/// Hashes of what a package was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SHA-256 of the base checkpoint; for an adapter package the [`Manifest::content_hash`] of its base package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_sha256: Option<String>,
    /// SHA-256 of the adapter's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_sha256: Option<String>,
    /// What taught it beside labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TaughtBy>,
}

/// What taught a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaughtBy {
    /// The package's name, or that of the folder of soft masks.
    pub name: String,
    /// [`Manifest::content_hash`] of the package, or SHA-256 over the soft masks.
    pub sha256: String,
}

impl Manifest {
    /// A manifest of a merged model of `architecture`, f32, without weights: input and tile are the backbone's (448 and
    /// 256 px where it is none of the known), normalisation is SAM's.
    pub fn new(architecture: &SamConfig, classes: Vec<Class>) -> Self {
        let known = architecture.backbone();
        let backbone = known.map_or("custom", |b| b.name);
        let (input_size, tile_size) = known.map_or((448, 256), |b| (b.input_size, b.tile_size));
        Self {
            format: "samlora".into(),
            version: FORMAT_VERSION,
            tool: crate::TOOL.into(),
            kind: Kind::Merged,
            name: backbone.into(),
            backbone: backbone.into(),
            architecture: architecture.clone(),
            input_size,
            tile_size,
            classes,
            normalization: Normalization::rgb(),
            ground_resolution: None,
            resolution_range: None,
            calibration: None,
            scheme: Scheme::F32,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            origin: Origin::default(),
            lora: None,
            metrics: None,
            licence: String::new(),
            attribution: String::new(),
        }
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], [`ErrorKind::Unsupported`] or [`ErrorKind::Limit`] naming the field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let format = |e: serde_json::Error| {
            Error::new(ErrorKind::Format, format!("is not a samlora manifest: {e}"))
                .at(MANIFEST_FILE)
                .remedy("name the folder that `samlora export` wrote")
        };
        if bytes.len() > MANIFEST_BYTES {
            let message = format!("has {} bytes, the limit is {MANIFEST_BYTES}", bytes.len());
            return Err(Error::new(ErrorKind::Limit, message).at(MANIFEST_FILE));
        }
        let head: Head = serde_json::from_slice(bytes).map_err(format)?;
        if head.format != "samlora" {
            return Err(Error::new(ErrorKind::Format, format!("format is {:?}, expected \"samlora\"", head.format))
                .at(MANIFEST_FILE));
        }
        if head.version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("format version {}, this program reads version {FORMAT_VERSION}", head.version),
            )
            .at(MANIFEST_FILE)
            .remedy("update samlora, or export the package again"));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(format)?;
        manifest.check().map_err(|e| e.at(MANIFEST_FILE))?;
        Ok(manifest)
    }

    /// The manifest as it is written, with indentation.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::new(ErrorKind::Format, e.to_string()).at(MANIFEST_FILE))
    }

    /// Total length of all shards.
    pub fn weight_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.bytes as u64).sum()
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|t| t.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }

    /// What an adapter names its base by: SHA-256 over the shards' hashes in order.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        for shard in &self.shards {
            hash.update(shard.sha256.to_ascii_lowercase());
        }
        hex(&hash.finalize())
    }

    fn check(&self) -> Result<()> {
        self.check_settings()?;
        self.check_shards()?;
        self.check_tensors()?;
        self.check_complete()
    }

    /// Everything that is known before the weights are.
    pub(super) fn check_settings(&self) -> Result<()> {
        self.architecture.check()?;
        let (patch, bands) = (self.architecture.input_step(), self.architecture.in_chans);
        if self.input_size == 0 || !self.input_size.is_multiple_of(patch) || self.input_size > 4096 {
            return invalid("input_size", format!("{} is not a multiple of {patch} up to 4096", self.input_size));
        }
        if self.input_size / patch > MAX_GRID {
            return invalid("input_size", format!("{} is more than {MAX_GRID} patches of {patch}", self.input_size));
        }
        if self.tile_size == 0 || self.tile_size > self.input_size {
            return invalid("tile_size", format!("{} is not within the input of {}", self.tile_size, self.input_size));
        }
        if self.kind != Kind::Base && self.classes.len() != self.architecture.mask_tokens {
            let message = format!("{} classes for {} mask tokens", self.classes.len(), self.architecture.mask_tokens);
            return invalid("classes", message);
        }
        for (i, class) in self.classes.iter().enumerate() {
            if usize::from(class.index) != i {
                return invalid("classes", format!("class {:?} has index {}, expected {i}", class.name, class.index));
            }
            if class.threshold.is_some_and(|t| !(0.0..=1.0).contains(&t)) {
                return invalid("classes", format!("the threshold of {:?} is not within 0 to 1", class.name));
            }
            if class.name.is_empty() || self.classes.iter().take(i).any(|other| other.name == class.name) {
                return invalid("classes", format!("the name {:?} is empty or given twice", class.name));
            }
        }
        let Normalization { mean, std } = &self.normalization;
        // A deviation so small that its inverse is infinite is none.
        let usable = |s: &f32| s.is_finite() && *s > 0.0 && s.recip().is_finite();
        if mean.len() != bands || std.len() != bands || !mean.iter().all(|m| m.is_finite()) || !std.iter().all(usable) {
            return invalid("normalization", format!("needs {bands} means and {bands} positive deviations"));
        }
        if self
            .resolution_range
            .is_some_and(|[finest, coarsest]| !(finest > 0.0 && finest <= coarsest && coarsest.is_finite()))
        {
            return invalid("resolution_range", "is not two positive numbers of metres, the lesser one first".into());
        }
        if self.ground_resolution.is_some_and(|metres| !metres.is_finite() || metres <= 0.0) {
            return invalid("ground_resolution", "is not a positive number of metres".into());
        }
        if let Some(Calibration { temperature, bias }) = &self.calibration {
            let positive = *temperature > 0.0 && temperature.recip().is_finite();
            let fits = bias.is_empty() || bias.len() == self.classes.len();
            if !(positive && fits && bias.iter().all(|b| b.is_finite())) {
                return invalid("calibration", "needs a temperature above 0, and a bias for each class or none".into());
            }
        }
        if self.lora.as_ref().is_some_and(|l| l.rank == 0 || l.alpha.is_some_and(|alpha| !alpha.is_finite())) {
            return invalid("lora", "needs a rank of at least 1 and a finite alpha".into());
        }
        Ok(())
    }

    fn check_shards(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for shard in &self.shards {
            let name = shard.file.as_str();
            let plain = !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if name.is_empty() || name.len() > 128 || !plain {
                let message = format!("shard name {name:?} is not a plain file name");
                return Err(Error::new(ErrorKind::Format, message)
                    .at("shards")
                    .remedy("do not use this package: its names reach outside its folder"));
            }
            if !names.insert(name) {
                return invalid("shards", format!("{name} is named twice"));
            }
            if shard.bytes == 0 || shard.bytes > SHARD_BYTES {
                return invalid("shards", format!("{name} has {} bytes, expected 1 to {SHARD_BYTES}", shard.bytes));
            }
            if shard.sha256.len() != 64 || !shard.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return invalid("shards", format!("{name} has no SHA-256"));
            }
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<()> {
        for (name, tensor) in &self.tensors {
            let invalid = |message: String| invalid(&format!("tensor {name}"), message);
            let numbers = tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if tensor.shape.is_empty() || tensor.shape.len() > 4 || !numbers.is_some_and(|n| (1..1 << 30).contains(&n))
            {
                return invalid(format!("has the absurd shape {:?}", tensor.shape));
            }
            let (rows, columns) = matrix(&tensor.shape);
            let (mut stored, mut last) = (0usize, None);
            for part in &tensor.parts {
                // Shards are read in order, so rows in another order would change places.
                if last.replace(part.shard).is_some_and(|last| last >= part.shard) {
                    return invalid("its parts are not in the order of the shards".into());
                }
                let (values, scales) = tensor.scheme.row_bytes(columns);
                let Some(shard) = self.shards.get(part.shard) else {
                    return invalid(format!("lies in shard {}, there are {}", part.shard, self.shards.len()));
                };
                if part.rows == 0 || part.rows.checked_mul(values + scales).is_none_or(|bytes| bytes > shard.bytes) {
                    return invalid(format!("{} rows do not fit into {}", part.rows, shard.file));
                }
                stored = stored.saturating_add(part.rows);
            }
            if stored != rows {
                return invalid(format!("{stored} of {rows} rows are stored"));
            }
        }
        Ok(())
    }

    /// Checks before anything is fetched that the tensors are those of the architecture.
    fn check_complete(&self) -> Result<()> {
        let heads = self.kind == Kind::Adapter;
        let own = |name: &str| !(heads && name.contains(LORA_MARK));
        let shapes = self.tensors.iter().filter(|(name, _)| own(name)).map(|(name, t)| (name.clone(), t.shape.clone()));
        let shapes: BTreeMap<_, _> = shapes.collect();
        if heads && shapes.is_empty() {
            return Ok(());
        }
        let expected = if heads { layout::heads(&self.architecture) } else { layout::tensors(&self.architecture) };
        layout::compare(expected, &shapes)
    }
}

fn invalid(field: &str, message: String) -> Result<()> {
    Err(Error::new(ErrorKind::Format, message).at(field))
}
