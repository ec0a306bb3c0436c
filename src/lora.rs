//! Low-rank adapters (LoRA, Hu et al. 2021) on the image encoder: `W' = W + scale * B A`.
//!
//! An adapter is data: [`Factor`]s in memory. It is either *merged* into the weights ([`Factor::add_to`], no cost at
//! inference) or *attached* beside them ([`attach`], for training and for swapping adapters on a loaded base).
//! SamLoRA's and SAMed's own choice, the default, is rank 4 on q and v of every block, scale 1.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::nn::DropoutConfig;
#[cfg(feature = "train")]
use burn::tensor::quantization::{QuantValue, ScaleDtype};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "train")]
use crate::kernels::Weight;
use crate::kernels::{Matrix, has_gpu_kernels, upload};
use crate::layers::{Adapted, Joined, LowRank, widened};
use crate::model::Sam;
use crate::model::image_encoder::Block;
use crate::model::mask_decoder::MaskDecoder;
use crate::model::transformer::TwoWayTransformer;
use crate::names::{BlockMatrix, block_weight};
use crate::random::SplitMix;

/// A matrix of an encoder block that can carry an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// Rows `0 .. dim` of `attn.qkv`.
    #[serde(rename = "q")]
    Query,
    /// Rows `dim .. 2 dim` of `attn.qkv`.
    #[serde(rename = "k")]
    Key,
    /// Rows `2 dim .. 3 dim` of `attn.qkv`.
    #[serde(rename = "v")]
    Value,
    /// `attn.proj`.
    #[serde(rename = "proj")]
    Projection,
    /// `mlp.lin1`.
    #[serde(rename = "lin1")]
    Mlp1,
    /// `mlp.lin2`.
    #[serde(rename = "lin2")]
    Mlp2,
}

impl Target {
    /// All targets, in the order of a block.
    pub const ALL: [Self; 6] = [Self::Query, Self::Key, Self::Value, Self::Projection, Self::Mlp1, Self::Mlp2];

    /// Its short name: `q`, `k`, `v`, `proj`, `lin1` or `lin2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q",
            Self::Key => "k",
            Self::Value => "v",
            Self::Projection => "proj",
            Self::Mlp1 => "lin1",
            Self::Mlp2 => "lin2",
        }
    }

    /// The target called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the known names.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("there is no LoRA target {name:?}"))
                .remedy(format!("targets: {}", Self::ALL.map(Self::name).join(", ")))
        })
    }

    /// SAM's name of the weight in block `block`.
    pub fn weight_name(self, block: usize) -> String {
        let matrix = match self {
            Self::Query | Self::Key | Self::Value => BlockMatrix::Qkv,
            Self::Projection => BlockMatrix::Projection,
            Self::Mlp1 => BlockMatrix::Mlp1,
            Self::Mlp2 => BlockMatrix::Mlp2,
        };
        block_weight(block, matrix)
    }

    /// Inputs, outputs and first output row within the weight.
    pub fn extent(self, config: &SamConfig) -> (usize, usize, usize) {
        let (dim, mlp) = (config.embed_dim, config.mlp_dim);
        match self {
            Self::Query => (dim, dim, 0),
            Self::Key => (dim, dim, dim),
            Self::Value => (dim, dim, 2 * dim),
            Self::Projection => (dim, dim, 0),
            Self::Mlp1 => (dim, mlp, 0),
            Self::Mlp2 => (mlp, dim, 0),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which matrices of which blocks get an adapter, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner dimension; at least 1.
    pub rank: usize,
    /// `scale = alpha / rank`; none stands for scale 1, as in SAMed.
    pub alpha: Option<f64>,
    /// Chance (0 to 1) that an input of A is dropped in training.
    pub dropout: f64,
    /// Which matrices.
    pub targets: Vec<Target>,
    /// Which blocks (from 0); none stands for all.
    pub blocks: Option<Vec<usize>>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 4, alpha: None, dropout: 0.0, targets: vec![Target::Query, Target::Value], blocks: None }
    }
}

impl LoraConfig {
    /// The factor in front of `B A`.
    pub fn scale(&self) -> f64 {
        self.alpha.map_or(1.0, |alpha| alpha / self.rank as f64)
    }

