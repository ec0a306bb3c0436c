//! The model in training: which parameters learn, their gradients, and the optimiser's step.
//!
//! Frozen weights stay on the plain device and enter the autodiff graph as constants; only what learns requires gradients,
//! and only while one is computed.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer};
use burn::tensor::{Device, Gradients, Tensor};
use serde::{Deserialize, Serialize};

use super::loss::{Loss, LossOptions, LossTarget, loss, upsample};
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::lora;
use crate::model::Sam;
use crate::weights::modules::{self, Named};

mod trained;

pub use trained::{DecoderTraining, OptimizerOptions, Trained};

/// A parameter that learns.
pub struct Slot {
    /// Factor of the learning rate.
    rate: f64,
    /// The optimiser's moments, none before the first gradient.
    pub state: Option<AdamWState<1>>,
}

/// Gradients by parameter, flat and in the order of memory; none where no gradient arrived.
pub struct Accumulated {
    gradients: Vec<Option<Tensor<1>>>,
    /// Micro-batches that were added.
    count: usize,
}

impl Accumulated {
    /// Parameters that a gradient arrived at, with its values in the order of SAM's shape.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if reading back fails.
    pub fn named(&self, learner: &Learner) -> Result<Vec<(String, Vec<f32>)>> {
        let mut found = Vec::new();
        for (parameter, gradient) in learner.parameters.iter().zip(&self.gradients) {
            if let Some(gradient) = gradient {
                found.push((parameter.name.clone(), read(in_shape_order(gradient.clone(), &parameter.shape))?));
            }
        }
        Ok(found)
    }
}

impl Accumulated {
    /// Adds gradients of another device, moved to `device`.
    pub fn add(&mut self, other: Self, device: &Device) {
        for (sum, more) in self.gradients.iter_mut().zip(other.gradients) {
            let Some(more) = more else { continue };
            let more = more.to_device(device);
            *sum = Some(match sum.take() {
                Some(sum) => sum + more,
                None => more,
            });
        }
        self.count += other.count;
    }
}

/// A loss's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LossValues {
    /// Cross-entropy or focal loss.
    pub cross_entropy: f64,
    /// 1 - Dice score.
    pub dice: f64,
    /// The mix.
    pub total: f64,
}

/// A model that learns, on a device.
pub struct Learner {
    /// Values of all parameters, on the plain device.
    pub sam: Sam,
    config: SamConfig,
    parameters: Vec<Named>,
    /// One for each parameter, none where it is frozen.
    pub slots: Vec<Option<Slot>>,
    device: Device,
    /// Whether blocks are computed again in the backward pass, so that memory holds the activations of one.
    recompute: bool,
    /// What dropout draws in the next batch.
    seed: AtomicU64,
}

impl Learner {
    /// `sam` on the plain `device`, adapters attached; `trained` says what learns.
    pub fn new(sam: Sam, config: &SamConfig, trained: &Trained, device: &Device, recompute: bool) -> Self {
        let parameters = modules::parameters(&sam, config);
        let slot = |p: &Named| Some(Slot { rate: trained.rate(&p.name, config)?, state: None });
        let slots = parameters.iter().map(slot).collect();
        Self {
            sam,
            config: config.clone(),
            parameters,
            slots,
            device: device.clone(),
            recompute,
            seed: AtomicU64::new(0),
        }
    }

    /// The architecture.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The plain device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// All parameters, in the order of [`Learner::slots`].
    pub fn parameters(&self) -> &[Named] {
        &self.parameters
    }

    /// Numbers that learn, and numbers in all.
    pub fn counts(&self) -> (usize, usize) {
        let size = |p: &Named| p.shape.iter().product::<usize>();
        let learning = self.parameters.iter().zip(&self.slots).filter(|(_, s)| s.is_some()).map(|(p, _)| size(p)).sum();
        (learning, self.parameters.iter().map(size).sum())
    }

