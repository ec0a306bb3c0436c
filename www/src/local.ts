// The engine on the calling thread: wasm behind the engine's interface.

import { chooseDevice, type Choice } from "./device.ts";
import type { Engine, LoadRequest, OverlayRequest, PolygonRequest, SegmentReply, SegmentRequest } from "./engine.ts";
import { SamloraError } from "./error.ts";
import type { Pixels } from "./image.ts";
import { loadRuntime, type Runtime } from "./runtime.ts";
import { MANIFEST, MANIFEST_LIMIT, nameOf, reader } from "./source.ts";
import type { ClassInfo, LoadProgress, Logits, SegmenterInfo } from "./types.ts";

type WasmSegmenter = Awaited<ReturnType<Runtime["Segmenter"]["load"]>>;

export class LocalEngine implements Engine {
  #wasm: WasmSegmenter | undefined;
  #closed = false;
  // One inference at a time: memory stays that of one, and `close` knows when nothing is running.
  #last: Promise<unknown> = Promise.resolve();

  async load(
    { source, device: wish }: LoadRequest,
    onProgress: (progress: LoadProgress) => void,
    signal?: AbortSignal,
  ): Promise<SegmenterInfo> {
    const start = performance.now();
    const read = reader(source);
    // Asked for first, so that a wrong address is reported before the runtime is fetched.
    const manifest = await read(MANIFEST, { limit: MANIFEST_LIMIT, ...(signal && { signal }) });
    const choice = await chooseDevice(wish);
    const runtime = await loadRuntime(choice.device);
    let failure: unknown;
    let bytes = 0;
    try {
      this.#wasm = await runtime.Segmenter.load(
        async (file, limit) => {
          try {
            signal?.throwIfAborted();
            return file === MANIFEST ? manifest : await read(file, { limit, ...(signal && { signal }) });
          } catch (error) {
            failure = error; // Wasm knows it only as text; the page gets the error itself.
            throw error;
          }
        },
        nameOf(source),
        choice.device,
        (loadedBytes, totalBytes) => {
          bytes = totalBytes;
          onProgress({ loadedBytes, totalBytes });
        },
      );
    } catch (error) {
      throw SamloraError.from(failure ?? error);
    }
    if (this.#closed) {
      this.close();
      throw disposed();
    }
    signal?.throwIfAborted();
    return describe(this.#wasm, choice, bytes + manifest.length, performance.now() - start);
  }

  segment({ pixels, probabilities }: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply> {
    return this.#queue(async (wasm) => {
      signal?.throwIfAborted();
      const { rgba, width, height } = pixels;
      const result = await wasm.segment(rgba, width, height, { probabilities });
      try {
        const reply: SegmentReply = {
          width: result.width,
          height: result.height,
          classMask: result.classMask(),
          confidenceMask: result.confidenceMask(),
          timings: result.timings(),
          stats: result.stats(),
        };
        const all = result.probabilities();
        if (all) reply.probabilities = all;
        return reply;
      } finally {
        result.free();
      }
    });
  }

  logits({ rgba, width, height }: Pixels): Promise<Logits> {
    return this.#queue(async (wasm) => (await wasm.logits(rgba, width, height)) as Logits);
  }

  overlay({ masks, options }: OverlayRequest): Promise<Uint8ClampedArray> {
    const { classMask, width, height } = masks;
    return this.#queue(async (wasm) => wasm.overlay(classMask, width, height, options));
  }

  polygons({ masks, options }: PolygonRequest): Promise<string> {
    const { classMask, confidenceMask, width, height } = masks;
    return this.#queue(async (wasm) => wasm.polygons(classMask, confidenceMask, width, height, options));
  }

  close(): void {
    this.#closed = true;
    const wasm = this.#wasm;
    this.#wasm = undefined;
    void this.#last.then(() => wasm?.free());
  }

  #queue<T>(work: (wasm: WasmSegmenter) => Promise<T>): Promise<T> {
    const wasm = this.#wasm;
    if (!wasm) return Promise.reject(disposed());
    const result = this.#last.then(() => {
      if (this.#closed) throw disposed();
      return work(wasm);
    });
    this.#last = result.catch(() => {});
    return result;
  }
}

function disposed(): SamloraError {
  return new SamloraError("disposed", "this segmenter was disposed", "load the model again");
}

function describe(wasm: WasmSegmenter, choice: Choice, bytes: number, loadTime: number): SegmenterInfo {
  const manifest = wasm.info() as Omit<SegmenterInfo, "device" | "adapter" | "bytes" | "loadTime"> & { classes: ClassInfo[] };
  return { ...manifest, ...choice, bytes, loadTime };
}
