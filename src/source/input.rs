//! An image as a model reads it.

use super::{Colours, Depth, Interpretation, Patch, Raster, Window};
use crate::error::Result;
use crate::georef::Georef;
use crate::image::RgbImage;

/// An image as a model reads it: in the colours that people see, or all its samples as they are. Both keep one set of decoded
/// blocks, so that a picture drawn over what the model has just read costs no second decoding.
pub enum ModelInput {
    /// For models of RGB pictures: three bands of 8 bits.
    Colours(Colours),
    /// For models of other bands: the samples of the image behind the colours.
    Samples(Colours),
}

impl ModelInput {
    /// The colours of a window.
    ///
    /// # Errors
    /// As [`Raster::read`].
    pub fn image(&mut self, window: Window) -> Result<RgbImage> {
        match self {
            Self::Colours(colours) | Self::Samples(colours) => colours.image(window),
        }
    }

    fn inner(&self) -> &dyn Raster {
        match self {
            Self::Colours(colours) => colours,
            Self::Samples(colours) => colours.inner(),
        }
    }
}

impl Raster for ModelInput {
    fn size(&self) -> (usize, usize) {
        self.inner().size()
    }

    fn bands(&self) -> usize {
        self.inner().bands()
    }

    fn depth(&self) -> Depth {
        self.inner().depth()
    }

    fn georef(&self) -> Option<&Georef> {
        self.inner().georef()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        self.inner().overviews()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        match self {
            Self::Colours(colours) => colours.read(window, bands),
            Self::Samples(colours) => colours.inner_mut().read(window, bands),
        }
    }

    fn interpretation(&self) -> Interpretation {
        self.inner().interpretation()
    }

    fn decoded_blocks(&self) -> u64 {
        self.inner().decoded_blocks()
    }

    fn describe(&self) -> String {
        self.inner().describe()
    }
}
