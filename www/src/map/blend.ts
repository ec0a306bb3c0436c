// From windows' logits to classes, as the native program does it (`logits.rs`, `mosaic.rs`).

import { NO_DATA } from "../image.ts";
import type { Logits, MaskPlanes } from "../types.ts";
import type { Box, Place, WindowGrid } from "./grid.ts";

/** What the network found in one window. */
export interface Found {
  /** No other has it, not even one of the same place. */
  id: number;
  place: Place;
  logits: Logits;
  /** Column and row of the world at which the logits begin, and how many they cover; a window's side unless given. */
  left: number;
  top: number;
  width?: number;
  height?: number;
  /** The window's pixels that hold data, row by row; absent where all do. */
  valid?: Uint8Array;
  /** Milliseconds. */
  time: number;
}

/** For `count` pixels from `start` on a line of `to`, onto which `from` samples are laid: the two neighbours and the weight of the second. */
function taps(from: number, to: number, start: number, count: number) {
  const [low, high, share] = [new Uint16Array(count), new Uint16Array(count), new Float32Array(count)];
  for (let i = 0; i < count; i++) {
    const offset = Math.max(0, Math.min(start + i, to - 1));
    const at = Math.max(0, ((offset + 0.5) * from) / to - 0.5);
    low[i] = Math.min(Math.floor(at), from - 1);
    high[i] = Math.min(low[i]! + 1, from - 1);
    share[i] = at - low[i]!;
  }
  return { low, high, share };
}

/** Class and confidence of the pixels of `box`; no data where no window has a pixel, or it holds none. */
export function blend(grid: WindowGrid, box: Box, windows: readonly Found[]): MaskPlanes {
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  const classes = windows[0]?.logits.classes ?? 0;
  const pixels = width * height;
  const sums = new Float32Array(classes * pixels);
  const weights = new Float32Array(pixels);
  const valid = new Uint8Array(pixels);
  for (const window of windows) add(window, grid, box, sums, weights, valid);

  const classMask = new Uint8Array(pixels).fill(NO_DATA);
  const confidenceMask = new Uint8Array(pixels);
  for (let at = 0; at < pixels; at++) {
    if (!valid[at]) continue;
    let best = 0;
    for (let k = 1; k < classes; k++) if (sums[k * pixels + at]! > sums[best * pixels + at]!) best = k;
    let total = 0;
    for (let k = 0; k < classes; k++)
      total += Math.exp((sums[k * pixels + at]! - sums[best * pixels + at]!) / weights[at]!);
    classMask[at] = best;
    confidenceMask[at] = Math.round(255 / total);
  }
  return { width, height, classMask, confidenceMask };
}

/** Adds a window's logits, resampled to pixels and fading to its edges. */
function add(found: Found, grid: WindowGrid, box: Box, sums: Float32Array, weights: Float32Array, isValid: Uint8Array) {
  const { place, logits, left, top, valid } = found;
  const window = grid.box(place);
  const inside = grid.clip(window);
  const [west, east] = [Math.max(inside.left, box.left), Math.min(inside.right, box.right)];
  const [north, south] = [Math.max(inside.top, box.top), Math.min(inside.bottom, box.bottom)];
  if (west >= east || north >= south) return;
  const side = grid.columns.size;
  const [width, pixels] = [box.right - box.left, weights.length];
  const across = taps(logits.width, found.width ?? side, west - left, east - west);
  const down = taps(logits.height, found.height ?? grid.rows.size, north - top, south - north);
  const weightsAcross = Float32Array.from({ length: side }, (_, i) => grid.columns.weight(i));
  for (let y = north; y < south; y++) {
    const share = down.share[y - north]!;
    const weightDown = grid.rows.weight(y - window.top);
    const line = (y - box.top) * width - box.left;
    const validLine = (y - window.top) * side - window.left;
    for (let x = west; x < east; x++) {
      if (valid && !valid[validLine + x]) continue;
      isValid[line + x] = 1;
      weights[line + x]! += weightDown * weightsAcross[x - window.left]!;
    }
    for (let k = 0; k < logits.classes; k++) {
      const above = (k * logits.height + down.low[y - north]!) * logits.width;
      const below = (k * logits.height + down.high[y - north]!) * logits.width;
      for (let x = west; x < east; x++) {
        if (valid && !valid[validLine + x]) continue;
        const [low, high, part] = [across.low[x - west]!, across.high[x - west]!, across.share[x - west]!];
        const upper = logits.values[above + low]! * (1 - part) + logits.values[above + high]! * part;
        const lower = logits.values[below + low]! * (1 - part) + logits.values[below + high]! * part;
        const weight = weightDown * weightsAcross[x - window.left]!;
        sums[k * pixels + line + x]! += weight * (upper + (lower - upper) * share);
      }
    }
  }
}
