"""The same SamLoRA training step in PyTorch and in `samlora bench --train`, side by side on the CPU.

    python3 tests/peers/train_step.py --samlora target/debug/samlora [--backbone vit_b] [--size 448] [--threads 2]

One step: forward, logits upsampled to the input's size, 0.2 cross-entropy + 0.8 Dice, backward, AdamW. The encoder is
frozen but for rank-4 LoRA on q and v of every block; prompt embeddings and mask decoder train. Weights are random. Each
measurement is a process of its own; prints a table and one line of JSON. See README.md.
"""
import argparse, json, math, os, pathlib, statistics, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ("torch", "torch-recompute", "samlora", "samlora-recompute")
AIM = {"time": 1.0, "memory": 2 / 3}    # of samlora over PyTorch


def resident(peak):
    """This process's memory in bytes: resident now, or the most there was."""
    field = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))


def torch_steps(s):
    """Times `s["steps"]` warm steps in PyTorch with the `segment-anything` package's modules."""
    import torch, torch.nn.functional as F
    from torch.utils.checkpoint import checkpoint
    from make_checkpoints import BACKBONES, encoder, MaskDecoder, PromptEncoder, TwoWayTransformer
    torch.set_num_threads(s["threads"])
    torch.set_num_interop_threads(1)
    torch.manual_seed(s["seed"])
    imported = resident(peak=False)

    class QkvLora(torch.nn.Module):
        """q += Bq Aq x and v += Bv Av x on a fused qkv projection; no alpha, no bias."""
        def __init__(self, qkv, rank):
            super().__init__()
            self.qkv, d = qkv, qkv.in_features
            bound = 1 / math.sqrt(d)
            self.aq, self.av = (torch.nn.Parameter(torch.empty(rank, d).uniform_(-bound, bound)) for _ in "qv")
            self.bq, self.bv = (torch.nn.Parameter(torch.zeros(d, rank)) for _ in "qv")

        def forward(self, x):
            y, d = self.qkv(x), self.qkv.in_features
            zq, zv = F.linear(F.linear(x, self.aq), self.bq), F.linear(F.linear(x, self.av), self.bv)
            return torch.cat([y[..., :d] + zq, y[..., d:2 * d], y[..., 2 * d:] + zv], -1)

    c, size, classes, batch = BACKBONES[s["backbone"]], s["size"], s["classes"], s["batch_size"]
    grid, out = size // 16, c["out_chans"]
    vit = encoder(c, size).requires_grad_(False)
    for block in vit.blocks:
        block.attn.qkv = QkvLora(block.attn.qkv, s["rank"])
    prompts = PromptEncoder(embed_dim=out, image_embedding_size=(grid, grid), input_image_size=(size, size), mask_in_chans=16)
    decoder = MaskDecoder(
        num_multimask_outputs=classes - 1, transformer_dim=out, iou_head_depth=3, iou_head_hidden_dim=c["iou_hidden"],
        transformer=TwoWayTransformer(depth=2, embedding_dim=out, mlp_dim=c["decoder_mlp"], num_heads=c["decoder_heads"]))
    model = torch.nn.ModuleList([vit, prompts, decoder]).train()
    train = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(train, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01)
    x = torch.randn(batch, 3, size, size)
    target = torch.randint(0, classes, (batch, grid, grid)).repeat_interleave(16, 1).repeat_interleave(16, 2)

    def forward():
        t = vit.patch_embed(x) + vit.pos_embed
        for block in vit.blocks:
            t = checkpoint(block, t, use_reentrant=False) if s["recompute"] else block(t)
        sparse, dense = prompts(points=None, boxes=None, masks=None)
        # the published decoder takes one image at a time
        low = [decoder.predict_masks(e[None], prompts.get_dense_pe(), sparse, dense)[0] for e in vit.neck(t.permute(0, 3, 1, 2))]
        return F.interpolate(torch.cat(low), (size, size), mode="bilinear", align_corners=False)

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        logits = forward()
        cross_entropy = F.cross_entropy(logits, target)
        p = logits.softmax(1)[:, 1:].flatten(1)
        t = F.one_hot(target, classes).permute(0, 3, 1, 2)[:, 1:].float().flatten(1)
        dice = 1 - (2 * (p * t).sum(1) / (p.sum(1) + t.sum(1) + 1e-8)).mean()
        loss = 0.2 * cross_entropy + 0.8 * dice
        loss.backward()
        optimizer.step()
        return (time.perf_counter() - start) * 1e3, loss.item()

    steps, losses = zip(*(step() for _ in range(1 + s["steps"])))
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0], f"the loss does not fall: {losses}"
    return {"version": torch.__version__, "step_ms": steps, "recompute": s["recompute"], "losses": losses,
            "trainable": sum(p.numel() for p in train), "imported_bytes": imported, "peak_bytes": resident(peak=True)}


