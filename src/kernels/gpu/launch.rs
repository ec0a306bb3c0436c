//! Launching a kernel: its text, buffers and sizes.
//!
//! Every buffer is bound as writable, because the runtime cuts several tensors out of one buffer and WebGPU allows it one kind of use in
//! a dispatch; the last binding of each kernel, `p`, holds its sizes, so that one pipeline serves every shape.

use burn::tensor::DType;
use burn_wgpu::{CubeDim, CubeTensor, KernelSource, SourceKernel, SourceTemplate};
use cubecl::CubeCount;
use cubecl::prelude::KernelId;
use cubecl::server::{KernelArguments, MetadataBindingInfo};

use super::template::{SlotValues, render};
use crate::kernels::activation::Activation;

/// The text of a `.wgsl` file of this folder, of which `build.rs` leaves out comments and indentation.
macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name, ".wgsl"))
    };
}

pub(super) use wgsl;

/// A kernel's text before its variants are decided.
struct Text {
    name: &'static str,
    template: &'static str,
    values: SlotValues<'static>,
}

impl KernelSource for Text {
    fn source(&self) -> SourceTemplate {
        let prelude = render(wgsl!("prelude"), &self.values);
        SourceTemplate::new(prelude + &render(self.template, &self.values))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info((self.name, self.values.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// A launch: a text, its buffers in the order of their bindings, and its sizes.
pub struct Launch {
    text: Text,
    buffers: Vec<CubeTensor>,
    sizes: Vec<u32>,
}

impl Launch {
    /// Of a kernel in the precision of `like`.
    pub fn new(name: &'static str, template: &'static str, like: &CubeTensor) -> Self {
        let text = Text { name, template, values: Vec::new() };
        let launch = Self { text, buffers: Vec::new(), sizes: Vec::new() };
        if like.dtype == DType::F16 { launch.set("half", 1) } else { launch }
    }

    /// Gives a number to the text.
    pub fn set(self, name: &'static str, value: usize) -> Self {
        self.set_text(name, value.to_string())
    }

    /// Gives a value to the text, as WGSL writes it.
    pub fn set_text(mut self, name: &'static str, value: String) -> Self {
        self.text.values.push((name, value));
        self
    }

    /// Gives the activation's name to the text.
    pub fn activation(self, activation: Activation) -> Self {
        match activation {
            Activation::None => self,
            Activation::Relu => self.set("relu", 1),
            Activation::Gelu => self.set("gelu", 1),
            Activation::Relu6 => self.set("relu6", 1),
        }
    }

    /// Binds the next buffer.
    pub fn bind(mut self, tensor: &CubeTensor) -> Self {
        self.buffers.push(tensor.clone());
        self
    }

    /// [`Launch::bind`] of a buffer that need not be there; if it is, `name` has the value 1.
    pub fn bind_some(self, name: &'static str, tensor: Option<&CubeTensor>) -> Self {
        match tensor {
            Some(tensor) => self.bind(tensor).set(name, 1),
            None => self,
        }
    }

    /// Appends to `p`.
    pub fn sizes(mut self, sizes: &[usize]) -> Self {
        self.sizes.extend(sizes.iter().map(|&size| size as u32));
        self
    }

    /// Runs `count` workgroups. Nothing is launched where there is nothing to do.
    pub fn run(mut self, count: [usize; 3]) {
        if count.contains(&0) {
            return;
        }
        let Some(client) = self.buffers.first().map(|buffer| buffer.client.clone()) else { return };
        self.sizes.resize(self.sizes.len().next_multiple_of(2), 0);
        let words = self.sizes.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32).collect();
        let bindings = self.buffers.into_iter().map(|buffer| buffer.handle.binding()).collect();
        let arguments = KernelArguments::new().with_buffers(bindings).with_info(MetadataBindingInfo::custom(words));
        let [x, y, z] = count.map(|n| n as u32);
        let kernel = SourceKernel::new(self.text, CubeDim::new_single());
        client.launch(Box::new(kernel), CubeCount::Static(x, y, z), arguments);
    }
}

/// Workgroups along one axis are at most 65,535: `count` of them as a plane, whose index is `x + y * 65535`.
pub fn plane(count: usize) -> [usize; 3] {
    const MOST: usize = 65_535;
    [count.min(MOST), count.div_ceil(MOST), 1]
}
