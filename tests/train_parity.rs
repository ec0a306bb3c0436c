//! One training step against what `segment-anything` under PyTorch computes (`tests/fixtures/parity`): loss, every gradient, and
//! the logits after one step of AdamW; with and without recomputation, on the CPU and (the smallest case) on the GPU.
//! And our own gradients of fused operations against burn's.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use common::{CASES, cpu, fixtures};
use samlora::engine::{DeviceChoice, open_device};
use samlora::kernels::{self, WindowAttention};
use samlora::lora;
use samlora::random::SplitMix;
use samlora::train::batch::Batch;
use samlora::train::learner::{Learner, OptimizerOptions, Trained};
use samlora::train::loss::{DiceOver, LossOptions, LossTarget};
use samlora::train::replicas::Replicas;
use samlora::weights::checkpoint::{Adapter, Checkpoint, load};
use samlora::weights::layout;
use samlora::weights::modules;
use samlora::weights::source::{TensorSource, open};

/// The bound; about 1e-5 is measured on the CPU.
const TOLERANCE: f64 = 1e-3;

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    norm(ours.iter().zip(theirs).map(|(a, b)| f64::from(a - b)))
}

/// `q`'s A in the reference's module is `...attn.qkv.aq`; here `...attn.q.lora_a`.
fn our_name(theirs: &str) -> String {
    for (part, name) in [("aq", "q.lora_a"), ("bq", "q.lora_b"), ("av", "v.lora_a"), ("bv", "v.lora_b")] {
        if let Some(block) = theirs.strip_suffix(&format!(".attn.qkv.{part}")) {
            return format!("{block}.attn.{name}");
        }
    }
    theirs.to_owned()
}

struct Case {
    reference: Box<dyn TensorSource>,
    learner: Learner,
    images: Tensor<4>,
    target: LossTarget,
}

impl Case {
    fn new(name: &str, device: &Device, recompute: bool) -> Self {
        let reference = open(fixtures().join(format!("{name}.safetensors"))).unwrap();
        let base = Checkpoint::open(fixtures().join("tiny_sam.safetensors")).unwrap().with_decoder_heads(4).unwrap();
        let adapter = Adapter::open(fixtures().join(format!("{name}_lora.safetensors")), 1.0).unwrap();
        let factors = adapter.factors.clone();
        let decoder_only = Adapter { factors: Vec::new(), numbered: false, ..adapter };
        let (config, mut sam) = load(&base, Some(&decoder_only), device).unwrap();
        lora::attach(&mut sam, &config, &factors, 0.0, device).unwrap();
        let learner = Learner::new(sam, &config, &Trained::default(), device, recompute);
        let shape = reference.info("input_normalised").unwrap().shape.clone();
        let images = TensorData::new(reference.read_f32("input_normalised").unwrap(), shape.clone());
        let images = Tensor::from_data(images, device);
        let labels: Vec<u8> = reference.read_f32("target").unwrap().iter().map(|v| *v as u8).collect();
        let target = LossTarget::new(&labels, [shape[0], shape[2], shape[3]], config.mask_tokens, device);
        Self { reference, learner, images, target }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.reference.read_f32(name).unwrap()
    }

    fn check(mut self, what: &str) {
        let options = LossOptions { dice_over: DiceOver::Image, ..LossOptions::default() };
        let mut accumulated = self.learner.accumulator();
        let loss = self.learner.accumulate(self.images.clone(), &self.target, &options, &mut accumulated).unwrap();
        for (part, ours) in [("cross_entropy", loss.cross_entropy), ("dice", loss.dice), ("loss", loss.total)] {
            let theirs = f64::from(self.values(part)[0]);
            let error = (ours - theirs).abs() / theirs.abs();
            println!("{what}: {part} {ours:.6}, relative difference {error:.1e}");
            assert!(error <= TOLERANCE, "{what}: {part} {ours} {theirs}");
        }

        let ours: BTreeMap<String, Vec<f32>> = accumulated.named(&self.learner).unwrap().into_iter().collect();
        let theirs: Vec<String> =
            self.reference.tensors().iter().filter_map(|t| Some(t.name.strip_prefix("grad.")?.to_owned())).collect();
        assert!(theirs.len() > 100);
        let whole = norm(theirs.iter().flat_map(|n| self.values(&format!("grad.{n}"))).map(f64::from));
        let mut worst = (0.0f64, String::new());
        for name in &theirs {
            let expected = self.values(&format!("grad.{name}"));
            let found = ours.get(&our_name(name)).unwrap_or_else(|| panic!("{what}: no gradient of {name}"));
            // A key's bias has no gradient but rounding (softmax does not see it): such tensors are measured beside the rest.
            let size = norm(expected.iter().map(|v| f64::from(*v))).max(1e-4 * whole);
            let error = difference(found, &expected) / size;
            if error > worst.0 {
                worst = (error, name.clone());
            }
        }
        println!("{what}: {} gradients, largest relative difference {:.1e} ({})", theirs.len(), worst.0, worst.1);
        assert!(worst.0 <= TOLERANCE, "{what}: {worst:?}");
        let names: Vec<String> = theirs.iter().map(|n| our_name(n)).collect();
        let surplus: Vec<_> = ours.keys().filter(|n| !names.contains(n)).collect();
        assert!(surplus.is_empty(), "{what}: gradients of what learns nothing: {surplus:?}");

        let untouched = |l: &Learner| {
            let index = l.parameters().iter().position(|p| p.name.contains("iou_prediction_head.layers.0.weight"));
            l.values(index.unwrap()).unwrap()
        };
        let before = untouched(&self.learner);
        let options = OptimizerOptions { clip_norm: None, decay_vectors: true, ..OptimizerOptions::default() };
        self.learner.step(accumulated, 1e-3, &options).unwrap();
        let low = self.learner.sam.decode(self.learner.sam.encode(self.images.clone()));
        let low: Vec<f32> = low.into_data().try_into_vec::<f32>().unwrap();
        let expected = self.values("low_res_logits_after_one_adamw_step");
        let error = difference(&low, &expected) / norm(expected.iter().map(|v| f64::from(*v)));
        println!("{what}: logits after one AdamW step, relative difference {error:.1e}");
        assert!(error <= TOLERANCE, "{what}: {error}");
        assert_eq!(untouched(&self.learner), before, "what gets no gradient does not decay");
    }
}

