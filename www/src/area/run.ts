// The job of an area: blocks one after the other, nearest to the view first, from storage or through the network.

import { NO_DATA } from "../image.ts";
import { blend, type Found } from "../map/blend.ts";
import { abortable } from "../map/shared.ts";
import type { Box } from "../map/grid.ts";
import type { LoadedModel } from "../types.ts";
import * as check from "../check.ts";
import { SamloraError } from "../error.ts";
import { AHEAD, nameOfBlock, type Plan, planOf } from "./plan.ts";
import { inside, polygonsOf, toPixels } from "./shape.ts";
import { BlockStore, forget } from "./store.ts";
import { Tally, WholeArea } from "./whole.ts";
import type { AreaBlock, AreaClassStats, AreaOptions, AreaResult, Bounds, MissingTile } from "./types.ts";
import { AreaWindows } from "./windows.ts";

/** What became of a block: it is there, it had holes and is tried again at the end, or the area has nothing of it. */
type Outcome = { block: AreaBlock } | { postponed: Box } | { empty: true };

export class Run {
  readonly #model: LoadedModel;
  readonly #options: AreaOptions;
  readonly #going: () => Promise<void> | undefined;
  #tally: Tally | undefined;
  #whole: WholeArea | undefined;
  #isWhole = false;
  #iterator: AsyncGenerator<AreaBlock, void, undefined> | undefined;

  constructor(model: LoadedModel, options: AreaOptions, going: () => Promise<void> | undefined) {
    this.#model = model;
    this.#options = options;
    this.#going = going;
  }

