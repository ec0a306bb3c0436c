//! Windows, blending and classes of images of every size, with the tiny model.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use common::{load, merged, picture};
use samlora::engine::{SegmentOptions, Segmentation, Segmenter};
use samlora::error::{Error, ErrorKind, Result};
use samlora::georef::Georef;
use samlora::image::RgbImage;
#[cfg(feature = "train")]
use samlora::logits::Calibration;
use samlora::logits::{classify, to_byte};
use samlora::mask::NO_DATA;
use samlora::mosaic::{Rows, Windows};
use samlora::source::{Depth, Memory, Patch, Raster, SampleSlice, Window};
use samlora::weights::quantize::Scheme;

const ALL: SegmentOptions = SegmentOptions { probabilities: true, thresholds: Vec::new(), min_pixels: 0 };

/// A raster of three bands of 8 bits whose windows a closure reads.
struct Read<F>((usize, usize), F);

impl<F: FnMut(Window) -> Result<Patch>> Raster for Read<F> {
    fn size(&self) -> (usize, usize) {
        self.0
    }

    fn bands(&self) -> usize {
        3
    }

    fn depth(&self) -> Depth {
        Depth::U8
    }

    fn georef(&self) -> Option<&Georef> {
        None
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        assert_eq!(bands, [0, 1, 2]);
        (self.1)(window)
    }

    fn describe(&self) -> String {
        "a test's raster".to_owned()
    }
}

/// Six classes, input 96, tile 72.
fn tiny() -> Segmenter {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    merged("s96_k6", 96, Scheme::F32, &out);
    load(&out).unwrap()
}

fn segment(segmenter: &Segmenter, image: &RgbImage) -> Segmentation {
    let found = pollster::block_on(segmenter.segment(image, &ALL)).unwrap();
    check(&found, image.width(), image.height(), segmenter.manifest().classes.len());
    found
}

/// What holds of every result: sizes, classes in range, probabilities that add up and agree with the mask.
fn check(found: &Segmentation, width: usize, height: usize, classes: usize) {
    let (mask, all) = (&found.mask, found.probabilities.as_ref().unwrap());
    assert_eq!((mask.width, mask.height), (width, height));
    assert_eq!((mask.classes.len(), mask.confidence.len()), (width * height, width * height));
    assert_eq!(all.len(), width * height * classes);
    for (pixel, bytes) in all.chunks_exact(classes).enumerate() {
        let sum: i32 = bytes.iter().map(|b| i32::from(*b)).sum();
        // each byte is rounded by half at most
        assert!((sum - 255).abs() <= classes as i32 / 2, "pixel {pixel}: {bytes:?}");
        let best = bytes[usize::from(mask.classes[pixel])];
        assert!(best == *bytes.iter().max().unwrap() && best.abs_diff(mask.confidence[pixel]) <= 1, "pixel {pixel}");
    }
}

#[test]
fn images_of_every_size_give_masks_of_that_size() {
    let (segmenter, picture) = (tiny(), picture());
    for (width, height) in [(1, 1), (1, 300), (300, 1), (95, 60), (96, 96), (97, 96), (96, 97), (200, 130), (333, 97)] {
        let found = segment(&segmenter, &picture.crop(100, 100, width, height).unwrap());
        let windows = Windows::new(width, height, 96, 72).count();
        assert_eq!(found.summary.timings.windows, windows, "{width} x {height}");
        assert_eq!(windows == 1, width <= 96 && height <= 96);
    }
}

#[test]
fn one_window_is_the_logits_of_that_window() {
    let (segmenter, picture) = (tiny(), picture());
    let image = picture.crop(7, 9, 96, 96).unwrap();
    let logits = pollster::block_on(segmenter.logits(&image)).unwrap().resize(96, 96);
    let found = segment(&segmenter, &image);
    for pixel in 0..96 * 96 {
        let at: Vec<f32> = logits.values.iter().skip(pixel).step_by(96 * 96).copied().collect();
        let (class, probability) = classify(&at);
        assert_eq!((found.mask.classes[pixel], found.mask.confidence[pixel]), (class, to_byte(probability)));
    }
    assert!(pollster::block_on(segmenter.logits(&picture)).is_err(), "too large for one window");
}

/// `segmenter` with a calibration.
#[cfg(feature = "train")]
fn calibrated(segmenter: &Segmenter, temperature: f32, bias: Vec<f32>) -> Segmenter {
    let mut manifest = segmenter.manifest().clone();
    manifest.calibration = Some(Calibration { temperature, bias });
    Segmenter::new(manifest, segmenter.model().clone(), segmenter.device())
}

