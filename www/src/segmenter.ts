/// <reference lib="esnext.disposable" preserve="true" />
// The class that pages use: the browser's types around an engine.

import { AreaJob, estimateArea } from "./area/job.ts";
import type { AreaEstimate, AreaOptions } from "./area/types.ts";
import * as check from "./check.ts";
import type { Engine, ModelId } from "./engine/engine.ts";
import { disposed, SamloraError } from "./error.ts";
import { readPixels } from "./image.ts";
import { LocalEngine } from "./engine/local.ts";
import { Pool } from "./engine/pool.ts";
import { RemoteEngine } from "./engine/remote.ts";
import { refine, Result } from "./result.ts";
import { normalise } from "./package/source.ts";
import type {
  Device,
  ImageInput,
  LoadedModel,
  LoadOptions,
  Logits,
  MaskPlanes,
  PackageInput,
  RefineOptions,
  Segmentation,
  SegmenterInfo,
  SegmentOptions,
} from "./types.ts";

/** An engine and the models on it, closed with the last of them. */
interface Host {
  engine: Engine;
  models: Set<ModelId>;
}

let lastModel = 0;

/** A loaded model. */
export class Segmenter implements LoadedModel {
  /** What was loaded; `device` changes when the model has to move. */
  readonly info: SegmenterInfo;
  #host: Host;
  #model: ModelId;
  #disposed = false;

  private constructor(host: Host, model: ModelId, info: SegmenterInfo) {
    this.#host = host;
    this.#model = model;
    this.info = info;
  }

  /**
   * Loads the package `input` and makes it ready on the chosen device.
   *
   * An adapter package needs its `base`. With a segmenter as base, both share its device and the base's memory, so that
   * swapping adapters loads the adapter alone.
   */
  static async load(input: PackageInput, options?: LoadOptions): Promise<Segmenter> {
    const given = check.checkOptions(options, "Segmenter.load", LOAD);
    const { base, signal, onProgress, onEvent } = given;
    signal?.throwIfAborted();
    const { device, start } = plan(given);
    const source = normalise(input);
    const baseSource = base === undefined || base instanceof Segmenter ? undefined : normalise(base as PackageInput);
    const host = base instanceof Segmenter ? base.#shared() : start();
    const watch = { ...(signal && { signal }), ...(onProgress && { onProgress }), ...(onEvent && { onEvent }) };
    const model = ++lastModel;
    host.models.add(model);
    let baseModel: ModelId | undefined = base instanceof Segmenter ? base.#model : undefined;
    try {
      const { store = true, precision = "auto" } = given;
      if (baseSource) {
        baseModel = ++lastModel;
        const { onProgress: _, ...quiet } = watch;
        await host.engine.load({ model: baseModel, source: baseSource, device, precision, store }, quiet);
      }
      const request = { model, source, device, precision, store, ...(baseModel !== undefined && { baseModel }) };
      return new Segmenter(host, model, await host.engine.load(request, watch));
    } catch (error) {
      release(host, model);
      throw signal?.aborted ? signal.reason : SamloraError.from(error);
    }
  }

