// One HTTP request and what its answer says: status, version, length, range.

import { SamloraError } from "../error.ts";
import { Silence } from "../silence.ts";

/** Answers of a server that may soon answer otherwise. */
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** What tells one version of a file on a server from another, as far as the server says. */
export interface FileVersion {
  /** A strong entity tag. */
  tag?: string;
  modified?: string;
  /** Length in bytes. */
  size?: number;
}

/** A failure that may pass. */
export class Trouble extends SamloraError {
  /** Whether nobody answered, as opposed to a server that said no. */
  readonly silent: boolean;
  /** Milliseconds that the server asks to wait. */
  readonly wait: number;

  constructor(message: string, remedy: string, details: { silent?: boolean; wait?: number; cause?: unknown }) {
    super("io", message, remedy, details.cause);
    this.silent = details.silent ?? false;
    this.wait = details.wait ?? 0;
  }
}

/** Whether `error` says that there was no answer, so that what is in storage may stand in. */
export function isOffline(error: unknown): boolean {
  return error instanceof Trouble && error.silent;
}

/** One request: ends with the caller's signal, or when nothing has come for too long. */
export class Line {
  #controller = new AbortController();
  readonly #silence: Silence;
  #onAbort = () => this.#controller.abort(this.caller?.reason);
  readonly caller: AbortSignal | undefined;

  constructor(caller: AbortSignal | undefined, silence: number) {
    caller?.throwIfAborted();
    this.caller = caller;
    caller?.addEventListener("abort", this.#onAbort);
    const reason = () => new DOMException(`nothing came for ${silence / 1000} s`, "TimeoutError");
    this.#silence = new Silence(() => this.#controller.abort(reason()), silence);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  alive(): void {
    this.#silence.alive();
  }

  /** Gives the connection up if anything is still to come. */
  close(): void {
    this.#silence.end();
    this.caller?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }
}

export async function ask(line: Line, url: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(url, { ...init, signal: line.signal });
    line.alive();
    return response;
  } catch (cause) {
    if (line.caller?.aborted) throw line.caller.reason;
    throw new Trouble(
      `${url}: no answer (${cause instanceof Error ? cause.message : String(cause)})`,
      "check the connection and the address; a server on another origin must allow this page (CORS)",
      { silent: true, cause },
    );
  }
}

/** A file's length and version without its bytes; `undefined` from a server that does not say. */
export async function versionOf(
  url: string,
  signal: AbortSignal | undefined,
  silence: number,
  headers?: Record<string, string>,
): Promise<FileVersion | undefined> {
  const line = new Line(signal, silence);
  try {
    // Asking for a range makes the browser ask for the file as it is, so that the length is not that of a compressed body.
    const response = await ask(line, url, {
      method: "HEAD",
      headers: { ...headers, range: "bytes=0-" },
      cache: "no-store",
    });
    const size = response.ok && !isWebPage(response) ? lengthOf(response) : undefined;
    return size === undefined ? undefined : { ...readVersion(response), size };
  } finally {
    line.close();
  }
}

/** Throws unless `response` is the file that was asked for. */
export function checkStatus(response: Response, asked: { url: string; file: string; remedy: string }): void {
  const { url, file, remedy } = asked;
  const { status, statusText } = response;
  const answered = `${url}: the server answered ${status} ${statusText}`.trimEnd();
  const isRefused = status === 401 || status === 403;
  const later = isRefused
    ? "the server wants a key or a login: give it in the address, or load the package by a function that fetches its files"
    : "try again later, or ask who runs the server";
  if (PASSING.has(status)) throw new Trouble(answered, later, { wait: retryAfter(response) });
  if (!response.ok) {
    const missing = status === 404 || status === 410;
    throw new SamloraError(missing ? "not_found" : "io", answered, missing ? remedy : later);
  }
  if (isWebPage(response)) {
    throw new SamloraError("not_found", `${url}: the server answered with a web page instead of ${file}`, remedy);
  }
}

/** Hosts of single-page apps answer every unknown address with their start page and status 200. */
function isWebPage(response: Response): boolean {
  return response.headers.get("content-type")?.startsWith("text/html") ?? false;
}

export function broken(url: string, cause?: unknown): Trouble {
  return new Trouble(`${url}: the connection broke`, "try again", { silent: true, cause });
}

/** Milliseconds. */
function retryAfter(response: Response): number {
  const text = response.headers.get("retry-after") ?? "";
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Math.max(0, wait || 0);
}

export function lengthOf(response: Response): number | undefined {
  const text = response.headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** Whether a 206 begins at byte `from`. Another origin's headers need not say; then only the bytes' hash can. */
export function startsAt(response: Response, from: number): boolean {
  const range = response.headers.get("content-range");
  return range === null ? response.type === "cors" : Number(/^bytes (\d+)-/.exec(range)?.[1] ?? NaN) === from;
}

export function totalOf(response: Response): FileVersion {
  const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
  return total === undefined ? {} : { size: Number(total) };
}

export function readVersion(response: Response): FileVersion {
  const tag = response.headers.get("etag");
  const modified = response.headers.get("last-modified");
  return { ...(tag?.startsWith('"') && { tag }), ...(modified && { modified }) };
}

/** Whether nothing that is known of both says otherwise. */
export function sameVersion(a: FileVersion | undefined, b: FileVersion): boolean {
  const differ = (key: keyof FileVersion) => a?.[key] !== undefined && b[key] !== undefined && a[key] !== b[key];
  return !differ("size") && (a?.tag && b.tag ? !differ("tag") : !differ("modified"));
}
