//! Softmax attention: what the kernel's text leaves open.

use burn::tensor::DType;
use burn_wgpu::CubeTensor;

use super::launch::{Launch, plane, wgsl};
use super::profile::is_hardware;
use super::tensor::{dims, empty};

/// Queries of a workgroup and threads of a query on hardware. Tiles are 8 KiB at 64 channels a head.
const QUERIES: usize = 32;
const SPLITS: usize = 4;
/// Queries of a workgroup elsewhere.
const SOFTWARE_QUERIES: usize = 8;

/// See [`crate::kernels::WindowAttention::forward`]: `qkv` `[b, h, w, 3 c]` with its bias, `bias` `[3 c]`, heads and the
/// scale of their products, relative positions `[2 rows - 1, d]` and `[2 columns - 1, d]`.
pub fn window_attention(
    qkv: CubeTensor,
    bias: CubeTensor,
    sides: [usize; 2],
    (heads, scale): (usize, f64),
    positions: [CubeTensor; 2],
) -> CubeTensor {
    let relative = relative(&qkv, sides, heads, positions);
    windows(&qkv, &bias, sides, (heads, scale), &relative, false)
}

/// See [`crate::kernels::BiasedAttention::forward`].
pub fn biased_attention(qkv: CubeTensor, beyond: CubeTensor, biases: CubeTensor) -> CubeTensor {
    let [heads, rows, columns] = dims(&biases);
    let [_, _, _, channels] = dims(&qkv);
    let scale = ((channels / 3 / heads) as f64).powf(-0.5);
    windows(&qkv, &beyond, [rows, columns], (heads, scale), &biases, true)
}

/// Attention in windows of an image. What is added to scores is a learnt bias (`is_biased`; then `qkv` is ordered by heads), or
/// products with relative positions.
fn windows(
    qkv: &CubeTensor,
    beyond: &CubeTensor,
    [rows, columns]: [usize; 2],
    (heads, scale): (usize, f64),
    added: &CubeTensor,
    is_biased: bool,
) -> CubeTensor {
    let [b, h, w, c] = dims(qkv);
    let c = c / 3;
    let y = empty(qkv, &[b, h, w, c]);
    let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
    let is_padded = (down * rows, across * columns) != (h, w);
    let launch = Launch::new("attention", wgsl!("attention"), &y)
        .set("windows", down * across)
        .set("across", across)
        .set("rows", rows)
        .set("columns", columns)
        .set("biased", usize::from(is_biased))
        .bind(qkv)
        .bind_some("padded", is_padded.then_some(beyond))
        .bind(added);
    let count = [rows.min(h) * columns.min(w), heads, b * down * across];
    run(launch, &y, (c / heads, scale), &[h, w, 0, 0, heads], count);
    y
}

/// Queries `[b, n, c]`, keys and values `[b, m, c]` to `[b, n, c]`, in `heads` of equal width.
pub fn cross_attention(q: CubeTensor, k: CubeTensor, v: CubeTensor, heads: usize) -> CubeTensor {
    let ([b, n, c], [_, m, _]) = (dims(&q), dims(&k));
    let y = empty(&q, &[b, n, c]);
    let launch = Launch::new("attention", wgsl!("attention"), &y).bind(&q).bind(&k).bind(&v);
    let dim = c / heads;
    run(launch, &y, (dim, (dim as f64).powf(-0.5)), &[0, 0, n, m, heads], [n, heads, b]);
    y
}

/// Launches the kernel on a grid of queries, heads, and images or windows.
fn run(
    launch: Launch,
    y: &CubeTensor,
    (dim, scale): (usize, f64),
    sizes: &[usize],
    [queries, heads, images]: [usize; 3],
) {
    let (group, splits) = if is_hardware() { (QUERIES, SPLITS) } else { (SOFTWARE_QUERIES, 0) };
    launch
        .bind(y)
        .set("d4", dim / 4)
        .set_text("scale", format!("{scale:?}"))
        .set("group", group)
        .set("splits", splits)
        .sizes(sizes)
        .run([queries.div_ceil(group), heads, images]);
}

/// The products of all queries with relative positions, f32 `[b h w, heads, rows + columns]`.
fn relative(
    qkv: &CubeTensor,
    [rows, columns]: [usize; 2],
    heads: usize,
    [by_row, by_column]: [CubeTensor; 2],
) -> CubeTensor {
    let [b, h, w, c] = dims(qkv);
    let shape = [b * h * w, heads, rows + columns];
    let count: usize = shape.iter().product();
    let mut y = empty(qkv, &shape);
    if y.dtype != DType::F32 {
        y.dtype = DType::F32;
        y.handle = qkv.client.empty(4 * count);
    }
    Launch::new("relative", wgsl!("relative"), qkv)
        .set("d4", c / 3 / heads / 4)
        .set("rows", rows)
        .set("columns", columns)
        .bind(qkv)
        .bind(&by_row)
        .bind(&by_column)
        .bind(&y)
        .sizes(&[count, h, w, heads])
        .run(plane(count.div_ceil(64)));
    y
}
