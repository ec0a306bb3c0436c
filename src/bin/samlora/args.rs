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
    /// Join the shares of an area that several processes have segmented
    Merge(commands::merge::MergeArgs),
    /// Show what a checkpoint, an adapter, a package or a data set holds
    Inspect(commands::inspect::InspectArgs),
    /// Convert a checkpoint, with or without an adapter, into a package for browsers
    Export(commands::export::ExportArgs),
    /// Train on labelled chips: from images and masks to an adapter, a report and weights to export
    #[cfg(feature = "train")]
    Train(Box<commands::train::TrainArgs>),
    /// Find a learning rate to train with
    #[cfg(feature = "train")]
    LrFind(Box<commands::lr_find::LrFindArgs>),
    /// Measure a package on labelled chips
    #[cfg(feature = "train")]
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Fetch SAM's published checkpoint of a backbone
    Download(commands::download::DownloadArgs),
    /// Measure a backbone on this machine
    Bench(commands::bench::BenchArgs),
    /// Serve the page and packages to a browser, without internet
    Serve(commands::serve::ServeArgs),
    /// Generate a demonstration package and pictures
    Demo(commands::demo::DemoArgs),
}
