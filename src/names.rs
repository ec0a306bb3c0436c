//! One table of SAM's parameters: each one's name, the names that other projects give it, the field of this crate's
//! module that holds it, its shape in numbers of the architecture, and its role.
//!
//! All that asks for names is derived from the table (`table.rs`): what a model of some size consists of
//! ([`parameters`]), which tensor a checkpoint's name stands for ([`find`]), which architecture a checkpoint's shapes
//! belong to ([`weights::layout`](crate::weights::layout)), how a tensor is stored in a package
//! ([`Scheme`](crate::weights::quantize::Scheme)) and initialised, and what modules take when they are loaded
//! ([`Scope`](crate::layers::Scope)). A module asks by its own field's name; what a checkpoint calls it stands in
//! the table alone.
//!
//! # Adding an encoder
//! Write its nodes in a file beside `table.rs`, top-down as its reference has them, with the heads' nodes for what is
//! SAM's (MobileSAM's prompt encoder and mask decoder are), and add them to [`MODELS`]. Numbers that its checkpoints
//! differ in are [`Number`]s and stand in [`SamConfig`]; sides that are the same in every checkpoint are written as
//! they are ([`Size::Is`]). A kind of layer that none of SAM's is (a batch norm) is a new [`NodeKind`] with its tensors
//! in `TableNode::tensors`. Two places choose between tables: [`parameters`] by the architecture, and
//! [`layout::recognize`](crate::weights::layout::recognize) by a checkpoint's names. All else follows: names, prefixes,
//! shapes, counts, and messages about what is missing or misshapen; `weights/foreign.rs` loses its line about the
//! encoder.

mod lite;
mod node;
mod table;
mod tiny_vit;

use std::collections::BTreeMap;

pub use lite::LITE_SAM;
pub use node::{ModelPart, Naming, NodeKind, Number, Size, TableNode, TensorRole};
pub use table::SAM;
pub use tiny_vit::MOBILE_SAM;

use crate::config::{EncoderKind, SamConfig, TinyVitStage};

/// Every table of a whole model.
pub const MODELS: &[&[TableNode]] = &[SAM, MOBILE_SAM, LITE_SAM];

/// The table of the models with an encoder of `kind`.
pub fn table_of(kind: &EncoderKind) -> &'static [TableNode] {
    match kind {
        EncoderKind::Vit => SAM,
        EncoderKind::TinyVit(_) => MOBILE_SAM,
        EncoderKind::Lite => LITE_SAM,
    }
}

/// A tensor of the table, its repetitions counted out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// SAM's name.
    pub name: String,
    /// The path of the field that holds it in [`Sam`](crate::model::Sam).
    pub path: String,
    /// Its shape, outermost axis first.
    pub shape: Vec<Size>,
    /// What its values are.
    pub role: TensorRole,
    /// Where it belongs.
    pub part: ModelPart,
    /// Its innermost repetition, from 0: in the encoder the block.
    pub index: usize,
}

/// A tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// SAM's name.
    pub name: String,
    /// The path of the field that holds it in [`Sam`](crate::model::Sam).
    pub path: String,
    /// SAM's shape.
    pub shape: Vec<usize>,
    /// What its values are.
    pub role: TensorRole,
    /// Where it belongs.
    pub part: ModelPart,
}

/// A part of a model is not repeated more often than this: no table of a hostile checkpoint is longer.
pub const MAX_REPEATS: usize = 256;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameMatch {
    /// SAM's name.
    pub name: String,
    /// What its values are.
    pub role: TensorRole,
    /// Where it belongs.
    pub part: ModelPart,
    /// Its innermost repetition, from 0: in the encoder the block.
    pub index: usize,
    /// Whether it is the name of [`Naming::Wrapped`].
    pub wrapped: bool,
    /// Whether its naming has another copy of the tensor, which is to be read where both are there.
    pub copy: bool,
}

/// Every tensor of a model of `config`, in the reference's order.
pub fn parameters(config: &SamConfig) -> Vec<Parameter> {
    let entries = entries(table_of(&config.encoder), &mut |_, size| size.of(config, 0));
    let resolved = entries.into_iter().map(|entry| {
        let shape = entry.shape.iter().map(|size| size.of(config, entry.index)).collect();
        Parameter { name: entry.name, path: entry.path, shape, role: entry.role, part: entry.part }
    });
    resolved.collect()
}

