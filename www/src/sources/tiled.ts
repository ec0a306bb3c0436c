// Imagery that is read tile by tile: what all sources have in common.

import { SamloraError } from "../error.ts";
import type { AreaLevel, AreaPixels, AreaSource, Bounds, GroundSystem, MissingTile } from "../area/types.ts";
import type { Pixels } from "../image.ts";
import type { Box } from "../map/grid.ts";
import { Gate, Recent, Shared } from "../map/shared.ts";

/** What a source must say; reading by windows, keeping, retrying and counting are done here. */
export interface Tiles {
  name: string;
  key: string;
  attribution?: string | undefined;
  system?: GroundSystem | undefined;
  bounds?: Bounds | undefined;
  /** The finest first. */
  levels: readonly AreaLevel[];
  /** Whether a tile of it was read already. */
  known?: boolean;
  /** Most tiles that are read at the same time. */
  parallel: number;
  /** The pixels of a tile, fewer at the level's right and lower edges; undefined where there is none. */
  tile(level: AreaLevel, column: number, row: number, signal: AbortSignal): Promise<Pixels | undefined>;
  /** What errors and reports call it. */
  nameOf(level: AreaLevel, column: number, row: number): string;
  close?(): void;
}

/** Bytes of decoded tiles that are kept for windows beside. */
const KEPT = 32 << 20;
const OVERHEAD = 512;
/** Tiles that fail one after the other without any that is read: then the server is away, or has never had a picture. */
const MOST_FAILURES = 16;

/** The source of `tiles`. */
export function tiled(tiles: Tiles): AreaSource {
  const { name, key, attribution, system, bounds, levels, parallel } = tiles;
  const kept = new Recent<Shared<Pixels | undefined>>(KEPT);
  const gate = new Gate(parallel);
  let failures = 0;
  let known = tiles.known ?? false;

  async function tileAt(
    level: AreaLevel,
    column: number,
    row: number,
    signal: AbortSignal,
  ): Promise<Pixels | undefined> {
    const at = `${level.name}/${column}/${row}`;
    let shared = kept.get(at);
    if (!shared) {
      const read = async (signal: AbortSignal) => {
        const pixels = await gate.pass(signal, () => tiles.tile(level, column, row, signal));
        if (kept.get(at) === shared) kept.set(at, shared!, OVERHEAD + (pixels?.rgba.length ?? 0));
        return pixels;
      };
      shared = new Shared(read, (self) => kept.drop(at, self));
      kept.set(at, shared, OVERHEAD);
    }
    const pixels = await shared.join(signal);
    failures = 0;
    known ||= pixels !== undefined;
    return pixels;
  }

  async function read(level: AreaLevel, box: Box, { signal }: { signal: AbortSignal }): Promise<AreaPixels> {
    const [width, height] = [box.right - box.left, box.bottom - box.top];
    const whole: AreaPixels & { missing: MissingTile[] } = {
      width,
      height,
      rgba: new Uint8ClampedArray(4 * width * height),
      missing: [],
    };
    const [wide, high] = level.tile;
    const work: Promise<void>[] = [];
    for (let row = Math.floor(box.top / high); row * high < box.bottom; row++) {
      for (let column = Math.floor(box.left / wide); column * wide < box.right; column++) {
        const place = { left: column * wide, top: row * high };
        const paste = (pixels: Pixels | undefined) => pixels && copy(pixels, place, whole, box);
        const note = (error: unknown) => {
          signal.throwIfAborted();
          whole.missing.push({ tile: tiles.nameOf(level, column, row), message: passing(error, ++failures, known) });
        };
        work.push(tileAt(level, column, row, signal).then(paste, note));
      }
    }
    await Promise.all(work);
    return whole;
  }

  return {
    name,
    key,
    levels,
    read,
    ...(attribution && { attribution }),
    ...(system && { system }),
    ...(bounds && { bounds }),
    close() {
      kept.clear();
      tiles.close?.();
    },
  };
}

/** What is said of a tile that may be there another time; throws where no tile will be. */
function passing(error: unknown, failures: number, known: boolean): string {
  if (error instanceof SamloraError) {
    // A file may be damaged over a wide part, and is still good elsewhere.
    const isDamage = error.code === "format" || error.code === "integrity";
    if ((isDamage && known) || ((isDamage || error.code === "io") && failures < MOST_FAILURES)) return error.message;
  }
  throw SamloraError.from(error);
}

/** Copies what of `pixels`, which lie at `place`, falls into `whole`, which lies at `box`. */
function copy(pixels: Pixels, place: { left: number; top: number }, whole: AreaPixels, box: Box): void {
  const [from, to] = [Math.max(box.left, place.left), Math.min(box.right, place.left + pixels.width)];
  if (from >= to) return;
  for (let y = Math.max(box.top, place.top); y < Math.min(box.bottom, place.top + pixels.height); y++) {
    const line = (y - place.top) * pixels.width - place.left;
    const part = pixels.rgba.subarray(4 * (line + from), 4 * (line + to));
    whole.rgba.set(part, 4 * ((y - box.top) * whole.width + from - box.left));
  }
}
