// Systems of coordinates that need no library, and sizes on the ground.

import { EARTH_RADIUS, MAX_LATITUDE } from "../map/imagery.ts";
import type { AreaLevel, GroundSystem } from "./types.ts";

/** Half a side of Web Mercator's square, in its metres. */
export const HALF_WORLD = Math.PI * EARTH_RADIUS;
/** WGS 84's first eccentricity, squared, and itself. */
const E2 = 0.00669437999014132;
const E = Math.sqrt(E2);

const radians = (degrees: number) => (degrees * Math.PI) / 180;
const degrees = (radians: number) => (radians * 180) / Math.PI;

/** Metres of Web Mercator (EPSG:3857). */
export const MERCATOR: GroundSystem = {
  name: "EPSG:3857",
  toLonLat: (x, y) => [degrees(x / EARTH_RADIUS), degrees(Math.atan(Math.sinh(y / EARTH_RADIUS)))],
  fromLonLat: (longitude, latitude) => {
    const sine = Math.sin(radians(Math.max(-MAX_LATITUDE, Math.min(latitude, MAX_LATITUDE))));
    return [EARTH_RADIUS * radians(longitude), EARTH_RADIUS * Math.atanh(sine)];
  },
};

/** Degrees of longitude and latitude, x first (OGC:CRS84; EPSG:4326 as files have it). */
export const DEGREES: GroundSystem = {
  name: "EPSG:4326",
  toLonLat: (x, y) => [x, y],
  fromLonLat: (longitude, latitude) => [longitude, latitude],
};

/** Coordinates of a place in a level, in pixels with fractions. */
export function placeOf({ origin, pixel }: Pick<AreaLevel, "origin" | "pixel">, column: number, row: number) {
  return [origin[0] + column * pixel[0], origin[1] - row * pixel[1]] as [number, number];
}

/** The pixel of a level, with fractions, at a longitude and latitude. */
export function pixelOf(level: AreaLevel, system: GroundSystem, longitude: number, latitude: number): [number, number] {
  const [x, y] = system.fromLonLat(longitude, latitude);
  return [(x - level.origin[0]) / level.pixel[0], (level.origin[1] - y) / level.pixel[1]];
}

/** Metres per pixel across and down at a place of a level, on the sphere on which Web Mercator's zooms are counted. */
export function groundSize(level: AreaLevel, system: GroundSystem, column: number, row: number): [number, number] {
  const at = (c: number, r: number) => system.toLonLat(...placeOf(level, c, r));
  const metres = ([lon1, lat1]: [number, number], [lon2, lat2]: [number, number]) => {
    const narrow = Math.cos(radians((lat1 + lat2) / 2));
    return EARTH_RADIUS * Math.hypot(radians(lon2 - lon1) * narrow, radians(lat2 - lat1));
  };
  return [metres(at(column - 0.5, row), at(column + 0.5, row)), metres(at(column, row - 0.5), at(column, row + 0.5))];
}

/** A latitude's place on an axis along which equal lengths are equal areas of the ellipsoid (Snyder 1987, 3-12). */
function authalic(latitude: number): number {
  const sine = Math.sin(radians(latitude));
  return ((1 - E2) / 2) * (sine / (1 - E2 * sine * sine) + Math.atanh(E * sine) / E);
}

/** Square metres on the ellipsoid of a ring of longitudes and latitudes whose edges are straight in these; above 0 if it turns left. */
export function ringArea(ring: readonly (readonly number[])[]): number {
  const [lon0, heights] = [ring[0]?.[0] ?? 0, ring.map(([, latitude]) => authalic(latitude!))];
  const low = heights[0] ?? 0; // Small numbers keep their digits.
  let sum = 0;
  for (let i = 0; i < ring.length; i++) {
    const next = (i + 1) % ring.length;
    const [x1, x2] = [radians(ring[i]![0]! - lon0), radians(ring[next]![0]! - lon0)];
    sum += x1 * (heights[next]! - low) - x2 * (heights[i]! - low);
  }
  return (sum / 2) * EARTH_RADIUS ** 2;
}
