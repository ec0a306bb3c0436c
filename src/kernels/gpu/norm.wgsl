// Layer norm of each row of x [M, 4 N4], and an activation.

@group(0) @binding(#) var<storage, read_write> x: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> weight: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> bias: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Rows, and their length in fours.
const M = 0u;
const N4 = 1u;
// Threads of a row, and rows of a workgroup.
const LANES = {{lanes}}u;
const ROWS = {{rows}}u;

var<workgroup> parts: array<f32, LANES * ROWS>;

// The sum of the values that the threads of a row have.
fn sum_of_row(lane: u32, row: u32, value: f32) -> f32 {
  if (LANES == 1u) {
    return value;
  }
  parts[row * LANES + lane] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < LANES; i++) {
    sum += parts[row * LANES + i];
  }
  workgroupBarrier();
  return sum;
}

@compute @workgroup_size(LANES, ROWS, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let row = (group.y * 65535u + group.x) * ROWS + local.y;
  let start = min(row, p[M] - 1u) * p[N4];
  let n = f32(4u * p[N4]);
  var sum = 0.0;
  for (var i = local.x; i < p[N4]; i += LANES) {
    sum += dot(vec4<f32>(x[start + i]), vec4<f32>(1.0));
  }
  let mean = sum_of_row(local.x, local.y, sum) / n;
  sum = 0.0;
  for (var i = local.x; i < p[N4]; i += LANES) {
    let v = vec4<f32>(x[start + i]) - mean;
    sum += dot(v, v);
  }
  let scale = inverseSqrt(sum_of_row(local.x, local.y, sum) / n + {{epsilon}});
  if (row < p[M]) {
    for (var i = local.x; i < p[N4]; i += LANES) {
      let v = (vec4<f32>(x[start + i]) - mean) * scale * vec4<f32>(weight[i]) + vec4<f32>(bias[i]);
      y[start + i] = vec4<T>(activate(v));
    }
  }
}
