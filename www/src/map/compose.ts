// A tile's picture with what there is of its neighbours around it.

import type { Pixels } from "../image.ts";
import type { Part } from "../types.ts";

/** The part of a tile within its source's bounds: the first column and row, and the first beyond. */
export interface Inside {
  columns: [number, number];
  rows: [number, number];
}

/** Where neighbours lie: columns to the east, rows to the south. */
export const STEPS = [-1, 0, 1]
  .flatMap((dy) => [-1, 0, 1].map((dx) => [dx, dy] as const))
  .filter(([dx, dy]) => dx || dy);

/** Pictures of the neighbours that are there, of the tile's own size, by their step as `dx,dy`. */
export type Neighbours = Map<string, Pixels>;

/** Whether any pixel holds data. */
export function hasData({ rgba }: Pixels): boolean {
  for (let at = 3; at < rgba.length; at += 4) if (rgba[at]) return true;
  return false;
}

/**
 * `centre` with `halo` pixels of its neighbours, and where it lies in that. A side without a neighbour stays out: the
 * network's own rule for borders then holds there. What lies outside of the source's bounds keeps its colours, so that the
 * network sees no edge, and holds no data.
 */
export function compose(
  centre: Pixels,
  around: Neighbours,
  halo: number,
  { columns, rows }: Inside,
): { whole: Pixels; part: Part } {
  const { width, height } = centre;
  const edge = (dx: number, dy: number) => (around.has(`${dx},${dy}`) ? halo : 0);
  const [left, right, top, bottom] = [edge(-1, 0), edge(1, 0), edge(0, -1), edge(0, 1)];
  const size = { width: left + width + right, height: top + height + bottom };
  const whole = { rgba: new Uint8ClampedArray(4 * size.width * size.height), ...size };
  paste(whole, centre, left, top);
  for (const [dx, dy] of STEPS) {
    const [x, y] = [left + dx * width, top + dy * height];
    const picture = around.get(`${dx},${dy}`);
    const beside = around.get(`${dx},0`);
    if (picture) paste(whole, picture, x, y);
    // A corner that alone is missing mirrors the tile below or above it.
    else if (dx && dy && beside) paste(whole, beside, x, y, true);
  }
  for (let y = 0; y < height; y++) {
    const row = 4 * ((top + y) * size.width + left);
    const outside = y < rows[0] || y >= rows[1];
    for (let x = 0; x < width; x++) {
      if (outside || x < columns[0] || x >= columns[1]) whole.rgba[row + 4 * x + 3] = 0;
    }
  }
  return { whole, part: { left, top, width, height } };
}

/** Copies what falls onto `whole` when the corner of `picture` is put at `x`, `y`; upside down if `flipped`. */
function paste(whole: Pixels, picture: Pixels, x: number, y: number, flipped = false): void {
  const [start, end] = [Math.max(0, x), Math.min(whole.width, x + picture.width)];
  if (start >= end) return;
  for (let row = Math.max(0, y); row < Math.min(whole.height, y + picture.height); row++) {
    const line = picture.width * (flipped ? picture.height - 1 - (row - y) : row - y) - x;
    whole.rgba.set(picture.rgba.subarray(4 * (line + start), 4 * (line + end)), 4 * (row * whole.width + start));
  }
}
