//! The files of one input, written row by row as its mask is finished.

use std::io::Write;
use std::path::{Path, PathBuf};

use samlora::config::Class;
use samlora::engine::Segmenter;
use samlora::error::Result;
use samlora::mask::{ClassMask, NO_DATA};
use samlora::mosaic::Rows;
use samlora::overlay::{Blender, Style};
use samlora::source::write::{Cog, MaskPng, MaskTiff, RgbPng, atomic};
use samlora::source::{ModelInput, Raster, Window};
use samlora::vector::stats::{self, Statistics};
use samlora::vector::write::{Table, Value};
use samlora::vector::{Clip, Clipped};

use super::vectors::{Origin, RightAngles, Vectors};
use super::{Format, OutputArgs};

/// An input within the areas that were asked for.
pub type Source = Clipped<ModelInput>;

/// What was asked for of one input.
pub struct Outputs<'a> {
    args: &'a OutputArgs,
    classes: &'a [Class],
    /// The network, where its logits may be asked for.
    segmenter: Option<&'a Segmenter>,
    /// Folder and the beginning of the files' names.
    path: PathBuf,
    size: (usize, usize),
    png: Option<MaskPng>,
    overlay: Option<(RgbPng, Blender)>,
    tiff: Option<MaskTiff>,
    cog: Option<Cog>,
    confidence: Option<Cog>,
    vectors: Option<Vectors<'a>>,
    statistics: Option<Statistics<'a>>,
    /// The whole mask, where a format needs it.
    mask: Option<ClassMask>,
    /// Whether the raster is the one that the model sees.
    pub at_model: bool,
}

impl<'a> Outputs<'a> {
    /// Begins the files in `folder`, named after `stem`; they appear once they are complete.
    pub fn begin(
        args: &'a OutputArgs,
        segmenter: Option<&'a Segmenter>,
        folder: &Path,
        stem: &str,
        origin: &Origin<'a>,
        clip: Option<&Clip>,
    ) -> Result<Self> {
        let &Origin { classes, georef, size: (width, height), .. } = origin;
        let wants = |format| args.format.contains(&format);
        let path = |ending: &str| folder.join(format!("{stem}.{ending}"));
        let png = wants(Format::Png).then(|| MaskPng::create(path("mask.png"), width, height, classes));
        let tiff = wants(Format::Geotiff).then(|| MaskTiff::create(path("tif"), width, height, classes, georef));
        let style = Style { opacity: args.opacity, ..Default::default() };
        let overlay = wants(Format::Overlay).then(|| RgbPng::create(path("overlay.png"), width, height));
        let mask = ClassMask { width, height, classes: Vec::new(), confidence: Vec::new() };
        Ok(Self {
            args,
            classes,
            segmenter,
            path: folder.join(stem),
            size: (width, height),
            png: png.transpose()?,
            overlay: overlay.transpose()?.map(|file| (file, Blender::new(width, classes, style))),
            tiff: tiff.transpose()?,
            cog: wants(Format::Cog)
                .then(|| Cog::classes(path("classes.tif"), (width, height), classes, georef))
                .transpose()?,
            confidence: wants(Format::Confidence)
                .then(|| Cog::confidence(path("confidence.tif"), (width, height), georef))
                .transpose()?,
            vectors: Vectors::begin(args, folder, stem, origin)?,
            // A GeoPackage holds them too.
            statistics: (wants(Format::Csv) || wants(Format::Gpkg))
                .then(|| Statistics::new(georef, (width, height), clip)),
            mask: wants(Format::Raw).then_some(mask),
            at_model: true,
        })
    }

