// `samlora/sources` beside independent readers: the right pixels at the right place, of real archives and rasters and of services.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { ask, data, lacks, openAreas, startTiles, unpacked } from "./areas.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

/** Decoders of lossy pictures differ by rounding; of lossless ones not at all. */
const MEAN_LOSSY = 1.5;

/** Files of the shared data that are refused: other than 8 bits, rotated, or in a system of which only the file itself tells. */
const NO_PICTURES =
  /int16|int32|int64|int8|float|complex|bilevel|12bit|rotated|geotransform-no-crs|esri-wkt|nodata-1e20|epsg3395|palette-8bit|external-msk/;

/** Runs in the page: opens a source and reads a window of each level named. */
async function readAll([kind, address, windows]) {
  const out = { windows: [] };
  const source = await sources[kind](address, kind === "cog" ? {} : undefined);
  Object.assign(out, {
    key: source.key,
    attribution: source.attribution,
    bounds: source.bounds,
    system: source.system?.name,
  });
  out.levels = source.levels.map(({ name, width, height, origin, pixel, anchor }) => ({
    name,
    width,
    height,
    origin,
    pixel,
    anchor,
  }));
  for (const { level: name, box } of windows) {
    const level = source.levels.find((level) => level.name === name);
    const { rgba, missing } = await source.read(level, box, { signal: never });
    out.windows.push({ rgba: packed(rgba), missing });
  }
  source.close();
  return out;
}

/** Mean difference of colours where both hold data, and the pixels of which only one does. */
function compare(rgba, wanted) {
  let [sum, count, odd] = [0, 0, 0];
  for (let at = 0; at < rgba.length; at += 4) {
    if (rgba[at + 3] > 0 !== wanted[at + 3] > 0) odd++;
    if (!rgba[at + 3] || !wanted[at + 3]) continue;
    for (let c = 0; c < 3; c++) sum += Math.abs(rgba[at + c] - wanted[at + c]);
    count += 3;
  }
  return { mean: count ? sum / count : 0, odd, count };
}

