//! Weights built by hand that carry colours through the network.
//!
//! - The patch embedding averages the 16 cells of 4 x 4 px of a patch: 48 colours.
//! - Every block's output projections are zero, so tokens pass unchanged (and the time is that of a real model).
//! - The neck adds the patch's mean colour and that of the 3 x 3 patches around it.
//! - The up-scaling hands each cell its own colour and turns these nine numbers into [`FEATURES`] random ones.
//!
//! A layer norm would distort the colours. So every vector also holds each number's negative, which makes its mean zero,
//! and a large constant +-[`LARGE`], which makes its deviation a constant that the norm's weight takes back.

use samlora::random::SplitMix;

/// Numbers at each pixel that a class's kernel weighs.
pub const FEATURES: usize = 32;
/// Large beside normalised colours (about -2 to 2.6), within f16 when squared.
const LARGE: f32 = 100.0;
/// Colours times this are what the vectors hold. Keeps the deviation constant to 0.1 %.
const CELLS: usize = 16;
/// Added before a GELU so that numbers pass it unchanged, and taken off after it.
const LIFT: f32 = 10.0;

/// Channels of the embedding: 48 cells, their negatives, patch mean, negatives, neighbourhood mean, negatives.
const CELL: usize = 0;
const PATCH: usize = 96;
const AROUND: usize = 102;
/// The two constants, at the end.
const PLUS: usize = 254;

/// The values of one tensor; `kernels` are the classes' mask kernels.
pub fn values(name: &str, shape: &[usize], kernels: &[Vec<f32>]) -> Vec<f32> {
    let count = shape.iter().product();
    let mut v = vec![0.0; count];
    let mut set = |index: [usize; 4], value: f32| {
        let [a, b, c, d] = index;
        let side = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        v[((a * side(1) + b) * side(2) + c) * side(3) + d] = value;
    };
    let part = name.split_once('.').map_or(name, |(_, rest)| rest);
    match part {
        "patch_embed.proj.weight" => {
            for i in 0..CELLS * 3 {
                let (cell, band) = (i / 3, i % 3);
                for pixel in 0..16 {
                    set([i, band, cell / 4 * 4 + pixel / 4, cell % 4 * 4 + pixel % 4], 1.0 / 16.0);
                }
            }
        }
        "patch_embed.proj.bias" => set([0, 0, 0, CELLS * 3], 1.0),
        "neck.0.weight" => {
            for i in 0..CELLS * 3 {
                set([CELL + i, i, 0, 0], 1.0);
                set([CELL + 48 + i, i, 0, 0], -1.0);
                set([PATCH + i % 3, i, 0, 0], 1.0 / CELLS as f32);
                set([PATCH + 3 + i % 3, i, 0, 0], -1.0 / CELLS as f32);
            }
            set([PLUS, CELLS * 3, 0, 0], LARGE);
            set([PLUS + 1, CELLS * 3, 0, 0], -LARGE);
        }
        "neck.2.weight" => {
            for channel in (0..AROUND).chain(PLUS..PLUS + 2) {
                set([channel, channel, 1, 1], 1.0);
            }
            for (channel, tap) in (0..6).flat_map(|c| (0..9).map(move |t| (c, t))) {
                set([AROUND + channel, PATCH + channel, tap / 3, tap % 3], 1.0 / 9.0);
            }
        }
        "output_upscaling.0.weight" => {
            // [in, out, row, column]: each quarter of the patch takes its four cells
            for (cell, band) in (0..CELLS).flat_map(|c| (0..3).map(move |b| (c, b))) {
                let (row, column) = (cell / 4, cell % 4);
                let place = (row % 2 * 2 + column % 2) * 3 + band;
                set([CELL + cell * 3 + band, place, row / 2, column / 2], 1.0);
                set([CELL + 48 + cell * 3 + band, 12 + place, row / 2, column / 2], 1.0);
            }
            for (i, quarter) in (0..6).flat_map(|i| (0..4).map(move |q| (i, q))) {
                set([PATCH + i, 24 + i, quarter / 2, quarter % 2], 1.0);
                set([AROUND + i, 30 + i, quarter / 2, quarter % 2], 1.0);
            }
        }
        "output_upscaling.0.bias" => {
            set([0, 0, 0, 62], LARGE);
            set([0, 0, 0, 63], -LARGE);
        }
        "output_upscaling.1.weight" => carried(&mut |channel| set([0, 0, 0, channel], restored(64))),
        "output_upscaling.1.bias" => carried(&mut |channel| set([0, 0, 0, channel], LIFT)),
        "output_upscaling.3.weight" => {
            for (feature, weights) in mixture().into_iter().enumerate() {
                for (band, pixel) in (0..3).flat_map(|b| (0..4).map(move |p| (b, p))) {
                    set([pixel * 3 + band, feature, pixel / 2, pixel % 2], weights[band]);
                    set([24 + band, feature, pixel / 2, pixel % 2], weights[3 + band]);
                    set([30 + band, feature, pixel / 2, pixel % 2], weights[6 + band]);
                }
            }
        }
        "output_upscaling.3.bias" => {
            for (feature, weights) in mixture().into_iter().enumerate() {
                set([0, 0, 0, feature], weights[9] - LIFT * weights[..9].iter().sum::<f32>());
            }
        }
        _ if part.starts_with("output_hypernetworks_mlps.") && part.ends_with("layers.2.bias") => {
            let class = part.split('.').nth(1).and_then(|n| n.parse::<usize>().ok());
            v.copy_from_slice(class.and_then(|c| kernels.get(c)).map_or(&[0.0; FEATURES], Vec::as_slice));
        }
        "neck.1.weight" | "neck.3.weight" => v.fill(restored(256)),
        _ if part.ends_with("norm4.weight") => v.fill(restored(256)),
        _ if part.contains("norm") && part.ends_with("weight") => v.fill(1.0),
        // Attention and MLPs compute on something, and add nothing.
        _ if part.contains("qkv.weight") || part.contains("lin1.weight") => v = layout_random(name, shape),
        _ => {}
    }
    v
}

/// What a layer norm over `channels` divides by: the deviation of two constants among small numbers.
fn restored(channels: usize) -> f32 {
    LARGE * (2.0 / channels as f32).sqrt()
}

fn carried(set: &mut dyn FnMut(usize)) {
    (0..12).chain(24..27).chain(30..33).for_each(set);
}

/// For each feature the weights of cell, patch and neighbourhood colours, and its bias; the last is a constant.
fn mixture() -> Vec<[f32; 10]> {
    let mut random = SplitMix(5);
    let mut features: Vec<[f32; 10]> = (0..FEATURES)
        .map(|_| {
            std::array::from_fn(|i| {
                random.uniform()
                    * if i < 3 {
                        2.0
                    } else if i < 9 {
                        0.7
                    } else {
                        2.0
                    }
            })
        })
        .collect();
    if let Some(last) = features.last_mut() {
        *last = [0.0; 10];
        last[9] = 4.0;
    }
    features
}

fn layout_random(name: &str, shape: &[usize]) -> Vec<f32> {
    samlora::weights::layout::random(name, shape, 7)
}
