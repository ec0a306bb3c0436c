//! From the label values of masks to class indices.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};

use super::chip::IGNORE;
use super::classes::ClassList;
use super::{DatasetOptions, Unlisted};
use crate::error::{Error, ErrorKind, Result};
use crate::source::orientation::orientation;
use crate::source::raw::{self, MaskValues};

/// Stands for values that no class has; above every class index.
const UNLISTED: u8 = 254;
/// Distinct values beyond which a mask is no class mask.
const MAX_VALUES: usize = 1024;

/// Label values of colours, for masks that are pictures.
pub(super) type Colours = HashMap<[u8; 3], u32>;

/// The class of each label value of one folder.
#[derive(Debug)]
pub(super) struct LabelMap {
    values: HashMap<u32, u8>,
    bytes: Box<[u8; 256]>,
    other: u8,
    colours: Colours,
}

impl LabelMap {
    pub(super) fn new(map: &BTreeMap<u32, u8>, options: &DatasetOptions, colours: Colours) -> Self {
        let other = match options.unlisted {
            Unlisted::Error => UNLISTED,
            Unlisted::Background => 0,
            Unlisted::Ignore => IGNORE,
        };
        let mut values: HashMap<u32, u8> = map.iter().map(|(v, c)| (*v, *c)).collect();
        values.extend(options.ignore.iter().map(|v| (*v, IGNORE)));
        let mut bytes = Box::new([other; 256]);
        for (value, slot) in (0u32..).zip(bytes.iter_mut()) {
            *slot = values.get(&value).copied().unwrap_or(other);
        }
        Self { values, bytes, other, colours }
    }

    fn class(&self, value: u32) -> u8 {
        match self.bytes.get(value as usize) {
            Some(class) => *class,
            None => self.values.get(&value).copied().unwrap_or(self.other),
        }
    }

    /// Reads a mask of `width` x `height` pixels as class indices, `[height, width]`.
    pub(super) fn read(&self, path: &Path, width: usize, height: usize) -> Result<Vec<u8>> {
        let mut out = match checked(path, width, height)? {
            MaskValues::U8(values) => values,
            other => {
                let mut out = Vec::with_capacity(width * height);
                each_value(other, &self.colours, |v| out.push(self.class(v))).map_err(|e| e.at(path.display()))?;
                if out.contains(&UNLISTED) {
                    return Err(self.unlisted(&histogram(path, width, height, &self.colours)?, path));
                }
                return Ok(out);
            }
        };
        let mut unlisted = false;
        for value in &mut out {
            *value = self.bytes[usize::from(*value)];
            unlisted |= *value == UNLISTED;
        }
        if unlisted {
            return Err(self.unlisted(&histogram(path, width, height, &self.colours)?, path));
        }
        Ok(out)
    }

    /// How many pixels of a mask have each label value, in the order of values.
    pub(super) fn histogram(&self, path: &Path, width: usize, height: usize) -> Result<Vec<(u32, u64)>> {
        histogram(path, width, height, &self.colours)
    }

    /// Pixels of each class and ignored ones, from pixels of each label value.
    pub(super) fn count(&self, values: &[(u32, u64)], classes: usize, path: &Path) -> Result<(Vec<u64>, u64)> {
        let mut pixels = vec![0; classes];
        let mut ignored = 0;
        for &(value, count) in values {
            match self.class(value) {
                IGNORE => ignored += count,
                class => match pixels.get_mut(usize::from(class)) {
                    Some(slot) => *slot += count,
                    None => return Err(self.unlisted(values, path)),
                },
            }
        }
        Ok((pixels, ignored))
    }

    fn unlisted(&self, values: &[(u32, u64)], path: &Path) -> Error {
        let unknown: Vec<_> = values.iter().filter(|(v, _)| self.class(*v) == UNLISTED).collect();
        let named: Vec<_> = unknown.iter().take(5).map(|(v, n)| format!("{v} ({n} pixels)")).collect();
        let more = if unknown.len() > 5 { ", .." } else { "" };
        let first = unknown.first().map_or(0, |(v, _)| *v);
        let (values, belong) = if unknown.len() == 1 { ("label value", "belongs") } else { ("label values", "belong") };
        Error::new(ErrorKind::Invalid, format!("{values} {}{more} {belong} to no class", named.join(", ")))
            .at(path.display())
            .remedy(format!(
                "name it with --class {first}=NAME or in the class list, or --ignore {first}, or --unlisted background"
            ))
    }
}

/// The label values of a class list's colours.
pub(super) fn colours(list: Option<&ClassList>) -> Colours {
    let entries = list.map(|l| l.entries.as_slice()).unwrap_or_default();
    entries.iter().filter_map(|e| e.color.map(|c| (c, e.value))).collect()
}

