// The area of interest: polygons on the ground, and which pixels lie inside.

import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import type { Box } from "../map/grid.ts";
import { pixelOf } from "./system.ts";
import type { AreaLevel, AreaShape, Bounds, GroundSystem } from "./types.ts";

/** Longitudes and latitudes, closed or not. */
type Ring = readonly (readonly number[])[];

/** Polygons, each with its rings in longitude and latitude. */
export type Polygons = readonly (readonly Ring[])[];

const WANTED = "give [west, south, east, north] in degrees, or GeoJSON with polygons in longitude and latitude";
/** Edges are straight in degrees, not on the map: longer ones are cut into pieces of this many degrees. */
const PIECE = 0.005;
/** The most pieces that one edge is cut into. */
const MOST_PIECES = 4096;

function wrong(what: string, remedy = WANTED): SamloraError {
  return new SamloraError("invalid", `the area ${what}`, remedy);
}

/** The polygons that `area` names. */
export function polygonsOf(area: Bounds | AreaShape): Polygons {
  if (Array.isArray(area)) {
    const [west, south, east, north] = area as unknown as Bounds;
    if (area.length !== 4 || !area.every(Number.isFinite)) throw wrong(`is ${JSON.stringify(area)}`);
    if (west >= east || south >= north) {
      const remedy = "give the west and the south first; cut an area that crosses the 180th meridian there";
      throw wrong(`[${area}] has no extent`, remedy);
    }
    const ring = [
      [west, south],
      [east, south],
      [east, north],
      [west, north],
    ];
    for (const position of ring) checkPosition(position);
    return [[ring]];
  }
  const found: (readonly Ring[])[] = [];
  collect(area, found, 0);
  if (found.length === 0) throw wrong("holds no polygon");
  return found;
}

function collect(shape: unknown, found: (readonly Ring[])[], depth: number): void {
  const { type, coordinates, geometry, geometries, features } = (shape ?? {}) as Record<string, unknown>;
  const each = (list: unknown) => {
    if (!Array.isArray(list) || depth > 8) throw wrong(`has a ${String(type)} without a list of parts`);
    for (const part of list) collect(part, found, depth + 1);
  };
  switch (type) {
    case "FeatureCollection":
      return each(features);
    case "GeometryCollection":
      return each(geometries);
    case "Feature":
      // A feature may have no geometry at all.
      return geometry === null ? undefined : collect(geometry, found, depth + 1);
    case "Polygon":
      return void found.push(ringsOf(coordinates));
    case "MultiPolygon":
      if (!Array.isArray(coordinates)) throw wrong("has a MultiPolygon without coordinates");
      return void found.push(...coordinates.map(ringsOf));
  }
  throw wrong(typeof type === "string" ? `has a geometry of type ${type}` : `is ${check.describe(shape)}`);
}

function ringsOf(rings: unknown): readonly Ring[] {
  if (!Array.isArray(rings) || rings.length === 0) throw wrong("has a polygon without rings");
  for (const ring of rings) {
    if (!Array.isArray(ring) || ring.length < 3) throw wrong("has a ring of fewer than three places");
    for (const position of ring) checkPosition(position);
  }
  return rings as readonly Ring[];
}

function checkPosition(position: unknown): void {
  const [longitude, latitude] = Array.isArray(position) ? (position as number[]) : [];
  const within = (value: unknown, most: number) => typeof value === "number" && Math.abs(value) <= most;
  if (within(longitude, 180) && within(latitude, 90)) return;
  const given = JSON.stringify(position) ?? String(position);
  throw wrong(
    `has the place ${given.slice(0, 60)}`,
    "give longitude (-180 to 180) and latitude (-90 to 90), in this order",
  );
}

/** A polygon's edges in pixels of a level, and the box around them. */
export interface PixelPolygon {
  /** x1, y1, x2, y2 of every edge. */
  readonly edges: Float64Array;
  readonly box: Box;
}

/** `polygons` in pixels of a level. */
export function toPixels(polygons: Polygons, level: AreaLevel, system: GroundSystem): PixelPolygon[] {
  return polygons.map((rings) => {
    const edges: number[] = [];
    for (const ring of rings) {
      for (let i = 0; i < ring.length; i++) addEdge(edges, ring[i]!, ring[(i + 1) % ring.length]!, level, system);
    }
    const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    for (let at = 0; at < edges.length; at += 2) {
      box.left = Math.min(box.left, edges[at]!);
      box.right = Math.max(box.right, edges[at]!);
      box.top = Math.min(box.top, edges[at + 1]!);
      box.bottom = Math.max(box.bottom, edges[at + 1]!);
    }
    return { edges: Float64Array.from(edges), box };
  });
}

