// `segmentArea`: where windows lie, how they are blended, what an outline, a failing server, a pause and an abort do to the result. The
// network does not matter here: most tests have a model that answers with the colours that it sees.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, lacks, openAreas, unpacked } from "./areas.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

/** Runs in the page: a model that sees colours, and a source that draws the ground. */
function prepare() {
  /** Classes by what is seen: 0 where red is below 128, else 1. Its output has half the pixels of its input, as a network's has fewer. */
  globalThis.fake = (more = {}) => {
    const { logits, ...info } = more;
    const seen = [];
    const model = {
      seen,
      info: {
        name: "colours",
        hash: "0".repeat(64),
        precision: "f32",
        classes: ["dark", "bright"].map((name, index) => ({ index, name, color: [0, 0, 0] })),
        device: "cpu",
        workers: 2,
        kind: "merged",
        inputSize: 96,
        tileSize: 64,
        ...info,
      },
      async logits(image) {
        seen.push(`${image.width}x${image.height}`);
        const { inputSize } = model.info;
        const side = inputSize / 2;
        const values = new Float32Array(2 * side * side);
        const [left, top] = [inputSize - image.width, inputSize - image.height].map((rest) => Math.floor(rest / 2));
        const clamp = (value, most) => Math.max(0, Math.min(value, most - 1));
        for (let y = 0; y < side; y++) {
          for (let x = 0; x < side; x++) {
            let red = 0;
            for (const [dx, dy] of [
              [0, 0],
              [1, 0],
              [0, 1],
              [1, 1],
            ]) {
              const [column, row] = [clamp(2 * x + dx - left, image.width), clamp(2 * y + dy - top, image.height)];
              red += image.data[4 * (row * image.width + column)] / 4;
            }
            values[y * side + x] = 0;
            values[side * side + y * side + x] = logits ?? (red - 127.5) / 20;
          }
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
        return { classes: 2, width: side, height: side, values };
      },
      refine: async (planes) => ({ ...planes }),
    };
    return model;
  };
  globalThis.segmentArea = (model, options) => Segmenter.prototype.segmentArea.call(model, options);
  globalThis.estimateArea = (model, options) => Segmenter.prototype.estimateArea.call(model, options);

  const HALF = Math.PI * 6378137;
  const MERCATOR = {
    name: "EPSG:3857",
    toLonLat: (x, y) => [(x / HALF) * 180, (Math.atan(Math.sinh((y / HALF) * Math.PI)) * 180) / Math.PI],
    fromLonLat: (lon, lat) => [(lon / 180) * HALF, (Math.asinh(Math.tan((lat / 180) * Math.PI)) / Math.PI) * HALF],
  };
  const DEGREES = { name: "EPSG:4326", toLonLat: (x, y) => [x, y], fromLonLat: (lon, lat) => [lon, lat] };
  /** The ground is bright or dark in stripes of 24 m across and 30 m down from a corner at 10 E, 50 N. */
  const METRES = {
    x: (lon) => (lon - 10) * 111_320 * Math.cos((50 / 180) * Math.PI),
    y: (lat) => (50 - lat) * 111_320,
  };
  globalThis.isBright = (lon, lat) => (Math.floor(METRES.x(lon) / 24) + Math.floor(METRES.y(lat) / 30)) % 2 === 0;
  /** How far in metres a place is from where the ground changes. */
  globalThis.fromEdge = (lon, lat) => {
    const off = (value, size) => Math.abs(value / size - Math.round(value / size)) * size;
    return Math.min(off(METRES.x(lon), 24), off(METRES.y(lat), 30));
  };
  /** Imagery of that ground with pixels of so many metres at 50 N, from its corner; `holes(x, y)` are pixels without data. */
  globalThis.ground = ({
    metres = [1],
    size = 700,
    degrees = false,
    holes = () => false,
    fails = () => false,
    log = [],
    shift = 0,
  } = {}) => {
    const system = degrees ? DEGREES : MERCATOR;
    const levels = metres.map((m, i) => {
      const degree = m / 111_320;
      const [x, y] = system.fromLonLat(10, 50);
      const across = degrees ? degree : m / Math.cos((50 / 180) * Math.PI);
      const pixel = [across, across];
      const origin = [x + shift * pixel[0], y - shift * pixel[1]];
      return {
        name: `level ${i}`,
        width: Math.round((size * metres[0]) / m),
        height: Math.round((size * metres[0]) / m),
        origin,
        pixel,
        anchor: [Math.round(origin[0] / pixel[0]), Math.round(-origin[1] / pixel[1])],
        tile: [128, 128],
      };
    });
    return {
      name: "the ground",
      key: "ground",
      system,
      levels,
      log,
      async read(level, { left, top, right, bottom }, { signal }) {
        signal.throwIfAborted();
        log.push([left, top, right, bottom]);
        const [width, height] = [right - left, bottom - top];
        const rgba = new Uint8ClampedArray(4 * width * height);
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            if (holes(left + x, top + y)) continue;
            const place = [
              level.origin[0] + (left + x + 0.5) * level.pixel[0],
              level.origin[1] - (top + y + 0.5) * level.pixel[1],
            ];
            const at = 4 * (y * width + x);
            rgba[at] = rgba[at + 1] = rgba[at + 2] = isBright(...system.toLonLat(...place)) ? 220 : 35;
            rgba[at + 3] = 255;
          }
        }
        const missing = fails(left, top, right, bottom);
        if (missing) rgba.fill(0);
        return { width, height, rgba, missing: missing ? [missing] : [] };
      },
    };
  };
  /** Longitude and latitude of the middle of a result's pixel. */
  globalThis.placeOf = ({ georeference: { system, origin, pixel } }, x, y) =>
    (system === "EPSG:4326" ? DEGREES : MERCATOR).toLonLat(
      origin[0] + (x + 0.5) * pixel[0],
      origin[1] - (y + 0.5) * pixel[1],
    );
}

