// MBTiles archives of pictures: SQLite compiled to wasm (`@journeyapps/wa-sqlite`) reads pages of a file as it needs them, so that an
// archive of any size takes little memory, from a Blob or with HTTP ranges.

import type { AreaSource } from "../area/types.ts";
import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import { nameOf } from "../map/imagery.ts";
import { type Bytes, type FileInput, openBytes } from "./bytes.ts";
import { lackingPeer } from "./peer.ts";
import { ARCHIVE, type ArchiveOptions, boundsOf, textOf } from "./pmtiles.ts";
import { ARCHIVED, decode, MERCATOR, mercatorLevels, type ZoomLevel } from "./pyramid.ts";
import { tiled } from "./tiled.ts";
import { openSqlite, type Sqlite, type SqliteModules } from "./sqlite.ts";

/** Imagery in an MBTiles archive: a file, or an address whose server gives ranges. Needs the library `@journeyapps/wa-sqlite`. */
export async function mbtiles(input: FileInput, options?: ArchiveOptions): Promise<AreaSource> {
  const { headers, parallel = 6, signal, library } = check.checkOptions(options, "mbtiles", ARCHIVE);
  const modules = (library as SqliteModules | undefined) ?? (await load());
  const bytes = await openBytes(input, "an MBTiles archive", { headers, signal });
  const database = await openSqlite(bytes, modules);
  try {
    return await source(bytes, database, parallel);
  } catch (error) {
    database.close();
    throw error;
  }
}

async function load(): Promise<SqliteModules> {
  try {
    // One by one: bundlers see that an import is within a `try` where it is awaited there itself.
    const glue = await import("@journeyapps/wa-sqlite/dist/wa-sqlite-async.mjs");
    const api = await import("@journeyapps/wa-sqlite");
    // @ts-expect-error: it has no types.
    const facade = await import("@journeyapps/wa-sqlite/src/FacadeVFS.js");
    return { factory: glue.default, api, FacadeVFS: facade.FacadeVFS };
  } catch (cause) {
    throw lackingPeer("@journeyapps/wa-sqlite", cause);
  }
}

async function source(bytes: Bytes, database: Sqlite, parallel: number): Promise<AreaSource> {
  const { name } = bytes;
  const tables = await database.rows("SELECT name FROM sqlite_schema WHERE name = 'tiles'");
  if (!tables.length) {
    throw new SamloraError("format", `${name} has no table of tiles`, "give an MBTiles archive; a GeoPackage is none");
  }
  // Some archives have no metadata at all.
  const rows = await database.rows("SELECT name, value FROM metadata").catch(() => []);
  const metadata = new Map(rows.map(([key, value]) => [String(key), value]));
  const format = String(metadata.get("format") ?? "").toLowerCase();
  if (format === "pbf" || format === "mvt") {
    const remedy = "give an archive of PNG, JPEG or WebP tiles";
    throw new SamloraError("unsupported", `${name} holds vector tiles (${format}), which have no pixels`, remedy);
  }
  // Each is one look into the index, whatever the metadata claim.
  const [[low] = []] = await database.rows("SELECT min(zoom_level) FROM tiles");
  const [[high] = []] = await database.rows("SELECT max(zoom_level) FROM tiles");
  const [[picture] = []] = await database.rows("SELECT tile_data FROM tiles LIMIT 1");
  if (typeof low !== "number" || typeof high !== "number" || !(picture instanceof Uint8Array)) {
    throw new SamloraError("format", `${name} holds no tile`, "make the archive anew");
  }
  const { width: side } = await decode(blobOf(picture), `${name}, its first tile`, undefined);
  const bounds = boundsOf(
    String(metadata.get("bounds") ?? "")
      .split(",")
      .map(Number),
  );
  return tiled({
    name,
    key: bytes.key,
    attribution: textOf(metadata.get("attribution")),
    system: MERCATOR,
    bounds,
    levels: mercatorLevels(low, high, side),
    parallel,
    known: true,
    nameOf: (level, x, y) => nameOf({ z: (level as ZoomLevel).zoom, x, y }),
    async tile(level, x, y, signal) {
      const { zoom } = level as ZoomLevel;
      signal.throwIfAborted();
      // Rows are counted from the south.
      const found = await database.rows(
        "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?",
        [zoom, x, 2 ** zoom - 1 - y],
      );
      const data = found[0]?.[0];
      if (data === undefined || data === null) return undefined;
      const tile = `${name} ${zoom}/${x}/${y}`;
      if (!(data instanceof Uint8Array))
        throw new SamloraError("format", `${tile} is no data`, "make the archive anew");
      return data.length ? decode(blobOf(data), tile, side, ARCHIVED) : undefined;
    },
    close: () => database.close(),
  });
}

const blobOf = (bytes: Uint8Array) => new Blob([bytes as Uint8Array<ArrayBuffer>]);
