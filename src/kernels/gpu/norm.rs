//! Layer norm, and an activation after it.

use burn_wgpu::CubeTensor;

use super::launch::{Launch, plane, wgsl};
use super::profile::is_hardware;
use super::tensor::empty;
use crate::kernels::activation::Activation;

/// Layer norm over the last axis; `then` of each value.
pub fn layer_norm(x: CubeTensor, [weight, bias]: [CubeTensor; 2], epsilon: f64, then: Activation) -> CubeTensor {
    let shape: Vec<usize> = x.meta.shape().iter().copied().collect();
    let n = shape.last().copied().unwrap_or(1);
    let m = shape.iter().product::<usize>() / n;
    let y = empty(&x, &shape);
    let (lanes, rows): (usize, usize) = if is_hardware() { (16, 8) } else { (1, 8) };
    Launch::new("norm", wgsl!("norm"), &x)
        .bind(&x)
        .bind(&weight)
        .bind(&bias)
        .bind(&y)
        .set("lanes", lanes)
        .set("rows", rows)
        .set_text("epsilon", format!("{epsilon:?}"))
        .activation(then)
        .sizes(&[m, n / 4])
        .run(plane(m.div_ceil(rows)));
    y
}
