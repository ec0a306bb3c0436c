// Depthwise convolution: each channel of an image with a kernel of its own, zero beyond the borders.
//
// A thread sums up RUN pixels of a row by four channels; neighbouring threads have neighbouring channels.

// [b, H, W, 4 C4]
@group(0) @binding(#) var<storage, read_write> x: array<vec4<T>>;
// [SIDE, SIDE, 4 C4]
@group(0) @binding(#) var<storage, read_write> weight: array<vec4<T>>;
#if bias
@group(0) @binding(#) var<storage, read_write> bias: array<vec4<T>>;
#end
// [b, DOWN, ACROSS, 4 C4]
@group(0) @binding(#) var<storage, read_write> y: array<vec4<T>>;
@group(0) @binding(#) var<storage, read> p: array<u32>;

// Threads; rows, columns and channels (in fours) of the image; rows and columns of the result.
const COUNT = 0u;
const H = 1u;
const W = 2u;
const C4 = 3u;
const DOWN = 4u;
const ACROSS = 5u;
// The kernel's side; pixels from one kernel to the next; zero pixels above and left of the image.
const SIDE = {{side}}u;
const STRIDE = {{stride}}u;
const BEFORE = {{before}}u;
const RUN = {{run}}u;
// Pixels of a row that a thread's kernels cover.
const SPAN = {{span}}u;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * 65535u + group.x) * 64u + local;
  if (at >= p[COUNT]) {
    return;
  }
  let c4 = at % p[C4];
  let runs = (p[ACROSS] + RUN - 1u) / RUN;
  let first = at / p[C4] % runs * RUN;
  // Of all images' rows.
  let row = at / (p[C4] * runs);
  // Wraps around below zero, and so is beyond the border there too.
  let left = first * STRIDE - BEFORE;
#for o in 0..run
#if bias
  var s{{o}} = vec4<f32>(bias[c4]);
#else
  var s{{o}} = vec4<f32>(0.0);
#end
#end
  for (var i = 0u; i < SIDE; i++) {
    let line = row % p[DOWN] * STRIDE + i - BEFORE;
    if (line >= p[H]) {
      continue;
    }
    let start = (row / p[DOWN] * p[H] + line) * p[W];
    var v: array<vec4<f32>, SPAN>;
#for t in 0..span
    let a{{t}} = left + {{t}}u;
    v[{{t}}] = select(vec4<f32>(0.0), vec4<f32>(x[(start + min(a{{t}}, p[W] - 1u)) * p[C4] + c4]), a{{t}} < p[W]);
#end
#for j in 0..side
    let w{{j}} = vec4<f32>(weight[(i * SIDE + {{j}}u) * p[C4] + c4]);
#end
#for o in 0..run
#for j in 0..side
    s{{o}} += v[{{o}}u * STRIDE + {{j}}u] * w{{j}};
#end
#end
  }
  let to = row * p[ACROSS] + first;
#for o in 0..run
  if (first + {{o}}u < p[ACROSS]) {
    y[(to + {{o}}u) * p[C4] + c4] = vec4<T>(activate(s{{o}}));
  }
#end
}
