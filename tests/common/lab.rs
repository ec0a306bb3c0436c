//! Small data sets to train on, and what runs leave.
#![allow(dead_code)] // each test uses a part
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

use std::collections::BTreeMap;
use std::fs;

use samlora::random::SplitMix;
use samlora::weights::source::open;
use serde_json::Value;
use tempfile::TempDir;

use super::command::succeeds;

/// A folder with `data`: bright rectangles of two classes on dark noise, and room for runs.
pub struct Lab {
    folder: TempDir,
}

/// A command's arguments.
pub struct Args(pub Vec<String>);

impl Args {
    pub fn as_args(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl Lab {
    /// Eight chips of 64 pixels.
    pub fn new() -> Self {
        Self::of(8, 64)
    }

    pub fn of(count: u64, side: u32) -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        for part in ["images", "masks"] {
            fs::create_dir_all(lab.path(&format!("data/{part}"))).unwrap();
        }
        fs::write(lab.path("data/classes.json"), r#"{"classes": ["ground", "roof", "road"]}"#).unwrap();
        for i in 0..count {
            let labels = rectangles(i, side);
            let mut random = SplitMix(i ^ 0xABCD);
            let image = image::RgbImage::from_fn(side, side, |x, y| {
                let label = labels[(y * side + x) as usize];
                let noise = (random.next_u64() % 50) as u8;
                image::Rgb(
                    [60, 150, 100].map(|v: u8| v + noise).map(|v| if label == 0 { v / 2 } else { v + 20 * label }),
                )
            });
            image.save(lab.path(&format!("data/images/c{i}.png"))).unwrap();
            let mask = image::GrayImage::from_raw(side, side, labels).unwrap();
            mask.save(lab.path(&format!("data/masks/c{i}.png"))).unwrap();
        }
        lab
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The arguments that train on the data.
    pub fn train(&self, out: &str, options: &[&str]) -> Args {
        self.train_on(&self.path("data"), out, options)
    }

    pub fn train_on(&self, data: &str, out: &str, options: &[&str]) -> Args {
        let fixed = ["train", "--data", data, "--out", out, "--size", "64", "--batch-size", "2", "--threads", "1"];
        let split = ["--split", "random"];
        Args([&fixed[..], &split, options].concat().into_iter().map(str::to_owned).collect())
    }

    /// A run whose model others start from.
    pub fn base(&self) -> String {
        let run = self.path("base");
        succeeds(&self.train(&run, &["--backbone", "tiny", "--epochs", "2"]).as_args());
        run
    }

    /// The model of [`Lab::base`] with other numbers.
    pub fn another_base(&self) -> Vec<u8> {
        let mut bytes = fs::read(self.path("base/model.safetensors")).unwrap();
        let end = bytes.len();
        bytes[end - 1] ^= 1;
        bytes
    }
}

/// A mask with a rectangle of class 1 or 2.
pub fn rectangles(seed: u64, side: u32) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let mut draw = |low: u32, high: u32| low + (random.next_u64() % u64::from(high - low)) as u32;
    let (left, top) = (draw(0, side / 2), draw(0, side / 2));
    let (right, bottom) = (left + draw(side / 4, side / 2), top + draw(side / 4, side / 2));
    let class = 1 + (seed % 2) as u8;
    let inside = |i: u32| (left..right).contains(&(i % side)) && (top..bottom).contains(&(i / side));
    (0..side * side).map(|i| if inside(i) { class } else { 0 }).collect()
}

/// All tensors of a file.
pub fn tensors(file: &str) -> BTreeMap<String, Vec<f32>> {
    let source = open(file).unwrap();
    let names: Vec<String> = source.tensors().iter().map(|t| t.name.clone()).collect();
    names.into_iter().map(|name| (name.clone(), source.read_f32(&name).unwrap())).collect()
}

/// All tensors of a file, to the last bit.
pub fn bits(file: &str) -> BTreeMap<String, Vec<u32>> {
    tensors(file).into_iter().map(|(name, v)| (name, v.into_iter().map(f32::to_bits).collect())).collect()
}

/// A run's log without times.
pub fn log(run: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{run}/log.jsonl")).unwrap();
    let line = |line: &str| {
        let mut epoch: Value = serde_json::from_str(line).unwrap();
        for time in ["seconds", "images_per_second"] {
            epoch.as_object_mut().unwrap().remove(time).unwrap();
        }
        epoch
    };
    text.lines().map(line).collect()
}
