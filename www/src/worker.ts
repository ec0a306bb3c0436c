// The worker's script: a local engine at the other end of the wire.

import { Actor, type Port } from "./engine/actor.ts";
import type {
  LoadRequest,
  LogitsRequest,
  ModelId,
  OverlayRequest,
  PolygonRequest,
  SegmentRequest,
} from "./engine/engine.ts";
import { LocalEngine } from "./engine/local.ts";
import { probe } from "./device/probe.ts";
import type { PageMethods } from "./engine/remote.ts";
import type { Source } from "./package/source.ts";
import type { SegmenterInfo } from "./types.ts";

/** A package that the worker reads by itself, or through the page's function. */
type SentSource = Exclude<Source, { read: unknown }> | { remote: true };

const engine = new LocalEngine({ retries: true, onFailure: (error) => void page.call("failed", error.message) });

const methods = {
  load(request: Omit<LoadRequest, "source"> & { source: SentSource }, signal: AbortSignal): Promise<SegmenterInfo> {
    const { model } = request;
    const source: Source =
      "remote" in request.source
        ? { read: (file, { limit, signal }) => page.call("read", { model, file, limit }, signal) }
        : request.source;
    return engine.load(
      { ...request, source },
      {
        signal,
        onProgress: (progress) => void page.call("progress", { model, progress }),
        onEvent: (event) => void page.call("event", { model, event }),
      },
    );
  },
  segment: ({ abortable, ...request }: SegmentRequest & { abortable: boolean }, signal: AbortSignal) =>
    engine.segment(request, abortable ? signal : undefined),
  logits: (request: LogitsRequest) => engine.logits(request),
  overlay: (request: OverlayRequest) => engine.overlay(request),
  polygons: (request: PolygonRequest) => engine.polygons(request),
  unload: (model: ModelId) => engine.unload(model),
  probe: (_: undefined) => probe(),
};

/** What the page may call on the worker. */
export type WorkerMethods = typeof methods;

const page: Actor<PageMethods> = new Actor<PageMethods>(globalThis as unknown as Port, methods);

// A panic in wasm surfaces outside any call; reported as an error it reaches the page, which then rejects what waits.
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});
