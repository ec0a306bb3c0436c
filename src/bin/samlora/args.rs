//! The command line's grammar; each command's options stand beside its code.

use clap::{Parser, Subcommand};

use crate::commands;

/// Class masks of map tiles from a Segment Anything encoder with a LoRA adapter.
#[derive(Debug, Parser)]
#[command(name = "samlora", version = samlora::TOOL_VERSION, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Segment pictures, GeoTIFFs and XYZ folders into class masks, overlays and polygons
    Segment(commands::segment::SegmentArgs),
    /// Show what a checkpoint, an adapter or a package holds
    Inspect(commands::inspect::InspectArgs),
    /// Convert a checkpoint, with or without an adapter, into a package for browsers
    Export(commands::export::ExportArgs),
    /// Fetch SAM's published checkpoint of a backbone
    Download(commands::download::DownloadArgs),
    /// Measure a backbone on this machine
    Bench(commands::bench::BenchArgs),
    /// Serve the page and packages to a browser, without internet
    Serve(commands::serve::ServeArgs),
    /// Generate a demonstration package and pictures
    Demo(commands::demo::DemoArgs),
}
