// Where the pictures of map tiles come from: a URL template, or a page's own function.

import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import { Line } from "../package/http.ts";
import { RAW } from "../readback.ts";
import type { TileId } from "../types.ts";

/** Gives the picture of a tile, or nothing where there is no such tile. */
export type ReadTile = (tile: TileId, signal: AbortSignal) => Promise<ImageBitmapSource | null | undefined>;

export interface TileSourceOptions {
  /**
   * URL template with `{z}` `{x}` `{y}`, `{-y}` (TMS: rows counted from the south), `{quadkey}`, `{bbox-epsg-3857}` (WMS),
   * `{s}` (one of `subdomains`), `{prefix}` and `{ratio}` as MapLibre has them, or a function.
   */
  tiles: string | ReadTile;
  /** Side of a tile in CSS pixels, 256 (the default) or 512; its picture may have more pixels. */
  tileSize?: 256 | 512;
  /** Lowest zoom with tiles, 0 to 30; 0 unless given. */
  minzoom?: number;
  /** Highest zoom with tiles, 0 to 30; 22 unless given. */
  maxzoom?: number;
  /** West, south, east, north in degrees; tiles outside are not asked for. */
  bounds?: readonly [number, number, number, number];
  /** Whose imagery it is, as HTML for a map's corner. */
  attribution?: string;
  /** What `{s}` stands for; `a`, `b` and `c` unless given. */
  subdomains?: readonly string[];
  /** Sent with every request, such as an access token. */
  headers?: Record<string, string>;
  /** Makes the request of an address, as a map's `transformRequest` does: another address, headers, credentials. */
  transformRequest?: TransformRequest;
}

/** A request of a tile: its address and what `fetch` takes beside it. */
export interface TileRequest extends Pick<RequestInit, "method" | "body" | "credentials" | "cache"> {
  url: string;
  headers?: Record<string, string>;
}

export type TransformRequest = (url: string) => TileRequest | undefined | Promise<TileRequest | undefined>;

const OPTIONS = {
  tiles: check.anything,
  tileSize: ((value) => (value === 256 || value === 512 ? undefined : "256 or 512")) as check.Check,
  minzoom: check.wholeNumber(),
  maxzoom: check.wholeNumber(),
  bounds: ((value) =>
    Array.isArray(value) && value.length === 4 && value.every(Number.isFinite)
      ? undefined
      : "west, south, east and north in degrees") as check.Check,
  attribution: check.aText,
  subdomains: ((value) =>
    Array.isArray(value) && value.every((name) => !check.aText(name)) ? undefined : "a list of texts") as check.Check,
  headers: ((value) => (check.kindOf(value) === "Object" ? undefined : "an object of texts by name")) as check.Check,
  transformRequest: check.aFunction,
};

/** What a template may hold, in braces. */
const PLACEHOLDERS = ["z", "x", "y", "-y", "quadkey", "bbox-epsg-3857", "s", "prefix", "ratio"];
/** Milliseconds without an answer after which a tile's server counts as away. */
const SILENCE = 30_000;

/** Tiles of imagery in the XYZ scheme (Web Mercator). */
export class TileSource {
  /** The URL template, unless tiles come from a function. */
  readonly url: string | undefined;
  readonly tileSize: 256 | 512;
  readonly minzoom: number;
  readonly maxzoom: number;
  readonly bounds: readonly [number, number, number, number];
  readonly attribution: string | undefined;
  readonly #subdomains: readonly string[];
  readonly #headers: Record<string, string>;
  readonly #transform: TransformRequest;
  readonly #read: ReadTile;

  /**
   * A URL template alone, or with options.
   *
   * @throws `SamloraError` of code `invalid` for a template that cannot name tiles, or zooms out of order.
   */
  constructor(options: string | TileSourceOptions) {
    const given = typeof options === "string" ? { tiles: options } : options;
    const {
      tiles,
      tileSize = 256,
      minzoom = 0,
      maxzoom = 22,
      ...rest
    } = check.checkOptions(given, "TileSource", OPTIONS);
    const { bounds, attribution, subdomains, headers, transformRequest } = rest;
    if (typeof tiles === "string") checkTemplate(tiles);
    else if (typeof tiles !== "function") {
      const message = `the tiles of a TileSource are ${check.describe(tiles)}`;
      throw new SamloraError("invalid", message, "give an address with {z}, {x} and {y} in it, or a function");
    }
    if (minzoom > maxzoom || maxzoom > 30) {
      const message = `there are no zooms from ${minzoom} to ${maxzoom}`;
      throw new SamloraError("invalid", message, "give 0 <= minzoom <= maxzoom <= 30");
    }
    this.url = typeof tiles === "string" ? tiles : undefined;
    this.tileSize = tileSize;
    this.minzoom = minzoom;
    this.maxzoom = maxzoom;
    this.bounds = bounds ?? [-180, -MAX_LATITUDE, 180, MAX_LATITUDE];
    this.attribution = attribution;
    this.#subdomains = subdomains?.length ? subdomains : ["a", "b", "c"];
    this.#headers = headers ?? {};
    this.#transform = transformRequest ?? (() => undefined);
    this.#read = typeof tiles === "function" ? tiles : (tile, signal) => this.#download(tile, signal);
  }

