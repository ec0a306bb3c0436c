//! The matrix of a linear layer as it is stored on its device, and as a product takes it.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

#[cfg(feature = "cpu")]
use super::cpu;
use super::dispatch::Operand;
#[cfg(feature = "gpu")]
use super::gpu;
use super::layout::{column_major, permute};
use super::quantized::Quantized;

/// A matrix in one of the forms that products read: the right-hand side of a product, [`Matrix`], or the weight of a layer,
/// [`Weight`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // handed over once a layer
pub enum Matrix<D: Module + ModuleDisplay = Tensor<2>> {
    /// Floats: `[inputs, outputs]` in a product; SAM's `[outputs, inputs]` in a [`Weight`].
    Dense(D),
    /// Floats in the order of the CPU's products.
    #[cfg(feature = "cpu")]
    Panels(Panels),
    /// 8-bit integers in blocks.
    Q8(Quantized),
    /// 4-bit integers in blocks.
    Q4(Quantized),
}

/// A layer's weight. A dense one is a parameter of SAM's shape, `[outputs, inputs]`, in column-major order ([`column_major`]); the others
/// are constants.
pub type Weight = Matrix<Param<Tensor<2>>>;

/// A matrix of floats in panels: the columns that the CPU's products take at once, panel after panel, the last one filled up with zeros.
#[cfg(feature = "cpu")]
#[derive(Module, Debug)]
pub struct Panels {
    values: Tensor<1>,
    inputs: usize,
    outputs: usize,
}

impl<D: Module + ModuleDisplay> Matrix<D> {
    /// Uploads integers of `bits` (8, else 4) in rows of an output each, as a package stores them, little-endian f16 scales likewise.
    ///
    /// # Panics
    /// If the lengths are not the shape's, or it does not fit ([`Quantized::fits`]).
    pub fn quantized(bits: usize, values: &[u8], scales: &[u8], shape: [usize; 2], device: &Device) -> Self {
        let quantized = Quantized::upload(bits, values, scales, shape, device);
        if bits == 8 { Self::Q8(quantized) } else { Self::Q4(quantized) }
    }
}

impl Matrix {
    /// A matrix of floats, `[inputs, outputs]`, in the order of the CPU's products; none on another device.
    #[cfg(feature = "cpu")]
    pub fn panels(matrix: &Tensor<2>) -> Option<Self> {
        Panels::new(matrix).map(Self::Panels)
    }

    /// Inputs and outputs.
    pub fn sides(&self) -> [usize; 2] {
        match self {
            Self::Dense(matrix) => matrix.dims(),
            #[cfg(feature = "cpu")]
            Self::Panels(panels) => [panels.inputs, panels.outputs],
            Self::Q8(quantized) | Self::Q4(quantized) => [quantized.inputs, quantized.outputs],
        }
    }

    /// Bytes that it takes on the device, floats of 4 bytes each.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Q8(quantized) => quantized.bytes(8),
            Self::Q4(quantized) => quantized.bytes(4),
            _ => 4 * self.sides().iter().product::<usize>(),
        }
    }

    /// `[inputs, outputs]` as floats; those that are not dense are read back first.
    ///
    /// # Panics
    /// If the device fails; in a browser, which cannot wait for it.
    pub fn dense(self) -> Tensor<2> {
        match self {
            Self::Dense(matrix) => matrix,
            #[cfg(feature = "cpu")]
            Self::Panels(panels) => panels.dense(),
            Self::Q8(quantized) => quantized.dequantized(8),
            Self::Q4(quantized) => quantized.dequantized(4),
        }
    }

    /// For a product on the CPU, which it must be on.
    #[cfg(feature = "cpu")]
    pub(super) fn on_cpu(&self) -> cpu::CpuMatrix {
        let quantized = |q: &Quantized, bits| cpu::CpuMatrix::Quantized {
            values: cpu::words(&q.values),
            scales: cpu::words(&q.scales),
            bits,
            sides: [q.inputs, q.outputs],
        };
        match self {
            Self::Dense(matrix) => cpu::CpuMatrix::dense(cpu::view(matrix).unwrap_or_else(|| cpu::values(matrix))),
            Self::Panels(panels) => cpu::CpuMatrix::Panels { values: cpu::values(&panels.values), sides: self.sides() },
            Self::Q8(values) => quantized(values, 8),
            Self::Q4(values) => quantized(values, 4),
        }
    }

    /// For a product on a GPU, which it must be on.
    #[cfg(feature = "gpu")]
    pub(super) fn on_gpu(self) -> gpu::GpuMatrix {
        let quantized = |q: Quantized, bits| gpu::GpuMatrix::Quantized {
            values: gpu::words(q.values),
            scales: gpu::words(q.scales),
            bits,
            columns: q.outputs,
        };
        match self {
            Self::Dense(matrix) => gpu::GpuMatrix::Dense(gpu::values(matrix)),
            #[cfg(feature = "cpu")]
            Self::Panels(panels) => gpu::GpuMatrix::Dense(gpu::values(panels.dense())),
            Self::Q8(values) => quantized(values, 8),
            Self::Q4(values) => quantized(values, 4),
        }
    }

    /// Whether the GPU's kernels read it: both sides are multiples of 4.
    #[cfg(feature = "gpu")]
    pub(super) fn is_in_fours(&self) -> bool {
        self.sides().iter().all(|side| side.is_multiple_of(4))
    }
}

