"""The chips of a samlora run: its samples by name, label values turned into class indices, augmented crops."""
import collections, json, math, pathlib
import numpy as np, torch, torch.nn.functional as F
from PIL import Image
from metrics import IGNORE

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
UNLISTED = -1
# The augmentations of src/train/augment.rs that decide most; its blur and JPEG noise are left out.
AUGMENT = dict(dihedral=True, scale=(0.75, 1.5), scale_chance=0.5, rotate=15.0, rotate_chance=0.3, brightness=0.2,
               contrast=0.2, saturation=0.2, channel_gain=0.05, rare_class_crops=0.25)
Sample = collections.namedtuple("Sample", "folder image mask lookup")


class DataError(Exception):
    """Bad data: names the file and the remedy."""


def pairs(folder):
    """The image and mask files of `folder`: those map.txt lists, else equal stems in images/ and masks/ or labels/."""
    listed = folder / "map.txt"
    if listed.exists():
        lines = [line.replace("\\", "/").split() for line in listed.read_text().splitlines() if line.strip()]
        if any(len(line) != 2 for line in lines):
            raise DataError(f"{listed}: a line is not an image and a label")
        found = [(folder / image, folder / label) for image, label in lines]
    else:
        masks = next((d for d in (folder / "masks", folder / "labels") if d.is_dir()), None)
        if masks is None or not (folder / "images").is_dir():
            raise DataError(f"{folder}: expected images/ beside masks/ or labels/, or a map.txt")
        by_stem = {p.stem: p for p in masks.iterdir() if p.suffix.lower() in IMAGES}
        images = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in IMAGES)
        lost = [p for p in images if p.stem not in by_stem]
        if lost:
            raise DataError(f"{lost[0]}: no mask of that name in {masks} ({len(lost)} of {len(images)} images)")
        found = [(p, by_stem[p.stem]) for p in images]
    if not found:
        raise DataError(f"{folder}: no images")
    return found


def names(folder):
    """Class names by label value that the folder itself gives (.emd or classes.json); empty if none."""
    emd, listed = sorted(folder.glob("*.emd")), folder / "classes.json"
    if emd:
        return {c["Value"]: c["Name"] for c in json.loads(emd[0].read_text("utf-8-sig"))["Classes"]}
    if listed.exists():
        classes = json.loads(listed.read_text("utf-8-sig"))["classes"]
        return {c["value"]: c["name"] for c in classes} if isinstance(classes[0], dict) else dict(enumerate(classes))
    return {}


def lookup(folder, run):
    """Class index by label value (an array of 65,536) for the masks of `folder`, as the run read its own data: by class
    name where the folder names the run's classes, else by label value. Classes that were not kept are background."""
    settings, indices = run["settings"].get("dataset") or {}, {c["name"].casefold(): c["index"] for c in run["classes"]}
    unlisted = {"background": 0, "ignore": IGNORE}.get(settings.get("unlisted"), UNLISTED)
    other = 0 if settings.get("keep") else unlisted
    named = {value: name.strip().casefold() for value, name in names(folder).items()}
    if any(indices.get(name, 0) for name in named.values()):
        table = np.full(65536, unlisted, np.int16)
        table[run["values"][0]] = 0
        for value, name in named.items():
            table[value] = indices.get(name, other)
    else:
        table = np.full(65536, other, np.int16)
        table[run["values"]] = [c["index"] for c in run["classes"]]
    table[np.int64(settings.get("ignore") or [])] = IGNORE
    return table


def open_folder(folder, run):
    """All samples of `folder`."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    table = lookup(folder, run)
    return [Sample(folder, image, mask, table) for image, mask in pairs(folder)]


def select(samples, wanted):
    """The samples of the given names, `folder/stem`, in that order; `folder` may be any end of the folder's path."""
    by_stem = collections.defaultdict(list)
    for s in samples:
        by_stem[s.image.stem].append(s)
    chosen = []
    for name in wanted:
        folder, _, stem = name.rpartition("/")
        found = [s for s in by_stem[stem] if ("/" + s.folder.resolve().as_posix()).endswith("/" + folder)]
        if len(found) != 1:
            raise DataError(f"{name}: {len(found)} samples of that name in the run's data folders")
        chosen += found
    return chosen


def read_image(path):
    """8-bit RGB, `[height, width, 3]`."""
    with Image.open(path) as image:
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "P"):
            raise DataError(f"{path}: {image.mode} pixels; this baseline reads 8-bit RGB")
        return np.asarray(image.convert("RGB"))


