// What a page may do with masks on a map; which tiles are computed when.

import type { LngLatLike, Map as MapLibreMap, MapSourceDataEvent } from "maplibre-gl";
import * as check from "../check.ts";
import { isAbort, SamloraError } from "../error.ts";
import type { ClassInfo, GeoJSONFeatureCollection, LoadedModel, TileId } from "../types.ts";
import { nameOf, toTile } from "./imagery.ts";
import { sourceOf } from "./mapsource.ts";
import { type MapLibre, type MapStyle, MaskLayer } from "./masklayer.ts";
import { POLYGONS, STYLE } from "./tilemask.ts";
import { type TileCounts, type TileMask, TileMasks, type TilePolygonOptions, TileSource } from "./tiles.ts";

export interface MapOptions extends MapStyle {
  /** The imagery to segment: tiles, or the id of a raster source of the map with tiles of that kind. */
  source: TileSource | string;
  /** Regions of fewer pixels take the class around them. */
  minPixels?: number;
  /** Least pixels of context around a pixel; see `TileMasksOptions`. */
  halo?: number;
  /** Most bytes of the network's output that are kept; see `TileMasksOptions`. */
  windowBytes?: number;
  /** Id of the layer below which the masks are drawn; on top unless given. */
  before?: string;
  /** Most masks that are kept; 256 unless given. */
  capacity?: number;
  /** A tile's mask is ready. */
  onTile?: (mask: TileMask) => void;
  /** A tile failed for good; without it such errors go to the console. */
  onError?: (error: Error, tile: TileId | undefined) => void;
  /** Removes the masks when it fires. */
  signal?: AbortSignal;
}

/** What is at one place. */
export interface PlaceClass {
  class: ClassInfo;
  /** Its probability, 0 to 1. */
  confidence: number;
  tile: TileId;
}

export interface MapCounts extends TileCounts {
  /** Tiles of imagery in view, without those that turned out not to be there. */
  inView: number;
  /** Those of them that are finished. */
  finished: number;
}

/** The tiles of a view that are asked for at most: a map that lies flat towards the horizon has no end. */
const VIEW_LIMIT = 256;
/** Milliseconds between looks at a view that moves. */
const PACE = 150;

const MAP_STYLE = { ...STYLE, opacity: check.numberFrom(0, 1) };
const OPTIONS = {
  ...MAP_STYLE,
  source: ((value) =>
    typeof value === "string" || value instanceof TileSource
      ? undefined
      : "a TileSource, or the id of a raster source") as check.Check,
  minPixels: check.wholeNumber(),
  halo: check.wholeNumber(),
  windowBytes: check.wholeNumber(),
  before: check.aText,
  capacity: check.wholeNumber(1),
  onTile: check.aFunction,
  onError: check.aFunction,
  signal: check.aSignal,
};

/** Masks on a map; made by `samlora`. */
export class MapMasks {
  readonly #layer: MaskLayer;
  readonly #map: MapLibreMap;
  readonly #options: MapOptions;
  #segmenter: LoadedModel | undefined;
  #style: MapStyle;
  #masks: TileMasks | undefined;
  #wanted = new Map<string, AbortController>();
  /** Tiles of the view, nearest first. */
  #view: TileId[] = [];
  #centre: [number, number] = [0, 0];
  #failed = new Set<string>();
  /** Errors that belong to no tile, each told once however often it comes. */
  #told = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #removed = false;

