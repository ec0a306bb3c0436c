//! A TIFF's samples as they are stored.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tiff::decoder::{Decoder, DecodingResult};

pub(in crate::source) use super::colour::unpacked;
use super::{Layout, georef, sidecar};
use crate::error::{Error, ErrorKind, Result};
use crate::source::open::Window;
use crate::source::patched::PlainSamples;
use crate::source::raw::{Depth, Header, MaskHeader, MaskValues, Raw, RawMask, Samples, check_bytes, lossy};

type TiffDecoder = Decoder<PlainSamples<BufReader<File>>>;

/// As [`crate::source::raw::header`].
pub(in crate::source) fn header(path: &Path, world_files: bool) -> Result<Header> {
    let (mut decoder, layout) = Layout::open(path)?;
    let (width, height) = layout.size;
    crate::image::check_size(width, height)?;
    let georef = match georef(&mut decoder)? {
        None if world_files => sidecar::georef(path)?,
        georef => georef,
    };
    let (bands, depth) = layout.bands();
    Ok(Header { width, height, bands: bands.len(), depth, georef })
}

/// As [`crate::source::raw::read`].
pub(in crate::source) fn read(path: &Path) -> Result<Raw> {
    let (mut decoder, layout) = Layout::open(path)?;
    let (width, height) = layout.size;
    let (bands, depth) = layout.bands();
    if layout.colour.needs_conversion() {
        check_bytes(width, height, 3, 1)?;
        return layout.colours(&mut decoder);
    }
    let mut wanted = bands.clone();
    wanted.extend(layout.colour.alpha());
    let mut samples = layout.samples(&mut decoder, &wanted, depth)?;
    let step = wanted.len();
    let none = layout.colour.nodata();
    let mut nodata = match &samples {
        Samples::U8(v) => no_data(v, step, bands.len(), none),
        Samples::U16(v) => no_data(v, step, bands.len(), none),
        Samples::F32(v) => no_data(v, step, bands.len(), none),
    };
    if !nodata.contains(&true) {
        nodata = Vec::new();
    }
    if step > bands.len() {
        samples = match samples {
            Samples::U8(v) => Samples::U8(first_bands(&v, step, bands.len())),
            Samples::U16(v) => Samples::U16(first_bands(&v, step, bands.len())),
            Samples::F32(v) => Samples::F32(first_bands(&v, step, bands.len())),
        };
    }
    Ok(Raw { width, height, bands: bands.len(), samples, nodata })
}

/// As [`crate::source::raw::mask_header`].
pub(in crate::source) fn mask_header(path: &Path) -> Result<MaskHeader> {
    let (_, layout) = Layout::open(path)?;
    let (width, height) = layout.size;
    Ok(MaskHeader { width, height, colours: layout.mask_has_colours()? })
}

/// As [`crate::source::raw::mask`].
pub(in crate::source) fn mask(path: &Path) -> Result<RawMask> {
    let (mut decoder, layout) = Layout::open(path)?;
    let (width, height) = layout.size;
    let bands: &[usize] = if layout.mask_has_colours()? { &[0, 1, 2] } else { &[0] };
    let values = match layout.samples(&mut decoder, bands, layout.depth())? {
        Samples::U8(v) if bands.len() == 3 => MaskValues::Rgb(v),
        Samples::U8(v) => MaskValues::U8(v),
        Samples::U16(v) => MaskValues::U16(v),
        Samples::F32(v) => MaskValues::F32(v),
    };
    Ok(RawMask { width, height, values })
}

/// Which pixels are transparent (the sample behind `bands` is 0), hold the no-data value in every band, or NaN in any.
fn no_data<T: Copy + Into<f64>>(samples: &[T], step: usize, bands: usize, none: Option<f64>) -> Vec<bool> {
    samples
        .chunks_exact(step.max(1))
        .map(|pixel| {
            let (values, alpha) = pixel.split_at(bands.min(pixel.len()));
            alpha.iter().any(|&a| a.into() == 0.0)
                || none.is_some_and(|none| !values.is_empty() && values.iter().all(|&v| v.into() == none))
                || values.iter().any(|&v| v.into().is_nan())
        })
        .collect()
}

fn first_bands<T: Copy>(samples: &[T], step: usize, bands: usize) -> Vec<T> {
    samples.chunks_exact(step).flat_map(|pixel| &pixel[..bands]).copied().collect()
}

/// A sample that TIFF data can be turned into without loss.
trait Sample: Copy + Default {
    fn from_decoded(result: DecodingResult, row: usize, bits: u64) -> Option<Vec<Self>>;
}

impl Sample for u8 {
    fn from_decoded(result: DecodingResult, row: usize, bits: u64) -> Option<Vec<Self>> {
        match result {
            DecodingResult::U8(v) if bits < 8 => Some(unpacked(&v, row, bits)),
            DecodingResult::U8(v) => Some(v),
            _ => None,
        }
    }
}

impl Sample for u16 {
    fn from_decoded(result: DecodingResult, _: usize, _: u64) -> Option<Vec<Self>> {
        match result {
            DecodingResult::U16(v) => Some(v),
            _ => None,
        }
    }
}

