"""The same image encoder in PyTorch, onnxruntime (native and web) and `samlora bench`, side by side.

    python3 tests/peers/encoder.py --samlora target/debug/samlora [--backbone vit_b] [--size 256] [--threads 2]

Makes its own environment on the first call, writes a random checkpoint unless one is given, then measures engine after
engine, each in a process of its own, and prints a table and one line of JSON. See README.md.
"""
import argparse, json, os, pathlib, shutil, statistics, subprocess, sys
import environment

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ("torch", "onnxruntime", "onnxruntime-web", "samlora")
ON_GPU = ("torch", "samlora")
BACKBONES = ("vit_b", "vit_l", "slimsam_77", "slimsam_50", "mobile_sam", "lite0", "tiny")
TOLERANCE = 1e-3    # of each peer's embedding against PyTorch's: float32 sums in another order stay well below it
HALF_TOLERANCE = 3e-2


def run(command, threads):
    """The JSON object that `command` prints, and the peak of its resident memory in bytes."""
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    child = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True, env=env, cwd=HERE)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command[:3]))} failed ({child.returncode})")
    return json.loads(text), usage.ru_maxrss * 1024


def measure(engine, s, python):
    """One engine's result: version, load_ms, encoder_ms, peak_memory_bytes, and relative_error for the peers."""
    if engine == "samlora":
        device = {None: "cpu", "f32": "gpu", "f16": "gpu-f16"}[s["gpu"]]
        command = [s["samlora"], "bench", "--backbone", s["backbone"], "--size", s["size"], "--device", device,
                   "--threads", s["threads"], "--runs", s["runs"], "--json", "--checkpoint", s["checkpoint"]]
        result, peak = run(command, s["threads"])
        version = subprocess.run([s["samlora"], "--version"], capture_output=True, text=True).stdout.strip()
        return result | {"version": version.removeprefix("samlora "), "reported_peak_memory_bytes": result["peak_memory_bytes"],
                         "peak_memory_bytes": peak}
    if engine == "onnxruntime-web":
        result, _ = run(["node", HERE / "ort_web.mjs", json.dumps(s)], s["threads"])
    else:
        result, peak = run([python, HERE / "steps.py", engine, json.dumps(s)], s["threads"])
        result["peak_memory_bytes"] = peak
    tolerance = HALF_TOLERANCE if s["gpu"] == "f16" else TOLERANCE
    if not result["relative_error"] <= tolerance:
        sys.exit(f"{engine}: the embedding differs from PyTorch's by {result['relative_error']:.1e} (limit {tolerance})")
    return result


def prepare(settings, work, python):
    """Makes what all engines load in folder `work`; `settings` with the paths of it.

    `settings` are backbone, size, threads, runs, gpu, samlora and chromium, and checkpoint, without which weights are random.
    """
    data = work / "data"
    data.mkdir(exist_ok=True)
    backbone, checkpoint = settings["backbone"], settings["checkpoint"]
    if checkpoint is None:
        checkpoint = data / f"sam_{backbone}.pth"
        if not checkpoint.exists():
            subprocess.run([python, HERE / "make_checkpoints.py", data, backbone], check=True, stdout=sys.stderr)
    stem = data / f"{backbone}-{settings['size']}"
    s = settings | {"checkpoint": str(pathlib.Path(checkpoint).resolve()), "onnx": f"{stem}.onnx", "input": f"{stem}.input.f32",
                    "reference": f"{stem}.reference.f32", "seed": 7}
    run([python, "-W", "ignore", HERE / "steps.py", "prepare", json.dumps(s)], s["threads"])
    return s


def merge(rounds):
    """One result of several rounds: medians of the medians, least of the minima, largest peak."""
    result = dict(rounds[0])
    times = [r["encoder_ms"] for r in rounds]
    result["encoder_ms"] = {k: statistics.median(t[k] for t in times) for k in ("cold", "median")} | {"min": min(t["min"] for t in times)}
    result["load_ms"] = statistics.median(r["load_ms"] for r in rounds)
    result["peak_memory_bytes"] = max(r["peak_memory_bytes"] for r in rounds)
    return result


