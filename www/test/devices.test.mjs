// Which device runs, and what happens when it fails: WebGPU that is absent, wrong, lost or handed in; workers side by side;
// aborts; adapters on one base; memory.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import {
  abortAfterLayer,
  blank,
  browser,
  drawScene,
  exportTiny,
  fixture,
  LAYERS,
  LIMIT,
  run,
  scratch,
  serve,
  until,
} from "./support.mjs";

/** In every page and worker: a hardware-like adapter, and a handle on the device that was given. */
const PRELUDE = `
  if (globalThis.GPUAdapter && !globalThis.gpuDevices) {
    globalThis.gpuDevices = [];
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      const device = await request.apply(this, args);
      globalThis.gpuDevices.push(device);
      return device;
    };
    const info = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, "info").get;
    Object.defineProperty(GPUAdapter.prototype, "info", {
      get() {
        const { vendor, description } = info.call(this);
        return { vendor, architecture: "test", description, isFallbackAdapter: false };
      },
    });
  }
`;

test("devices", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const model = exportTiny(folder, { name: "tiny", scheme: "q8" });
  const url = await serve(t, [model]);
  const chrome = await browser(t);
  const address = `${url}/models/tiny/`;

  async function newContext(changes = {}) {
    const context = await chrome.newContext();
    for (const [pattern, edit] of Object.entries({ "**/lib/worker.js": (script) => PRELUDE + script, ...changes })) {
      await context.route(pattern, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, body: edit(await response.text()) });
      });
    }
    await context.addInitScript(PRELUDE);
    t.after(() => context.close());
    return context;
  }

  const usual = await newContext();
  /** A page on which `changes` alter scripts, in a context of its own; others share what the browser remembers. */
  const open = async (changes) => prepare(changes ? await newContext(changes) : usual);

  async function prepare(context) {
    const page = await blank(context, url);
    await page.evaluate(() => {
      globalThis.events = [];
      globalThis.open = (url, options = {}) =>
        globalThis.samlora.Segmenter.load(url, { onEvent: (event) => events.push(event), ...options });
      globalThis.noise = (side, seed = 1) => {
        const data = new Uint8ClampedArray(4 * side * side).map((_, i) =>
          i % 4 === 3 ? 255 : (i * 7919 * seed + (i >> 5) * 31) % 256,
        );
        return new ImageData(data, side, side);
      };
    });
    t.after(() => page.close().catch(() => {}));
    return page;
  }
  const workerOf = (page) => page.workers()[0];

  await t.test("auto takes a GPU that passes its self-test, and remembers it", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const first = await open(url);
      first.dispose();
      const second = await open(url);
      const { device, adapter, workers, precision } = second.info;
      const masks = await second.segment(noise(64));
      const cpu = await open(url, { device: "cpu" });
      const same = (await cpu.segment(noise(64))).classMask.every((c, i) => c === masks.classMask[i]);
      second.dispose();
      cpu.dispose();
      return {
        device,
        workers,
        precision,
        architecture: adapter.architecture,
        same,
        events,
        times: [first.info.loadTime, second.info.loadTime],
      };
    }, address);
    assert.deepEqual([found.device, found.workers, found.precision, found.architecture], ["gpu", 1, "f32", "test"]);
    assert.ok(found.same);
    assert.deepEqual(found.events, []);
    console.log(`load with self-test ${found.times[0].toFixed(0)} ms, remembered ${found.times[1].toFixed(0)} ms`);
  });

  await t.test("a kernel that computes wrong numbers sends auto to the CPU, and gpu says so", async () => {
    // A driver whose exponential is wrong, as far as a softmax can tell.
    const wrong = `
      const { createShaderModule } = GPUDevice.prototype;
      GPUDevice.prototype.createShaderModule = function (descriptor) {
        return createShaderModule.call(this, { ...descriptor, code: descriptor.code.replaceAll(/\\bexp\\(/g, "cos(") });
      };
    `;
    const page = await open({ "**/lib/worker.js": (script) => PRELUDE + wrong + script });
    const found = await page.evaluate(async (url) => {
      const segmenter = await open(url);
      const error = await open(url, { device: "gpu" }).catch(({ code, message, remedy }) => ({
        code,
        message,
        remedy,
      }));
      return { device: segmenter.info.device, events, error };
    }, address);
    assert.equal(found.device, "cpu");
    assert.match(
      found.events[0].message,
      /wrong numbers \((window block|global block|neck|mask decoder): relative error/,
    );
    assert.equal(found.events[0].type, "fallback");
    assert.equal(found.error.code, "device");
    assert.match(found.error.message, /wrong numbers/);
    assert.match(found.error.remedy, /CPU/);
  });

  await t.test("no WebGPU, and an adapter that is null", async () => {
    for (const hide of [
      "delete (globalThis.Navigator ?? WorkerNavigator).prototype.gpu;",
      "if (globalThis.GPU) GPU.prototype.requestAdapter = async () => null;",
    ]) {
      const page = await open({ "**/lib/worker.js": (script) => `${hide};${script}` });
      await page.evaluate((hide) => void (0, eval)(hide), hide);
      const found = await page.evaluate(async (url) => {
        const segmenter = await open(url);
        const error = await open(url, { device: "gpu" }).catch(({ code, message }) => ({ code, message }));
        const here = await open(url, { worker: false });
        return {
          device: segmenter.info.device,
          here: here.info.device,
          error,
          events,
          text: String(await samlora.doctor()),
        };
      }, address);
      assert.deepEqual([found.device, found.here, found.events.length], ["cpu", "cpu", 0]);
      assert.equal(found.error.code, "device");
      assert.match(found.error.message, /offers no WebGPU adapter/);
      assert.match(found.text, /adapter\s+none/);
    }
  });

  await t.test("a device lost in the middle of a tile is replaced, and the tile finished", async () => {
    const page = await open();
    await page.evaluate(async (url) => {
      globalThis.segmenter = await open(url, { device: "gpu" });
      globalThis.expected = await segmenter.segment(noise(224));
    }, address);
    // At the first work that is handed to it for the next tile.
    await workerOf(page).evaluate(() => {
      const { submit } = GPUQueue.prototype;
      GPUQueue.prototype.submit = function (...given) {
        GPUQueue.prototype.submit = submit;
        globalThis.gpuDevices.at(-1).destroy();
        return submit.apply(this, given);
      };
    });
    await page.evaluate(() => void (globalThis.working = segmenter.segment(noise(224))));
    const found = await page.evaluate(async () => {
      const result = await working;
      return {
        same: result.classMask.every((c, i) => c === expected.classMask[i]),
        events,
        device: segmenter.info.device,
      };
    });
    assert.ok(found.same);
    assert.deepEqual(
      found.events.map(({ type }) => type),
      ["lost", "recovered"],
    );
    assert.match(found.events[0].message, /GPU was lost \(destroyed\)/);
    assert.equal(found.device, "gpu");

    // While idle: the next tile finds a new device.
    await workerOf(page).evaluate(() => globalThis.gpuDevices.at(-1).destroy());
    await page.waitForFunction(() => events.length === 3);
    const later = await page.evaluate(async () => {
      const result = await segmenter.segment(noise(224));
      return {
        same: result.classMask.every((c, i) => c === expected.classMask[i]),
        types: events.map(({ type }) => type),
      };
    });
    assert.ok(later.same);
    assert.deepEqual(later.types.slice(2), ["lost", "recovered"]);
  });

  await t.test("a device that is lost again sends the tile to the CPU", async () => {
    // The second device and all later ones are lost as soon as a tile runs on them.
    const losing = `
      const submit = GPUQueue.prototype.submit;
      GPUQueue.prototype.submit = function (...args) {
        if (globalThis.losing) globalThis.gpuDevices.at(-1).destroy();
        return submit.apply(this, args);
      };
      new BroadcastChannel("losing").onmessage = () => (globalThis.losing = true);
      fetch("/losing").then((answer) => (globalThis.losing = answer.status === 200));
    `;
    const page = await open({ "**/lib/worker.js": (script) => PRELUDE + losing + script });
    let now = false;
    await page
      .context()
      .route("**/losing", (route) => route.fulfill({ status: now ? 200 : 204, body: now ? "yes" : "" }));
    await page.evaluate(async (url) => {
      globalThis.segmenter = await open(url, { device: "gpu" });
      globalThis.expected = await segmenter.segment(noise(224));
    }, address);
    now = true;
    const found = await page.evaluate(async () => {
      new BroadcastChannel("losing").postMessage("now");
      const result = await segmenter.segment(noise(224));
      const again = await segmenter.segment(noise(224));
      const same = [result, again].every((r) => r.classMask.every((c, i) => c === expected.classMask[i]));
      return { same, events, device: segmenter.info.device };
    });
    assert.ok(found.same);
    assert.equal(found.device, "cpu");
    assert.deepEqual(
      found.events.map(({ type }) => type),
      ["lost", "recovered", "lost", "fallback", "recovered"],
    );
  });

  await t.test("a page's own device", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const requiredFeatures = ["timestamp-query"];
      const device = await (await navigator.gpu.requestAdapter()).requestDevice({ requiredFeatures });
      let buffers = 0;
      const { createBuffer } = device;
      device.createBuffer = (descriptor) => (buffers++, createBuffer.call(device, descriptor));
      const segmenter = await open(url, { device });
      const cpu = await open(url, { device: "cpu" });
      const [a, b] = [await segmenter.segment(noise(64)), await cpu.segment(noise(64))];
      const other = await (await navigator.gpu.requestAdapter()).requestDevice({ requiredFeatures });
      const second = await open(url, { device: other }).catch(({ code, message }) => ({ code, message }));
      // Lost: this thread goes on with the CPU.
      device.destroy();
      await device.lost;
      const c = await segmenter.segment(noise(64));
      const same = [a, c].every(({ classMask }) => classMask.every((v, i) => v === b.classMask[i]));
      return { buffers, same, second, device: segmenter.info.device, types: events.map(({ type }) => type) };
    }, address);
    assert.ok(found.buffers > 0, "the page's device was used");
    assert.ok(found.same);
    assert.equal(found.second.code, "device");
    assert.equal(found.device, "cpu");
    assert.deepEqual(found.types, ["lost", "fallback", "recovered"]);
  });

  await t.test("tiles run side by side on the CPU, and stay in order", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const one = await open(url, { device: "cpu", workers: 1 });
      const three = await open(url, { device: "cpu", workers: 3 });
      const tiles = [1, 2, 3, 4, 5, 6, 7].map((seed) => noise(192, seed));
      const alone = [];
      for (const tile of tiles) alone.push((await one.segment(tile)).classMask);
      const together = await Promise.all(tiles.map((tile) => three.segment(tile)));
      const same = together.every(({ classMask }, i) => classMask.every((c, j) => c === alone[i][j]));
      const limits = [one.info.workers, three.info.workers];
      return { same, limits };
    }, address);
    assert.deepEqual(found, { same: true, limits: [1, 3] });
    assert.equal(page.workers().length, 4);
  });

  await t.test("an abort stops an inference within a layer or two", async () => {
    const page = await open({ "**/lib/worker.js": (script) => PRELUDE + LAYERS + script });
    // The GPU of this test is a slow software one: a single window of it is enough.
    for (const [device, side] of [
      ["cpu", 672],
      ["gpu", 224],
    ]) {
      const { same, whole, layers } = await page.evaluate(
        async ([url, device, side, abort]) => {
          const segmenter = await open(url, { device, workers: 1 });
          const found = await new Function(`return (${abort})`)()(segmenter, noise(side), new Error("left the view"));
          segmenter.dispose();
          return found;
        },
        [address, device, side, abortAfterLayer.toString()],
      );
      console.log(`${device}: picture of ${whole} layers, stopped after ${layers}`);
      assert.ok(same);
      assert.ok(layers < Math.min(whole, 5), `${layers} of ${whole} layers were run`);
    }
  });

  await t.test("a tile that waits is dropped when it is aborted", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const segmenter = await open(url, { device: "cpu", workers: 1 });
      const controller = new AbortController();
      const first = segmenter.segment(noise(400));
      const second = segmenter.segment(noise(400), { signal: controller.signal }).catch((error) => error);
      controller.abort(new Error("left the view"));
      const reason = await second;
      return { message: reason.message, width: (await first).width };
    }, address);
    assert.deepEqual(found, { message: "left the view", width: 400 });
  });

  await t.test("adapters share their base", async () => {
    const [base, adapter] = [join(folder, "base"), join(folder, "adapter")];
    run("export", "--base", fixture("tiny_sam.safetensors"), "--scheme", "q8", "--out", base);
    run(
      "export",
      "--base",
      fixture("tiny_sam.safetensors"),
      "--base-package",
      base,
      "--adapter",
      fixture("s256_k4_lora.safetensors"),
      "--classes",
      "building,road,water",
      "--scheme",
      "f16",
      "--out",
      adapter,
    );
    const url = await serve(t, [base, adapter, model]);
    const page = await blank(chrome, url);
    const requests = [];
    page.context().on("request", (request) => requests.push(new URL(request.url()).pathname));
    const found = await page.evaluate(async (url) => {
      const { Segmenter } = globalThis.samlora;
      const image = new ImageData(
        new Uint8ClampedArray(4 * 64 * 64).map((_, i) => (i * 31) % 256),
        64,
        64,
      );
      const base = await Segmenter.load(`${url}/models/base/`, { device: "cpu", store: false });
      const refused = await base.segment(image).catch(({ code, remedy }) => ({ code, remedy }));
      const first = await Segmenter.load(`${url}/models/adapter/`, { base, store: false });
      const one = await first.segment(image);
      first.dispose();
      const second = await Segmenter.load(`${url}/models/adapter/`, { base, store: false });
      base.dispose();
      const two = await second.segment(image);
      const third = await Segmenter.load(`${url}/models/adapter/`, {
        base: `${url}/models/base/`,
        device: "cpu",
        store: false,
      });
      const three = await third.segment(image);
      const alone = await Segmenter.load(`${url}/models/adapter/`, { device: "cpu" }).catch(({ code, remedy }) => ({
        code,
        remedy,
      }));
      const equal = (a, b) => a.classMask.every((c, i) => c === b.classMask[i]);
      return {
        refused,
        alone,
        kinds: [base.info.kind, first.info.kind],
        same: equal(one, two) && equal(one, three),
        classes: first.info.classes.map(({ name }) => name),
        found: [...new Set(one.classMask)].length,
      };
    }, url);
    assert.equal(found.refused.code, "invalid");
    assert.match(found.alone.remedy, /base/);
    assert.deepEqual(found.kinds, ["base", "adapter"]);
    assert.ok(found.same);
    assert.deepEqual(found.classes, ["background", "building", "road", "water"]);
    const shards = requests.filter((path) => path.startsWith("/models/base/") && path.endsWith(".safetensors"));
    assert.equal(new Set(shards).size * 2, shards.length, "the base was downloaded once a host");
    await page.close();
  });

  await t.test("thresholds, small regions, chosen classes and pictures", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const segmenter = await open(url, { device: "cpu" });
      const tile = noise(192);
      const plain = await segmenter.segment(tile);
      const none = await segmenter.segment(tile, { thresholds: { building: 1, 2: 1, water: 1 } });
      const calm = await segmenter.segment(tile, { minPixels: 400 });
      const wrong = await segmenter
        .segment(tile, { thresholds: { tree: 0.5 } })
        .catch(({ code, remedy }) => ({ code, remedy }));
      const [kept] = [...new Set(plain.classMask)].filter((c) => c > 0);
      const colours = (await plain.toImageData({ classes: [kept] })).data;
      const painted = plain.classMask.every((c, i) => colours[4 * i + 3] > 0 === (c === kept));
      const names = (await plain.toGeoJSON({ classes: [kept] })).features.map(({ properties }) => properties.class);
      const blob = await plain.toBlob();
      const bitmap = await createImageBitmap(blob);
      const regions = async (r) => (await r.toGeoJSON()).features.length;
      return {
        foreground: plain.classMask.some((c) => c > 0),
        none: none.classMask.every((c) => c === 0),
        wrong,
        painted,
        names: [...new Set(names)].length,
        type: blob.type,
        size: [bitmap.width, bitmap.height],
        regions: [await regions(plain), await regions(calm)],
      };
    }, address);
    assert.ok(found.foreground && found.none && found.painted, JSON.stringify(found));
    assert.equal(found.wrong.code, "invalid");
    assert.match(found.wrong.remedy, /building, road, water/);
    assert.deepEqual([found.names, found.type, found.size], [1, "image/png", [192, 192]]);
    assert.ok(found.regions[1] <= found.regions[0], `${found.regions}`);
  });

  await t.test("two models on one page", async () => {
    const page = await open();
    const found = await page.evaluate(async (url) => {
      const [a, b] = await Promise.all([open(url, { device: "cpu" }), open(url, { device: "gpu" })]);
      const [x, y] = await Promise.all([a.segment(noise(96)), b.segment(noise(96))]);
      a.dispose();
      const z = await b.segment(noise(96));
      return [x, z].every(({ classMask }) => classMask.every((c, i) => c === y.classMask[i]));
    }, address);
    assert.ok(found);
  });

  await t.test("the doctor's report", async () => {
    const page = await open();
    const report = await page.evaluate(async (url) => {
      const segmenter = await open(url, { device: "cpu" });
      const report = await globalThis.samlora.doctor(segmenter);
      return { ...report, toString: undefined };
    }, address);
    console.log(report.text);
    assert.equal(report.plan, "gpu");
    assert.ok(report.passed && report.selfTest.length === 5);
    assert.ok(report.model.tile > 0 && report.model.device === "cpu");
    assert.match(report.text, /maxStorageBufferBindingSize\s+\d+/);
    assert.match(report.text, /window\s+\d+ ms/);
  });

  await t.test("200 loads and disposals leave memory flat", async () => {
    const page = await open();
    const session = await page.context().newCDPSession(page);
    const use = async () => {
      await session.send("HeapProfiler.collectGarbage");
      const { usedSize } = await session.send("Runtime.getHeapUsage");
      return usedSize;
    };
    const cycle = (count) =>
      page.evaluate(
        async ([url, count]) => {
          for (let i = 0; i < count; i++) {
            const segmenter = await open(url, { device: "cpu", store: true });
            if (i % 10 === 0) await segmenter.segment(noise(32));
            segmenter.dispose();
          }
        },
        [address, count],
      );
    await cycle(20);
    const before = await use();
    await cycle(180);
    const after = await use();
    console.log(`page heap after 20 loads ${(before / 1e6).toFixed(2)} MB, after 200 ${(after / 1e6).toFixed(2)} MB`);
    await until(() => page.workers().length === 0, "workers to end");
    assert.ok(after < before + 1e6, `${before} -> ${after}`);
  });

  await t.test("a picture of every type, in a page without isolation", async () => {
    const page = await open();
    const file = drawScene(join(folder, "scene.png"), 96, 96);
    await page.setContent('<input type="file">');
    await page.locator("input").setInputFiles(file);
    const found = await page.evaluate(async (url) => {
      const segmenter = await open(url);
      const result = await segmenter.segment(document.querySelector("input").files[0]);
      return { isolated: crossOriginIsolated, shared: typeof SharedArrayBuffer, width: result.width };
    }, address);
    assert.deepEqual(found, { isolated: false, shared: "undefined", width: 96 });
  });
});
