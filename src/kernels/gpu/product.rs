//! `activation((x + add) matrix + bias + residual)`: every layer of the network but attention and norms.
//!
//! One thread sums up some rows by four columns. On hardware a workgroup loads tiles of both factors into shared memory first;
//! elsewhere, and for few rows, a thread reads what it needs by itself.

use burn_wgpu::CubeTensor;

use super::{Launch, dims, empty, is_hardware};
use crate::kernels::Activation;

/// How the rows of the left factor are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// As they lie, `[rows, k]`.
    Rows,
    /// Patches of this side of `[b, bands, h, w]`; terms are ordered as a convolution's weight, `[bands, side, side]`.
    Patches(usize),
    /// The nine neighbours of each place of `[b, h, w, c]`, zero beyond its borders; terms are ordered `[3, 3, c]`.
    Neighbours,
}

/// How the rows of the result are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scatter {
    /// As they are, `[rows, n]`.
    Rows,
    /// Rows are places of `[b, h, w]`, columns `[2, 2, n]`: to `[b, 2 h, 2 w, n]`.
    Double,
}

/// The right factor.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // one at a time, handed over once
pub enum Matrix {
    /// `[k, n]`, in the device's precision.
    Dense(CubeTensor),
    /// Integers of `bits` (8 or 4) and f16 scales of each 32 terms: [`crate::kernels::packed`] says how they lie.
    Packed {
        /// Words of four columns.
        values: CubeTensor,
        /// Words of two columns.
        scales: CubeTensor,
        /// 8 or 4.
        bits: u32,
        /// n.
        columns: usize,
    },
}

/// A product and what is done with its sums.
pub struct Product {
    /// The left factor.
    pub x: CubeTensor,
    /// Added to the left factor, row by row and again from its first row on.
    pub add: Option<CubeTensor>,
    /// The right factor.
    pub matrix: Matrix,
    /// `[n]`.
    pub bias: Option<CubeTensor>,
    /// Added like `add`, to the sums.
    pub residual: Option<CubeTensor>,
    /// Last of all.
    pub activation: Activation,
    /// Reading.
    pub gather: Gather,
    /// Writing.
    pub scatter: Scatter,
}

/// Rows of a thread, rows and columns (in fours) of a workgroup, and terms (in fours) of a tile.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    wx: usize,
    wy: usize,
    depth: Option<usize>,
}

impl Cut {
    fn of(rows: usize) -> Self {
        match (is_hardware(), rows) {
            (true, 17..) => Self { rows: 8, wx: 16, wy: 8, depth: Some(4) },
            (true, _) => Self { rows: 1, wx: 32, wy: 1, depth: None },
            (false, 8..) => Self { rows: 8, wx: 8, wy: 1, depth: None },
            (false, _) => Self { rows: 1, wx: 8, wy: 1, depth: None },
        }
    }
}

impl Product {
    /// `x matrix`.
    pub fn new(x: CubeTensor, matrix: Matrix) -> Self {
        let activation = Activation::None;
        let (gather, scatter) = (Gather::Rows, Scatter::Rows);
        Self { x, add: None, matrix, bias: None, residual: None, activation, gather, scatter }
    }

    /// Terms and columns.
    fn inner(&self) -> [usize; 2] {
        match &self.matrix {
            Matrix::Dense(matrix) => dims(matrix),
            Matrix::Packed { values, bits, columns, .. } => {
                let [lines, _] = dims(values);
                [lines * (8 / *bits as usize), *columns]
            }
        }
    }

    /// The result: the shape of x with n in place of its last axis, or as gather and scatter have it.
    pub fn run(self) -> CubeTensor {
        let [_, n] = self.inner();
        let mut shape: Vec<usize> = self.x.meta.shape().iter().copied().collect();
        if let Gather::Patches(side) = self.gather {
            let [b, _, h, w] = dims(&self.x);
            shape = vec![b, h / side, w / side, n];
        }
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        if self.scatter == Scatter::Double {
            let [b, h, w, _] = [shape[0], shape[1], shape[2], n];
            shape = vec![b, 2 * h, 2 * w, n / 4];
        }
        let y = empty(&self.x, &shape);
        let rows = shape.iter().product::<usize>() / n;
        self.launch(&y, rows);
        y
    }

