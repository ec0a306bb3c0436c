// Tiles and pictures from services: XYZ, TMS, quadkeys, WMTS and WMS.

import { pixelOf } from "../area/system.ts";
import type { AreaSource, Bounds } from "../area/types.ts";
import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import { boundsMercator, nameOf, TileSource, unreachable } from "../map/imagery.ts";
import { downloadBlob } from "../package/download.ts";
import { Trouble } from "../package/http.ts";
import type { TileId } from "../types.ts";
import { decode, DEGREES, degreeLevels, MERCATOR, mercatorLevels, type ZoomLevel } from "./pyramid.ts";
import { tiled } from "./tiled.ts";

/** The most bytes of one tile's picture. */
const TILE_BYTES = 64 << 20;

/** What every service may be asked. */
export interface ServiceOptions {
  /** Lowest zoom; 0 unless given. */
  minzoom?: number;
  /** Pixels along a side of a tile's picture; 256 unless given (512 where the address has `@2x`). */
  size?: number;
  /** Where there is imagery, in degrees; nothing outside is asked for. */
  bounds?: Bounds;
  /** Whose imagery it is. */
  attribution?: string;
  /** Sent with every request, such as an access token. */
  headers?: Record<string, string>;
  /** Most requests at the same time; 6 unless given. */
  parallel?: number;
}

export interface XyzOptions extends ServiceOptions {
  /** Highest zoom with tiles. A service that is asked for more has none to give, and masks would be empty. */
  maxzoom: number;
  /** What `{s}` stands for; `a`, `b` and `c` unless given. */
  subdomains?: readonly string[];
}

export interface WmtsOptions extends ServiceOptions {
  layer: string;
  /** Highest zoom of the matrix set. */
  maxzoom: number;
  style?: string;
  /** A set whose matrices are Web Mercator's zooms; `GoogleMapsCompatible` unless given. */
  matrixSet?: string;
  /** `image/png` unless given. */
  format?: string;
  /** The matrix of a zoom; the zoom's number unless given. */
  matrix?: (zoom: number) => string;
}

export interface WmsOptions extends ServiceOptions {
  /** Names with commas between, or a list. */
  layers: string | readonly string[];
  version?: "1.1.1" | "1.3.0";
  styles?: string;
  /** `EPSG:3857` unless given. */
  crs?: "EPSG:3857" | "EPSG:4326" | "CRS:84";
  /** `image/png` unless given. */
  format?: string;
  /** Finest zoom that is asked for; 22 unless given. A service draws any. */
  maxzoom?: number;
  /** Further parameters, such as TIME. */
  parameters?: Record<string, string>;
}

const isObject: check.Check = (value) => (check.kindOf(value) === "Object" ? undefined : "an object of texts by name");
const SERVICE = {
  minzoom: check.wholeNumber(),
  maxzoom: check.wholeNumber(),
  size: check.wholeNumber(1),
  bounds: check.anything,
  attribution: check.aText,
  headers: isObject,
  parallel: check.wholeNumber(1),
};
const XYZ = { ...SERVICE, subdomains: check.anything };
const WMTS = {
  ...SERVICE,
  layer: check.aText,
  style: check.aText,
  matrixSet: check.aText,
  format: check.aText,
  matrix: check.aFunction,
};
const WMS = {
  ...SERVICE,
  layers: check.anything,
  version: check.oneOf("1.1.1", "1.3.0"),
  styles: check.aText,
  crs: check.oneOf("EPSG:3857", "EPSG:4326", "CRS:84"),
  format: check.aText,
  parameters: isObject,
};

/**
 * Tiles of Web Mercator by an address with `{z}`, `{x}` and `{y}`; `{-y}` counts rows from the south (TMS), `{q}` or `{quadkey}`
 * is Bing's key, `{s}` a subdomain, `{bbox-epsg-3857}` the tile's place; `{r}` and `@2x` are tiles of 512 pixels.
 */
