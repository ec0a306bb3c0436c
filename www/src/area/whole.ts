// What the blocks of an area add up to: statistics of any extent, and the whole raster where it fits into memory.

import { SamloraError } from "../error.ts";
import { NO_DATA } from "../image.ts";
import type { ClassInfo, GeoJSONFeature, GeoJSONFeatureCollection, LoadedModel } from "../types.ts";
import type { Plan } from "./plan.ts";
import { placeOf, ringArea } from "./system.ts";
import type {
  AreaBlock,
  AreaClassStats,
  AreaPolygonOptions,
  AreaResult,
  Georeference,
  GroundSystem,
  MissingTile,
} from "./types.ts";

/** The most pixels of an area that is joined in memory: 8192 x 8192. Its masks take two bytes a pixel, its polygons more. */
const MOST_PIXELS = 2 ** 26;

/** Counts classes as blocks come. */
export class Tally {
  readonly #classes: readonly ClassInfo[];
  readonly #system: GroundSystem | undefined;
  readonly #counts: { pixels: number; confidence: number; area: number }[];

  constructor(classes: readonly ClassInfo[], { source }: Plan) {
    this.#classes = classes;
    this.#system = source.system;
    this.#counts = classes.map(() => ({ pixels: 0, confidence: 0, area: 0 }));
  }

  add({ width, height, classMask, confidenceMask, georeference }: AreaBlock): void {
    for (let y = 0; y < height; y++) {
      const size = this.#system ? pixelArea(georeference, this.#system, width / 2, y) : 0;
      for (let at = y * width; at < (y + 1) * width; at++) {
        const count = classMask[at] === NO_DATA ? undefined : this.#counts[classMask[at]!];
        if (!count) continue;
        count.pixels++;
        count.confidence += confidenceMask[at]!;
        count.area += size;
      }
    }
  }

  stats(): AreaClassStats[] {
    const all = this.#counts.reduce((sum, { pixels }) => sum + pixels, 0);
    return this.#classes.map((info, i) => {
      const { pixels, confidence, area } = this.#counts[i]!;
      return {
        ...structuredClone(info),
        pixels,
        share: all ? pixels / all : 0,
        meanConfidence: pixels ? confidence / (255 * pixels) : 0,
        ...(this.#system && { hectares: area / 10_000 }),
      };
    });
  }
}

/** Square metres of a pixel of row `y`; within a block those of a row differ by nothing that counts. */
function pixelArea(georeference: Georeference, system: GroundSystem, x: number, y: number): number {
  const corners: [number, number][] = [
    [x, y],
    [x + 1, y],
    [x + 1, y + 1],
    [x, y + 1],
  ];
  return Math.abs(ringArea(corners.map(([column, row]) => system.toLonLat(...placeOf(georeference, column, row)))));
}

/** All blocks in one raster. */
export class WholeArea implements AreaResult {
  readonly width: number;
  readonly height: number;
  readonly classMask: Uint8Array;
  readonly confidenceMask: Uint8Array;
  readonly georeference: Georeference;
  readonly missing: MissingTile[] = [];
  readonly #model: LoadedModel;
  readonly #system: GroundSystem | undefined;
  readonly #tally: Tally;

  constructor(model: LoadedModel, { estimate: { width, height }, georeference, source }: Plan, tally: Tally) {
    if (width * height > MOST_PIXELS) {
      throw new SamloraError(
        "limit",
        `the area has ${width} x ${height} pixels, more than the ${MOST_PIXELS} that are joined in a page`,
        "take its blocks one by one, or a smaller area; the samlora command writes any",
      );
    }
    this.#model = model;
    this.#system = source.system;
    this.#tally = tally;
    this.width = width;
    this.height = height;
    this.georeference = georeference;
    this.classMask = new Uint8Array(width * height).fill(NO_DATA);
    this.confidenceMask = new Uint8Array(width * height);
  }

  add(block: AreaBlock): void {
    for (let y = 0; y < block.height; y++) {
      const [from, to] = [y * block.width, (block.y + y) * this.width + block.x];
      this.classMask.set(block.classMask.subarray(from, from + block.width), to);
      this.confidenceMask.set(block.confidenceMask.subarray(from, from + block.width), to);
    }
    const known = new Set(this.missing.map(({ tile }) => tile));
    this.missing.push(...block.missing.filter(({ tile }) => !known.has(tile)));
  }

  stats(): AreaClassStats[] {
    return this.#tally.stats();
  }

  async toGeoJSON(options?: AreaPolygonOptions): Promise<GeoJSONFeatureCollection> {
    const { width, height, classMask, confidenceMask } = this;
    // Thresholds were applied block by block; what was kept is kept.
    const none = Object.fromEntries(this.#model.info.classes.map(({ index }) => [index, 0]));
    const masks = await this.#model.refine({ width, height, classMask, confidenceMask }, { thresholds: none });
    const { type, features } = await masks.toGeoJSON(options);
    return { type, features: features.map((feature) => this.#placed(feature)) };
  }

  /** A polygon of pixels on the ground, its outer ring to the left and its holes to the right (RFC 7946). */
  #placed(feature: GeoJSONFeature): GeoJSONFeature {
    const system = this.#system;
    if (!system) return feature;
    let area = 0;
    const polygon = (rings: number[][][]) =>
      rings.map((ring, i) => {
        const placed = ring.map(([x, y]) => system.toLonLat(...placeOf(this.georeference, x!, y!)) as number[]);
        const size = ringArea(placed);
        area += i === 0 ? Math.abs(size) : -Math.abs(size);
        return size > 0 === (i === 0) ? placed : placed.reverse();
      });
    const { geometry } = feature;
    const placed: GeoJSONFeature["geometry"] =
      geometry.type === "Polygon"
        ? { type: "Polygon", coordinates: polygon(geometry.coordinates) }
        : { type: "MultiPolygon", coordinates: geometry.coordinates.map(polygon) };
    return { ...feature, geometry: placed, properties: { ...feature.properties, area_m2: area } };
  }
}
