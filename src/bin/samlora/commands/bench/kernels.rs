//! Each kind of layer of a backbone by itself, against the device's own peak.

use burn::tensor::{Device, Tensor, TensorData};
use samlora::config::{Backbone, EncoderKind, SamConfig};
use samlora::error::{Error, ErrorKind, Result};
use samlora::kernels::{self, Activation, Epilogue, Matrix, WindowAttention, convolution};
use samlora::layers::HeadPadding;
use samlora::random::SplitMix;
use samlora::weights::package::Stored;
use samlora::weights::quantize::Scheme;
use serde_json::json;

use super::{BenchArgs, measure, print_json, say, sync};

/// A layer: what it costs and how often an image needs it.
struct BenchedLayer {
    name: &'static str,
    shape: String,
    /// How many there are.
    count: usize,
    /// Multiplications and additions of one.
    operations: f64,
    /// Bytes that must be read and written at least, weights as they are stored.
    bytes: f64,
    run: Box<dyn Fn() -> Tensor<1>>,
}

struct Maker<'a> {
    device: &'a Device,
    scheme: Scheme,
}

impl Maker<'_> {
    fn random<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        let mut random = SplitMix(shape.iter().sum::<usize>() as u64);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.uniform() * 0.1).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// A matrix `[inputs, outputs]` in the scheme, and its bytes.
    fn matrix(&self, inputs: usize, outputs: usize) -> (Matrix, f64) {
        let bits = match self.scheme {
            Scheme::Q8 => 8,
            Scheme::Q4 => 4,
            Scheme::F32 | Scheme::F16 => 0,
        };
        if bits == 0 || !kernels::multiplies_quantized(self.device) {
            return (Matrix::Dense(self.random([inputs, outputs])), 4.0 * (inputs * outputs) as f64);
        }
        let mut random = SplitMix(1);
        let values: Vec<f32> = (0..inputs * outputs).map(|_| random.uniform() * 0.1).collect();
        let stored = Stored::new(self.scheme, &values, &[outputs, inputs]);
        let matrix: Matrix = Matrix::quantized(bits, &stored.values, &stored.scales, [outputs, inputs], self.device);
        let bytes = matrix.bytes() as f64;
        (matrix, bytes)
    }

    fn linear(&self, name: &'static str, count: usize, [m, k, n]: [usize; 3], activation: Activation) -> BenchedLayer {
        let x = self.random([m, k]);
        let (matrix, weights) = self.matrix(k, n);
        let bias = self.random([n]);
        let residual = (activation == Activation::None && name != "qkv").then(|| self.random([m, n]));
        let run = move || {
            let epilogue =
                Epilogue { bias: Some(bias.clone()), residual: residual.clone(), activation, ..Epilogue::default() };
            kernels::linear(x.clone(), matrix.clone(), epilogue).reshape([m * n])
        };
        let bytes = 4.0 * (m * k + m * n) as f64 + weights;
        let operations = 2.0 * (m * k * n) as f64;
        BenchedLayer { name, shape: format!("{m} x {k} x {n}"), count, operations, bytes, run: Box::new(run) }
    }

    fn attention(
        &self,
        name: &'static str,
        count: usize,
        config: &SamConfig,
        side: usize,
        window: usize,
    ) -> BenchedLayer {
        let (heads, dim) = (config.num_heads, HeadPadding::head_dim(config, self.device));
        let c = heads * dim;
        let (x, qkv) = (self.random([1, side, side, c]), self.random([1, side, side, 3 * c]));
        let bias = self.random([3 * c]);
        let positions = self.random([2 * window - 1, dim]);
        let attention = WindowAttention {
            rows: window,
            columns: window,
            heads,
            scale: (config.head_dim() as f64).powf(-0.5),
            rel_pos_h: positions.clone(),
            rel_pos_w: positions,
        };
        let run = move || {
            // The projection is measured by itself.
            attention.forward(x.clone(), bias.clone(), |_, _| qkv.clone()).reshape([side * side * c])
        };
        let (tokens, keys) = ((side * side) as f64, (window * window) as f64);
        BenchedLayer {
            name,
            shape: format!("{side} x {side} in {window} x {window}, {heads} x {dim}"),
            count,
            operations: tokens * c as f64 * (4.0 * keys + 4.0 * window as f64),
            bytes: 4.0 * 4.0 * tokens * c as f64,
            run: Box::new(run),
        }
    }
}

