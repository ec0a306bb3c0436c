// The same package and tile give the same masks natively on the CPU, in Chromium on the CPU device, and in Chromium on
// WebGPU (software adapter).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { blank, browser, drawScene, exportTiny, LIMIT, run, scratch, serve } from "./support.mjs";

// Logits within 1e-3 of the largest: sums in another order make the difference, and tip pixels that are nearly a tie.
const EQUAL_PIXELS = 0.999;
const LOGIT_ERROR = 1e-3;

test("masks and logits are the same everywhere", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const models = [
    exportTiny(folder, { name: "tiny-f32", scheme: "f32" }),
    exportTiny(folder, { name: "tiny-q8", scheme: "q8" }),
  ];
  const tile = drawScene(join(folder, "tile.png"), 192, 160);
  const url = await serve(t, models);
  const chrome = await browser(t);

  for (const model of models) {
    const name = model.split("/").pop();
    const out = join(folder, `out-${name}`);
    run("segment", "--model", model, tile, "--out", out, "--format", "raw", "--device", "cpu");
    const classes = readFileSync(join(out, "tile.classes.u8"));
    const raw = readFileSync(join(out, "tile.logits.f32"));
    const logits = new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
    const scale = logits.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    assert.ok(new Set(classes).size > 1, "a mask of one class proves nothing");

    // The GPU path is the same for every scheme, and its first run takes the software adapter's compiler over a minute.
    for (const device of name === "tiny-q8" ? ["cpu", "gpu"] : ["cpu"]) {
      await t.test(`${name} on ${device}`, async () => {
        const page = await blank(chrome, url);
        const found = await page.evaluate(segmentTile, {
          model: `${url}/models/${name}/`,
          tile: readFileSync(tile).toString("base64"),
          device,
        });
        assert.equal(found.device, device);
        assert.equal(found.classMask.length, classes.length);
        assert.equal(found.logits.length, logits.length);
        const equal = found.classMask.filter((c, i) => c === classes[i]).length / classes.length;
        const error = found.logits.reduce((most, v, i) => Math.max(most, Math.abs(v - logits[i])), 0) / scale;
        const { encode, decode, total } = found.timings;
        console.log(
          `${name} on ${device}: ${(100 * equal).toFixed(3)} % equal pixels, logits' error ${error.toExponential(1)}, ` +
            `${total.toFixed(0)} ms (encode ${encode.toFixed(0)}, decode ${decode.toFixed(0)})`,
        );
        assert.ok(equal >= EQUAL_PIXELS, `${equal} of the pixels are equal`);
        assert.ok(error <= LOGIT_ERROR, `the logits differ by ${error}`);
        await page.close();
      });
    }
  }
});

/** Runs in the browser. */
async function segmentTile({ model, tile, device }) {
  const { Segmenter } = globalThis.samlora;
  const segmenter = await Segmenter.load(model, { device });
  const blob = new Blob([Uint8Array.from(atob(tile), (c) => c.charCodeAt(0))], { type: "image/png" });
  const result = await segmenter.segment(blob);
  const logits = await segmenter.logits(blob);
  segmenter.dispose();
  return {
    device: segmenter.info.device,
    classMask: [...result.classMask],
    logits: [...logits.values],
    timings: result.timings,
  };
}
