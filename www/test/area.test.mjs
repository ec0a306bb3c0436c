// `segmentArea`: where windows lie, how they are blended and resampled, and what an outline does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, lacks, openAreas, unpacked } from "./areas.mjs";
import { prepare } from "./areafake.mjs";
import { exportTiny, LIMIT, scratch } from "./support.mjs";

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
});
