//! Tensor names: one table from other projects' names to SAM's own, and the naming of LoRA tensors.
//!
//! Canonical are the names of `facebookresearch/segment-anything`'s state dict, for example
//! `image_encoder.blocks.0.attn.qkv.weight`. Read as well, with or without wrappers' prefixes (`module.`, `sam.`,
//! `model.`):
//!
//! | naming | example | where |
//! |---|---|---|
//! | Hugging Face | `vision_encoder.layers.0.attn.qkv.weight` | `transformers`, `SamModel` |
//! | wrapped | `sam.image_encoder.blocks.0.attn.qkv.qkv.weight` | SAMed's module saved whole, ArcGIS SamLoRA |
//!
//! A LoRA tensor A is `[rank, inputs]` and B is `[outputs, rank]`; the adapted matrix is `W + scale * B A`. Their names:
//!
//! | naming | A of q in block 3 | where |
//! |---|---|---|
//! | extended | `image_encoder.blocks.3.attn.q.lora_a` | this crate; targets of [`Target`] |
//! | SAMed | `w_a_006` | SAMed: adapters counted over blocks, q (even) before v (odd); a subset of blocks is not told |
//! | wrapped | `image_encoder.blocks.3.attn.qkv.linear_a_q.weight` | as above |

use std::collections::BTreeMap;

use super::layout::POSITIONAL_MATRIX;
use super::source::TensorInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::lora::Target;

/// Whose names a checkpoint uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// SAM's own, which are this crate's.
    Sam,
    /// `transformers`' `SamModel`.
    HuggingFace,
    /// SAM's, with the fused qkv inside a LoRA module (`attn.qkv.qkv.weight`).
    Wrapped,
}

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
/// [`ErrorKind::Unsupported`] if no naming fits, [`ErrorKind::Format`] naming tensors that SAM does not have, or two
/// tensors that would get the same name.
pub fn canonical<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Keys> {
    let names: Vec<&str> = names.into_iter().collect();
    let short = unwrap_prefixes(&names);
    let mut keys = Keys { naming: Naming::Sam, tensors: BTreeMap::new(), lora: Vec::new(), redundant: Vec::new() };

    let mut rest = Vec::new(); // name, name without prefix
    for (&name, short) in names.iter().zip(short) {
        if lora_slot(short).is_some() {
            keys.lora.push(name.to_owned());
        } else if matches!(short, "pixel_mean" | "pixel_std") {
            keys.redundant.push(name.to_owned());
        } else {
            rest.push((name, short));
        }
    }
    let fits = |rename: Rename| rest.iter().filter(|(_, short)| rename(short, &rest).is_some()).count();
    let (sam, face) = (fits(sam_name), fits(hugging_face_name));
    let rename = if sam >= face { sam_name } else { hugging_face_name };
    if sam < face {
        keys.naming = Naming::HuggingFace;
    } else if rest.iter().any(|(_, short)| short.contains(".attn.qkv.qkv.")) {
        keys.naming = Naming::Wrapped;
    }
    if sam.max(face) == 0 && keys.lora.is_empty() {
        return Err(unknown_naming(&names));
    }

    let mut unknown = Vec::new();
    for &(name, short) in &rest {
        match rename(short, &rest) {
            None => unknown.push(name),
            Some(_) if short == TIED && rest.iter().any(|(_, s)| *s == TIED_TO) => keys.redundant.push(name.to_owned()),
            Some(own) => {
                if let Some(other) = keys.tensors.insert(own.clone(), name.to_owned()) {
                    return Err(Error::new(ErrorKind::Format, format!("{other} and {name} are both {own}")));
                }
            }
        }
    }
    if unknown.is_empty() { Ok(keys) } else { Err(unknown_tensors(&unknown)) }
}

