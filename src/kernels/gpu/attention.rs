//! Softmax attention in one pass over the keys, so that no score outlives its chunk (online softmax, Milakov and Gimelshein 2018).
//!
//! A thread holds one query and its sums. On hardware the threads of a workgroup share tiles of keys and values, and four of them
//! take a query's keys by turns and join their sums at the end; elsewhere a thread reads all keys by itself.

use burn_wgpu::CubeTensor;

use super::{Launch, dims, empty, is_hardware, plane};

/// Keys whose scores a thread has at once.
const CHUNK: usize = 4;
/// Queries and threads a query of a workgroup on hardware.
const QUERIES: usize = 32;
const SPLITS: usize = 4;
/// Keys of a tile: its keys and values are as large as all queries' sums, which lie there at the end. 8 KiB at 64 channels a head.
const TILE: usize = QUERIES / 2;
/// Queries of a workgroup elsewhere.
const SOFTWARE_QUERIES: usize = 8;

/// See [`crate::kernels::WindowAttention::forward_with_bias`]: `qkv` `[b, h, w, 3 c]` with its bias, `bias` `[3 c]`, relative
/// positions `[2 rows - 1, d]` and `[2 columns - 1, d]`.
pub fn window_attention(
    qkv: CubeTensor,
    bias: CubeTensor,
    [rows, columns]: [usize; 2],
    heads: usize,
    [by_row, by_column]: [CubeTensor; 2],
) -> CubeTensor {
    let [b, h, w, c] = dims(&qkv);
    let c = c / 3;
    let d4 = c / heads / 4;
    let relative = relative(&qkv, [rows, columns], heads, [by_row, by_column]);
    let y = empty(&qkv, &[b, h, w, c]);
    let (down, across) = (h.div_ceil(rows), w.div_ceil(columns));
    let is_padded = (down * rows, across * columns) != (h, w);
    let loads = format!(
        "
// Where the query starts in qkv, the result in y, and its relative positions.
fn query_at(token: u32) -> u32 {{ return (token * 3u * p[HEADS] + head) * D4; }}
fn result_at(token: u32) -> u32 {{ return (token * p[HEADS] + head) * D4; }}

// Where the window's token t starts in qkv, or that it lies beyond the image.
fn key_at(t: u32) -> u32 {{
  let row = top + t / COLUMNS;
  let column = left + t % COLUMNS;
{outside}
  return (((image * p[H] + row) * p[W] + column) * 3u * p[HEADS] + head) * D4;
}}
fn query(at: u32, i: u32) -> vec4<f32> {{ return vec4<f32>(qkv[at + i]); }}
fn key(at: u32, i: u32) -> vec4<f32> {{ return vec4<f32>(qkv[at + p[HEADS] * D4 + i]); }}
fn value(at: u32, i: u32) -> vec4<f32> {{ return vec4<f32>(qkv[at + 2u * p[HEADS] * D4 + i]); }}
{beyond}
",
        outside = if is_padded { "  if (row >= p[H] || column >= p[W]) { return NOWHERE; }" } else { "" },
        beyond = if is_padded {
            "// A padded token is zero before the product with the weight, and so the bias alone after it.
fn beyond_key(i: u32) -> vec4<f32> { return vec4<f32>(bias[(p[HEADS] + head) * D4 + i]); }
fn beyond_value(i: u32) -> vec4<f32> { return vec4<f32>(bias[(2u * p[HEADS] + head) * D4 + i]); }"
        } else {
            ""
        },
    );
    let setup = format!(
        "  let window = group.z;
  image = window / {windows}u;
  let first_row = window % {windows}u / {across}u * ROWS;
  let first_column = window % {across}u * COLUMNS;
  top = first_row;
  left = first_column;
  // Queries beyond the image are left out.
  let line = min(COLUMNS, p[W] - first_column);
  let queries = min(ROWS, p[H] - first_row) * line;
  if (group.x * {{queries}}u >= queries) {{ return; }}
  let keys = ROWS * COLUMNS;
  let query_index = group.x * {{queries}}u + local.x;
  let mine = min(query_index, queries - 1u);
  let token = (image * p[H] + top + mine / line) * p[W] + left + mine % line;
  let relative_at = (token * p[HEADS] + head) * (ROWS + COLUMNS);
",
        windows = down * across,
    );
    let mut buffers = vec![("qkv", "vec4<T>", qkv.clone())];
    if is_padded {
        buffers.push(("bias", "vec4<T>", bias));
    }
    buffers.push(("relative", "f32", relative));
    let text = Text { d4, rows, columns, loads, setup, is_relative: true, is_padded };
    let count = [rows.min(h) * columns.min(w), heads, b * down * across];
    text.launch(buffers, &y, &[h, w, 0, 0, heads], count);
    y
}

