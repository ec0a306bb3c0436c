// What `segmentArea` gives at once; the work itself is fetched when a page first asks for a block.

import { SamloraError } from "../error.ts";
import type { LoadedModel } from "../types.ts";
import type { AreaBlock, AreaClassStats, AreaEstimate, AreaOptions, AreaResult } from "./types.ts";
import type { Run } from "./run.ts";

const load = () =>
  import("./area.ts").catch((cause) => {
    const message = "the part of samlora that segments areas could not be loaded";
    const remedy = "check the connection, and that all of the package's scripts are served; then reload the page";
    throw new SamloraError("io", message, remedy, cause);
  });

/** An area that is being segmented: an iterable of its finished blocks, which goes on as far as blocks are asked for. */
export class AreaJob implements AsyncIterable<AreaBlock> {
  readonly #run: Promise<Run>;
  #paused = false;
  #wake = () => {};

  constructor(model: LoadedModel, options: AreaOptions) {
    // A source that cannot be opened is told to whoever asks for a block, not to the page as a rejection that nobody handles.
    Promise.resolve(options?.source).catch(() => {});
    this.#run = load().then(({ Run }) => new Run(model, options, () => this.#going()));
    this.#run.catch(() => {}); // Whoever asks for a block is told.
  }

  /** Starts no further window until `resume`; those that run come to their end. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  get paused(): boolean {
    return this.#paused;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<AreaBlock, void, undefined> {
    yield* (await this.#run).blocks();
  }

  /** Area and mean confidence of every class in the blocks that were given so far. */
  async stats(): Promise<AreaClassStats[]> {
    return (await this.#run).stats();
  }

  /** Takes all blocks that were not given yet and joins them with those that were, up to 2 ** 26 pixels of the whole. */
  async result(): Promise<AreaResult> {
    return (await this.#run).result();
  }

  /** Removes what was kept under the name in `resume`. */
  async forget(): Promise<void> {
    return (await this.#run).forget();
  }

  #going(): Promise<void> | undefined {
    if (!this.#paused) return undefined;
    return new Promise((resolve) => {
      const before = this.#wake;
      this.#wake = () => {
        before();
        resolve();
      };
    });
  }
}

/** What `options` will take. */
export async function estimateArea(model: LoadedModel, options: AreaOptions): Promise<AreaEstimate> {
  Promise.resolve(options?.source).catch(() => {});
  return (await load()).estimate(model, options);
}
