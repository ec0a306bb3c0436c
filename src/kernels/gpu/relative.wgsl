// Products of each query with the relative positions of a window's rows, then of its columns.

// Queries, keys and values of an image: [tokens, 3, HEADS, D4].
@group(0) @binding(#) var<storage, read_write> qkv: array<vec4<T>>;
// [2 ROWS - 1, D4] and [2 COLUMNS - 1, D4]
@group(0) @binding(#) var<storage, read_write> by_row: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> by_column: array<vec4<T>>;
// [tokens, HEADS, ROWS + COLUMNS]
@group(0) @binding(#) var<storage, read_write> y: array<f32>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Numbers of y, rows and columns of the image, heads.
const COUNT = 0u;
const H = 1u;
const W = 2u;
const HEADS = 3u;
const D4 = {{d4}}u;
const ROWS = {{rows}}u;
const COLUMNS = {{columns}}u;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * 65535u + group.x) * 64u + local;
  if (at >= p[COUNT]) {
    return;
  }
  let place = at % (ROWS + COLUMNS);
  let line = at / (ROWS + COLUMNS);
  let token = line / p[HEADS];
  let query = token * 3u * p[HEADS] * D4 + line % p[HEADS] * D4;
  var sum = 0.0;
  if (place < ROWS) {
    let row = token / p[W] % p[H] % ROWS + ROWS - 1u - place;
    for (var i = 0u; i < D4; i++) {
      sum += dot(vec4<f32>(qkv[query + i]), vec4<f32>(by_row[row * D4 + i]));
    }
  } else {
    let column = token % p[W] % COLUMNS + COLUMNS - 1u - (place - ROWS);
    for (var i = 0u; i < D4; i++) {
      sum += dot(vec4<f32>(qkv[query + i]), vec4<f32>(by_column[column * D4 + i]));
    }
  }
  y[at] = sum;
}