#[test]
#[cfg(feature = "train")]
fn a_calibration_is_in_logits_confidences_and_probabilities_alike() {
    let (segmenter, picture) = (tiny(), picture());
    let bias: Vec<f32> = (0..6).map(|class| if class == 4 { 5.0 } else { 0.0 }).collect();
    let (warm, shifted) = (calibrated(&segmenter, 4.0, Vec::new()), calibrated(&segmenter, 4.0, bias.clone()));
    // In one window, and blended from several.
    for side in [96, 150] {
        let image = picture.crop(7, 9, side, side).unwrap();
        let [plain, warm_found, shifted_found] = [&segmenter, &warm, &shifted].map(|s| segment(s, &image));
        assert_eq!(plain.mask.classes, warm_found.mask.classes, "a temperature changes no class");
        let sure = |found: &Segmentation| found.mask.confidence.iter().map(|c| u64::from(*c)).sum::<u64>();
        assert!(sure(&warm_found) < sure(&plain), "and makes less sure");
        let fourth = |found: &Segmentation| found.mask.classes.iter().filter(|c| **c == 4).count();
        assert!(fourth(&shifted_found) > fourth(&plain), "a bias moves the border");
        // By hand, from the logits without a calibration.
        let mut at = 0;
        let compare = |logits: &[f32], valid: &[bool]| {
            for logits in logits.chunks_exact(6) {
                let by_hand: Vec<f32> = logits.iter().zip(&bias).map(|(v, b)| v / 4.0 + b).collect();
                let (class, probability) = classify(&by_hand);
                let (found, sure) = (shifted_found.mask.classes[at], shifted_found.mask.confidence[at]);
                // Blended before or after, sums differ by rounding.
                let near = (f32::from(sure) - 255.0 * probability).abs() < 0.51;
                assert!(
                    near && (found == class || probability < 0.501),
                    "pixel {at}: {found} {sure}, {class} {probability}"
                );
                at += 1;
            }
            assert!(valid.iter().all(|valid| *valid));
        };
        pollster::block_on(segmenter.blended_logits(&mut Memory::rgb(&image), compare)).unwrap();
        assert_eq!(at, side * side);
    }
    let image = picture.crop(7, 9, 50, 50).unwrap();
    let [plain, warm] = [&segmenter, &warm].map(|s| pollster::block_on(s.logits(&image)).unwrap());
    assert!(plain.values.iter().zip(&warm.values).all(|(a, b)| a * 0.25 == *b));
}

/// The blend written down plainly: every window's logits by weights that fall linearly to its edge.
fn plain_blend(segmenter: &Segmenter, image: &RgbImage) -> (Vec<u8>, Vec<u8>) {
    let (size, fade, classes) = (96usize, 24.0f32, 6);
    let windows = Windows::new(image.width(), image.height(), size, 72);
    let mut sums = vec![vec![0.0f32; classes + 1]; image.width() * image.height()];
    for &y in &windows.ys {
        for &x in &windows.xs {
            let part = image.crop(x as usize, y as usize, size, size).unwrap();
            let logits = pollster::block_on(segmenter.logits(&part)).unwrap().resize(size, size);
            for at in 0..size * size {
                let (row, column) = (at / size, at % size);
                let ramp = |i: usize| ((i.min(size - 1 - i) as f32 + 0.5) / fade).min(1.0);
                let weight = ramp(row) * ramp(column);
                let pixel = &mut sums[(y as usize + row) * image.width() + x as usize + column];
                for (class, sum) in pixel[..classes].iter_mut().enumerate() {
                    *sum += weight * logits.values[class * size * size + at];
                }
                pixel[classes] += weight;
            }
        }
    }
    let classified = sums.iter().map(|s| {
        let logits: Vec<f32> = s[..classes].iter().map(|v| v / s[classes]).collect();
        let (class, probability) = classify(&logits);
        (class, to_byte(probability))
    });
    classified.unzip()
}

