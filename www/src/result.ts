// What was found in one image, and what it can be turned into. All of it is computed by wasm.

import * as check from "./check.ts";
import type { Engine, ModelId, RefineReply, SegmentReply } from "./engine/engine.ts";
import { SamloraError } from "./error.ts";
import { encode } from "./readback.ts";
import type {
  BlobOptions,
  ClassInfo,
  ClassStats,
  GeoJSONFeatureCollection,
  MaskPlanes,
  OverlayOptions,
  PolygonOptions,
  RefineOptions,
  Segmentation,
  Timings,
} from "./types.ts";

/** Where a result comes from. */
export interface Origin {
  model: ModelId;
  classes: readonly ClassInfo[];
  /** Runs on the engine that made the result. */
  call: <T>(work: (engine: Engine) => Promise<T>) => Promise<T>;
}

const OVERLAY = { opacity: check.numberFrom(0, 1), outline: check.aBoolean, classes: check.indices };
const REFINE = {
  thresholds: check.anything,
  minPixels: check.wholeNumber(),
  part: check.numbersOf("left", "top", "width", "height"),
};
const POLYGONS = {
  minPixels: check.wholeNumber(),
  tolerance: check.numberFrom(0),
  tile: check.numbersOf("z", "x", "y"),
  classes: check.indices,
};

export class Result implements Segmentation {
  readonly width: number;
  readonly height: number;
  readonly classMask: Uint8Array;
  readonly confidenceMask: Uint8Array;
  readonly probabilities?: Uint8Array;
  readonly timings: Segmentation["timings"];
  readonly #stats: ClassStats[];
  readonly #origin: Origin;

  constructor(reply: RefineReply & Pick<SegmentReply, "timings" | "probabilities">, origin: Origin) {
    this.width = reply.width;
    this.height = reply.height;
    this.classMask = reply.classMask;
    this.confidenceMask = reply.confidenceMask;
    if (reply.probabilities) this.probabilities = reply.probabilities;
    this.timings = reply.timings;
    this.#stats = reply.stats;
    this.#origin = origin;
  }

  async toImageData(options?: OverlayOptions): Promise<ImageData> {
    const request = { ...this.#request(), options: check.checkOptions(options, "toImageData", OVERLAY) };
    const rgba = await this.#origin.call((engine) => engine.overlay(request));
    return new ImageData(rgba as Uint8ClampedArray<ArrayBuffer>, this.width, this.height);
  }

  async toBlob(options?: BlobOptions): Promise<Blob> {
    const given = check.checkOptions(options, "toBlob", { ...OVERLAY, type: check.aText });
    const { type = "image/png", ...style } = given;
    const blob = await encode(await this.toImageData(style), type);
    // Browsers write PNG where they do not know the type.
    if (blob.type !== type) {
      throw new SamloraError("unsupported", `this browser cannot write ${type}`, 'ask for "image/png"');
    }
    return blob;
  }

  async toGeoJSON(options?: PolygonOptions): Promise<GeoJSONFeatureCollection> {
    const { tile, ...rest } = check.checkOptions(options, "toGeoJSON", POLYGONS);
    const place = tile && { tile: { z: tile.z, x: tile.x, y: tile.y } }; // A map's own tiles have more members.
    const request = { ...this.#request(), options: { ...rest, ...place } };
    return JSON.parse(await this.#origin.call((engine) => engine.polygons(request)));
  }

  stats(): ClassStats[] {
    return structuredClone(this.#stats);
  }

  refine(options?: RefineOptions): Promise<Segmentation> {
    return refine(this, options, this.#origin);
  }

  #request() {
    const { width, height, classMask, confidenceMask } = this;
    return { model: this.#origin.model, masks: { width, height, classMask, confidenceMask } };
  }
}

/** A new result of `planes`, which took no network. */
export async function refine(
  { width, height, classMask, confidenceMask, timings = NONE }: MaskPlanes & { timings?: Timings },
  options: RefineOptions | undefined,
  origin: Origin,
): Promise<Segmentation> {
  const { thresholds, ...rest } = check.checkOptions(options, "refine", REFINE);
  const byIndex = thresholds && { thresholds: check.byIndex(thresholds, origin.classes) };
  const masks = { width, height, classMask, confidenceMask };
  const reply = await origin.call((engine) =>
    engine.refine({ model: origin.model, masks, options: { ...rest, ...byIndex } }),
  );
  return new Result({ ...reply, timings }, origin);
}

const NONE: Timings = { preprocess: 0, encode: 0, decode: 0, classify: 0, total: 0, windows: 0 };