/// Runs the table.
pub fn run(args: &BenchArgs, device: &Device) -> Result<()> {
    let config = Backbone::named(&args.backbone)?.config(4);
    if config.encoder != EncoderKind::Vit {
        let message = format!("{} is no ViT, whose layers the table lists", args.backbone);
        return Err(Error::new(ErrorKind::Unsupported, message).at("--table"));
    }
    let make = Maker { device, scheme: args.scheme };
    let (side, c, out) = (args.size / config.patch_size, config.embed_dim, config.out_chans);
    let (tokens, global) = (side * side, config.global_attn_indexes.len());
    let windows = config.depth - global;
    // What the heads are on this device.
    let inner = config.num_heads * HeadPadding::head_dim(&config, device);

    let mut layers = vec![peak_product(&make), peak_copy(&make)];
    layers.push(patch_embedding(&make, &config, args.size));
    layers.push(norm(&make, 2 * config.depth, [tokens, c]));
    layers.push(make.linear("qkv", config.depth, [tokens, c, 3 * inner], Activation::None));
    layers.push(make.attention("window attention", windows, &config, side, config.window_size));
    layers.push(make.attention("global attention", global, &config, side, side));
    layers.push(make.linear("projection", config.depth, [tokens, inner, c], Activation::None));
    layers.push(make.linear("MLP, first", config.depth, [tokens, c, config.mlp_dim], Activation::Gelu));
    layers.push(make.linear("MLP, second", config.depth, [tokens, config.mlp_dim, c], Activation::None));
    layers.push(neck(&make, side, out));
    layers.push(make.linear("few tokens", 1, [5, out, config.decoder_mlp], Activation::Relu));

    let (mut peak_operations, mut peak_bytes, mut total) = (0.0f64, 0.0f64, 0.0f64);
    let mut rows = Vec::new();
    if !args.json {
        say(format_args!("{} at {} px on {}, {}", args.backbone, args.size, args.device.name(), args.scheme.name()))?;
        say(format_args!(
            "{:<18} {:<32} {:>5} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7}",
            "layer", "shape", "times", "first ms", "ms", "all ms", "GFLOP/s", "GB/s", "share"
        ))?;
    }
    for layer in layers {
        let time = measure(args.runs, || {
            let _ = (layer.run)();
            sync(device)
        })?;
        let (operations, bytes) = (layer.operations / time.min / 1e6, layer.bytes / time.min / 1e6);
        match layer.name {
            "peak product" => peak_operations = operations,
            "peak copy" => peak_bytes = bytes,
            _ => total += layer.count as f64 * time.median,
        }
        // What the layer could take at the least, by the device's own best, as a share of what it took.
        let share = (operations / peak_operations.max(1e-9)).max(bytes / peak_bytes.max(1e-9));
        rows.push(json!({
            "layer": layer.name, "shape": layer.shape, "count": layer.count, "first_ms": time.cold, "ms": time.median,
            "min_ms": time.min, "gflops": operations, "gbs": bytes, "share_of_peak": share,
        }));
        if !args.json {
            say(format_args!(
                "{:<18} {:<32} {:>5} {:>9.2} {:>9.2} {:>9.1} {:>8.1} {:>7.1} {:>6.0}%",
                layer.name,
                layer.shape,
                layer.count,
                time.cold,
                time.median,
                layer.count as f64 * time.median,
                operations,
                bytes,
                100.0 * share.min(1.0)
            ))?;
        }
    }
    let usage = device.memory_pool_usage();
    if args.json {
        return print_json(&json!({
            "backbone": args.backbone, "size": args.size, "device": args.device.name(), "scheme": args.scheme.name(),
            "threads": rayon::current_num_threads(), "layers": rows, "sum_ms": total,
            "gpu_memory_bytes": usage.map(|u| u.bytes_reserved),
        }));
    }
    say(format_args!("all layers together {total:.1} ms"))
}

fn peak_product(make: &Maker) -> BenchedLayer {
    let n = 1024;
    let (x, w) = (make.random([n, n]), make.random([n, n]));
    let run = move || kernels::linear(x.clone(), Matrix::Dense(w.clone()), Epilogue::default()).reshape([n * n]);
    BenchedLayer {
        name: "peak product",
        shape: format!("{n} x {n} x {n}"),
        count: 1,
        operations: 2.0 * (n * n * n) as f64,
        bytes: 12.0 * (n * n) as f64,
        run: Box::new(run),
    }
}

fn peak_copy(make: &Maker) -> BenchedLayer {
    let n = 1 << 22;
    let (x, y) = (make.random([1, n]), make.random([1, 1024]));
    let run = move || kernels::add(x.clone().reshape([n / 1024, 1024]), y.clone()).reshape([n]);
    BenchedLayer {
        name: "peak copy",
        shape: format!("{n} numbers"),
        count: 1,
        operations: n as f64,
        bytes: 8.0 * n as f64,
        run: Box::new(run),
    }
}

fn patch_embedding(make: &Maker, config: &SamConfig, size: usize) -> BenchedLayer {
    let (patch, bands, c) = (config.patch_size, config.in_chans, config.embed_dim);
    let side = size / patch;
    let image = make.random([1, bands, size, size]);
    let (weight, bias) = (make.random([c, bands, patch, patch]), make.random([c]));
    let positions = make.random([1, side, side, c]);
    let run = move || {
        let y = convolution::patch_embed(image.clone(), weight.clone(), bias.clone(), Some(positions.clone()));
        y.reshape([side * side * c])
    };
    let k = bands * patch * patch;
    BenchedLayer {
        name: "patch embedding",
        shape: format!("{} x {k} x {c}", side * side),
        count: 1,
        operations: 2.0 * (side * side * k * c) as f64,
        bytes: 4.0 * (size * size * bands + k * c + 2 * side * side * c) as f64,
        run: Box::new(run),
    }
}

fn norm(make: &Maker, count: usize, [m, n]: [usize; 2]) -> BenchedLayer {
    let (x, weight, bias) = (make.random([m, n]), make.random([n]), make.random([n]));
    let run = move || kernels::layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-6).reshape([m * n]);
    let (operations, bytes) = (8.0 * (m * n) as f64, 8.0 * (m * n) as f64);
    BenchedLayer { name: "layer norm", shape: format!("{m} x {n}"), count, operations, bytes, run: Box::new(run) }
}

fn neck(make: &Maker, side: usize, c: usize) -> BenchedLayer {
    let (x, weight) = (make.random([1, side, side, c]), make.random([c, c, 3, 3]));
    let weight = convolution::column_major_kernel(weight);
    let run = move || convolution::conv3x3(x.clone(), weight.clone()).reshape([side * side * c]);
    BenchedLayer {
        name: "neck, 3x3",
        shape: format!("{side} x {side} x {c}"),
        count: 1,
        operations: 18.0 * (side * side * c * c) as f64,
        bytes: 4.0 * (2 * side * side * c + 9 * c * c) as f64,
        run: Box::new(run),
    }
}