    /// Nothing accumulated yet.
    pub fn accumulator(&self) -> Accumulated {
        Accumulated { gradients: self.parameters.iter().map(|_| None).collect(), count: 0 }
    }

    /// Decides what dropout draws in the next batch.
    pub fn seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// Each block draws from a seed of its own, so that computed again it draws the same.
    fn seed_part(&self, part: usize) {
        self.device.seed(self.seed.load(Ordering::Relaxed).wrapping_add(part as u64));
    }

    /// Adds the gradients of one micro-batch: normalised images `[b, bands, s, s]`. Gives its loss.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if the device fails.
    pub fn accumulate(
        &self,
        images: Tensor<4>,
        target: &LossTarget,
        options: &LossOptions,
        into: &mut Accumulated,
    ) -> Result<LossValues> {
        into.count += 1;
        let [_, _, h, w] = images.dims();
        let autodiff = self.sam.clone().map(&mut Track { slots: &self.slots, index: 0 });
        let depth = autodiff.image_encoder.depth();
        if !self.recompute {
            let mut pass = autodiff.image_encoder.start(images);
            while !pass.is_done() {
                self.seed_part(pass.done);
                pass = pass.advance();
            }
            let logits = upsample(autodiff.decode(pass.x), [h, w]);
            let loss = loss(logits, target, options);
            return self.finish(&autodiff, loss, into);
        }
        // Without a graph, keeping what goes into each block; dropout works in a graph only, which is let go at once.
        let encoder = if lora::drops(&self.sam) { &autodiff.image_encoder } else { &self.sam.image_encoder };
        let mut pass = encoder.start(images.clone());
        let mut inputs = Vec::new();
        while pass.done < depth {
            pass.x = pass.x.inner();
            inputs.push(pass.x.clone());
            self.seed_part(pass.done);
            pass = pass.advance();
        }
        let last = pass.x.inner().autodiff().require_grad();
        self.seed_part(depth);
        let embedding = autodiff.image_encoder.resume(depth, last.clone()).advance().x;
        let loss = loss(upsample(autodiff.decode(embedding), [h, w]), target, options);
        let graph = loss.total.is_tracked().then(|| loss.total.backward());
        let values = read_loss(loss)?;
        let Some(graph) = graph else { return Ok(values) };
        self.collect(&autodiff, &graph, into);
        let mut gradient = last.grad(&graph);
        // Each block again, with a graph, from the last to the first.
        for (i, input) in inputs.into_iter().enumerate().rev() {
            let Some(output_gradient) = gradient else { break };
            self.seed_part(i);
            let input = input.autodiff().require_grad();
            let output = autodiff.image_encoder.resume(i, input.clone()).advance().x;
            let graph = (output * output_gradient).sum().backward();
            self.collect(&autodiff, &graph, into);
            gradient = input.grad(&graph);
        }
        if let Some(output_gradient) = gradient {
            let embedded = autodiff.image_encoder.embed(images);
            if embedded.is_tracked() {
                let graph = (embedded * output_gradient).sum().backward();
                self.collect(&autodiff, &graph, into);
            }
        }
        Ok(values)
    }

    fn finish(&self, autodiff: &Sam, loss: Loss, into: &mut Accumulated) -> Result<LossValues> {
        if loss.total.is_tracked() {
            let graph = loss.total.backward();
            self.collect(autodiff, &graph, into);
        }
        read_loss(loss)
    }

    fn collect(&self, autodiff: &Sam, graph: &Gradients, into: &mut Accumulated) {
        autodiff.visit(&mut Collect { graph, slots: &self.slots, into: &mut into.gradients, index: 0 });
    }

