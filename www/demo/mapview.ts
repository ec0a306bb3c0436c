// The map view: imagery, masks over its tiles as they come, and what is at a place.

import { SamloraError, type Segmenter } from "samlora";
import { samlora, type MapMasks } from "samlora/maplibre";
import * as maplibregl from "maplibre-gl";
import { clearError, handle, showError } from "./errors.ts";
import { addressed, fillForm, offeredImagery, onAddress, remember, remembered, type Imagery } from "./imagery.ts";
import { MapLegend } from "./maplegend.ts";
import { element, formatShare, formatTime, offerDownload, swatch } from "./page.ts";
import { decode, fetchPicture, sampleAddresses, type Picture } from "./picture.ts";
import { placePicture } from "./placed.ts";
import { Resolution } from "./resolution.ts";
import { deviceText } from "./session.ts";

/** The map's own protocol for the imagery that it shows. */
const PROTOCOL = "imagery";
/** Milliseconds between counts of the classes in view. */
const PACE = 400;

export class MapView {
  #map: maplibregl.Map;
  #model: Segmenter | undefined;
  #imagery: Imagery | undefined;
  #picture: { name: string; bitmap: ImageBitmap } | undefined;
  #masks: MapMasks | undefined;
  #legend = new MapLegend();
  #resolution: Resolution;
  #popup = new maplibregl.Popup({ focusAfterOpen: false, maxWidth: "260px" });
  #paused = false;
  /** The user has not moved the map since this imagery is shown. */
  #untouched = true;
  #counting: ReturnType<typeof setTimeout> | undefined;

