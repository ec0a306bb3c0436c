// What an area's job does: level, resampling, windows and blocks, all known before anything is read.

import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import type { Box } from "../map/grid.ts";
import type { LoadedModel, SegmenterInfo } from "../types.ts";
import { GroundGrid } from "./ground.ts";
import { cellsTouched, type PixelPolygon, polygonsOf, toPixels } from "./shape.ts";
import { groundSize, placeOf } from "./system.ts";
import type { AreaEstimate, AreaLevel, AreaOptions, AreaSource, Georeference } from "./types.ts";

/** Pixels along a block's side, about: few enough to be finished soon, enough that most windows are one block's alone. */
const BLOCK_SIDE = 640;
/** The most blocks of a job in a page, with which a plan takes a few megabytes. */
const MOST_BLOCKS = 250_000;
/** Up to this factor imagery is taken as it is: models see more than that in training. */
const AS_IT_IS = 1.25;
/** Beyond this factor a resampled picture has nothing of what the model knows. */
const MOST_SCALE = 4;
/** Blocks that are worked on at a time: while one is given, the next has its tiles. */
export const AHEAD = 2;
/** Bytes of logits that are kept for blocks to come. */
export const WINDOW_BYTES = 64 << 20;
/** Bytes of decoded tiles that a source keeps. */
export const TILE_BYTES = 32 << 20;

const OPTIONS = {
  source: check.anything,
  area: check.anything,
  resolution: ((value) =>
    value === "native" || (!check.numberFrom(0)(value) && value !== 0)
      ? undefined
      : 'metres per pixel above 0, or "native"') as check.Check,
  thresholds: check.anything,
  halo: check.wholeNumber(),
  signal: check.aSignal,
  view: check.anything,
  onProgress: check.aFunction,
  resume: ((value) =>
    typeof value === "string" && value !== "" && value.length <= 200
      ? undefined
      : "a name of 1 to 200 letters") as check.Check,
};

/** Options that are right, with what they stand for. */
export interface Plan {
  source: AreaSource;
  level: AreaLevel;
  /** Pixels of the level for one that the network sees. */
  scale: [number, number];
  estimate: AreaEstimate;
  grid: GroundGrid;
  /** The area's raster within the level. */
  box: Box;
  /** Outside of these there is no data; all of `box` counts where there are none. */
  polygons: readonly PixelPolygon[] | undefined;
  /** The boxes of the blocks, row by row. */
  blocks: Box[];
  georeference: Georeference;
  /** By class index. */
  thresholds: Record<number, number> | undefined;
}

/** What `options` will take. */
export async function estimate(model: LoadedModel, options: AreaOptions): Promise<AreaEstimate> {
  return (await planOf(model.info, options, "estimateArea")).estimate;
}

