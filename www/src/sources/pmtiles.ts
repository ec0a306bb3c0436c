// PMTiles archives (version 3) of pictures, by the library `pmtiles`.

import type * as Library from "pmtiles";
import type { AreaSource, Bounds } from "../area/types.ts";
import * as check from "../check.ts";
import { isAbort, SamloraError } from "../error.ts";
import { fromTile, nameOf, toTile } from "../map/imagery.ts";
import { type Bytes, type FileInput, openBytes } from "./bytes.ts";
import { lackingPeer } from "./peer.ts";
import { ARCHIVED, decode, MERCATOR, mercatorLevels, type ZoomLevel } from "./pyramid.ts";
import { tiled } from "./tiled.ts";

export interface ArchiveOptions {
  /** Sent with every request, such as an access token. */
  headers?: Record<string, string>;
  /** Most tiles that are read at the same time; 6 unless given. */
  parallel?: number;
  signal?: AbortSignal;
  /** The module of the library, for pages without a bundler. */
  library?: object;
}

export const ARCHIVE = {
  headers: ((value) => (check.kindOf(value) === "Object" ? undefined : "an object of texts by name")) as check.Check,
  parallel: check.wholeNumber(1),
  signal: check.aSignal,
  library: check.anything,
};

/** What the header says of tiles that are no pictures. */
const NO_PICTURES: Record<number, string> = { 1: "vector tiles (MVT)", 6: "vector tiles (MLT)" };

/** Imagery in a PMTiles archive: a file, or an address whose server gives ranges. Needs the library `pmtiles`. */
export async function pmtiles(input: FileInput, options?: ArchiveOptions): Promise<AreaSource> {
  const { headers, parallel = 6, signal, library } = check.checkOptions(options, "pmtiles", ARCHIVE);
  const { PMTiles, SharedPromiseCache, tileIdToZxy } = (library as typeof Library | undefined) ?? (await load());
  const bytes = await openBytes(input, "a PMTiles archive", { headers, signal });
  const file: Library.Source = {
    getKey: () => bytes.key,
    getBytes: async (offset, length, signal) => ({ data: (await bytes.read(offset, offset + length, signal)).buffer }),
  };
  const archive = new PMTiles(file, new SharedPromiseCache(100, true, unpack), unpack);
  const header = await sound(bytes, () => archive.getHeader());
  const kind = NO_PICTURES[header.tileType];
  if (kind) {
    throw new SamloraError(
      "unsupported",
      `${bytes.name} holds ${kind}, which have no pixels`,
      "give an archive of PNG, JPEG, WebP or AVIF tiles",
    );
  }
  const metadata = await sound(bytes, () => archive.getMetadata()).catch(() => undefined); // Nothing depends on it.
  const first = await sound(bytes, () => firstTile(archive, header, tileIdToZxy));
  if (!first) throw new SamloraError("format", `${bytes.name} holds no tile`, "make the archive anew");
  const read = (z: number, x: number, y: number, signal?: AbortSignal) =>
    sound(bytes, () => archive.getZxy(z, x, y, signal));
  const sample = await read(...first, signal);
  const { width: side } = await decode(new Blob([sample!.data]), `${bytes.name} ${first.join("/")}`, undefined);
  return tiled({
    name: bytes.name,
    key: bytes.key,
    attribution: textOf((metadata as { attribution?: unknown } | undefined)?.attribution),
    system: MERCATOR,
    bounds: snapped(boundsOf([header.minLon, header.minLat, header.maxLon, header.maxLat]), header.maxZoom),
    levels: mercatorLevels(header.minZoom, header.maxZoom, side),
    parallel,
    known: true,
    nameOf: (level, x, y) => nameOf({ z: (level as ZoomLevel).zoom, x, y }),
    async tile(level, x, y, signal) {
      const { zoom } = level as ZoomLevel;
      const found = await read(zoom, x, y, signal);
      return found && decode(new Blob([found.data]), `${bytes.name} ${zoom}/${x}/${y}`, side, ARCHIVED);
    },
  });
}

async function load(): Promise<typeof Library> {
  try {
    return await import("pmtiles");
  } catch (cause) {
    throw lackingPeer("pmtiles", cause);
  }
}

/** The most bytes of an unpacked directory: a small archive must not fill the memory. */
const MOST_UNPACKED = 64 << 20;

/** Unpacks directories, metadata and tiles: 1 is as it is, 2 is gzip. */
async function unpack(packed: ArrayBuffer, compression: number): Promise<ArrayBuffer> {
  if (compression <= 1) return packed;
  if (compression !== 2) throw new Error(`its compression (number ${compression}) is not gzip`);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value as Uint8Array<ArrayBuffer>);
    length += next.value.length;
    if (length > MOST_UNPACKED) {
      await reader.cancel();
      throw new Error(`a part of it unpacks to more than ${MOST_UNPACKED} bytes`);
    }
  }
  return new Blob(parts).arrayBuffer();
}

/** The place of any tile. */
async function firstTile(
  archive: Library.PMTiles,
  header: Library.Header,
  place: typeof Library.tileIdToZxy,
): Promise<[number, number, number] | undefined> {
  let [offset, length] = [header.rootDirectoryOffset, header.rootDirectoryLength];
  for (let depth = 0; depth < 4; depth++) {
    const [entry] = await archive.cache.getDirectory(archive.source, offset, length, header);
    if (!entry) return undefined;
    if (entry.runLength > 0) return place(entry.tileId);
    [offset, length] = [header.leafDirectoryOffset + entry.offset, entry.length];
  }
  return undefined;
}

/** Names the archive where the library fails. */
async function sound<T>({ name }: Bytes, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof SamloraError || isAbort(cause)) throw cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    const message = `${name} is damaged or no PMTiles archive of version 3: ${said}`;
    throw new SamloraError("format", message, "copy or download it again; `pmtiles verify` checks an archive", cause);
  }
}

/** Degrees that the header's numbers are rounded to. */
const ROUNDED = 1e-7;

/** Bounds that end at tiles' borders but for the rounding in the header, exactly there. */
function snapped(bounds: Bounds | undefined, zoom: number): Bounds | undefined {
  if (!bounds) return undefined;
  const snap = (axis: 0 | 1) => (place: [number, number]) => {
    const tile = toTile(place, zoom);
    tile[axis] = Math.round(tile[axis]);
    const border = fromTile(tile, zoom)[axis];
    return Math.abs(border - place[axis]) <= ROUNDED ? border : place[axis];
  };
  const [west, south, east, north] = bounds;
  return [snap(0)([west, south]), snap(1)([west, south]), snap(0)([east, north]), snap(1)([east, north])];
}

export const textOf = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

/** Bounds that say something; many archives say nothing, or that they have the whole world. */
export function boundsOf(bounds: readonly number[]): Bounds | undefined {
  const [west, south, east, north] = bounds as unknown as Bounds;
  const right = bounds.length === 4 && bounds.every(Number.isFinite) && west < east && south < north;
  return right && west >= -180 && east <= 180 && south >= -90 && north <= 90 ? [west, south, east, north] : undefined;
}
