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
use crate::source::raw::{self, MaskValues, RawMask};

/// Stands for values that no class has; above every class index.
const UNLISTED: u8 = 254;
/// Stands for pixels of which the mask says nothing.
pub(super) const NO_DATA: u8 = 253;
/// Distinct values beyond which a mask is no class mask.
const MAX_VALUES: usize = 1024;

/// Label values of colours, for masks that are pictures.
pub(super) type ColourValues = HashMap<[u8; 3], u32>;

/// The class of each label value of one folder.
#[derive(Debug)]
pub(super) struct LabelMap {
    values: HashMap<u32, u8>,
    bytes: Box<[u8; 256]>,
    other: u8,
    colours: ColourValues,
}

impl LabelMap {
    pub(super) fn new(map: &BTreeMap<u32, u8>, options: &DatasetOptions, colours: ColourValues) -> Self {
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

    /// Reads a mask of `width` x `height` pixels as class indices, `[height, width]`; [`IGNORE`] where it holds no data.
    pub(super) fn read(&self, path: &Path, width: usize, height: usize) -> Result<Vec<u8>> {
        let mut out = self.marked(path, width, height)?;
        out.iter_mut().filter(|class| **class == NO_DATA).for_each(|class| *class = IGNORE);
        Ok(out)
    }

    /// As [`LabelMap::read`], with [`NO_DATA`] where the mask holds no data.
    pub(super) fn marked(&self, path: &Path, width: usize, height: usize) -> Result<Vec<u8>> {
        let out = match checked(path, width, height)? {
            // The usual masks, in place.
            Upright { values: MaskValues::U8(mut values), no_data } => {
                values.iter_mut().for_each(|value| *value = self.bytes[usize::from(*value)]);
                values.iter_mut().zip(no_data).filter(|(_, none)| *none).for_each(|(class, _)| *class = NO_DATA);
                values
            }
            other => {
                let mut out = Vec::with_capacity(width * height);
                let class = |value: Option<u32>| value.map_or(NO_DATA, |v| self.class(v));
                each_value(other, &self.colours, |v| out.push(class(v))).map_err(|e| e.at(path.display()))?;
                out
            }
        };
        if out.contains(&UNLISTED) {
            return Err(self.unlisted(&self.histogram(path, width, height)?.values, path));
        }
        Ok(out)
    }

    /// How many pixels of a mask have each label value.
    pub(super) fn histogram(&self, path: &Path, width: usize, height: usize) -> Result<Histogram> {
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
pub(super) fn colours(list: Option<&ClassList>) -> ColourValues {
    let entries = list.map(|l| l.entries.as_slice()).unwrap_or_default();
    entries.iter().filter_map(|e| e.color.map(|c| (c, e.value))).collect()
}

/// How many pixels of a mask have each label value.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    /// Value and pixels, in the order of values.
    pub values: Box<[(u32, u64)]>,
    /// Pixels of which the mask says nothing.
    pub no_data: u64,
}

/// Counts the label values of a mask.
pub(super) fn histogram(path: &Path, width: usize, height: usize, colours: &ColourValues) -> Result<Histogram> {
    let mask = checked(path, width, height)?;
    if let (MaskValues::U8(values), true) = (&mask.values, mask.no_data.is_empty()) {
        let mut counts = [0u64; 256];
        for &value in values {
            counts[usize::from(value)] += 1;
        }
        return Ok(Histogram { values: (0u32..).zip(counts).filter(|(_, n)| *n > 0).collect(), no_data: 0 });
    }
    let mut counts: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    let mut run = (None, 0u64);
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
    let no_data = counts.remove(&None).unwrap_or_default();
    if counts.len() > MAX_VALUES {
        return Err(Error::new(ErrorKind::Invalid, format!("{} label values: this is no class mask", counts.len()))
            .at(path.display())
            .remedy("a mask holds one small whole number a class"));
    }
    Ok(Histogram { values: counts.into_iter().filter_map(|(value, n)| Some((value?, n))).collect(), no_data })
}

/// What a mask's header says; its size is that of the upright mask.
pub(super) struct UprightHeader {
    pub width: usize,
    pub height: usize,
    /// Whether pixels are colours rather than label values.
    pub colours: bool,
    /// How it is turned when it is read.
    pub orientation: Orientation,
}

/// Reads a mask's header.
pub(super) fn header(path: &Path) -> Result<UprightHeader> {
    let raw::MaskHeader { mut width, mut height, colours } = raw::mask_header(path)?;
    let orientation = orientation(path)?;
    if is_quarter(orientation) {
        (width, height) = (height, width);
    }
    Ok(UprightHeader { width, height, colours, orientation })
}

/// A decoded mask, turned as its image is.
struct Upright {
    values: MaskValues,
    /// `[height, width]`: pixels of which it says nothing; empty if there are none.
    no_data: Vec<bool>,
}

fn checked(path: &Path, width: usize, height: usize) -> Result<Upright> {
    let mask = raw::mask(path)?;
    let orientation = orientation(path)?;
    let size = if is_quarter(orientation) { (mask.height, mask.width) } else { (mask.width, mask.height) };
    if size != (width, height) {
        return Err(wrong_size(size, (width, height)).at(path.display()));
    }
    upright(mask, orientation).ok_or_else(|| Error::new(ErrorKind::Format, "the mask is too short").at(path.display()))
}

/// Whether width and height change places.
pub(super) fn is_quarter(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Turns a mask as its image would be turned; `None` if it has too few values. Masks of floating point come from TIFFs, which
/// are read as they are stored.
fn upright(mask: RawMask, orientation: Orientation) -> Option<Upright> {
    let RawMask { width, height, values, nodata } = mask;
    if orientation == Orientation::NoTransforms {
        return Some(Upright { values, no_data: nodata });
    }
    let (width, height) = (width as u32, height as u32);
    let turned = |mut picture: DynamicImage| {
        picture.apply_orientation(orientation);
        picture
    };
    let bytes =
        |v: Vec<u8>| Some(turned(DynamicImage::ImageLuma8(ImageBuffer::from_raw(width, height, v)?)).into_bytes());
    let no_data = match nodata.is_empty() {
        true => Vec::new(),
        false => bytes(nodata.into_iter().map(u8::from).collect())?.into_iter().map(|none| none != 0).collect(),
    };
    let values = match values {
        MaskValues::U8(v) => MaskValues::U8(bytes(v)?),
        MaskValues::Rgb(v) => {
            MaskValues::Rgb(turned(DynamicImage::ImageRgb8(ImageBuffer::from_raw(width, height, v)?)).into_bytes())
        }
        MaskValues::U16(v) => {
            let picture = DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, v)?);
            MaskValues::U16(turned(picture).into_luma16().into_raw())
        }
        MaskValues::F32(v) => MaskValues::F32(v),
    };
    Some(Upright { values, no_data })
}

pub(super) fn wrong_size(mask: (usize, usize), image: (usize, usize)) -> Error {
    let message = format!("the mask has {} x {} pixels, its image {} x {}", mask.0, mask.1, image.0, image.1);
    Error::new(ErrorKind::Invalid, message).remedy("export image and mask with the same size")
}

/// Gives each pixel's label value, `None` where the mask says nothing.
fn each_value(mask: Upright, colours: &ColourValues, mut use_value: impl FnMut(Option<u32>)) -> Result<()> {
    let mut none = mask.no_data.into_iter();
    let mut next = |value: &mut dyn FnMut() -> Result<u32>| -> Result<()> {
        use_value(if none.next() == Some(true) { None } else { Some(value()?) });
        Ok(())
    };
    match mask.values {
        MaskValues::U8(values) => values.into_iter().try_for_each(|v| next(&mut || Ok(u32::from(v)))),
        MaskValues::U16(values) => values.into_iter().try_for_each(|v| next(&mut || Ok(u32::from(v)))),
        MaskValues::F32(values) => values.into_iter().try_for_each(|v| next(&mut || whole(v))),
        MaskValues::Rgb(pixels) => pixels.chunks_exact(3).try_for_each(|pixel| {
            let color = [pixel[0], pixel[1], pixel[2]];
            next(&mut || colours.get(&color).copied().ok_or_else(|| unknown_colour(color, colours.is_empty())))
        }),
    }
}

/// A label value that is stored as floating point.
fn whole(value: f32) -> Result<u32> {
    // Above 2^24, floating point does not hold every whole number.
    if (0.0..=16_777_216.0).contains(&value) && value.fract() == 0.0 {
        return Ok(value as u32);
    }
    Err(Error::new(ErrorKind::Invalid, format!("{value} is no label value"))
        .remedy("label values are whole numbers from 0 on; save the mask with 8 bits"))
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
