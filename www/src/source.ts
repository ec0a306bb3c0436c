// Where a package's files come from. Every source is turned into one function that gives the bytes of a named file.

import { SamloraError } from "./error.ts";
import type { PackageInput, ReadFile, ReadOptions } from "./types.ts";

/** The file that says what a package holds. */
export const MANIFEST = "samlora.json";
/** The largest manifest that is read (`MANIFEST_BYTES` of the Rust crate). */
export const MANIFEST_LIMIT = 4 << 20;

/** A package by address, by its files under their names in the package, or by a function. */
export type Source = { base: string } | { files: Map<string, File> } | { read: ReadFile };

/** Makes relative addresses absolute and names files, so that the source may be sent to a worker. */
export function normalise(input: PackageInput): Source {
  if (typeof input === "function") return { read: input };
  if (typeof input === "string" || input instanceof URL) {
    let url: URL;
    try {
      url = new URL(input, globalThis.document?.baseURI ?? globalThis.location?.href);
    } catch (cause) {
      throw new SamloraError("invalid", `${String(input)} is not an address`, "give the URL of the package's folder", cause);
    }
    // The folder, the folder without its slash and the manifest itself all name the package.
    url.pathname = url.pathname.replace(/(\/samlora\.json)?\/?$/, "/");
    url.hash = "";
    return { base: url.href };
  }
  return { files: named([...input]) };
}

/** What errors call the package. */
export function nameOf(source: Source): string {
  return "base" in source ? source.base : "package";
}

/** The function that reads the files of `source`. */
export function reader(source: Source): ReadFile {
  if ("read" in source) return source.read;
  if ("files" in source) return fromFiles(source.files);
  return (file, options) => download(fileUrl(source.base, file), file, options);
}

function fileUrl(base: string, file: string): string {
  const url = new URL(base); // Keeps a query such as an access token.
  url.pathname += file.split("/").map(encodeURIComponent).join("/");
  return url.href;
}

async function download(url: string, file: string, { limit, signal }: ReadOptions): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new SamloraError(
      "io",
      `${url}: no answer (${cause instanceof Error ? cause.message : String(cause)})`,
      "check the connection and the address; a server on another origin must allow this page (CORS)",
      cause,
    );
  }
  if (!response.ok) {
    const missing = response.status === 404 || response.status === 410;
    throw new SamloraError(
      missing ? "not_found" : "io",
      `${url}: the server answered ${response.status} ${response.statusText}`.trimEnd(),
      missing ? `the address must be that of a folder which holds ${MANIFEST}` : "try again later, or ask who runs the server",
    );
  }
  // Hosts of single-page apps answer every unknown address with their start page and status 200.
  if (response.headers.get("content-type")?.startsWith("text/html")) {
    throw new SamloraError(
      "not_found",
      `${url}: the server answered with a web page instead of ${file}`,
      `the address must be that of a folder which holds ${MANIFEST}`,
    );
  }
  // A compressed body's header counts other bytes than the file's, and another origin's does not say that it is one; such
  // answers are counted as they come.
  const plain = response.type !== "cors" && !response.headers.has("content-encoding");
  const announced = Number(response.headers.get("content-length"));
  if (plain && announced > limit) {
    await response.body?.cancel();
    throw tooLong(`${url}: has ${announced} bytes, expected at most ${limit}`);
  }
  try {
    return await readBody(response, url, limit);
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    if (cause instanceof SamloraError) throw cause;
    throw new SamloraError("io", `${url}: the connection broke`, "try again", cause);
  }
}

/** The whole body; stops as soon as it is longer than the package says, whatever the server sends. */
async function readBody(response: Response, url: string, limit: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(limit); // A shard's limit is its length, so nothing is held twice.
  let length = 0;
  const stream = response.body?.getReader();
  for (let part = await stream?.read(); part && !part.done; part = await stream?.read()) {
    if (length + part.value.length > limit) {
      await stream?.cancel();
      throw tooLong(`${url}: is longer than the ${limit} bytes that it should have at most`);
    }
    bytes.set(part.value, length);
    length += part.value.length;
  }
  return bytes.subarray(0, length);
}

function tooLong(message: string): SamloraError {
  return new SamloraError("integrity", message, "the file is damaged or from another package: copy or download it again");
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
  return new Map(files.filter((file) => path(file).startsWith(folder)).map((file) => [path(file).slice(folder.length), file]));
}

function fromFiles(files: Map<string, File>): ReadFile {
  return async (name, { limit, signal }) => {
    signal?.throwIfAborted();
    const file = files.get(name);
    if (!file) {
      throw new SamloraError("not_found", `${name} is missing from the package`, "choose or drop the whole folder");
    }
    if (file.size > limit) throw tooLong(`${name} has ${file.size} bytes, expected at most ${limit}`);
    try {
      return new Uint8Array(await file.arrayBuffer());
    } catch (cause) {
      throw new SamloraError("io", `${name} could not be read`, "the file may have moved or changed; choose it again", cause);
    }
  };
}
