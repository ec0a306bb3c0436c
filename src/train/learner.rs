//! The model in training: which parameters learn, their gradients, and the optimiser's step.
//!
//! Frozen weights stay on the plain device and enter the autodiff graph as constants; only what learns requires gradients,
//! and only while one is computed.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::module::Module;
use burn::optim::{AdamWConfig, AdamWState};
use burn::tensor::{Device, Gradients, Tensor};
use serde::{Deserialize, Serialize};

use super::loss::{Loss, LossOptions, LossTarget, TeacherWeights, loss, upsample};
use super::teacher::Teacher;
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::lora;
use crate::model::Sam;
use crate::weights::modules::{self, Named};

mod projection;
mod trained;
mod walk;

use projection::Projection;
pub use trained::{DecoderTraining, OptimizerOptions, Trained};
use walk::{Average, Collect, Learned, Read, Replace, Rule, Swap, Track, Update};

/// A parameter that learns.
pub struct Slot {
    /// Factor of the learning rate.
    rate: f64,
    /// The optimiser's moments, none before the first gradient.
    pub state: Option<AdamWState<1>>,
    /// The moving average of its values, in the order of memory; none where the run keeps none.
    pub average: Option<Tensor<1>>,
}

impl Slot {
    fn new(rate: f64) -> Self {
        Self { rate, state: None, average: None }
    }
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
            walk::add(sum, more.to_device(device));
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
    /// How a teacher counts, if there is one.
    taught: Option<TeacherWeights>,
    /// The model that teaches, where soft masks do not.
    teacher: Option<Teacher>,
    /// From the student's embedding to the teacher's, where their widths differ; its parameters are the last.
    projection: Option<Projection>,
}

impl Learner {
    /// `sam` on the plain `device`, adapters attached; `trained` says what learns.
    pub fn new(sam: Sam, config: &SamConfig, trained: &Trained, device: &Device, recompute: bool) -> Self {
        let parameters = modules::parameters(&sam, config);
        let slot = |p: &Named| Some(Slot::new(trained.rate(&p.name, config)?));
        let slots = parameters.iter().map(slot).collect();
        Self {
            sam,
            config: config.clone(),
            parameters,
            slots,
            device: device.clone(),
            recompute,
            seed: AtomicU64::new(0),
            taught: None,
            teacher: None,
            projection: None,
        }
    }

    /// Learns from soft masks as well, that count as `weights` say.
    pub fn teach_masks(&mut self, weights: TeacherWeights) {
        self.taught = Some(weights);
    }

    /// Learns from a teacher on the same device as well; `seed` decides what the projection of embeddings begins as.
    pub fn teach(&mut self, teacher: Teacher, seed: u64) {
        let widths = [self.config.out_chans, teacher.manifest().architecture.out_chans];
        self.taught = Some(teacher.weights());
        if teacher.weights().features > 0.0 && widths[0] != widths[1] {
            self.projection = Some(Projection::new(widths, seed, &self.device));
            self.parameters.extend(Projection::parameters(widths));
            self.slots.extend([Some(Slot::new(1.0)), Some(Slot::new(1.0))]);
        }
        self.teacher = Some(teacher);
    }

    /// Takes the teacher of `other`, on another device, to this one.
    ///
    /// # Errors
    /// Those of [`Teacher::on`].
    pub fn teach_as(&mut self, other: &Self) -> Result<()> {
        self.teacher = other.teacher.as_ref().map(|teacher| teacher.on(&self.device)).transpose()?;
        Ok(())
    }

    /// How a teacher counts, if there is one, and the model that is one.
    pub fn taught(&self) -> Option<(TeacherWeights, Option<&Teacher>)> {
        self.taught.map(|weights| (weights, self.teacher.as_ref()))
    }

