// The page with its view of a picture, as a user meets it; screenshots go to test/screenshots (or SAMLORA_SCREENSHOTS) to be looked at.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { browser, drawScene, exportTiny, LIMIT, png, run, scratch, serve, until, www } from "./support.mjs";

// Without the service worker, through which requests would not be seen here; offline.test.mjs is about it.
const DESKTOP = { viewport: { width: 1280, height: 900 }, serviceWorkers: "block" };
const PHONE = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
  serviceWorkers: "block",
};

test("the page", { timeout: LIMIT }, async (t) => {
  const screenshots = process.env.SAMLORA_SCREENSHOTS ?? join(www, "test/screenshots");
  mkdirSync(screenshots, { recursive: true });
  const folder = scratch();
  const model = exportTiny(folder, { name: "tiny", scheme: "q8" });
  const tile = drawScene(join(folder, "scene.png"), 192, 192);
  const url = await serve(t, [model]);
  const chrome = await browser(t);

  /** A page with its model loaded; fails the test for what a healthy page never does. */
  async function open(settings) {
    const context = await chrome.newContext(settings);
    const page = await context.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url()))
        faults.push(`outside request: ${request.url()}`);
    });
    await page.goto(`${url}/#picture`);
    await page.locator("#info").waitFor();
    return { page, faults, close: () => context.close() };
  }

  async function segment(page) {
    await page.locator("#picture-file").setInputFiles(tile);
    await page.locator("#details").waitFor();
  }

  await t.test("loads a package, segments a chosen file, shows and exports", async () => {
    const { page, faults, close } = await open(DESKTOP);
    assert.match(await page.locator("#info").textContent(), /tiny.*q8.*CPU/s);
    assert.deepEqual(await page.locator("#legend tbody label").allTextContents(), [
      "background",
      "building",
      "road",
      "water",
    ]);
    await segment(page);
    assert.match(await page.locator("#status").textContent(), /192 × 192 pixels in/);
    assert.match(await page.locator("#timings").textContent(), /Encode.*ms.*Windows1/s);
    const shares = await page.locator("#legend tbody td:nth-child(2)").allTextContents();
    const total = shares.reduce((sum, text) => sum + parseFloat(text), 0);
    assert.ok(Math.abs(total - 100) < 0.5, `${shares}`);

    // The probe follows the pointer and the arrow keys.
    await page.locator("#mask-stage").hover({ position: { x: 10, y: 10 } });
    assert.match(await page.locator("#probe").textContent(), /confidence .* %, column \d+, row \d+/);
    await page.locator("#confidence-stage").focus();
    const column = async () => Number(/column (\d+)/.exec(await page.locator("#probe").textContent())[1]);
    const before = await column();
    await page.keyboard.press("Shift+ArrowRight");
    assert.equal(await column(), before + 10);

    // A class that is switched off is not painted; the slider changes opacity.
    const painted = () =>
      page.evaluate(() => {
        const canvas = document.querySelector("#overlay");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((v, i) => i % 4 === 3 && v > 0).length;
      });
    const all = await painted();
    assert.ok(all > 0, "nothing is painted");
    for (const box of await page.locator("#legend input:enabled").all()) await box.uncheck();
    await until(async () => (await painted()) === 0, "the classes that are off to go");
    for (const box of await page.locator("#legend input:enabled").all()) await box.check();
    await until(async () => (await painted()) === all, "the classes to come back");
    await page.locator("#opacity").fill("20");
    assert.equal(await page.locator("#overlay").evaluate((canvas) => canvas.style.opacity), "0.2");
    await page.locator("#opacity").fill("55");

    const download = async (button) => {
      const [file] = await Promise.all([page.waitForEvent("download"), page.locator(button).click()]);
      return { name: file.suggestedFilename(), bytes: readFileSync(await file.path()) };
    };
    const geojson = await download("#export-geojson");
    assert.equal(geojson.name, "scene.geojson");
    const collection = JSON.parse(geojson.bytes);
    assert.equal(collection.type, "FeatureCollection");
    assert.ok(collection.features.length > 0 && collection.features.every((f) => f.geometry.type.endsWith("Polygon")));
    const mask = await download("#export-mask");
    assert.equal(mask.name, "scene.classes.png");
    assert.equal(mask.bytes.subarray(1, 4).toString(), "PNG");
    assert.deepEqual([mask.bytes.readUInt32BE(16), mask.bytes.readUInt32BE(20), mask.bytes[25]], [192, 192, 3]);
    // The browser reads back what was written: every colour is a class's.
    const colours = await page.evaluate(async (png) => {
      const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))]));
      const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
      const found = new Set();
      for (let i = 0; i < data.length; i += 4) found.add(`rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`);
      const legend = [...document.querySelectorAll(".swatch")].map((s) => s.style.backgroundColor);
      return [...found].map((colour) => legend.includes(colour));
    }, mask.bytes.toString("base64"));
    assert.ok(colours.length > 1 && colours.every(Boolean));
    assert.deepEqual(faults, []);
    await close();
  });

  await t.test("takes a picture by drop, paste and address, and a package by drop", async () => {
    const { page, faults, close } = await open(DESKTOP);
    const transfer = async (kind, files) => {
      await page.evaluate(
        ([kind, files]) => {
          const data = new DataTransfer();
          for (const [name, type, base64] of files) {
            data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name, { type }));
          }
          const event =
            kind === "drop"
              ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
              : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
          document.body.dispatchEvent(event);
        },
        [kind, files],
      );
    };
    const picture = ["dropped.png", "image/png", readFileSync(tile).toString("base64")];
    for (const kind of ["drop", "paste"]) {
      await transfer(kind, [picture]);
      await page.locator("#details").waitFor();
      await page.evaluate(() => (document.querySelector("#details").hidden = true));
    }
    await page.route("**/tile-at-address.png", png(readFileSync(tile)));
    await page.locator("#picture-url").fill("/tile-at-address.png");
    await page.locator("#picture-address button").click();
    await page.locator("#details").waitFor();

    await transfer(
      "drop",
      readdirSync(model).map((f) => [f, "", readFileSync(join(model, f)).toString("base64")]),
    );
    await page.locator("#details").waitFor({ state: "hidden" });
    await page.locator("#details").waitFor(); // Loaded, and the picture segmented again.
    assert.equal(await page.locator("#error").isVisible(), false);
    assert.deepEqual(faults, []);
    await close();
  });

  await t.test("runs on WebGPU when asked to", async () => {
    const { page, close } = await open(DESKTOP);
    await page.locator("input[value=gpu]").check({ force: true });
    await page.locator("#info", { hasText: "WebGPU" }).waitFor();
    assert.match(await page.locator("#info").textContent(), /software/);
    await segment(page);
    await close();
  });

  await t.test("tells of errors with their remedy", async () => {
    const { page, faults, close } = await open(DESKTOP);
    const expect = async (message, remedy, code) => {
      await page.locator("#error").waitFor();
      assert.match(await page.locator("#error-message").textContent(), message);
      assert.match(await page.locator("#error-remedy").textContent(), remedy);
      assert.equal(await page.locator("#error-code").textContent(), code);
    };
    await page
      .locator("#picture-file")
      .setInputFiles({ name: "notes.png", mimeType: "image/png", buffer: Buffer.from("hello") });
    await expect(/notes\.png is not a picture/, /PNG/, "format");
    await page.locator("#error-close").click();
    assert.equal(await page.locator("#error").isVisible(), false);
    await page.locator("#picture-url").fill("/nothing-here.png");
    await page.locator("#picture-address button").click();
    await expect(/answered 404/, /address/, "not_found");
    await page.locator("#model-url").fill("/models/nowhere/");
    await page.locator("#model-address button").click();
    await page.locator("#error-message", { hasText: "nowhere" }).waitFor();
    await expect(/nowhere\/samlora\.json: the server answered 404/, /folder/, "not_found");
    await page.screenshot({ path: join(screenshots, "error.png") });
    assert.deepEqual(faults, []);
    await close();
  });

  for (const [name, settings] of [
    ["desktop-light", { ...DESKTOP, colorScheme: "light" }],
    ["desktop-dark", { ...DESKTOP, colorScheme: "dark" }],
    ["phone-light", { ...PHONE, colorScheme: "light" }],
    ["phone-dark", { ...PHONE, colorScheme: "dark" }],
  ]) {
    await t.test(`fits: ${name}`, async () => {
      const { page, faults, close } = await open(settings);
      await segment(page);
      await page.locator("#mask-stage").hover();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
      await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
      assert.deepEqual(faults, []);
      await close();
    });
  }
});