def read_labels(sample):
    """Class indices, `[height, width]`, 8 bit."""
    with Image.open(sample.mask) as image:
        values = np.asarray(image)
    if values.ndim != 2 or values.dtype.kind not in "bui" or values.max() > 65535 or values.min() < 0:
        raise DataError(f"{sample.mask}: expected one band of label values of up to 16 bits")
    labels = sample.lookup[values.astype(np.int64)]
    if (labels == UNLISTED).any():
        raise DataError(f"{sample.mask}: label value {values[labels == UNLISTED][0]} is no class of the run")
    return labels.astype(np.uint8)


def read(sample):
    image, labels = read_image(sample.image), read_labels(sample)
    if image.shape[:2] != labels.shape:
        raise DataError(f"{sample.mask}: {labels.shape[::-1]} pixels, its image {image.shape[1::-1]}")
    return image, labels


def normalise(image):
    """`[..., 3]` of 0 to 255 -> SAM's normalisation."""
    return (image - MEAN) / STD


def crop(image, labels, size, o, rng):
    """A random crop `[size, size]` augmented by the options `o` in one sampling pass: the image bilinear and mirrored
    outside, labels nearest and IGNORE outside. Returns the normalised image `[3, size, size]` and the labels."""
    height, width = labels.shape
    turned = rng.random() < o["rotate_chance"]
    angle = math.radians(rng.uniform(-o["rotate"], o["rotate"])) if turned else 0.0
    zoom = math.exp(rng.uniform(*np.log(o["scale"]))) if rng.random() < o["scale_chance"] else 1.0
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / zoom
    if o["dihedral"]:
        flips = np.diag(rng.choice((-1.0, 1.0), 2))
        matrix = matrix @ (flips[::-1] if rng.random() < 0.5 else flips)
    centre = rng.uniform((0, 0), (width, height))
    if rng.random() < o["rare_class_crops"]:
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[:IGNORE])
        if present.size:
            where = np.flatnonzero(labels.ravel() == rng.choice(present))
            centre = np.array(divmod(int(rng.choice(where)), width))[::-1] + 0.5
    reach = np.abs(matrix).sum(1) * size / 2                    # half the sides of the sampled box
    extent = np.array((width, height), float)
    centre = np.where(2 * reach < extent, np.clip(centre, reach, np.maximum(extent - reach, reach)), extent / 2)
    if angle == 0 and zoom == 1:
        centre = np.round(centre - size / 2) + size / 2         # whole pixels: nothing is resampled
    u = np.arange(size) + 0.5 - size / 2
    x, y = (centre[k] + matrix[k, 0] * u[None, :] + matrix[k, 1] * u[:, None] for k in (0, 1))

    left, top = (int(max(v.min() - 2, 0)) for v in (x, y))
    part = image[top:int(y.max()) + 3, left:int(x.max()) + 3]
    grid = np.stack([2 * (x - left) / part.shape[1] - 1, 2 * (y - top) / part.shape[0] - 1], -1).astype(np.float32)
    pixels = F.grid_sample(torch.from_numpy(part.transpose(2, 0, 1).astype(np.float32))[None], torch.from_numpy(grid)[None],
                           mode="bilinear", padding_mode="reflection", align_corners=False)[0].permute(1, 2, 0).numpy()
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    target = np.where(inside, labels[row.clip(0, height - 1), column.clip(0, width - 1)], IGNORE)

    change = lambda name, *shape: np.float32(1 + rng.uniform(-o[name], o[name], shape))
    pixels = pixels * change("brightness") * change("channel_gain", 3)
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * change("saturation")
    mean = pixels.mean()
    pixels = mean + (pixels - mean) * change("contrast")
    pixels = normalise(pixels.clip(0, 255))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32), target.astype(np.int64)


def crops(samples, size, options, seed, per_chip=0, cache_bytes=1 << 30):
    """Endless augmented crops: epochs of every chip, `per_chip` crops each (0: as many as its area holds), shuffled."""
    rng, cache = np.random.default_rng(seed), {}
    def chip(i):
        nonlocal cache_bytes
        found = cache.get(i) or read(samples[i])
        if i not in cache and cache_bytes > 0:
            cache[i] = found
            cache_bytes -= found[0].nbytes + found[1].nbytes
        return found
    def area(s):
        with Image.open(s.image) as image:
            return image.width * image.height
    epoch = [i for i, s in enumerate(samples) for _ in range(per_chip or max(1, area(s) // size ** 2))]
    while True:
        for i in rng.permutation(epoch):
            yield crop(*chip(i), size, options, rng)
