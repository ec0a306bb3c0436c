"""Compares what tests/real_files.rs read with what rasterio (GDAL) reads: python real_files_check.py jobs.json"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)

MANIFEST = json.loads(Path(sys.argv[1]).read_text())
OUT = Path(MANIFEST["out"])
WHOLE = 4 << 20  # larger images are read in windows
TYPES = {"u8": np.uint8, "u16": "<u2", "f32": "<f4"}
# JPEG and WebP decoders differ in how they enlarge chroma: at most so much in a pixel, and on average.
LOSSY = (48, 1.5)


def is_lossy(source):
    compression = source.compression
    return source.driver in ("JPEG", "WEBP") or (compression is not None and compression.value in ("JPEG", "WEBP", "YCbCr JPEG"))


def upright(array, source):
    """Rows and columns turned as the camera's orientation says, which GDAL leaves to its users."""
    turns = {"1": 0, "3": 2, "6": -1, "8": 1}
    orientation = source.tags().get("EXIF_Orientation", "1") if source.driver == "JPEG" else "1"
    return np.rot90(array, turns[orientation], axes=(-2, -1))


def cut(array, window):
    rows, columns = window.toslices()
    return array[..., rows, columns]


def roles(source):
    """The bands that are no alpha, from 1 on."""
    return [i for i, c in enumerate(source.colorinterp, 1) if c != ColorInterp.alpha]


def read(source, window):
    if source.width * source.height > WHOLE:
        return source.read(roles(source), window=window)
    return cut(upright(source.read(roles(source)), source), window)


def wanted_samples(source, window):
    """The samples as this project hands them out, [h, w, bands]: palettes and shades of grey in 8 bits are colours."""
    samples = read(source, window)
    structure = source.tags(ns="IMAGE_STRUCTURE")
    bits = int(source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", structure.get("NBITS", 8)))
    white_is_zero = structure.get("MINISWHITE") == "YES"
    if source.dtypes[0] == "uint8" and len(samples) == 1:
        if source.colorinterp[0] == ColorInterp.palette and not white_is_zero:
            table = np.zeros((256, 3), np.uint8)
            for index, colour in source.colormap(1).items():
                table[index] = colour[:3]
            return table[samples[0]]
        grey = samples[0].astype(int) * 255 // (2**bits - 1)
        grey = 255 - grey if white_is_zero else grey
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    return samples.transpose(1, 2, 0)


def wanted_validity(source, window):
    if source.width * source.height > WHOLE:
        valid = source.dataset_mask(window=window) > 0
    else:
        valid = cut(upright(source.dataset_mask() > 0, source), window)
    # Not a number is never data here, whether the file says so or not.
    samples = read(source, window)
    if samples.dtype.kind == "f":
        valid &= np.isfinite(samples).all(axis=0)
    return valid


def load(stem, kind, shape):
    return np.fromfile(OUT / f"{stem}.{kind}", TYPES["u8"] if kind == "valid" else shape[1]).reshape(shape[0])


def check_window(job, part, source):
    window = Window(part["x"], part["y"], part["width"], part["height"])
    shape = (part["height"], part["width"])
    got = load(part["stem"], "samples", ((*shape, job["bands"]), TYPES[job["depth"]]))
    want = wanted_samples(source, window)
    assert got.shape == want.shape, ("bands", got.shape, want.shape)
    if is_lossy(source):
        difference = np.abs(got.astype(int) - want.astype(int))
        assert difference.max() <= LOSSY[0] and difference.mean() <= LOSSY[1], ("samples", difference.max(), difference.mean())
    else:
        assert np.array_equal(got, want.astype(got.dtype), equal_nan=got.dtype.kind == "f"), "samples differ"
    valid = load(part["stem"], "valid", (shape, None)).astype(bool)
    want = wanted_validity(source, window)
    assert (valid == want).all(), ("validity", int((valid != want).sum()))
    return valid


def check_labels(labels, source):
    shape = (labels["height"], labels["width"])
    values, want = load(labels["stem"], "samples", (shape, "<f4")), source.read(1).astype(np.float32)
    valid = load(labels["stem"], "valid", (shape, None)).astype(bool)
    finite = np.isfinite(want)
    assert np.array_equal(values[finite], want[finite]), "labels differ"
    if source.count == 1 or MaskFlags.per_dataset in source.mask_flag_enums[0]:
        assert (valid == ((source.dataset_mask() > 0) & finite)).all(), "the labels' validity"


def check(job):
    with rasterio.open(job["path"]) as source:
        assert upright(np.zeros(source.shape, bool), source).shape == tuple(job["size"][::-1])
        valid = [check_window(job, part, source) for part in job["windows"]]
        found = {c.name: i for i, c in enumerate(source.colorinterp[i - 1] for i in roles(source))}
        if all(name in found for name in ("red", "green", "blue")):
            assert job["colours"] == [found["red"], found["green"], found["blue"]], job["colours"]
        assert len(job["overviews"]) == len(source.overviews(1)), job["overviews"]
        if "labels" in job:
            check_labels(job["labels"], source)
        return sum(int((~v).sum()) for v in valid)


failed = 0
empty = 0
for job in MANIFEST["jobs"]:
    try:
        empty += check(job) > 0
    except Exception as error:  # all of them are named before the script fails
        failed += 1
        print(f"{job['path']}: {type(error).__name__}: {error}")
print(f"{len(MANIFEST['jobs'])} rasters compared, {empty} of them with pixels without data, {failed} differ")
sys.exit(failed > 0)