    fn launch(self, y: &CubeTensor, rows: usize) {
        let [k, n] = self.inner();
        debug_assert!(k % 4 == 0 && n % 4 == 0, "{k} x {n}");
        let cut = Cut::of(rows);
        let rows_of = |tensor: &Option<CubeTensor>, width: usize| {
            tensor.as_ref().map_or(1, |t| t.meta.shape().iter().product::<usize>() / width)
        };
        let image = match (self.gather, self.scatter) {
            (Gather::Patches(_), _) => {
                let [_, bands, h, w] = dims(&self.x);
                [h, w, bands]
            }
            (Gather::Neighbours, _) | (_, Scatter::Double) => {
                let [_, h, w, c] = dims(&self.x);
                [h, w, if self.scatter == Scatter::Double { n / 16 } else { c / 4 }]
            }
            _ => [0; 3],
        };
        let mut sizes = vec![rows, n / 4, k / 4, rows_of(&self.add, k), rows_of(&self.residual, n)];
        sizes.extend(image);

        let mut launch = Launch::new("product", include_str!("product.wgsl"), &self.x).bind("x", "vec4<T>", &self.x);
        if let Some(add) = &self.add {
            launch = launch.bind("add", "vec4<T>", add);
        }
        let packed = match &self.matrix {
            Matrix::Dense(matrix) => {
                launch = launch.bind("w", "vec4<T>", matrix);
                None
            }
            Matrix::Packed { values, scales, bits, .. } => {
                launch = launch.bind("w", "u32", values).bind("scales", "vec2<u32>", scales);
                Some(*bits)
            }
        };
        if let Some(bias) = &self.bias {
            launch = launch.bind("bias", "vec4<T>", bias);
        }
        if let Some(residual) = &self.residual {
            launch = launch.bind("residual", "vec4<T>", residual);
        }

        let count = [(n / 4).div_ceil(cut.wx), rows.div_ceil(cut.rows * cut.wy), 1];
        launch
            .bind("y", "vec4<T>", y)
            .slot("gather", self.gather_text())
            .slot("weight", weight_text(packed))
            .slot("scale", scale_text(packed))
            .slot("epilogue", self.epilogue_text())
            .slot("scatter", self.scatter_text())
            .slot("shared", cut.shared_text())
            .slot("wx", cut.wx)
            .slot("wy", cut.wy)
            .slot("main", cut.main_text(packed.is_some()))
            .sizes(&sizes)
            .run(count);
    }

    fn gather_text(&self) -> String {
        match self.gather {
            Gather::Rows => match self.add {
                None => "  return vec4<f32>(x[row * p[K4] + k4]);".into(),
                Some(_) => {
                    "  return vec4<f32>(x[row * p[K4] + k4]) + vec4<f32>(add[row % p[ADD_ROWS] * p[K4] + k4]);".into()
                }
            },
            Gather::Patches(side) => format!(
                "  let k = 4u * k4;
  let band = k / {area}u;
  let line = k % {area}u / {side}u;
  let columns = p[W] / {side}u;
  let places = columns * (p[H] / {side}u);
  let place = row % places;
  let image_row = (row / places * p[C4] + band) * p[H] + place / columns * {side}u + line;
  return vec4<f32>(x[(image_row * p[W] + place % columns * {side}u + k % {side}u) / 4u]);",
                area = side * side
            ),
            Gather::Neighbours => "  let tap = k4 / p[C4];
  let places = p[H] * p[W];
  let place = row % places;
  // Wraps around below zero, and so is beyond the border there too.
  let line = place / p[W] + tap / 3u - 1u;
  let column = place % p[W] + tap % 3u - 1u;
  if (line >= p[H] || column >= p[W]) {
    return vec4<f32>(0.0);
  }
  return vec4<f32>(x[((row - place) + line * p[W] + column) * p[C4] + k4 % p[C4]]);"
                .into(),
        }
    }

    fn epilogue_text(&self) -> String {
        let mut text = String::new();
        if self.bias.is_some() {
            text += match self.scatter {
                Scatter::Rows => "  v += vec4<f32>(bias[n4]);\n",
                // Each quarter of the columns is a place of its own, with the same channels.
                Scatter::Double => "  v += vec4<f32>(bias[n4 % p[C4]]);\n",
            };
        }
        if self.residual.is_some() {
            text += "  v += vec4<f32>(residual[row % p[RESIDUAL_ROWS] * p[N4] + n4]);\n";
        }
        text += self.activation.text();
        text
    }

    fn scatter_text(&self) -> &'static str {
        match self.scatter {
            Scatter::Rows => "  y[row * p[N4] + n4] = vec4<T>(v);",
            Scatter::Double => {
                "  let quarter = n4 / p[C4];
  let line = 2u * (row / p[W]) + quarter / 2u;
  y[(line * 2u * p[W] + 2u * (row % p[W]) + quarter % 2u) * p[C4] + n4 % p[C4]] = vec4<T>(v);"
            }
        }
    }
}

fn weight_text(packed: Option<u32>) -> &'static str {
    match packed {
        None => "  return vec4<f32>(w[k * p[N4] + n4]);",
        Some(8) => {
            "  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(w[k * p[N4] + n4]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));"
        }
        Some(_) => {
            "  let word = w[k / 2u * p[N4] + n4] >> (16u * (k % 2u));
  return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)) - 8.0;"
        }
    }
}

fn scale_text(packed: Option<u32>) -> &'static str {
    match packed {
        None => "  return vec4<f32>(1.0);",
        Some(_) => {
            "  let s = scales[k / 32u * p[N4] + n4];
  return vec4<f32>(unpack2x16float(s.x), unpack2x16float(s.y));"
        }
    }
}

