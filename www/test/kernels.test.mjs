// The GPU's kernels in a browser: each against plain loops on its worst cases and on random shapes, in 32 and 16 bits, cut for
// hardware and for software. The native tests run the same checks.

import assert from "node:assert/strict";
import { test } from "node:test";
import { blank, browser, LIMIT, serve } from "./support.mjs";

const ROUNDS = 1;

test("kernels", { timeout: LIMIT }, async (t) => {
  const url = await serve(t, []);
  const chrome = await browser(t);

  for (const device of ["gpu", "gpu-f16"]) {
    await t.test(`every kernel equals plain loops on ${device}`, async (inner) => {
      const context = await chrome.newContext();
      t.after(() => context.close());
      const page = await blank(context, url);
      const half = await page.evaluate(async () => (await navigator.gpu.requestAdapter()).features.has("shader-f16"));
      if (device === "gpu-f16" && !half)
        return inner.skip("left out: this Chromium's adapter has no 16 bits; tests/half.rs and Firefox have");
      const { checks, bindings } = await page.evaluate(
        async ([device, rounds]) => {
          // The largest part of a buffer that a kernel was given.
          let bindings = 0;
          const create = GPUDevice.prototype.createBindGroup;
          GPUDevice.prototype.createBindGroup = function (descriptor) {
            for (const { resource } of descriptor.entries)
              bindings = Math.max(bindings, resource.size ?? resource.buffer?.size ?? 0);
            return create.call(this, descriptor);
          };
          const runtime = await import("/lib/wasm/gpu/samlora.js");
          await runtime.default();
          runtime.tellSoftware(true);
          return { checks: await runtime.checkKernels(device, 7, rounds), bindings };
        },
        [device, ROUNDS],
      );
      assert.ok(bindings > 0, "no kernel was given a buffer");
      const kernels = new Set(checks.map(({ kernel }) => kernel));
      for (const kernel of [
        "product",
        "product q8",
        "product q4",
        "strided convolution",
        "depthwise convolution",
        "window attention",
        "biased attention",
        "attention",
        "layer norm",
        "classes",
      ]) {
        assert.ok(kernels.has(kernel), `${kernel} was not checked`);
      }
      const wrong = checks.filter(({ error, bound }) => !(error <= bound));
      assert.deepEqual(wrong, [], "kernels that compute something else");
      for (const kernel of kernels) {
        const of = checks.filter((check) => check.kernel === kernel);
        t.diagnostic(
          `${device}: ${kernel}, ${of.length} shapes, largest error ${Math.max(...of.map(({ error }) => error)).toExponential(1)}`,
        );
      }
    });
  }
});