/// [`parameters`] by the path of the field that holds each.
pub fn by_path(config: &SamConfig) -> BTreeMap<String, Parameter> {
    parameters(config).into_iter().map(|parameter| (parameter.path.clone(), parameter)).collect()
}

/// Every tensor of a table, in its order. `count` tells how often what is called `name` is repeated, given the table's
/// own number.
pub fn entries(nodes: &[TableNode], count: &mut dyn FnMut(&str, Size) -> usize) -> Vec<TableEntry> {
    let mut walk = Walk { count, found: Vec::new() };
    let root = Place { name: String::new(), path: String::new(), part: ModelPart::Masks, index: 0 };
    walk.nodes(nodes, &root);
    walk.found
}

struct Walk<'a> {
    count: &'a mut dyn FnMut(&str, Size) -> usize,
    found: Vec<TableEntry>,
}

/// Where a walk is.
struct Place {
    name: String,
    path: String,
    part: ModelPart,
    index: usize,
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[TableNode], around: &Place) {
        for node in nodes {
            let (name, path) = (join(&around.name, node.name), join(&around.path, node.name));
            let here = Place { name, path, part: node.part.unwrap_or(around.part), index: around.index };
            match node.kind {
                NodeKind::Scope(inner) => self.nodes(inner, &here),
                NodeKind::Each(size, inner) => {
                    for index in 0..(self.count)(&here.name, size) {
                        let (name, path) = (format!("{}.{index}", here.name), format!("{}.{index}", here.path));
                        self.nodes(inner, &Place { name, path, part: here.part, index });
                    }
                }
                NodeKind::Mlp { channels: [input, hidden, output], depth } => {
                    let depth = (self.count)(&format!("{}.{LAYERS}", here.name), depth);
                    for i in 0..depth {
                        let inputs = if i == 0 { input } else { hidden };
                        let outputs = if i + 1 == depth { output } else { hidden };
                        let layer = node::linear(LAYERS, inputs, outputs);
                        let numbered = |scope: &str| format!("{scope}.{LAYERS}.{i}");
                        for (part, role, shape) in layer.tensors() {
                            let (name, path) = (numbered(&here.name), numbered(&here.path));
                            let (name, path) = (join(&name, part), join(&path, part));
                            self.found.push(TableEntry { name, path, shape, role, part: here.part, index: here.index });
                        }
                    }
                }
                _ => {
                    for (i, (part, role, shape)) in node.tensors().into_iter().enumerate() {
                        let path = match node.fields.get(i) {
                            Some(field) => join(&around.path, field),
                            None => join(&here.path, part),
                        };
                        let (name, index) = (join(&here.name, part), here.index);
                        self.found.push(TableEntry { name, path, shape, role, part: here.part, index });
                    }
                }
            }
        }
    }
}

/// What an MLP's layers are called.
const LAYERS: &str = "layers";

fn join(scope: &str, name: &str) -> String {
    match (scope, name) {
        ("", name) => name.to_owned(),
        (scope, "") => scope.to_owned(),
        (scope, name) => format!("{scope}.{name}"),
    }
}

impl TableNode {
    /// The tensors of a single layer: name within it (empty for its own), role, shape.
    fn tensors(&self) -> Vec<(&'static str, TensorRole, Vec<Size>)> {
        let (weight, bias) = ("weight", "bias");
        match self.kind {
            NodeKind::Linear { inputs, outputs } => {
                vec![(weight, TensorRole::Matrix, vec![outputs, inputs]), (bias, TensorRole::Bias, vec![outputs])]
            }
            NodeKind::Norm(channels) => {
                vec![(weight, TensorRole::NormScale, vec![channels]), (bias, TensorRole::NormBias, vec![channels])]
            }
            NodeKind::Convolution { kernel, bias: length } => {
                let length = length.map(|length| (bias, TensorRole::Bias, vec![length]));
                [(weight, TensorRole::Matrix, kernel.to_vec())].into_iter().chain(length).collect()
            }
            NodeKind::Normed(kernel) => {
                vec![(weight, TensorRole::Kernel, kernel.to_vec()), (bias, TensorRole::Bias, vec![kernel[0]])]
            }
            NodeKind::Pointwise { inputs, outputs } => {
                vec![(weight, TensorRole::Kernel, vec![outputs, inputs]), (bias, TensorRole::Bias, vec![outputs])]
            }
            NodeKind::Tensor(role, shape) => vec![("", role, shape.to_vec())],
            NodeKind::Scope(_) | NodeKind::Each(..) | NodeKind::Mlp { .. } => Vec::new(),
        }
    }

