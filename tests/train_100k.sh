#!/usr/bin/env bash
# A data set of 100,000 small chips: how long `samlora inspect` and `samlora train` take to open it, and their peak memory.
#   SAMLORA=path/to/samlora bash tests/train_100k.sh [chips] [folder]
# The chips (64 x 64 px, PNG images and masks, tiles of one zoom level; 200,000 files) are links to 200 different ones,
# so that they are made in a minute; every link is opened and read like a file. The folder is removed at the end unless it
# is given.
set -euo pipefail
: "${SAMLORA:?names the program samlora}"
chips=${1:-100000}
folder=${2:-}
if [ -z "$folder" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder/images" "$folder/masks"

python3 - "$folder" "$chips" <<'PYTHON'
import os, random, struct, sys, zlib

folder, chips = sys.argv[1], int(sys.argv[2])
random.seed(1)
SIDE, KINDS = 64, 200

def png(path, channels, pixel):
    rows = b"".join(b"\0" + bytes(v for x in range(SIDE) for v in pixel(x, y)) for y in range(SIDE))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0 if channels == 1 else 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))

across = int(chips ** 0.5) + 1
first = []
for i in range(chips):
    name = f"19-{300000 + i % across}-{200000 + i // across}.png"
    paths = f"{folder}/images/{name}", f"{folder}/masks/{name}"
    if os.path.exists(paths[1]):
        continue
    if len(first) < KINDS:
        left, top, side = random.randrange(32), random.randrange(32), random.randrange(8, 32)
        noise = [random.randrange(256) for _ in range(SIDE * SIDE)]
        kind = 1 + len(first) % 3
        inside = lambda x, y: left <= x < left + side and top <= y < top + side
        png(paths[0], 3, lambda x, y: (noise[y * SIDE + x], 80 * kind if inside(x, y) else 40, 90))
        png(paths[1], 1, lambda x, y: (kind if inside(x, y) else 0,))
        first.append(paths)
    else:
        for source, path in zip(first[i % len(first)], paths):
            os.link(source, path)
PYTHON

echo "$chips chips of 64 x 64 px in $(find "$folder" -name '*.png' | wc -l) files, $(nproc) cores:"
"$SAMLORA" inspect "$folder" --size 64 --json | python3 -c '
import json, sys
report = json.load(sys.stdin)
seconds, memory = report["seconds"], report["peak_memory"]
print("  {} samples, {} groups, {} train, {} validate".format(
    report["samples"], report["split"]["groups"], report["split"]["train"], report["split"]["valid"]))
print("  open {open:.1f} s, masks {masks:.1f} s, with hashes and split {all:.1f} s".format(**seconds))
print(f"  peak memory {(memory or 0) / 1e6:.0f} MB")
'

python3 - "$SAMLORA" "$folder" <<'PYTHON'
import shutil, signal, subprocess, sys, tempfile, time

samlora, folder = sys.argv[1:]
run = tempfile.mkdtemp()
start = time.time()
command = [samlora, "train", "--data", folder, "--backbone", "tiny", "--size", "64", "--batch-size", "8", "--epochs", "1"]
process = subprocess.Popen(command + ["--out", f"{run}/run"], stderr=subprocess.PIPE, text=True)
for line in process.stderr:
    if "parameters learn" in line:  # the next thing is the first step
        ready = time.time() - start
        time.sleep(5)
        status = open(f"/proc/{process.pid}/status").read()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        process.send_signal(signal.SIGTERM)
        process.wait()
        print(f"train: {ready:.1f} s to the first step, peak memory {peak / 1e6:.0f} MB after 5 s of training")
        break
else:
    sys.exit("train did not begin")
shutil.rmtree(run)
PYTHON
