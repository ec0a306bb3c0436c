// The page: a model, a picture, and what the model sees in it.

import { Segmenter, type Device, type PackageInput, type Segmentation, type SegmenterInfo } from "samlora";
import { readDrop, type Dropped } from "./drop.ts";
import { clearError, showError } from "./errors.ts";
import { Legend } from "./legend.ts";
import { offeredModels } from "./models.ts";
import { element, fillFacts, formatBytes, formatShare, formatTime, offerDownload } from "./page.ts";
import { decode, fetchPicture, showSamples, stem, type Picture } from "./picture.ts";
import { encodeMask } from "./png.ts";
import { Views } from "./views.ts";

const legend = new Legend();
const views = new Views();

let model: Segmenter | undefined;
let lastPackage: PackageInput | undefined;
let loading: AbortController | undefined;
let picture: Picture | undefined;
let result: Segmentation | undefined;
let colours: ImageData | undefined;

function say(text: string): void {
  element("status").textContent = text;
}

async function load(input: PackageInput): Promise<void> {
  lastPackage = input;
  loading?.abort();
  const controller = (loading = new AbortController());
  clearError();
  model?.dispose();
  model = undefined;
  clearResult();
  element("info").hidden = true;
  showProgress(0, 0);
  try {
    const loaded = await Segmenter.load(input, {
      device: chosenDevice(),
      signal: controller.signal,
      onProgress: ({ loadedBytes, totalBytes }) => showProgress(loadedBytes, totalBytes),
    });
    if (controller.signal.aborted) return loaded.dispose();
    model = loaded;
    showInfo(loaded.info);
    legend.setClasses(loaded.info.classes);
    say(picture ? "" : "Open a picture.");
  } catch (error) {
    if (loading === controller) {
      say("No model is loaded.");
      showError(error);
    }
  } finally {
    if (loading === controller) element("loading").hidden = true;
  }
  if (model && picture) await segment();
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

function showInfo(info: SegmenterInfo): void {
  const facts: [string, string][] = [
    ["Name", info.name],
    ["Backbone", `${info.backbone}, ${(info.parameters / 1e6).toFixed(1)} M parameters, ${info.scheme}`],
    ["Size", `${formatBytes(info.bytes)}, ready in ${formatTime(info.loadTime)}`],
    ["Sees", `${info.tileSize} px tiles in ${info.inputSize} px windows`],
    ["Device", info.device === "gpu" ? "WebGPU" : "CPU, one thread"],
  ];
  if (info.adapter) {
    const { description, vendor, architecture, isFallback } = info.adapter;
    const name = description || [vendor, architecture].filter(Boolean).join(" ") || "unnamed";
    facts.push(["Adapter", isFallback ? `${name} (software)` : name]);
  }
  if (info.groundResolution) facts.push(["Resolution", `${Number(info.groundResolution.toPrecision(2))} m per pixel`]);
  if (info.licence) facts.push(["Licence", info.licence]);
  if (info.attribution) facts.push(["Attribution", info.attribution]);
  fillFacts(element("info"), facts);
  element("info").hidden = false;
}

async function open(next: Picture): Promise<void> {
  clearError();
  const bitmap = await decode(next.blob);
  picture = next;
  clearResult();
  views.showPicture(bitmap);
  bitmap.close();
  if (model) await segment();
  else say("Load a model.");
}

async function segment(): Promise<void> {
  if (!model || !picture) return;
  clearError();
  const current = picture;
  const used = model;
  element<HTMLButtonElement>("again").disabled = true;
  say("Segmenting…");
  try {
    const found = await used.segment(current.blob);
    const painted = await found.toImageData({ outline: true });
    if (current !== picture || used !== model) return; // Something newer is on its way.
    result = found;
    colours = painted;
    views.showResult(found);
    repaint();
    legend.setStats(found.stats());
    showTimings(found);
    element("details").hidden = false;
    say(`${found.width} × ${found.height} pixels in ${formatTime(found.timings.total)}.`);
  } catch (error) {
    if (current !== picture || used !== model) return;
    say("");
    showError(error);
  } finally {
    element<HTMLButtonElement>("again").disabled = false;
  }
}

function clearResult(): void {
  result = colours = undefined;
  views.clearResult();
  legend.clearStats();
  element("details").hidden = true;
}

function repaint(): void {
  if (colours && result) views.showOverlay(colours, result.classMask, (index) => legend.isHidden(index));
}

function showTimings({ timings }: Segmentation): void {
  fillFacts(element("timings"), [
    ["Prepare", formatTime(timings.preprocess)],
    ["Encode", formatTime(timings.encode)],
    ["Decode", formatTime(timings.decode)],
    ["Classify", formatTime(timings.classify)],
    ["Total", formatTime(timings.total)],
    ["Windows", String(timings.windows)],
  ]);
}

async function take(dropped: Dropped | undefined): Promise<void> {
  if (!dropped) return;
  if ("package" in dropped) return load(dropped.package);
  if ("picture" in dropped) {
    const { picture } = dropped;
    return open({ blob: picture, name: picture instanceof File ? stem(picture.name) : "picture" });
  }
  return open(await fetchPicture(dropped.address));
}

/** Runs what a control started; its error is shown. */
function handle(work: () => Promise<void> | undefined): void {
  Promise.resolve().then(work).catch(showError);
}

legend.onToggle = repaint;
views.onProbe = ({ x, y, classIndex, confidence }) => {
  const name = model?.info.classes.find((c) => c.index === classIndex)?.name ?? `class ${classIndex}`;
  element("probe").textContent = `${name}, confidence ${formatShare(confidence)}, column ${x}, row ${y}`;
  legend.mark(classIndex);
};

element("model").addEventListener("change", (event) => handle(() => load((event.target as HTMLSelectElement).value)));
element("model-address").addEventListener("submit", (event) => {
  event.preventDefault();
  const address = element<HTMLInputElement>("model-url").value.trim();
  if (address) handle(() => load(address));
});
element("model-folder").addEventListener("change", (event) => {
  const files = [...((event.target as HTMLInputElement).files ?? [])];
  if (files.length) handle(() => load(files));
});
for (const choice of document.querySelectorAll("input[name=device]")) {
  choice.addEventListener("change", () => handle(() => (lastPackage ? load(lastPackage) : undefined)));
}
element("loading-cancel").addEventListener("click", () => {
  loading?.abort();
  say("Loading was cancelled.");
});
element("picture-file").addEventListener("change", (event) => {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  input.value = ""; // So that the same file can be chosen again.
  if (file) handle(() => open({ blob: file, name: stem(file.name) }));
});
element("picture-address").addEventListener("submit", (event) => {
  event.preventDefault();
  const address = element<HTMLInputElement>("picture-url").value.trim();
  if (address) handle(async () => open(await fetchPicture(address)));
});
element("again").addEventListener("click", () => handle(segment));
element("export-geojson").addEventListener("click", () =>
  handle(async () => {
    if (!result || !picture) return;
    const text = JSON.stringify(await result.toGeoJSON());
    offerDownload(new Blob([text], { type: "application/geo+json" }), `${picture.name}.geojson`);
  }),
);
element("export-mask").addEventListener("click", () =>
  handle(async () => {
    if (!result || !picture || !model) return;
    offerDownload(await encodeMask(result.classMask, result.width, result.height, model.info.classes), `${picture.name}.classes.png`);
  }),
);

let dragDepth = 0; // Leaving a child fires too.
addEventListener("dragenter", () => (element("drop").hidden = ++dragDepth === 0));
addEventListener("dragleave", () => (element("drop").hidden = --dragDepth === 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  element("drop").hidden = true;
  const { dataTransfer } = event;
  if (dataTransfer) readDrop(dataTransfer).then(take).catch(showError);
});
addEventListener("paste", (event) => {
  const { clipboardData } = event;
  const typing = event.target instanceof HTMLInputElement && event.target.type === "text";
  if (clipboardData && !(typing && !clipboardData.files.length)) readDrop(clipboardData).then(take).catch(showError);
});

handle(() => showSamples((address) => handle(async () => open(await fetchPicture(address)))));
handle(async () => {
  const offers = await offeredModels();
  const first = offers[0];
  if (!first) return;
  element("model").replaceChildren(...offers.map(({ label, url }) => new Option(label, url)));
  element("model-list").hidden = false;
  await load(first.url);
});
