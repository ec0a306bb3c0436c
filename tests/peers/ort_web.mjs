// The encoder in onnxruntime-web (wasm, CPU) in headless Chromium: node ort_web.mjs SETTINGS_JSON. Prints one JSON object.
// The page is cross-origin isolated (COOP and COEP), without which onnxruntime-web silently runs on one thread.
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const settings = JSON.parse(process.argv[2]);
const dist = path.join(settings.node_modules, "onnxruntime-web/dist");
const { chromium } = createRequire(path.join(settings.node_modules, "x"))("playwright-core");
const types = { ".mjs": "text/javascript", ".wasm": "application/wasm" };
const files = { "/model": settings.onnx, "/input": settings.input, "/reference": settings.reference };

const server = createServer((request, response) => {
  const file = files[request.url] ?? (request.url.startsWith("/ort/") ? path.join(dist, path.basename(request.url)) : null);
  const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
  if (!file) return response.writeHead(200, { ...headers, "Content-Type": "text/html" }).end("<!doctype html><title>peer</title>");
  headers["Content-Type"] = types[path.extname(file)] ?? "application/octet-stream";
  headers["Content-Length"] = statSync(file).size;
  createReadStream(file).pipe(response.writeHead(200, headers));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

async function measure({ size, threads, runs }) {
  const ort = await import("/ort/ort.wasm.min.mjs");
  const bytes = async (url) => (await fetch(url)).arrayBuffer();
  const median = (a) => (a.sort((p, q) => p - q)[(a.length - 1) >> 1] + a[a.length >> 1]) / 2;
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = threads;
  let start = performance.now();
  const session = await ort.InferenceSession.create(new Uint8Array(await bytes("/model")), { executionProviders: ["wasm"] });
  const load_ms = performance.now() - start;
  const image = new ort.Tensor("float32", new Float32Array(await bytes("/input")), [1, 3, size, size]);
  const reference = new Float32Array(await bytes("/reference"));
  const times = [];
  let relative_error = NaN;
  for (let i = 0; i <= runs; i++) {
    start = performance.now();
    const { embedding } = await session.run({ image });
    times.push(performance.now() - start);
    if (i === 0) {
      let deviation = 0, largest = 0;
      reference.forEach((want, k) => {
        deviation = Math.max(deviation, Math.abs(embedding.data[k] - want));      // Math.max keeps a NaN
        largest = Math.max(largest, Math.abs(want));
      });
      relative_error = embedding.data.length === reference.length ? deviation / largest : NaN;
    }
    embedding.dispose();
  }
  const [cold, ...warm] = times;
  const encoder_ms = { cold, median: median(warm), min: Math.min(...warm) };
  return { load_ms, encoder_ms, relative_error, threads: ort.env.wasm.numThreads };
}

/** Largest peak of resident memory among Chromium's renderer processes, in bytes (Linux). */
async function rendererPeak(browser) {
  const { processInfo } = await (await browser.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
  const peaks = processInfo.filter((p) => p.type === "renderer").map((p) => {
    const status = readFileSync(`/proc/${p.id}/status`, "utf8");
    return 1024 * Number(/VmHWM:\s*(\d+)/.exec(status)[1]);
  });
  return Math.max(...peaks);
}

const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const result = await page.evaluate(measure, settings);
  if (result.threads !== settings.threads) throw new Error(`onnxruntime-web runs on ${result.threads} threads`);
  result.peak_memory_bytes = await rendererPeak(browser);
  const { version } = JSON.parse(readFileSync(path.join(dist, "../package.json"), "utf8"));
  result.version = `${version}, Chromium ${browser.version()}`;
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
  server.close();
}
