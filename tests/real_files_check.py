"""Compares what tests/real_files.rs read with what rasterio (GDAL) reads: python real_files_check.py jobs.json

And makes files of many kinds to be read: python real_files_check.py make FOLDER
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

for category in (rasterio.errors.NotGeoreferencedWarning, rasterio.errors.NodataShadowWarning):
    warnings.filterwarnings("ignore", category=category)

OUT = Path()
WHOLE = 4 << 20  # larger images are read in windows
TYPES = {"u8": np.uint8, "u16": "<u2", "f32": "<f4"}
# JPEG and WebP decoders differ in how they enlarge chroma: at most so much in a pixel, and on average. Small pictures of
# noise come to 1.8.
LOSSY = (48, 2.0)


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


def drawn(random, dtype, shape, none):
    """Samples of a type, smooth enough to compress, with some that are `none`."""
    info = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    most = min(float(info.max), 4000.0)
    low = max(float(info.min), -most)
    steps = random.normal(0, (most - low) / 200, shape).cumsum(axis=-1).cumsum(axis=-2)
    samples = np.clip(low + (most - low) / 2 + steps, low, most).astype(dtype)
    if none is not None:
        # Pixels without data, and others where only one band has the value.
        samples[:, random.random(shape[1:]) < 0.2] = none
        samples[0, random.random(shape[1:]) < 0.1] = none
    return samples


def write(path, samples, mask=None, sidecar=False, interp=None, overviews=False, **options):
    """A file by GDAL, with a mask in it or beside it."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar):
        profile = {"count": len(samples), "height": samples.shape[1], "width": samples.shape[2], "dtype": samples.dtype}
        with rasterio.open(path, "w", **profile, **options) as out:
            if interp:
                out.colorinterp = [getattr(ColorInterp, name) for name in interp]
            out.write(samples)
            if mask is not None:
                out.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as out:
                out.build_overviews([2, 4])


def make(folder):
    """Files of many kinds, drawn by a seed; their names say what they are."""
    random = np.random.default_rng(11)
    of = lambda *items: items[random.integers(len(items))]
    types = ["uint8", "uint8", "uint16", "int8", "int16", "uint32", "int32", "float32", "float64", "int64", "uint64"]
    for number in range(220):
        dtype, bands = of(*types), int(of(1, 1, 2, 3, 4, 5))
        height, width = (int(n) for n in random.integers(1, 90, 2))
        compress = of("none", "lzw", "lzw", "deflate", "zstd", "packbits")
        options = {"compress": compress, "interleave": of("pixel", "band"), "BIGTIFF": of("YES", "NO"), "ENDIANNESS": of("LITTLE", "BIG")}
        kind = np.dtype(dtype).kind
        if compress in ("lzw", "deflate", "zstd"):
            options["predictor"] = int(of(1, 2, 3 if kind == "f" else 2))
        if of(True, False):
            options |= {"tiled": True, "blockxsize": int(of(16, 32, 64)), "blockysize": int(of(16, 32))}
        elif of(True, False):
            options["blockysize"] = int(random.integers(1, height + 1))
        none = of(None, None, 0, 7, np.nan if kind == "f" else 100, -9999 if kind in "fi" and dtype != "int8" else 120)
        mask = of(None, None, None, "inside", "beside")
        interp = None
        if none is None and mask is None and dtype in ("uint8", "uint16") and bands in (2, 4):
            # Alpha; or the colours in another order.
            interp = of(["gray", "alpha"] if bands == 2 else ["red", "green", "blue", "alpha"], None)
            if bands == 4 and interp is None:
                interp = of(["blue", "green", "red", "undefined"], ["undefined", "red", "green", "blue"])
        elif bands == 5 and of(True, False):
            interp = of(["blue", "green", "red", "undefined", "undefined"], ["undefined", "green", "undefined", "red", "blue"])
        if dtype == "uint8" and bands == 1 and none is None and interp is None and of(True, False):
            options["nbits"] = int(of(1, 2, 4))
            options.pop("predictor", None)
        if dtype == "uint16" and bands == 1 and none is None and of(True, False):
            options["nbits"] = int(of(9, 12, 15))
            options.pop("predictor", None)
        if mask:
            none = None
        samples = drawn(random, dtype, (bands, height, width), none)
        if "nbits" in options:
            samples = samples % 2 ** options["nbits"]
        if interp and "alpha" in interp:
            samples[-1] = random.integers(0, 3, (height, width))
        drawn_mask = (random.random((height, width)) < 0.7).astype(np.uint8) * 255 if mask else None
        words = [dtype, f"{bands}-bands", *(f"{k}-{v}" for k, v in options.items()), f"nodata-{none}", f"mask-{mask}", *(interp or [])]
        if none is not None:
            options["nodata"] = none
        path = folder / f"{number}-{'-'.join(words)}.tif"
        overviews = compress != "none" and min(height, width) > 40 and dtype in ("uint8", "uint16", "float32")
        write(path, samples, drawn_mask, mask == "beside", interp, overviews, driver="GTiff", **options)
    for number in range(40):
        # PNG and JPEG; GDAL puts the mask of a JPEG behind it, that of a PNG beside it.
        driver, mask = of("PNG", "PNG", "JPEG"), of(True, False)
        dtype = of("uint8", "uint16") if driver == "PNG" else "uint8"
        bands = int(of(1, 2, 3, 4) if driver == "PNG" else of(1, 3))
        mask = mask and bands in (1, 3)
        height, width = (int(n) for n in random.integers(1, 90, 2))
        samples = drawn(random, dtype, (bands, height, width), None)
        if bands in (2, 4):
            samples[-1] = random.integers(0, 3, (height, width)) * (1 if dtype == "uint8" else 255)
        name = f"p{number}-{dtype}-{bands}-bands-mask-{mask}.{'png' if driver == 'PNG' else 'jpg'}"
        source = folder / "source.vrt.tif"
        drawn_mask = (random.random((height, width)) < 0.7).astype(np.uint8) * 255 if mask else None
        alpha = {2: ["gray", "alpha"], 4: ["red", "green", "blue", "alpha"]}.get(bands)
        write(source, samples, drawn_mask, interp=alpha, driver="GTiff")
        rasterio.shutil.copy(source, folder / name, driver=driver, **({"QUALITY": 95} if driver == "JPEG" else {}))
        source.unlink()


def main():
    global OUT
    manifest = json.loads(Path(sys.argv[1]).read_text())
    OUT = Path(manifest["out"])
    failed = 0
    empty = 0
    for job in manifest["jobs"]:
        try:
            empty += check(job) > 0
        except Exception as error:  # all of them are named before the script fails
            failed += 1
            print(f"{job['path']}: {type(error).__name__}: {error}")
    print(f"{len(manifest['jobs'])} rasters compared, {empty} of them with pixels without data, {failed} differ")
    sys.exit(failed > 0)


if sys.argv[1] == "make":
    make(Path(sys.argv[2]))
else:
    main()
