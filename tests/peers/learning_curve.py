"""How many labelled chips a new place needs: LoRA on a light base, full training of it, training from ImageNet alone, and a U-Net.

    python3 tests/peers/learning_curve.py --data FOLDER --valid-list FILE --base PACKAGE --encoder efficientnet-lite0.pth --out OUT

FOLDER has images/ and masks/ of the place, FILE the names of those that are measured (`samlora train --valid-list`). Of the
others 8, 32, 128 and all are trained on, the smaller sets within the larger, each way with the same number of crops. `--base`
must never have seen the place. Writes OUT/learning_curve.json, .md (a table) and .svg (the picture), and prints the table.
"""
import argparse, json, math, pathlib, random, shutil, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COLOURS = "#1b7f5c", "#2f6fb7", "#c2681c", "#7b7b7b"


def run(command, cwd=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(c) for c in command[:3])} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def subset(data, stems, folder):
    """A folder of links to the samples `stems` of `data`."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for file in (data / part).iterdir():
            if file.stem in stems:
                (folder / part / file.name).symlink_to(file.resolve())
    return folder


def svg(curves, heading):
    """The curves as a picture: chips to the right on a logarithmic scale, IoU in % upwards."""
    width, height, left, top, right, bottom = 680, 380, 56, 40, 190, 48
    counts = sorted({n for points in curves.values() for n in points})
    values = [v for points in curves.values() for v in points.values()]
    low, high = int(min(values) // 10 * 10), int(-(-max(values) // 10) * 10)

    x = lambda n: left + (width - left - right) * math.log(n / counts[0]) / math.log(counts[-1] / counts[0])
    y = lambda v: height - bottom - (height - top - bottom) * (v - low) / (high - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
           f'<rect width="{width}" height="{height}" fill="#fff"/><text x="{left}" y="22" font-weight="bold">{heading}</text>']
    for v in range(low, high + 1, 10):
        out.append(f'<path d="M{left} {y(v):.1f}H{width - right}" stroke="#ddd"/><text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v}</text>')
    for n in counts:
        out.append(f'<text x="{x(n):.1f}" y="{height - bottom + 18}" text-anchor="middle">{n}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 10}" text-anchor="middle">labelled chips</text>')
    ends = sorted((y(points[max(points)]), name) for name, points in curves.items())
    places, below = {}, -1e9
    for at, name in ends:                                       # labels must not cover each other
        below = places[name] = max(at, below + 16)
    for (name, points), colour in zip(curves.items(), COLOURS):
        line = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in sorted(points.items()))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="3.5" fill="{colour}"/>' for n, v in points.items()]
        out.append(f'<text x="{width - right + 10}" y="{places[name] + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--data", type=pathlib.Path, required=True)
    ap.add_argument("--valid-list", type=pathlib.Path, required=True, help="a name (FOLDER/STEM or STEM) a line")
    ap.add_argument("--base", type=pathlib.Path, required=True, help="a package or run that has not seen the place")
    ap.add_argument("--encoder", type=pathlib.Path, required=True, help="EfficientNet-Lite0's ImageNet weights")
    ap.add_argument("--class", dest="label", default="1=building", help="as `samlora train --class`")
    ap.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128])
    ap.add_argument("--crops", type=int, default=800, help="crops that each way sees")
    ap.add_argument("--size", type=int, default=224)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--samlora", type=pathlib.Path, default=ROOT / "target/debug/samlora")
    ap.add_argument("--work", type=pathlib.Path, default=ROOT / "target/peers", help="folder of the peers' environment")
    ap.add_argument("--out", type=pathlib.Path, required=True)
    a = ap.parse_args()
    data, out, samlora = a.data.resolve(), a.out.resolve(), a.samlora.resolve()
    measured = {line.strip().rpartition("/")[2] for line in a.valid_list.read_text().splitlines() if line.strip()}
    stems = sorted(p.stem for p in (data / "images").iterdir())
    learnt = [s for s in stems if s not in measured]
    if not measured & set(stems) or not learnt:
        sys.exit(f"{a.valid_list}: names {len(measured & set(stems))} of the {len(stems)} samples in {data}: needs some, not all")
    random.Random(a.seed).shuffle(learnt)
    sizes = [n for n in a.sizes if n < len(learnt)] + [len(learnt)]
    valid = subset(data, measured, out / "valid")
    everything = ["--unfreeze", "--encoder-rate", 0.4, "--lr", 1e-3]
    ways = {"LoRA on the light base": ["--base", a.base, "--rank", 8, "--lr", 2e-3],
            "full training of the base": ["--base", a.base, *everything],
            "from ImageNet's encoder": ["--base", a.encoder, *everything],
            "U-Net from random weights": None}
    curves = {name: {} for name in ways}
    for n in sizes:
        train = subset(data, set(learnt[:n]), out / f"train-{n}")
        for number, (name, options) in enumerate(ways.items()):
            folder = out / f"run-{n}-{number}"
            if options is None:
                found = run([sys.executable, HERE / "baselines.py", out / f"run-{n}-0", "--images", a.crops, "--bf16", "--work", a.work.resolve(),
                             "--seed", a.seed, "--evaluations", 2])
                iou = json.loads(found.strip().splitlines()[-1])["models"][-1]["metrics"]["valid"]["classes"][1]["iou"]
            else:
                shutil.rmtree(folder, ignore_errors=True)
                run([samlora, "train", "--data", train, "--valid-data", valid, "--class", a.label, "--unlisted", "background", *options,
                     "--size", a.size, "--batch-size", 8, "--epochs", 1, "--crops", -(-a.crops // n), "--schedule", "cosine",
                     "--weight-decay", 0.05, "--seed", a.seed, "--out", folder])
                iou = json.loads((folder / "run.json").read_text())["metrics"]["mean_iou_foreground"]
            curves[name][n] = 100 * iou
            print(f"{name}, {n} chips: IoU {100 * iou:.1f} %", file=sys.stderr, flush=True)
    lines = [f"| | {' | '.join(f'{n} chips' for n in sizes)} |", f"|---|{'---:|' * len(sizes)}"]
    lines += [f"| {name} | {' | '.join(f'{points[n]:.1f}' for n in sizes)} |" for name, points in curves.items()]
    table = "\n".join(lines)
    settings = {"crops": a.crops, "size": a.size, "seed": a.seed, "measured": len(measured & set(stems))}
    (out / "learning_curve.json").write_text(json.dumps({"settings": settings, "curves": curves}, indent=1) + "\n")
    (out / "learning_curve.md").write_text(table + "\n")
    (out / "learning_curve.svg").write_text(svg(curves, "IoU in % on chips of the place that were not trained on"))
    print(table)


if __name__ == "__main__":
    main()