export function xyz(template: string, options: XyzOptions): AreaSource {
  const given = check.checkOptions(options, "xyz", XYZ);
  const { maxzoom, minzoom = 0, subdomains, bounds } = given;
  const hasTwo = /\{r\}|@2x/.test(template);
  const address = String(template).replaceAll("{q}", "{quadkey}").replaceAll("{r}", "@2x");
  const source = new TileSource({
    tiles: address,
    minzoom,
    maxzoom: needed(maxzoom, "xyz"),
    ...(bounds && { bounds }),
    ...(subdomains && { subdomains }),
  });
  return service(address, given, mercatorLevels(minzoom, source.maxzoom, given.size ?? (hasTwo ? 512 : 256)), {
    has: (tile) => source.has(tile),
    url: (tile) => source.urlOf(tile)!,
  });
}

/**
 * Tiles of a WMTS whose matrix set is Web Mercator's zooms: by an address with `{TileMatrix}`, `{TileRow}` and `{TileCol}`
 * (REST), or by that of the service (KVP).
 */
export function wmts(url: string, options: WmtsOptions): AreaSource {
  const given = check.checkOptions(options, "wmts", WMTS);
  const { layer, style = "default", matrixSet = "GoogleMapsCompatible", format = "image/png", matrix = String } = given;
  const isRest = /\{TileMatrix\}/i.test(url);
  if (layer === undefined && !(isRest && !/\{Layer\}/i.test(url))) throw lacking("wmts", "layer");
  const { minzoom = 0, maxzoom, size = 256 } = given;
  const address = ({ z, x, y }: TileId) => {
    const values: [string, string | number][] = [
      ["Layer", layer ?? ""],
      ["Style", style],
      ["TileMatrixSet", matrixSet],
      ["TileMatrix", matrix(z)],
      ["TileRow", y],
      ["TileCol", x],
    ];
    if (!isRest)
      return withQuery(url, [
        ["Service", "WMTS"],
        ["Request", "GetTile"],
        ["Version", "1.0.0"],
        ...values,
        ["Format", format],
      ]);
    return values.reduce(
      (text, [name, value]) => text.replace(new RegExp(`\\{${name}\\}`, "gi"), encodeURIComponent(value)),
      url,
    );
  };
  const key = `${url} ${layer ?? ""} ${style} ${matrixSet} ${format}`;
  return service(url, given, mercatorLevels(minzoom, needed(maxzoom, "wmts"), size), { url: address, key });
}

/** Pictures of a WMS, asked for tile by tile. In version 1.3.0, EPSG:4326 has the latitude first. */
export function wms(url: string, options: WmsOptions): AreaSource {
  const given = check.checkOptions(options, "wms", WMS);
  const { layers, version = "1.3.0", styles = "", crs = "EPSG:3857", format = "image/png", parameters = {} } = given;
  if (layers === undefined || layers.length === 0) throw lacking("wms", "layers");
  if (crs === "CRS:84" && version === "1.1.1") {
    const message = "version 1.1.1 of WMS has no CRS:84";
    throw new SamloraError("invalid", message, 'give crs: "EPSG:4326", whose longitude comes first there');
  }
  const { minzoom = 0, maxzoom = 22, size = 256 } = given;
  const isMercator = crs === "EPSG:3857";
  const zooms = isMercator ? mercatorLevels(minzoom, maxzoom, size) : degreeLevels(minzoom, maxzoom, size);
  const place = (tile: TileId): number[] => {
    if (isMercator) return boundsMercator(tile);
    const side = 180 / 2 ** tile.z;
    const [west, north] = [tile.x * side - 180, 90 - tile.y * side];
    const isLatitudeFirst = version === "1.3.0" && crs === "EPSG:4326";
    return isLatitudeFirst ? [north - side, west, north, west + side] : [west, north - side, west + side, north];
  };
  const fixed: [string, string | number][] = [
    ["SERVICE", "WMS"],
    ["REQUEST", "GetMap"],
    ["VERSION", version],
    ["LAYERS", typeof layers === "string" ? layers : layers.join()],
    ["STYLES", styles],
    ["FORMAT", format],
    ...(/jpe?g/i.test(format) ? [] : [["TRANSPARENT", "TRUE"] as [string, string]]),
    [version === "1.3.0" ? "CRS" : "SRS", crs],
    ["WIDTH", size],
    ["HEIGHT", size],
    ...Object.entries(parameters),
  ];
  return service(url, given, zooms, {
    url: (tile) => withQuery(url, [...fixed, ["BBOX", place(tile).join()]]),
    key: `${url} ${JSON.stringify(fixed)}`,
  });
}

