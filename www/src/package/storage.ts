// Downloaded packages in the browser's Cache storage: shards by their SHA-256, so that packages share what is equal, and
// manifests by the package's URL. An entry is put whole or not at all, and checked when it is taken.
//
//   https://samlora.invalid/sha256/HASH              a shard
//   https://samlora.invalid/package/ENCODED_URL      the manifest of a package, when it was last used in its headers
//   https://samlora.invalid/next/ENCODED_URL         the same of a newer version, until all of its shards are here

import { addressOf } from "./address.ts";
import { outlineOf, packageBytes, sha256, type Outline } from "./manifest.ts";
import type { StoredPackage, StorageSize } from "../types.ts";

const CACHE = "samlora";
const ROOT = "https://samlora.invalid/";
const SHARDS = `${ROOT}sha256/`;
const PACKAGES = `${ROOT}package/`;
const NEXT = `${ROOT}next/`;
const USED = "x-samlora-used";
const VERSION = "x-samlora-version";

/** A manifest in storage. */
export interface StoredManifest {
  bytes: Uint8Array;
  outline: Outline;
  /** What the server said of the file's version when it was downloaded. */
  version: string | undefined;
}

/** What the package has put into this browser's storage, for all pages of this origin. */
export const storage = {
  /** Every package that is in storage, wholly or in part; the last used first. */
  async list(): Promise<StoredPackage[]> {
    const cache = await openExisting();
    if (!cache) return [];
    const found = new Map<string, StoredPackage>();
    for (const prefix of [PACKAGES, NEXT]) {
      for (const { url, used, manifest } of await manifests(cache, prefix)) {
        if (found.has(url)) continue;
        const { name, shards } = manifest.outline;
        const here = await Promise.all(shards.map((shard) => cache.match(SHARDS + shard.sha256)));
        const held = shards.map((shard, i) => (here[i] ? shard.bytes : 0));
        const bytes = held.reduce((sum, bytes) => sum + bytes, manifest.bytes.length);
        const complete = bytes === packageBytes(manifest.bytes, manifest.outline);
        found.set(url, { url, name, bytes, complete, lastUsed: new Date(used) });
      }
    }
    return [...found.values()].sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
  },

  /** Bytes in storage, those that packages share counted once, and what the browser says of the room that there is. */
  async size(): Promise<StorageSize> {
    let bytes = 0;
    const cache = await openExisting();
    for (const key of (await cache?.keys()) ?? [])
      bytes += Number((await cache?.match(key))?.headers.get("content-length"));
    const { quota, usage } = (await globalThis.navigator?.storage?.estimate?.()) ?? {};
    return { bytes, ...(quota !== undefined && { quota, available: Math.max(0, quota - (usage ?? 0)) }) };
  },

  /** Removes the package of `url` and what no other package shares; whether it was there. Loaded models are not touched. */
  async evict(url: string | URL): Promise<boolean> {
    const key = encodeURIComponent(addressOf(url).href);
    const cache = await openExisting();
    if (!cache) return false;
    return alone(async () => {
      const removed = await Promise.all([PACKAGES, NEXT].map((prefix) => cache.delete(prefix + key)));
      await sweep(cache);
      return removed.includes(true);
    });
  },

  /** Removes everything. */
  async clear(): Promise<void> {
    const cache = await openExisting();
    // One by one: a cache deleted as a whole would live on, unseen, for tabs that have it open.
    if (cache) await alone(async () => void (await Promise.all((await cache.keys()).map((key) => cache.delete(key)))));
  },

  /** Asks the browser not to remove what is stored when it needs room; whether it agreed. Some ask the user. */
  async persist(): Promise<boolean> {
    return (await globalThis.navigator?.storage?.persist?.()) ?? false;
  },
};

/** Storage as one load sees it. Nothing here fails the load: what cannot be kept is in memory alone, which is told once. */
export class Shelf {
  readonly #url: string;
  readonly #onFailure: (message: string) => void;
  #cache: Cache | undefined;
  #told = false;
  #shards: string[] = [];
  #held = new Set<string>();
  /** The manifest is in storage, and there is room for its shards. */
  #listed = false;
  /** Shards of another manifest of this URL may be left over. */
  #replaces = false;

