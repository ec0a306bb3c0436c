"""A U-Net (Ronneberger et al. 2015) for the baseline: its layers, loss, training on a budget and prediction in windows."""
import concurrent.futures, itertools, math, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from chips import normalise
from metrics import IGNORE


def double(i, o):
    """Twice 3x3 convolution, batch normalisation and ReLU."""
    layer = lambda a: [nn.Conv2d(a, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
    return nn.Sequential(*layer(i), *layer(o))


class UNet(nn.Module):
    """Four halvings, transposed convolutions upwards, skips concatenated: 7.76 million parameters at width 32."""
    STRIDE = 16

    def __init__(self, classes, width=32):
        super().__init__()
        c = [width << i for i in range(5)]
        self.down = nn.ModuleList(double(i, o) for i, o in zip([3, *c], c))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in zip(c[:0:-1], c[-2::-1]))
        self.join = nn.ModuleList(double(2 * o, o) for o in c[-2::-1])
        self.head = nn.Conv2d(width, classes, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x):
        """`[batch, 3, h, w]`, h and w multiples of 16 -> logits `[batch, classes, h, w]`."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1]):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


def loss(logits, target):
    """0.2 cross-entropy + 0.8 soft Dice over the batch, mean over the foreground classes that occur in its labels; a
    batch without any has no Dice part. IGNORE counts nowhere."""
    labelled = (target != IGNORE)[:, None]
    cross_entropy = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / labelled.sum().clamp(min=1)
    p = logits.softmax(1)[:, 1:] * labelled
    t = torch.stack([target == c for c in range(1, logits.shape[1])], 1).float()
    overlap, p, t = (v.sum((0, 2, 3)) for v in (p * t, p, t))
    occurs = t > 0
    dice = (1 - 2 * overlap[occurs] / (p + t)[occurs]).mean() if occurs.any() else 0.0
    return 0.2 * cross_entropy + 0.8 * dice


def one_cycle(progress, peak):
    """Learning rate at `progress` 0 to 1: cosine from peak / 25 up to the peak at 0.3, then down to peak / 250,000."""
    cosine = lambda a, b, t: b + (a - b) * (1 + math.cos(math.pi * t)) / 2
    return cosine(peak / 25, peak, progress / 0.3) if progress < 0.3 else cosine(peak, peak / 25e4, (progress - 0.3) / 0.7)


def mixed(bf16):
    """The context of a forward pass: convolutions in bfloat16 with sums, losses and weights in f32, or all in f32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)


def train(model, crops, batch_size, images, seconds, peak, evaluate, evaluations, bf16=False):
    """Trains until `images` crops were seen or, if given, `seconds` of training have passed. `evaluate(model)` gives a
    score, `evaluations` times and not counted as time; the weights of the best score are kept. Returns what was done."""
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    seen = steps = 0
    elapsed, history, best, running = 0.0, [], None, []
    def batch(count):
        x, y = zip(*itertools.islice(crops, count))
        return torch.from_numpy(np.stack(x)).contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(y))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        size = lambda: batch_size if seconds else min(batch_size, images - seen)
        coming, start = pool.submit(batch, size()), time.perf_counter()
        while (progress := elapsed / seconds if seconds else seen / images) < 1:
            model.train()
            x, y = coming.result()
            seen, steps = seen + len(x), steps + 1
            if size():
                coming = pool.submit(batch, size())
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(progress, peak)
            optimizer.zero_grad()
            with mixed(bf16):
                logits = model(x)
            value = loss(logits.float(), y)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running.append(value.item())
            if not math.isfinite(running[-1]):
                raise SystemExit(f"the loss is {running[-1]} at step {steps}: choose a smaller --lr")
            elapsed += time.perf_counter() - start
            done = elapsed / seconds if seconds else seen / images
            if min(done, 1) * evaluations >= len(history) + 1:
                score = evaluate(model)
                if best is None or score >= best[0]:
                    best = score, {k: v.clone() for k, v in model.state_dict().items()}
                history.append({"step": steps, "images": seen, "seconds": elapsed, "loss": float(np.mean(running)), "score": score})
                running = []
            start = time.perf_counter()
        coming.cancel()
    model.load_state_dict(best[1])
    return {"steps": steps, "images": seen, "seconds": elapsed, "history": history}


def positions(length, size, overlap):
    """Starts of windows of `size` that cover `length`; neighbours overlap by `overlap` or more."""
    count = math.ceil(max(length - size, 0) / (size - overlap)) + 1
    return np.linspace(0, max(length - size, 0), count).round().astype(int)


@torch.inference_mode()
def predict(model, image, size, overlap, bf16=False):
    """Class indices of an 8-bit RGB image of any size, in windows whose logits are blended with weights that fall linearly
    to the edges over `overlap` pixels (at most half of `size`); an image smaller than a window is mirrored."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, max(size - height, 0)), (0, max(size - width, 0)), (0, 0)), mode="symmetric")
    x = torch.from_numpy(normalise(padded).transpose(2, 0, 1).copy())[None]
    edge = torch.arange(size) + 0.5
    ramp = (torch.minimum(edge, size - edge) / max(overlap, 0.5)).clamp(max=1)
    weight, total = ramp[:, None] * ramp, 0.0
    for top in positions(padded.shape[0], size, overlap):
        for left in positions(padded.shape[1], size, overlap):
            with mixed(bf16):
                logits = model(x[..., top:top + size, left:left + size])[0].float()
            if isinstance(total, float):
                total = torch.zeros(len(logits), *padded.shape[:2])
            total[:, top:top + size, left:left + size] += logits * weight
    # the largest weighted sum is the largest weighted mean: a pixel's classes have the same weights
    return total[:, :height, :width].argmax(0).to(torch.uint8).numpy()