#[test]
fn loss_gradients_and_step_equal_the_reference_on_the_cpu() {
    for (name, _) in CASES {
        for recompute in [false, true] {
            let what = format!("cpu {name}{}", if recompute { " recomputed" } else { "" });
            Case::new(name, &cpu(), recompute).check(&what);
        }
    }
}

#[test]
fn loss_gradients_and_step_equal_the_reference_on_the_gpu() {
    match pollster::block_on(open_device(DeviceChoice::Gpu)) {
        Ok(device) => Case::new(CASES[0].0, &device, false).check("gpu"),
        Err(e) if std::env::var_os("SAMLORA_REQUIRE_GPU").is_some() => panic!("no GPU: {e}"),
        Err(e) => println!("left out: training on the GPU, {e}"),
    }
}

/// Two batches on one device, and shared between two (the CPU twice; the CPU and the GPU where there is one), give the same sums; what
/// the first device learns arrives at the other.
#[test]
fn devices_share_a_steps_batches() {
    let case = Case::new(CASES[0].0, &cpu(), false);
    let [_, bands, size, _] = case.images.dims();
    let images = case.values("input_normalised");
    let labels: Vec<u8> = case.values("target").iter().map(|v| *v as u8).collect();
    let batch = |i: usize| Batch {
        count: 1,
        bands,
        size,
        images: images[i * bands * size * size..][..bands * size * size].to_vec(),
        labels: labels[i * size * size..][..size * size].to_vec(),
        samples: vec![i],
        taught: None,
    };
    let batches = [batch(0), batch(1), batch(0)];
    let loss = LossOptions::default();
    let sums = |lead: &Learner, replicas: &Replicas| {
        let (losses, sums) = replicas.accumulate(lead, &batches, &loss, |i| i as u64).unwrap();
        assert_eq!(losses.len(), 3);
        assert_eq!(losses[0], losses[2]);
        (losses, sums.named(lead).unwrap(), sums)
    };
    let (alone_losses, alone, _) = sums(&case.learner, &Replicas::new(&case.learner, &[]));
    let mut second = vec![cpu()];
    match pollster::block_on(open_device(DeviceChoice::Gpu)) {
        Ok(device) => second.push(device),
        Err(e) if std::env::var_os("SAMLORA_REQUIRE_GPU").is_some() => panic!("no GPU: {e}"),
        Err(e) => println!("left out: a step shared with the GPU, {e}"),
    }
    for device in second {
        let mut case = Case::new(CASES[0].0, &cpu(), false);
        let mut replicas = Replicas::new(&case.learner, &[device]);
        for _ in 0..2 {
            let (losses, shared, sum) = sums(&case.learner, &replicas);
            for (a, b) in alone_losses.iter().zip(&losses) {
                assert!((a.total - b.total).abs() < 1e-4, "{a:?} {b:?}");
            }
            assert_eq!(alone.len(), shared.len());
            let whole = norm(alone.iter().flat_map(|(_, v)| v).map(|v| f64::from(*v)));
            for ((name, a), (other, b)) in alone.iter().zip(&shared) {
                assert_eq!(name, other);
                assert!(difference(a, b) / whole < 1e-3, "{name}");
            }
            // A step of no length: the second round shows that what is copied back is what is there.
            case.learner.step(sum, 1e-30, &OptimizerOptions::default()).unwrap();
            replicas.broadcast(&case.learner);
        }
    }
}