  private constructor(url: string, onFailure: (message: string) => void) {
    this.#url = encodeURIComponent(url);
    this.#onFailure = onFailure;
  }

  /** The shelf of the package of `url`. */
  static async open(url: string, onFailure: (message: string) => void): Promise<Shelf> {
    const shelf = new Shelf(url, onFailure);
    try {
      if (!globalThis.caches || !globalThis.crypto?.subtle) throw new Error("the page is not served over https");
      shelf.#cache = await caches.open(CACHE);
    } catch (error) {
      shelf.#fail(error);
    }
    return shelf;
  }

  /** The manifest that was stored for this URL. */
  manifest(): Promise<StoredManifest | undefined> {
    return this.#try(async (cache) => readManifest(await cache.match(PACKAGES + this.#url)));
  }

  /** Goes on with the manifest that is in storage: the network gave none. */
  async reuse({ bytes, outline, version }: StoredManifest): Promise<void> {
    this.#shards = outline.shards.map((shard) => shard.sha256);
    await this.#try((cache) => alone(() => this.#touch(cache, bytes, version)));
  }

  /** Puts the manifest of the package whose shards are about to be kept. */
  async adopt({ bytes, outline, version }: StoredManifest): Promise<void> {
    this.#shards = outline.shards.map((shard) => shard.sha256);
    await this.#try((cache) =>
      alone(async () => {
        const old = await readManifest(await cache.match(PACKAGES + this.#url));
        if (old && equal(old.bytes, bytes)) {
          this.#replaces = await cache.delete(NEXT + this.#url);
          return this.#touch(cache, bytes, version);
        }
        this.#replaces = old !== undefined && hashesOf(old.outline) !== hashesOf(outline);
        // A complete package stays until its successor is complete.
        const wait = this.#replaces && old && (await isComplete(cache, old.outline));
        await cache.put((wait ? NEXT : PACKAGES) + this.#url, manifestResponse(bytes, version));
        if (!wait) await cache.delete(NEXT + this.#url);
        this.#listed = true;
      }),
    );
  }

  /** A shard from storage; a damaged one is removed. */
  async take(hash: string): Promise<Uint8Array | undefined> {
    const bytes = await this.#try(async (cache) => {
      const response = await cache.match(SHARDS + hash);
      if (!response) return undefined;
      const bytes = new Uint8Array(await response.arrayBuffer());
      if ((await sha256(bytes)) === hash) return bytes;
      await cache.delete(SHARDS + hash);
      return undefined;
    });
    if (bytes) await this.#hold(hash);
    return bytes;
  }

  /** Keeps a shard whose hash was checked. */
  async keep(hash: string, bytes: Uint8Array): Promise<void> {
    const kept = await this.#try((cache) =>
      alone(async () => {
        // Another tab may have removed the package: then nothing would ever remove this shard.
        this.#listed &&= (await this.#present(cache)) !== undefined;
        if (!this.#listed) return false;
        await cache.put(SHARDS + hash, response(bytes, { "content-type": "application/octet-stream" }));
        return true;
      }),
    );
    if (kept) await this.#hold(hash);
  }

  /** Whether the manifest and the shards of `hashes` are in storage. */
  has(hashes: Iterable<string>): boolean {
    return this.#listed && [...hashes].every((hash) => this.#held.has(hash));
  }

  async #hold(hash: string): Promise<void> {
    this.#held.add(hash);
    if (this.#listed && this.#shards.every((hash) => this.#held.has(hash))) {
      await this.#try((cache) => alone(() => this.#finish(cache)));
    }
  }

