// A picture on the map: it lies at a made-up place, as large as a picture of the model's resolution would be there, and is
// cut into tiles.

import type { TileId } from "samlora";
import { groundResolution, tileBounds, TileSource, type ReadTile } from "samlora/maplibre";
import type { Imagery } from "./imagery.ts";

const TILE = 256;
/** Metres per pixel of a picture for a model that does not say what it was trained for. */
const RESOLUTION = 0.3;
/** How many zooms the picture may also be looked at from further away. */
const ZOOMS_OUT = 4;

/** Places `picture` where the equator crosses the zero meridian; `resolution` is in metres per pixel. */
export function placePicture(name: string, picture: ImageBitmap, resolution: number = RESOLUTION): Imagery {
  const maxzoom = Math.max(ZOOMS_OUT, Math.min(Math.round(Math.log2(groundResolution(0, 0, TILE) / resolution)), 22));
  const origin = 2 ** (maxzoom - 1); // Column and row of the tile at the picture's upper left corner.
  const { width, height } = picture;
  // The upper left corner of the tile, if there were one, that begins at a pixel of the picture.
  const place = (x: number, y: number) => tileBounds({ z: maxzoom, x: origin + x / TILE, y: origin + y / TILE });
  const [[west, , , north], [east, , , south]] = [place(0, 0), place(width, height)];
  const bounds: [number, number, number, number] = [west, south, east, north];

  /** The part of the picture in a tile; beyond its borders mirrored, so that the network sees no edge, or nothing. */
  const read =
    (mirrored: boolean): ReadTile =>
    async ({ z, x, y }: TileId) => {
      const scale = 2 ** (z - maxzoom); // Pixels of the tile per pixel of the picture.
      const left = origin * TILE * scale - x * TILE;
      const top = origin * TILE * scale - y * TILE;
      if (left >= TILE || top >= TILE || left + width * scale <= 0 || top + height * scale <= 0) return null;
      const canvas = new OffscreenCanvas(TILE, TILE);
      const context = canvas.getContext("2d")!;
      context.imageSmoothingQuality = "high";
      for (const row of mirrored ? [-1, 0, 1] : [0]) {
        for (const column of mirrored ? [-1, 0, 1] : [0]) {
          context.setTransform(column ? -scale : scale, 0, 0, row ? -scale : scale, left, top);
          // A mirrored copy lies on the other side of the border that it is mirrored at.
          context.drawImage(picture, column > 0 ? -2 * width : 0, row > 0 ? -2 * height : 0);
        }
      }
      return canvas;
    };
  const minzoom = maxzoom - ZOOMS_OUT;
  return { name, source: new TileSource({ tiles: read(true), minzoom, maxzoom, bounds }), show: read(false), bounds };
}
