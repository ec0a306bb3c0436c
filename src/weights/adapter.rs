//! The contents of an adapter package: low-rank factors by this crate's names, and the heads trained with them.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::keys::{Side, lora_name};
use super::manifest::LORA_MARK;
use super::package::Stored;
use super::upload;
use crate::config::SamConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::lora::{Factor, Target};
use crate::model::Parameters;

/// Sorts an adapter package's tensors into factors (kept on the host) and heads (uploaded).
pub struct Collector {
    factors_by_name: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    heads: Parameters,
}

impl Collector {
    /// Uploads heads to `device`.
    pub fn new(device: &Device) -> Self {
        Self { factors_by_name: BTreeMap::new(), heads: Parameters::new(device) }
    }

    /// Takes one tensor.
    ///
    /// # Errors
    /// Those of [`Stored::decode`] and [`upload::insert`].
    pub fn insert(&mut self, name: &str, shape: &[usize], stored: Stored) -> Result<()> {
        if name.contains(LORA_MARK) {
            let values = stored.decode().map_err(|e: Error| e.at(format!("tensor {name}")))?;
            self.factors_by_name.insert(name.to_owned(), (shape.to_vec(), values));
            return Ok(());
        }
        upload::insert(&mut self.heads, name, shape, stored)
    }

    /// The factors, each with `alpha / rank` in front of it (1 without alpha), for a model of `config`, and the heads'
    /// parameters.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a factor has no partner or does not belong to a block, naming it.
    pub fn finish(mut self, alpha: Option<f64>, config: &SamConfig) -> Result<(Vec<Factor>, Parameters)> {
        let mut factors = Vec::new();
        for (block, target) in (0..config.depth).flat_map(|b| Target::ALL.map(|t| (b, t))) {
            let (name_a, name_b) = (lora_name(block, target, Side::A), lora_name(block, target, Side::B));
            match (self.factors_by_name.remove(&name_a), self.factors_by_name.remove(&name_b)) {
                (Some((shape, a)), Some((_, b))) => {
                    let rank = shape.first().copied().unwrap_or(0);
                    let scale = alpha.map_or(1.0, |alpha| alpha / rank as f64);
                    factors.push(Factor { block, target, rank, scale, a, b });
                }
                (None, None) => {}
                _ => {
                    let place = format!("tensor {name_a}");
                    return Err(Error::new(ErrorKind::Format, "one of the two factors is missing").at(place));
                }
            }
        }
        match self.factors_by_name.keys().next() {
            Some(name) => Err(Error::new(ErrorKind::Format, "names no matrix of a block").at(format!("tensor {name}"))),
            None => Ok((factors, self.heads)),
        }
    }
}
