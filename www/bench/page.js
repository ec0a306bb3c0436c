// What the benchmark's page runs: each contender loads the model, runs it once cold, and then all take turns.

import { Segmenter } from "/lib/index.js";

/** Milliseconds between runs, in which threads that wait for work go to sleep. */
const REST = 100;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

/** The same picture for all: fields, roads, roofs and noise, RGBA. */
function scene(size) {
  const image = new ImageData(size, size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const noise = ((x * 7919 + y * 104729) % 31) - 15;
      const road = Math.abs(x - y / 2 - 40) < 6;
      const roof = x % 61 > 22 && x % 61 < 48 && y % 53 > 14 && y % 53 < 40;
      const colour = road
        ? [128, 126, 122]
        : roof
          ? [176, 84, 62]
          : [82 + 30 * Math.sin(x / 37), 118 + 24 * Math.cos(y / 29), 62];
      image.data.set([...colour.map((value) => Math.round(value + noise)), 255], 4 * (y * size + x));
    }
  }
  return image;
}

/** This package. With `images` above 1, as many at once in as many workers; times are then per image. */
async function ours({ model, device, worker, images }, image) {
  // In 32 bits, as the peer; without the browser's storage, whose writes would go on while the first runs are timed.
  const options = { device, precision: "f32", worker, ...(worker && { workers: images }), store: false };
  const segmenter = await Segmenter.load(`/package/${model}/`, options);
  const run = async () => {
    const start = performance.now();
    const results = await Promise.all(Array.from({ length: images }, () => segmenter.segment(image)));
    const total = (performance.now() - start) / images;
    // The GPU computes while others wait, and side by side an image's own time is not its share: neither is the encoder's.
    const stages = images === 1 && device === "cpu" ? results[0].timings : undefined;
    return { total, ...(stages && { encode: stages.encode, stages }), mask: results[0].classMask };
  };
  return { run, logits: async () => (await segmenter.logits(image)).values, dispose: () => segmenter.dispose() };
}

/** Numbers of a picture as the networks get them, `[3, height, width]`. */
function normalized({ data, width, height }, { mean, std }) {
  const pixels = width * height;
  const values = new Float32Array(3 * pixels);
  for (let band = 0; band < 3; band++) {
    const scale = 1 / std[band];
    for (let i = 0; i < pixels; i++) values[band * pixels + i] = (data[4 * i + band] - mean[band]) * scale;
  }
  return values;
}

/** transformers.js: the same two graphs, each as a model of its own, which its onnxruntime runs. */
async function transformers({ model, device, threads, normalization }, image) {
  const { AutoModel, Tensor, env } = await import(`/transformers/transformers.min.js?device=${device}`);
  Object.assign(env, {
    allowRemoteModels: false,
    allowLocalModels: true,
    localModelPath: "/models/",
    useBrowserCache: false,
    useWasmCache: false,
  });
  const [mjs, wasm] = ["mjs", "wasm"].map((type) => `/transformers-ort/ort-wasm-simd-threaded.asyncify.${type}`); // Its own choice.
  Object.assign(env.backends.onnx.wasm, { wasmPaths: { mjs, wasm }, numThreads: threads });
  const open = (part) => AutoModel.from_pretrained(`${model}-${part}`, { device, dtype: "fp32" });
  const [encoder, decoder] = [await open("encoder"), await open("decoder")];
  const timed = twoGraphs({ Tensor, encoder, decoder, isTimed: device === "wasm" }, normalization, image);
  return { ...timed, dispose: () => Promise.all([encoder.dispose(), decoder.dispose()]) };
}

/** Runs of an encoder and of a decoder with softmax and argmax in its graph; the encoder's time where it can be told. */
function twoGraphs({ Tensor, encoder, decoder, isTimed }, normalization, image) {
  let logits;
  const run = async () => {
    const start = performance.now();
    const input = new Tensor("float32", normalized(image, normalization), [1, 3, image.height, image.width]);
    const before = performance.now();
    const { embedding } = await encoder({ image: input });
    const encode = performance.now() - before;
    const result = await decoder({ embedding });
    const total = performance.now() - start;
    embedding.dispose();
    logits = result.logits.data;
    return { total, ...(isTimed && { encode }), mask: result.classes.data };
  };
  return { run, logits: async () => logits };
}

