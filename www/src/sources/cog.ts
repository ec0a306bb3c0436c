// GeoTIFFs of any size by windows and overviews, by the library `geotiff`: Cloud Optimised ones over HTTP ranges.

import type * as Library from "geotiff";
import { DEGREES, MERCATOR } from "../area/system.ts";
import type { AreaLevel, AreaSource, Bounds, GroundSystem } from "../area/types.ts";
import * as check from "../check.ts";
import { isAbort, SamloraError } from "../error.ts";
import type { Pixels } from "../image.ts";
import { type Bytes, type FileInput, openBytes } from "./bytes.ts";
import { lackingPeer } from "./peer.ts";
import { ARCHIVE, type ArchiveOptions } from "./pmtiles.ts";
import { projected } from "./projection.ts";
import { tiled } from "./tiled.ts";

export interface CogOptions extends ArchiveOptions {
  /** The system of coordinates as a PROJ string, for files whose own is unknown here. Needs the library `proj4`. */
  projection?: string;
  /** The module of `proj4`, for pages without a bundler. */
  proj4?: object;
}

type Image = Awaited<ReturnType<Library.GeoTIFF["getImage"]>>;

/** One resolution of the file: its image, and the mask beside it if there is one. */
interface Page {
  image: Image;
  mask?: Image;
}

/** The most images that a file is looked through for overviews. */
const MOST_PAGES = 64;
/** Pixels of what is read at once where the file's own tiles are too small or too large, or are strips. */
const SIDE = 512;
/** Bits of NewSubfileType. */
const [REDUCED, MASK] = [1, 4];

/** Imagery in a GeoTIFF of 8 bits: a file, or an address whose server gives ranges. Needs the library `geotiff`. */
export async function cog(input: FileInput, options?: CogOptions): Promise<AreaSource> {
  const known = { ...ARCHIVE, projection: check.aText, proj4: check.anything };
  const { headers, parallel = 4, signal, library, projection, proj4 } = check.checkOptions(options, "cog", known);
  const { GeoTIFF } = (library as typeof Library | undefined) ?? (await load());
  const bytes = await openBytes(input, "a GeoTIFF", { headers, signal });
  const pages = await sound(bytes, async () =>
    pagesOf(bytes, await GeoTIFF.fromSource(access(bytes) as never, {}, signal)),
  );
  const [full] = pages as [Page];
  const nodata = full.image.getGDALNoData();
  const place = placeOfFile(bytes, full.image);
  const system = place && (await systemOf(bytes, full.image, projection, proj4));
  const levels = pages.map((page, i) => levelOf(page.image, full.image, system ? place : undefined, i));
  return tiled({
    name: bytes.name,
    key: bytes.key,
    system,
    bounds: system && boundsOf(levels[0]!, system),
    levels,
    parallel,
    nameOf: ({ name }, column, row) => `${name} ${column}/${row}`,
    tile: (level, column, row, signal) =>
      sound(bytes, () => readTile(pages[levels.indexOf(level)]!, level, column, row, nodata, signal)),
  });
}

async function load(): Promise<typeof Library> {
  try {
    return await import("geotiff");
  } catch (cause) {
    throw lackingPeer("geotiff", cause);
  }
}

/** The file as the library wants it. */
function access({ size, read }: Bytes) {
  return {
    fileSize: size,
    fetch: (slices: { offset: number; length: number }[], signal?: AbortSignal) =>
      Promise.all(slices.map(async ({ offset, length }) => (await read(offset, offset + length, signal)).buffer)),
    close: async () => {},
  };
}

async function pagesOf({ name }: Bytes, file: Library.GeoTIFF): Promise<Page[]> {
  const count = Math.min(await file.getImageCount(), MOST_PAGES);
  const images = await Promise.all(Array.from({ length: count }, (_, i) => file.getImage(i)));
  const kind = (image: Image) => Number(image.fileDirectory.getValue("NewSubfileType") ?? 0);
  const [first] = images;
  if (!first) throw new SamloraError("format", `${name} holds no image`, "give a GeoTIFF");
  const ratio = first.getWidth() / first.getHeight();
  const pages: Page[] = [{ image: first }];
  for (const image of images.slice(1)) {
    // Further images of a file may be others than the first at fewer pixels.
    const isOverview = (kind(image) & REDUCED) !== 0 && !(kind(image) & MASK);
    const pixels = Math.max(image.getWidth() / first.getWidth(), image.getHeight() / first.getHeight());
    const step = 1 / Math.min(image.getWidth(), image.getHeight());
    const isShape = Math.abs(image.getWidth() / image.getHeight() / ratio - 1) < 2 * step;
    if (isOverview && pixels < 1 && isShape && image.getSamplesPerPixel() === first.getSamplesPerPixel())
      pages.push({ image });
  }
  for (const image of images) {
    if (!(kind(image) & MASK)) continue;
    const same = ({ image: other }: Page) =>
      other.getWidth() === image.getWidth() && other.getHeight() === image.getHeight();
    const page = pages.find(same);
    if (page) page.mask = image;
  }
  for (const { image } of pages) checkSamples(name, image);
  return pages.sort((a, b) => b.image.getWidth() - a.image.getWidth());
}

