// Masks of map tiles: one queue, nearest first, with the results of the tiles that were seen last. Knows no map library.

import * as check from "../check.ts";
import { isAbort, SamloraError } from "../error.ts";
import { fromBitmap, type Pixels } from "../image.ts";
import type { ImageInput, LoadedModel, Part, SegmenterInfo, TileId } from "../types.ts";
import { compose, hasData, type Neighbours, STEPS } from "./compose.ts";
import { nameOf, type TileSource } from "./imagery.ts";
import { Recent, Shared } from "./shared.ts";
import { TileMask } from "./tilemask.ts";

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
   * Pixels of the neighbouring tiles to read around a tile, at most a tile's side, so that masks meet at borders. Unless
   * given what the package was made for, and more where the network's input has room: that costs nothing.
   */
  halo?: number;
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
  /** Mean milliseconds a tile, of the last 16. */
  time: number | undefined;
}

interface Job {
  tile: TileId;
  signal: AbortSignal;
  attempts: number;
  /** What was downloaded; undefined where there is no tile. */
  picture?: { image: ImageInput; part: Part } | undefined;
  resolve: (mask: TileMask | undefined) => void;
  reject: (error: unknown) => void;
}

/** Neighbours of one tile are those of the next: enough for a row of a wide view and both its neighbours. */
const PICTURES_KEPT = 96;
const RETRY_DELAY = 500;

const OPTIONS = {
  capacity: check.wholeNumber(1),
  priority: check.aFunction,
  retries: check.wholeNumber(),
  minPixels: check.wholeNumber(),
  halo: check.wholeNumber(),
};

/** Masks of the tiles of a source, computed once. */
export class TileMasks {
  readonly source: TileSource;
  readonly #options: TileMasksOptions;
  #segmenter: LoadedModel | undefined;
  #paused = false;
  #results: Recent<TileMask | null>; // null: there is no such tile.
  #shared = new Map<string, Shared<TileMask | undefined>>();
  #pictures = new Recent<Shared<Pixels | undefined>>(PICTURES_KEPT);
  #queue = new Set<Job>();
  #ready = new Set<Job>();
  #downloading = 0;
  #retrying = 0;
  #segmenting = 0;
  #done = 0;
  #failed = 0;
  #times: number[] = [];

  constructor(segmenter: LoadedModel | undefined, source: TileSource, options?: TileMasksOptions) {
    this.#segmenter = segmenter;
    this.source = source;
    this.#options = check.checkOptions(options, "TileMasks", OPTIONS);
    this.#results = new Recent(this.#options.capacity ?? 256);
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
    this.#segmenter = segmenter;
    this.#results.clear();
    this.#times = [];
    this.#done = this.#failed = 0;
    for (const job of this.#ready) this.#queue.add(job); // With the new network's halo.
    this.#ready.clear();
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
      waiting: this.#queue.size + this.#downloading + this.#retrying + this.#ready.size,
      running: this.#segmenting,
      failed: this.#failed,
      time: this.#times.length ? this.#times.reduce((sum, time) => sum + time) / this.#times.length : undefined,
    };
  }

  #enqueue(tile: TileId, signal: AbortSignal): Promise<TileMask | undefined> {
    return new Promise((resolve, reject) => {
      const job: Job = { tile, signal, attempts: 0, resolve, reject };
      signal.addEventListener("abort", () => {
        this.#queue.delete(job);
        this.#ready.delete(job);
        reject(signal.reason);
        this.#pump();
      });
      this.#queue.add(job);
      // Not at once: who asks for a view's tiles asks for all of them before the first is chosen.
      queueMicrotask(() => this.#pump());
    });
  }

