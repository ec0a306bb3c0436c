// What the tests share: packages made by the native program, its server, and Chromium.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { encodePng } from "../build/png.mjs";

export const www = fileURLToPath(new URL("..", import.meta.url));
const root = join(www, "..");
const fixtures = join(root, "tests/fixtures/parity");

/** The longest that anything is waited for, in milliseconds: beyond what any machine takes, so that only what never comes ends it. */
export const PATIENCE = 600_000;
/** The longest that a file of tests may take. */
export const LIMIT = 3_600_000;

const folders = [];
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder of this process alone. It goes when the process ends: what a page still asks for after its test is read from it. */
export function scratch() {
  folders.push(mkdtempSync(join(tmpdir(), "samlora-web-")));
  return folders.at(-1);
}

/** Waits until `check`, which may be asynchronous, gives something; the value. */
export async function until(check, what = check) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const found = await check();
    if (found) return found;
  }
  throw new Error(`waited in vain for ${what}`);
}

let binary;

/** The native program: `SAMLORA_BIN`, else cargo's. */
export function samlora() {
  if (!binary) {
    const target = () => {
      const metadata = execFileSync("cargo", ["metadata", "--format-version=1", "--no-deps"], {
        cwd: root,
        maxBuffer: 1 << 26,
      });
      return JSON.parse(metadata.toString()).target_directory;
    };
    binary = process.env.SAMLORA_BIN ?? join(target(), "debug/samlora");
    if (!existsSync(binary)) throw new Error(`${binary} is missing: run "cargo build" first, or set SAMLORA_BIN`);
  }
  return binary;
}

/** Runs the native program to its end. */
export function run(...args) {
  return execFileSync(samlora(), args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] }).toString();
}

/** A file of the parity fixture. */
export const fixture = (name) => join(fixtures, name);

/** Exports the parity fixture's tiny model as a package. */
export function exportTiny(folder, { name = "tiny", scheme = "f32" } = {}) {
  const out = join(folder, name);
  run(
    "export",
    "--base",
    fixture("tiny_sam.safetensors"),
    "--adapter",
    fixture("s256_k4_lora.safetensors"),
    "--classes",
    "building,road,water",
    "--scheme",
    scheme,
    "--out",
    out,
  );
  return out;
}

/** The native server with the built page, or a copy of it; its address. */
export async function serve(t, models, page = process.env.SAMLORA_DIST ?? join(www, "dist")) {
  const args = ["serve", ...models.flatMap((m) => ["--model", m]), "--www", page, "--port", "0", "--json"];
  const server = spawn(samlora(), args, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => server.kill());
  let text = "";
  for await (const chunk of server.stdout) {
    text += chunk;
    const line = text.split("\n").find((l) => l.startsWith("{"));
    if (line && text.includes("\n")) return JSON.parse(line).url.replace(/\/$/, "");
  }
  throw new Error("the server ended before it said its address");
}

/** Chromium with WebGPU and WebGL on the software adapter. */
export async function browser(t) {
  const executablePath =
    process.env.CHROMIUM ??
    execFileSync("sh", ["-c", "command -v chromium || command -v google-chrome"]).toString().trim();
  const chrome = await chromium.launch({
    executablePath,
    args: [
      "--headless=new",
      "--no-sandbox",
      "--enable-unsafe-webgpu",
      "--use-webgpu-adapter=swiftshader",
      "--use-angle=swiftshader",
      "--enable-unsafe-swiftshader", // WebGL, for maps.
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--disable-quic",
    ],
  });
  t.after(() => chrome.close());
  for (const make of ["newContext", "newPage"]) {
    const plain = chrome[make].bind(chrome);
    chrome[make] = async (...options) => {
      const made = await plain(...options);
      made.setDefaultTimeout(PATIENCE);
      return made;
    };
  }
  return chrome;
}

/** A page of the server's origin with nothing on it but `samlora`, the library. */
export async function blank(chrome, url) {
  const page = await chrome.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") console.error(`browser: ${message.text()}`);
  });
  await page.route("**/blank.html", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
  await page.goto(`${url}/blank.html`);
  await page.evaluate(async () => {
    globalThis.samlora = await import("/lib/index.js");
  });
  return page;
}

/**
 * Put before a worker's script: it says on a channel when a layer is done, and waits after the layer that a page names until
 * that says go on. So an abort comes in the middle of a network however fast or slow the machine is.
 */
