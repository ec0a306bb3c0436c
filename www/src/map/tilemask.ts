// The mask of one tile: thresholds, colours, statistics and polygons of what the network said, without asking it again.

import { fromTile, groundResolution, nameOf } from "./imagery.ts";
import type { ClassInfo, ClassStats, GeoJSONFeature, Segmentation, TileId, Timings } from "../types.ts";

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

/** An outline keeps this part of its class's brightness, as in the pictures that `toImageData` gives. */
const OUTLINE_SHADE = 0.65;

/** The part of a segmented picture that is the tile itself. */
export interface Middle {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The part of a tile within its source's bounds: the first column and row, and the first beyond. */
export interface Inside {
  columns: [number, number];
  rows: [number, number];
}

export class TileMask {
  readonly tile: TileId;
  /** Pixels of the tile's picture. */
  readonly width: number;
  readonly height: number;
  /** Likeliest class of every pixel, `[height, width]`, before thresholds. */
  readonly classMask: Uint8Array;
  /** Its probability, 0 to 255. */
  readonly confidenceMask: Uint8Array;
  readonly timings: Timings;
  readonly #classes: readonly ClassInfo[];
  readonly #whole: Segmentation;
  readonly #middle: Middle;
  readonly #inside: Inside;
  #tracing: Promise<unknown> = Promise.resolve();

  /** What lies outside of the source's bounds is background that nobody vouches for. */
  constructor(tile: TileId, whole: Segmentation, middle: Middle, inside: Inside, classes: readonly ClassInfo[]) {
    this.tile = tile;
    this.width = middle.width;
    this.height = middle.height;
    this.classMask = cut(whole.classMask, whole.width, middle, inside);
    this.confidenceMask = cut(whole.confidenceMask, whole.width, middle, inside);
    this.timings = whole.timings;
    this.#whole = whole;
    this.#middle = middle;
    this.#inside = inside;
    this.#classes = classes;
  }

  /** Class of every pixel once the thresholds are applied: the package's, or those given. */
  classesAbove(thresholds?: MaskStyle["thresholds"]): Uint8Array {
    const limits = this.#limits(thresholds);
    if (limits.every((limit) => limit <= 0)) return this.classMask;
    return this.classMask.map((index, at) => (this.confidenceMask[at]! < limits[index]! ? 0 : index));
  }

  /** The least value of `confidenceMask` by class index. */
  #limits(thresholds: MaskStyle["thresholds"] = {}): Float32Array {
    const limits = new Float32Array(256);
    for (const { index, name, threshold } of this.#classes) {
      // A confidence c stands for c / 255.
      if (index) limits[index] = 255 * (thresholds[index] ?? thresholds[name] ?? threshold ?? 0);
    }
    return limits;
  }

  /** Class and confidence (0 to 1) of one pixel. */
  at(x: number, y: number, thresholds?: MaskStyle["thresholds"]): { index: number; confidence: number } {
    const column = Math.max(0, Math.min(Math.floor(x), this.width - 1));
    const pixel = Math.max(0, Math.min(Math.floor(y), this.height - 1)) * this.width + column;
    const likeliest = this.classMask[pixel]!;
    const index = this.confidenceMask[pixel]! < this.#limits(thresholds)[likeliest]! ? 0 : likeliest;
    const confidence = this.confidenceMask[pixel]! / 255;
    // What is left when a class was rejected: that the pixel is not of it.
    return { index, confidence: index === likeliest ? confidence : 1 - confidence };
  }