/// Queries `[b, n, c]`, keys and values `[b, m, c]` to `[b, n, c]`, in `heads` of equal width.
pub fn cross_attention(q: CubeTensor, k: CubeTensor, v: CubeTensor, heads: usize) -> CubeTensor {
    let ([b, n, c], [_, m, _]) = (dims(&q), dims(&k));
    let y = empty(&q, &[b, n, c]);
    let loads = "
fn query_at(token: u32) -> u32 { return (token * p[HEADS] + head) * D4; }
fn result_at(token: u32) -> u32 { return query_at(token); }
fn key_at(t: u32) -> u32 { return ((image * p[KEYS] + t) * p[HEADS] + head) * D4; }
fn query(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(q[at + i]); }
fn key(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(k[at + i]); }
fn value(at: u32, i: u32) -> vec4<f32> { return vec4<f32>(v[at + i]); }
"
    .to_owned();
    let setup = "  image = group.z;
  let queries = p[QUERIES];
  let keys = p[KEYS];
  let query_index = group.x * {queries}u + local.x;
  let token = image * queries + min(query_index, queries - 1u);
"
    .to_owned();
    let d4 = c / heads / 4;
    let text = Text { d4, rows: 1, columns: 1, loads, setup, is_relative: false, is_padded: false };
    let buffers = vec![("q", "vec4<T>", q), ("k", "vec4<T>", k), ("v", "vec4<T>", v)];
    text.launch(buffers, &y, &[0, 0, n, m, heads], [n, heads, b]);
    y
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
    if y.dtype != burn::tensor::DType::F32 {
        y.dtype = burn::tensor::DType::F32;
        y.handle = qkv.client.empty(4 * count);
    }
    Launch::new("relative", include_str!("relative.wgsl"), qkv)
        .slot("d4", c / 3 / heads / 4)
        .slot("rows", rows)
        .slot("columns", columns)
        .bind("qkv", "vec4<T>", qkv)
        .bind("by_row", "vec4<T>", &by_row)
        .bind("by_column", "vec4<T>", &by_column)
        .bind("y", "f32", &y)
        .sizes(&[count, h, w, heads])
        .run(plane(count.div_ceil(64)));
    y
}

/// What the two kinds of attention differ in.
struct Text {
    d4: usize,
    rows: usize,
    columns: usize,
    loads: String,
    /// Finds the query; `{queries}` stands for those of a workgroup.
    setup: String,
    is_relative: bool,
    /// Whether keys may lie beyond the image: `key_at` gives NOWHERE then, and `beyond_key` and `beyond_value` are there.
    is_padded: bool,
}

impl Text {
    fn launch(
        &self,
        buffers: Vec<(&str, &str, CubeTensor)>,
        y: &CubeTensor,
        sizes: &[usize],
        [queries, heads, images]: [usize; 3],
    ) {
        let hardware = is_hardware();
        let (group, splits) = if hardware { (QUERIES, SPLITS) } else { (SOFTWARE_QUERIES, 1) };
        let launch = Launch::new("attention", include_str!("attention.wgsl"), y);
        let launch = buffers.iter().fold(launch, |launch, (name, of, tensor)| launch.bind(name, of, tensor));
        let shared = if hardware {
            format!(
                "var<workgroup> tile: array<vec4<f32>, {}>;\nvar<workgroup> joined: array<vec2<f32>, {QUERIES}>;",
                2 * TILE * self.d4
            )
        } else {
            String::new()
        };
        let setup = self.setup.replace("{queries}", &group.to_string());
        launch
            .bind("y", "vec4<T>", y)
            .slot("d4", self.d4)
            .slot("rows", self.rows)
            .slot("columns", self.columns)
            .slot("shared", shared)
            .slot("loads", &self.loads)
            .slot("queries", group)
            .slot("splits", splits)
            .slot("main", setup + &if hardware { self.tiled() } else { self.direct() })
            .sizes(sizes)
            .run([queries.div_ceil(group), heads, images]);
    }

