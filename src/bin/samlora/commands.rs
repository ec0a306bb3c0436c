//! One file a subcommand.

pub mod bench;
#[cfg(feature = "train")]
pub mod data_args;
pub mod demo;
pub mod download;
#[cfg(feature = "train")]
pub mod evaluate;
pub mod export;
pub mod inspect;
#[cfg(feature = "train")]
pub mod lr_find;
pub mod segment;
pub mod merge;
pub mod serve;
pub mod source_args;
#[cfg(feature = "train")]
pub mod teacher_args;
#[cfg(feature = "train")]
pub mod train;

use std::io::Write;

use samlora::engine::{Device, DeviceChoice};
use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::source::PassedOver;

/// A path that a run can be gone on with from another folder.
#[cfg(feature = "train")]
fn absolute(path: &std::path::Path) -> Result<std::path::PathBuf> {
    std::path::absolute(path).map_err(|e| Error::from(e).at(path.display()))
}

/// Prints one JSON value on a line of stdout.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    say(format_args!("{value}"))
}

/// Prints a line on stdout. `println!` would panic where stdout is closed or its disk is full.
pub fn say(line: std::fmt::Arguments) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_fmt(line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written.map_err(|e| Error::from(e).at("standard output"))
}

/// What a checkpoint holds beside its weights, in a line; `None` if nothing.
pub fn beside_the_weights(values: &[PassedOver]) -> Option<String> {
    let named: Vec<String> = values.iter().take(5).map(ToString::to_string).collect();
    let (count, more) = match values.len() {
        0 => return None,
        1 => ("1 value beside the weights is".to_owned(), String::new()),
        n => (format!("{n} values beside the weights are"), if n > 5 { ", ..".to_owned() } else { String::new() }),
    };
    Some(format!("{count} passed over: {}{more}", named.join(", ")))
}

/// This process's largest resident memory so far in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
}

/// Bytes as a number with a unit, decimal as in file sizes.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Opens a device, and says so where a GPU computes right numbers with burn's kernels only.
pub fn open_device(choice: DeviceChoice) -> Result<Device> {
    let device = pollster::block_on(samlora::engine::open_device(choice))?;
    #[cfg(feature = "gpu")]
    if choice != DeviceChoice::Cpu && samlora::kernels::gpu::profile().is_none() {
        eprintln!(
            "this GPU's driver computes wrong numbers with the program's own kernels; burn's, which are slower, are used"
        );
    }
    Ok(device)
}

/// Uses `threads` threads for all computing on the CPU; all cores without.
pub fn set_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|e| Error::new(ErrorKind::Invalid, "cannot be set").at("--threads").source(e))
}