test("areas", { timeout: LIMIT }, async (t) => {
  const areas = await openAreas(t, [exportTiny(scratch())]);
  const open = async () => {
    const page = await areas.open();
    await page.run(prepare);
    return page;
  };

  await t.test("each place has the class that is seen there, at every resolution", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const cases = {
        "as it is": [{ groundResolution: 1 }, {}],
        "nearly as it is": [{ groundResolution: 1.2 }, {}],
        "averaged down": [{ groundResolution: 2 }, {}],
        "drawn up": [{ groundResolution: 0.5 }, {}],
        "a coarser level": [{ groundResolution: 2.1 }, { metres: [1, 2, 4] }],
        "between two levels": [{ groundResolution: 3 }, { metres: [1, 2, 4] }],
        "degrees, pixels not square": [{ groundResolution: 1 }, { degrees: true }],
        "no resolution known": [{}, {}],
      };
      const out = {};
      for (const [name, [info, options]] of Object.entries(cases)) {
        const [model, source] = [fake(info), ground(options)];
        const estimate = await estimateArea(model, { source });
        const result = await segmentArea(model, { source }).result();
        let [wrong, far, none] = [0, 0, 0];
        for (let y = 0; y < result.height; y += 3) {
          for (let x = 0; x < result.width; x += 3) {
            const place = placeOf(result, x, y);
            // Output has half the pixels that the network sees.
            if (fromEdge(...place) < 2.2 * Math.max(info.groundResolution ?? 1, 1)) continue;
            far++;
            const index = result.classMask[y * result.width + x];
            if (index === NO_DATA) none++;
            else if ((index === 1) !== isBright(...place)) wrong++;
          }
        }
        out[name] = {
          wrong,
          far,
          none,
          level: estimate.level,
          scale: estimate.scale,
          windows: model.seen.length,
          planned: estimate.windows,
          sizes: [...new Set(model.seen)],
        };
      }
      return out;
    });
    for (const [name, { wrong, far, none }] of Object.entries(found)) {
      assert.ok(far > 2000, `${name}: ${far}`);
      assert.deepEqual([wrong, none], [0, 0], `${name}: ${JSON.stringify(found[name])}`);
    }
    const of = (name) => [found[name].level, ...found[name].scale.map((factor) => Number(factor.toFixed(3)))];
    const root = Number(Math.SQRT2.toFixed(3));
    assert.deepEqual(of("as it is"), ["level 0", 1, 1]);
    assert.deepEqual(of("nearly as it is"), ["level 0", 1, 1]);
    assert.deepEqual(of("averaged down"), ["level 0", 2, 2]);
    assert.deepEqual(of("drawn up"), ["level 0", 0.5, 0.5]);
    assert.deepEqual(of("a coarser level"), ["level 1", 1, 1]);
    assert.deepEqual(of("between two levels"), ["level 1", root, root]);
    assert.deepEqual(of("degrees, pixels not square"), ["level 0", 1.682, 1]);
    for (const { windows, planned } of Object.values(found))
      assert.ok(windows <= planned && windows > planned / 3, `${windows} of ${planned}`);
  });

  await t.test("a resolution that is too far is refused with what to do, others by the option", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const source = ground();
      const attempt = (groundResolution, options) =>
        failing(estimateArea(fake({ groundResolution }), { source, ...options }));
      return {
        coarse: await attempt(0.2),
        fine: await attempt(4.5),
        native: (await estimateArea(fake({ groundResolution: 0.1 }), { source, resolution: "native" })).scale,
        given: (await estimateArea(fake({ groundResolution: 0.1 }), { source, resolution: 2 })).scale,
        most: (await estimateArea(fake({ groundResolution: 3.9 }), { source })).scale,
        wrong: await attempt(1, { resolution: 0 }),
        base: await failing(estimateArea(fake({ kind: "base" }), { source })),
        none: await failing(estimateArea(fake(), {})),
        option: await failing(estimateArea(fake(), { source, areas: [] })),
      };
    });
    for (const { code, message, remedy } of [found.coarse, found.fine]) {
      assert.equal(code, "unsupported");
      assert.match(message, /factor of 4/);
      assert.match(remedy, /native/);
    }
    assert.deepEqual(found.native, [1, 1]);
    assert.deepEqual(found.given, [2, 2]);
    assert.ok(found.most[0] <= 4);
    for (const name of ["wrong", "base", "none", "option"]) assert.equal(found[name].code, "invalid", name);
  });

  await t.test("weights sum to one at every pixel, also around holes and at borders", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const out = [];
      for (const groundResolution of [1, 1.7, 0.6]) {
        const holes = (x, y) => Math.hypot(x - 300, y - 200) < 70 || x > 640 - y / 9 || (x % 97 === 0 && y % 5 === 0);
        const source = ground({ holes });
        const result = await segmentArea(fake({ groundResolution, logits: 1.5 }), { source }).result();
        const confidences = new Set(result.confidenceMask);
        let wrong = 0;
        for (let y = 0; y < 700; y++)
          for (let x = 0; x < 700; x++) if ((result.classMask[y * 700 + x] === NO_DATA) !== holes(x, y)) wrong++;
        out.push({ confidences: [...confidences].sort(), wrong });
      }
      return out;
    });
    // 1 / (1 + exp(-1.5)) wherever any window has a pixel, and 0 where there is no data.
    const one = Math.round(255 / (1 + Math.exp(-1.5)));
    assert.deepEqual(found[0], { confidences: [0, one], wrong: 0 });
    for (const { confidences } of found) assert.deepEqual(confidences, [0, one]);
    for (const { wrong } of found.slice(1)) assert.equal(wrong, 0);
  });

  await t.test(
    "the result does not depend on where the area, the file or the view begins: all pixels are equal",
    async () => {
      const { run } = await open();
      const found = await run(async () => {
        const { Segmenter } = samlora;
        const tiny = await Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
        const [west, north] = [10, 50];
        const degree = (metres) => metres / 111_320;
        const out = [];
        for (const [name, model, options] of [
          ["network", tiny, { resolution: "native" }],
          ["colours", fake(), { resolution: 1.5 }],
        ]) {
          const wide = (metres) => degree(metres) / Math.cos((50 / 180) * Math.PI);
          const whole = await segmentArea(model, { source: ground(), ...options }).result();
          const count = {};
          const check = (part, result) => {
            // Where the part begins within the whole.
            const [dx, dy] = [0, 1].map((axis) =>
              Math.round(
                ((axis ? -1 : 1) * (result.georeference.origin[axis] - whole.georeference.origin[axis])) /
                  whole.georeference.pixel[axis],
              ),
            );
            let [equal, all] = [0, 0];
            for (let y = 0; y < result.height; y++) {
              for (let x = 0; x < result.width; x++) {
                const [at, there] = [y * result.width + x, (y + dy) * whole.width + x + dx];
                if (result.classMask[at] === NO_DATA) continue;
                all++;
                if (
                  result.classMask[at] === whole.classMask[there] &&
                  result.confidenceMask[at] === whole.confidenceMask[there]
                )
                  equal++;
              }
            }
            count[part] = [equal, all];
          };
          const box = (left, top, right, bottom) => [
            west + wide(left),
            north - degree(bottom),
            west + wide(right),
            north - degree(top),
          ];
          check(
            "shifted",
            await segmentArea(model, { source: ground(), area: box(101, 57, 420, 391), ...options }).result(),
          );
          check(
            "one pixel",
            await segmentArea(model, { source: ground(), area: box(333.2, 222.2, 333.8, 222.8), ...options }).result(),
          );
          check(
            "from the end",
            await segmentArea(model, { source: ground(), view: box(600, 600, 690, 690), ...options }).result(),
          );
          const [a, b, c, d] = box(90, 130, 600, 640);
          const triangle = {
            type: "Polygon",
            coordinates: [
              [
                [a, b],
                [c, b],
                [c, d],
                [a, b],
              ],
            ],
          };
          check("outline", await segmentArea(model, { source: ground(), area: triangle, ...options }).result());
          // A file that begins elsewhere, and so has other pixels around: its inner part is the same.
          const inner = box(280, 280, 430, 430);
          check(
            "another file",
            await segmentArea(model, { source: ground({ shift: 37, size: 640 }), area: inner, ...options }).result(),
          );
          out.push({ name, count, classes: new Set(whole.classMask).size });
        }
        return out;
      });
      for (const { name, count, classes } of found) {
        assert.ok(classes > 1, `${name} has one class`);
        for (const [part, [equal, all]] of Object.entries(count)) {
          assert.ok(all > (part === "one pixel" ? 0 : 20_000), `${name}, ${part}: ${all} pixels`);
          assert.equal(equal, all, `${name}, ${part}`);
        }
      }
    },
  );

  await t.test(
    "outside of polygons and in their holes there is no data, as rasterio has it",
    { skip: lacks("python") },
    async () => {
      const { run } = await open();
      const degree = 1 / 111_320;
      const at = (x, y) => [10 + (x * degree) / Math.cos((50 / 180) * Math.PI), 50 - y * degree];
      const circle = (x, y, r, n = 60) =>
        Array.from({ length: n + 1 }, (_, i) =>
          at(x + r * Math.cos((2 * Math.PI * i) / n), y + r * Math.sin((2 * Math.PI * i) / n)),
        );
      const star = Array.from({ length: 11 }, (_, i) =>
        at(
          480 + (i % 2 ? 40 : 110) * Math.cos((Math.PI * i) / 5),
          470 + (i % 2 ? 40 : 110) * Math.sin((Math.PI * i) / 5),
        ),
      );
      const area = {
        type: "FeatureCollection",
        features: [
          {
            type: "Feature",
            properties: {},
            geometry: {
              type: "Polygon",
              coordinates: [circle(200, 220, 150), circle(170, 200, 60), circle(280, 260, 20)],
            },
          },
          {
            type: "Feature",
            properties: null,
            geometry: {
              type: "MultiPolygon",
              coordinates: [[star], [[at(420, 40), at(650, 60), at(560, 300), at(420, 40)]]],
            },
          },
          { type: "Feature", properties: null, geometry: null },
        ],
      };
      const found = await run(async (area) => {
        const log = [];
        const result = await segmentArea(fake({ groundResolution: 1 }), { source: ground({ log }), area }).result();
        const { width, height, georeference } = result;
        const valid = result.classMask.map((index) => (index === NO_DATA ? 0 : 1));
        const stats = result.stats();
        const outline = (place) => segmentArea(fake(), { source: ground(), area: place });
        const line = {
          type: "LineString",
          coordinates: [
            [10, 50],
            [10.1, 50.1],
          ],
        };
        const errors = [];
        for (const place of [
          [11, 50, 10, 51],
          [10, 50, 11],
          "10,50,11,51",
          line,
          { type: "FeatureCollection", features: [] },
          {
            type: "Polygon",
            coordinates: [
              [
                [50, 100],
                [51, 101],
                [50, 99],
              ],
            ],
          },
          [20, 40, 20.01, 40.01],
        ]) {
          errors.push(await failing(async () => void (await outline(place).result())));
        }
        return {
          valid: packed(valid),
          width,
          height,
          georeference,
          pixels: stats.reduce((sum, { pixels }) => sum + pixels, 0),
          stats,
          errors,
        };
      }, area);
      const wanted = ask(
        `
import base64, math
import numpy as np
from rasterio.features import rasterize
from rasterio.transform import Affine
R = 6378137.0
def metres(p): return [math.radians(p[0]) * R, math.asinh(math.tan(math.radians(p[1]))) * R]
def walk(c): return [walk(e) for e in c] if isinstance(c[0], list) else metres(c)
g = given["georeference"]
t = Affine(g["pixel"][0], 0, g["origin"][0], 0, -g["pixel"][1], g["origin"][1])
shapes = [{"type": f["geometry"]["type"], "coordinates": walk(f["geometry"]["coordinates"])} for f in given["area"]["features"] if f["geometry"]]
mask = rasterize(shapes, out_shape=(given["height"], given["width"]), transform=t, fill=0, default_value=1, dtype="uint8")
print(json.dumps({"mask": base64.b64encode(mask.tobytes()).decode(), "count": int(mask.sum())}))`,
        { ...found, valid: undefined, stats: undefined, area },
      );
      const [valid, mask] = [unpacked(found.valid), unpacked(wanted.mask)];
      const differ = valid.filter((value, i) => value !== mask[i]).length;
      assert.ok(wanted.count > 80_000, `${wanted.count}`);
      assert.ok(differ <= 3, `${differ} of ${valid.length} pixels`);
      assert.equal(
        found.pixels,
        valid.reduce((sum, value) => sum + value, 0),
      );
      assert.deepEqual(
        found.errors.map(({ code }) => code),
        [...Array(6).fill("invalid"), "not_found"],
      );
      for (const { message, remedy } of found.errors) assert.ok(message && remedy);
    },
  );

  await t.test("blocks come one by one, nearest to the view first; few windows run beside, each once", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const source = ground({ size: 3000 });
      const model = fake({ groundResolution: 1 });
      const degree = 1 / 111_320;
      const [x, y] = [2300, 900];
      const view = [
        10 + ((x - 50) * degree) / Math.cos((50 / 180) * Math.PI),
        50 - (y + 50) * degree,
        10 + ((x + 50) * degree) / Math.cos((50 / 180) * Math.PI),
        50 - (y - 50) * degree,
      ];
      const progress = [];
      const job = segmentArea(model, { source, view: () => view, onProgress: (p) => progress.push(p) });
      const distances = [];
      let seenAtFirst;
      let covered = 0;
      for await (const block of job) {
        seenAtFirst ??= model.seen.length;
        distances.push(Math.hypot(block.x + block.width / 2 - x, block.y + block.height / 2 - y));
        covered += block.width * block.height;
        // Whoever looks at a block for long holds the work up: it does not pile up in memory.
        if (distances.length === 3) {
          await new Promise((resolve) => setTimeout(resolve, 400));
          globalThis.held = model.seen.length;
          await new Promise((resolve) => setTimeout(resolve, 200));
          globalThis.stillHeld = model.seen.length;
        }
      }
      const { windows, blocks } = await estimateArea(model, { source });
      return {
        distances,
        seenAtFirst,
        covered,
        held: [held, stillHeld],
        seen: model.seen.length,
        windows,
        blocks,
        last: progress.at(-1),
        reads: source.log.length,
      };
    });
    const { distances } = found;
    assert.equal(distances.length, found.blocks);
    assert.ok(distances[0] < 500 && distances.every((d, i) => i === 0 || d > distances[i - 1] - 1), `${distances}`);
    assert.equal(found.covered, 3000 * 3000);
    assert.ok(found.seenAtFirst < found.seen / 8, `${found.seenAtFirst} of ${found.seen} before the first block`);
    assert.equal(found.held[0], found.held[1], "the work goes on although nobody takes its blocks");
    assert.equal(found.reads, found.seen, "a window was read twice");
    assert.ok(Math.abs(found.windows / found.seen - 1) < 0.1, `${found.windows} planned, ${found.seen} seen`);
    assert.deepEqual(found.last, {
      done: found.blocks,
      total: found.blocks,
      stored: 0,
      postponed: 0,
      windows: found.seen,
    });
  });

  await t.test("failed tiles are tried again at the end; what stays missing is no data and is named", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const out = {};
      for (const [name, times] of [
        ["once", 1],
        ["for ever", Infinity],
      ]) {
        let failures = 0;
        // Whatever window covers this pixel.
        const fails = (left, top, right, bottom) => {
          if (!(left <= 900 && right > 900 && top <= 300 && bottom > 300)) return undefined;
          return failures < times && (failures++, true)
            ? { tile: "7/2", message: "the server answered 500" }
            : undefined;
        };
        const source = ground({ size: 1500, fails });
        const order = [];
        const progress = [];
        const job = segmentArea(fake({ groundResolution: 1 }), {
          source,
          onProgress: ({ postponed }) => progress.push(postponed),
        });
        for await (const block of job) order.push([block.x, block.y, block.missing.map(({ tile }) => tile).join()]);
        const whole = await segmentArea(fake({ groundResolution: 1 }), { source: ground({ size: 1500 }) }).result();
        const again = await segmentArea(fake({ groundResolution: 1 }), {
          source: ground({ size: 1500, fails: times > 1 ? fails : undefined }),
        }).result();
        let wrong = 0;
        for (let at = 0; at < whole.classMask.length; at++)
          if (again.classMask[at] !== NO_DATA && again.classMask[at] !== whole.classMask[at]) wrong++;
        out[name] = {
          order,
          most: Math.max(...progress),
          last: progress.at(-1),
          none: again.classMask.filter((c) => c === NO_DATA).length,
          missing: again.missing,
          wrong,
        };
      }
      return out;
    });
    for (const { order, most, last } of Object.values(found)) {
      assert.ok(most > 0, "nothing was postponed");
      assert.equal(last, 0);
      assert.equal(new Set(order.map(([x, y]) => `${x},${y}`)).size, order.length, "a block came twice");
    }
    assert.equal(found.once.none, 0);
    assert.ok(found.once.order.every(([, , missing]) => missing === ""));
    const forever = found["for ever"];
    assert.ok(forever.order.some(([, , missing]) => missing === "7/2"));
    assert.deepEqual(forever.missing, [{ tile: "7/2", message: "the server answered 500" }]);
    assert.ok(forever.none > 0);
  });

  await t.test("pause, resume, abort, leaving the loop and failures", async () => {
    const { run } = await open();
    const found = await run(async () => {
      const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));
      const out = {};
      const model = fake({ groundResolution: 1 });
      const job = segmentArea(model, { source: ground({ size: 2000 }) });
      const blocks = [];
      const work = (async () => {
        for await (const block of job) blocks.push(block.x);
      })();
      while (blocks.length < 2) await sleep(5);
      job.pause();
      await sleep(150);
      const paused = [model.seen.length, blocks.length];
      await sleep(250);
      out.paused = [job.paused, model.seen.length - paused[0], blocks.length - paused[1]];
      job.resume();
      await work;
      out.total = blocks.length;
      out.stats = (await job.stats()).map(({ pixels, hectares }) => [pixels, hectares]);

      // An abort while paused, and one while running.
      for (const isPaused of [true, false]) {
        const controller = new AbortController();
        const model = fake({ groundResolution: 1 });
        const job = segmentArea(model, { source: ground({ size: 2000 }), signal: controller.signal });
        const ended = failing(async () => {
          for await (const _ of job) {
            if (isPaused) job.pause();
            setTimeout(() => controller.abort(new Error("enough")), 20);
          }
        });
        out[isPaused ? "abortPaused" : "abort"] = (await ended).message;
        const seen = model.seen.length;
        await sleep(100);
        out[isPaused ? "afterPaused" : "after"] = model.seen.length - seen;
      }

      const left = fake({ groundResolution: 1 });
      for await (const _ of segmentArea(left, { source: ground({ size: 2000 }) })) break;
      const seen = left.seen.length;
      await sleep(150);
      out.left = left.seen.length - seen;

      const broken = { ...ground(), read: () => Promise.reject(new SamloraError("unsupported", "no key")) };
      out.broken = await failing(segmentArea(fake(), { source: broken }).result());
      out.late = await failing(
        segmentArea(fake(), { source: Promise.reject(new SamloraError("format", "no archive")) }).result(),
      );
      const dead = { ...fake(), logits: () => Promise.reject(new SamloraError("device", "the GPU is gone")) };
      out.dead = await failing(segmentArea(dead, { source: ground() }).result());
      const huge = { ...ground(), levels: [{ ...ground().levels[0], width: 2 ** 28, height: 2 ** 28 }] };
      out.huge = await failing(segmentArea(fake(), { source: huge }).result());
      const large = { ...ground(), levels: [{ ...ground().levels[0], width: 9000, height: 9000 }] };
      out.large = await failing(segmentArea(fake(), { source: large }).result());
      out.aborted = await failing(
        segmentArea(fake(), { source: ground(), signal: AbortSignal.abort(new Error("before")) }).result(),
      );
      return out;
    });
    assert.deepEqual(found.paused, [true, 0, 0]);
    assert.equal(found.total, 16);
    const pixels = found.stats.reduce((sum, [pixels]) => sum + pixels, 0);
    const hectares = found.stats.reduce((sum, [, hectares]) => sum + hectares, 0);
    assert.equal(pixels, 2000 * 2000);
    // A square of 2000 m on the sphere of Web Mercator, 0.3 % off on the ellipsoid.
    assert.ok(Math.abs(hectares / 400 - 1) < 0.01, `${hectares}`);
    assert.deepEqual([found.abort, found.abortPaused], ["enough", "enough"]);
    assert.deepEqual([found.after, found.afterPaused, found.left], [0, 0, 0]);
    assert.deepEqual(
      [found.broken.message, found.late.message, found.dead.message],
      ["no key", "no archive", "the GPU is gone"],
    );
    assert.deepEqual([found.huge.code, found.large.code], ["limit", "limit"]);
    assert.equal(found.aborted.message, "before");
  });
});
