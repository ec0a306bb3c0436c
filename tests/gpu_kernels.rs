//! Each kernel of our own on a GPU, cut for hardware and for software, against plain loops: on its worst cases and on random
//! shapes, among memory that holds no numbers. The browser's tests run the same checks.

use samlora::engine::{DeviceChoice, open_device};
use samlora::kernels::gpu::{self, BOUNDS, Profile, check};

/// Random shapes of each kernel.
const ROUNDS: usize = 6;

#[test]
fn every_kernel_equals_plain_loops() {
    let device = match pollster::block_on(open_device(DeviceChoice::Gpu)) {
        Ok(device) => device,
        Err(error) => {
            assert!(std::env::var_os("SAMLORA_REQUIRE_GPU").is_none(), "{error}");
            println!("left out: kernels on a GPU, {error}");
            return;
        }
    };
    let found = gpu::profile().expect("a GPU that is open has its kernels");
    for profile in [Profile::Hardware, Profile::Software] {
        gpu::set_profile(Some(profile));
        let checks = pollster::block_on(check(&device, 7, ROUNDS)).expect("the device works");
        let wrong: Vec<_> = checks.iter().filter(|c| c.error.is_nan() || c.error > BOUNDS[0]).collect();
        assert!(wrong.is_empty(), "{profile:?}: {wrong:#?}");
        let mut kernels: Vec<_> = checks.iter().map(|check| check.kernel).collect();
        kernels.dedup();
        for kernel in kernels {
            let of: Vec<_> = checks.iter().filter(|check| check.kernel == kernel).collect();
            let worst = of.iter().map(|check| check.error).fold(0.0, f32::max);
            println!("{profile:?}: {kernel}, {} shapes, largest error {worst:.1e}", of.len());
        }
    }
    gpu::set_profile(Some(found));
}
