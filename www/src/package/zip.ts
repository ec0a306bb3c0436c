// Packages in one file: a `.samlora` is a zip with stored (not compressed) entries, `samlora.json` at its root or in one
// folder. Only the directory and the entries that are asked for are read, from a Blob or with HTTP ranges.

import { changed, download, downloadBlob, NoRanges, PATIENCE, tooLong, type Patience } from "./download.ts";
import { SamloraError } from "../error.ts";
import type { FileVersion } from "./http.ts";
import { MANIFEST } from "./manifest.ts";

/** Part of reading: how to stop it, and who is told how many bytes have come. */
export interface Watch {
  signal?: AbortSignal | undefined;
  onBytes?: ((loaded: number) => void) | undefined;
}

/** A file of which any part can be read. */
export interface RandomAccess {
  /** What errors call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes `start` to `end` (exclusive), which lie within the file. */
  read(start: number, end: number, watch: Watch): Promise<Uint8Array>;
}

export function blobAccess(blob: Blob, name: string): RandomAccess {
  return {
    name,
    size: blob.size,
    async read(start, end, { signal }) {
      signal?.throwIfAborted();
      try {
        return new Uint8Array(await blob.slice(start, end).arrayBuffer());
      } catch (cause) {
        throw new SamloraError(
          "io",
          `${name} could not be read`,
          "the file may have moved or changed; choose it again",
          cause,
        );
      }
    },
  };
}

/** An archive on a server that has said how long it is. */
export interface Remote {
  url: string;
  version: FileVersion | undefined;
  patience?: Patience | undefined;
  /** Told of the whole file's bytes, where the server gives no parts of it. */
  onWhole?: ((loaded: number, announced: number | undefined) => void) | undefined;
}

const REMEDY = "the address must be that of a .samlora file";
/** The longest zip without the 64-bit extension. */
const LONGEST = 2 ** 32 - 1;

/** Reads with ranges; once a server does not give them, the whole file is downloaded, and kept as long as this is. */
export async function httpAccess(remote: Remote, signal?: AbortSignal): Promise<RandomAccess> {
  const { url, version, patience = PATIENCE, onWhole } = remote;
  const job = { url, file: "a .samlora file", remedy: REMEDY, patience };
  let whole: Promise<RandomAccess> | undefined;
  const fetchWhole = async (signal: AbortSignal | undefined) => {
    const blob = await downloadBlob({ ...job, limit: LONGEST, signal, onBytes: onWhole });
    return blobAccess(blob, url);
  };
  if (version?.size === undefined) return fetchWhole(signal);
  const { size } = version;
  return {
    name: url,
    size,
    async read(start, end, { signal, onBytes }) {
      if (!whole) {
        try {
          return await download({ ...job, limit: end - start, part: { start, end, of: version }, signal, onBytes });
        } catch (error) {
          if (!(error instanceof NoRanges)) throw error;
        }
        whole = fetchWhole(signal);
        whole.catch(() => (whole = undefined));
      }
      const access = await whole;
      if (access.size !== size) throw changed(url);
      return access.read(start, end, { signal });
    },
  };
}

const END = { signature: 0x06054b50, bytes: 22, longestComment: 0xffff };
const CENTRAL = { signature: 0x02014b50, bytes: 46 };
const LOCAL = { signature: 0x04034b50, bytes: 30, longestExtra: 0xffff };
/** The longest directory that is read, in bytes: a package has a few files. */
const DIRECTORY_LIMIT = 1 << 20;
/** Bits of an entry's flags: encrypted, encrypted strongly, encrypted directory. */
const ENCRYPTED = 0x0001 | 0x0040 | 0x2000;

interface Entry {
  name: string;
  /** Where its local header begins, and the next entry or the directory. */
  start: number;
  end: number;
  /** Bytes of its content. */
  size: number;
  storedSize: number;
  method: number;
  flags: number;
  crc: number;
}

export class Zip {
  readonly #access: RandomAccess;
  readonly #entries: Map<string, Entry>;
  /** The folder of the package within the archive, empty or ending in a slash. */
  readonly #folder: string;