function checkSamples(name: string, image: Image): void {
  for (let i = 0; i < image.getSamplesPerPixel(); i++) {
    if (image.getBitsPerSample(i) === 8 && image.getSampleFormat(i) === 1) continue;
    const message = `${name} has samples of ${image.getBitsPerSample(i)} bits${image.getSampleFormat(i) === 1 ? "" : " that are no plain whole numbers"}`;
    throw new SamloraError("unsupported", message, "scale it to 8 bits first: gdal_translate -ot Byte -scale");
  }
}

/** Origin and size of a pixel; undefined for a file without a place. */
function placeOfFile({ name }: Bytes, image: Image): Pick<AreaLevel, "origin" | "pixel"> | undefined {
  const directory = image.fileDirectory;
  const matrix = directory.getValue("ModelTransformation") as number[] | undefined;
  const scale = directory.getValue("ModelPixelScale") as number[] | undefined;
  const ties = directory.getValue("ModelTiepoint") as number[] | undefined;
  let [x, y, wide, high]: (number | undefined)[] = [];
  if (scale && ties && ties.length >= 6) {
    [wide, high] = scale;
    [x, y] = [ties[3]! - ties[0]! * wide!, ties[4]! + ties[1]! * high!];
  } else if (matrix) {
    if (matrix[1] !== 0 || matrix[4] !== 0) {
      throw new SamloraError(
        "unsupported",
        `${name} is rotated against its system of coordinates`,
        "warp it first: gdalwarp",
      );
    }
    [x, y, wide, high] = [matrix[3], matrix[7], matrix[0], -matrix[5]!];
  } else return undefined;
  if (![x, y, wide, high].every(Number.isFinite) || wide! <= 0 || high! <= 0) {
    throw new SamloraError("unsupported", `${name} does not run from north to south`, "warp it first: gdalwarp");
  }
  // Of a raster of points, the coordinates are those of the first pixel's middle.
  const half = image.getGeoKeys()?.GTRasterTypeGeoKey === 2 ? 0.5 : 0;
  return { origin: [x! - half * wide!, y! + half * high!], pixel: [wide!, high!] };
}

async function systemOf(
  { name }: Bytes,
  image: Image,
  projection: string | undefined,
  proj4: object | undefined,
): Promise<GroundSystem> {
  if (projection !== undefined) return projected(projection, projection, proj4);
  const keys = image.getGeoKeys();
  const code = Number(keys?.ProjectedCSTypeGeoKey ?? keys?.GeographicTypeGeoKey ?? 0);
  if (code === 3857 || code === 3785 || code === 900913 || code === 102100 || code === 102113) return MERCATOR;
  // WGS 84, and what differs from it by less than a pixel here.
  if (code === 4326 || code === 4258 || code === 4269) return DEGREES;
  const zone = code % 100;
  const isZone = zone >= 1 && zone <= 60;
  const family = { 326: "+datum=WGS84", 327: "+south +datum=WGS84", 258: "+ellps=GRS80", 269: "+datum=NAD83" }[
    (code - zone) / 100
  ];
  if (isZone && family) return projected(`EPSG:${code}`, `+proj=utm +zone=${zone} ${family} +units=m +no_defs`, proj4);
  const what = code && code !== 32767 ? `EPSG:${code}` : "of its own";
  const remedy = `give it as the option projection ("+proj=..."; epsg.io has them), or warp the file: gdalwarp -t_srs EPSG:3857`;
  throw new SamloraError("unsupported", `${name} has a system of coordinates that is unknown here (${what})`, remedy);
}

