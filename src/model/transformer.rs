//! The decoder's two-way transformer: tokens attend to the image and the image to the tokens (`transformer.py`).

use burn::module::Module;
use burn::tensor::Tensor;

use super::common::{LayerNorm, MlpBlock};
use crate::config::{DECODER_NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::{Activation, cross_attention};
use crate::layers::{Adapted, Linear, Parameters};

/// The two-way transformer.
#[derive(Module, Debug)]
pub struct TwoWayTransformer {
    /// Layers, first to last.
    pub layers: Vec<TwoWayAttentionBlock>,
    /// Tokens to image, once more at the end.
    pub final_attn_token_to_image: DecoderAttention,
    /// After it.
    pub norm_final_attn: LayerNorm,
}

impl TwoWayTransformer {
    /// Every linear layer, to change it.
    pub fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let layers = self.layers.iter_mut().flat_map(move |layer| {
            let attentions =
                [&mut layer.self_attn, &mut layer.cross_attn_token_to_image, &mut layer.cross_attn_image_to_token];
            attentions
                .into_iter()
                .flat_map(DecoderAttention::linears)
                .chain([&mut layer.mlp.lin1.linear, &mut layer.mlp.lin2.linear])
        });
        layers.chain(self.final_attn_token_to_image.linears())
    }

    /// Takes `mask_decoder.transformer.*`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn load(from: &mut Parameters, config: &SamConfig) -> Result<Self> {
        let name = "mask_decoder.transformer";
        Ok(Self {
            layers: (0..config.decoder_depth)
                .map(|i| TwoWayAttentionBlock::load(from, config, &format!("{name}.layers.{i}"), i == 0))
                .collect::<Result<_>>()?,
            final_attn_token_to_image: DecoderAttention::load(
                from,
                config,
                &format!("{name}.final_attn_token_to_image"),
                config.attention_downsample,
            )?,
            norm_final_attn: LayerNorm::load(
                from,
                &format!("{name}.norm_final_attn"),
                config.out_chans,
                DECODER_NORM_EPS,
            )?,
        })
    }

    /// Image `[b, cells, c]` with its positions, and tokens `[b, n, c]`, to (tokens, image) of the same shapes.
    pub fn forward(&self, image: Tensor<3>, image_pe: Tensor<3>, tokens: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let (mut queries, mut keys) = (tokens.clone(), image);
        for layer in &self.layers {
            (queries, keys) = layer.forward(queries, keys, tokens.clone(), image_pe.clone());
        }
        let attention = &self.final_attn_token_to_image;
        let q = Side::new(queries.clone(), tokens);
        let attended = attention.forward(q, Side::new(keys.clone(), image_pe), keys.clone(), Some(queries));
        (self.norm_final_attn.forward(attended), keys)
    }
}

/// One layer: self-attention of tokens, tokens to image, MLP on tokens, image to tokens.
#[derive(Module, Debug)]
pub struct TwoWayAttentionBlock {
    /// Among tokens, at full width.
    pub self_attn: DecoderAttention,
    /// After it.
    pub norm1: LayerNorm,
    /// From tokens to the image.
    pub cross_attn_token_to_image: DecoderAttention,
    /// After it.
    pub norm2: LayerNorm,
    /// On tokens.
    pub mlp: MlpBlock,
    /// After it.
    pub norm3: LayerNorm,
    /// After the last attention.
    pub norm4: LayerNorm,
    /// From the image to tokens.
    pub cross_attn_image_to_token: DecoderAttention,
    /// The first layer's queries are their own positions.
    skip_first_layer_pe: bool,
}

