//! Which tensors a SAM checkpoint has, and what their shapes tell of the architecture.

use std::collections::BTreeMap;

use crate::config::{BACKBONES, SamConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::random::SplitMix;

/// The one tensor that is a buffer, not a parameter, in the reference (and is not counted as one).
pub const POSITIONAL_MATRIX: &str = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";

/// Every tensor of a model of `config`, in SAM's names and shapes and in the reference's order.
pub fn tensors(config: &SamConfig) -> Vec<(String, Vec<usize>)> {
    let mut all = Layout(Vec::new());
    image_encoder(&mut all, config);
    prompt_encoder(&mut all, config);
    mask_decoder(&mut all, config);
    all.0
}

/// Parameters of a model of `config`, counted as the reference counts them (93,735,472 for SAM's ViT-B).
pub fn parameter_count(config: &SamConfig) -> u64 {
    let count = |(name, shape): (String, Vec<usize>)| match name.as_str() {
        POSITIONAL_MATRIX => 0,
        _ => shape.iter().map(|&n| n as u64).product(),
    };
    tensors(config).into_iter().map(count).sum()
}

struct Layout(Vec<(String, Vec<usize>)>);

impl Layout {
    fn add(&mut self, name: String, shape: impl Into<Vec<usize>>) {
        self.0.push((name, shape.into()));
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        self.add(format!("{name}.weight"), [outputs, inputs]);
        self.add(format!("{name}.bias"), [outputs]);
    }

    fn norm(&mut self, name: &str, channels: usize) {
        self.add(format!("{name}.weight"), [channels]);
        self.add(format!("{name}.bias"), [channels]);
    }

    fn mlp(&mut self, name: &str, [input, hidden, output]: [usize; 3], depth: usize) {
        for i in 0..depth {
            let inputs = if i == 0 { input } else { hidden };
            let outputs = if i + 1 == depth { output } else { hidden };
            self.linear(&format!("{name}.layers.{i}"), inputs, outputs);
        }
    }
}

fn image_encoder(all: &mut Layout, c: &SamConfig) {
    let (dim, out, grid, patch) = (c.embed_dim, c.out_chans, c.pretrained_grid(), c.patch_size);
    all.add("image_encoder.pos_embed".into(), [1, grid, grid, dim]);
    all.add("image_encoder.patch_embed.proj.weight".into(), [dim, c.in_chans, patch, patch]);
    all.add("image_encoder.patch_embed.proj.bias".into(), [dim]);
    for i in 0..c.depth {
        let name = format!("image_encoder.blocks.{i}");
        let side = if c.global_attn_indexes.contains(&i) { grid } else { c.window_size };
        all.norm(&format!("{name}.norm1"), dim);
        all.add(format!("{name}.attn.rel_pos_h"), [2 * side - 1, c.head_dim()]);
        all.add(format!("{name}.attn.rel_pos_w"), [2 * side - 1, c.head_dim()]);
        all.linear(&format!("{name}.attn.qkv"), dim, 3 * dim);
        all.linear(&format!("{name}.attn.proj"), dim, dim);
        all.norm(&format!("{name}.norm2"), dim);
        all.linear(&format!("{name}.mlp.lin1"), dim, c.mlp_dim);
        all.linear(&format!("{name}.mlp.lin2"), c.mlp_dim, dim);
    }
    all.add("image_encoder.neck.0.weight".into(), [out, dim, 1, 1]);
    all.norm("image_encoder.neck.1", out);
    all.add("image_encoder.neck.2.weight".into(), [out, out, 3, 3]);
    all.norm("image_encoder.neck.3", out);
}

fn prompt_encoder(all: &mut Layout, c: &SamConfig) {
    let (out, mid) = (c.out_chans, c.mask_in_chans);
    all.add(POSITIONAL_MATRIX.into(), [2, out / 2]);
    for i in 0..4 {
        all.add(format!("prompt_encoder.point_embeddings.{i}.weight"), [1, out]);
    }
    all.add("prompt_encoder.not_a_point_embed.weight".into(), [1, out]);
    for (i, shape) in [(0, [mid / 4, 1, 2, 2]), (3, [mid, mid / 4, 2, 2]), (6, [out, mid, 1, 1])] {
        all.add(format!("prompt_encoder.mask_downscaling.{i}.weight"), shape);
        all.add(format!("prompt_encoder.mask_downscaling.{i}.bias"), [shape[0]]);
    }
    all.norm("prompt_encoder.mask_downscaling.1", mid / 4);
    all.norm("prompt_encoder.mask_downscaling.4", mid);
    all.add("prompt_encoder.no_mask_embed.weight".into(), [1, out]);
}

fn mask_decoder(all: &mut Layout, c: &SamConfig) {
    let out = c.out_chans;
    let transformer = "mask_decoder.transformer";
    let attention = |all: &mut Layout, name: String, inner: usize| {
        for part in ["q_proj", "k_proj", "v_proj"] {
            all.linear(&format!("{name}.{part}"), out, inner);
        }
        all.linear(&format!("{name}.out_proj"), inner, out);
    };
    for i in 0..c.decoder_depth {
        let name = format!("{transformer}.layers.{i}");
        attention(all, format!("{name}.self_attn"), out);
        attention(all, format!("{name}.cross_attn_token_to_image"), out / c.attention_downsample);
        attention(all, format!("{name}.cross_attn_image_to_token"), out / c.attention_downsample);
        all.linear(&format!("{name}.mlp.lin1"), out, c.decoder_mlp);
        all.linear(&format!("{name}.mlp.lin2"), c.decoder_mlp, out);
        for norm in 1..=4 {
            all.norm(&format!("{name}.norm{norm}"), out);
        }
    }
    attention(all, format!("{transformer}.final_attn_token_to_image"), out / c.attention_downsample);
    all.norm(&format!("{transformer}.norm_final_attn"), out);
    all.add("mask_decoder.iou_token.weight".into(), [1, out]);
    all.add("mask_decoder.mask_tokens.weight".into(), [c.mask_tokens, out]);
    all.add("mask_decoder.output_upscaling.0.weight".into(), [out, out / 4, 2, 2]);
    all.add("mask_decoder.output_upscaling.0.bias".into(), [out / 4]);
    all.norm("mask_decoder.output_upscaling.1", out / 4);
    all.add("mask_decoder.output_upscaling.3.weight".into(), [out / 4, out / 8, 2, 2]);
    all.add("mask_decoder.output_upscaling.3.bias".into(), [out / 8]);
    for i in 0..c.mask_tokens {
        all.mlp(&format!("mask_decoder.output_hypernetworks_mlps.{i}"), [out, out, out / 8], 3);
    }
    all.mlp("mask_decoder.iou_prediction_head", [out, c.iou_hidden, c.mask_tokens], c.iou_depth);
}

/// The architecture that the shapes of a checkpoint (SAM's names) belong to.
///
/// Two numbers do not show in shapes: the decoder's heads, and which blocks attend globally where window and image have
/// the same side. Both are taken from the known backbone of the same size; without one, 8 heads and all blocks.
///
/// # Errors
/// [`ErrorKind::NotFound`] naming the first tensor that is missing, [`ErrorKind::Format`] for shapes that cannot be.
pub fn recognize(shapes: &BTreeMap<String, Vec<usize>>) -> Result<SamConfig> {
    let axis = |name: &str, rank: usize, axis: usize| match shapes.get(name) {
        // No side of a real model comes near this, and the arithmetic below cannot overflow.
        Some(shape) if shape.iter().any(|&side| side > 1 << 20) => {
            Err(Error::new(ErrorKind::Format, format!("has the absurd shape {shape:?}")).at(format!("tensor {name}")))
        }
        Some(shape) if shape.len() == rank => Ok(shape[axis]),
        Some(shape) => Err(Error::new(ErrorKind::Format, format!("has shape {shape:?}, expected {rank} axes"))
            .at(format!("tensor {name}"))),
        None => Err(Error::new(ErrorKind::NotFound, "is missing from the checkpoint")
            .at(format!("tensor {name}"))
            .remedy("a whole SAM checkpoint is needed: image encoder, prompt encoder and mask decoder")),
    };
    let count =
        |before: &str, after: &str| (0..).take_while(|i| shapes.contains_key(&format!("{before}.{i}.{after}"))).count();
    let patch = "image_encoder.patch_embed.proj.weight";
    let (embed_dim, in_chans, patch_size) = (axis(patch, 4, 0)?, axis(patch, 4, 1)?, axis(patch, 4, 2)?);
    let grid = axis("image_encoder.pos_embed", 4, 1)?;
    let depth = count("image_encoder.blocks", "norm1.weight");
    let rel_pos = |i: usize, a: usize| axis(&format!("image_encoder.blocks.{i}.attn.rel_pos_h"), 2, a);
    let head_dim = rel_pos(0, 1)?;
    let lengths = (0..depth).map(|i| rel_pos(i, 0)).collect::<Result<Vec<_>>>()?;
    let shortest = lengths.iter().min().copied().unwrap_or(1);
    let out_chans = axis("image_encoder.neck.0.weight", 4, 0)?;
    let transformer = "mask_decoder.transformer";
    let inner = axis(&format!("{transformer}.final_attn_token_to_image.q_proj.weight"), 2, 0)?;
    let decoder_mlp = axis(&format!("{transformer}.layers.0.mlp.lin1.weight"), 2, 0)?;
    let mask_tokens = axis("mask_decoder.mask_tokens.weight", 2, 0)?;
    if head_dim == 0 || inner == 0 || patch_size == 0 || grid == 0 {
        return Err(Error::new(ErrorKind::Format, "a tensor of the checkpoint has an empty axis"));
    }

    let known = BACKBONES.iter().map(|b| b.config(mask_tokens));
    let same_encoder = known.clone().find(|k| {
        (k.embed_dim, k.depth, k.num_heads, 2 * k.window_size - 1) == (embed_dim, depth, embed_dim / head_dim, shortest)
    });
    let same_decoder = known.clone().find(|k| (k.out_chans, k.decoder_mlp) == (out_chans, decoder_mlp));
    let global_attn_indexes = match same_encoder {
        Some(known) if lengths.iter().all(|&l| l == shortest) => known.global_attn_indexes,
        _ => (0..depth).filter(|&i| lengths[i] == 2 * grid - 1).collect(),
    };
    let config = SamConfig {
        embed_dim,
        depth,
        num_heads: embed_dim / head_dim,
        mlp_dim: axis("image_encoder.blocks.0.mlp.lin1.weight", 2, 0)?,
        global_attn_indexes,
        window_size: shortest.div_ceil(2),
        patch_size,
        in_chans,
        out_chans,
        pretrained_size: grid * patch_size,
        decoder_depth: count(&format!("{transformer}.layers"), "norm1.weight"),
        decoder_heads: same_decoder.map_or(8, |k| k.decoder_heads),
        decoder_mlp,
        attention_downsample: out_chans / inner,
        iou_depth: count("mask_decoder.iou_prediction_head.layers", "weight"),
        iou_hidden: axis("mask_decoder.iou_prediction_head.layers.0.weight", 2, 0)?,
        mask_in_chans: axis("prompt_encoder.mask_downscaling.3.weight", 4, 0)?,
        mask_tokens,
    };
    config.check()?;
    Ok(config)
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
    let norm = name.contains("norm")
        || name.contains("neck.1.")
        || name.contains("neck.3.")
        || name.contains("output_upscaling.1.")
        || name.contains("downscaling.1.")
        || name.contains("downscaling.4.");
    let (centre, spread) = match shape {
        _ if norm && name.ends_with("weight") => (1.0, 0.1),
        [_] => (0.0, 0.02),
        _ if name == POSITIONAL_MATRIX => (0.0, 1.7),
        _ if name.contains("pos") || name.contains("token.") || name.contains("embed") && shape.len() == 2 => {
            (0.0, 0.2)
        }
        _ => (0.0, (3.0f32 / (count / shape[0]).max(1) as f32).sqrt()),
    };
    (0..count).map(|_| centre + spread * random.uniform()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backbone;

    #[test]
    fn published_backbones_have_their_published_size() {
        for (name, parameters) in [("vit_b", 93_735_472), ("vit_l", 312_342_832), ("vit_h", 641_090_608)] {
            let config = Backbone::named(name).expect("known").config(4);
            assert_eq!(parameter_count(&config), parameters, "{name}");
        }
    }

    #[test]
    fn every_backbone_is_recognized_from_its_shapes() {
        for backbone in BACKBONES {
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
}
