//! Options of what teaches beside labels.

use std::path::PathBuf;

use clap::Args;
use samlora::error::{Error, ErrorKind, Result};
use samlora::train::teacher::TeacherSettings;

use super::absolute;

/// What teaches beside labels, and how what is learnt is averaged.
#[derive(Debug, Clone, Args)]
pub struct TeacherArgs {
    /// Learn from this model too (a package of the same classes), or from a folder of soft masks: for each image a PNG or
    /// TIFF of class probabilities with its file stem
    #[arg(long, value_name = "PACKAGE|DIR")]
    teacher: Option<PathBuf>,
    /// Share of the teacher's masks in the loss, 0 to 1; the labels have the rest
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", requires = "teacher")]
    teacher_weight: f64,
    /// Weight of matching a teacher package's embedding, beside the masks; 1 is a good value to try
    #[arg(long, default_value_t = 0.0, value_name = "WEIGHT", requires = "teacher")]
    teacher_features: f64,
    /// Temperature of the cross-entropy with the teacher: above 1 its doubts count more
    #[arg(long, default_value_t = 1.0, value_name = "T", requires = "teacher")]
    teacher_temperature: f64,
    /// Folder of images without labels, of which only the teacher speaks; may be repeated
    #[arg(long, value_name = "DIR")]
    unlabelled: Vec<PathBuf>,
    /// Share of unlabelled crops: above 0 and at most 0.95, or 1
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", requires = "unlabelled")]
    unlabelled_share: f64,
    /// Decay of a moving average of what learns, which is then measured and saved; 0.998 suits thousands of steps
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f64>,
}

impl TeacherArgs {
    /// The teacher's settings, if there is one.
    pub fn settings(&self) -> Result<Option<TeacherSettings>> {
        let Some(path) = &self.teacher else {
            return match self.unlabelled.is_empty() {
                true => Ok(None),
                false => Err(Error::new(ErrorKind::Invalid, "of images without labels a teacher must speak")
                    .at("--unlabelled")
                    .remedy("name a package or a folder of soft masks with --teacher")),
            };
        };
        Ok(Some(TeacherSettings {
            path: absolute(path)?,
            weight: self.teacher_weight,
            features: self.teacher_features,
            temperature: self.teacher_temperature,
            unlabelled: self.unlabelled.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
            unlabelled_share: self.unlabelled_share,
        }))
    }
}
