//! Pictures of a class mask: a transparent RGBA overlay, and the mask blended over its image.

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::image::RgbImage;
use crate::mask::{ClassMask, check_plane};

/// How an overlay looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// Opacity of a class's surface, 0 (invisible) to 1 (covers the image).
    pub opacity: f32,
    /// Whether the pixels along a class's edge are drawn darker and more opaque, so that shapes stay readable.
    pub outline: bool,
}

impl Default for Style {
    /// Half transparent with outlines: the image stays readable below.
    fn default() -> Self {
        Self { opacity: 0.5, outline: true }
    }
}

/// An outline keeps this part of its class's brightness.
const OUTLINE_SHADE: f32 = 0.65;
/// The least opacity of an outline, unless the overlay is invisible.
const OUTLINE_OPACITY: f32 = 0.85;

/// The mask as RGBA8 `[height, width, 4]`, alpha not premultiplied. Background, and classes that are not listed, are
/// fully transparent.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the mask's planes do not have its size.
pub fn rgba(mask: &ClassMask, classes: &[Class], style: Style) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(mask.classes.len() * 4);
    each_pixel(mask, classes, style, |_, rgba| out.extend_from_slice(&rgba))?;
    Ok(out)
}

/// The mask drawn over its image. No legend, no text.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the image has another size than the mask.
pub fn blend(image: &RgbImage, mask: &ClassMask, classes: &[Class], style: Style) -> Result<RgbImage> {
    if (image.width(), image.height()) != (mask.width, mask.height) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a mask of {} x {} pixels for an image of {} x {}",
                mask.width,
                mask.height,
                image.width(),
                image.height()
            ),
        ));
    }
    let mut out = image.pixels().to_vec();
    each_pixel(mask, classes, style, |at, [r, g, b, alpha]| {
        let alpha = u32::from(alpha);
        for (under, over) in out[at * 3..at * 3 + 3].iter_mut().zip([r, g, b]) {
            *under = ((u32::from(*under) * (255 - alpha) + u32::from(over) * alpha + 127) / 255) as u8;
        }
    })?;
    RgbImage::new(mask.width, mask.height, out)
}

/// Calls `draw(pixel index, RGBA)` for every pixel in order.
fn each_pixel(mask: &ClassMask, classes: &[Class], style: Style, mut draw: impl FnMut(usize, [u8; 4])) -> Result<()> {
    check_plane("class mask", mask.classes.len(), mask.width, mask.height)?;
    let opacity = if style.opacity.is_finite() { style.opacity.clamp(0.0, 1.0) } else { 0.0 };
    let mut surface = [[0u8; 4]; 256];
    let mut edge = [[0u8; 4]; 256];
    for class in classes.iter().filter(|c| c.index != 0 && opacity > 0.0) {
        let [r, g, b] = class.color;
        let dark = |c: u8| (f32::from(c) * OUTLINE_SHADE).round() as u8;
        surface[usize::from(class.index)] = [r, g, b, (opacity * 255.0).round() as u8];
        edge[usize::from(class.index)] =
            [dark(r), dark(g), dark(b), (opacity.max(OUTLINE_OPACITY) * 255.0).round() as u8];
    }
    let (width, height) = (mask.width, mask.height);
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            let class = mask.classes[at];
            // The image's own frame is no edge: tiles drawn side by side must not show their seams.
            let on_edge = style.outline
                && class != 0
                && ((x > 0 && mask.classes[at - 1] != class)
                    || (x + 1 < width && mask.classes[at + 1] != class)
                    || (y > 0 && mask.classes[at - width] != class)
                    || (y + 1 < height && mask.classes[at + width] != class));
            draw(at, if on_edge { edge[usize::from(class)] } else { surface[usize::from(class)] });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_is_transparent_and_edges_are_darker() {
        let classes = [Class { index: 1, name: "a".into(), color: [200, 100, 0], threshold: None }];
        #[rustfmt::skip]
        let mask = ClassMask::new(4, 3, vec![
            1, 1, 1, 0,
            1, 1, 1, 0,
            1, 1, 1, 0], vec![255; 12]).expect("valid");
        let out = rgba(&mask, &classes, Style::default()).expect("valid");
        assert_eq!(out.len(), 48);
        assert_eq!(&out[12..16], [0, 0, 0, 0]);
        assert_eq!(&out[0..4], [200, 100, 0, 128], "the frame is no edge");
        assert_eq!(&out[8..12], [130, 65, 0, 217]);

        let image = RgbImage::new(4, 3, vec![50; 36]).expect("valid");
        let drawn = blend(&image, &mask, &classes, Style { opacity: 1.0, outline: false }).expect("valid");
        assert_eq!((drawn.pixel(0, 0), drawn.pixel(3, 0)), ([200, 100, 0], [50, 50, 50]));
        let small = RgbImage::new(1, 1, vec![0; 3]).expect("valid");
        assert_eq!(blend(&small, &mask, &classes, Style::default()).expect_err("size").kind(), ErrorKind::Invalid);
    }
}
