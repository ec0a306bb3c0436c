//! The map from the student's embedding to the teacher's, where their widths differ: learnt with the student, kept nowhere
//! but in checkpoints.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::Slot;
use super::walk::Rule;
use crate::random::SplitMix;
use crate::weights::modules::Named;

/// A convolution of one pixel.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    /// `[student, teacher]`.
    weight: Tensor<2>,
    /// `[1, teacher]`.
    bias: Tensor<2>,
}

impl Projection {
    /// From `student` to `teacher` channels, as PyTorch initialises a linear layer, without bias.
    pub(super) fn new([student, teacher]: [usize; 2], seed: u64, device: &Device) -> Self {
        let mut random = SplitMix(seed ^ 0x7EAC_4E12);
        let bound = 1.0 / (student as f32).sqrt();
        let weight: Vec<f32> = (0..student * teacher).map(|_| random.uniform() * bound).collect();
        Self {
            weight: Tensor::from_data(TensorData::new(weight, [student, teacher]), device),
            bias: Tensor::zeros([1, teacher], device),
        }
    }

    /// Its parameters' names and shapes, in the order of their indices.
    pub(super) fn parameters([student, teacher]: [usize; 2]) -> [Named; 2] {
        let named = |name: &str, shape| Named { name: format!("teacher.projection.{name}"), shape };
        // No matrix of a linear layer, whose order in memory is another.
        [named("weight", vec![student * teacher]), named("bias", vec![teacher])]
    }

    /// As leaves of a graph.
    pub(super) fn tracked(&self) -> Self {
        let leaf = |x: &Tensor<2>| x.clone().autodiff().require_grad();
        Self { weight: leaf(&self.weight), bias: leaf(&self.bias) }
    }

    /// `[b, student, h, w]` to `[b, teacher, h, w]`.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let [_, out] = self.weight.dims();
        let x = x.permute([0, 2, 3, 1]).reshape([b * h * w, c]);
        let x = x.matmul(self.weight.clone()) + self.bias.clone();
        x.reshape([b, h, w, out]).permute([0, 3, 1, 2])
    }

    /// Flat gradients of weight and bias.
    pub(super) fn gradients(&self, graph: &Gradients) -> [Option<Tensor<1>>; 2] {
        [&self.weight, &self.bias].map(|x| x.grad(graph).map(flat))
    }

    /// The optimiser's step, with its own slots and gradients.
    pub(super) fn step(&mut self, slots: &mut [Option<Slot>], gradients: &mut [Option<Tensor<1>>], rule: &Rule) {
        let own = [(&mut self.weight, 2), (&mut self.bias, 1)];
        for (((value, axes), slot), gradient) in own.into_iter().zip(slots).zip(gradients) {
            let (Some(slot), Some(gradient)) = (slot, gradient.take()) else { continue };
            *value = rule.step(slot, flat(value.clone()), gradient, axes).reshape(value.dims());
        }
    }

    /// Flat values of parameter 0 or 1.
    pub(super) fn values(&self, index: usize) -> Tensor<1> {
        flat(if index == 0 { self.weight.clone() } else { self.bias.clone() })
    }

    /// Replaces values, flat.
    pub(super) fn set(&mut self, values: Vec<Option<Tensor<1>>>) {
        for (value, new) in [&mut self.weight, &mut self.bias].into_iter().zip(values) {
            if let Some(new) = new {
                *value = new.reshape(value.dims());
            }
        }
    }

    /// The same on another device.
    pub(super) fn on(&self, device: &Device) -> Self {
        Self { weight: self.weight.clone().to_device(device), bias: self.bias.clone().to_device(device) }
    }
}

fn flat(x: Tensor<2>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    x.reshape([count])
}
