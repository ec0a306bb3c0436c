//! SAM's names of a model's parameters, in the order in which burn's modules visit them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::keys::{Side, lora_name};
use super::layout::POSITIONAL_MATRIX;
use crate::config::SamConfig;
use crate::lora::Target;
use crate::model::Sam;

/// A parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// SAM's name, or [`lora_name`]'s of an attached adapter. Adapters of the decoder, of which a checkpoint knows nothing,
    /// are called `{layer}.lora_a` and `{layer}.lora_b`.
    pub name: String,
    /// SAM's shape.
    pub shape: Vec<usize>,
}

/// Every parameter of `sam`, attached adapters included, in visiting order.
pub fn parameters(sam: &Sam, config: &SamConfig) -> Vec<Named> {
    let mut visitor = Names { path: Vec::new(), found: Vec::new() };
    sam.visit(&mut visitor);
    let mut found = visitor.found;
    // An adapter's place on its layer tells which it is.
    for parameter in &mut found {
        let Some((layer, rest)) = parameter.name.split_once(".adapters.") else { continue };
        let (index, side) = rest.split_once('.').unwrap_or((rest, ""));
        let side = if side == "a" { Side::A } else { Side::B };
        parameter.name = match index.parse().ok().and_then(|index| target(sam, config, layer, index)) {
            Some((block, target)) => lora_name(block, target, side),
            None => format!("{layer}.lora_{}", if side == Side::A { "a" } else { "b" }),
        };
    }
    found
}

/// The block and matrix that adapter `index` of an encoder's layer adds to.
fn target(sam: &Sam, config: &SamConfig, layer: &str, index: usize) -> Option<(usize, Target)> {
    let (block, part) = layer.strip_prefix("image_encoder.blocks.")?.split_once('.')?;
    let block: usize = block.parse().ok()?;
    let target = match part {
        "attn.qkv" => {
            let start = sam.image_encoder.blocks.get(block)?.attn.qkv.adapters.get(index)?.start;
            [Target::Query, Target::Key, Target::Value].into_iter().find(|t| t.extent(config).2 == start)?
        }
        "attn.proj" => Target::Projection,
        "mlp.lin1" => Target::Mlp1,
        "mlp.lin2" => Target::Mlp2,
        _ => return None,
    };
    Some((block, target))
}

struct Names {
    path: Vec<String>,
    found: Vec<Named>,
}

/// Whether a step of a module's path is none of SAM's: the form that a weight is stored in, and the layer that adapters are beside.
fn is_storage(name: &str, container: &str) -> bool {
    container == "Enum:Matrix" || container == "Struct:Adapted" && name == "linear"
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        if !is_storage(name, container) {
            self.path.push(name.to_owned());
        }
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        if !is_storage(name, container) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(Named { name: sam_name(&self.path.join(".")), shape: param.dims().to_vec() });
    }
}

/// The module's paths that differ from SAM's names: start, end (or all of it), and SAM's.
const DIFFERENT: [(&str, &str); 18] = [
    ("image_encoder.patch_embed_weight", "image_encoder.patch_embed.proj.weight"),
    ("image_encoder.patch_embed_bias", "image_encoder.patch_embed.proj.bias"),
    ("image_encoder.neck.conv1", "image_encoder.neck.0.weight"),
    ("image_encoder.neck.norm1.", "image_encoder.neck.1."),
    ("image_encoder.neck.conv2", "image_encoder.neck.2.weight"),
    ("image_encoder.neck.norm2.", "image_encoder.neck.3."),
    ("prompt_encoder.gaussian_matrix", POSITIONAL_MATRIX),
    ("prompt_encoder.not_a_point_embed", "prompt_encoder.not_a_point_embed.weight"),
    ("prompt_encoder.no_mask_embed", "prompt_encoder.no_mask_embed.weight"),
    ("prompt_encoder.mask_downscaling.norms.0.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_downscaling.norms.1.", "prompt_encoder.mask_downscaling.4."),
    ("mask_decoder.iou_token", "mask_decoder.iou_token.weight"),
    ("mask_decoder.mask_tokens", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.output_upscaling.conv1", "mask_decoder.output_upscaling.0.weight"),
    ("mask_decoder.output_upscaling.bias1", "mask_decoder.output_upscaling.0.bias"),
    ("mask_decoder.output_upscaling.norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.output_upscaling.conv2", "mask_decoder.output_upscaling.3.weight"),
    ("mask_decoder.output_upscaling.bias2", "mask_decoder.output_upscaling.3.bias"),
];

fn sam_name(path: &str) -> String {
    for (ours, sams) in DIFFERENT {
        if let Some(rest) = path.strip_prefix(ours) {
            return format!("{sams}{rest}");
        }
    }
    if path.starts_with("prompt_encoder.point_embeddings.") {
        return format!("{path}.weight");
    }
    // `mask_downscaling` is a torch.nn.Sequential of convolution, norm, activation, convolution, norm, activation, convolution
    for (list, part) in [("convolutions", "weight"), ("biases", "bias")] {
        let index = path.strip_prefix("prompt_encoder.mask_downscaling.").and_then(|p| p.strip_prefix(list));
        if let Some(index) = index.and_then(|i| i.strip_prefix('.')?.parse::<usize>().ok()) {
            return format!("prompt_encoder.mask_downscaling.{}.{part}", 3 * index);
        }
    }
    path.to_owned()
}
