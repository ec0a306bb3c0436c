"""A teacher for light models: a U-Net in PyTorch on an EfficientNet-Lite0 that has seen ImageNet, and the soft masks it writes.

    python3 tests/peers/teacher.py train RUN --encoder efficientnet-lite0.pth --out teacher.pt
    python3 tests/peers/teacher.py soft-masks teacher.pt --out SOFT FOLDER=METRES ...

`train` takes data, split, crop size and classes (one beside background) from RUN/run.json, as baselines.py does.
`soft-masks` writes for each image of the FOLDERs what `samlora train --teacher SOFT` reads: SOFT/masks/STEM.png, 16 bits, 0 to
65535 for a probability of 0 to 1, of the image's size. METRES is what one of the folder's pixels covers on the ground: the
teacher sees the image at --resolution. With FOLDER=METRES:resample the image itself is written at that resolution too, to
SOFT/FOLDER/STEM.jpg, and the mask has its size: so unlabelled images of 0.6 m can be learnt from beside those of 0.1 m.
"""
import argparse, json, pathlib, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from PIL import Image
from chips import AUGMENT, IMAGES, DataError, crops, normalise, open_folder, read_image, select
from unet import positions, train

ENCODER_CHANNELS = 16, 24, 40, 112, 320                          # at strides 2, 4, 8, 16 and 32
DECODER_CHANNELS = 160, 96, 64, 32
MEAN, STD = 127.0, 128.0                                         # of EfficientNet-Lite, on 0 to 255


