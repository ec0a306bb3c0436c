// The page without network, after one visit.

import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { browser, drawScene, exportTiny, LIMIT, scratch, serve, until, www } from "./support.mjs";

const SEEN_LIMIT = 600;

test("the places that come with the page are whole, small and attributed", () => {
  const folder = join(www, "demo/places");
  const { tiles } = JSON.parse(readFileSync(join(folder, "index.json")));
  const files = readdirSync(folder, { recursive: true }).filter((file) => /\.(jpg|webp)$/.test(file));
  const bytes = files.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
  assert.ok(bytes <= 3e6, `${bytes} bytes`);
  const notice = readFileSync(join(folder, "README.md"), "utf8");
  assert.match(notice, /OpenAerialMap contributors[^]*CC BY 4\.0/);
  let listed = 0;
  for (const { url, minzoom, maxzoom, bounds, attribution } of tiles) {
    assert.match(attribution, /OpenAerialMap<\/a> contributors, <a [^>]*>CC BY 4\.0/);
    const [west, south, east, north] = bounds;
    for (let z = minzoom; z <= maxzoom; z++) {
      const column = (longitude) => ((longitude + 180) / 360) * 2 ** z;
      const row = (latitude) => (0.5 - Math.asinh(Math.tan((latitude * Math.PI) / 180)) / (2 * Math.PI)) * 2 ** z;
      const [left, right, top, bottom] = [column(west), column(east), row(north), row(south)];
      for (const edge of [left, right, top, bottom]) assert.ok(Math.abs(edge - Math.round(edge)) < 1e-6);
      for (let x = Math.round(left); x < Math.round(right); x++) {
        for (let y = Math.round(top); y < Math.round(bottom); y++, listed++) {
          const file = url.replace("{z}", z).replace("{x}", x).replace("{y}", y);
          assert.ok(existsSync(join(folder, file)), file);
        }
      }
    }
  }
  assert.equal(listed, files.length);
});

