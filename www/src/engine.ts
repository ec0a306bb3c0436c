// What runs a model: one interface, on the calling thread (local.ts) or in a worker (remote.ts). Pixels and masks in,
// masks out; `Segmenter` puts the browser's own types around it.

import type { Pixels } from "./image.ts";
import type { Source } from "./source.ts";
import type { ClassStats, Device, LoadProgress, Logits, OverlayOptions, PolygonOptions, SegmenterInfo, Timings } from "./types.ts";

export interface LoadRequest {
  source: Source;
  device: Device | "auto";
}

/** The masks of one image, `[height, width]`. */
export interface Masks {
  width: number;
  height: number;
  classMask: Uint8Array;
  confidenceMask: Uint8Array;
}

export interface SegmentRequest {
  pixels: Pixels;
  probabilities: boolean;
}

export interface SegmentReply extends Masks {
  probabilities?: Uint8Array;
  timings: Timings;
  stats: ClassStats[];
}

export interface OverlayRequest {
  masks: Masks;
  options: OverlayOptions;
}

export interface PolygonRequest {
  masks: Masks;
  options: PolygonOptions;
}

export interface Engine {
  load(request: LoadRequest, onProgress: (progress: LoadProgress) => void, signal?: AbortSignal): Promise<SegmenterInfo>;
  segment(request: SegmentRequest, signal?: AbortSignal): Promise<SegmentReply>;
  logits(pixels: Pixels): Promise<Logits>;
  /** RGBA8 of the class colours. */
  overlay(request: OverlayRequest): Promise<Uint8ClampedArray>;
  /** GeoJSON text. */
  polygons(request: PolygonRequest): Promise<string>;
  close(): void;
}
