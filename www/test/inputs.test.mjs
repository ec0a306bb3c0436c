// What a page hands in: pictures of every kind as the native program reads them, and errors for what is none.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { blank, browser, drawScene, drawUnusual, exportTiny, LIMIT, run, scratch, serve } from "./support.mjs";

// Pixels that are nearly a tie may fall either way.
const EQUAL_PIXELS = 0.999;
const NO_DATA = 255;
const SIZE = [192, 160];

test("inputs", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const model = exportTiny(folder);
  const out = join(folder, "native");
  /** The native program's classes of a picture. */
  const native = (file, name) => {
    run("segment", "--model", model, file, "--out", out, "--format", "raw", "--device", "cpu");
    return readFileSync(join(out, `${name}.classes.u8`));
  };
  const url = await serve(t, [model]);
  const chrome = await browser(t);
  const page = await blank(chrome, url);
  await page.evaluate(async () => {
    globalThis.model = await samlora.Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
    globalThis.blobOf = (base64) =>
      new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], { type: "image/png" });
    globalThis.fails = async (work) => {
      try {
        await work();
      } catch (error) {
        const { name, code, message, remedy } = error;
        return { ours: error instanceof samlora.SamloraError, name, code, message, remedy };
      }
      return undefined;
    };
  });
  const share = (found, wanted) => found.filter((c, i) => c === wanted[i]).length / wanted.length;

  await t.test("alpha 0 is no data, any other alpha changes nothing, as in the native program", async () => {
    const file = join(folder, "alpha.png");
    const alphas = drawUnusual(file, ...SIZE, {
      alphaOf: (x, y) => (x < 64 ? 0 : x < 128 ? 1 + ((x * 31 + y * 17) % 254) : 255),
    });
    const wanted = native(file, "alpha");
    const found = await page.evaluate(async (png) => {
      const image = new Image();
      image.src = `data:image/png;base64,${png}`;
      await image.decode();
      const [blob, element] = [await model.segment(blobOf(png)), await model.segment(image)];
      const blank = await model.segment(new ImageData(8, 8));
      return {
        blob: [...blob.classMask],
        element: [...element.classMask],
        confidence: [...blob.confidenceMask],
        stats: blob.stats(),
        polygons: (await blob.toGeoJSON()).features.map(({ properties }) => properties.pixels),
        opaque: (await blob.toImageData()).data.filter((v, i) => i % 4 === 3 && v > 0).length,
        blank: [[...new Set(blank.classMask)], blank.stats().map(({ share }) => share)],
      };
    }, readFileSync(file).toString("base64"));
    const { stats } = found;
    alphas.forEach((alpha, i) => {
      assert.equal(found.blob[i] === NO_DATA, alpha === 0, `pixel ${i}`);
      assert.equal(wanted[i] === NO_DATA, alpha === 0, `the native program's pixel ${i}`);
      if (alpha === 0) assert.equal(found.confidence[i], 0);
    });
    assert.ok(share(found.blob, wanted) >= EQUAL_PIXELS, `${share(found.blob, wanted)} of the pixels are equal`);
    assert.ok(share(found.element, wanted) >= EQUAL_PIXELS, "an <img> is read otherwise");
    const withData = alphas.filter((alpha) => alpha > 0).length;
    assert.equal(
      stats.reduce((sum, s) => sum + s.pixels, 0),
      withData,
    );
    assert.ok(Math.abs(stats.reduce((sum, s) => sum + s.share, 0) - 1) < 1e-9);
    const foreground = found.blob.filter((c) => c > 0 && c !== NO_DATA).length;
    assert.equal(
      found.polygons.reduce((sum, pixels) => sum + pixels, 0),
      foreground,
    );
    assert.equal(found.opaque, foreground);
    assert.deepEqual(found.blank, [[NO_DATA], [0, 0, 0, 0]]);
  });

  await t.test("a colour profile changes nothing, in a Blob and in an <img>", async () => {
    const gamma = Buffer.alloc(4);
    gamma.writeUInt32BE(100_000); // Linear light: shown much brighter than it is stored.
    const file = join(folder, "gamma.png");
    drawUnusual(file, ...SIZE, { chunks: [["gAMA", gamma]] });
    const wanted = native(file, "gamma");
    assert.deepEqual(wanted, native(drawScene(join(folder, "plain.png"), ...SIZE), "plain"));
    const found = await page.evaluate(async (png) => {
      const image = new Image();
      image.src = `data:image/png;base64,${png}`;
      await image.decode();
      return [[...(await model.segment(blobOf(png))).classMask], [...(await model.segment(image)).classMask]];
    }, readFileSync(file).toString("base64"));
    for (const mask of found) assert.ok(share(mask, wanted) >= EQUAL_PIXELS, `${share(mask, wanted)}`);
  });

  await t.test("a browser that changes what is read from a canvas is refused, not believed", async () => {
    const png = readFileSync(drawScene(join(folder, "plain.png"), ...SIZE)).toString("base64");
    const other = await blank(await chrome.newContext(), url);
    const found = await other.evaluate(async (png) => {
      const { prototype } = OffscreenCanvasRenderingContext2D;
      const { getImageData } = prototype;
      prototype.getImageData = function (...given) {
        const image = getImageData.apply(this, given);
        image.data[5] ^= 1; // One bit of one sample, as those do that wish not to be seen.
        return image;
      };
      const model = await samlora.Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
      const fails = (work) =>
        work().then(
          () => undefined,
          ({ code, message, remedy }) => ({ code, message, remedy }),
        );
      const blob = await (await fetch(`data:image/png;base64,${png}`)).blob();
      const bitmap = await createImageBitmap(blob);
      const pixels = new ImageData(new Uint8ClampedArray(4 * 64 * 64).fill(120), 64);
      const result = await model.segment(pixels);
      const errors = [await fails(() => model.segment(blob)), await fails(() => model.segment(bitmap))];
      errors.push(await fails(() => result.toBlob()));
      const maps = await import("/lib/maplibre.js");
      const masks = new maps.TileMasks(model, new maps.TileSource({ tiles: async () => blob }));
      errors.push(await fails(() => masks.get({ z: 1, x: 0, y: 0 }, new AbortController().signal)));
      const painted = (await result.toImageData()).width;
      prototype.getImageData = getImageData; // The user allows it.
      return { errors, painted, later: (await model.segment(blob)).width };
    }, png);
    for (const error of found.errors) {
      assert.equal(error?.code, "unsupported");
      assert.match(error.message, /fingerprinting/);
      assert.match(error.remedy, /resistFingerprinting.*ImageData/);
    }
    assert.deepEqual([found.painted, found.later], [64, SIZE[0]]);
    await other.close();
  });

  await t.test("what is no picture is refused by name, with what to do", async () => {
    const errors = await page.evaluate(async () => {
      const things = {
        undefined: undefined,
        null: null,
        'the text "tile.png"': "tile.png",
        "the number 7": 7,
        Object: {},
        Response: new Response("x"),
        Promise: Promise.resolve(new ImageData(2, 2)),
        ArrayBuffer: new ArrayBuffer(8),
        Uint8Array: new Uint8Array(8),
        HTMLVideoElement: document.createElement("video"),
        HTMLDivElement: document.createElement("div"),
        "no pixels": new Image(),
      };
      const float = (() => {
        try {
          return new ImageData(4, 4, { pixelFormat: "rgba-float16" });
        } catch {
          return undefined; // A browser without them.
        }
      })();
      if (float?.pixelFormat === "rgba-float16") things["rgba-float16"] = float;
      const errors = [];
      for (const [name, thing] of Object.entries(things)) errors.push([name, await fails(() => model.segment(thing))]);
      return errors;
    });
    assert.ok(errors.length > 10);
    for (const [name, error] of errors) {
      assert.ok(error?.ours, `${name}: ${JSON.stringify(error)}`);
      assert.equal(error.code, "invalid", `${name}: ${error.message}`);
      assert.ok(error.message.includes(name), `${name}: ${error.message}`);
      assert.ok(error.remedy, name);
    }
    assert.match(Object.fromEntries(errors).Response.remedy, /response\.blob\(\)/);
  });

  await t.test("options are checked by name and value", async () => {
    const errors = await page.evaluate(async () => {
      const image = new ImageData(new Uint8ClampedArray(4 * 16 * 16).fill(99), 16);
      const result = await model.segment(image, null);
      const { Segmenter } = samlora;
      const url = "/models/tiny/";
      const calls = {
        minPixels: () => model.segment(image, { minPixels: -1 }),
        "minPixels ": () => model.segment(image, { minPixels: 2.5 }),
        "minPixels  ": () => model.segment(image, { minPixels: NaN }),
        probabilities: () => model.segment(image, { probabilities: "yes" }),
        building: () => model.segment(image, { thresholds: { building: NaN } }),
        thresholds: () => model.segment(image, { thresholds: 0.5 }),
        signal: () => model.segment(image, { signal: {} }),
        treshold: () => model.segment(image, { treshold: 0.5 }),
        options: () => model.segment(image, 7),
        opacity: () => result.toImageData({ opacity: 7 }),
        "class 9": () => result.toImageData({ classes: [9] }),
        classes: () => result.toImageData({ classes: "building" }),
        tolerance: () => result.toGeoJSON({ tolerance: Infinity }),
        tile: () => result.toGeoJSON({ tile: { z: 1, x: -1, y: 0 } }),
        type: () => result.toBlob({ type: 1 }),
        "4 x 4 at 14, 0": () => result.refine({ part: { left: 14, top: 0, width: 4, height: 4 } }),
        device: () => Segmenter.load(url, { device: 7 }),
        precision: () => Segmenter.load(url, { precision: "f8" }),
        workers: () => Segmenter.load(url, { workers: 0 }),
        worker: () => Segmenter.load(url, { worker: "no" }),
        onProgress: () => Segmenter.load(url, { onProgress: 1 }),
        under: () => Segmenter.load(url, { under: url }),
        package: () => Segmenter.load(7),
      };
      const errors = [];
      for (const [name, call] of Object.entries(calls)) errors.push([name.trim(), await fails(call)]);
      return errors;
    });
    for (const [name, error] of errors) {
      assert.ok(error?.ours, `${name}: ${JSON.stringify(error)}`);
      assert.equal(error.code, "invalid", `${name}: ${error.message}`);
      assert.ok(`${error.message} ${error.remedy}`.includes(name), `${name}: ${error.message}`);
      assert.ok(error.remedy, name);
    }
  });

  await t.test("refine is what segment would have given", async () => {
    const png = readFileSync(drawScene(join(folder, "plain.png"), ...SIZE)).toString("base64");
    const found = await page.evaluate(async (png) => {
      const blob = blobOf(png);
      const thresholds = { building: 0.5, road: 0.6, water: 0.4 };
      const raw = await model.segment(blob, { thresholds: { building: 0, road: 0, water: 0 } });
      const wanted = await model.segment(blob, { thresholds, minPixels: 30 });
      const given = await raw.refine({ thresholds, minPixels: 30 });
      const part = await given.refine({ part: { left: 10, top: 20, width: 50, height: 40 } });
      const equal = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);
      return {
        classes: equal(given.classMask, wanted.classMask) && !equal(given.classMask, raw.classMask),
        confidence: equal(given.confidenceMask, wanted.confidenceMask),
        stats: JSON.stringify(given.stats()) === JSON.stringify(wanted.stats()),
        size: [part.width, part.height],
        part: part.classMask.every(
          (c, i) => c === given.classMask[(20 + Math.floor(i / 50)) * given.width + 10 + (i % 50)],
        ),
      };
    }, png);
    assert.deepEqual(found, { classes: true, confidence: true, stats: true, size: [50, 40], part: true });
  });
});
