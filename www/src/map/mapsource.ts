// The tiles of a raster source that a MapLibre map has already.

import type { Map as MapLibreMap, RasterTileSource } from "maplibre-gl";
import { SamloraError } from "../error.ts";
import { TileSource } from "./imagery.ts";

/** The tiles of a raster source of the map; undefined while its TileJSON is on its way. */
export function sourceOf(map: MapLibreMap, id: string): TileSource | undefined {
  const source = map.getSource<RasterTileSource>(id);
  if (!source)
    throw new SamloraError(
      "not_found",
      `the map has no source ${JSON.stringify(id)}`,
      "add it first, or give a TileSource",
    );
  if (source.type !== "raster") {
    throw new SamloraError(
      "invalid",
      `the map's source ${JSON.stringify(id)} is of type ${source.type}`,
      "give the id of a raster source",
    );
  }
  const template = source.tiles?.[0];
  if (!template) return undefined;
  if (!/^(https?:)?\/?\//.test(template) && /^[\w-]+:\/\//.test(template)) {
    throw new SamloraError(
      "unsupported",
      `the tiles of ${JSON.stringify(id)} come through a protocol of the page`,
      "give a TileSource with a function that reads them",
    );
  }
  const { minzoom, maxzoom, bounds, scheme } = source;
  return new TileSource({
    tiles: scheme === "tms" ? template.replaceAll("{y}", "{-y}") : template,
    tileSize: source.tileSize === 512 ? 512 : 256,
    minzoom,
    maxzoom,
    ...(bounds && { bounds }),
  });
}