    /// Writes finished rows.
    pub fn rows(&mut self, rows: &Rows, raster: &mut Source) -> Result<()> {
        if let Some(png) = &mut self.png {
            png.write(&rows.classes)?;
        }
        if let Some(tiff) = &mut self.tiff {
            tiff.write(&rows.classes)?;
        }
        if let Some((file, blender)) = &mut self.overlay {
            let (width, height) = (self.size.0, rows.classes.len() / self.size.0);
            let image = raster.inner_mut().image(Window { x: 0, y: rows.top, width, height })?;
            file.write(&blender.push(&rows.classes, image.pixels())?)?;
        }
        if let Some(cog) = &mut self.cog {
            cog.write(&rows.classes)?;
        }
        if let Some(cog) = &mut self.confidence {
            // 0 is no data there.
            let least = |(class, sure): (&u8, &u8)| if *class == NO_DATA { 0 } else { (*sure).max(1) };
            cog.write(&rows.classes.iter().zip(&rows.confidence).map(least).collect::<Vec<_>>())?;
        }
        if let Some(statistics) = &mut self.statistics {
            statistics.rows(&rows.classes, &rows.confidence, raster.clip())?;
        }
        if let Some(vectors) = &mut self.vectors {
            vectors.rows(&rows.classes, &rows.confidence)?;
        }
        if let Some(mask) = &mut self.mask {
            mask.classes.extend_from_slice(&rows.classes);
            mask.confidence.extend_from_slice(&rows.confidence);
        }
        Ok(())
    }

    /// Completes the files; gives their names in the order they were asked for.
    pub fn finish(mut self, raster: &mut Source) -> Result<(Vec<PathBuf>, Option<RightAngles>)> {
        let mut files = Vec::new();
        let classes = self.classes;
        let lines = self.statistics.take().map(|s| s.finish(classes, raster.clip())).transpose()?;
        let (mut vectors, right_angles) = match self.vectors.take() {
            Some(vectors) => vectors.finish(lines.as_deref().map(table).as_ref())?,
            None => (Vec::new(), None),
        };
        for format in &self.args.format {
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
                Format::Cog => {
                    let Some(cog) = self.cog.take() else { continue };
                    cog.finish()?;
                    files.push(self.named("classes.tif"));
                }
                Format::Confidence => {
                    let Some(cog) = self.confidence.take() else { continue };
                    cog.finish()?;
                    files.push(self.named("confidence.tif"));
                }
                Format::Csv => {
                    let Some(lines) = &lines else { continue };
                    atomic(self.named("csv"), |file| Ok(file.write_all(stats::csv(lines).as_bytes())?))?;
                    files.push(self.named("csv"));
                }
                Format::Raw => {
                    let Some(mask) = &self.mask else { continue };
                    self.raw(mask, raster, &mut files)?;
                }
                format => {
                    let of_format = vectors.iter_mut().find(|(f, _)| f == format);
                    files.extend(of_format.into_iter().flat_map(|(_, names)| std::mem::take(names)));
                }
            }
        }
        Ok((files, right_angles))
    }

    /// Plain numbers, for tests and other programs.
    fn raw(&self, mask: &ClassMask, raster: &mut Source, files: &mut Vec<PathBuf>) -> Result<()> {
        let mut put = |ending: &str, bytes: &[u8]| {
            files.push(self.named(ending));
            atomic(self.named(ending), |file| Ok(file.write_all(bytes)?))
        };
        put("classes.u8", &mask.classes)?;
        put("confidence.u8", &mask.confidence)?;
        let Some(segmenter) = self.segmenter else { return Ok(()) };
        let input = segmenter.manifest().input_size;
        if self.at_model && mask.width <= input && mask.height <= input {
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

/// The statistics as a GeoPackage's table.
fn table(lines: &[stats::Line]) -> Table<'static> {
    let number = |value: Option<f64>| value.map_or(Value::Null, Value::Real);
    let row = |line: &stats::Line| {
        vec![
            Value::Text(line.area.clone()),
            Value::Integer(line.class.into()),
            Value::Text(line.name.clone()),
            Value::Integer(line.pixels as i64),
            number(line.hectares),
            Value::Real(line.share),
            number(line.uncertainty_hectares),
            Value::Real(line.confidence),
        ]
    };
    let rows = lines.iter().map(row).collect();
    Table { name: "statistics", description: "hectares and share of each class", columns: &stats::COLUMNS, rows }
}