export const LAYERS = `{
  const channel = new BroadcastChannel("layers");
  let layers = 0;
  let holdAt = 0;
  let go = () => {};
  channel.onmessage = ({ data }) => {
    if (data === "go") return go();
    [layers, holdAt] = [0, data];
    channel.postMessage("ready");
  };
  const layer = () => {
    channel.postMessage(++layers);
    return layers === holdAt ? new Promise((resolve) => (go = resolve)) : undefined;
  };
  const { postMessage } = MessagePort.prototype; // On the CPU, a pause is a message to oneself.
  MessagePort.prototype.postMessage = function (...given) {
    const held = layer();
    if (held) held.then(() => postMessage.apply(this, given));
    else postMessage.apply(this, given);
  };
  if (globalThis.GPUQueue) {
    const { onSubmittedWorkDone } = GPUQueue.prototype;
    GPUQueue.prototype.onSubmittedWorkDone = async function () {
      const held = layer();
      await onSubmittedWorkDone.call(this);
      await held;
    };
  }
}
`;

/** Runs in a page whose workers have `LAYERS`: segments `tile` whole, then aborts it after its first layer; what was seen. */
export async function abortAfterLayer(segmenter, tile, reason) {
  const channel = new BroadcastChannel("layers");
  let [layers, onReady, onHeld] = [0, () => {}, () => {}];
  channel.onmessage = ({ data }) => {
    if (data === "ready") return onReady();
    layers = data;
    if (data === 1) onHeld();
  };
  const start = async (holdAt) => {
    const ready = new Promise((resolve) => (onReady = resolve));
    channel.postMessage(holdAt);
    await ready;
    layers = 0;
  };
  /** So that the last message of a network that has ended is counted. */
  const settle = async () => {
    await segmenter.segment(new ImageData(new Uint8ClampedArray(4 * 32 * 32).fill(255), 32));
    await new Promise((resolve) => setTimeout(resolve, 100));
  };
  await start(0);
  await segmenter.segment(tile, { signal: new AbortController().signal });
  await settle();
  const whole = layers;
  await start(1);
  const controller = new AbortController();
  const held = new Promise((resolve) => (onHeld = resolve));
  const working = segmenter.segment(tile, { signal: controller.signal }).catch((error) => error);
  await held;
  controller.abort(reason);
  const same = (await working) === reason; // The page does not wait for the worker.
  channel.postMessage("go");
  await settle(); // The worker goes on to the next picture.
  channel.close();
  return { same, whole, layers };
}

/** Answers a route with a picture's bytes; not with its path, which may be gone when the answer is made. */
export const png = (bytes) => (route) => route.fulfill({ body: bytes, contentType: "image/png" });

/** Writes a drawn scene of fields, roads and roofs as an RGB PNG. */
export function drawScene(file, width, height) {
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, encodePng(Buffer.concat(sceneRows(width, height, 3)), width, height));
  return file;
}

/**
 * Writes the same with an alpha of `alphaOf(x, y)` for every pixel, or with none, and with further chunks; the alphas. What is
 * transparent keeps its colours.
 */
export function drawUnusual(file, width, height, { alphaOf, chunks } = {}) {
  const rows = sceneRows(width, height, alphaOf ? 4 : 3);
  const alphas = new Uint8Array(width * height);
  for (let y = 0; alphaOf && y < height; y++) {
    for (let x = 0; x < width; x++) rows[y][4 + 4 * x] = alphas[y * width + x] = alphaOf(x, y);
  }
  writeFileSync(file, encodePng(Buffer.concat(rows), width, height, { alpha: Boolean(alphaOf), chunks }));
  return alphas;
}

/** A PNG's rows, each a filter byte and `channels` a pixel. */
function sceneRows(width, height, channels) {
  return Array.from({ length: height }, (_, y) => {
    const row = Buffer.alloc(1 + channels * width);
    for (let x = 0; x < width; x++) {
      const noise = ((x * 7919 + y * 104729) % 31) - 15;
      const road = Math.abs(x - y / 2 - 40) < 6;
      const roof = x % 61 > 22 && x % 61 < 48 && y % 53 > 14 && y % 53 < 40;
      const field = [82 + 30 * Math.sin(x / 37), 118 + 24 * Math.cos(y / 29), 62];
      const colour = road ? [128, 126, 122] : roof ? [176, 84, 62] : field;
      for (let c = 0; c < 3; c++) {
        row[1 + channels * x + c] = Math.max(0, Math.min(255, Math.round(colour[c] + noise)));
      }
    }
    return row;
  });
}
