"""One measurement per process, started by encoder.py: `steps.py prepare|torch|onnxruntime|half SETTINGS_JSON`.

Each prints one JSON object. Times are milliseconds; the peak of memory is taken by the caller.
"""
import contextlib, json, pathlib, statistics, sys, time
import numpy as np


def measure(run, runs):
    """Times of the first call of `run` and of `runs` further ones, and the first call's result."""
    def timed():
        start = time.perf_counter()
        result = run()
        return (time.perf_counter() - start) * 1e3, result
    cold, result = timed()
    warm = [timed()[0] for _ in range(runs)]
    return {"cold": cold, "median": statistics.median(warm), "min": min(warm)}, result


def relative_error(got, want):
    """Largest deviation over the largest value; NaN where `got` is not finite."""
    return float(np.abs(got - want).max() / np.abs(want).max())


def torch_encoder(s):
    """The encoder at `s["size"]` px with the checkpoint's weights, position embeddings resampled to its token grid."""
    import torch, torch.nn.functional as F
    from make_checkpoints import BACKBONES, encoder
    torch.set_num_threads(s["threads"])
    torch.set_num_interop_threads(1)
    if s["checkpoint"].endswith(".safetensors"):
        from safetensors.torch import load_file
        state = load_file(s["checkpoint"])
    else:
        state = torch.load(s["checkpoint"], weights_only=True)
    with torch.device("meta"):
        model = encoder(BACKBONES[s["backbone"]], s["size"])
    adapted = {}
    for name, like in model.state_dict().items():
        v = like if name.endswith("num_batches_tracked") else state["image_encoder." + name]
        if name == "pos_embed" and v.shape != like.shape:
            v = F.interpolate(v.permute(0, 3, 1, 2), like.shape[1:3], mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        elif "rel_pos" in name and v.shape != like.shape:
            v = F.interpolate(v.T[None], size=like.shape[0], mode="linear", align_corners=False)[0].T
        adapted[name] = v.contiguous()
    model.load_state_dict(adapted, assign=True)
    return model.train().eval().requires_grad_(False)               # at which TinyViT gathers the biases of its attention


def prepare(s):
    """Writes the ONNX model, one input and PyTorch's embedding of it."""
    import torch
    model = torch_encoder(s)
    x = torch.randn(1, 3, s["size"], s["size"], generator=torch.Generator().manual_seed(s["seed"]))
    with torch.inference_mode():
        y = model(x)
    assert y.isfinite().all(), f"{s['checkpoint']}: the embedding is not finite"
    x.numpy().tofile(s["input"])
    y.numpy().tofile(s["reference"])
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(model, (x,), s["onnx"], input_names=["image"], output_names=["embedding"], opset_version=17,
                          dynamo=False)
    return {"onnx_bytes": pathlib.Path(s["onnx"]).stat().st_size}


def half(s, x, want):
    """Bytes of the ONNX files of encoder and decoder in float16, the encoder's tried out."""
    import onnx, onnxruntime as ort
    from onnxruntime.transformers.float16 import convert_float_to_float16
    files = [convert_float_to_float16(onnx.load(s[part]), keep_io_types=True).SerializeToString() for part in ("onnx", "decoder")]
    ort.set_default_logger_severity(3)          # else it names each node that it does not fold
    y = ort.InferenceSession(files[0], providers=["CPUExecutionProvider"]).run(None, {"image": x})[0]
    return {"bytes": sum(map(len, files)), "relative_error": relative_error(y, want)}


def torch(s, x, want):
    import torch
    start = time.perf_counter()
    model, x = torch_encoder(s), torch.from_numpy(x)
    finish = lambda: None
    if s["gpu"]:
        if not torch.cuda.is_available():
            sys.exit("PyTorch finds no CUDA device: choose --engines samlora")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False     # as precise as the other
        model, x = (v.to("cuda", getattr(torch, {"f32": "float32", "f16": "float16"}[s["gpu"]])) for v in (model, x))
        finish = torch.cuda.synchronize
    load = (time.perf_counter() - start) * 1e3
    def once():
        y = model(x)
        finish()
        return y
    with torch.inference_mode():
        times, y = measure(once, s["runs"])
    return {"version": torch.__version__, "load_ms": load, "encoder_ms": times,
            "relative_error": relative_error(y.float().cpu().numpy(), want)}


def onnxruntime(s, x, want):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = s["threads"], 1
    start = time.perf_counter()
    session = ort.InferenceSession(s["onnx"], options, providers=["CPUExecutionProvider"])
    load = (time.perf_counter() - start) * 1e3
    times, y = measure(lambda: session.run(None, {"image": x})[0], s["runs"])
    return {"version": ort.__version__, "load_ms": load, "encoder_ms": times, "relative_error": relative_error(y, want)}


if __name__ == "__main__":
    step, settings = sys.argv[1], json.loads(sys.argv[2])
    if step == "prepare":
        print(json.dumps(prepare(settings)))
    else:
        x = np.fromfile(settings["input"], np.float32).reshape(1, 3, settings["size"], settings["size"])
        grid = settings["size"] // 16
        want = np.fromfile(settings["reference"], np.float32).reshape(1, -1, grid, grid)
        print(json.dumps({"torch": torch, "onnxruntime": onnxruntime, "half": half}[step](settings, x, want)))
