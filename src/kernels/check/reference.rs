//! What the kernels are compared with: each operation in plain loops, sums in double precision.

use half::f16;

use super::super::activation::Activation;
use super::super::quantized::BLOCK;

/// `[m, k]` times `[k, n]`.
pub fn product(x: &[f32], w: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let sum = |row: usize, column: usize| -> f64 {
        (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[i * n + column])).sum()
    };
    (0..m * n).map(|at| sum(at / n, at % n) as f32).collect()
}

/// `activation(y + bias + residual)`, in place.
pub fn finish(y: &mut [f32], bias: Option<&Vec<f32>>, residual: Option<&Vec<f32>>, activation: Activation) {
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias.map_or(0.0, |bias| bias[i % bias.len()]) + residual.map_or(0.0, |residual| residual[i]);
        *y = activate(*y, activation);
    }
}

fn activate(x: f32, activation: Activation) -> f32 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Gelu => {
            // erf by its series, or 1 where that has no digits left
            let z = f64::from(x) * std::f64::consts::FRAC_1_SQRT_2;
            let mut term = z;
            let mut sum = z;
            for n in 1..200 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            let erf = if z.abs() > 5.0 { z.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() };
            (f64::from(x) / 2.0 * (1.0 + erf)) as f32
        }
    }
}

/// Rows of `n` outputs as a package stores them, to `[k, n]`.
pub fn dequantize(bits: usize, bytes: &[u8], scales: &[u8], [n, k]: [usize; 2]) -> Vec<f32> {
    let blocks = k.div_ceil(BLOCK);
    let integer = |output: usize, input: usize| match bits {
        8 => f32::from(bytes[output * k + input] as i8),
        _ => f32::from(bytes[(output * k + input) / 2] >> (4 * (input % 2)) & 15) - 8.0,
    };
    let scale = |output: usize, input: usize| {
        let at = 2 * (output * blocks + input / BLOCK);
        f16::from_le_bytes([scales[at], scales[at + 1]]).to_f32()
    };
    (0..k * n).map(|at| integer(at % n, at / n) * scale(at % n, at / n)).collect()
}

/// Image `[b, bands, h side, w side]`, weight `[n, bands, side, side]`: `[b, h, w, n]`.
pub fn patch_embed(image: &[f32], weight: &[f32], bias: &[f32], [b, bands, h, w, side, n]: [usize; 6]) -> Vec<f32> {
    let mut y = Vec::new();
    for (image_index, place, out) in (0..b * h * w * n).map(|at| (at / (h * w * n), at / n % (h * w), at % n)) {
        let mut sum = f64::from(bias[out]);
        for (band, i, j) in (0..bands * side * side).map(|t| (t / (side * side), t / side % side, t % side)) {
            let row = (image_index * bands + band) * h * side + place / w * side + i;
            let pixel = image[row * w * side + place % w * side + j];
            sum += f64::from(pixel) * f64::from(weight[((out * bands + band) * side + i) * side + j]);
        }
        y.push(sum as f32);
    }
    y
}

/// `[b, h, w, c]` and `[n, part, side, side]`, where each of n outputs has as many inputs and the groups of c follow one another, with
/// `before` zero pixels above and left: `[b, ceil(h / stride), ceil(w / stride), n]`.
pub fn convolution(
    x: &[f32],
    weight: &[f32],
    [b, h, w, c]: [usize; 4],
    [n, part, side]: [usize; 3],
    [stride, before]: [usize; 2],
) -> Vec<f32> {
    let (down, across) = (h.div_ceil(stride), w.div_ceil(stride));
    let mut y = Vec::new();
    for at in 0..b * down * across * n {
        let (image, row, column, out) = (at / (down * across * n), at / (across * n) % down, at / n % across, at % n);
        let first = out / (n * part / c) * part;
        let mut sum = 0.0f64;
        for tap in 0..side * side {
            let (i, j) = (row * stride + tap / side, column * stride + tap % side);
            if (before..before + h).contains(&i) && (before..before + w).contains(&j) {
                let from = ((image * h + i - before) * w + j - before) * c + first;
                let product = |k| f64::from(x[from + k]) * f64::from(weight[(out * part + k) * side * side + tap]);
                sum += (0..part).map(product).sum::<f64>();
            }
        }
        y.push(sum as f32);
    }
    y
}

