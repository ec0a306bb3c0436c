//! Options of data sets that commands share: what label values mean, and how samples are divided.

use std::path::PathBuf;

use clap::Args;
use samlora::error::{Error, ErrorKind, Result};
use samlora::train::dataset::split::SplitRule;
use samlora::train::dataset::{DatasetOptions, NamedValue, Unlisted};

/// What label values mean.
#[derive(Debug, Clone, Args)]
pub struct LabelArgs {
    /// Label values of pixels that count nowhere, such as unlabelled ones
    #[arg(long, value_name = "VALUE", value_delimiter = ',')]
    pub ignore: Vec<u32>,
    /// Label value of the background class [default: 0]
    #[arg(long, value_name = "VALUE")]
    pub background: Option<u32>,
    /// Classes to keep; all others become background [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub keep: Vec<String>,
    /// What label values of no class become: error, background or ignore
    #[arg(long, default_value = "error", value_name = "RULE")]
    pub unlisted: Unlisted,
    /// Take each value of masks without a class list for a class, however many there are
    #[arg(long)]
    pub every_value: bool,
    /// Bands to read, counted from 1 [default: all without alpha]
    #[arg(long, value_name = "BAND", value_delimiter = ',')]
    pub bands: Vec<usize>,
    /// Name of a label value, instead of the data's own list; one for each value, values of one name are one class
    #[arg(long = "class", value_name = "VALUE=NAME", value_parser = named_value)]
    pub classes: Vec<NamedValue>,
}

impl LabelArgs {
    /// How the data is read.
    pub fn options(&self) -> Result<DatasetOptions> {
        let from_zero = |band: &usize| {
            band.checked_sub(1).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "there is no band 0").at("--bands").remedy("bands are counted from 1")
            })
        };
        let bands = self.bands.iter().map(from_zero).collect::<Result<Vec<_>>>()?;
        Ok(DatasetOptions {
            unlisted: self.unlisted,
            every_value: self.every_value,
            ignore: self.ignore.clone(),
            background: self.background,
            classes: (!self.classes.is_empty()).then(|| self.classes.clone()),
            bands: (!bands.is_empty()).then_some(bands),
            keep: (!self.keep.is_empty()).then(|| self.keep.clone()),
        })
    }
}

fn named_value(text: &str) -> std::result::Result<NamedValue, String> {
    let (value, name) = text.split_once('=').ok_or("write VALUE=NAME, for example 10=building")?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no whole number from 0 on"))?;
    match name.trim() {
        "" => Err("the name is empty".to_owned()),
        name => Ok(NamedValue { value, name: name.to_owned() }),
    }
}

/// The share of samples that validate, unless told otherwise.
pub const VALID_SHARE: f64 = 0.2;

/// How samples are divided into training and validation.
#[derive(Debug, Clone, Args)]
pub struct SplitArgs {
    /// How to choose validation samples: place keeps ground apart, random only what overlaps
    #[arg(long, default_value = "place", value_name = "RULE", value_parser = ["place", "random"])]
    pub split: String,
    /// Folder of validation samples, besides the data
    #[arg(long, value_name = "DIR", conflicts_with_all = ["valid_list", "groups"])]
    pub valid_data: Option<PathBuf>,
    /// File that names the validation samples, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "groups")]
    pub valid_list: Option<PathBuf>,
    /// CSV file name,group: samples of a group stay together
    #[arg(long, value_name = "FILE.csv")]
    pub groups: Option<PathBuf>,
    /// Share of samples, and of each class's pixels, to validate on
    #[arg(long, default_value_t = VALID_SHARE, value_name = "SHARE")]
    pub valid_share: f64,
    /// Side of the grid cells that --split place keeps together [default: only where samples overlap throughout]
    #[arg(long, value_name = "METRES")]
    pub cell_metres: Option<f64>,
    /// Another number chooses other validation samples
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub split_seed: u64,
}

impl SplitArgs {
    /// The rule that was asked for.
    pub fn rule(&self) -> Result<SplitRule> {
        let given = [self.valid_data.is_some(), self.valid_list.is_some(), self.groups.is_some()];
        if self.cell_metres.is_some() && (given.contains(&true) || self.split != "place") {
            return Err(Error::new(ErrorKind::Invalid, "cells are for --split place only").at("--cell-metres"));
        }
        Ok(match self {
            Self { valid_data: Some(folder), .. } => SplitRule::Folder(folder.clone()),
            Self { valid_list: Some(file), .. } => SplitRule::List(file.clone()),
            Self { groups: Some(file), .. } => SplitRule::Groups(file.clone()),
            Self { split, .. } if split == "random" => SplitRule::Random,
            Self { cell_metres, .. } => SplitRule::Place { cell_metres: *cell_metres },
        })
    }

    /// All folders to open: the data, then that of validation samples.
    pub fn folders(&self, data: &[PathBuf]) -> Vec<PathBuf> {
        data.iter().chain(&self.valid_data).cloned().collect()
    }
}
