//! What training measures and reports: metrics by hand and against scikit-learn, learning rates against their closed
//! forms, and that a report is sound HTML whatever it is about.
//!
//! Takes a Python with scikit-learn from `SAMLORA_PYTHON`.

#![cfg(feature = "train")]

use std::f64::consts::PI;
use std::path::Path;
use std::process::Command;

use samlora::config::Class;
use samlora::error::ErrorKind;
use samlora::random::SplitMix;
use samlora::train::calibrate::Samples;
use samlora::train::dataset::IGNORE;
use samlora::train::metrics::confidence::Confidences;
use samlora::train::metrics::counts::{ImageCounts, count};
use samlora::train::metrics::quality::Quality;
use samlora::train::metrics::{BoundaryWidth, Confusion, Metrics};
use samlora::train::report::{EpochRecord, Report, SamplePicture, lr_plot};
use samlora::train::schedule::Schedule;

fn confusion(classes: usize, truth: &[u8], prediction: &[u8]) -> Confusion {
    let mut confusion = Confusion::new(classes);
    confusion.add(truth, prediction).expect("classes");
    confusion
}

#[test]
fn metrics_by_hand() {
    // Class 3 never occurs; class 2 is never found.
    let truth = [0, 0, 0, 1, 1, 2, IGNORE, IGNORE];
    let prediction = [0, 0, 1, 1, 0, 1, 3, 77];
    let confusion = confusion(4, &truth, &prediction);
    assert_eq!(confusion.counts(), [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0; 4]]);
    let metrics = Metrics::from(&confusion);
    let figures: Vec<_> = metrics.classes.iter().map(|c| (c.precision, c.recall, c.f1, c.iou)).collect();
    let third = 1.0 / 3.0;
    assert_eq!(figures[0], (Some(2.0 * third), Some(2.0 * third), Some(2.0 * third), Some(0.5)));
    assert_eq!(figures[1], (Some(third), Some(0.5), Some(0.4), Some(0.25)));
    assert_eq!(figures[2], (None, Some(0.0), Some(0.0), Some(0.0)), "never predicted: no precision");
    assert_eq!(figures[3], (None, None, None, None), "what was predicted on ignored pixels counts nowhere");
    assert_eq!((metrics.accuracy, metrics.pixels), (0.5, 6));
    assert_eq!((metrics.mean_iou, metrics.mean_iou_foreground), (Some(0.25), Some(0.125)));
    assert_eq!((metrics.classes[1].pixels, metrics.classes[1].predicted), (2, 3));

    let nothing = Metrics::from(&Confusion::new(2));
    assert_eq!((nothing.accuracy, nothing.pixels, nothing.mean_iou, nothing.mean_f1_foreground), (0.0, 0, None, None));
    let text = serde_json::to_string(&metrics).expect("JSON");
    assert_eq!(serde_json::from_str::<Metrics>(&text).expect("JSON"), metrics);
}

#[test]
fn wrong_masks_are_errors_and_count_nothing() {
    let mut counts = Confusion::new(2);
    for (truth, prediction) in [(&[0, 1][..], &[0][..]), (&[0, 2], &[0, 0]), (&[0, 0], &[0, 2]), (&[1], &[IGNORE])] {
        assert_eq!(counts.add(truth, prediction).expect_err("wrong").kind(), ErrorKind::Invalid);
    }
    assert_eq!(counts, Confusion::new(2));
    assert_eq!(counts.merge(&Confusion::new(3)).expect_err("wrong").kind(), ErrorKind::Invalid);
    counts.merge(&confusion(2, &[1], &[0])).expect("as many classes");
    counts.merge(&confusion(2, &[1, 1], &[0, 1])).expect("as many classes");
    assert_eq!(counts, confusion(2, &[1, 1, 1], &[0, 0, 1]));
    assert_eq!(serde_json::from_str::<Confusion>("[[0,0],[2,1]]").expect("JSON"), counts);
    assert!(serde_json::from_str::<Confusion>("[[0,0],[2]]").is_err());
}

