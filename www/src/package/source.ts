// Where a package comes from. Every source is opened the same way: its manifest, then one file at a time.

import { addressOf } from "./address.ts";
import { PATIENCE, type Patience } from "./download.ts";
import { SamloraError } from "../error.ts";
import { ArchiveFiles, type Files, folderFiles, localFiles, type ManifestBytes, type Source } from "./files.ts";
import { isOffline } from "./http.ts";
import { MANIFEST, outlineOf, packageBytes, sha256, type Outline, type Shard } from "./manifest.ts";
import { START_SILENCE } from "../silence.ts";
import { Shelf } from "./storage.ts";
import type { LoadProgress, PackageInput, SegmenterEvent } from "../types.ts";

export { MANIFEST, MANIFEST_LIMIT } from "./manifest.ts";

export interface OpenOptions {
  /** Keep what is downloaded in this browser's storage, and take it from there. */
  store: boolean;
  signal?: AbortSignal;
  onProgress?(progress: LoadProgress): void;
  onEvent?(event: SegmenterEvent): void;
  patience?: Patience;
}

export interface OpenPackage {
  manifest: Uint8Array;
  /** Bytes of manifest and shards. */
  bytes: number;
  /** The bytes of one file, at most `limit` of them; nothing of them is kept here. */
  read(file: string, limit: number): Promise<Uint8Array>;
  /** Whether the manifest and every shard read so far are in storage. */
  stored(): boolean;
}

/** With a copy in storage, milliseconds without an answer after which the network counts as away. */
const SILENCE_WITH_COPY = 8000;

/** Makes relative addresses absolute and names files, so that the source may be sent to a worker. */
export function normalise(input: PackageInput): Source {
  if (typeof input === "function") return { read: input };
  if (typeof input === "string" || input instanceof URL) {
    const { kind, href } = addressOf(input);
    return kind === "archive" ? { archive: href } : { base: href };
  }
  if (input instanceof ArrayBuffer || ArrayBuffer.isView(input)) {
    return { blob: new Blob([input as Uint8Array<ArrayBuffer>]) };
  }
  if (input instanceof File && input.name === MANIFEST) return { files: named([input]) };
  if (input instanceof Blob) return { blob: input };
  if (typeof input !== "object" || input === null) throw noPackage();
  if ("kind" in input && input.kind === "directory") return { directory: input };
  if (!(Symbol.iterator in input)) throw noPackage();
  const files = [...input];
  const archives = files.filter((file) => /\.samlora$/i.test(file.name));
  const [archive] = archives;
  if (archive && archives.length === 1 && !files.some((file) => file.name === MANIFEST)) return { blob: archive };
  return { files: named(files) };
}

function noPackage(): SamloraError {
  return new SamloraError(
    "invalid",
    "this is no model package",
    "give an address, files, a folder's handle, a Blob or the bytes of a .samlora file, or a function",
  );
}

/** What errors call the package. */
export function nameOf(source: Source): string {
  if ("base" in source) return source.base;
  if ("archive" in source) return source.archive;
  if ("directory" in source) return source.directory.name || "package";
  return "blob" in source && source.blob instanceof File ? source.blob.name : "package";
}

/** The package's files by name. A chosen folder's files carry their path (which is lost on the way to a worker). */
function named(files: File[]): Map<string, File> {
  const path = (file: File) => file.webkitRelativePath || file.name;
  const manifest = files.find((file) => file.name === MANIFEST);
  if (!manifest) {
    throw new SamloraError(
      "not_found",
      `no ${MANIFEST} among ${files.length} ${files.length === 1 ? "file" : "files"}`,
      "choose or drop the whole folder of a model package",
    );
  }
  const folder = path(manifest).slice(0, -MANIFEST.length);
  return new Map(
    files.filter((file) => path(file).startsWith(folder)).map((file) => [path(file).slice(folder.length), file]),
  );
}