#[test]
fn large_images_blend_their_windows_and_are_the_same_however_they_are_read() {
    let segmenter = tiny();
    let image = picture().crop(300, 200, 250, 190).unwrap();
    let whole = segment(&segmenter, &image);
    let (classes, confidence) = plain_blend(&segmenter, &image);
    let same = whole.mask.classes.iter().zip(&classes).filter(|(a, b)| a == b).count();
    let near = whole.mask.confidence.iter().zip(&confidence).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
    // ties may fall either way
    assert!(same * 10_000 >= classes.len() * 9_999 && near == confidence.len(), "{same} {near} of {}", classes.len());

    let (mut shares, mut asked) = (Vec::new(), 0);
    let read = |window: Window| {
        asked += 1;
        assert!(window.width <= 96 && window.height <= 96);
        Memory::rgb(&image).read(window, &[0, 1, 2])
    };
    let note = async |share| {
        shares.push(share);
        Ok(())
    };
    let mut raster = Read((250, 190), read);
    let parts = pollster::block_on(segmenter.segment_raster(&mut raster, &ALL, note)).unwrap();
    assert_eq!((parts.mask, parts.probabilities), (whole.mask, whole.probabilities));
    assert_eq!((parts.summary.classes, parts.summary.without_data), (whole.summary.classes, 0));
    assert_eq!(asked, whole.summary.timings.windows);
    // After every block, the neck and the decoder of each window.
    let layers = segmenter.manifest().architecture.depth + 2;
    assert!(shares.is_sorted() && shares.len() == asked * layers && shares.last() == Some(&1.0));
}

#[test]
fn windows_leave_no_seams() {
    let segmenter = tiny();
    // One colour: what changes from column to column is the model's own doing, or the windows'.
    let steps = |width: usize| -> Vec<f64> {
        let image = RgbImage::new(width, 96, [90, 120, 80].repeat(width * 96)).unwrap();
        let all = segment(&segmenter, &image).probabilities.unwrap();
        let of_column = |x: usize| {
            let places = (0..96).flat_map(|y| (0..6).map(move |c| (y * width + x) * 6 + c));
            places.map(|i| f64::from(all[i].abs_diff(all[i - 6]))).sum::<f64>() / (96.0 * 6.0)
        };
        (1..width).map(of_column).collect()
    };
    let largest = |steps: &mut dyn Iterator<Item = f64>| steps.fold(0.0, f64::max);
    let (one, many, windows) = (steps(96), steps(400), Windows::new(400, 96, 96, 72));
    let edges = windows.xs.iter().flat_map(|x| [*x as usize, *x as usize + 96]).filter(|x| (1..400).contains(x));
    let at_edges = largest(&mut edges.map(|x| many[x - 1]));
    let (within, overall) = (largest(&mut one.iter().copied()), largest(&mut many.iter().copied()));
    println!(
        "largest mean step of probabilities: {within:.1} within a window, {at_edges:.1} at edges, {overall:.1} overall"
    );
    assert!(windows.xs.len() == 6 && at_edges <= within && overall <= within);
}

#[test]
fn windows_without_data_are_not_run() {
    let segmenter = tiny();
    let image = picture().crop(0, 0, 400, 90).unwrap();
    let whole = segment(&segmenter, &image);
    let valid: Vec<bool> = (0..400 * 90).map(|i| i % 400 >= 200).collect();
    let mut shares = Vec::new();
    let note = async |share| {
        shares.push(share);
        Ok(())
    };
    let mut raster = Memory::new((400, 90), 3, SampleSlice::U8(image.pixels()), &valid).unwrap();
    let half = pollster::block_on(segmenter.segment_raster(&mut raster, &ALL, note)).unwrap();
    let windows = Windows::new(400, 90, 96, 72);
    // A note for each window, and one for each layer of those that ran.
    let run = windows.xs.iter().filter(|x| **x as usize + 96 > 200).count();
    let layers = segmenter.manifest().architecture.depth + 1;
    assert_eq!(shares.len(), windows.count() + run * layers);
    assert!(run < windows.count() && shares.is_sorted() && shares.last() == Some(&1.0));
    assert_eq!((half.summary.timings.windows, half.summary.without_data), (windows.count(), 200 * 90));
    // From where only windows that ran count: as if all had run.
    let last_skipped = windows.xs.iter().map(|x| *x as usize).filter(|x| x + 96 <= 200).max().unwrap() + 96;
    let probabilities = half.probabilities.unwrap();
    for (pixel, (class, confidence)) in half.mask.classes.iter().zip(&half.mask.confidence).enumerate() {
        match pixel % 400 {
            x if x < 200 => {
                assert_eq!((*class, *confidence), (NO_DATA, 0));
                assert_eq!(probabilities[pixel * 6..pixel * 6 + 6], [0; 6]);
            }
            x if x >= last_skipped => {
                assert_eq!((*class, *confidence), (whole.mask.classes[pixel], whole.mask.confidence[pixel]));
            }
            _ => {}
        }
    }
    let with_data: u64 = half.summary.classes.iter().map(|c| c.pixels).sum();
    let shares: f64 = half.summary.classes.iter().map(|c| c.share).sum();
    assert!(with_data == 200 * 90 && (shares - 1.0).abs() < 1e-9, "{with_data} {shares}");
}