def measure(engine, s, a, python):
    """One engine's result: version, step_ms (the first, cold step and the warm ones), peak_memory_bytes of its process."""
    from encoder import run
    name, recompute = engine.split("-")[0], engine.endswith("-recompute")
    if name == "torch":
        command = [python, "-W", "ignore", HERE / "train_step.py", "torch", json.dumps(s | {"recompute": recompute})]
        result, peak = run(command, a.threads)
    else:
        command = [a.samlora, "bench", "--train", "--backbone", a.backbone, "--size", a.size, "--batch-size", a.batch_size,
                   "--device", "cpu", "--threads", a.threads, "--runs", a.steps, "--json", *["--recompute"] * recompute]
        result, peak = run(command, a.threads)
        version = subprocess.run([a.samlora, "--version"], capture_output=True, text=True).stdout.strip()
        result["version"] = version.removeprefix("samlora ")
    # Every step in order: the last `steps` are the warm ones.
    if len(result.get("step_ms", ())) < a.steps or bool(result.get("recompute")) != recompute:
        sys.exit(f"{engine}: expected {a.steps} step_ms or more and recompute {recompute}, found {json.dumps(result)[:300]}")
    if not all(map(math.isfinite, result.get("losses", ()))):
        sys.exit(f"{engine}: a loss is not finite: {result['losses']}")
    result["warm_ms"] = result["step_ms"][-a.steps:]
    return result | {"peak_memory_bytes": peak}


def merge(rounds):
    """One result of several rounds: median, least and most of all warm steps, the largest peak."""
    warm = [t for r in rounds for t in r["warm_ms"]]
    keep = ("version", "recompute", "trainable", "imported_bytes")
    return {k: rounds[0][k] for k in keep if k in rounds[0]} | {
        "median_ms": statistics.median(warm), "min_ms": min(warm), "max_ms": max(warm),
        "round_median_ms": [statistics.median(r["warm_ms"]) for r in rounds], "step_ms": [r["step_ms"] for r in rounds],
        "round_peak_bytes": [r["peak_memory_bytes"] for r in rounds],
        "peak_memory_bytes": max(r["peak_memory_bytes"] for r in rounds), "reported_peak_bytes": rounds[-1].get("peak_bytes")}


def table(report):
    """Prints the results; adds samlora's share of each PyTorch result to the report."""
    results, host, s = report["results"], report["machine"], report["settings"]
    print(f"{s['backbone']} training step, {s['size']} px, batch {s['batch_size']}, rank {s['rank']}, {s['threads']} threads, "
          f"{s['steps']} warm steps x {s['rounds']} rounds, float32")
    print(f"{host['cpu']}, {host['cores']} cores, load {host['load_average']} at the start, {host['system']}")
    if host["load_average"] > 0.5 or any(r["max_ms"] > 2 * r["median_ms"] for r in results.values()):
        print("The machine was busy: repeat when it is idle before quoting these figures.")
    print(f"{'engine':<19}{'median':>10}{'min':>10}{'max':>10}{'peak':>11}  of torch: {'time':>5}{'memory':>8}  version")
    for engine, r in results.items():
        shares = " " * 13
        if "torch" in results and engine != "torch":
            report["ratios"][engine] = {"time": r["median_ms"] / results["torch"]["median_ms"],
                                        "memory": r["peak_memory_bytes"] / results["torch"]["peak_memory_bytes"]}
            shares = "{time:>5.2f}{memory:>8.2f}".format(**report["ratios"][engine])
        print(f"{engine:<19}{r['median_ms']:>7.0f} ms{r['min_ms']:>7.0f} ms{r['max_ms']:>7.0f} ms"
              f"{r['peak_memory_bytes'] / 2**20:>7.0f} MiB{'':12}{shares}  {r['version']}")
    if "torch" in results and any(e.startswith("samlora") for e in results):
        print(f"aim for samlora: time x {AIM['time']:.2f}, memory x {AIM['memory']:.2f}")


def main():
    root = HERE.parent.parent
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--backbone", default="vit_b", choices=("vit_b", "vit_l", "vit_h", "slimsam_77", "tiny"))
    ap.add_argument("--size", type=int, default=448, help="input side in pixels, a multiple of 16")
    ap.add_argument("--batch-size", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--steps", type=int, default=5, help="warm steps of each engine and round, after a cold one")
    ap.add_argument("--rounds", type=int, default=3, help="how often the engines take turns")
    ap.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    ap.add_argument("--samlora", type=pathlib.Path, default=root / "target/debug/samlora", help="the built command")
    ap.add_argument("--work", type=pathlib.Path, default=root / "target/peers", help="folder of the environment")
    ap.add_argument("--json", type=pathlib.Path, help="write the report there as well")
    a = ap.parse_args()
    if a.size < 16 or a.size % 16 or min(a.batch_size, a.threads, a.steps, a.rounds) < 1:
        ap.error("--size must be a multiple of 16; --batch-size, --threads, --steps and --rounds at least 1")
    a.samlora = a.samlora.resolve()
    if any(e.startswith("samlora") for e in a.engines) and not a.samlora.exists():
        sys.exit(f"{a.samlora} does not exist: build it (cargo build), give --samlora, or choose --engines without it")
    import environment
    from encoder import machine
    python = environment.python(a.work.resolve())

    # 2 classes and rank 4 are what `samlora bench --train` measures
    settings = {k: getattr(a, k) for k in ("backbone", "size", "batch_size", "threads", "steps", "rounds")}
    settings |= {"rank": 4, "classes": 2, "seed": 7}
    report = {"machine": machine(), "settings": settings, "ratios": {}}
    results = {engine: [] for engine in a.engines}
    for i in range(a.rounds):
        for engine in a.engines:
            results[engine].append(measure(engine, settings, a, python))
            print(f"round {i + 1}: {engine} {statistics.median(results[engine][-1]['warm_ms']):.0f} ms", file=sys.stderr)
    report["results"] = {engine: merge(rounds) for engine, rounds in results.items()}
    table(report)
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["torch"]:
        print(json.dumps(torch_steps(json.loads(sys.argv[2]))))
    else:
        main()