export async function planOf(info: SegmenterInfo, options: AreaOptions, call: string): Promise<Plan> {
  const given = check.checkOptions(options, call, OPTIONS);
  if (info.kind === "base") {
    throw new SamloraError("invalid", "a base package has no classes", "put an adapter onto it");
  }
  const source = checkSource(await given.source, call);
  given.signal?.throwIfAborted();
  const polygons = given.area === undefined ? undefined : polygonsOf(given.area);
  if (polygons && !source.system) {
    const remedy = "give the picture's bounds, or leave the area out";
    throw new SamloraError("invalid", `nobody knows where ${source.name} lies, so it has no part of an area`, remedy);
  }
  const thresholds = given.thresholds && check.byIndex(given.thresholds, info.classes);
  const chosen = choose(source, info, given, (level) =>
    extentOf(source, level, polygons && toPixels(polygons, level, source.system!)),
  );
  const { level, scale, ground } = chosen;
  const pixels = polygons && toPixels(polygons, level, source.system!);
  const box = extentOf(source, level, pixels);
  if (box.left >= box.right || box.top >= box.bottom) {
    const where = source.bounds ? `, which lies in [${source.bounds.map((at) => at.toFixed(5))}]` : "";
    const message = `the area has nothing of ${source.name}${where}`;
    throw new SamloraError("not_found", message, "give an area within the imagery, in longitude and latitude");
  }

  const { inputSize, tileSize } = info;
  const tile = given.halo === undefined ? tileSize : inputSize - 2 * Math.min(given.halo, Math.floor(inputSize / 4));
  const size = scale.map((factor) => Math.round(inputSize * factor));
  const step = scale.map((factor) => Math.max(1, Math.round(tile * factor)));
  const grid = new GroundGrid([level.width, level.anchor[0]], [level.height, level.anchor[1]], size, step);
  const side = step.map((pixels) => pixels * Math.max(1, Math.round(BLOCK_SIDE / pixels)));
  const blocks = blocksOf(grid, box, side, pixels);
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  const around = size.map((pixels, axis) => Math.ceil(pixels / step[axis]!) - 1);
  const windows = countWindows(grid, blocks, side, around);
  const pixelsRead = blocks.length * (side[0]! + size[0]! - step[0]!) * (side[1]! + size[1]! - step[1]!);
  const perPixel = 4 * (info.classes.length + 2) + 8;
  return {
    source,
    level,
    scale,
    grid,
    box,
    polygons: pixels,
    blocks,
    thresholds,
    georeference: {
      system: source.system?.name ?? "pixel",
      origin: placeOf(level, box.left, box.top),
      pixel: [...level.pixel],
    },
    estimate: {
      level: level.name,
      ...(ground && { levelResolution: ground, resolution: ground[1] * scale[1] }),
      scale,
      width,
      height,
      blocks: blocks.length,
      windows,
      tiles: Math.ceil(pixelsRead / (level.tile[0] * level.tile[1])),
      bytes: WINDOW_BYTES + TILE_BYTES + AHEAD * side[0]! * side[1]! * perPixel + 8 * size[0]! * size[1]! * 4,
    },
  };
}

function checkSource(source: AreaSource | undefined, call: string): AreaSource {
  if (typeof source?.read === "function" && Array.isArray(source.levels) && source.levels.length > 0) return source;
  const remedy = "give one of samlora/sources: xyz(address), await pmtiles(file), await cog(address)";
  throw new SamloraError("invalid", `the source of ${call} is ${check.describe(source)}`, remedy);
}

/** The part of a level that an area is about, in whole pixels. */
function extentOf(source: AreaSource, level: AreaLevel, polygons: readonly PixelPolygon[] | undefined): Box {
  let box = { left: 0, top: 0, right: level.width, bottom: level.height };
  const { bounds, system } = source;
  const parts = polygons ? [polygons] : [];
  if (bounds && system) parts.push(toPixels(polygonsOf(bounds), level, system));
  for (const part of parts) {
    const of = (pick: (box: Box) => number, best: (...values: number[]) => number) =>
      part.reduce((found, { box }) => best(found, pick(box)), pick(part[0]!.box));
    // A sliver of a pixel is rounding.
    box = {
      left: Math.max(box.left, Math.floor(of((b) => b.left, Math.min) + 1e-3)),
      top: Math.max(box.top, Math.floor(of((b) => b.top, Math.min) + 1e-3)),
      right: Math.min(box.right, Math.ceil(of((b) => b.right, Math.max) - 1e-3)),
      bottom: Math.min(box.bottom, Math.ceil(of((b) => b.bottom, Math.max) - 1e-3)),
    };
  }
  return box;
}

interface Chosen {
  level: AreaLevel;
  scale: [number, number];
  ground: [number, number] | undefined;
}

/**
 * The coarsest level that is still as fine as the network wants it, else the finest, and what is left to resample. Sizes on the
 * ground are those of the area's middle; factors are rounded to quarter octaves, so that areas beside each other agree.
 */