/// GELU of the transposed convolution of `[b, h, w, c]` with `[c, n, 2, 2]`: `[b, 2 h, 2 w, n]`.
pub fn double(x: &[f32], weight: &[f32], bias: &[f32], [b, h, w, c, n]: [usize; 5]) -> Vec<f32> {
    let mut y = Vec::new();
    for at in 0..b * 4 * h * w * n {
        let (out, column, row, image) = (at % n, at / n % (2 * w), at / (2 * w * n) % (2 * h), at / (4 * h * w * n));
        let from = ((image * h + row / 2) * w + column / 2) * c;
        let tap = row % 2 * 2 + column % 2;
        let sum: f64 = (0..c).map(|k| f64::from(x[from + k]) * f64::from(weight[(k * n + out) * 4 + tap])).sum();
        y.push(activate((sum + f64::from(bias[out])) as f32, Activation::Gelu));
    }
    y
}

/// Softmax of `scores`, and the sum of `value(key, i)` by it, for each `i` of `dim`.
fn attend(scores: &[f64], dim: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - peak).exp()).collect();
    let total: f64 = weights.iter().sum();
    let sum = |i: usize| weights.iter().enumerate().map(|(key, w)| w * f64::from(value(key, i))).sum::<f64>();
    (0..dim).map(|i| (sum(i) / total) as f32).collect()
}

/// What is added to scores, and with it the order of a token's queries, keys and values.
pub enum Added<'a> {
    /// Products of queries with relative positions along rows and columns; tokens are `[3, heads, d]`.
    Relative([&'a [f32]; 2]),
    /// Biases `[heads, rows, columns]` by distance; tokens are `[heads, 3, d]`.
    Biases(&'a [f32]),
}

/// The image is filled up to whole windows with tokens whose q, k and v are `beyond`.
pub fn window_attention(
    qkv: &[f32],
    beyond: &[f32],
    added: &Added,
    [b, h, w, c]: [usize; 4],
    [rows, columns, heads]: [usize; 3],
) -> Vec<f32> {
    let dim = c / heads;
    let number = |image: usize, row: usize, column: usize, at: usize| {
        if row < h && column < w { qkv[((image * h + row) * w + column) * 3 * c + at] } else { beyond[at] }
    };
    // Where the queries (0), keys (1) or values (2) of a head are.
    let part = |i: usize, head: usize| match added {
        Added::Relative(_) => i * c + head * dim,
        Added::Biases(_) => (3 * head + i) * dim,
    };
    let mut y = Vec::new();
    for (image, row, column, head) in
        (0..b * h * w * heads).map(|at| (at / (h * w * heads), at / (w * heads) % h, at / heads % w, at % heads))
    {
        let (top, left) = (row / rows * rows, column / columns * columns);
        let query: Vec<f64> = (0..dim).map(|i| f64::from(number(image, row, column, part(0, head) + i))).collect();
        let dot = |other: &dyn Fn(usize) -> f32| -> f64 { (0..dim).map(|i| query[i] * f64::from(other(i))).sum() };
        let key = |key: usize| (top + key / columns, left + key % columns);
        let scores: Vec<f64> = (0..rows * columns)
            .map(|k| {
                let (key_row, key_column) = key(k);
                let product = dot(&|i| number(image, key_row, key_column, part(1, head) + i));
                let added = match added {
                    Added::Relative([by_row, by_column]) => {
                        dot(&|i| by_row[(row + rows - 1 - key_row) * dim + i])
                            + dot(&|i| by_column[(column + columns - 1 - key_column) * dim + i])
                    }
                    Added::Biases(biases) => {
                        let line = head * rows + row.abs_diff(key_row);
                        f64::from(biases[line * columns + column.abs_diff(key_column)])
                    }
                };
                product / (dim as f64).sqrt() + added
            })
            .collect();
        y.extend(attend(&scores, dim, |k, i| number(image, key(k).0, key(k).1, part(2, head) + i)));
    }
    y
}

/// `[b, n, c]` to `[b, m, c]`.
pub fn cross_attention(q: &[f32], k: &[f32], v: &[f32], [b, n, m, c, heads]: [usize; 5]) -> Vec<f32> {
    let dim = c / heads;
    let mut y = Vec::new();
    for (image, query, head) in (0..b * n * heads).map(|at| (at / (n * heads), at / heads % n, at % heads)) {
        let place = |token: usize, i: usize| token * c + head * dim + i;
        let scores: Vec<f64> = (0..m)
            .map(|key| {
                let product =
                    |i: usize| f64::from(q[place(image * n + query, i)]) * f64::from(k[place(image * m + key, i)]);
                (0..dim).map(product).sum::<f64>() / (dim as f64).sqrt()
            })
            .collect();
        y.extend(attend(&scores, dim, |key, i| v[place(image * m + key, i)]));
    }
    y
}

/// Over rows as long as `weight`.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], epsilon: f64, activation: Activation) -> Vec<f32> {
    let n = weight.len();
    let mut y = Vec::new();
    for row in x.chunks_exact(n) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let variance = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
        for (i, v) in row.iter().enumerate() {
            let normal = (f64::from(*v) - mean) / (variance + epsilon).sqrt();
            y.push(activate((normal * f64::from(weight[i]) + f64::from(bias[i])) as f32, activation));
        }
    }
    y
}

