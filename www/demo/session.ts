// The page's one loaded model: from the controls of the "Model" section to whoever uses it.

import {
  Segmenter,
  type Device,
  type LoadOptions,
  type PackageInput,
  type SegmenterEvent,
  type SegmenterInfo,
} from "samlora";
import { clearError, showError } from "./errors.ts";
import { kindOf, offeredModels, type Offer } from "./models.ts";
import { element, fillFacts, formatBytes, formatTime } from "./page.ts";

export class Session {
  /** Called when a model was loaded, and with undefined before another one is. */
  onModel: (model: Segmenter | undefined) => void = () => {};
  /** Called with something that the user may want to know. */
  onNotice: (text: string) => void = () => {};
  #model: Segmenter | undefined;
  #package: PackageInput | undefined;
  #loading: AbortController | undefined;
  #offers: Offer[] = [];
  /** The base that adapters of the list are put onto: it stays loaded, so that another adapter loads alone. */
  #base: { model: Segmenter; device: string } | undefined;
  /** Why the model does not run where it was wished for. */
  #reason = "";

  constructor() {
    element("model").addEventListener("change", (event) => this.load((event.target as HTMLSelectElement).value));
    element("model-address").addEventListener("submit", (event) => {
      event.preventDefault();
      const address = element<HTMLInputElement>("model-url").value.trim();
      if (address) void this.load(address);
    });
    for (const id of ["model-folder", "model-file"]) {
      element(id).addEventListener("change", (event) => {
        const files = [...((event.target as HTMLInputElement).files ?? [])];
        if (files.length) void this.load(id === "model-file" ? files[0]! : files);
      });
    }
    for (const choice of document.querySelectorAll("input[name=device]")) {
      choice.addEventListener("change", () => this.#package !== undefined && void this.load(this.#package));
    }
    element("loading-cancel").addEventListener("click", () => {
      this.#loading?.abort();
      this.onNotice("Loading was cancelled.");
    });
  }

  get model(): Segmenter | undefined {
    return this.#model;
  }

  /** Loads the first package that the server offers, if it offers one. */
  async start(): Promise<void> {
    this.#offers = await offeredModels();
    // A base has no classes: it is there for the adapters.
    const bases = this.#offers.length > 1 ? await this.#bases() : [];
    const offers = this.#offers.filter((offer) => !bases.includes(offer));
    const first = offers[0];
    if (!first) return;
    element("model").replaceChildren(...offers.map(({ label, url }) => new Option(label, url)));
    element("model-list").hidden = false;
    await this.load(first.url);
  }

  /** Loads a package in place of the one that is there; shows what goes wrong. */
  async load(input: PackageInput): Promise<void> {
    this.#package = input;
    this.#loading?.abort();
    const controller = (this.#loading = new AbortController());
    clearError();
    const old = this.#model;
    this.#model = undefined;
    this.onModel(undefined);
    old?.dispose();
    element("info").hidden = true;
    showProgress(0, 0);
    this.#reason = "";
    try {
      const loaded = await this.#loadOn(input, {
        signal: controller.signal,
        onProgress: ({ loadedBytes, totalBytes }) => showProgress(loadedBytes, totalBytes),
        onEvent: (event) => this.#tell(event),
      });
      if (controller.signal.aborted) return loaded.dispose();
      this.#model = loaded;
      showInfo(loaded.info, this.#reason);
    } catch (error) {
      if (this.#loading === controller) showError(error);
    } finally {
      if (this.#loading === controller) element("loading").hidden = true;
    }
    if (this.#loading === controller) this.onModel(this.#model);
  }

  /** Loads a whole package, or an adapter onto the base that is there or that the server offers beside it. */
  async #loadOn(input: PackageInput, options: LoadOptions): Promise<Segmenter> {
    const device = chosenDevice();
    const offer = this.#offers.find(({ url }) => url === input);
    if (!offer || (await kindOf(offer)) !== "adapter") {
      this.#drop();
      return Segmenter.load(input, { ...options, device });
    }
    let failure: unknown;
    if (this.#base?.device === device) {
      try {
        return await Segmenter.load(input, { ...options, base: this.#base.model });
      } catch (error) {
        failure = error; // Perhaps it is another base's: an adapter names its own by hash.
      }
    }
    for (const { url } of await this.#bases()) {
      this.#drop();
      options.signal?.throwIfAborted();
      const model = await Segmenter.load(url, { ...options, device });
      try {
        const loaded = await Segmenter.load(input, { ...options, base: model });
        this.#base = { model, device };
        return loaded;
      } catch (error) {
        model.dispose();
        failure = error;
      }
    }
    throw failure ?? new Error(`${offer.label} is an adapter, and this server offers no base for it`);
  }

  /** The packages on this server that adapters can be put onto. */
  async #bases(): Promise<Offer[]> {
    const kinds = await Promise.all(this.#offers.map((offer) => kindOf(offer)));
    return this.#offers.filter((_, i) => kinds[i] === "base");
  }

  #drop(): void {
    this.#base?.model.dispose();
    this.#base = undefined;
  }

  #tell(event: SegmenterEvent): void {
    switch (event.type) {
      case "lost":
        return this.onNotice(`The ${nameOf(event.device)} was lost and is started again (${event.message}).`);
      case "recovered":
        if (this.#model) showInfo({ ...this.#model.info, device: event.device }, this.#reason);
        return this.onNotice(`The model runs again, on the ${nameOf(event.device)}.`);
      case "fallback":
        this.#reason = event.message;
        if (!this.#model) return; // It is said among the facts about the model.
        showInfo({ ...this.#model.info, device: event.device }, this.#reason);
        return this.onNotice(`The model runs on the ${nameOf(event.device)}: ${event.message}.`);
      case "unstored":
        return this.onNotice(`The model is in memory alone and will be downloaded again next time: ${event.message}.`);
    }
  }
}

function nameOf(device: Device): string {
  return device === "gpu" ? "GPU" : "CPU";
}

function chosenDevice(): Device | "auto" {
  return document.querySelector<HTMLInputElement>("input[name=device]:checked")?.value as Device | "auto";
}

function showProgress(loaded: number, total: number): void {
  element("loading").hidden = false;
  const bar = element<HTMLProgressElement>("loading-bar");
  if (total) bar.value = loaded / total;
  else bar.removeAttribute("value");
  element("loading-text").textContent = total ? `Loading, ${formatBytes(loaded)} of ${formatBytes(total)}` : "Loading";
}

/** Where a model computes, in words. */
export function deviceText({ device, workers, precision }: SegmenterInfo): string {
  if (device === "gpu") return precision === "f16" ? "WebGPU, half precision" : "WebGPU";
  return workers > 1 ? `CPU, up to ${workers} workers` : "CPU, one worker";
}

function showInfo(info: SegmenterInfo, reason: string): void {
  const facts: [string, string][] = [
    ["Name", info.name],
    ["Backbone", `${info.backbone}, ${(info.parameters / 1e6).toFixed(1)} M parameters, ${info.scheme}`],
    ["Size", `${formatBytes(info.bytes)}, ready in ${formatTime(info.loadTime)}`],
    ["Sees", `${info.tileSize} px tiles in ${info.inputSize} px windows`],
    ["Device", reason ? `${deviceText(info)} (${reason})` : deviceText(info)],
  ];
  if (info.adapter) {
    const { description, vendor, architecture, isFallback } = info.adapter;
    const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed";
    facts.push(["Adapter", isFallback ? `${name} (software)` : name]);
  }
  if (info.groundResolution) facts.push(["Resolution", `${Number(info.groundResolution.toPrecision(2))} m per pixel`]);
  if (info.stored) facts.push(["Offline", "kept in this browser"]);
  if (info.licence) facts.push(["Licence", info.licence]);
  if (info.attribution) facts.push(["Attribution", info.attribution]);
  fillFacts(element("info"), facts);
  element("info").hidden = false;
}
