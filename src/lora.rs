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

use crate::config::{BlockSize, EncoderKind, SamConfig};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "train")]
use crate::kernels::Weight;
use crate::kernels::{Matrix, has_gpu_kernels, upload};
use crate::layers::{Adapted, AdaptedLayers, Joined, LowRank, Rows, widened};
use crate::model::Sam;
use crate::model::mask_decoder::MaskDecoder;
use crate::model::transformer::TwoWayTransformer;
use crate::names::{BlockMatrix, block_weight};
use crate::random::SplitMix;

/// A matrix of an encoder block that can carry an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    /// The queries' rows of `attn.qkv`.
    #[serde(rename = "q")]
    Query,
    /// The keys' rows of `attn.qkv`.
    #[serde(rename = "k")]
    Key,
    /// The values' rows of `attn.qkv`.
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

    /// SAM's name of the weight in block `block` of a model of `config`.
    pub fn weight_name(self, config: &SamConfig, block: usize) -> String {
        let matrix = match self {
            Self::Query | Self::Key | Self::Value => BlockMatrix::Qkv,
            Self::Projection => BlockMatrix::Projection,
            Self::Mlp1 => BlockMatrix::Mlp1,
            Self::Mlp2 => BlockMatrix::Mlp2,
        };
        block_weight(config, block, matrix)
    }

    /// The layer that it adapts, if the block has it.
    pub fn layer_of<T>(self, layers: AdaptedLayers<T>) -> Option<T> {
        match self {
            Self::Query | Self::Key | Self::Value => layers.qkv,
            Self::Projection => layers.proj,
            Self::Mlp1 => Some(layers.lin1),
            Self::Mlp2 => Some(layers.lin2),
        }
    }

    /// Those that blocks of a model of `config` have.
    pub fn of(config: &SamConfig) -> &'static [Self] {
        match config.encoder {
            EncoderKind::Vit | EncoderKind::TinyVit(_) => &Self::ALL,
            EncoderKind::Lite => &[Self::Mlp1, Self::Mlp2],
        }
    }

    /// Those that are adapted unless told otherwise: SAMed's choice where there is attention, else all.
    pub fn usual(config: &SamConfig) -> Vec<Self> {
        match config.encoder {
            EncoderKind::Vit | EncoderKind::TinyVit(_) => LoraConfig::default().targets,
            EncoderKind::Lite => Self::of(config).to_vec(),
        }
    }

    /// Checks that blocks of a model of `config` have it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with those that they have.
    fn check(self, config: &SamConfig) -> Result<()> {
        if Self::of(config).contains(&self) {
            return Ok(());
        }
        let names: Vec<_> = Self::of(config).iter().map(|target| target.name()).collect();
        Err(Error::new(ErrorKind::Invalid, format!("this encoder's blocks have no {self}"))
            .at("LoRA")
            .remedy(format!("its targets are {}", names.join(", "))))
    }

    /// Inputs, outputs, and where the outputs' rows are in the weight of block `block`.
    pub fn extent(self, config: &SamConfig, block: usize) -> (usize, usize, Rows) {
        let BlockSize { dim, heads, mlp, outputs } = config.block(block);
        let third = |part: usize| {
            let run = match config.encoder {
                EncoderKind::TinyVit(_) => dim / heads,
                EncoderKind::Vit | EncoderKind::Lite => dim,
            };
            (dim, dim, Rows { start: part * run, run, stride: 3 * run })
        };
        match self {
            Self::Query => third(0),
            Self::Key => third(1),
            Self::Value => third(2),
            Self::Projection => (dim, dim, Rows::all(dim)),
            Self::Mlp1 => (dim, mlp, Rows::all(mlp)),
            Self::Mlp2 => (mlp, outputs, Rows::all(outputs)),
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
                target.check(config)?;
                let (inputs, outputs, _) = target.extent(config, block);
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
        self.target.check(config)?;
        let (inputs, outputs, _) = self.target.extent(config, self.block);
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

    /// The factor for a layer of `outputs` and `inputs` on its device, and its rows there: the layer's heads may have been filled
    /// up with zeros ([`crate::layers::HeadPadding`]).
    fn fitted(&self, config: &SamConfig, [outputs, inputs]: [usize; 2]) -> (Self, Rows) {
        let (own_inputs, own_outputs, rows) = self.target.extent(config, self.block);
        let dim = config.head_dim();
        let mut fitted = self.clone();
        match self.target {
            Target::Query | Target::Key | Target::Value if outputs != 3 * own_outputs => {
                let wide = dim * outputs / (3 * own_outputs);
                fitted.b = widened(&self.b, dim * self.rank, wide * self.rank);
                let [start, run, stride] = [rows.start, rows.run, rows.stride].map(|count| count / dim * wide);
                (fitted, Rows { start, run, stride })
            }
            Target::Projection if inputs != own_inputs => {
                fitted.a = widened(&self.a, dim, dim * inputs / own_inputs);
                (fitted, rows)
            }
            _ => (fitted, rows),
        }
    }

    /// Merges into its weight in memory: `weight` is the whole matrix `[out, in]` called [`Target::weight_name`].
    ///
    /// # Panics
    /// If the sizes do not fit; [`Factor::check`] says so beforehand.
    pub fn add_to(&self, weight: &mut [f32], config: &SamConfig) {
        let (inputs, _, rows) = self.target.extent(config, self.block);
        for (i, b) in self.b.chunks_exact(self.rank).enumerate() {
            let row = &mut weight[rows.row(i) * inputs..][..inputs];
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
        // There is one: the factor has been checked.
        let Some(layer) = layer(sam, factor.block, factor.target) else { continue };
        let (factor, rows) = factor.fitted(config, layer.linear.weight.dims());
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
        };
        let [inputs, outputs] = [factor.a.len(), factor.b.len()].map(|count| count / factor.rank);
        layer.adapters.push(LowRank {
            a: matrix(factor.a, [factor.rank, inputs]),
            b: matrix(factor.b, [outputs, factor.rank]),
            scale: factor.scale,
            rows,
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
        layers.entry(factor.target.weight_name(config, factor.block)).or_default().push(factor);
    }
    for factors in layers.values() {
        let Some(layer) = layer(sam, factors[0].block, factors[0].target) else { continue };
        let [outputs, inputs] = layer.linear.weight.dims();
        let ranks = factors.iter().map(|f| f.rank).sum::<usize>().next_multiple_of(4);
        let (mut a, mut b) = (vec![0.0f32; inputs * ranks], vec![0.0f32; ranks * outputs]);
        let mut first = 0;
        for factor in factors {
            let (factor, rows) = factor.fitted(config, [outputs, inputs]);
            for (rank, row) in factor.a.chunks_exact(inputs).enumerate() {
                row.iter().enumerate().for_each(|(input, value)| a[input * ranks + first + rank] = *value);
            }
            for (output, row) in factor.b.chunks_exact(factor.rank).enumerate() {
                for (rank, value) in row.iter().enumerate() {
                    b[(first + rank) * outputs + rows.row(output)] = value * factor.scale as f32;
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
            rows: Rows::all(outputs),
            dropout: DropoutConfig::new(lora.dropout).init(),
        });
    }
}

/// Turns the matrices of the encoder's blocks to 8 bits in memory, symmetric, in blocks of up to 32 along the input with f32 scales
/// (QLoRA, Dettmers et al. 2023): for training adapters on a frozen base.
#[cfg(feature = "train")]
pub fn quantize_base(sam: &mut Sam) {
    for block in sam.image_encoder.blocks_mut() {
        for layer in block.all() {
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
            let [outputs, _] = layer.linear.weight.dims();
            let delta = adapter.outputs(outputs).matmul(adapter.a.val());
            let weight = (layer.linear.weight.operand().dense() + delta.transpose()).transpose();
            layer.linear.weight = Matrix::Dense(Param::from_tensor(weight));
        }
    }
}

/// The scale of each adapter of the encoder, by block and matrix.
pub fn scales(sam: &Sam, config: &SamConfig) -> BTreeMap<(usize, Target), f64> {
    let mut found = BTreeMap::new();
    for (block, layers) in sam.image_encoder.blocks().into_iter().enumerate() {
        for &target in Target::of(config) {
            let (_, _, rows) = target.extent(config, block);
            let adapters = target.layer_of(layers).map_or(&[][..], |layer| &layer.adapters);
            if let Some(adapter) = adapters.iter().find(|a| a.rows == rows) {
                found.insert((block, target), adapter.scale);
            }
        }
    }
    found
}

/// Whether any adapter of the encoder drops inputs in training.
pub fn drops(sam: &Sam) -> bool {
    let drops = |layer: &Adapted| layer.adapters.iter().any(|a| a.dropout.prob > 0.0);
    sam.image_encoder.blocks().into_iter().flat_map(AdaptedLayers::all).any(drops)
}

/// Every layer that can carry adapters.
fn layers(sam: &mut Sam) -> Vec<&mut Adapted> {
    let Sam { image_encoder, mask_decoder, .. } = sam;
    let encoder = image_encoder.blocks_mut().into_iter().flat_map(AdaptedLayers::all);
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
    sam.image_encoder.blocks().into_iter().flat_map(AdaptedLayers::all).map(adapters).sum()
}

fn layer(sam: &mut Sam, block: usize, target: Target) -> Option<&mut Adapted> {
    target.layer_of(sam.image_encoder.blocks_mut().into_iter().nth(block)?)
}
