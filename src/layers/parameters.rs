//! Named tensors on a device, handed to the modules that they belong to.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{Weight, reshape, upload};

/// A checkpoint's tensors by SAM's names, uploaded one by one; modules take theirs out when they are built.
///
/// Strict: what is missing, misshapen, not finite, or left over is an error that names the tensor.
pub struct Parameters {
    device: Device,
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    shape: Vec<usize>,
    numbers: Numbers,
}

#[allow(clippy::large_enum_variant)] // a few hundred of them, for as long as a model is loaded
enum Numbers {
    Flat(Tensor<1>),
    Weight(Weight),
}

impl Parameters {
    /// No tensors yet, on `device`.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), tensors: BTreeMap::new() }
    }

    /// The device that the tensors are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Uploads a tensor: `values` in row-major order of `shape`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the number of values is not the shape's, a value is not finite, or the name comes twice.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<()> {
        let error = |message: String| Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")));
        if values.len() != shape.iter().product::<usize>() || values.is_empty() {
            return error(format!("{} values for shape {shape:?}", values.len()));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return error(format!("value {i} is {}", values[i]));
        }
        if self.tensors.contains_key(name) {
            return error("is given twice".into());
        }
        let count = values.len();
        let flat = upload(values, [count], &self.device);
        self.tensors.insert(name.to_owned(), Stored { shape: shape.to_vec(), numbers: Numbers::Flat(flat) });
        Ok(())
    }

    /// Takes a linear layer's weight that is on the device already.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the name comes twice.
    pub fn insert_weight(&mut self, name: &str, weight: Weight) -> Result<()> {
        if self.tensors.contains_key(name) {
            return Err(Error::new(ErrorKind::Format, "is given twice").at(format!("tensor {name}")));
        }
        let stored = Stored { shape: weight.dims().to_vec(), numbers: Numbers::Weight(weight) };
        self.tensors.insert(name.to_owned(), stored);
        Ok(())
    }

    /// Takes the tensor called `name`, which must have `shape`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is missing, [`ErrorKind::Format`] if its shape differs.
    pub fn take<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Param<Tensor<D>>> {
        match self.remove(name, &shape)? {
            Numbers::Flat(flat) => Ok(Param::from_tensor(reshape(flat, shape))),
            Numbers::Weight(_) => {
                let message = "is block-quantised, where only a linear layer's matrix may be";
                Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")))
            }
        }
    }

    /// Takes a linear layer's weight, `[outputs, inputs]`.
    ///
    /// # Errors
    /// As [`Parameters::take`].
    pub fn take_weight(&mut self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        Ok(match self.remove(name, &shape)? {
            Numbers::Flat(flat) => Weight::new(reshape(flat, shape)),
            Numbers::Weight(weight) => weight,
        })
    }

    fn remove(&mut self, name: &str, shape: &[usize]) -> Result<Numbers> {
        let Some(stored) = self.tensors.remove(name) else {
            return Err(Error::new(ErrorKind::NotFound, "is missing from the checkpoint").at(format!("tensor {name}")));
        };
        if stored.shape != shape {
            return Err(Error::new(ErrorKind::Format, format!("has shape {:?}, expected {shape:?}", stored.shape))
                .at(format!("tensor {name}")));
        }
        Ok(stored.numbers)
    }

    /// Whether there is nothing left to take.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming the tensors that no module took.
    pub fn finish(self) -> Result<()> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = self.tensors.keys().take(5).cloned().collect();
        Err(Error::new(
            ErrorKind::Format,
            format!("{} tensors do not belong to this model: {}", self.tensors.len(), names.join(", ")),
        ))
    }
}
