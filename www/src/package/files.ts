// The files of a package, wherever they are, behind one interface.

import { fileUrl } from "./address.ts";
import { download, PATIENCE, tooLong, type Patience } from "./download.ts";
import { SamloraError } from "../error.ts";
import { versionOf, type FileVersion } from "./http.ts";
import { MANIFEST, MANIFEST_LIMIT } from "./manifest.ts";
import type { ReadFile } from "../types.ts";
import { blobAccess, httpAccess, Zip, type Watch } from "./zip.ts";

/** A package; all but a function can be sent to a worker. */
export type Source =
  | { base: string }
  | { archive: string }
  | { files: Map<string, File> }
  | { directory: FileSystemDirectoryHandle }
  | { blob: Blob }
  | { read: ReadFile };

/** A manifest's bytes, and what tells the version of the file that they come from, where the server says. */
export interface ManifestBytes {
  bytes: Uint8Array;
  version?: string | undefined;
}

export interface ManifestWatch extends Watch {
  /** Milliseconds without an answer after which the network counts as away. */
  silence?: number | undefined;
  /** The manifest that is in storage: it need not be downloaded where the server has the same. */
  kept?: ManifestBytes | undefined;
}

/** A package's files. Reading them again after a wrong hash (`fresh`) goes past the browser's HTTP cache. */
export interface Files {
  manifest(watch: ManifestWatch): Promise<ManifestBytes>;
  read(file: string, limit: number, watch: Watch & { fresh?: boolean }): Promise<Uint8Array>;
  /** What errors call a file. */
  place(file: string): string;
}

const FOLDER_REMEDY = `the address must be that of a folder which holds ${MANIFEST}`;
/** The manifest is there, so that the address is right. */
const SHARD_REMEDY = "the package is not there as a whole: copy all files of its folder to the server";

/** A package's folder on a server. */
export function folderFiles(base: string, patience: Patience = PATIENCE): Files {
  const job = (file: string, limit: number) => ({
    url: fileUrl(base, file),
    file,
    remedy: file === MANIFEST ? FOLDER_REMEDY : SHARD_REMEDY,
    limit,
    patience,
  });
  return {
    // Asked for first: a wrong address and a missing network show at once.
    async manifest({ signal, silence = patience.silence }) {
      const how = { cache: "no-cache", eager: true, signal, patience: { ...patience, silence } } as const;
      return { bytes: await download({ ...job(MANIFEST, MANIFEST_LIMIT), ...how }) };
    },
    read: (file, limit, { fresh, signal, onBytes }) =>
      download({ ...job(file, limit), cache: fresh ? "reload" : "default", signal, onBytes }),
    place: (file) => fileUrl(base, file),
  };
}

/** A `.samlora` file on a server. */
export class ArchiveFiles implements Files {
  readonly #url: string;
  readonly #patience: Patience;
  readonly #onWhole: ((loaded: number, announced: number | undefined) => void) | undefined;
  #zip: Promise<Zip> | undefined;

  /** `onWhole` is told of the whole file's bytes, where the server gives no parts of it. */
  constructor(
    url: string,
    patience: Patience = PATIENCE,
    onWhole?: (loaded: number, announced: number | undefined) => void,
  ) {
    this.#url = url;
    this.#patience = patience;
    this.#onWhole = onWhole;
  }

  async manifest({ kept, silence, ...watch }: ManifestWatch): Promise<ManifestBytes> {
    const found = await versionOf(this.#url, watch.signal, silence ?? this.#patience.silence);
    const version = found?.tag || found?.modified ? JSON.stringify([found.tag, found.modified, found.size]) : undefined;
    if (version && kept?.version === version) return kept;
    return {
      bytes: await (await this.#open(watch.signal, found ?? null)).read(MANIFEST, MANIFEST_LIMIT, watch),
      version,
    };
  }

  async read(file: string, limit: number, watch: Watch): Promise<Uint8Array> {
    return (await this.#open(watch.signal)).read(file, limit, watch);
  }

  place(file: string): string {
    return `${this.#url}: ${file}`;
  }

  /** `known` is what the server said already, `null` if it did not say. */
  #open(signal: AbortSignal | undefined, known?: FileVersion | null): Promise<Zip> {
    if (!this.#zip) {
      const open = async () => {
        const version = known === undefined ? await versionOf(this.#url, signal, this.#patience.silence) : known;
        const remote = {
          url: this.#url,
          version: version ?? undefined,
          patience: this.#patience,
          onWhole: this.#onWhole,
        };
        return Zip.open(await httpAccess(remote, signal), signal);
      };
      this.#zip = open();
      this.#zip.catch(() => (this.#zip = undefined)); // So that a later read may try again.
    }
    return this.#zip;
  }
}

/** Everything that needs no network. */
export function localFiles(source: Exclude<Source, { base: string } | { archive: string }>, name: string): Files {
  const read = readerOf(source, name);
  return {
    manifest: async ({ signal }) => ({
      bytes: await read(MANIFEST, { limit: MANIFEST_LIMIT, ...(signal && { signal }) }),
    }),
    read: (file, limit, { signal }) => read(file, { limit, ...(signal && { signal }) }),
    place: (file) => file,
  };
}

function readerOf(source: Exclude<Source, { base: string } | { archive: string }>, name: string): ReadFile {
  if ("read" in source) return source.read;
  if ("blob" in source) {
    let zip: Promise<Zip> | undefined;
    return async (file, { limit, signal }) => {
      zip ??= Zip.open(blobAccess(source.blob, name));
      return (await zip).read(file, limit, { signal });
    };
  }
  const find = async (file: string) =>
    "files" in source ? source.files.get(file) : inDirectory(source.directory, file);
  return async (file, { limit, signal }) => {
    signal?.throwIfAborted();
    const found = await find(file);
    if (!found)
      throw new SamloraError("not_found", `${file} is missing from the package`, "choose or drop the whole folder");
    if (found.size > limit) throw tooLong(`${file} has ${found.size} bytes, expected at most ${limit}`);
    try {
      return new Uint8Array(await found.arrayBuffer());
    } catch (cause) {
      throw new SamloraError(
        "io",
        `${file} could not be read`,
        "the file may have moved or changed; choose it again",
        cause,
      );
    }
  };
}

async function inDirectory(directory: FileSystemDirectoryHandle, file: string): Promise<File | undefined> {
  try {
    return await (await directory.getFileHandle(file)).getFile();
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "NotFoundError") return undefined;
    const denied = cause instanceof DOMException && cause.name === "NotAllowedError";
    throw new SamloraError(
      "io",
      `${file} in the folder ${directory.name} could not be read`,
      denied
        ? "let the user allow it: call requestPermission() on the folder's handle in a click"
        : "choose the folder again",
      cause,
    );
  }
}
