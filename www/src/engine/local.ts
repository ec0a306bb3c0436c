// The engine on the calling thread: wasm behind the engine's interface.

import { chooseDevice, type Choice } from "../device/device.ts";
import type {
  Engine,
  LoadRequest,
  LoadWatch,
  LogitsRequest,
  ModelId,
  OverlayRequest,
  PolygonRequest,
  RefineReply,
  RefineRequest,
  SegmentReply,
  SegmentRequest,
} from "./engine.ts";
import { disposed, isAbort, SamloraError } from "../error.ts";
import { wasmName } from "../device/gpu.ts";
import { pauser } from "./pause.ts";
import { loadRuntime, type WasmSegmenter } from "../runtime.ts";
import { sha256 } from "../package/manifest.ts";
import { MANIFEST, nameOf, openPackage } from "../package/source.ts";
import type { Logits, SegmenterInfo } from "../types.ts";

export interface LocalOptions {
  /** A page's own GPU device. */
  gpuDevice?: GPUDevice | undefined;
  /** Whether a failed precision can be mended by another engine. */
  retries?: boolean;
  /** Called once when the device can no longer be used, even if nothing was running on it. */
  onFailure?: (error: Error) => void;
}

export class LocalEngine implements Engine {
  #models = new Map<ModelId, { wasm: WasmSegmenter; choice: Choice }>();
  #options: LocalOptions;
  #watched = false;
  #closed = false;
  // One inference at a time: memory stays that of one, and `close` knows when nothing is running.
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: LocalOptions = {}) {
    this.#options = options;
  }

  async load(
    { model, source, device, precision, store, baseModel }: LoadRequest,
    watch: LoadWatch,
  ): Promise<SegmenterInfo> {
    const start = performance.now();
    const { signal, onEvent } = watch;
    // First of all, so that a wrong address is reported before the runtime is fetched.
    const opened = await openPackage(source, { ...watch, store });
    const base = baseModel === undefined ? undefined : this.#models.get(baseModel);
    if (baseModel !== undefined && !base) throw disposed();
    const choice =
      base?.choice ??
      (await chooseDevice({
        device,
        precision,
        own: this.#options.gpuDevice,
        retries: this.#options.retries ?? false,
      }));
    if (choice.instead && !base) onEvent?.({ type: "fallback", device: choice.device, message: choice.instead });
    this.#watch(choice);
    const { Segmenter } = await loadRuntime(choice.device);
    let failure: unknown;
    const read = async (file: string, limit: number) => {
      try {
        signal?.throwIfAborted();
        return file === MANIFEST ? opened.manifest : await opened.read(file, limit);
      } catch (error) {
        failure = error; // Wasm knows it only as text; the page gets the error itself.
        throw error;
      }
    };
    const name = nameOf(source);
    let wasm: WasmSegmenter;
    try {
      wasm = await guarded(
        choice,
        base ? base.wasm.loadAdapter(read, name) : Segmenter.load(read, name, nameInWasm(choice)),
      );
    } catch (error) {
      throw SamloraError.from(failure ?? error);
    }
    if (this.#closed || signal?.aborted) {
      wasm.free();
      throw signal?.aborted ? signal.reason : disposed();
    }
    this.#models.set(model, { wasm, choice });
    const described = wasm.info() as Omit<
      SegmenterInfo,
      "device" | "adapter" | "precision" | "workers" | "stored" | "bytes" | "hash" | "loadTime"
    >;
    const { adapter } = choice;
    const hash = await sha256(opened.manifest);
    return {
      ...described,
      device: choice.device,
      ...(adapter && { adapter }),
      precision: choice.gpu?.precision ?? "f32",
      workers: 1,
      stored: opened.stored(),
      bytes: opened.bytes,
      ...(hash && { hash }),
      loadTime: performance.now() - start,
    };
  }

  segment(
    { model, pixels, probabilities, thresholds, minPixels = 0 }: SegmentRequest,
    signal?: AbortSignal,
  ): Promise<SegmentReply> {
    return this.#queue(model, async ({ wasm, choice }) => {
      signal?.throwIfAborted();
      const { rgba, width, height } = pixels;
      const pause = pauser(choice.gpu?.device, signal);
      const work = wasm.segment(rgba, width, height, probabilities, pairs(thresholds), count(minPixels), pause);
      const result = await guarded(choice, work).catch((error: unknown) => {
        throw signal?.aborted ? signal.reason : error;
      });
      try {
        const all = result.probabilities();
        return { ...masksOf(result), timings: result.timings(), ...(all && { probabilities: all }) };
      } finally {
        result.free();
      }
    });
  }

  logits({ model, pixels: { rgba, width, height } }: LogitsRequest, signal?: AbortSignal): Promise<Logits> {
    return this.#queue(model, async ({ wasm, choice }) => {
      signal?.throwIfAborted();
      return guarded(choice, wasm.logits(rgba, width, height) as Promise<Logits>);
    });
  }

  refine({ model, masks, options: { thresholds, part, minPixels = 0 } }: RefineRequest): Promise<RefineReply> {
    const { classMask, confidenceMask, width, height } = masks;
    const kept = part && Uint32Array.of(part.left, part.top, part.width, part.height);
    const limits = pairs(thresholds);
    return this.#now(model, (wasm) => {
      const result = wasm.refine(classMask, confidenceMask, width, height, limits, count(minPixels), kept);
      try {
        return masksOf(result);
      } finally {
        result.free();
      }
    });
  }

  overlay({ model, masks, options: { opacity = 1, outline = false, classes } }: OverlayRequest) {
    const { classMask, width, height } = masks;
    const drawn = classes && Uint8Array.from(classes);
    return this.#now(model, (wasm) => wasm.overlay(classMask, width, height, opacity, outline, drawn));
  }

  polygons({ model, masks, options }: PolygonRequest): Promise<string> {
    const { classMask, confidenceMask, width, height } = masks;
    const { minPixels = 0, tolerance = 0, tile, classes } = options;
    const place = tile && Uint32Array.of(tile.z, tile.x, tile.y);
    const traced = classes && Uint8Array.from(classes);
    return this.#now(model, (wasm) =>
      wasm.polygons(classMask, confidenceMask, width, height, count(minPixels), tolerance, place, traced),
    );
  }

  unload(model: ModelId): void {
    const entry = this.#models.get(model);
    this.#models.delete(model);
    void this.#last.then(() => entry?.wasm.free());
  }

  close(): void {
    this.#closed = true;
    for (const model of [...this.#models.keys()]) this.unload(model);
  }

  #watch({ gpu }: Choice): void {
    if (!gpu || this.#watched) return;
    this.#watched = true;
    gpu.failure.catch((error: Error) => {
      if (!this.#closed) this.#options.onFailure?.(error);
    });
  }

  /** Work on masks, between the layers of a network that runs: wasm waits there, and nothing of it is changed. */
  async #now<T>(model: ModelId, work: (wasm: WasmSegmenter) => T): Promise<T> {
    const entry = this.#models.get(model);
    if (this.#closed || !entry) throw disposed();
    try {
      return work(entry.wasm);
    } catch (error) {
      throw SamloraError.from(error);
    }
  }

  #queue<T>(model: ModelId, work: (entry: { wasm: WasmSegmenter; choice: Choice }) => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      const entry = this.#models.get(model);
      if (this.#closed || !entry) throw disposed();
      return work(entry);
    });
    this.#last = result.catch(() => {});
    return result.catch((error: unknown) => {
      throw SamloraError.from(error);
    });
  }
}