def machine():
    """What the figures depend on besides the engines."""
    cpuinfo = dict(line.split(":", 1) for line in open("/proc/cpuinfo") if ":" in line)
    cpu = {k.strip(): v.strip() for k, v in cpuinfo.items()}
    name = f"{cpu.get('model name')} (family {cpu.get('cpu family')}, model {cpu.get('model')})"
    return {"cpu": name, "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2), "system": " ".join(os.uname()[::2])}


def described(host):
    """What `machine` found, in words."""
    text = f"{host['cpu']}, {host['cores']} cores, load {host['load_average']} at the start, {host['system']}"
    busy = "\nThe machine was busy: repeat when it is idle before quoting these figures."
    return text + busy * (host["load_average"] > 0.5)


def table(report):
    own = report["results"].get("samlora")
    s = report["settings"]
    print(f"{s['backbone']} encoder, {s['size']} px, {s['threads']} threads, {s['runs']} warm runs x {s['rounds']} rounds, "
          f"{s['gpu'] + ' on the GPU' if s['gpu'] else 'float32'}")
    print(described(report["machine"]))
    print(f"{'engine':<16}{'load':>9}{'cold':>9}{'median':>9}{'min':>9}{'peak':>10}{'error':>10}  samlora is x {'time':>5}{'memory':>8}  version")
    for engine, r in report["results"].items():
        t = r["encoder_ms"]
        ratios = " " * 13
        if own and engine != "samlora":
            report["ratios"][engine] = ratio = {k: own["encoder_ms"][k] / t[k] for k in ("cold", "median", "min")}
            ratio["peak_memory"] = own["peak_memory_bytes"] / r["peak_memory_bytes"]
            ratios = f"{ratio['median']:>5.2f}{ratio['peak_memory']:>8.2f}"
        error = f"{r['relative_error']:.0e}" if "relative_error" in r else ""
        print(f"{engine:<16}{r['load_ms']:>6.0f} ms{t['cold']:>6.0f} ms{t['median']:>6.0f} ms{t['min']:>6.0f} ms"
              f"{r['peak_memory_bytes'] / 2**20:>6.0f} MiB{error:>10}{'':14}{ratios}  {r['version']}")


def main():
    root = HERE.parent.parent
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--backbone", default="vit_b", choices=BACKBONES,
                    help="(vit_h's ONNX file is beyond protobuf's 2 GB)")
    ap.add_argument("--size", type=int, default=256, help="input side in pixels, a multiple of 16")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--runs", type=int, default=10, help="warm runs of each engine and round")
    ap.add_argument("--rounds", type=int, default=1, help="how often the engines take turns")
    ap.add_argument("--gpu", choices=("f32", "f16"), help="on this machine's GPU: PyTorch through CUDA, without TF32, and samlora")
    ap.add_argument("--engines", nargs="+", choices=ENGINES, help="default: all, or with --gpu torch and samlora")
    ap.add_argument("--checkpoint", type=pathlib.Path, help=".pth or .safetensors in its project's names; default: random weights")
    ap.add_argument("--samlora", type=pathlib.Path, default=root / "target/debug/samlora", help="the built command")
    ap.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    ap.add_argument("--work", type=pathlib.Path, default=root / "target/peers", help="folder of environment and models")
    ap.add_argument("--json", type=pathlib.Path, help="write the report there as well")
    ap.add_argument("--setup", action="store_true", help="only make the environment")
    a = ap.parse_args()
    if a.size < 16 or a.size % 16 or min(a.threads, a.runs, a.rounds) < 1:
        ap.error("--size must be a multiple of 16; --threads, --runs and --rounds at least 1")
    if a.backbone == "lite0" and a.size % 32:
        ap.error("lite0's --size must be a multiple of 32")
    a.engines = a.engines or list(ON_GPU if a.gpu else ENGINES)
    if a.gpu and not set(a.engines) <= set(ON_GPU):
        ap.error(f"--gpu measures {' and '.join(ON_GPU)} alone")
    work, a.samlora = a.work.resolve(), a.samlora.resolve()
    python = environment.python(work)
    if "onnxruntime-web" in a.engines or a.setup:
        node_modules = environment.node_modules(work)
    if a.setup:
        return print(python)
    if "samlora" in a.engines and not a.samlora.exists():
        sys.exit(f"{a.samlora} does not exist: build it (cargo build), give --samlora, or choose --engines without it")
    if "onnxruntime-web" in a.engines and not a.chromium:
        sys.exit("no Chromium found: install it, give --chromium, or choose --engines without onnxruntime-web")

    report = {"machine": machine(), "settings": {k: getattr(a, k) for k in ("backbone", "size", "threads", "runs", "rounds", "gpu")}}
    paths = {"samlora": str(a.samlora), "chromium": a.chromium, "checkpoint": a.checkpoint}
    if "onnxruntime-web" in a.engines:
        paths["node_modules"] = str(node_modules)
    s = prepare(report["settings"] | paths, work, python)
    results = {engine: [] for engine in a.engines}
    for i in range(a.rounds):
        for engine in a.engines:
            print(f"round {i + 1}: {engine}", file=sys.stderr)
            results[engine].append(measure(engine, s, python))
    report |= {"results": {engine: merge(rounds) for engine, rounds in results.items()}, "ratios": {}}
    table(report)
    print(json.dumps(report))
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
