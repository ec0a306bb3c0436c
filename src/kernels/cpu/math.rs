//! Functions of f32 that compilers turn into SIMD code: no calls, no branches.

/// e^x with a relative error of at most 2e-7, for x from -87 to 88; below, e^-87 (1.6e-38).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the mantissa's low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, so that the remainder keeps its digits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Minimax polynomial of (e^r - 1 - r) / r^2 on +-ln 2 / 2 (Cephes, expf)
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_3e-1;
    let value = p * r * r + r + 1.0;
    f32::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The normal distribution's tail beyond |x|, `(1 - erf(|x| / sqrt 2)) / 2` by Abramowitz and Stegun 7.1.26, and `e^(-x^2 / 2)`.
#[inline(always)]
fn tail(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let density = exp(-z * z);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    (0.5 * p * t * density, density)
}

/// `x / 2 (1 + erf(x / sqrt 2))` with an absolute error of at most 4e-7 |x|, rounding included.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let (tail, _) = tail(x);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// The derivative of [`gelu`], `P(x) + x p(x)` with the normal distribution's P and p; absolute error at most 1e-6.
#[cfg(feature = "train")]
#[inline(always)]
pub fn gelu_slope(x: f32) -> f32 {
    const FRAC_1_SQRT_2PI: f32 = 0.398_942_3;
    let (tail, density) = tail(x);
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    below + x * density * FRAC_1_SQRT_2PI
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_within_its_bound() {
        for i in -870_000..880_000 {
            let x = i as f32 / 10_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(super::exp(x)) - exact).abs() / exact;
            assert!(error <= 2e-7, "exp({x}): {error:.2e}");
        }
        assert!(super::exp(-1e30) < 2e-38 && super::exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn gelu_is_within_its_bound() {
        // erf by its series, in f64
        let erf = |z: f64| {
            let (mut term, mut sum) = (z, z);
            for n in 1..200 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -4_000..4_000 {
            let x = i as f32 / 1_000.0;
            let exact = f64::from(x) / 2.0 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2));
            let error = (f64::from(super::gelu(x)) - exact).abs();
            assert!(error <= 4e-7 * f64::from(x.abs()), "gelu({x}): {error:.2e}");
        }
        assert!(super::gelu(-100.0).abs() < 1e-36);
        assert_eq!(super::gelu(100.0), 100.0);
    }
}
