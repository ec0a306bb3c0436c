//! A picture of samples: each image, and beside it its mask in colours.

use std::path::Path;

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, Rgb};
use samlora::config::Class;
use samlora::error::{Error, ErrorKind, Result};
use samlora::image::RgbImage;
use samlora::mask::ClassMask;
use samlora::overlay::{Style, blend};
use samlora::source::write::rgb_png;
use samlora::train::dataset::{Chip, Dataset, IGNORE, Samples, Scan};

/// Longer side of a picture, space between pictures, pairs in a row and on the sheet, all in pixels or counts.
const SIDE: usize = 256;
const GAP: usize = 8;
const ACROSS: usize = 4;
const PAIRS: usize = 24;
/// Ignored pixels are drawn in a colour that neither land nor classes often have.
const IGNORED: [u8; 3] = [255, 0, 255];

/// Draws samples spread over the data set, and those in which each class is most frequent.
pub fn write(dataset: &Dataset, scan: &Scan, file: &Path) -> Result<()> {
    let chosen = choose(dataset, scan);
    let rows = chosen.len().div_ceil(ACROSS);
    let (pair, height) = (2 * SIDE + 2 + GAP, rows * (SIDE + GAP) + GAP);
    let width = ACROSS.min(chosen.len()) * pair + GAP;
    let mut sheet = vec![255u8; width * height * 3];
    let mut classes = dataset.classes.clone();
    classes.push(Class { index: IGNORE, name: "ignored".to_owned(), color: IGNORED, threshold: None });
    for (n, &sample) in chosen.iter().enumerate() {
        let (image, mask) = pictures(&dataset.read(sample)?, &classes)?;
        let (x, y) = (GAP + n % ACROSS * pair, GAP + n / ACROSS * (SIDE + GAP));
        for (picture, x) in [(&image, x), (&mask, x + SIDE + 2)] {
            for (row, pixels) in picture.pixels().chunks_exact(picture.width() * 3).enumerate() {
                let at = ((y + row) * width + x) * 3;
                sheet[at..at + pixels.len()].copy_from_slice(pixels);
            }
        }
    }
    rgb_png(file, &RgbImage::new(width, height, sheet)?)
}

fn choose(dataset: &Dataset, scan: &Scan) -> Vec<usize> {
    let samples = dataset.samples.len();
    let best = |class: usize| (0..samples).max_by_key(|&i| (scan.pixels[i][class], std::cmp::Reverse(i)));
    let classes = (1..dataset.classes.len().min(PAIRS / 2)).filter_map(best);
    let mut chosen: Vec<usize> = classes.collect();
    let spread = PAIRS.saturating_sub(chosen.len()).min(samples);
    chosen.extend((0..spread).map(|i| i * samples / spread));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// A chip's image and its mask over it, at most [`SIDE`] pixels a side.
fn pictures(chip: &Chip, classes: &[Class]) -> Result<(RgbImage, RgbImage)> {
    let (w, h) = (chip.width, chip.height);
    let longer = w.max(h).max(1);
    // Small chips are shown as they are: enlarged they would look blurred.
    let scaled = |side: usize| if longer > SIDE { (side * SIDE / longer).max(1) } else { side };
    let (width, height) = (scaled(w), scaled(h));
    let wrong = || Error::new(ErrorKind::Invalid, "a chip without pixels");
    let image: ImageBuffer<Rgb<u8>, _> = ImageBuffer::from_raw(w as u32, h as u32, colours(chip)).ok_or_else(wrong)?;
    let labels: ImageBuffer<Luma<u8>, _> =
        ImageBuffer::from_raw(w as u32, h as u32, chip.labels.clone()).ok_or_else(wrong)?;
    let image = resize(&image, width as u32, height as u32, FilterType::Triangle).into_raw();
    let labels = resize(&labels, width as u32, height as u32, FilterType::Nearest).into_raw();
    let image = RgbImage::new(width, height, image)?;
    let mask = ClassMask::new(width, height, labels, vec![255; width * height])?;
    let drawn = blend(&image, &mask, classes, Style::default())?;
    Ok((image, drawn))
}

/// The first three bands as 8-bit colours; other than 8-bit samples are stretched between their 2nd and 98th percentile.
fn colours(chip: &Chip) -> Vec<u8> {
    let bands: Vec<usize> = (0..3).map(|b| b.min(chip.bands - 1)).collect();
    let pixels = chip.width * chip.height;
    match &chip.samples {
        Samples::U8(v) => v.chunks_exact(chip.bands).flat_map(|p| bands.iter().map(|&b| p[b])).collect(),
        Samples::U16(v) => stretched(pixels, &bands, |i, b| f32::from(v[i * chip.bands + b])),
        Samples::F32(v) => stretched(pixels, &bands, |i, b| v[i * chip.bands + b]),
    }
}

fn stretched(pixels: usize, bands: &[usize], value: impl Fn(usize, usize) -> f32) -> Vec<u8> {
    let range = |&band: &usize| {
        let mut values: Vec<f32> = (0..pixels).map(|i| value(i, band)).filter(|v| v.is_finite()).collect();
        values.sort_by(f32::total_cmp);
        let at = |part: f64| values.get((part * values.len() as f64) as usize).copied().unwrap_or(0.0);
        (at(0.02), at(0.98))
    };
    let ranges: Vec<(f32, f32)> = bands.iter().map(range).collect();
    let scale = |v: f32, (low, high): (f32, f32)| (255.0 * (v - low) / (high - low).max(f32::MIN_POSITIVE)) as u8;
    (0..pixels)
        .flat_map(|i| bands.iter().zip(&ranges).map(|(&b, r)| scale(value(i, b), *r)).collect::<Vec<_>>())
        .collect()
}
