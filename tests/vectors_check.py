"""Checks what tests/vectors.rs wrote and read with sqlite3, shapely, rasterio and, where it is installed, pyogrio (GDAL):
python vectors_check.py written|clips job.json
"""

import json
import sqlite3
import struct
import sys
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from shapely.geometry import shape

try:
    import pyogrio
except ImportError:
    pyogrio = None


def near(a, b, share=1e-6):
    return abs(a - b) <= share * max(abs(a), abs(b), 1e-12)


def geopackage(path, job):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert db.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
    assert db.execute("PRAGMA user_version").fetchone() == (10300,)
    table, column, kind, srs = db.execute(
        "SELECT table_name, column_name, geometry_type_name, srs_id FROM gpkg_geometry_columns"
    ).fetchone()
    assert (table, column, kind) == ('a "b"', "geom", "MULTIPOLYGON")
    assert srs == (job["epsg"] or -1), srs
    for name in ("gpkg_contents", "gpkg_extensions", "layer_styles", "gpkg_metadata"):
        assert db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] >= 1, name
    assert json.loads(db.execute("SELECT metadata FROM gpkg_metadata").fetchone()[0])["source"] == "a & b.tif"
    assert db.execute("SELECT area, share FROM statistics").fetchall() == [("x", 0.5)]
    quoted = '"a ""b"""'
    rows = db.execute(f"SELECT fid, geom, class, name, color, confidence, area_m2, pixels FROM {quoted}").fetchall()
    assert len(rows) == job["count"]
    index = {row[0]: row[1:] for row in db.execute('SELECT * FROM "rtree_a ""b""_geom"')}
    assert len(index) == len(rows)
    shapes = []
    for fid, blob, klass, name, color, confidence, area, pixels in rows:
        assert blob[:4] == b"GP\x00\x03" and struct.unpack("<i", blob[4:8])[0] == srs
        left, right, bottom, top = struct.unpack("<4d", blob[8:40])
        found = shapely.from_wkb(blob[40:])
        assert found.is_valid and found.geom_type == "MultiPolygon", shapely.is_valid_reason(found)
        for part in found.geoms:
            assert part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors)
        assert found.bounds == (left, bottom, right, top)
        a, b, c, d = index[fid]
        # The index rounds outwards to 32 bits.
        assert a <= left and b >= right and c <= bottom and d >= top
        assert name == {1: 'Dächer, "rot"', 2: "road", 3: "water"}[klass] and color == f"#{klass:02x}80ff"
        assert near(confidence, 0.8) and pixels > 0
        if job["epsg"] == 32737:
            # UTM's scale on its central meridian is 0.9996.
            assert near(area, found.area / 0.9996**2, 1e-5), (area, found.area)
        shapes.append(found)
    if shapes:
        bounds = db.execute("SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE data_type = 'features'").fetchone()
        assert np.allclose(bounds, shapely.total_bounds(np.array(shapes)))
        # Nothing overlaps: the union is as large as the sum.
        total = sum(s.area for s in shapes)
        assert near(shapely.union_all(shapes).area, total, 1e-9)
        return total
    return 0.0


