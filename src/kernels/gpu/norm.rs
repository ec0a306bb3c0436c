//! Layer norm, and an activation after it.

use burn_wgpu::CubeTensor;

use super::{Launch, empty, is_hardware, plane};
use crate::kernels::Activation;

/// Layer norm over the last axis; `then` of each value.
pub fn layer_norm(x: CubeTensor, [weight, bias]: [CubeTensor; 2], epsilon: f64, then: Activation) -> CubeTensor {
    let shape: Vec<usize> = x.meta.shape().iter().copied().collect();
    let n = shape.last().copied().unwrap_or(1);
    let m = shape.iter().product::<usize>() / n;
    let y = empty(&x, &shape);
    let (lanes, rows) = if is_hardware() { (16, 8) } else { (1, 8) };
    Launch::new("norm", include_str!("norm.wgsl"), &x)
        .slot("lanes", lanes)
        .slot("rows", rows)
        .slot("parts", lanes * rows)
        .slot("epsilon", format!("{epsilon:?}"))
        .slot("activation", then.text())
        .bind("x", "vec4<T>", &x)
        .bind("weight", "vec4<T>", &weight)
        .bind("bias", "vec4<T>", &bias)
        .bind("y", "vec4<T>", &y)
        .sizes(&[m, n / 4])
        .run(plane(m.div_ceil(rows)));
    y
}
