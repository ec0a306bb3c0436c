// The library's own promises: inputs, outputs, progress, cancelling, disposal, and an error for everything that can go wrong.

import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { blank, browser, exportTiny, LIMIT, scratch, serve } from "./support.mjs";

/** Runs `work` in the page and gives the error that it throws, as plain data. */
function errorOf(page, work, argument) {
  return page.evaluate(
    async ([source, argument]) => {
      try {
        await new Function(`return (${source})`)()(argument);
      } catch (e) {
        return {
          isSamloraError: e instanceof globalThis.samlora.SamloraError,
          name: e.name,
          code: e.code,
          message: e.message,
          remedy: e.remedy,
        };
      }
      return null;
    },
    [work.toString(), argument],
  );
}

/** A server on another origin whose files have neither length nor end; its address. */
async function endless(t) {
  const block = Buffer.alloc(1 << 16, " ");
  const server = createServer((request, response) => {
    response.writeHead(200, { "content-type": "application/json", "access-control-allow-origin": "*" });
    const more = () => {
      while (!response.destroyed && response.write(block));
    };
    response.on("drain", more);
    more();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}/`;
}

const load = (model) => globalThis.samlora.Segmenter.load(model, { device: "cpu" });

test("the library", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const good = exportTiny(folder, { name: "good", scheme: "q8" });
  const shards = readdirSync(good).filter((file) => file.endsWith(".safetensors"));
  const broken = (name, change) => {
    const copy = join(folder, name);
    cpSync(good, copy, { recursive: true });
    change(copy);
    return copy;
  };
  const flip = (file) => {
    const bytes = readFileSync(file);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(file, bytes);
  };
  const models = [
    good,
    broken("corrupted", (copy) => flip(join(copy, shards[0]))),
    broken("truncated", (copy) => truncateSync(join(copy, shards[0]), 1000)),
    broken("gap", (copy) => rmSync(join(copy, shards[0]))),
  ];
  const url = await serve(t, models);
  const chrome = await browser(t);
  const page = await blank(chrome, url);
  const model = (name) => `${url}/models/${name}/`;
  const expectError = async (name, { work = load, argument, code, message, remedy = /./ }) => {
    await t.test(name, async () => {
      const error = await errorOf(page, work, argument);
      assert.ok(error, "nothing was thrown");
      assert.equal(error.code, code, `${error.code}: ${error.message}`);
      assert.ok(error.isSamloraError);
      assert.match(error.message, message);
      assert.match(error.remedy ?? "", remedy);
    });
  };

  await expectError("no package there", {
    argument: model("nowhere"),
    code: "not_found",
    message: /nowhere\/samlora\.json: the server answered 404/,
    remedy: /folder/,
  });
  await page.route("**/start-page/*", (route) =>
    route.fulfill({ contentType: "text/html; charset=utf-8", body: "<html>" }),
  );
  await expectError("a web page instead of the package", {
    argument: `${url}/start-page/`,
    code: "not_found",
    message: /web page instead of samlora\.json/,
    remedy: /folder/,
  });
  await page.route("**/not-json/*", (route) => route.fulfill({ contentType: "application/json", body: '{"format":' }));
  await expectError("a manifest that is no JSON", {
    argument: `${url}/not-json/`,
    code: "format",
    message: /not-json.*samlora\.json/,
  });
  await page.route("**/newer/*", (route) =>
    route.fulfill({ contentType: "application/json", body: '{"format":"samlora","version":999}' }),
  );
  await expectError("a newer format", {
    argument: `${url}/newer/`,
    code: "unsupported",
    message: /version 999/,
    remedy: /update/,
  });
  await page.route("**/long/*", (route) =>
    route.fulfill({ contentType: "application/json", body: Buffer.alloc(5 << 20, 32) }),
  );
  await expectError("a manifest that is announced as too long", {
    argument: `${url}/long/`,
    code: "integrity",
    message: /samlora\.json: has 5242880 bytes, expected at most 4194304/,
    remedy: /another package/,
  });
  await expectError("a manifest without end", {
    argument: await endless(t),
    code: "integrity",
    message: /samlora\.json: is longer than the 4194304 bytes/,
    remedy: /another package/,
  });
  await expectError("a corrupted shard", {
    argument: model("corrupted"),
    code: "integrity",
    message: /safetensors.*SHA-256/s,
    remedy: /download/,
  });
  await expectError("a truncated shard", {
    argument: model("truncated"),
    code: "integrity",
    message: /1000 bytes/,
    remedy: /download/,
  });
  await expectError("a missing shard", {
    argument: model("gap"),
    code: "not_found",
    message: /safetensors: the server answered 404/,
  });
  await expectError("a server that is gone", {
    argument: "http://127.0.0.1:9/model/",
    code: "io",
    message: /no answer/,
    remedy: /connection/,
  });
  await expectError("an address that is none", { argument: "http://[", code: "invalid", message: /not an address/ });
  await expectError("a wrong device", {
    work: (m) => globalThis.samlora.Segmenter.load(m, { device: "abacus" }),
    argument: model("good"),
    code: "invalid",
    message: /abacus/,
    remedy: /auto/,
  });
  await expectError("files without a manifest", {
    work: () => globalThis.samlora.Segmenter.load([new File(["x"], "notes.txt")], { device: "cpu" }),
    code: "not_found",
    message: /no samlora\.json among 1 file/,
    remedy: /folder/,
  });
  await expectError("a file that is too long is not even read", {
    work: () => {
      const file = new File([new Uint8Array((4 << 20) + 1)], "samlora.json");
      file.arrayBuffer = () => Promise.reject(new Error("it was read"));
      return globalThis.samlora.Segmenter.load([file], { device: "cpu", worker: false });
    },
    code: "integrity",
    message: /^samlora\.json has 4194305 bytes, expected at most 4194304$/,
    remedy: /another package/,
  });
  await expectError("a dropped shard that is longer than the manifest says", {
    work: async ([model, names]) => {
      const file = async (name) => {
        const bytes = await (await fetch(model + name)).blob();
        return new File(name.endsWith(".safetensors") ? [bytes, "x"] : [bytes], name);
      };
      return globalThis.samlora.Segmenter.load(await Promise.all(names.map(file)), { device: "cpu" });
    },
    argument: [model("good"), readdirSync(good)],
    code: "integrity",
    message: /safetensors has \d+ bytes, expected at most \d+/,
    remedy: /another package/,
  });

  await page.evaluate(async (m) => {
    globalThis.seg = await globalThis.samlora.Segmenter.load(m, { device: "cpu" });
  }, model("good"));
  await expectError("not an image", {
    work: () => globalThis.seg.segment(new File(["hello"], "notes.png", { type: "image/png" })),
    code: "format",
    message: /notes\.png is not a picture/,
    remedy: /PNG/,
  });
  await expectError("an empty file", {
    work: () => globalThis.seg.segment(new File([], "empty.png")),
    code: "format",
    message: /empty\.png is empty/,
  });
  await expectError("a picture that is too large, before it is decoded", {
    work: () => {
      const head = [
        0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52, 0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20,
      ];
      return globalThis.seg.segment(new File([new Uint8Array(head)], "huge.png"));
    },
    code: "limit",
    message: /20000 x 20000 pixels exceed/,
    remedy: /cut the picture/,
  });
  await expectError("a canvas without pixels", {
    work: () => globalThis.seg.segment(Object.assign(document.createElement("canvas"), { width: 0, height: 5 })),
    code: "invalid",
    message: /no pixels/,
  });
  await expectError("a wrong option", {
    work: async () => {
      const r = await globalThis.seg.segment(new ImageData(16, 16));
      await r.toGeoJSON({ tolerance: -1 });
    },
    code: "invalid",
    message: /simplification|tolerance/,
  });
  await expectError("a tile that does not exist", {
    work: async () => {
      const r = await globalThis.seg.segment(new ImageData(16, 16));
      await r.toGeoJSON({ tile: { z: 1, x: 7, y: 0 } });
    },
    code: "invalid",
    message: /1\/7\/0/,
  });

  await t.test("every kind of input gives the same mask", async () => {
    const equal = await page.evaluate(async () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 64 });
      const context = canvas.getContext("2d");
      for (let i = 0; i < 96; i += 8) {
        context.fillStyle = `rgb(${i * 2} ${200 - i} ${(i * 37) % 255})`;
        context.fillRect(i, 0, 8, 64);
      }
      const offscreen = new OffscreenCanvas(96, 64);
      offscreen.getContext("2d").drawImage(canvas, 0, 0);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve));
      const image = new Image();
      image.src = URL.createObjectURL(blob);
      await image.decode();
      const inputs = {
        canvas,
        offscreen,
        blob,
        image,
        imageData: context.getImageData(0, 0, 96, 64),
        bitmap: await createImageBitmap(canvas),
        frame: new VideoFrame(canvas, { timestamp: 0 }),
      };
      const masks = {};
      for (const [name, input] of Object.entries(inputs))
        masks[name] = (await globalThis.seg.segment(input)).classMask.join();
      return Object.entries(masks).map(([name, mask]) => [name, mask === masks.canvas, mask.length]);
    });
    for (const [name, same, length] of equal) assert.ok(same && length > 96 * 64, name);
  });

  await t.test("a result has masks, statistics, colours and polygons", async () => {
    const found = await page.evaluate(async () => {
      const sample = (_, i) => (i % 4 === 3 ? 255 : (i * 2654435761) >>> 24);
      const image = new ImageData(Uint8ClampedArray.from({ length: 80 * 48 * 4 }, sample), 80);
      const r = await globalThis.seg.segment(image, { probabilities: true });
      const painted = await r.toImageData({ opacity: 0.5 });
      const { features } = await r.toGeoJSON();
      const tile = await r.toGeoJSON({ tile: { z: 19, x: 386591, y: 216437 }, tolerance: 1 });
      return {
        size: [r.width, r.height],
        mask: [...r.classMask],
        confidence: r.confidenceMask.length,
        probabilities: r.probabilities.length,
        stats: r.stats(),
        alpha: [...painted.data].filter((_, i) => i % 4 === 3),
        features,
        tile,
        timings: r.timings,
        kept: image.data.length, // The caller's own pixels are not taken away.
      };
    });
    assert.deepEqual(found.size, [80, 48]);
    assert.equal(found.confidence, 80 * 48);
    assert.equal(found.probabilities, 4 * 80 * 48);
    assert.equal(found.kept, 80 * 48 * 4);
    const shares = found.stats.map((s) => s.share);
    assert.ok(Math.abs(shares.reduce((a, b) => a + b) - 1) < 1e-9);
    for (const s of found.stats) assert.equal(s.pixels, found.mask.filter((c) => c === s.index).length);
    found.mask.forEach((c, i) => assert.equal(found.alpha[i], c === 0 ? 0 : 128));
    const pixels = found.features.reduce((sum, f) => sum + f.properties.pixels, 0);
    assert.equal(pixels, found.mask.filter((c) => c !== 0).length);
    for (const f of found.tile.features) {
      for (const [lon, lat] of f.geometry.coordinates.flat())
        assert.ok(lon > 85.4 && lon < 85.5 && lat > 29 && lat < 30.5, `${lon} ${lat}`);
    }
    assert.ok(found.timings.total > 0 && found.timings.windows === 1);
  });

  await t.test("from a function, from files, and without a worker", async () => {
    const files = Object.fromEntries(
      readdirSync(good).map((file) => [file, readFileSync(join(good, file)).toString("base64")]),
    );
    const masks = await page.evaluate(
      async ([files, url]) => {
        const { Segmenter } = globalThis.samlora;
        const bytes = (name) => Uint8Array.from(atob(files[name]), (c) => c.charCodeAt(0));
        const fileList = Object.keys(files).map((name) => new File([bytes(name)], name));
        const image = new ImageData(
          Uint8ClampedArray.from({ length: 64 * 64 * 4 }, (_, i) => (i * 2654435761) >>> 24),
          64,
        );
        const masks = [];
        for (const [input, worker] of [
          [url, true],
          [async (name) => bytes(name), true],
          [fileList, true],
          [fileList, false],
          [url, false],
        ]) {
          const s = await Segmenter.load(input, { device: "cpu", worker });
          masks.push((await s.segment(image)).classMask.join());
          s.dispose();
        }
        return masks;
      },
      [files, model("good")],
    );
    assert.equal(masks.length, 5);
    assert.equal(new Set(masks).size, 1);
  });

  await t.test("progress counts bytes up to all of them", async () => {
    const { steps, info } = await page.evaluate(async (m) => {
      const steps = [];
      const s = await globalThis.samlora.Segmenter.load(m, { device: "cpu", onProgress: (p) => steps.push(p) });
      s.dispose();
      return { steps, info: s.info };
    }, model("good"));
    const last = steps.at(-1);
    assert.equal(last.loadedBytes, last.totalBytes);
    assert.equal(info.bytes, last.totalBytes);
    assert.deepEqual(
      info.classes.map((c) => c.name),
      ["background", "building", "road", "water"],
    );
  });

  await t.test("cancelling rejects with the signal's reason", async () => {
    await page.route("**/slow/*", async () => {}); // Never answered.
    const early = await errorOf(
      page,
      (m) => globalThis.samlora.Segmenter.load(m, { signal: AbortSignal.abort() }),
      model("good"),
    );
    assert.equal(early.name, "AbortError");
    const late = await errorOf(
      page,
      (m) => {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), 200);
        return globalThis.samlora.Segmenter.load(m, { device: "cpu", signal: controller.signal });
      },
      `${url}/slow/`,
    );
    assert.equal(late.name, "AbortError");
    const segment = await errorOf(page, () =>
      globalThis.seg.segment(new ImageData(8, 8), { signal: AbortSignal.abort() }),
    );
    assert.equal(segment.name, "AbortError");
  });

  await t.test("disposal rejects what waits and what comes later", async () => {
    const waiting = await errorOf(
      page,
      async (m) => {
        const segmenter = await globalThis.samlora.Segmenter.load(m, { device: "cpu", workers: 1 });
        const first = segmenter.segment(new ImageData(8, 8));
        const second = segmenter.segment(new ImageData(new Uint8ClampedArray(4 * 300 * 300).fill(99), 300));
        second.catch(() => {});
        await first; // The second runs, or is about to.
        segmenter.dispose();
        await second;
      },
      model("good"),
    );
    await page.evaluate(() => globalThis.seg.dispose());
    assert.equal(waiting.code, "disposed");
    const later = await errorOf(page, () => globalThis.seg.segment(new ImageData(8, 8)));
    assert.equal(later.code, "disposed");
  });
});
