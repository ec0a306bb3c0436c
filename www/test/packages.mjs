// What the tests of download and storage share: packages of random bytes, zips, a server with moods, and a page that has
// the modules under test.

import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import * as esbuild from "esbuild";
import { www } from "./support.mjs";

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** A package of random shards with the given lengths (or contents), as files by name. */
export function makePackage(name, shards) {
  const contents = shards.map((shard) => (typeof shard === "number" ? randomBytes(shard) : shard));
  const files = new Map(contents.map((bytes, i) => [`shard-${i}.safetensors`, bytes]));
  const named = [...files].map(([file, bytes]) => ({ file, bytes: bytes.length, sha256: sha256(bytes) }));
  files.set("samlora.json", Buffer.from(JSON.stringify({ format: "samlora", version: 1, name, shards: named })));
  return files;
}

export const bytesOf = (files) => [...files.values()].reduce((sum, bytes) => sum + bytes.length, 0);

/**
 * A zip with stored entries; `change(entry)` may lie about `name`, `method`, `flags`, `size`, `storedSize`, `start` or `crc`
 * in the directory.
 */
export function makeZip(files, { prefix = "", change = () => {}, comment = "", end = () => {} } = {}) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [file, bytes] of files) {
    const entry = {
      name: prefix + file,
      method: 0,
      flags: 0,
      size: bytes.length,
      storedSize: bytes.length,
      start: at,
      crc: crc32(bytes),
    };
    const name = Buffer.from(entry.name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt32LE(entry.crc, 14);
    local.writeUInt32LE(bytes.length, 18);
    local.writeUInt32LE(bytes.length, 22);
    local.writeUInt16LE(name.length, 26);
    local.writeUInt16LE(4, 28); // Extra fields that the directory does not have.
    parts.push(local, name, Buffer.from([0xfe, 0xca, 0, 0]), bytes);
    at += 34 + name.length + bytes.length;
    change(entry);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(entry.flags, 8);
    central.writeUInt16LE(entry.method, 10);
    central.writeUInt32LE(entry.crc, 16);
    central.writeUInt32LE(entry.storedSize, 20);
    central.writeUInt32LE(entry.size, 24);
    central.writeUInt16LE(Buffer.byteLength(entry.name), 28);
    central.writeUInt32LE(entry.start, 42);
    directory.push(central, Buffer.from(entry.name));
  }
  const listed = Buffer.concat(directory);
  const tail = Buffer.alloc(22);
  tail.writeUInt32LE(0x06054b50, 0);
  tail.writeUInt16LE(files.size, 8);
  tail.writeUInt16LE(files.size, 10);
  tail.writeUInt32LE(listed.length, 12);
  tail.writeUInt32LE(at, 16);
  tail.writeUInt16LE(comment.length, 20);
  end(tail);
  return Buffer.concat([...parts, listed, tail, Buffer.from(comment)]);
}

/**
 * A server of `files` by path with ranges, tags and HEAD. `moods` are answers that come first, one a request, as functions
 * of (request, response, file's bytes); `log` says what was asked. With `cors`, other origins may read.
 */
