"""Compares levels and resampled rasters of tests/resolution.rs with rasterio (GDAL) and numpy: python resolution_check.py jobs.json"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject

for category in (rasterio.errors.NotGeoreferencedWarning, rasterio.errors.NodataShadowWarning):
    warnings.filterwarnings("ignore", category=category)
LOSSY = (48, 2.0)


def bands(source):
    return [i for i, c in enumerate(source.colorinterp, 1) if c != ColorInterp.alpha]


def validity(source, window=None):
    """Whether a pixel holds data: with a no-data value if any band does, else by mask or alpha."""
    masks = source.read_masks(bands(source), window=window)
    return (masks != 0).any(axis=0)


def ours(job, out):
    w = job["window"]
    shape = (w["height"], w["width"], w["bands"])
    samples = np.fromfile(out / f"{w['stem']}.samples", np.uint8).reshape(shape).astype(np.float64)
    return samples, np.fromfile(out / f"{w['stem']}.valid", np.uint8).reshape(shape[:2]) != 0


def level(job, out):
    name = f"{Path(job['path']).name} level {job['level']}"
    options = {} if job["level"] == 0 else {"overview_level": job["level"] - 1}
    w = job["window"]
    window = rasterio.windows.Window(w["x"], w["y"], w["width"], w["height"])
    with rasterio.open(job["path"], **options) as source:
        assert np.allclose(list(source.transform)[:6], job["transform"], rtol=1e-9), (name, source.transform)
        expected = np.moveaxis(source.read(bands(source), window=window), 0, -1).astype(np.float64)
        holds = validity(source, window)
        lossy = source.compression is not None and source.compression.value in ("JPEG", "WEBP", "YCbCr JPEG")
    samples, valid = ours(job, out)
    # GDAL may make the mask of an overview itself, of a whole mask that is 255 and 0.
    assert (valid == holds).mean() > 0.999, f"{name}: other pixels hold data"
    difference = np.abs(samples - expected)[valid & holds]
    worst, mean = difference.max(initial=0), difference.mean() if difference.size else 0
    assert (worst <= LOSSY[0] and mean <= LOSSY[1]) if lossy else worst == 0, (name, worst, mean)
    print(f"{name}: samples differ by at most {worst:.0f}, mean {mean:.3f}")


def weights(count, factor, offset, length):
    """[count, length]: the share that each source pixel has in each pixel."""
    matrix = np.zeros((count, length))
    for i in range(count):
        if factor > 1:
            start, end = max(offset + i * factor, 0), min(offset + (i + 1) * factor, length)
            for p in range(int(start), min(int(np.ceil(end)), length)):
                matrix[i, p] = max(min(end, p + 1) - max(start, p), 0)
        else:
            place = min(max(offset + (i + 0.5) * factor - 0.5, 0), length - 1)
            low = int(place)
            matrix[i, low] += 1 - (place - low)
            if place > low:
                matrix[i, low + 1] += place - low
    return matrix


def resampled(job, out):
    name, factor, w = f"{Path(job['path']).name} x {job['factor']}", job["factor"], job["window"]
    with rasterio.open(job["path"]) as source:
        whole = np.moveaxis(source.read(bands(source)), 0, -1).astype(np.float64)
        holds = validity(source)
        transform, crs = source.transform, source.crs
        a, b, c, d, e, f = job["transform"]
        assert np.allclose([a, e], [transform.a * factor, transform.e * factor]) and b == d == 0, name
        offsets = [(c - transform.c) / transform.a, (f - transform.f) / transform.e]
        assert all(-factor - 1e-6 < o <= 1e-6 for o in offsets), (name, offsets)
        # The grid is counted from the origin of the coordinates.
        assert abs(c / a - round(c / a)) < 1e-4 and abs(f / e - round(f / e)) < 1e-4, name
        across = weights(w["width"], factor, offsets[0], whole.shape[1])
        down = weights(w["height"], factor, offsets[1], whole.shape[0])
        share = down @ holds @ across.T
        area = np.outer(down.sum(axis=1), across.sum(axis=1))
        sums = np.stack([down @ (whole[..., i] * holds) @ across.T for i in range(whole.shape[2])], axis=-1)
        samples, valid = ours(job, out)
        ratio = share / np.maximum(area, 1e-12)
        clear = np.abs(ratio - 0.5) > 1e-4
        assert (valid == (ratio >= 0.5))[clear].all(), f"{name}: other pixels hold data"
        means = sums / np.maximum(share, 1e-12)[..., None]
        difference = np.abs(samples - means)[valid & clear]
        # JPEG decoders differ before anything is averaged.
        lossy = source.compression is not None and "JPEG" in source.compression.value
        limits = LOSSY if lossy else (0.501, 0.3)
        assert difference.max() <= limits[0] and difference.mean() <= limits[1], (name, difference.max(), difference.mean())
        note = ""
        if factor > 1 and source.nodata is not None:
            # GDAL's own mean, which leaves out single bands where they are no data and not whole pixels.
            theirs = np.zeros((1, w["height"], w["width"]), np.float64)
            target = Affine(a, 0, c, 0, e, f)
            band = np.where(holds, whole[..., 0], -1.0)
            reproject(band[None], theirs, src_transform=transform, src_crs=crs, dst_transform=target, dst_crs=crs,
                      src_nodata=-1.0, dst_nodata=-1.0, resampling=Resampling.average)
            both = valid & (theirs[0] >= 0) & (area > 0.999 * area.max())
            gap = np.abs(samples[..., 0] - theirs[0])[both]
            assert gap.max() <= 1.01, (name, gap.max())
            note = f", from GDAL's average by at most {gap.max():.2f}"
    print(f"{name}: {valid.sum()} of {valid.size} pixels hold data; differ from numpy's by at most {difference.max():.3f}{note}")


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    for job in jobs["jobs"]:
        {"level": level, "resampled": resampled}[job["kind"]](job, Path(jobs["out"]))