    /// How many parameters are the model's own, before those of the projection.
    fn own(&self) -> usize {
        self.parameters.len() - self.projection.as_ref().map_or(0, |_| 2)
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
            let (loss, projection) = self.loss(&autodiff, pass.x, [h, w], target, options);
            let graph = loss.total.is_tracked().then(|| loss.total.backward());
            if let Some(graph) = graph {
                self.collect(&autodiff, &graph, into);
                self.collect_projection(projection, &graph, into);
            }
            return read_loss(loss);
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
        let (loss, projection) = self.loss(&autodiff, embedding, [h, w], target, options);
        let graph = loss.total.is_tracked().then(|| loss.total.backward());
        let values = read_loss(loss)?;
        let Some(graph) = graph else { return Ok(values) };
        self.collect(&autodiff, &graph, into);
        self.collect_projection(projection, &graph, into);
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

    /// The loss of an embedding, against labels and what a teacher said; and the projection in its graph, if it took part.
    fn loss(
        &self,
        autodiff: &Sam,
        embedding: Tensor<4>,
        size: [usize; 2],
        target: &LossTarget,
        options: &LossOptions,
    ) -> (Loss, Option<Projection>) {
        let logits = upsample(autodiff.decode(embedding.clone()), size);
        let Some(soft) = &target.soft else { return (loss(logits, target, options), None) };
        let projection = self.projection.as_ref().map(Projection::tracked);
        let loss = soft.mix(loss(logits.clone(), target, options), logits, options);
        let projected = match &projection {
            Some(projection) => projection.forward(embedding),
            None => embedding,
        };
        (soft.with_features(loss, projected), projection)
    }

    fn collect(&self, autodiff: &Sam, graph: &Gradients, into: &mut Accumulated) {
        autodiff.visit(&mut Collect { graph, slots: &self.slots, into: &mut into.gradients, index: 0 });
    }

    fn collect_projection(&self, tracked: Option<Projection>, graph: &Gradients, into: &mut Accumulated) {
        let Some(gradients) = tracked.map(|tracked| tracked.gradients(graph)) else { return };
        for (sum, gradient) in into.gradients.iter_mut().skip(self.own()).zip(gradients) {
            if let Some(gradient) = gradient {
                walk::add(sum, gradient);
            }
        }
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
        let rule = Rule {
            factor: mean * clip,
            rate,
            decaying: optimizer(options.weight_decay),
            plain: optimizer(0.0),
            decay_vectors: options.decay_vectors,
        };
        let own = self.own();
        let sam = self.sam.clone();
        let gradients = &mut accumulated.gradients;
        self.sam = sam.map(&mut Update { slots: &mut self.slots, gradients, rule: &rule, index: 0 });
        if let Some(projection) = &mut self.projection {
            projection.step(&mut self.slots[own..], &mut accumulated.gradients[own..], &rule);
        }
        Ok(norm)
    }

    /// The same on another device, where `sam` is already; optimiser and teacher stay here.
    pub fn on(&self, sam: Sam, device: &Device) -> Self {
        let slot = |slot: &Option<Slot>| slot.as_ref().map(|s| Slot::new(s.rate));
        Self {
            sam,
            config: self.config.clone(),
            parameters: self.parameters.clone(),
            slots: self.slots.iter().map(slot).collect(),
            device: device.clone(),
            recompute: self.recompute,
            seed: AtomicU64::new(0),
            taught: self.taught,
            teacher: None,
            projection: self.projection.as_ref().map(|projection| projection.on(device)),
        }
    }

    /// Takes over what `other`, on any device, has learned.
    pub fn copy_learned(&mut self, other: &Self) {
        let mut learned = Learned { slots: &other.slots, device: &self.device, values: Vec::new() };
        other.sam.visit(&mut learned);
        let values = learned.values;
        self.set_values(values);
        self.projection = other.projection.as_ref().map(|projection| projection.on(&self.device));
    }

    /// Moves the average of what learns by `share` (0 to 1) of the way to where it is now; begins it if there is none.
    pub fn average(&mut self, share: f64) {
        let own = self.own();
        self.sam.visit(&mut Average { slots: &mut self.slots[..own], share, index: 0 });
    }

    /// Puts the averages in place of the values, and the values in theirs; twice is nothing. Nothing without averages.
    pub fn swap_averages(&mut self) {
        let sam = self.sam.clone();
        self.sam = sam.map(&mut Swap { slots: &mut self.slots, index: 0 });
    }

    /// The values of parameter `index`, in the order of its shape.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if reading back fails.
    pub fn values(&self, index: usize) -> Result<Vec<f32>> {
        if let Some(projection) = self.projection.as_ref().filter(|_| index >= self.own()) {
            return read(projection.values(index - self.own()));
        }
        let mut reader = Read { wanted: index, index: 0, found: None };
        self.sam.visit(&mut reader);
        match reader.found {
            Some(flat) => read(flat),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no parameter {index}"))),
        }
    }

    /// Replaces the values of parameters, each flat in the order of its shape; none keeps what is there.
    pub fn set_values(&mut self, mut values: Vec<Option<Tensor<1>>>) {
        let own = self.own();
        if let Some(projection) = &mut self.projection {
            projection.set(values.split_off(own.min(values.len())));
        }
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
