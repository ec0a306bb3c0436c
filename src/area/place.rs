//! A raster's place as a plan keeps it: exact numbers as text, as reading JSON's numbers may change their last bit.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, GeoKeys, Georef};

/// A [`Georef`] in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// [`Georef::transform`].
    pub transform: [String; 6],
    /// [`Crs::epsg`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsg: Option<u32>,
    /// [`Crs::keys`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
}

/// [`GeoKeys`] in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    directory: Vec<u16>,
    doubles: Vec<String>,
    ascii: String,
}

impl From<&Georef> for Place {
    fn from(georef: &Georef) -> Self {
        let text = |v: &f64| format!("{v:?}");
        let keys = |keys: &GeoKeys| Keys {
            directory: keys.directory.clone(),
            doubles: keys.doubles.iter().map(text).collect(),
            ascii: keys.ascii.clone(),
        };
        Self {
            transform: georef.transform.map(|v| text(&v)),
            epsg: georef.crs.epsg,
            keys: georef.crs.keys.as_ref().map(keys),
        }
    }
}

impl Place {
    /// The place that was kept.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a number is none.
    pub fn georef(&self) -> Result<Georef> {
        let number = |text: &String| {
            text.parse::<f64>().map_err(|_| Error::new(ErrorKind::Format, format!("{text:?} in a place is no number")))
        };
        let mut transform = [0.0; 6];
        for (to, from) in transform.iter_mut().zip(&self.transform) {
            *to = number(from)?;
        }
        let keys = |keys: &Keys| -> Result<GeoKeys> {
            let doubles = keys.doubles.iter().map(number).collect::<Result<_>>()?;
            Ok(GeoKeys { directory: keys.directory.clone(), doubles, ascii: keys.ascii.clone() })
        };
        let keys = self.keys.as_ref().map(keys).transpose()?;
        Ok(Georef { transform, crs: Crs { epsg: self.epsg, keys } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_to_the_last_bit() {
        let keys =
            GeoKeys { directory: vec![1, 1, 0, 0], doubles: vec![1.0 / 3.0, f64::MIN_POSITIVE], ascii: "x|".into() };
        let transform = [0.1 + 0.2, 0.0, 432_100.123_456_789, -0.0, -1.0 / 7.0, 5e6 + 1.0 / 3.0];
        let georef = Georef { transform, crs: Crs { epsg: None, keys: Some(keys) } };
        let text = serde_json::to_string(&Place::from(&georef)).expect("JSON");
        let back = serde_json::from_str::<Place>(&text).expect("JSON").georef().expect("numbers");
        assert_eq!(back.transform.map(f64::to_bits), georef.transform.map(f64::to_bits));
        assert_eq!(back, georef);
        let bad = text.replace("\"-0.0\"", "\"here\"");
        assert!(serde_json::from_str::<Place>(&bad).expect("JSON").georef().is_err());
    }
}
