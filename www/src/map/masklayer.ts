// The masks' own source, layer and protocol on a MapLibre map, and when their tiles are drawn anew.

import type { Map as MapLibreMap, MapSourceDataEvent } from "maplibre-gl";
import { nameOf, type TileSource } from "./imagery.ts";
import type { MaskStyle, TileMask } from "./tilemask.ts";
import type { TileId } from "../types.ts";

/** What is taken from the `maplibre-gl` module. */
export type MapLibre = Pick<typeof import("maplibre-gl"), "addProtocol" | "removeProtocol">;

export interface MapStyle extends MaskStyle {
  /** Opacity of the masks, 0 to 1; 0.55 unless given. */
  opacity?: number;
}

/**
 * MapLibre asks for every tile once and waits; at most 16 pictures of all sources are asked for at a time. So a tile
 * without a mask is answered with an empty picture at once, and MapLibre is told to ask again when there is one.
 */
export class MaskLayer {
  /** Of the source, the layer and the protocol: no two are the same. */
  readonly id = `samlora-${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
  readonly #maplibregl: MapLibre;
  readonly #map: MapLibreMap;
  readonly #maskOf: (tile: TileId) => TileMask | undefined;
  readonly #onError: (error: unknown) => void;
  #style: MapStyle;
  /** Counts changes of style. */
  #version = 0;
  #view: readonly TileId[] = [];
  /** By number, because a mask that is referred to would stay in memory. */
  #masks = new WeakMap<TileMask, number>();
  #lastMask = 0;
  /** The mask and the version of the style that every tile was last drawn with. */
  #drawn = new Map<string, string>();
  /** What MapLibre was told to draw, and has not drawn yet. */
  #asked = new Map<string, string>();
  #blank: Promise<ImageBitmap> | undefined;

  constructor(
    maplibregl: MapLibre,
    map: MapLibreMap,
    maskOf: (tile: TileId) => TileMask | undefined,
    style: MapStyle,
    onError: (error: unknown) => void,
  ) {
    this.#maplibregl = maplibregl;
    this.#map = map;
    this.#maskOf = maskOf;
    this.#onError = onError;
    this.#style = style;
    maplibregl.addProtocol(this.id, async ({ url }) => ({ data: await this.#draw(url) }));
    map.on("sourcedata", this.#onSourceData);
    map.on("idle", this.#onIdle);
  }

  get isAttached(): boolean {
    return this.#map.getSource(this.id) !== undefined;
  }

  /** Puts source and layer on the map, below the layer `before` if that is there. */
  attach({ tileSize, minzoom, maxzoom, bounds }: TileSource, before: string | undefined): void {
    const { id } = this;
    this.#drawn.clear();
    this.#asked.clear();
    this.#map.addSource(id, {
      type: "raster",
      tiles: [`${id}://{z}/{x}/{y}`],
      tileSize,
      minzoom,
      maxzoom,
      bounds: [...bounds],
    });
    const paint = {
      "raster-opacity": this.#style.opacity ?? 0.55,
      "raster-fade-duration": 0,
      "raster-resampling": "nearest",
    } as const;
    this.#map.addLayer(
      { id, type: "raster", source: id, paint },
      before !== undefined && this.#map.getLayer(before) ? before : undefined,
    );
  }

  /** Changes what is given. Opacity is the layer's; anything else is painted anew. */
  setStyle(style: MapStyle): void {
    const { opacity, ...painted } = style;
    this.#style = { ...this.#style, ...style };
    if (opacity !== undefined && this.isAttached) this.#map.setPaintProperty(this.id, "raster-opacity", opacity);
    if (Object.keys(painted).length) this.#version++;
    this.refresh();
  }

  /** Has MapLibre ask again for the tiles in view that look different by now. */
  refresh(view: readonly TileId[] = this.#view): void {
    this.#view = view;
    if (!this.isAttached) return;
    const changed = view.filter((tile) => {
      const key = nameOf(tile);
      const look = this.#lookOf(this.#maskOf(tile));
      if (!this.#drawn.has(key) || this.#drawn.get(key) === look || this.#asked.get(key) === look) return false;
      this.#asked.set(key, look);
      return true;
    });
    if (changed.length) this.#map.refreshTiles(this.id, changed);
  }

  remove(): void {
    const map = this.#map;
    map.off("sourcedata", this.#onSourceData);
    map.off("idle", this.#onIdle);
    try {
      if (map.getLayer(this.id)) map.removeLayer(this.id);
      if (map.getSource(this.id)) map.removeSource(this.id);
    } catch {
      // The map itself is gone, and the layer with it.
    }
    this.#maplibregl.removeProtocol(this.id);
  }

  /** MapLibre does not ask again for a tile that it is loading just then; so what was drawn is compared once it is there. */
  #onSourceData = (event: MapSourceDataEvent) => {
    const canonical = event.sourceId === this.id ? event.tile?.tileID?.canonical : undefined;
    if (!canonical) return;
    this.#asked.delete(nameOf(canonical));
    this.refresh();
  };

  /** A tile that came back from MapLibre's own cache is loaded without an event. */
  #onIdle = () => {
    this.#asked.clear();
    this.refresh();
  };

  /** What a tile with this mask looks like now, as a name. */
  #lookOf(mask: TileMask | undefined): string {
    if (!mask) return "";
    if (!this.#masks.has(mask)) this.#masks.set(mask, ++this.#lastMask);
    return `${this.#masks.get(mask)}.${this.#version}`;
  }

  /** The picture of a tile for MapLibre. */
  async #draw(url: string): Promise<ImageBitmap> {
    const [z, x, y] = url
      .slice(url.indexOf("://") + 3)
      .split("/")
      .map(Number) as [number, number, number];
    const mask = this.#maskOf({ z, x, y });
    this.#drawn.set(nameOf({ z, x, y }), this.#lookOf(mask));
    const { outline, classes, thresholds } = this.#style;
    try {
      const style = {
        ...(outline !== undefined && { outline }),
        ...(classes && { classes }),
        ...(thresholds && { thresholds }),
      };
      if (mask) return await createImageBitmap(await mask.toImageData(style));
    } catch (error) {
      // A mask that is not wanted any more, of a model that is gone, is no error.
      if (this.#maskOf({ z, x, y }) === mask) this.#onError(error);
    }
    this.#blank ??= createImageBitmap(new ImageData(1, 1));
    return this.#blank;
  }
}
