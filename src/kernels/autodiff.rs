//! The CPU's fused operations as nodes of burn's autodiff graph, with gradients of our own.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::BackendTypes;
use burn_flex::{Flex, FlexTensor};

use super::activation::Activation;
use super::cpu::{self, AttentionShape, Order, Products};

mod convolution;

pub use convolution::{conv3x3, depthwise};

type AutodiffTensor = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// An operation's gradients: what it keeps of the forward pass is its state.
trait Gradient<const N: usize>: Clone + Debug + Send + 'static {
    /// Gradients of the inputs that `wanted` marks, from that of the output.
    fn gradients(&self, output: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

#[derive(Debug)]
struct RecordedStep<G>(PhantomData<G>);

impl<G: Gradient<N>, const N: usize> Backward<Flex, N> for RecordedStep<G> {
    type State = G;

    fn backward(self, ops: Ops<G, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = grads.consume::<Flex>(&ops.node).to_contiguous();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state.gradients(output, wanted)) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Puts `output`, computed from `inputs`, into the graph.
fn record<G: Gradient<N>, const N: usize, const D: usize>(
    inputs: [AutodiffTensor; N],
    output: FlexTensor,
    state: G,
) -> Tensor<D> {
    let nodes = inputs.each_ref().map(|input| input.node());
    let prepared = RecordedStep::<G>(PhantomData).prepare::<NoCheckpointing>(nodes).compute_bound();
    let output = match prepared.stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// Whether `x` is a tensor of the CPU's autodiff device.
pub fn is_autodiff<const D: usize>(x: &Tensor<D>) -> bool {
    x.clone().try_into_primitive::<Autodiff<Flex>>().is_ok()
}

/// The tensor as a node, strided; a plain one is a constant.
fn node<const D: usize>(x: Tensor<D>) -> AutodiffTensor {
    match x.clone().try_into_primitive::<Autodiff<Flex>>() {
        Ok(node) => node,
        Err(_) => AutodiffTensor::new(cpu::view(&x).unwrap_or_else(|| cpu::values(&x))),
    }
}

fn plain(x: &AutodiffTensor) -> FlexTensor {
    x.primitive().to_contiguous()
}

/// In place of an input that is not there.
fn absent() -> AutodiffTensor {
    AutodiffTensor::new(cpu::primitive(Vec::new(), &[0]))
}

/// An activation that is a limit, or none: the result tells where it let its gradient pass.
#[derive(Clone, Debug)]
struct Limited(Option<(FlexTensor, f32)>);

impl Limited {
    /// Of an activation that is not [`Activation::Gelu`], which gave `output`.
    fn new(activation: Activation, output: &FlexTensor) -> Self {
        Self(match activation {
            Activation::None | Activation::Gelu => None,
            Activation::Relu => Some((output.clone(), f32::INFINITY)),
            Activation::Relu6 => Some((output.clone(), 6.0)),
        })
    }

    /// The gradient of what was limited.
    fn gradient(&self, gradient: FlexTensor) -> FlexTensor {
        match &self.0 {
            Some((output, most)) => cpu::limit_gradient(output, *most, gradient),
            None => gradient,
        }
    }
}

#[derive(Clone, Debug)]
struct LinearBackward {
    /// Only where the matrix's gradient is asked for.
    x: Option<FlexTensor>,
    matrix: FlexTensor,
    limited: Limited,
}

impl Gradient<4> for LinearBackward {
    fn gradients(&self, output: FlexTensor, [x, matrix, bias, residual]: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let output = self.limited.gradient(output);
        let outputs = self.matrix.layout().shape()[1];
        let transposed = || cpu::CpuMatrix::dense(cpu::transposed(&self.matrix));
        let dx = x.then(|| cpu::linear(&output, &transposed(), &cpu::CpuEpilogue::default()));
        let dmatrix = self.x.as_ref().filter(|_| matrix).map(|x| cpu::product_of_transposed(x, &output));
        let dbias = bias.then(|| cpu::column_sums(&output, outputs));
        [dx, dmatrix, dbias, residual.then_some(output)]
    }
}

/// `activation(x matrix + bias + residual)`. See [`super::linear`]; the activation is not [`Activation::Gelu`].
pub fn linear<const D: usize>(
    x: Tensor<D>,
    matrix: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
    activation: Activation,
) -> Tensor<D> {
    let is_there = [bias.is_some(), residual.is_some()];
    let inputs = [node(x), node(matrix), bias.map_or_else(absent, node), residual.map_or_else(absent, node)];
    let flat = plain(&inputs[0]);
    let matrix = inputs[1].primitive().clone();
    let [bias, residual] = [0, 1].map(|i| is_there[i].then(|| plain(&inputs[2 + i])));
    let epilogue = cpu::CpuEpilogue { bias: bias.as_ref(), residual: residual.as_ref(), activation };
    let output = cpu::linear(&flat, &cpu::CpuMatrix::dense(matrix.clone()), &epilogue);
    let x = inputs[1].is_tracked().then_some(flat);
    let limited = Limited::new(activation, &output);
    record(inputs, output, LinearBackward { x, matrix, limited })
}

#[derive(Clone, Debug)]
struct BiasGelu {
    x: FlexTensor,
    bias: FlexTensor,
}

impl Gradient<2> for BiasGelu {
    fn gradients(&self, output: FlexTensor, [x, bias]: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let sum = cpu::bias_gelu_gradient(&self.x, &self.bias, output);
        let bias = bias.then(|| cpu::column_sums(&sum, self.bias.storage::<f32>().len()));
        [x.then_some(sum), bias]
    }
}

/// See [`super::bias_gelu`].
pub fn bias_gelu<const D: usize>(x: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    let inputs = [node(x), node(bias)];
    let state = BiasGelu { x: plain(&inputs[0]), bias: plain(&inputs[1]) };
    let output = cpu::bias_gelu(state.x.clone(), &state.bias);
    record(inputs, output, state)
}

#[derive(Clone, Debug)]
struct LayerNormBackward {
    x: FlexTensor,
    weight: FlexTensor,
    moments: Vec<f32>,
}

impl Gradient<3> for LayerNormBackward {
    fn gradients(&self, output: FlexTensor, [x, weight, bias]: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (dx, parameters) = cpu::layer_norm_gradients(&self.x, &self.weight, &self.moments, &output, weight || bias);
        let [dweight, dbias] = match parameters {
            Some([w, b]) => [weight.then_some(w), bias.then_some(b)],
            None => [None, None],
        };
        [x.then_some(dx), dweight, dbias]
    }
}

/// See [`super::layer_norm`].
pub fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let inputs = [node(x), node(weight), node(bias)];
    let [x, weight, bias] = inputs.each_ref().map(plain);
    let normalized = cpu::layer_norm_with_moments(&x, &weight, &bias, epsilon);
    record(inputs, normalized.output, LayerNormBackward { x, weight, moments: normalized.moments })
}

#[derive(Clone, Debug)]
struct WindowAttentionBackward {
    shape: AttentionShape,
    qkv: FlexTensor,
    bias: FlexTensor,
    rel_pos: [FlexTensor; 2],
}

impl Gradient<4> for WindowAttentionBackward {
    fn gradients(&self, output: FlexTensor, [qkv, bias, rel_h, rel_w]: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let products = Products { qkv: &self.qkv, beyond: &self.bias, order: Order::Thirds };
        let positions = cpu::Positions::of_tables(self.rel_pos.each_ref());
        let (dqkv, dbias, tables) =
            cpu::window_attention_gradients(self.shape, products, &positions, &output, rel_h || rel_w);
        let mut tables = tables.into_iter().flatten().zip(&self.rel_pos);
        let [drel_h, drel_w] = [rel_h, rel_w].map(|wanted| {
            let table = tables.next().map(|(values, table)| cpu::primitive(values, table.layout().shape()));
            table.filter(|_| wanted)
        });
        [qkv.then_some(dqkv), bias.then_some(dbias), drel_h, drel_w]
    }
}

/// See [`super::WindowAttention::forward`].
pub fn window_attention(
    shape: AttentionShape,
    qkv: Tensor<4>,
    bias: Tensor<1>,
    [rel_h, rel_w]: [Tensor<2>; 2],
) -> Tensor<4> {
    let inputs = [node(qkv), node(bias), node(rel_h), node(rel_w)];
    let [qkv, bias, rel_h, rel_w] = inputs.each_ref().map(plain);
    let rel_pos = [rel_h, rel_w];
    let products = Products { qkv: &qkv, beyond: &bias, order: Order::Thirds };
    let output = cpu::window_attention(shape, products, &cpu::Positions::of_tables(rel_pos.each_ref()));
    record(inputs, output, WindowAttentionBackward { shape, qkv, bias, rel_pos })
}

#[derive(Clone, Debug)]
struct BiasedAttentionBackward {
    shape: AttentionShape,
    qkv: FlexTensor,
    beyond: FlexTensor,
    biases: FlexTensor,
}

impl Gradient<3> for BiasedAttentionBackward {
    fn gradients(&self, output: FlexTensor, [qkv, beyond, biases]: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let products = Products { qkv: &self.qkv, beyond: &self.beyond, order: Order::Heads };
        let added = cpu::Biases::new(&self.biases);
        let (dqkv, dbeyond, dbiases) = cpu::window_attention_gradients(self.shape, products, &added, &output, biases);
        let dbiases = dbiases.into_iter().flatten().next();
        let dbiases = dbiases.map(|values| cpu::primitive(values, self.biases.layout().shape()));
        [qkv.then_some(dqkv), beyond.then_some(dbeyond), dbiases]
    }
}

/// See [`super::BiasedAttention::forward`].
pub fn biased_attention(shape: AttentionShape, qkv: Tensor<4>, beyond: Tensor<1>, biases: Tensor<3>) -> Tensor<4> {
    let inputs = [node(qkv), node(beyond), node(biases)];
    let [qkv, beyond, biases] = inputs.each_ref().map(plain);
    let products = Products { qkv: &qkv, beyond: &beyond, order: Order::Heads };
    let output = cpu::window_attention(shape, products, &cpu::Biases::new(&biases));
    record(inputs, output, BiasedAttentionBackward { shape, qkv, beyond, biases })
}
