// The worker's script: a local engine at the other end of the wire.

import { Actor, type Port } from "./actor.ts";
import type { LoadRequest, OverlayRequest, PolygonRequest, SegmentRequest } from "./engine.ts";
import type { Pixels } from "./image.ts";
import { LocalEngine } from "./local.ts";
import type { PageMethods } from "./remote.ts";
import type { Source } from "./source.ts";
import type { SegmenterInfo } from "./types.ts";

/** A package that the worker reads by itself, or through the page's function. */
type SentSource = Exclude<Source, { read: unknown }> | { remote: true };

const engine = new LocalEngine();

const methods = {
  load(request: Omit<LoadRequest, "source"> & { source: SentSource }, signal: AbortSignal): Promise<SegmenterInfo> {
    const source: Source =
      "remote" in request.source ? { read: (file, { limit, signal }) => page.call("read", { file, limit }, signal) } : request.source;
    return engine.load({ ...request, source }, (progress) => void page.call("progress", progress), signal);
  },
  segment: (request: SegmentRequest, signal: AbortSignal) => engine.segment(request, signal),
  logits: (pixels: Pixels) => engine.logits(pixels),
  overlay: (request: OverlayRequest) => engine.overlay(request),
  polygons: (request: PolygonRequest) => engine.polygons(request),
};

/** What the page may call on the worker. */
export type WorkerMethods = typeof methods;

const page: Actor<PageMethods> = new Actor<PageMethods>(globalThis as unknown as Port, methods);

// A panic in wasm surfaces outside any call; reported as an error it reaches the page, which then rejects what waits.
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});