    /// New factors for a model of `config`: A uniform in +-1/sqrt(inputs) (Kaiming with a = sqrt(5)), B zero, so that the
    /// adapted model starts as the base.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the rank is zero or a block does not exist.
    pub fn init(&self, config: &SamConfig, seed: u64) -> Result<Vec<Factor>> {
        if self.rank == 0 {
            return Err(Error::new(ErrorKind::Invalid, "rank is 0, expected at least 1").at("LoRA"));
        }
        let all: Vec<usize> = (0..config.depth).collect();
        let mut random = SplitMix(seed);
        let mut factors = Vec::new();
        for &block in self.blocks.as_ref().unwrap_or(&all) {
            if block >= config.depth {
                let message = format!("block {block} does not exist, the encoder has {}", config.depth);
                return Err(Error::new(ErrorKind::Invalid, message).at("LoRA"));
            }
            for &target in &self.targets {
                let (inputs, outputs, _) = target.extent(config);
                let bound = 1.0 / (inputs as f32).sqrt();
                let a = (0..self.rank * inputs).map(|_| random.uniform() * bound).collect();
                let b = vec![0.0; outputs * self.rank];
                factors.push(Factor { block, target, rank: self.rank, scale: self.scale(), a, b });
            }
        }
        Ok(factors)
    }
}

/// The two factors of one adapted matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// Encoder block, from 0.
    pub block: usize,
    /// Matrix within it.
    pub target: Target,
    /// Inner dimension.
    pub rank: usize,
    /// In front of `B A`.
    pub scale: f64,
    /// `[rank, inputs]`, row-major.
    pub a: Vec<f32>,
    /// `[outputs, rank]`, row-major.
    pub b: Vec<f32>,
}

impl Factor {
    /// Checks that the factors fit a model of `config`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the block and the target.
    pub fn check(&self, config: &SamConfig) -> Result<()> {
        let (inputs, outputs, _) = self.target.extent(config);
        let place = format!("LoRA {} of block {}", self.target.name(), self.block);
        if self.block >= config.depth {
            let message = format!("the encoder has only {} blocks", config.depth);
            return Err(Error::new(ErrorKind::Format, message)
                .at(place)
                .remedy("use the base this adapter was trained on"));
        }
        if self.rank == 0 || self.a.len() != self.rank * inputs || self.b.len() != outputs * self.rank {
            let message = format!(
                "A has {} and B {} values, expected {} x {inputs} and {outputs} x {}",
                self.a.len(),
                self.b.len(),
                self.rank,
                self.rank
            );
            return Err(Error::new(ErrorKind::Format, message)
                .at(place)
                .remedy("use the base this adapter was trained on"));
        }
        Ok(())
    }

    /// The factor for a layer of `outputs` and `inputs` on its device, and its first output there: the layer's heads may have been filled
    /// up with zeros ([`crate::layers::HeadPadding`]).
    fn fitted(&self, config: &SamConfig, [outputs, inputs]: [usize; 2]) -> (Self, usize) {
        let (own_inputs, own_outputs, start) = self.target.extent(config);
        let dim = config.head_dim();
        let mut fitted = self.clone();
        match self.target {
            Target::Query | Target::Key | Target::Value if outputs != 3 * own_outputs => {
                let wide = dim * outputs / (3 * own_outputs);
                fitted.b = widened(&self.b, dim * self.rank, wide * self.rank);
                (fitted, start / dim * wide)
            }
            Target::Projection if inputs != own_inputs => {
                fitted.a = widened(&self.a, dim, dim * inputs / own_inputs);
                (fitted, start)
            }
            _ => (fitted, start),
        }
    }

    /// Merges into its weight in memory: `weight` is the whole matrix `[out, in]` called [`Target::weight_name`].
    ///
    /// # Panics
    /// If the sizes do not fit; [`Factor::check`] says so beforehand.
    pub fn add_to(&self, weight: &mut [f32], config: &SamConfig) {
        let (inputs, outputs, start) = self.target.extent(config);
        let rows = weight[start * inputs..(start + outputs) * inputs].chunks_exact_mut(inputs);
        for (row, b) in rows.zip(self.b.chunks_exact(self.rank)) {
            for (b, a) in b.iter().zip(self.a.chunks_exact(inputs)) {
                let factor = self.scale as f32 * b;
                for (w, a) in row.iter_mut().zip(a) {
                    *w += factor * a;
                }
            }
        }
    }
}

