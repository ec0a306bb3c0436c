// Pixels at another resolution: area average down, bilinear up. What holds no data counts for nothing.

import type { Pixels } from "../image.ts";

/** For every sample of a line, its neighbours' first place, how many there are, and their weights, which sum to one. */
interface Taps {
  first: Int32Array;
  count: number;
  weights: Float32Array;
}

/** What each of `to` samples takes of a line of `from`. */
function tapsOf(from: number, to: number): Taps {
  const scale = from / to;
  const count = scale > 1 ? Math.ceil(scale) + 1 : 2;
  const first = new Int32Array(to);
  const weights = new Float32Array(to * count);
  for (let i = 0; i < to; i++) {
    if (scale > 1) {
      const [start, end] = [i * scale, (i + 1) * scale];
      first[i] = Math.min(Math.floor(start), from - 1);
      for (let k = 0; k < count; k++) {
        const at = first[i]! + k;
        const covered = Math.min(end, at + 1) - Math.max(start, at);
        weights[i * count + k] = at < from ? Math.max(0, covered) / scale : 0;
      }
    } else {
      const at = Math.max(0, Math.min((i + 0.5) * scale - 0.5, from - 1));
      first[i] = Math.min(Math.floor(at), from - 1);
      const share = first[i]! + 1 < from ? at - first[i]! : 0;
      weights[i * count] = 1 - share;
      weights[i * count + 1] = share;
    }
  }
  return { first, count, weights };
}

/** `pixels` on `width` x `height` pixels; one that is covered by data to less than a half holds none. */
export function resample(pixels: Pixels, width: number, height: number): Pixels {
  if (pixels.width === width && pixels.height === height) return pixels;
  // Across first: sums of colours that hold data, and how much of them does.
  const [across, down] = [tapsOf(pixels.width, width), tapsOf(pixels.height, height)];
  const lines = new Float32Array(4 * width * pixels.height);
  for (let y = 0; y < pixels.height; y++) {
    for (let x = 0; x < width; x++) {
      const out = 4 * (y * width + x);
      for (let k = 0; k < across.count; k++) {
        const weight = across.weights[x * across.count + k]!;
        const at = 4 * (y * pixels.width + across.first[x]! + k);
        if (!weight || !pixels.rgba[at + 3]) continue;
        for (let c = 0; c < 3; c++) lines[out + c]! += weight * pixels.rgba[at + c]!;
        lines[out + 3]! += weight;
      }
    }
  }
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sum = [0, 0, 0, 0];
      for (let k = 0; k < down.count; k++) {
        const weight = down.weights[y * down.count + k]!;
        if (!weight) continue;
        const at = 4 * ((down.first[y]! + k) * width + x);
        for (let c = 0; c < 4; c++) sum[c]! += weight * lines[at + c]!;
      }
      if (sum[3]! < 0.5 - 1e-6) continue;
      const out = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) rgba[out + c] = Math.round(sum[c]! / sum[3]!);
      rgba[out + 3] = 255;
    }
  }
  return { rgba, width, height };
}
