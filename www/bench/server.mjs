// A static server whose pages are cross-origin isolated, which onnxruntime-web's threads need, and that knows what was fetched.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".wasm": "application/wasm",
};
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/**
 * Serves each of `mounts` (address to folder or file) on a free port of this machine. `fetched` holds every file that was
 * asked for, in order.
 */
export async function serve(mounts) {
  const fetched = [];
  const find = (path) => {
    const prefix = Object.keys(mounts).find((prefix) => path === prefix || path.startsWith(`${prefix}/`));
    const file = prefix && join(mounts[prefix], path.slice(prefix.length));
    return file && existsSync(file) && statSync(file).isFile() ? file : undefined;
  };
  const server = createServer(({ url }, response) => {
    const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
    const html = { ...ISOLATION, "Content-Type": "text/html" };
    if (path === "/")
      return response
        .writeHead(200, html)
        .end('<!doctype html><title>Benchmark</title><link rel="icon" href="data:,">');
    const file = find(path);
    if (!file) return response.writeHead(404, ISOLATION).end();
    fetched.push(file);
    const type = TYPES[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { ...ISOLATION, "Content-Type": type, "Content-Length": statSync(file).size });
    createReadStream(file).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `http://127.0.0.1:${server.address().port}`, fetched, close: () => server.close() };
}
