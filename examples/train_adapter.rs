//! From labelled chips to a package, in Rust: chips are drawn, a small model learns them from random weights, a LoRA adapter
//! learns on top of it, and the result is exported with its own figures. It takes seconds, since all of it is tiny; with
//! SAM's checkpoint as the base and real chips, the same code trains a model of use.
//!
//! ```sh
//! cargo run --example train_adapter -- example-out
//! ```

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use samlora::engine::{Device, DeviceChoice, open_device};
use samlora::lora::LoraConfig;
use samlora::train::augment::AugmentOptions;
use samlora::train::dataset::DatasetOptions;
use samlora::train::dataset::split::SplitRule;
use samlora::train::learner::{OptimizerOptions, Trained};
use samlora::train::loss::LossOptions;
use samlora::train::results::{PackageOptions, package};
use samlora::train::run_folder::Settings;
use samlora::train::schedule::Schedule;
use samlora::train::trainer::{Event, Trainer};
use samlora::weights::manifest::Manifest;
use samlora::weights::quantize::Scheme;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: train_adapter NEW_FOLDER")?);
    let manifest = train_adapter(&folder)?;
    println!("{}: {} bytes", folder.join("package").display(), manifest.weight_bytes());
    for (figure, value) in manifest.metrics.unwrap_or_default() {
        println!("  {figure}: {value:.3}");
    }
    Ok(())
}

/// Fills `folder` with `chips`, two runs (`base` and `adapter`) and a `package`, whose manifest it gives.
pub fn train_adapter(folder: &Path) -> Result<Manifest, Box<dyn Error>> {
    draw_chips(&folder.join("chips"))?;
    let device = pollster::block_on(open_device(DeviceChoice::Cpu))?;

    // With SAM's weights this step is not needed: they are the base.
    let everything = Trained { encoder: true, ..Trained::default() };
    let base = Settings { backbone: Some("tiny".into()), trained: everything, ..settings(folder) };
    run(base, &folder.join("base"), &device)?;

    // Rank 4 on q and v of every block, the prompt embedding and the mask decoder: SamLoRA's choice.
    let adapter = Settings { base: Some(folder.join("base")), lora: Some(LoraConfig::default()), ..settings(folder) };
    run(adapter, &folder.join("adapter"), &device)?;

    let options = PackageOptions {
        scheme: Scheme::Q8,
        name: "squares".into(),
        licence: "CC0-1.0".into(),
        attribution: "drawn by an example".into(),
        base_package: None,
        thresholds: Vec::new(),
    };
    let written = package(&folder.join("adapter"), &options, &folder.join("package"), &device, |_, _, _| ())?;
    Ok(written.manifest)
}

/// Trains to the end, and tells of each epoch.
fn run(settings: Settings, out: &Path, device: &Device) -> samlora::error::Result<()> {
    let mut tell = |event: Event| match event {
        Event::Message(text) => eprintln!("{text}"),
        Event::Epoch(record, _) => eprintln!("epoch {}: loss {:.4}", record.epoch, record.train_loss),
        _ => {}
    };
    let mut trainer = Trainer::start(settings, out, device, "cpu", &mut tell)?;
    let never = || false; // What would stop it, such as Ctrl-C; `Trainer::resume` then goes on.
    trainer.run(&never, &mut tell)?;
    Ok(())
}

/// What both runs share: small crops, few epochs.
fn settings(folder: &Path) -> Settings {
    Settings {
        data: vec![folder.join("chips")],
        dataset: DatasetOptions::default(),
        // Drawn chips lie nowhere; for real ones take `SplitRule::Place`, so that no ground is on both sides.
        split: SplitRule::Random,
        valid_share: 0.25,
        split_seed: 0,
        backbone: None,
        base: None,
        lora: None,
        trained: Trained::default(),
        size: 64,
        epochs: 3,
        batch_size: 2,
        accumulate: 1,
        crops: 1,
        learning_rate: 2e-3,
        schedule: Schedule::DEFAULTS[0],
        optimizer: OptimizerOptions::default(),
        loss: LossOptions::default(),
        balance: false,
        augment: AugmentOptions::default(),
        patience: None,
        validate_every: 1,
        seed: 0,
        recompute: false,
        qlora: false,
        teacher: None,
        ema: None,
    }
}

/// Eight images of 64 x 64 pixels with a bright square each, their masks, and the names of the classes.
fn draw_chips(folder: &Path) -> Result<(), Box<dyn Error>> {
    const SIDE: u32 = 64;
    for part in ["images", "masks"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("classes.json"), r#"{"classes": ["ground", "square"]}"#)?;
    for chip in 0..8u32 {
        let (left, top, side) = (chip * 5 % 30, chip * 11 % 30, 20 + chip % 3 * 6);
        let is_square = |x: u32, y: u32| (left..left + side).contains(&x) && (top..top + side).contains(&y);
        let noise = |x: u32, y: u32| ((x * 31 + y * 17 + chip * 7) % 40) as u8;
        let image = image::RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let light = if is_square(x, y) { 180 } else { 40 };
            image::Rgb([light + noise(x, y), light, light + noise(y, x) / 2])
        });
        image.save(folder.join(format!("images/chip-{chip}.png")))?;
        let mask = image::GrayImage::from_fn(SIDE, SIDE, |x, y| image::Luma([u8::from(is_square(x, y))]));
        mask.save(folder.join(format!("masks/chip-{chip}.png")))?;
    }
    Ok(())
}
