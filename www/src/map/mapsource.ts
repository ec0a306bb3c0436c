// The tiles of a raster source that a MapLibre map has already.

import type { Map as MapLibreMap, RasterTileSource } from "maplibre-gl";
import { SamloraError } from "../error.ts";
import { type TileRequest, TileSource } from "./imagery.ts";

/** The tiles of a raster source of the map; undefined while its TileJSON is on its way. */
export function sourceOf(map: MapLibreMap, id: string): TileSource | undefined {
  const source = map.getSource<RasterTileSource>(id);
  const name = JSON.stringify(id);
  if (!source)
    throw new SamloraError("not_found", `the map has no source ${name}`, "add it first, or give a TileSource");
  if (source.type !== "raster") {
    const message = `the map's source ${name} is of type ${source.type}`;
    throw new SamloraError("invalid", message, "give the id of a raster source");
  }
  const template = source.tiles?.[0];
  if (!template) return undefined;
  // MapLibre gives no other way to what was given as `transformRequest`.
  const requests = (map as Partial<Pick<MapLibreMap, "_requestManager">>)._requestManager;
  if (!/^(https?:)?\/?\//.test(template) && /^[\w-]+:\/\//.test(template) && !requests?._transformRequestFn) {
    const message = `the tiles of ${name} come through a protocol of the page`;
    throw new SamloraError("unsupported", message, "give a TileSource with a function that reads them");
  }
  type Kind = Parameters<NonNullable<typeof requests>["transformRequest"]>[1];
  const { minzoom, maxzoom, bounds, scheme } = source;
  return new TileSource({
    tiles: scheme === "tms" ? template.replaceAll("{y}", "{-y}") : template,
    tileSize: source.tileSize === 512 ? 512 : 256,
    minzoom,
    maxzoom,
    ...(bounds && { bounds }),
    transformRequest: (url) => requests?.transformRequest(url, "Tile" as Kind) as TileRequest | undefined,
  });
}
