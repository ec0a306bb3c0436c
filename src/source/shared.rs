//! One raster for several readers.

use std::cell::RefCell;
use std::rc::Rc;

use super::raster::{Depth, Interpretation, Patch, Raster, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;

/// A raster that several read, with one set of decoded blocks.
#[derive(Clone)]
pub struct Shared {
    raster: Rc<RefCell<Box<dyn Raster>>>,
    size: (usize, usize),
    bands: usize,
    depth: Depth,
    georef: Option<Georef>,
    overviews: Vec<(usize, usize)>,
    interpretation: Interpretation,
    description: String,
}

impl Shared {
    /// Shares a raster.
    pub fn new(raster: Box<dyn Raster>) -> Self {
        Self {
            size: raster.size(),
            bands: raster.bands(),
            depth: raster.depth(),
            georef: raster.georef().cloned(),
            overviews: raster.overviews().to_vec(),
            interpretation: raster.interpretation(),
            description: raster.describe(),
            raster: Rc::new(RefCell::new(raster)),
        }
    }
}

impl Raster for Shared {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        self.bands
    }

    fn depth(&self) -> Depth {
        self.depth
    }

    fn georef(&self) -> Option<&Georef> {
        self.georef.as_ref()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        &self.overviews
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let mut raster = self
            .raster
            .try_borrow_mut()
            .map_err(|e| Error::new(ErrorKind::Invalid, "an image is read while it is being read").source(e))?;
        raster.read(window, bands)
    }

    fn interpretation(&self) -> Interpretation {
        self.interpretation
    }

    fn decoded_blocks(&self) -> u64 {
        self.raster.try_borrow().map_or(0, |raster| raster.decoded_blocks())
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}
