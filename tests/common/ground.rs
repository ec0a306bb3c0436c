//! A raster that is cut from one endless ground, and a network that is none: for tests of areas.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use samlora::area::{Augment, Holes, Job, ModelPlan, Network, Options, Plan, Report, Store, View, compose};
use samlora::config::Class;
use samlora::engine::SegmentOptions;
use samlora::error::{Error, ErrorKind, Result};
use samlora::georef::{Crs, Georef};
use samlora::image::Pixels;
use samlora::logits::Logits;
use samlora::source::{Depth, Patch, Raster, Samples, Window};

pub const INPUT: usize = 32;
pub const TILE: usize = 20;

/// A raster of three bands of 8 bits whose top left pixel is pixel `at` of the ground, each sample a number of its place alone.
pub struct Ground {
    pub size: (usize, usize),
    pub at: [i64; 2],
    georef: Georef,
    /// Pixels of the ground without data.
    pub empty: fn(i64, i64) -> bool,
    /// Whether reading a window of the ground (left, top, right, bottom) fails, asked each time.
    pub fails: Box<dyn FnMut([i64; 4]) -> bool>,
    pub reads: usize,
}

impl Ground {
    pub fn new(size: (usize, usize), at: [i64; 2]) -> Self {
        let [x, y] = at.map(|v| v as f64 * 0.5);
        let georef = Georef { transform: [0.5, 0.0, x, 0.0, -0.5, -y], crs: Crs::from_epsg(32_633) };
        Self { size, at, georef, empty: |_, _| false, fails: Box::new(|_| false), reads: 0 }
    }
}

fn sample(x: i64, y: i64, band: i64) -> u8 {
    let wave = ((x as f64 / 13.0).sin() + (y as f64 / 9.0).cos() + ((x + 2 * y) as f64 / 31.0).sin()) * 38.0;
    let grain = (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ (band * 83_492_791)).rem_euclid(23);
    (128.0 + wave) as u8 ^ grain as u8
}

impl Raster for Ground {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn bands(&self) -> usize {
        3
    }

    fn depth(&self) -> Depth {
        Depth::U8
    }

    fn georef(&self) -> Option<&Georef> {
        Some(&self.georef)
    }

    fn read(&mut self, window: Window, bands: &[usize]) -> Result<Patch> {
        window.check(self.size)?;
        assert_eq!(bands, [0, 1, 2]);
        self.reads += 1;
        let (left, top) = (self.at[0] + window.x as i64, self.at[1] + window.y as i64);
        if (self.fails)([left, top, left + window.width as i64, top + window.height as i64]) {
            return Err(Error::new(ErrorKind::Io, "the line is broken"));
        }
        let (mut samples, mut valid) = (Vec::new(), Vec::new());
        for y in top..top + window.height as i64 {
            for x in left..left + window.width as i64 {
                samples.extend((0..3).map(|band| sample(x, y, band)));
                valid.push(!(self.empty)(x, y));
            }
        }
        if !valid.contains(&false) {
            valid.clear();
        }
        Ok(Patch { width: window.width, height: window.height, bands: 3, samples: Samples::U8(samples), valid })
    }

    fn describe(&self) -> String {
        "ground".into()
    }
}

/// Three classes by what a window shows in a neighbourhood of each place, and by where in the window that is, as networks do.
#[derive(Default)]
pub struct Fake {
    /// Whether only what is seen counts, and not the place within the window.
    pub is_local: bool,
    /// Sides of input and tile, where they are not [`INPUT`] and [`TILE`].
    pub sides: Option<(usize, usize)>,
    /// Windows asked for.
    pub windows: usize,
    /// The sums of their samples, to tell whether one was asked for twice.
    pub seen: Vec<u64>,
    pub batch: usize,
}

impl Network for Fake {
    fn input_size(&self) -> usize {
        self.sides.map_or(INPUT, |s| s.0)
    }

    fn tile_size(&self) -> usize {
        self.sides.map_or(TILE, |s| s.1)
    }

    fn classes(&self) -> usize {
        3
    }

    fn batch(&self) -> usize {
        self.batch.max(1)
    }

    fn logits(&mut self, windows: &[View<'_>]) -> Result<Vec<Logits>> {
        Ok(windows.iter().map(|window| self.one(window)).collect())
    }
}

impl Fake {
    fn one(&mut self, window: &View<'_>) -> Logits {
        let input = self.input_size();
        assert_eq!((window.width(), window.height(), window.bands()), (input, input, 3));
        self.windows += 1;
        let side = input / 4;
        let mut values = vec![0.0; 3 * side * side];
        let mut sum = 0u64;
        for band in 0..3 {
            for place in 0..side * side {
                let (i, j) = (place % side, place / side);
                let block = (0..16).map(|k| window.sample(4 * i + k % 4, 4 * j + k / 4, band)).sum::<f32>();
                sum = sum.wrapping_mul(31).wrapping_add(block as u64);
                let near = if self.is_local { 0.0 } else { ((i * 7 + j * 13 + band * 5) % 11) as f32 - 5.0 };
                values[band * side * side + place] = (block / 16.0 - 128.0) / 9.0 + near;
            }
        }
        self.seen.push(sum);
        Logits { classes: 3, height: side, width: side, values }
    }
}

pub fn classes() -> Vec<Class> {
    (0..3).map(|index| Class { index, name: format!("class {index}"), color: [index; 3], threshold: None }).collect()
}

pub fn plan(raster: &Ground, area: Window, block: usize) -> Plan {
    let model = ModelPlan { sha256: "fake".into(), weights: String::new(), classes: classes() };
    let source = ("ground".into(), "all".into());
    Plan::new(model, raster, source, area, (INPUT, TILE), block).unwrap()
}

/// Runs a share of a plan in a folder.
pub fn run(folder: &std::path::Path, raster: &mut Ground, plan: &Plan, options: Options) -> Report {
    let mut job = Job::open(folder, plan.clone(), Augment::None, None, options).unwrap();
    job.run(&mut Fake::default(), raster, &mut |_| Ok(())).unwrap()
}

/// Classes and confidences of a plan's area, from folders.
pub fn composed(plan: &Plan, stores: &[Store], holes: Holes) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut classes, mut confidence) = (Vec::new(), Vec::new());
    compose(plan, stores, &SegmentOptions::default(), holes, |rows| {
        assert_eq!(rows.top, classes.len() / plan.area.width);
        classes.extend_from_slice(&rows.classes);
        confidence.extend_from_slice(&rows.confidence);
        Ok(())
    })?;
    assert_eq!(classes.len(), plan.window().pixels());
    Ok((classes, confidence))
}

/// What there is of an area of a ground, computed at once.
pub fn mask(raster: &mut Ground, area: Window, block: usize) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(raster, area, block);
    let report = run(folder.path(), raster, &plan, Options::default());
    assert!(report.missing.is_empty() && report.computed == report.blocks);
    composed(&plan, &[Store::existing(folder.path()).unwrap().0], Holes::Refused).unwrap()
}
