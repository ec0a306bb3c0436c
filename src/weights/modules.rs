//! SAM's names of a model's parameters, in the order in which burn's modules visit them.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::keys::{Side, lora_name};
use crate::config::SamConfig;
use crate::lora::Target;
use crate::model::Sam;
use crate::names::{self, Parameter};

/// A parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// SAM's name, or [`lora_name`]'s of an attached adapter. Adapters of the decoder, of which a checkpoint knows
    /// nothing, are called `{layer}.lora_a` and `{layer}.lora_b`.
    pub name: String,
    /// SAM's shape.
    pub shape: Vec<usize>,
}

/// Every parameter of `sam`, attached adapters included, in visiting order.
pub fn parameters(sam: &Sam, config: &SamConfig) -> Vec<Named> {
    let table = names::by_path(config);
    let mut visitor = Fields { path: Vec::new(), found: Vec::new() };
    sam.visit(&mut visitor);
    let named = visitor.found.into_iter().map(|(path, shape)| {
        let name = match path.split_once(".adapters.") {
            Some((layer, rest)) => adapter_name(sam, config, &table, layer, rest),
            None => name_at(&table, &path).to_owned(),
        };
        Named { name, shape }
    });
    named.collect()
}

/// SAM's name of what lies at `path`; the path itself if the table does not have it. What a field's type adds to it (an
/// enum's variant) is no part of the table's.
fn name_at<'a>(table: &'a BTreeMap<String, Parameter>, path: &'a str) -> &'a str {
    let mut field = path;
    loop {
        if let Some(parameter) = table.get(field) {
            return &parameter.name;
        }
        match field.rsplit_once('.') {
            Some((above, _)) => field = above,
            None => return path,
        }
    }
}

/// The name of the tensor `rest`, `{index}.{a or b}`, of the adapters of the linear layer at `layer`.
fn adapter_name(sam: &Sam, config: &SamConfig, table: &BTreeMap<String, Parameter>, layer: &str, rest: &str) -> String {
    let weight = format!("{layer}.weight");
    let weight = name_at(table, &weight);
    // An adapter's place on its layer tells which it is.
    let (index, side) = rest.split_once('.').unwrap_or((rest, ""));
    let side = if side == "a" { Side::A } else { Side::B };
    match index.parse().ok().and_then(|index| target(sam, config, weight, index)) {
        Some((block, target)) => lora_name(block, target, side),
        None => {
            let layer = weight.strip_suffix(".weight").unwrap_or(layer);
            format!("{layer}.lora_{}", if side == Side::A { "a" } else { "b" })
        }
    }
}

/// The encoder block and matrix that adapter `index` of the layer with this weight adds to.
fn target(sam: &Sam, config: &SamConfig, weight: &str, index: usize) -> Option<(usize, Target)> {
    let block = names::blocks_before(config, weight)?;
    let layers = *sam.image_encoder.blocks().get(block)?;
    let mut targets = Target::ALL.into_iter().filter(|target| target.weight_name(config, block) == weight);
    let target = targets.find(|target| {
        let adapter = target.layer_of(layers).and_then(|layer| layer.adapters.get(index));
        adapter.is_some_and(|adapter| adapter.rows == target.extent(config, block).2)
    })?;
    Some((block, target))
}

/// Collects the paths of all parameters, and their shapes.
struct Fields {
    path: Vec<String>,
    found: Vec<(String, Vec<usize>)>,
}

/// Whether a step of a module's path is no field of the table's: an enum's variant (the kind of an encoder or of its block, the form
/// that a weight is stored in), and the layer that adapters are beside.
fn is_storage(name: &str, container: &str) -> bool {
    container.starts_with("Enum:") || container == "Struct:Adapted" && name == "linear"
}

impl ModuleVisitor for Fields {
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
        self.found.push((self.path.join("."), param.dims().to_vec()));
    }
}