interface Address {
  url: (tile: TileId) => string;
  /** Whether there may be such a tile. */
  has?: (tile: TileId) => boolean;
  key?: string;
}

function service(
  name: string,
  { size, bounds, attribution, headers, parallel = 6 }: Partial<ServiceOptions>,
  levels: ZoomLevel[],
  { url, has = () => true, key = name }: Address,
): AreaSource {
  const system = levels[0]!.height === levels[0]!.width ? MERCATOR : DEGREES;
  const side = levels[0]!.tile[0];
  const isInside = (level: ZoomLevel, x: number, y: number) => {
    if (!bounds) return true;
    const [left, top] = pixelOf(level, system, bounds[0], bounds[3]);
    const [right, bottom] = pixelOf(level, system, bounds[2], bounds[1]);
    return (x + 1) * side > left && x * side < right && (y + 1) * side > top && y * side < bottom;
  };
  return tiled({
    name,
    key: `${key} ${size ?? ""}`,
    attribution,
    system,
    bounds,
    levels,
    parallel,
    nameOf: (level, x, y) => nameOf({ z: (level as ZoomLevel).zoom, x, y }),
    async tile(level, x, y, signal) {
      const tile = { z: (level as ZoomLevel).zoom, x, y };
      if (!isInside(level as ZoomLevel, x, y) || !has(tile)) return undefined;
      const address = url(tile);
      const picture = await fetchTile(address, headers, signal);
      return picture && decode(picture, address, side);
    },
  });
}

/** The bytes at an address, tried again when the server is in trouble; undefined where it has none. */
async function fetchTile(
  url: string,
  headers: Record<string, string> | undefined,
  signal: AbortSignal,
): Promise<Blob | undefined> {
  try {
    const remedy = "check the address";
    const picture = await downloadBlob({ url, file: "a tile", remedy, limit: TILE_BYTES, headers, signal });
    return picture.size ? picture : undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof SamloraError)) throw error;
    // No tile there: 404, 410, or the start page of a host of single pages.
    if (error.code === "not_found") return undefined;
    if (/ answered 40[13]\b/.test(error.message)) {
      const remedy = "the server wants a key: give it in the address, or in the source's option headers";
      throw new SamloraError("unsupported", error.message, remedy, error);
    }
    if (error instanceof Trouble && error.silent) throw await unreachable(url, signal, error);
    throw error;
  }
}

function withQuery(url: string, values: readonly (readonly [string, string | number])[]): string {
  const address = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  // Names of services are of any case: what is given anew replaces what is there.
  for (const [name] of values) {
    for (const known of [...address.searchParams.keys()])
      if (known.toLowerCase() === name.toLowerCase()) address.searchParams.delete(known);
  }
  for (const [name, value] of values) address.searchParams.set(name, String(value));
  return address.href;
}

function needed(maxzoom: number | undefined, call: string): number {
  if (maxzoom === undefined) throw lacking(call, "maxzoom");
  return maxzoom;
}

function lacking(call: string, option: string): SamloraError {
  const said = option === "maxzoom" ? "the highest zoom that the service has" : `the name of the service's ${option}`;
  return new SamloraError("invalid", `${call} lacks the option ${option}`, `give ${said}`);
}
