// Files and parts of files over HTTP: bytes are counted as they come, a broken connection goes on where it broke.

import { SamloraError } from "../error.ts";
import {
  ask,
  broken,
  checkStatus,
  lengthOf,
  Line,
  readVersion,
  sameVersion,
  startsAt,
  totalOf,
  Trouble,
  type FileVersion,
} from "./http.ts";

/** How long a download waits for a network or a server in trouble. */
export interface Patience {
  /** Milliseconds before each further attempt; bytes that arrive start the row anew. */
  waits: readonly number[];
  /** Milliseconds without a byte after which a connection counts as broken. */
  silence: number;
}

export const PATIENCE: Patience = { waits: [250, 500, 1000, 2000, 4000], silence: 30_000 };
/** The longest `Retry-After`, in milliseconds, that is waited for. */
const LONGEST_WAIT = 30_000;
export interface Download {
  url: string;
  /** What errors call the file. */
  file: string;
  /** What to do where there is no such file. */
  remedy: string;
  /** The most bytes that the file may have. */
  limit: number;
  /** Bytes `start` to `end` (exclusive) of the file instead of all; `limit` is then their number. */
  part?: { start: number; end: number; of: FileVersion };
  /** Fail at once where there is no answer at all. */
  eager?: boolean;
  cache?: RequestCache;
  /** Sent with every request, such as an access token. */
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
  /** Told how many bytes have arrived; fewer than before when the file had to be started anew. */
  onBytes?: ((loaded: number, announced: number | undefined) => void) | undefined;
  patience?: Patience;
}

/** The server gives whole files only. */
export class NoRanges extends SamloraError {
  constructor(url: string) {
    super("io", `${url}: the server does not give parts of files`, "use a server that supports HTTP ranges");
  }
}

export function tooLong(message: string): SamloraError {
  return new SamloraError(
    "integrity",
    message,
    "the file is damaged or from another package: copy or download it again",
  );
}

/** A file's bytes. They may come from several answers, which only a hash can show to belong together. */
export async function download(job: Download): Promise<Uint8Array> {
  const bytes = new Uint8Array(job.limit); // A shard's limit is its length, so nothing is held twice.
  let length = 0;
  const sink: Sink = {
    write(chunk) {
      bytes.set(chunk, length);
      length += chunk.length;
    },
    reset: () => void (length = 0),
  };
  await transfer(job, sink);
  return bytes.subarray(0, length);
}

/** A file as a Blob, which the browser may keep on disk. */
export async function downloadBlob(job: Download): Promise<Blob> {
  const PIECE = 4 << 20;
  let pieces: Blob[] = [];
  let chunks: Uint8Array<ArrayBuffer>[] = [];
  let held = 0;
  const flush = () => {
    if (chunks.length) pieces.push(new Blob(chunks));
    chunks = [];
    held = 0;
  };
  await transfer(job, {
    write(chunk) {
      chunks.push(chunk as Uint8Array<ArrayBuffer>);
      held += chunk.length;
      if (held >= PIECE) flush();
    },
    reset() {
      pieces = [];
      chunks = [];
      held = 0;
    },
  });
  flush();
  return new Blob(pieces);
}

interface Sink {
  write(chunk: Uint8Array): void;
  reset(): void;
}

/** Attempts until the file is in the sink. */
async function transfer(job: Download, sink: Sink): Promise<void> {
  const { signal, patience = PATIENCE } = job;
  const state: Progress = { length: 0, ranges: true, version: job.part?.of, near: false };
  let failures = 0;
  for (let most = 0; ; ) {
    try {
      return await attempt(job, sink, state);
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (!(error instanceof Trouble) || (job.eager && error.silent && state.length === 0)) throw error;
      if (state.length > most) failures = 0;
      most = Math.max(most, state.length);
      const wait = patience.waits[failures++];
      if (wait === undefined || error.wait > LONGEST_WAIT) throw error;
      await pause(Math.max(wait, error.wait), signal);
    }
  }
}

interface Progress {
  length: number;
  /** Whether to go on from where a connection broke. */
  ranges: boolean;
  version: FileVersion | undefined;
  /** Whether the page's own origin answers. Others must permit If-Range, which few do: there the answer's own version decides. */
  near: boolean;
}

async function attempt(job: Download, sink: Sink, state: Progress): Promise<void> {
  const { url, part, limit } = job;
  const restart = () => {
    state.length = 0;
    sink.reset();
  };
  if (!state.ranges) restart();
  const line = new Line(job.signal, (job.patience ?? PATIENCE).silence);
  try {
    const from = (part?.start ?? 0) + state.length;
    const ranged = part !== undefined || state.length > 0;
    const headers: Record<string, string> = { ...job.headers };
    if (ranged) headers.range = `bytes=${from}-${part ? part.end - 1 : ""}`;
    const validator = state.version?.tag ?? state.version?.modified;
    if (ranged && !part && validator && state.near) headers["if-range"] = validator;
    // A whole file after a refused part: the HTTP cache would go on from its own part.
    const cache = ranged ? "no-store" : state.ranges ? (job.cache ?? "default") : "reload";
    const response = await ask(line, url, { headers, cache });

    if (response.status === 416 && ranged && !part) {
      if (response.headers.get("content-range") === `bytes */${state.length}`) return; // What came is all that there is.
      state.ranges = false;
      throw broken(url);
    }
    checkStatus(response, job);
    if (ranged && response.status !== 206 && part) throw new NoRanges(url);
    if (response.status === 206) {
      const fits = ranged && !response.headers.has("content-encoding") && startsAt(response, from);
      if (!fits && part) throw new NoRanges(url);
      const same = sameVersion(state.version, { ...readVersion(response), ...totalOf(response) });
      if (!same && part) throw changed(url);
      if (!fits || !same) {
        state.ranges = false;
        throw broken(url);
      }
    } else {
      restart();
      state.version = readVersion(response);
      state.near = response.type !== "cors" && !response.redirected;
    }
    await copy(response, line, job, sink, state);
    if (part && state.length < limit) throw broken(url);
  } finally {
    line.close();
  }
}

/** Takes the body; stops as soon as the file is longer than the package says, whatever the server sends. */
async function copy(response: Response, line: Line, job: Download, sink: Sink, state: Progress): Promise<void> {
  const { url, limit } = job;
  // A compressed body's header counts other bytes than the file's, and another origin's does not say that it is one; such
  // answers are counted as they come.
  const plain = response.type !== "cors" && !response.headers.has("content-encoding");
  const announced = plain ? lengthOf(response) : undefined;
  const expected = announced === undefined ? undefined : state.length + announced;
  if (expected !== undefined && expected > limit)
    throw tooLong(`${url}: has ${expected} bytes, expected at most ${limit}`);
  const stream = response.body?.getReader();
  try {
    for (let next = await stream?.read(); next && !next.done; next = await stream?.read()) {
      line.alive();
      if (state.length + next.value.length > limit) {
        throw tooLong(`${url}: is longer than the ${limit} bytes that it should have at most`);
      }
      sink.write(next.value);
      state.length += next.value.length;
      job.onBytes?.(state.length, expected);
    }
  } catch (cause) {
    if (cause instanceof SamloraError) throw cause;
    throw broken(url, cause);
  }
  if (expected !== undefined && state.length < expected) throw broken(url);
}

export function changed(url: string): SamloraError {
  return new SamloraError("io", `${url}: the file changed on the server while it was read`, "load it again");
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
