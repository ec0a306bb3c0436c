// The package as it is installed: packed, put into each example with its bundler, and opened in Chromium, where the example
// has to find worker and wasm by itself and to draw the masks that the native program finds.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { execute, install, pack, serveFiles, startServer } from "./consumers.mjs";
import { browser, drawScene, exportTiny, LIMIT, run, scratch, www } from "./support.mjs";

// Sums in another order tip pixels that are nearly a tie.
const EQUAL_PIXELS = 0.999;
const tools = join(www, "node_modules/.bin");
const VITE = "vite/bin/vite.js";

/** A strict policy that lets no script in but the site's own, and of wasm only its compilation. */
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";

// What all tests share, made once.
let shared, tarball, expected, colours;

before(async () => {
  const folder = scratch();
  shared = join(folder, "public");
  const model = exportTiny(join(shared, "models"), { name: "buildings" });
  const tile = drawScene(join(shared, "tile.png"), 96, 80);
  run("segment", "--model", model, tile, "--out", folder, "--format", "raw", "--device", "cpu");
  expected = readFileSync(join(folder, "tile.classes.u8"));
  assert.ok(new Set(expected).size > 1, "a mask of one class proves nothing");
  const { classes } = JSON.parse(readFileSync(join(model, "samlora.json"), "utf8"));
  colours = classes.slice(1).map(({ color }) => color);
  tarball = await pack(join(folder, "tarball"));
});

/** Opens an example, waits for its mask and compares that. */
async function expectMask(chrome, name, url, device) {
  const page = await chrome.newPage();
  const complaints = [];
  page.on(
    "console",
    (message) => message.type() === "error" && complaints.push(`${message.text()} ${message.location().url}`),
  );
  page.on("pageerror", (error) => complaints.push(error.message));
  try {
    await page.goto(`${url}/?device=${device}`);
    const status = page.locator("#status");
    await page
      .waitForFunction(() => /^(Segmented|Failed)/.test(document.querySelector("#status")?.textContent ?? ""))
      .catch((error) => complaints.push(error.message));
    const text = await status.textContent();
    assert.match(text, new RegExp(`^Segmented on the ${device}`), [text, ...complaints].join("\n"));
    const found = await page.evaluate(readMask, colours);
    assert.equal(found.isolated, false, "the example must work without cross-origin isolation");
    const equal = expected.filter((value, pixel) => value === found.mask[pixel]).length / expected.length;
    console.log(`${name} on ${device}: ${(100 * equal).toFixed(2)} % equal pixels`);
    assert.ok(equal >= EQUAL_PIXELS, `${name}: ${equal} of the pixels are as the native program has them`);
    assert.deepEqual(
      complaints.filter((text) => !text.includes("favicon")),
      [],
      "the browser complains",
    );
  } finally {
    await page.close();
  }
}

/** Runs in the browser: the classes on the overlay's canvas, by their colours. */
function readMask(colours) {
  const canvas = document.querySelector("#overlay");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const mask = [];
  for (let at = 0; at < data.length; at += 4) {
    const index = colours.findIndex((colour) => colour.every((value, channel) => value === data[at + channel]));
    mask.push(data[at + 3] === 0 ? 0 : index + 1);
  }
  return { mask, isolated: crossOriginIsolated };
}

const strict = (folder) =>
  execute(folder, join(tools, "tsc"), "-p", ".", "--noEmit", "--strict", "--skipLibCheck", "false");

// Two at a time, each with a Chromium of its own: on WebGPU, the software adapter's compiler takes over a minute a page.
describe("installed", { concurrency: 2 }, () => {
  it("a plain page", { timeout: LIMIT }, async (t) => {
    const chrome = await browser(t);
    const folder = join(scratch(), "html");
    cpSync(join(www, "examples/html"), folder, { recursive: true });
    mkdirSync(join(folder, "unpacked"));
    await execute(folder, "tar", "-xzf", tarball, "-C", "unpacked");
    cpSync(join(folder, "unpacked/package/dist/lib"), join(folder, "samlora"), { recursive: true });

    await t.test("under a strict content security policy", async (t) => {
      const url = await serveFiles(t, [folder, shared], { "content-security-policy": POLICY });
      for (const device of ["cpu", "gpu"]) await expectMask(chrome, "plain page", url, device);
    });
    await t.test("with the scripts on another site", async (t) => {
      const cdn = await serveFiles(t, [join(folder, "samlora")]);
      const page = join(folder, "main.js");
      const text = readFileSync(page, "utf8");
      assert.ok(text.includes('"./samlora/index.js"'));
      writeFileSync(page, text.replace('"./samlora/index.js"', JSON.stringify(`${cdn}/index.js`)));
      const policy = `default-src 'self'; script-src 'self' 'wasm-unsafe-eval' ${cdn}; connect-src 'self' ${cdn}; worker-src blob: ${cdn}`;
      const url = await serveFiles(t, [folder, shared], { "content-security-policy": policy });
      await expectMask(chrome, "scripts on another site", url, "cpu");
    });
  });

  it("Vite", { timeout: LIMIT }, async (t) => {
    const chrome = await browser(t);
    const folder = await install(t, "vite", tarball, shared);
    if (!folder) return;
    await t.test("types", () => strict(folder));
    await t.test("built", async (t) => {
      await execute(folder, "node", join("node_modules", VITE), "build");
      const url = await serveFiles(t, [join(folder, "dist")], { "content-security-policy": POLICY });
      for (const device of ["cpu", "gpu"]) await expectMask(chrome, "Vite", url, device);
    });
    await t.test("in development", async (t) => {
      await expectMask(chrome, "Vite's server", await startServer(t, folder, VITE, "--strictPort", "--port"), "cpu");
    });
  });

  it("no worker", { timeout: LIMIT }, async (t) => {
    const chrome = await browser(t);
    const folder = await install(t, "no-worker", tarball, shared);
    if (!folder) return;
    await t.test("types", () => strict(folder));
    await execute(folder, "node", join("node_modules", VITE), "build");
    const url = await serveFiles(t, [join(folder, "dist")], { "content-security-policy": POLICY });
    await expectMask(chrome, "no worker", url, "cpu");
    await expectMask(
      chrome,
      "no worker, Vite's server",
      await startServer(t, folder, VITE, "--strictPort", "--port"),
      "cpu",
    );
  });

  it("webpack", { timeout: LIMIT }, async (t) => {
    const chrome = await browser(t);
    const folder = await install(t, "webpack", tarball, shared);
    if (!folder) return;
    await execute(folder, "node", "node_modules/webpack-cli/bin/cli.js", "--mode", "production");
    const url = await serveFiles(t, [folder, join(folder, "public")], { "content-security-policy": POLICY });
    for (const device of ["cpu", "gpu"]) await expectMask(chrome, "webpack", url, device);
  });

  it("Next", { timeout: LIMIT }, async (t) => {
    const chrome = await browser(t);
    const folder = await install(t, "next", tarball, shared);
    if (!folder) return;
    await execute(folder, "node", "node_modules/next/dist/bin/next", "build"); // Checks the types, too.
    const url = await startServer(t, folder, "next/dist/bin/next", "start", "-p");
    for (const device of ["cpu", "gpu"]) await expectMask(chrome, "Next", url, device);
  });
});
