"""Makes GeoTIFFs in systems of every kind, and says where GDAL and PROJ have their corners: python place_files.py OUT DATA"""

import json
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform

warnings.filterwarnings("ignore")
OUT, DATA = Path(sys.argv[1]), Path(sys.argv[2])

# name: PROJ string or code, and the upper left corner.
SYSTEMS = {
    "tmerc": ("+proj=tmerc +lat_0=0 +lon_0=16 +k=0.9999 +x_0=600000 +datum=WGS84", 612000, 5200000),
    "tmerc-feet": ("+proj=tmerc +lat_0=30 +lon_0=-85.8 +k=0.99996 +x_0=200000 +datum=NAD83 +units=us-ft", 650000, 900000),
    "tmerc-south": ("+proj=tmerc +lon_0=29 +k=1 +x_0=1000 +y_0=5000 +axis=wsu +ellps=WGS84", -60000, 3000000),
    "tmerc-paris": ("+proj=tmerc +lon_0=0 +pm=paris +k=0.9996 +x_0=500000 +datum=WGS84", 520000, 5400000),
    "tmerc-shifted": (
        "+proj=tmerc +lat_0=49.5 +lon_0=-2 +k=0.9996 +x_0=400000 +y_0=-100000 +ellps=airy +towgs84=446.448,-125.157,542.06,0.15,0.247,0.842,-20.489",
        430000,
        200000,
    ),
    "utm-km": ("+proj=utm +zone=31 +datum=WGS84 +units=km", 520, 5400),
    "utm-south": ("+proj=utm +zone=50 +south +ellps=GRS80", 390000, 6400000),
    "lcc-2": ("+proj=lcc +lat_1=33 +lat_2=45 +lat_0=23 +lon_0=-96 +x_0=100 +datum=NAD83", 400000, 1900000),
    "lcc-1": ("+proj=lcc +lat_1=49 +lat_0=49 +lon_0=-96 +k_0=0.999 +x_0=100 +datum=WGS84", 300000, -400000),
    "lcc-feet": ("EPSG:2229", 6480000, 1840000),
    "albers": ("+proj=aea +lat_1=-18 +lat_2=-36 +lat_0=0 +lon_0=134 +ellps=GRS80", 1500000, -3900000),
    "laea": ("+proj=laea +lat_0=51 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80", 4400000, 3300000),
    "polar-north": ("+proj=stere +lat_0=90 +lat_ts=71 +lon_0=-40 +datum=WGS84", 300000, -2300000),
    "polar-south": ("+proj=stere +lat_0=-90 +k=0.99 +lon_0=10 +x_0=2000000 +y_0=2000000 +datum=WGS84", 2300000, 900000),
    "stere": ("+proj=stere +lat_0=40 +lon_0=10 +k=0.9996 +datum=WGS84", 80000, -90000),
    "sterea": ("+proj=sterea +lat_0=52 +lon_0=5 +k=0.9999 +x_0=155000 +datum=WGS84", 120000, 40000),
    "merc-parallel": ("+proj=merc +lat_ts=-40 +lon_0=100 +datum=WGS84", 3000000, -2000000),
    "merc-scale": ("+proj=merc +k=0.99 +lon_0=110 +datum=WGS84", 200000, 300000),
    "omerc": ("+proj=omerc +lat_0=4 +lonc=103 +alpha=323.0257964666666 +gamma=323.1301023611111 +k=0.99984 +x_0=804671 +no_uoff +ellps=GRS80", 500000, 400000),
    "omerc-centre": ("+proj=omerc +lat_0=4 +lonc=102 +alpha=53.3 +gamma=53.13 +k=0.99984 +x_0=590476 +ellps=GRS80", 500000, 400000),
    "eqdc": ("+proj=eqdc +lat_1=20 +lat_2=60 +lat_0=40 +lon_0=-90 +datum=NAD83", 300000, 200000),
    "aeqd": ("+proj=aeqd +lat_0=50 +lon_0=10 +datum=WGS84", 90000, -80000),
    "eqc": ("+proj=eqc +lat_ts=30 +lon_0=10 +datum=WGS84", 1000000, 5000000),
    "cass": ("+proj=cass +lat_0=10 +lon_0=-61 +x_0=100000 +datum=WGS84", 120000, 30000),
    "cea": ("+proj=cea +lat_ts=20 +lon_0=5 +datum=WGS84", 1000000, 4000000),
    "sinu-modis": ("+proj=sinu +lon_0=0 +R=6371007.181", -8895604, 4447802),
    "sinu": ("+proj=sinu +lon_0=10 +datum=WGS84", 300000, 4447802),
    "moll": ("+proj=moll +datum=WGS84", 1000000, 4000000),
    "robin": ("+proj=robin +datum=WGS84", 1000000, 4000000),
    "mill": ("+proj=mill +datum=WGS84", 1000000, 4000000),
    "poly": ("+proj=poly +lat_0=0 +lon_0=-50 +ellps=GRS80", 400000, -900000),
    "ortho": ("+proj=ortho +lat_0=45 +lon_0=5 +datum=WGS84", 40000, 50000),
    "gnom": ("+proj=gnom +lat_0=45 +lon_0=5 +datum=WGS84", 40000, 50000),
    "goode": ("+proj=igh +datum=WGS84", 1000000, 4000000),
    "vandg": ("+proj=vandg +datum=WGS84", 1000000, 4000000),
    "clarke-without-shift": ("+proj=lcc +lat_1=33 +lat_2=45 +lat_0=23 +lon_0=-96 +ellps=clrk66", 400000, 1900000),
    "geographic-shifted": ("+proj=longlat +ellps=clrk66 +towgs84=-8,160,176", -100, 40),
    "geographic-nad27": ("EPSG:4267", -100, 40),
    "geographic-grads": ("EPSG:4816", 8, 38),
    "geographic-near": ("EPSG:4258", 8, 50),
    **{
        f"esri-{code}": (f"ESRI:{code}", 200000, 300000)
        for code in (102003, 102008, 102039, 102001, 102022, 102021, 54009, 54030, 54034, 54008, 54012, 54004, 53004, 102100, 102645, 102718, 54052)
    },
}


