// Abramowitz and Stegun 7.1.26: an absolute error of at most 1.5e-7.
fn erf(v: vec4<f32>) -> vec4<f32> {
  let z = abs(v);
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return sign(v) * (1.0 - p * exp(-z * z));
}

fn gelu(v: vec4<f32>) -> vec4<f32> {
  return 0.5 * v * (1.0 + erf(v * 0.70710678118654752));
}
