"""Checks the rasters and the table that tests/segment_areas.rs has made, with rasterio (GDAL), numpy and sqlite3:
python segment_areas_check.py job.json
"""

import csv
import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import rasterio

job = json.loads(Path(sys.argv[1]).read_text())


def blocks(array, fill):
    """Blocks of 2 x 2 pixels, [rows, columns, 4] in reading order; beyond the frame there is no data."""
    height, width = array.shape
    padded = np.full((height + height % 2, width + width % 2), fill, array.dtype)
    padded[:height, :width] = array
    return padded.reshape(padded.shape[0] // 2, 2, -1, 2).swapaxes(1, 2).reshape(padded.shape[0] // 2, -1, 4)


def most_frequent(four):
    """The class that most pixels have that hold data, the first of several."""
    values = [v for v in four if v != 255]
    return max(values, key=lambda v: (values.count(v), -values.index(v))) if values else 255


def mean(four):
    values = four[four != 0].astype(int)
    return (values.sum() + len(values) // 2) // len(values) if len(values) else 0


with rasterio.open(job["input"]) as source:
    # The outputs hold the smallest window around the area.
    x, y, width, height = (job["area"][side] for side in ("x", "y", "width", "height"))
    assert x + width <= source.width and y + height <= source.height
    crs, transform, shape = source.crs, source.transform * rasterio.Affine.translation(x, y), (height, width)
raw = np.fromfile(job["raw"], np.uint8).reshape(shape)
sure = np.fromfile(job["raw_confidence"], np.uint8).reshape(shape)
confidence = np.where(raw == 255, 0, np.maximum(sure, 1))
for name, wanted, no_data, reduce in (("classes", raw, 255, most_frequent), ("confidence", confidence, 0, mean)):
    with rasterio.open(job[name]) as cog:
        assert cog.crs == crs and cog.transform.almost_equals(transform, 1e-9) and cog.nodata == no_data
        assert cog.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG", cog.tags(ns="IMAGE_STRUCTURE")
        assert cog.block_shapes == [(512, 512)] and cog.compression.value == "DEFLATE"
        assert (cog.read(1) == wanted).all(), name
        if name == "classes":
            assert cog.colormap(1)[2] == (255, 0, 0, 255)
        factors = cog.overviews(1)
        assert len(factors) == max(0, int(np.ceil(np.log2(max(shape) / 512)))), factors
    level = wanted
    for i in range(len(factors)):
        level = np.apply_along_axis(reduce, 2, blocks(level, no_data)).astype(np.uint8)
        with rasterio.open(job[name], overview_level=i) as cog:
            assert (cog.read(1) == level).all(), f"{name}, overview {i}"
db = sqlite3.connect(job["gpkg"])
layer = db.execute("SELECT table_name FROM gpkg_geometry_columns").fetchone()[0]
assert db.execute(f'SELECT count(*) FROM "{layer}"').fetchone() == (job["features"],)
rows = db.execute("SELECT area, class, name, pixels, hectares FROM statistics").fetchall()
with open(job["csv"], newline="") as file:
    lines = list(csv.DictReader(file))
assert len(lines) == len(rows)
for line, (area, klass, name, pixels, hectares) in zip(lines, rows):
    assert (line["area"], int(line["class"]), line["name"], int(line["pixels"])) == (area, klass, name, pixels)
    assert abs(float(line["hectares"]) - hectares) < 1e-6
print(f"{Path(job['input']).name}: rasters, overviews {factors} and table are right")