function choose(
  source: AreaSource,
  info: SegmenterInfo,
  { resolution = info.groundResolution ?? "native" }: Partial<AreaOptions>,
  extent: (level: AreaLevel) => Box,
): Chosen {
  const { system, levels } = source;
  const grounds = levels.map((level): [number, number] | undefined => {
    if (!system) return undefined;
    const { left, top, right, bottom } = extent(level);
    return groundSize(level, system, (left + right) / 2, (top + bottom) / 2);
  });
  if (resolution === "native" || !system) return { level: levels[0]!, scale: [1, 1], ground: grounds[0] };
  let best = 0;
  const least = (i: number) => Math.max(...grounds[i]!);
  for (let i = 1; i < levels.length; i++) if (least(i) <= resolution * AS_IT_IS && least(i) > least(best)) best = i;
  const ground = grounds[best]!;
  const factors = ground.map((metres) => resolution / metres);
  const beyond = factors.find((factor) => factor > MOST_SCALE || factor < 1 / MOST_SCALE);
  if (beyond !== undefined) {
    const [has, wants] = [ground[1].toPrecision(3), resolution.toPrecision(3)];
    throw new SamloraError(
      "unsupported",
      `${source.name} has ${has} m per pixel (${levels[best]!.name}) where the model wants ${wants} m: a factor of ${MOST_SCALE} is the most`,
      `take imagery or a model of another resolution; resolution: "native" runs the model as it is, with masks that mean little`,
    );
  }
  const scale = factors.map((factor) =>
    factor <= AS_IT_IS && factor >= 1 / AS_IT_IS ? 1 : 2 ** (Math.round(4 * Math.log2(factor)) / 4),
  ) as [number, number];
  return { level: levels[best]!, scale, ground };
}

/** The blocks of the ground that have any of the area, each clipped to it. */
function blocksOf(grid: GroundGrid, box: Box, side: number[], polygons: readonly PixelPolygon[] | undefined): Box[] {
  const [wide, high] = side as [number, number];
  const start = (at: number, side: number, anchor: number) => Math.floor((at + anchor) / side) * side - anchor;
  const left = start(box.left, wide, grid.columns.anchor);
  const top = start(box.top, high, grid.rows.anchor);
  const columns = Math.ceil((box.right - left) / wide);
  const rows = Math.ceil((box.bottom - top) / high);
  if (columns * rows > MOST_BLOCKS) {
    throw new SamloraError(
      "limit",
      `the area has ${box.right - box.left} x ${box.bottom - box.top} pixels, more than a page can plan`,
      "give a smaller area, one after the other; the samlora command takes any",
    );
  }
  const cells = { left, top, width: wide, height: high, columns, rows };
  const touched = polygons ? cellsTouched(polygons, cells) : undefined;
  const blocks: Box[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (touched && !touched[row * columns + column]) continue;
      blocks.push({
        left: Math.max(box.left, left + column * wide),
        top: Math.max(box.top, top + row * high),
        right: Math.min(box.right, left + (column + 1) * wide),
        bottom: Math.min(box.bottom, top + (row + 1) * high),
      });
    }
  }
  return blocks;
}

/** About the windows of all blocks: their own, and those that reach in from where no block is. */
function countWindows({ columns, rows }: GroundGrid, blocks: readonly Box[], side: number[], around: number[]): number {
  const column = ({ right }: Box) => Math.ceil((right + columns.anchor) / side[0]!);
  const row = ({ bottom }: Box) => Math.ceil((bottom + rows.anchor) / side[1]!);
  const keys = new Set(blocks.map((block) => `${column(block)} ${row(block)}`));
  let count = 0;
  for (const block of blocks) {
    const wide = Math.ceil((block.right - block.left) / columns.step);
    const high = Math.ceil((block.bottom - block.top) / rows.step);
    const reach = (c: number, r: number, axis: number) => (keys.has(`${c} ${r}`) ? 0 : around[axis]!);
    const [c, r] = [column(block), row(block)];
    count += (wide + reach(c - 1, r, 0)) * (high + reach(c, r - 1, 1));
  }
  return count;
}

/** The blocks' own name: where they begin within the level. */
export const nameOfBlock = ({ left, top }: Box) => `${left},${top}`;