  /** Makes the map and shows what was shown last, else what the server or the page offers, else the first sample picture. */
  static async create(model: Segmenter | undefined): Promise<MapView> {
    const view = new MapView(model);
    if (!view.#map.getStyle()) await view.#map.once("style.load");
    await view.#start();
    return view;
  }

  private constructor(model: Segmenter | undefined) {
    this.#map = makeMap();
    this.#resolution = new Resolution(this.#map, {
      onChange: (tooFar) => this.#setPaused(this.#paused, tooFar),
      target: () => this.#masks?.tiles()[0]?.tile,
    });
    this.#setClasses(model);
    this.#listen();
  }

  /** The map has been hidden and may have another size now. */
  onShown(): void {
    this.#map.resize();
  }

  setModel(model: Segmenter | undefined): void {
    this.#setClasses(model);
    this.#popup.remove();
    // A picture without a place lies where the model's resolution puts it.
    const picture = this.#picture;
    if (model && picture) this.#show(placePicture(picture.name, picture.bitmap, model.info.groundResolution));
    else this.#masks?.setSegmenter(model);
    if (model && this.#imagery && this.#untouched) this.#lookFirst();
    this.#masks?.setStyle(this.#style());
    this.#update();
  }

  async openPicture({ blob, name }: Picture): Promise<void> {
    clearError();
    const bitmap = await decode(blob);
    this.#picture?.bitmap.close();
    this.#picture = { name, bitmap };
    this.#show(placePicture(name, bitmap, this.#model?.info.groundResolution));
  }

  async #start(): Promise<void> {
    const offers = await offeredImagery();
    const list = element<HTMLSelectElement>("tiles");
    list.replaceChildren(new Option("Choose…", ""), ...offers.map(({ name }) => new Option(name)));
    element("tiles-list").hidden = !offers.length;
    element<HTMLDetailsElement>("tiles-other").open = !offers.length;
    const byName = (name: string) => offers.find((offer) => offer.name === name);
    list.addEventListener("change", () => {
      const offer = byName(list.value);
      if (offer) this.#showTiles(offer);
    });
    onAddress((imagery) => this.#showTiles(imagery), showError);

    const last = remembered();
    if (last && "url" in last.memory) {
      fillForm(last.memory);
      return this.#show(addressed(last.memory), last.view);
    }
    const offer = (last && "offer" in last.memory && byName(last.memory.offer)) || offers[0];
    if (offer) {
      list.value = offer.name;
      return this.#show(
        offer,
        last && offer === byName((last.memory as { offer: string }).offer) ? last.view : undefined,
      );
    }
    const sample = (await sampleAddresses())[0];
    if (sample) await this.openPicture(await fetchPicture(sample));
  }

  #showTiles(imagery: Imagery): void {
    clearError();
    this.#picture?.bitmap.close();
    this.#picture = undefined;
    this.#show(imagery);
  }

  #show(imagery: Imagery, view?: { center: [number, number]; zoom: number }): void {
    const map = this.#map;
    this.#imagery = imagery;
    this.#masks?.remove();
    this.#popup.remove();
    element("map-empty").hidden = true;
    if (!imagery.memory || !("offer" in imagery.memory)) element<HTMLSelectElement>("tiles").value = "";

    if (map.getLayer("imagery")) map.removeLayer("imagery");
    if (map.getSource("imagery")) map.removeSource("imagery");
    const { source } = imagery;
    maplibregl.addProtocol(PROTOCOL, async ({ url }, { signal }) => {
      const [z, x, y] = url
        .slice(url.indexOf("://") + 3)
        .split("/")
        .map(Number) as [number, number, number];
      const shown = imagery.show ? await imagery.show({ z, x, y }, signal) : await source.read({ z, x, y }, signal);
      return { data: shown ? await createImageBitmap(shown) : new ArrayBuffer(0) };
    });
    const { tileSize, minzoom, maxzoom, attribution, bounds } = source;
    map.addSource("imagery", {
      type: "raster",
      tiles: [`${PROTOCOL}://{z}/{x}/{y}`],
      tileSize,
      minzoom,
      maxzoom,
      bounds: [...bounds],
      ...(attribution && { attribution }),
    });
    map.addLayer({ id: "imagery", type: "raster", source: "imagery", paint: { "raster-fade-duration": 0 } });

    this.#masks = samlora(maplibregl, map, this.#model, {
      ...this.#style(),
      source,
      onTile: () => this.#update(),
      onError: (error) => {
        showError(error);
        this.#update();
      },
    });
    this.#untouched = !view;
    this.#resolution.set(source, this.#model?.info.groundResolution);
    if (view) map.jumpTo(view);
    else this.#lookFirst();
    this.#remember();
    this.#setPaused(this.#paused, this.#resolution.isTooFar);
    this.#update();
  }

  /** Looks at all of the imagery; at a picture or a place as closely as the model needs. Elsewhere there may be none in the middle. */
  #lookFirst(): void {
    const { bounds, source, fills } = this.#imagery!;
    if (!bounds) return;
    const map = this.#map;
    const offset = Math.log2(source.tileSize / 512); // The map's zoom counts tiles of 512 pixels.
    const most = source.maxzoom + offset;
    map.fitBounds(bounds, { padding: 16, animate: false, maxZoom: most });
    const least = ((this.#picture || fills) && this.#resolution.best) || source.minzoom + offset;
    let zoom = Math.max(map.getZoom(), least);
    if (fills) {
      const [west, south, east, north] = bounds;
      const [from, to] = [map.project([west, north]), map.project([east, south])];
      const { clientWidth, clientHeight } = map.getCanvas();
      const factor = Math.max(clientWidth / (to.x - from.x), clientHeight / (to.y - from.y));
      zoom = Math.min(Math.max(zoom, map.getZoom() + Math.log2(factor)), most);
    }
    map.setZoom(zoom);
  }

  #setClasses(model: Segmenter | undefined): void {
    this.#model = model;
    this.#legend.setClasses(model?.info.classes ?? []);
    if (this.#imagery) this.#resolution.set(this.#imagery.source, model?.info.groundResolution);
  }

  #style() {
    return {
      opacity: element<HTMLInputElement>("map-opacity").valueAsNumber / 100,
      outline: element<HTMLInputElement>("map-outline").checked,
      classes: this.#legend.classes,
      thresholds: this.#legend.thresholds,
    };
  }

  #setPaused(paused: boolean, tooFar: boolean): void {
    this.#paused = paused;
    if (paused || tooFar) this.#masks?.pause();
    else this.#masks?.resume();
    const button = element("map-pause");
    button.setAttribute("aria-pressed", String(paused));
    this.#update();
  }

  #listen(): void {
    const map = this.#map;
    this.#legend.onChange = () => {
      this.#masks?.setStyle(this.#style());
      this.#update();
    };
    element("map-opacity").addEventListener("input", () => this.#masks?.setStyle({ opacity: this.#style().opacity }));
    element("map-outline").addEventListener("change", () => this.#masks?.setStyle({ outline: this.#style().outline }));
    element("map-pause").addEventListener("click", () => this.#setPaused(!this.#paused, this.#resolution.isTooFar));
    element("map-export").addEventListener("click", () =>
      handle(async () => {
        const collection = await this.#masks?.toGeoJSON({ tolerance: 1 });
        if (collection)
          offerDownload(
            new Blob([JSON.stringify(collection)], { type: "application/geo+json" }),
            `${this.#imagery?.name ?? "map"}.geojson`,
          );
      }),
    );
    map.on("click", ({ lngLat }) => handle(() => this.#tellAt(lngLat)));
    map.getCanvas().addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      handle(() => this.#tellAt(map.getCenter()));
    });
    map.on("movestart", ({ originalEvent }) => {
      if (originalEvent) this.#untouched = false;
    });
    map.on("moveend", () => {
      this.#remember();
      this.#update();
    });
    map.on("error", ({ error }) => showError(error));
  }

  #remember(): void {
    const { lng, lat } = this.#map.getCenter();
    remember(this.#imagery?.memory, { center: [lng, lat], zoom: this.#map.getZoom() });
  }

  /** Says class and confidence at a place, on the map and for screen readers. */
  async #tellAt(place: maplibregl.LngLat): Promise<void> {
    const found = await this.#masks?.classAt(place);
    const where = `${place.lat.toFixed(5)}°, ${place.lng.toFixed(5)}°`;
    if (!found) {
      this.#popup.remove();
      element("map-probe").textContent = `No mask at ${where}.`;
      return;
    }
    const confidence = `confidence ${formatShare(found.confidence)}`;
    const { z, x, y } = found.tile;
    element("map-probe").textContent = `${found.class.name}, ${confidence}, at ${where}, tile ${z}/${x}/${y}`;
    const content = document.createElement("p");
    content.append(
      swatch(found.class.color),
      Object.assign(document.createElement("strong"), { textContent: found.class.name }),
      document.createElement("br"),
      confidence,
    );
    this.#popup.setLngLat(place).setDOMContent(content).addTo(this.#map);
  }

  /** Says how far the view is; classes are counted now and then. */
  #update(): void {
    const stats = this.#masks?.stats();
    if (!stats || !this.#model) element("map-status").textContent = this.#imagery ? "Load a model to see masks." : "";
    else {
      const { finished, inView, failed, time } = stats;
      const { minzoom = 0, maxzoom = 0 } = this.#imagery?.source ?? {};
      const parts = [
        inView
          ? `${finished} of ${inView} tiles in view`
          : `No imagery in view (it has zooms ${minzoom} to ${maxzoom})`,
      ];
      if (time !== undefined) parts.push(`${formatTime(time)} a tile`);
      if (failed) parts.push(`${failed} failed`);
      if (this.#paused) parts.push("paused");
      element("map-status").textContent = [...parts, deviceText(this.#model.info)].join(" · ");
      // Screen readers hear of the end, not of every tile.
      element("map-said").textContent = inView && finished === inView ? `All ${inView} tiles in view have masks.` : "";
    }
    this.#counting ??= setTimeout(async () => {
      // A model that is gone by then counts no more.
      await this.#legend.setShares(this.#masks?.tiles() ?? []).catch(() => {});
      this.#counting = undefined;
      if (stats && stats.waiting + stats.running) this.#update(); // Tiles that are not there end without a mask.
    }, PACE);
  }
}

function makeMap(): maplibregl.Map {
  maplibregl.setWorkerUrl(new URL("./map-worker.js", import.meta.url).href);
  try {
    const map = new maplibregl.Map({
      container: "map",
      style: { version: 8, sources: {}, layers: [] },
      center: [0, 20],
      zoom: 1.5,
      maxZoom: 22,
      maxPitch: 0,
      dragRotate: false,
      attributionControl: { compact: false },
      locale: {
        "Map.Title": "Map. Arrow keys move it, plus and minus zoom, Enter tells class and confidence at its centre.",
      },
    });
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
    map.addControl(new maplibregl.ScaleControl(), "bottom-left");
    return map;
  } catch (cause) {
    throw new SamloraError(
      "device",
      "this browser gives no WebGL, which the map needs",
      "turn on hardware acceleration in its settings, or use the Picture view",
      cause,
    );
  }
}
