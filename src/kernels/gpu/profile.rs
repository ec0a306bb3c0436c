//! How kernels are cut for this process's GPU.

use std::sync::atomic::{AtomicU8, Ordering};

/// How kernels are cut: what suits hardware, with memory shared by a workgroup, is slow on a GPU that is computed by a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Tiles in shared memory, loaded by whole workgroups.
    Hardware,
    /// Registers alone: barriers are dear there.
    Software,
}

/// Off, or a profile: the kernels of this process's GPU, which is opened once.
static MODE: AtomicU8 = AtomicU8::new(OFF);
const OFF: u8 = 0;
const HARDWARE: u8 = 1;
const SOFTWARE: u8 = 2;

/// Uses these kernels with `profile` from now on, or, with none, burn's own operations.
pub fn set_profile(profile: Option<Profile>) {
    let mode = match profile {
        None => OFF,
        Some(Profile::Hardware) => HARDWARE,
        Some(Profile::Software) => SOFTWARE,
    };
    MODE.store(mode, Ordering::Relaxed);
}

/// The profile in use; none stands for burn's own operations.
pub fn profile() -> Option<Profile> {
    match MODE.load(Ordering::Relaxed) {
        HARDWARE => Some(Profile::Hardware),
        SOFTWARE => Some(Profile::Software),
        _ => None,
    }
}

/// Whether kernels are cut for hardware.
pub fn is_hardware() -> bool {
    profile() != Some(Profile::Software)
}