  /** Area and mean confidence of every class, of the pixels within the source's bounds. */
  stats(thresholds?: MaskStyle["thresholds"]): ClassStats[] {
    const above = this.classesAbove(thresholds);
    const { columns, rows } = this.#inside;
    const pixels = new Float64Array(256);
    const sums = new Float64Array(256);
    for (let y = rows[0]; y < rows[1]; y++) {
      for (let at = y * this.width + columns[0]; at < y * this.width + columns[1]; at++) {
        const index = above[at]!;
        const confidence = this.confidenceMask[at]!;
        pixels[index]! += 1;
        sums[index]! += index === this.classMask[at] ? confidence : 255 - confidence;
      }
    }
    const all = Math.max(1, (columns[1] - columns[0]) * (rows[1] - rows[0]));
    return this.#classes.map((info) => ({
      ...info,
      pixels: pixels[info.index]!,
      share: pixels[info.index]! / all,
      meanConfidence: pixels[info.index] ? sums[info.index]! / (255 * pixels[info.index]!) : 0,
    }));
  }

  /** The mask in class colours; what is not drawn is transparent. */
  toImageData({ outline = true, classes, thresholds }: MaskStyle = {}): ImageData {
    const { width, height } = this;
    const above = this.classesAbove(thresholds);
    const drawn = new Set(classes ?? this.#classes.map((c) => c.index));
    const surface = new Uint32Array(256);
    const edge = new Uint32Array(256);
    for (const { index, color } of this.#classes) {
      if (index === 0 || !drawn.has(index)) continue;
      surface[index] = packed(color);
      edge[index] = packed(color.map((c) => Math.round(c * OUTLINE_SHADE)));
    }
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const index = above[at]!;
        if (surface[index] === 0) continue;
        // The tile's own frame is no edge: tiles side by side must not show their seams.
        const onEdge =
          outline &&
          ((x > 0 && above[at - 1] !== index) ||
            (x + 1 < width && above[at + 1] !== index) ||
            (y > 0 && above[at - width] !== index) ||
            (y + 1 < height && above[at + width] !== index));
        pixels[at] = (onEdge ? edge : surface)[index]!;
      }
    }
    return image;
  }

  /**
   * Polygons of every class but background in longitude and latitude, with holes. Properties: `class`, `name`, `color`,
   * `confidence` (mean, 0 to 1), `pixels`, `area_m2`, `tile` (`z/x/y`).
   */
  toFeatures({ classes, thresholds, minPixels, tolerance }: TilePolygonOptions = {}): Promise<GeoJSONFeature[]> {
    const options = {
      ...(classes && { classes }),
      ...(minPixels !== undefined && { minPixels }),
      ...(tolerance !== undefined && { tolerance }),
    };
    // One after the other, because all of them draw into the same mask.
    const traced = this.#tracing.then(async () => {
      const { left, top, width, height } = this.#middle;
      const above = this.classesAbove(thresholds);
      const whole = this.#whole.classMask.fill(0);
      for (let y = 0; y < height; y++)
        whole.set(above.subarray(y * width, (y + 1) * width), (top + y) * this.#whole.width + left);
      const { features } = await this.#whole.toGeoJSON(options);
      return features.map((feature) => this.#place(feature));
    });
    this.#tracing = traced.catch(() => {});
    return traced;
  }

  /** A feature in pixels of the whole picture, on the map. */
  #place({ geometry, properties }: GeoJSONFeature): GeoJSONFeature {
    const { left, top, width, height } = this.#middle;
    const { z, x, y } = this.tile;
    const place = ([column, row]: number[]) =>
      fromTile([x + (column! - left) / width, y + (row! - top) / height], z).map(rounded);
    const polygon = (rings: number[][][]) => {
      const placed = rings.map((ring) => ring.map(place));
      // RFC 7946: outer rings run counterclockwise; rows run down, so that depends on who traced them.
      return signedArea(placed[0]!) < 0 ? placed.map((ring) => ring.reverse()) : placed;
    };
    const first = (
      geometry.type === "Polygon" ? geometry.coordinates[0]![0]! : geometry.coordinates[0]![0]![0]!
    ) as number[];
    const [, latitude] = place(first) as [number, number];
    const pixels = Number(properties?.pixels ?? 0);
    return {
      type: "Feature",
      geometry:
        geometry.type === "Polygon"
          ? { type: "Polygon", coordinates: polygon(geometry.coordinates) }
          : { type: "MultiPolygon", coordinates: geometry.coordinates.map(polygon) },
      properties: {
        ...properties,
        area_m2: Number((pixels * groundResolution(latitude, z, width) ** 2).toFixed(2)),
        tile: nameOf(this.tile),
      },
    };
  }
}

function cut(
  mask: Uint8Array,
  stride: number,
  { left, top, width, height }: Middle,
  { columns, rows }: Inside,
): Uint8Array {
  const middle = new Uint8Array(width * height);
  for (let y = rows[0]; y < rows[1]; y++) {
    const from = (top + y) * stride + left;
    middle.set(mask.subarray(from + columns[0], from + columns[1]), y * width + columns[0]);
  }
  return middle;
}

/** An opaque colour as one number in the order of an `ImageData`'s bytes (every browser's machine is little-endian). */
function packed([red = 0, green = 0, blue = 0]: readonly number[]): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Eight decimals of a degree: about a millimetre. */
function rounded(degrees: number): number {
  return Number(degrees.toFixed(8));
}

function signedArea(ring: number[][]): number {
  let sum = 0;
  for (let i = 0; i + 1 < ring.length; i++) sum += ring[i]![0]! * ring[i + 1]![1]! - ring[i + 1]![0]! * ring[i]![1]!;
  return sum / 2;
}