    /// One step of AdamW with the mean of the accumulated gradients; parameters that none arrived at stay as they are, without
    /// weight decay. Gives the gradients' norm before clipping.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the norm is not finite: nothing is changed then. [`ErrorKind::Device`] if the device fails.
    pub fn step(&mut self, mut accumulated: Accumulated, rate: f64, options: &OptimizerOptions) -> Result<f64> {
        let mean = 1.0 / accumulated.count.max(1) as f64;
        let norm = norm(&accumulated.gradients)? * mean;
        if !norm.is_finite() {
            return Err(Error::new(ErrorKind::Invalid, format!("the gradients' norm is {norm}"))
                .remedy("lower the learning rate"));
        }
        let clip = options.clip_norm.map_or(1.0, |limit| (limit / norm.max(1e-12)).min(1.0));
        let optimizer = |decay: f64| {
            AdamWConfig::new()
                .with_beta_1(options.beta_1)
                .with_beta_2(options.beta_2)
                .with_epsilon(options.epsilon)
                .with_weight_decay(decay as f32)
                .build()
        };
        let sam = self.sam.clone();
        self.sam = sam.map(&mut Update {
            slots: &mut self.slots,
            gradients: &mut accumulated.gradients,
            factor: mean * clip,
            rate,
            decaying: optimizer(options.weight_decay),
            plain: optimizer(0.0),
            decay_vectors: options.decay_vectors,
            index: 0,
        });
        Ok(norm)
    }

    /// The same on another device, where `sam` is already; the optimiser stays here.
    pub fn on(&self, sam: Sam, device: &Device) -> Self {
        let slot = |slot: &Option<Slot>| slot.as_ref().map(|s| Slot { rate: s.rate, state: None });
        Self {
            sam,
            config: self.config.clone(),
            parameters: self.parameters.clone(),
            slots: self.slots.iter().map(slot).collect(),
            device: device.clone(),
            recompute: self.recompute,
            seed: AtomicU64::new(0),
        }
    }

    /// Takes over what `other`, on any device, has learned.
    pub fn copy_learned(&mut self, other: &Self) {
        let mut learned = Learned { slots: &other.slots, device: &self.device, values: Vec::new() };
        other.sam.visit(&mut learned);
        let values = learned.values;
        self.set_values(values);
    }

    /// The values of parameter `index`, in the order of its shape.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if reading back fails.
    pub fn values(&self, index: usize) -> Result<Vec<f32>> {
        let mut reader = Read { wanted: index, index: 0, found: None };
        self.sam.visit(&mut reader);
        match reader.found {
            Some(flat) => read(flat),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no parameter {index}"))),
        }
    }

    /// Replaces the values of parameters, each flat in the order of its shape; none keeps what is there.
    pub fn set_values(&mut self, values: Vec<Option<Tensor<1>>>) {
        let sam = self.sam.clone();
        self.sam = sam.map(&mut Replace { values, index: 0 });
    }
}

/// The sum of squares of all gradients, rooted: one number read back.
fn norm(gradients: &[Option<Tensor<1>>]) -> Result<f64> {
    let squares: Vec<Tensor<1>> = gradients.iter().flatten().map(|g| g.clone().square().sum()).collect();
    if squares.is_empty() {
        return Ok(0.0);
    }
    Ok(read(Tensor::cat(squares, 0))?.into_iter().map(f64::from).sum::<f64>().sqrt())
}

/// Reads a flat tensor back.
///
/// # Errors
/// [`ErrorKind::Device`] if that fails.
pub fn read(flat: Tensor<1>) -> Result<Vec<f32>> {
    let failed = |why: String| Error::new(ErrorKind::Device, "reading back failed").source(why);
    let data = flat.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    data.convert::<f32>().try_into_vec::<f32>().map_err(|e| failed(format!("{e:?}")))
}

fn read_loss(loss: Loss) -> Result<LossValues> {
    let parts = [loss.cross_entropy, loss.dice, loss.total].map(Tensor::inner);
    let values = read(Tensor::cat(parts.to_vec(), 0))?;
    let value = |i: usize| values.get(i).map_or(f64::NAN, |v| f64::from(*v));
    Ok(LossValues { cross_entropy: value(0), dice: value(1), total: value(2) })
}

/// A parameter's numbers in the order of memory: matrices of linear layers are column-major ([`crate::kernels::Weight`]).
fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    let x = if D == 2 { x.swap_dims(0, 1) } else { x };
    x.reshape([count])
}

