// The mask of one tile: what the windows over it found, from which wasm makes what is asked for.

import * as check from "../check.ts";
import { NO_DATA } from "../image.ts";
import type {
  ClassStats,
  GeoJSONFeature,
  LoadedModel,
  MaskPlanes,
  Part,
  Segmentation,
  TileId,
  Timings,
} from "../types.ts";
import { nameOf } from "./imagery.ts";

/** How masks look on a map. */
export interface MaskStyle {
  /** Draw the pixels along a class's edge darker; true unless given. */
  outline?: boolean;
  /** Indices of the classes to draw; all but background unless given. */
  classes?: readonly number[];
  /** Confidence (0 to 1) below which a pixel becomes background, by the class's name or index; instead of the package's. */
  thresholds?: Record<string | number, number>;
}

/** What `toGeoJSON` leaves out. */
export interface TilePolygonOptions extends Pick<MaskStyle, "classes" | "thresholds"> {
  /** Leave out regions of fewer pixels. */
  minPixels?: number;
  /** How far in pixels a simplified border may leave the true one; 0 (the default) keeps every pixel edge. */
  tolerance?: number;
}

export const STYLE = { outline: check.aBoolean, classes: check.indices, thresholds: check.anything };
export const POLYGONS = {
  classes: check.indices,
  thresholds: check.anything,
  minPixels: check.wholeNumber(),
  tolerance: check.numberFrom(0),
};

export class TileMask {
  readonly tile: TileId;
  /** Pixels of the tile's picture. */
  readonly width: number;
  readonly height: number;
  /** Of this tile's share in its windows, of which `windows` says how many were blended. */
  readonly timings: Timings;
  readonly #model: LoadedModel;
  readonly #planes: MaskPlanes;
  readonly #part: Part;
  readonly #minPixels: number;
  /** What was made last, for thresholds as text. */
  #refined: { key: string; result: Promise<Segmentation> } | undefined;

  /**
   * `planes` are classes and confidences, before thresholds, of the tile and what is known around it, `part` is the tile in them.
   *
   * @internal
   */
  constructor(
    tile: TileId,
    found: { model: LoadedModel; planes: MaskPlanes; part: Part; minPixels: number; timings: Timings },
  ) {
    this.tile = tile;
    this.width = found.part.width;
    this.height = found.part.height;
    this.timings = found.timings;
    this.#model = found.model;
    this.#planes = found.planes;
    this.#part = found.part;
    this.#minPixels = found.minPixels;
  }

  /** Classes, confidences and statistics of the tile once thresholds are applied: the package's, or those given. */
  refine(thresholds?: MaskStyle["thresholds"]): Promise<Segmentation> {
    const key = JSON.stringify(thresholds ?? {});
    if (this.#refined?.key !== key) {
      const options = { part: this.#part, minPixels: this.#minPixels, ...(thresholds && { thresholds }) };
      const refined = { key, result: this.#model.refine(this.#planes, options) };
      this.#refined = refined;
      refined.result.catch(() => {
        if (this.#refined === refined) this.#refined = undefined;
      });
    }
    return this.#refined.result;
  }

  /** Class and confidence (0 to 1) of one pixel; undefined where there is no data. */
  async at(
    x: number,
    y: number,
    thresholds?: MaskStyle["thresholds"],
  ): Promise<{ index: number; confidence: number } | undefined> {
    const { classMask, confidenceMask } = await this.refine(thresholds);
    const within = (place: number, side: number) => Math.max(0, Math.min(Math.floor(place), side - 1));
    const pixel = within(y, this.height) * this.width + within(x, this.width);
    const index = classMask[pixel]!;
    return index === NO_DATA ? undefined : { index, confidence: confidenceMask[pixel]! / 255 };
  }

  /** Area and mean confidence of every class, of the pixels that hold data. */
  async stats(thresholds?: MaskStyle["thresholds"]): Promise<ClassStats[]> {
    return (await this.refine(thresholds)).stats();
  }

  /** The mask in class colours; what is not drawn is transparent. */
  async toImageData(style?: MaskStyle): Promise<ImageData> {
    const { outline = true, classes, thresholds } = check.checkOptions(style, "toImageData", STYLE);
    return (await this.refine(thresholds)).toImageData({ outline, ...(classes && { classes }) });
  }

  /**
   * Polygons of every class but background in longitude and latitude, with holes. Properties: `class`, `name`, `color`,
   * `confidence` (mean, 0 to 1), `pixels`, `area_m2` (true area on the ellipsoid), `tile` (`z/x/y`).
   */
  async toFeatures(options?: TilePolygonOptions): Promise<GeoJSONFeature[]> {
    const { thresholds, ...rest } = check.checkOptions(options, "toFeatures", POLYGONS);
    const { features } = await (await this.refine(thresholds)).toGeoJSON({ ...rest, tile: this.tile });
    const tile = nameOf(this.tile);
    return features.map((feature) => ({ ...feature, properties: { ...feature.properties, tile } }));
  }
}