impl Weight {
    /// A dense weight, `[outputs, inputs]`, in any order of memory.
    pub fn new(weight: Tensor<2>) -> Self {
        Self::Dense(Param::from_tensor(column_major(weight)))
    }

    /// As a product takes it: `[inputs, outputs]`. In training a frozen base may be 8-bit in memory (burn's `QFloat`); then its floats
    /// live as long as the product that they are for, and its gradient.
    pub fn operand(&self) -> Matrix {
        match self {
            Self::Dense(weight) => {
                let weight = weight.val();
                #[cfg(feature = "train")]
                let weight = weight.dequantize();
                Matrix::Dense(permute(weight, [1, 0]))
            }
            #[cfg(feature = "cpu")]
            Self::Panels(panels) => Matrix::Panels(panels.clone()),
            Self::Q8(quantized) => Matrix::Q8(quantized.clone()),
            Self::Q4(quantized) => Matrix::Q4(quantized.clone()),
        }
    }

    /// Outputs and inputs, SAM's order.
    pub fn dims(&self) -> [usize; 2] {
        let [inputs, outputs] = match self {
            Self::Dense(weight) => return weight.dims(),
            #[cfg(feature = "cpu")]
            Self::Panels(panels) => [panels.inputs, panels.outputs],
            Self::Q8(quantized) | Self::Q4(quantized) => [quantized.inputs, quantized.outputs],
        };
        [outputs, inputs]
    }

    /// Lays a dense weight out as the CPU's products read it fastest, for inference: training changes dense ones only.
    pub fn arrange(&mut self) {
        #[cfg(feature = "cpu")]
        if let Self::Dense(_) = self
            && let Some(panels) = Panels::new(&self.operand().dense())
        {
            *self = Self::Panels(panels);
        }
    }
}

#[cfg(feature = "cpu")]
impl Panels {
    fn new(matrix: &Tensor<2>) -> Option<Self> {
        let [inputs, outputs] = matrix.dims();
        let values = cpu::to_panels(matrix)?;
        let count = values.len();
        Some(Self { values: cpu::wrap(cpu::primitive(values, &[count])), inputs, outputs })
    }

    fn dense(&self) -> Tensor<2> {
        let sides = [self.inputs, self.outputs];
        let panels = cpu::values(&self.values);
        cpu::wrap(cpu::primitive(cpu::from_panels(panels.storage(), sides), &sides))
    }
}

impl Operand for Matrix {
    #[cfg(feature = "gpu")]
    fn is_on_gpu(&self) -> bool {
        match self {
            Self::Dense(matrix) => Operand::is_on_gpu(matrix),
            #[cfg(feature = "cpu")]
            Self::Panels(_) => false,
            Self::Q8(_) | Self::Q4(_) => true,
        }
    }

    #[cfg(all(feature = "cpu", feature = "train"))]
    fn is_autodiff(&self) -> bool {
        matches!(self, Self::Dense(matrix) if Operand::is_autodiff(matrix))
    }

    #[cfg(feature = "cpu")]
    fn is_on_cpu(&self) -> bool {
        match self {
            Self::Dense(matrix) => matrix.is_on_cpu(),
            Self::Panels(_) => true,
            Self::Q8(quantized) | Self::Q4(quantized) => cpu::is_words(&quantized.values),
        }
    }
}
