// The masks of map tiles over a MapLibre map.

import type { Map as MapLibreMap } from "maplibre-gl";
import { MapMasks, type MapOptions } from "./map/mapmasks.ts";
import type { MapLibre } from "./map/masklayer.ts";
import type { LoadedModel } from "./types.ts";

export { MapMasks, type MapCounts, type MapOptions, type PlaceClass } from "./map/mapmasks.ts";
export type { MapLibre, MapStyle } from "./map/masklayer.ts";
export * from "./map/tiles.ts";

/**
 * Draws the class masks of a raster imagery over `map`, for the tiles in view, nearest to the centre first.
 *
 * `maplibregl` is the module that `map` was made with: its protocols belong to it. Several controllers on one map, and
 * several maps, do not disturb one another. MapLibre loads at most 16 pictures of all sources at a time; so a tile whose
 * mask is not there yet is answered with an empty picture at once, and drawn anew when the mask is ready, and the map's
 * own imagery never waits for the network.
 *
 * @example
 * ```ts
 * import * as maplibregl from "maplibre-gl";
 * import { Segmenter } from "samlora";
 * import { samlora, TileSource } from "samlora/maplibre";
 *
 * const imagery = "https://example.org/{z}/{x}/{y}.jpg";
 * const map = new maplibregl.Map({
 *   container: "map",
 *   center: [124.75, 11.1],
 *   zoom: 18,
 *   style: {
 *     version: 8,
 *     sources: { imagery: { type: "raster", tiles: [imagery], tileSize: 256, maxzoom: 20 } },
 *     layers: [{ id: "imagery", type: "raster", source: "imagery" }],
 *   },
 * });
 * const segmenter = await Segmenter.load("/models/buildings/");
 * const masks = samlora(maplibregl, map, segmenter, {
 *   source: new TileSource({ tiles: imagery, maxzoom: 20 }), // or "imagery", the source's id
 *   thresholds: { building: 0.6 },
 *   onError: (error) => console.warn(error.message),
 * });
 * map.on("click", async ({ lngLat }) => console.log((await masks.classAt(lngLat))?.class.name));
 * masks.setStyle({ opacity: 0.8, classes: [1] }); // Restyles what is there; nothing is computed again.
 * const geojson = await masks.toGeoJSON();
 * masks.remove();
 * ```
 */
export function samlora(
  maplibregl: MapLibre,
  map: MapLibreMap,
  segmenter: LoadedModel | undefined,
  options: MapOptions,
): MapMasks {
  return new MapMasks(maplibregl, map, segmenter, options);
}
