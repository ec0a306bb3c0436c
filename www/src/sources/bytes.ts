// Files of which parts are read: a Blob, or a file on a server that gives ranges.

import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import { Recent } from "../map/shared.ts";
import { download, PATIENCE } from "../package/download.ts";
import { versionOf } from "../package/http.ts";
import { blobAccess, type RandomAccess } from "../package/zip.ts";

/** A part of a file is read in blocks of this many bytes, and kept. */
const BLOCK = 64 << 10;
const KEPT = 16 << 20;
/** The most bytes of one read: no tile and no directory of sound files has more. */
const MOST = 256 << 20;

/** What a file may be. */
export type FileInput = string | URL | Blob;

/** A file that is open. */
export interface Bytes {
  name: string;
  key: string;
  size: number;
  /** Bytes `start` to `end` (exclusive), fewer at the file's end. */
  read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
}

export async function openBytes(
  input: FileInput,
  what: string,
  { headers, signal }: { headers?: Record<string, string> | undefined; signal?: AbortSignal | undefined },
): Promise<Bytes> {
  if (typeof input === "object" && "arrayBuffer" in input) {
    const name = "name" in input ? String(input.name) : `the ${what}`;
    const time = "lastModified" in input ? input.lastModified : "";
    return inBlocks(blobAccess(input, name), `${name} ${input.size} ${time}`);
  }
  if (typeof input !== "string" && !(input instanceof URL)) {
    const message = `the file of ${what} is ${check.describe(input)}`;
    throw new SamloraError("invalid", message, "give an address, a File or a Blob");
  }
  const { href: url } = new URL(input, globalThis.document?.baseURI ?? globalThis.location?.href);
  const version = await versionOf(url, signal, PATIENCE.silence, headers);
  if (version?.size === undefined) {
    const message = `${url}: the server has no such file, or does not say how long it is`;
    throw new SamloraError(
      "not_found",
      message,
      "check the address; a server on another origin must allow HEAD and content-length",
    );
  }
  const { size } = version;
  const file = `a part of ${what}`;
  const access: RandomAccess = {
    name: url,
    size,
    read: (start, end, { signal }) =>
      download({
        url,
        file,
        remedy: "check the address",
        limit: end - start,
        part: { start, end, of: version },
        headers,
        signal,
      }),
  };
  return inBlocks(access, `${url} ${size} ${version.tag ?? version.modified ?? ""}`);
}

function inBlocks(access: RandomAccess, key: string): Bytes {
  const { name, size } = access;
  const kept = new Recent<Promise<Uint8Array>>(KEPT);

  /** Starts one read for blocks `first` to `last`. */
  function fetch(first: number, last: number, signal: AbortSignal | undefined): void {
    const whole = access.read(first * BLOCK, Math.min(size, (last + 1) * BLOCK), { signal });
    for (let i = first; i <= last; i++) {
      const at = (i - first) * BLOCK;
      const block = whole.then((bytes) => bytes.slice(at, at + BLOCK));
      // What failed is read anew by whoever asks next.
      block.catch(() => kept.drop(String(i), block));
      kept.set(String(i), block, BLOCK);
    }
  }

  async function read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    if (start < 0 || start > size || end < start || end - start > MOST) {
      const message = `${name}: bytes ${start} to ${end} of ${size} were asked for`;
      throw new SamloraError("format", message, "the file is damaged: copy or download it again");
    }
    const to = Math.min(end, size);
    const bytes = new Uint8Array(to - start);
    if (!bytes.length) return bytes;
    if (bytes.length > KEPT / 4) {
      bytes.set(await access.read(start, to, { signal }));
      return bytes;
    }
    const [first, last] = [Math.floor(start / BLOCK), Math.floor((to - 1) / BLOCK)];
    const blocks: Promise<Uint8Array>[] = [];
    for (let i = first; i <= last; i++) {
      if (!kept.get(String(i))) {
        let end = i;
        while (end < last && !kept.get(String(end + 1))) end++;
        fetch(i, end, signal);
      }
      blocks.push(kept.get(String(i))!);
    }
    for (const [k, block] of blocks.entries()) {
      const found = await waited(block, signal, () =>
        access.read((first + k) * BLOCK, Math.min(size, (first + k + 1) * BLOCK), { signal }),
      );
      const at = (first + k) * BLOCK;
      const [from, until] = [Math.max(start, at), Math.min(to, at + found.length)];
      bytes.set(found.subarray(from - at, until - at), from - start);
    }
    return bytes;
  }
  return { name, key, size, read };
}

/** A block that another caller asked for and gave up is read once more. */
async function waited(block: Promise<Uint8Array>, signal: AbortSignal | undefined, again: () => Promise<Uint8Array>) {
  try {
    return await block;
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof SamloraError) throw error;
    return again();
  }
}