/// Written out for each of `count` rows: loops over arrays stay loops on some compilers.
fn each(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|i| line(i) + "\n").collect()
}

impl Cut {
    fn shared_text(&self) -> String {
        let Some(depth) = self.depth else { return String::new() };
        // A line of x is one longer than its tile, so that neighbouring rows lie in different banks.
        format!(
            "var<workgroup> tile_x: array<vec4<f32>, {}>;\nvar<workgroup> tile_w: array<vec4<f32>, {}>;",
            self.rows * self.wy * (depth + 1),
            4 * depth * self.wx
        )
    }

    fn main_text(&self, is_packed: bool) -> String {
        match self.depth {
            None => self.direct_text(is_packed),
            Some(depth) => self.tiled_text(depth, is_packed),
        }
    }

    /// Four terms of all rows: `x{i}` and `w0` to `w3` into `s{i}`.
    fn multiply(&self) -> String {
        each(self.rows, |i| format!("s{i} += x{i}.x * w0 + x{i}.y * w1 + x{i}.z * w2 + x{i}.w * w3;"))
    }

    fn direct_text(&self, is_packed: bool) -> String {
        let rows = self.rows;
        let weights =
            each(4, |i| format!("let w{i} = load_w(4u * k4 + {i}u, n4){};", if is_packed { " * scale" } else { "" }));
        let mut text = format!(
            "  let n4 = group.x * {}u + local.x;
  let first = (group.y * {}u + local.y) * {rows}u;
  if (n4 >= p[N4] || first >= p[M]) {{
    return;
  }}
  let last = p[M] - 1u;
",
            self.wx, self.wy
        );
        text += &each(rows, |i| format!("  let r{i} = min(first + {i}u, last);\n  var s{i} = vec4<f32>(0.0);"));
        let inner = each(rows, |i| format!("let x{i} = load_x(r{i}, k4);")) + &weights + &self.multiply();
        text += &if is_packed {
            format!(
                "  for (var block = 0u; block < p[K4]; block += 8u) {{
    let scale = scale_of(4u * block, n4);
    let end = min(block + 8u, p[K4]);
    for (var k4 = block; k4 < end; k4++) {{
{inner}    }}
  }}
"
            )
        } else {
            format!("  for (var k4 = 0u; k4 < p[K4]; k4++) {{\n{inner}  }}\n")
        };
        text += &each(rows, |i| format!("  if (first + {i}u < p[M]) {{ store(first + {i}u, n4, s{i}); }}"));
        text
    }

    fn tiled_text(&self, depth: usize, is_packed: bool) -> String {
        let (rows, wx, wy) = (self.rows, self.wx, self.wy);
        let (threads, high) = (wx * wy, rows * wy);
        let scale = if is_packed { " * scale_of(k, column)" } else { "" };
        let mut text = format!(
            "  let thread = local.y * {wx}u + local.x;
  let first = group.y * {high}u;
  let left = group.x * {wx}u;
  let n4 = left + local.x;
"
        );
        text += &each(rows, |i| format!("  var s{i} = vec4<f32>(0.0);"));
        text += &format!(
            "  for (var start = 0u; start < p[K4]; start += {depth}u) {{
    for (var i = thread; i < {x_tile}u; i += {threads}u) {{
      let row = first + i / {depth}u;
      let k4 = start + i % {depth}u;
      var v = vec4<f32>(0.0);
      if (row < p[M] && k4 < p[K4]) {{
        v = load_x(row, k4);
      }}
      tile_x[i / {depth}u * {line}u + i % {depth}u] = v;
    }}
    for (var i = thread; i < {w_tile}u; i += {threads}u) {{
      let k = 4u * start + i / {wx}u;
      let column = left + i % {wx}u;
      var v = vec4<f32>(0.0);
      if (k < 4u * p[K4] && column < p[N4]) {{
        v = load_w(k, column){scale};
      }}
      tile_w[i] = v;
    }}
    workgroupBarrier();
    for (var k4 = 0u; k4 < {depth}u; k4++) {{
",
            x_tile = high * depth,
            line = depth + 1,
            w_tile = 4 * depth * wx,
        );
        // Neighbouring threads take neighbouring rows, which lie in different banks.
        text += &each(rows, |i| format!("let x{i} = tile_x[(local.y + {}u) * {}u + k4];", i * wy, depth + 1));
        text += &each(4, |i| format!("let w{i} = tile_w[(4u * k4 + {i}u) * {wx}u + local.x];"));
        text += &self.multiply();
        text += "    }\n    workgroupBarrier();\n  }\n";
        text += &each(rows, |i| {
            let row = format!("first + local.y + {}u", i * wy);
            format!("  if (n4 < p[N4] && {row} < p[M]) {{ store({row}, n4, s{i}); }}")
        });
        text
    }
}
