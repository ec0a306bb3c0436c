"""A U-Net in PyTorch on the split and budget of a samlora run, scored beside samlora's packages on whole chips.

    python3 tests/peers/baselines.py RUN [--test-data DIR ...] [--package "lite0 LoRA=PACKAGE[+ADAPTER]" ...]

RUN/run.json gives data folders, split by sample name, classes, input size, batch size and how many crops were seen. The
U-Net trains on the same samples and as many crops (or as many seconds). It and every --package are scored by the same
code on the run's validation samples and on --test-data, places kept out of training. Prints a Markdown table and one line
of JSON. See README.md.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile
import environment

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def load_run(folder):
    """RUN/run.json; ends with what is missing."""
    path = pathlib.Path(folder) / "run.json"
    try:
        run = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        sys.exit(f"{path}: {e}")
    wanted = ("data.folders", "split.train", "split.valid", "classes", "values", "settings.size", "settings.batch_size")
    for key in wanted:
        value = run
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not value:
            sys.exit(f"{path}: no {key}")
    if len(run["classes"]) < 2 or len(run["classes"]) != len(run["values"]):
        sys.exit(f"{path}: {len(run['classes'])} classes and {len(run['values'])} label values: needs two or more, equally many")
    return run


def score(samples, predict, classes):
    """Metrics of `predict(sample, image)` over all pixels of all samples."""
    from chips import DataError, read
    from metrics import confusion, metrics
    counts = 0
    for sample in samples:
        image, labels = read(sample)
        try:
            counts = counts + confusion(labels, predict(sample, image), classes)
        except ValueError as e:
            raise DataError(f"{sample.image}: {e}; has the package the classes of the run?") from e
    return metrics(counts)


def package_masks(samlora, package, samples, threads, out):
    """`predict` of a samlora package, "PACKAGE" or "BASE+ADAPTER": runs `samlora segment` on all samples at once."""
    import numpy as np
    from PIL import Image
    model, _, adapter = package.partition("+")
    places = {}
    for folder in dict.fromkeys(s.image.parent for s in samples):            # stems are unique in a folder only
        images, place = [s.image for s in samples if s.image.parent == folder], out / str(len(places))
        command = [samlora, "segment", "--model", model, *(["--adapter", adapter] if adapter else []), "--out", place,
                   "--format", "png", "--threads", threads, *images]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"samlora segment --model {model} on {folder} failed:\n{done.stderr}")
        places[folder] = place
    return lambda s, _: np.asarray(Image.open(places[s.image.parent] / f"{s.image.stem}.mask.png"))


def table(report):
    """Markdown: one row a model, IoU of every foreground class on every split."""
    classes = report["settings"]["classes"][1:]
    splits = list(report["models"][0]["metrics"])
    percent = lambda v: "-" if v is None else f"{100 * v:.1f}"
    heads = [f"{split}: {name}" for split in splits for name in (*classes, *["mean"] * (len(classes) > 1))]
    lines = [f"| model | parameters | crops | seconds | {' | '.join(heads)} |", f"|---|{'---:|' * (3 + len(heads))}"]
    for m in report["models"]:
        values = []
        for split in splits:
            values += [c["iou"] for c in m["metrics"][split]["classes"][1:]]
            values += [m["metrics"][split]["mean_iou_foreground"]] * (len(classes) > 1)
        of = lambda key, form: format(m[key], form) if m.get(key) is not None else "-"
        lines.append(f"| {m['name']} | {of('parameters', ',')} | {of('images', ',')} | {of('seconds', '.0f')} | "
                     f"{' | '.join(map(percent, values))} |")
    return "\n".join(lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("run", type=pathlib.Path, metavar="RUN", help="folder of a samlora run")
    ap.add_argument("--data", nargs="+", type=pathlib.Path, help="the run's data folders, if they have moved")
    ap.add_argument("--test-data", nargs="+", type=pathlib.Path, default=[], metavar="DIR", help="places kept out of training")
    ap.add_argument("--package", nargs="+", default=[], metavar="NAME=PACKAGE", help="samlora packages to score beside it")
    ap.add_argument("--images", type=int, help="crops to train on [default: the run's]")
    ap.add_argument("--seconds", type=float, nargs="?", const=0, help="train for so long instead [without a number: the run's]")
    ap.add_argument("--lr", type=float, default=1e-3, help="the one-cycle schedule's peak")
    ap.add_argument("--width", type=int, default=32, help="channels of the first level; 32 makes 7.76 million parameters")
    ap.add_argument("--evaluations", type=int, default=5, help="times it is scored on validation; the best weights are kept")
    ap.add_argument("--bf16", action="store_true", help="mixed precision: twice as fast where the processor has bfloat16")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--samlora", type=pathlib.Path, default=ROOT / "target/debug/samlora", help="the built command, for --package")
    ap.add_argument("--work", type=pathlib.Path, default=ROOT / "target/peers", help="folder of the environment")
    ap.add_argument("--out", type=pathlib.Path, help="folder for baselines.json, baselines.md and unet.pt")
    a = ap.parse_args()
    if min(a.width, a.evaluations, a.threads) < 1 or not a.lr > 0 or (a.images is not None and a.images < 1):
        ap.error("--width, --evaluations, --threads, --images and --lr must be positive")
    packages = [p.partition("=")[::2] for p in a.package]
    if not all(name and package for name, package in packages):
        ap.error("--package takes NAME=PACKAGE")
    if packages and not a.samlora.exists():
        sys.exit(f"{a.samlora} does not exist: build it (cargo build), or give --samlora")

    import torch
    from chips import AUGMENT, DataError, crops, open_folder, select
    from unet import UNet, predict, train
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    run = load_run(a.run)
    settings, budget, names = run["settings"], run.get("budget", {}), [c["name"] for c in run["classes"]]
    size = settings["size"]
    if size % UNet.STRIDE:
        sys.exit(f"the run's size is {size}: the U-Net needs a multiple of {UNet.STRIDE}")
    seconds = (a.seconds or budget.get("seconds")) if a.seconds is not None else None
    images = a.images or budget.get("images")
    if not (seconds if a.seconds is not None else images):
        sys.exit(f"{a.run}/run.json has no budget: give --images or --seconds")
    augment = AUGMENT | {k: v for k, v in (settings.get("augment") or {}).items() if k in AUGMENT}
    try:
        data = [s for folder in a.data or run["data"]["folders"] for s in open_folder(folder, run)]
        learned, splits = select(data, run["split"]["train"]), {"valid": select(data, run["split"]["valid"])}
        for folder in a.test_data:
            splits["/".join(folder.resolve().parts[-2:])] = open_folder(folder, run)

        models = []                                     # packages first: what is wrong with them shows before the training
        for name, package in packages:
            with tempfile.TemporaryDirectory() as out:
                found = {}
                for split, samples in splits.items():
                    masks = package_masks(a.samlora.resolve(), package, samples, a.threads, pathlib.Path(out) / str(len(found)))
                    found[split] = score(samples, masks, len(names))
            models.append({"name": name, "metrics": found})

        model = UNet(len(names), a.width)
        segment = lambda overlap: lambda _, image: predict(model.eval(), image, size, overlap, a.bf16)
        def evaluate(model):                            # to choose weights, windows side by side will do
            found = score(splits["valid"], segment(0), len(names))["mean_iou_foreground"] or 0.0
            print(f"validation IoU, mean of the foreground: {found:.4f}", file=sys.stderr)
            return found
        done = train(model, crops(learned, size, augment, a.seed, settings.get("crops") or 0), settings["batch_size"], images,
                     seconds, a.lr, evaluate, a.evaluations, a.bf16)
        found = {split: score(samples, segment(size // 4), len(names)) for split, samples in splits.items()}
        models.append({"name": "U-Net", "parameters": sum(p.numel() for p in model.parameters())} | done | {"metrics": found})
    except DataError as e:
        sys.exit(str(e))
    report = {"settings": {"run": str(a.run), "classes": names, "size": size, "batch_size": settings["batch_size"],
                           "samples": {"train": len(learned)} | {k: len(v) for k, v in splits.items()}, "augment": augment,
                           "lr": a.lr, "bf16": a.bf16, "threads": a.threads, "seed": a.seed, "budget": {"images": images, "seconds": seconds},
                           "run_budget": budget, "torch": torch.__version__}, "models": models}
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        (a.out / "baselines.json").write_text(json.dumps(report, indent=1) + "\n")
        (a.out / "baselines.md").write_text(table(report) + "\n")
        torch.save(model.state_dict(), a.out / "unet.pt")
    print(table(report))
    print(json.dumps(report))


def enter():
    """Goes on in the peers' environment, which `--work` places."""
    ap = argparse.ArgumentParser(add_help=False)
    ap.add_argument("--work", type=pathlib.Path, default=ROOT / "target/peers")
    work = ap.parse_known_args()[0].work.resolve()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")     # threads that spin for work crawl where anything else runs
    if pathlib.Path(sys.prefix) != work / "venv" and not {"-h", "--help"} & set(sys.argv):
        python = environment.python(work)
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    enter()
    main()
