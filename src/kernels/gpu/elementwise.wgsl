// One thread a number of y. Each operation is one section, with its bindings and its sizes from p[1] on.

#if add
// b starts again as often as a needs it.
@group(0) @binding(#) var<storage, read_write> a: array<T>;
@group(0) @binding(#) var<storage, read_write> b: array<T>;
const B_LENGTH = 1u;
fn number(at: u32) -> T {
  return T(f32(a[at]) + f32(b[at % p[B_LENGTH]]));
}
#end
#if concat
@group(0) @binding(#) var<storage, read_write> a: array<T>;
@group(0) @binding(#) var<storage, read_write> b: array<T>;
const A_LENGTH = 1u;
fn number(at: u32) -> T {
  if (at < p[A_LENGTH]) {
    return a[at];
  }
  return b[at - p[A_LENGTH]];
}
#end
#if rows
// Row ROW of each matrix of x [.., N, C].
@group(0) @binding(#) var<storage, read_write> x: array<T>;
const N = 1u;
const C = 2u;
const ROW = 3u;
fn number(at: u32) -> T {
  return x[(at / p[C] * p[N] + p[ROW]) * p[C] + at % p[C]];
}
#end
#if strided
// The lengths of y's axes follow their count, and then the strides of x.
@group(0) @binding(#) var<storage, read_write> x: array<T>;
const AXES = 1u;
fn number(at: u32) -> T {
  let axes = p[AXES];
  var rest = at;
  var source = 0u;
  for (var i = axes; i > 0u; i--) {
    source += rest % p[AXES + i] * p[AXES + axes + i];
    rest /= p[AXES + i];
  }
  return x[source];
}
#end
#if resample
// x [.., FROM, INNER] to [.., TO, INNER], bilinearly.
@group(0) @binding(#) var<storage, read_write> x: array<T>;
const FROM = 1u;
const TO = 2u;
const INNER = 3u;
fn number(at: u32) -> T {
  let position = at / p[INNER] % p[TO];
  let line = max((f32(position) + 0.5) * f32(p[FROM]) / f32(p[TO]) - 0.5, 0.0);
  let low = min(u32(line), p[FROM] - 1u);
  let high = min(low + 1u, p[FROM] - 1u);
  let start = at / (p[TO] * p[INNER]) * p[FROM];
  let column = at % p[INNER];
  let a = f32(x[(start + low) * p[INNER] + column]);
  let b = f32(x[(start + high) * p[INNER] + column]);
  return T(a + (b - a) * (line - f32(low)));
}
#end
#if positions
// Sines, then cosines, of 2 pi times the products of gaussian [2, HALF] with the centres of a grid's cells.
@group(0) @binding(#) var<storage, read_write> gaussian: array<T>;
const H = 1u;
const W = 2u;
const HALF = 3u;
fn number(at: u32) -> T {
  let half = p[HALF];
  let cell = at / (2u * half);
  let column = at % (2u * half);
  let centre = 2.0 * (vec2<f32>(f32(cell % p[W]), f32(cell / p[W])) + 0.5) / vec2<f32>(f32(p[W]), f32(p[H])) - 1.0;
  let i = column % half;
  var turns = centre.x * f32(gaussian[i]) + centre.y * f32(gaussian[half + i]);
  // A cosine is the sine a quarter turn on. Devices' own need only have 3 digits, and fewer after many turns.
  turns += select(0.25, 0.0, column < half);
  var turn = turns - floor(turns + 0.5);
  turn = select(turn, sign(turn) * 0.5 - turn, abs(turn) > 0.25);
  let z = 6.283185307179586 * turn;
  let q = z * z;
  let series = ((((-2.5052108e-8 * q + 2.7557319e-6) * q - 1.9841270e-4) * q + 8.3333333e-3) * q - 0.16666667) * q + 1.0;
  return T(z * series);
}
#end
#if masks
// Products of tokens [.., N, C] with pixels [.., M, C].
@group(0) @binding(#) var<storage, read_write> tokens: array<T>;
@group(0) @binding(#) var<storage, read_write> pixels: array<T>;
const M = 1u;
const C = 2u;
const N = 3u;
fn number(at: u32) -> T {
  let token = at / p[M] * p[C];
  let pixel = (at / (p[M] * p[N]) * p[M] + at % p[M]) * p[C];
  var sum = 0.0;
  for (var i = 0u; i < p[C]; i++) {
    sum += f32(tokens[token + i]) * f32(pixels[pixel + i]);
  }
  return T(sum);
}
#end

@group(0) @binding(#) var<storage, read_write> y: array<T>;
@group(0) @binding(#) var<storage, read> p: array<u32>;
const COUNT = 0u;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * 65535u + group.x) * 64u + local;
  if (at < p[COUNT]) {
    y[at] = number(at);
  }
}
