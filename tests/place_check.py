"""Checks outputs of tests/place.rs: python place_check.py LIST.json

`outputs`: a mask's transform and system are its input's. `polygons`: they are valid, lie within the map of longitudes and
latitudes, give back the mask when drawn, and have the areas that PROJ's equal-area projection gives its pixels."""

import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.warp import transform
import shapely
from shapely.geometry import shape

warnings.filterwarnings("ignore")
LIST = json.loads(Path(sys.argv[1]).read_text())


def check_output(job):
    with rasterio.open(job["input"]) as source, rasterio.open(job["output"]) as mask:
        beside = Path(job["input"]).with_suffix(".prj")
        crs = rasterio.CRS.from_wkt(beside.read_text()) if beside.exists() else source.crs
        assert mask.crs == crs, (job, mask.crs, crs)
        scale = max(map(abs, source.transform[:6]))
        assert all(abs(a - b) <= 1e-12 * scale for a, b in zip(mask.transform[:6], source.transform[:6])), (job, mask.transform, source.transform)


def pixel_areas(mask):
    """Square metres of each pixel, its edges halved twice: they bend on the ground."""
    steps = 4
    xs, ys = np.meshgrid(np.arange(mask.width * steps + 1) / steps, np.arange(mask.height * steps + 1) / steps)
    t = mask.transform
    mx, my = t.a * xs + t.b * ys + t.c, t.d * xs + t.e * ys + t.f
    centre = t * (mask.width / 2, mask.height / 2)
    (lon,), (lat,) = transform(mask.crs, "EPSG:4326", [centre[0]], [centre[1]])
    lon, lat = transform(mask.crs, "EPSG:4326", mx.ravel(), my.ravel()) if mask.crs.to_epsg() != 4326 else (mx.ravel(), my.ravel())
    # Equal-area on the ellipsoid; a polar one near poles, so that no pixel is torn.
    polar = min(np.abs(lat)) > 60
    system = f"+proj=laea +lat_0={math.copysign(90, lat[0])} +lon_0=0 +ellps=WGS84" if polar else None
    if system:
        ex, ey = (np.array(v).reshape(xs.shape) for v in transform("EPSG:4326", system, lon, lat))
    else:
        # Cylindrical; longitudes go on.
        lon = np.unwrap(np.array(lon).reshape(xs.shape), period=360, axis=1)
        lon = np.unwrap(lon, period=360, axis=0)
        _, ey = transform("EPSG:4326", "+proj=cea +ellps=WGS84", np.zeros(lon.size), lat)
        ex, ey = np.radians(lon) * 6378137, np.array(ey).reshape(xs.shape)
    a, b, c, d = (slice(None, -1),) * 2, (slice(None, -1), slice(1, None)), (slice(1, None),) * 2, (slice(1, None), slice(None, -1))
    cross = lambda p, q: ex[p] * ey[q] - ex[q] * ey[p]
    parts = np.abs(cross(a, b) + cross(b, c) + cross(c, d) + cross(d, a)) / 2
    return parts.reshape(mask.height, steps, mask.width, steps).sum((1, 3))


def check_polygons(job):
    features = json.loads(Path(job["polygons"]).read_text())["features"]
    with rasterio.open(job["mask"]) as mask:
        values, areas = mask.read(1), pixel_areas(mask)
        back, multi, worst = [], 0, 0.0
        sums = {}
        for feature in features:
            geometry, properties = shape(feature["geometry"]), feature["properties"]
            assert geometry.is_valid, (job["name"], properties, geometry.wkt[:300])
            west, south, east, north = geometry.bounds
            assert -180 <= west and east <= 180 and -90 <= south and north <= 90, geometry.bounds
            parts = geometry.geoms if geometry.geom_type == "MultiPolygon" else [geometry]
            multi += len(parts) > 1
            assert all(p.exterior.is_ccw and not any(h.is_ccw for h in p.interiors) for p in parts)
            sums[properties["class"]] = sums.get(properties["class"], 0) + properties["area_m2"]
            for part in parts:
                assert max(abs(a[0] - b[0]) for a, b in zip(part.exterior.coords, part.exterior.coords[1:])) <= 180 or abs(south) == 90 or abs(north) == 90 or mask.crs.to_epsg() == 4326
                back.append((part, properties["class"]))
        if job["exact"]:
            for index, found in sums.items():
                worst = max(worst, abs(found / areas[values == index].sum() - 1))
            assert worst < 0.005, (job["name"], worst, sums)
            drawn = np.zeros_like(values)
            for part, index in back:
                drawn = np.maximum(drawn, inside(part, mask, values.shape) * np.uint8(index))
            wrong = int((drawn != values).sum())
            assert wrong == 0, (job["name"], wrong)
        areas = f", areas within {100 * worst:.4f} % of PROJ's" if job["exact"] else ""
        print(f"{Path(job['polygons']).name}: {len(features)} valid, {multi} cut{areas}")


def inside(part, mask, size):
    """Pixels whose centre lies in a polygon of longitudes and latitudes, or on the cut at 180 degrees."""


    ys, xs = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    t = mask.transform
    mx, my = (t.a * xs + t.b * ys + t.c).ravel(), (t.d * xs + t.e * ys + t.f).ravel()
    lon, lat = transform(mask.crs, "EPSG:4326", mx, my) if mask.crs.to_epsg() != 4326 else (mx, my)
    lon = (np.array(lon) + 180) % 360 - 180
    shapely.prepare(part)
    return shapely.intersects_xy(part, lon, np.array(lat)).reshape(size).astype("uint8")


for job in LIST.get("outputs", []):
    check_output(job)
if "outputs" in LIST:
    print(f"{len(LIST['outputs'])} masks have their inputs' transforms and systems")
for job in LIST.get("polygons", []):
    check_polygons(job)
