//! Layer norm, and GELU after it.

use burn_wgpu::CubeTensor;

use super::{Launch, empty, is_hardware, plane};

/// See [`crate::kernels::layer_norm`]; `gelu` of the result, if wanted.
pub fn layer_norm(x: CubeTensor, weight: CubeTensor, bias: CubeTensor, epsilon: f64, gelu: bool) -> CubeTensor {
    let shape: Vec<usize> = x.meta.shape().iter().copied().collect();
    let n = shape.last().copied().unwrap_or(1);
    let m = shape.iter().product::<usize>() / n;
    let y = empty(&x, &shape);
    let (lanes, rows) = if is_hardware() { (16, 8) } else { (1, 8) };
    Launch::new("norm", include_str!("norm.wgsl"))
        .precision(&x)
        .slot("lanes", lanes)
        .slot("rows", rows)
        .slot("parts", lanes * rows)
        .slot("epsilon", format!("{epsilon:?}"))
        .slot("activation", if gelu { "v = 0.5 * v * (1.0 + erf(v * 0.70710678118654752));" } else { "" })
        .buffer(&x)
        .buffer(&weight)
        .buffer(&bias)
        .buffer(&y)
        .sizes(&[m, n / 4])
        .run(plane(m.div_ceil(rows)));
    y
}
