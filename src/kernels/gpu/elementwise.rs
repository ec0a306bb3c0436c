//! One thread a number: sums, copies, resampling, positions, and the product of mask tokens with the upscaled image.

use burn_wgpu::CubeTensor;

use super::launch::{Launch, plane, wgsl};
use super::tensor::{dims, empty, permuted, reshape};

/// The operation `name` of the kernel's text, on `inputs`: a tensor of `shape`.
fn map(name: &'static str, inputs: &[&CubeTensor], shape: &[usize], sizes: &[usize]) -> CubeTensor {
    let y = empty(inputs[0], shape);
    let count = shape.iter().product::<usize>();
    let launch = Launch::new(name, wgsl!("elementwise"), &y).set(name, 1);
    let launch = inputs.iter().fold(launch, |launch, tensor| launch.bind(tensor));
    launch.bind(&y).sizes(&[count]).sizes(sizes).run(plane(count.div_ceil(64)));
    y
}

/// `a + b`, where b starts again as often as a needs it.
pub fn add(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let shape: Vec<usize> = a.meta.shape().iter().copied().collect();
    let period = b.meta.shape().iter().product();
    map("add", &[a, b], &shape, &[period])
}

/// `[m, c]` and `[n, c]` one after the other, `[m + n, c]`.
pub fn concat(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let ([m, c], [n, _]) = (dims(a), dims(b));
    map("concat", &[a, b], &[m + n, c], &[m * c])
}

/// Row `i` of each of `[b, n, c]`: `[b, 1, c]`.
pub fn rows(x: &CubeTensor, i: usize) -> CubeTensor {
    let [b, n, c] = dims(x);
    map("rows", &[x], &[b, 1, c], &[n, c, i])
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

/// The tensor with its numbers in row-major order.
pub fn contiguous(x: CubeTensor) -> CubeTensor {
    if x.is_contiguous() {
        return x;
    }
    let [shape, strides] =
        [x.meta.shape().iter(), x.meta.strides().iter()].map(|axes| axes.copied().collect::<Vec<_>>());
    let sizes: Vec<usize> = [&[shape.len()][..], &shape, &strides].concat();
    map("strided", &[&x], &shape, &sizes)
}

/// The axes of `x` in another order, in row-major order of that.
pub fn permute(x: CubeTensor, axes: &[usize]) -> CubeTensor {
    contiguous(permuted(x, axes))
}

/// `[outer, from, inner]` to `[outer, to, inner]`, bilinearly and without aligning corners.
pub fn resample(x: &CubeTensor, to: usize) -> CubeTensor {
    let [outer, from, inner] = dims(x);
    map("resample", &[x], &[outer, to, inner], &[from, to, inner])
}

/// Sines and cosines of the centres of an `h` x `w` grid times `gaussian` `[2, c / 2]`: `[h w, c]`.
pub fn dense_pe(gaussian: &CubeTensor, h: usize, w: usize) -> CubeTensor {
    let [_, half] = dims(gaussian);
    map("positions", &[gaussian], &[h * w, 2 * half], &[h, w, half])
}

/// Products of mask tokens `[b, n, c]` with pixels `[b, m, c]`: `[b, n, m]`.
pub fn masks(tokens: &CubeTensor, pixels: &CubeTensor) -> CubeTensor {
    let ([b, n, c], [_, m, _]) = (dims(tokens), dims(pixels));
    map("masks", &[tokens, pixels], &[b, n, m], &[m, c, n])
}
