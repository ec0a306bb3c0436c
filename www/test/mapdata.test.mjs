// `samlora/maplibre` on a bare page: what is where, in which imagery, and what is asked of whom.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openMaps } from "./maps.mjs";
import { drawScene, LIMIT, run as native } from "./support.mjs";

test("imagery and places on a MapLibre map", { timeout: LIMIT }, async (t) => {
  const { folder, run } = await openMaps(t);

  await t.test("tells class and confidence of the tile's own mask", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      const masks = samlora(maplibregl, map, model, { source: source(256, 1) });
      const early = await masks.classAt(map.getCenter());
      await finished(masks, 1);
      const at = await masks.classAt(map.unproject([100.5, 60.5]));
      const alone = await createImageBitmap(scene, 0, 0, 256, 256);
      const direct = await model.segment(alone);
      const pixel = 60 * 256 + 100;
      return { early, at, index: direct.classMask[pixel], confidence: direct.confidenceMask[pixel] / 255 };
    });
    assert.equal(found.early, undefined);
    assert.equal(found.at.class.index, found.index);
    assert.ok(Math.abs(found.at.confidence - found.confidence) < 1.01 / 255);
    assert.equal(found.at.tile.z, 16);
  });

  await t.test("areas are those of the native program", async () => {
    // A tile far from the equator, where pixels are small: path and bytes are all that the program gets.
    const place = { z: 15, x: 17000, y: 9000 };
    const file = join(folder, `${place.z}/${place.x}/${place.y}.png`);
    drawScene(file, 256, 256);
    const out = join(folder, "native");
    const args = ["--format", "geojson", "--device", "cpu"];
    native("segment", "--model", join(folder, "tiny"), file, "--out", out, ...args);
    const { features } = JSON.parse(readFileSync(join(out, `${place.y}.geojson`)));
    const found = await run(
      async ([place, png]) => {
        const tiles = async () => new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))], { type: "image/png" });
        const masks = new TileMasks(model, new TileSource({ tiles, bounds: tileBounds(place) }));
        return (await masks.get(place, new AbortController().signal)).toFeatures();
      },
      [place, readFileSync(file).toString("base64")],
    );
    // Rings that begin at another corner, and holes in another order, are the same outline.
    const ring = (points) => {
      const open = points.slice(0, -1).map(String);
      const first = open.indexOf(open.toSorted()[0]);
      return [...open.slice(first), ...open.slice(0, first)].join(" ");
    };
    const outline = ({ coordinates: [exterior, ...holes] }) => [ring(exterior), ...holes.map(ring).sort()].join("|");
    const areas = (features) =>
      new Map(features.map(({ geometry, properties }) => [outline(geometry), properties.area_m2]));
    const [wanted, given] = [areas(features), areas(found)];
    const both = [...wanted.keys()].filter((outline) => given.has(outline));
    // A pixel that is nearly a tie may fall otherwise, and changes its polygon.
    assert.ok(
      both.length > 0.9 * wanted.size && both.length > 5,
      `${both.length} of ${wanted.size} polygons are the same`,
    );
    for (const outline of both) assert.equal(given.get(outline), wanted.get(outline));
  });

  await t.test("no data is no class: outside of the imagery, in transparent tiles and parts of them", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      const plain = source();
      const [west, south, east, north] = plain.bounds;
      const tiles = async (tile) => {
        const { x, y } = { x: tile.x - X, y: tile.y - X };
        if (x < 0 || y < 0 || x > 1 || y > 1) return null;
        const canvas = new OffscreenCanvas(256, 256);
        const context = canvas.getContext("2d");
        if (x === 1 && y === 1) return canvas; // Transparent as a whole.
        context.drawImage(scene, -x * 256, -y * 256);
        if (x === 1) context.clearRect(0, 0, 64, 256);
        return canvas;
      };
      // The source ends in the middle of the lower tiles.
      const bounds = [west, (south + (north + south) / 2) / 2, east, north];
      const masks = samlora(maplibregl, map, model, {
        source: new TileSource({ tiles, minzoom: Z, maxzoom: Z, bounds }),
        opacity: 1,
      });
      await until(() => masks.stats().finished === 3 && masks.stats().inView === 3);
      const at = async (x, y) => (await masks.classAt(map.unproject([x, y])))?.class.name;
      const byTile = new Map(masks.tiles().map((mask) => [`${mask.tile.x - X},${mask.tile.y - X}`, mask]));
      const parts = {};
      for (const [name, mask] of byTile) {
        const { classMask, confidenceMask } = await mask.refine();
        const stats = await mask.stats();
        parts[name] = {
          without: classMask.filter((c) => c === 255).length,
          sure: classMask.some((c, i) => c === 255 && confidenceMask[i] > 0),
          pixels: stats.reduce((sum, s) => sum + s.pixels, 0),
          share: stats.reduce((sum, s) => sum + s.share, 0),
        };
      }
      const { features } = await masks.toGeoJSON();
      const [, middle] = [0, (south + north) / 2];
      const clear = masks.tiles().find(({ tile }) => tile.x === X + 1 && tile.y === X).tile;
      const left = tileBounds(clear);
      const inClear = features
        .filter(({ properties }) => properties.tile === `${Z}/${clear.x}/${clear.y}`)
        .flatMap(({ geometry }) => geometry.coordinates.flat())
        .filter(([x]) => x < left[0] + (left[2] - left[0]) / 4 - 1e-9).length;
      const below = features
        .flatMap(({ geometry }) => geometry.coordinates.flat())
        .filter(([, y]) => y < bounds[1] - 1e-5).length;
      return {
        parts,
        middle,
        inClear,
        below,
        data: await at(100, 100),
        cleared: await at(300, 100),
        gone: await at(400, 400),
        outside: await at(100, 500),
        drawn: await pixel(map, 300, 100),
      };
    });
    const { parts } = found;
    assert.equal(parts["0,0"].without, 0);
    assert.equal(parts["1,0"].without, 64 * 256);
    assert.ok(Math.abs(parts["0,1"].without - 128 * 256) <= 256, `${parts["0,1"].without}`);
    for (const part of Object.values(parts)) {
      assert.equal(part.pixels + part.without, 256 * 256);
      assert.ok(!part.sure && Math.abs(part.share - 1) < 1e-9);
    }
    assert.equal(typeof found.data, "string");
    assert.deepEqual([found.cleared, found.gone, found.outside], [undefined, undefined, undefined]);
    assert.deepEqual([found.inClear, found.below], [0, 0], "polygons where there is no data");
    assert.equal(found.drawn, "0 0 0 0");
  });

  await t.test("a globe has masks before it is moved", async () => {
    const found = await run(async () => {
      const map = new maplibregl.Map({
        container: "a",
        style: { version: 8, projection: { type: "globe" }, sources: {}, layers: [] },
        center: [0.003, -0.003],
        zoom: Z - 1,
        attributionControl: false,
        fadeDuration: 0,
      });
      await map.once("style.load");
      const masks = samlora(maplibregl, map, model, { source: source() });
      await until(() => masks.stats().inView > 0 && masks.stats().finished === masks.stats().inView);
      return masks.stats().finished;
    });
    assert.ok(found > 0);
  });

  await t.test("takes the tiles of a raster source of the map, as the map asks for them", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      const asked = [];
      map.setTransformRequest((url) => {
        asked.push(url);
        return { url: `${url}&token=secret`, headers: { "x-key": "secret" } };
      });
      map.addSource("photos", {
        type: "raster",
        tiles: [`${location.origin}/keyed/scene.png?{z}/{x}/{y}`],
        tileSize: 512,
        minzoom: 15,
        maxzoom: 15,
      });
      const errors = [];
      const onError = (error) => errors.push([error.code, error.message, error.remedy]);
      const masks = samlora(maplibregl, map, model, { source: "photos", onError });
      await until(() => masks.stats().finished > 0 || errors.length);
      const lost = [];
      samlora(maplibregl, map, model, { source: "nothing", onError: (error) => lost.push([error.code, error.remedy]) });
      maplibregl.addProtocol("own", async () => ({ data: new ArrayBuffer(0) }));
      map.addSource("own", { type: "raster", tiles: ["own://{z}/{x}/{y}"], tileSize: 256 });
      map.setTransformRequest(null);
      const own = [];
      samlora(maplibregl, map, model, { source: "own", onError: (error) => own.push(error.code) });
      for (let i = 0; i < 3; i++) map.fire("sourcedata", { dataType: "source", sourceId: "own" });
      map.addLayer({ id: "own", type: "raster", source: "own" });
      await until(() => map.loaded());
      return { asked, errors, lost, own, tile: masks.tiles()[0]?.tile, width: masks.tiles()[0]?.width };
    });
    assert.deepEqual(found.errors, []);
    assert.equal(found.tile.z, 15);
    assert.equal(found.width, 512);
    assert.ok(found.asked.some((url) => /keyed\/scene\.png\?15\//.test(url)));
    assert.equal(found.lost[0][0], "not_found");
    assert.match(found.lost[0][1], /TileSource/);
    assert.deepEqual(found.own, ["unsupported"], "an error is told more than once");
  });

  await t.test("what a page gives is checked, and a map that is gone is no error", async () => {
    const found = await run(async () => {
      const map = await globalThis.map();
      const fails = (work) => {
        try {
          work();
        } catch ({ name, code, message, remedy }) {
          return { name, code, message, remedy };
        }
        return undefined;
      };
      const good = { source: source() };
      const errors = [
        () => samlora({}, map, model, good),
        () => samlora(maplibregl, null, model, good),
        () => samlora(maplibregl, { getStyle() {} }, model, good),
        () => samlora(maplibregl, map, model, {}),
        () => samlora(maplibregl, map, model, { source: 7 }),
        () => samlora(maplibregl, map, model, { ...good, opacity: 2 }),
        () => samlora(maplibregl, map, model, { ...good, halo: -1 }),
        () => samlora(maplibregl, map, model, { ...good, opaqueness: 1 }),
      ].map(fails);
      const masks = samlora(maplibregl, map, model, good);
      errors.push(fails(() => masks.setStyle({ opacity: Number.NaN })));
      map.remove();
      const after = fails(() => masks.setStyle({ opacity: 0.3 }));
      masks.remove();
      return { errors, after };
    });
    for (const error of found.errors) {
      assert.equal(error?.name, "SamloraError", JSON.stringify(error));
      assert.ok(["invalid", "unsupported"].includes(error.code) && error.remedy, JSON.stringify(error));
    }
    assert.match(found.errors[2].message, /too old/);
    assert.match(found.errors[7].message, /no option "opaqueness"/);
    assert.equal(found.after, undefined);
  });
});
