"""Compares what tests/archives.rs read of archives with what this reader makes of them: python archives_check.py jobs.json

PMTiles by the words of its specification, MBTiles by sqlite3; pictures by rasterio (GDAL). It shares no code with the project.
"""

import gzip
import json
import math
import sqlite3
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import MemoryFile

warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
# JPEG and WebP decoders differ in how they enlarge chroma: at most so much in a pixel, and on average.
LOSSY = (48, 2.0)
HALF_WORLD = math.pi * 6378137.0


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def directory(data):
    count, at = varint(data, 0)
    columns = []
    for _ in range(4):
        column = []
        for _ in range(count):
            value, at = varint(data, at)
            column.append(value)
        columns.append(column)
    steps, runs, lengths, offsets = columns
    tile = 0
    places = []
    for i in range(count):
        tile += steps[i]
        offset = places[-1][2] + places[-1][3] if offsets[i] == 0 else offsets[i] - 1
        places.append((tile, runs[i], offset, lengths[i]))
    return places


def place(tile_id):
    """Zoom level, column and row of a number on Hilbert's curve."""
    zoom = 0
    while tile_id >= 4**zoom:
        tile_id -= 4**zoom
        zoom += 1
    x = y = 0
    side = 1
    while side < 2**zoom:
        rx = 1 & (tile_id // 2)
        ry = 1 & (tile_id ^ rx)
        if ry == 0:
            if rx == 1:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x += side * rx
        y += side * ry
        tile_id //= 4
        side *= 2
    return zoom, x, y


def of_pmtiles(path):
    data = Path(path).read_bytes()
    # Some writers put the digit in place of the number.
    assert data[:8] in (b"PMTiles\x03", b"PMTiles3")
    root, root_size, meta, meta_size, leaves, _, tiles, _ = struct.unpack("<8Q", data[8:72])
    plain = gzip.decompress if data[97] == 2 else bytes
    found = {}
    left = [directory(plain(data[root : root + root_size]))]
    while left:
        for tile_id, run, offset, length in left.pop():
            if run == 0:
                left.append(directory(plain(data[leaves + offset : leaves + offset + length])))
            for step in range(run):
                found[place(tile_id + step)] = data[tiles + offset : tiles + offset + length]
    words = json.loads(plain(data[meta : meta + meta_size])) if meta_size else {}
    return found, words.get("attribution", "")


def of_mbtiles(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    rows = connection.execute("SELECT zoom_level, tile_column, tile_row, tile_data FROM tiles")
    found = {(z, x, 2**z - 1 - y): data for z, x, y, data in rows}
    words = dict(connection.execute("SELECT name, value FROM metadata"))
    return found, words.get("attribution", "")


def decode(data):
    """[h, w, 3] and which pixels hold data."""
    with MemoryFile(data) as file, file.open() as source:
        bands = source.read()
        colours = bands[: 3 if source.count >= 3 else 1]
        valid = bands[-1] != 0 if source.count in (2, 4) else np.ones(bands.shape[1:], bool)
        try:
            table = source.colormap(1)
        except ValueError:
            table = None
        if table is not None:
            lookup = np.zeros((256, 4), np.uint8)
            for index, colour in table.items():
                lookup[index] = colour
            colours, valid = np.moveaxis(lookup[bands[0]][..., :3], -1, 0), lookup[bands[0]][..., 3] != 0
        if len(colours) == 1:
            colours = np.repeat(colours, 3, axis=0)
        return np.moveaxis(colours, 0, -1), valid


def check(job, out):
    name = Path(job["path"]).name
    tiles, attribution = (of_pmtiles if name.endswith(".pmtiles") else of_mbtiles)(job["path"])
    assert job["attribution"] == attribution, name
    zooms = sorted({z for z, _, _ in tiles}, reverse=True)
    assert len(zooms) == len(job["levels"]), (name, zooms)
    finest = job["levels"][0]["transform"]
    for zoom, level in zip(zooms, job["levels"]):
        places = [(x, y) for z, x, y in tiles if z == zoom]
        left, top = min(x for x, _ in places), min(y for _, y in places)
        right, bottom = max(x for x, _ in places) + 1, max(y for _, y in places) + 1
        side = decode(tiles[(zoom, *places[0])])[0].shape[0]
        assert level["size"] == [(right - left) * side, (bottom - top) * side], name
        pixel = 2 * HALF_WORLD / 2**zoom / side
        west, north = left * side * pixel - HALF_WORLD, HALF_WORLD - top * side * pixel
        assert np.allclose(level["transform"], [pixel, 0, west, 0, -pixel, north], rtol=1e-12, atol=1e-5), name
        # From the finest level's pixels to this one's, through the ground.
        for axis, (scale, offset) in enumerate(level["axes"]):
            step, origin = (0, 2) if axis == 0 else (4, 5)
            ground = finest[step] * 1000 + finest[origin]
            assert abs((ground - level["transform"][origin]) / level["transform"][step] - (scale * 1000 + offset)) < 1e-3
        worst = total = count = 0
        for window in level["windows"]:
            x, y, width, height = (window[k] for k in ("x", "y", "width", "height"))
            expected, holds = np.zeros((height, width, 3), np.int32), np.zeros((height, width), bool)
            for column in range(x // side, (x + width - 1) // side + 1):
                for row in range(y // side, (y + height - 1) // side + 1):
                    data = tiles.get((zoom, left + column, top + row))
                    if data is None:
                        continue
                    picture, valid = decode(data)
                    x0, y0 = column * side - x, row * side - y
                    to = np.s_[max(y0, 0) : min(y0 + side, height), max(x0, 0) : min(x0 + side, width)]
                    part = np.s_[max(-y0, 0) : height - y0, max(-x0, 0) : width - x0]
                    expected[to], holds[to] = picture[part], valid[part]
            samples = np.fromfile(out / f"{window['stem']}.samples", np.uint8).reshape(height, width, 3)
            valid = np.fromfile(out / f"{window['stem']}.valid", np.uint8).reshape(height, width) != 0
            assert (valid == holds).all(), f"{name} {zoom}: other pixels hold data"
            difference = np.abs(samples.astype(np.int32) - expected)[holds]
            worst, total, count = max(worst, difference.max(initial=0)), total + difference.sum(), count + difference.size
        assert count > 0, f"{name} {zoom}: windows without data show nothing"
        mean = total / count
        exact = data_is_png(tiles[(zoom, *places[0])])
        assert (worst, mean) == (0, 0) if exact else worst <= LOSSY[0] and mean <= LOSSY[1], (name, zoom, worst, mean)
        print(f"{name} zoom {zoom}: {len(places)} tiles of {side} px at {west:.2f} {north:.2f}; samples differ by at most {worst}, mean {mean:.3f}")


def data_is_png(data):
    return data[:4] == b"\x89PNG"


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    for job in jobs["jobs"]:
        check(job, Path(jobs["out"]))