/// How many pixels of a mask have each label value, in the order of values.
pub(super) fn histogram(path: &Path, width: usize, height: usize, colours: &Colours) -> Result<Vec<(u32, u64)>> {
    let mask = checked(path, width, height)?;
    if let MaskValues::U8(values) = &mask {
        let mut counts = [0u64; 256];
        for &value in values {
            counts[usize::from(value)] += 1;
        }
        return Ok((0u32..).zip(counts).filter(|(_, n)| *n > 0).collect());
    }
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    let mut run = (0, 0u64);
    each_value(mask, colours, |value| {
        if value != run.0 {
            *counts.entry(run.0).or_default() += run.1;
            run = (value, 0);
        }
        run.1 += 1;
    })
    .map_err(|e| e.at(path.display()))?;
    *counts.entry(run.0).or_default() += run.1;
    counts.retain(|_, n| *n > 0);
    if counts.len() > MAX_VALUES {
        return Err(Error::new(ErrorKind::Invalid, format!("{} label values: this is no class mask", counts.len()))
            .at(path.display())
            .remedy("a mask holds one small whole number a class"));
    }
    Ok(counts.into_iter().collect())
}

/// What a mask's header says; its size is that of the upright mask.
pub(super) struct MaskHeader {
    pub width: usize,
    pub height: usize,
    /// Whether pixels are colours rather than label values.
    pub colours: bool,
    /// How it is turned when it is read.
    pub orientation: Orientation,
}

/// Reads a mask's header.
pub(super) fn header(path: &Path) -> Result<MaskHeader> {
    let raw::MaskHeader { mut width, mut height, colours } = raw::mask_header(path)?;
    let orientation = orientation(path)?;
    if is_quarter(orientation) {
        (width, height) = (height, width);
    }
    Ok(MaskHeader { width, height, colours, orientation })
}

fn checked(path: &Path, width: usize, height: usize) -> Result<MaskValues> {
    let mask = raw::mask(path)?;
    let orientation = orientation(path)?;
    let size = if is_quarter(orientation) { (mask.height, mask.width) } else { (mask.width, mask.height) };
    if size != (width, height) {
        return Err(wrong_size(size, (width, height)).at(path.display()));
    }
    upright(mask.values, mask.width, mask.height, orientation)
        .ok_or_else(|| Error::new(ErrorKind::Format, "the mask is too short").at(path.display()))
}

/// Whether width and height change places.
pub(super) fn is_quarter(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Turns a mask as its image would be turned; `None` if it has too few values. Masks of floating point come from TIFFs, which
/// are read as they are stored.
fn upright(values: MaskValues, width: usize, height: usize, orientation: Orientation) -> Option<MaskValues> {
    if orientation == Orientation::NoTransforms {
        return Some(values);
    }
    let (width, height) = (width as u32, height as u32);
    let turned = |mut picture: DynamicImage| {
        picture.apply_orientation(orientation);
        picture
    };
    Some(match values {
        MaskValues::U8(v) => {
            MaskValues::U8(turned(ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLuma8)?).into_bytes())
        }
        MaskValues::Rgb(v) => {
            MaskValues::Rgb(turned(ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageRgb8)?).into_bytes())
        }
        MaskValues::U16(v) => MaskValues::U16(
            turned(ImageBuffer::from_raw(width, height, v).map(DynamicImage::ImageLuma16)?).into_luma16().into_raw(),
        ),
        MaskValues::F32(v) => MaskValues::F32(v),
    })
}

pub(super) fn wrong_size(mask: (usize, usize), image: (usize, usize)) -> Error {
    let message = format!("the mask has {} x {} pixels, its image {} x {}", mask.0, mask.1, image.0, image.1);
    Error::new(ErrorKind::Invalid, message).remedy("export image and mask with the same size")
}

fn each_value(mask: MaskValues, colours: &Colours, mut use_value: impl FnMut(u32)) -> Result<()> {
    match mask {
        MaskValues::U8(values) => values.into_iter().for_each(|v| use_value(u32::from(v))),
        MaskValues::U16(values) => values.into_iter().for_each(|v| use_value(u32::from(v))),
        MaskValues::F32(values) => {
            for value in values {
                // Above 2^24, floating point does not hold every whole number.
                if !(0.0..=16_777_216.0).contains(&value) || value.fract() != 0.0 {
                    return Err(Error::new(ErrorKind::Invalid, format!("{value} is no label value"))
                        .remedy("label values are whole numbers from 0 on; save the mask with 8 bits"));
                }
                use_value(value as u32);
            }
        }
        MaskValues::Rgb(pixels) => {
            for pixel in pixels.chunks_exact(3) {
                let color = [pixel[0], pixel[1], pixel[2]];
                let Some(value) = colours.get(&color) else { return Err(unknown_colour(color, colours.is_empty())) };
                use_value(*value);
            }
        }
    }
    Ok(())
}

fn unknown_colour([r, g, b]: [u8; 3], no_palette: bool) -> Error {
    let message = if no_palette {
        format!("the mask holds colours, such as #{r:02X}{g:02X}{b:02X}, and not one label value a pixel")
    } else {
        format!("the mask's colour #{r:02X}{g:02X}{b:02X} belongs to no class")
    };
    Error::new(ErrorKind::Invalid, message)
        .remedy("save it with one band, or give each class its colour in classes.json, for example \"#FF8000\"")
}
