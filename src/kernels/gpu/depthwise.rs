//! Depthwise convolution.

use burn_wgpu::CubeTensor;

use super::launch::{Launch, plane, wgsl};
use super::tensor::{dims, empty};
use crate::kernels::activation::Activation;

/// Pixels of a thread, which lie side by side: they share the kernel and most of what it covers.
const RUN: usize = 4;

/// See [`crate::kernels::convolution::depthwise`]: `[b, h, w, c]` and `[k, k, c]`.
pub fn depthwise(
    x: &CubeTensor,
    weight: &CubeTensor,
    bias: Option<&CubeTensor>,
    [stride, before]: [usize; 2],
    activation: Activation,
) -> CubeTensor {
    let ([b, h, w, c], [side, _, _]) = (dims(x), dims(weight));
    let (down, across) = (h.div_ceil(stride), w.div_ceil(stride));
    let y = empty(x, &[b, down, across, c]);
    let count = b * down * across.div_ceil(RUN) * (c / 4);
    Launch::new("depthwise", wgsl!("depthwise"), x)
        .bind(x)
        .bind(weight)
        .bind_some("bias", bias)
        .bind(&y)
        .activation(activation)
        .set("side", side)
        .set("stride", stride)
        .set("before", before)
        .set("run", RUN)
        .set("span", (RUN - 1) * stride + side)
        .sizes(&[count, h, w, c / 4, down, across])
        .run(plane(count.div_ceil(64)));
    y
}