def write(name, crs, transformation, **options):
    path = OUT / f"{name}.tif"
    with rasterio.open(path, "w", driver="GTiff", width=40, height=30, count=1, dtype="uint8", crs=crs, transform=transformation, **options) as file:
        file.write(np.full((1, 30, 40), 7, "uint8"))
    return path


def patched(path, tag, values):
    """Other numbers in a tag of doubles or shorts that is there."""
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack("<H", data[at : at + 2])
    for i in range(entries):
        entry = at + 2 + 12 * i
        number, kind, _, offset = struct.unpack("<HHII", data[entry : entry + 12])
        if number == tag:
            packed = struct.pack(f"<{len(values)}{'d' if kind == 12 else 'H'}", *values)
            data[offset : offset + len(packed)] = packed
            path.write_bytes(data)
            return path
    raise KeyError(tag)


def corners(path):
    with rasterio.open(path) as file:
        crs, t = file.crs, file.transform
        if path.with_suffix(".prj").exists():  # which GDAL does not read beside a TIFF
            crs = rasterio.CRS.from_wkt(path.with_suffix(".prj").read_text())
        entry = {"path": str(path), "transform": [t.a, t.b, t.c, t.d, t.e, t.f], "crs": crs and crs.to_string()[:60]}
        points = [t * (x, y) for x in (0, file.width) for y in (0, file.height)]
        entry["corners"] = None
        if crs and not t.is_identity:
            try:
                lons, lats = transform(crs, "EPSG:4326", *zip(*points))
                if np.isfinite(lons).all() and np.isfinite(lats).all():
                    entry["corners"] = [[lon, lat] for lon, lat in zip(lons, lats)]
            except Exception as error:
                print(path, error)
        return entry


made = []
for name, (system, x, y) in SYSTEMS.items():
    crs = rasterio.CRS.from_user_input(system)
    pixel = 1e-4 if crs.is_geographic else 0.003 if name.endswith("-km") else 3
    made.append(write(name, crs, from_origin(x, y, pixel, pixel)))
    if name.startswith("esri"):
        made.append(write(f"{name}-pe", crs, from_origin(x, y, pixel, pixel), GEOTIFF_KEYS_FLAVOR="ESRI_PE"))
utm = rasterio.CRS.from_epsg(32633)
north_up = from_origin(500000, 5000000, 0.3, 0.3)
made.append(write("south-up", utm, Affine(0.3, 0, 500000, 0, 0.3, 5000000)))
made.append(write("rotated", utm, Affine(0.3, 0.2, 500000, 0.2, -0.3, 5000000)))
made.append(write("mirrored", utm, Affine(-0.3, 0, 500000, 0, -0.3, 5000000)))
made.append(patched(write("negative-y", utm, north_up), 33550, [0.3, -0.3, 0.0]))
made.append(patched(write("negative-x", utm, north_up), 33550, [-0.3, 0.3, 0.0]))
made.append(patched(write("negative-both", utm, north_up), 33550, [-0.3, -0.3, 0.0]))
made.append(patched(write("tie-elsewhere", utm, north_up), 33922, [10.0, 20.0, 0.0, 500000.0, 5000000.0, 0.0]))
point = write("point", utm, north_up)
with rasterio.open(point, "r+") as file:
    file.update_tags(AREA_OR_POINT="Point")
made.append(point)
lost = write("lost", rasterio.CRS.from_epsg(4326), Affine.identity())
made.append(lost)
made.append(write("lost-north-up", rasterio.CRS.from_epsg(4326), from_origin(0, 0, 1, 1)))
made.append(write("beyond", rasterio.CRS.from_epsg(4326), from_origin(0, 120, 10, 6)))
world = write("world", rasterio.CRS.from_epsg(32633), None)
(OUT / "world.tfw").write_text("0.5\n0\n0\n-0.5\n500000.25\n4999999.75\n")
made.append(world)
beside = write("prj", None, None)
(OUT / "prj.tfw").write_text("30\n0\n0\n-30\n300015\n299985\n")
(OUT / "prj.prj").write_text(rasterio.CRS.from_user_input("ESRI:102003").to_wkt(morph_to_esri_dialect=True))
made.append(beside)
named = write("umlaut", rasterio.CRS.from_wkt(utm.to_wkt().replace("WGS 84 / UTM zone 33N", "Gauß-Krüger").replace(',AUTHORITY["EPSG","32633"]', "")), north_up)
made.append(named)

real = sorted(p for folder in ("odd", "georef") for p in (DATA / folder).rglob("*.tif"))
real += sorted((DATA.parent / "cases").rglob("*.tif"))
entries = []
for path in made + real:
    try:
        entries.append(corners(path))
    except rasterio.RasterioIOError as error:
        print("not read by GDAL:", path, error)
(OUT / "files.json").write_text(json.dumps(entries))
