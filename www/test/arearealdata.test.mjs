// A real archive through the demonstration model in the browser, beside the same ground through `segment`, through the native program,
// and beside windows that are cut and blended by other code.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodePng } from "../build/png.mjs";
import { ask, data, lacks, openAreas, startTiles, unpacked } from "./areas.mjs";
import { LIMIT, run as native, scratch, www } from "./support.mjs";

const MODEL = join(www, "demo/models/buildings");

/** Shares of pixels with equal classes, and the overlap of buildings, of two masks. */
function agreement(a, b) {
  let [equal, both, either, all] = [0, 0, 0, 0];
  for (let at = 0; at < a.length; at++) {
    if (a[at] === 255 || b[at] === 255) continue;
    all++;
    if (a[at] === b[at]) equal++;
    if (a[at] === 1 && b[at] === 1) both++;
    if (a[at] === 1 || b[at] === 1) either++;
  }
  return { equal: equal / all, iou: both / either, all };
}

test("a real area", { timeout: LIMIT, skip: lacks("data", "python") }, async (t) => {
  const areas = await openAreas(t, [MODEL]);
  const server = await startTiles(t);
  server.files.set("/philippines.pmtiles", readFileSync(join(data, "tiles/philippines.pmtiles")));
  const { run, page } = await areas.open();
  // Four tiles by two of zoom 20, all of them there.
  const TILE = { x: 886232, y: 483190, across: 4, down: 2 };
  const found = await run(
    async ([url, { x, y, across, down }]) => {
      globalThis.model = await Segmenter.load("/models/buildings/", { device: "cpu" });
      globalThis.source = await sources.pmtiles(`${url}/philippines.pmtiles`);
      const level = source.levels.find(({ name }) => name === "zoom 20");
      const corner = (column, row) =>
        source.system.toLonLat(level.origin[0] + column * level.pixel[0], level.origin[1] - row * level.pixel[1]);
      const box = { left: x * 256, top: y * 256, right: (x + across) * 256, bottom: (y + down) * 256 };
      const [west, north] = corner(box.left, box.top);
      const [east, south] = corner(box.right, box.bottom);
      const area = [west, south, east, north];
      const estimate = await model.estimateArea({ source, area });
      const start = performance.now();
      const job = model.segmentArea({ source, area });
      globalThis.result = await job.result();
      const time = performance.now() - start;
      const { rgba } = await source.read(level, box, { signal: never });
      globalThis.image = new ImageData(new Uint8ClampedArray(rgba), result.width, result.height);
      const direct = await model.segment(image);

      // The same windows by other code: logits of every window, each pixel's weights counted by hand.
      const { inputSize, tileSize, classes } = model.info;
      const whole = { left: box.left - 400, top: box.top - 400, right: box.right + 400, bottom: box.bottom + 400 };
      const around = await source.read(level, whole, { signal: never });
      const [x0, y0] = [310, 230]; // A part of the area whose windows are full of imagery.
      const side = 60;
      const sums = new Float64Array(classes.length * side * side);
      const fade = inputSize - tileSize;
      for (let i = Math.floor((box.left + x0 - inputSize) / tileSize); i * tileSize < box.left + x0 + side; i++) {
        for (let j = Math.floor((box.top + y0 - inputSize) / tileSize); j * tileSize < box.top + y0 + side; j++) {
          const [left, top] = [i * tileSize, j * tileSize];
          if (left + inputSize <= box.left + x0 || top + inputSize <= box.top + y0) continue;
          const cut = new ImageData(inputSize, inputSize);
          for (let v = 0; v < inputSize; v++)
            for (let u = 0; u < inputSize; u++)
              for (let c = 0; c < 4; c++)
                cut.data[4 * (v * inputSize + u) + c] =
                  around.rgba[4 * ((top - whole.top + v) * around.width + left - whole.left + u) + c];
          if (cut.data.some((value, at) => at % 4 === 3 && !value))
            throw new Error("a window has holes: choose another part");
          const logits = await model.logits(cut);
          for (let v = 0; v < side; v++) {
            for (let u = 0; u < side; u++) {
              const [px, py] = [box.left + x0 + u - left, box.top + y0 + v - top];
              if (px < 0 || py < 0 || px >= inputSize || py >= inputSize) continue;
              const ramp = (p) => Math.min(1, (Math.min(p, inputSize - 1 - p) + 0.5) / fade);
              const weight = ramp(px) * ramp(py);
              const at = (p, n) => Math.max(0, Math.min(((p + 0.5) * n) / inputSize - 0.5, n - 1));
              const [gx, gy] = [at(px, logits.width), at(py, logits.height)];
              const [cx, cy] = [
                Math.min(Math.floor(gx), logits.width - 2),
                Math.min(Math.floor(gy), logits.height - 2),
              ];
              for (let k = 0; k < classes.length; k++) {
                const value = (a, b) => logits.values[(k * logits.height + cy + b) * logits.width + cx + a];
                const [fx, fy] = [gx - cx, gy - cy];
                const mixed =
                  (value(0, 0) * (1 - fx) + value(1, 0) * fx) * (1 - fy) +
                  (value(0, 1) * (1 - fx) + value(1, 1) * fx) * fy;
                sums[(k * side + v) * side + u] += weight * mixed;
              }
            }
          }
        }
      }
      let [same, differ] = [0, 0];
      for (let v = 0; v < side; v++) {
        for (let u = 0; u < side; u++) {
          const best = sums[v * side + u] >= sums[(side + v) * side + u] ? 0 : 1;
          if (result.classMask[(y0 + v) * result.width + x0 + u] === best) same++;
          else differ++;
        }
      }
      const traced = await result.toGeoJSON();
      return {
        estimate,
        time,
        windows: estimate.windows,
        width: result.width,
        height: result.height,
        mask: packed(result.classMask),
        direct: packed(direct.classMask),
        rgba: packed(rgba),
        stats: result.stats(),
        missing: result.missing,
        same,
        differ,
        traced,
        area,
        georeference: result.georeference,
      };
    },
    [server.url, TILE],
  );
  const { width, height } = found;
  assert.deepEqual([width, height], [TILE.across * 256, TILE.down * 256]);
  assert.deepEqual(found.missing, []);
  assert.deepEqual([found.estimate.level, found.estimate.scale], ["zoom 20", [1, 1]]);
  const mask = unpacked(found.mask);
  assert.ok(!mask.includes(255), "there is imagery everywhere");

  await t.test("windows that are cut and blended by other code give the same classes", (t) => {
    t.diagnostic(`${found.same} of ${found.same + found.differ} pixels are equal`);
    assert.ok(found.differ <= 2, `${found.differ} pixels differ`);
  });

  await t.test(
    "the picture of the same ground through segment, and through the native program, agrees but for its border",
    (t) => {
      const rgba = unpacked(found.rgba);
      const rows = Buffer.alloc(height * (1 + 3 * width));
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          for (let c = 0; c < 3; c++) rows[y * (1 + 3 * width) + 1 + 3 * x + c] = rgba[4 * (y * width + x) + c];
      const folder = scratch();
      writeFileSync(join(folder, "ground.png"), encodePng(rows, width, height));
      native(
        "segment",
        "--model",
        MODEL,
        join(folder, "ground.png"),
        "--out",
        join(folder, "out"),
        "--format",
        "png",
        "--device",
        "cpu",
      );
      const [{ values }] = ask(
        `
import numpy as np, rasterio, base64, warnings
warnings.simplefilter("ignore")
d = rasterio.open(given)
b = d.read()
if b.shape[0] >= 3: b = (b[:3].sum(0) > 0).astype("uint8")
else: b = (b[0] > 0).astype("uint8")
print(json.dumps([{"values": base64.b64encode(b.tobytes()).decode()}]))`,
        join(folder, "out/ground.mask.png"),
      );
      const wanted = unpacked(values);
      const inner = (bytes) => {
        const part = [];
        for (let y = 64; y < height - 64; y++) part.push(...bytes.subarray(y * width + 64, (y + 1) * width - 64));
        return part;
      };
      for (const [name, other] of [
        ["segment", unpacked(found.direct)],
        ["the native program", wanted],
      ]) {
        const { equal, iou } = agreement(inner(mask), inner(other));
        t.diagnostic(
          `${name}: ${(100 * equal).toFixed(2)} % of the pixels are equal, overlap of buildings ${(100 * iou).toFixed(1)} %`,
        );
        // Windows lie elsewhere: on the ground's grid here, from the picture's corner there.
        assert.ok(equal > 0.97 && iou > 0.9, `${name}: ${equal}, ${iou}`);
      }
    },
  );

  await t.test("polygons: valid, and their area is that of the pixels", (t) => {
    const [, building] = found.stats;
    const said = ask(
      `
from shapely.geometry import shape
from shapely.geometry.polygon import orient
out = {"invalid": [], "count": 0, "wound": 0, "outside": 0}
w, s, e, n = given["area"]
for f in given["traced"]["features"]:
    g = shape(f["geometry"])
    out["count"] += 1
    if not g.is_valid: out["invalid"].append(f["properties"])
    for p in (g.geoms if g.geom_type == "MultiPolygon" else [g]):
        if p.exterior.is_ccw and all(not r.is_ccw for r in p.interiors): out["wound"] += 1
    b = g.bounds
    if b[0] < w - 1e-9 or b[1] < s - 1e-9 or b[2] > e + 1e-9 or b[3] > n + 1e-9: out["outside"] += 1
print(json.dumps(out))`,
      { traced: found.traced, area: found.area },
    );
    assert.ok(said.count > 5, `${said.count} polygons`);
    assert.deepEqual([said.invalid, said.wound, said.outside], [[], said.count, 0]);
    const traced = found.traced.features.reduce((sum, { properties }) => sum + properties.area_m2, 0) / 1e4;
    const pixels = found.traced.features.reduce((sum, { properties }) => sum + properties.pixels, 0);
    t.diagnostic(
      `${said.count} polygons, ${traced.toFixed(4)} ha; ${building.hectares.toFixed(4)} ha of pixels; ${Math.round(found.time)} ms`,
    );
    assert.equal(pixels, building.pixels);
    assert.ok(Math.abs(traced / building.hectares - 1) < 1e-6, `${traced} of ${building.hectares} ha`);
  });

  await t.test("the README's example runs as it is", async () => {
    const example = await areas.open();
    await example.page.route("**/example.js", (route) =>
      route.fulfill({ contentType: "text/javascript", body: readFileSync(join(www, "examples/area/main.js")) }),
    );
    await example.page.route("**/area.pmtiles", (route) => {
      const { pathname } = new URL(route.request().url());
      return route.continue({ url: server.url + pathname.replace("area", "philippines") });
    });
    const said = await example.run(async () => {
      document.body.innerHTML = '<canvas id="map"></canvas><p id="status"></p>';
      await import("/example.js");
      const canvas = document.querySelector("#map");
      const painted = canvas
        .getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height)
        .data.some((value) => value);
      return { text: document.querySelector("#status").textContent, painted };
    });
    assert.match(said.text, /^0\.\d\d hectares of roofs$/);
    assert.ok(said.painted);
  });

  const overlay = await page.evaluate(async () => {
    const masks = await model.refine(result);
    const canvas = new OffscreenCanvas(result.width, result.height);
    const context = canvas.getContext("2d");
    context.putImageData(image, 0, 0);
    context.drawImage(await createImageBitmap(await masks.toBlob({ opacity: 0.5, outline: true })), 0, 0);
    return packed(new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer()));
  });
  const folder = process.env.SAMLORA_SCREENSHOTS ?? join(www, "test/screenshots");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "area.png"), unpacked(overlay)); // To be looked at.
});
