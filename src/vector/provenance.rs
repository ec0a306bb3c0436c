//! Where polygons come from: said once in every file that has a place for it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// What made a set of polygons, out of what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// The program: name, version and revision.
    pub tool: String,
    /// [`content_hash`](crate::weights::manifest::Manifest::content_hash) of the package, SHA-256.
    pub model_sha256: String,
    /// The input's name.
    pub source: String,
    /// Side of a pixel on the ground in metres, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution_m: Option<f64>,
    /// Day on which it was made, `YYYY-MM-DD`, UTC.
    pub date: String,
}

impl Provenance {
    /// As a JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Today, UTC, as `YYYY-MM-DD`; the day that `SOURCE_DATE_EPOCH` (seconds since 1970) says where it is set, so that
/// outputs can be made again byte by byte.
pub fn today() -> String {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|s| s.parse::<u64>().ok());
    let seconds = fixed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    let [year, month, day] = civil(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`).
fn civil(days: u64) -> [u64; 3] {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    [year + era * 400 + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (days, date) in [
            (0, [1970, 1, 1]),
            (59, [1970, 3, 1]),
            (11_016, [2000, 2, 29]),
            (20_000, [2024, 10, 4]),
            (47_540, [2100, 2, 28]),
        ] {
            assert_eq!(civil(days), date);
        }
        assert_eq!(today().len(), 10);
    }
}
