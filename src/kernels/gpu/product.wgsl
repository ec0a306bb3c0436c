// Rows and columns of the result (columns in fours) and terms of a sum (in fours).
const M = 0u;
const N4 = 1u;
const K4 = 2u;
// Rows after which `add` and `residual` start again.
const ADD_ROWS = 3u;
const RESIDUAL_ROWS = 4u;
// Of the image that is gathered from or scattered to: rows, columns, channels in fours (bands of an image in patches).
const H = 5u;
const W = 6u;
const C4 = 7u;

// Four neighbouring terms of a row.
fn load_x(row: u32, k4: u32) -> vec4<f32> {
{{gather}}
}

// Four columns of the matrix at one term, and what they are to be multiplied by.
fn load_w(k: u32, n4: u32) -> vec4<f32> {
{{weight}}
}

fn scale_of(k: u32, n4: u32) -> vec4<f32> {
{{scale}}
}

fn store(row: u32, n4: u32, sum: vec4<f32>) {
  var v = sum;
{{epilogue}}
{{scatter}}
}

{{shared}}
@compute @workgroup_size({{wx}}, {{wy}}, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
{{main}}
}
