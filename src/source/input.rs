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
    /// A window of one of these, placed where it lies; contrast stays the whole image's.
    Part(Box<Part>),
}

/// A window of an image.
pub struct Part {
    whole: ModelInput,
    window: Window,
    georef: Option<Georef>,
}

impl ModelInput {
    /// The colours of a window.
    ///
    /// # Errors
    /// As [`Raster::read`].
    pub fn image(&mut self, window: Window) -> Result<RgbImage> {
        match self {
            Self::Colours(colours) | Self::Samples(colours) => colours.image(window),
            Self::Part(part) => {
                let moved = part.moved(window)?;
                part.whole.image(moved)
            }
        }
    }

    /// A window of this image as an image of its own.
    ///
    /// # Errors
    /// As [`Window::within`].
    pub fn part(self, window: Window) -> Result<Self> {
        window.within(self.size())?;
        let georef = self.georef().map(|georef| georef.window(window.x, window.y));
        Ok(Self::Part(Box::new(Part { whole: self, window, georef })))
    }

    fn inner(&self) -> &dyn Raster {
        match self {
            Self::Colours(colours) => colours,
            Self::Samples(colours) => colours.inner(),
            Self::Part(part) => part.whole.inner(),
        }
    }
}

impl Part {
    /// A window of this part as one of the whole image.
    fn moved(&self, window: Window) -> Result<Window> {
        window.check((self.window.width, self.window.height))?;
        Ok(Window { x: window.x + self.window.x, y: window.y + self.window.y, ..window })
    }
}

impl Raster for ModelInput {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Part(part) => (part.window.width, part.window.height),
            _ => self.inner().size(),
        }
    }

    fn bands(&self) -> usize {
        self.inner().bands()
    }

    fn depth(&self) -> Depth {
        self.inner().depth()
    }

    fn georef(&self) -> Option<&Georef> {
        match self {
            Self::Part(part) => part.georef.as_ref(),
            _ => self.inner().georef(),
        }
    }

    fn overviews(&self) -> &[(usize, usize)] {
        match self {
            Self::Part(_) => &[],
            _ => self.inner().overviews(),
        }
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        match self {
            Self::Colours(colours) => colours.read(window, bands),
            Self::Samples(colours) => colours.inner_mut().read(window, bands),
            Self::Part(part) => {
                let moved = part.moved(window)?;
                part.whole.read(moved, bands)
            }
        }
    }

    fn interpretation(&self) -> Interpretation {
        self.inner().interpretation()
    }

    fn is_known_blank(&self, window: Window) -> bool {
        match self {
            Self::Part(part) => part.moved(window).is_ok_and(|moved| part.whole.is_known_blank(moved)),
            _ => self.inner().is_known_blank(window),
        }
    }

    fn decoded_blocks(&self) -> u64 {
        self.inner().decoded_blocks()
    }

    fn describe(&self) -> String {
        self.inner().describe()
    }
}
