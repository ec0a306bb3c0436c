//! The command `samlora`; `samlora --help` tells what it can do.

mod args;
mod commands;
mod progress;

use clap::Parser;

use args::{Cli, Command};

fn main() -> std::process::ExitCode {
    keep_freed_memory();
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Segment(args) => commands::segment::run(args),
        Command::Merge(args) => commands::merge::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Export(args) => commands::export::run(args),
        #[cfg(feature = "train")]
        Command::Train(args) => commands::train::run(args),
        #[cfg(feature = "train")]
        Command::LrFind(args) => commands::lr_find::run(args),
        #[cfg(feature = "train")]
        Command::Evaluate(args) => commands::evaluate::run(args),
        Command::Download(args) => commands::download::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Demo(args) => commands::demo::run(args),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Tensors of some megabytes come and go with every operation. By default glibc hands such blocks back to the system each
/// time and faults them in again, which is a tenth of an encoder's time; this keeps them. Peak memory is the same.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets numbers of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}
