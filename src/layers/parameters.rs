//! Named tensors on a device, handed to the modules that they belong to.

use std::collections::BTreeMap;
use std::fmt::Display;

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use super::heads::HeadPadding;
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::kernels::{Weight, reshape, upload};
use crate::names::{Parameter, by_path};

/// A checkpoint's tensors by SAM's names, uploaded one by one; modules take theirs out when they are built.
///
/// Strict: what is missing, misshapen, not finite, or left over is an error that names the tensor.
pub struct Parameters {
    device: Device,
    padding: Option<HeadPadding>,
    tensors: BTreeMap<String, Uploaded>,
}

struct Uploaded {
    shape: Vec<usize>,
    values: UploadedValues,
}

#[allow(clippy::large_enum_variant)] // a few hundred of them, for as long as a model is loaded
enum UploadedValues {
    Flat(Tensor<1>),
    Weight(Weight),
}

impl Parameters {
    /// No tensors yet, on `device`, which keep the shapes that they are given in.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), padding: None, tensors: BTreeMap::new() }
    }

    /// [`Parameters::new`] of a whole model of `config` that will not be trained: its heads are filled up with zeros where the device's
    /// kernels need that ([`HeadPadding`]).
    pub fn for_inference(config: &SamConfig, device: &Device) -> Self {
        Self { padding: HeadPadding::of(config, device), ..Self::new(device) }
    }

    /// How attention heads are filled up, if they are.
    pub fn padding(&self) -> Option<HeadPadding> {
        self.padding
    }

    /// The device that the tensors are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Uploads a tensor: `values` in row-major order of `shape`.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the number of values is not the shape's, a value is not finite, or the name comes
    /// twice.
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
        let (values, shape) = match self.padding {
            Some(padding) => (padding.fill(name, values, shape[1..].iter().product()), padding.shape(name, shape)),
            None => (values, shape.to_vec()),
        };
        let count = values.len();
        let flat = upload(values, [count], &self.device);
        self.tensors.insert(name.to_owned(), Uploaded { shape, values: UploadedValues::Flat(flat) });
        Ok(())
    }

    /// Takes a linear layer's weight that is on the device already, its heads filled up if [`Parameters::padding`] says so.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the name comes twice.
    pub fn insert_weight(&mut self, name: &str, weight: Weight) -> Result<()> {
        if self.tensors.contains_key(name) {
            return Err(Error::new(ErrorKind::Format, "is given twice").at(format!("tensor {name}")));
        }
        let uploaded = Uploaded { shape: weight.dims().to_vec(), values: UploadedValues::Weight(weight) };
        self.tensors.insert(name.to_owned(), uploaded);
        Ok(())
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Gives the tensors to what `build` makes of them, a model of `config` or a part of one, and checks that none is
    /// left over.
    ///
    /// # Errors
    /// Those of `build`; [`ErrorKind::Format`] naming the tensors that no module took.
    pub fn load<T>(mut self, config: &SamConfig, build: impl FnOnce(Scope<'_>) -> Result<T>) -> Result<T> {
        let table = by_path(config);
        let built = build(Scope { from: &mut self, table: &table, path: String::new() })?;
        if self.tensors.is_empty() {
            return Ok(built);
        }
        let names: Vec<_> = self.tensors.keys().take(5).cloned().collect();
        Err(Error::new(
            ErrorKind::Format,
            format!("{} tensors do not belong to this model: {}", self.tensors.len(), names.join(", ")),
        ))
    }
}

/// The parameters of one module: it takes them by the names of its own fields, and the table
/// ([`names`](crate::names)) tells what a checkpoint calls them and which shape they have.
pub struct Scope<'a> {
    from: &'a mut Parameters,
    table: &'a BTreeMap<String, Parameter>,
    /// The module's path, with the dot behind it; empty for the whole model.
    path: String,
}

impl Scope<'_> {
    /// The parameters of the module in the field `field`; of a list's element, `field.index`.
    pub fn scope(&mut self, field: impl Display) -> Scope<'_> {
        Scope { path: format!("{}{field}.", self.path), from: self.from, table: self.table }
    }

    /// The device that the tensors are on.
    pub fn device(&self) -> &Device {
        &self.from.device
    }

    /// Takes the tensor of the field `field`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is missing, [`ErrorKind::Format`] if its shape is not the table's.
    pub fn take<const D: usize>(&mut self, field: &str) -> Result<Param<Tensor<D>>> {
        let (name, shape, values) = self.remove(field)?;
        match values {
            UploadedValues::Flat(flat) => Ok(Param::from_tensor(reshape(flat, shape))),
            UploadedValues::Weight(_) => {
                let message = "is block-quantised, where only a linear layer's matrix may be";
                Err(Error::new(ErrorKind::Format, message).at(format!("tensor {name}")))
            }
        }
    }

    /// Takes the weight of a linear layer in the field `field`, `[outputs, inputs]`.
    ///
    /// # Errors
    /// As [`Scope::take`].
    pub fn take_weight(&mut self, field: &str) -> Result<Weight> {
        let (_, shape, values) = self.remove(field)?;
        Ok(match values {
            UploadedValues::Flat(flat) => Weight::new(reshape::<1, 2>(flat, shape)),
            UploadedValues::Weight(weight) => weight,
        })
    }

    /// SAM's name, shape and values of a field's tensor.
    fn remove<const D: usize>(&mut self, field: &str) -> Result<(&str, [usize; D], UploadedValues)> {
        let path = format!("{}{field}", self.path);
        let padding = self.from.padding;
        let Some(Parameter { name, shape, .. }) = self.table.get(&path) else {
            let message = "no checkpoint has a tensor for this field";
            return Err(Error::new(ErrorKind::NotFound, message).at(format!("module {path}")));
        };
        let error = |kind, message: String| Err(Error::new(kind, message).at(format!("tensor {name}")));
        let Some(uploaded) = self.from.tensors.remove(name) else {
            return error(ErrorKind::NotFound, "is missing from the checkpoint".into());
        };
        let shape = padding.map_or_else(|| shape.clone(), |padding| padding.shape(name, shape));
        match <[usize; D]>::try_from(shape.as_slice()) {
            Ok(sides) if uploaded.shape == sides => Ok((name, sides, uploaded.values)),
            Ok(sides) => error(ErrorKind::Format, format!("has shape {:?}, expected {sides:?}", uploaded.shape)),
            Err(_) => error(ErrorKind::Format, format!("has {} axes, the module takes {D}", shape.len())),
        }
    }
}
