// Finished blocks in this browser's storage, beside the packages: https://samlora.invalid/area/NAME/plan, .../block/LEFT,TOP.
// An entry is put whole or not at all, and checked when it is taken: gzip has a checksum of what it holds.

import { SamloraError } from "../error.ts";

const CACHE = "samlora";
const ROOT = "https://samlora.invalid/area/";

/** The masks of one block. */
export interface Planes {
  classMask: Uint8Array;
  confidenceMask: Uint8Array;
}

/** The blocks that are kept under one name. */
export class BlockStore {
  readonly #cache: Cache;
  readonly #root: string;
  readonly #release: () => void;
  /** Names of the blocks that are here. */
  readonly held = new Set<string>();
  /** Why nothing is kept any more. */
  failure: string | undefined;

  private constructor(cache: Cache, root: string, release: () => void) {
    this.#cache = cache;
    this.#root = root;
    this.#release = release;
  }

  /**
   * The store of `name`, for this page alone. What is there must be of the same `plan`.
   *
   * @throws `SamloraError` of code `unsupported` without storage, `invalid` where the name holds another job.
   */
  static async open(name: string, plan: string): Promise<BlockStore> {
    const cache = await openCache();
    const release = await lock(name);
    try {
      const root = rootOf(name);
      const known = await (await cache.match(`${root}plan`))?.text();
      if (known !== undefined && known !== plan) throw otherJob(name, known, plan);
      const store = new BlockStore(cache, root, release);
      if (known === undefined) await cache.put(`${root}plan`, answer(new TextEncoder().encode(plan)));
      const blocks = `${root}block/`;
      for (const { url } of await cache.keys()) if (url.startsWith(blocks)) store.held.add(url.slice(blocks.length));
      return store;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** A block of `pixels` pixels; undefined where it is not here, or damaged. */
  async take(block: string, pixels: number): Promise<Planes | undefined> {
    if (!this.held.has(block)) return undefined;
    try {
      const found = await this.#cache.match(`${this.#root}block/${block}`);
      const bytes = found && (await through(await found.arrayBuffer(), new DecompressionStream("gzip")));
      if (bytes?.length === 2 * pixels) {
        return { classMask: bytes.slice(0, pixels), confidenceMask: bytes.slice(pixels) };
      }
    } catch {
      // Of a damaged entry nothing can be said but that it is of no use.
    }
    this.held.delete(block);
    return undefined;
  }

  /** Keeps a block. Where that fails, the job goes on and `failure` says why. */
  async put(block: string, { classMask, confidenceMask }: Planes): Promise<void> {
    if (this.failure) return;
    const bytes = new Uint8Array(classMask.length + confidenceMask.length);
    bytes.set(classMask);
    bytes.set(confidenceMask, classMask.length);
    try {
      const packed = await through(bytes, new CompressionStream("gzip"));
      await this.#cache.put(`${this.#root}block/${block}`, answer(packed));
      this.held.add(block);
    } catch (error) {
      this.failure = `this browser's storage took no more: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Lets other pages have it. */
  close(): void {
    this.#release();
  }
}

/** Removes everything that is kept under `name`. */
export async function forget(name: string): Promise<void> {
  const cache = await openCache();
  const release = await lock(name);
  try {
    // The plan goes last: blocks without one would be taken for another job's.
    const keys = (await cache.keys()).filter(({ url }) => url.startsWith(rootOf(name)));
    keys.sort((a, b) => Number(a.url.endsWith("/plan")) - Number(b.url.endsWith("/plan")));
    for (const key of keys) await cache.delete(key);
  } finally {
    release();
  }
}

const rootOf = (name: string) => `${ROOT}${encodeURIComponent(name)}/`;

async function openCache(): Promise<Cache> {
  try {
    if (globalThis.caches && globalThis.crypto?.subtle) return await caches.open(CACHE);
  } catch {
    // As in some private windows.
  }
  const remedy = "serve the page over https, or leave `resume` out";
  throw new SamloraError("unsupported", "this browser has no storage for finished blocks here", remedy);
}

/** Keeps other tabs away from what is kept under `name`, until the function that it gives is called. */
function lock(name: string): Promise<() => void> {
  const { locks } = globalThis.navigator ?? {};
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const hold = (lock: Lock | null) => {
      if (lock) return new Promise<void>((release) => resolve(() => release()));
      const remedy = "wait for it, or give this one another name";
      reject(
        new SamloraError("io", `the job ${JSON.stringify(name)} is running already, perhaps in another tab`, remedy),
      );
      return undefined;
    };
    locks.request(`samlora area ${name}`, { ifAvailable: true }, hold).catch(reject);
  });
}

/** Says in what the job that is kept differs from the one that is asked for. */
function otherJob(name: string, known: string, plan: string): SamloraError {
  let differ = "";
  try {
    const [old, now] = [JSON.parse(known), JSON.parse(plan)] as Record<string, unknown>[];
    differ = Object.keys(now!)
      .filter((key) => JSON.stringify(old?.[key]) !== JSON.stringify(now![key]))
      .join(", ");
  } catch {
    differ = "all of it";
  }
  return new SamloraError(
    "invalid",
    `under the name ${JSON.stringify(name)} another job is kept, with a different ${differ || "plan"}`,
    "give the same source, area, model and options; or another name; or call forget() on the job first",
  );
}

async function through(bytes: Uint8Array | ArrayBuffer, change: CompressionStream | DecompressionStream) {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(change);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function answer(bytes: Uint8Array): Response {
  return new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { "content-length": String(bytes.length) } });
}
