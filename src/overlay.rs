//! Pictures of a class mask: a transparent RGBA overlay, and the mask blended over its image.

use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::image::RgbImage;
use crate::mask::{ClassMask, NO_DATA, check_plane};

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

/// The mask as RGBA8 `[height, width, 4]`, alpha not premultiplied. Background, pixels without data,
/// and classes that are not listed are fully transparent.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the mask's planes do not have its size.
pub fn rgba(mask: &ClassMask, classes: &[Class], style: Style) -> Result<Vec<u8>> {
    check_plane("class mask", mask.classes.len(), mask.width, mask.height)?;
    let mut out = Vec::with_capacity(mask.classes.len() * 4);
    let palette = Palette::new(classes, style);
    palette.paint(&mask.classes, mask.width, None, None, |_, rgba| out.extend_from_slice(&rgba));
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
    let mut strips = Blender::new(mask.width, classes, style);
    let mut out = strips.push(&mask.classes, image.pixels())?;
    out.extend(strips.finish());
    RgbImage::new(mask.width, mask.height, out)
}

/// [`blend`] strip by strip from the top, for images that need not be in memory at once.
pub struct Blender {
    width: usize,
    palette: Palette,
    /// Classes of the row above the held one, if there is any.
    above: Vec<u8>,
    /// The last row of classes and of colours so far: what lies below decides where its edges are.
    held: (Vec<u8>, Vec<u8>),
}

impl Blender {
    /// For an image of `width` columns.
    pub fn new(width: usize, classes: &[Class], style: Style) -> Self {
        Self { width, palette: Palette::new(classes, style), above: Vec::new(), held: Default::default() }
    }

    /// Takes the next rows, classes `[rows, width]` and colours `[rows, width, 3]`; gives the colours of all rows that can be
    /// drawn, which are all but the last one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the two are not whole rows of the same number.
    pub fn push(&mut self, classes: &[u8], rgb: &[u8]) -> Result<Vec<u8>> {
        if self.width == 0 || !classes.len().is_multiple_of(self.width) || rgb.len() != classes.len() * 3 {
            let message = format!("{} classes and {} bytes of colours", classes.len(), rgb.len());
            return Err(Error::new(ErrorKind::Invalid, message).at(format!("rows of {} pixels", self.width)));
        }
        if classes.is_empty() {
            return Ok(Vec::new());
        }
        let (mut all, mut out) = std::mem::take(&mut self.held);
        all.extend_from_slice(classes);
        out.extend_from_slice(rgb);
        let last = all.len() - self.width;
        let (rows, below) = all.split_at(last);
        self.draw(rows, Some(below), &mut out);
        self.held = (below.to_vec(), out.split_off(last * 3));
        if let Some(above) = rows.len().checked_sub(self.width) {
            self.above = rows[above..].to_vec();
        }
        Ok(out)
    }

    /// The colours of the last row.
    pub fn finish(mut self) -> Vec<u8> {
        let (rows, mut out) = std::mem::take(&mut self.held);
        self.draw(&rows, None, &mut out);
        out
    }

    fn draw(&self, rows: &[u8], below: Option<&[u8]>, out: &mut [u8]) {
        let above = (!self.above.is_empty()).then_some(self.above.as_slice());
        self.palette.paint(rows, self.width, above, below, |at, [r, g, b, alpha]| {
            let alpha = u32::from(alpha);
            for (under, over) in out[at * 3..at * 3 + 3].iter_mut().zip([r, g, b]) {
                *under = ((u32::from(*under) * (255 - alpha) + u32::from(over) * alpha + 127) / 255) as u8;
            }
        });
    }
}

/// The colour of every class, on its surface and along its edge.
struct Palette {
    surface: [[u8; 4]; 256],
    edge: [[u8; 4]; 256],
    outline: bool,
}

impl Palette {
    fn new(classes: &[Class], style: Style) -> Self {
        let opacity = if style.opacity.is_finite() { style.opacity.clamp(0.0, 1.0) } else { 0.0 };
        let mut surface = [[0u8; 4]; 256];
        let mut edge = [[0u8; 4]; 256];
        for class in classes.iter().filter(|c| c.index != 0 && c.index != NO_DATA && opacity > 0.0) {
            let [r, g, b] = class.color;
            let dark = |c: u8| (f32::from(c) * OUTLINE_SHADE).round() as u8;
            surface[usize::from(class.index)] = [r, g, b, (opacity * 255.0).round() as u8];
            edge[usize::from(class.index)] =
                [dark(r), dark(g), dark(b), (opacity.max(OUTLINE_OPACITY) * 255.0).round() as u8];
        }
        Self { surface, edge, outline: style.outline }
    }

    /// Calls `draw(pixel index, RGBA)` for every pixel of some rows in order; `above` and `below` are the rows of classes next
    /// to them. The image's own frame is no edge: tiles drawn side by side must not show their seams.
    fn paint(
        &self,
        classes: &[u8],
        width: usize,
        above: Option<&[u8]>,
        below: Option<&[u8]>,
        mut draw: impl FnMut(usize, [u8; 4]),
    ) {
        let rows: Vec<&[u8]> = classes.chunks_exact(width).collect();
        for (y, row) in rows.iter().enumerate() {
            let up = if y > 0 { Some(rows[y - 1]) } else { above };
            let down = if y + 1 < rows.len() { Some(rows[y + 1]) } else { below };
            for (x, &class) in row.iter().enumerate() {
                let on_edge = self.outline
                    && class != 0
                    && ((x > 0 && row[x - 1] != class)
                        || (x + 1 < width && row[x + 1] != class)
                        || up.is_some_and(|up| up[x] != class)
                        || down.is_some_and(|down| down[x] != class));
                let colours = if on_edge { &self.edge } else { &self.surface };
                draw(y * width + x, colours[usize::from(class)]);
            }
        }
    }
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
        let whole = blend(&image, &mask, &classes, Style::default()).expect("valid");
        for rows in [1, 2, 3] {
            let mut strips = Blender::new(4, &classes, Style::default());
            let mut out = Vec::new();
            for (classes, rgb) in mask.classes.chunks(rows * 4).zip(image.pixels().chunks(rows * 12)) {
                out.extend(strips.push(classes, rgb).expect("whole rows"));
            }
            out.extend(strips.finish());
            assert_eq!(out, whole.pixels(), "strips of {rows} rows");
        }
        assert!(Blender::new(4, &classes, Style::default()).push(&[0; 3], &[0; 9]).is_err());
        let small = RgbImage::new(1, 1, vec![0; 3]).expect("valid");
        assert_eq!(blend(&small, &mask, &classes, Style::default()).expect_err("size").kind(), ErrorKind::Invalid);
    }
}