  /** Keeps as many tiles in the network as it takes, and one downloaded ahead. */
  #pump(): void {
    const segmenter = this.#segmenter;
    if (this.#paused || !segmenter) return;
    const workers = Math.max(1, segmenter.info.workers ?? 1);
    while (this.#segmenting < workers && this.#ready.size) void this.#segment(this.#next(this.#ready), segmenter);
    const ahead = workers - this.#segmenting + 1;
    while (this.#downloading + this.#ready.size < ahead && this.#queue.size)
      void this.#download(this.#next(this.#queue), segmenter);
  }

  #next(jobs: Set<Job>): Job {
    let best: Job | undefined;
    let least = Infinity;
    for (const job of jobs) {
      const value = this.#options.priority?.(job.tile) ?? 0;
      if (!best || value < least) [best, least] = [job, value];
    }
    jobs.delete(best!);
    return best!;
  }

  async #download(job: Job, segmenter: LoadedModel): Promise<void> {
    this.#downloading++;
    try {
      job.picture = await this.#compose(job.tile, segmenter.info, job.signal);
      if (!job.picture) this.#finish(job, null);
      else if (!job.signal.aborted) this.#ready.add(job);
    } catch (error) {
      const retry =
        error instanceof SamloraError && error.code === "io" && job.attempts++ < (this.#options.retries ?? 2);
      if (retry && !job.signal.aborted) this.#retry(job);
      else this.#fail(job, error);
    } finally {
      this.#downloading--;
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

  async #segment(job: Job, segmenter: LoadedModel): Promise<void> {
    const { tile, signal, picture } = job;
    this.#segmenting++;
    try {
      // Before thresholds and small regions: `TileMask` asks for them, so that they can be changed afterwards.
      const thresholds = Object.fromEntries(segmenter.info.classes.map(({ index }) => [index, 0]));
      const whole = await segmenter.segment(picture!.image, { signal, thresholds });
      if (segmenter !== this.#segmenter) return void this.#queue.add(job);
      this.#done++;
      this.#times = [...this.#times.slice(-15), whole.timings.total];
      this.#finish(job, new TileMask(tile, whole, picture!.part, this.#options.minPixels));
    } catch (error) {
      if (segmenter !== this.#segmenter && !signal.aborted) this.#queue.add(job);
      else this.#fail(job, error);
    } finally {
      this.#segmenting--;
      this.#pump();
    }
  }

  #finish(job: Job, mask: TileMask | null): void {
    this.#results.set(nameOf(job.tile), mask);
    job.resolve(mask ?? undefined);
  }

  #fail(job: Job, error: unknown): void {
    if (!job.signal.aborted && !isAbort(error)) this.#failed++;
    job.reject(error);
  }

  /** The pixels of a tile's picture; undefined where there is none, or none of it holds data. */
  #picture(tile: TileId, signal: AbortSignal): Promise<Pixels | undefined> {
    const key = nameOf(tile);
    let shared = this.#pictures.get(key);
    if (!shared) {
      const read = async (signal: AbortSignal) => {
        const bitmap = await this.source.read(tile, signal);
        const pixels = bitmap && (await fromBitmap(bitmap));
        return pixels && hasData(pixels) ? pixels : undefined;
      };
      shared = new Shared(read, (self) => this.#pictures.drop(key, self));
      this.#pictures.set(key, shared);
    }
    return shared.join(signal);
  }

  /** The tile with what there is of its neighbours; undefined where there is no tile. */
  async #compose(tile: TileId, info: SegmenterInfo, signal: AbortSignal): Promise<Job["picture"]> {
    const centre = await this.#picture(tile, signal);
    if (!centre) return undefined;
    const { width, height } = centre;
    const free = Math.floor((info.inputSize - Math.max(width, height)) / 2);
    const made = Math.floor((info.inputSize - info.tileSize) / 2);
    const halo = Math.min(this.#options.halo ?? Math.max(free, made, 0), width, height);

    const side = 2 ** tile.z;
    const around: Neighbours = new Map();
    await Promise.all(
      (halo === 0 ? [] : STEPS).map(async ([dx, dy]) => {
        const neighbour = { z: tile.z, x: (tile.x + dx + side) % side, y: tile.y + dy };
        if (!this.source.has(neighbour)) return;
        // A neighbour that fails is one that is not there; the tile itself is.
        const found = await this.#picture(neighbour, signal).catch(() => signal.throwIfAborted());
        if (found?.width === width && found.height === height) around.set(`${dx},${dy}`, found);
      }),
    );
    const { whole, part } = compose(centre, around, halo, this.source.inside(tile, centre));
    const rgba = whole.rgba as Uint8ClampedArray<ArrayBuffer>;
    return { image: new ImageData(rgba, whole.width, whole.height), part };
  }
}
