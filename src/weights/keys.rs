//! A checkpoint's tensors by SAM's names, whichever project wrote it, and the naming of LoRA tensors.
//!
//! Canonical are the names of `facebookresearch/segment-anything`'s state dict, for example
//! `image_encoder.blocks.0.attn.qkv.weight`. Read as well are the other namings of the table
//! ([`names`](crate::names)), all of them with whatever a wrapper puts before every name (`module.`, `sam.`,
//! `model.`, `module.sam.`):
//!
//! | naming | example | where |
//! |---|---|---|
//! | Hugging Face | `vision_encoder.layers.0.attn.qkv.weight` | `transformers`, `SamModel` |
//! | wrapped | `sam.image_encoder.blocks.0.attn.qkv.qkv.weight` | SAMed's module saved whole, ArcGIS SamLoRA |
//!
//! A LoRA tensor A is `[rank, inputs]` and B is `[outputs, rank]`; the adapted matrix is `W + scale * B A`. Their
//! names:
//!
//! | naming | A of q in block 3 | where |
//! |---|---|---|
//! | extended | `image_encoder.blocks.3.attn.q.lora_a` | this crate; targets of [`Target`] |
//! | SAMed | `w_a_006` | SAMed: adapters counted over blocks, q (even) before v (odd); a subset of blocks is not told |
//! | wrapped | `image_encoder.blocks.3.attn.qkv.linear_a_q.weight` | as above |

use std::collections::BTreeMap;

use super::foreign::{self, listed};
use super::tensor::TensorInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::lora::Target;
use crate::names::{self, NameMatch, TensorRole, number};

pub use crate::names::Naming;

/// The tensors of a checkpoint by their canonical names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Whose names the file uses (a file of only LoRA tensors counts as [`Naming::Sam`]).
    pub naming: Naming,
    /// Canonical name to the name in the file.
    pub tensors: BTreeMap<String, String>,
    /// The LoRA tensors, names in the file; [`LoraKeys::find`] tells which is which.
    pub lora: Vec<String>,
    /// Names in the file that carry nothing of their own: a tied copy of another tensor, the pixel statistics.
    pub redundant: Vec<String>,
    /// Batch norms that are to be folded into the convolutions before them, by the scope of both: names in the file.
    pub norms: BTreeMap<String, FoldedNorm>,
    /// Names in the file outside of the model's prefix: another model, a loss, a metric.
    pub beside: Vec<String>,
}

/// A batch norm behind a convolution: names in the file of its four tensors, each `[outputs]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldedNorm {
    /// Multiplied by.
    pub weight: String,
    /// Added.
    pub bias: String,
    /// The mean that it subtracts.
    pub mean: String,
    /// The variance that it divides by.
    pub variance: String,
}

/// One of the two factors of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `[rank, inputs]`.
    A,
    /// `[outputs, rank]`.
    B,
}

/// An adapter of one matrix: `delta = B A`, times a scale that the file does not name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraPair {
    /// The encoder block, from 0.
    pub block: usize,
    /// The adapted matrix.
    pub target: Target,
    /// Name in the file of A, `[rank, inputs]`.
    pub a: String,
    /// Name in the file of B, `[outputs, rank]`.
    pub b: String,
    /// Rank of this adapter, at least 1.
    pub rank: usize,
    /// Columns of the adapted matrix.
    pub inputs: usize,
    /// Rows of the adapted matrix (of its third, for q, k and v).
    pub outputs: usize,
}

/// The adapters of a checkpoint and what else it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraKeys {
    /// Sorted by block, then target; no two of the same matrix.
    pub pairs: Vec<LoraPair>,
    /// All other tensors: the decoder of a SAMed file, the whole model of a wrapped one; empty for bare adapters.
    pub rest: Keys,
}

/// The extended name of an adapter's tensor, `image_encoder.blocks.{block}.{attn|mlp}.{target}.lora_{a|b}`.
pub fn lora_name(block: usize, target: Target, factor: Side) -> String {
    let part = if matches!(target, Target::Mlp1 | Target::Mlp2) { "mlp" } else { "attn" };
    let factor = if factor == Side::A { "a" } else { "b" };
    format!("image_encoder.blocks.{block}.{part}.{target}.lora_{factor}")
}

