// What the tests of areas and sources share: a bare page with the package and the libraries of its sources, and a tile server.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import * as esbuild from "esbuild";
import { browser, serve, www } from "./support.mjs";

const SQLITE = "@journeyapps/wa-sqlite";
const IMPORTS = {
  samlora: "/lib/index.js",
  "samlora/sources": "/lib/sources.js",
  pmtiles: "/peers/pmtiles.js",
  geotiff: "/peers/geotiff.js",
  proj4: "/peers/proj4.js",
  [SQLITE]: "/peers/wa-sqlite/src/sqlite-api.js",
  [`${SQLITE}/`]: "/peers/wa-sqlite/",
};
const PAGE = `<!doctype html><script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script><link rel="icon" href="data:,">`;

/** The shared real data; undefined where there is none. */
export const data = process.env.SAMLORA_DATA;
const python = process.env.SAMLORA_PYTHON;

/** Why a test of real data is left out, said loudly; false where it runs. */
export function lacks(...needs) {
  if (needs.includes("data") && !data) return "left out: SAMLORA_DATA is not set";
  if (needs.includes("python") && !python) return "left out: SAMLORA_PYTHON is not set";
  return false;
}

/** What a Python program prints as JSON; `argument` is its `given`. */
export function ask(program, argument) {
  const head = "import json, sys\ngiven = json.load(sys.stdin)\n";
  const said = execFileSync(python, ["-c", head + program], { input: JSON.stringify(argument), maxBuffer: 1 << 28 });
  return JSON.parse(said.toString());
}

/** Libraries of the sources as modules that a page can import. */
async function bundle(name) {
  const { outputFiles } = await esbuild.build({
    stdin: {
      contents: `export * from "${name}"; import * as all from "${name}"; export default all.default;`,
      resolveDir: www,
    },
    bundle: true,
    format: "esm",
    write: false,
    platform: "browser",
    logLevel: "error",
  });
  return outputFiles[0].text;
}

/** A server of packages and the page: its address, and `open`, which gives pages with the package on them. */
export async function openAreas(t, packages) {
  const url = await serve(t, packages);
  const chrome = await browser(t);
  const peers = new Map();
  for (const name of ["pmtiles", "geotiff", "proj4"]) peers.set(`/peers/${name}.js`, await bundle(name));

  /** Answers what a bare page asks for beside the package. */
  async function prepare(context) {
    await context.route("**/bare.html", (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
    await context.route("**/peers/**", (route) => {
      const { pathname } = new URL(route.request().url());
      if (peers.has(pathname)) return route.fulfill({ contentType: "text/javascript", body: peers.get(pathname) });
      const file = join(www, "node_modules", SQLITE, normalize(pathname.slice("/peers/wa-sqlite/".length)));
      if (!existsSync(file)) return route.fulfill({ status: 404 });
      const contentType = file.endsWith(".wasm") ? "application/wasm" : "text/javascript";
      return route.fulfill({ contentType, body: readFileSync(file) });
    });
  }

  async function open(context) {
    const within = context ?? (await chrome.newContext({ serviceWorkers: "block" }));
    if (!context) {
      await within.grantPermissions(["local-network-access"]); // The other origin is on this machine.
      await prepare(within);
    }
    const page = await within.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(`${url}/bare.html`);
    await page.evaluate(tools);
    return {
      page,
      context: within,
      /** Runs `work` in the page. */
      async run(work, argument) {
        const result = await page.evaluate(work, argument);
        assert.deepEqual(faults, []);
        return result;
      },
    };
  }
  return { url, open };
}

/** Runs in the page: what the tests share there. */
async function tools() {
  const [samlora, sources] = await Promise.all([import("samlora"), import("samlora/sources")]);
  const failure = (error) => ({ name: error.name, code: error.code, message: error.message, remedy: error.remedy });
  Object.assign(
    globalThis,
    { samlora, ...samlora, sources },
    {
      never: new AbortController().signal,
      /** What a promise, or what makes one, is rejected with. */
      failing: async (work) => {
        try {
          await (typeof work === "function" ? work() : work);
        } catch (error) {
          return failure(error);
        }
        return undefined;
      },
      /** Bytes as text, to leave the page. */
      packed(bytes) {
        let text = "";
        for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
        return btoa(text);
      },
      fileAt: async (address, name) => new File([await (await fetch(address)).blob()], name),
    },
  );
}

export const unpacked = (text) => new Uint8Array(Buffer.from(text, "base64"));

/**
 * A server on an origin of its own that other origins may read. `answer(url, request, response)` is asked first; what it leaves
 * is looked up in `files`, by path, and given with ranges.
 */
export async function startTiles(t, answer = () => false) {
  const files = new Map();
  const log = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://tiles");
    const allowed = {
      "access-control-allow-origin": "*",
      "access-control-allow-headers": "*",
      "access-control-expose-headers": "*",
    };
    for (const [name, value] of Object.entries(allowed)) response.setHeader(name, value);
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    log.push({
      method: request.method,
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      range: request.headers.range,
      headers: request.headers,
    });
    if (answer(url, request, response)) return;
    const bytes = files.get(url.pathname);
    if (!bytes) return response.writeHead(404).end();
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    response.setHeader("accept-ranges", "bytes");
    response.setHeader("etag", `"${bytes.length}"`);
    if (request.method === "HEAD") return response.setHeader("content-length", bytes.length).end();
    if (from === undefined) return response.end(bytes);
    const end = Math.min(bytes.length - 1, to ? Number(to) : bytes.length - 1);
    response.writeHead(206, { "content-range": `bytes ${from}-${end}/${bytes.length}` });
    response.end(bytes.subarray(Number(from), end + 1));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, files, log };
}
