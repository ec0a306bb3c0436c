//! The files of one input, written row by row as its mask is finished.

use std::io::Write;
use std::path::{Path, PathBuf};

use samlora::config::Class;
use samlora::engine::Segmenter;
use samlora::error::{Error, ErrorKind, Result};
use samlora::geojson;
use samlora::mask::ClassMask;
use samlora::mosaic::Rows;
use samlora::overlay::{Blender, Style};
use samlora::polygon;
use samlora::source::write::{MaskPng, MaskTiff, RgbPng, atomic};
use samlora::source::{ModelInput, Raster, Window};

use super::Format;

/// The most pixels of formats that hold the whole mask, and of one whose small regions are removed.
const MAX_WHOLE: u64 = 1 << 28;

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Formats, in the order in which files are named.
    pub formats: &'a [Format],
    /// Polygons of fewer pixels are left out.
    pub min_area: u64,
    /// Pixels by which polygons may be straightened.
    pub simplify: f64,
    /// Of classes in the overlay.
    pub opacity: f32,
}

impl Wanted<'_> {
    /// Refuses what takes the whole mask in memory, of an area (width, height) that is too large for it.
    pub fn check(&self, (width, height): (usize, usize)) -> Result<()> {
        let holds_all =
            self.formats.contains(&Format::Geojson) || self.formats.contains(&Format::Raw) || self.min_area > 1;
        if holds_all && width as u64 * height as u64 > MAX_WHOLE {
            let message = format!("{width} x {height} pixels are too many for one mask in memory");
            return Err(Error::new(ErrorKind::Limit, message)
                .remedy("take a smaller --area, or --format geotiff without --min-area"));
        }
        Ok(())
    }
}

/// What was asked for of one input.
pub struct Outputs<'a> {
    wanted: Wanted<'a>,
    classes: &'a [Class],
    /// The network, where its logits may be asked for.
    segmenter: Option<&'a Segmenter>,
    /// Folder and the beginning of the files' names.
    path: PathBuf,
    size: (usize, usize),
    png: Option<MaskPng>,
    overlay: Option<(RgbPng, Blender)>,
    tiff: Option<MaskTiff>,
    /// The whole mask, where a format needs it.
    mask: Option<ClassMask>,
}

impl<'a> Outputs<'a> {
    /// Begins the files in `folder`, named after `stem`; they appear once they are complete.
    pub fn begin(
        wanted: Wanted<'a>,
        (classes, segmenter): (&'a [Class], Option<&'a Segmenter>),
        folder: &Path,
        stem: &str,
        raster: &ModelInput,
    ) -> Result<Self> {
        let (width, height) = raster.size();
        let wants = |format| wanted.formats.contains(&format);
        let path = |ending: &str| folder.join(format!("{stem}.{ending}"));
        let png = wants(Format::Png).then(|| MaskPng::create(path("mask.png"), width, height, classes));
        let tiff =
            wants(Format::Geotiff).then(|| MaskTiff::create(path("tif"), width, height, classes, raster.georef()));
        let style = Style { opacity: wanted.opacity, ..Default::default() };
        let overlay = wants(Format::Overlay).then(|| RgbPng::create(path("overlay.png"), width, height));
        let mask = ClassMask { width, height, classes: Vec::new(), confidence: Vec::new() };
        Ok(Self {
            wanted,
            classes,
            segmenter,
            path: folder.join(stem),
            size: (width, height),
            png: png.transpose()?,
            overlay: overlay.transpose()?.map(|file| (file, Blender::new(width, classes, style))),
            tiff: tiff.transpose()?,
            mask: (wants(Format::Geojson) || wants(Format::Raw)).then_some(mask),
        })
    }

    /// Writes finished rows.
    pub fn rows(&mut self, rows: &Rows, raster: &mut ModelInput) -> Result<()> {
        if let Some(png) = &mut self.png {
            png.write(&rows.classes)?;
        }
        if let Some(tiff) = &mut self.tiff {
            tiff.write(&rows.classes)?;
        }
        if let Some((file, blender)) = &mut self.overlay {
            let (width, height) = (self.size.0, rows.classes.len() / self.size.0);
            let image = raster.image(Window { x: 0, y: rows.top, width, height })?;
            file.write(&blender.push(&rows.classes, image.pixels())?)?;
        }
        if let Some(mask) = &mut self.mask {
            mask.classes.extend_from_slice(&rows.classes);
            mask.confidence.extend_from_slice(&rows.confidence);
        }
        Ok(())
    }

    /// Completes the files; gives their names in the order they were asked for.
    pub fn finish(mut self, raster: &mut ModelInput) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for format in self.wanted.formats {
            match format {
                Format::Png => {
                    let Some(png) = self.png.take() else { continue };
                    png.finish()?;
                    files.push(self.named("mask.png"));
                }
                Format::Overlay => {
                    let Some((mut file, blender)) = self.overlay.take() else { continue };
                    file.write(&blender.finish())?;
                    file.finish()?;
                    files.push(self.named("overlay.png"));
                }
                Format::Geotiff => {
                    let Some(tiff) = self.tiff.take() else { continue };
                    tiff.finish()?;
                    files.push(self.named("tif"));
                }
                Format::Geojson => {
                    let Some(mask) = &self.mask else { continue };
                    let options =
                        polygon::Options { min_pixels: self.wanted.min_area, tolerance: self.wanted.simplify };
                    let polygons = polygon::trace_mask(mask, options)?;
                    let path = self.named("geojson");
                    let placement = geojson::Placement::new(raster.georef(), self.size.0, self.size.1);
                    atomic(&path, |file| geojson::write(file, &polygons, self.classes, placement))?;
                    files.push(path);
                }
                Format::Raw => {
                    let Some(mask) = &self.mask else { continue };
                    self.raw(mask, raster, &mut files)?;
                }
            }
        }
        Ok(files)
    }

    /// Plain numbers, for tests and other programs.
    fn raw(&self, mask: &ClassMask, raster: &mut ModelInput, files: &mut Vec<PathBuf>) -> Result<()> {
        let mut put = |ending: &str, bytes: &[u8]| {
            files.push(self.named(ending));
            atomic(self.named(ending), |file| Ok(file.write_all(bytes)?))
        };
        put("classes.u8", &mask.classes)?;
        put("confidence.u8", &mask.confidence)?;
        let Some(segmenter) = self.segmenter else { return Ok(()) };
        let input = segmenter.manifest().input_size;
        if mask.width <= input && mask.height <= input {
            let window = Window { x: 0, y: 0, width: mask.width, height: mask.height };
            let bands: Vec<usize> = (0..raster.bands()).collect();
            let logits = pollster::block_on(segmenter.logits(&raster.read(window, &bands)?))?;
            put("logits.f32", &logits.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn named(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }
}