test("imagery of areas", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const areas = await openAreas(t, [exportTiny(folder)]);

  await t.test(
    "every archive: tiles, zooms and bounds as sqlite3 and a decoder of their own have them",
    { skip: lacks("data", "python") },
    async (t) => {
      const server = await startTiles(t);
      const { run } = await areas.open();
      for (const name of ["philippines", "kampala"]) {
        const wanted = ask(
          `
import sqlite3, base64, io
import numpy as np
from rasterio.io import MemoryFile
db = sqlite3.connect("file:" + given + "?immutable=1", uri=True)
meta = dict(db.execute("select name, value from metadata"))
low, high = db.execute("select min(zoom_level), max(zoom_level) from tiles").fetchone()
tiles = []
for z in range(low, high + 1):
    rows = db.execute("select tile_column, tile_row, tile_data from tiles where zoom_level = ? order by 1, 2", (z,)).fetchall()
    for column, row, picture in (rows[0], rows[len(rows) // 2]):
        with MemoryFile(picture) as file, file.open() as d:
            pixels = d.read([1, 2, 3]).transpose(1, 2, 0)
        rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        tiles.append({"z": z, "x": column, "y": 2 ** z - 1 - row, "side": rgba.shape[0], "rgba": base64.b64encode(rgba.tobytes()).decode()})
print(json.dumps({"meta": meta, "low": low, "high": high, "tiles": tiles}))`,
          join(data, `tiles/${name}.mbtiles`),
        );
        const bounds = wanted.meta.bounds.split(",").map(Number);
        for (const kind of ["mbtiles", "pmtiles"]) {
          const path = `/${name}.${kind}`;
          server.files.set(path, readFileSync(join(data, "tiles", path)));
          // A pixel of the neighbours on every side, whatever is there.
          const windows = wanted.tiles.map(({ z, x, y, side }) => ({
            level: `zoom ${z}`,
            box: { left: x * side - 1, top: y * side - 1, right: (x + 1) * side + 1, bottom: (y + 1) * side + 1 },
          }));
          const found = await run(readAll, [kind, server.url + path, windows]);
          assert.deepEqual(
            found.levels.map(({ name }) => name),
            Array.from({ length: wanted.high - wanted.low + 1 }, (_, i) => `zoom ${wanted.high - i}`),
          );
          assert.equal(found.attribution, wanted.meta.attribution);
          for (const [i, degrees] of bounds.entries())
            assert.ok(Math.abs(found.bounds[i] - degrees) < 1e-6, `${found.bounds}`);
          for (const [i, { side, rgba }] of wanted.tiles.entries()) {
            const whole = unpacked(found.windows[i].rgba);
            const inner = new Uint8Array(4 * side * side);
            for (let y = 0; y < side; y++)
              inner.set(
                whole.subarray(4 * ((y + 1) * (side + 2) + 1), 4 * ((y + 1) * (side + 2) + 1 + side)),
                4 * y * side,
              );
            const { mean, odd } = compare(inner, unpacked(rgba));
            assert.ok(mean < MEAN_LOSSY && odd === 0, `${path} ${JSON.stringify(windows[i])}: ${mean}, ${odd}`);
            assert.deepEqual(found.windows[i].missing, []);
          }
        }
      }
      // Pages of the file were read, not all of it.
      const whole = server.log.filter(({ method, range }) => method === "GET" && !range);
      assert.deepEqual(whole, []);
      const large = readFileSync(join(data, "tiles/zanzibar.pmtiles"));
      server.files.set("/zanzibar.pmtiles", large);
      server.log.length = 0;
      await run(async (address) => void (await sources.pmtiles(address)), `${server.url}/zanzibar.pmtiles`);
      const bytes = server.log.reduce((sum, { range }) => {
        const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range ?? "") ?? [0, 0, -1];
        return sum + Number(to) - Number(from) + 1;
      }, 0);
      assert.ok(bytes < large.length / 20, `${bytes} of ${large.length} bytes were read to open it`);
    },
  );

  await t.test(
    "dropped files are read as addresses are; other and damaged ones are named",
    { skip: lacks("data") },
    async (t) => {
      const server = await startTiles(t);
      const put = (name, bytes) => server.files.set(`/${name}`, bytes);
      const read = (name) => readFileSync(join(data, "tiles", name));
      for (const name of ["philippines.pmtiles", "philippines.mbtiles"]) put(name, read(name));
      put("short.pmtiles", read("philippines.pmtiles").subarray(0, 200_000));
      put("short.mbtiles", read("philippines.mbtiles").subarray(0, 200_000));
      put("empty.pmtiles", Buffer.alloc(0));
      const wild = Buffer.from(read("philippines.pmtiles"));
      wild.writeBigUInt64LE(2n ** 40n, 8); // Where the root directory is.
      put("wild.pmtiles", wild);
      const noise = Buffer.from(read("philippines.mbtiles"));
      noise.fill(0x5a, 4096, 400_000);
      put("noise.mbtiles", noise);
      put("other.pmtiles", Buffer.from("SQLite format 3\0".padEnd(9000, "x")));
      put("other.mbtiles", Buffer.alloc(9000, "P"));
      const { run } = await areas.open();
      const found = await run(async (url) => {
        const out = { same: [], failed: {} };
        for (const kind of ["pmtiles", "mbtiles"]) {
          const box = { left: 886232 * 256, top: 483190 * 256, right: 886233 * 256, bottom: 483191 * 256 };
          const pixels = [];
          for (const input of [
            `${url}/philippines.${kind}`,
            await fileAt(`${url}/philippines.${kind}`, `dropped.${kind}`),
          ]) {
            const source = await sources[kind](input);
            const level = source.levels.find(({ name }) => name === "zoom 20");
            pixels.push((await source.read(level, box, { signal: never })).rgba);
          }
          out.same.push(pixels[0].every((value, i) => value === pixels[1][i]) && pixels[0].some((value) => value > 0));
        }
        /** Opens it, and reads where there should be something; what comes of it. */
        const attempt = async (kind, name) => {
          const source = await sources[kind](await fileAt(`${url}/${name}`, name));
          const level = source.levels.find(({ name }) => name === "zoom 20");
          const [left, top, right, bottom] = [886232, 483186, 886244, 483192].map((tile) => tile * 256);
          const { missing } = await source.read(level, { left, top, right, bottom }, { signal: never });
          throw new SamloraError("integrity", `missing: ${missing.map(({ message }) => message).join()}`);
        };
        for (const [kind, name] of [
          ["pmtiles", "short.pmtiles"],
          ["mbtiles", "short.mbtiles"],
          ["pmtiles", "empty.pmtiles"],
          ["pmtiles", "wild.pmtiles"],
          ["mbtiles", "noise.mbtiles"],
          ["pmtiles", "other.pmtiles"],
          ["mbtiles", "other.mbtiles"],
        ]) {
          out.failed[name] = await failing(attempt(kind, name));
        }
        out.absent = await failing(sources.pmtiles(`${url}/absent.pmtiles`));
        out.wrong = await failing(sources.pmtiles(7));
        out.option = await failing(sources.cog("x.tif", { sgnal: 1 }));
        return out;
      }, server.url);
      assert.deepEqual(found.same, [true, true]);
      for (const [name, error] of Object.entries(found.failed)) {
        assert.equal(error?.name, "SamloraError", `${name}: ${JSON.stringify(error)}`);
        assert.match(error.code, /^(format|integrity)$/, `${name}: ${error.message}`);
        assert.ok(error.message.includes(name), `${name}: ${error.message}`);
      }
      assert.equal(found.absent.code, "not_found");
      assert.equal(found.wrong.code, "invalid");
      assert.match(found.option.message, /no option "sgnal"/);
    },
  );

  await t.test("hostile archives end with an error, not with the page", { skip: lacks("python") }, async (t) => {
    const server = await startTiles(t);
    const folder = scratch();
    ask(
      `
import sqlite3
def make(name, *statements):
    db = sqlite3.connect(given + "/" + name)
    for s in statements: db.execute(s)
    db.commit()
    db.close()
endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select 3, 1, 1, x'00' from n where i < 0"
make("endless.mbtiles", "create view tiles(zoom_level, tile_column, tile_row, tile_data) as " + endless)
make("empty.mbtiles", "create table tiles(zoom_level, tile_column, tile_row, tile_data)")
make("text.mbtiles", "create table tiles(zoom_level, tile_column, tile_row, tile_data)", "insert into tiles values (3, 1, 1, 'no picture')")
make("vector.mbtiles", "create table tiles(zoom_level, tile_column, tile_row, tile_data)", "create table metadata(name, value)", "insert into metadata values ('format', 'pbf')")
make("other.mbtiles", "create table districts(name)")
print(1)`,
      folder,
    );
    const names = ["endless", "empty", "text", "vector", "other"].map((name) => `${name}.mbtiles`);
    for (const name of names) server.files.set(`/${name}`, readFileSync(join(folder, name)));
    /** A PMTiles archive with this root directory and leaves, compressed as number `compression` says. */
    const archive = (root, { compression = 1, type = 2, leaves = root } = {}) => {
      const header = Buffer.alloc(127);
      header.write("PMTiles", "latin1");
      header[7] = 3;
      const begin = leaves === root ? 127 : 127 + root.length;
      for (const [i, value] of [127, root.length, 127, 0, begin, leaves.length, begin + leaves.length, 10].entries())
        header.writeBigUInt64LE(BigInt(value), 8 + 8 * i);
      header.set([1, compression, 1, type, 0, 3], 96);
      return Buffer.concat([header, root, ...(leaves === root ? [] : [leaves]), Buffer.alloc(10)]);
    };
    // One entry: number of entries, tile, run length (0: a leaf), length, offset + 1.
    const leaf = Buffer.from([1, 0, 0, 5, 1]);
    const bomb = gzipSync(Buffer.alloc(100 << 20));
    const toBomb = [1, 0, 0, (bomb.length & 127) | 128, ((bomb.length >> 7) & 127) | 128, bomb.length >> 14, 1];
    server.files.set("/bomb.pmtiles", archive(gzipSync(Buffer.from(toBomb)), { compression: 2, leaves: bomb }));
    server.files.set("/circle.pmtiles", archive(leaf));
    server.files.set("/brotli.pmtiles", archive(leaf, { compression: 3 }));
    server.files.set("/vector.pmtiles", archive(leaf, { type: 1 }));
    const { run } = await areas.open();
    const found = await run(
      async ([url, names]) => {
        const out = {};
        for (const name of names) out[name] = await failing(sources[name.split(".")[1]](`${url}/${name}`));
        return out;
      },
      [server.url, [...names, "bomb.pmtiles", "circle.pmtiles", "brotli.pmtiles", "vector.pmtiles"]],
    );
    for (const [name, error] of Object.entries(found)) {
      const code = name.startsWith("vector") ? "unsupported" : "format";
      assert.equal(error?.code, code, `${name}: ${JSON.stringify(error)}`);
      assert.ok(error.message.includes(name) && error.remedy, `${name}: ${error.message}`);
    }
    assert.match(found["endless.mbtiles"].message, /interrupt/i);
    assert.match(found["bomb.pmtiles"].message, /unpacks to more/);
  });

  await t.test(
    "GeoTIFFs: colours, masks, places and overviews as rasterio reads them",
    { skip: lacks("data", "python") },
    async (t) => {
      const server = await startTiles(t);
      const files = [
        ...["naip-3857", "naip-4band", "neon-rgb"].flatMap((sub) =>
          readdirSync(join(data, "georef", sub)).map((name) => `georef/${sub}/${name}`),
        ),
        ...readdirSync(join(data, "odd")).map((name) => `odd/${name}`),
      ].filter((name) => name.endsWith(".tif"));
      for (const name of files) server.files.set(`/${name}`, readFileSync(join(data, name)));
      const wanted = ask(
        `
import base64, warnings
import numpy as np, rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.warp import transform
from rasterio.windows import Window
warnings.simplefilter("ignore")
out = {}
for name in given["files"]:
    try:
        d = rasterio.open(given["data"] + "/" + name)
        levels = []
        for level in [None] + list(range(len(d.overviews(1)))):
            o = d if level is None else rasterio.open(given["data"] + "/" + name, overview_level=level)
            left, top = o.width * 2 // 5, o.height * 3 // 7
            w, h = min(300, o.width - left), min(200, o.height - top)
            window = Window(left, top, w, h)
            bands = o.read(window=window)
            if d.colorinterp[0] == ColorInterp.palette:
                table = np.zeros((256, 4), np.uint8)
                for k, v in d.colormap(1).items(): table[k] = v
                rgb = table[bands[0]][..., :3].transpose(2, 0, 1)
            else:
                rgb = bands[:3] if d.count >= 3 else np.repeat(bands[:1], 3, 0)
            # A fourth band that the file does not call alpha is none.
            valid = o.dataset_mask(window=window)
            rgba = np.dstack([rgb.transpose(1, 2, 0).astype(np.uint8), valid]) if rgb.dtype == np.uint8 else None
            levels.append({"width": o.width, "height": o.height, "box": [left, top, left + w, top + h], "rgba": None if rgba is None else base64.b64encode(rgba.tobytes()).decode()})
        place = None
        if d.crs:
            x, y = d.transform * (d.width / 2, d.height / 2)
            lon, lat = transform(d.crs, "EPSG:4326", [x], [y])
            place = [lon[0], lat[0]]
        out[name] = {"dtype": d.dtypes[0], "crs": d.crs.to_epsg() if d.crs else None, "place": place, "levels": levels, "lossy": str(d.profile.get("compress")).lower() in ("jpeg", "webp")}
    except Exception as error:
        out[name] = {"error": str(error)}
print(json.dumps(out))`,
        { data, files },
      );
      const { run } = await areas.open();
      const report = { read: 0, levels: 0, pixels: 0, most: 0, places: 0, refused: 0 };
      for (const name of files) {
        const truth = wanted[name];
        const isDamaged = name.includes("corrupt");
        const levels = isDamaged ? [{ width: 1024, height: 1024, box: [0, 0, 1024, 1024] }] : (truth.levels ?? []);
        const found = await run(
          async ([address, levels]) => {
            try {
              const source = await sources.cog(address, { parallel: 2 });
              const { system } = source;
              const windows = [];
              for (const { width, height, box } of levels) {
                const level = source.levels.find((level) => level.width === width && level.height === height);
                if (!level) {
                  windows.push(null);
                  continue;
                }
                const [left, top, right, bottom] = box;
                const { rgba, missing } = await source.read(level, { left, top, right, bottom }, { signal: never });
                windows.push({ rgba: packed(rgba), missing });
              }
              const { origin, pixel, width, height } = source.levels[0];
              const place = system?.toLonLat(origin[0] + (width / 2) * pixel[0], origin[1] - (height / 2) * pixel[1]);
              const last = source.levels.at(-1);
              const same = [
                last.width * last.pixel[0] - width * pixel[0],
                last.height * last.pixel[1] - height * pixel[1],
              ];
              return { windows, place, system: system?.name, same, pixel };
            } catch (error) {
              return { code: error.code, message: error.message, remedy: error.remedy, stack: error.stack };
            }
          },
          [`${server.url}/${name}`, levels],
        );
        if (found.code !== undefined || found.message !== undefined) {
          report.refused++;
          assert.ok(NO_PICTURES.test(name), `${name} was refused: ${found.message}`);
          assert.equal(found.code, "unsupported", `${name}: ${found.stack ?? found.message}`);
          assert.ok(found.remedy, `${name}: an error without a remedy`);
          continue;
        }
        report.read++;
        for (const [i, level] of levels.entries()) {
          const window = found.windows[i];
          assert.ok(window, `${name}: no level of ${level.width} x ${level.height}`);
          if (isDamaged) {
            assert.ok(window.missing.length > 0, "a damaged tile passed for a picture");
            t.diagnostic(`damaged: ${window.missing.map(({ tile, message }) => `${tile}: ${message}`)}`);
            continue;
          }
          assert.ok(level.rgba, `${name}: ${truth.dtype} was read as if it were of 8 bits`);
          assert.deepEqual(window.missing, [], name);
          const { mean, odd, count } = compare(unpacked(window.rgba), unpacked(level.rgba));
          report.levels++;
          report.pixels += count / 3;
          report.most = Math.max(report.most, mean);
          const what = `${name} ${level.width} x ${level.height}: ${mean} in the mean, ${odd} of the mask`;
          // Of CMYK there are as many colours as programs.
          assert.ok(mean <= (truth.lossy || name.includes("cmyk") ? MEAN_LOSSY : 0) && odd === 0, what);
        }
        if (truth.place) {
          for (const axis of [0, 1])
            assert.ok(Math.abs(found.place[axis] - truth.place[axis]) < 1e-9, `${name}: ${found.place}`);
          report.places++;
        }
      }
      t.diagnostic(JSON.stringify(report));
      assert.ok(report.read >= 30 && report.places >= 20 && report.pixels > 900_000, JSON.stringify(report));
    },
  );
});