  /** Whether there may be a picture of `tile`. */
  has({ z, x, y }: TileId): boolean {
    const side = 2 ** z;
    if (z < this.minzoom || z > this.maxzoom || x < 0 || y < 0 || x >= side || y >= side) return false;
    const [west, south, east, north] = this.bounds;
    const [left, top] = toTile([west, north], z);
    const [right, bottom] = toTile([east, south], z);
    // A tile that only touches the border has nothing of it.
    return x + 1 > left + EDGE && x < right - EDGE && y + 1 > top + EDGE && y < bottom - EDGE;
  }

  /** The address of `tile`, unless tiles come from a function. */
  urlOf({ z, x, y }: TileId): string | undefined {
    const values: Record<string, () => string | number> = {
      z: () => z,
      x: () => x,
      y: () => y,
      "-y": () => 2 ** z - 1 - y,
      quadkey: () => quadkey({ z, x, y }),
      "bbox-epsg-3857": () => boundsMercator({ z, x, y }).join(),
      // The same tile always has the same address, so that it is cached once.
      s: () => this.#subdomains[(x + y) % this.#subdomains.length]!,
      prefix: () => (x % 16).toString(16) + (y % 16).toString(16),
      ratio: () => "",
    };
    return this.url?.replace(/\{([^{}]*)\}/g, (whole, name: string) => String(values[name]?.() ?? whole));
  }

  /** The picture of `tile`, or undefined where there is none. Rejects with a `SamloraError`, or the signal's reason. */
  async read(tile: TileId, signal: AbortSignal): Promise<ImageBitmap | undefined> {
    signal.throwIfAborted();
    const found = await this.#read(tile, signal);
    signal.throwIfAborted();
    if (!found) return undefined;
    try {
      return await createImageBitmap(found, RAW);
    } catch (cause) {
      throw new SamloraError(
        "format",
        `${this.urlOf(tile) ?? nameOf(tile)} is not a picture that this browser can read`,
        "the tiles must be PNG, JPEG, WebP or AVIF pictures; vector tiles have no pixels",
        cause,
      );
    }
  }

