// Anything with pixels to RGBA8, the form that crosses into wasm.

import { describe, kindOf } from "./check.ts";
import { SamloraError } from "./error.ts";
import { outdated, RAW, readBitmap, readCanvas } from "./readback.ts";
import type { ImageInput } from "./types.ts";

/** The class of pixels that hold no data (`mask::NO_DATA` of the Rust crate). */
export const NO_DATA = 255;

/** RGBA8 pixels, row-major; those of alpha 0 hold no data. */
export interface Pixels {
  rgba: Uint8ClampedArray;
  width: number;
  height: number;
}

/** The most pixels of a picture (`MAX_PIXELS` of the Rust crate). */
const MAX_PIXELS = 2 ** 28;

/** How a PNG begins; its width and height are at bytes 16 and 20. */
const PNG = 0x89504e47;
const CUT = "cut the picture into parts, or use the command line";

function checkSize(width: number, height: number): void {
  if (width * height <= MAX_PIXELS) return;
  throw new SamloraError("limit", `${width} x ${height} pixels exceed the limit of ${MAX_PIXELS}`, CUT);
}

/** Reads the pixels of `image` at its natural size. */
export async function readPixels(image: ImageInput): Promise<Pixels> {
  switch (kindOf(image)) {
    case "ImageData":
      return fromImageData(image as ImageData);
    case "Blob":
    case "File":
      return fromBlob(image as Blob);
    case "HTMLImageElement":
      return fromElement(image as HTMLImageElement);
    case "ImageBitmap":
    case "HTMLCanvasElement":
    case "OffscreenCanvas":
    case "VideoFrame":
      return draw(image as Drawable);
  }
  throw new SamloraError("invalid", `${describe(image)} is no picture`, HINTS[kindOf(image)] ?? PICTURES);
}

const PICTURES = "give an ImageBitmap, ImageData, canvas, OffscreenCanvas, <img>, VideoFrame or Blob";

/** What to do with what people give in a picture's place. */
const HINTS: Record<string, string> = {
  String: "fetch the picture first: segment(await (await fetch(address)).blob())",
  Response: "give its body: segment(await response.blob())",
  Promise: "wait for it: segment(await promise)",
  ArrayBuffer: "give the file's bytes as new Blob([bytes]), or pixels as an ImageData",
  Uint8Array: "give the file's bytes as new Blob([bytes]), or pixels as an ImageData",
  Uint8ClampedArray: "give pixels as new ImageData(pixels, width)",
  HTMLVideoElement: "give one of its frames: new VideoFrame(video)",
  SVGImageElement: "draw it onto a canvas and give that",
};

type Drawable = Exclude<ImageInput, Blob | ImageData>;

function fromImageData({ data, width, height, pixelFormat }: ImageData & { pixelFormat?: string }): Pixels {
  if (pixelFormat !== undefined && pixelFormat !== "rgba-unorm8") {
    throw new SamloraError(
      "invalid",
      `an ImageData of format ${pixelFormat}`,
      'give one of format "rgba-unorm8", the default',
    );
  }
  return { rgba: new Uint8ClampedArray(data), width, height };
}

async function fromBlob(blob: Blob): Promise<Pixels> {
  if (blob.size === 0) throw new SamloraError("format", `${nameOf(blob)} is empty`, "give a PNG, JPEG or WebP picture");
  if (typeof createImageBitmap === "undefined") throw outdated("createImageBitmap");
  // A PNG says first how large it is: a huge one would take long to decode in vain.
  const head = new DataView(await blob.slice(0, 24).arrayBuffer());
  if (head.byteLength === 24 && head.getUint32(0) === PNG) checkSize(head.getUint32(16), head.getUint32(20));
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(blob, RAW);
  } catch (cause) {
    throw new SamloraError(
      "format",
      `${nameOf(blob)} is not a picture that this browser can read`,
      "give a PNG, JPEG or WebP picture; the command line also reads TIFF and GeoTIFF",
      cause,
    );
  }
  return fromBitmap(bitmap);
}

/** Decodes anew, so that the picture's colour profile changes nothing, as of a `Blob`. */
async function fromElement(image: HTMLImageElement): Promise<Pixels> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(image, RAW);
  } catch {
    return draw(image); // A vector picture has no samples of its own; and one that is not there is refused.
  }
  return fromBitmap(bitmap);
}

/** The pixels of a bitmap of our own, which is closed. */
export async function fromBitmap(bitmap: ImageBitmap): Promise<Pixels> {
  const { width, height } = bitmap;
  try {
    return await reading(width, height, () => readBitmap(bitmap));
  } finally {
    bitmap.close();
  }
}

function draw(image: Drawable): Promise<Pixels> {
  const [width, height] = sizeOf(image);
  if (!width || !height) {
    throw new SamloraError("invalid", "the picture has no pixels", "wait until it has loaded before segmenting it");
  }
  return reading(width, height, () => readCanvas(image, width, height));
}

function sizeOf(image: Drawable): [number, number] {
  if ("naturalWidth" in image) return [image.naturalWidth, image.naturalHeight];
  if ("displayWidth" in image) return [image.displayWidth, image.displayHeight];
  return [image.width, image.height];
}

function nameOf(blob: Blob): string {
  return "name" in blob ? String(blob.name) : `the data of type ${blob.type || "unknown"}`;
}

async function reading(
  width: number,
  height: number,
  read: () => Uint8ClampedArray | Promise<Uint8ClampedArray>,
): Promise<Pixels> {
  checkSize(width, height);
  try {
    return { rgba: await read(), width, height };
  } catch (cause) {
    if (cause instanceof SamloraError) throw cause;
    if (cause instanceof DOMException && cause.name === "SecurityError") {
      throw new SamloraError(
        "io",
        "the picture comes from another site that does not allow its pixels to be read",
        'load it with crossOrigin = "anonymous" from a server that sends CORS headers, or pass its bytes as a Blob',
        cause,
      );
    }
    const message = `a picture of ${width} x ${height} pixels is more than this browser can hold on a canvas`;
    throw new SamloraError("limit", message, CUT, cause);
  }
}