    /// `line` for each four of a head.
    fn each(&self, line: impl Fn(usize) -> String) -> String {
        (0..self.d4).map(|i| line(i) + "\n").collect()
    }

    fn start(&self) -> String {
        let scale = ((4 * self.d4) as f64).powf(-0.5);
        let text = "  let at = query_at(token);\n  var most = LOWEST;\n  var total = 0.0;\n".to_owned();
        text + &self.each(|i| format!("  let q{i} = query(at, {i}u) * {scale:?};\n  var o{i} = vec4<f32>(0.0);"))
    }

    /// `beyond` where the key at `place` lies beyond the image, else `within`. One branch a key, not one a load: SwiftShader's
    /// compiler takes minutes over dozens of them.
    fn either(&self, place: &str, beyond: String, within: String) -> String {
        if self.is_padded { format!("if ({place} == NOWHERE) {{\n{beyond}}} else {{\n{within}}}\n") } else { within }
    }

    /// Takes a chunk of keys: `products` writes the query's product with the c-th to `s{c}`, `sums` adds all values times their
    /// weights `e{c}` to the sums, `index(c)` is the c-th's place among all keys; those from `end` on do not count.
    fn chunk(&self, products: String, sums: String, index: impl Fn(usize) -> String, end: &str) -> String {
        let mut text: String = (0..CHUNK).map(|c| format!("var s{c} = 0.0;\n")).collect();
        text += &products;
        for c in 0..CHUNK {
            let at = index(c);
            if self.is_relative {
                text += &format!(
                    "let t{c} = min({at}, keys - 1u);\ns{c} += relative[relative_at + t{c} / COLUMNS] + relative[relative_at + ROWS + t{c} % COLUMNS];\n"
                );
            }
            text += &format!("s{c} = select(LOWEST, s{c}, {at} < {end});\n");
        }
        let scores: Vec<String> = (0..CHUNK).map(|c| format!("s{c}")).collect();
        let peak = scores.iter().skip(1).fold(scores[0].clone(), |peak, s| format!("max({peak}, {s})"));
        text += &format!(
            "let peak = {peak};\nif (peak > most) {{\nlet fade = exp(most - peak);\ntotal *= fade;\nmost = peak;\n"
        );
        text += &self.each(|i| format!("o{i} *= fade;"));
        text += "}\n";
        // A thread may have seen no key that counts yet: then all its scores are LOWEST, and their differences 0.
        for c in 0..CHUNK {
            text += &format!("let e{c} = select(0.0, exp(s{c} - most), {} < {end});\n", index(c));
        }
        text += &format!("total += {};\n", (0..CHUNK).map(|c| format!("e{c}")).collect::<Vec<_>>().join(" + "));
        text + &sums
    }

    /// Writes the query's product with a key, of which `key(i)` is the i-th four, to `s{c}`.
    fn product(&self, c: usize, key: impl Fn(usize) -> String) -> String {
        let products: Vec<String> = (0..self.d4).map(|i| format!("dot(q{i}, {})", key(i))).collect();
        format!("s{c} = {};\n", products.join(" + "))
    }

    /// Adds the values of `keys` times their weights, of which `value(c, i)` is the i-th four of the c-th.
    fn sums(&self, keys: std::ops::Range<usize>, value: impl Fn(usize, usize) -> String) -> String {
        self.each(|i| {
            let sum: Vec<String> = keys.clone().map(|c| format!("e{c} * {}", value(c, i))).collect();
            format!("o{i} += {};", sum.join(" + "))
        })
    }

