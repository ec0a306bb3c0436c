//! Changes of colour, of 8-bit images only: other data has units that must keep their meaning.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};

use super::{AugmentOptions, between, chance};
use crate::random::SplitMix;
use crate::train::dataset::{Chip, Samples};

/// Qualities of JPEG noise, 0 to 100: from that of poor tiles to what is hardly seen.
const QUALITY: [f32; 2] = [40.0, 90.0];

/// Changes brightness, contrast, saturation, bands, hues, gamma and light; blurs; adds JPEG noise.
pub(super) fn change(chip: &mut Chip, options: &AugmentOptions, random: &mut SplitMix) {
    let (width, height, bands) = (chip.width, chip.height, chip.bands);
    let Samples::U8(pixels) = &mut chip.samples else { return };
    let mut factor = |amount: f32| 1.0 + between(random, -amount, amount);
    let (brightness, contrast, saturation) =
        (factor(options.brightness), factor(options.contrast), factor(options.saturation));
    let gains: Vec<f32> = (0..bands).map(|_| factor(options.channel_gain)).collect();
    if options.brightness != 0.0 || options.contrast != 0.0 || options.channel_gain != 0.0 {
        tables(pixels, bands, brightness, contrast, &gains);
    }
    if bands == 3 && options.saturation != 0.0 {
        saturate(pixels, saturation);
    }
    // Drawn only if asked for: runs without them keep their crops.
    if bands == 3 && options.hue != 0.0 {
        turn_hues(pixels, between(random, -options.hue, options.hue).to_radians());
    }
    if options.gamma != 0.0 {
        let exponent = between(random, -options.gamma, options.gamma).exp();
        let curve: [u8; 256] = std::array::from_fn(|v| ((v as f32 / 255.0).powf(exponent) * 255.0).round() as u8);
        pixels.iter_mut().for_each(|v| *v = curve[usize::from(*v)]);
    }
    if options.light != 0.0 {
        let [across, down] = [(); 2].map(|()| between(random, -options.light, options.light) / 2.0);
        light(pixels, width, bands, across, down);
    }
    if chance(random, options.blur) {
        for _ in 0..=random.next_u64() & 1 {
            blur(pixels, width, height, bands);
        }
    }
    if chance(random, options.jpeg) {
        let quality = between(random, QUALITY[0], QUALITY[1]) as u8;
        jpeg(pixels, width, height, bands, quality);
    }
}

/// Brightness, contrast and gains, by one table of 256 values a band.
fn tables(pixels: &mut [u8], bands: usize, brightness: f32, contrast: f32, gains: &[f32]) {
    // Every 16th sample is enough for a mean; 17 shares no factor with the number of bands up to 16.
    let (count, sum) = pixels.iter().step_by(17).fold((0u64, 0u64), |(n, s), v| (n + 1, s + u64::from(*v)));
    let mean = sum as f32 / count.max(1) as f32 * brightness;
    let tables: Vec<[u8; 256]> = gains
        .iter()
        .map(|gain| {
            std::array::from_fn(|v| {
                ((v as f32 * brightness * gain - mean) * contrast + mean).round().clamp(0.0, 255.0) as u8
            })
        })
        .collect();
    for pixel in pixels.chunks_exact_mut(bands) {
        for (value, table) in pixel.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
}

/// Moves colours away from grey, or towards it.
fn saturate(pixels: &mut [u8], factor: f32) {
    let factor = (factor * 256.0) as i32;
    for pixel in pixels.chunks_exact_mut(3) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
        // ITU-R BT.601, in 256ths.
        let grey = (77 * r + 150 * g + 29 * b + 128) >> 8;
        for (value, old) in pixel.iter_mut().zip([r, g, b]) {
            *value = (grey + (((old - grey) * factor + 128) >> 8)).clamp(0, 255) as u8;
        }
    }
}

/// Turns the plane of colours (I and Q of the NTSC's YIQ) about grey.
fn turn_hues(pixels: &mut [u8], angle: f32) {
    let (sin, cos) = angle.sin_cos();
    for pixel in pixels.chunks_exact_mut(3) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        let (i, q) = (0.596 * r - 0.274 * g - 0.322 * b, 0.211 * r - 0.523 * g + 0.312 * b);
        let (i, q) = (cos * i - sin * q, sin * i + cos * q);
        let turned = [grey + 0.956 * i + 0.621 * q, grey - 0.272 * i - 0.647 * q, grey - 1.107 * i + 1.704 * q];
        for (value, new) in pixel.iter_mut().zip(turned) {
            *value = new.round().clamp(0.0, 255.0) as u8;
        }
    }
}

/// Brightness that changes evenly: by `-across` at the left side to `across` at the right, and `down` likewise.
fn light(pixels: &mut [u8], width: usize, bands: usize, across: f32, down: f32) {
    let height = pixels.len() / (width * bands).max(1);
    for (y, line) in pixels.chunks_exact_mut((width * bands).max(1)).enumerate() {
        let row = 1.0 + down * (2.0 * y as f32 / height as f32 - 1.0);
        for (x, pixel) in line.chunks_exact_mut(bands.max(1)).enumerate() {
            let factor = row + across * (2.0 * x as f32 / width as f32 - 1.0);
            pixel.iter_mut().for_each(|v| *v = (f32::from(*v) * factor).round().clamp(0.0, 255.0) as u8);
        }
    }
}

/// Each sample becomes a quarter of its neighbours and half of itself, along rows, then along columns.
fn blur(pixels: &mut [u8], width: usize, height: usize, bands: usize) {
    let mean = |a: u8, b: u8, c: u8| ((u16::from(a) + 2 * u16::from(b) + u16::from(c) + 2) / 4) as u8;
    let row = width * bands;
    let mut before = vec![0; row];
    for line in pixels.chunks_exact_mut(row) {
        before.copy_from_slice(line);
        for (i, value) in line.iter_mut().enumerate() {
            let left = if i < bands { before[i] } else { before[i - bands] };
            let right = before.get(i + bands).copied().unwrap_or(before[i]);
            *value = mean(left, before[i], right);
        }
    }
    let mut above = pixels.get(..row).map(<[u8]>::to_vec).unwrap_or_default();
    for y in 0..height {
        before.copy_from_slice(&pixels[y * row..(y + 1) * row]);
        for i in 0..row {
            let below = pixels.get((y + 1) * row + i).copied().unwrap_or(before[i]);
            pixels[y * row + i] = mean(above[i], before[i], below);
        }
        above.copy_from_slice(&before);
    }
}

/// Compresses and decompresses. An image that JPEG cannot hold stays as it is.
fn jpeg(pixels: &mut [u8], width: usize, height: usize, bands: usize, quality: u8) {
    let color = match bands {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => return,
    };
    let mut bytes = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut bytes, quality).encode(pixels, width as u32, height as u32, color);
    if encoded.is_err() {
        return;
    }
    let Ok(decoded) = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg) else { return };
    let decoded = if bands == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
    if decoded.len() == pixels.len() {
        pixels.copy_from_slice(&decoded);
    }
}
