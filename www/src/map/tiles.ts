// Masks of map tiles: one queue, nearest first, with the results of the tiles that were seen last. Knows no map library.
//
// The network runs in windows that tiles share (windows.ts); a tile is blended from all windows that touch it and are known. When
// tiles beside it bring more of them, it is blended anew, so that masks meet at borders as one image's do.

import * as check from "../check.ts";
import { isAbort, SamloraError } from "../error.ts";
import type { Pixels } from "../image.ts";
import type { LoadedModel, TileId } from "../types.ts";
import { blend, type Found } from "./blend.ts";
import type { Box, Grid } from "./grid.ts";
import { nameOf, type TileSource } from "./imagery.ts";
import { Recent, Shared } from "./shared.ts";
import { TileMask } from "./tilemask.ts";
import { Pictures, WINDOW_BYTES, Windows } from "./windows.ts";

export {
  groundResolution,
  type ReadTile,
  type TileRequest,
  TileSource,
  type TileSourceOptions,
  type TransformRequest,
  tileBounds,
} from "./imagery.ts";
export { TileMask, type MaskStyle, type TilePolygonOptions } from "./tilemask.ts";

export interface TileMasksOptions {
  /** Most results that are kept; the least recently used go first. 256 unless given. */
  capacity?: number;
  /** Which waiting tile comes next: the one with the least value, asked anew each time. In order of calls unless given. */
  priority?: (tile: TileId) => number;
  /** How often a failed download is tried again; 2 unless given. */
  retries?: number;
  /** Regions of fewer pixels take the class around them. */
  minPixels?: number;
  /**
   * Least pixels of context around a pixel; half of what neighbouring windows overlap by. What the package was made for unless
   * given; less is less work and shows where windows meet, at most a quarter of the network's input.
   */
  halo?: number;
  /** Most bytes of the network's output that are kept for tiles to come; 64 MiB unless given. */
  windowBytes?: number;
}

/** What a `TileMasks` has done and has to do. */
export interface TileCounts {
  /** Tiles segmented so far. */
  done: number;
  /** Tiles that wait or are being downloaded. */
  waiting: number;
  /** Tiles that are being segmented. */
  running: number;
  /** Tiles that failed for good. */
  failed: number;
  /** Windows that the network has seen; neighbouring tiles share them. */
  windows: number;
  /** Mean milliseconds a tile, of the last 16. */
  time: number | undefined;
}

interface Job {
  tile: TileId;
  signal: AbortSignal;
  attempts: number;
  resolve: (mask: TileMask | undefined) => void;
  reject: (error: unknown) => void;
}

const RETRY_DELAY = 500;

const OPTIONS = {
  capacity: check.wholeNumber(1),
  priority: check.aFunction,
  retries: check.wholeNumber(),
  minPixels: check.wholeNumber(),
  halo: check.wholeNumber(),
  windowBytes: check.wholeNumber(),
};

/** Masks of the tiles of a source, computed once. */
export class TileMasks {
  readonly source: TileSource;
  readonly #options: TileMasksOptions;
  #segmenter: LoadedModel | undefined;
  #paused = false;
  #results: Recent<TileMask | null>; // null: there is no such tile.
  #shared = new Map<string, Shared<TileMask | undefined>>();
  #pictures: Pictures;
  #windows: Windows | undefined;
  /** The windows that a mask was blended from, by number: kept as they are, they would stay in memory. */
  #blended = new WeakMap<TileMask, Set<number>>();
  /** Tiles that were asked for and are not finished. */
  #wanted = new Map<string, TileId>();
  #queue = new Set<Job>();
  #downloading = 0;
  #retrying = 0;
  #segmenting = 0;
  #done = 0;
  #failed = 0;
  #times: number[] = [];

  constructor(segmenter: LoadedModel | undefined, source: TileSource, options?: TileMasksOptions) {
    this.source = source;
    this.#pictures = new Pictures(source);
    this.#options = check.checkOptions(options, "TileMasks", OPTIONS);
    this.#results = new Recent(this.#options.capacity ?? 256);
    this.#use(segmenter);
  }

  /** The mask if it was computed already; null where there is no such tile. */
  peek(tile: TileId): TileMask | null | undefined {
    return this.#results.get(nameOf(tile));
  }