    /// The names of this node in `naming`, each with whether it is an alias.
    fn names(&self, naming: Naming) -> Vec<(&'static str, bool)> {
        let aliases = |wanted| self.aliases.iter().filter(move |(n, _)| *n == wanted).map(|(_, name)| (*name, true));
        let own = std::iter::once((self.name, false));
        match naming {
            // A wrapped file has SAM's names where nothing is wrapped, as where not every block is adapted.
            Naming::Sam | Naming::Wrapped => own.chain(aliases(Naming::Wrapped)).collect(),
            Naming::HuggingFace => {
                let names: Vec<_> = aliases(naming).collect();
                if names.is_empty() { own.collect() } else { names }
            }
        }
    }
}

/// The tensor that `name` stands for in `naming`; `all` are the names of the file, of which the layers of an MLP are
/// counted.
pub fn find(naming: Naming, name: &str, all: &[&str]) -> Option<NameMatch> {
    let search = Search { naming, whole: name, all };
    let root = Place { name: String::new(), path: String::new(), part: ModelPart::Masks, index: 0 };
    MODELS.iter().find_map(|nodes| search.nodes(nodes, name, &root))
}

/// A matrix of an encoder block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockMatrix {
    /// Queries, keys and values, one above the other.
    Qkv,
    /// Attention's projection.
    Projection,
    /// The MLP's first layer.
    Mlp1,
    /// The MLP's second layer.
    Mlp2,
}

/// SAM's name of the weight of a matrix in the encoder's block `block`: in a TinyViT the blocks with attention, counted through its
/// stages; in EfficientNet-Lite0 those that expand, whose convolutions are an MLP's two layers.
pub fn block_weight(config: &SamConfig, block: usize, matrix: BlockMatrix) -> String {
    let (scope, mlp) = match config.encoder {
        EncoderKind::Vit => (format!("{}.{block}", table::BLOCKS), [table::LIN1, table::LIN2]),
        EncoderKind::Lite => (format!("{}.{block}", table::BLOCKS), [lite::EXPAND, lite::PROJECT]),
        EncoderKind::TinyVit(stages) => {
            let (stage, block) = stages.place(block);
            (format!("{}.{}.{}.{block}", tiny_vit::STAGES, stage + 1, table::BLOCKS), [tiny_vit::FC1, tiny_vit::FC2])
        }
    };
    let layer = match matrix {
        BlockMatrix::Qkv => table::QKV,
        BlockMatrix::Projection => table::PROJ,
        BlockMatrix::Mlp1 => mlp[0],
        BlockMatrix::Mlp2 => mlp[1],
    };
    format!("{}.{scope}.{layer}.weight", table::ENCODER)
}

/// How many of the encoder's blocks lie before the tensor with SAM's name `name`, if it is one of its blocks' part.
pub fn blocks_before(config: &SamConfig, name: &str) -> Option<usize> {
    let found = named(name).filter(|found| found.part == ModelPart::Blocks)?;
    let EncoderKind::TinyVit(stages) = config.encoder else { return Some(found.index) };
    let within = format!("{}.{}.", table::ENCODER, tiny_vit::STAGES);
    let Some((stage, rest)) = found.name.strip_prefix(&within).and_then(numbered) else { return Some(0) };
    let before = |stages: &[TinyVitStage]| stages.iter().map(|stage| stage.blocks).sum::<usize>();
    Some(match stage {
        0 => 0,
        _ if rest.starts_with(table::BLOCKS) => before(&stages.stages[..stage - 1]) + found.index,
        _ => before(&stages.stages[..stage.min(stages.stages.len())]),
    })
}

