// `samlora/maplibre` on a bare page: masks over tiles as they come, and what a page may do with them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openMaps } from "./maps.mjs";
import { LIMIT } from "./support.mjs";

test("masks on a MapLibre map", { timeout: LIMIT }, async (t) => {
  const { run } = await openMaps(t);

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
      const at = (x, y) => masks.classAt(map.unproject([x + 0.5, y + 0.5]));
      const places = [];
      for (const [x, y] of [
        [90, 100],
        [400, 120],
        [120, 420],
        [380, 400],
      ]) {
        places.push({ x, y, at: await at(x, y) });
      }
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
      const { windows } = masks.stats();
      masks.setStyle({ classes: [] });
      const hidden = await Promise.all(places.map(({ x, y }) => pixel(map, x, y)));
      masks.setStyle({ classes: [1, 2, 3] });
      const shown = [];
      for (const { x, y } of places) shown.push(await pixel(map, x, y));
      masks.setStyle({ thresholds: { building: 1, road: 1, water: 1 } });
      const rejected = [];
      for (const { x, y } of places) rejected.push((await at(x, y)).class.index);
      masks.setStyle({ opacity: 0.5 });
      const paint = map.getPaintProperty(masks.id, "raster-opacity");
      const again = segmenter.calls.length;
      masks.remove();
      return {
        order,
        drawn,
        calls,
        windows,
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
    assert.equal(found.calls, 9, "three windows of 224 px a side, over 512 px");
    assert.equal(found.windows, 9);
    assert.equal(found.again, 9, "restyling ran the network");
    assert.deepEqual(found.hidden, Array(4).fill("0 0 0 0"));
    assert.deepEqual(
      found.shown,
      found.drawn.map(({ is }) => is),
    );
    assert.deepEqual(found.rejected, [0, 0, 0, 0]);
    assert.equal(found.paint, 0.5);
    assert.ok(found.left);
  });

  await t.test("exports valid GeoJSON of the finished tiles in view", async () => {
    const { collection, bounds, stats, strict } = await run(async () => {
      const map = await globalThis.map();
      const masks = samlora(maplibregl, map, model, { source: source() });
      await finished(masks, 4);
      const collection = await masks.toGeoJSON({ minPixels: 4 });
      const first = tileBounds({ z: Z, x: X, y: X });
      const last = tileBounds({ z: Z, x: X + 1, y: X + 1 });
      const stats = (await Promise.all(masks.tiles().map((mask) => mask.stats()))).flat();
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
        info: { ...model.info, workers: 16 },
        logits: (_, { signal }) =>
          new Promise(
            (_, reject) => (signals.push(signal), signal.addEventListener("abort", () => reject(signal.reason))),
          ),
      };
      const errors = [];
      const masks = samlora(maplibregl, map, endless, {
        source: source(),
        onError: (error) => errors.push(error.message),
      });
      await until(() => signals.length === 9);
      const home = map.getCenter();
      map.jumpTo({ center: [10, 10] });
      await until(() => signals.every((signal) => signal.aborted));
      await until(() => masks.stats().running + masks.stats().waiting === 0);

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
      return { errors, paused, calls: segmenter.calls.length, colours };
    });
    assert.deepEqual(found.errors, []);
    assert.equal(found.paused, 0);
    assert.equal(found.calls, 9, "tiles that came back were computed again");
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
});
