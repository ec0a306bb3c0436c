// The engine in a worker: every call goes over the wire.

import { Actor } from "./actor.ts";
import type {
  Engine,
  LoadRequest,
  LoadWatch,
  LogitsRequest,
  ModelId,
  OverlayRequest,
  PolygonRequest,
  SegmentReply,
  SegmentRequest,
} from "./engine.ts";
import { disposed, SamloraError } from "../error.ts";
import { missingWorkerRemedy, spawnWorker } from "./spawn.ts";
import type { LoadProgress, Logits, ReadFile, SegmenterEvent, SegmenterInfo } from "../types.ts";
import type { Probe } from "../device/probe.ts";
import type { WorkerMethods } from "../worker.ts";

/** What the worker may call on the page. */
export type PageMethods = {
  progress: (message: { model: ModelId; progress: LoadProgress }) => void;
  event: (message: { model: ModelId; event: SegmenterEvent }) => void;
  read: (request: { model: ModelId; file: string; limit: number }, signal: AbortSignal) => Promise<Uint8Array>;
  failed: (message: string) => void;
};

export class RemoteEngine implements Engine {
  #worker: Worker;
  #actor: Actor<WorkerMethods>;
  #watches = new Map<ModelId, LoadWatch>();
  #readers = new Map<ModelId, ReadFile>();

  /** `onFailure` is called when the worker or its device can no longer be used. */
  constructor(onFailure: (error: Error) => void = () => {}) {
    this.#worker = spawnWorker();
    const methods: PageMethods = {
      progress: ({ model, progress }) => this.#watches.get(model)?.onProgress?.(progress),
      event: ({ model, event }) => this.#watches.get(model)?.onEvent?.(event),
      read: async ({ model, file, limit }, signal) => {
        const read = this.#readers.get(model);
        if (!read) throw new SamloraError("internal", `nothing to read ${file} with`);
        // A copy, because the reply moves its buffer and these bytes may be the page's own.
        return (await read(file, { limit, signal })).slice();
      },
      failed: (message) => onFailure(new SamloraError("device", message)),
    };
    this.#actor = new Actor<WorkerMethods>(this.#worker, methods);
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      const error = new SamloraError(
        "internal",
        event.message ? `the worker failed: ${event.message}` : "the worker's script could not be loaded",
        event.message ? "load the model again; if it happens again, report it with this text" : missingWorkerRemedy(),
      );
      this.#actor.fail(error);
      onFailure(error);
    });
  }

  async load(request: LoadRequest, watch: LoadWatch): Promise<SegmenterInfo> {
    const { model, source, ...rest } = request;
    this.#watches.set(model, watch);
    // A function cannot be sent: the worker calls back for every file.
    if ("read" in source) this.#readers.set(model, source.read);
    const sent = "read" in source ? { remote: true as const } : source;
    try {
      return await this.#actor.call("load", { ...rest, model, source: sent }, watch.signal);
    } finally {
      this.#watches.delete(model);
      this.#readers.delete(model);
    }
  }

  segment(request: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply> {
    // A copy goes over: these pixels are needed again if the worker fails.
    return this.#actor.call("segment", { ...request, abortable: signal !== undefined }, signal);
  }

  logits(request: LogitsRequest): Promise<Logits> {
    return this.#actor.call("logits", request);
  }

  overlay(request: OverlayRequest): Promise<Uint8ClampedArray> {
    return this.#actor.call("overlay", request);
  }

  polygons(request: PolygonRequest): Promise<string> {
    return this.#actor.call("polygons", request);
  }

  /** What this browser offers a worker. */
  probe(): Promise<Probe> {
    return this.#actor.call("probe", undefined);
  }

  unload(model: ModelId): void {
    this.#actor.call("unload", model).catch(() => {}); // A worker that is gone holds no model.
  }

  close(): void {
    // Ending the thread is the only way to give wasm's memory back.
    this.#worker.terminate();
    this.#actor.fail(disposed());
  }
}
