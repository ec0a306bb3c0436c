// y = activation((x + add) w + bias + residual): every layer but attention and norms.
//
// A thread sums up RUN rows by four columns. With DEPTH a workgroup loads tiles of both operands into shared memory first; without it,
// and for few rows, a thread reads what it needs by itself.

// [M, 4 K4], or an image whose rows are gathered.
#if odd
@group(0) @binding(#) var<storage, read_write> x: array<T>;
#else
@group(0) @binding(#) var<storage, read_write> x: array<vec4<T>>;
#end
#if add
@group(0) @binding(#) var<storage, read_write> add: array<vec4<T>>;
#end
// [4 K4, 4 N4]
#if quantized
@group(0) @binding(#) var<storage, read_write> w: array<u32>;
@group(0) @binding(#) var<storage, read_write> scales: array<vec2<u32>>;
#else
@group(0) @binding(#) var<storage, read_write> w: array<vec4<T>>;
#end
#if bias
@group(0) @binding(#) var<storage, read_write> bias: array<vec4<T>>;
#end
#if residual
@group(0) @binding(#) var<storage, read_write> residual: array<vec4<T>>;
#end
@group(0) @binding(#) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Rows and columns of the result (columns in fours) and terms of a sum (in fours).
const M = 0u;
const N4 = 1u;
const K4 = 2u;
// Rows after which `add` and `residual` start again.
const ADD_ROWS = 3u;
const RESIDUAL_ROWS = 4u;
// Of the image that is gathered from or scattered to: rows, columns, channels in fours (ODD: one by one; PATCHES: bands of an image).
const H = 5u;
const W = 6u;
const C4 = 7u;
#if neighbours
// Rows and columns of the result; pixels from one of its pixels to the next; zero pixels above and left of the image.
const DOWN = 8u;
const ACROSS = 9u;
const STRIDE = 10u;
const BEFORE = 11u;

// Where a term of a row lies in x, and 1: the nine neighbours of a pixel of [b, H, W, C4], ordered [3, 3, C4]. Or 0 and 0, if it lies
// beyond the borders or after the last one.
fn neighbour(row: u32, k: u32) -> vec2<u32> {
  let tap = k / p[C4];
  let line = row / p[ACROSS];
  // Wraps around below zero, and so is beyond the border there too.
  let from_row = line % p[DOWN] * p[STRIDE] + tap / 3u - p[BEFORE];
  let column = row % p[ACROSS] * p[STRIDE] + tap % 3u - p[BEFORE];
  let at = ((line / p[DOWN] * p[H] + from_row) * p[W] + column) * p[C4] + k % p[C4];
  return select(vec2<u32>(0u), vec2<u32>(at, 1u), from_row < p[H] && column < p[W] && tap < 9u);
}
#end

// Rows of a thread; threads of a workgroup along columns and rows.
const RUN = {{rows}}u;
const WX = {{wx}}u;
const WY = {{wy}}u;
#if patches
const SIDE = {{patches}}u;
#end

// Four neighbouring terms of a row.
fn load_x(row: u32, k4: u32) -> vec4<f32> {
#if patches
  // A patch of SIDE x SIDE of [b, bands, H, W]; terms are ordered [bands, SIDE, SIDE].
  let k = 4u * k4;
  let band = k / (SIDE * SIDE);
  let line = k % (SIDE * SIDE) / SIDE;
  let columns = p[W] / SIDE;
  let patches = columns * (p[H] / SIDE);
  let patch_index = row % patches;
  let image_row = (row / patches * p[C4] + band) * p[H] + patch_index / columns * SIDE + line;
  return vec4<f32>(x[(image_row * p[W] + patch_index % columns * SIDE + k % SIDE) / 4u]);
#else
#if odd
#for i in 0..4
  let a{{i}} = neighbour(row, 4u * k4 + {{i}}u);
#end
  let v = vec4<f32>(f32(x[a0.x]), f32(x[a1.x]), f32(x[a2.x]), f32(x[a3.x]));
  return select(vec4<f32>(0.0), v, vec4<u32>(a0.y, a1.y, a2.y, a3.y) == vec4<u32>(1u));
#else
#if neighbours
  let at = neighbour(row, k4);
  return select(vec4<f32>(0.0), vec4<f32>(x[at.x]), at.y == 1u);
#else
#if add
  return vec4<f32>(x[row * p[K4] + k4]) + vec4<f32>(add[row % p[ADD_ROWS] * p[K4] + k4]);
#else
  return vec4<f32>(x[row * p[K4] + k4]);
#end
#end
#end
#end
}

// Four columns of the matrix at one term; of a quantised one without their scales.
fn load_w(k: u32, n4: u32) -> vec4<f32> {
#if quantized
#if q8
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(w[k * p[N4] + n4]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
#else
  let word = w[k / 2u * p[N4] + n4] >> (16u * (k % 2u));
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;
#end
#else
#if odd
  // What comes after the last term is zero in x, and must be a number here.
  return vec4<f32>(w[min(k, 9u * p[C4] - 1u) * p[N4] + n4]);
#else
  return vec4<f32>(w[k * p[N4] + n4]);
#end
#end
}

#if quantized
fn scale_of(k: u32, n4: u32) -> vec4<f32> {
  let s = scales[k / 32u * p[N4] + n4];
  return vec4<f32>(unpack2x16float(s.x), unpack2x16float(s.y));
}
#end

fn store(row: u32, n4: u32, sum: vec4<f32>) {
  var v = sum;
#if bias
#if double
  // Each quarter of the columns is a pixel of its own, with the same channels.
  v += vec4<f32>(bias[n4 % p[C4]]);
#else
  v += vec4<f32>(bias[n4]);
#end
#end
#if residual
  v += vec4<f32>(residual[row % p[RESIDUAL_ROWS] * p[N4] + n4]);
#end
  v = activate(v);
#if double
  // Rows are pixels of [b, H, W], columns [2, 2, 4 C4]: to [b, 2 H, 2 W, 4 C4].
  let quarter = n4 / p[C4];
  let line = 2u * (row / p[W]) + quarter / 2u;
  y[(line * 2u * p[W] + 2u * (row % p[W]) + quarter % 2u) * p[C4] + n4 % p[C4]] = vec4<T>(v);
#else
  y[row * p[N4] + n4] = vec4<T>(v);
#end
}

#if depth
// Terms of a tile, in fours. A line of x is one longer, so that neighbouring rows lie in different banks.
const DEPTH = {{depth}}u;
const LINE = DEPTH + 1u;
var<workgroup> tile_x: array<vec4<f32>, RUN * WY * LINE>;
var<workgroup> tile_w: array<vec4<f32>, 4u * DEPTH * WX>;
#end

@compute @workgroup_size(WX, WY, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
#if depth
  let thread = local.y * WX + local.x;
  let first = group.y * RUN * WY;
  let left = group.x * WX;
  let n4 = left + local.x;
#for i in 0..rows
  var s{{i}} = vec4<f32>(0.0);
#end
  for (var start = 0u; start < p[K4]; start += DEPTH) {
    for (var i = thread; i < RUN * WY * DEPTH; i += WX * WY) {
      let row = first + i / DEPTH;
      let k4 = start + i % DEPTH;
      var v = vec4<f32>(0.0);
      if (row < p[M] && k4 < p[K4]) {
        v = load_x(row, k4);
      }
      tile_x[i / DEPTH * LINE + i % DEPTH] = v;
    }
    for (var i = thread; i < 4u * DEPTH * WX; i += WX * WY) {
      let k = 4u * start + i / WX;
      let column = left + i % WX;
      var v = vec4<f32>(0.0);
      if (k < 4u * p[K4] && column < p[N4]) {
#if quantized
        v = load_w(k, column) * scale_of(k, column);
#else
        v = load_w(k, column);
#end
      }
      tile_w[i] = v;
    }
    workgroupBarrier();
    for (var k4 = 0u; k4 < DEPTH; k4++) {
#for i in 0..rows
      // Neighbouring threads take neighbouring rows, which lie in different banks.
      let x{{i}} = tile_x[(local.y + {{i}}u * WY) * LINE + k4];
#end
#for i in 0..4
      let w{{i}} = tile_w[(4u * k4 + {{i}}u) * WX + local.x];
#end
#for i in 0..rows
      s{{i}} += x{{i}}.x * w0 + x{{i}}.y * w1 + x{{i}}.z * w2 + x{{i}}.w * w3;
#end
    }
    workgroupBarrier();
  }
#for i in 0..rows
  if (n4 < p[N4] && first + local.y + {{i}}u * WY < p[M]) {
    store(first + local.y + {{i}}u * WY, n4, s{{i}});
  }
#end
#else
  let n4 = group.x * WX + local.x;
  let first = (group.y * WY + local.y) * RUN;
  if (n4 >= p[N4] || first >= p[M]) {
    return;
  }
  let last = p[M] - 1u;
#for i in 0..rows
  let r{{i}} = min(first + {{i}}u, last);
  var s{{i}} = vec4<f32>(0.0);
#end
#if quantized
  // A block of 32 terms shares its scales.
  for (var block = 0u; block < p[K4]; block += 8u) {
    let scale = scale_of(4u * block, n4);
    let end = min(block + 8u, p[K4]);
    for (var k4 = block; k4 < end; k4++) {
#else
    for (var k4 = 0u; k4 < p[K4]; k4++) {
#end
#for i in 0..rows
      let x{{i}} = load_x(r{{i}}, k4);
#end
#for i in 0..4
#if quantized
      let w{{i}} = load_w(4u * k4 + {{i}}u, n4) * scale;
#else
      let w{{i}} = load_w(4u * k4 + {{i}}u, n4);
#end
#end
#for i in 0..rows
      s{{i}} += x{{i}}.x * w0 + x{{i}}.y * w1 + x{{i}}.z * w2 + x{{i}}.w * w3;
#end
    }
#if quantized
  }
#end
#for i in 0..rows
  if (first + {{i}}u < p[M]) {
    store(first + {{i}}u, n4, s{{i}});
  }
#end
#end
}