  /** The blocks that were not given yet. */
  async *blocks(): AsyncGenerator<AreaBlock, void, undefined> {
    this.#iterator ??= this.#start();
    try {
      for (let next = await this.#iterator.next(); !next.done; next = await this.#iterator.next()) yield next.value;
    } finally {
      // Who leaves the loop leaves the job.
      await this.#iterator.return();
    }
  }

  stats(): AreaClassStats[] {
    return this.#tally?.stats() ?? [];
  }

  async result(): Promise<AreaResult> {
    if (this.#iterator && !this.#whole) {
      const message = "blocks of this job were given already, and are not kept";
      throw new SamloraError(
        "invalid",
        message,
        "call result() before the first block is asked for, or segmentArea again",
      );
    }
    this.#isWhole = true;
    for await (const _ of this.blocks());
    return this.#whole!;
  }

  forget(): Promise<void> {
    const { resume } = this.#options;
    if (resume !== undefined) return forget(resume);
    throw new SamloraError("invalid", "this job keeps nothing", "give `resume` a name");
  }

  async *#start(): AsyncGenerator<AreaBlock, void, undefined> {
    const { signal, onProgress, resume, view } = this.#options ?? {};
    const plan = await planOf(this.#model.info, this.#options, "segmentArea");
    signal?.throwIfAborted();
    checkView(view);
    this.#tally = new Tally(this.#model.info.classes, plan);
    if (this.#isWhole) this.#whole = new WholeArea(this.#model, plan, this.#tally);
    const store =
      resume === undefined ? undefined : await BlockStore.open(resume, fingerprint(this.#model, plan, this.#options));
    const controller = new AbortController();
    const onAbort = () => controller.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    const going = () => {
      const wait = this.#going();
      return wait && abortable(wait, controller.signal);
    };
    const windows = new AreaWindows(this.#model, plan, controller.signal, going);
    const counts = { done: 0, total: plan.blocks.length, stored: 0, postponed: 0 };
    const running: Promise<Outcome>[] = [];
    let [waiting, postponed, isLast] = [[...plan.blocks], [] as Box[], false];
    try {
      for (;;) {
        while (running.length < AHEAD && waiting.length) {
          const box = takeNearest(waiting, plan, view);
          const outcome = (going() ?? Promise.resolve()).then(() => this.#block(plan, box, windows, store, isLast));
          outcome.catch(() => {}); // It is looked at in its turn.
          running.push(outcome);
        }
        const next = running.shift();
        if (!next) {
          if (isLast || !postponed.length) return;
          [waiting, postponed, isLast] = [postponed, [], true];
          continue;
        }
        const outcome = await abortable(next, controller.signal);
        if ("postponed" in outcome) postponed.push(outcome.postponed);
        else counts.done++;
        if ("block" in outcome) {
          if (outcome.block.stored) counts.stored++;
          this.#tally.add(outcome.block);
          this.#whole?.add(outcome.block);
        }
        counts.postponed = postponed.length + (isLast ? waiting.length + running.length : 0);
        const unstored = store?.failure;
        onProgress?.({ ...counts, windows: windows.count, ...(unstored !== undefined && { unstored }) });
        if ("block" in outcome) yield outcome.block;
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      controller.abort(new DOMException("the area is no longer asked for", "AbortError"));
      await Promise.allSettled(running);
      store?.close();
    }
  }

  async #block(
    plan: Plan,
    box: Box,
    windows: AreaWindows,
    store: BlockStore | undefined,
    isLast: boolean,
  ): Promise<Outcome> {
    const [width, height] = [box.right - box.left, box.bottom - box.top];
    const mask = plan.polygons && inside(plan.polygons, box);
    if (mask && !mask.includes(1)) return { empty: true };
    const about = {
      x: box.left - plan.box.left,
      y: box.top - plan.box.top,
      width,
      height,
      georeference: {
        ...plan.georeference,
        origin: [
          plan.level.origin[0] + box.left * plan.level.pixel[0],
          plan.level.origin[1] - box.top * plan.level.pixel[1],
        ] as [number, number],
      },
    };
    const kept = await store?.take(nameOfBlock(box), width * height);
    if (kept) return { block: { ...about, ...kept, missing: [], stored: true } };

    const places = plan.grid.touching(box).filter((place) => !mask || hasAny(mask, box, plan.grid.box(place)));
    const seen = await Promise.all(places.map((place) => windows.get(place)));
    const missing = new Map<string, MissingTile>();
    for (const window of seen) for (const tile of window.missing) missing.set(tile.tile, tile);
    if (missing.size && !isLast) return { postponed: box };
    const planes = blend(
      plan.grid,
      box,
      seen.map(({ found }) => found).filter((found): found is Found => Boolean(found)),
    );
    if (mask) {
      for (let at = 0; at < mask.length; at++) {
        if (mask[at]) continue;
        planes.classMask[at] = NO_DATA;
        planes.confidenceMask[at] = 0;
      }
    }
    const { thresholds } = plan;
    const { classMask, confidenceMask } = await this.#model.refine(planes, thresholds && { thresholds });
    // A block with holes is computed anew by the next run.
    if (!missing.size) await store?.put(nameOfBlock(box), { classMask, confidenceMask });
    return { block: { ...about, classMask, confidenceMask, missing: [...missing.values()], stored: false } };
  }
}

/** Whether any pixel of `mask`, which lies at `box`, is inside `part`. */
function hasAny(mask: Uint8Array, box: Box, part: Box): boolean {
  const width = box.right - box.left;
  const [from, to] = [Math.max(box.left, part.left) - box.left, Math.min(box.right, part.right) - box.left];
  for (let y = Math.max(box.top, part.top) - box.top; y < Math.min(box.bottom, part.bottom) - box.top; y++)
    for (let x = from; x < to; x++) if (mask[y * width + x]) return true;
  return false;
}

const VIEW = "[west, south, east, north] in degrees, or a function that gives that";

function checkView(view: AreaOptions["view"]): void {
  if (view === undefined || typeof view === "function") return;
  if (Array.isArray(view) && view.length === 4 && view.every(Number.isFinite)) return;
  throw new SamloraError("invalid", `the option view of segmentArea is ${check.describe(view)}`, `give ${VIEW}`);
}

/** Takes the block that is nearest to the view's middle out of `waiting`; the first one without a view. */
function takeNearest(waiting: Box[], { level, source }: Plan, view: AreaOptions["view"]): Box {
  const bounds: Bounds | undefined = typeof view === "function" ? view() : view;
  const { system } = source;
  if (!bounds || !system) return waiting.shift()!;
  const [west, south, east, north] = bounds;
  const [middle] = toPixels(polygonsOf([west, south, east, north]), level, system);
  const { left, top, right, bottom } = middle!.box;
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  let [best, least] = [0, Infinity];
  for (const [i, block] of waiting.entries()) {
    const distance = Math.hypot((block.left + block.right) / 2 - x, (block.top + block.bottom) / 2 - y);
    if (distance < least) [best, least] = [i, distance];
  }
  return waiting.splice(best, 1)[0]!;
}

/** What two jobs must have in common to share blocks. */
function fingerprint({ info }: LoadedModel, plan: Plan, { area, halo }: AreaOptions): string {
  const { hash, name, precision } = info;
  const { columns, rows } = plan.grid;
  const axis = ({ size, step, anchor, length }: typeof columns) => [size, step, anchor, length];
  return JSON.stringify({
    version: 1,
    model: [name, hash, precision],
    source: plan.source.key,
    level: [plan.level.name, plan.level.origin, plan.level.pixel],
    resolution: [axis(columns), axis(rows), plan.scale],
    area: [plan.box, area ?? null],
    thresholds: plan.thresholds ?? null,
    halo: halo ?? null,
  });
}
