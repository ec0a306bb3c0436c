//! The GPU in 16-bit floating point beside the CPU in 32: the stages of the self-test, and the masks of a fixture. A file of its
//! own, because a program opens its GPU in one precision. `SAMLORA_REQUIRE_GPU=1` makes a missing GPU a failure.
#![allow(clippy::unwrap_used)] // in a test, a panic is the report

mod common;

use common::{CASES, cpu, merged, reference, relative};
use samlora::engine::{Device, DeviceChoice, SegmentOptions, Segmenter, open_device, self_test};
use samlora::kernels::check::{BOUNDS, check};
use samlora::weights::folder::Folder;
use samlora::weights::quantize::Scheme;

/// What a browser accepts of a GPU in 16 bits (`www/src/selftest.ts`); about 3e-3 is measured.
const TOLERANCE: f32 = 2e-2;

fn half_gpu(test: &str) -> Option<Device> {
    common::gpu(test, DeviceChoice::HalfGpu)
}

#[test]
fn every_stage_is_near_the_cpus() {
    let Some(gpu) = half_gpu("16-bit stages") else { return };
    let expected = pollster::block_on(self_test(&cpu())).unwrap();
    let found = pollster::block_on(self_test(&gpu)).unwrap();
    for ((stage, expected), (_, found)) in expected.iter().zip(&found) {
        let error = relative(found, expected);
        println!("{stage}: relative error {error:.1e}");
        // Equal numbers would mean that it did not compute in 16 bits.
        assert!(error < TOLERANCE && error > 1e-5, "{stage}: {error}");
    }
    // The other precision is refused rather than mixed in.
    assert!(pollster::block_on(open_device(DeviceChoice::Gpu)).unwrap_err().to_string().contains("precision"));
}

#[test]
fn masks_differ_only_where_classes_tie() {
    let Some(gpu) = half_gpu("16-bit masks") else { return };
    let scratch = tempfile::tempdir().unwrap();
    for (case, size) in CASES {
        let folder = scratch.path().join(case);
        merged(case, size, Scheme::Q8, &folder);
        let (image, _) = reference(case).swap_remove(0);
        let masks = [cpu(), gpu.clone()].map(|device| {
            let segmenter =
                pollster::block_on(Segmenter::load(&Folder::open(&folder).unwrap(), &device, |_| ())).unwrap();
            pollster::block_on(segmenter.segment(&image, &SegmentOptions::default())).unwrap().mask
        });
        let [expected, found] = &masks;
        let same = expected.classes.iter().zip(&found.classes).filter(|(a, b)| a == b).count();
        println!("{case}: {:.3} % of pixels equal", 100.0 * same as f64 / (size * size) as f64);
        assert!(same * 1000 >= size * size * 990, "{case}: {same} of {}", size * size);
    }
}

#[test]
fn every_kernel_equals_plain_loops_in_16_bits() {
    let Some(device) = half_gpu("16-bit kernels") else { return };
    let checks = pollster::block_on(check(&device, 9, 2)).unwrap();
    let wrong: Vec<_> = checks.iter().filter(|check| check.error.is_nan() || check.error > BOUNDS[1]).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Equal numbers would mean that it did not compute in 16 bits.
    let products = checks.iter().filter(|check| check.kernel == "product").map(|check| check.error);
    let worst = products.fold(0.0, f32::max);
    println!("products: largest error {worst:.1e}");
    assert!(worst > 1e-5, "{worst}");
}
