// The engine in a worker: every call goes over the wire.

import type { Probe } from "../device/probe.ts";
import { disposed, SamloraError } from "../error.ts";
import { Silence, START_SILENCE } from "../silence.ts";
import type { Logits, ReadFile, SegmenterInfo } from "../types.ts";
import { Actor } from "./actor.ts";
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
import type { PageMethods, WorkerMethods } from "./protocol.ts";
import { missingWorkerRemedy, spawnWorker } from "./spawn.ts";

export class RemoteEngine implements Engine {
  #worker: Worker;
  #actor: Actor<WorkerMethods>;
  #watches = new Map<ModelId, LoadWatch>();
  #readers = new Map<ModelId, ReadFile>();
  /** Until the worker has said that it runs; what it does then may take as long as it takes. */
  #start: Silence;

  /** `onFailure` is called when the worker or its device can no longer be used. */
  constructor(onFailure: (error: Error) => void = () => {}) {
    this.#worker = spawnWorker();
    const fail = (error: SamloraError) => {
      this.#start.end();
      this.#actor.fail(error);
      onFailure(error);
    };
    this.#start = new Silence(() => {
      const message = `the worker has not started within ${START_SILENCE / 1000} s`;
      fail(new SamloraError("io", message, missingWorkerRemedy()));
    });
    const methods: PageMethods = {
      started: () => this.#start.end(),
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
      const { message } = event;
      fail(
        new SamloraError(
          "internal",
          message ? `the worker failed: ${message}` : "the worker's script could not be loaded",
          message ? "load the model again; if it happens again, report it with this text" : missingWorkerRemedy(),
        ),
      );
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

  logits(request: LogitsRequest, signal?: AbortSignal): Promise<Logits> {
    return this.#actor.call("logits", request, signal);
  }

  refine(request: RefineRequest): Promise<RefineReply> {
    return this.#actor.call("refine", request);
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
    this.#start.end();
    // Ending the thread is the only way to give wasm's memory back.
    this.#worker.terminate();
    this.#actor.fail(disposed());
  }
}