/// Attaches adapters to a model beside those it has.
///
/// # Errors
/// As [`Factor::check`].
pub fn attach(sam: &mut Sam, config: &SamConfig, factors: &[Factor], dropout: f64, device: &Device) -> Result<()> {
    for factor in factors {
        factor.check(config)?;
    }
    for factor in factors {
        let layer = layer(sam, factor.block, factor.target);
        let (factor, start) = factor.fitted(config, layer.linear.weight.dims());
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let [inputs, outputs] = [factor.a.len(), factor.b.len()].map(|count| count / factor.rank);
        layer.adapters.push(LowRank {
            a: matrix(factor.a, [factor.rank, inputs]),
            b: matrix(factor.b, [outputs, factor.rank]),
            scale: factor.scale,
            start,
            dropout: DropoutConfig::new(dropout).init(),
        });
    }
    Ok(())
}

/// Attaches adapters for inference: on a GPU with the kernels for GPUs those of a layer as two matrices, so that they cost two small
/// products and no copies; elsewhere as [`attach`].
///
/// # Errors
/// As [`Factor::check`].
pub fn attach_for_inference(sam: &mut Sam, config: &SamConfig, factors: &[Factor], device: &Device) -> Result<()> {
    if !has_gpu_kernels(device) {
        return attach(sam, config, factors, 0.0, device);
    }
    let mut layers: BTreeMap<String, Vec<&Factor>> = BTreeMap::new();
    for factor in factors {
        factor.check(config)?;
        layers.entry(factor.target.weight_name(factor.block)).or_default().push(factor);
    }
    for factors in layers.values() {
        let layer = layer(sam, factors[0].block, factors[0].target);
        let [outputs, inputs] = layer.linear.weight.dims();
        let ranks = factors.iter().map(|f| f.rank).sum::<usize>().next_multiple_of(4);
        let (mut a, mut b) = (vec![0.0f32; inputs * ranks], vec![0.0f32; ranks * outputs]);
        let mut first = 0;
        for factor in factors {
            let (factor, start) = factor.fitted(config, [outputs, inputs]);
            for (rank, row) in factor.a.chunks_exact(inputs).enumerate() {
                row.iter().enumerate().for_each(|(input, value)| a[input * ranks + first + rank] = *value);
            }
            for (output, row) in factor.b.chunks_exact(factor.rank).enumerate() {
                for (rank, value) in row.iter().enumerate() {
                    b[(first + rank) * outputs + start + output] = value * factor.scale as f32;
                }
            }
            first += factor.rank;
        }
        let matrix = |values: Vec<f32>, shape: [usize; 2]| Param::from_tensor(upload(values, shape, device));
        layer.joined = Some(Joined { a: matrix(a, [inputs, ranks]), b: matrix(b, [ranks, outputs]) });
    }
    Ok(())
}

/// Attaches adapters to q and v of every attention of the decoder's transformer (SAMed_s), with `lora`'s rank, scale and dropout. A
/// checkpoint knows nothing of them: [`merge`] folds them into the decoder.
pub fn attach_to_decoder(sam: &mut Sam, lora: &LoraConfig, seed: u64, device: &Device) {
    let mut random = SplitMix(seed ^ 0x6465_636F_6465_7221);
    for layer in decoder_layers(sam) {
        let [outputs, inputs] = layer.linear.weight.dims();
        let bound = 1.0 / (inputs as f32).sqrt();
        let a: Vec<f32> = (0..lora.rank * inputs).map(|_| random.uniform() * bound).collect();
        layer.adapters.push(LowRank {
            a: Param::from_tensor(Tensor::from_data(TensorData::new(a, [lora.rank, inputs]), device)),
            b: Param::from_tensor(Tensor::zeros([outputs, lora.rank], device)),
            scale: lora.scale(),
            start: 0,
            dropout: DropoutConfig::new(lora.dropout).init(),
        });
    }
}

/// Turns the matrices of the encoder's blocks to 8 bits in memory, symmetric, in blocks of up to 32 along the input with f32 scales
/// (QLoRA, Dettmers et al. 2023): for training adapters on a frozen base.
#[cfg(feature = "train")]
pub fn quantize_base(sam: &mut Sam) {
    for block in &mut sam.image_encoder.blocks {
        for layer in block.linears() {
            let Weight::Dense(weight) = &mut layer.linear.weight else { continue };
            let values = weight.val();
            let [outputs, inputs] = values.dims();
            // The largest power of two up to 32 that divides the inputs: 32 for SAM's widths, 8 for SlimSAM-77's (168 and 696).
            let run = 1 << inputs.trailing_zeros().min(5);
            let scheme = values.device().settings().quantization.scheme;
            let scheme = scheme.with_value(QuantValue::Q8S).per_block([1, run], ScaleDtype::F32);
            let row_major = values.reshape([outputs * inputs]).reshape([outputs, inputs]);
            *weight = Param::initialized(weight.id, row_major.quantize_dynamic(&scheme));
        }
    }
}