export async function startServer(t, { cors = false } = {}) {
  const files = new Map();
  const moods = new Map();
  const log = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url.split("?")[0]);
    const { range, "if-range": ifRange } = request.headers;
    log.push([request.method, path, ...(range ? [range] : []), ...(ifRange ? [ifRange] : [])].join(" "));
    if (cors) response.setHeader("access-control-allow-origin", "*");
    const bytes = files.get(path);
    const mood = moods.get(path)?.shift();
    if (mood) return mood(request, response, bytes);
    if (path === "/blank.html")
      return response.setHeader("content-type", "text/html").end("<!doctype html><link rel=icon href=data:,>");
    if (path === "/lib.js") return response.setHeader("content-type", "text/javascript").end(library());
    if (!bytes) return response.writeHead(404).end("none");
    serveFile(request, response, bytes);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${server.address().port}`;
  return {
    url,
    files,
    moods,
    log,
    /** Serves a package's files under `folder`; its address. */
    put(folder, pack) {
      for (const [file, bytes] of pack) files.set(`/${folder}/${file}`, bytes);
      return `${url}/${folder}/`;
    },
    /** What was asked since the last call, of paths that contain `part`. */
    asked(part = "") {
      return log.splice(0).filter((line) => line.includes(part) && !/blank|lib\.js/.test(line));
    },
  };
}

export const tagOf = (bytes) => `"${sha256(bytes).slice(0, 12)}"`;

/** Answers as a good static host does. */
export function serveFile(request, response, bytes, headers = {}) {
  response.setHeader("accept-ranges", "bytes");
  response.setHeader("etag", tagOf(bytes));
  response.setHeader("content-type", "application/octet-stream");
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  const { range, "if-range": ifRange } = request.headers;
  const found = /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
  if (!found || request.method === "HEAD" || (ifRange && ifRange !== tagOf(bytes))) {
    response.setHeader("content-length", bytes.length);
    return response.end(request.method === "HEAD" ? undefined : bytes);
  }
  const start = Number(found[1]);
  const end = found[2] ? Math.min(Number(found[2]), bytes.length - 1) : bytes.length - 1;
  if (start >= bytes.length) return response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
  response.writeHead(206, {
    "content-range": `bytes ${start}-${end}/${bytes.length}`,
    "content-length": end - start + 1,
  });
  response.end(bytes.subarray(start, end + 1));
}

/** Milliseconds after which even a busy page has read what has come: a broken connection loses what was not read. */
export const READ = 1000;

/** Sends `count` of the bytes that were announced, then the connection breaks. */
export const breakAfter = (count, headers) => (request, response, bytes) => {
  response.writeHead(200, {
    "content-length": bytes.length,
    etag: tagOf(bytes),
    "content-type": "application/octet-stream",
    ...headers,
  });
  response.write(bytes.subarray(0, count), () => setTimeout(() => response.destroy(), READ));
};

let bundled;

/** The modules under test in one script. */
function library() {
  bundled ??= esbuild.buildSync({
    stdin: {
      contents: `export * from "./source.ts"; export { storage } from "./storage.ts"; export { SamloraError } from "../error.ts";`,
      resolveDir: join(www, "src/package"),
    },
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
  }).outputFiles[0].text;
  return bundled;
}

/** A page with `lib`, and with `open`, which loads a whole package and says what it saw. */
export async function libraryPage(context, url) {
  const page = await context.newPage();
  await page.goto(`${url}/blank.html`);
  await page.evaluate(async () => {
    const lib = (globalThis.lib = await import("/lib.js"));
    const hash = async (bytes) =>
      [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
        .map((b) => b.toString(16).padStart(2, "0"))
        .join("");
    globalThis.open = async (input, { store = true, abortAt, waits = [20, 20, 20], silence = 10_000, only } = {}) => {
      const seen = { progress: [], events: [], hashes: [] };
      const controller = new AbortController();
      try {
        const pack = await lib.openPackage(lib.normalise(input), {
          store,
          signal: controller.signal,
          patience: { waits, silence },
          onEvent: (event) => seen.events.push(event),
          onProgress: (p) => {
            seen.progress.push(p);
            if (p.loadedBytes >= abortAt) controller.abort();
          },
        });
        const { shards, name } = JSON.parse(new TextDecoder().decode(pack.manifest));
        Object.assign(seen, { name, bytes: pack.bytes });
        for (const { file, bytes } of shards.slice(0, only)) seen.hashes.push(await hash(await pack.read(file, bytes)));
        seen.stored = pack.stored();
      } catch (e) {
        seen.error = {
          name: e.name,
          code: e.code,
          message: e.message,
          remedy: e.remedy,
          ours: e instanceof lib.SamloraError,
        };
      }
      return seen;
    };
    /** Every entry of storage whose content is not what its key says. */
    globalThis.damaged = async () => {
      const cache = await caches.open("samlora");
      const bad = [];
      for (const { url } of await cache.keys()) {
        const bytes = await (await cache.match(url)).arrayBuffer();
        const name = url.split("/").at(-1);
        if (
          url.includes("/sha256/") ? (await hash(bytes)) !== name : !JSON.parse(new TextDecoder().decode(bytes)).shards
        )
          bad.push(url);
      }
      return bad;
    };
  });
  return page;
}
