//! The 8-bit picture of an image that people see.

use super::raster::{Depth, Patch, Raster, Samples, Window};
use super::stretch::Stretch;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::Georef;
use crate::image::RgbImage;

/// An image as red, green and blue of 8 bits, a raster of three bands.
///
/// Red, green and blue are the bands that the file's colour interpretation says, else the first three; an image of one or
/// two bands is grey. Samples of more than 8 bits, and floating point, are stretched linearly, band by band, from their 2nd
/// to 98th percentile over up to 2^20 pixels spread evenly over the image, so that one image always looks the same
/// whatever window is read and whatever file holds it. Whole numbers that never leave 0 to 255 there are taken as they are.
pub struct Colours {
    raster: Box<dyn Raster>,
    bands: [usize; 3],
    stretch: Stretch,
}

impl Colours {
    /// The picture of an image, of its own colours or of three `bands` (from 0 on, without alpha).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a band is not there, and those of reading, as contrast is measured now.
    pub fn new(mut raster: Box<dyn Raster>, bands: Option<[usize; 3]>) -> Result<Self> {
        let count = raster.bands();
        if let Some(band) = bands.iter().flatten().find(|b| **b >= count) {
            let message = format!("there is no band {} of {count}", band + 1);
            return Err(Error::new(ErrorKind::Invalid, message)
                .at("--bands")
                .remedy("bands are counted from 1, without alpha"));
        }
        let bands = bands.unwrap_or(raster.interpretation().colours);
        let stretch = Stretch::measure(raster.as_mut(), bands)?;
        Ok(Self { raster, bands, stretch })
    }

    /// The picture of another raster of the same bands, with this one's colours and contrast.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it has other bands.
    pub fn alike(&self, raster: Box<dyn Raster>) -> Result<Self> {
        if (raster.bands(), raster.depth()) != (self.raster.bands(), self.raster.depth()) {
            return Err(Error::new(ErrorKind::Invalid, "the levels of the image have other bands"));
        }
        Ok(Self { raster, bands: self.bands, stretch: self.stretch })
    }

    /// The bands, from 0 on, that are red, green and blue.
    pub fn colours(&self) -> [usize; 3] {
        self.bands
    }

    /// The image that this is a picture of.
    pub fn inner(&self) -> &dyn Raster {
        self.raster.as_ref()
    }

    /// The image that this is a picture of, to read its samples; the blocks it keeps serve both.
    pub fn inner_mut(&mut self) -> &mut dyn Raster {
        self.raster.as_mut()
    }

    /// The image itself.
    pub fn into_inner(self) -> Box<dyn Raster> {
        self.raster
    }

    /// The colours of a window. What pixels without data look like is the file's affair.
    ///
    /// # Errors
    /// As [`Raster::read`].
    pub fn image(&mut self, window: Window) -> Result<RgbImage> {
        let (patch, shades) = self.shades(window, &[0, 1, 2])?;
        RgbImage::new(patch.width, patch.height, shades)
    }

    /// The samples of a window, and the shades of some channels.
    fn shades(&mut self, window: Window, channels: &[usize]) -> Result<(Patch, Vec<u8>)> {
        if let Some(band) = channels.iter().find(|c| **c > 2) {
            return Err(Error::new(ErrorKind::Invalid, format!("there is no band {} of 3", band + 1)));
        }
        let wanted: Vec<usize> = channels.iter().map(|c| self.bands[*c]).collect();
        let mut patch = self.raster.read(window, &wanted)?;
        let each = |index: usize, value: f32| self.stretch.shade(channels[index % channels.len()], value);
        let shades = match &mut patch.samples {
            Samples::U8(v) if self.stretch.is_identity() => std::mem::take(v),
            Samples::U8(v) => v.iter().enumerate().map(|(i, v)| each(i, f32::from(*v))).collect(),
            Samples::U16(v) => v.iter().enumerate().map(|(i, v)| each(i, f32::from(*v))).collect(),
            Samples::F32(v) => v.iter().enumerate().map(|(i, v)| each(i, *v)).collect(),
        };
        Ok((patch, shades))
    }
}

impl Raster for Colours {
    fn size(&self) -> (usize, usize) {
        self.raster.size()
    }

    fn bands(&self) -> usize {
        3
    }

    fn depth(&self) -> Depth {
        Depth::U8
    }

    fn georef(&self) -> Option<&Georef> {
        self.raster.georef()
    }

    fn overviews(&self) -> &[(usize, usize)] {
        self.raster.overviews()
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        let (patch, shades) = self.shades(window, bands)?;
        Ok(Patch { samples: Samples::U8(shades), ..patch })
    }

    fn describe(&self) -> String {
        let stretched = if self.stretch.changes() { ", contrast stretched" } else { "" };
        let [red, green, blue] = self.bands.map(|b| b + 1);
        let bands = match self.bands {
            [0, 1, 2] => String::new(),
            [0, 0, 0] if self.raster.bands() < 3 => String::new(),
            _ => format!(", bands {red}, {green}, {blue} as red, green, blue"),
        };
        format!("{}{stretched}{bands}", self.raster.describe())
    }

    fn is_known_blank(&self, window: Window) -> bool {
        self.raster.is_known_blank(window)
    }

    fn decoded_blocks(&self) -> u64 {
        self.raster.decoded_blocks()
    }
}