#[test]
fn the_finish_is_the_same_streamed_and_held() {
    let segmenter = tiny();
    let image = picture().crop(200, 100, 230, 250).unwrap();
    let plain = segment(&segmenter, &image);
    let valid: Vec<bool> = (0..230 * 250).map(|i| !(60..90).contains(&(i % 230))).collect();
    let run = |options: &SegmentOptions| {
        let mut raster = Memory::new((230, 250), 3, SampleSlice::U8(image.pixels()), &valid).unwrap();
        let mut tops = Vec::new();
        let mut all = Rows::default();
        let sink = |rows: &Rows, raster: &mut Memory| {
            assert_eq!((rows.top * 230, raster.size()), (all.classes.len(), (230, 250)));
            tops.push(rows.top);
            all.classes.extend_from_slice(&rows.classes);
            all.confidence.extend_from_slice(&rows.confidence);
            Ok(())
        };
        let done = segmenter.segment_windows(&mut raster, options, sink, async |_| Ok(()));
        let summary = pollster::block_on(done).unwrap();
        assert!(tops.len() > 1 && tops[0] == 0);
        (all, summary)
    };
    let limits: Vec<(u8, f32)> = vec![(1, 0.6), (2, 0.4), (3, 0.9)];
    let (streamed, _) = run(&SegmentOptions { thresholds: limits.clone(), ..Default::default() });
    let (held, summary) = run(&SegmentOptions { thresholds: limits.clone(), min_pixels: 40, ..Default::default() });
    // The same, step by step.
    let mut expected = plain.mask;
    let mut classes = segmenter.manifest().classes.clone();
    for (index, threshold) in limits {
        classes[usize::from(index)].threshold = Some(threshold);
    }
    for (i, _) in valid.iter().enumerate().filter(|(_, valid)| !**valid) {
        (expected.classes[i], expected.confidence[i]) = (NO_DATA, 0);
    }
    expected.apply_thresholds(&classes);
    assert!((&streamed.classes, &streamed.confidence) == (&expected.classes, &expected.confidence));
    expected.remove_small(40).unwrap();
    assert!((&held.classes, &held.confidence) == (&expected.classes, &expected.confidence));
    assert!(held.classes != streamed.classes, "the picture has small regions");
    assert_eq!(summary.classes, expected.stats(&classes));
    for thresholds in [vec![(9, 0.5)], vec![(1, 1.5)], vec![(1, f32::NAN)]] {
        let options = SegmentOptions { thresholds, ..Default::default() };
        let found = pollster::block_on(segmenter.segment(&image, &options));
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn errors_of_the_reader_come_through_and_an_empty_image_is_one() {
    let segmenter = tiny();
    let run = |size, read: &dyn Fn() -> Result<Patch>| {
        let mut raster = Read(size, |_| read());
        pollster::block_on(segmenter.segment_raster(&mut raster, &ALL, async |_| Ok(())))
    };
    let gone = || Err(Error::new(ErrorKind::Io, "the drive is gone"));
    assert_eq!(run((200, 200), &gone).unwrap_err().kind(), ErrorKind::Io);
    for size in [(0, 0), (0, 5), (5, 0)] {
        assert_eq!(run(size, &gone).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let mut grey = Memory::new((9, 9), 1, SampleSlice::U8(&[0; 81]), &[]).unwrap();
    let found = pollster::block_on(segmenter.segment_raster(&mut grey, &ALL, async |_| Ok(())));
    assert!(found.unwrap_err().to_string().contains("3 bands"));
}

#[test]
fn work_stops_at_the_layer_whose_progress_fails() {
    let segmenter = tiny();
    let image = picture().crop(0, 0, 96, 96).unwrap();
    for last in 1..=segmenter.manifest().architecture.depth + 2 {
        let mut layers = 0;
        let stop = async |_| {
            layers += 1;
            if layers == last { Err(Error::new(ErrorKind::Io, "stopped")) } else { Ok(()) }
        };
        let found = pollster::block_on(segmenter.segment_raster(&mut Memory::rgb(&image), &ALL, stop));
        assert!(found.unwrap_err().to_string().contains("stopped"));
        assert_eq!(layers, last);
    }
}

#[test]
fn a_strip_of_50_000_pixels_is_one_row_of_windows() {
    let segmenter = tiny();
    let pixels: Vec<u8> = (0..50_000 * 2 * 3usize).map(|i| (i % 251) as u8).collect();
    let found = segment(&segmenter, &RgbImage::new(50_000, 2, pixels).unwrap());
    assert_eq!(found.summary.timings.windows, Windows::new(50_000, 2, 96, 72).count());
}