  async #download(tile: TileId, signal: AbortSignal): Promise<Blob | undefined> {
    const asked = this.urlOf(tile)!;
    const { url, headers, method, body, credentials, cache } = (await this.#transform(asked)) ?? { url: asked };
    const init = {
      ...(method && { method }),
      ...(body && { body }),
      ...(credentials && { credentials }),
      ...(cache && { cache }),
    };
    const line = new Line(signal, SILENCE);
    try {
      const response = await fetch(url, { ...init, signal: line.signal, headers: { ...this.#headers, ...headers } });
      line.alive();
      if (!response.ok) return refusal(url, response);
      const blob = await response.blob();
      // Servers say "no such tile" with an empty answer, and single-page hosts with their start page.
      return blob.size && !blob.type.startsWith("text/html") ? blob : undefined;
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (cause instanceof SamloraError) throw cause;
      if (line.signal.aborted) {
        throw new SamloraError("io", `${url}: nothing came for ${SILENCE / 1000} s`, "ask who runs the server", cause);
      }
      throw await unreachable(url, signal, cause);
    } finally {
      line.close();
    }
  }
}

/** Nothing where there is no such tile; anything else that a server says is an error. */
function refusal(url: string, { status, statusText }: Response): undefined {
  if (status === 404 || status === 410) return undefined;
  const isRefused = status === 401 || status === 403;
  throw new SamloraError(
    isRefused ? "unsupported" : "io",
    `${url}: the server answered ${status} ${statusText}`.trimEnd(),
    isRefused
      ? "the server wants a key: give it in the address, in `headers`, or by the `transformRequest` of map or TileSource"
      : "try again later, or ask who runs the server",
  );
}

function checkTemplate(template: string): void {
  const names = [...template.matchAll(/\{([^{}]*)\}/g)].map(([, name]) => name!);
  const unknown = names.find((name) => !PLACEHOLDERS.includes(name));
  if (unknown !== undefined) {
    throw new SamloraError(
      "invalid",
      `${JSON.stringify(template)} holds {${unknown}}, which stands for nothing`,
      `give an address with none but: ${PLACEHOLDERS.map((name) => `{${name}}`).join(" ")}`,
    );
  }
  const has = (name: string) => names.includes(name);
  if (has("quadkey") || has("bbox-epsg-3857") || (has("z") && has("x") && (has("y") || has("-y")))) return;
  throw new SamloraError(
    "invalid",
    `${JSON.stringify(template)} does not name tiles`,
    "give an address with {z}, {x} and {y} (or {-y}, or {quadkey}) in it, such as https://example.org/{z}/{x}/{y}.png",
  );
}

/** Tells a server that forbids reading from one that is not there. */
export async function unreachable(url: string, signal: AbortSignal, cause: unknown): Promise<SamloraError> {
  const foreign = new URL(url, globalThis.location?.href).origin !== globalThis.location?.origin;
  // Without CORS the browser hides the answer, but not that there was one.
  const answers =
    foreign &&
    (await fetch(url, { mode: "no-cors", signal }).then(
      () => true,
      () => false,
    ));
  if (signal.aborted) throw signal.reason;
  if (answers) {
    return new SamloraError(
      "unsupported",
      `${url}: the server does not let this page read its tiles (CORS)`,
      "the server must send Access-Control-Allow-Origin; else use another one, or a proxy of your own",
      cause,
    );
  }
  return new SamloraError(
    "io",
    `${url}: no answer`,
    "check the connection and the address; browsers ask for permission before a page may reach a server of the local network",
    cause,
  );
}

/** Metres: WGS 84's semi-major axis, the sphere of Web Mercator. */
export const EARTH_RADIUS = 6378137;
/** Where Web Mercator ends, in degrees. */
export const MAX_LATITUDE = 85.051129;
/** Tile sides below this are rounding. */
const EDGE = 1e-9;

/** A place as fractions of tiles at zoom `z`: column and row. */
export function toTile([longitude, latitude]: readonly [number, number], z: number): [number, number] {
  const sine = Math.sin((Math.max(-MAX_LATITUDE, Math.min(latitude, MAX_LATITUDE)) * Math.PI) / 180);
  const side = 2 ** z;
  return [((longitude + 180) / 360) * side, (0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)) * side];
}

/** Longitude and latitude of a place in tiles (column and row, with fractions) at zoom `z`. */
export function fromTile([column, row]: readonly [number, number], z: number): [number, number] {
  const side = 2 ** z;
  return [(column / side) * 360 - 180, (Math.atan(Math.sinh(Math.PI * (1 - (2 * row) / side))) * 180) / Math.PI];
}

/** Where `tile` lies: west, south, east, north in degrees. */
export function tileBounds({ z, x, y }: TileId): [number, number, number, number] {
  const [west, north] = fromTile([x, y], z);
  const [east, south] = fromTile([x + 1, y + 1], z);
  return [west, south, east, north];
}

/** Where `tile` lies in metres of EPSG:3857: west, south, east, north. */
export function boundsMercator({ z, x, y }: TileId): [number, number, number, number] {
  const side = (2 * Math.PI * EARTH_RADIUS) / 2 ** z;
  const place = (n: number) => n * side - Math.PI * EARTH_RADIUS;
  return [place(x), -place(y + 1), place(x + 1), -place(y)];
}

/** Metres per pixel of tiles of `tileSize` pixels at zoom `z`, at a latitude in degrees. */
export function groundResolution(latitude: number, z: number, tileSize: number): number {
  return (Math.cos((latitude * Math.PI) / 180) * 2 * Math.PI * EARTH_RADIUS) / (tileSize * 2 ** z);
}

/** `z/x/y`. */
export function nameOf({ z, x, y }: TileId): string {
  return `${z}/${x}/${y}`;
}

function quadkey({ z, x, y }: TileId): string {
  let key = "";
  for (let level = z - 1; level >= 0; level--) key += ((x >> level) & 1) + 2 * ((y >> level) & 1);
  return key;
}