def shapefile(path, total):
    data = path.read_bytes()
    assert struct.unpack(">i", data[24:28])[0] * 2 == len(data) and struct.unpack("<2i", data[28:36]) == (1000, 5)
    at, count, area = 100, 0, 0.0
    while at < len(data):
        number, words = struct.unpack(">2i", data[at : at + 8])
        count += 1
        assert number == count
        kind, *_ = struct.unpack("<i", data[at + 8 : at + 12])
        parts, points = struct.unpack("<2i", data[at + 44 : at + 52])
        assert kind == 5
        starts = [*struct.unpack(f"<{parts}i", data[at + 52 : at + 52 + 4 * parts]), points]
        xy = np.frombuffer(data, "<f8", 2 * points, at + 52 + 4 * parts).reshape(-1, 2)
        for i, (a, b) in enumerate(zip(starts, starts[1:])):
            ring = xy[a:b] - xy[a]
            signed = (ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum() / 2
            # Exteriors are clockwise.
            assert i > 0 or signed < 0
            area -= signed
        at += 8 + 2 * words
    index = path.with_suffix(".shx").read_bytes()
    assert len(index) == 100 + 8 * count and struct.unpack(">i", index[24:28])[0] * 2 == len(index)
    assert near(area, total, 1e-9), (area, total)
    table = path.with_suffix(".dbf").read_bytes()
    rows, header, record = struct.unpack("<IHH", table[4:12])
    assert rows == count and len(table) in (header + rows * record, header + rows * record + 1)
    assert path.with_suffix(".cpg").read_text() == "UTF-8"
    return count


def written(job):
    folder = Path(job["folder"])
    total = geopackage(folder / "a.gpkg", job)
    assert shapefile(folder / "a.shp", total) == job["count"]
    collection = json.loads((folder / "a.geojson").read_text())
    assert collection["provenance"]["model_sha256"] == "ab"
    shapes = [shape(f["geometry"]) for f in collection["features"]]
    assert len(shapes) == job["count"] and all(s.is_valid for s in shapes)
    if job["epsg"]:
        assert near(sum(f["properties"]["area_m2"] for f in collection["features"]), job["area"], 1e-3)
        sequence = (folder / "a.geojsons").read_bytes().split(b"\x1e")
        assert sequence[0] == b"" and all(s.endswith(b"\n") for s in sequence[1:])
        assert [json.loads(s) for s in sequence[1:]] == collection["features"]
        lines = (folder / "a.geojsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == collection["features"]
    if pyogrio is None:
        print("left out: GDAL's word, as pyogrio is not installed")
        return
    for name in ("a.gpkg", "a.shp", "a.fgb"):
        layer = 'a "b"' if name == "a.gpkg" else None
        info = pyogrio.read_info(folder / name, layer=layer, force_feature_count=True)
        assert info["features"] == job["count"], info
        if job["epsg"]:
            assert rasterio.crs.CRS.from_user_input(info["crs"]).to_epsg() == job["epsg"], info["crs"]
        meta, _, geometry, fields = pyogrio.raw.read(folder / name, layer=layer)
        if job["count"]:
            found = shapely.from_wkb(geometry)
            assert shapely.is_valid(found).all() and near(shapely.area(found).sum(), total, 1e-9), name
            assert 'Dächer, "rot"' in set(fields[list(meta["fields"]).index("name")]), name
    assert "layer_styles" in [row[0] for row in pyogrio.list_layers(folder / "a.gpkg")]
    print(f"{job['count']} polygons in EPSG:{job['epsg']}: GDAL reads the same from gpkg, shp and fgb")


def outlines(path):
    """Geometries and the system of a file, read without this project."""
    if path.suffix == ".gpkg":
        db = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        table, column, srs = db.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns").fetchone()
        blobs = [row[0] for row in db.execute(f'SELECT "{column}" FROM "{table}"')]
        skip = {0: 8, 1: 40, 2: 56, 3: 56, 4: 72}
        return [shapely.from_wkb(b[skip[b[3] >> 1 & 7] :]) for b in blobs], f"EPSG:{srs}"
    data = json.loads(path.read_text())
    name = data.get("crs", {}).get("properties", {}).get("name", "EPSG:4326")
    crs = "EPSG:4326" if name.endswith("CRS84") else "EPSG:" + name.rsplit(":", 1)[-1]
    features = data["features"] if "features" in data else [data]
    return [shape(f.get("geometry", f)) for f in features], crs


def clips(job):
    for one in job["clips"]:
        shapes, crs = outlines(Path(one["vectors"]))
        assert len([s for s in shapes if not s.is_empty]) == one["areas"]
        assert crs == f"EPSG:{one['crs']}", (crs, one["crs"])
        with rasterio.open(one["raster"]) as source:
            if rasterio.crs.CRS.from_user_input(crs) != source.crs:
                shapes = [shape(rasterio.warp.transform_geom(crs, source.crs, s.__geo_interface__)) for s in shapes]
            wanted = rasterio.features.rasterize(
                [(shapely.force_2d(s), 1) for s in shapes], out_shape=source.shape, transform=source.transform, dtype="uint8"
            )
        found = np.frombuffer(Path(one["mask"]).read_bytes(), np.uint8).reshape(wanted.shape)
        differ = int((found != wanted).sum())
        print(f"{Path(one['vectors']).name}: {int(found.sum())} pixels, {differ} differ from GDAL's")
        assert found.sum() > 0 and differ == 0


if __name__ == "__main__":
    {"written": written, "clips": clips}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))
