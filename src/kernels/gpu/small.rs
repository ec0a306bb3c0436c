//! One thread a number: sums, copies, resampling, positions, and the product of mask tokens with the upscaled image.

use burn_wgpu::CubeTensor;
use cubecl::zspace::metadata::Metadata;

use super::{Launch, dims, empty, plane, reshape};

/// Computes the numbers `at` of a tensor of `shape` by `body`, which reads `inputs` by name, as `T`s, and sizes from `p[1]` on.
fn map(name: &'static str, inputs: &[(&str, &CubeTensor)], shape: &[usize], sizes: &[usize], body: &str) -> CubeTensor {
    let y = empty(inputs[0].1, shape);
    let count = shape.iter().product::<usize>();
    let launch = Launch::new(name, include_str!("small.wgsl"), &y);
    let launch = inputs.iter().fold(launch, |launch, (name, tensor)| launch.bind(name, "T", tensor));
    let launch = launch.bind("y", "T", &y).slot("body", body).sizes(&[count]).sizes(sizes);
    launch.run(plane(count.div_ceil(64)));
    y
}

/// `a + b`, where b starts again as often as a needs it.
pub fn add(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let shape: Vec<usize> = a.meta.shape().iter().copied().collect();
    let period = b.meta.shape().iter().product();
    map("add", &[("a", a), ("b", b)], &shape, &[period], "  y[at] = T(f32(a[at]) + f32(b[at % p[1]]));")
}

/// `[m, c]` and `[n, c]` one after the other, `[m + n, c]`.
pub fn concat(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let ([m, c], [n, _]) = (dims(a), dims(b));
    let body = "  if (at < p[1]) { y[at] = a[at]; } else { y[at] = b[at - p[1]]; }";
    map("concat", &[("a", a), ("b", b)], &[m + n, c], &[m * c], body)
}

/// Row `i` of each of `[b, n, c]`: `[b, 1, c]`.
pub fn rows(x: &CubeTensor, i: usize) -> CubeTensor {
    let [b, n, c] = dims(x);
    map("rows", &[("x", x)], &[b, 1, c], &[n, c, i], "  y[at] = x[(at / p[2] * p[1] + p[3]) * p[2] + at % p[2]];")
}

/// `[b, 1, c]` each, next to each other: `[b, n, c]`.
///
/// # Panics
/// If there is none.
pub fn stack(rows: Vec<CubeTensor>) -> CubeTensor {
    let (n, [b, _, c]) = (rows.len(), dims(&rows[0]));
    let flat = |row: &CubeTensor| reshape(row.clone(), &[b, c]);
    let joined = rows[1..].iter().fold(flat(&rows[0]), |all, row| concat(&all, &flat(row)));
    permute(reshape(joined, &[n, b, c]), &[1, 0, 2])
}

/// The same buffer with its axes in another order.
pub fn permuted(mut x: CubeTensor, axes: &[usize]) -> CubeTensor {
    let (shape, strides) = (x.meta.shape().clone(), x.meta.strides().clone());
    x.meta = Box::new(Metadata::new(
        axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>(),
        axes.iter().map(|&axis| strides[axis]).collect::<Vec<_>>(),
    ));
    x
}

/// The same buffer, axes of length 1 made longer.
pub fn expanded(mut x: CubeTensor, shape: &[usize]) -> CubeTensor {
    let (old, strides) = (x.meta.shape().clone(), x.meta.strides().clone());
    let strides = shape.iter().enumerate().map(|(axis, &length)| if old[axis] == length { strides[axis] } else { 0 });
    let strides: Vec<usize> = strides.collect();
    x.meta = Box::new(Metadata::new(shape.to_vec(), strides));
    x
}

/// The tensor with its numbers in row-major order.
pub fn in_order(x: CubeTensor) -> CubeTensor {
    if x.is_contiguous() {
        return x;
    }
    let [shape, strides] =
        [x.meta.shape().iter(), x.meta.strides().iter()].map(|axes| axes.copied().collect::<Vec<_>>());
    let sizes: Vec<usize> = [&[shape.len()][..], &shape, &strides].concat();
    let body = "  let axes = p[1];
  var rest = at;
  var source = 0u;
  for (var i = axes; i > 0u; i--) {
    source += rest % p[1u + i] * p[1u + axes + i];
    rest /= p[1u + i];
  }
  y[at] = x[source];";
    map("strided", &[("x", &x)], &shape, &sizes, body)
}

/// The axes of `x` in another order, in row-major order of that.
pub fn permute(x: CubeTensor, axes: &[usize]) -> CubeTensor {
    in_order(permuted(x, axes))
}

/// `[outer, from, inner]` to `[outer, to, inner]`, bilinearly and without aligning corners.
pub fn resample(x: &CubeTensor, to: usize) -> CubeTensor {
    let [outer, from, inner] = dims(x);
    let body = "  let place = at / p[3] % p[2];
  let line = max((f32(place) + 0.5) * f32(p[1]) / f32(p[2]) - 0.5, 0.0);
  let low = min(u32(line), p[1] - 1u);
  let high = min(low + 1u, p[1] - 1u);
  let start = at / (p[2] * p[3]) * p[1];
  let column = at % p[3];
  let a = f32(x[(start + low) * p[3] + column]);
  let b = f32(x[(start + high) * p[3] + column]);
  y[at] = T(a + (b - a) * (line - f32(low)));";
    map("resample", &[("x", x)], &[outer, to, inner], &[from, to, inner], body)
}

/// Sines and cosines of the centres of an `h` x `w` grid times `gaussian` `[2, c / 2]`: `[h w, c]`.
pub fn dense_pe(gaussian: &CubeTensor, h: usize, w: usize) -> CubeTensor {
    let [_, half] = dims(gaussian);
    let body = "  let half = p[3];
  let cell = at / (2u * half);
  let column = at % (2u * half);
  let place = 2.0 * (vec2<f32>(f32(cell % p[2]), f32(cell / p[2])) + 0.5) / vec2<f32>(f32(p[2]), f32(p[1])) - 1.0;
  let i = column % half;
  var turns = place.x * f32(gaussian[i]) + place.y * f32(gaussian[half + i]);
  // A cosine is the sine a quarter turn on. Devices' own need only have 3 digits, and fewer after many turns.
  turns += select(0.25, 0.0, column < half);
  var turn = turns - floor(turns + 0.5);
  turn = select(turn, sign(turn) * 0.5 - turn, abs(turn) > 0.25);
  let z = 6.283185307179586 * turn;
  let q = z * z;
  let series = ((((-2.5052108e-8 * q + 2.7557319e-6) * q - 1.9841270e-4) * q + 8.3333333e-3) * q - 0.16666667) * q + 1.0;
  y[at] = T(z * series);";
    map("positions", &[("gaussian", gaussian)], &[h * w, 2 * half], &[h, w, half], body)
}

/// Products of mask tokens `[b, n, c]` with places `[b, m, c]`: `[b, n, m]`.
pub fn masks(tokens: &CubeTensor, places: &CubeTensor) -> CubeTensor {
    let ([b, n, c], [_, m, _]) = (dims(tokens), dims(places));
    let body = "  let token = at / p[1] * p[2];
  let place = (at / (p[1] * p[3]) * p[1] + at % p[1]) * p[2];
  var sum = 0.0;
  for (var i = 0u; i < p[2]; i++) {
    sum += f32(tokens[token + i]) * f32(places[place + i]);
  }
  y[at] = T(sum);";
    map("masks", &[("tokens", tokens), ("places", places)], &[b, n, m], &[m, c, n], body)
}
