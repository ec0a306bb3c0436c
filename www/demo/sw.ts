// The service worker: after one visit the page works without network. The page's own files are taken from the cache of their
// version; lists, tiles and pictures from the network while there is one. Models are kept by the library's own storage.

/** Files of the page and a hash of them all; put here by the build. */
declare const __PRECACHE__: { version: string; files: string[] };

/** What TypeScript's library for pages leaves out. */
interface ExtendableEvent extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
}

const scope = globalThis as unknown as Scope;
const base = scope.registration.scope;
const PREFIX = "samlora-page-";
const SHELL = PREFIX + __PRECACHE__.version;
/** Tiles, pictures and lists that were seen. */
const SEEN = "samlora-seen";
/** A view has some twenty tiles; this is an afternoon's walk over a map, some 20 MB. */
const SEEN_LIMIT = 600;

const shell = new Set(__PRECACHE__.files.map((file) => new URL(file, base).href));
/** Lists of what the server offers. */
const lists = new Set(
  ["models/index.json", "tiles/index.json", "samples/index.json"].map((file) => new URL(file, base).href),
);

scope.addEventListener("install", (event) => {
  // Past the browser's own cache, which may still have the files of another version.
  const requests = [...shell].map((url) => new Request(url, { cache: "reload" }));
  event.waitUntil(caches.open(SHELL).then((cache) => cache.addAll(requests)));
});

scope.addEventListener("activate", (event) => {
  const cleanUp = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== SHELL);
    await Promise.all(old.map((name) => caches.delete(name)));
    await scope.clients.claim(); // So that the first visit's pictures are kept too.
  };
  event.waitUntil(cleanUp());
});

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || request.headers.has("range")) return;
  const url = new URL(request.url);
  url.hash = "";
  if (request.mode === "navigate" && url.href.startsWith(base)) {
    const page = url.pathname === new URL(base).pathname ? "index.html" : url.href;
    return event.respondWith(fromShell(new URL(page, base).href, request));
  }
  url.search = ""; // Scripts carry their version there.
  if (shell.has(url.href)) return event.respondWith(fromShell(url.href, request));
  if (url.href.startsWith(new URL("models/", base).href) && !lists.has(url.href)) return;
  if (/^https?:$/.test(url.protocol)) event.respondWith(fromNetwork(request, event));
});

async function fromShell(url: string, request: Request): Promise<Response> {
  const cache = await caches.open(SHELL);
  return (await cache.match(url)) ?? fetch(request);
}

/** The network's answer, kept if it is a picture or a list; what was kept where there is no network. */
async function fromNetwork(request: Request, event: ExtendableEvent): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = request.signal.aborted ? undefined : await (await caches.open(SEEN)).match(request.url);
    if (kept) return kept;
    throw error;
  }
  const isPicture = response.headers.get("content-type")?.startsWith("image/");
  if (response.status === 200 && response.type !== "opaque" && (isPicture || lists.has(request.url))) {
    const copy = response.clone();
    event.waitUntil(keep(request.url, copy));
  }
  return response;
}

let kept: Promise<void> = Promise.resolve();

/** One after the other, so that the limit holds. */
function keep(url: string, response: Response): Promise<void> {
  return (kept = kept.then(() => put(url, response)));
}

async function put(url: string, response: Response): Promise<void> {
  try {
    const cache = await caches.open(SEEN);
    await cache.delete(url); // So that it counts as the newest.
    await cache.put(url, response);
    const keys = await cache.keys();
    await Promise.all(keys.slice(0, Math.max(0, keys.length - SEEN_LIMIT)).map((key) => cache.delete(key)));
  } catch {
    // Storage is full or forbidden, or the page left the tile before all of it was here; it was shown all the same.
  }
}
