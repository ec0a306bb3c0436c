// The page: one model, and two views of what it sees, a map and a picture.

import { readDrop, type Dropped } from "./drop.ts";
import { handle, showError } from "./errors.ts";
import type { MapView } from "./mapview.ts";
import { keepOffline } from "./offline.ts";
import { element } from "./page.ts";
import { fetchPicture, showSamples, stem, type Picture } from "./picture.ts";
import { PictureView } from "./pictureview.ts";
import { Session } from "./session.ts";
import { showTools } from "./tools.ts";

const session = new Session();
const pictureView = new PictureView();
let mapView: Promise<MapView> | undefined;

/** The map, whose code (a megabyte) is fetched when it is first looked at. */
function map(): Promise<MapView> {
  mapView ??= import("./mapview.ts").then(({ MapView }) => MapView.create(session.model));
  mapView.catch(() => (mapView = undefined)); // So that a later look may try again.
  return mapView;
}

let view: "map" | "picture";
const isMap = () => view === "map";

function showView(): void {
  view = location.hash === "#picture" ? "picture" : "map";
  for (const part of document.querySelectorAll<HTMLElement>("[data-view]")) part.hidden = part.dataset.view !== view;
  for (const [id, of] of [
    ["show-map", "map"],
    ["show-picture", "picture"],
  ] as const) {
    if (of === view) element(id).setAttribute("aria-current", "page");
    else element(id).removeAttribute("aria-current");
  }
  if (isMap()) handle(async () => (await map()).onShown());
}

/** Shows a picture in the view that is open. */
async function open(picture: Picture): Promise<void> {
  if (isMap()) await (await map()).openPicture(picture);
  else await pictureView.open(picture);
}

async function take(dropped: Dropped | undefined): Promise<void> {
  if (!dropped) return;
  if ("package" in dropped) return session.load(dropped.package);
  if ("picture" in dropped) {
    const { picture } = dropped;
    return open({ blob: picture, name: picture instanceof File ? stem(picture.name) : "picture" });
  }
  return open(await fetchPicture(dropped.address));
}

let noticed: ReturnType<typeof setTimeout> | undefined;

/** Says something for a while. */
function notice(text: string): void {
  element("notice").textContent = text;
  clearTimeout(noticed);
  noticed = setTimeout(() => (element("notice").textContent = ""), 20_000);
}

session.onNotice = notice;
session.onModel = (model) => {
  handle(() => pictureView.setModel(model));
  handle(async () => (await mapView)?.setModel(model));
};

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

addEventListener("hashchange", showView);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // The address names the view.
  element(isMap() ? "map-view" : "views").focus();
});
showView();
showTools(session);
handle(() => keepOffline(notice));
handle(() => showSamples((address) => handle(async () => open(await fetchPicture(address)))));
handle(() => session.start());
