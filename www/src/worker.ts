// The worker's script: a local engine at the other end of the wire.

import { probe } from "./device/probe.ts";
import { Actor, type Port } from "./engine/actor.ts";
import { LocalEngine } from "./engine/local.ts";
import type { PageMethods, WorkerMethods } from "./engine/protocol.ts";
import type { Source } from "./package/files.ts";

const engine = new LocalEngine({ retries: true, onFailure: (error) => void page.call("failed", error.message) });

const methods: WorkerMethods = {
  load(request, signal) {
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
  segment: ({ abortable, ...request }, signal) => engine.segment(request, abortable ? signal : undefined),
  logits: (request, signal) => engine.logits(request, signal),
  refine: (request) => engine.refine(request),
  overlay: (request) => engine.overlay(request),
  polygons: (request) => engine.polygons(request),
  unload: (model) => engine.unload(model),
  probe: () => probe(),
};

const page: Actor<PageMethods> = new Actor<PageMethods>(globalThis as unknown as Port, methods);
void page.call("started", undefined);

// A panic in wasm surfaces outside any call; reported as an error it reaches the page, which then rejects what waits.
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  reportError(event.reason);
});