  /** All shards are here: the new version takes the old one's place. */
  async #finish(cache: Cache): Promise<void> {
    const present = await this.#present(cache);
    // Another tab may have removed or replaced the package.
    this.#listed = present !== undefined;
    if (present?.startsWith(NEXT)) {
      const next = await cache.match(present);
      if (next) await cache.put(PACKAGES + this.#url, next);
      await cache.delete(present);
    }
    if (this.#replaces || !this.#listed) await sweep(cache);
    this.#replaces = false;
  }

  /** Where this package's manifest is. */
  async #present(cache: Cache): Promise<string | undefined> {
    for (const key of [PACKAGES + this.#url, NEXT + this.#url]) {
      if (hashesOf((await readManifest(await cache.match(key)))?.outline) === this.#shards.join()) return key;
    }
    return undefined;
  }

  /** Notes the time of use. */
  async #touch(cache: Cache, bytes: Uint8Array, version: string | undefined): Promise<void> {
    this.#listed = true;
    // Where there is no room for it, the old note stays, and the package with it.
    await cache.put(PACKAGES + this.#url, manifestResponse(bytes, version)).catch(() => {});
  }

  async #try<T>(work: (cache: Cache) => Promise<T>): Promise<T | undefined> {
    if (!this.#cache) return undefined;
    try {
      return await work(this.#cache);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** Writes no more; where there is only no room, what is in storage still serves. */
  #fail(error: unknown): void {
    const full = error instanceof DOMException && error.name === "QuotaExceededError";
    this.#listed = false;
    if (!full) this.#cache = undefined;
    if (this.#told) return;
    this.#told = true;
    const cause = error instanceof Error ? error.message : String(error);
    const reason = full ? "has no room" : `cannot be used (${cause})`;
    this.#onFailure(
      `this browser's storage ${reason}: the package is in memory alone and will be downloaded again next time`,
    );
  }
}

/** One change of storage at a time, over all tabs, so that a sweep never meets a package that is being put. */
function alone<T>(work: () => Promise<T>): Promise<T> {
  return globalThis.navigator?.locks ? (navigator.locks.request(CACHE, work) as Promise<T>) : work();
}

async function openExisting(): Promise<Cache | undefined> {
  return globalThis.caches && (await caches.has(CACHE)) ? caches.open(CACHE) : undefined;
}

/** Removes shards that no manifest names. */
async function sweep(cache: Cache): Promise<void> {
  const all = [...(await manifests(cache, PACKAGES)), ...(await manifests(cache, NEXT))];
  const named = new Set(all.flatMap(({ manifest }) => manifest.outline.shards.map((shard) => SHARDS + shard.sha256)));
  for (const { url } of await cache.keys()) if (url.startsWith(SHARDS) && !named.has(url)) await cache.delete(url);
}

async function manifests(cache: Cache, prefix: string) {
  const found: { url: string; used: number; manifest: StoredManifest }[] = [];
  for (const key of await cache.keys()) {
    if (!key.url.startsWith(prefix)) continue;
    const response = await cache.match(key);
    const manifest = await readManifest(response);
    if (!manifest) continue;
    const used = Number(response?.headers.get(USED));
    found.push({ url: decodeURIComponent(key.url.slice(prefix.length)), used, manifest });
  }
  return found;
}

async function readManifest(response: Response | undefined): Promise<StoredManifest | undefined> {
  if (!response) return undefined;
  const bytes = new Uint8Array(await response.arrayBuffer());
  const outline = outlineOf(bytes);
  return outline && { bytes, outline, version: response.headers.get(VERSION) ?? undefined };
}

function manifestResponse(bytes: Uint8Array, version: string | undefined): Response {
  return response(bytes, {
    "content-type": "application/json",
    [USED]: String(Date.now()),
    ...(version !== undefined && { [VERSION]: version }),
  });
}

function response(bytes: Uint8Array, headers: Record<string, string>): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: { ...headers, "content-length": String(bytes.length) },
  });
}

async function isComplete(cache: Cache, outline: Outline): Promise<boolean> {
  const found = await Promise.all(outline.shards.map((shard) => cache.match(SHARDS + shard.sha256)));
  return !found.includes(undefined);
}

function hashesOf(outline: Outline | undefined): string | undefined {
  return outline?.shards.map((shard) => shard.sha256).join();
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