/// SAMed's name of an adapter's tensor; `None` for targets that SAMed does not have. It counts every block, so it is
/// right only if q and v of all blocks are adapted.
pub fn samed_name(block: usize, target: Target, factor: Side) -> Option<String> {
    let index = match target {
        Target::Query => 2 * block,
        Target::Value => 2 * block + 1,
        _ => return None,
    };
    Some(format!("w_{}_{index:03}", if factor == Side::A { "a" } else { "b" }))
}

/// Finds the canonical name of every tensor.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if no naming fits, with the model's name if it is a known other one;
/// [`ErrorKind::Format`] naming tensors that SAM does not have, or two tensors that would get the same name.
pub fn canonical<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Keys> {
    let names: Vec<&str> = names.into_iter().collect();
    let model = unwrapped(&names);
    let mut keys = Keys {
        naming: Naming::Sam,
        tensors: BTreeMap::new(),
        lora: Vec::new(),
        redundant: Vec::new(),
        norms: BTreeMap::new(),
        beside: names.iter().filter(|name| !name.starts_with(model.prefix)).map(|&name| name.to_owned()).collect(),
    };
    let mut rest = Vec::new(); // name, name without prefix
    for &(name, short) in &model.names {
        if lora_slot(short).is_some() {
            keys.lora.push(name.to_owned());
        } else if STATISTICS.contains(&short) || is_unused(short) {
            keys.redundant.push(name.to_owned());
        } else if let Some((scope, part)) = norm_part(short) {
            let norm = keys.norms.entry(scope.to_owned()).or_default();
            *part(norm) = name.to_owned();
        } else {
            rest.push((name, short));
        }
    }
    if model.fits == 0 {
        return Err(unknown_naming(&names));
    }
    let all: Vec<&str> = rest.iter().map(|(_, short)| *short).collect();
    let find = |naming| rest.iter().map(|(_, short)| names::find(naming, short, &all)).collect::<Vec<_>>();
    let fits = |found: &[Option<NameMatch>]| found.iter().flatten().count();
    let (sam, face) = (find(Naming::Sam), find(Naming::HuggingFace));
    let found = if fits(&sam) >= fits(&face) {
        if sam.iter().flatten().any(|found| found.wrapped) {
            keys.naming = Naming::Wrapped;
        }
        sam
    } else {
        keys.naming = Naming::HuggingFace;
        face
    };

    let mut unknown = Vec::new();
    let mut copies = Vec::new();
    for (&(name, _), found) in rest.iter().zip(found) {
        match found {
            None => unknown.push(name),
            Some(found) if found.copy => copies.push((name, found)),
            Some(found) => keys.insert(name, found)?,
        }
    }
    for (name, found) in copies {
        if keys.tensors.contains_key(&found.name) {
            keys.redundant.push(name.to_owned());
        } else {
            keys.insert(name, found)?;
        }
    }
    if !unknown.is_empty() {
        return Err(unknown_tensors(&unknown, &names));
    }
    for (scope, norm) in &keys.norms {
        let parts = [("weight", &norm.weight), ("bias", &norm.bias)];
        let statistics = [("running_mean", &norm.mean), ("running_var", &norm.variance)];
        if let Some((part, _)) = parts.into_iter().chain(statistics).find(|(_, name)| name.is_empty()) {
            let name = format!("{scope}.bn.{part}");
            return Err(Error::new(ErrorKind::NotFound, "is missing from the checkpoint").at(format!("tensor {name}")));
        }
        // The convolution itself has none: what it adds is the norm's.
        let bias = format!("{scope}.c.bias");
        if let Some(other) = keys.tensors.insert(bias.clone(), norm.bias.clone()) {
            let message = format!("{other} and {} are both {bias}", norm.bias);
            return Err(Error::new(ErrorKind::Format, message));
        }
    }
    Ok(keys)
}

/// One of a norm's names.
type NormPart = fn(&mut FoldedNorm) -> &mut String;

/// The scope of a batch norm behind a convolution of the table (`{scope}.c`, `{scope}.bn`), and which of its tensors `name` is.
fn norm_part(name: &str) -> Option<(&str, NormPart)> {
    let (scope, part) = name.rsplit_once(".bn.")?;
    let part: NormPart = match part {
        "weight" => |norm| &mut norm.weight,
        "bias" => |norm| &mut norm.bias,
        "running_mean" => |norm| &mut norm.mean,
        "running_var" => |norm| &mut norm.variance,
        _ => return None,
    };
    let convolution = names::named(&format!("{scope}.c.weight"))?;
    (convolution.role == TensorRole::Kernel).then_some((scope, part))
}

