//! The decoder's two-way transformer: tokens attend to the image and the image to the tokens (`transformer.py`).

use burn::module::Module;
use burn::tensor::Tensor;

use super::common::{LayerNorm, MlpBlock};
use crate::config::{DECODER_NORM_EPS, SamConfig};
use crate::error::Result;
use crate::kernels::{Activation, cross_attention};
use crate::layers::{Adapted, Linear, Scope};

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

    /// Takes its parameters.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn load(mut from: Scope<'_>, config: &SamConfig) -> Result<Self> {
        Ok(Self {
            layers: (0..config.decoder_depth)
                .map(|i| TwoWayAttentionBlock::load(from.scope(format_args!("layers.{i}")), config, i == 0))
                .collect::<Result<_>>()?,
            final_attn_token_to_image: DecoderAttention::load(from.scope("final_attn_token_to_image"), config)?,
            norm_final_attn: LayerNorm::load(from.scope("norm_final_attn"), DECODER_NORM_EPS)?,
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
    fn load(mut from: Scope<'_>, config: &SamConfig, first: bool) -> Result<Self> {
        Ok(Self {
            self_attn: DecoderAttention::load(from.scope("self_attn"), config)?,
            norm1: LayerNorm::load(from.scope("norm1"), DECODER_NORM_EPS)?,
            cross_attn_token_to_image: DecoderAttention::load(from.scope("cross_attn_token_to_image"), config)?,
            norm2: LayerNorm::load(from.scope("norm2"), DECODER_NORM_EPS)?,
            mlp: MlpBlock::load(from.scope("mlp"), Activation::Relu)?,
            norm3: LayerNorm::load(from.scope("norm3"), DECODER_NORM_EPS)?,
            norm4: LayerNorm::load(from.scope("norm4"), DECODER_NORM_EPS)?,
            cross_attn_image_to_token: DecoderAttention::load(from.scope("cross_attn_image_to_token"), config)?,
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

    fn load(mut from: Scope<'_>, config: &SamConfig) -> Result<Self> {
        Ok(Self {
            q_proj: Adapted::load(from.scope("q_proj"))?,
            k_proj: Linear::load(from.scope("k_proj"))?,
            v_proj: Adapted::load(from.scope("v_proj"))?,
            out_proj: Linear::load(from.scope("out_proj"))?,
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
