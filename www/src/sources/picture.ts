// One picture as the imagery of an area.

import { MERCATOR } from "../area/system.ts";
import type { AreaSource, Bounds } from "../area/types.ts";
import { polygonsOf } from "../area/shape.ts";
import * as check from "../check.ts";
import { readPixels } from "../image.ts";
import type { ImageInput } from "../types.ts";
import { tiled } from "./tiled.ts";

export interface PictureOptions {
  /** Where it lies: west, south, east, north in degrees, its pixels those of Web Mercator between them. */
  bounds?: Bounds;
  /** What errors call it. */
  name?: string;
  attribution?: string;
}

/** Pixels of what is kept and cropped at once. */
const SIDE = 512;

/** A picture: anything that `segment` takes. Without bounds, the area is all of it. */
export async function picture(image: ImageInput, options?: PictureOptions): Promise<AreaSource> {
  const known = { bounds: check.anything, name: check.aText, attribution: check.aText };
  const { bounds, name = "the picture", attribution } = check.checkOptions(options, "picture", known);
  if (bounds) polygonsOf(bounds); // So that wrong ones are named here.
  const { rgba, width, height } = await readPixels(image);
  const [left, top] = bounds ? MERCATOR.fromLonLat(bounds[0], bounds[3]) : [0, 0];
  const [right, bottom] = bounds ? MERCATOR.fromLonLat(bounds[2], bounds[1]) : [width, -height];
  const pixel = [(right - left) / width, (top - bottom) / height] as const;
  const level = {
    name: "full size",
    width,
    height,
    origin: [left, top] as const,
    pixel,
    anchor: bounds ? ([Math.round(left / pixel[0]), Math.round(-top / pixel[1])] as const) : ([0, 0] as const),
    tile: [SIDE, SIDE] as const,
  };
  const sum = rgba.reduce((sum, value, i) => (Math.imul(sum, 31) + value + i) | 0, width);
  return tiled({
    name,
    key: `${name} ${width} ${height} ${sum}`,
    attribution,
    ...(bounds && { system: MERCATOR, bounds }),
    levels: [level],
    parallel: 1,
    nameOf: (_, column, row) => `${column}/${row}`,
    async tile(_, column, row) {
      const [left, top] = [column * SIDE, row * SIDE];
      const [wide, high] = [Math.min(SIDE, width - left), Math.min(SIDE, height - top)];
      const part = new Uint8ClampedArray(4 * wide * high);
      for (let y = 0; y < high; y++) {
        const at = 4 * ((top + y) * width + left);
        part.set(rgba.subarray(at, at + 4 * wide), 4 * y * wide);
      }
      return { rgba: part, width: wide, height: high };
    },
  });
}