/// What MobileSAM's files have beside the model: TinyViT's classifier, the indices of its attention biases, and how often its batch
/// norms have been updated.
fn is_unused(name: &str) -> bool {
    const CLASSIFIER: [&str; 2] = ["image_encoder.norm_head.", "image_encoder.head."];
    CLASSIFIER.iter().any(|scope| name.starts_with(scope))
        || name.starts_with("image_encoder.") && name.ends_with(".attn.attention_bias_idxs")
        || name.strip_suffix(".num_batches_tracked").is_some_and(|norm| norm_part(&format!("{norm}.weight")).is_some())
}

/// How many of `names` are those of a SAM model or of an adapter for one, whichever naming and prefix they have: what
/// tells a state dict from other dicts of tensors.
pub fn fits(names: &[&str]) -> usize {
    unwrapped(names).fits
}

impl Keys {
    fn insert(&mut self, name: &str, found: NameMatch) -> Result<()> {
        let message = |other: &str| format!("{other} and {name} are both {}", found.name);
        if let Some(other) = self.tensors.get(&found.name) {
            return Err(Error::new(ErrorKind::Format, message(other)));
        }
        self.tensors.insert(found.name, name.to_owned());
        Ok(())
    }
}

impl LoraKeys {
    /// Recognises the adapters among `tensors`; `None` if there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor without its partner, with a wrong shape, or twice for one matrix; those of
    /// [`canonical`] for the other tensors; [`ErrorKind::Unsupported`] for adapters of the decoder (SAMed_s).
    pub fn find(tensors: &[TensorInfo]) -> Result<Option<Self>> {
        let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        let model = unwrapped(&names);
        let error =
            |name: &str, message: String| Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
        let mut found: BTreeMap<(usize, Target), [Option<&TensorInfo>; 2]> = BTreeMap::new();
        for tensor in tensors {
            let slot = tensor.name.strip_prefix(model.prefix).and_then(lora_slot);
            if let Some((block, target, factor)) = slot {
                let slot = &mut found.entry((block, target)).or_default()[usize::from(factor == Side::B)];
                if let Some(other) = slot.replace(tensor) {
                    return error(&tensor.name, format!("adapts {target} of block {block}, as {} does", other.name));
                }
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        let mut pairs = Vec::with_capacity(found.len());
        for ((block, target), factors) in found {
            match factors {
                [Some(a), Some(b)] => match (a.shape.as_slice(), b.shape.as_slice()) {
                    (&[rank, inputs], &[outputs, other]) if rank == other && rank > 0 && inputs > 0 && outputs > 0 => {
                        let (a, b) = (a.name.clone(), b.name.clone());
                        pairs.push(LoraPair { block, target, a, b, rank, inputs, outputs });
                    }
                    (found_a, found_b) => {
                        let message =
                            format!("A {found_a:?} and B {found_b:?} are not [rank, inputs] and [outputs, rank]");
                        return error(&a.name, message);
                    }
                },
                [one, other] => {
                    let name = one.or(other).map_or("", |t| t.name.as_str());
                    return error(name, format!("the other factor of {target} of block {block} is missing"));
                }
            }
        }
        Ok(Some(Self { pairs, rest: canonical(names)? }))
    }

    /// The rank that all adapters share; `None` if they differ.
    pub fn rank(&self) -> Option<usize> {
        let rank = self.pairs.first()?.rank;
        self.pairs.iter().all(|p| p.rank == rank).then_some(rank)
    }

    /// Blocks from 0 to the last adapted one. A caller should require the encoder's depth here: SAMed's numbering does
    /// not tell which blocks were left out.
    pub fn blocks(&self) -> usize {
        self.pairs.iter().map(|p| p.block + 1).max().unwrap_or(0)
    }

    /// The adapted matrices of any block, each once.
    pub fn targets(&self) -> Vec<Target> {
        Target::ALL.into_iter().filter(|t| self.pairs.iter().any(|p| p.target == *t)).collect()
    }
}

/// Block, matrix and factor of a LoRA tensor's name in any of its namings; `None` if it is something else.
fn lora_slot(name: &str) -> Option<(usize, Target, Side)> {
    let factor = |text: &str| match text {
        "a" => Some(Side::A),
        "b" => Some(Side::B),
        _ => None,
    };
    if let Some((letter, index)) = name.strip_prefix("w_").and_then(|rest| rest.split_once('_')) {
        // Three digits, or more above 999.
        let digits = index.len() >= 3 && index.bytes().all(|b| b.is_ascii_digit());
        let index = digits.then(|| index.trim_start_matches('0'))?;
        let index: usize = if index.is_empty() { 0 } else { number(index)? };
        return Some((index / 2, if index.is_multiple_of(2) { Target::Query } else { Target::Value }, factor(letter)?));
    }
    let (block, rest) = name.strip_prefix("image_encoder.blocks.")?.split_once('.')?;
    let block = number(block)?;
    if let Some(rest) = rest.strip_prefix("attn.qkv.linear_") {
        let (letter, target) = rest.strip_suffix(".weight")?.split_once('_')?;
        let target = Target::named(target).ok().filter(|t| matches!(t, Target::Query | Target::Key | Target::Value))?;
        return Some((block, target, factor(letter)?));
    }
    let (path, letter) = rest.split_once(".lora_")?;
    let target = Target::named(path.split_once('.')?.1).ok()?;
    let factor = factor(letter)?;
    (lora_name(block, target, factor) == name).then_some((block, target, factor))
}

/// Normalisation of pixels, which this crate keeps beside the weights.
const STATISTICS: [&str; 2] = ["pixel_mean", "pixel_std"];

/// A file's names without what a wrapper puts before every one of the model's.
struct Unwrapped<'a> {
    /// With the dot at its end; empty where names are plain.
    prefix: &'a str,
    /// How many names are a model's or an adapter's.
    fits: usize,
    /// All names with this prefix: whole, and without it.
    names: Vec<(&'a str, &'a str)>,
}

/// Finds the prefix under which most names are known. Of equally many the first one by name counts, but a moving
/// average (`ema.`, `teacher.`) after the model itself.
fn unwrapped<'a>(names: &[&'a str]) -> Unwrapped<'a> {
    let known = |short: &str, all: &[&str]| {
        let found = |naming| names::find(naming, short, all).is_some();
        lora_slot(short).is_some() || found(Naming::Sam) || found(Naming::HuggingFace)
    };
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for &name in names {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        if let Some(start) = starts.into_iter().find(|&start| known(&name[start..], names)) {
            *votes.entry(&name[..start]).or_default() += 1;
        }
    }
    let rank = |&(prefix, fits): &(&str, usize)| (fits, !prefix.contains("ema") && !prefix.contains("teacher"));
    let best = votes.into_iter().reduce(|best, other| if rank(&other) > rank(&best) { other } else { best });
    let (prefix, fits) = best.unwrap_or_default();
    let names = names.iter().filter_map(|&name| Some((name, name.strip_prefix(prefix)?))).collect();
    Unwrapped { prefix, fits, names }
}

fn unknown_naming(names: &[&str]) -> Error {
    if names.is_empty() {
        return Error::new(ErrorKind::Format, "the checkpoint holds no tensors");
    }
    foreign::identify(names).unwrap_or_else(|| {
        let message = format!("these names are no known naming of SAM's tensors: {}", listed(names));
        Error::new(ErrorKind::Unsupported, message)
            .remedy("known are segment-anything, Hugging Face's SamModel and SAMed")
    })
}

fn unknown_tensors(unknown: &[&str], names: &[&str]) -> Error {
    if unknown.iter().any(|n| ["sa_a_", "cti_", "cit_", "fati_"].iter().any(|p| n.starts_with(p))) {
        return Error::new(ErrorKind::Unsupported, format!("LoRA of the mask decoder (SAMed_s): {}", listed(unknown)))
            .remedy("use an adapter of the image encoder");
    }
    foreign::identify(names).unwrap_or_else(|| {
        Error::new(ErrorKind::Format, format!("tensors that SAM does not have: {}", listed(unknown)))
            .remedy("remove them, or check that this is a checkpoint of the first Segment Anything")
    })
}
