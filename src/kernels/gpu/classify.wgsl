// Class and confidence of each pixel of a part of an image, from logits x that are resampled to it.

// [CLASSES, H, W]
@group(0) @binding(#) var<storage, read_write> x: array<T>;
@group(0) @binding(#) var<storage, read_write> y: array<u32>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Classes, rows and columns of the logits; the side that they are resampled to; the part of it that is wanted: first row and
// column, rows and columns; then for each class the bits of the factor of its logits, and of what is added to them.
const CLASSES = 0u;
const H = 1u;
const W = 2u;
const SIDE = 3u;
const TOP = 4u;
const LEFT = 5u;
const ROWS = 6u;
const COLUMNS = 7u;
const TERMS = 8u;

// Neighbours on a line of `length` samples of position `at` of `to`, and the weight of the second.
fn taps(at: u32, length: u32, to: u32) -> vec3<f32> {
  let line = max((f32(at) + 0.5) * f32(length) / f32(to) - 0.5, 0.0);
  let low = min(floor(line), f32(length - 1u));
  return vec3<f32>(low, min(low + 1.0, f32(length - 1u)), line - low);
}

// One thread takes four pixels of a row: a word of classes, and further on a word of confidences.
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * 65535u + group.x) * 64u + local;
  let words = (p[COLUMNS] + 3u) / 4u;
  if (at >= words * p[ROWS]) {
    return;
  }
  let down = taps(p[TOP] + at / words, p[H], p[SIDE]);
  var classes = 0u;
  var confidence = 0u;
  for (var i = 0u; i < 4u; i++) {
    let across = taps(p[LEFT] + min(4u * (at % words) + i, p[COLUMNS] - 1u), p[W], p[SIDE]);
    var best = 0u;
    var most = 0.0;
    var total = 0.0;
    var wrong = false;
    for (var class_ = 0u; class_ < p[CLASSES]; class_++) {
      let above_row = (class_ * p[H] + u32(down.x)) * p[W];
      let below_row = (class_ * p[H] + u32(down.y)) * p[W];
      let a = f32(x[above_row + u32(across.x)]);
      let b = f32(x[above_row + u32(across.y)]);
      let c = f32(x[below_row + u32(across.x)]);
      let d = f32(x[below_row + u32(across.y)]);
      let above = a + (b - a) * across.z;
      let below = c + (d - c) * across.z;
      let raw = above + (below - above) * down.z;
      let v = raw * bitcast<f32>(p[TERMS + 2u * class_]) + bitcast<f32>(p[TERMS + 2u * class_ + 1u]);
      // By its bits: compilers may take it that no number is infinite or none.
      wrong = wrong || (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u;
      if (class_ == 0u) {
        most = v;
        total = 1.0;
      } else if (v > most) {
        total = total * exp(most - v) + 1.0;
        most = v;
        best = class_;
      } else {
        total += exp(v - most);
      }
    }
    classes |= select(best, 255u, wrong) << (8u * i);
    confidence |= u32(floor(255.0 / total + 0.5)) << (8u * i);
  }
  y[at] = classes;
  y[words * p[ROWS] + at] = confidence;
}
