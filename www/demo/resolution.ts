// Warns where the imagery in view is much coarser or finer than what the model was trained for.

import type { Map as MapLibreMap } from "maplibre-gl";
import type { TileId } from "samlora";
import { groundResolution, tileBounds, type TileSource } from "samlora/maplibre";
import { element } from "./page.ts";

/** A model still works at twice or half its resolution. */
const TOLERATED = 2;
/** Beyond this its masks mean nothing, and a wide view has many tiles. */
const USELESS = 8;

interface Hooks {
  /** Masks begin or cease to mean something. */
  onChange: (tooFar: boolean) => void;
  /** The tile with imagery that is nearest to the middle of the view, if one is known: zooming must not end in a void. */
  target: () => TileId | undefined;
}

export class Resolution {
  /** Whether masks mean nothing here. */
  isTooFar = false;
  #map: MapLibreMap;
  #source: TileSource | undefined;
  #trained: number | undefined;
  #hooks: Hooks;

  constructor(map: MapLibreMap, hooks: Hooks) {
    this.#map = map;
    this.#hooks = hooks;
    map.on("zoomend", () => this.#look());
    map.on("moveend", () => this.#look());
    element("resolution-zoom").addEventListener("click", () => {
      if (this.best === undefined) return;
      const tile = hooks.target();
      const [west, south, east, north] = tile ? tileBounds(tile) : [];
      map.easeTo({ zoom: this.best, ...(tile && { center: [(west! + east!) / 2, (south! + north!) / 2] }) });
    });
  }

  /** The imagery in view, and the model's metres per pixel if it says. */
  set(source: TileSource, trained: number | undefined): void {
    this.#source = source;
    this.#trained = trained;
    this.#look();
  }

  /** The map's zoom at which imagery is nearest to the model's resolution; unknown for a model that does not say. */
  get best(): number | undefined {
    return this.#source && this.#trained ? this.#best() - this.#offset() : undefined;
  }

  /** The map's zoom counts tiles of 512 pixels. */
  #offset(): number {
    return Math.log2(512 / this.#source!.tileSize);
  }

  #clamp(zoom: number): number {
    return Math.max(this.#source!.minzoom, Math.min(Math.round(zoom), this.#source!.maxzoom));
  }

  /** The zoom of tiles nearest to the model's resolution. */
  #best(): number {
    const world = groundResolution(this.#map.getCenter().lat, 0, this.#source!.tileSize);
    return this.#clamp(Math.log2(world / this.#trained!));
  }

  #look(): void {
    const box = element("resolution");
    if (!this.#source || !this.#trained) {
      box.hidden = true;
      return this.#tell(false);
    }
    const { lat } = this.#map.getCenter();
    const zoom = this.#clamp(this.#map.getZoom() + this.#offset());
    const shown = groundResolution(lat, zoom, this.#source.tileSize);
    const factor = Math.max(shown / this.#trained, this.#trained / shown);
    const tooFar = factor > USELESS;
    box.hidden = factor <= TOLERATED;
    if (!box.hidden) {
      const canZoom = zoom !== this.#best();
      element("resolution-zoom").hidden = !canZoom;
      element("resolution-text").textContent =
        `Here a pixel is ${metres(shown)}; the model was trained at ${metres(this.#trained)}. ` +
        (tooFar
          ? "Masks are computed only nearer to that."
          : canZoom
            ? "Its masks may be wrong."
            : "This imagery has nothing nearer to that.");
    }
    this.#tell(tooFar);
  }

  #tell(tooFar: boolean): void {
    if (tooFar === this.isTooFar) return;
    this.isTooFar = tooFar;
    this.#hooks.onChange(tooFar);
  }
}

function metres(value: number): string {
  if (value >= 1000) return `${Number((value / 1000).toPrecision(2))} km`;
  return value >= 1 ? `${Number(value.toPrecision(2))} m` : `${Number((value * 100).toPrecision(2))} cm`;
}