impl LoraKeys {
    /// Recognises the adapters among `tensors`; `None` if there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor without its partner, with a wrong shape, or twice for one matrix; those of
    /// [`canonical`] for the other tensors; [`ErrorKind::Unsupported`] for adapters of the decoder (SAMed_s).
    pub fn find(tensors: &[TensorInfo]) -> Result<Option<Self>> {
        let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
        let short = unwrap_prefixes(&names);
        let error =
            |name: &str, message: String| Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
        let mut found: BTreeMap<(usize, Target), [Option<&TensorInfo>; 2]> = BTreeMap::new();
        for (tensor, short) in tensors.iter().zip(short) {
            if let Some((block, target, factor)) = lora_slot(short) {
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
        let index = (index.len() >= 3).then(|| index.trim_start_matches('0')).filter(|_| digits(index))?;
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

/// SAM's name of a tensor, given its name and all names (each whole, and without wrappers' prefixes).
type Rename = fn(&str, &[(&str, &str)]) -> Option<String>;

/// SAM's name of one tensor that carries it already, or carries it behind a wrapped qkv.
fn sam_name(name: &str, _all: &[(&str, &str)]) -> Option<String> {
    let name = name.replacen(".attn.qkv.qkv.", ".attn.qkv.", 1);
    TABLE.iter().any(|(sam, _)| captures(sam, &name).is_some()).then_some(name)
}

/// SAM's name of one of `SamModel`'s tensors.
fn hugging_face_name(name: &str, all: &[(&str, &str)]) -> Option<String> {
    let (sam, found) = TABLE.iter().find_map(|(sam, face)| Some((sam, captures(face, name)?)))?;
    let mut found = found.into_iter();
    let mut segments = Vec::new();
    for segment in sam.split('.') {
        segments.push(match segment {
            "{n}" | "{attn}" | "{proj}" | "*" => found.next()?.to_owned(),
            "{n+1}" => (number(found.next()?)? + 1).to_string(),
            "{last}" => {
                // `proj_in` is layer 0, `layers.N` are 1 and up, `proj_out` comes after them.
                let inner = format!("{}layers.", name.split_once("proj_out")?.0);
                let inner = all.iter().filter(|(_, s)| s.starts_with(&inner) && s.ends_with(".weight")).count();
                (inner + 1).to_string()
            }
            literal => literal.to_owned(),
        });
    }
    Some(segments.join("."))
}

/// What the placeholders of `pattern` (see [`TABLE`]) stand for in `name`; `None` if it does not match.
fn captures<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let (mut found, mut segments) = (Vec::new(), name.split('.'));
    for expected in pattern.split('.') {
        let segment = segments.next()?;
        match expected {
            "*" if matches!(segment, "weight" | "bias") => found.push(segment),
            "{proj}" if matches!(segment, "q_proj" | "k_proj" | "v_proj" | "out_proj") => found.push(segment),
            "{attn}" if ATTENTIONS.contains(&segment) => found.push(segment),
            "{n}" | "{n+1}" | "{last}" if number(segment).is_some() => found.push(segment),
            _ if expected == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(found)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A decimal number of at most four digits without leading zeros.
fn number(text: &str) -> Option<usize> {
    let plain = digits(text) && text.len() <= 4 && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The names without the prefixes that wrappers put before every one of them.
fn unwrap_prefixes<'a>(names: &[&'a str]) -> Vec<&'a str> {
    const PREFIXES: [&str; 5] = ["module.", "sam.", "model.", "_orig_mod.", "net."];
    let mut short = names.to_vec();
    while !short.is_empty() {
        let shared = PREFIXES.into_iter().find(|p| short.iter().all(|name| name.starts_with(p)));
        let Some(prefix) = shared else { break };
        short.iter_mut().for_each(|name| *name = name.strip_prefix(prefix).unwrap_or(name));
    }
    short
}

fn listed(names: &[&str]) -> String {
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    format!("{}{more}", names.iter().take(3).copied().collect::<Vec<_>>().join(", "))
}

fn unknown_naming(names: &[&str]) -> Error {
    let error = |what: &str| Error::new(ErrorKind::Unsupported, format!("{what}: {}", listed(names)));
    if names.is_empty() {
        return Error::new(ErrorKind::Format, "the checkpoint holds no tensors");
    }
    if names.iter().any(|n| n.contains("image_encoder.trunk.") || n.contains("vision_encoder.backbone.")) {
        return error("these are the tensors of SAM 2").remedy("use a checkpoint of the first Segment Anything");
    }
    error("these names are no known naming of SAM's tensors")
        .remedy("known are segment-anything, Hugging Face's SamModel and SAMed")
}

fn unknown_tensors(unknown: &[&str]) -> Error {
    if unknown.iter().any(|n| ["sa_a_", "cti_", "cit_", "fati_"].iter().any(|p| n.starts_with(p))) {
        return Error::new(ErrorKind::Unsupported, format!("LoRA of the mask decoder (SAMed_s): {}", listed(unknown)))
            .remedy("use an adapter of the image encoder");
    }
    Error::new(ErrorKind::Format, format!("tensors that SAM does not have: {}", listed(unknown)))
        .remedy("remove them, or check that this is a checkpoint of the first Segment Anything")
}

/// `SamModel` saves the prompt encoder's positional matrix twice.
const TIED: &str = "prompt_encoder.shared_embedding.positional_embedding";
const TIED_TO: &str = "shared_image_embedding.positional_embedding";

/// The attentions of a decoder layer.
const ATTENTIONS: [&str; 3] = ["self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"];

/// SAM's names beside `transformers`' (`modeling_sam.py`, `convert_sam_to_hf.py`), top-down. `{n}` stands for a number,
/// `*` for `weight` or `bias`, `{attn}` for one of [`ATTENTIONS`], `{proj}` for a projection of it; `{n+1}` and
/// `{last}` number a feed-forward's layers as SAM does.
const TABLE: &[(&str, &str)] = &[
    ("image_encoder.pos_embed", "vision_encoder.pos_embed"),
    ("image_encoder.patch_embed.proj.*", "vision_encoder.patch_embed.projection.*"),
    ("image_encoder.blocks.{n}.norm1.*", "vision_encoder.layers.{n}.layer_norm1.*"),
    ("image_encoder.blocks.{n}.attn.rel_pos_h", "vision_encoder.layers.{n}.attn.rel_pos_h"),
    ("image_encoder.blocks.{n}.attn.rel_pos_w", "vision_encoder.layers.{n}.attn.rel_pos_w"),
    ("image_encoder.blocks.{n}.attn.qkv.*", "vision_encoder.layers.{n}.attn.qkv.*"),
    ("image_encoder.blocks.{n}.attn.proj.*", "vision_encoder.layers.{n}.attn.proj.*"),
    ("image_encoder.blocks.{n}.norm2.*", "vision_encoder.layers.{n}.layer_norm2.*"),
    ("image_encoder.blocks.{n}.mlp.lin1.*", "vision_encoder.layers.{n}.mlp.lin1.*"),
    ("image_encoder.blocks.{n}.mlp.lin2.*", "vision_encoder.layers.{n}.mlp.lin2.*"),
    ("image_encoder.neck.0.weight", "vision_encoder.neck.conv1.weight"),
    ("image_encoder.neck.1.*", "vision_encoder.neck.layer_norm1.*"),
    ("image_encoder.neck.2.weight", "vision_encoder.neck.conv2.weight"),
    ("image_encoder.neck.3.*", "vision_encoder.neck.layer_norm2.*"),
    (POSITIONAL_MATRIX, TIED_TO),
    (POSITIONAL_MATRIX, TIED),
    ("prompt_encoder.point_embeddings.{n}.weight", "prompt_encoder.point_embed.{n}.weight"),
    ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ("prompt_encoder.mask_downscaling.0.*", "prompt_encoder.mask_embed.conv1.*"),
    ("prompt_encoder.mask_downscaling.1.*", "prompt_encoder.mask_embed.layer_norm1.*"),
    ("prompt_encoder.mask_downscaling.3.*", "prompt_encoder.mask_embed.conv2.*"),
    ("prompt_encoder.mask_downscaling.4.*", "prompt_encoder.mask_embed.layer_norm2.*"),
    ("prompt_encoder.mask_downscaling.6.*", "prompt_encoder.mask_embed.conv3.*"),
    ("mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
    ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.transformer.layers.{n}.{attn}.{proj}.*", "mask_decoder.transformer.layers.{n}.{attn}.{proj}.*"),
    ("mask_decoder.transformer.layers.{n}.norm1.*", "mask_decoder.transformer.layers.{n}.layer_norm1.*"),
    ("mask_decoder.transformer.layers.{n}.norm2.*", "mask_decoder.transformer.layers.{n}.layer_norm2.*"),
    ("mask_decoder.transformer.layers.{n}.norm3.*", "mask_decoder.transformer.layers.{n}.layer_norm3.*"),
    ("mask_decoder.transformer.layers.{n}.norm4.*", "mask_decoder.transformer.layers.{n}.layer_norm4.*"),
    ("mask_decoder.transformer.layers.{n}.mlp.lin1.*", "mask_decoder.transformer.layers.{n}.mlp.lin1.*"),
    ("mask_decoder.transformer.layers.{n}.mlp.lin2.*", "mask_decoder.transformer.layers.{n}.mlp.lin2.*"),
    (
        "mask_decoder.transformer.final_attn_token_to_image.{proj}.*",
        "mask_decoder.transformer.final_attn_token_to_image.{proj}.*",
    ),
    ("mask_decoder.transformer.norm_final_attn.*", "mask_decoder.transformer.layer_norm_final_attn.*"),
    ("mask_decoder.output_upscaling.0.*", "mask_decoder.upscale_conv1.*"),
    ("mask_decoder.output_upscaling.1.*", "mask_decoder.upscale_layer_norm.*"),
    ("mask_decoder.output_upscaling.3.*", "mask_decoder.upscale_conv2.*"),
    ("mask_decoder.output_hypernetworks_mlps.{n}.layers.0.*", "mask_decoder.output_hypernetworks_mlps.{n}.proj_in.*"),
    (
        "mask_decoder.output_hypernetworks_mlps.{n}.layers.{n+1}.*",
        "mask_decoder.output_hypernetworks_mlps.{n}.layers.{n}.*",
    ),
    (
        "mask_decoder.output_hypernetworks_mlps.{n}.layers.{last}.*",
        "mask_decoder.output_hypernetworks_mlps.{n}.proj_out.*",
    ),
    ("mask_decoder.iou_prediction_head.layers.0.*", "mask_decoder.iou_prediction_head.proj_in.*"),
    ("mask_decoder.iou_prediction_head.layers.{n+1}.*", "mask_decoder.iou_prediction_head.layers.{n}.*"),
    ("mask_decoder.iou_prediction_head.layers.{last}.*", "mask_decoder.iou_prediction_head.proj_out.*"),
];
