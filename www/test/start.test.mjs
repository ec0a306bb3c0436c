// Nothing waits for ever: a worker, a module or a manifest that does not come is an error; one that comes slowly is none.

import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { test } from "node:test";
import { blank, browser, exportTiny, LIMIT, scratch, serve, www } from "./support.mjs";

/** Longer than the silence that counts as a failure. */
const SECONDS = 14;

/** Loads the model and says what came of it. */
const load = (page, options) =>
  page.evaluate(async (options) => {
    const start = performance.now();
    try {
      const model = await samlora.Segmenter.load("/models/tiny/", { device: "cpu", store: false, ...options });
      const { width } = await model.segment(new ImageData(new Uint8ClampedArray(4 * 64).fill(90), 8));
      model.dispose();
      return { width, time: performance.now() - start };
    } catch (error) {
      const { code, message, remedy } = error;
      return { ours: error instanceof samlora.SamloraError, code, message, remedy, time: performance.now() - start };
    }
  }, options);

test("a start", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const model = exportTiny(folder);
  const url = await serve(t, [model]);
  const chrome = await browser(t);

  for (const [name, pattern, options, message] of [
    ["a worker's script that never comes", "**/lib/worker.js", {}, /worker has not started within 10 s/],
    ["a worker that never says anything", "**/lib/worker.js", {}, /worker has not started within 10 s/],
    ["a module that never comes", "**/samlora_bg.wasm", {}, /nothing came of .*samlora_bg\.wasm for 10 s/],
    ["a module that never comes, without a worker", "**/samlora_bg.wasm", { worker: false }, /nothing came of/],
    [
      "glue that never comes, without a worker",
      "**/wasm/*/samlora.js",
      { worker: false },
      /nothing came of its script/,
    ],
    ["a manifest that never comes", "**/models/tiny/samlora.json", {}, /samlora\.json: no answer/],
  ]) {
    await t.test(name, async () => {
      const context = await chrome.newContext();
      const page = await blank(context, url);
      const isMute = name.includes("says");
      const held = [];
      await context.route(pattern, (route) => {
        if (isMute) return route.fulfill({ contentType: "text/javascript", body: "onmessage = () => {};" });
        held.push(route);
      });
      const found = await load(page, options);
      assert.ok(found.ours, JSON.stringify(found));
      assert.equal(found.code, "io", found.message);
      assert.match(found.message, message);
      assert.ok(found.remedy);
      assert.ok(found.time > 9000, `${found.time} ms`);
      await context.unrouteAll({ behavior: "ignoreErrors" });
      for (const route of held) await route.continue().catch(() => {}); // What was given up is gone.
      assert.equal((await load(page, options)).width, 8, "a later load does not try again");
      await context.close();
    });
  }

  await t.test("a module that comes slowly is waited for", async () => {
    const site = join(folder, "site");
    cpSync(join(process.env.SAMLORA_DIST ?? join(www, "dist"), "lib"), join(site, "lib"), { recursive: true });
    cpSync(model, join(site, "models/tiny"), { recursive: true });
    const types = { ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };
    const server = createServer((request, response) => {
      const file = join(site, new URL(request.url, "http://localhost").pathname);
      if (!existsSync(file)) return response.writeHead(404).end();
      const bytes = readFileSync(file);
      response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream" });
      if (!file.endsWith(".wasm")) return response.end(bytes);
      let sent = 0;
      const more = () => {
        const piece = bytes.subarray(sent, sent + Math.ceil(bytes.length / SECONDS));
        sent += piece.length;
        if (sent === bytes.length) return response.end(piece);
        response.write(piece);
        setTimeout(more, 1000);
      };
      more();
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const page = await blank(chrome, `http://127.0.0.1:${server.address().port}`);
    const found = await load(page);
    assert.equal(found.width, 8, found.message);
    assert.ok(found.time > (SECONDS - 1) * 1000);
  });
});
