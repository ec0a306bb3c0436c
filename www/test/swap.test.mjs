// Adapters on one base: what a page asks the server for when it swaps them, and how long that takes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { blank, browser, fixture, LIMIT, run, scratch, serve } from "./support.mjs";

/** A base package of the fixture's checkpoint and two adapters for it, with other classes each; the folder that holds them. */
export function exportAdapters() {
  const folder = scratch();
  const tiny = ["--base", fixture("tiny_sam.safetensors")];
  const base = join(folder, "base");
  run("export", ...tiny, "--scheme", "q8", "--out", base);
  for (const [name, adapter, classes] of [
    ["cover", "s256_k4_lora.safetensors", "building,road,water"],
    ["roofs", "s224_k2_lora.safetensors", "roof"],
  ]) {
    const what = ["--adapter", fixture(adapter), "--classes", classes, "--scheme", "f16"];
    run("export", ...tiny, "--base-package", base, ...what, "--out", join(folder, name));
  }
  return folder;
}

test("adapters are swapped on a loaded base", { timeout: LIMIT }, async (t) => {
  const folder = exportAdapters();
  const packages = ["base", "cover", "roofs"].map((name) => join(folder, name));

  for (const store of [true, false]) {
    await t.test(`no request for the base's bytes, ${store ? "with" : "without"} storage`, async (t) => {
      const url = await serve(t, packages);
      const chrome = await browser(t);
      const page = await blank(chrome, url);
      const requests = [];
      page.context().on("request", (request) => requests.push(new URL(request.url()).pathname));
      const found = await page.evaluate(
        async ([url, store]) => {
          const { Segmenter } = globalThis.samlora;
          const pixels = new Uint8ClampedArray(4 * 224 * 224).map((_, i) => (i % 4 === 3 ? 255 : (i * 31) % 251));
          const image = new ImageData(pixels, 224);
          const start = performance.now();
          const base = await Segmenter.load(`${url}/models/base/`, { device: "cpu", workers: 1, store });
          const first = await Segmenter.load(`${url}/models/cover/`, { base, store });
          const cover = await first.segment(image);
          const cold = performance.now() - start;
          await fetch("/swap-begins").catch(() => {});

          const before = performance.now();
          const second = await Segmenter.load(`${url}/models/roofs/`, { base, store });
          first.dispose();
          const ready = performance.now() - before;
          const roofs = await second.segment(image);
          const masked = performance.now() - before;

          // And back again: the first adapter is what it was.
          const third = await Segmenter.load(`${url}/models/cover/`, { base, store });
          const again = await third.segment(image);
          const names = ({ info }) => info.classes.map(({ name }) => name).join();
          return {
            classes: [names(first), names(second)],
            differ: roofs.classMask.some((c, i) => c !== cover.classMask[i]),
            same: again.classMask.every((c, i) => c === cover.classMask[i]),
            device: second.info.device,
            cold,
            ready,
            masked,
          };
        },
        [url, store],
      );
      assert.deepEqual(found.classes, ["background,building,road,water", "background,roof"]);
      assert.equal(found.device, "cpu");
      assert.ok(found.differ, "both adapters give one mask");
      assert.ok(found.same, "an adapter that came back gives another mask");
      const swap = requests.slice(requests.indexOf("/swap-begins") + 1);
      assert.ok(
        swap.some((path) => path.startsWith("/models/roofs/") && path.endsWith(".safetensors")),
        `the adapter was not asked for: ${swap}`,
      );
      assert.deepEqual(
        swap.filter((path) => !/^\/models\/(roofs|cover)\//.test(path)),
        [],
        "a swap asks for nothing but the adapter",
      );
      const ms = (time) => `${time.toFixed(0)} ms`;
      t.diagnostic(
        `base, adapter and first mask ${ms(found.cold)}; swap ${ms(found.ready)}, with its first mask ${ms(found.masked)}`,
      );
    });
  }

  await t.test("the page puts adapters of its list onto one base", async (t) => {
    const url = await serve(t, packages);
    const chrome = await browser(t);
    const page = await (await chrome.newContext({ serviceWorkers: "block" })).newPage();
    const shards = [];
    page.context().on("request", (request) => {
      const [, name] = /models\/([^/]+)\/.*\.safetensors$/.exec(request.url()) ?? [];
      if (name) shards.push(name);
    });
    await page.goto(`${url}/#picture`);
    const named = (name) => page.locator("#info", { hasText: name }).waitFor();
    await named("cover");
    // The base itself has no classes and is no entry of the list.
    assert.deepEqual(
      (await page.locator("#model option").allTextContents()).map((text) => text.split(" ")[0]),
      ["cover", "roofs"],
    );
    await page.locator("#model").selectOption({ index: 1 });
    await named("roofs");
    await page.locator("#model").selectOption({ index: 0 });
    await named("cover");
    assert.equal(await page.locator("#error:visible").count(), 0);
    assert.deepEqual(shards, ["base", "cover", "roofs"], "each was downloaded once");
  });
});
