"""Draws coordinate reference systems of the EPSG register and writes where PROJ says that places in them lie:
python crs_points.py OUT.json SEED COUNT, or OUT.json CODE,CODE,...; a COUNT of 0 draws all

Each entry has a code and points `[x, y, longitude, latitude]`, spread over the system's area of use. rasterio brings PROJ
and its register; `rasterio.warp.transform` takes the best operation that PROJ has for each place.
"""

import json
import math
import random
import sqlite3
import sys
import warnings
from pathlib import Path

import rasterio
from rasterio.warp import transform

warnings.filterwarnings("ignore")
OUT = sys.argv[1]
STEPS = (0.03, 0.25, 0.5, 0.75, 0.97)
SYSTEMS = """
select v.code, e.west_lon, e.south_lat, e.east_lon, e.north_lat
from crs_view v
join usage u on u.object_auth_name = v.auth_name and u.object_code = v.code and u.object_table_name = v.table_name
join extent e on e.auth_name = u.extent_auth_name and e.code = u.extent_code
where v.auth_name = 'EPSG' and e.west_lon is not null and v.type in ('projected', 'geographic 2D')
group by v.code order by cast(v.code as integer)
"""


def points(code, west, south, east, north):
    east += 360 if east < west else 0
    south, north = max(south, -89.9), min(north, 89.9)
    lons = [west + (east - west) * step for step in STEPS for _ in STEPS]
    lats = [south + (north - south) * step for _ in STEPS for step in STEPS]
    lons = [(lon + 180) % 360 - 180 for lon in lons]
    system = rasterio.CRS.from_epsg(code)
    xs, ys = transform("EPSG:4326", system, lons, lats)
    inside = [(x, y) for x, y in zip(xs, ys) if math.isfinite(x) and math.isfinite(y)]
    lons, lats = transform(system, "EPSG:4326", *zip(*inside))
    return [[*xy, lon, lat] for xy, lon, lat in zip(inside, lons, lats) if math.isfinite(lon) and math.isfinite(lat)]


database = sqlite3.connect(f"file:{Path(rasterio.__file__).parent / 'proj_data/proj.db'}?mode=ro", uri=True)
systems = database.execute(SYSTEMS).fetchall()
if len(sys.argv) > 3:
    random.seed(int(sys.argv[2]))
    systems = random.sample(systems, int(sys.argv[3]) or len(systems))
else:
    systems = [system for system in systems if str(system[0]) in sys.argv[2].split(",")]
drawn, without = [], []
for code, *extent in systems:
    with rasterio.Env(CPL_LOG="/dev/null"):
        try:
            drawn.append({"code": int(code), "points": points(int(code), *extent)})
        except Exception as error:  # PROJ has no operation for it, or none without its grids
            without.append((code, str(error)[:80]))
Path(OUT).write_text(json.dumps(drawn))
print(f"{len(systems)} systems, {len(drawn)} with places; PROJ computes nothing for {without}")