impl TwoWayAttentionBlock {
    fn load(from: &mut Parameters, config: &SamConfig, name: &str, first: bool) -> Result<Self> {
        let (c, down) = (config.out_chans, config.attention_downsample);
        let mut norm = |i: usize| LayerNorm::load(from, &format!("{name}.norm{i}"), c, DECODER_NORM_EPS);
        let (norm1, norm2, norm3, norm4) = (norm(1)?, norm(2)?, norm(3)?, norm(4)?);
        let mut attention = |part: &str, down| DecoderAttention::load(from, config, &format!("{name}.{part}"), down);
        Ok(Self {
            self_attn: attention("self_attn", 1)?,
            cross_attn_token_to_image: attention("cross_attn_token_to_image", down)?,
            cross_attn_image_to_token: attention("cross_attn_image_to_token", down)?,
            mlp: MlpBlock::load(from, &format!("{name}.mlp"), c, config.decoder_mlp, Activation::Relu)?,
            norm1,
            norm2,
            norm3,
            norm4,
            skip_first_layer_pe: first,
        })
    }

    fn forward(
        &self,
        queries: Tensor<3>,
        keys: Tensor<3>,
        query_pe: Tensor<3>,
        key_pe: Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>) {
        let queries = if self.skip_first_layer_pe {
            let q = Side { x: queries.clone(), pe: None };
            self.self_attn.forward(q.clone(), q, queries, None)
        } else {
            let q = Side::new(queries.clone(), query_pe.clone());
            self.self_attn.forward(q.clone(), q, queries.clone(), Some(queries))
        };
        let queries = self.norm1.forward(queries);

        let q = Side::new(queries.clone(), query_pe.clone());
        let k = Side::new(keys.clone(), key_pe);
        let queries = self.cross_attn_token_to_image.forward(q, k.clone(), keys.clone(), Some(queries));
        let queries = self.norm2.forward(queries);

        let queries = self.norm3.forward(self.mlp.forward(queries.clone(), queries));

        let q = Side::new(queries.clone(), query_pe);
        let keys = self.cross_attn_image_to_token.forward(k, q, queries.clone(), Some(keys));
        (queries, self.norm4.forward(keys))
    }
}

/// What queries or keys are made from: tokens or the image, and their positions, which are added to them.
#[derive(Clone)]
struct Side {
    x: Tensor<3>,
    pe: Option<Tensor<3>>,
}

impl Side {
    fn new(x: Tensor<3>, pe: Tensor<3>) -> Self {
        Self { x, pe: Some(pe) }
    }
}

/// Multi-head attention on `out_chans / downsample` channels (`Attention` of `transformer.py`).
#[derive(Module, Debug)]
pub struct DecoderAttention {
    /// Queries.
    pub q_proj: Adapted,
    /// Keys.
    pub k_proj: Linear,
    /// Values.
    pub v_proj: Adapted,
    /// Back to `out_chans`.
    pub out_proj: Linear,
    num_heads: usize,
}

impl DecoderAttention {
    fn linears(&mut self) -> [&mut Linear; 4] {
        [&mut self.q_proj.linear, &mut self.k_proj, &mut self.v_proj.linear, &mut self.out_proj]
    }

    fn load(from: &mut Parameters, config: &SamConfig, name: &str, downsample: usize) -> Result<Self> {
        let (outer, inner) = (config.out_chans, config.out_chans / downsample);
        Ok(Self {
            q_proj: Adapted::load(from, &format!("{name}.q_proj"), outer, inner)?,
            k_proj: Linear::load(from, &format!("{name}.k_proj"), outer, inner)?,
            v_proj: Adapted::load(from, &format!("{name}.v_proj"), outer, inner)?,
            out_proj: Linear::load(from, &format!("{name}.out_proj"), inner, outer)?,
            num_heads: config.decoder_heads,
        })
    }

    /// q `[b, n, c]`, k and v `[b, m, c]` to `[b, n, c]`, and the sum with `residual`.
    fn forward(&self, q: Side, k: Side, v: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let q = self.q_proj.fused(q.x, q.pe, None, Activation::None);
        let k = self.k_proj.fused(k.x, k.pe, None, Activation::None);
        let v = self.v_proj.forward(v);
        self.out_proj.fused(cross_attention(q, k, v, self.num_heads), None, residual, Activation::None)
    }
}
