// Stands before every kernel. T is the type of the device's numbers.
#if half
enable f16;
alias T = f16;
#else
alias T = f32;
#end

#if gelu
// x / 2 (1 + erf(x / sqrt 2)), with Abramowitz and Stegun's 7.1.26: an absolute error of at most 1.5e-7.
fn gelu(v: vec4<f32>) -> vec4<f32> {
  let x = v * 0.70710678118654752;
  let z = abs(x);
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return 0.5 * v * (1.0 + sign(x) * (1.0 - p * exp(-z * z)));
}
#end

fn activate(v: vec4<f32>) -> vec4<f32> {
#if relu
  return max(v, vec4<f32>(0.0));
#else
#if relu6
  return clamp(v, vec4<f32>(0.0), vec4<f32>(6.0));
#else
#if gelu
  return gelu(v);
#else
  return v;
#end
#end
#end
}
