//! An input as the model sees it, and the grid on which its mask is written.

use std::path::Path;

use samlora::config::{Class, Normalization};
use samlora::engine::Segmenter;
use samlora::error::{Error, ErrorKind, Result};
use samlora::mask::{ClassCounts, ClassMask, ClassStats};
use samlora::mosaic::Rows;
use samlora::source::{
    Axis, Choice, Colours, GridRows, ModelInput, Raster, Regrid, Resampled, Resolution, Shared, Window, choose,
    open_levels,
};
use samlora::vector::{Clip, Clipped};
use serde_json::{Value, json};

use super::outputs::Source;
use super::{Grid, SegmentArgs};

/// Rows of the input that are looked at at once.
const STRIP: usize = 256;

/// An input, opened.
pub(super) struct Input {
    /// What the model sees.
    pub(super) model: Source,
    /// Where the mask is written, if not there.
    pub(super) output: Option<Output>,
    pub(super) warnings: Vec<String>,
    /// Whom to name, if the source says so.
    pub(super) attribution: Option<String>,
    /// At which resolution the model sees it, for programs.
    pub(super) seen: Value,
}

/// A grid other than the model's.
pub(super) struct Output {
    pub(super) raster: Source,
    regrid: Regrid,
    /// How its columns and rows lie on the model's grid.
    axes: [Axis; 2],
    counts: ClassCounts,
    /// Regions of fewer pixels of this grid are removed.
    min_pixels: u64,
    /// Class and confidence of the rows so far, held where small regions are to be removed.
    held: (Vec<u8>, Vec<u8>),
}

impl Input {
    /// Opens an input at the resolution that the arguments or the model want.
    pub(super) fn open(args: &SegmentArgs, segmenter: &Segmenter, input: &Path) -> Result<Self> {
        let trained = segmenter.manifest().ground_resolution;
        let wanted = match args.resolution {
            Some(Resolution::Metres(metres)) => Some(metres),
            _ => trained,
        };
        let mut levels = open_levels(input, &args.source.options(wanted)?)?;
        let attribution = levels.tiles.take().map(|t| t.attribution).filter(|text| !text.is_empty());
        let Choice { level, factor, warning } = choose(&levels.metres(), trained, args.resolution)?;
        let (metres, finest) = (levels.metres(), 0);
        let pixel = metres.get(level).copied().flatten();
        let seen = json!({
            "input_metres": metres.first().copied().flatten(), "level": level, "levels": metres.len(), "factor": factor,
            "model_metres": pixel.map(|m| m * factor),
        });
        let axes = levels.levels.get(level).map_or([Axis::SAME; 2], |l| l.axes);
        let mut rasters: Vec<_> = levels.levels.into_iter().map(|l| l.raster).collect();
        let missing = || Error::new(ErrorKind::Format, "the image has no level that can be read");
        if level >= rasters.len() {
            return Err(missing());
        }
        let chosen = Shared::new(rasters.swap_remove(level));
        let bands = <[usize; 3]>::try_from(args.bands.as_slice()).ok().map(|bands| bands.map(|b| b - 1));
        let as_model_reads = |colours: Colours| as_model_reads(segmenter, colours, bands.is_some());
        let warnings = Vec::from_iter(warning);
        if level == finest && factor == 1.0 {
            let model = Clipped::new(as_model_reads(Colours::new(Box::new(chosen), bands)?)?, None);
            return Ok(Self { model, output: None, warnings, attribution, seen });
        }
        // The last was put in the place of the chosen one.
        let target = match level {
            0 => chosen.clone(),
            _ => Shared::new(rasters.into_iter().next().ok_or_else(missing)?),
        };
        let target = Colours::new(Box::new(target), bands)?;
        // All levels in the contrast of the finest: one image looks the same at all of them.
        let (model, axes) = if factor == 1.0 {
            (target.alike(Box::new(chosen))?, axes)
        } else {
            let resampled = Resampled::new(chosen, factor)?;
            let [x, y] = resampled.offset();
            let step = |offset: f64| Axis { scale: 1.0 / factor, offset: -offset / factor };
            let axes = [axes[0].then(step(x)), axes[1].then(step(y))];
            (target.alike(Box::new(resampled))?, axes)
        };
        let output = (args.grid == Grid::Input).then(|| -> Result<Output> {
            let regrid = Regrid::new(model.size(), target.size(), axes);
            let raster = Clipped::new(as_model_reads(target)?, None);
            let (held, min_pixels) = ((Vec::new(), Vec::new()), args.outputs.min_area);
            Ok(Output { raster, regrid, axes, counts: ClassCounts::default(), min_pixels, held })
        });
        let model = Clipped::new(as_model_reads(model)?, None);
        Ok(Self { model, output: output.transpose()?, warnings, attribution, seen })
    }

