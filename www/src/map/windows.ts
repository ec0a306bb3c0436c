// The network over windows of a source's imagery: each is computed once, whichever tiles ask for it, and kept a while.

import { disposed } from "../error.ts";
import { fromBitmap, type Pixels } from "../image.ts";
import type { LoadedModel, SegmenterInfo, TileId } from "../types.ts";
import type { Found } from "./blend.ts";
import { compose, covers, hasData, type Piece, tilesOf, validOf } from "./compose.ts";
import { type Box, Grid, type Place } from "./grid.ts";
import { nameOf, type TileSource, toTile } from "./imagery.ts";
import { Gate, Recent, Shared } from "./shared.ts";

/** Bytes of decoded tiles that are kept: of 256 px a wide view with its neighbours. */
const PICTURE_BYTES = 32 << 20;
/** Bytes of logits that are kept: a hundred views of two classes at an input of 256 px, ten of six at 448 px. */
export const WINDOW_BYTES = 64 << 20;
/** Bytes of an entry beside its numbers, about: those without any are not kept without end either. */
const OVERHEAD = 512;

/** Pictures of a source's tiles, each fetched and decoded once for all windows that need it. */
export class Pictures {
  readonly source: TileSource;
  #kept = new Recent<Shared<Pixels | undefined>>(PICTURE_BYTES);

  constructor(source: TileSource) {
    this.source = source;
  }

  /** The pixels of a tile's picture; undefined where there is none, or none of it holds data. */
  async read(tile: TileId, signal: AbortSignal): Promise<Pixels | undefined> {
    if (!this.source.has(tile)) return undefined;
    const key = nameOf(tile);
    let shared = this.#kept.get(key);
    if (!shared) {
      const read = async (signal: AbortSignal) => {
        const bitmap = await this.source.read(tile, signal);
        const pixels = bitmap && (await fromBitmap(bitmap));
        if (this.#kept.get(key) === shared) this.#kept.set(key, shared!, OVERHEAD + (pixels?.rgba.length ?? 0));
        return pixels && hasData(pixels) ? pixels : undefined;
      };
      shared = new Shared(read, (self) => this.#kept.drop(key, self));
      this.#kept.set(key, shared, OVERHEAD);
    }
    return shared.join(signal);
  }
}

/** The windows of one model. */
export class Windows {
  /** How many were computed. */
  count = 0;
  readonly #model: LoadedModel;
  readonly #pictures: Pictures;
  readonly #tile: number;
  readonly #gate: Gate;
  /** When the last window was done. */
  #end = 0;
  readonly #grids = new Map<string, Grid>();
  readonly #found: Recent<Found | null>; // null: none of its cell is there.
  readonly #shared = new Map<string, Shared<Found | null>>();

  /** `halo` is the least context of a pixel, half of what neighbours overlap by; the package's own unless given. */
  constructor(model: LoadedModel, pictures: Pictures, bytes: number, halo: number | undefined) {
    this.#model = model;
    this.#pictures = pictures;
    const { inputSize, tileSize, workers, device } = model.info;
    // A GPU must not wait for this thread between two windows.
    this.#gate = new Gate(Math.max(1, workers ?? 1) + (device === "gpu" ? 1 : 0));
    this.#tile = halo === undefined ? tileSize : inputSize - 2 * Math.min(halo, Math.floor(inputSize / 4));
    this.#found = new Recent(bytes);
  }

  get info(): SegmenterInfo {
    return this.#model.info;
  }

  /** The grid over the source's bounds, for pictures of `side` pixels. */
  grid(z: number, side: number): Grid {
    const key = `${z}/${side}`;
    let grid = this.#grids.get(key);
    if (!grid) {
      const [west, south, east, north] = this.#pictures.source.bounds;
      const pixel = (place: number) => Math.round(Math.max(0, Math.min(place, 2 ** z)) * side);
      const [left, top] = toTile([west, north], z).map(pixel) as [number, number];
      const [right, bottom] = toTile([east, south], z).map(pixel) as [number, number];
      grid = new Grid(z, side, { left, top, right, bottom }, this.info.inputSize, this.#tile);
      this.#grids.set(key, grid);
    }
    return grid;
  }

  /** A window if it was computed already; null where there is nothing to compute. */
  peek(grid: Grid, place: Place): Found | null | undefined {
    return this.#found.get(keyOf(grid, place));
  }

  /** A window, computed unless it was. Calls for one share its work, which ends when the signals of all of them have fired. */
  async get(grid: Grid, place: Place, signal: AbortSignal): Promise<Found | null> {
    const key = keyOf(grid, place);
    const kept = this.#found.get(key);
    if (kept !== undefined) return kept;
    let shared = this.#shared.get(key);
    if (!shared) {
      const forget = (self: Shared<Found | null>) => this.#shared.get(key) === self && this.#shared.delete(key);
      shared = new Shared((signal) => this.#compute(grid, place, key, signal), forget);
      this.#shared.set(key, shared);
    }
    return shared.join(signal);
  }

  /** Ends all work. */
  close(): void {
    for (const shared of [...this.#shared.values()]) shared.abort(disposed());
  }

  async #compute(grid: Grid, place: Place, key: string, signal: AbortSignal): Promise<Found | null> {
    const window = grid.box(place);
    const part = grid.clip(window);
    let isWhole = true;
    const pieces = await Promise.all(
      tilesOf(grid.z, grid.side, part).map(async ({ tile, left, top }): Promise<Piece> => {
        // A neighbour that fails is one that is not there, and not for ever.
        const pixels = await this.#pictures.read(tile, signal).catch(() => {
          signal.throwIfAborted();
          isWhole = false;
          return undefined;
        });
        const fits = pixels?.width === grid.side && pixels.height === grid.side;
        return { left, top, pixels: fits ? pixels : undefined };
      }),
    );
    const found = await this.#run(grid, place, pieces, part, signal);
    this.#shared.delete(key);
    if (isWhole) this.#found.set(key, found, bytesOf(found));
    return found;
  }

  async #run(grid: Grid, place: Place, pieces: Piece[], part: Box, signal: AbortSignal): Promise<Found | null> {
    // All that it has may be a rim whose pixels its neighbours know better.
    const cell = grid.cell(place);
    const patch = pieces.some((piece) => covers(piece, cell)) ? compose(pieces, part) : undefined;
    if (!patch) return null;
    const valid = validOf(patch, grid.box(place), part);
    const image = new ImageData(patch.rgba as Uint8ClampedArray<ArrayBuffer>, patch.width, patch.height);
    let start = 0;
    const logits = await this.#gate.pass(signal, () => {
      start = performance.now();
      return this.#model.logits(image, { signal });
    });
    const end = performance.now();
    // Of a GPU's two windows one waits for the other.
    const time = end - (this.info.device === "gpu" ? Math.max(start, this.#end) : start);
    this.#end = end;
    const id = ++this.count;
    const { inputSize } = this.info;
    return {
      id,
      place,
      logits,
      // The network sees a smaller picture in the middle of its input.
      left: patch.left - Math.floor((inputSize - patch.width) / 2),
      top: patch.top - Math.floor((inputSize - patch.height) / 2),
      ...(valid && { valid }),
      time,
    };
  }
}

const keyOf = ({ z, side }: Grid, { column, row }: Place) => `${z}/${side}/${column}/${row}`;

const bytesOf = (found: Found | null) =>
  OVERHEAD + (found?.logits.values.byteLength ?? 0) + (found?.valid?.length ?? 0);