function masksOf(result: ReturnType<WasmSegmenter["refine"]>): RefineReply {
  const { width, height } = result;
  return {
    width,
    height,
    classMask: result.classMask(),
    confidenceMask: result.confidenceMask(),
    stats: result.stats(),
  };
}

/** Class indices and least confidences, in turn. */
const pairs = (thresholds: Record<number, number> = {}) =>
  Float32Array.from(Object.entries(thresholds).flatMap(([index, least]) => [Number(index), least]));

/** A number of pixels as wasm takes it; no picture has more. */
const count = (pixels: number) => Math.min(pixels, 2 ** 32 - 1);

const nameInWasm = ({ gpu }: Choice) => (gpu ? wasmName(gpu.precision) : "cpu");

/** How long a failed call waits for the GPU to tell that it was lost, in milliseconds: that is the cause to report. */
const CAUSE_WAIT = 100;

/** `work`, unless the GPU fails first: what waits for a lost device may wait for ever. */
function guarded<T>({ gpu }: Choice, work: Promise<T>): Promise<T> {
  if (!gpu) return work;
  const wait = () => new Promise((resolve) => setTimeout(resolve, CAUSE_WAIT));
  return Promise.race([work, gpu.failure]).catch(async (error: unknown) => {
    if (!isAbort(error)) await Promise.race([gpu.failure, wait()]);
    throw error;
  });
}
