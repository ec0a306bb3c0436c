//! What a run's teacher and unlabelled images come to: opened, checked against the data, hashed.

use std::sync::Arc;

use burn::tensor::Device;

use super::batch::Lessons;
use super::dataset::{Dataset, SoftMasks, Unlabelled, Wanted};
use super::run_folder::{TeacherOrigin, UnlabelledOrigin};
use super::teacher::{Student, Teacher, TeacherSettings, is_package};
use crate::config::Normalization;
use crate::error::{Error, ErrorKind, Result};

/// A teacher, ready to teach.
pub struct Teaching {
    /// The model, where it is a package.
    pub teacher: Option<Teacher>,
    /// What the batches take beside labelled samples.
    pub lessons: Arc<Lessons>,
    /// What it is.
    pub origin: TeacherOrigin,
}

/// Opens the teacher of a run and its unlabelled images. `message` gets what people should know.
///
/// # Errors
/// [`ErrorKind::Invalid`] for settings that this teacher cannot follow; those of [`Teacher::open`], [`SoftMasks::open`] and
/// [`Unlabelled::open`].
pub fn open(
    settings: &TeacherSettings,
    dataset: &Dataset,
    [train, valid]: [&[usize]; 2],
    normalization: &Normalization,
    device: &Device,
    message: &mut dyn FnMut(String),
) -> Result<Teaching> {
    let share = if settings.unlabelled.is_empty() { 0.0 } else { settings.unlabelled_share };
    let unlabelled = match settings.unlabelled.as_slice() {
        [] => Unlabelled::default(),
        folders => Unlabelled::open(folders, dataset, valid)?,
    };
    let unlabelled_origin = match unlabelled.images.len() {
        0 => None,
        images => {
            let left_out = unlabelled.left_out;
            message(format!(
                "{images} unlabelled images; {left_out} left out, which show ground of the validation chips"
            ));
            Some(UnlabelledOrigin { images, left_out, sha256: unlabelled.hash()? })
        }
    };
    let path = settings.path.clone();
    let (teacher, masks, name, sha256) = if is_package(&path) {
        let metres_per_pixel = dataset.ground_resolution(train);
        let student = Student { classes: &dataset.classes, normalization, metres_per_pixel };
        let teacher = Teacher::open(&path, settings.weights(), student, device)?;
        if teacher.zoom() != 1.0 {
            message(format!(
                "the teacher sees crops {:.2} times as large, at its own ground resolution",
                teacher.zoom()
            ));
        }
        let (name, hash) = (teacher.manifest().name.clone(), teacher.manifest().content_hash());
        (Some(teacher), None, name, hash)
    } else {
        if !path.is_dir() {
            return Err(Error::new(ErrorKind::NotFound, "is neither a package nor a folder of soft masks")
                .at(path.display())
                .remedy(
                    "name what `samlora export` wrote, or a folder with a raster of probabilities for each image",
                ));
        }
        if settings.features > 0.0 {
            return Err(Error::new(ErrorKind::Invalid, "soft masks have no features")
                .at("--teacher-features")
                .remedy("give a package as --teacher, or leave it out"));
        }
        // With unlabelled crops alone nothing is asked about the labelled ones.
        let labelled: &[usize] = if share == 1.0 { &[] } else { train };
        let known = labelled.iter().filter_map(|&index| {
            let sample = dataset.samples.get(index)?;
            Some(Wanted { index, image: sample.image.clone(), width: sample.width, height: sample.height })
        });
        let more = unlabelled.images.iter().zip(dataset.samples.len()..).map(|(image, index)| Wanted {
            index,
            image: image.image.clone(),
            width: image.width,
            height: image.height,
        });
        let wanted: Vec<Wanted> = known.chain(more).collect();
        let masks = SoftMasks::open(&path, &wanted, dataset.classes.len())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = masks.hash()?;
        (None, Some(masks), name, hash)
    };
    message(format!("taught by {name}"));
    let origin = TeacherOrigin { path, name, sha256, unlabelled: unlabelled_origin };
    Ok(Teaching { teacher, lessons: Arc::new(Lessons { masks, unlabelled, share }), origin })
}

/// Checks the numbers of a teacher's settings.
///
/// # Errors
/// [`ErrorKind::Invalid`] naming the option.
pub fn check(settings: &TeacherSettings) -> Result<()> {
    let TeacherSettings { weight, features, temperature, unlabelled_share, .. } = *settings;
    let problem = |message: String, at: &str| Err(Error::new(ErrorKind::Invalid, message).at(at));
    if !(0.0..=1.0).contains(&weight) {
        return problem(format!("{weight} is not within 0 and 1"), "--teacher-weight");
    }
    if !(features >= 0.0 && features.is_finite()) {
        return problem(format!("{features} is not a number from 0 on"), "--teacher-features");
    }
    if weight == 0.0 && features == 0.0 {
        return problem("this and --teacher-features are 0: nothing would be taught".into(), "--teacher-weight");
    }
    if !(0.1..=100.0).contains(&temperature) {
        return problem(format!("{temperature} is not within 0.1 and 100"), "--teacher-temperature");
    }
    if !(unlabelled_share > 0.0 && unlabelled_share <= 0.95 || unlabelled_share == 1.0) {
        return problem(format!("{unlabelled_share} is neither above 0 and at most 0.95, nor 1"), "--unlabelled-share");
    }
    Ok(())
}