/// The axis along which an encoder block's tensor has one attention head after the other, by SAM's name; none for those that have no
/// such axis.
pub fn head_axis(name: &str) -> Option<usize> {
    let (_, tensor) = numbered(below(below(name, table::ENCODER)?, table::BLOCKS)?)?;
    if matches!(below(tensor, table::QKV), Some("weight" | "bias")) {
        return Some(0);
    }
    (table::REL_POS.contains(&tensor) || below(tensor, table::PROJ) == Some("weight")).then_some(1)
}

/// The tensor with SAM's name `name`.
pub fn named(name: &str) -> Option<NameMatch> {
    find(Naming::Sam, name, &[]).filter(|found| found.name == name)
}

struct Search<'a> {
    naming: Naming,
    whole: &'a str,
    all: &'a [&'a str],
}

impl Search<'_> {
    /// `rest` is what is left of the name below `around`, the scope of `nodes`.
    fn nodes(&self, nodes: &[TableNode], rest: &str, around: &Place) -> Option<NameMatch> {
        nodes.iter().find_map(|node| self.node(node, rest, around))
    }

    fn node(&self, node: &TableNode, rest: &str, around: &Place) -> Option<NameMatch> {
        let (part, index) = (node.part.unwrap_or(around.part), around.index);
        let place = |name: String, index| Place { name, path: String::new(), part, index };
        let here = join(&around.name, node.name);
        node.names(self.naming).into_iter().enumerate().find_map(|(i, (name, alias))| {
            let after = below(rest, name)?;
            match node.kind {
                NodeKind::Scope(inner) => self.nodes(inner, after, &place(here.clone(), index)),
                NodeKind::Each(_, inner) => {
                    let (index, after) = numbered(after)?;
                    self.nodes(inner, after, &place(format!("{here}.{index}"), index))
                }
                NodeKind::Mlp { .. } => {
                    let (layer, after) = self.layer(after)?;
                    let role = match after {
                        "weight" => TensorRole::Matrix,
                        "bias" => TensorRole::Bias,
                        _ => return None,
                    };
                    let name = format!("{here}.{LAYERS}.{layer}.{after}");
                    Some(NameMatch { name, role, part, index, wrapped: false, copy: false })
                }
                _ => {
                    let (part_name, role, _) = node.tensors().into_iter().find(|(part, ..)| *part == after)?;
                    let wrapped = alias && self.naming != Naming::HuggingFace;
                    let copy = self.naming == Naming::HuggingFace && i > 0;
                    Some(NameMatch { name: join(&here, part_name), role, part, index, wrapped, copy })
                }
            }
        })
    }

    /// Which layer of an MLP `after` names, and the rest. `transformers` calls the first `proj_in`, those between
    /// `layers.0` onwards and the last `proj_out`.
    fn layer<'n>(&self, after: &'n str) -> Option<(usize, &'n str)> {
        if self.naming != Naming::HuggingFace {
            return numbered(below(after, LAYERS)?);
        }
        if let Some(after) = below(after, "proj_in") {
            return Some((0, after));
        }
        if let Some(after) = below(after, "proj_out") {
            let between = format!("{}{LAYERS}.", self.whole.split_once("proj_out")?.0);
            let between =
                self.all.iter().filter(|name| name.starts_with(&between) && name.ends_with(".weight")).count();
            return Some((between + 1, after));
        }
        let (index, after) = numbered(below(after, LAYERS)?)?;
        Some((index + 1, after))
    }
}

/// What is left of `name` below `scope`, without the dot; `None` if it is not within it.
fn below<'a>(name: &'a str, scope: &str) -> Option<&'a str> {
    match name.strip_prefix(scope)? {
        rest if scope.is_empty() || rest.is_empty() => Some(rest),
        rest => rest.strip_prefix('.'),
    }
}

/// The number that `name` begins with, and what is left behind its dot.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (digits, rest) = name.split_once('.').unwrap_or((name, ""));
    Some((number(digits)?, rest))
}

/// A decimal number of at most four digits without leading zeros.
pub fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}
