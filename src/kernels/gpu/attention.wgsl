// Softmax attention in one pass over the keys, so that no score outlives its chunk of four (online softmax, Milakov and Gimelshein 2018).
//
// A thread holds one query and its sums. With SPLITS the threads of a workgroup share tiles of keys and values, and SPLITS of them
// split a query's keys among them and reduce their sums at the end; without it a thread reads all keys by itself.

#if windows
// Queries, keys and values of an image with their bias: [images, H, W, 3, HEADS, D4], or with BIASED [images, H, W, HEADS, 3, D4].
@group(0) @binding(#) var<storage, read_write> qkv: array<vec4<T>>;
#if padded
// What a token beyond the image has there.
@group(0) @binding(#) var<storage, read_write> beyond: array<vec4<T>>;
#end
#if biased
// Added to scores, by the rows and columns between query and key: [HEADS, ROWS, COLUMNS].
@group(0) @binding(#) var<storage, read_write> biases: array<T>;
#else
// Products of queries with relative positions: [images, H, W, HEADS, ROWS + COLUMNS].
@group(0) @binding(#) var<storage, read_write> relative: array<f32>;
#end
#else
// [images, QUERIES, HEADS, D4], and twice [images, KEYS, HEADS, D4]
@group(0) @binding(#) var<storage, read_write> q: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> k: array<vec4<T>>;
@group(0) @binding(#) var<storage, read_write> v: array<vec4<T>>;
#end
@group(0) @binding(#) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Rows and columns of the image, queries and keys of a head (without windows), heads.
const H = 0u;
const W = 1u;
const QUERIES = 2u;
const KEYS = 3u;
const HEADS = 4u;
// Fours of a head.
const D4 = {{d4}}u;
// Queries of a workgroup.
const GROUP = {{group}}u;

const LOWEST = -1e30;

var<private> head: u32;
var<private> image: u32;

#if windows
// Rows and columns of a window; the window's first row and column.
const ROWS = {{rows}}u;
const COLUMNS = {{columns}}u;
const NOWHERE = 0xffffffffu;
var<private> top: u32;
var<private> left: u32;

// Where the query starts in qkv, how far on its key does, and where the result starts in y.
#if biased
fn query_at(token: u32) -> u32 { return (token * p[HEADS] + head) * 3u * D4; }
fn part() -> u32 { return D4; }
#else
fn query_at(token: u32) -> u32 { return (token * 3u * p[HEADS] + head) * D4; }
fn part() -> u32 { return p[HEADS] * D4; }
#end
fn result_at(token: u32) -> u32 { return (token * p[HEADS] + head) * D4; }

// Where the window's token t starts in qkv, or that it lies beyond the image.
fn key_at(t: u32) -> u32 {
  let row = top + t / COLUMNS;
  let column = left + t % COLUMNS;
#if padded
  if (row >= p[H] || column >= p[W]) {
    return NOWHERE;
  }
#end
  return query_at((image * p[H] + row) * p[W] + column);
}
fn query(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(qkv[at + i]); }
fn key(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(qkv[at + part() + i]); }
fn value(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(qkv[at + 2u * part() + i]); }
#if padded
fn beyond_key(i: u32) -> vec4<f32> { return vec4<f32>(beyond[query_at(0u) + part() + i]); }
fn beyond_value(i: u32) -> vec4<f32> { return vec4<f32>(beyond[query_at(0u) + 2u * part() + i]); }
#end
#if biased
fn between(a: u32, b: u32) -> u32 { return max(a, b) - min(a, b); }
#end
#else
fn query_at(token: u32) -> u32 { return (token * p[HEADS] + head) * D4; }
fn result_at(token: u32) -> u32 { return query_at(token); }
fn key_at(t: u32) -> u32 { return ((image * p[KEYS] + t) * p[HEADS] + head) * D4; }
fn query(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(q[at + i]); }
fn key(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(k[at + i]); }
fn value(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(v[at + i]); }
#end

#if splits
// Threads of a query. A tile holds keys, and then their values; at the end its memory holds the queries' sums instead.
const SPLITS = {{splits}}u;
const TILE = GROUP / 2u;
const HALF = TILE * D4;
var<workgroup> tile: array<vec4<f32>, 2u * HALF>;
var<workgroup> joined: array<vec2<f32>, GROUP>;
@compute @workgroup_size(GROUP, SPLITS, 1)
#else
@compute @workgroup_size(GROUP, 1, 1)
#end
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  head = group.y;
  let query_index = group.x * GROUP + local.x;
#if windows
  let window = group.z;
  image = window / {{windows}}u;
  top = window % {{windows}}u / {{across}}u * ROWS;
  left = window % {{across}}u * COLUMNS;
  // Queries beyond the image are left out.
  let line = min(COLUMNS, p[W] - window % {{across}}u * COLUMNS);
  let queries = min(ROWS, p[H] - window % {{windows}}u / {{across}}u * ROWS) * line;
  if (group.x * GROUP >= queries) {
    return;
  }
  let keys = ROWS * COLUMNS;
  let mine = min(query_index, queries - 1u);
  let token = (image * p[H] + top + mine / line) * p[W] + left + mine % line;
#if biased
  let my_row = mine / line;
  let my_column = mine % line;
#else
  let relative_at = (token * p[HEADS] + head) * (ROWS + COLUMNS);
#end
#else
  image = group.z;
  let queries = p[QUERIES];
  let keys = p[KEYS];
  let token = image * queries + min(query_index, queries - 1u);
#end
#if splits
#else
  if (query_index >= queries) {
    return;
  }
#end
  let at = query_at(token);
  var most = LOWEST;
  var total = 0.0;
#for i in 0..d4
  let q{{i}} = query(at, {{i}}u) * {{scale}};
  var o{{i}} = vec4<f32>(0.0);
#end

#if splits
  let thread = local.y * GROUP + local.x;
  let mine_first = local.y * 4u;
  for (var t = 0u; t < keys; t += TILE) {
    for (var i = thread; i < HALF; i += GROUP * SPLITS) {
      let from_key = key_at(min(t + i / D4, keys - 1u));
#if padded
      // One branch a key, not one a load: SwiftShader's compiler takes minutes over dozens of them.
      if (from_key == NOWHERE) {
        tile[i] = beyond_key(i % D4);
        tile[HALF + i] = beyond_value(i % D4);
      } else {
        tile[i] = key(from_key, i % D4);
        tile[HALF + i] = value(from_key, i % D4);
      }
#else
      tile[i] = key(from_key, i % D4);
      tile[HALF + i] = value(from_key, i % D4);
#end
    }
    workgroupBarrier();
    let first = t + mine_first;
#else
  for (var t = 0u; t < keys; t += 4u) {
    let first = t;
#end
    // The scores of four keys.
#for c in 0..4
    var s{{c}} = 0.0;
#if splits
    s{{c}} = dot(q0, tile[(mine_first + {{c}}u) * D4])
#for i in 1..d4
      + dot(q{{i}}, tile[(mine_first + {{c}}u) * D4 + {{i}}u])
#end
      ;
#else
    let a{{c}} = key_at(min(first + {{c}}u, keys - 1u));
#if padded
    if (a{{c}} == NOWHERE) {
      s{{c}} = dot(q0, beyond_key(0u))
#for i in 1..d4
        + dot(q{{i}}, beyond_key({{i}}u))
#end
        ;
    } else {
      s{{c}} = dot(q0, key(a{{c}}, 0u))
#for i in 1..d4
        + dot(q{{i}}, key(a{{c}}, {{i}}u))
#end
        ;
    }
#else
    s{{c}} = dot(q0, key(a{{c}}, 0u))
#for i in 1..d4
      + dot(q{{i}}, key(a{{c}}, {{i}}u))
#end
      ;
#end
#end
#if windows
    let t{{c}} = min(first + {{c}}u, keys - 1u);
#if biased
    s{{c}} += f32(biases[(head * ROWS + between(t{{c}} / COLUMNS, my_row)) * COLUMNS + between(t{{c}} % COLUMNS, my_column)]);
#else
    s{{c}} += relative[relative_at + t{{c}} / COLUMNS] + relative[relative_at + ROWS + t{{c}} % COLUMNS];
#end
#end
    s{{c}} = select(LOWEST, s{{c}}, first + {{c}}u < keys);
#end
    let peak = max(max(max(s0, s1), s2), s3);
    if (peak > most) {
      let fade = exp(most - peak);
      total *= fade;
      most = peak;
#for i in 0..d4
      o{{i}} *= fade;
#end
    }
    // A thread may have seen no key that counts yet: then all its scores are LOWEST, and their differences 0.
#for c in 0..4
    let e{{c}} = select(0.0, exp(s{{c}} - most), first + {{c}}u < keys);
#end
    total += e0 + e1 + e2 + e3;
    // The values, by their weights.
#if splits
#for i in 0..d4
    o{{i}} += e0 * tile[HALF + mine_first * D4 + {{i}}u] + e1 * tile[HALF + (mine_first + 1u) * D4 + {{i}}u]
      + e2 * tile[HALF + (mine_first + 2u) * D4 + {{i}}u] + e3 * tile[HALF + (mine_first + 3u) * D4 + {{i}}u];
#end
    workgroupBarrier();
#else
#if padded
#for c in 0..4
    if (a{{c}} == NOWHERE) {
#for i in 0..d4
      o{{i}} += e{{c}} * beyond_value({{i}}u);
#end
    } else {
#for i in 0..d4
      o{{i}} += e{{c}} * value(a{{c}}, {{i}}u);
#end
    }
#end
#else
#for i in 0..d4
    o{{i}} += e0 * value(a0, {{i}}u) + e1 * value(a1, {{i}}u) + e2 * value(a2, {{i}}u) + e3 * value(a3, {{i}}u);
#end
#end
#end
  }

#if splits
  // The first thread of a query reduces the others' sums, one after the other.
  for (var turn = 1u; turn < SPLITS; turn++) {
    if (local.y == turn) {
      joined[local.x] = vec2<f32>(most, total);
#for i in 0..d4
      tile[local.x * D4 + {{i}}u] = o{{i}};
#end
    }
    workgroupBarrier();
    if (local.y == 0u) {
      let other = joined[local.x];
      let peak = max(most, other.x);
      let fade = exp(most - peak);
      let grow = exp(other.x - peak);
      most = peak;
      total = total * fade + other.y * grow;
#for i in 0..d4
      o{{i}} = o{{i}} * fade + tile[local.x * D4 + {{i}}u] * grow;
#end
    }
    workgroupBarrier();
  }
  if (local.y != 0u) {
    return;
  }
#end
  if (query_index < queries) {
    let to = result_at(token);
#for i in 0..d4
    y[to + {{i}}u] = vec4<T>(o{{i}} / total);
#end
  }
}
