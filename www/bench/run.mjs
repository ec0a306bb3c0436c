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
 * Who takes part, in groups that take turns; `peers` are whom a row is compared with. The results of the first of each model,
 * onnxruntime-web's, are its reference. Several models are all in the same groups.
 */
function groupsFor({ backbones, threads, webgpu }, normalizations) {
  const isOne = backbones.length === 1;
  const groupsOf = backbones.map((model) => {
    const row = (name, rest) => ({ name: isOne ? name : `${model}, ${name}`, model, ...rest });
    const peer = (name, rest) => row(name, { normalization: normalizations[model], threads: 1, ...rest });
    const hub = (name, device) => peer(`${TRANSFORMERS_NAME}, ${name}`, { engine: "transformers", device });
    const ort = (name, rest) => peer(`onnxruntime-web, ${name}`, { engine: "onnxruntime", provider: "wasm", ...rest });
    const own = (name, device, worker, images, peer) =>
      row(`samlora, ${name}`, { engine: "ours", device, worker, images, peers: [peer.name] });
    const one = ort("1 thread");
    const page = isOne ? [own("worker: false", "cpu", false, 1, one)] : [];
    const groups = [[one, hub("wasm, 1 thread", "wasm"), ...page, own("in a worker", "cpu", true, 1, one)]];
    if (threads > 1) {
      const many = ort(`${threads} threads`, { threads });
      groups.push([many, own(`${threads} images in ${threads} workers`, "cpu", true, threads, many)]);
    }
    if (webgpu) {
      const gpu = ort("WebGPU", { provider: "webgpu" });
      groups.push([gpu, hub("WebGPU", "webgpu"), own("WebGPU", "gpu", false, 1, gpu)]);
    }
    return groups;
  });
  const groups = groupsOf[0].map((_, i) => groupsOf.flatMap((groups) => groups[i]));
  // The project's own light encoder beside what others run of theirs.
  for (const group of groups) {
    const others = group.filter(({ model, engine }) => model !== "lite0" && engine !== "ours");
    group
      .filter(({ model, engine }) => model === "lite0" && engine === "ours")
      .forEach(({ peers }) => {
        peers.push(...others.map(({ name }) => name));
      });
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

async function time(browser, { models, config, modules, transformers }, settings) {
  const { size, rounds } = settings;
  const each = (mounts) => Object.fromEntries(Object.entries(models).flatMap(([model, paths]) => mounts(model, paths)));
  const groups = groupsFor(
    settings,
    each((model, { f32 }) => [[model, manifestOf(f32).normalization]]),
  );
  const server = await serve({
    "/lib": settings.lib,
    "/page.js": join(www, "bench/page.js"),
    "/ort": join(modules, "onnxruntime-web/dist"),
    "/transformers": transformers.scripts,
    "/transformers-ort": transformers.runtime,
    ...each((model, { f32 }) => [[`/package/${model}`, f32]]),
    ...each((model, paths) =>
      ["encoder", "decoder"].flatMap((part) => [
        [`/onnx/${model}-${part}.onnx`, paths[part]],
        [`/models/${model}-${part}/config.json`, config],
        [`/models/${model}-${part}/onnx/model.onnx`, paths[part]],
      ]),
    ),
  });
  try {
    const page = await open(browser, server);
    const results = await page.call("measure", { groups, size, rounds });
    await page.close();
    for (const { name, error } of results) {
      if (!(error <= TOLERANCE))
        throw new Error(`${name}: the logits differ from onnxruntime-web's by ${error} (limit ${TOLERANCE})`);
    }
    return { contenders: groups.flat(), results };
  } finally {
    server.close();
  }
}

/** Bytes to the first mask, of this package by what a page of its own fetches. */
async function weigh(browser, { models }, settings) {
  const bytes = [];
  for (const [backbone, { q8 }] of Object.entries(models)) {
    for (const device of settings.webgpu ? ["cpu", "gpu"] : ["cpu"]) {
      const server = await serve({ "/lib": settings.lib, "/page.js": join(www, "bench/page.js"), "/package": q8 });
      try {
        const page = await open(browser, server);
        await page.call("firstMask", { device, size: settings.size });
        await page.close();
        const name = `samlora, ${device === "gpu" ? "WebGPU" : "CPU"}, ${backbone} q8`;
        bytes.push({ name, ...fetchedBytes(server.fetched, q8) });
      } finally {
        server.close();
      }
    }
  }
  const { version, runtime, published } = await transformersBytes(settings.work, settings.backbones);
  if (!published.length) bytes.push({ name: version, runtime });
  for (const { name, encoder, decoder, source } of published) {
    bytes.push({
      name: `${version}, ${name} (model as Hugging Face lists it for ${source}; not downloaded here)`,
      runtime,
      model: (encoder + decoder) * 1e6,
    });
  }
  return bytes;
}

/** What the figures depend on besides the engines' code. */
async function describe(settings, { modules }, browser, loadBefore) {
  const { wasm } = JSON.parse(readFileSync(join(settings.lib, "wasm/provenance.json"), "utf8"));
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    loadBefore,
    loadAfter: Number(loadavg()[0].toFixed(2)),
    browser: `Chromium ${browser.version()}`,
    samlora: (await ask(settings.samlora, "--version")).replace(/^samlora /, ""),
    wasm,
    onnxruntime: JSON.parse(readFileSync(join(modules, "onnxruntime-web/package.json"), "utf8")).version,
  };
}

const settings = parse(process.argv.slice(2));
const prepared = await prepare(settings);
const loadBefore = Number(loadavg()[0].toFixed(2));
const browser = await chromium.launch(browserOf(settings.webgpu && GPU[settings.webgpu], settings.chromium));
try {
  const { contenders, results } = await time(browser, prepared, settings);
  const { backbones, size, threads, rounds, webgpu } = settings;
  const counted = backbones.map((model) => [model, encoderOperations(manifestOf(prepared.models[model].f32), size)]);
  const operations = Object.fromEntries(counted.filter(([, found]) => found));
  const report = {
    settings: { backbones, size, threads, rounds, webgpu },
    machine: await describe(settings, prepared, browser, loadBefore),
    operations,
    results: evaluate(results, contenders, operations),
    bytes: await weigh(browser, prepared, settings),
  };
  console.log(markdown(report));
  console.log(JSON.stringify(report));
  if (settings.json) writeFileSync(settings.json, `${JSON.stringify(report, null, 1)}\n`);
} finally {
  await browser.close();
}
