// `samlora/maplibre` on a bare page: masks over tiles as they come, and what a page may do with them.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { browser, drawScene, exportTiny, LIMIT, png, scratch, serve, www } from "./support.mjs";

const IMPORTS = {
  imports: {
    samlora: "/lib/index.js",
    "samlora/maplibre": "/lib/maplibre.js",
    "maplibre-gl": "/maplibre/maplibre-gl.mjs",
  },
};
const PAGE = `<!doctype html><script type="importmap">${JSON.stringify(IMPORTS)}</script>
<style>.map { width: 512px; height: 512px }</style><div class="map" id="a"></div><div class="map" id="b"></div>`;

/** Runs in the page: what the tests share there. */
async function prepare() {
  const { Segmenter } = await import("samlora");
  const library = await import("samlora/maplibre");
  const maplibregl = await import("maplibre-gl");
  const model = await Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
  const scene = await createImageBitmap(await (await fetch("/scene.png")).blob());
  const Z = 16;
  const X = 2 ** (Z - 1);
  const tools = {
    ...library,
    maplibregl,
    model,
    scene,
    Z,
    X,
    /** The model with its calls counted. */
    counted() {
      const calls = [];
      return {
        info: model.info,
        calls,
        segment: (image, options) => (calls.push(options), model.segment(image, options)),
      };
    },
    /** The scene as tiles of `side` pixels around the map's origin, `across` a side. */
    source(side = 256, across = 2) {
      const tiles = ({ z, x, y }) => {
        const [column, row] = [x - X, y - X];
        if (z !== Z || column < 0 || row < 0 || column >= across || row >= across) return Promise.resolve(null);
        const canvas = new OffscreenCanvas(side, side);
        canvas.getContext("2d").drawImage(scene, -column * side, -row * side);
        return Promise.resolve(canvas);
      };
      const [west, , , north] = library.tileBounds({ z: Z, x: X, y: X });
      const [, south, east] = library.tileBounds({ z: Z, x: X + across - 1, y: X + across - 1 });
      return new library.TileSource({ tiles, minzoom: Z, maxzoom: Z, bounds: [west, south, east, north] });
    },
    /** A map that shows the 2 x 2 tiles around which `source` lies. */
    async map(container = "a") {
      const [west, , , north] = library.tileBounds({ z: Z, x: X, y: X });
      const [, , east] = library.tileBounds({ z: Z, x: X + 1, y: X });
      const [, south] = library.tileBounds({ z: Z, x: X, y: X + 1 });
      const map = new maplibregl.Map({
        container,
        style: { version: 8, sources: {}, layers: [] },
        center: [(west + east) / 2, (north + south) / 2],
        zoom: Z - 1,
        attributionControl: false,
        fadeDuration: 0,
      });
      await map.once("load");
      return map;
    },
    finished: (masks, count) => tools.until(() => masks.stats().finished === count && masks.stats().inView === count),
    async until(done) {
      for (const end = Date.now() + 600_000; !done(); await new Promise((r) => setTimeout(r, 30))) {
        if (Date.now() > end) throw new Error(`waited in vain for ${done}`);
      }
    },
    /** The colour at a place of the map as it is drawn next, and drawn no other way afterwards. */
    async pixel(map, x, y) {
      await tools.until(() => map.loaded() && map.areTilesLoaded());
      let colour;
      map.once("render", () => {
        const gl = map.painter.context.gl;
        const bytes = new Uint8Array(4);
        const scale = map.getCanvas().width / map.getCanvas().clientWidth;
        gl.readPixels(x * scale, gl.drawingBufferHeight - 1 - y * scale, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
        colour = [...bytes];
      });
      map.triggerRepaint();
      await tools.until(() => colour);
      return colour.join(" ");
    },
  };
  Object.assign(globalThis, tools);
}

test("masks on a MapLibre map", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const tile = drawScene(join(folder, "scene.png"), 512, 512);
  const url = await serve(t, [exportTiny(folder)]);
  const chrome = await browser(t);

  /** A page with all of that, on which `work` runs. */
  const run = async (work, argument) => {
    const page = await chrome.newPage({ viewport: { width: 600, height: 1100 } });
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await page.route("**/bare.html", (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
    await page.route("**/scene.png**", png(readFileSync(tile)));
    await page.route("**/maplibre/*", (route) => {
      const file = join(www, "node_modules/maplibre-gl/dist", new URL(route.request().url()).pathname.split("/").pop());
      return existsSync(file)
        ? route.fulfill({ body: readFileSync(file), contentType: "text/javascript" })
        : route.fulfill({ status: 404 });
    });
    await page.goto(`${url}/bare.html`);
    await page.evaluate(prepare);
    const result = await page.evaluate(work, argument);
    assert.deepEqual(faults, []);
    await page.close();
    return result;
  };

  await t.test("draws every tile's mask, nearest first, and restyles without computing", async () => {
    const found = await run(async () => {
      const segmenter = counted();
      const map = await globalThis.map();
      const order = [];
      const masks = samlora(maplibregl, map, segmenter, {
        source: source(),
        opacity: 1,
        outline: false,
        onTile: (mask) => order.push(`${mask.tile.x - X},${mask.tile.y - X}`),
      });
      const centre = map.getCenter();
      map.jumpTo({ center: map.unproject([150, 150]) }); // Nearer to the first tile.
      await finished(masks, 4);
      map.jumpTo({ center: centre });
      const places = [
        [90, 100],
        [400, 120],
        [120, 420],
        [380, 400],
      ].map(([x, y]) => ({ x, y, at: masks.classAt(map.unproject([x + 0.5, y + 0.5])) }));
      const drawn = [];
      for (const { x, y, at } of places) {
        const [red, green, blue] = at.class.color;
        drawn.push({
          is: await pixel(map, x, y),
          want: at.class.index ? `${red} ${green} ${blue} 255` : "0 0 0 0",
          index: at.class.index,
        });
      }
      const calls = segmenter.calls.length;
      masks.setStyle({ classes: [] });
      const hidden = await Promise.all(places.map(({ x, y }) => pixel(map, x, y)));
      masks.setStyle({ classes: [1, 2, 3] });
      const shown = [];
      for (const { x, y } of places) shown.push(await pixel(map, x, y));
      masks.setStyle({ thresholds: { building: 1, road: 1, water: 1 } });
      const rejected = places.map(({ x, y }) => masks.classAt(map.unproject([x + 0.5, y + 0.5])).class.index);
      masks.setStyle({ opacity: 0.5 });
      const paint = map.getPaintProperty(masks.id, "raster-opacity");
      const again = segmenter.calls.length;
      masks.remove();
      return {
        order,
        drawn,
        calls,
        again,
        hidden,
        shown,
        rejected,
        paint,
        left: map.getSource(masks.id) === undefined,
      };
    });
    assert.equal(found.order[0], "0,0");
    assert.ok(
      found.drawn.some(({ index }) => index > 0),
      "the scene has no class at all",
    );
    for (const { is, want } of found.drawn) assert.equal(is, want);
    assert.equal(found.calls, 4);
    assert.equal(found.again, 4, "restyling ran the network");
    assert.deepEqual(found.hidden, Array(4).fill("0 0 0 0"));
    assert.deepEqual(
      found.shown,
      found.drawn.map(({ is }) => is),
    );
    assert.deepEqual(found.rejected, [0, 0, 0, 0]);
    assert.equal(found.paint, 0.5);
    assert.ok(found.left);
  });

  await t.test("tells class and confidence of the tile's own mask", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      const masks = samlora(maplibregl, map, model, { source: source() });
      const early = masks.classAt(map.getCenter());
      await finished(masks, 4);
      const at = masks.classAt(map.unproject([100.5, 60.5]));
      const alone = await createImageBitmap(scene, 0, 0, 256, 256);
      const direct = await model.segment(alone);
      const pixel = 60 * 256 + 100;
      return { early, at, index: direct.classMask[pixel], confidence: direct.confidenceMask[pixel] / 255 };
    });
    assert.equal(found.early, undefined);
    assert.equal(found.at.class.index, found.index);
    assert.ok(Math.abs(found.at.confidence - found.confidence) < 1e-6);
    assert.equal(found.at.tile.z, 16);
  });

  await t.test("reads neighbours as far as the network's input has room", async () => {
    const found = await run(async () => {
      const side = 128;
      const masks = new TileMasks(model, source(side, 3));
      const mask = await masks.get({ z: Z, x: X + 1, y: X + 1 }, new AbortController().signal);
      const halo = (model.info.inputSize - side) / 2;
      const whole = await model.segment(
        await createImageBitmap(scene, side - halo, side - halo, side + 2 * halo, side + 2 * halo),
      );
      const corner = await masks.get({ z: Z, x: X, y: X }, new AbortController().signal);
      const beside = await model.segment(await createImageBitmap(scene, 0, 0, side + halo, side + halo));
      const equal = (mask, whole, left, top) =>
        mask.classMask.every(
          (index, at) => index === whole.classMask[(top + Math.floor(at / side)) * whole.width + left + (at % side)],
        );
      return {
        halo,
        windows: whole.timings.windows,
        middle: equal(mask, whole, halo, halo),
        corner: equal(corner, beside, 0, 0),
      };
    });
    assert.ok(found.halo > 0);
    assert.equal(found.windows, 1, "the halo is not free");
    assert.ok(found.middle, "the middle is not that of the tile in its surroundings");
    assert.ok(found.corner, "a tile without neighbours on two sides is not cut at its borders");
  });

  await t.test("exports valid GeoJSON of the finished tiles in view", async () => {
    const { collection, bounds, stats, strict } = await run(async () => {
      const map = await globalThis.map();
      const masks = samlora(maplibregl, map, model, { source: source() });
      await finished(masks, 4);
      const collection = await masks.toGeoJSON({ minPixels: 4 });
      const first = tileBounds({ z: Z, x: X, y: X });
      const last = tileBounds({ z: Z, x: X + 1, y: X + 1 });
      const stats = masks.tiles().flatMap((mask) => mask.stats());
      return {
        collection,
        bounds: [first[0], last[1], last[2], first[3]],
        stats,
        strict: (await masks.toGeoJSON({ thresholds: { building: 1, road: 1, water: 1 } })).features.length,
      };
    });
    assert.equal(collection.type, "FeatureCollection");
    assert.ok(collection.features.length > 3);
    const [west, south, east, north] = bounds;
    const pixels = {};
    for (const { type, geometry, properties } of collection.features) {
      assert.equal(type, "Feature");
      assert.equal(geometry.type, "Polygon");
      assert.match(properties.tile, /^16\/3276[89]\/3276[89]$/);
      assert.ok(["building", "road", "water"].includes(properties.name));
      assert.ok(properties.confidence > 0 && properties.confidence <= 1 && properties.area_m2 > 0);
      pixels[properties.name] = (pixels[properties.name] ?? 0) + properties.pixels;
      for (const [i, ring] of geometry.coordinates.entries()) {
        assert.deepEqual(ring[0], ring.at(-1));
        const area = ring.slice(1).reduce((sum, [x, y], j) => sum + ring[j][0] * y - x * ring[j][1], 0);
        assert.ok(i === 0 ? area > 0 : area < 0, "outer rings run counterclockwise, holes clockwise");
        for (const [x, y] of ring)
          assert.ok(x >= west - 1e-7 && x <= east + 1e-7 && y >= south - 1e-7 && y <= north + 1e-7);
      }
    }
    for (const [name, count] of Object.entries(pixels)) {
      const all = stats.filter((s) => s.name === name).reduce((sum, s) => sum + s.pixels, 0);
      assert.ok(count <= all && count > all * 0.8, `${name}: ${count} of ${all} pixels`);
    }
    assert.equal(strict, 0, "thresholds of the export are not applied");
  });

  await t.test("drops tiles that leave the view, keeps results for those that come back, and pauses", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      // A network that never ends by itself.
      const signals = [];
      const endless = {
        info: { ...model.info, workers: 4 },
        segment: (_, { signal }) =>
          new Promise(
            (_, reject) => (signals.push(signal), signal.addEventListener("abort", () => reject(signal.reason))),
          ),
      };
      const errors = [];
      const masks = samlora(maplibregl, map, endless, {
        source: source(),
        onError: (error) => errors.push(error.message),
      });
      await until(() => signals.length === 4);
      const home = map.getCenter();
      map.jumpTo({ center: [10, 10] });
      await until(() => signals.every((signal) => signal.aborted));
      const away = masks.stats();

      map.jumpTo({ center: home });
      const segmenter = counted();
      masks.pause();
      masks.setSegmenter(segmenter);
      await new Promise((r) => setTimeout(r, 400));
      const paused = segmenter.calls.length;
      masks.resume();
      await finished(masks, 4);
      map.jumpTo({ center: [10, 10] });
      await until(() => masks.stats().inView !== 4);
      map.jumpTo({ center: home });
      await finished(masks, 4);
      const colours = await pixel(map, 100, 100);
      return { running: away.running, waiting: away.waiting, errors, paused, calls: segmenter.calls.length, colours };
    });
    assert.equal(found.running + found.waiting, 0);
    assert.deepEqual(found.errors, []);
    assert.equal(found.paused, 0);
    assert.equal(found.calls, 4, "tiles that came back were computed again");
    assert.notEqual(found.colours, "0 0 0 0");
  });

  await t.test("two controllers on one map, and two maps, do not disturb one another", async () => {
    const found = await run(async () => {
      const [a, b] = [await globalThis.map("a"), await globalThis.map("b")];
      const stop = new AbortController();
      const one = samlora(maplibregl, a, model, { source: source(), opacity: 1 });
      const two = samlora(maplibregl, a, model, { source: source(256, 1), opacity: 1, signal: stop.signal });
      const three = samlora(maplibregl, b, model, { source: source(), opacity: 1, classes: [] });
      await finished(one, 4);
      await finished(two, 1);
      await finished(three, 4);
      const layers = a.getStyle().layers.length;
      stop.abort();
      const state = {
        layers,
        left: a.getStyle().layers.map((layer) => layer.id === one.id),
        hidden: await pixel(b, 100, 100),
      };
      state.shown = await pixel(a, 100, 100);
      a.setStyle({ version: 8, sources: {}, layers: [] }, { diff: false }); // The page changes its style.
      await until(() => a.getStyle()?.layers.length === 1);
      state.again = await pixel(a, 100, 100);
      b.remove();
      return state;
    });
    assert.equal(found.layers, 2);
    assert.deepEqual(found.left, [true]);
    assert.equal(found.hidden, "0 0 0 0");
    assert.notEqual(found.shown, "0 0 0 0");
    assert.equal(found.again, found.shown);
  });

  await t.test("takes the tiles of a raster source of the map", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      map.addSource("photos", {
        type: "raster",
        tiles: [`${location.origin}/scene.png?{z}/{x}/{y}`],
        tileSize: 512,
        minzoom: 15,
        maxzoom: 15,
      });
      const masks = samlora(maplibregl, map, model, { source: "photos" });
      await until(() => masks.stats().finished > 0);
      const errors = [];
      samlora(maplibregl, map, model, {
        source: "nothing",
        onError: (error) => errors.push([error.code, error.remedy]),
      });
      return { tile: masks.tiles()[0].tile, width: masks.tiles()[0].width, errors };
    });
    assert.equal(found.tile.z, 15);
    assert.equal(found.width, 512);
    assert.equal(found.errors[0][0], "not_found");
    assert.match(found.errors[0][1], /TileSource/);
  });
});
