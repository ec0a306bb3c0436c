// What the map shows: tiles at an address, tiles that the server offers, or a picture; and which of them was shown last.

import { TileSource, type ReadTile } from "samlora/maplibre";
import { element } from "./page.ts";

/** Imagery with all that the map needs of it. */
export interface Imagery {
  name: string;
  /** What the network reads. */
  source: TileSource;
  /** What is shown, if that is something else. */
  show?: ReadTile;
  /** Where to look first; where the map is unless given. */
  bounds?: [number, number, number, number];
  /** There is imagery all over `bounds`: look so near that it fills the map. */
  fills?: boolean;
  /** How to find it again on the next visit; a picture cannot be. */
  memory?: Memory;
}

/** An address, or the name of one of the server's. */
export type Memory = { url: string; attribution: string; tileSize: 256 | 512; maxzoom: number } | { offer: string };

interface Offer {
  name: string;
  url: string;
  tileSize?: 256 | 512;
  minzoom: number;
  maxzoom: number;
  bounds: [number, number, number, number];
  /** Where there is most to see. */
  view?: [number, number, number, number];
  attribution?: string;
}

const KEY = "samlora.imagery";

/** Imagery at an address, as the form has it. */
export function addressed(memory: Extract<Memory, { url: string }>): Imagery {
  const { url, attribution, tileSize, maxzoom } = memory;
  const escaped = new Option(attribution).innerHTML; // It becomes part of the map's HTML.
  return {
    name: "tiles",
    source: new TileSource({ tiles: absolute(url, document.baseURI), tileSize, maxzoom, attribution: escaped }),
    memory,
  };
}

/** Tiles that the server offers (`tiles/index.json`, as `samlora serve` writes it), then the places that came with the page. */
export async function offeredImagery(): Promise<Imagery[]> {
  const [own, places] = await Promise.all(["tiles/index.json", "places/index.json"].map(listed));
  return [...own!, ...places!.map((place) => ({ ...place, fills: true }))];
}

/** The imagery of a list on this server; none if there is no list. */
async function listed(file: string): Promise<Imagery[]> {
  const index = new URL(file, document.baseURI);
  const answer = await fetch(index)
    .then(
      (r) => (r.ok ? r.json() : undefined),
      () => undefined,
    )
    .catch(() => undefined);
  const offers: Offer[] = answer?.tiles ?? [];
  return offers.map(({ name, url, tileSize = 256, minzoom, maxzoom, bounds, view, attribution }) => ({
    name,
    source: new TileSource({
      tiles: absolute(url, index),
      tileSize,
      minzoom,
      maxzoom,
      bounds,
      ...(attribution && { attribution }),
    }),
    bounds: view ?? bounds,
    memory: { offer: name },
  }));
}

/** Remembers what is shown and where the map is. */
export function remember(memory: Memory | undefined, view: { center: [number, number]; zoom: number }): void {
  try {
    if (memory) localStorage.setItem(KEY, JSON.stringify({ memory, view }));
    else localStorage.removeItem(KEY);
  } catch {
    // A browser that stores nothing starts afresh each time.
  }
}

/** What was shown last, and where the map was. */
export function remembered(): { memory: Memory; view: { center: [number, number]; zoom: number } } | undefined {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "null");
    return found?.memory && Array.isArray(found.view?.center) && Number.isFinite(found.view.zoom) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** The form's values, which `onSubmit` gets. */
export function onAddress(onSubmit: (imagery: Imagery) => void, onError: (error: unknown) => void): void {
  element("tiles-address").addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      const url = element<HTMLInputElement>("tiles-url").value.trim();
      const attribution = element<HTMLInputElement>("tiles-attribution").value.trim();
      const tileSize = element<HTMLSelectElement>("tiles-size").value === "512" ? 512 : 256;
      onSubmit(
        addressed({ url, attribution, tileSize, maxzoom: element<HTMLInputElement>("tiles-maxzoom").valueAsNumber }),
      );
    } catch (error) {
      onError(error);
    }
  });
}

/** Puts an address back into the form. */
export function fillForm({ url, attribution, tileSize, maxzoom }: Extract<Memory, { url: string }>): void {
  element<HTMLInputElement>("tiles-url").value = url;
  element<HTMLInputElement>("tiles-attribution").value = attribution;
  element<HTMLSelectElement>("tiles-size").value = String(tileSize);
  element<HTMLInputElement>("tiles-maxzoom").value = String(maxzoom);
}

/** A template's absolute address; its braces stay as they are. */
function absolute(template: string, base: string | URL): string {
  return new URL(template, base).href.replaceAll("%7B", "{").replaceAll("%7D", "}");
}
