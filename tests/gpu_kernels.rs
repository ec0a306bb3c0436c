//! Each kernel of our own on a GPU, cut for hardware and for software, against plain loops: on its worst cases and on random
//! shapes, among memory that holds no numbers. The browser's tests run the same checks.

#![allow(clippy::unwrap_used)] // in a test, a panic is the report
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use samlora::config::Backbone;
use samlora::engine::{Device, DeviceChoice, SegmentOptions, Segmenter, random_model};
use samlora::image::RgbImage;
use samlora::kernels::check::{BOUNDS, Check, check};
use samlora::kernels::gpu::{self, Profile};
use samlora::kernels::{self, Activation, Epilogue, Matrix, Weight};
use samlora::weights::folder::Folder;
use samlora::weights::quantize::Scheme;

mod common;

/// Random shapes of each kernel.
const ROUNDS: usize = 6;
/// f32 on both sides: sums in another order through a whole network, relative to the largest logit.
const LOGITS_TOLERANCE: f32 = 1e-3;

/// The GPU with its kernels, one test at a time: how they are cut is the process's.
fn gpu(test: &str) -> Option<(Device, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let device = common::gpu(test, DeviceChoice::Gpu)?;
    assert!(gpu::profile().is_some(), "a GPU that is open has its kernels");
    Some((device, guard))
}

/// The largest errors by kernel.
fn worst(checks: &[Check]) -> BTreeMap<&'static str, (usize, f32)> {
    let mut worst = BTreeMap::new();
    for check in checks {
        let (count, error) = worst.entry(check.kernel).or_insert((0, 0.0f32));
        (*count, *error) = (*count + 1, error.max(check.error));
    }
    worst
}

#[test]
fn every_kernel_equals_plain_loops() {
    let Some((device, _guard)) = gpu("kernels on a GPU") else { return };
    let found = gpu::profile();
    for profile in [Profile::Hardware, Profile::Software] {
        gpu::set_profile(Some(profile));
        let checks = pollster::block_on(check(&device, 7, ROUNDS)).expect("the device works");
        for (kernel, (count, error)) in worst(&checks) {
            println!("{profile:?}: {kernel}, {count} shapes, largest error {error:.1e}");
        }
        let wrong: Vec<_> = checks.iter().filter(|c| c.error > BOUNDS[0]).collect();
        assert!(wrong.is_empty(), "{profile:?}: {wrong:#?}");
    }
    gpu::set_profile(found);
}

#[test]
fn a_check_of_other_numbers_fails() {
    // The same checks on burn's kernels in their place are refused, not passed.
    let Some((device, _guard)) = gpu("kernels on a GPU") else { return };
    let found = gpu::profile();
    gpu::set_profile(None);
    let refused = pollster::block_on(check(&device, 7, 0));
    gpu::set_profile(found);
    assert!(refused.is_err());
}

/// The upper left part of a photograph.
fn part(width: usize, height: usize) -> RgbImage {
    common::picture().crop(0, 0, width, height).unwrap()
}

fn logits(segmenter: &Segmenter) -> Vec<f32> {
    let size = segmenter.manifest().input_size;
    pollster::block_on(segmenter.logits(&part(size, size))).unwrap().values
}

fn assert_like(what: &str, found: &[f32], expected: &[f32]) {
    let error = common::relative(found, expected);
    println!("{what}: {error:.1e}");
    assert!(error <= LOGITS_TOLERANCE, "{what}: {error:.1e}");
}

