// The levels of tiles that halve their pixels from zoom to zoom.

import { DEGREES, HALF_WORLD, MERCATOR } from "../area/system.ts";
import type { AreaLevel } from "../area/types.ts";
import { SamloraError } from "../error.ts";
import { type Pixels, readPixels } from "../image.ts";

/** A level with the zoom that it is. */
export interface ZoomLevel extends AreaLevel {
  readonly zoom: number;
}

/** Zooms of Web Mercator, one tile of `side` pixels at zoom 0; the finest first. */
export function mercatorLevels(minzoom: number, maxzoom: number, side: number): ZoomLevel[] {
  return levels(minzoom, maxzoom, (zoom) => {
    const pixels = side * 2 ** zoom;
    const pixel = (2 * HALF_WORLD) / pixels;
    return {
      width: pixels,
      height: pixels,
      origin: [-HALF_WORLD, HALF_WORLD],
      pixel: [pixel, pixel],
      tile: [side, side],
    };
  });
}

/** Zooms of degrees, two tiles beside each other at zoom 0. */
export function degreeLevels(minzoom: number, maxzoom: number, side: number): ZoomLevel[] {
  return levels(minzoom, maxzoom, (zoom) => {
    const pixels = side * 2 ** zoom;
    const pixel = 180 / pixels;
    return { width: 2 * pixels, height: pixels, origin: [-180, 90], pixel: [pixel, pixel], tile: [side, side] };
  });
}

function levels(
  minzoom: number,
  maxzoom: number,
  level: (zoom: number) => Omit<AreaLevel, "name" | "anchor">,
): ZoomLevel[] {
  if (
    !(Number.isInteger(minzoom) && Number.isInteger(maxzoom) && minzoom >= 0 && minzoom <= maxzoom && maxzoom <= 30)
  ) {
    const message = `there are no zooms from ${minzoom} to ${maxzoom}`;
    throw new SamloraError("invalid", message, "give whole numbers, 0 <= minzoom <= maxzoom <= 30");
  }
  const zooms = Array.from({ length: maxzoom - minzoom + 1 }, (_, i) => maxzoom - i);
  // A tile grid is the ground's own grid: windows are counted from its corner.
  return zooms.map((zoom) => ({ ...level(zoom), name: `zoom ${zoom}`, anchor: [0, 0], zoom }));
}

export { DEGREES, MERCATOR };

/** What to do with an archive whose tiles are not all of one size. */
export const ARCHIVED = "make the archive anew, with tiles of one size";

/** Decodes a tile's picture, which must have the side that the source said; an archive has no option for another one. */
export async function decode(
  picture: Blob,
  name: string,
  side: number | undefined,
  archived?: typeof ARCHIVED,
): Promise<Pixels> {
  const start = new Uint8Array(await picture.slice(0, 300).arrayBuffer());
  // Services say what is wrong as a page or as XML, with a status of success.
  if (/^(\ufeff|\s)*[<{]/.test(new TextDecoder().decode(start.subarray(0, 16)))) {
    const text = new TextDecoder()
      .decode(start)
      .replace(/<[^>]*>|\s+/g, " ")
      .trim();
    const message = `${name}: the server answered with a text instead of a picture: ${text.slice(0, 160)}`;
    throw new SamloraError("format", message, "check layer, format and zooms of the service");
  }
  let pixels: Pixels;
  try {
    pixels = await readPixels(picture);
  } catch (error) {
    if (!(error instanceof SamloraError) || error.code !== "format") throw error;
    const remedy = "the tiles must be PNG, JPEG, WebP or AVIF pictures; vector tiles have no pixels";
    throw new SamloraError("format", `${name} is not a picture that this browser can read`, remedy, error);
  }
  if (side !== undefined && (pixels.width !== side || pixels.height !== side)) {
    const message = `${name} has ${pixels.width} x ${pixels.height} pixels where ${side} x ${side} were announced`;
    const remedy =
      pixels.width === pixels.height ? `give the source's option size: ${pixels.width}` : "tiles must be square";
    throw new SamloraError(archived ? "format" : "invalid", message, archived ?? remedy);
  }
  return pixels;
}
