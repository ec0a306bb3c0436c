// The page with its view of a map, as a user meets it; screenshots go to test/screenshots (or SAMLORA_SCREENSHOTS) to be looked at.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { browser, drawScene, fixture, LIMIT, png, run, scratch, serve, until, www } from "./support.mjs";

// Without the service worker, through which requests would not be seen here; offline.test.mjs is about it.
const DESKTOP = { viewport: { width: 1280, height: 900 }, serviceWorkers: "block" };
const PHONE = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
  serviceWorkers: "block",
};
const AXE = readFileSync(join(www, "node_modules/axe-core/axe.min.js"), "utf8");

// 4 x 4 tiles of zoom 17 around the map's origin, 2 x 2 of zoom 16: there a pixel is 2.39 m.
const EDGE = (360 / 2 ** 16) * 1.0001;
const TILES = {
  name: "drawn",
  url: "/tiles/drawn/{z}/{x}/{y}.png",
  minzoom: 14,
  maxzoom: 17,
  bounds: [-EDGE, -EDGE, EDGE, EDGE].map((v) => v * 0.999),
  attribution: "Drawn <b>here</b>",
};

/** Nothing but the map itself. */
const UNCOVERED = "#map-classes, #resolution, .maplibregl-control-container { visibility: hidden }";