function levelOf(
  image: Image,
  full: Image,
  place: Pick<AreaLevel, "origin" | "pixel"> | undefined,
  i: number,
): AreaLevel {
  const [width, height] = [image.getWidth(), image.getHeight()];
  const tile = ([image.isTiled ? image.getTileWidth() : 0, image.isTiled ? image.getTileHeight() : 0] as const).map(
    (side, axis) => (side >= 128 && side <= 2048 ? side : Math.min(SIDE, axis ? height : width)),
  ) as [number, number];
  const pixel = [
    ((place?.pixel[0] ?? 1) * full.getWidth()) / width,
    ((place?.pixel[1] ?? 1) * full.getHeight()) / height,
  ] as [number, number];
  const origin = place?.origin ?? [0, 0];
  return {
    name: i === 0 ? "full size" : `overview ${i}`,
    width,
    height,
    origin,
    pixel,
    // Windows are counted from where the system's coordinates are 0, in whole pixels.
    anchor: place ? [Math.round(origin[0] / pixel[0]), Math.round(-origin[1] / pixel[1])] : [0, 0],
    tile,
  };
}

/** Longitudes and latitudes around the file, of places along its border. */
function boundsOf({ origin, pixel, width, height }: AreaLevel, system: GroundSystem): Bounds | undefined {
  const places: [number, number][] = [];
  for (let i = 0; i <= 16; i++) {
    const [x, y] = [(width * i) / 16, (height * i) / 16];
    for (const [column, row] of [
      [x, 0],
      [x, height],
      [0, y],
      [width, y],
    ] as const) {
      places.push(system.toLonLat(origin[0] + column * pixel[0], origin[1] - row * pixel[1]));
    }
  }
  const of = (axis: 0 | 1) => places.map((place) => place[axis]);
  const found = [Math.min(...of(0)), Math.min(...of(1)), Math.max(...of(0)), Math.max(...of(1))] as const;
  const isSound = found.every(Number.isFinite) && Math.abs(found[0]) <= 180 && Math.abs(found[2]) <= 180;
  return isSound && Math.max(Math.abs(found[1]), Math.abs(found[3])) <= 90 ? found : undefined;
}

async function readTile(
  { image, mask }: Page,
  { tile, width, height }: AreaLevel,
  column: number,
  row: number,
  nodata: number | null,
  signal: AbortSignal,
): Promise<Pixels> {
  const [left, top] = [column * tile[0], row * tile[1]];
  const window = [left, top, Math.min(width, left + tile[0]), Math.min(height, top + tile[1])];
  const options = { window, interleave: true as const, signal };
  const samples = image.getSamplesPerPixel();
  const photometric = Number(image.fileDirectory.getValue("PhotometricInterpretation") ?? 1);
  // Black is zero in three bands or more: colours, whatever the file calls them.
  const isRgb = photometric === 2 || (photometric === 1 && samples >= 3);
  const colours = isRgb || photometric > 5 ? 3 : photometric === 5 ? 4 : 1;
  const extra = image.fileDirectory.getValue("ExtraSamples") as number[] | undefined;
  const isAlpha = extra?.[0] === 1 || extra?.[0] === 2;
  // What has its colours as they are is read in one go with its alpha; all else is converted by the library.
  const isPlain = isRgb || photometric === 1;
  const hasAlpha = isAlpha && isPlain && samples > colours;
  const read = isPlain
    ? await image.readRasters({ ...options, samples: Array.from({ length: colours + Number(hasAlpha) }, (_, i) => i) })
    : await image.readRGB(options);
  const seen = mask && (await mask.readRasters(options));
  const [wide, high] = [window[2]! - left, window[3]! - top];
  const values = read as unknown as Uint8Array;
  const step = values.length / (wide * high);
  const raw =
    isPlain || nodata === null
      ? undefined
      : ((await image.readRasters({ ...options, samples: [0] })) as unknown as Uint8Array);
  const rgba = new Uint8ClampedArray(4 * wide * high);
  for (let i = 0; i < wide * high; i++) {
    const at = i * step;
    const isGrey = isPlain && colours === 1;
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = values[at + (isGrey ? 0 : c)]!;
    let isData = !hasAlpha || values[at + colours] !== 0;
    if (seen && !(seen as unknown as Uint8Array)[i]) isData = false;
    if (nodata !== null) {
      const isNone = raw
        ? photometric === 3 && raw[i] === nodata
        : [...Array(colours).keys()].every((c) => values[at + c] === nodata);
      if (isNone) isData = false;
    }
    rgba[4 * i + 3] = isData ? 255 : 0;
  }
  return { rgba, width: wide, height: high };
}

/** Names the file where the library fails. */
async function sound<T>({ name }: Bytes, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof SamloraError || isAbort(cause)) throw cause;
    const inner = (cause as { errors?: unknown[] } | undefined)?.errors?.[0] ?? cause;
    if (inner instanceof SamloraError || isAbort(inner)) throw inner;
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new SamloraError(
      "format",
      `${name} is damaged or no TIFF that can be read here: ${said}`,
      "check it with gdalinfo -checksum",
      cause,
    );
  }
}