class Join(nn.Module):
    """Doubles the side, joins the encoder's features of that stride, and convolves twice."""

    def __init__(self, below, beside, out):
        super().__init__()
        layer = lambda i: nn.Sequential(nn.Conv2d(i, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        self.a, self.b = layer(below + beside), layer(out)

    def forward(self, x, beside):
        return self.b(self.a(torch.cat([F.interpolate(x, scale_factor=2.0), beside], 1)))


class Teacher(nn.Module):
    """`[batch, 3, h, w]` normalised as SAM does, sides multiples of 32 -> logits `[batch, classes, h, w]`. 4.2 million parameters."""
    STRIDE = 32

    def __init__(self, classes=2, encoder=None):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet
        self.enc = EfficientNet.from_name("efficientnet-lite0")
        if encoder:
            self.enc.load_state_dict(torch.load(encoder, map_location="cpu", weights_only=True))
        del self.enc._conv_head, self.enc._bn1, self.enc._fc     # the classifier's
        below = ENCODER_CHANNELS[-1]
        for level, (beside, out) in enumerate(zip(ENCODER_CHANNELS[-2::-1], DECODER_CHANNELS)):
            setattr(self, f"u{4 - level}", Join(below, beside, out))
            below = out
        self.head = nn.Conv2d(below, classes, 1)
        for module in self.enc.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.03                           # batches are small

    def features(self, x):
        """Of every stride from 2 to 32."""
        e, found = self.enc, []
        x = e._swish(e._bn0(e._conv_stem(x)))
        for i, block in enumerate(e._blocks):
            if block._depthwise_conv.stride[0] == 2:
                found.append(x)
            x = block(x, drop_connect_rate=0.1 * i / len(e._blocks) if self.training else None)
        return [*found, x]

    def forward(self, x):
        std, mean = (torch.tensor(v).view(3, 1, 1) for v in normalisation())
        *beside, x = self.features((x * std + mean - MEAN) / STD)
        for level in (4, 3, 2, 1):
            x = getattr(self, f"u{level}")(x, beside[level - 1])
        return F.interpolate(self.head(x).float(), scale_factor=2.0, mode="bilinear", align_corners=False)


def normalisation():
    """Deviation and mean that chips.normalise divides by and subtracts."""
    zero, one = normalise(np.zeros(3, np.float32)), normalise(np.ones(3, np.float32))
    return 1 / (one - zero), -zero / (one - zero)


@torch.inference_mode()
def probability(model, image, size, flips, bf16):
    """Of the one class beside background in every pixel of an 8-bit image `[h, w, 3]`: windows of `size` overlap by a
    quarter and are blended; with `flips` the mean over four mirror images."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, max(size - height, 0)), (0, max(size - width, 0)), (0, 0)), mode="symmetric")
    x = torch.from_numpy(normalise(padded).transpose(2, 0, 1).astype(np.float32))
    edge = torch.arange(size) + 0.5
    ramp = (torch.minimum(edge, size - edge) / (size // 4)).clamp(max=1)
    weight, total, sums = ramp[:, None] * ramp, torch.zeros(padded.shape[:2]), torch.zeros(padded.shape[:2])
    places = [(top, left) for top in positions(padded.shape[0], size, size // 4) for left in positions(padded.shape[1], size, size // 4)]
    for start in range(0, len(places), 8):
        part = places[start:start + 8]
        batch = torch.stack([x[:, t:t + size, l:l + size] for t, l in part]).contiguous(memory_format=torch.channels_last)
        found = 0.0
        for axes in ([], [2], [3], [2, 3])[:4 if flips else 1]:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(batch.flip(axes)).float().flip(axes)
            found = found + torch.sigmoid(logits[:, 1] - logits[:, 0])
        for (top, left), values in zip(part, found / (4 if flips else 1)):
            total[top:top + size, left:left + size] += values * weight
            sums[top:top + size, left:left + size] += weight
    return (total / sums)[:height, :width].numpy()


def resized(image, width, height):
    """Area average down, bilinear up; 8-bit pictures and planes of floating point."""
    smaller = width < image.shape[1]
    method = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), method))


def soft_masks(a):
    stored = torch.load(a.weights, map_location="cpu", weights_only=True)
    model = Teacher()
    model.load_state_dict(stored["model"])
    model.eval().to(memory_format=torch.channels_last)
    for entry in a.folders:
        place, _, kind = entry.partition("=")
        metres, _, resample = kind.partition(":")
        place = pathlib.Path(place)
        try:
            metres = float(metres)
        except ValueError:
            sys.exit(f"{entry}: expected FOLDER=METRES or FOLDER=METRES:resample")
        folder = place / "images" if (place / "images").is_dir() else place
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGES)
        if not files:
            sys.exit(f"{folder}: no images")
        for file in files:
            image = read_image(file)
            factor = metres / a.resolution
            seen = resized(image, round(image.shape[1] * factor), round(image.shape[0] * factor))
            mask = probability(model, seen, a.size, a.flips, a.bf16)
            if resample:
                out = a.out / place.name / f"{file.stem}.jpg"
                out.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(seen).save(out, quality=92)
            else:
                mask = resized(mask, image.shape[1], image.shape[0])
            out = a.out / "masks" / f"{file.stem}.png"
            if out.exists():
                sys.exit(f"{file}: {out} exists already; images of all folders need names of their own")
            out.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.round(mask.clip(0, 1) * 65535).astype(np.uint16)).save(out)
        print(f"{place.name}: {len(files)} soft masks", file=sys.stderr, flush=True)


def learn(a):
    from baselines import load_run, score
    from unet import predict
    run = load_run(a.run)
    settings, names = run["settings"], [c["name"] for c in run["classes"]]
    size = settings["size"]
    if len(names) != 2 or size % Teacher.STRIDE:
        sys.exit(f"{a.run}: needs one class beside background and a size that is a multiple of {Teacher.STRIDE}")
    augment = AUGMENT | {k: v for k, v in (settings.get("augment") or {}).items() if k in AUGMENT}
    data = [s for folder in run["data"]["folders"] for s in open_folder(folder, run)]
    learned, valid = select(data, run["split"]["train"]), select(data, run["split"]["valid"])
    model = Teacher(len(names), a.encoder)
    def evaluate(model):
        found = score(valid, lambda _, image: predict(model.eval(), image, size, 0, a.bf16), len(names))["mean_iou_foreground"]
        print(f"validation IoU: {found or 0:.4f}", file=sys.stderr, flush=True)
        return found or 0.0
    done = train(model, crops(learned, size, augment, a.seed, settings.get("crops") or 0), settings["batch_size"], a.crops,
                 None, a.lr, evaluate, 4, a.bf16)
    torch.save({"model": model.state_dict(), "size": size, "crops": a.crops}, a.out)
    print(json.dumps(done | {"out": str(a.out)}))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--bf16", action="store_true", help="mixed precision")
    commands = ap.add_subparsers(required=True)
    of = commands.add_parser("train", help="train the teacher on a samlora run's samples")
    of.add_argument("run", type=pathlib.Path, metavar="RUN")
    of.add_argument("--encoder", type=pathlib.Path, required=True, help="EfficientNet-Lite0's ImageNet weights (docs/src/train.md)")
    of.add_argument("--crops", type=int, default=12_800)
    of.add_argument("--lr", type=float, default=1e-3)
    of.add_argument("--out", type=pathlib.Path, required=True)
    of.set_defaults(run_command=learn)
    of = commands.add_parser("soft-masks", help="write soft masks of images")
    of.add_argument("weights", type=pathlib.Path)
    of.add_argument("folders", nargs="+", metavar="FOLDER=METRES[:resample]")
    of.add_argument("--resolution", type=float, default=0.105, help="metres a pixel at which the teacher sees images [%(default)s]")
    of.add_argument("--size", type=int, default=224)
    of.add_argument("--flips", action="store_true", help="mean over four mirror images")
    of.add_argument("--out", type=pathlib.Path, required=True)
    of.set_defaults(run_command=soft_masks)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    try:
        a.run_command(a)
    except DataError as e:
        sys.exit(str(e))


if __name__ == "__main__":
    from baselines import enter
    enter()
    main()