#[test]
fn metrics_equal_scikit_learn() {
    let Some(python) = std::env::var_os("SAMLORA_PYTHON") else {
        println!("left out: SAMLORA_PYTHON is not set (a Python with scikit-learn), so nothing checks the metrics");
        return;
    };
    let mut random = SplitMix(7);
    let mut cases = Vec::new();
    for n in 0..48 {
        let classes = 1 + n % 7;
        let mut draw = |below: usize| (random.next_u64() % below.max(1) as u64) as usize;
        let pixels = 1 + draw(400);
        // Of some masks not all classes occur, some predictions are of one class, some labels too, some are all ignored.
        let occurring = 1 + draw(classes);
        let (same, missing) = (draw(100), if n % 12 == 11 { 100 } else { draw(60) });
        let (one_truth, one_prediction) = (n % 5 == 3, n % 6 == 4);
        let (mut truth, mut prediction) = (Vec::new(), Vec::new());
        for _ in 0..pixels {
            let label = if one_truth { occurring - 1 } else { draw(occurring) };
            let guess = if draw(100) < same { label } else { draw(classes) };
            truth.push(if draw(100) < missing { IGNORE } else { label as u8 });
            prediction.push(if one_prediction { classes as u8 - 1 } else { guess as u8 });
        }
        let confusion = confusion(classes, &truth, &prediction);
        cases.push(serde_json::json!({
            "name": format!("case {n}"), "classes": classes, "truth": truth, "prediction": prediction,
            "metrics": Metrics::from(&confusion), "confusion": confusion,
        }));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cases.json");
    std::fs::write(&file, serde_json::json!({ "ignore": IGNORE, "cases": cases }).to_string()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics_check.py");
    let status = Command::new(python).arg(script).arg(&file).status().expect("Python runs");
    assert!(status.success(), "the metrics are not scikit-learn's");
}

/// Images of one evaluation: drawn masks with blocks, unlabelled pixels and confidences, for [`tests/quality_check.py`].
fn drawn_images(random: &mut SplitMix) -> Vec<SamplePicture> {
    let mut draw = |below: usize| (random.next_u64() % below as u64) as usize;
    let image = |i: usize| {
        let (width, height) = (3 + draw(60), 3 + draw(60));
        let block = 1 + draw(9);
        let classes: Vec<usize> = (0..(64 / block + 2).pow(2)).map(|_| draw(4).saturating_sub(1)).collect();
        let shift = draw(3);
        let mut picture = SamplePicture { name: format!("image {i}"), width, height, ..SamplePicture::default() };
        for at in 0..width * height {
            let class = |x: usize, y: usize| classes[y / block * (64 / block + 2) + x / block] as u8;
            let (x, y) = (at % width, at / width);
            let noisy = draw(40) == 0;
            picture.truth.push(if draw(30) == 0 { IGNORE } else { class(x, y) });
            picture.prediction.push(if noisy { draw(3) as u8 } else { class((x + shift).min(63), y) });
            picture.confidence.push((draw(256) / (1 + usize::from(noisy))) as u8);
        }
        picture
    };
    (0..12).map(image).collect()
}

#[test]
fn borders_objects_confidences_and_intervals_equal_an_independent_program_s() {
    let Some(python) = std::env::var_os("SAMLORA_PYTHON") else {
        println!(
            "left out: SAMLORA_PYTHON is not set (a Python with scipy), so nothing checks borders and confidences"
        );
        return;
    };
    let mut random = SplitMix(11);
    let mut cases = Vec::new();
    for n in 0..8 {
        let width = [BoundaryWidth::Diagonal(2.0), BoundaryWidth::Diagonal(10.0), BoundaryWidth::Pixels(3.0)][n % 3];
        let mut confidences = Confidences::new(3);
        let (mut images, mut planes) = (Vec::new(), Vec::new());
        for picture in drawn_images(&mut random) {
            let SamplePicture { name, width: columns, height: rows, truth, prediction, confidence, .. } = picture;
            confidences.add(&truth, &prediction, &confidence).expect("classes");
            let d = width.pixels(columns, rows, None).expect("not in metres");
            let classes = count(&truth, &prediction, (columns, rows), d, 3);
            planes.push(serde_json::json!({
                "width": columns, "height": rows, "truth": truth, "prediction": prediction, "confidence": confidence,
                "counts": classes,
            }));
            images.push(ImageCounts { name, place: None, metres_per_pixel: None, classes });
        }
        let curves: Vec<_> = (0..3).map(|class| confidences.curve(class)).collect();
        let quality = Quality { boundary_width: width, images, confidences };
        cases.push(serde_json::json!({
            "images": planes, "boundary_width": width, "summary": quality.summary(), "curves": curves,
        }));
    }
    let fits: Vec<_> = [(2, 2.5), (3, 0.7), (4, 1.0)].map(|(classes, sure)| fitted(classes, sure, &mut random)).into();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cases.json");
    let text = serde_json::json!({ "ignore": IGNORE, "cases": cases, "fits": fits }).to_string();
    std::fs::write(&file, text).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quality_check.py");
    let status = Command::new(python).arg(script).arg(&file).status().expect("Python runs");
    assert!(status.success(), "borders, objects or confidences are not what they are elsewhere");
}

/// Logits whose labels are drawn by their probabilities, the logits then made `sure` times as large, and what is fitted to them.
fn fitted(classes: usize, sure: f32, random: &mut SplitMix) -> serde_json::Value {
    let mut samples = Samples { classes, ..Samples::default() };
    for _ in 0..3000 {
        let logits: Vec<f32> = (0..classes).map(|class| 3.0 * random.uniform() - class as f32).collect();
        let weights: Vec<f32> = logits.iter().map(|v| v.exp()).collect();
        let mut at = (random.uniform() + 1.0) / 2.0 * weights.iter().sum::<f32>();
        let mut truth = 0;
        while truth + 1 < classes && at >= weights[truth] {
            at -= weights[truth];
            truth += 1;
        }
        samples.truth.push(truth as u8);
        // The last class seems rarer than it is.
        samples
            .logits
            .extend(logits.iter().enumerate().map(|(c, v)| sure * (v - if c + 1 == classes { 2.0 } else { 0.0 })));
    }
    let found = samples.fit().expect("samples");
    serde_json::json!({ "classes": classes, "logits": samples.logits, "truth": samples.truth, "found": found })
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-15 + 1e-12 * b.abs(), "{a} is not {b}");
}

#[test]
fn one_cycle_is_fastai_s() {
    let schedule: Schedule = "one-cycle".parse().expect("a name");
    let (steps, peak) = (1000, 4e-4);
    close(schedule.at(0, steps, peak), peak / 25.0);
    close(schedule.at(150, steps, peak), (peak / 25.0 + peak) / 2.0);
    close(schedule.at(300, steps, peak), peak);
    close(schedule.at(650, steps, peak), (peak + peak / 25e4) / 2.0);
    let last = peak / 25e4 + (peak - peak / 25e4) * (1.0 + (PI * 699.0 / 700.0).cos()) / 2.0;
    close(schedule.at(999, steps, peak), last);
    close(schedule.at(1000, steps, peak), peak / 25e4);
    close(schedule.at(123_456, steps, peak), peak / 25e4);
}

#[test]
fn other_schedules_have_their_closed_forms() {
    let schedule = Schedule::WarmupPolynomial { warmup: 0.1, power: 0.9 };
    close(schedule.at(0, 1000, 5e-3), 5e-5);
    close(schedule.at(99, 1000, 5e-3), 5e-3);
    close(schedule.at(100, 1000, 5e-3), 5e-3);
    close(schedule.at(550, 1000, 5e-3), 5e-3 * 0.5f64.powf(0.9));
    close(schedule.at(1000, 1000, 5e-3), 0.0);
    let schedule = Schedule::Cosine { warmup: 0.1 };
    close(schedule.at(49, 1000, 1.0), 0.5);
    close(schedule.at(550, 1000, 1.0), 0.5);
    close(schedule.at(325, 1000, 1.0), (1.0 + (PI / 4.0).cos()) / 2.0);
    close(Schedule::Constant.at(77, 1000, 0.3), 0.3);
}

#[test]
fn schedules_have_names_and_stay_in_range() {
    for schedule in Schedule::DEFAULTS {
        assert_eq!(schedule.name().parse::<Schedule>().expect("a name"), schedule);
        let text = serde_json::to_string(&schedule).expect("JSON");
        assert!(text.contains(&format!("\"name\":\"{schedule}\"")), "{text}");
        assert_eq!(serde_json::from_str::<Schedule>(&text).expect("JSON"), schedule);
        schedule.check().expect("in range");
        for steps in 0..40 {
            for step in 0..45 {
                let rate = schedule.at(step, steps, 0.1);
                assert!((0.0..=0.1 + 1e-15).contains(&rate), "{schedule}: {rate} at {step} of {steps}");
                assert!(rate > 0.0 || step >= steps, "{schedule}: nothing is learned at {step} of {steps}");
            }
        }
    }
    let error = "linear".parse::<Schedule>().expect_err("no name");
    assert!(error.to_string().contains("one-cycle, polynomial, cosine, constant"), "{error}");
    for wrong in [
        Schedule::Cosine { warmup: 1.5 },
        Schedule::Cosine { warmup: f64::NAN },
        Schedule::OneCycle { rise: 0.3, start: 0.0, end: 1.0 },
        Schedule::WarmupPolynomial { warmup: 0.0, power: f64::INFINITY },
    ] {
        assert_eq!(wrong.check().expect_err("wrong").kind(), ErrorKind::Invalid);
    }
    assert!(serde_json::from_str::<Schedule>(r#"{"name":"cosine","warmup":0.1,"wramup":2}"#).is_err());
}

/// The class name that no markup may survive.
const HOSTILE: &str = "<b>&\"'";

fn classes() -> Vec<Class> {
    let class = |index, name: &str, color| Class { index, name: name.into(), color, threshold: None };
    vec![class(0, "background", [0, 0, 0]), class(1, HOSTILE, [230, 60, 50]), class(2, "road", [60, 90, 220])]
}

/// A picture of `side` pixels with ignored rows and a made-up prediction. With `noise` 1 every pixel is random, with 32 it is
/// in blocks of that side.
fn picture(name: &str, side: usize, noise: usize) -> SamplePicture {
    let mut random = SplitMix(side as u64);
    let blocks: Vec<u64> = (0..(side / noise + 1).pow(2)).map(|_| random.next_u64()).collect();
    let mut picture = SamplePicture { name: name.into(), width: side, height: side, ..SamplePicture::default() };
    for y in 0..side {
        for x in 0..side {
            let block = blocks[y / noise * (side / noise + 1) + x / noise];
            let grain = random.next_u64() >> if noise == 1 { 0 } else { 4 };
            picture.rgb.extend([block as u8 / 2, (block >> 8) as u8 / 2, 90].map(|c| c + grain as u8 / 4));
            picture.truth.push(if y < side / 8 { IGNORE } else { (block % 3) as u8 });
            picture.prediction.push((block >> 20) as u8 % 3);
            picture.confidence.push((block >> 30) as u8);
        }
    }
    picture
}

fn epoch(epoch: usize, metrics: Option<Metrics>) -> EpochRecord {
    EpochRecord {
        epoch,
        step: epoch * 10,
        train_loss: 1.0 / epoch as f64,
        valid_loss: metrics.as_ref().map(|_| 0.5),
        metrics,
        learning_rate: 1e-4,
        seconds: 61.0,
        images_per_second: 3.25,
    }
}

/// What an evaluation of the pictures would have found, every picture a place and a resolution of its own.
fn quality(pictures: &[SamplePicture]) -> Quality {
    let mut confidences = Confidences::new(3);
    let image = |(i, picture): (usize, &SamplePicture)| {
        confidences.add(&picture.truth, &picture.prediction, &picture.confidence).expect("classes");
        let size = (picture.width, picture.height);
        ImageCounts {
            name: picture.name.clone(),
            place: Some(picture.name.clone()),
            metres_per_pixel: (i > 0).then_some(0.1 * i as f64),
            classes: count(&picture.truth, &picture.prediction, size, 2, 3),
        }
    };
    let images = pictures.iter().enumerate().map(image).collect();
    Quality { boundary_width: BoundaryWidth::Pixels(2.0), images, confidences }
}

fn html(epochs: usize, pictures: &[SamplePicture]) -> String {
    let mut confusion = Confusion::new(3);
    for picture in pictures {
        confusion.add(&picture.truth, &picture.prediction).expect("classes");
    }
    let metrics = Metrics::from(&confusion);
    let quality = (!pictures.is_empty()).then(|| quality(pictures));
    let epochs: Vec<_> = (1..=epochs).map(|e| epoch(e, (e % 2 == 0).then(|| metrics.clone()))).collect();
    let settings = serde_json::json!({ "seed": 3, "data": { "path": HOSTILE, "samples": vec!["s"; 10_000] } });
    let classes = classes();
    let report = Report {
        title: HOSTILE,
        settings: &settings,
        epochs: &epochs,
        metrics: &metrics,
        confusion: &confusion,
        classes: &classes,
        quality: quality.as_ref(),
        pictures,
    };
    let html = report.html().expect("a report");
    assert_eq!(html, report.html().expect("a report"), "the same twice");
    html
}

/// Every tag with its attributes; fails where tags do not nest.
fn tags(html: &str) -> Vec<&str> {
    let mut open = Vec::new();
    let mut tags = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{:?}", &part[..part.len().min(80)]);
        } else if !tag.ends_with('/') && !matches!(name, "!DOCTYPE" | "meta") {
            open.push(name);
        }
        tags.push(tag);
    }
    assert!(open.is_empty(), "{open:?}");
    tags
}

/// What is true of every report.
fn check(html: &str) {
    let tags = tags(html);
    for tag in &tags {
        assert!(!tag.starts_with("script") && tag.matches('"').count() % 2 == 0, "{:.200}", tag);
        for (at, _) in tag.match_indices("href=\"").chain(tag.match_indices("src=\"")) {
            let target = tag[at..].split('"').nth(1).unwrap_or_default();
            assert!(target.starts_with("data:image/") || target.starts_with('#'), "{target:.80}");
        }
        if tag.starts_with("svg") && !tag.starts_with("svg x=") {
            assert!(tag.contains("role=\"img\" aria-label=\""), "{tag}");
        }
    }
    for outside in ["http:", "https:", "url(", "@import", "NaN", "inf"] {
        let bodies = html.split("base64,").map(|part| part.split_once('"').map_or(part, |(_, rest)| rest));
        assert!(bodies.skip(1).all(|text| !text.contains(outside)), "{outside}");
        assert!(!html.split("base64,").next().unwrap_or_default().contains(outside), "{outside}");
    }
    // The report's own markup has no such element.
    let raw = html.find("<b>").map(|at| html[at..].chars().take(80).collect::<String>());
    assert_eq!(raw, None, "not escaped");
    assert!(html.contains("&lt;b&gt;&amp;&quot;&#39;"));
}

#[test]
fn a_report_is_sound_and_loads_nothing() {
    let pictures = [picture("a/1", 64, 8), picture(HOSTILE, 100, 1)];
    let full = html(5, &pictures);
    check(&full);
    assert_eq!(full.matches("data:image/jpeg").count(), 2);
    assert_eq!(full.matches("data:image/png").count(), 6);
    assert!(
        full.contains("id=\"curves\"")
            && full.contains("id=\"samples\"")
            && full.contains("id=\"confidence\"")
            && full.contains("Expected calibration error")
            && full.contains("Borders within 2px")
            && full.contains("10,000 entries")
            && full.contains("All epochs as a table")
    );
    for (epochs, pictures) in [(0, &pictures[..]), (1, &pictures[..1]), (2, &[]), (0, &[])] {
        check(&html(epochs, pictures));
    }
    let bare = html(0, &[]);
    assert!(
        !bare.contains("id=\"curves\"")
            && !bare.contains("id=\"samples\"")
            && !bare.contains("id=\"quality\"")
            && bare.contains("–")
    );
}

#[test]
fn a_report_stays_small() {
    for noise in [32, 1] {
        let pictures: Vec<_> = (0..24).map(|i| picture(&format!("sample {i}"), 512, noise)).collect();
        let html = html(60, &pictures);
        check(&html);
        assert!(html.len() < 3_000_000, "{} bytes", html.len());
    }
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    let classes = classes();
    let settings = serde_json::Value::Null;
    let report = |confusion: &Confusion, pictures: &[SamplePicture]| {
        let metrics = Metrics::from(confusion);
        let report = Report {
            title: "t",
            settings: &settings,
            epochs: &[],
            metrics: &metrics,
            confusion,
            classes: &classes,
            quality: None,
            pictures,
        };
        report.html().map_err(|e| (e.kind(), e.to_string()))
    };
    let good = picture("good", 20, 4);
    assert!(report(&Confusion::new(3), std::slice::from_ref(&good)).is_ok());
    assert_eq!(report(&Confusion::new(2), &[]).expect_err("other classes").0, ErrorKind::Invalid);
    let mut wrong = vec![good.clone(), good.clone(), good.clone(), good];
    wrong[0].truth.pop();
    wrong[1].prediction[399] = 3;
    wrong[2].rgb.push(0);
    wrong[3].width = 0;
    for picture in wrong {
        let (kind, text) = report(&Confusion::new(3), &[picture]).expect_err("wrong");
        assert!(kind == ErrorKind::Invalid && text.contains("picture \"good\""), "{text}");
    }
}

#[test]
fn a_log_line_reads_as_it_was_written() {
    let metrics = Metrics::from(&confusion(2, &[0, 1, 1], &[0, 1, 0]));
    for record in [epoch(3, Some(metrics)), epoch(1, None)] {
        let line = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<EpochRecord>(&line).expect("JSON"), record);
    }
    let mut record = epoch(1, None);
    record.train_loss = f64::NAN;
    let line = serde_json::to_string(&record).expect("JSON");
    assert!(serde_json::from_str::<EpochRecord>(&line).expect("JSON").train_loss.is_nan());
}

#[test]
fn the_range_test_is_plotted() {
    let mut points: Vec<(f64, f64)> = (0..60).map(|i| (1e-6 * 1.25f64.powi(i), 1.0 - 0.01 * f64::from(i))).collect();
    points.push((1.0, f64::NAN));
    points.push((2.0, f64::INFINITY));
    let smoothed: Vec<f64> = points.iter().map(|p| p.1).collect();
    let svg = lr_plot(&points, &smoothed, Some(1.2e-4)).expect("a plot");
    let tags = tags(&svg);
    assert!(tags[0].contains("xmlns=\"http://www.w3.org/2000/svg\"") && !svg.contains("NaN") && !svg.contains("inf"));
    assert!(svg.contains("suggested 1.2e-4") && svg.contains("1e-5"), "{svg}");
    assert!(lr_plot(&points, &[], None).is_ok());
    assert_eq!(lr_plot(&points[..1], &[], None).expect_err("too short").kind(), ErrorKind::Invalid);
    assert_eq!(lr_plot(&[(0.0, 1.0), (-1.0, 1.0)], &[], None).expect_err("no rates").kind(), ErrorKind::Invalid);
}
