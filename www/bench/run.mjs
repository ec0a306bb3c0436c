// This package's devices beside onnxruntime-web, in one browser and one page load: node www/bench/run.mjs --help
//
// Makes what is missing, checks that all compute the same, and prints Markdown tables and one line of JSON.

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { ask, www } from "../build/common.mjs";
import { parse } from "./arguments.mjs";
import { browserOf, GPU } from "./browser.mjs";
import { encoderOperations, manifestOf, prepare } from "./models.mjs";
import { evaluate, markdown } from "./report.mjs";
import { serve } from "./server.mjs";
import { fetchedBytes, TRANSFORMERS_NAME, transformersBytes } from "./sizes.mjs";

/** Of logits against those of the first contender: float32 sums in another order stay well below it. */
const TOLERANCE = 1e-3;

/**
 * Who takes part, in groups that take turns; `peer` is whom a row is compared with. The results of the very first,
 * onnxruntime-web, are the reference.
 */
function groupsFor({ threads, webgpu }, normalization) {
  const peer = (provider, threads, name) => ({ name, engine: "onnxruntime", provider, threads, normalization });
  const own = (device, worker, images, name, peer) => ({
    name,
    engine: "ours",
    device,
    worker,
    images,
    peer: peer.name,
  });
  const one = peer("wasm", 1, "onnxruntime-web, 1 thread");
  const hub = {
    name: `${TRANSFORMERS_NAME}, wasm, 1 thread`,
    engine: "transformers",
    device: "wasm",
    threads: 1,
    normalization,
  };
  const groups = [
    [one, hub, own("cpu", false, 1, "samlora, worker: false", one), own("cpu", true, 1, "samlora, in a worker", one)],
  ];
  if (threads > 1) {
    const many = peer("wasm", threads, `onnxruntime-web, ${threads} threads`);
    groups.push([many, own("cpu", true, threads, `samlora, ${threads} images in ${threads} workers`, many)]);
  }
  if (webgpu) {
    const gpu = peer("webgpu", 1, "onnxruntime-web, WebGPU");
    const hub = {
      name: `${TRANSFORMERS_NAME}, WebGPU`,
      engine: "transformers",
      device: "webgpu",
      threads: 1,
      normalization,
    };
    groups.push([gpu, hub, own("gpu", false, 1, "samlora, WebGPU", gpu)]);
  }
  return groups;
}

/** Opens a page of `server`, on which `call` runs a function of page.js. */
async function open(browser, server) {
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  await page.goto(server.url);
  const call = (name, argument) =>
    page.evaluate(async ([name, argument]) => (await import("/page.js"))[name](argument), [name, argument]);
  return { call, close: () => page.close() };
}

async function time(browser, models, settings) {
  const { size, rounds } = settings;
  const { normalization } = manifestOf(models.f32);
  const groups = groupsFor(settings, normalization);
  const server = await serve({
    "/lib": settings.lib,
    "/page.js": join(www, "bench/page.js"),
    "/package": models.f32,
    "/encoder.onnx": models.encoder,
    "/decoder.onnx": models.decoder,
    "/ort": join(models.modules, "onnxruntime-web/dist"),
    "/transformers": models.transformers.scripts,
    "/transformers-ort": models.transformers.runtime,
    ...Object.fromEntries(
      ["encoder", "decoder"].flatMap((part) => [
        [`/models/${part}/config.json`, models.config],
        [`/models/${part}/onnx/model.onnx`, models[part]],
      ]),
    ),
  });
  try {
    const page = await open(browser, server);
    const results = await page.call("measure", { groups, size, rounds });
    await page.close();
    for (const { name, error } of results) {
      if (!(error <= TOLERANCE))
        throw new Error(`${name}: the logits differ from ${results[0].name} by ${error} (limit ${TOLERANCE})`);
    }
    return { contenders: groups.flat(), results };
  } finally {
    server.close();
  }
}

/** Bytes to the first mask, of this package by what a page of its own fetches. */
async function weigh(browser, models, settings) {
  const bytes = [];
  for (const device of settings.webgpu ? ["cpu", "gpu"] : ["cpu"]) {
    const server = await serve({ "/lib": settings.lib, "/page.js": join(www, "bench/page.js"), "/package": models.q8 });
    try {
      const page = await open(browser, server);
      await page.call("firstMask", { device, size: settings.size });
      await page.close();
      bytes.push({
        name: `samlora, ${device === "gpu" ? "WebGPU" : "CPU"}, ${settings.backbone} q8`,
        ...fetchedBytes(server.fetched, models.q8),
      });
    } finally {
      server.close();
    }
  }
  const { version, runtime, published } = await transformersBytes(settings.work, settings.backbone);
  if (!published) return [...bytes, { name: version, runtime }];
  const { name, encoder, decoder, source } = published;
  return [
    ...bytes,
    {
      name: `${version}, ${name} (model as Hugging Face lists it for ${source}; not downloaded here)`,
      runtime,
      model: (encoder + decoder) * 1e6,
    },
  ];
}

/** What the figures depend on besides the engines' code. */
async function describe(settings, models, browser, loadBefore) {
  const { wasm } = JSON.parse(readFileSync(join(settings.lib, "wasm/provenance.json"), "utf8"));
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    loadBefore,
    loadAfter: Number(loadavg()[0].toFixed(2)),
    browser: `Chromium ${browser.version()}`,
    samlora: (await ask(settings.samlora, "--version")).replace(/^samlora /, ""),
    wasm,
    onnxruntime: JSON.parse(readFileSync(join(models.modules, "onnxruntime-web/package.json"), "utf8")).version,
  };
}

const settings = parse(process.argv.slice(2));
const models = await prepare(settings);
const loadBefore = Number(loadavg()[0].toFixed(2));
const browser = await chromium.launch(browserOf(settings.webgpu && GPU[settings.webgpu], settings.chromium));
try {
  const { contenders, results } = await time(browser, models, settings);
  const operations = encoderOperations(manifestOf(models.f32), settings.size);
  const { backbone, size, threads, rounds, webgpu } = settings;
  const report = {
    settings: { backbone, size, threads, rounds, webgpu },
    machine: await describe(settings, models, browser, loadBefore),
    operations,
    results: evaluate(results, contenders, operations),
    bytes: await weigh(browser, models, settings),
  };
  console.log(markdown(report));
  console.log(JSON.stringify(report));
  if (settings.json) writeFileSync(settings.json, `${JSON.stringify(report, null, 1)}\n`);
} finally {
  await browser.close();
}
