// What runs models: one interface, on the calling thread (local.ts), in a worker (remote.ts), or in workers that are started
// and replaced as needed (pool.ts). Pixels and masks in, masks out; `Segmenter` puts the browser's own types around it.

import type { Pixels } from "../image.ts";
import type { Source } from "../package/files.ts";
import type {
  ClassStats,
  Device,
  LoadProgress,
  Logits,
  MaskPlanes,
  OverlayOptions,
  PolygonOptions,
  RefineOptions,
  SegmenterEvent,
  SegmenterInfo,
  Timings,
} from "../types.ts";

/** Names a loaded model within an engine; chosen by the caller. */
export type ModelId = number;

export interface LoadRequest {
  model: ModelId;
  source: Source;
  device: Device | "auto";
  precision: "auto" | "f32";
  /** Use this browser's storage. */
  store: boolean;
  /** The loaded model that an adapter package is put onto. */
  baseModel?: ModelId;
}

/** What `load` tells while it runs. */
export interface LoadWatch {
  onProgress?: (progress: LoadProgress) => void;
  onEvent?: (event: SegmenterEvent) => void;
  signal?: AbortSignal;
}

export interface SegmentRequest {
  model: ModelId;
  pixels: Pixels;
  probabilities: boolean;
  /** By class index. */
  thresholds?: Record<number, number>;
  minPixels?: number;
}

export interface RefineReply extends MaskPlanes {
  stats: ClassStats[];
}

export interface SegmentReply extends RefineReply {
  probabilities?: Uint8Array;
  timings: Timings;
}

export interface LogitsRequest {
  model: ModelId;
  pixels: Pixels;
}

export interface RefineRequest {
  model: ModelId;
  masks: MaskPlanes;
  /** Thresholds by class index. */
  options: Omit<RefineOptions, "thresholds"> & { thresholds?: Record<number, number> };
}

export interface OverlayRequest {
  model: ModelId;
  masks: MaskPlanes;
  options: OverlayOptions;
}

export interface PolygonRequest {
  model: ModelId;
  masks: MaskPlanes;
  options: PolygonOptions;
}

export interface Engine {
  load(request: LoadRequest, watch: LoadWatch): Promise<SegmenterInfo>;
  segment(request: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply>;
  /** One window; `signal` takes it out of the queue, and does not end a network that runs. */
  logits(request: LogitsRequest, signal?: AbortSignal): Promise<Logits>;
  /** Thresholds, small regions and a part, as after the network. This and what follows does not wait for the network. */
  refine(request: RefineRequest): Promise<RefineReply>;
  /** RGBA8 of the class colours. */
  overlay(request: OverlayRequest): Promise<Uint8ClampedArray>;
  /** GeoJSON text. */
  polygons(request: PolygonRequest): Promise<string>;
  /** Gives one model's memory back. */
  unload(model: ModelId): void;
  /** Gives everything back; calls that wait are rejected with code `disposed`. */
  close(): void;
}