#[test]
fn packages_stay_quantized_and_give_the_same_masks() {
    let Some((device, _guard)) = gpu("packages on a GPU") else { return };
    let folder = tempfile::tempdir().unwrap();
    for scheme in Scheme::ALL {
        let out = folder.path().join(scheme.name());
        common::merged("s224_k2", 224, scheme, &out);
        let package = Folder::open(&out).unwrap();
        let [on_gpu, on_cpu] = [device.clone(), common::cpu()]
            .map(|device| pollster::block_on(Segmenter::load(&package, &device, |_| ())).unwrap());
        // The CPU lays floats out as its products read them.
        for (segmenter, is_cpu) in [(&on_gpu, false), (&on_cpu, true)] {
            let block = segmenter.model().image_encoder.blocks()[0];
            for layer in [block.qkv, block.proj, Some(block.lin1)].into_iter().flatten() {
                let weight = &layer.linear.weight;
                assert!(match scheme {
                    Scheme::Q8 => matches!(weight, Weight::Q8(_)),
                    Scheme::Q4 => matches!(weight, Weight::Q4(_)),
                    Scheme::F32 | Scheme::F16 if is_cpu => matches!(weight, Weight::Panels(_)),
                    Scheme::F32 | Scheme::F16 => matches!(weight, Weight::Dense(_)),
                });
            }
        }
        assert_like(scheme.name(), &logits(&on_gpu), &logits(&on_cpu));
        // Class and confidence from the GPU itself, of a picture that fills the input and of one that does not.
        for (width, height) in [(224, 224), (150, 201)] {
            let picture = part(width, height);
            let options = SegmentOptions::default();
            let [gpu, cpu] =
                [&on_gpu, &on_cpu].map(|s| pollster::block_on(s.segment(&picture, &options)).unwrap().mask);
            let same = gpu.classes.iter().zip(&cpu.classes).filter(|(a, b)| a == b).count();
            assert!(same * 1000 >= cpu.classes.len() * 999, "{same} of {} pixels", cpu.classes.len());
            let worst = gpu.confidence.iter().zip(&cpu.confidence).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(2), "confidence: {worst:?}");
        }
    }
}

#[test]
fn adapters_on_a_quantized_base_are_two_small_products() {
    let Some((device, _guard)) = gpu("adapters on a GPU") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (base, adapters) = common::base_and_adapters(folder.path(), Scheme::Q8, &[("s224_k2", 224)]);
    let [on_gpu, on_cpu] = [device, common::cpu()].map(|device| {
        let bare = pollster::block_on(Segmenter::load(&Folder::open(&base).unwrap(), &device, |_| ())).unwrap();
        pollster::block_on(bare.load_adapter(&Folder::open(&adapters[0]).unwrap(), |_| ())).unwrap()
    });
    let qkv = on_gpu.model().image_encoder.blocks()[0].qkv.unwrap();
    assert!(matches!(qkv.linear.weight, Weight::Q8(_)) && qkv.joined.is_some() && qkv.adapters.is_empty());
    assert_like("base and adapter", &logits(&on_gpu), &logits(&on_cpu));
}

#[test]
fn odd_widths_take_burns_kernels_and_odd_architectures_are_refused() {
    let Some((device, _guard)) = gpu("odd widths on a GPU") else { return };
    let values = |count: usize| (0..count).map(|i| (i * 37 % 11) as f32 - 5.0).collect::<Vec<_>>();
    let [found, expected] = [device.clone(), common::cpu()].map(|device| {
        let [x, w, bias] =
            [[5, 12], [12, 7], [1, 7]].map(|shape| kernels::upload(values(shape[0] * shape[1]), shape, &device));
        let epilogue = Epilogue { bias: Some(bias.reshape([7])), activation: Activation::Relu, ..Epilogue::default() };
        let y = kernels::linear(x, Matrix::Dense(w), epilogue);
        y.into_data().convert::<f32>().try_into_vec::<f32>().unwrap()
    });
    assert_like("7 columns", &found, &expected);

    let mut config = Backbone::named("tiny").unwrap().config(3);
    assert!(config.is_in_fours());
    (config.embed_dim, config.num_heads) = (42, 3);
    let refused = random_model(&config, 1, Scheme::F32, &device).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("multiples of 4"), "{refused}");
}
