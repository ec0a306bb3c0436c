//! From a raster to the finished rows of its mask: windows, blending, and the finish.

#[cfg(not(target_arch = "wasm32"))]
use burn::tensor::Tensor;

use super::clock::Stopwatch;
use super::finish::Finish;
#[cfg(not(target_arch = "wasm32"))]
use super::read_back;
use super::{SegmentOptions, Segmentation, Segmenter, Summary, Timings};
use crate::error::{Error, ErrorKind, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::image::Pixels;
use crate::image::RgbImage;
#[cfg(feature = "gpu")]
use crate::kernels;
#[cfg(not(target_arch = "wasm32"))]
use crate::logits::Logits;
use crate::mask::ClassMask;
use crate::mosaic::{Blend, Rows, Windows};
use crate::source::{Memory, Patch, Raster, Window};
use crate::weights::manifest::Kind;

/// The most pixels that are segmented at once, with probabilities times classes: each is one byte of every result.
const MAX_MASK_PIXELS: u64 = 1 << 31;
/// The most memory for blending; 1 GiB is 100,000 columns of six classes at an input of 448 px.
const MAX_BLEND_BYTES: u64 = 1 << 30;

impl Segmenter {
    /// Class and confidence of every pixel of an image of any size.
    ///
    /// An image that fits into the model's input runs in one window, mirrored at its borders up to the input's size;
    /// a larger one in overlapping windows whose logits are blended.
    ///
    /// # Errors
    /// As [`Segmenter::segment_windows`].
    pub async fn segment(&self, image: &RgbImage, options: &SegmentOptions) -> Result<Segmentation> {
        self.segment_raster(&mut Memory::rgb(image), options, async |_| Ok(())).await
    }

    /// [`Segmenter::segment_windows`] with the whole mask as its result.
    ///
    /// # Errors
    /// As [`Segmenter::segment_windows`].
    pub async fn segment_raster(
        &self,
        raster: &mut impl Raster,
        options: &SegmentOptions,
        progress: impl AsyncFnMut(f64) -> Result<()>,
    ) -> Result<Segmentation> {
        let (width, height) = raster.size();
        let mut mask = ClassMask { width, height, classes: Vec::new(), confidence: Vec::new() };
        let mut probabilities = Vec::new();
        let collect = |rows: &Rows, _: &mut _| {
            mask.classes.extend_from_slice(&rows.classes);
            mask.confidence.extend_from_slice(&rows.confidence);
            probabilities.extend_from_slice(&rows.probabilities);
            Ok(())
        };
        let summary = self.segment_windows(raster, options, collect, progress).await?;
        Ok(Segmentation { mask, probabilities: options.probabilities.then_some(probabilities), summary })
    }

    /// Segments a raster of the model's bands window by window. `sink` gets every row of the mask once, from the top down and
    /// finished: pixels without data marked, thresholds applied, small regions removed. It also gets the raster, which still
    /// holds the blocks that were just decoded.
    ///
    /// `progress` gets the share (0 to 1) that is done, after every layer of every window; it may wait, to let others run,
    /// and its error ends the work. Windows without data are not run.
    ///
    /// # Errors
    /// Those of reading, `sink` and `progress`; [`ErrorKind::Invalid`] for an empty image and for a threshold of no class or
    /// beyond 0 to 1; [`ErrorKind::Unsupported`] for another number of bands than the model's; [`ErrorKind::Limit`] for an
    /// image too wide to blend; [`ErrorKind::Device`] if the device fails.
    pub async fn segment_windows<R: Raster>(
        &self,
        raster: &mut R,
        options: &SegmentOptions,
        mut sink: impl FnMut(&Rows, &mut R) -> Result<()>,
        mut progress: impl AsyncFnMut(f64) -> Result<()>,
    ) -> Result<Summary> {
        let (width, height) = raster.size();
        self.check(raster, options)?;
        let mut finish = Finish::new(&self.manifest.classes, options, (width, height))?;
        let bands: Vec<usize> = (0..raster.bands()).collect();
        let total = Stopwatch::start();
        let mut timings = Timings::default();
        let windows = Windows::new(width, height, self.manifest.input_size, self.manifest.tile_size);
        let count = windows.count() as f64;
        let tokens = self.manifest.architecture.mask_tokens;
        let mut blend = Blend::new(windows.clone(), width, height, tokens, options.probabilities);
        for (index, &y) in windows.ys.iter().enumerate() {
            for &x in &windows.xs {
                let watch = Stopwatch::start();
                let patch = raster.read(part(x, y, windows.size, (width, height)), &bands)?;
                timings.preprocess += watch.elapsed();
                if !patch.is_blank() {
                    blend.mark(x, y, &patch.valid);
                    let before = timings.windows as f64;
                    let share = async |done: f64| progress((before + done) / count).await;
                    self.window(&patch, (x, y), &mut blend, &mut timings, share).await?;
                }
                timings.windows += 1;
                progress(timings.windows as f64 / count).await?;
            }
            let watch = Stopwatch::start();
            let rows = finish.rows(blend.finish(index));
            timings.classify += watch.elapsed();
            if let Some(rows) = rows {
                sink(&rows, raster)?;
            }
        }
        // Held rows go out in the portions in which the raster was read, so that its blocks need not all stay decoded.
        for rows in finish.held(windows.size)? {
            sink(&rows, raster)?;
        }
        timings.total = total.elapsed();
        let (classes, without_data) = finish.counts(&self.manifest.classes);
        Ok(Summary { classes, without_data, timings })
    }

    /// Finishes a mask that was segmented before, without thresholds and small regions: with other ones, the network need not
    /// run again.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a threshold of no class or beyond 0 to 1, and for planes that do not have the mask's size.
    pub fn refine(&self, mut mask: ClassMask, options: &SegmentOptions) -> Result<ClassMask> {
        let finish = Finish::new(&self.manifest.classes, options, (mask.width, mask.height))?;
        finish.whole(&mut mask)?;
        Ok(mask)
    }

    /// The calibrated and blended logits of a raster, row by row: `sink` gets those of some rows, `[rows, width, classes]`, and
    /// which of their pixels hold data, `[rows, width]`. They are what [`Segmenter::segment_windows`] finds classes by.
    ///
    /// # Errors
    /// As [`Segmenter::segment_windows`].
    #[cfg(feature = "train")]
    pub async fn blended_logits(&self, raster: &mut impl Raster, mut sink: impl FnMut(&[f32], &[bool])) -> Result<()> {
        let (width, height) = raster.size();
        self.check(raster, &SegmentOptions { probabilities: true, ..SegmentOptions::default() })?;
        let bands: Vec<usize> = (0..raster.bands()).collect();
        let windows = Windows::new(width, height, self.manifest.input_size, self.manifest.tile_size);
        // Asked for probabilities, a blend takes logits of every window.
        let mut blend = Blend::new(windows.clone(), width, height, self.manifest.architecture.mask_tokens, true);
        for (index, &y) in windows.ys.iter().enumerate() {
            for &x in &windows.xs {
                let patch = raster.read(part(x, y, windows.size, (width, height)), &bands)?;
                if !patch.is_blank() {
                    blend.mark(x, y, &patch.valid);
                    self.window(&patch, (x, y), &mut blend, &mut Timings::default(), async |_| Ok(())).await?;
                }
            }
            let (logits, valid) = blend.finish_logits(index);
            sink(&logits, &valid);
        }
        Ok(())
    }

    /// Runs one window and adds what it finds to the blend.
    async fn window(
        &self,
        patch: &Patch,
        (x, y): (i64, i64),
        blend: &mut Blend,
        timings: &mut Timings,
        progress: impl AsyncFnMut(f64) -> Result<()>,
    ) -> Result<()> {
        let mut watch = Stopwatch::start();
        // The part lies within the image, and where the window leaves it, begins at the image's border.
        let input = self.input(patch, x.min(0), y.min(0))?;
        timings.preprocess += watch.lap();
        let embedding = self.encode(input, progress).await?;
        self.wait()?;
        timings.encode += watch.lap();
        let logits = self.sam.decode(embedding);
        let size = self.manifest.input_size;
        #[cfg(feature = "gpu")]
        if blend.takes_classified() && kernels::classifies(&logits) {
            let place = [(-y).max(0) as usize, (-x).max(0) as usize];
            let calibration = self.manifest.calibration.as_ref();
            let (classes, confidence) =
                kernels::classify(logits, size, place, [patch.height, patch.width], calibration).await?;
            timings.decode += watch.lap();
            blend.add_classified(classes, confidence);
            return Ok(());
        }
        let logits = self.read(logits).await?;
        timings.decode += watch.lap();
        blend.add(x, y, &logits.resize(size, size));
        timings.classify += watch.lap();
        Ok(())
    }

    /// The calibrated low-resolution logits of several inputs, each `[classes, input / 4, input / 4]`, computed at once: every image has
    /// the input's size.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an image of another size, [`ErrorKind::Unsupported`] for other bands than the model's,
    /// [`ErrorKind::Device`] if the device fails.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) async fn batch_logits(&self, images: &[impl Pixels]) -> Result<Vec<Logits>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let size = self.manifest.input_size;
        if let Some(image) = images.iter().find(|i| (i.width(), i.height()) != (size, size)) {
            let message = format!("{} x {} pixels for an input of {size}", image.width(), image.height());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let inputs = images.iter().map(|image| self.input(image, 0, 0)).collect::<Result<Vec<_>>>()?;
        let inputs = if inputs.len() == 1 { inputs.into_iter().next() } else { Some(Tensor::cat(inputs, 0)) };
        let Some(inputs) = inputs else { return Ok(Vec::new()) };
        let logits = self.sam.decode(self.sam.encode(inputs));
        let [_, classes, height, width] = logits.dims();
        let all = read_back(logits).await?.values;
        let one = |values: &[f32]| {
            let mut logits = Logits { classes, height, width, values: values.to_vec() };
            self.calibrate(&mut logits);
            logits
        };
        Ok(all.chunks_exact(classes * height * width).map(one).collect())
    }

    /// Refuses an empty image, a model without classes, and what would not fit into memory: the mask's pixels, the
    /// probabilities, and the blend's rows of one window.
    fn check(&self, raster: &impl Raster, options: &SegmentOptions) -> Result<()> {
        let (width, height) = raster.size();
        if width == 0 || height == 0 {
            return Err(Error::new(ErrorKind::Invalid, format!("the image is empty: {width} x {height} pixels")));
        }
        if self.manifest.kind == Kind::Base {
            return Err(Error::new(ErrorKind::Invalid, "a base package has no classes")
                .at(&self.manifest.name)
                .remedy("put an adapter onto it, or export it with --classes"));
        }
        let classes = self.manifest.architecture.mask_tokens as u64;
        let (pixels, rows) = (width as u64 * height as u64, width as u64 * self.manifest.input_size as u64);
        let numbers = if options.probabilities { pixels * classes } else { pixels };
        if numbers > MAX_MASK_PIXELS || rows * (classes + 1) * 4 > MAX_BLEND_BYTES {
            let message = format!("{width} x {height} pixels are too many to segment at once");
            return Err(Error::new(ErrorKind::Limit, message).remedy("cut the image into parts"));
        }
        Ok(())
    }
}

/// The part of a window of `size` that lies within an image.
fn part(x: i64, y: i64, size: usize, (width, height): (usize, usize)) -> Window {
    let within = |at: i64, length: usize| (at.max(0) as usize, (at + size as i64).min(length as i64) as usize);
    let ((left, right), (top, bottom)) = (within(x, width), within(y, height));
    Window { x: left, y: top, width: right - left, height: bottom - top }
}