// Of `samlora demo`, in the legend's order.
const CLASSES = ["background", "building", "road", "vegetation", "water"];

test("what `make demo` serves", { timeout: LIMIT }, async (t) => {
  const folder = scratch();
  run("demo", "--out", folder);
  const copy = join(folder, "www");
  const dist = process.env.SAMLORA_DIST ?? join(www, "dist");
  cpSync(dist, copy, { recursive: true, filter: (path) => path !== join(dist, "samples") });
  cpSync(join(folder, "samples"), join(copy, "samples"), { recursive: true });
  const url = await serve(t, [join(folder, "package")], copy);

  const page = await (await browser(t)).newPage(DESKTOP);
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(`${url}/#picture`);
  await page.locator("input[value=cpu]").check({ force: true });
  await page.locator("#info", { hasText: "CPU" }).waitFor();
  await page.locator("#samples button").first().click();
  await page.locator("#details").waitFor();

  const rows = await page
    .locator("#legend tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  assert.deepEqual(
    rows.map(([name]) => name),
    CLASSES,
  );
  const share = Object.fromEntries(rows.map(([name, percent]) => [name, parseFloat(percent)]));
  assert.ok(share.building > 1 && share.road > 1, JSON.stringify(share));
  assert.equal(await page.locator("#error").isVisible(), false);
  assert.deepEqual(faults, []);
});
