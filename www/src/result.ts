// What was found in one image, and what it can be turned into.

import type { Engine, Masks, ModelId, SegmentReply } from "./engine/engine.ts";
import { SamloraError } from "./error.ts";
import type {
  BlobOptions,
  ClassInfo,
  ClassStats,
  GeoJSONFeatureCollection,
  OverlayOptions,
  PolygonOptions,
  Segmentation,
} from "./types.ts";

/** Runs on the engine that made the result. */
type Call = <T>(work: (engine: Engine) => Promise<T>) => Promise<T>;

export class Result implements Segmentation {
  readonly width: number;
  readonly height: number;
  readonly classMask: Uint8Array;
  readonly confidenceMask: Uint8Array;
  readonly probabilities?: Uint8Array;
  readonly timings: Segmentation["timings"];
  #stats: ClassStats[];
  #classes: ClassInfo[];
  #model: ModelId;
  #call: Call;

  constructor(reply: SegmentReply, classes: ClassInfo[], model: ModelId, call: Call) {
    this.width = reply.width;
    this.height = reply.height;
    this.classMask = reply.classMask;
    this.confidenceMask = reply.confidenceMask;
    if (reply.probabilities) this.probabilities = reply.probabilities;
    this.timings = reply.timings;
    this.#stats = reply.stats;
    this.#classes = classes;
    this.#model = model;
    this.#call = call;
  }

  async toImageData({ classes, ...options }: OverlayOptions = {}): Promise<ImageData> {
    const request = { model: this.#model, masks: this.#masks(classes), options };
    const rgba = await this.#call((engine) => engine.overlay(request));
    return new ImageData(rgba as Uint8ClampedArray<ArrayBuffer>, this.width, this.height);
  }

  async toBlob({ type = "image/png", ...options }: BlobOptions = {}): Promise<Blob> {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext("2d");
    if (!context)
      throw new SamloraError(
        "limit",
        `no canvas of ${this.width} x ${this.height} pixels`,
        "cut the picture into parts",
      );
    context.putImageData(await this.toImageData(options), 0, 0);
    const blob = await canvas.convertToBlob({ type });
    // Browsers write PNG where they do not know the type.
    if (blob.type !== type) {
      throw new SamloraError("unsupported", `this browser cannot write ${type}`, 'ask for "image/png"');
    }
    return blob;
  }

  async toGeoJSON({ classes, ...options }: PolygonOptions = {}): Promise<GeoJSONFeatureCollection> {
    const request = { model: this.#model, masks: this.#masks(classes), options };
    return JSON.parse(await this.#call((engine) => engine.polygons(request)));
  }

  stats(): ClassStats[] {
    return structuredClone(this.#stats);
  }

  /** The masks, with background in place of all but `wanted` classes. */
  #masks(wanted?: readonly number[]): Masks {
    const { width, height, confidenceMask } = this;
    if (!wanted) return { width, height, classMask: this.classMask, confidenceMask };
    const unknown = wanted.find((index) => !this.#classes.some((c) => c.index === index));
    if (unknown !== undefined) {
      throw new SamloraError(
        "invalid",
        `there is no class ${unknown}`,
        `this model has classes 0 to ${this.#classes.length - 1}`,
      );
    }
    const keep = new Set(wanted);
    return { width, height, classMask: this.classMask.map((index) => (keep.has(index) ? index : 0)), confidenceMask };
  }
}
