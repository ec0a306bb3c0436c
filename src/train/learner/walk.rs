//! What is done to each parameter in turn: burn's visitors and mappers of a model.

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::optim::{AdamW, Optimizer};
use burn::tensor::{Device, Gradients, Tensor};

use super::{Slot, in_memory_order};

/// A parameter's numbers in the order of memory: matrices of linear layers are column-major ([`crate::kernels::Weight`]).
pub(super) fn flat<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    let count = x.dims().iter().product::<usize>();
    let x = if D == 2 { x.swap_dims(0, 1) } else { x };
    x.reshape([count])
}

/// The inverse of [`flat`].
pub(super) fn unflat<const D: usize>(x: Tensor<1>, mut dims: [usize; D]) -> Tensor<D> {
    if D == 2 {
        dims.swap(0, 1);
        return x.reshape(dims).swap_dims(0, 1);
    }
    x.reshape(dims)
}

/// Makes what learns a leaf of the graph.
pub(super) struct Track<'a> {
    pub(super) slots: &'a [Option<Slot>],
    pub(super) index: usize,
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
pub(super) struct Collect<'a> {
    pub(super) graph: &'a Gradients,
    pub(super) slots: &'a [Option<Slot>],
    pub(super) into: &'a mut [Option<Tensor<1>>],
    pub(super) index: usize,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.index += 1;
        let (Some(Some(_)), Some(sum)) = (self.slots.get(self.index - 1), self.into.get_mut(self.index - 1)) else {
            return;
        };
        if let Some(gradient) = param.val().grad(self.graph) {
            add(sum, flat(gradient));
        }
    }
}

/// The optimiser's step.
pub(super) struct Update<'a> {
    pub(super) slots: &'a mut [Option<Slot>],
    pub(super) gradients: &'a mut [Option<Tensor<1>>],
    pub(super) rule: &'a Rule,
    pub(super) index: usize,
}

/// How a parameter is updated.
pub(super) struct Rule {
    /// Gradients are multiplied by it.
    pub(super) factor: f64,
    pub(super) rate: f64,
    pub(super) decaying: AdamW,
    pub(super) plain: AdamW,
    pub(super) decay_vectors: bool,
}

impl Rule {
    /// The new value of a flat parameter that has `axes` axes.
    pub(super) fn step(&self, slot: &mut Slot, value: Tensor<1>, gradient: Tensor<1>, axes: usize) -> Tensor<1> {
        let optimizer = if axes > 1 || self.decay_vectors { &self.decaying } else { &self.plain };
        let gradient = gradient * self.factor;
        let (value, state) = optimizer.step(self.rate * slot.rate, value, gradient, slot.state.take());
        slot.state = state;
        value
    }
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let i = self.index;
        self.index += 1;
        let Some(Some(slot)) = self.slots.get_mut(i) else { return param };
        let Some(gradient) = self.gradients.get_mut(i).and_then(Option::take) else { return param };
        let dims = param.dims();
        let value = self.rule.step(slot, flat(param.val()), gradient, D);
        Param::initialized(param.id, unflat(value, dims))
    }
}

pub(super) struct Read {
    pub(super) wanted: usize,
    pub(super) index: usize,
    pub(super) found: Option<Tensor<1>>,
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
pub(super) struct Learned<'a> {
    pub(super) slots: &'a [Option<Slot>],
    pub(super) device: &'a Device,
    pub(super) values: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Learned<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let count = param.dims().iter().product::<usize>();
        let learns = matches!(self.slots.get(self.values.len()), Some(Some(_)));
        self.values.push(learns.then(|| param.val().reshape([count]).to_device(self.device)));
    }
}

pub(super) struct Replace {
    pub(super) values: Vec<Option<Tensor<1>>>,
    pub(super) index: usize,
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

/// Adds to a sum that may not have begun.
pub(super) fn add(sum: &mut Option<Tensor<1>>, more: Tensor<1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + more,
        None => more,
    });
}

/// Moves averages towards the values: `average + (value - average) * share`; one that has not begun is the value.
pub(super) struct Average<'a> {
    pub(super) slots: &'a mut [Option<Slot>],
    pub(super) share: f64,
    pub(super) index: usize,
}

impl ModuleVisitor for Average<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.index += 1;
        let Some(Some(slot)) = self.slots.get_mut(self.index - 1) else { return };
        let value = flat(param.val());
        slot.average = Some(match slot.average.take() {
            Some(average) => average.clone() + (value - average) * self.share,
            None => value,
        });
    }
}

/// Averages and values change places.
pub(super) struct Swap<'a> {
    pub(super) slots: &'a mut [Option<Slot>],
    pub(super) index: usize,
}

impl ModuleMapper for Swap<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.index += 1;
        let Some(Some(slot)) = self.slots.get_mut(self.index - 1) else { return param };
        let Some(average) = slot.average.take() else { return param };
        slot.average = Some(flat(param.val()));
        Param::initialized(param.id, unflat(average, param.dims()))
    }
}