test("after one visit everything works without network", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  const copy = join(folder, "www");
  const dist = process.env.SAMLORA_DIST ?? join(www, "dist");
  cpSync(dist, copy, { recursive: true, filter: (path) => path !== join(dist, "samples") });
  drawScene(join(copy, "samples/scene.png"), 256, 256);
  writeFileSync(join(copy, "samples/index.json"), '["scene.png"]');
  let stop;
  const url = await serve({ after: (end) => (stop = end) }, [exportTiny(folder)], copy);
  t.after(() => stop());
  const context = await (await browser(t)).newContext({ viewport: { width: 1280, height: 900 } });
  const faults = [];
  const visit = async () => {
    const page = await context.newPage();
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(url);
    return page;
  };
  const isReady = async (page) => {
    await page.locator("#info", { hasText: "tiny" }).waitFor();
    await page.waitForFunction(
      () => /^(\d+) of \1 tiles in view/.test(document.querySelector("#map-status").textContent),
      undefined,
    );
  };
  const download = async (page, button) => {
    const [file] = await Promise.all([page.waitForEvent("download"), page.locator(button).click()]);
    return JSON.parse(readFileSync(await file.path()));
  };

  let page = await visit();
  await page.locator("#notice", { hasText: "now works without network" }).waitFor();
  await page.waitForFunction(() => navigator.serviceWorker.controller);
  await isReady(page);

  await t.test("the first view is a place of real imagery, filled by it, with its attribution", async () => {
    assert.equal(await page.locator("#tiles").inputValue(), "Philippines");
    assert.match(await page.locator(".maplibregl-ctrl-attrib").textContent(), /OpenAerialMap contributors, CC BY 4\.0/);
    const { view } = await page.evaluate(() => JSON.parse(localStorage.getItem("samlora.imagery")));
    const { width, height } = await page.locator("#map").boundingBox();
    const { bounds } = JSON.parse(readFileSync(join(copy, "places/index.json"))).tiles[0];
    const world = 512 * 2 ** view.zoom;
    assert.ok(((bounds[2] - bounds[0]) / 360) * world > width - 2);
    const upright = ((bounds[3] - bounds[1]) / 360 / Math.cos((view.center[1] * Math.PI) / 180)) * world;
    assert.ok(upright > height - 2, `${upright} of ${height} pixels`);
  });

  await t.test("what was seen is kept, but not without end, and no model twice", async () => {
    const kept = await page.evaluate(async (limit) => {
      const fetches = Array.from(
        { length: limit + 20 },
        (_, i) => () => fetch(`samples/scene.png?${i}`).then((r) => r.blob()),
      );
      for (let i = 0; i < fetches.length; i += 20) await Promise.all(fetches.slice(i, i + 20).map((start) => start()));
      const seen = await caches.open("samlora-seen");
      const newest = () => seen.match(`samples/scene.png?${limit + 19}`);
      // The service worker puts them away after it has answered.
      while (!((await seen.keys()).length === limit && (await newest()))) await new Promise((r) => setTimeout(r, 100));
      const pages = (await caches.keys()).filter((name) => name.startsWith("samlora-page-") || name === "samlora-seen");
      const urls = (
        await Promise.all(pages.map(async (name) => (await (await caches.open(name)).keys()).map((r) => r.url)))
      ).flat();
      return {
        count: (await seen.keys()).length,
        newest: (await newest()) !== undefined,
        weights: urls.filter((url) => /safetensors|samlora\.json/.test(url)),
      };
    }, SEEN_LIMIT);
    assert.equal(kept.count, SEEN_LIMIT);
    assert.ok(kept.newest);
    assert.deepEqual(kept.weights, []);
  });

  await t.test("a new version takes over when the old one is closed, and clears up after it", async () => {
    const versions = () =>
      page.evaluate(async () => (await caches.keys()).filter((name) => name.startsWith("samlora-page-")));
    const [old] = await versions();
    const script = join(copy, "sw.js");
    const version = old.slice("samlora-page-".length);
    writeFileSync(script, readFileSync(script, "utf8").replace(version, "0123456789abcdef"));
    await page.reload();
    await page.locator("#notice", { hasText: "newer version" }).waitFor();
    assert.deepEqual((await versions()).sort(), [old, "samlora-page-0123456789abcdef"].sort());
    // The browser may take a moment to let go of the closed page, and clears up after the new one is ready: a visit more.
    const left = await until(async () => {
      await page.close();
      page = await visit();
      await isReady(page);
      const found = await versions();
      return found.length === 1 && found;
    }, "the old version to go");
    assert.deepEqual(left, ["samlora-page-0123456789abcdef"]);
  });

  await t.test("reload, load the model, segment, export", async () => {
    await page.evaluate(() =>
      Promise.all(["models/index.json", "samples/index.json", "samples/scene.png"].map((file) => fetch(file))),
    );
    await page.close();
    stop();
    stop = () => {};
    await context.setOffline(true);
    page = await visit();
    await isReady(page);
    assert.match(await page.locator("#info").textContent(), /kept in this browser/);
    // The other place was never looked at.
    await page.locator("#tiles").selectOption("Kampala");
    await page.waitForFunction(() => JSON.parse(localStorage.getItem("samlora.imagery")).memory.offer === "Kampala");
    await isReady(page);
    const tiles = await download(page, "#map-export");
    assert.ok(tiles.features.length > 0 && tiles.features.every((f) => f.properties.tile));
    assert.ok(tiles.features.every((f) => Math.floor(f.geometry.coordinates[0][0][0]) === 32));

    await page.locator("#show-picture").click();
    await page.locator("#samples button").click();
    await page.locator("#details").waitFor();
    const picture = await download(page, "#export-geojson");
    assert.ok(picture.features.length > 0);
    assert.equal(await page.locator("#error").isVisible(), false);
    assert.deepEqual(faults, []);
  });
});
