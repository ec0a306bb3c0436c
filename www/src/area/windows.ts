// The network over the windows of an area: each is read, resampled and computed once, and kept for the blocks beside.

import type { Pixels } from "../image.ts";
import type { Found } from "../map/blend.ts";
import type { Box, Place } from "../map/grid.ts";
import { Gate, Recent } from "../map/shared.ts";
import type { LoadedModel } from "../types.ts";
import { type Plan, WINDOW_BYTES } from "./plan.ts";
import { resample } from "./resample.ts";
import type { MissingTile } from "./types.ts";

/** What is known of a window. */
export interface Seen {
  /** Absent where there is nothing to see. */
  found?: Found;
  missing: readonly MissingTile[];
}

const OVERHEAD = 512;

export class AreaWindows {
  /** How many the network has seen. */
  count = 0;
  readonly #model: LoadedModel;
  readonly #plan: Plan;
  readonly #signal: AbortSignal;
  readonly #going: () => Promise<void> | undefined;
  readonly #gate: Gate;
  readonly #kept = new Recent<Seen>(WINDOW_BYTES);
  readonly #running = new Map<string, Promise<Seen>>();

  constructor(model: LoadedModel, plan: Plan, signal: AbortSignal, going: () => Promise<void> | undefined) {
    this.#model = model;
    this.#plan = plan;
    this.#signal = signal;
    this.#going = going;
    const { workers, device } = model.info;
    // A GPU must not wait for this thread between two windows.
    this.#gate = new Gate(Math.max(1, workers ?? 1) + (device === "gpu" ? 1 : 0));
  }

  get(place: Place): Promise<Seen> {
    const key = `${place.column}/${place.row}`;
    const kept = this.#kept.get(key);
    if (kept) return Promise.resolve(kept);
    let running = this.#running.get(key);
    if (!running) {
      running = this.#compute(place)
        .then((seen) => {
          // One with holes is read anew when its block is tried again.
          if (!seen.missing.length) this.#kept.set(key, seen, bytesOf(seen));
          return seen;
        })
        .finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    return running;
  }

  async #compute(place: Place): Promise<Seen> {
    const { grid, source, level, scale } = this.#plan;
    await this.#going();
    this.#signal.throwIfAborted();
    const window = grid.box(place);
    const part = grid.clip(window);
    const read = await source.read(level, part, { signal: this.#signal });
    const { missing } = read;
    const data = dataOf(read, part, grid.cell(place));
    // A window whose middle shows nothing has but a rim that its neighbours know better.
    if (!data) return { missing };
    const { inputSize } = this.#model.info;
    const patch = crop(read, part, data);
    const fit = (pixels: number, factor: number) => Math.max(1, Math.min(inputSize, Math.round(pixels / factor)));
    const picture = resample(patch, fit(patch.width, scale[0]), fit(patch.height, scale[1]));
    const image = new ImageData(picture.rgba as Uint8ClampedArray<ArrayBuffer>, picture.width, picture.height);
    const logits = await this.#gate.pass(this.#signal, async () => {
      await this.#going();
      return this.#model.logits(image, { signal: this.#signal });
    });
    // The network sees a smaller picture in the middle of its input.
    const [wide, high] = [patch.width / picture.width, patch.height / picture.height];
    const valid = validOf(patch, data, window, part);
    const found: Found = {
      id: ++this.count,
      place,
      logits,
      left: data.left - Math.floor((inputSize - picture.width) / 2) * wide,
      top: data.top - Math.floor((inputSize - picture.height) / 2) * high,
      width: inputSize * wide,
      height: inputSize * high,
      ...(valid && { valid }),
      time: 0,
    };
    return { found, missing };
  }
}

const bytesOf = ({ found }: Seen) =>
  OVERHEAD + (found?.logits.values.byteLength ?? 0) + (found?.valid?.byteLength ?? 0);

/** The box around the pixels of `part` that hold data; undefined where none of `cell` does. */
function dataOf({ rgba, width, height }: Pixels, part: Box, cell: Box): Box | undefined {
  let [left, top, right, bottom] = [width, height, 0, 0];
  let known = false;
  const [west, east] = [cell.left - part.left, cell.right - part.left];
  for (let y = 0; y < height; y++) {
    const line = 4 * y * width + 3;
    const isCell = y >= cell.top - part.top && y < cell.bottom - part.top;
    for (let x = 0; x < width; x++) {
      if (!rgba[line + 4 * x]) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
      if (isCell && x >= west && x < east) known = true;
    }
  }
  if (!known) return undefined;
  return { left: part.left + left, top: part.top + top, right: part.left + right, bottom: part.top + bottom };
}

/** The pixels of `box`, a part of `part`. */
function crop(pixels: Pixels, part: Box, box: Box): Pixels {
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  if (width === pixels.width && height === pixels.height) return pixels;
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    const at = 4 * ((box.top - part.top + y) * pixels.width + box.left - part.left);
    rgba.set(pixels.rgba.subarray(at, at + 4 * width), 4 * y * width);
  }
  return { rgba, width, height };
}

/** Which pixels of `window` hold data, row by row; undefined where all of its `part` within the level do. */
function validOf({ rgba, width, height }: Pixels, data: Box, window: Box, part: Box): Uint8Array | undefined {
  const side = window.right - window.left;
  const valid = new Uint8Array(side * (window.bottom - window.top));
  let count = 0;
  for (let y = 0; y < height; y++) {
    const line = (data.top + y - window.top) * side + data.left - window.left;
    for (let x = 0; x < width; x++) {
      if (!rgba[4 * (y * width + x) + 3]) continue;
      valid[line + x] = 1;
      count++;
    }
  }
  return count === (part.right - part.left) * (part.bottom - part.top) ? undefined : valid;
}
