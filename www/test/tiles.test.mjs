// Tiles and their queue without a map: addresses, downloads that fail, and what is shared and kept.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { blank, browser, drawScene, exportTiny, LIMIT, scratch, serve } from "./support.mjs";
import { readFileSync } from "node:fs";
import { join } from "node:path";

test("tiles", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const picture = readFileSync(drawScene(join(folder, "tile.png"), 64, 64));
  const url = await serve(t, [exportTiny(folder)]);
  const chrome = await browser(t);
  const page = await blank(chrome, url);
  await page.context().grantPermissions(["local-network-access"]); // The other origin is on this machine.
  await page.evaluate(async () => {
    globalThis.maps = await import("/lib/maplibre.js");
    globalThis.fails = async (work) => {
      try {
        await work();
      } catch ({ name, code, message, remedy }) {
        return { name, code, message, remedy };
      }
      throw new Error("nothing was thrown");
    };
  });

  await t.test("addresses", async () => {
    const { urls, wrong, has } = await page.evaluate(async () => {
      const { TileSource } = maps;
      const tile = { z: 5, x: 20, y: 11 };
      const of = (tiles) => new TileSource(tiles).urlOf(tile);
      const bounded = new TileSource({ tiles: "/{z}/{x}/{y}", minzoom: 3, maxzoom: 6, bounds: [0, 0, 90, 66] });
      return {
        urls: ["/{z}/{x}/{y}.png", "/{z}/{x}/{-y}.png", "/{quadkey}.jpg", "https://{s}.example.org/{z}/{x}/{y}"].map(
          of,
        ),
        wrong: await fails(() => new TileSource("https://example.org/tiles.json")),
        has: [
          [5, 20, 11],
          [5, 15, 11],
          [5, 20, 16],
          [2, 2, 1],
          [7, 80, 44],
          [3, 4, 3],
        ].map(([z, x, y]) => bounded.has({ z, x, y })),
      };
    });
    assert.deepEqual(urls, ["/5/20/11.png", "/5/20/20.png", "/12122.jpg", "https://b.example.org/5/20/11"]);
    assert.equal(wrong.code, "invalid");
    assert.match(wrong.remedy, /\{z\}, \{x\} and \{y\}/);
    assert.deepEqual(has, [true, false, false, false, false, true]);
  });

  // Another origin: how it answers is the path's first part.
  const asked = new Map();
  const other = createServer((request, response) => {
    const [, kind] = request.url.split("/");
    const times = (asked.get(request.url) ?? 0) + 1;
    asked.set(request.url, times);
    if (kind !== "closed") response.setHeader("access-control-allow-origin", "*");
    response.setHeader("access-control-allow-headers", "x-key");
    response.setHeader("content-type", "image/png");
    if (kind === "keyed" && request.method === "GET" && request.headers["x-key"] !== "secret")
      response.statusCode = 403;
    if (kind === "missing") response.statusCode = 404;
    if (kind === "broken" || (kind === "shaky" && times < 3)) response.statusCode = 503;
    response.end(kind === "text" ? "no picture" : picture);
  }).listen(0);
  await new Promise((resolve) => other.once("listening", resolve));
  t.after(() => other.close());
  const origin = `http://127.0.0.1:${other.address().port}`;

  await t.test("downloads, and what is said when they fail", async () => {
    const found = await page.evaluate(async (origin) => {
      const { TileSource } = maps;
      const read = (kind, headers) =>
        new TileSource({ tiles: `${origin}/${kind}/{z}/{x}/{y}`, headers }).read(
          { z: 1, x: 0, y: 0 },
          new AbortController().signal,
        );
      return {
        width: (await read("open")).width,
        keyed: (await read("keyed", { "x-key": "secret" })).width,
        refused: await fails(() => read("keyed")),
        closed: await fails(() => read("closed")),
        missing: (await read("missing")) === undefined,
        broken: await fails(() => read("broken")),
        text: await fails(() => read("text")),
        nobody: await fails(() =>
          new TileSource("http://127.0.0.1:9/{z}/{x}/{y}").read({ z: 1, x: 0, y: 0 }, new AbortController().signal),
        ),
        aborted: await fails(() => new TileSource("/{z}/{x}/{y}").read({ z: 1, x: 0, y: 0 }, AbortSignal.abort())),
      };
    }, origin);
    assert.equal(found.width, 64);
    assert.equal(found.keyed, 64);
    assert.deepEqual(
      [found.refused.code, found.broken.code, found.text.code, found.nobody.code],
      ["unsupported", "io", "format", "io"],
    );
    assert.match(found.broken.message, /503/);
    assert.equal(found.closed.code, "unsupported");
    assert.match(found.closed.message, /CORS/);
    assert.match(found.closed.remedy, /Access-Control-Allow-Origin/);
    assert.ok(found.missing);
    assert.equal(found.aborted.name, "AbortError");
  });

  await t.test("one queue: shared work, retries, priority, few results kept", async () => {
    const found = await page.evaluate(async (origin) => {
      const { TileMasks, TileSource } = maps;
      const model = await samlora.Segmenter.load("/models/tiny/", { device: "cpu", workers: 1 });
      let calls = 0;
      const counted = {
        info: model.info,
        logits: (...given) => (calls++, model.logits(...given)),
        refine: (...given) => model.refine(...given),
      };
      const never = new AbortController().signal;
      const tile = (x, y = 0) => ({ z: 3, x, y });

      const shaky = new TileMasks(counted, new TileSource(`${origin}/shaky/{z}/{x}/{y}`), { halo: 0 });
      const after = (await shaky.get(tile(0), never)).width;
      const broken = new TileMasks(counted, new TileSource(`${origin}/broken/{z}/{x}/{y}`), { retries: 1 });
      const failure = await fails(() => broken.get(tile(1), never));
      const failed = broken.counts().failed;

      calls = 0;
      const order = [];
      const masks = new TileMasks(counted, new TileSource(`${origin}/open/{z}/{x}/{y}`), {
        capacity: 3,
        halo: 0,
        priority: ({ x }) => -x,
      });
      const leave = new AbortController();
      const [first, left] = [masks.get(tile(2), never), fails(() => masks.get(tile(2), leave.signal))];
      leave.abort(); // One of two callers: the work goes on.
      await Promise.all([first, left, ...[1, 5, 3].map((x) => masks.get(tile(x), never).then(() => order.push(x)))]);
      const shared = calls;
      const gone = [1, 2, 3, 5].filter((x) => masks.peek(tile(x)) === undefined);
      const same = (await masks.get(tile(1), never)) === masks.peek(tile(1));
      const again = calls;

      const alone = new AbortController();
      const dropped = fails(() => masks.get(tile(6), alone.signal));
      alone.abort();
      const { name } = await dropped;
      const kept = masks.counts().windows;
      model.dispose();
      return { after, kept, failure, failed, shared, gone, same, again, order, name, counts: masks.counts() };
    }, origin);
    assert.equal(found.after, 64);
    assert.equal(asked.get("/shaky/3/0/0"), 3);
    assert.equal(found.failure.code, "io");
    assert.equal(found.failed, 1);
    assert.equal(asked.get("/broken/3/1/0"), 2);
    // Eight tiles of 64 px a side are three windows of 224.
    assert.equal(found.shared, 3, "a window was computed twice");
    // The two first of the queue are downloaded at once, and either may arrive first; the others wait.
    assert.deepEqual(found.order.slice(0, 2).sort(), [3, 5]);
    assert.equal(found.order[2], 1);
    assert.deepEqual(found.gone, found.order.slice(0, 1), "the first that was finished goes first");
    assert.ok(found.same);
    assert.equal(found.again, 3, "a window that is kept was computed again");
    assert.equal(found.kept, 3);
    assert.equal(found.name, "AbortError");
    assert.equal(found.counts.waiting + found.counts.running, 0);
  });
});