/// Removes all adapters; the base is as it was.
pub fn detach(sam: &mut Sam) {
    for layer in layers(sam) {
        layer.adapters.clear();
        layer.joined = None;
    }
}

/// Folds all attached adapters into the weights, on the model's device.
pub fn merge(sam: &mut Sam) {
    for layer in layers(sam) {
        for adapter in std::mem::take(&mut layer.adapters) {
            let delta = adapter.b.val().matmul(adapter.a.val()) * adapter.scale;
            let weight = layer.linear.weight.operand().dense();
            let [outputs, inputs] = delta.dims();
            let columns = adapter.start..adapter.start + outputs;
            let sum = weight.clone().slice([0..inputs, columns.clone()]) + delta.transpose();
            let weight = weight.slice_assign([0..inputs, columns], sum).transpose();
            layer.linear.weight = Matrix::Dense(Param::from_tensor(weight));
        }
    }
}

/// The scale of each adapter of the encoder, by block and matrix.
pub fn scales(sam: &Sam, config: &SamConfig) -> BTreeMap<(usize, Target), f64> {
    let mut found = BTreeMap::new();
    for (block, module) in sam.image_encoder.blocks.iter().enumerate() {
        for target in Target::ALL {
            let layer = match target {
                Target::Query | Target::Key | Target::Value => &module.attn.qkv,
                Target::Projection => &module.attn.proj,
                Target::Mlp1 => &module.mlp.lin1,
                Target::Mlp2 => &module.mlp.lin2,
            };
            let start = target.extent(config).2;
            if let Some(adapter) = layer.adapters.iter().find(|a| a.start == start) {
                found.insert((block, target), adapter.scale);
            }
        }
    }
    found
}

/// Whether any adapter of the encoder drops inputs in training.
pub fn drops(sam: &Sam) -> bool {
    let drops = |layer: &Adapted| layer.adapters.iter().any(|a| a.dropout.prob > 0.0);
    let blocks = sam.image_encoder.blocks.iter();
    blocks.flat_map(|b| [&b.attn.qkv, &b.attn.proj, &b.mlp.lin1, &b.mlp.lin2]).any(drops)
}

/// Every layer that can carry adapters.
fn layers(sam: &mut Sam) -> Vec<&mut Adapted> {
    let Sam { image_encoder, mask_decoder, .. } = sam;
    let encoder = image_encoder.blocks.iter_mut().flat_map(Block::linears);
    encoder.chain(attention_layers(mask_decoder)).collect()
}

fn decoder_layers(sam: &mut Sam) -> Vec<&mut Adapted> {
    attention_layers(&mut sam.mask_decoder)
}

/// q and v of every attention of the decoder.
fn attention_layers(decoder: &mut MaskDecoder) -> Vec<&mut Adapted> {
    let TwoWayTransformer { layers, final_attn_token_to_image, .. } = &mut decoder.transformer;
    let attentions = layers
        .iter_mut()
        .flat_map(|l| [&mut l.self_attn, &mut l.cross_attn_token_to_image, &mut l.cross_attn_image_to_token]);
    attentions.chain([final_attn_token_to_image]).flat_map(|a| [&mut a.q_proj, &mut a.v_proj]).collect()
}

/// Number of adapter parameters attached to `sam`.
pub fn parameters(sam: &Sam) -> usize {
    let adapters = |layer: &Adapted| layer.adapters.iter().map(Module::num_params).sum::<usize>();
    sam.image_encoder
        .blocks
        .iter()
        .map(|b| adapters(&b.attn.qkv) + adapters(&b.attn.proj) + adapters(&b.mlp.lin1) + adapters(&b.mlp.lin2))
        .sum()
}

fn layer(sam: &mut Sam, block: usize, target: Target) -> &mut Adapted {
    let block = &mut sam.image_encoder.blocks[block];
    match target {
        Target::Query | Target::Key | Target::Value => &mut block.attn.qkv,
        Target::Projection => &mut block.attn.proj,
        Target::Mlp1 => &mut block.mlp.lin1,
        Target::Mlp2 => &mut block.mlp.lin2,
    }
}