#[test]
fn every_parameter_has_sams_name_and_shape() {
    let base = Checkpoint::open(fixtures().join("tiny_sam.safetensors")).unwrap();
    let (config, sam) = load(&base, None, &cpu()).unwrap();
    let found: BTreeMap<_, _> = modules::parameters(&sam, &config).into_iter().map(|p| (p.name, p.shape)).collect();
    let expected: BTreeMap<_, _> = layout::tensors(&config).into_iter().collect();
    assert_eq!(found, expected);
}

fn random<const D: usize>(shape: [usize; D], random: &mut SplitMix) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.uniform()).collect();
    Tensor::<D>::from_data(TensorData::new(values, shape), &cpu())
}

fn close<const D: usize>(what: &str, ours: Option<Tensor<D>>, theirs: Option<Tensor<D>>) {
    let values = |x: Option<Tensor<D>>| x.expect("a gradient").into_data().try_into_vec::<f32>().unwrap();
    let (ours, theirs) = (values(ours), values(theirs));
    // where a gradient is zero (one token attends to itself alone), so must ours be
    let error = difference(&ours, &theirs) / norm(theirs.iter().map(|v| f64::from(*v))).max(1e-3);
    assert!(error < 1e-5, "{what}: {error:.1e}");
}

#[test]
fn gradients_of_window_attention_equal_burns() {
    let mut seed = SplitMix(5);
    // whole windows, padded windows, the whole image, one token a window
    for (image, window, heads, dim) in
        [([2, 8, 8], [4, 4], 2, 16), ([1, 7, 10], [4, 4], 3, 5), ([2, 6, 9], [6, 9], 1, 20), ([1, 2, 3], [1, 1], 2, 3)]
    {
        let ([b, h, w], [rows, columns]) = (image, window);
        let c = heads * dim;
        let leaf = |x: Tensor<4>| x.autodiff().require_grad();
        let qkv = leaf(random([b, h, w, 3 * c], &mut seed));
        let bias = random([3 * c], &mut seed).autodiff().require_grad();
        let rel_pos_h = random([2 * rows - 1, dim], &mut seed).autodiff().require_grad();
        let rel_pos_w = random([2 * columns - 1, dim], &mut seed).autodiff().require_grad();
        let gradient = random([b, h, w, c], &mut seed);
        let attention = WindowAttention {
            rows,
            columns,
            heads,
            scale: (dim as f64).powf(-0.5),
            rel_pos_h: rel_pos_h.clone(),
            rel_pos_w: rel_pos_w.clone(),
        };
        let tokens = random([b, h, w, c], &mut seed);
        let ours = attention.forward(tokens, bias.clone(), |_, _| qkv.clone());
        let ours = (ours * gradient.clone()).sum().backward();
        let theirs = (attention.reference(qkv.clone(), bias.clone()) * gradient).sum().backward();
        let what = format!("{image:?} {window:?}");
        close(&format!("{what} qkv"), qkv.grad(&ours), qkv.grad(&theirs));
        close(&format!("{what} bias"), bias.grad(&ours), bias.grad(&theirs));
        close(&format!("{what} rel_pos_h"), rel_pos_h.grad(&ours), rel_pos_h.grad(&theirs));
        close(&format!("{what} rel_pos_w"), rel_pos_w.grad(&ours), rel_pos_w.grad(&theirs));
    }
}

#[test]
fn gradients_of_norm_and_gelu_equal_burns() {
    let mut seed = SplitMix(6);
    for (rows, n) in [(1, 1), (3, 7), (40, 64), (600, 48)] {
        let x = random([rows, n], &mut seed).autodiff().require_grad();
        let weight = random([n], &mut seed).autodiff().require_grad();
        let bias = random([n], &mut seed).autodiff().require_grad();
        let gradient = random([rows, n], &mut seed);
        if n > 1 {
            let ours = kernels::layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-6);
            let ours = (ours * gradient.clone()).sum().backward();
            let centred = x.clone() - x.clone().mean_dim(1);
            let variance = centred.clone().square().mean_dim(1);
            let plain = centred / (variance + 1e-6).sqrt() * weight.clone().unsqueeze() + bias.clone().unsqueeze();
            let theirs = (plain * gradient.clone()).sum().backward();
            close(&format!("norm {rows} x {n}"), x.grad(&ours), x.grad(&theirs));
            close(&format!("norm weight {rows} x {n}"), weight.grad(&ours), weight.grad(&theirs));
            close(&format!("norm bias {rows} x {n}"), bias.grad(&ours), bias.grad(&theirs));
        }
        let ours = (kernels::bias_gelu(x.clone(), bias.clone()) * gradient.clone()).sum().backward();
        let s = x.clone() + bias.clone().unsqueeze();
        let plain = s.clone() * ((s / 2f64.sqrt()).erf() + 1.0) * 0.5;
        let theirs = (plain * gradient).sum().backward();
        close(&format!("gelu {rows} x {n}"), x.grad(&ours), x.grad(&theirs));
        close(&format!("gelu bias {rows} x {n}"), bias.grad(&ours), bias.grad(&theirs));
    }
}