  /** The class and confidence of every pixel of `image`. */
  async segment(image: ImageInput, options?: SegmentOptions): Promise<Segmentation> {
    const given = check.checkOptions(options, "segment", SEGMENT);
    const { probabilities = false, thresholds, minPixels, signal } = given;
    signal?.throwIfAborted();
    const { classes } = this.info;
    const byIndex = thresholds && { thresholds: check.byIndex(thresholds, classes) };
    const pixels = await readPixels(image);
    signal?.throwIfAborted();
    const request = {
      model: this.#model,
      pixels,
      probabilities,
      ...byIndex,
      ...(minPixels !== undefined && { minPixels }),
    };
    const reply = await this.#call((engine) => engine.segment(request, signal), signal);
    return new Result(reply, { model: this.#model, classes, call: this.#call });
  }

  /**
   * Low-resolution logits of one input window: for those who blend and decide by themselves. An abort takes it out of the
   * queue; a network that runs goes on to its end.
   */
  async logits(image: ImageInput, options?: { signal?: AbortSignal }): Promise<Logits> {
    const { signal } = check.checkOptions(options, "logits", { signal: check.aSignal });
    signal?.throwIfAborted();
    const pixels = await readPixels(image);
    signal?.throwIfAborted();
    return this.#call((engine) => engine.logits({ model: this.#model, pixels }, signal), signal);
  }

  /** The result of masks that were made elsewhere, once thresholds are applied: the package's, or those given. */
  async refine(planes: MaskPlanes, options?: RefineOptions): Promise<Segmentation> {
    const { classMask, confidenceMask } = planes ?? {};
    if (check.kindOf(classMask) !== "Uint8Array" || check.kindOf(confidenceMask) !== "Uint8Array") {
      const message = `masks of ${check.describe(classMask)} and ${check.describe(confidenceMask)}`;
      throw new SamloraError("invalid", message, "give classMask and confidenceMask, each a Uint8Array");
    }
    return refine(planes, options, { model: this.#model, classes: this.info.classes, call: this.#call });
  }

  /**
   * The class masks of an area of any extent, block by block, nearest to the view first. What it gives is an iterable with
   * `pause()`, `resume()`, `stats()` and `result()`; leaving the loop ends the work.
   *
   * Windows lie on a fixed grid of the ground and are blended where they overlap: the result at a place does not depend on
   * where the area begins. Imagery of another resolution than the model's is resampled, up to a factor of 4.
   */
  segmentArea(options: AreaOptions): AreaJob {
    return new AreaJob(this, options);
  }

  /** What `segmentArea` would take: level, resampling, windows, tiles and bytes of memory. */
  estimateArea(options: AreaOptions): Promise<AreaEstimate> {
    return estimateArea(this, options);
  }

  /** Gives all memory back that no other segmenter shares; calls that wait are rejected with code `disposed`. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    release(this.#host, this.#model);
  }

  /** So that `using segmenter = await Segmenter.load(...)` disposes of it at the end of its block. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #shared(): Host {
    if (this.#disposed) throw disposed();
    return this.#host;
  }

  #call = async <T>(work: (engine: Engine) => Promise<T>, signal?: AbortSignal): Promise<T> => {
    if (this.#disposed) throw disposed();
    try {
      return await work(this.#host.engine);
    } catch (error) {
      throw signal?.aborted ? signal.reason : SamloraError.from(error);
    }
  };
}

function release({ engine, models }: Host, model: ModelId): void {
  models.delete(model);
  if (models.size === 0) engine.close();
  else engine.unload(model);
}

const LOAD = {
  device: check.anything,
  precision: check.oneOf("auto", "f32"),
  worker: check.aBoolean,
  workers: check.wholeNumber(1),
  base: check.anything,
  store: check.aBoolean,
  signal: check.aSignal,
  onProgress: check.aFunction,
  onEvent: check.aFunction,
};
const SEGMENT = {
  probabilities: check.aBoolean,
  thresholds: check.anything,
  minPixels: check.wholeNumber(),
  signal: check.aSignal,
};

/** What `options` ask for: the device, and how to start what runs on it. */
function plan({ device = "auto", worker = true, workers, base }: LoadOptions): {
  device: Device | "auto";
  start: () => Host;
} {
  const own = typeof device === "string" ? undefined : (device as GPUDevice);
  if (own === undefined && !["auto", "gpu", "cpu"].includes(device as string)) {
    throw new SamloraError("invalid", `there is no device ${JSON.stringify(device)}`, 'use "auto", "gpu" or "cpu"');
  }
  if (own !== undefined && (typeof own !== "object" || own === null || !("createBuffer" in own))) {
    throw new SamloraError(
      "invalid",
      `${check.describe(own)} is no device`,
      'give a GPUDevice, "auto", "gpu" or "cpu"',
    );
  }
  if (base instanceof Segmenter && own) {
    throw new SamloraError("invalid", "an adapter runs on its base's device", "leave the device out");
  }
  const local = own !== undefined || !worker; // A GPUDevice cannot be sent to a worker.
  const start = (): Host => ({
    models: new Set(),
    engine: local
      ? new Pool({ start: (onFailure) => new LocalEngine({ gpuDevice: own, onFailure }), renewsGpu: false, workers: 1 })
      : new Pool({ start: (onFailure) => new RemoteEngine(onFailure), renewsGpu: true, workers }),
  });
  return { device: own ? "gpu" : (device as Device | "auto"), start };
}
