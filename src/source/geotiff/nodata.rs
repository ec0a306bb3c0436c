//! The value that marks samples without data, as GDAL understands it.

/// What the tag GDAL_NODATA says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NoData {
    value: f64,
    /// The value if it is a whole number; 64-bit integers hold more digits than `f64`.
    whole: Option<i128>,
}

impl NoData {
    /// From the tag's text; none if it holds no number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).split_whitespace().next()?;
        let lower = text.to_ascii_lowercase();
        // As C libraries have written "not a number".
        let value = if ["nan", "#qnan", "#snan", "#ind"].iter().any(|n| lower.contains(n)) {
            f64::NAN
        } else {
            text.parse().ok()?
        };
        let exact = (value.fract() == 0.0 && value.abs() < 1e30).then_some(value as i128);
        Some(Self { value, whole: text.parse().ok().or(exact) })
    }

    /// The value.
    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// Whether a whole number is the value. One that the samples' type cannot hold marks nothing.
    pub(super) fn is_whole(&self, sample: i128) -> bool {
        self.whole == Some(sample)
    }

    /// Whether a number in single precision is the value. The tag holds decimal text, often of fewer digits than the
    /// number: GDAL lets two units in the last place pass.
    pub(super) fn is_single(&self, sample: f32) -> bool {
        let none = self.value as f32;
        if none.is_nan() {
            return sample.is_nan();
        }
        near(f64::from(sample), f64::from(none), f64::from(f32::EPSILON))
    }

    /// As [`NoData::is_single`], in double precision.
    pub(super) fn is_double(&self, sample: f64) -> bool {
        if self.value.is_nan() {
            return sample.is_nan();
        }
        near(sample, self.value, f64::EPSILON)
    }
}

/// GDAL's ARE_REAL_EQUAL: |a - b| < 2 epsilon |a + b|.
fn near(a: f64, b: f64, epsilon: f64) -> bool {
    a == b || (a - b).abs() < 2.0 * epsilon * (a + b).abs()
}

#[cfg(test)]
mod tests {
    use super::NoData;

    fn parsed(text: &str) -> NoData {
        NoData::parse(text).expect("a number")
    }

    #[test]
    fn values_as_files_write_them() {
        assert!(parsed("-9999.0").is_whole(-9999) && parsed("1e3\0").is_whole(1000) && !parsed("0.5").is_whole(0));
        assert!(parsed(" 255 ").is_whole(255) && !parsed("256").is_whole(0));
        // Beyond what a double holds.
        assert!(parsed("9223372036854775807").is_whole(i64::MAX.into()));
        assert!(!parsed("9223372036854775807").is_whole(i64::MAX as i128 - 1));
        assert!(
            parsed("nan").is_single(f32::NAN)
                && parsed("-1.#QNAN").is_double(f64::NAN)
                && !parsed("nan").is_single(0.0)
        );
        assert!(parsed("-3.4028235e+38").is_single(f32::MIN) && parsed("-3.39999995214436e+38").is_single(-3.4e38));
        assert!(parsed("0.1").is_single(0.1) && !parsed("0.1").is_single(0.100_001) && !parsed("0").is_single(1e-30));
        assert!(NoData::parse("").is_none() && NoData::parse("none").is_none());
    }
}
