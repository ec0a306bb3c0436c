#!/usr/bin/env bash
# Published sizes, from PyTorch file to logits: makes random ViT-B, ViT-L and ViT-H checkpoints with Meta's names, exports
# each in every scheme, reads the packages back, runs one picture through them, and prints one table. Fails if ViT-B has
# more than 100 MB as q8 or 60 MB as q4, an export takes more than 4 GB of memory, or f16 changes the logits by more than
# 1 %. Not part of `make test`: it needs 10 GB of disk, 6 GB of memory and about a quarter of an hour.
#
#     tests/full_size.sh [vit_b vit_l vit_h slimsam_77 slimsam_50]    # Meta's three unless named
#
# SAMLORA names the program (built if unset), WORK the folder for checkpoints and packages (a new one, deleted at the end).
set -euo pipefail
cd "$(dirname "$0")/.."

backbones=("$@")
[ $# -gt 0 ] || backbones=(vit_b vit_l vit_h)
if [ -z "${SAMLORA:-}" ]; then
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.samlora-target}"
    cargo build --locked --quiet
    SAMLORA="$CARGO_TARGET_DIR/debug/samlora"
fi
python=target/peers/venv/bin/python
[ -x "$python" ] || python3 tests/peers/encoder.py --setup >&2
if [ -z "${WORK:-}" ]; then
    WORK="$(mktemp -d "${TMPDIR:-/tmp}/samlora-full-size-XXXXXX")"
    trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"

# The picture: 448 x 448 pixels of the parity fixture, as PNG.
"$python" - "$WORK/picture.png" <<'PYTHON'
import json, struct, sys, zlib
data = open("tests/fixtures/parity/prompts.safetensors", "rb").read()
length = struct.unpack("<Q", data[:8])[0]
begin = 8 + length + json.loads(data[8:8 + length])["input_rgb"]["data_offsets"][0]
rows = (data[begin + 3 * 1024 * y:][:3 * 448] for y in range(448))
chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
png = chunk(b"IHDR", struct.pack(">IIBBBBB", 448, 448, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows)))
open(sys.argv[1], "wb").write(b"\x89PNG\r\n\x1a\n" + png + chunk(b"IEND", b""))
PYTHON

for backbone in "${backbones[@]}"; do
    echo "$backbone: checkpoint" >&2
    "$python" tests/peers/make_checkpoints.py "$WORK" "$backbone" >&2
    rm "$WORK/sam_$backbone.safetensors" # the .pth is what is published
    "$SAMLORA" inspect --json "$WORK/sam_$backbone.pth" >"$WORK/$backbone.json"
    for scheme in f32 f16 q8 q4; do
        echo "$backbone: $scheme" >&2
        package="$WORK/$backbone-$scheme"
        "$SAMLORA" export --base "$WORK/sam_$backbone.pth" --scheme "$scheme" --classes a,b,c --out "$package" --json \
            >"$package.export.json" 2>/dev/null
        "$SAMLORA" inspect --json "$package" >"$package.inspect.json"
        "$SAMLORA" segment --model "$package" "$WORK/picture.png" --format raw --out "$package-out" --json \
            >"$package.segment.json" 2>/dev/null
        rm -r "$package"
    done
    rm "$WORK/sam_$backbone.pth"
done

"$python" - "$WORK" "${backbones[@]}" <<'PYTHON'
import json, pathlib, sys
import numpy as np
work, backbones = pathlib.Path(sys.argv[1]), sys.argv[2:]
read = lambda name: json.loads((work / name).read_text())
missed = []
def budget(what, value, most, unit):
    if value > most:
        missed.append(f"{what}: {value:.1f} {unit}, at most {most} {unit}")
PARAMETERS = dict(vit_b=93_735_472, vit_l=312_342_832, vit_h=641_090_608, slimsam_77=9_723_528, slimsam_50=27_961_776)
PACKAGE_MB = {("vit_b", "q8"): 100, ("vit_b", "q4"): 60, ("slimsam_77", "q8"): 11}
EXPORT_GB = 4
F16_ERROR = 0.01
print("backbone   parameters  scheme  package MB  export s  export peak MB  encode s  error max  error norm  same class")
for backbone in backbones:
    parameters = read(f"{backbone}.json")["parameters"]
    if parameters != PARAMETERS[backbone]:
        missed.append(f"{backbone}: {parameters} parameters, expected {PARAMETERS[backbone]}")
    for scheme in ["f32", "f16", "q8", "q4"]:
        name = f"{backbone}-{scheme}"
        export, inspect, segment = (read(f"{name}.{step}.json") for step in ["export", "inspect", "segment"])
        if inspect["content_hash"] != export["content_hash"] or inspect["backbone"] != backbone:
            missed.append(f"{name}: what was read back is not what was written")
        logits = np.fromfile(work / f"{name}-out/picture.logits.f32", "<f4").astype(float)
        classes = np.fromfile(work / f"{name}-out/picture.classes.u8", np.uint8)
        if scheme == "f32":
            exact, exact_classes = logits, classes
        worst = abs(logits - exact).max() / abs(exact).max()
        norm = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
        same = (classes == exact_classes).mean()
        size, peak = export["weight_bytes"] / 1e6, export["peak_memory_bytes"] / 1e6
        print(f"{backbone:<10} {parameters:>11,}  {scheme:<6} {size:>11.1f} {export['seconds']:>9.1f} {peak:>15.0f} "
              f"{segment['timings_ms']['encode'] / 1e3:>9.1f} {worst:>10.1e} {norm:>11.1e} {same:>10.2%}")
        budget(f"{name}, package", size, PACKAGE_MB.get((backbone, scheme), float("inf")), "MB")
        budget(f"{name}, memory of the export", peak / 1e3, EXPORT_GB, "GB")
        if scheme == "f16" and norm > F16_ERROR:
            missed.append(f"{name}: logits differ by {norm:.1e}")
        if not (np.isfinite(logits).all() and logits.std() > 0):
            missed.append(f"{name}: logits are not finite or all equal")
for line in missed:
    print("MISSED", line)
sys.exit(bool(missed))
PYTHON