  private constructor(access: RandomAccess, entries: Map<string, Entry>, folder: string) {
    this.#access = access;
    this.#entries = entries;
    this.#folder = folder;
  }

  /** Reads the directory and finds the package in it. */
  static async open(access: RandomAccess, signal?: AbortSignal): Promise<Zip> {
    const entries = await readDirectory(access, signal);
    const folders = [...entries.keys()].filter((name) => /^([^/]+\/)?samlora\.json$/.test(name));
    const folder = folders.find((name) => name === MANIFEST) ?? folders[0];
    if (folder === undefined || (folder !== MANIFEST && folders.length > 1)) {
      throw new SamloraError(
        "not_found",
        `${access.name}: ${folder === undefined ? `the archive holds no ${MANIFEST}` : "the archive holds several packages"}`,
        "zip the files of one model package, or let `samlora export` write the archive",
      );
    }
    return new Zip(access, entries, folder.slice(0, -MANIFEST.length));
  }

  /** The content of the package's file `file`, which has at most `limit` bytes. */
  async read(file: string, limit: number, watch: Watch): Promise<Uint8Array> {
    const { name: archive } = this.#access;
    const entry = this.#entries.get(this.#folder + file);
    if (!entry)
      throw new SamloraError(
        "not_found",
        `${archive}: ${file} is missing from the archive`,
        "copy or download it again",
      );
    checkPlain(entry, archive);
    if (entry.size > limit) throw tooLong(`${archive}: ${file} has ${entry.size} bytes, expected at most ${limit}`);
    // The local header repeats the name and may have other extra fields than the directory: they are read in one go with
    // the content.
    const most = entry.start + LOCAL.bytes + entry.name.length * 3 + LOCAL.longestExtra + entry.size;
    const bytes = await this.#access.read(entry.start, Math.min(entry.end, most), watch);
    const content = contentOf(bytes, entry);
    if (!content) throw damaged(archive, `${file} is not where the directory says`);
    // Shards have the manifest's hashes; nothing else vouches for the manifest.
    if (file === MANIFEST && crc32(content) !== entry.crc)
      throw damaged(archive, `${file} does not match its checksum`);
    return content;
  }
}

async function readDirectory(access: RandomAccess, signal?: AbortSignal): Promise<Map<string, Entry>> {
  const { name, size } = access;
  const tailStart = Math.max(0, size - END.bytes - END.longestComment);
  const tail = size < END.bytes ? new Uint8Array() : await access.read(tailStart, size, { signal });
  const view = viewOf(tail);
  let at = tail.length - END.bytes;
  // The record is the one whose comment reaches exactly to the end of the file.
  const isEnd = () =>
    view.getUint32(at, true) === END.signature && at + END.bytes + view.getUint16(at + 20, true) === tail.length;
  while (at >= 0 && !isEnd()) at--;
  if (at < 0) {
    throw new SamloraError(
      "format",
      `${name} is not a .samlora file, or it is cut off`,
      "choose a package that `samlora export` wrote, or download it again",
    );
  }
  const u16 = (offset: number) => view.getUint16(at + offset, true);
  const [count, bytes, start] = [u16(10), view.getUint32(at + 12, true), view.getUint32(at + 16, true)];
  if (count === 0xffff || bytes === 0xffffffff || start === 0xffffffff) throw zip64(name);
  if (u16(4) !== 0 || u16(6) !== 0 || u16(8) !== count) {
    throw new SamloraError("unsupported", `${name} is one part of several`, "join the parts into one archive");
  }
  if (start + bytes !== tailStart + at) throw damaged(name, "its directory is not where its end says");
  if (bytes > DIRECTORY_LIMIT)
    throw damaged(name, `its directory has ${bytes} bytes, expected at most ${DIRECTORY_LIMIT}`);
  const here = start >= tailStart;
  const directory = here ? tail.subarray(start - tailStart, at) : await access.read(start, start + bytes, { signal });
  return arrange(parseEntries(directory, count, name), start, name);
}