  /** @internal */
  constructor(maplibregl: MapLibre, map: MapLibreMap, segmenter: LoadedModel | undefined, options: MapOptions) {
    checkMap(maplibregl, map);
    check.checkOptions(options, "samlora", OPTIONS);
    if (options?.source === undefined)
      throw new SamloraError("invalid", "there is no source of imagery", "give `source`");
    this.#map = map;
    this.#segmenter = segmenter;
    this.#options = options;
    this.#style = options;
    const maskOf = (tile: TileId) => this.#masks?.peek(tile) ?? undefined;
    this.#layer = new MaskLayer(maplibregl, map, maskOf, options, (error) => this.#tell(error, undefined));
    this.#listen("on");
    options.signal?.addEventListener("abort", this.#remove);
    if (options.signal?.aborted) this.remove();
    else this.#attach();
  }

  /** Id of the raster source and of the layer of the masks. */
  get id(): string {
    return this.#layer.id;
  }

  /** Uses another model, or none; masks of the old one disappear. */
  setSegmenter(segmenter: LoadedModel | undefined): void {
    this.#segmenter = segmenter;
    this.#failed.clear();
    this.#told.clear();
    this.#masks?.setSegmenter(segmenter);
    this.#look();
  }

  /** Changes what is given and leaves the rest; tiles that are there are drawn anew and not computed again. */
  setStyle(style: MapStyle): void {
    check.checkOptions(style, "setStyle", MAP_STYLE);
    if (this.#removed) return;
    this.#style = { ...this.#style, ...style };
    this.#layer.setStyle(style);
  }

  /** Class and confidence at a place, if its tile is finished and holds data there. */
  async classAt(lngLat: LngLatLike): Promise<PlaceClass | undefined> {
    const [longitude, latitude] = pair(lngLat);
    const wrapped = ((((longitude + 180) % 360) + 360) % 360) - 180;
    // The zoom that is on the screen first, then what is known from others.
    const shown = this.#view[0]?.z ?? 0;
    const { minzoom = 0, maxzoom = -1 } = this.#masks?.source ?? {};
    const zooms = Array.from({ length: maxzoom - minzoom + 1 }, (_, i) => minzoom + i);
    zooms.sort((a, b) => Math.abs(a - shown) - Math.abs(b - shown));
    for (const z of zooms) {
      const [column, row] = toTile([wrapped, latitude], z);
      const tile = { z, x: Math.floor(column), y: Math.floor(row) };
      const mask = this.#masks?.peek(tile);
      if (!mask) continue;
      const [x, y] = [(column - tile.x) * mask.width, (row - tile.y) * mask.height];
      const at = await mask.at(x, y, this.#style.thresholds);
      const found = this.#segmenter?.info.classes.find((c) => c.index === at?.index);
      return at && found && { class: found, confidence: at.confidence, tile };
    }
    return undefined;
  }

  /**
   * Polygons of all finished tiles in view, in longitude and latitude, cut at the tiles' borders. Classes and thresholds are
   * those of the style unless given. Properties: `class`, `name`, `color`, `confidence`, `pixels`, `area_m2`, `tile`.
   */
  async toGeoJSON(options?: TilePolygonOptions): Promise<GeoJSONFeatureCollection> {
    check.checkOptions(options, "toGeoJSON", POLYGONS);
    const { classes, thresholds } = this.#style;
    const { minPixels } = this.#options;
    const given = {
      ...(classes && { classes }),
      ...(thresholds && { thresholds }),
      ...(minPixels !== undefined && { minPixels }),
      ...options,
    };
    const features = await Promise.all(this.tiles().map((mask) => mask.toFeatures(given)));
    return { type: "FeatureCollection", features: features.flat() };
  }

  /** The finished tiles in view, nearest to its centre first. */
  tiles(): TileMask[] {
    return this.#view.map((tile) => this.#masks?.peek(tile)).filter((mask) => mask != null);
  }

  /** What was done and what is left to do. */
  stats(): MapCounts {
    const counts = this.#masks?.counts() ?? { done: 0, waiting: 0, running: 0, failed: 0, windows: 0, time: undefined };
    const missing = this.#view.filter((tile) => this.#masks?.peek(tile) === null).length;
    return { ...counts, inView: this.#view.length - missing, finished: this.tiles().length };
  }

  /** Starts no new tile until `resume`; those that run are finished. */
  pause(): void {
    this.#masks?.pause();
  }

  /** Goes on; tiles that failed are tried again. */
  resume(): void {
    this.#failed.clear();
    this.#masks?.resume();
    this.#look();
  }

  /** Takes the masks off the map and stops all work. The segmenter stays the page's. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    clearTimeout(this.#timer);
    this.#listen("off");
    this.#options.signal?.removeEventListener("abort", this.#remove);
    for (const controller of this.#wanted.values()) controller.abort();
    this.#wanted.clear();
    this.#layer.remove();
  }

  #remove = () => this.remove();

  #listen(how: "on" | "off"): void {
    const map = this.#map;
    for (const event of ["move", "resize", "render"] as const) map[how](event, this.#onMove);
    // A globe has no tiles before it is drawn, and other views change without a move as well.
    for (const event of ["moveend", "idle", "projectiontransition", "terrain"] as const) map[how](event, this.#look);
    map[how]("style.load", this.#attach);
    if (how === "on") map.on("sourcedata", this.#onSourceData);
    else map.off("sourcedata", this.#onSourceData);
    map[how]("remove", this.#remove);
  }

  #onMove = () => {
    this.#timer ??= setTimeout(this.#look, PACE);
  };

  /** Puts source and layer on the map, as soon as its style and the imagery are there; again after `map.setStyle`. */
  #attach = () => {
    const map = this.#map;
    if (this.#removed || !map.getStyle() || this.#layer.isAttached) return;
    this.#masks ??= this.#makeMasks();
    if (!this.#masks) return;
    this.#layer.attach(this.#masks.source, this.#options.before);
    this.#look();
  };

  #makeMasks(): TileMasks | undefined {
    let source: TileSource | undefined;
    try {
      source =
        typeof this.#options.source === "string" ? sourceOf(this.#map, this.#options.source) : this.#options.source;
    } catch (error) {
      this.#tell(error, undefined);
      return undefined;
    }
    const { minPixels, capacity, halo, windowBytes } = this.#options;
    return (
      source &&
      new TileMasks(this.#segmenter, source, {
        priority: (tile) => this.#distance(tile),
        ...(minPixels !== undefined && { minPixels }),
        ...(capacity !== undefined && { capacity }),
        ...(halo !== undefined && { halo }),
        ...(windowBytes !== undefined && { windowBytes }),
      })
    );
  }

  /** Asks for the view's tiles, drops those that left it, and has drawn what is new. */
  #look = () => {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const masks = this.#masks;
    if (this.#removed || !masks) return;
    const { tileSize, minzoom, maxzoom } = masks.source;
    const centre = this.#map.getCenter().wrap();
    this.#centre = [centre.lng, centre.lat];
    // A world that is seen twice has every tile once.
    const canonical = this.#map
      .coveringTiles({ tileSize, minzoom, maxzoom, roundZoom: true })
      .map((id) => id.canonical);
    const tiles = new Map(canonical.map(({ z, x, y }) => [`${z}/${x}/${y}`, { z, x, y }]));
    const ordered = [...tiles.values()]
      .filter((tile) => masks.source.has(tile))
      .sort((a, b) => this.#distance(a) - this.#distance(b));
    this.#view = ordered.slice(0, VIEW_LIMIT);

    const inView = new Set(this.#view.map(nameOf));
    for (const [key, controller] of this.#wanted) {
      if (inView.has(key)) continue;
      this.#wanted.delete(key);
      controller.abort();
    }
    for (const tile of this.#view) void this.#want(tile, masks);
    this.#layer.refresh(this.#view);
  };

  async #want(tile: TileId, masks: TileMasks): Promise<void> {
    const key = nameOf(tile);
    if (this.#wanted.has(key) || this.#failed.has(key) || masks.peek(tile) !== undefined) return;
    const controller = new AbortController();
    this.#wanted.set(key, controller);
    try {
      const mask = await masks.get(tile, controller.signal);
      if (this.#removed) return;
      this.#layer.refresh(this.#view);
      if (mask) this.#options.onTile?.(mask);
    } catch (error) {
      if (isAbort(error)) return;
      this.#failed.add(key); // Until `resume` or another model: an error must not be repeated with every move.
      this.#tell(error, tile);
    } finally {
      if (this.#wanted.get(key) === controller) this.#wanted.delete(key);
    }
  }

  /** How far the middle of `tile` is from the middle of the view, in the world's widths. */
  #distance({ z, x, y }: TileId): number {
    const [column, row] = toTile(this.#centre, 0);
    const across = Math.abs((x + 0.5) / 2 ** z - column);
    return Math.hypot(Math.min(across, 1 - across), (y + 0.5) / 2 ** z - row);
  }

  /** The imagery's own source may be on its way when the masks are asked for. */
  #onSourceData = ({ sourceId }: MapSourceDataEvent) => {
    if (!this.#masks && sourceId === this.#options.source) this.#attach();
  };

  #tell(thrown: unknown, tile: TileId | undefined): void {
    const error = SamloraError.from(thrown);
    if (!tile && this.#told.has(error.message)) return;
    if (!tile) this.#told.add(error.message);
    if (this.#options.onError) this.#options.onError(error, tile);
    else console.error(error);
  }
}

function checkMap(maplibregl: MapLibre, map: MapLibreMap): void {
  if (typeof maplibregl?.addProtocol !== "function") {
    const message = `${check.describe(maplibregl)} is not the module maplibre-gl`;
    throw new SamloraError("invalid", message, 'give what `import * as maplibregl from "maplibre-gl"` gives');
  }
  if (typeof map?.getStyle !== "function") {
    throw new SamloraError("invalid", `${check.describe(map)} is no map`, "give a map that maplibre-gl made");
  }
  if (typeof map.coveringTiles !== "function" || typeof map.refreshTiles !== "function") {
    throw new SamloraError("unsupported", "this MapLibre is too old", "use maplibre-gl 5.24 or newer");
  }
}

function pair(lngLat: LngLatLike): [number, number] {
  if (Array.isArray(lngLat)) return [lngLat[0], lngLat[1]];
  return ["lng" in lngLat ? lngLat.lng : lngLat.lon, lngLat.lat];
}
