// The picture of a window, from the tiles under it.

import type { Pixels } from "../image.ts";
import type { TileId } from "../types.ts";
import type { Box } from "./grid.ts";

/** The picture of a tile, or undefined where there is none. */
export interface Piece {
  /** Where the tile lies, in pixels of the world. */
  left: number;
  top: number;
  pixels: Pixels | undefined;
}

/** A part of the world with its pixels. */
export interface Patch extends Pixels {
  left: number;
  top: number;
}

/** Whether any pixel holds data. */
export function hasData({ rgba }: Pixels): boolean {
  for (let at = 3; at < rgba.length; at += 4) if (rgba[at]) return true;
  return false;
}

/** The tiles of `side` pixels that have any pixel of `box`, each with its place. */
export function tilesOf(z: number, side: number, box: Box): { tile: TileId; left: number; top: number }[] {
  const found: { tile: TileId; left: number; top: number }[] = [];
  for (let y = Math.floor(box.top / side); y * side < box.bottom; y++) {
    for (let x = Math.floor(box.left / side); x * side < box.right; x++)
      found.push({ tile: { z, x, y }, left: x * side, top: y * side });
  }
  return found;
}

/** Whether a piece has a picture with any pixel of `box`. */
export function covers({ left, top, pixels }: Piece, box: Box): boolean {
  if (!pixels) return false;
  const { width, height } = pixels;
  return left < box.right && left + width > box.left && top < box.bottom && top + height > box.top;
}

/**
 * What the pieces show of `box`, as far as there are pictures: a side of it without any stays out, and the network's own rule
 * for borders holds there. Pixels without a picture are transparent.
 */
export function compose(pieces: readonly Piece[], box: Box): Patch | undefined {
  const shown = pieces.filter((piece) => covers(piece, box));
  if (!shown.length) return undefined;
  const left = Math.max(box.left, Math.min(...shown.map((piece) => piece.left)));
  const top = Math.max(box.top, Math.min(...shown.map((piece) => piece.top)));
  const right = Math.min(box.right, Math.max(...shown.map((piece) => piece.left + piece.pixels!.width)));
  const bottom = Math.min(box.bottom, Math.max(...shown.map((piece) => piece.top + piece.pixels!.height)));
  const [width, height] = [right - left, bottom - top];
  const patch = { left, top, width, height, rgba: new Uint8ClampedArray(4 * width * height) };
  for (const piece of shown) paste(patch, piece.pixels!, piece.left - left, piece.top - top);
  return patch;
}

/** Copies what falls onto `whole` when the corner of `picture` is put at `x`, `y`. */
function paste(whole: Pixels, picture: Pixels, x: number, y: number): void {
  const [start, end] = [Math.max(0, x), Math.min(whole.width, x + picture.width)];
  for (let row = Math.max(0, y); row < Math.min(whole.height, y + picture.height); row++) {
    const line = (row - y) * picture.width - x;
    whole.rgba.set(picture.rgba.subarray(4 * (line + start), 4 * (line + end)), 4 * (row * whole.width + start));
  }
}

/** Which pixels of `box` hold data in the patch, row by row; undefined where all of its `part` within the extent do. */
export function validOf(patch: Patch, box: Box, part: Box): Uint8Array | undefined {
  const width = box.right - box.left;
  const valid = new Uint8Array(width * (box.bottom - box.top));
  let count = 0;
  for (let y = 0; y < patch.height; y++) {
    const line = (patch.top + y - box.top) * width + patch.left - box.left;
    for (let x = 0; x < patch.width; x++) {
      if (!patch.rgba[4 * (y * patch.width + x) + 3]) continue;
      valid[line + x] = 1;
      count++;
    }
  }
  return count === (part.right - part.left) * (part.bottom - part.top) ? undefined : valid;
}