function parseEntries(directory: Uint8Array, count: number, archive: string): Entry[] {
  const view = viewOf(directory);
  const utf8 = new TextDecoder();
  const entries: Entry[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + CENTRAL.bytes > directory.length || view.getUint32(at, true) !== CENTRAL.signature) {
      throw damaged(archive, "its directory is wrong");
    }
    const u16 = (offset: number) => view.getUint16(at + offset, true);
    const u32 = (offset: number) => view.getUint32(at + offset, true);
    const next = at + CENTRAL.bytes + u16(28) + u16(30) + u16(32);
    if (next > directory.length) throw damaged(archive, "its directory is wrong");
    const name = utf8.decode(directory.subarray(at + CENTRAL.bytes, at + CENTRAL.bytes + u16(28)));
    const [flags, method, crc] = [u16(8), u16(10), u32(16)];
    const entry = { name, flags, method, crc, storedSize: u32(20), size: u32(24), start: u32(42), end: 0 };
    if ([entry.storedSize, entry.size, entry.start].includes(0xffffffff)) throw zip64(archive);
    entries.push(entry);
    at = next;
  }
  if (at !== directory.length) throw damaged(archive, "its directory is wrong");
  return entries;
}

/** Entries by name, each with its end: none may reach into another or into the directory, and names must be plain. */
function arrange(entries: Entry[], directory: number, archive: string): Map<string, Entry> {
  entries.sort((a, b) => a.start - b.start);
  entries.forEach((entry, i) => {
    entry.end = entries[i + 1]?.start ?? directory;
    if (entry.start + LOCAL.bytes + entry.name.length + entry.storedSize > entry.end) {
      throw damaged(archive, `the entry ${JSON.stringify(entry.name)} reaches beyond its place`);
    }
    if (/[\\\0]|^\/|^[a-z]:|(^|\/)\.\.?(\/|$)/i.test(entry.name)) {
      throw new SamloraError(
        "format",
        `${archive}: the name ${JSON.stringify(entry.name)} reaches outside the archive`,
        "do not use this file; let `samlora export` write the archive",
      );
    }
  });
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  if (byName.size !== entries.length) throw damaged(archive, "it holds two entries of one name");
  return byName;
}

function checkPlain({ name, flags, method, size, storedSize }: Entry, archive: string): void {
  if (flags & ENCRYPTED || method !== 0) {
    throw new SamloraError(
      "unsupported",
      `${archive}: ${name} is ${flags & ENCRYPTED ? "encrypted" : "compressed"} in the archive`,
      "store the files without compression (zip -0), or let `samlora export` write the archive",
    );
  }
  if (size !== storedSize) throw damaged(archive, `${name} has two lengths`);
}

/** The content behind a local header that agrees with the directory. */
function contentOf(bytes: Uint8Array, entry: Entry): Uint8Array | undefined {
  const view = viewOf(bytes);
  if (bytes.length < LOCAL.bytes || view.getUint32(0, true) !== LOCAL.signature) return undefined;
  const [flags, method, nameBytes] = [view.getUint16(6, true), view.getUint16(8, true), view.getUint16(26, true)];
  const start = LOCAL.bytes + nameBytes + view.getUint16(28, true);
  if (flags & ENCRYPTED || method !== entry.method || start + entry.size > bytes.length) return undefined;
  if (new TextDecoder().decode(bytes.subarray(LOCAL.bytes, LOCAL.bytes + nameBytes)) !== entry.name) return undefined;
  return bytes.subarray(start, start + entry.size);
}

/** The zip format's CRC-32 (polynomial 0xedb88320, reflected), a bit at a time: a manifest is short. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(archive: string, what: string): SamloraError {
  return new SamloraError("format", `${archive}: the archive is damaged: ${what}`, "copy or download it again");
}

function zip64(archive: string): SamloraError {
  return new SamloraError(
    "unsupported",
    `${archive} uses the 64-bit zip format`,
    "let `samlora export` write the archive, or unpack it and use the folder",
  );
}