/// The inverse of [`flat`].
fn unflat<const D: usize>(x: Tensor<1>, mut dims: [usize; D]) -> Tensor<D> {
    if D == 2 {
        dims.swap(0, 1);
        return x.reshape(dims).swap_dims(0, 1);
    }
    x.reshape(dims)
}

/// From the order of memory to the order of `shape`.
pub fn in_shape_order(x: Tensor<1>, shape: &[usize]) -> Tensor<1> {
    match *shape {
        [rows, columns] => x.reshape([columns, rows]).swap_dims(0, 1).reshape([rows * columns]),
        _ => x,
    }
}

/// From the order of `shape` to the order of memory.
pub fn in_memory_order(x: Tensor<1>, shape: &[usize]) -> Tensor<1> {
    match *shape {
        [rows, columns] => x.reshape([rows, columns]).swap_dims(0, 1).reshape([rows * columns]),
        _ => x,
    }
}

/// Makes what learns a leaf of the graph.
struct Track<'a> {
    slots: &'a [Option<Slot>],
    index: usize,
}

impl ModuleMapper for Track<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.index += 1;
        match self.slots.get(self.index - 1) {
            Some(Some(_)) => Param::initialized(param.id, param.val().autodiff().require_grad()),
            _ => param,
        }
    }
}

/// Adds what the graph found.
struct Collect<'a> {
    graph: &'a Gradients,
    slots: &'a [Option<Slot>],
    into: &'a mut [Option<Tensor<1>>],
    index: usize,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.index += 1;
        let (Some(Some(_)), Some(sum)) = (self.slots.get(self.index - 1), self.into.get_mut(self.index - 1)) else {
            return;
        };
        if let Some(gradient) = param.val().grad(self.graph) {
            let gradient = flat(gradient);
            *sum = Some(match sum.take() {
                Some(sum) => sum + gradient,
                None => gradient,
            });
        }
    }
}

/// The optimiser's step.
struct Update<'a> {
    slots: &'a mut [Option<Slot>],
    gradients: &'a mut [Option<Tensor<1>>],
    factor: f64,
    rate: f64,
    decaying: AdamW,
    plain: AdamW,
    decay_vectors: bool,
    index: usize,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let i = self.index;
        self.index += 1;
        let Some(Some(slot)) = self.slots.get_mut(i) else { return param };
        let Some(gradient) = self.gradients.get_mut(i).and_then(Option::take) else { return param };
        let dims = param.dims();
        let optimizer = if D > 1 || self.decay_vectors { &self.decaying } else { &self.plain };
        let gradient = gradient * self.factor;
        let (value, state) = optimizer.step(self.rate * slot.rate, flat(param.val()), gradient, slot.state.take());
        slot.state = state;
        Param::initialized(param.id, unflat(value, dims))
    }
}

struct Read {
    wanted: usize,
    index: usize,
    found: Option<Tensor<1>>,
}

impl ModuleVisitor for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.index == self.wanted {
            let count = param.dims().iter().product::<usize>();
            self.found = Some(param.val().dequantize().reshape([count]));
        }
        self.index += 1;
    }
}

/// Values of what learns, on another device.
struct Learned<'a> {
    slots: &'a [Option<Slot>],
    device: &'a Device,
    values: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Learned<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let count = param.dims().iter().product::<usize>();
        let learns = matches!(self.slots.get(self.values.len()), Some(Some(_)));
        self.values.push(learns.then(|| param.val().reshape([count]).to_device(self.device)));
    }
}

struct Replace {
    values: Vec<Option<Tensor<1>>>,
    index: usize,
}

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.index += 1;
        match self.values.get_mut(self.index - 1).and_then(Option::take) {
            Some(value) => {
                let dims = param.dims();
                let shape: Vec<usize> = dims.to_vec();
                Param::initialized(param.id, unflat(in_memory_order(value, &shape), dims))
            }
            None => param,
        }
    }
}
