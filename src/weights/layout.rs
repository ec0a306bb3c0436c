//! Which tensors a SAM checkpoint has, and what their shapes tell of the architecture: what the table of names
//! ([`names`]) says, for a whole model at once.

use std::collections::BTreeMap;

use crate::config::{BACKBONES, Backbone, EncoderKind, SamConfig, TinyVit, TinyVitStage};
use crate::error::{Error, ErrorKind, Result};
use crate::names::{self, Number, Size, TableNode, TensorRole};
use crate::random::SplitMix;

/// Every tensor of a model of `config`, in SAM's names and shapes and in the reference's order.
pub fn tensors(config: &SamConfig) -> Vec<(String, Vec<usize>)> {
    names::parameters(config).into_iter().map(|parameter| (parameter.name, parameter.shape)).collect()
}

/// [`tensors`] of prompt encoder and mask decoder, which are trained together with an adapter.
pub fn heads(config: &SamConfig) -> Vec<(String, Vec<usize>)> {
    let heads = names::parameters(config).into_iter().filter(|parameter| !parameter.part.in_encoder());
    heads.map(|parameter| (parameter.name, parameter.shape)).collect()
}

/// Parameters of a model of `config`, counted as the reference counts them (93,735,472 for SAM's ViT-B).
pub fn parameter_count(config: &SamConfig) -> u64 {
    let counted = names::parameters(config).into_iter().filter(|parameter| parameter.role != TensorRole::Frequencies);
    counted.map(|parameter| parameter.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
}

/// The architecture that the shapes of a checkpoint (SAM's names) belong to: each number is read from the first tensor
/// of the table that has it as a side, or from how often a part is repeated.
///
/// Two numbers do not show in shapes: the decoder's heads, and which blocks attend globally where window and image have
/// the same side. Both are taken from the known backbone of the same size; without one, 8 heads and all blocks.
///
/// # Errors
/// [`ErrorKind::NotFound`] naming the first tensor that is missing, [`ErrorKind::Format`] for shapes that cannot be.
pub fn recognize(shapes: &BTreeMap<String, Vec<usize>>) -> Result<SamConfig> {
    let told = names::MODELS.iter().map(|table| Told::read(table, shapes)).collect::<Result<Vec<_>>>()?;
    // Of equally many the first, SAM's.
    let told = told.into_iter().reduce(|best, other| if other.matched > best.matched { other } else { best });
    let told = told.ok_or_else(|| Error::new(ErrorKind::NotFound, "the checkpoint holds no tensors"))?;
    let number = |number| told.number(number);
    let (out_chans, inner) = (number(Number::OutChans)?, number(Number::CrossAttention)?);
    let (decoder_mlp, mask_tokens) = (number(Number::DecoderMlp)?, number(Number::MaskTokens)?);
    if inner == 0 {
        return Err(empty_axis());
    }
    let mut known = Backbone::known().map(|b| b.config(mask_tokens));
    let same_decoder = known.find(|k| (k.out_chans, k.decoder_mlp) == (out_chans, decoder_mlp));
    let config = SamConfig {
        in_chans: number(Number::InChans)?,
        out_chans,
        decoder_depth: number(Number::DecoderDepth)?,
        decoder_heads: same_decoder.map_or(8, |k| k.decoder_heads),
        decoder_mlp,
        attention_downsample: out_chans / inner,
        iou_depth: number(Number::IouDepth)?,
        // A head of one layer has no hidden channels.
        iou_hidden: told.numbers.get(&Number::IouHidden).copied().unwrap_or(mask_tokens),
        mask_in_chans: number(Number::MaskInChans)?,
        mask_tokens,
        ..told.encoder(mask_tokens)?
    };
    config.check()?;
    Ok(config)
}

fn empty_axis() -> Error {
    Error::new(ErrorKind::Format, "a tensor of the checkpoint has an empty axis")
}

/// What the shapes of a checkpoint tell, read by one table.
struct Told {
    table: &'static [TableNode],
    /// Tensors of the table that the checkpoint has.
    matched: usize,
    numbers: BTreeMap<Number, usize>,
    /// Lengths of relative positions, by encoder block.
    positions: BTreeMap<usize, usize>,
    /// The table, with the repetitions of the checkpoint.
    entries: Vec<names::TableEntry>,
}

impl Told {
    fn read(table: &'static [TableNode], shapes: &BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let (mut matched, mut numbers, mut repeats) = (0, BTreeMap::new(), Vec::new());
        let mut count = |name: &str, size: Size| {
            let held = |i: &usize| {
                let scope = format!("{name}.{i}.");
                shapes.range(scope.clone()..).next().is_some_and(|(name, _)| name.starts_with(&scope))
            };
            // One at least, so that what is missing has a name.
            let count = (0..names::MAX_REPEATS).take_while(held).count().max(1);
            if let Size::Of(number) = size {
                repeats.push((number, count));
            }
            count
        };
        let entries = names::entries(table, &mut count);
        let mut positions = BTreeMap::new();
        for entry in &entries {
            let Some(shape) = shapes.get(&entry.name) else { continue };
            matched += 1;
            let error =
                |message: String| Err(Error::new(ErrorKind::Format, message).at(format!("tensor {}", entry.name)));
            // No side of a real model comes near this, and the arithmetic with them cannot overflow.
            if shape.iter().any(|&side| side > 1 << 20) {
                return error(format!("has the absurd shape {shape:?}"));
            }
            if shape.len() != entry.shape.len() {
                return error(format!("has shape {shape:?}, expected {} axes", entry.shape.len()));
            }
            for (size, &length) in entry.shape.iter().zip(shape) {
                match size {
                    Size::Of(number) => drop(numbers.entry(*number).or_insert(length)),
                    Size::RelativePositions => drop(positions.entry(entry.index).or_insert(length)),
                    Size::Is(_) | Size::Times(..) | Size::Over(..) | Size::Lite(_) => {}
                }
            }
        }
        for (number, count) in repeats {
            numbers.entry(number).or_insert(count);
        }
        Ok(Self { table, matched, numbers, positions, entries })
    }

    /// The numbers of the image encoder; those of the decoder are any.
    fn encoder(&self, mask_tokens: usize) -> Result<SamConfig> {
        match self.table {
            names::MOBILE_SAM => self.tiny_vit(),
            names::LITE_SAM => Ok(Backbone::named("lite0")?.config(mask_tokens)),
            _ => self.vit(mask_tokens),
        }
    }

    /// Those of a ViT.
    fn vit(&self, mask_tokens: usize) -> Result<SamConfig> {
        let number = |number| self.number(number);
        let (embed_dim, depth, head_dim) =
            (number(Number::EmbedDim)?, number(Number::Depth)?, number(Number::HeadDim)?);
        let (patch_size, grid) = (number(Number::PatchSize)?, number(Number::Grid)?);
        let positions = (0..depth).map(|block| self.positions(block)).collect::<Result<Vec<_>>>()?;
        let shortest = positions.iter().min().copied().unwrap_or(1);
        if head_dim == 0 || patch_size == 0 || grid == 0 {
            return Err(empty_axis());
        }
        let mut known = Backbone::known().map(|b| b.config(mask_tokens));
        let same_encoder = known.find(|k| {
            (k.embed_dim, k.depth, k.num_heads, 2 * k.window_size - 1)
                == (embed_dim, depth, embed_dim / head_dim, shortest)
        });
        let global_attn_indexes = match same_encoder {
            Some(known) if positions.iter().all(|&length| length == shortest) => known.global_attn_indexes,
            _ => (0..depth).filter(|&i| positions[i] == 2 * grid - 1).collect(),
        };
        Ok(SamConfig {
            embed_dim,
            depth,
            num_heads: embed_dim / head_dim,
            mlp_dim: number(Number::MlpDim)?,
            global_attn_indexes,
            window_size: shortest.div_ceil(2),
            patch_size,
            pretrained_size: grid * patch_size,
            ..BACKBONES[0].config(mask_tokens)
        })
    }

    /// Those of a TinyViT.
    fn tiny_vit(&self) -> Result<SamConfig> {
        let number = |number| self.number(number);
        let stage = |stage: usize| -> Result<TinyVitStage> {
            Ok(TinyVitStage {
                dim: number(Number::StageDim(stage))?,
                blocks: number(Number::StageBlocks(stage))?,
                heads: number(Number::StageHeads(stage))?,
                window: number(Number::StageOffsets(stage))?.isqrt(),
            })
        };
        let stages = [stage(0)?, stage(1)?, stage(2)?];
        let sizes = TinyVit { stem_dim: number(Number::Stem)?, stem_blocks: number(Number::StemBlocks)?, stages };
        Ok(SamConfig {
            embed_dim: stages[2].dim,
            depth: sizes.blocks(),
            num_heads: stages[2].heads,
            mlp_dim: 4 * stages[2].dim,
            window_size: stages[2].window,
            global_attn_indexes: Vec::new(),
            encoder: EncoderKind::TinyVit(sizes),
            ..BACKBONES[0].config(1)
        })
    }

    fn number(&self, number: Number) -> Result<usize> {
        let tells = |entry: &&names::TableEntry| entry.shape.contains(&Size::Of(number));
        self.numbers.get(&number).copied().ok_or_else(|| self.missing(tells))
    }

    fn positions(&self, block: usize) -> Result<usize> {
        let tells = |entry: &&names::TableEntry| entry.index == block && entry.shape.contains(&Size::RelativePositions);
        self.positions.get(&block).copied().ok_or_else(|| self.missing(tells))
    }

    fn missing(&self, tells: impl Fn(&&names::TableEntry) -> bool) -> Error {
        let name = self.entries.iter().find(tells).map_or("", |entry| entry.name.as_str());
        Error::new(ErrorKind::NotFound, "is missing from the checkpoint")
            .at(format!("tensor {name}"))
            .remedy("a whole SAM checkpoint is needed: image encoder, prompt encoder and mask decoder")
    }
}

/// Checks that a checkpoint has exactly the tensors of `config`.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a missing, [`ErrorKind::Format`] for a misshapen or extra tensor, naming it.
pub fn check(config: &SamConfig, shapes: &BTreeMap<String, Vec<usize>>) -> Result<()> {
    compare(tensors(config), shapes)
}

/// [`check`] for any set of tensors.
pub(super) fn compare(expected: Vec<(String, Vec<usize>)>, shapes: &BTreeMap<String, Vec<usize>>) -> Result<()> {
    let expected: BTreeMap<_, _> = expected.into_iter().collect();
    for (name, shape) in &expected {
        let error = match shapes.get(name) {
            Some(found) if found == shape => continue,
            Some(found) => Error::new(ErrorKind::Format, format!("has shape {found:?}, expected {shape:?}")),
            None => Error::new(ErrorKind::NotFound, "is missing from the checkpoint"),
        };
        return Err(error.at(format!("tensor {name}")));
    }
    match shapes.keys().find(|name| !expected.contains_key(*name)) {
        Some(name) => Err(Error::new(ErrorKind::Format, "does not belong to a SAM model").at(format!("tensor {name}"))),
        None => Ok(()),
    }
}

/// Random values for one tensor, the same for the same seed and name everywhere: norms near 1, biases and positions
/// small, matrices scaled by their inputs so that signals keep their size through the depth.
pub fn random(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let key = name.bytes().fold(seed ^ 0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mut random = SplitMix(key);
    let count: usize = shape.iter().product();
    let (centre, spread) = match names::named(name).map(|found| found.role) {
        Some(TensorRole::NormScale) => (1.0, 0.1),
        Some(TensorRole::Bias | TensorRole::NormBias) => (0.0, 0.02),
        Some(TensorRole::Frequencies) => (0.0, 1.7),
        Some(TensorRole::Positions | TensorRole::RelativePositions | TensorRole::Embedding) => (0.0, 0.2),
        Some(TensorRole::Matrix | TensorRole::Kernel | TensorRole::MaskTokens) | None => {
            (0.0, (3.0f32 / (count / shape[0]).max(1) as f32).sqrt())
        }
    };
    (0..count).map(|_| centre + spread * random.uniform()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backbone;

    #[test]
    fn published_backbones_have_their_published_size() {
        let sam = [("vit_b", 93_735_472), ("vit_l", 312_342_832), ("vit_h", 641_090_608)];
        for (name, parameters) in sam.into_iter().chain([("slimsam_77", 9_723_528), ("slimsam_50", 27_961_776)]) {
            let config = Backbone::named(name).expect("known").config(4);
            assert_eq!(parameter_count(&config), parameters, "{name}");
        }
    }

    #[test]
    fn every_backbone_is_recognized_from_its_shapes() {
        for backbone in Backbone::known() {
            for mask_tokens in [2, 4, 9] {
                let config = backbone.config(mask_tokens);
                let mut shapes: BTreeMap<_, _> = tensors(&config).into_iter().collect();
                assert_eq!(recognize(&shapes).expect("recognized"), config, "{}", backbone.name);
                check(&config, &shapes).expect("complete");
                let removed = shapes.remove("mask_decoder.iou_token.weight");
                assert!(removed.is_some() && check(&config, &shapes).is_err());
            }
        }
    }

    #[test]
    fn a_number_that_no_tensor_tells_names_one_that_would() {
        let config = Backbone::named("tiny").expect("known").config(4);
        for name in ["image_encoder.neck.0.weight", "image_encoder.blocks.2.attn.rel_pos_w"] {
            let scope = name.rsplit_once('.').map_or(name, |(scope, _)| scope);
            let mut shapes: BTreeMap<_, _> = tensors(&config).into_iter().collect();
            shapes.retain(|other, _| !other.starts_with(scope));
            let error = recognize(&shapes).and_then(|config| check(&config, &shapes)).expect_err("incomplete");
            assert!(error.to_string().contains(scope) && error.kind() == ErrorKind::NotFound, "{error}");
        }
        let error = recognize(&BTreeMap::new()).expect_err("empty").to_string();
        assert!(error.contains("is missing from the checkpoint"), "{error}");
    }
}