/// A line of `length` samples at position `at` of `to`: two neighbours and the weight of the second.
fn taps(at: usize, length: usize, to: usize) -> (usize, usize, f64) {
    let line = ((at as f64 + 0.5) * length as f64 / to as f64 - 0.5).max(0.0);
    let low = (line as usize).min(length - 1);
    (low, (low + 1).min(length - 1), line - low as f64)
}

/// The middle axis of `[outer, length, inner]` to `to`.
pub fn resample(x: &[f32], [outer, length, inner]: [usize; 3], to: usize) -> Vec<f32> {
    let mut y = Vec::new();
    for at in 0..outer * to * inner {
        let (low, high, weight) = taps(at / inner % to, length, to);
        let read = |line: usize| f64::from(x[(at / (to * inner) * length + line) * inner + at % inner]);
        y.push((read(low) * (1.0 - weight) + read(high) * weight) as f32);
    }
    y
}

/// `gaussian` `[2, half]`: `[h w, 2 half]`.
pub fn dense_pe(gaussian: &[f32], h: usize, w: usize) -> Vec<f32> {
    let half = gaussian.len() / 2;
    let number = |cell: usize, column: usize| {
        let x = 2.0 * ((cell % w) as f64 + 0.5) / w as f64 - 1.0;
        let y = 2.0 * ((cell / w) as f64 + 0.5) / h as f64 - 1.0;
        let (a, b) = (gaussian[column % half], gaussian[half + column % half]);
        let angle = std::f64::consts::TAU * (x * f64::from(a) + y * f64::from(b));
        if column < half { angle.sin() } else { angle.cos() }
    };
    (0..h * w * 2 * half).map(|at| number(at / (2 * half), at % (2 * half)) as f32).collect()
}

/// The classes that are likeliest but for rounding, and the probability of the likeliest, for each pixel of a part.
pub fn classify(
    logits: &[f32],
    [classes, h, w]: [usize; 3],
    side: usize,
    [top, left]: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Vec<(Vec<u8>, f32)> {
    let pixel = |row: usize, column: usize| {
        let (above, below, down) = taps(top + row, h, side);
        let (before, after, across) = taps(left + column, w, side);
        let value = |class: usize| {
            let read = |row: usize, column: usize| f64::from(logits[(class * h + row) * w + column]);
            let line = |row: usize| read(row, before) * (1.0 - across) + read(row, after) * across;
            line(above) * (1.0 - down) + line(below) * down
        };
        let values: Vec<f64> = (0..classes).map(value).collect();
        let peak = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = values.iter().map(|v| (v - peak).exp()).sum();
        let likely = values.iter().enumerate().filter(|(_, v)| **v >= peak - 1e-4);
        (likely.map(|(class, _)| class as u8).collect(), (1.0 / total) as f32)
    };
    (0..rows * columns).map(|at| pixel(at / columns, at % columns)).collect()
}
