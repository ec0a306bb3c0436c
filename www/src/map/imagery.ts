// Where the pictures of map tiles come from: a URL template, or a page's own function.

import { SamloraError } from "../error.ts";
import type { TileId } from "../types.ts";

/** Gives the picture of a tile, or nothing where there is no such tile. */
export type ReadTile = (tile: TileId, signal: AbortSignal) => Promise<ImageBitmapSource | null | undefined>;

export interface TileSourceOptions {
  /**
   * URL template with `{z}` `{x}` `{y}`, `{-y}` (TMS: rows counted from the south), `{quadkey}` and `{s}` (one of
   * `subdomains`), or a function.
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
}

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
  readonly #read: ReadTile;

  /**
   * A URL template alone, or with options.
   *
   * @throws `SamloraError` of code `invalid` for a template that cannot name tiles, or zooms out of order.
   */
  constructor(options: string | TileSourceOptions) {
    const {
      tiles,
      tileSize = 256,
      minzoom = 0,
      maxzoom = 22,
      bounds,
      attribution,
      subdomains,
      headers,
    } = typeof options === "string" ? ({ tiles: options } as TileSourceOptions) : options;
    if (
      typeof tiles === "string" &&
      !/\{quadkey\}/.test(tiles) &&
      !(/\{z\}/.test(tiles) && /\{x\}/.test(tiles) && /\{-?y\}/.test(tiles))
    ) {
      throw new SamloraError(
        "invalid",
        `${JSON.stringify(tiles)} does not name tiles`,
        "give an address with {z}, {x} and {y} (or {-y}, or {quadkey}) in it, such as https://example.org/{z}/{x}/{y}.png",
      );
    }
    if (!(0 <= minzoom && minzoom <= maxzoom && maxzoom <= 30)) {
      throw new SamloraError(
        "invalid",
        `there are no zooms from ${minzoom} to ${maxzoom}`,
        "give 0 <= minzoom <= maxzoom <= 30",
      );
    }
    this.url = typeof tiles === "string" ? tiles : undefined;
    this.tileSize = tileSize;
    this.minzoom = minzoom;
    this.maxzoom = maxzoom;
    this.bounds = bounds ?? [-180, -MAX_LATITUDE, 180, MAX_LATITUDE];
    this.attribution = attribution;
    this.#subdomains = subdomains?.length ? subdomains : ["a", "b", "c"];
    this.#headers = headers ?? {};
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

  /** The pixels of a tile of `width` x `height` pixels that lie within the bounds. */
  inside(
    { z, x, y }: TileId,
    { width, height }: { width: number; height: number },
  ): { columns: [number, number]; rows: [number, number] } {
    const [west, south, east, north] = this.bounds;
    const [left, top] = toTile([west, north], z);
    const [right, bottom] = toTile([east, south], z);
    const pixel = (place: number, side: number) => Math.max(0, Math.min(Math.round(place * side), side));
    return {
      columns: [pixel(left - x, width), pixel(right - x, width)],
      rows: [pixel(top - y, height), pixel(bottom - y, height)],
    };
  }

  /** The address of `tile`, unless tiles come from a function. */
  urlOf({ z, x, y }: TileId): string | undefined {
    const values: Record<string, string | number> = { z, x, y, "-y": 2 ** z - 1 - y };
    return this.url?.replace(/\{(z|x|-?y|s|quadkey)\}/g, (_, name: string) => {
      // The same tile always has the same address, so that it is cached once.
      if (name === "s") return this.#subdomains[(x + y) % this.#subdomains.length]!;
      return String(name === "quadkey" ? quadkey({ z, x, y }) : values[name]);
    });
  }

  /** The picture of `tile`, or undefined where there is none. Rejects with a `SamloraError`, or the signal's reason. */
  async read(tile: TileId, signal: AbortSignal): Promise<ImageBitmap | undefined> {
    signal.throwIfAborted();
    const found = await this.#read(tile, signal);
    signal.throwIfAborted();
    if (!found) return undefined;
    try {
      // The network wants the file's own samples, not the screen's colours.
      return await createImageBitmap(found, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
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
    const url = this.urlOf(tile)!;
    let response: Response;
    try {
      response = await fetch(url, { signal, headers: this.#headers });
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw await unreachable(url, signal, cause);
    }
    if (response.ok) {
      const blob = await response.blob();
      // Servers say "no such tile" with an empty answer, and single-page hosts with their start page.
      return blob.size && !blob.type.startsWith("text/html") ? blob : undefined;
    }
    if (response.status === 404 || response.status === 410) return undefined;
    const refused = response.status === 401 || response.status === 403;
    throw new SamloraError(
      refused ? "unsupported" : "io",
      `${url}: the server answered ${response.status} ${response.statusText}`.trimEnd(),
      refused
        ? "the server wants a key: check the address, or give it in `headers`"
        : "try again later, or ask who runs the server",
    );
  }
}

/** Tells a server that forbids reading from one that is not there. */
async function unreachable(url: string, signal: AbortSignal, cause: unknown): Promise<SamloraError> {
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

/** Where Web Mercator ends, in degrees. */
const MAX_LATITUDE = 85.051129;
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

/** Metres per pixel of tiles of `tileSize` pixels at zoom `z`, at a latitude in degrees. */
export function groundResolution(latitude: number, z: number, tileSize: number): number {
  return (Math.cos((latitude * Math.PI) / 180) * 2 * Math.PI * 6378137) / (tileSize * 2 ** z);
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
