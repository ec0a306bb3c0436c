// What the page and the worker may call on one another.

import type { Probe } from "../device/probe.ts";
import type { Source } from "../package/files.ts";
import type { LoadProgress, Logits, SegmenterEvent, SegmenterInfo } from "../types.ts";
import type {
  LoadRequest,
  LogitsRequest,
  ModelId,
  OverlayRequest,
  PolygonRequest,
  RefineReply,
  RefineRequest,
  SegmentReply,
  SegmentRequest,
} from "./engine.ts";

/** A package that the worker reads by itself, or through the page's function. */
export type SentSource = Exclude<Source, { read: unknown }> | { remote: true };

/** What the page may call on the worker. */
export type WorkerMethods = {
  load(request: Omit<LoadRequest, "source"> & { source: SentSource }, signal: AbortSignal): Promise<SegmenterInfo>;
  segment(request: SegmentRequest & { abortable: boolean }, signal: AbortSignal): Promise<SegmentReply>;
  logits(request: LogitsRequest, signal: AbortSignal): Promise<Logits>;
  refine(request: RefineRequest): Promise<RefineReply>;
  overlay(request: OverlayRequest): Promise<Uint8ClampedArray>;
  polygons(request: PolygonRequest): Promise<string>;
  unload(model: ModelId): void;
  probe(nothing: undefined): Promise<Probe>;
};

/** What the worker may call on the page. */
export type PageMethods = {
  /** The worker's script runs; the first thing that it says. */
  started(nothing: undefined): void;
  progress(message: { model: ModelId; progress: LoadProgress }): void;
  event(message: { model: ModelId; event: SegmenterEvent }): void;
  read(request: { model: ModelId; file: string; limit: number }, signal: AbortSignal): Promise<Uint8Array>;
  failed(message: string): void;
};
