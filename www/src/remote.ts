// The engine in a worker: every call goes over the wire.

import { Actor } from "./actor.ts";
import type { Engine, LoadRequest, OverlayRequest, PolygonRequest, SegmentReply, SegmentRequest } from "./engine.ts";
import { SamloraError } from "./error.ts";
import type { Pixels } from "./image.ts";
import type { LoadProgress, Logits, ReadFile, SegmenterInfo } from "./types.ts";
import type { WorkerMethods } from "./worker.ts";

/** What the worker may call on the page. */
export type PageMethods = {
  progress: (progress: LoadProgress) => void;
  read: (request: { file: string; limit: number }, signal: AbortSignal) => Promise<Uint8Array>;
};

export class RemoteEngine implements Engine {
  #worker: Worker;
  #actor: Actor<WorkerMethods>;
  #onProgress: (progress: LoadProgress) => void = () => {};
  #read: ReadFile | undefined;

  constructor() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "samlora" });
    const methods: PageMethods = {
      progress: (progress) => this.#onProgress(progress),
      read: async ({ file, limit }, signal) => {
        if (!this.#read) throw new SamloraError("internal", `nothing to read ${file} with`);
        // A copy, because the reply moves its buffer and these bytes may be the page's own.
        return (await this.#read(file, { limit, signal })).slice();
      },
    };
    this.#actor = new Actor<WorkerMethods>(this.#worker, methods);
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#actor.fail(
        new SamloraError(
          "internal",
          event.message ? `the worker failed: ${event.message}` : "the worker's script could not be loaded",
          event.message
            ? "load the model again; if it happens again, report it with this text"
            : "check that worker.js is served beside index.js with a JavaScript content type, or load with worker: false",
        ),
      );
    });
  }

  async load(
    { source, device }: LoadRequest,
    onProgress: (progress: LoadProgress) => void,
    signal?: AbortSignal,
  ): Promise<SegmenterInfo> {
    this.#onProgress = onProgress;
    // A function cannot be sent: the worker calls back for every file.
    if ("read" in source) this.#read = source.read;
    return this.#actor.call("load", { source: "read" in source ? { remote: true } : source, device }, signal);
  }

  segment(request: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply> {
    return this.#actor.call("segment", request, signal, [request.pixels.rgba.buffer as ArrayBuffer]);
  }

  logits(pixels: Pixels): Promise<Logits> {
    return this.#actor.call("logits", pixels, undefined, [pixels.rgba.buffer as ArrayBuffer]);
  }

  overlay(request: OverlayRequest): Promise<Uint8ClampedArray> {
    return this.#actor.call("overlay", request);
  }

  polygons(request: PolygonRequest): Promise<string> {
    return this.#actor.call("polygons", request);
  }

  close(): void {
    // Ending the thread is the only way to give wasm's memory back.
    this.#worker.terminate();
    this.#actor.fail(new SamloraError("disposed", "this segmenter was disposed", "load the model again"));
  }
}