function addEdge(
  edges: number[],
  from: readonly number[],
  to: readonly number[],
  level: AreaLevel,
  system: GroundSystem,
) {
  const span = Math.max(Math.abs(to[0]! - from[0]!), Math.abs(to[1]! - from[1]!));
  const pieces = Math.max(1, Math.min(MOST_PIECES, Math.ceil(span / PIECE)));
  const at = (i: number) => {
    const mix = (k: number) => from[k]! + ((to[k]! - from[k]!) * i) / pieces;
    return pixelOf(level, system, mix(0), mix(1));
  };
  let last = at(0);
  for (let i = 1; i <= pieces; i++) {
    const next = at(i);
    if (!next.every(Number.isFinite)) throw wrong("leaves the imagery's system of coordinates");
    edges.push(...last, ...next);
    last = next;
  }
}

/** Which pixels of `box` have their middle inside any of the polygons, row by row. */
export function inside(polygons: readonly PixelPolygon[], box: Box): Uint8Array {
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  const mask = new Uint8Array(width * height);
  for (const polygon of polygons) {
    if (polygon.box.right <= box.left || polygon.box.left >= box.right) continue;
    if (polygon.box.bottom <= box.top || polygon.box.top >= box.bottom) continue;
    fill(polygon, box, width, height, mask);
  }
  return mask;
}

/** Every row's middle line is inside between its first and second crossing, its third and fourth, and so on. */
function fill({ edges }: PixelPolygon, box: Box, width: number, height: number, mask: Uint8Array): void {
  const crossings: number[][] = Array.from({ length: height }, () => []);
  for (let at = 0; at < edges.length; at += 4) {
    const [x1, y1, x2, y2] = [edges[at]!, edges[at + 1]!, edges[at + 2]!, edges[at + 3]!];
    if (y1 === y2) continue;
    const [low, high] = y1 < y2 ? [y1, y2] : [y2, y1];
    // The middles from `low` on, and before `high`.
    const first = Math.max(0, Math.ceil(low - box.top - 0.5));
    const last = Math.min(height - 1, Math.ceil(high - box.top - 0.5) - 1);
    for (let row = first; row <= last; row++) {
      crossings[row]!.push(x1 + ((x2 - x1) * (box.top + row + 0.5 - y1)) / (y2 - y1));
    }
  }
  for (let row = 0; row < height; row++) {
    const line = crossings[row]!.sort((a, b) => a - b);
    for (let i = 0; i + 1 < line.length; i += 2) {
      const from = Math.max(0, Math.ceil(line[i]! - box.left - 0.5));
      const to = Math.min(width, Math.ceil(line[i + 1]! - box.left - 0.5));
      if (from < to) mask.fill(1, row * width + from, row * width + to);
    }
  }
}

/**
 * Which cells of a grid of `columns` x `rows` cells from `left`, `top`, each of `width` x `height` pixels, have any part of a
 * polygon; row by row.
 */
export function cellsTouched(
  polygons: readonly PixelPolygon[],
  cells: { left: number; top: number; width: number; height: number; columns: number; rows: number },
): Uint8Array {
  const { left, top, width, height, columns, rows } = cells;
  const scaled = polygons.map(({ edges }) => {
    const part = edges.map((value, i) => (i % 2 ? (value - top) / height : (value - left) / width));
    const box = { left: 0, top: 0, right: columns, bottom: rows };
    return { edges: part, box };
  });
  // Those whose middle is inside, and those that a border passes through.
  const touched = inside(scaled, { left: 0, top: 0, right: columns, bottom: rows });
  const within = (value: number, most: number) => Math.max(0, Math.min(Math.floor(value), most - 1));
  for (const { edges } of scaled) {
    for (let at = 0; at < edges.length; at += 4) {
      const [x1, y1, x2, y2] = [edges[at]!, edges[at + 1]!, edges[at + 2]!, edges[at + 3]!];
      const [low, high] = [Math.min(y1, y2), Math.max(y1, y2)];
      if (high < 0 || low >= rows) continue;
      for (let row = within(low, rows); row <= within(high, rows); row++) {
        const on = (y: number) =>
          y1 === y2 ? x1 : x1 + ((x2 - x1) * (Math.max(low, Math.min(y, high)) - y1)) / (y2 - y1);
        const ends = y1 === y2 ? [x1, x2] : [on(row), on(row + 1)];
        const [from, to] = [Math.min(...ends), Math.max(...ends)];
        if (to < 0 || from >= columns) continue;
        touched.fill(1, row * columns + within(from, columns), row * columns + within(to, columns) + 1);
      }
    }
  }
  return touched;
}
