// Pixels out of a canvas: whether the browser gives them back as they are, and those of pictures that are transparent in part.

import { SamloraError } from "./error.ts";

/** How pictures are decoded: the network wants the file's own samples, not the screen's colours. */
export const RAW: ImageBitmapOptions = { premultiplyAlpha: "none", colorSpaceConversion: "none" };

/** RGBA8 of `source`, drawn at its size. */
export function readCanvas(source: CanvasImageSource, width: number, height: number): Uint8ClampedArray {
  checkReadBack();
  const context = contextOf(width, height);
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** RGBA8 of a picture that was decoded as `RAW`, colours not multiplied with alpha. */
export async function readBitmap(bitmap: ImageBitmap): Promise<Uint8ClampedArray> {
  const drawn = readCanvas(bitmap, bitmap.width, bitmap.height);
  // A 2D canvas multiplies colours with alpha and rounds them.
  return isOpaque(drawn) ? drawn : ((await readStraight(bitmap)) ?? drawn);
}

/** A canvas's pixels as a picture file. */
export async function encode(image: ImageData, type: string): Promise<Blob> {
  checkReadBack();
  const context = contextOf(image.width, image.height);
  context.putImageData(image, 0, 0);
  return context.canvas.convertToBlob({ type });
}

function isOpaque(rgba: Uint8ClampedArray): boolean {
  for (let at = 3; at < rgba.length; at += 4) if (rgba[at] !== 255) return false;
  return true;
}

/** Side of the square of known colours. */
const PROBE = 32;
let isFaithful = false;

/** Throws where the browser changes what is read from a canvas, as protection against fingerprinting does, in silence. */
export function checkReadBack(): void {
  if (isFaithful) return; // A refusal is looked at again: the user may have allowed it.
  const known = new ImageData(PROBE, PROBE);
  for (let at = 0; at < known.data.length; at++) known.data[at] = at % 4 === 3 ? 255 : (at * 2654435761) >>> 24;
  const context = contextOf(PROBE, PROBE);
  context.putImageData(known, 0, 0);
  const { data } = context.getImageData(0, 0, PROBE, PROBE);
  if (data.some((value, at) => value !== known.data[at])) {
    throw new SamloraError(
      "unsupported",
      "this browser changes the pixels that a page reads from a canvas (protection against fingerprinting)",
      "allow this site to use canvas data (in Firefox privacy.resistFingerprinting, in Brave Shields), or give an ImageData",
    );
  }
  isFaithful = true;
}

function contextOf(width: number, height: number): OffscreenCanvasRenderingContext2D {
  if (typeof OffscreenCanvas === "undefined") throw outdated("OffscreenCanvas");
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new DOMException(`no canvas of ${width} x ${height} pixels`, "InvalidStateError");
  return context;
}

export function outdated(missing: string): SamloraError {
  const remedy = "use Chrome or Edge 79, Firefox 105, Safari 16.4, or a newer one; or give an ImageData";
  return new SamloraError("unsupported", `this browser has no ${missing}`, remedy);
}

type Reader = (bitmap: ImageBitmap) => Uint8ClampedArray | undefined | Promise<Uint8ClampedArray>;

/** Ways that keep colours apart from alpha; which of them do depends on browser and graphics driver. */
const READERS: Reader[] = [readTexture, readFrame];
let trusted: Promise<Reader | undefined> | undefined;

/** The bitmap's own samples; nothing where no way gives them. */
async function readStraight(bitmap: ImageBitmap): Promise<Uint8ClampedArray | undefined> {
  trusted ??= findReader();
  const read = await trusted;
  return read?.(bitmap);
}

/** The first way that gives known pixels back as they are. */
async function findReader(): Promise<Reader | undefined> {
  const known = new ImageData(PROBE, PROBE);
  for (let at = 0; at < known.data.length; at++) known.data[at] = (at * 2654435761) >>> 24;
  known.data.set([200, 100, 50, 0, 90, 180, 30, 1]);
  const bitmap = await createImageBitmap(known, RAW);
  for (const read of READERS) {
    const found = await Promise.resolve(bitmap)
      .then(read)
      .catch(() => undefined);
    if (found?.every((value, at) => value === known.data[at])) return read;
  }
  return undefined;
}

let shared: WebGL2RenderingContext | undefined;

/** The bitmap through a texture; nothing where there is no WebGL 2 or the bitmap is too large for it. */
function readTexture(bitmap: ImageBitmap): Uint8ClampedArray | undefined {
  if (!shared || shared.isContextLost()) shared = new OffscreenCanvas(1, 1).getContext("webgl2") ?? undefined;
  const gl = shared;
  const { width, height } = bitmap;
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return undefined;
  const [texture, framebuffer] = [gl.createTexture(), gl.createFramebuffer()];
  try {
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    if (gl.checkFramebufferStatus(gl.FRAMEBUFFER) !== gl.FRAMEBUFFER_COMPLETE) return undefined;
    const rgba = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
    return gl.getError() === gl.NO_ERROR ? new Uint8ClampedArray(rgba.buffer) : undefined;
  } finally {
    gl.deleteFramebuffer(framebuffer);
    gl.deleteTexture(texture);
  }
}

/** The bitmap through a frame of a video. */
async function readFrame(bitmap: ImageBitmap): Promise<Uint8ClampedArray> {
  const frame = new VideoFrame(bitmap, { timestamp: 0, alpha: "keep" });
  try {
    const format = { format: "RGBA" } as VideoFrameCopyToOptions;
    const rgba = new Uint8Array(frame.allocationSize(format));
    await frame.copyTo(rgba, format);
    return new Uint8ClampedArray(rgba.buffer);
  } finally {
    frame.close();
  }
}