  /**
   * The mask of `tile`, or undefined where the source has no such tile. Calls for one tile share its work, which ends when
   * the signals of all of them have fired.
   */
  async get(tile: TileId, signal: AbortSignal): Promise<TileMask | undefined> {
    const key = nameOf(tile);
    const found = this.#results.get(key);
    if (found !== undefined) return found ?? undefined;
    if (!this.source.has(tile)) return undefined;
    let shared = this.#shared.get(key);
    if (!shared) {
      const forget = (self: Shared<TileMask | undefined>) => this.#shared.get(key) === self && this.#shared.delete(key);
      shared = new Shared((signal) => this.#enqueue(tile, signal), forget);
      this.#shared.set(key, shared);
    }
    const mask = await shared.join(signal);
    if (this.#shared.get(key) === shared) this.#shared.delete(key);
    return mask;
  }

  /** Uses another model from now on, or none: what was computed is forgotten, what waits is computed with the new one. */
  setSegmenter(segmenter: LoadedModel | undefined): void {
    this.#use(segmenter);
    this.#results.clear();
    this.#times = [];
    this.#done = this.#failed = 0;
    this.#pump();
  }

  /** Starts nothing new until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#pump();
  }

  counts(): TileCounts {
    return {
      done: this.#done,
      waiting: this.#queue.size + this.#downloading + this.#retrying,
      running: this.#segmenting,
      failed: this.#failed,
      windows: this.#windows?.count ?? 0,
      time: this.#times.length ? this.#times.reduce((sum, time) => sum + time) / this.#times.length : undefined,
    };
  }

  #use(segmenter: LoadedModel | undefined): void {
    const { windowBytes = WINDOW_BYTES, halo } = this.#options;
    this.#segmenter = segmenter;
    this.#windows?.close();
    this.#windows = segmenter && new Windows(segmenter, this.#pictures, windowBytes, halo);
  }

  #enqueue(tile: TileId, signal: AbortSignal): Promise<TileMask | undefined> {
    return new Promise((resolve, reject) => {
      const job: Job = { tile, signal, attempts: 0, resolve, reject };
      signal.addEventListener("abort", () => {
        this.#queue.delete(job);
        this.#leave(tile);
        reject(signal.reason);
        this.#pump();
      });
      this.#wanted.set(nameOf(tile), tile);
      this.#queue.add(job);
      // Not at once: who asks for a view's tiles asks for all of them before the first is chosen.
      queueMicrotask(() => this.#pump());
    });
  }

  /** Keeps as many tiles in the network as it takes, and one more, so that its windows are there when it is idle. */
  #pump(): void {
    const windows = this.#windows;
    if (this.#paused || !windows) return;
    const most = Math.max(1, windows.info.workers ?? 1) + 1;
    while (this.#downloading + this.#segmenting < most && this.#queue.size) void this.#run(this.#next(), windows);
  }

  #next(): Job {
    let best: Job | undefined;
    let least = Infinity;
    for (const job of this.#queue) {
      const value = this.#options.priority?.(job.tile) ?? 0;
      if (!best || value < least) [best, least] = [job, value];
    }
    this.#queue.delete(best!);
    return best!;
  }

  async #run(job: Job, windows: Windows): Promise<void> {
    let isDownloaded = false;
    this.#downloading++;
    try {
      const picture = await this.#pictures.read(job.tile, job.signal);
      isDownloaded = true;
      this.#downloading--;
      this.#segmenting++;
      const mask = picture ? await this.#segment(job, windows, picture) : null;
      job.signal.throwIfAborted();
      if (windows !== this.#windows) this.#queue.add(job);
      else this.#finish(job, mask);
    } catch (error) {
      const isIo = error instanceof SamloraError && error.code === "io";
      if (job.signal.aborted) job.reject(job.signal.reason);
      else if (isDownloaded && windows !== this.#windows) this.#queue.add(job);
      else if (isIo && !isDownloaded && job.attempts++ < (this.#options.retries ?? 2)) this.#retry(job);
      else this.#fail(job, error);
    } finally {
      if (isDownloaded) this.#segmenting--;
      else this.#downloading--;
      this.#pump();
    }
  }

  #retry(job: Job): void {
    this.#retrying++;
    setTimeout(
      () => {
        this.#retrying--;
        if (!job.signal.aborted) this.#queue.add(job);
        this.#pump();
      },
      RETRY_DELAY * 2 ** (job.attempts - 1),
    );
  }

  async #segment({ tile, signal }: Job, windows: Windows, { width, height }: Pixels): Promise<TileMask> {
    if (windows.info.kind === "base")
      throw new SamloraError("invalid", "a base package has no classes", "put an adapter onto it");
    if (width !== height) {
      const message = `the picture of tile ${nameOf(tile)} has ${width} x ${height} pixels`;
      throw new SamloraError("format", message, "tiles must be square");
    }
    const grid = windows.grid(tile.z, width);
    const places = grid.windows(boxOf(tile, width), "needed");
    const found = await Promise.all(places.map((place) => windows.get(grid, place, signal)));
    return this.#blend(tile, windows, grid, found);
  }

  /** The mask of a tile from `needed` and from all other windows that have any of its pixels and are known. */
  #blend(tile: TileId, windows: Windows, grid: Grid, needed: readonly (Found | null)[]): TileMask {
    const start = performance.now();
    const box = boxOf(tile, grid.side);
    const known = new Set([...needed, ...grid.windows(box, "touching").map((place) => windows.peek(grid, place))]);
    const found = [...known].filter((window) => window != null);
    const { minPixels = 0 } = this.#options;
    // A small region at the border may be part of a large one.
    const { inputSize } = windows.info;
    const margin = minPixels > 1 ? Math.floor((inputSize - grid.columns.tile) / 2) : 0;
    const { left, top, right, bottom } = box;
    const around = { left: left - margin, top: top - margin, right: right + margin, bottom: bottom + margin };
    const planes = blend(grid, around, found);
    const classify = performance.now() - start;
    const mean = found.reduce((sum, { time }) => sum + time, 0) / Math.max(1, found.length);
    const encode = (mean * grid.side ** 2) / (grid.columns.step * grid.rows.step);
    const timings = {
      preprocess: 0,
      encode,
      decode: 0,
      classify,
      total: encode + classify,
      windows: found.length,
    };
    const part = { left: margin, top: margin, width: grid.side, height: grid.side };
    const mask = new TileMask(tile, { model: this.#segmenter!, planes, part, minPixels, timings });
    this.#blended.set(mask, new Set(found.map(({ id }) => id)));
    return mask;
  }

  #finish(job: Job, mask: TileMask | null): void {
    if (mask) {
      this.#done++;
      this.#times = [...this.#times.slice(-15), mask.timings.total];
    }
    this.#results.set(nameOf(job.tile), mask);
    this.#leave(job.tile);
    job.resolve(mask ?? undefined);
  }

  #fail(job: Job, error: unknown): void {
    if (!isAbort(error)) this.#failed++;
    this.#leave(job.tile);
    job.reject(error);
  }

  /** Nothing more comes of `tile`: masks near it that wait for no other are blended anew. */
  #leave(tile: TileId): void {
    this.#wanted.delete(nameOf(tile));
    const windows = this.#windows;
    if (!windows) return;
    const { inputSize } = windows.info;
    const isNear = (a: TileId, { tile: b, width }: TileMask) =>
      a.z === b.z && Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y)) <= Math.ceil(inputSize / width);
    const wanted = [...this.#wanted.values()];
    const masks = this.#results.values().filter((mask) => mask !== null);
    for (const mask of masks) {
      if (isNear(tile, mask) && !wanted.some((other) => isNear(other, mask))) this.#renew(mask, windows);
    }
  }

  #renew(mask: TileMask, windows: Windows): void {
    const { tile, width } = mask;
    const grid = windows.grid(tile.z, width);
    const known = (which: "touching" | "needed") =>
      grid.windows(boxOf(tile, width), which).map((place) => windows.peek(grid, place));
    const blended = this.#blended.get(mask);
    const isNew = known("touching").some((window) => window && !blended?.has(window.id));
    const needed = known("needed").filter((window) => window !== undefined);
    // Where one that it needs was forgotten, the mask stays as it is.
    if (isNew && needed.length === grid.windows(boxOf(tile, width), "needed").length)
      this.#results.set(nameOf(tile), this.#blend(tile, windows, grid, needed));
  }
}

/** The pixels of a tile, of `side` pixels, in the world. */
const boxOf = ({ x, y }: TileId, side: number): Box => ({
  left: x * side,
  top: y * side,
  right: (x + 1) * side,
  bottom: (y + 1) * side,
});