impl Sample for f32 {
    fn from_decoded(result: DecodingResult, _: usize, _: u64) -> Option<Vec<Self>> {
        Some(match result {
            DecodingResult::U8(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::U16(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::U32(v) => v.into_iter().map(|v| v as f32).collect(),
            DecodingResult::U64(v) => v.into_iter().map(|v| v as f32).collect(),
            DecodingResult::F16(v) => v.into_iter().map(|v| v.to_f32()).collect(),
            DecodingResult::F32(v) => v,
            DecodingResult::F64(v) => v.into_iter().map(|v| v as f32).collect(),
            DecodingResult::I8(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::I16(v) => v.into_iter().map(f32::from).collect(),
            DecodingResult::I32(v) => v.into_iter().map(|v| v as f32).collect(),
            DecodingResult::I64(v) => v.into_iter().map(|v| v as f32).collect(),
        })
    }
}

impl Layout {
    fn depth(&self) -> Depth {
        match (self.colour.bits(), self.format) {
            (1..=8, 1) => Depth::U8,
            (16, 1) => Depth::U16,
            _ => Depth::F32,
        }
    }

    /// The bands of an image without alpha, and the type of its samples.
    fn bands(&self) -> (Vec<usize>, Depth) {
        if self.colour.needs_conversion() {
            return (vec![0, 1, 2], Depth::U8);
        }
        ((0..self.samples).filter(|&b| Some(b) != self.colour.alpha()).collect(), self.depth())
    }

    fn mask_has_colours(&self) -> Result<bool> {
        if self.webp || self.jpeg {
            return Err(lossy());
        }
        let colours = self.samples >= 3;
        if colours && self.depth() != Depth::U8 {
            return Err(Error::new(ErrorKind::Unsupported, format!("a mask of {} bands", self.samples))
                .remedy("save the mask with one band of 8 bits"));
        }
        Ok(colours)
    }

    /// The whole image as 8-bit colours.
    fn colours(&self, decoder: &mut TiffDecoder) -> Result<Raw> {
        let (width, height) = self.size;
        let window = Window { x: 0, y: 0, width, height };
        let mut rgb = vec![0; width * height * 3];
        let mut nodata = vec![false; width * height];
        for chunk in 0..self.chunks {
            let (w, h) = self.chunk_size(chunk);
            let block = match self.decode(decoder, chunk)? {
                Some(planes) => self.colour.block(&planes, w, h, None)?,
                None => crate::source::open::Block::blank(w, h),
            };
            let at = (chunk % self.across * self.chunk.0, chunk / self.across * self.chunk.1);
            window.copy(&mut rgb, 3, &block.rgb, at, (w, h));
            if !block.nodata.is_empty() {
                window.copy(&mut nodata, 1, &block.nodata, at, (w, h));
            }
        }
        if !nodata.contains(&true) {
            nodata = Vec::new();
        }
        Ok(Raw { width, height, bands: 3, samples: Samples::U8(rgb), nodata })
    }

    /// Some bands of the whole image, `[height, width, wanted]`.
    fn samples(&self, decoder: &mut TiffDecoder, wanted: &[usize], depth: Depth) -> Result<Samples> {
        let bytes = match depth {
            Depth::U8 => 1,
            Depth::U16 => 2,
            Depth::F32 => 4,
        };
        check_bytes(self.size.0, self.size.1, wanted.len(), bytes)?;
        Ok(match depth {
            Depth::U8 => Samples::U8(self.assemble(decoder, wanted)?),
            Depth::U16 => Samples::U16(self.assemble(decoder, wanted)?),
            Depth::F32 => Samples::F32(self.assemble(decoder, wanted)?),
        })
    }

    fn assemble<T: Sample>(&self, decoder: &mut TiffDecoder, wanted: &[usize]) -> Result<Vec<T>> {
        let (width, height) = self.size;
        let mut out = vec![T::default(); width * height * wanted.len()];
        let planes = if self.planar { self.samples } else { 1 };
        let per_pixel = if self.planar { 1 } else { self.samples };
        for chunk in 0..self.chunks {
            let (w, h) = self.chunk_size(chunk);
            let (left, top) = (chunk % self.across * self.chunk.0, chunk / self.across * self.chunk.1);
            for plane in 0..planes {
                // Where the bands of this plane lie in a pixel of the file, and in one of the output.
                let places: Vec<(usize, usize)> = wanted
                    .iter()
                    .enumerate()
                    .filter(|(_, band)| !self.planar || **band == plane)
                    .map(|(to, &band)| (if self.planar { 0 } else { band }, to))
                    .collect();
                if places.is_empty() {
                    continue;
                }
                // What a sparse file leaves out is 0.
                let Some(result) = self.decode_plane(decoder, chunk, plane)? else { continue };
                let values = T::from_decoded(result, w * per_pixel, self.colour.bits())
                    .filter(|values| values.len() >= w * h * per_pixel)
                    .ok_or_else(|| {
                        Error::new(ErrorKind::Format, "a strip or tile of the TIFF is too short")
                            .remedy("fetch or export the file again")
                    })?;
                for y in 0..h {
                    let row = &values[y * w * per_pixel..(y + 1) * w * per_pixel];
                    let at = ((top + y) * width + left) * wanted.len();
                    let pixels = out[at..at + w * wanted.len()].chunks_exact_mut(wanted.len());
                    for (pixel, stored) in pixels.zip(row.chunks_exact(per_pixel)) {
                        for &(from, to) in &places {
                            pixel[to] = stored[from];
                        }
                    }
                }
            }
        }
        Ok(out)
    }
}
