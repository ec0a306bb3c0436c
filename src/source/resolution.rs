//! At which ground resolution a model sees an image.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// Pixels that differ by less than this factor from those that a model was trained on are taken as they are.
pub const SAME: f64 = 1.25;
/// Beyond this factor nobody has seen whether a model's masks are any good, and it is not done unasked.
pub const FARTHEST: f64 = 4.0;
/// Unresampled pixels that differ by more than this factor are warned of.
const WORTH_A_WARNING: f64 = 2.0;
/// A resolution that was asked for is met to this factor.
const EXACT: f64 = 1.001;

/// At which ground resolution a model is to see an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resolution {
    /// That of its training.
    Model,
    /// That of the image.
    Native,
    /// So many metres a pixel.
    Metres(f64),
}

impl FromStr for Resolution {
    type Err = Error;

    /// `model`, `native`, or a number of metres.
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_suffix('m').unwrap_or(text).parse::<f64>()) {
            ("model", _) => Ok(Self::Model),
            ("native", _) => Ok(Self::Native),
            (_, Ok(metres)) if metres.is_finite() && metres > 0.0 => Ok(Self::Metres(metres)),
            _ => Err(Error::new(ErrorKind::Invalid, format!("{text:?} is no resolution"))
                .remedy("give metres per pixel (0.3), native or model")),
        }
    }
}

/// What to do with an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which of its levels to read.
    pub level: usize,
    /// How many times as large as that level's pixels the model's are to be, to a side; 1 to take them as they are.
    pub factor: f64,
    /// What people should know of it.
    pub warning: Option<String>,
}

/// Chooses the level of an image, from the finest on and each with its metres a pixel as far as they are known, and by which factor
/// it is resampled, for a model that was trained at `model` metres.
///
/// The level is the coarsest whose pixels are no larger than wanted, else the finest. What nobody `asked` for is the model's
/// resolution: pixels within a factor of [`SAME`] are then taken as they are, and levels beyond [`FARTHEST`] refused.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is refused so, or a resolution was asked for and the image's or the model's is not known.
pub fn choose(levels: &[Option<f64>], model: Option<f64>, asked: Option<Resolution>) -> Result<Choice> {
    let as_it_is = |warning| Ok(Choice { level: 0, factor: 1.0, warning });
    let finest = levels.first().copied().flatten();
    let unknown = |what: &str| {
        Err(Error::new(ErrorKind::Invalid, format!("the ground resolution of the {what} is not known"))
            .at("--resolution")
            .remedy("georeference the image, or leave the option out"))
    };
    let (wanted, tolerance) = match (asked, model) {
        (Some(Resolution::Native), _) => {
            return as_it_is(finest.zip(model).and_then(|(pixel, model)| differs(pixel, model)));
        }
        (Some(Resolution::Metres(metres)), _) => (metres, EXACT),
        (Some(Resolution::Model), Some(metres)) => (metres, EXACT),
        (Some(Resolution::Model), None) => return unknown("model"),
        (None, Some(metres)) => (metres, SAME),
        (None, None) => return as_it_is(None),
    };
    let Some(finest) = finest else {
        if asked.is_some() {
            return unknown("image");
        }
        return as_it_is(Some(format!(
            "its ground resolution is not known; the model was trained on pixels of {wanted:.3} m, and masks are poor if these \
             are much larger or smaller (georeference the image)"
        )));
    };
    let is_fine = |metres: &Option<f64>| metres.is_some_and(|m| m <= wanted * EXACT);
    let level = levels.iter().rposition(is_fine).unwrap_or(0);
    let pixel = levels.get(level).copied().flatten().unwrap_or(finest);
    let factor = wanted / pixel;
    let far = factor.max(1.0 / factor);
    if asked.is_none() && far > FARTHEST {
        let than = if factor < 1.0 { "coarser" } else { "finer" };
        let message = format!(
            "its pixels are {pixel:.3} m wide, {far:.1} times {than} than the {wanted:.3} m that the model was trained on: it \
             has seen nothing like it"
        );
        return Err(Error::new(ErrorKind::Invalid, message).remedy(
            "resample it all the same with --resolution model, run it as it is with --resolution native, or take a model for it",
        ));
    }
    Ok(Choice { level, factor: if far <= tolerance { 1.0 } else { factor }, warning: None })
}

/// A warning if pixels that are taken as they are are much larger or smaller than those of the training.
fn differs(pixel: f64, model: f64) -> Option<String> {
    let factor = (pixel / model).max(model / pixel);
    let than = if pixel > model { "coarser" } else { "finer" };
    (factor > WORTH_A_WARNING).then(|| {
        format!(
            "its pixels are {pixel:.3} m wide, {factor:.1} times {than} than the {model:.3} m that the model was trained on: \
             expect poor masks (leave --resolution out to resample it)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_factors() {
        let pyramid = [Some(0.07), Some(0.14), Some(0.28), Some(0.56)];
        let chosen = |levels: &[Option<f64>], model, asked| {
            choose(levels, model, asked).map(|c| (c.level, (c.factor * 100.0).round() / 100.0, c.warning.is_some()))
        };
        assert_eq!(chosen(&pyramid, Some(0.14), None).expect("fits"), (1, 1.0, false));
        assert_eq!(chosen(&pyramid, Some(0.13), None).expect("fits"), (0, 1.86, false));
        assert_eq!(chosen(&pyramid, Some(0.3), None).expect("fits"), (2, 1.0, false));
        assert_eq!(chosen(&pyramid, Some(0.3), Some(Resolution::Model)).expect("fits"), (2, 1.07, false));
        assert_eq!(chosen(&pyramid, Some(0.3), Some(Resolution::Native)).expect("fits"), (0, 1.0, true));
        assert_eq!(chosen(&pyramid, Some(0.08), Some(Resolution::Native)).expect("fits"), (0, 1.0, false));
        assert_eq!(chosen(&pyramid, None, Some(Resolution::Metres(0.5))).expect("fits"), (2, 1.79, false));
        assert_eq!(chosen(&pyramid, Some(0.02), None).expect("fits"), (0, 0.29, false));
        // Coarser than the model by more than 4, and finer with no coarser level.
        for (levels, model, than) in [(&pyramid[..], 0.01, "coarser"), (&pyramid[..1], 0.3, "finer")] {
            let error = choose(levels, Some(model), None).expect_err("too far");
            assert!(error.to_string().contains(than) && error.to_string().contains("--resolution native"), "{error}");
            assert!(choose(levels, Some(model), Some(Resolution::Model)).is_ok());
        }
        assert_eq!(chosen(&[None], Some(0.1), None).expect("as it is"), (0, 1.0, true));
        assert_eq!(chosen(&[None], None, None).expect("as it is"), (0, 1.0, false));
        for asked in [Resolution::Model, Resolution::Metres(0.1)] {
            assert!(choose(&[None], Some(0.1), Some(asked)).is_err());
        }
        assert!(choose(&[Some(0.1)], None, Some(Resolution::Model)).is_err());
    }

    #[test]
    fn words() {
        for (text, resolution) in [
            ("model", Resolution::Model),
            ("native", Resolution::Native),
            ("0.3", Resolution::Metres(0.3)),
            ("2m", Resolution::Metres(2.0)),
        ] {
            assert_eq!(text.parse::<Resolution>().expect("a resolution"), resolution);
        }
        for text in ["", "0", "-1", "nan", "inf", "coarse", "1px"] {
            assert!(text.parse::<Resolution>().is_err(), "{text}");
        }
    }
}