test("the page's map", { timeout: LIMIT }, async (t) => {
  const screenshots = process.env.SAMLORA_SCREENSHOTS ?? join(www, "test/screenshots");
  mkdirSync(screenshots, { recursive: true });
  const folder = scratch();
  const model = join(folder, "tiny");
  run(
    "export",
    "--base",
    fixture("tiny_sam.safetensors"),
    "--adapter",
    fixture("s256_k4_lora.safetensors"),
    "--classes",
    "building,road,water",
    "--ground-resolution",
    "2.4",
    "--out",
    model,
  );
  const tile = drawScene(join(folder, "tile.png"), 256, 256);
  const picture = drawScene(join(folder, "scene.png"), 300, 200);
  const url = await serve(t, [model]);
  const chrome = await browser(t);

  /** A page with its model loaded, and the tiles that the server offers. */
  async function open(settings, { tiles = [TILES], places = false } = {}) {
    const context = await chrome.newContext(settings);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const page = await context.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url()))
        faults.push(`outside request: ${request.url()}`);
    });
    await page.route("**/tiles/index.json", (route) => route.fulfill({ json: { tiles } }));
    await page.route("**/samples/index.json", (route) => route.fulfill({ json: [] }));
    if (!places) await page.route("**/places/index.json", (route) => route.fulfill({ json: { tiles: [] } }));
    await page.route("**/tiles/drawn/**", png(readFileSync(tile)));
    await page.goto(url);
    await page.locator("#info").waitFor();
    return { page, faults, close: () => context.close() };
  }

  const finished = (page, count = "(\\d+)") =>
    page.waitForFunction((count) => {
      const found = new RegExp(`^${count} of (\\d+) tiles in view`).exec(
        document.querySelector("#map-status").textContent,
      );
      return found && new RegExp(`^${found.at(-1)} of`).test(found[0]);
    }, count);

  const shot = async (page) => (await page.locator("#map canvas").screenshot({ style: UNCOVERED })).toString("base64");

  /** Waits until more than a twentieth of the map's pixels differ from what they were before `work`. */
  async function changes(page, work) {
    const before = await shot(page);
    await work();
    const part = async () => {
      const pictures = [before, await shot(page)];
      return page.evaluate(async (pictures) => {
        const [a, b] = await Promise.all(
          pictures.map(async (png) => {
            const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
            const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
            context.drawImage(bitmap, 0, 0);
            return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
          }),
        );
        return a.filter((value, i) => Math.abs(value - b[i]) > 12).length / a.length;
      }, pictures);
    };
    await until(async () => (await part()) > 0.05, `${work} to change the map`);
  }

  /** Presses a key on the map and waits until the map has come to rest elsewhere. */
  async function press(page, key) {
    const view = () => page.evaluate(() => JSON.stringify(JSON.parse(localStorage.getItem("samlora.imagery"))?.view));
    const before = await view();
    await page.keyboard.press(key);
    await until(async () => (await view()) !== before, `the map to move by ${key}`);
  }

  await t.test("draws masks over the server's tiles, tells what is where, and exports", async () => {
    const { page, faults, close } = await open(DESKTOP);
    await finished(page);
    assert.match(await page.locator("#map-status").textContent(), /a tile · CPU/);
    assert.match(await page.locator(".maplibregl-ctrl-attrib").textContent(), /Drawn here/);
    const legend = page.locator("#map-legend li");
    assert.deepEqual(await legend.locator(".grow").allTextContents(), ["background", "building", "road", "water"]);
    await page.waitForFunction(() => document.querySelector("#map-legend .share").textContent !== "");
    const shares = (await legend.locator(".share").allTextContents()).map(parseFloat);
    assert.ok(Math.abs(shares.reduce((sum, share) => sum + share) - 100) < 0.5, `${shares}`);

    // Mouse and keyboard tell the same of the same place; nearer to it, so that a pixel of the mask has many of the screen.
    await page.locator("#map canvas").focus();
    for (const key of ["+", "+", "+", "ArrowLeft", "ArrowUp"]) {
      await press(page, key);
    }
    await finished(page);
    const box = await page.locator("#map").boundingBox();
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    const probe = page.locator("#map-probe");
    assert.match(
      await probe.textContent(),
      /(background|building|road|water), confidence .* %, at .*°, tile 17\/\d+\/\d+/,
    );
    const clicked = await probe.textContent();
    assert.equal(await page.locator(".maplibregl-popup-content strong").textContent(), clicked.split(",")[0]);
    await page.keyboard.press("Enter");
    assert.equal((await probe.textContent()).split(", at")[0], clicked.split(", at")[0]);
    await page.locator(".maplibregl-popup-close-button").click();

    // Restyling changes the picture, not the number of tiles that were computed.
    const boxes = await legend.locator("input[type=checkbox]:enabled").all();
    const check = (how) => async () => {
      for (const box of boxes) await box[how]();
    };
    await changes(page, check("uncheck"));
    await changes(page, check("check"));
    await changes(page, () => page.locator("#map-opacity").fill("100"));
    const sliders = await legend.locator("input[type=range]").all();
    for (const slider of sliders) await slider.fill("95");
    assert.equal(await legend.locator("output").first().textContent(), "95 %");
    await page.waitForFunction(() => parseFloat(document.querySelector("#map-legend .share").textContent) > 99.9);
    for (const slider of sliders) await slider.fill("0");

    const [file] = await Promise.all([page.waitForEvent("download"), page.locator("#map-export").click()]);
    assert.equal(file.suggestedFilename(), "drawn.geojson");
    const collection = JSON.parse(readFileSync(await file.path()));
    assert.equal(collection.type, "FeatureCollection");
    assert.ok(collection.features.length > 3);
    for (const { geometry, properties } of collection.features) {
      assert.ok(properties.tile && properties.name && properties.confidence);
      assert.ok(geometry.coordinates.flat().every(([x, y]) => Math.abs(x) <= EDGE && Math.abs(y) <= EDGE));
    }
    assert.deepEqual(faults, []);
    await close();
  });

  await t.test("warns of a resolution that the model was not trained for", async () => {
    const { page, faults, close } = await open(DESKTOP);
    await finished(page);
    assert.equal(await page.locator("#resolution").isVisible(), false);
    await page.locator("#map canvas").focus();
    for (let i = 0; i < 5; i++) {
      await press(page, "-");
    }
    await page.locator("#resolution").waitFor();
    assert.match(
      await page.locator("#resolution-text").textContent(),
      /a pixel is 9\.6 m; the model was trained at 2\.4 m/,
    );
    await page.locator("#resolution-zoom").click();
    await page.locator("#resolution").waitFor({ state: "hidden" });
    assert.deepEqual(faults, []);
    await close();
  });

  await t.test("takes tiles at an address, remembers them, and a picture", async () => {
    const { page, faults, close } = await open(DESKTOP, { tiles: [] });
    await page.locator("#map-empty").waitFor();
    await page.locator("#tiles-url").fill("/tiles/drawn/index");
    await page.locator("#tiles-address button").click();
    assert.match(await page.locator("#error-remedy").textContent(), /\{z\}, \{x\} and \{y\}/);
    await page.locator("#tiles-url").fill("/tiles/drawn/{z}/{x}/{y}.png");
    await page.locator("#tiles-attribution").fill("Me & <i>others</i>");
    await page.locator("#tiles-maxzoom").fill("17");
    await page.locator("#tiles-address button").click();
    await page.locator("#resolution", { hasText: "Masks are computed only nearer to that." }).waitFor();
    assert.match(await page.locator("#map-status").textContent(), /^0 of/, "a whole world was segmented");
    assert.equal(await page.locator("#error").isVisible(), false);
    await page.reload();
    await page.locator(".maplibregl-ctrl-attrib", { hasText: "Me & <i>others</i>" }).waitFor();
    assert.equal(await page.locator("#tiles-url").inputValue(), "/tiles/drawn/{z}/{x}/{y}.png");

    await page.locator("#info").waitFor();
    await page.locator("#picture-file").setInputFiles(picture);
    await finished(page);
    const [file] = await Promise.all([page.waitForEvent("download"), page.locator("#map-export").click()]);
    assert.equal(file.suggestedFilename(), "scene.geojson");
    const { features } = JSON.parse(readFileSync(await file.path()));
    const extent = [300, 200].map((side) => (side / 256) * (360 / 2 ** 16));
    assert.ok(features.length > 0);
    const beyond = features
      .flatMap((f) => f.geometry.coordinates.flat())
      .filter(([x, y]) => x < -1e-6 || x > extent[0] + 1e-6 || y > 1e-6 || y < -extent[1] - 1e-6);
    assert.deepEqual(beyond, [], "polygons beyond the picture");
    assert.deepEqual(faults, []);
    await close();
  });

  await t.test("checks the device and lists the models that are kept", async () => {
    const { page, faults, close } = await open(DESKTOP);
    await page.locator("#doctor summary").click();
    await page.locator("#doctor-run").click();
    await page.locator("#doctor-copy").click();
    const report = await page.locator("#doctor-report").textContent();
    assert.match(report, /WebGPU|adapter/i);
    await page.waitForFunction((report) => navigator.clipboard.readText().then((text) => text === report), report);
    await page.locator("#stored summary").click();
    const item = page.locator("#stored-list li", { hasText: "tiny" });
    await item.waitFor();
    await item.getByRole("button", { name: "Remove tiny" }).click();
    await item.waitFor({ state: "detached" });
    assert.deepEqual(faults, []);
    await close();
  });

  for (const [name, settings] of [
    ["desktop-light", { ...DESKTOP, colorScheme: "light" }],
    ["desktop-dark", { ...DESKTOP, colorScheme: "dark" }],
    ["phone-light", { ...PHONE, colorScheme: "light" }],
    ["phone-dark", { ...PHONE, colorScheme: "dark" }],
  ]) {
    await t.test(`fits and can be used by all: ${name}`, async () => {
      const { page, faults, close } = await open(settings);
      await finished(page);
      const check = async (view) => {
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${view}: the page is ${overflow} px too wide`);
        await page.screenshot({ path: join(screenshots, `${view}-${name}.png`), fullPage: true });
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
        assert.deepEqual(
          grave.map(({ id, nodes }) => `${id}: ${nodes.map((n) => n.target).join(" ")}`),
          [],
          view,
        );
      };
      const box = await page.locator("#map").boundingBox();
      await page.mouse.click(box.x + box.width / 2 + 20, box.y + box.height / 2 + 20);
      await check("map");
      await page.locator("#show-picture").click();
      await page.locator("#picture-file").setInputFiles(picture);
      await page.locator("#details").waitFor();
      await check("picture");
      assert.deepEqual(faults, []);
      await close();
    });
  }
});
