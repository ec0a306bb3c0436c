"""Checks the outputs of tests/georef.rs, and of `samlora segment` run by it, with rasterio and shapely: python georef_check.py jobs.json"""

import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from rasterio.windows import Window
from shapely.geometry import shape

# PNG files have no place of their own.
warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)

MANIFEST = json.loads(Path(sys.argv[1]).read_text())
OUT = Path(MANIFEST["out"])
COLORS = {c["index"]: tuple(c["color"]) for c in MANIFEST["classes"]}
NO_DATA = 255


def same_transform(a, b, size):
    """Equal to a thousandth of a pixel at the far corner."""
    far = [np.array(t * size) for t in (a, b)]
    near = [np.array(t * (0, 0)) for t in (a, b)]
    pixel = abs(a.a)
    return np.abs(far[0] - far[1]).max() < 1e-3 * pixel and np.abs(near[0] - near[1]).max() < 1e-3 * pixel


def check_raster(job, mask):
    assert mask.count == 1 and mask.dtypes[0] == "uint8" and mask.nodata == NO_DATA
    table = mask.colormap(1)
    for index, color in COLORS.items():
        assert table[index][:3] == color, (index, table[index])
    if job["input"]:
        with rasterio.open(job["input"]) as source:
            assert mask.shape == source.shape, (mask.shape, source.shape)
            if job.get("command") and job["small"]:
                assert ((mask.read(1) == NO_DATA) == (source.dataset_mask() == 0)).all(), "no data is not the input's"
            if job["georef"]:
                assert mask.crs == source.crs, (mask.crs, source.crs)
                assert same_transform(mask.transform, source.transform, (source.width, source.height))
            elif job.get("tile"):
                z, x, y = (int(n) for n in job["name"].split("-"))
                half, side = math.pi * 6378137, 2 * math.pi * 6378137 / 2**z
                pixel = side / source.width
                want = rasterio.Affine(pixel, 0, x * side - half, 0, -pixel, half - y * side)
                assert mask.crs == rasterio.CRS.from_epsg(3857)
                assert same_transform(mask.transform, want, (source.width, source.height))
    else:
        zoom = job["zoom"]
        tiles = [p for p in (Path(MANIFEST["tiles"]) / str(zoom)).glob("*/*.*")]
        x0 = min(int(p.parent.name) for p in tiles)
        y0 = min(int(p.stem) for p in tiles)
        half = math.pi * 6378137
        side = 2 * half / 2**zoom
        want = rasterio.Affine(side / 256, 0, x0 * side - half, 0, -side / 256, half - y0 * side)
        assert mask.crs == rasterio.CRS.from_epsg(3857) and same_transform(mask.transform, want, (mask.width, mask.height))
    with rasterio.open(OUT / (job["name"] + (".mask.png" if job.get("command") else ".png"))) as png:
        rows = range(0, mask.height, 2048)
        for y in rows:
            window = Window(0, y, mask.width, min(2048, mask.height - y))
            assert (png.read(1, window=window) == mask.read(1, window=window)).all(), "PNG and TIFF differ"
        assert png.colormap(1)[1][:3] == COLORS[1] and png.colormap(1)[NO_DATA][3] == 0
    if job.get("command") and job["small"]:
        with rasterio.open(OUT / f"{job['name']}.overlay.png") as overlay:
            assert overlay.shape == mask.shape and overlay.count == 3


def check_colours(job):
    """What was read is what rasterio reads."""
    with rasterio.open(OUT / f"{job['name']}-rgb.png") as rgb, rasterio.open(job["input"]) as source:
        bands = [1, 2, 3] if source.count >= 3 else [1, 1, 1]
        got, want = rgb.read().astype(int), source.read(bands).astype(int)
        difference = np.abs(got - want)
        lossy = source.profile.get("compress") in ("jpeg", "webp") or job["input"].endswith(".jpg")
        # JPEG decoders differ in how they enlarge chroma.
        assert difference.max() <= (32 if lossy else 0) and difference.mean() < 1, (difference.max(), difference.mean())


def check_polygons(job, mask):
    collection = json.loads((OUT / f"{job['name']}.geojson").read_text())
    values = mask.read(1)
    values[values == NO_DATA] = 0  # no polygon either
    georeferenced = mask.crs is not None
    transform = mask.transform if georeferenced else rasterio.Affine.identity()
    assert ("coordinate_space" in collection) == (not georeferenced)
    shapes, pixels, area = [], 0, 0.0
    for feature in collection["features"]:
        geometry, properties = feature["geometry"], feature["properties"]
        polygon = shape(geometry)
        assert polygon.is_valid and polygon.exterior.is_ccw
        assert all(not hole.is_ccw for hole in polygon.interiors)
        assert properties["color"] == "#%02x%02x%02x" % COLORS[properties["class"]]
        if not job.get("command"):  # the stand-in's confidence
            assert abs(properties["confidence"] - (255 - 40 * properties["class"]) / 255) < 1e-3
        pixels += properties["pixels"]
        area += properties.get("area_m2", 0)
        if georeferenced:
            geometry = transform_geom("EPSG:4326", mask.crs, geometry)
        shapes.append((geometry, properties["class"]))
    assert pixels == (values != 0).sum()
    drawn = rasterize(shapes, out_shape=values.shape, transform=transform, dtype="uint8") if shapes else 0 * values
    wrong = (drawn != values).sum()
    assert wrong == 0, f"{wrong} pixels differ"
    if georeferenced and shapes:
        pixel = abs(mask.transform.a * mask.transform.e)
        if mask.crs.to_epsg() == 3857:
            from rasterio.warp import transform as warp

            _, (latitude,) = warp(mask.crs, "EPSG:4326", *[[v] for v in mask.transform * (mask.width / 2, mask.height / 2)])
            pixel *= math.cos(math.radians(latitude)) ** 2
        assert abs(area / (pixels * pixel) - 1) < 0.01, (area, pixels * pixel)

    if job.get("command"):
        return len(shapes), 0
    smooth = json.loads((OUT / f"{job['name']}-smooth.geojson").read_text())
    for feature in smooth["features"]:
        assert shape(feature["geometry"]).is_valid
    return len(shapes), len(smooth["features"])


for job in MANIFEST["jobs"]:
    with rasterio.open(OUT / f"{job['name']}.tif") as mask:
        check_raster(job, mask)
        counts = ""
        if job["small"]:
            if job["input"] and not job.get("command"):
                check_colours(job)
            counts = "%d polygons, %d smooth" % check_polygons(job, mask)
        print(f"{job['name']}: {mask.width} x {mask.height}, {mask.crs}, lines up; {counts}")
