//! `samlora bench --train`: one training step of LoRA and decoder, on random weights and one random crop.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use samlora::config::Backbone;
use samlora::engine::random_model;
use samlora::error::{Error, ErrorKind, Result};
use samlora::lora::{self, LoraConfig, Target};
use samlora::random::SplitMix;
use samlora::train::learner::{Learner, OptimizerOptions, Trained};
use samlora::train::loss::{DiceOver, LossOptions, LossTarget};
use samlora::weights::quantize::Scheme;
use serde_json::json;

use super::{BenchArgs, check_side, milliseconds, sync};
use crate::commands::{peak_memory, print_json, say, size};

/// Background and one class.
const CLASSES: usize = 2;

/// Measures forward, loss, backward and AdamW.
pub fn run(args: &BenchArgs, device: &Device) -> Result<()> {
    let config = Backbone::named(&args.backbone)?.config(CLASSES);
    check_side(args.size, &config)?;
    let mut sam = random_model(&config, 7, Scheme::F32, device)?;
    let lora = LoraConfig { targets: Target::usual(&config), ..LoraConfig::default() };
    lora::attach(&mut sam, &config, &lora.init(&config, 7)?, 0.0, device)?;
    if args.qlora {
        lora::quantize_base(&mut sam);
    }
    let mut learner = Learner::new(sam, &config, &Trained::default(), device, args.recompute);
    let (b, side) = (args.batch_size.max(1), args.size);
    let mut random = SplitMix(7);
    let pixels: Vec<f32> = (0..b * 3 * side * side).map(|_| random.uniform()).collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [b, 3, side, side]), device);
    // squares of 16 pixels, so that classes have shapes
    let square = |i: usize| (i % side / 16 + i / side % side / 16) % 2;
    let labels: Vec<u8> = (0..b * side * side).map(|i| square(i) as u8).collect();
    let target = LossTarget::new(&labels, [b, side, side], CLASSES, device);
    let loss = LossOptions { dice_over: DiceOver::Image, ..LossOptions::default() };
    let mut step = || -> Result<(f64, f64)> {
        let watch = Instant::now();
        let mut accumulated = learner.accumulator();
        let value = learner.accumulate(images.clone(), &target, &loss, &mut accumulated)?;
        learner.step(accumulated, 1e-4, &OptimizerOptions::default())?;
        sync(device)?;
        Ok((milliseconds(watch), value.total))
    };
    let (cold, first) = step()?;
    let (times, mut losses): (Vec<f64>, Vec<f64>) =
        (0..args.runs).map(|_| step()).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    losses.insert(0, first);
    // A measurement of nothing is no measurement.
    if losses.iter().any(|l| !l.is_finite()) || losses.windows(2).all(|l| l[0] == l[1]) {
        return Err(Error::new(ErrorKind::Device, format!("nothing was learned: losses {losses:?}")));
    }
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    let (median, memory) = (sorted[sorted.len() / 2], peak_memory());
    let (learning, all) = learner.counts();
    if args.json {
        return print_json(&json!({
            "backbone": args.backbone, "size": side, "batch_size": b, "device": args.device.name(),
            "threads": rayon::current_num_threads(), "recompute": args.recompute, "qlora": args.qlora, "cold_ms": cold, "step_ms": times,
            "median_ms": median, "losses": losses, "peak_bytes": memory, "learning_parameters": learning, "parameters": all,
        }));
    }
    say(format_args!(
        "{} at {side} px, batch {b}, on {} ({} threads){}: {learning} of {all} parameters learn",
        args.backbone,
        args.device.name(),
        rayon::current_num_threads(),
        if args.recompute { ", blocks recomputed" } else { "" }
    ))?;
    say(format_args!("training step: first {cold:.0} ms, median {median:.0} ms, fastest {:.0} ms", sorted[0]))?;
    say(format_args!("peak memory {}", memory.map_or("unknown".into(), size)))
}