    /// The grid on which the mask is written.
    pub(super) fn target(&self) -> &Source {
        self.output.as_ref().map_or(&self.model, |output| &output.raster)
    }
}

/// An image's colours, or its samples as they are.
fn as_model_reads(segmenter: &Segmenter, colours: Colours, chose_bands: bool) -> Result<ModelInput> {
    if segmenter.manifest().normalization == Normalization::rgb() {
        return Ok(ModelInput::Colours(colours));
    }
    if chose_bands {
        return Err(Error::new(
            ErrorKind::Invalid,
            "is for models of RGB pictures; this one reads all bands as they are",
        )
        .at("--bands"));
    }
    Ok(ModelInput::Samples(colours))
}

impl Output {
    /// The pixels of the model's grid, of a size, on which a window of this lies.
    pub(super) fn model_window(&self, window: Window, size: (usize, usize)) -> Window {
        let side = |axis: Axis, from: usize, length: usize, all: usize| {
            let place = |at: usize| axis.scale * at as f64 + axis.offset;
            let first = (place(from).floor().max(0.0) as usize).min(all.saturating_sub(1));
            let last = (place(from + length).ceil().max(0.0) as usize).clamp(first + 1, all.max(first + 1));
            (first, last - first)
        };
        let [across, down] = self.axes;
        let (x, width) = side(across, window.x, window.width, size.0);
        let (y, height) = side(down, window.y, window.height, size.1);
        Window { x, y, width, height }
    }

    /// A window of this, whose mask comes from a window of the model's grid.
    pub(super) fn part(
        self,
        window: Window,
        model: Window,
        clip: impl FnOnce(&ModelInput) -> Result<Option<Clip>>,
    ) -> Result<Self> {
        let moved = |axis: Axis, from: usize, to: usize| Axis {
            offset: axis.offset + axis.scale * from as f64 - to as f64,
            ..axis
        };
        let axes = [moved(self.axes[0], window.x, model.x), moved(self.axes[1], window.y, model.y)];
        let regrid = Regrid::new((model.width, model.height), (window.width, window.height), axes);
        let Self { raster, counts, min_pixels, held, .. } = self;
        let raster = raster.into_inner().part(window)?;
        let clip = clip(&raster)?;
        Ok(Self { raster: Clipped::new(raster, clip), regrid, axes, counts, min_pixels, held })
    }

    /// Takes finished rows of the model's grid and passes on those of this that are finished by them; none before
    /// [`Output::finish`] where small regions are removed. What holds no data in the input holds none in its mask, however much the
    /// model has seen beside it.
    pub(super) fn rows(&mut self, rows: &Rows, mut sink: impl FnMut(&Rows, &mut Source) -> Result<()>) -> Result<()> {
        let found = self.regrid.push(rows.top, &rows.classes, &rows.confidence);
        let (width, _) = self.raster.size();
        let bands: Vec<usize> = (0..self.raster.bands()).collect();
        let strips = found.classes.chunks(STRIP * width).zip(found.confidence.chunks(STRIP * width));
        for (i, (classes, confidence)) in strips.enumerate() {
            let top = found.top + i * STRIP;
            let mut strip = GridRows { top, classes: classes.to_vec(), confidence: confidence.to_vec() };
            let patch = self.raster.read(Window::new(0, top, width, classes.len() / width), &bands)?;
            strip.without(&patch);
            let GridRows { top, classes, confidence } = strip;
            if self.min_pixels > 1 {
                self.held.0.extend(classes);
                self.held.1.extend(confidence);
                continue;
            }
            self.counts.add(&classes, &confidence);
            sink(&Rows { top, classes, confidence, probabilities: Vec::new() }, &mut self.raster)?;
        }
        Ok(())
    }

    /// Passes on the rows that were held, without small regions.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(&Rows, &mut Source) -> Result<()>) -> Result<()> {
        let (classes, confidence) = std::mem::take(&mut self.held);
        if classes.is_empty() {
            return Ok(());
        }
        let (width, height) = self.raster.size();
        let mut mask = ClassMask::new(width, height, classes, confidence)?;
        mask.remove_small(self.min_pixels)?;
        self.counts.add(&mask.classes, &mask.confidence);
        let strips = mask.classes.chunks(STRIP * width).zip(mask.confidence.chunks(STRIP * width));
        for (i, (classes, confidence)) in strips.enumerate() {
            let (classes, confidence) = (classes.to_vec(), confidence.to_vec());
            sink(&Rows { top: i * STRIP, classes, confidence, probabilities: Vec::new() }, &mut self.raster)?;
        }
        Ok(())
    }

    /// Pixels and shares of the classes, and how many pixels hold no data.
    pub(super) fn counted(&self, classes: &[Class]) -> (Vec<ClassStats>, u64) {
        (self.counts.stats(classes), self.counts.without_data())
    }
}
