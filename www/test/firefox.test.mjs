// The package in Debian's Firefox: the CPU device, and WebGPU where this Firefox finds an adapter. Puppeteer drives it over
// WebDriver BiDi; Playwright's own Firefox is a patched one.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import puppeteer from "puppeteer-core";
import {
  abortAfterLayer,
  drawScene,
  drawUnusual,
  exportTiny,
  LAYERS,
  LIMIT,
  run,
  scratch,
  serve,
  www,
} from "./support.mjs";

// As between the other browsers and the native program: pixels that are nearly a tie.
const EQUAL_PIXELS = 0.999;

/** The Firefox to drive; empty if there is none. */
const executablePath =
  process.env.FIREFOX ??
  execFileSync("sh", ["-c", "command -v firefox-esr || command -v firefox || true"]).toString().trim();

/** Firefox with WebGPU switched on, which Linux still has behind a setting, and with other settings. */
async function firefox(t, settings = {}) {
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath,
    headless: true,
    protocolTimeout: 240_000, // The software GPU compiles its shaders for long.
    extraPrefsFirefox: { "dom.webgpu.enabled": true, "gfx.webgpu.ignore-blocklist": true, ...settings },
  });
  t.after(() => browser.close());
  return browser;
}

/** What `serve` gives as the page: the library as built, and an empty document. */
function site(folder) {
  const page = join(folder, "page");
  mkdirSync(page);
  cpSync(join(process.env.SAMLORA_DIST ?? join(www, "dist"), "lib"), join(page, "lib"), { recursive: true });
  const worker = join(page, "lib/worker.js");
  writeFileSync(worker, LAYERS + readFileSync(worker, "utf8"));
  writeFileSync(join(page, "blank.html"), "<!doctype html><meta charset=utf-8>");
  return page;
}