/** Reads the manifest of `source`: the network's, or where that gives no answer the one in storage. */
export async function openPackage(source: Source, options: OpenOptions): Promise<OpenPackage> {
  const { signal, onEvent, patience = PATIENCE } = options;
  signal?.throwIfAborted();
  const progress = new Progress(options.onProgress);
  const remote = "base" in source || "archive" in source;
  const name = nameOf(source);
  const files =
    "base" in source
      ? folderFiles(source.base, patience)
      : "archive" in source
        ? new ArchiveFiles(source.archive, patience, (loaded, announced) => progress.whole(loaded, announced))
        : localFiles(source, name);
  const shelf =
    options.store && remote ? await Shelf.open(name, (message) => onEvent?.({ type: "unstored", message })) : undefined;

  const { manifest, outline } = await readManifest(files, shelf, patience.silence, signal);
  const shards = new Map(outline?.shards.map((shard) => [shard.file, shard]));
  const total = packageBytes(manifest, outline);
  const used = new Set<string>();
  progress.begin(total);
  progress.count(MANIFEST, manifest.length);

  /** One file; checked if it comes from the network: what is kept must be right, and what came in parts may not be. */
  async function fetchFile(file: string, limit: number, shard: Shard | undefined): Promise<Uint8Array> {
    const onBytes = (loaded: number) => progress.count(file, Math.min(loaded, shard?.bytes ?? 0));
    for (let fresh = false; ; fresh = true) {
      const bytes = await files.read(file, limit, { signal, onBytes, fresh });
      const wrong = remote && shard ? await mismatch(bytes, shard) : undefined;
      if (!wrong) return bytes;
      if (fresh) throw new SamloraError("integrity", `${files.place(file)}: ${wrong}`, DAMAGED);
    }
  }

  return {
    manifest,
    bytes: total,
    async read(file, limit) {
      if (file === MANIFEST) return manifest;
      signal?.throwIfAborted();
      const shard = shards.get(file);
      let bytes = shard && (await shelf?.take(shard.sha256));
      if (!bytes) {
        bytes = await fetchFile(file, limit, shard);
        signal?.throwIfAborted();
        if (shard) await shelf?.keep(shard.sha256, bytes);
      }
      signal?.throwIfAborted();
      if (shard) used.add(shard.sha256);
      progress.count(file, shard?.bytes ?? 0);
      return bytes;
    },
    stored: () => shelf?.has(used) ?? false,
  };
}

const DAMAGED = "the file is damaged or from another package: copy or download it again";

async function readManifest(
  files: Files,
  shelf: Shelf | undefined,
  silence: number,
  signal?: AbortSignal,
): Promise<{ manifest: Uint8Array; outline: Outline | undefined }> {
  const kept = await shelf?.manifest();
  let found: ManifestBytes;
  try {
    found = await files.manifest({
      signal,
      kept,
      silence: Math.min(silence, kept ? SILENCE_WITH_COPY : START_SILENCE),
    });
  } catch (error) {
    // What a server says is not hidden by a copy; that nobody answers is.
    if (signal?.aborted || !kept || !isOffline(error)) throw error;
    await shelf?.reuse(kept);
    return { manifest: kept.bytes, outline: kept.outline };
  }
  const outline = outlineOf(found.bytes);
  if (outline) await shelf?.adopt({ bytes: found.bytes, outline, version: found.version });
  signal?.throwIfAborted();
  return { manifest: found.bytes, outline };
}

/** What is wrong with a shard's bytes; nothing is known of their hash where the page has no `crypto.subtle`. */
async function mismatch(bytes: Uint8Array, shard: Shard): Promise<string | undefined> {
  if (bytes.length !== shard.bytes) return `has ${bytes.length} bytes, the manifest says ${shard.bytes}`;
  return ((await sha256(bytes)) ?? shard.sha256) === shard.sha256 ? undefined : "its SHA-256 is not the manifest's";
}

/** Bytes of the package that have come; never fewer than before, and never more than there are. */
class Progress {
  readonly #tell: ((progress: LoadProgress) => void) | undefined;
  readonly #files = new Map<string, number>();
  #total = 0;
  #whole = 0;
  #last = -1;

  constructor(tell: ((progress: LoadProgress) => void) | undefined) {
    this.#tell = tell;
  }

  begin(total: number): void {
    this.#total = total;
  }

  /** A file that was started anew counts again only beyond what it had. */
  count(file: string, bytes: number): void {
    this.#files.set(file, Math.max(this.#files.get(file) ?? 0, bytes));
    const sum = [...this.#files.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.#emit(Math.min(this.#total, Math.max(sum, this.#whole)), this.#total);
  }

  /** An archive that comes whole, before it is known what it holds. */
  whole(loaded: number, announced: number | undefined): void {
    this.#whole = Math.max(this.#whole, loaded);
    const total = this.#total || announced;
    if (total) this.#emit(Math.min(this.#whole, total), total);
  }

  #emit(loadedBytes: number, totalBytes: number): void {
    if (loadedBytes <= this.#last) return;
    this.#last = loadedBytes;
    this.#tell?.({ loadedBytes, totalBytes });
  }
}