    fn finish(&self) -> String {
        "  if (query_index < queries) {\n    let to = result_at(token);\n".to_owned()
            + &self.each(|i| format!("    y[to + {i}u] = vec4<T>(o{i} / total);"))
            + "  }\n"
    }

    fn direct(&self) -> String {
        let places: String = (0..CHUNK).map(|c| format!("let a{c} = key_at(min(t + {c}u, keys - 1u));\n")).collect();
        let products = (0..CHUNK).map(|c| {
            let beyond = self.product(c, |i| format!("beyond_key({i}u)"));
            self.either(&format!("a{c}"), beyond, self.product(c, |i| format!("key(a{c}, {i}u)")))
        });
        let value = |c: usize, i: usize| format!("value(a{c}, {i}u)");
        let sums = if self.is_padded {
            let one = |c: usize| {
                let beyond = self.sums(c..c + 1, |_, i| format!("beyond_value({i}u)"));
                self.either(&format!("a{c}"), beyond, self.sums(c..c + 1, value))
            };
            (0..CHUNK).map(one).collect()
        } else {
            self.sums(0..CHUNK, value)
        };
        let chunk = self.chunk(products.collect(), sums, |c| format!("(t + {c}u)"), "keys");
        let text = "  if (query_index >= queries) { return; }\n".to_owned() + &self.start();
        text + &format!("  for (var t = 0u; t < keys; t += {CHUNK}u) {{\n{places}{chunk}  }}\n") + &self.finish()
    }

    fn tiled(&self) -> String {
        let (d4, threads, half) = (self.d4, QUERIES * SPLITS, TILE * self.d4);
        let tile = |first: usize, c: usize, i: usize| format!("tile[{first}u + (mine_first + {c}u) * {d4}u + {i}u]");
        let products = (0..CHUNK).map(|c| self.product(c, |i| tile(0, c, i))).collect();
        let sums = self.sums(0..CHUNK, |c, i| tile(half, c, i));
        let chunk = self.chunk(products, sums, |c| format!("(t + mine_first + {c}u)"), "keys");
        let copy = |key: &str, value: &str| format!("tile[i] = {key};\ntile[{half}u + i] = {value};\n");
        let load = self.either(
            "place",
            copy(&format!("beyond_key(i % {d4}u)"), &format!("beyond_value(i % {d4}u)")),
            copy(&format!("key(place, i % {d4}u)"), &format!("value(place, i % {d4}u)")),
        );
        let mut text = format!("  let thread = local.y * {QUERIES}u + local.x;\n") + &self.start();
        text += &format!(
            "  let mine_first = local.y * {CHUNK}u;
  for (var t = 0u; t < keys; t += {TILE}u) {{
    for (var i = thread; i < {half}u; i += {threads}u) {{
      let place = key_at(min(t + i / {d4}u, keys - 1u));
{load}    }}
    workgroupBarrier();
{chunk}
    workgroupBarrier();
  }}
"
        );
        // The threads of a query hand their sums to its first one, by turns.
        text += &format!("  for (var turn = 1u; turn < {SPLITS}u; turn++) {{\n    if (local.y == turn) {{\n");
        text += "      joined[local.x] = vec2<f32>(most, total);\n";
        text += &self.each(|i| format!("      tile[local.x * {d4}u + {i}u] = o{i};"));
        text += "    }\n    workgroupBarrier();\n    if (local.y == 0u) {\n";
        text += "      let other = joined[local.x];\n      let peak = max(most, other.x);\n";
        text += "      let fade = exp(most - peak);\n      let grow = exp(other.x - peak);\n";
        text += "      most = peak;\n      total = total * fade + other.y * grow;\n";
        text += &self.each(|i| format!("      o{i} = o{i} * fade + tile[local.x * {d4}u + {i}u] * grow;"));
        text += "    }\n    workgroupBarrier();\n  }\n  if (local.y == 0u) {\n";
        text + &self.finish() + "  }\n"
    }
}