test("Firefox", { timeout: LIMIT }, async (t) => {
  if (!executablePath) {
    // A check that leaves tests out unseen is none.
    assert.ok(!process.env.CI, "with CI set, nothing may be left out: install Firefox");
    console.log("left out: the package in Firefox, there is none");
    return t.skip("no Firefox");
  }
  const folder = scratch();
  const model = exportTiny(folder, { name: "tiny", scheme: "q8" });
  const scene = drawScene(join(folder, "tile.png"), 192, 160);
  const out = join(folder, "native");
  run("segment", "--model", model, scene, "--out", out, "--format", "raw", "--device", "cpu");
  const classes = readFileSync(join(out, "tile.classes.u8"));
  assert.ok(new Set(classes).size > 1, "a mask of one class proves nothing");

  const url = await serve(t, [model], site(folder));
  const address = `${url}/models/tiny/`;
  const browser = await firefox(t);
  console.log(await browser.version());
  const page = await browser.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`browser: ${message.text()}`);
  });
  await page.goto(`${url}/blank.html`);
  await page.evaluate(async (png) => {
    globalThis.samlora = await import("/lib/index.js");
    globalThis.scene = new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))], { type: "image/png" });
  }, readFileSync(scene).toString("base64"));

  /** Segments the scene in the page; asserts that the mask is the native program's. */
  async function segmentScene(options, least = EQUAL_PIXELS) {
    const { info, mask, total, png, features } = await page.evaluate(
      async (address, options) => {
        const segmenter = await samlora.Segmenter.load(address, options);
        try {
          const result = await segmenter.segment(scene);
          const png = (await result.toBlob({ outline: true })).type;
          const { features } = await result.toGeoJSON({ tile: { z: 18, x: 1, y: 1 } });
          return {
            info: segmenter.info,
            mask: [...result.classMask],
            total: result.timings.total,
            png,
            features: features.length,
          };
        } finally {
          segmenter.dispose();
        }
      },
      address,
      options,
    );
    assert.equal(mask.length, classes.length);
    const equal = mask.filter((c, i) => c === classes[i]).length / classes.length;
    console.log(
      `${JSON.stringify(options)}: ${info.device}, ${info.precision}, ${(100 * equal).toFixed(3)} % equal pixels, ${total.toFixed(0)} ms`,
    );
    assert.ok(equal >= least, `${equal} of the pixels are equal`);
    assert.equal(png, "image/png");
    assert.ok(features > 0);
    return info;
  }

  await t.test("masks are the native program's, in a worker and on the page's thread", async () => {
    for (const device of ["auto", "cpu"]) {
      for (const worker of [true, false]) assert.equal((await segmentScene({ device, worker })).device, "cpu");
    }
  });

  await t.test("transparent pixels and colour profiles, as in the native program", async () => {
    const file = join(folder, "alpha.png");
    const gamma = Buffer.alloc(4);
    gamma.writeUInt32BE(100_000);
    const alphas = drawUnusual(file, 192, 160, {
      alphaOf: (x, y) => (x < 64 ? 0 : x < 128 ? 1 + ((x * 31 + y * 17) % 254) : 255),
      chunks: [["gAMA", gamma]],
    });
    run("segment", "--model", model, file, "--out", out, "--format", "raw", "--device", "cpu");
    const wanted = readFileSync(join(out, "alpha.classes.u8"));
    const masks = await page.evaluate(
      async (address, png) => {
        const segmenter = await samlora.Segmenter.load(address, { device: "cpu" });
        const image = new Image();
        image.src = `data:image/png;base64,${png}`;
        await image.decode();
        const blob = await (await fetch(image.src)).blob();
        const masks = [[...(await segmenter.segment(blob)).classMask], [...(await segmenter.segment(image)).classMask]];
        segmenter.dispose();
        return masks;
      },
      address,
      readFileSync(file).toString("base64"),
    );
    for (const mask of masks) {
      mask.forEach((c, i) => assert.equal(c === 255, alphas[i] === 0, `pixel ${i}`));
      const equal = mask.filter((c, i) => c === wanted[i]).length / wanted.length;
      assert.ok(equal >= EQUAL_PIXELS, `${equal} of the pixels are equal`);
    }
  });

  await t.test("protection against fingerprinting is refused, not believed", async (t) => {
    for (const settings of [
      { "privacy.resistFingerprinting": true },
      { "privacy.fingerprintingProtection": true, "privacy.fingerprintingProtection.overrides": "+AllTargets" },
    ]) {
      const other = await (await firefox(t, settings)).newPage();
      await other.goto(`${url}/blank.html`);
      const found = await other.evaluate(
        async (address, png) => {
          const { Segmenter } = await import("/lib/index.js");
          const segmenter = await Segmenter.load(address, { device: "cpu" });
          const blob = await (await fetch(`data:image/png;base64,${png}`)).blob();
          const error = await segmenter.segment(blob).catch(({ code, message, remedy }) => ({ code, message, remedy }));
          const pixels = new ImageData(new Uint8ClampedArray(4 * 64 * 64).fill(120), 64);
          return { error, width: (await segmenter.segment(pixels)).width };
        },
        address,
        readFileSync(scene).toString("base64"),
      );
      assert.equal(found.error.code, "unsupported", JSON.stringify(settings));
      assert.match(found.error.message, /fingerprinting/);
      assert.equal(found.width, 64, "an ImageData needs no canvas");
    }
  });

  await t.test("a stored package loads without a request", async () => {
    const found = await page.evaluate(async (address) => {
      const { Segmenter, storage } = samlora;
      await storage.evict(address);
      const open = async () => {
        performance.clearResourceTimings();
        const segmenter = await Segmenter.load(address, { device: "cpu", worker: false }); // This thread's requests are seen.
        segmenter.dispose();
        const shards = performance
          .getEntriesByType("resource")
          .filter(({ name }) => name.startsWith(address) && !name.endsWith(".json"));
        return { stored: segmenter.info.stored, shards: shards.length };
      };
      const [first, second, list] = [await open(), await open(), await storage.list()];
      return { first, second, list: list.map(({ url, complete }) => ({ url, complete })) };
    }, address);
    assert.ok(found.first.stored && found.first.shards > 0, JSON.stringify(found.first));
    assert.deepEqual(found.second, { stored: true, shards: 0 });
    assert.deepEqual(found.list, [{ url: address, complete: true }]);
  });

  await t.test("an abort within an inference rejects with its reason, and the worker goes on", async () => {
    const { same, whole, layers } = await page.evaluate(
      async (address, abort) => {
        const segmenter = await samlora.Segmenter.load(address, { device: "cpu", workers: 1 });
        const tile = new ImageData(new Uint8ClampedArray(4 * 640 * 640).fill(255), 640);
        const found = await new Function(`return (${abort})`)()(segmenter, tile, new Error("left the view"));
        segmenter.dispose();
        return found;
      },
      address,
      abortAfterLayer.toString(),
    );
    console.log(`picture of ${whole} layers, stopped after ${layers}`);
    assert.ok(same && whole > 20);
    assert.ok(layers < 5, `${layers} of ${whole} layers were run`);
  });

  await t.test("two workers compute side by side what one does", async () => {
    const found = await page.evaluate(async (address) => {
      const [one, two] = await Promise.all(
        [1, 2].map((workers) => samlora.Segmenter.load(address, { device: "cpu", workers })),
      );
      const noise = (seed) =>
        new ImageData(
          new Uint8ClampedArray(4 * 96 * 96).map((_, i) => (i % 4 === 3 ? 255 : (i * 7919 * seed) % 251)),
          96,
          96,
        );
      const tiles = [1, 2, 3, 4].map(noise);
      const alone = [];
      for (const tile of tiles) alone.push((await one.segment(tile)).classMask);
      const together = await Promise.all(tiles.map((tile) => two.segment(tile)));
      const same = together.every(({ classMask }, i) => classMask.every((c, j) => c === alone[i][j]));
      const limits = [one.info.workers, two.info.workers];
      one.dispose();
      two.dispose();
      return { same, limits };
    }, address);
    assert.deepEqual(found, { same: true, limits: [1, 2] });
  });

  let adapter;
  await t.test("doctor() reports", async () => {
    const report = await page.evaluate(async (address) => {
      const segmenter = await samlora.Segmenter.load(address, { device: "cpu" });
      const report = await samlora.doctor(segmenter);
      segmenter.dispose();
      return { ...report, toString: undefined };
    }, address);
    adapter = report.adapter;
    console.log(report.text);
    assert.match(report.userAgent, /Firefox/);
    assert.ok(report.secureContext && report.cores > 0 && report.model.tile > 0 && report.storage.quotaBytes > 0);
    assert.equal(report.passed, adapter !== undefined, report.reason);
  });

  await t.test("WebGPU", async () => {
    if (!adapter) return console.log("left out: WebGPU in Firefox, this one has no adapter");
    const full = await segmentScene({ device: "gpu", precision: "f32" });
    assert.deepEqual([full.device, full.precision], ["gpu", "f32"]);
    if (!adapter.shaderF16) return console.log("left out: 16 bits on WebGPU in Firefox, its adapter has none");
    // Unasked, since the adapter passes its self-test in 16 bits; classes that tie may fall either way.
    const half = await segmentScene({ device: "gpu" }, 0.99);
    assert.deepEqual([half.device, half.precision], ["gpu", "f16"]);
  });
});
