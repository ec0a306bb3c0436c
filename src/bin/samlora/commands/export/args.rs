//! `samlora export`'s arguments.

use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "train")]
use samlora::train::thresholds::ThresholdFor;
use samlora::weights::quantize::Scheme;

/// Writes a package folder, or a .samlora file if --out ends so
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// SAM's checkpoint: .pth, safetensors, or a Hugging Face folder
    #[arg(long, value_name = "FILE", required_unless_present = "run")]
    pub base: Option<PathBuf>,
    /// A run of `samlora train`: its best weights, measured on its validation samples
    #[cfg(feature = "train")]
    #[arg(long, value_name = "RUN", conflicts_with_all = ["base", "adapter", "classes", "alpha", "input_size", "tile_size", "ground_resolution"])]
    pub run: Option<PathBuf>,
    /// LoRA checkpoint to merge into it (SAMed's naming or this program's), with or without a decoder
    #[arg(long, value_name = "FILE")]
    pub adapter: Option<PathBuf>,
    /// Write the adapter alone, for this base package
    #[arg(long, value_name = "PACKAGE")]
    pub base_package: Option<PathBuf>,
    /// LoRA's alpha; the scale is alpha / rank, 1 without (SAMed)
    #[arg(long, requires = "adapter")]
    pub alpha: Option<f64>,
    /// Heads of the decoder, for a model that is none of the known backbones: its tensors do not tell them
    #[arg(long, value_name = "N")]
    pub decoder_heads: Option<usize>,
    /// Class names without background, in channel order; with colours as name=#rrggbb
    #[arg(long, value_delimiter = ',', value_name = "A,B,..")]
    pub classes: Vec<String>,
    /// f32, f16, q8 or q4
    #[arg(long, default_value = "q8")]
    pub scheme: Scheme,
    /// Side of the network's input in pixels [default: the backbone's]
    #[arg(long)]
    pub input_size: Option<usize>,
    /// Side of the tile inside the input in pixels [default: the backbone's]
    #[arg(long)]
    pub tile_size: Option<usize>,
    /// Metres per pixel that the model is for
    #[arg(long)]
    pub ground_resolution: Option<f64>,
    /// Choose a class's threshold on the run's validation samples: CLASS=best-f1, best-iou, precision:0.9 or recall:0.8; may be repeated
    #[cfg(feature = "train")]
    #[arg(long, value_name = "CLASS=WISH", requires = "run")]
    pub threshold_for: Vec<ThresholdFor>,
    /// A name for people [default: the output's]
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the weights
    #[arg(long, default_value = "")]
    pub licence: String,
    /// Whom to name for weights and data
    #[arg(long, default_value = "")]
    pub attribution: String,
    /// Package folder or .samlora file to write
    #[arg(long, value_name = "PACKAGE")]
    pub out: PathBuf,
    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}
