// Windows that tiles share: each is computed once, and tiles together are what the native program makes of the whole image.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as esbuild from "esbuild";
import { openMaps } from "./maps.mjs";
import { LIMIT, run as native, www } from "./support.mjs";

/** A module of the package's insides, which no entry exports. */
async function inside(file) {
  const { outputFiles } = await esbuild.build({
    entryPoints: [join(www, "src", file)],
    bundle: true,
    format: "esm",
    write: false,
  });
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);
}

test("windows cover every pixel, with and without those that are not needed", async () => {
  const { Axis } = await inside("map/grid.ts");
  // Positions as `mosaic::Windows` has them.
  const at = (axis) => Array.from({ length: axis.count }, (_, i) => axis.at(i));
  assert.deepEqual(at(new Axis(1024, 448, 256)), [0, 192, 384, 576]);
  assert.deepEqual(at(new Axis(448, 448, 256)), [0]);
  assert.deepEqual(at(new Axis(300, 448, 256)), [-74]);
  for (const [size, tile] of [
    [256, 176],
    [448, 256],
    [384, 384],
    [1024, 64],
  ]) {
    for (const length of [1, size, size + 1, 2000, 64 * 999, 256 * 2 ** 22]) {
      const axis = new Axis(length, size, tile);
      for (const side of [64, 256, 512]) {
        for (const from of [0, 1, 3, 500, Math.floor(length / side / 2)].map((i) => i * side)) {
          const to = Math.min(from + side, length);
          if (from >= to) continue;
          const [first, last] = axis.touching(from, to);
          const touches = (i) => axis.at(i) < to && axis.at(i) + size > from;
          for (const i of [first - 1, last + 1]) assert.ok(i < 0 || i >= axis.count || !touches(i));
          for (const [a, b] of [axis.touching(from, to), axis.needed(from, to)]) {
            assert.ok(touches(a) && touches(b), `${length}, ${size}: window ${a} or ${b} has none of ${from}`);
            assert.ok(
              axis.at(a) <= from && axis.at(b) + size >= to,
              `${length}, ${size}, ${from}: a pixel without window`,
            );
          }
        }
      }
    }
  }
});

