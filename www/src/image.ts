// Anything with pixels to RGBA8, the form that crosses into wasm.

import { SamloraError } from "./error.ts";
import type { ImageInput } from "./types.ts";

/** RGBA8 pixels, row-major. */
export interface Pixels {
  rgba: Uint8ClampedArray;
  width: number;
  height: number;
}

/** Reads the pixels of `image` at its natural size. */
export async function readPixels(image: ImageInput): Promise<Pixels> {
  if (image instanceof ImageData) {
    return { rgba: new Uint8ClampedArray(image.data), width: image.width, height: image.height };
  }
  if (!(image instanceof Blob)) return draw(image, ...sizeOf(image));
  if (image.size === 0)
    throw new SamloraError("format", `${nameOf(image)} is empty`, "give a PNG, JPEG or WebP picture");
  let bitmap: ImageBitmap;
  try {
    // The network wants the file's own samples, not the screen's colours.
    bitmap = await createImageBitmap(image, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch (cause) {
    throw new SamloraError(
      "format",
      `${nameOf(image)} is not a picture that this browser can read`,
      "give a PNG, JPEG or WebP picture; the command line also reads TIFF and GeoTIFF",
      cause,
    );
  }
  try {
    return draw(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

function nameOf(blob: Blob): string {
  return blob instanceof File ? blob.name : `the data of type ${blob.type || "unknown"}`;
}

function sizeOf(image: Exclude<ImageInput, Blob | ImageData>): [number, number] {
  if ("naturalWidth" in image) return [image.naturalWidth, image.naturalHeight];
  if ("displayWidth" in image) return [image.displayWidth, image.displayHeight];
  return [image.width, image.height];
}

function draw(image: CanvasImageSource, width: number, height: number): Pixels {
  if (!width || !height) {
    throw new SamloraError("invalid", "the picture has no pixels", "wait until it has loaded before segmenting it");
  }
  try {
    const context = canvasContext(width, height);
    context.drawImage(image, 0, 0, width, height);
    return { rgba: context.getImageData(0, 0, width, height).data, width, height };
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "SecurityError") {
      throw new SamloraError(
        "io",
        "the picture comes from another site that does not allow its pixels to be read",
        'load it with crossOrigin = "anonymous" from a server that sends CORS headers, or pass its bytes as a Blob',
        cause,
      );
    }
    throw new SamloraError(
      "limit",
      `a picture of ${width} x ${height} pixels is more than this browser can hold on a canvas`,
      "cut it into parts, or use the command line",
      cause,
    );
  }
}

function canvasContext(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const settings = { willReadFrequently: true };
  const context = new OffscreenCanvas(width, height).getContext("2d", settings);
  if (!context) throw new DOMException(`no canvas of ${width} x ${height} pixels`, "InvalidStateError");
  return context;
}
