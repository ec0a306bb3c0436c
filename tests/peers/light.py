"""The light backbones beside each other: one Markdown table of encoder times and bytes, every engine in the same run by turns.

    python3 tests/peers/light.py --samlora target/debug/samlora [--size 448] [--rounds 3] [--json light.json]

Each row's weights are random and the same in all engines, and each peer's embedding must be PyTorch's (encoder.py, TOLERANCE). A
few minutes on two idle cores; the table says when they were not. See README.md.
"""
import argparse, json, pathlib, shutil, subprocess, sys, tempfile
import encoder, environment

HERE = pathlib.Path(__file__).resolve().parent
ROWS = [(backbone, engine) for backbone in ("lite0", "slimsam_77", "mobile_sam") for engine in ("samlora", "onnxruntime", "torch")]
NAMES = {"torch": "PyTorch"}
THREADS = (2, 1)


def package_bytes(s):
    """What the files of samlora's q8 package have."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "package"
        size = str(s["size"])
        subprocess.run([s["samlora"], "export", "--base", s["checkpoint"], "--classes", "a,b,c", "--scheme", "q8", "--out", out,
                        "--input-size", size, "--tile-size", size], check=True, capture_output=True)
        return sum(file.stat().st_size for file in out.iterdir())


def half_bytes(s, python):
    """What encoder and decoder have as ONNX in float16."""
    s = s | {"decoder": str(pathlib.Path(s["onnx"]).with_suffix(".decoder.onnx"))}
    command = [python, "-W", "ignore", HERE / "export_decoder.py", s["backbone"], str(s["size"]), s["checkpoint"], s["decoder"]]
    subprocess.run(command, check=True, stdout=sys.stderr)
    found, _ = encoder.run([python, "-W", "ignore", HERE / "steps.py", "half", json.dumps(s)], s["threads"])
    if not found["relative_error"] <= encoder.HALF_TOLERANCE:
        sys.exit(f"{s['backbone']}: the float16 ONNX differs from PyTorch's embedding by {found['relative_error']:.1e}")
    return found["bytes"]


def markdown(report):
    s = report["settings"]
    lines = [f"Encoder at {s['size']} px, float32, median of {s['rounds']} x {s['runs']} warm runs, engines by turns; random weights",
             encoder.described(report["machine"]), "",
             "| | " + " | ".join(f"{t} thread{'s' * (t > 1)}" for t in THREADS) + f" | first run, {THREADS[0]} threads | package `q8` | ONNX f16 | error |",
             "|---|" + "---:|" * (len(THREADS) + 4)]
    megabytes = lambda n: f"{n / 1e6:.1f} MB"
    for row in report["rows"]:
        times = row["results"]
        version = times[str(THREADS[0])]["version"].split("+")[0].split(" ")[0]
        name = f"`{row['backbone']}`, {NAMES.get(row['engine'], row['engine'])} {version}"
        size = report["bytes"][row["backbone"]]
        own = row["engine"] == "samlora"
        cells = [name, *(f"{times[str(t)]['encoder_ms']['median']:.0f} ms" for t in THREADS),
                 f"{times[str(THREADS[0])]['encoder_ms']['cold']:.0f} ms", megabytes(size["package"]) if own else "",
                 megabytes(size["onnx_f16"]) if row["engine"] == "onnxruntime" else "",
                 "" if own else f"{max(times[str(t)]['relative_error'] for t in THREADS):.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    root = HERE.parent.parent
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--size", type=int, default=448, help="input side in pixels, a multiple of 32")
    ap.add_argument("--runs", type=int, default=10, help="warm runs of each engine, number of threads and round")
    ap.add_argument("--rounds", type=int, default=3, help="how often the engines take turns")
    ap.add_argument("--samlora", type=pathlib.Path, default=root / "target/debug/samlora", help="the built command")
    ap.add_argument("--work", type=pathlib.Path, default=root / "target/peers", help="folder of environment and models")
    ap.add_argument("--json", type=pathlib.Path, help="write every number there")
    a = ap.parse_args()
    if a.size < 32 or a.size % 32 or min(a.runs, a.rounds) < 1:
        ap.error("--size must be a multiple of 32; --runs and --rounds at least 1")
    samlora, work = shutil.which(str(a.samlora.resolve())), a.work.resolve()
    if not samlora:
        sys.exit(f"{a.samlora} is no program: build it (cargo build), or give --samlora")
    python = environment.python(work)
    report = {"machine": encoder.machine(), "settings": {k: getattr(a, k) for k in ("size", "runs", "rounds")}, "bytes": {}}
    common = report["settings"] | {"threads": THREADS[0], "gpu": None, "samlora": samlora, "chromium": None, "checkpoint": None}
    models = {}
    for backbone in dict.fromkeys(backbone for backbone, _ in ROWS):
        print(f"{backbone}: weights, ONNX, package", file=sys.stderr)
        models[backbone] = s = encoder.prepare(common | {"backbone": backbone}, work, python)
        report["bytes"][backbone] = {"package": package_bytes(s), "onnx_f16": half_bytes(s, python)}
    found = {(row, threads): [] for row in ROWS for threads in THREADS}
    for i in range(a.rounds):
        for row, threads in list(found)[::-1 if i % 2 else 1]:      # there and back again: none always follows the same one
            print(f"round {i + 1} of {a.rounds}: {', '.join(row)}, {threads} threads", file=sys.stderr)
            found[row, threads].append(encoder.measure(row[1], models[row[0]] | {"threads": threads}, python))
    report["rows"] = [{"backbone": row[0], "engine": row[1],
                       "results": {str(t): encoder.merge(found[row, t]) for t in THREADS}} for row in ROWS]
    print(markdown(report))
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