test("windows of tiles", { timeout: LIMIT }, async (t) => {
  const { folder, run } = await openMaps(t);
  const out = join(folder, "native");
  native(
    "segment",
    "--model",
    join(folder, "tiny"),
    join(folder, "scene.png"),
    "--out",
    out,
    "--format",
    "png",
    "--device",
    "cpu",
  );
  const mask = readFileSync(join(out, "scene.mask.png")).toString("base64");

  await t.test("each is computed once, and the tiles are the native program's mask of the whole", async () => {
    const found = await run(async (mask) => {
      const whole = await createImageBitmap(await (await fetch(`data:image/png;base64,${mask}`)).blob(), {
        colorSpaceConversion: "none",
      });
      const context = new OffscreenCanvas(512, 512).getContext("2d");
      context.drawImage(whole, 0, 0);
      const wanted = context.getImageData(0, 0, 512, 512).data;
      const never = new AbortController().signal;
      const results = {};
      for (const side of [256, 128]) {
        const segmenter = counted();
        const across = 512 / side;
        let read = 0;
        const plain = source(side, across);
        const masks = new TileMasks(
          segmenter,
          new TileSource({
            tiles: (tile, signal) => (read++, plain.read(tile, signal)),
            minzoom: Z,
            maxzoom: Z,
            bounds: plain.bounds,
          }),
        );
        const places = Array.from({ length: across ** 2 }, (_, i) => [i % across, Math.floor(i / across)]);
        await Promise.all(places.map(([x, y]) => masks.get({ z: Z, x: X + x, y: X + y }, never)));
        let [equal, count] = [0, 0];
        const palette = new Map();
        for (const [x, y] of places) {
          const { classMask } = await masks.peek({ z: Z, x: X + x, y: X + y }).refine();
          for (let at = 0; at < side * side; at++) {
            const pixel = (y * side + Math.floor(at / side)) * 512 + x * side + (at % side);
            const colour = wanted.slice(4 * pixel, 4 * pixel + 3).join();
            if (!palette.has(colour)) palette.set(colour, classMask[at]);
            count++;
            if (palette.get(colour) === classMask[at]) equal++;
          }
        }
        results[side] = {
          equal: equal / count,
          calls: segmenter.calls.length,
          windows: masks.counts().windows,
          read,
          tiles: places.length,
          colours: palette.size,
        };
      }
      return results;
    }, mask);
    for (const { equal, calls, windows, read, tiles, colours } of Object.values(found)) {
      assert.equal(calls, 9, "a window was computed twice");
      assert.equal(windows, 9);
      assert.equal(read, tiles, "a tile was fetched twice");
      assert.ok(colours > 1, "the scene has one class");
      assert.ok(equal > 0.9995, `${equal} of the pixels are equal`);
    }
  });

  await t.test("a tile takes no more than it needs, and is blended anew when its neighbours come", async () => {
    const found = await run(async () => {
      const never = new AbortController().signal;
      const tile = { z: Z, x: X, y: X };
      const alone = new TileMasks(model, source(170, 3));
      const first = await alone.get(tile, never);
      const few = alone.counts().windows;
      await Promise.all(
        [
          [1, 0],
          [0, 1],
          [1, 1],
        ].map(([x, y]) => alone.get({ z: Z, x: X + x, y: X + y }, never)),
      );
      const renewed = alone.peek(tile);
      const together = new TileMasks(model, source(170, 3));
      await Promise.all(
        [
          [1, 1],
          [1, 0],
          [0, 1],
          [0, 0],
        ].map(([x, y]) => together.get({ z: Z, x: X + x, y: X + y }, never)),
      );
      const [a, b, c] = await Promise.all(
        [first, renewed, together.peek(tile)].map(
          async (mask) => (await mask.refine({ building: 0, road: 0, water: 0 })).confidenceMask,
        ),
      );
      return {
        few,
        windows: [first.timings.windows, renewed.timings.windows],
        all: alone.counts().windows,
        changed: a.filter((value, i) => value !== b[i]).length,
        order: b.filter((value, i) => value !== c[i]).length,
      };
    });
    assert.equal(found.few, 1, "windows begin at 0, 143 and 286: the second has but a rim of the first tile");
    assert.deepEqual(found.windows, [1, 4]);
    assert.equal(found.all, 4);
    assert.ok(found.changed > 0);
    assert.equal(found.order, 0, "masks depend on the order in which tiles were asked for");
  });

  await t.test("what nobody wants any more is taken out of the queue", async () => {
    const found = await run(async () => {
      const signals = [];
      const endless = {
        info: { ...model.info, workers: 16 },
        logits: (_, { signal }) =>
          new Promise((_, reject) => {
            signals.push(signal);
            signal.addEventListener("abort", () => reject(signal.reason));
          }),
        refine: (...given) => model.refine(...given),
      };
      const masks = new TileMasks(endless, source());
      const [one, two] = [new AbortController(), new AbortController()];
      const settled = Promise.allSettled([
        masks.get({ z: Z, x: X, y: X }, one.signal),
        masks.get({ z: Z, x: X + 1, y: X }, two.signal),
      ]);
      await until(() => signals.length === 6);
      one.abort();
      await until(() => signals.some(({ aborted }) => aborted));
      const afterOne = signals.filter(({ aborted }) => aborted).length;
      two.abort();
      const names = (await settled).map(({ reason }) => reason?.name);
      const afterTwo = signals.filter(({ aborted }) => aborted).length;
      // The engine's own queue: the second of two windows has not begun when it is given up.
      const stop = new AbortController();
      const image = new ImageData(new Uint8ClampedArray(4 * 96 * 96).fill(255), 96);
      const running = model.logits(image);
      const waiting = model.logits(image, { signal: stop.signal }).catch(({ name }) => name);
      stop.abort();
      return {
        afterOne,
        afterTwo,
        names,
        waiting: await waiting,
        classes: (await running).classes,
        left: masks.counts().waiting + masks.counts().running,
      };
    });
    assert.equal(found.afterOne, 2, "windows that the other tile needs were ended, or others were not");
    assert.equal(found.afterTwo, 6);
    assert.deepEqual(found.names, ["AbortError", "AbortError"]);
    assert.equal(found.waiting, "AbortError");
    assert.equal(found.classes, 4);
    assert.equal(found.left, 0);
  });

  await t.test("missing neighbours are borders of the image; those that fail are asked for again", async () => {
    const found = await run(async () => {
      const never = new AbortController().signal;
      const plain = source(256, 3);
      const fails = new Set(["1,0"]);
      const tiles = (gone) => async (tile, signal) => {
        const name = `${tile.x - X},${tile.y - X}`;
        if (gone.includes(name)) return null;
        if (fails.has(name)) throw new Error("no answer");
        return plain.read(tile, signal);
      };
      const of = (gone) =>
        new TileMasks(model, new TileSource({ tiles: tiles(gone), minzoom: Z, maxzoom: Z, bounds: plain.bounds }));
      const classes = async (mask) => (await mask.refine()).classMask;
      const tile = (x, y) => ({ z: Z, x: X + x, y: X + y });

      // One tile alone: its windows end where it does.
      const others = Array.from({ length: 9 }, (_, i) => `${i % 3},${Math.floor(i / 3)}`).filter(
        (name) => name !== "1,1",
      );
      const lonely = await of(others).get(tile(1, 1), never);
      const { classMask } = await lonely.refine();
      const gone = await of(others).get(tile(0, 1), never);

      const shaky = of([]);
      const before = await shaky.get(tile(0, 0), never);
      const { windows } = shaky.counts();
      const error = await shaky.get(tile(1, 0), never).catch(({ message }) => message);
      fails.clear();
      await shaky.get(tile(1, 0), never);
      const after = await classes(shaky.peek(tile(0, 0)));
      const healthy = of([]);
      await Promise.all([healthy.get(tile(0, 0), never), healthy.get(tile(1, 0), never)]);
      const right = await classes(healthy.peek(tile(0, 0)));
      return {
        without: classMask.filter((c) => c === 255).length,
        gone,
        windows,
        error,
        equal: [await classes(before), after].map(
          (mask) => mask.filter((c, i) => c === right[i]).length / right.length,
        ),
        left: shaky.counts().windows,
      };
    });
    assert.equal(found.without, 0, "a tile without neighbours has pixels without class");
    assert.equal(found.gone, undefined);
    assert.equal(found.error, "no answer");
    assert.ok(found.equal[0] < 1);
    assert.equal(found.equal[1], 1, "a tile keeps what was computed without its neighbour");
    assert.ok(found.left > found.windows);
  });

  await t.test("keeps no more than it is allowed to", async () => {
    const found = await run(async () => {
      const never = new AbortController().signal;
      const results = [];
      for (const windowBytes of [0, 64 << 20]) {
        const masks = new TileMasks(model, source(128, 4), { windowBytes, capacity: 1 });
        for (const x of [0, 1, 2, 3, 0]) await masks.get({ z: Z, x: X + x, y: X }, never);
        const { classMask } = await masks.peek({ z: Z, x: X, y: X }).refine();
        results.push({
          windows: masks.counts().windows,
          classMask: [...classMask],
          gone: masks.peek({ z: Z, x: X + 3, y: X }),
        });
      }
      return results;
    });
    const [none, all] = found;
    assert.equal(none.gone, undefined);
    assert.ok(all.windows < none.windows, `${all.windows} and ${none.windows} windows`);
    const equal = none.classMask.filter((value, i) => value === all.classMask[i]).length / none.classMask.length;
    assert.ok(equal > 0.95, `${equal}`);
  });

  await t.test("on a GPU the same", async () => {
    const found = await run(async () => {
      const { Segmenter } = await import("samlora");
      const gpu = await Segmenter.load("/models/tiny/", { device: "gpu", precision: "f32" });
      const never = new AbortController().signal;
      const classes = [];
      for (const on of [gpu, model]) {
        const masks = new TileMasks(on, source());
        const tiles = [0, 1, 2, 3].map((i) => ({ z: Z, x: X + (i % 2), y: X + (i >> 1) }));
        await Promise.all(tiles.map((tile) => masks.get(tile, never)));
        const refined = await Promise.all(tiles.map((tile) => masks.peek(tile).refine()));
        classes.push({ all: refined.flatMap(({ classMask }) => [...classMask]), ...masks.counts() });
      }
      const [a, b] = classes;
      gpu.dispose();
      return { equal: a.all.filter((c, i) => c === b.all[i]).length / a.all.length, windows: a.windows, time: a.time };
    });
    assert.ok(found.equal > 0.999, `${found.equal}`);
    assert.equal(found.windows, 9);
    assert.ok(found.time > 0);
  });
});