/** onnxruntime-web: the two graphs as sessions. */
async function onnxruntime({ model, provider, threads, normalization }, image) {
  // A module of its own for each contender, because the number of threads is the module's.
  const ort = await import(
    provider === "wasm" ? `/ort/ort.wasm.min.mjs?threads=${threads}` : "/ort/ort.webgpu.min.mjs"
  );
  ort.env.wasm.wasmPaths = "/ort/";
  ort.env.wasm.numThreads = threads;
  const open = async (url, options) =>
    ort.InferenceSession.create(await bytes(url), { executionProviders: [provider], ...options });
  const gpu = provider === "webgpu";
  const encoder = await open(`/onnx/${model}-encoder.onnx`, gpu ? { preferredOutputLocation: "gpu-buffer" } : {});
  const decoder = await open(`/onnx/${model}-decoder.onnx`);
  if (!gpu && ort.env.wasm.numThreads !== threads)
    throw new Error(`onnxruntime-web runs on ${ort.env.wasm.numThreads} threads`);

  const graphs = {
    Tensor: ort.Tensor,
    encoder: (input) => encoder.run(input),
    decoder: (input) => decoder.run(input),
    isTimed: !gpu,
  };
  return {
    ...twoGraphs(graphs, normalization, image),
    dispose: () => Promise.all([encoder.release(), decoder.release()]),
  };
}

/** Largest deviation over largest value; NaN where a number is not finite or the lengths differ. */
function relativeError(got, want) {
  let deviation = 0;
  let largest = 0;
  for (let i = 0; i < want.length; i++) {
    deviation = Math.max(deviation, Math.abs(got[i] - want[i])); // Math.max keeps a NaN.
    largest = Math.max(largest, Math.abs(want[i]));
  }
  return got.length === want.length ? deviation / largest : NaN;
}

const share = (a, b) => a.reduce((same, value, i) => same + (value === b[i]), 0) / a.length;

/** Loads a contender and runs it once; the first of each model leaves what others are compared with in `references`. */
async function enter({ name, engine, ...options }, image, references) {
  await sleep(REST);
  const start = performance.now();
  const loaded = await { ours, onnxruntime, transformers }[engine](options, image);
  const load = performance.now() - start;
  const { mask, ...cold } = await loaded.run();
  const logits = await loaded.logits();
  console.log(`${name}: loaded in ${load.toFixed(0)} ms, first run ${cold.total.toFixed(0)} ms`);
  const reference = (references[options.model] ??= { mask, logits });
  const found = { error: relativeError(logits, reference.logits), samePixels: share(mask, reference.mask) };
  return { name, load, cold, warm: [], ...found, loaded };
}

/**
 * Measures each group of contenders in this page, one group after the other, so that only those that are compared are in
 * memory at once. Of each contender: `load`, the milliseconds of loading; `cold`, its first run; `warm`, the others;
 * `error` and `samePixels` against the very first of its model.
 */
export async function measure({ groups, size, rounds }) {
  if (!crossOriginIsolated) throw new Error("the page is not cross-origin isolated");
  const image = scene(size);
  const references = {};
  const all = [];
  for (const group of groups) {
    const results = [];
    for (const contender of group) results.push(await enter(contender, image, references));
    for (let round = 0; round < rounds; round++) {
      // There and back again, so that none always follows the same one.
      for (const { warm, loaded } of round % 2 ? results.toReversed() : results) {
        await sleep(REST);
        const { mask: _, ...times } = await loaded.run();
        warm.push(times);
      }
      console.log(
        `round ${round + 1} of ${rounds}: ${results.map(({ warm }) => warm.at(-1).total.toFixed(0)).join(", ")} ms`,
      );
    }
    await Promise.all(results.map(({ loaded }) => loaded.dispose()));
    all.push(...results.map(({ loaded: _, ...result }) => result));
  }
  return all;
}

/** Loads the package into a worker and segments one picture, as a page does for its first mask. */
export async function firstMask({ device, size }) {
  const segmenter = await Segmenter.load("/package/", { device, store: false });
  await segmenter.segment(scene(size));
  segmenter.dispose();
}

/** Loads the package onto this page's GPU and segments one picture; what of the GPU it took, in bytes. */
export async function memory({ size }) {
  const took = { now: 0, peak: 0, binding: 0, pipelines: 0 };
  const { createBuffer, createBindGroup, createComputePipeline } = GPUDevice.prototype;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    took.peak = Math.max(took.peak, (took.now += descriptor.size));
    const destroy = buffer.destroy;
    buffer.destroy = function () {
      took.now -= descriptor.size;
      return destroy.call(this);
    };
    return buffer;
  };
  GPUDevice.prototype.createBindGroup = function (descriptor) {
    for (const { resource } of descriptor.entries) {
      took.binding = Math.max(took.binding, resource.size ?? resource.buffer?.size ?? 0);
    }
    return createBindGroup.call(this, descriptor);
  };
  GPUDevice.prototype.createComputePipeline = function (descriptor) {
    took.pipelines++;
    return createComputePipeline.call(this, descriptor);
  };
  const segmenter = await Segmenter.load("/package/", { device: "gpu", precision: "f32", worker: false, store: false });
  if (segmenter.info.device !== "gpu") throw new Error("the model runs on the CPU");
  const loaded = took.now;
  const start = performance.now();
  await segmenter.segment(scene(size));
  const milliseconds = performance.now() - start;
  segmenter.dispose();
  return { loaded, peak: took.peak, binding: took.binding, pipelines: took.pipelines, milliseconds };
}
